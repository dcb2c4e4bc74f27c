"""The three forms of an answer, and what a terminal must never be told by a stranger."""

import json
import sys
from collections.abc import Callable
from io import StringIO

import pytest

from authz.cli import output
from tests.cli.conftest import Authz, Terminal, without_styles

ROWS: list[output.Row] = [
    {
        "name": "alice",
        "models": None,
        "roles": ["a", "b"],
        "count": 3,
        "expires_at": None,
        "on": True,
        "x": "",
    },
    {
        "name": "bob",
        "models": [],
        "roles": [],
        "count": 1200,
        "expires_at": "2027-01-31T00:00:00Z",
        "on": False,
    },
]
COLUMNS = ("name", "models", "roles", "count", "expires_at", "on", "x")


def printed(monkeypatch: pytest.MonkeyPatch, show: Callable[[], None], *, columns: int = 0) -> str:
    """What `show` writes to a pipe, or to a terminal of so many columns."""
    out, err = (Terminal(), Terminal()) if columns else (StringIO(), StringIO())
    with monkeypatch.context() as patched:
        patched.setenv("COLUMNS", str(columns))
        patched.setenv("TERM", "xterm")
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        show()
    return without_styles(out.getvalue() + err.getvalue())


def rows(rows: list[output.Row], *, as_json: bool = False, spare: tuple[str, ...] = ()) -> Callable[[], None]:
    return lambda: output.show_rows(rows, COLUMNS, as_json=as_json, none="none here", spare=spare)


def test_piped_rows_are_tab_separated_under_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, rows(ROWS)) == (
        "name\tmodels\troles\tcount\texpires_at\ton\tx\n"
        "alice\tinherited\ta, b\t3\tnever\tyes\t-\n"
        "bob\tnone\tnone\t1200\t2027-01-31T00:00:00Z\tno\t-\n"
    )


def test_no_rows_are_a_header_in_a_pipe_and_a_sentence_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, rows([])) == "\t".join(COLUMNS) + "\n"
    assert printed(monkeypatch, rows([]), columns=80).strip() == "none here"
    assert printed(monkeypatch, rows([], as_json=True), columns=80).strip() == "[]"


def test_a_table_leaves_out_what_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        line.split() for line in printed(monkeypatch, rows(ROWS), columns=100).splitlines() if line.strip()
    ]
    assert lines[0] == ["name", "models", "roles", "count", "expires", "on"]
    assert lines[2] == ["alice", "inherited", "a,", "b", "3", "never", "yes"]


def test_a_table_that_is_too_wide_drops_what_can_be_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, rows(ROWS, spare=("roles", "models", "expires_at")), columns=54)
    assert text.splitlines()[0].split() == ["name", "models", "count", "expires", "on"]
    assert all(len(line) <= 54 for line in text.splitlines())


def test_json_is_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(printed(monkeypatch, rows(ROWS, as_json=True))) == ROWS


def test_a_record_is_a_line_per_field(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, lambda: output.show_record(ROWS[0], as_json=False))
    assert text.splitlines()[:3] == ["name\talice", "models\tinherited", "roles\ta, b"]


NASTY = "\x1b]0;owned\x07\x1b[2J\rforged\tcell\u202e\u2028"


@pytest.mark.parametrize("columns", [0, 200], ids=["piped", "terminal"])
def test_control_characters_never_reach_a_reader(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    row: output.Row = {"name": NASTY + "\n", "models": [NASTY], "roles": {NASTY: NASTY}}

    def show() -> None:
        output.show_rows([row], ("name", "models", "roles"), as_json=False, none="")
        output.show_record({"path": NASTY}, as_json=False)
        output.say(NASTY + "\n")
        output.note(NASTY)
        output.complain(NASTY, NASTY)

    text = printed(monkeypatch, show, columns=columns)
    assert not set(text) & set("\x1b\x07\r\u202e\u2028")
    if not columns:
        assert [line.count("\t") for line in text.splitlines()] == [2, 2, 1, 0, 0, 0, 0]


def test_rich_markup_in_a_name_is_only_a_name(authz: Authz) -> None:
    authz("users", "add", "[red]eve[/red]", "--email", "[link=http://x]y[/link]")
    shown = authz("users", "list", terminal=True).out
    assert "[red]eve[/red]" in shown
    assert "[link=http://x]y[/link]" in shown


def test_the_same_list_in_three_forms(authz: Authz) -> None:
    made = authz("keys", "create", "--user", "alice", "--model", "llama3", "--json").json
    assert authz("keys", "list", "--json").json[0]["id"] == made["id"]
    assert authz("keys", "list").rows[0]["id"] == made["id"]
    wide = authz("keys", "list", terminal=True, columns=200).out
    assert made["id"] in wide
    assert made["display"] in wide
    narrow = authz("keys", "list", terminal=True, columns=80).out
    assert made["id"] in narrow
    assert all(len(line) <= 80 for line in narrow.splitlines())


def test_a_new_key_comes_with_a_warning_on_a_terminal_only(authz: Authz) -> None:
    assert "only time" in authz("keys", "create", "--user", "a", terminal=True).err
    assert authz("keys", "create", "--user", "a").err == ""
