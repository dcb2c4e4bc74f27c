"""The life of a key by command, against a store on disk."""

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from authz.authenticate.key_format import is_well_formed
from tests.cli.conftest import Authz


def test_a_key_is_shown_once_and_is_nowhere_afterwards(authz: Authz, config: Path) -> None:
    made = authz(
        *("keys", "create", "--user", "alice", "--model", "llama3", "--limit", "tokens=10000/day"),
        *("--limit", "requests=60/m", "--expires", "90d", "--json"),
    ).json
    assert is_well_formed(made["key"])
    assert list(made)[:2] == ["id", "key"]
    assert made["limits"] == ["tokens=10000/day", "requests=60/1m"]
    assert made["models"] == ["llama3"]
    assert made["status"] == "active"
    for arguments in (["keys", "list", "--json"], ["keys", "list"], ["keys", "show", made["id"]]):
        assert made["key"] not in authz(*arguments).out
    for file in config.parent.iterdir():
        assert made["key"].encode() not in file.read_bytes(), file.name


def test_a_key_in_place_of_a_name_is_kept_nowhere(authz: Authz, config: Path) -> None:
    made = authz("keys", "create", "--user", "alice", "--json").json
    for arguments in (
        ["keys", "create", "--user", "bob", "--name", f"the one of {made['key']}"],
        ["keys", "create", "--user", made["key"]],
        ["keys", "update", made["id"], "--name", made["key"]],
        ["users", "add", made["key"]],
        ["teams", "add", made["key"]],
    ):
        refused = authz(*arguments)
        assert refused.code == 2, arguments
        assert "API key" in refused.err
        assert made["key"] not in refused.err
    for file in config.parent.iterdir():
        assert made["key"].encode() not in file.read_bytes(), file.name
    assert len(authz("keys", "list", "--json").json) == 1


def test_the_store_keeps_the_digest(authz: Authz, config: Path) -> None:
    key = authz("keys", "create", "--user", "alice", "--json").json["key"]
    with sqlite3.connect(config.parent / "authz.db") as connection:
        ((digest,),) = connection.execute("SELECT digest FROM keys").fetchall()
    connection.close()
    assert digest == hashlib.sha256(key.encode()).digest()


def test_create_makes_a_missing_user(authz: Authz) -> None:
    authz("keys", "create", "--user", "alice", "--json")
    assert [user["name"] for user in authz("users", "list", "--json").json] == ["alice"]


def test_list_filters_by_user_and_team(authz: Authz) -> None:
    authz("teams", "add", "nlp")
    for user, more in (("alice", ["--team", "nlp"]), ("bob", []), ("bob", ["--team", "nlp"])):
        assert authz("keys", "create", "--user", user, *more).code == 0
    assert len(authz("keys", "list", "--json").json) == 3
    assert {key["user"] for key in authz("keys", "list", "--user", "bob", "--json").json} == {"bob"}
    assert len(authz("keys", "list", "--team", "nlp", "--json").json) == 2


def test_a_key_is_found_by_what_is_displayed_of_it(authz: Authz) -> None:
    made = authz("keys", "create", "--user", "alice", "--json").json
    assert authz("keys", "show", made["display"], "--json").json["id"] == made["id"]


def test_update_changes_what_is_named_and_leaves_the_rest(authz: Authz) -> None:
    made = authz(
        *("keys", "create", "--user", "alice", "--model", "llama3", "--role", "senior"),
        *("--limit", "requests=60/m", "--json"),
    ).json
    changed = authz(
        "keys", "update", made["id"], "--name", "laptop", "--expires", "2099-01-31", "--json"
    ).json
    assert changed["name"] == "laptop"
    assert changed["expires_at"] == "2099-01-31T00:00:00Z"
    kept = ("models", "roles", "limits", "user")
    assert {field: changed[field] for field in kept} == {field: made[field] for field in kept}
    cleared = authz(
        *("keys", "update", made["id"], "--inherit-models", "--no-limits", "--no-roles"),
        *("--expires", "never", "--json"),
    ).json
    assert cleared["models"] is None
    assert cleared["limits"] == cleared["roles"] == []
    assert cleared["expires_at"] is None
    assert authz("keys", "update", made["id"], "--no-models", "--json").json["models"] == []


def test_rotate_gives_a_new_key_and_the_old_one_a_grace(authz: Authz) -> None:
    old = authz("keys", "create", "--user", "alice", "--model", "llama3", "--role", "r", "--json").json
    new = authz("keys", "rotate", old["id"], "--grace", "24h", "--json").json
    assert new["key"] != old["key"]
    assert new["id"] != old["id"]
    assert (new["models"], new["roles"], new["expires_at"]) == (["llama3"], ["r"], None)
    assert new["old_key"] == old["id"]
    after = authz("keys", "show", old["id"], "--json").json
    assert after["status"] == "active"
    assert after["expires_at"] == new["old_key_ends_at"]


def test_rotate_never_prolongs_the_old_key(authz: Authz) -> None:
    old = authz("keys", "create", "--user", "alice", "--expires", "1h", "--json").json
    authz("keys", "rotate", old["id"], "--grace", "24h", "--expires", "90d")
    assert authz("keys", "show", old["id"], "--json").json["expires_at"] == old["expires_at"]


def test_rotate_without_grace_revokes(authz: Authz) -> None:
    old = authz("keys", "create", "--user", "alice", "--json").json
    authz("keys", "rotate", old["id"], "--grace", "0")
    assert authz("keys", "show", old["id"], "--json").json["status"] == "revoked"
    again = authz("keys", "rotate", old["id"])
    assert again.code == 1
    assert "revoked" in again.err


