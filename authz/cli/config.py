"""`authz config`."""

from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from authz.cli import output
from authz.cli.errors import Exit
from authz.cli.options import DEFAULTS, Common
from authz.cli.output import Row
from authz.config import ConfigErrors, Loaded, Problem, find_config, load

app = App(name="config", help="Validate a config file; print its JSON Schema.")


@app.command
def validate(file: Path | None = None, /, *, without_secrets: bool = False, common: Common = DEFAULTS) -> int:
    """Check a config file. Every mistake is told at once, as file:line:column.

    Parameters
    ----------
    file
        The file. Left out: --config, AUTHZ_CONFIG, ./authz.yaml.
    without_secrets
        Do not ask for the secrets: for a machine that does not have them.
    """
    from authz.authorize.conditions import compile_condition
    from authz.limit.tokenizer import read_tokenizer

    path = find_config(file or common.config)
    try:
        loaded = load(
            path,
            compile_condition=compile_condition,
            read_tokenizer=read_tokenizer,
            secrets_required=not without_secrets,
        )
        problems = () if without_secrets else _would_not_start(path, loaded)
    except ConfigErrors as errors:
        loaded, problems = None, errors.problems
    warnings = loaded.warnings if loaded is not None else ()
    if common.json:
        output.show_json(
            {
                "file": str(path),
                "valid": not problems,
                "problems": [_row(problem) for problem in problems],
                "warnings": [_row(problem) for problem in warnings],
            }
        )
    else:
        for problem in problems:
            output.say(str(problem))
        for warning in warnings:
            output.note(f"warning: {warning}")
    if problems:
        count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        output.complain(f"{path} has {count}.", "A running service keeps the config that it has.")
        return Exit.FAILED
    if not common.json and loaded is not None:
        output.say(f"{path} is valid (digest {loaded.digest})")
    return Exit.OK


@app.command
def schema(*, common: Common = DEFAULTS) -> None:
    """Print the JSON Schema of authz.yaml (draft 2020-12), for an editor.

    It is of every config and always JSON: what is common to all commands is taken and changes nothing.
    """
    from authz.config.schema import json_schema

    output.show_json(json_schema())


def _would_not_start(path: Path, loaded: Loaded) -> Sequence[Problem]:
    """What is spelled right and yet would keep this release from starting."""
    from authz.cli.context import now
    from authz.ruleset import Authenticators, build_rules
    from authz.store.open import check_url, open_store
    from authz.store.protocols import StoreUnusable

    directory = open_store("memory://").directory
    try:
        if loaded.store.known:
            check_url(loaded.store.url)
        build_rules(loaded, Authenticators(loaded.config, directory, now), directory)
    except (StoreUnusable, ValueError) as error:
        return (Problem(str(path), 1, 1, str(error)),)
    return ()


def _row(problem: Problem) -> Row:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "suggestion": problem.suggestion,
    }
