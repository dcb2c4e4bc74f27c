"""`authz`: finds the command, runs it, and turns whatever happens into an exit code.

The command groups are imported only when they are asked for, so that every command starts quickly.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError

from authz import __version__
from authz.cli import output
from authz.cli.errors import CommandError, Exit
from authz.config.problem import ConfigErrors, ConfigNotFound
from authz.store.protocols import StoreUnavailable

_RUNNING = Group("Running", sort_key=1)
_PEOPLE = Group("Who may do what", sort_key=2)
_SEEING = Group("Seeing why", sort_key=3)
_CONFIG = Group("Configuration", sort_key=4)

app = App(
    name="authz",
    help="Authorization and rate-limit decisions for LLM gateways.",
    help_format="markdown",
    version=__version__,
    default_parameter=Parameter(negative=(), show_env_var=False, show_default=False, short_alias=False),
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
)
app.register_install_completion_command(add_to_startup=True)

for _name, _group, _help in (
    ("up", _RUNNING, "Start the service and an Envoy in front of a model server."),
    ("serve", _RUNNING, "Start the service for a gateway that already runs."),
    ("keys", _PEOPLE, "API keys: create, list, show, update, rotate, revoke, import."),
    ("users", _PEOPLE, "Users: their models, limits, roles and team."),
    ("teams", _PEOPLE, "Teams: their models and limits."),
    ("models", _PEOPLE, "Models: context, prices, who may use them."),
    ("import", _PEOPLE, "Take over keys, users and teams from LiteLLM or LLMGateway."),
    ("limits", _PEOPLE, "Limits: what is left, overrides and grants."),
    ("check", _SEEING, "Explain what would be decided for a request. Charges nothing."),
    ("gateways", _SEEING, "Probe a gateway from outside: what it lets through, refuses, streams, settles."),
    ("decisions", _SEEING, "Refused requests and why."),
    ("usage", _SEEING, "Who used how much: requests, tokens, cost."),
    ("ledger", _SEEING, "Tell the ledger again what it lacks, from a gateway's own log."),
    ("config", _CONFIG, "Validate a config file; print its JSON Schema."),
    ("store", _CONFIG, "Copy the store to another, such as Redis; back it up."),
    ("render", _CONFIG, "Write the config of Envoy, Traefik, nginx or Caddy."),
):
    _module = f"{_name}_" if _name == "import" else _name  # a keyword is no module
    app.command(f"authz.cli.{_module}:app", name=_name, group=_group, help=_help)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `authz` and exit with one of `Exit`'s codes; 130 after Ctrl-C, as a shell has it."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns its exit code."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read our output has had enough: `authz keys list | head -1`. Nothing is left to be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def _run(arguments: Sequence[str]) -> int:
    try:
        result = app(list(arguments))
    except CycloptsError as error:
        output.complain(_said(error), f"authz {_command_of(arguments)}--help shows how it is used.")
        return Exit.USAGE
    except CommandError as error:
        output.complain(error.message, error.hint)
        return error.code
    except ConfigErrors as error:
        _complain_of_config(error)
        return Exit.FAILED
    except ConfigNotFound as error:
        output.complain(
            str(error), "Name one with --config FILE or AUTHZ_CONFIG; authz up writes one to begin with."
        )
        return Exit.FAILED
    except BrokenPipeError:
        raise
    except StoreUnavailable as error:
        output.complain(str(error))
        return Exit.FAILED
    except OSError as error:
        output.complain(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.")
        return Exit.FAILED
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else Exit.OK


def _said(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"too many words: {' '.join(error.unused_tokens or ())}."
    return str(error)


def _complain_of_config(error: ConfigErrors) -> None:
    if Path(error.problems[0].file).exists():
        output.complain(f"the config file has mistakes:\n{error}", "authz config validate lists them all.")
    else:
        output.complain(str(error), "See how it is spelled.")


def _command_of(arguments: Sequence[str]) -> str:
    """The words of the command line that name a command, for a hint."""
    words, _, _ = app.parse_commands(list(arguments))
    return "".join(f"{word} " for word in words if not word.startswith("-"))
