"""Exit codes, errors that help, and secrets that are not repeated."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from authz import __version__
from authz.authenticate.key_format import mint
from tests.cli.conftest import Authz

GROUPS = (
    "up",
    "serve",
    "keys",
    "users",
    "teams",
    "models",
    "limits",
    "check",
    "decisions",
    "config",
    "render",
)


def test_help_names_every_command(authz: Authz) -> None:
    ran = authz("--help")
    assert ran.code == 0
    for group in GROUPS:
        assert f" {group} " in ran.out


@pytest.mark.parametrize("group", GROUPS)
def test_every_command_has_help(authz: Authz, group: str) -> None:
    ran = authz(group, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: authz {group}")


def test_version(authz: Authz) -> None:
    assert authz("--version").out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kyes"], 'Unknown command "kyes". Did you mean "keys"?'),
        (["keys", "lst"], 'Did you mean "list"?'),
        (["keys", "list", "--usr", "x"], "Did you mean --user?"),
        (["keys", "show"], "requires an argument"),
        (["keys", "list", "one", "two"], "error: too many words: one two.\n  authz keys list --help"),
        (["keys", "--help", "lst"], "\n  authz keys --help shows"),
        (["keys", "create"], "--user"),
        (["decisions", "list", "--status", "many"], "unable to convert"),
        (["decisions", "list", "--reason", "rate_limit"], "Did you mean rate_limited?"),
        (["decisions", "list", "--since", "later"], "neither a duration nor a date"),
        (["render", "haproxy"], "haproxy"),
        (["users", "update", "a", "--disable", "--enable"], "only one of --disable and --enable"),
    ],
)
def test_usage_errors_are_2_and_suggest(authz: Authz, arguments: list[str], message: str) -> None:
    ran = authz(*arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "show", "{}"],
        ["keys", "show", "x", "{}"],
        ["keys", "{}"],
        ["{}"],
        ["keys", "list", "--key", "{}"],
        ["keys", "list", "--key={}"],
        ["decisions", "list", "--status", "{}"],
        ["keys", "create", "--user", "a", "--model", "{},b"],
        ["limits", "override", "{}", "5"],
        ["check", "--key", "{}", "--path", "/v1/models"],
        ["check", "--key={}", "--path", "/v1/models"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("terminal", [False, True], ids=["piped", "terminal"])
def test_a_key_on_the_command_line_is_never_repeated(
    authz: Authz, arguments: list[str], terminal: bool
) -> None:
    key = mint().key
    ran = authz(*(argument.format(key) for argument in arguments), terminal=terminal)
    assert ran.code in (1, 2)
    everything = "".join((ran.out + ran.err).split())
    assert key not in everything
    assert key[10:40] not in everything


OF_THE_STORE = [
    ["keys", "list"],
    ["keys", "create", "--user", "alice"],
    ["users", "add", "alice"],
    ["teams", "list"],
    ["models", "add", "x"],
    ["limits", "grant", "team-month", "1M", "--team", "nlp", "--until", "7d"],
    ["decisions", "list"],
]


@pytest.mark.parametrize("arguments", [*OF_THE_STORE, ["usage"]], ids=" ".join)
def test_what_is_meant_for_a_server_is_not_done_to_the_store_here(
    authz: Authz, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("AUTHZ_SERVER", "http://127.0.0.1:9002")
    ran = authz(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert "AUTHZ_SERVER" in ran.err
    monkeypatch.delenv("AUTHZ_SERVER")
    assert authz("users", "list", "--json").json == []


@pytest.mark.parametrize("arguments", OF_THE_STORE, ids=" ".join)
def test_a_store_in_memory_is_out_of_reach(authz: Authz, config: Path, arguments: list[str]) -> None:
    config.write_text(config.read_text().replace("sqlite:authz.db", "memory://"))
    ran = authz(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert "memory://" in ran.err
    assert "sqlite:///" in ran.err


def test_no_config_says_how_to_name_one(
    authz: Authz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTHZ_CONFIG")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    ran = authz("keys", "list")
    assert ran.code == 1
    assert "--config" in ran.err
    assert "AUTHZ_CONFIG" in ran.err


def test_the_option_beats_the_environment_and_that_the_directory(
    authz: Authz, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "authz.yaml").write_text(config.read_text())
    monkeypatch.chdir(elsewhere)
    authz("users", "add", "from-environment")
    assert authz("users", "list", "--config", "authz.yaml", "--json").json == []
    monkeypatch.delenv("AUTHZ_CONFIG")
    assert authz("users", "list", "--json").json == []
    assert len(authz("users", "list", "--config", str(config), "--json").json) == 1


def test_a_config_with_mistakes_stops_a_command_with_all_of_them(authz: Authz, config: Path) -> None:
    lines = config.read_text().count("\n")
    config.write_text(config.read_text() + "colour: red\nshape: round\n")
    ran = authz("keys", "list")
    assert ran.code == 1
    assert f"{config}:{lines + 1}:1" in ran.err
    assert f"{config}:{lines + 2}:1" in ran.err


@pytest.mark.parametrize("arguments", [["keys", "list"], ["serve"]], ids=" ".join)
def test_a_config_that_is_not_there_has_no_mistakes_to_list(authz: Authz, arguments: list[str]) -> None:
    ran = authz(*arguments, "--config", "/nonexistent/authz.yaml")
    assert (ran.code, ran.out) == (1, "")
    assert "/nonexistent/authz.yaml:1:1: the file cannot be read: No such file" in ran.err
    assert "validate" not in ran.err


def test_a_store_that_is_no_database(authz: Authz, config: Path) -> None:
    (config.parent / "authz.db").write_text("not a database, and long enough to be looked at " * 40)
    ran = authz("keys", "list")
    assert (ran.code, ran.out) == (1, "")
    assert "authz.db" in ran.err
    assert "Traceback" not in ran.err
    assert (config.parent / "authz.db").read_text().startswith("not a database")


def _script(*arguments: str, config: Path, **more: object) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).parent / "authz"), *arguments]
    environment = {**os.environ, "AUTHZ_CONFIG": str(config)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["users", "list"], 0), (["users", "show", "nobody"], 1), (["users", "shw"], 2)]
)
def test_the_installed_command_exits_as_promised(config: Path, arguments: list[str], code: int) -> None:
    process = _script(*arguments, config=config)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err


def test_a_reader_that_leaves_early_is_no_error(config: Path) -> None:
    process = _script("config", "schema", config=config)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0, err
    assert err == b""