def test_revoke_is_for_ever_and_says_the_same_twice(authz: Authz) -> None:
    made = authz("keys", "create", "--user", "alice", "--json").json
    first = authz("keys", "revoke", made["id"], "--json").json
    assert first["status"] == "revoked"
    assert authz("keys", "revoke", made["id"], "--json").json["revoked_at"] == first["revoked_at"]


def test_removing_a_user_revokes_the_keys(authz: Authz) -> None:
    made = authz("keys", "create", "--user", "alice", "--json").json
    assert authz("users", "remove", "alice", "--json").json["revoked_keys"] == [made["id"]]
    assert authz("keys", "show", made["id"], "--json").json["status"] == "revoked"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "requests=60"], "has no window"),
        (["--limit", "sheep=60/m"], "is not a limit"),
        (["--limit", "requests=60/m", "--limit", "requests=70/m"], "two limits of requests"),
        (["--expires", "yesterday"], "neither a duration nor a date"),
        (["--expires", "2020-01-01"], "has passed"),
        (["--model", "a,b"], "is not the name of a model"),
        (["--model", "llama3", "--no-models"], "only one of"),
        (["--key", "x"], "Unknown option"),
        (["--server", "http://x"], "Unknown option"),
    ],
)
def test_a_wrong_option_is_a_usage_error_and_makes_nothing(
    authz: Authz, arguments: list[str], message: str
) -> None:
    ran = authz("keys", "create", "--user", "alice", *arguments)
    assert ran.code == 2
    assert message in ran.err
    assert ran.out == ""
    assert authz("keys", "list", "--json").json == []


def test_a_misspelt_model_is_pointed_out(authz: Authz) -> None:
    ran = authz("keys", "create", "--user", "alice", "--model", "lama3")
    assert ran.code == 0
    assert "Did you mean 'llama3'?" in ran.err


def test_an_unknown_key_is_an_error_that_says_where_to_look(authz: Authz) -> None:
    ran = authz("keys", "show", "key_nope")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: there is no key 'key_nope'.\n  authz keys list shows those that exist.\n"


def test_import_of_json_lines(authz: Authz) -> None:
    digest = hashlib.sha256(b"legacy-key-1").hexdigest()
    lines = [
        {"user": "alice", "sha256": digest, "name": "old", "models": ["llama3"], "limits": ["requests=5/m"]},
        {"user": "bob", "key": "legacy-key-2", "expires": "90d", "roles": ["senior"]},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    done = authz("keys", "import", "--json", stdin=text)
    assert [key["user"] for key in done.json["imported"]] == ["alice", "bob"]
    assert "legacy-key-2" not in done.out
    alice, bob = authz("keys", "list", "--json").json
    assert (alice["name"], alice["models"], alice["limits"]) == ("old", ["llama3"], ["requests=5/1m"])
    assert (bob["display"], bob["roles"]) == ("leg...", ["senior"])
    again = authz("keys", "import", stdin=text)
    assert again.out == "0 imported, 2 there already\n"


def test_import_of_what_is_piped_in_may_be_named_as_such(authz: Authz) -> None:
    done = authz("keys", "import", "-", "--json", stdin='{"user": "alice", "key": "legacy-key-1"}')
    assert [key["user"] for key in done.json["imported"]] == ["alice"]


def test_import_of_csv(authz: Authz, tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    file.write_text("user,key,models,team\nalice,legacy-key-1,llama3 big,nlp\nbob,legacy-key-2,,\n")
    assert authz("keys", "import", str(file)).out == "2 imported, 0 there already\n"
    alice, bob = authz("keys", "list", "--json").json
    assert (alice["models"], alice["team"]) == (["big", "llama3"], "nlp")
    assert (bob["models"], bob["team"]) == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"user": "a", "key": "hunter22222"}\n{"user": "a"}', "line 2: either `key` or `sha256`"),
        ('{"key": "hunter22222"}', "line 1: `user` is needed"),
        ('{"user": " a", "key": "hunter22222"}', "line 1: a user's name is 1 to 256"),
        ('{"user": "a", "key": "hunter22222", "colour": 1}', "line 1: fields are"),
        ('{"user": "a", "key": "hunter2"}', "line 1: `key` is 8 to 512"),
        ('{"user": "a", "key": ["hunter22222"]}', "line 1: `key` is text"),
        ('{"user": "a", "sha256": "hunter22222"}', "line 1: `sha256` is 64 hex digits"),
        ('{"user": "a", "key": "hunter22222", "limits": ["x"]}', "line 1: 'x' is not a limit"),
        (
            '{"user": "a", "key": "hunter22222", "team": "user:bob"}',
            "line 1: a team's name does not begin with `user:`",
        ),
        ('{"user": "hunter22222"', "line 1: this is not JSON"),
        ('{"user": "a", "key": "hunter22222"}\n{"user": "b", "key": "hunter22222"}', "same key as in line 1"),
        ("user,key\na,hunter22222,x\n", "line 2: fields are"),
    ],
)
def test_a_wrong_line_imports_nothing_and_is_not_repeated(authz: Authz, text: str, message: str) -> None:
    ran = authz("keys", "import", stdin=text)
    assert ran.code == 1
    assert message in ran.err
    assert "hunter2" not in ran.err + ran.out
    assert authz("keys", "list", "--json").json == []


def test_a_missing_import_file(authz: Authz) -> None:
    ran = authz("keys", "import", "/nonexistent/keys.csv")
    assert ran.code == 1
    assert "No such file" in ran.err
