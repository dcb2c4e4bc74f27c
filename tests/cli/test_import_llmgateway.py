"""`authz import llmgateway`: keys in the clear come in hashed, and work on."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Authz, Ran

OLD = "Zk3v9QmT5rWb8yLp2nXc7dHs4gJf6uAe"
OTHER = "aQ1sW2dE3fR4gT5hY6jU7kI8lO9pZ0xC"


def entry(key: str = OLD, **fields: Any) -> dict[str, Any]:
    oid = {"_id": {"$oid": "65f1c0ffee"}}
    return oid | {"user": "alice@aalto.example", "active": True, "key": key, "name": "laptop"} | fields


def export(directory: Path, *documents: object, name: str = "apikeys.json") -> str:
    """As `mongoexport` writes it: a document per line."""
    path = directory / name
    path.write_text("".join(json.dumps(each) + "\n" for each in documents))
    return str(path)


def imported(authz: Authz, *arguments: str) -> Any:
    return authz("import", "llmgateway", *arguments, "--json").json


def steps(told: Any) -> list[tuple[str, str, str]]:
    return [(row["kind"], row["name"], row["action"]) for row in told["rows"]]


def test_a_dry_run_tells_and_writes_nothing(authz: Authz, tmp_path: Path) -> None:
    file = export(tmp_path, entry(), entry(OTHER, name="", active=False))
    told = imported(authz, file, "--dry-run")
    assert told["dry_run"] is True
    assert steps(told) == [
        ("user", "alice@aalto.example", "new"),
        ("key", "laptop", "new"),
        ("key", "aQ1s...", "new"),
    ]
    assert [row["status"] for row in told["rows"]] == ["active", "active", "revoked"]
    assert authz("keys", "list", "--json").json == []
    assert authz("users", "list", "--json").json == []


def test_keys_come_in_by_their_hash_alone(authz: Authz, tmp_path: Path, config: Path) -> None:
    ran = authz("import", "llmgateway", export(tmp_path, entry()))
    assert ran.code == 0
    assert OLD not in ran.out + ran.err
    assert "2 new" in ran.err
    (key,) = authz("keys", "list", "--json").json
    assert (key["user"], key["name"], key["status"]) == ("alice@aalto.example", "laptop", "active")
    for file in config.parent.glob("authz.db*"):
        assert OLD.encode() not in file.read_bytes(), file.name


def test_the_old_key_is_found(authz: Authz, tmp_path: Path) -> None:
    imported(authz, export(tmp_path, entry(), entry(OTHER, active=False)))
    line = ("check", "--key", "-", "--path", "/v1/chat/completions", "--model", "llama3", "--json")
    told = authz(*line, stdin=OLD).json
    assert (told["allowed"], told["user"]) == (True, "alice@aalto.example")
    refused = authz(*line, stdin=OTHER)
    assert refused.code == 3
    assert json.loads(refused.out)["reason"] == "key_revoked"


def test_twice_changes_nothing(authz: Authz, tmp_path: Path, config: Path) -> None:
    file = export(tmp_path, entry())
    imported(authz, file)
    before = _rows(config)
    assert {action for _, _, action in steps(imported(authz, file, "--update"))} == {"same"}
    assert _rows(config) == before


def test_what_was_given_to_a_key_since_stays(authz: Authz, tmp_path: Path) -> None:
    """The export says nothing of models and limits."""
    file = export(tmp_path, entry())
    imported(authz, file)
    (key,) = authz("keys", "list", "--json").json
    authz("keys", "update", key["id"], "--model", "llama3", "--limit", "requests=5/m")
    authz("users", "update", "alice@aalto.example", "--model", "llama3")
    assert {action for _, _, action in steps(imported(authz, file, "--update"))} == {"same"}
    assert authz("keys", "show", key["id"], "--json").json["limits"] == ["requests=5/1m"]


def test_a_key_that_was_deactivated_since_is_told_and_revoked_on_demand(authz: Authz, tmp_path: Path) -> None:
    imported(authz, export(tmp_path, entry()))
    later = export(tmp_path, entry(active=False, name="old laptop"))
    told = imported(authz, later)
    assert told["counts"]["differs"] == 1
    assert "changes name, revokes: left as it is" in told["rows"][1]["why"]
    assert authz("keys", "list", "--json").json[0]["status"] == "active"
    assert imported(authz, later, "--update")["counts"]["changed"] == 1
    assert authz("keys", "list", "--json").json[0]["status"] == "revoked"
    assert imported(authz, export(tmp_path, entry()), "--update")["counts"]["changed"] == 1
    assert authz("keys", "list", "--json").json[0]["status"] == "revoked"  # for ever


def test_a_quota_that_cannot_be_said_keeps_the_key_out(authz: Authz, tmp_path: Path) -> None:
    file = export(tmp_path, entry(has_quota=True, day_quota=20))
    row = imported(authz, file)["rows"][1]
    assert (row["action"], "would be allowed more" in row["why"]) == ("skipped", True)
    assert authz("keys", "list", "--json").json == []
    assert imported(authz, file, "--accept-looser")["rows"][1]["action"] == "new"


def test_the_user_collection_adds_users_and_no_key(authz: Authz, tmp_path: Path) -> None:
    people = export(tmp_path, {"username": "bob", "keys": [OLD, OTHER]}, name="user.json")
    told = imported(authz, export(tmp_path, entry()), people)
    assert steps(told) == [
        ("user", "alice@aalto.example", "new"),
        ("user", "bob", "new"),
        ("key", "laptop", "new"),
        ("key", "imported", "skipped"),
    ]
    assert "did not work before" in told["rows"][3]["why"]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([entry()]),
        f"user,active,key,name\nalice@aalto.example,true,{OLD},laptop\n",
        f"\ufeffuser,active,key,name\r\nalice@aalto.example,true,{OLD},laptop\r\n",
        json.dumps(entry(), indent=2),
    ],
    ids=["json-array", "csv", "csv-of-a-spreadsheet", "pretty"],
)
def test_other_forms_of_the_same(authz: Authz, tmp_path: Path, text: str) -> None:
    (tmp_path / "apikeys").write_text(text)
    assert steps(imported(authz, str(tmp_path / "apikeys")))[1] == ("key", "laptop", "new")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "apikeys is empty"),
        ('{"key": \n"x"', "line 2, column 4: this is not JSON"),
        ("[" * 100_000, "line 1: this is nested too deep"),
        ('{"key": ' + "9" * 5000 + "}", "line 1: this is nested too deep, or a number too long"),
        ("[1]", "apikeys, [0]: this is nothing of LLMGateway"),
        (json.dumps(entry("short")), "apikeys, `key`: a key is 8 to 512"),
        (json.dumps(entry("has a space in it")), "`key`: a key is 8 to 512"),
        (json.dumps(entry(user=None)), "`user`: a user is needed"),
        (json.dumps(entry(user="x" * 300)), "`user`: a user's name is"),
        (json.dumps(entry(active="yes")), "`active`: this is neither true nor false"),
        (json.dumps(entry(active=None)), "`active`: true or false is needed"),
        (json.dumps(entry(name=["x"])), "`name`: this is not text"),
        (
            json.dumps(entry()) + "\n" + json.dumps(entry()),
            "apikeys, line 2: the same key as in apikeys, line 1",
        ),
        ("user,key,active\nalice,abcdefgh\n", "line 2: there are 3 columns in line 1, and not as many here"),
        ("user,user\na,b\n", "line 1: a column is there twice"),
        ('user,key,active,name\nalice,"abc', "after line 1: this is not CSV"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) and value.isascii() else None,
)
def test_a_bad_file_imports_nothing_and_says_where(
    authz: Authz, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "apikeys").write_text(text)
    ran = authz("import", "llmgateway", str(tmp_path / "apikeys"))
    assert ran.code == 1
    assert "nothing was imported" in ran.err
    assert message in ran.err
    assert OLD not in ran.err + ran.out
    assert authz("keys", "list", "--json").json == []


def test_one_wrong_row_keeps_all_out(authz: Authz, tmp_path: Path) -> None:
    ran = authz("import", "llmgateway", export(tmp_path, entry(), entry("short"), entry("brief")))
    assert ran.code == 1
    assert ran.err.count("`key`: a key is 8 to 512") == 2
    assert authz("users", "list", "--json").json == []


def test_bytes_that_are_no_text(authz: Authz, tmp_path: Path) -> None:
    (tmp_path / "apikeys").write_bytes(b"\xff\xfe\x00")
    assert "apikeys is not UTF-8" in authz("import", "llmgateway", str(tmp_path / "apikeys")).err


def test_a_missing_file_is_an_error(authz: Authz, tmp_path: Path) -> None:
    ran = authz("import", "llmgateway", str(tmp_path / "nowhere"))
    assert (ran.code, "No such file" in ran.err) == (1, True)


def test_from_standard_input_and_as_a_table(authz: Authz) -> None:
    ran = authz(
        *("import", "llmgateway", "-", "--dry-run"), stdin=json.dumps(entry()), terminal=True, columns=100
    )
    assert ran.code == 0
    assert "laptop" in ran.out
    assert "nothing was written (--dry-run)" in ran.err


def test_piped_rows(authz: Authz, tmp_path: Path) -> None:
    ran: Ran = authz("import", "llmgateway", export(tmp_path, entry()))
    assert [(row["kind"], row["action"]) for row in ran.rows] == [("user", "new"), ("key", "new")]


def _rows(config: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(config.parent / "authz.db") as connection:
        found = [
            row
            for table in ("keys", "users", "teams", "changes")
            for row in connection.execute(f"SELECT * FROM {table}").fetchall()
        ]
    connection.close()
    return found
