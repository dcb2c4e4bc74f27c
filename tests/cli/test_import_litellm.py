"""`authz import litellm`: keys by their hash, users, teams and budgets, out of tables and out of answers."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Authz

PLAIN = "sk-qC5b02PjnQVdq3FPYY37wQ"
HASH = hashlib.sha256(PLAIN.encode()).hexdigest()


def key(**fields: Any) -> dict[str, Any]:
    """A row of LiteLLM_VerificationToken with every column that matters, as `/key/list` shows it."""
    return {
        "token": HASH,
        "key_name": "sk-...37wQ",
        "key_alias": "ci",
        "spend": 0.0,
        "expires": None,
        "models": [],
        "aliases": {},
        "config": {},
        "user_id": "alice",
        "team_id": None,
        "permissions": {},
        "max_parallel_requests": None,
        "metadata": {},
        "blocked": None,
        "tpm_limit": None,
        "rpm_limit": None,
        "max_budget": None,
        "budget_duration": None,
        "budget_reset_at": None,
        "allowed_routes": [],
        "model_max_budget": {},
        "budget_id": None,
        "organization_id": None,
    } | fields


def user(**fields: Any) -> dict[str, Any]:
    base = {"user_id": "alice", "user_email": "alice@example.com", "user_role": "internal_user", "models": []}
    return base | fields


def team(**fields: Any) -> dict[str, Any]:
    base = {"team_id": "4b0f", "team_alias": "nlp", "models": [], "blocked": False, "metadata": {}}
    return base | fields


def write(directory: Path, document: object, name: str = "export.json") -> str:
    (directory / name).write_text(json.dumps(document))
    return str(directory / name)


def imported(authz: Authz, directory: Path, document: object, *options: str) -> Any:
    return authz("import", "litellm", write(directory, document), *options, "--json").json


def row(told: Any, kind: str = "key") -> Any:
    (found,) = [each for each in told["rows"] if each["kind"] == kind]
    return found


def check(authz: Authz, key: str = PLAIN) -> Any:
    ran = authz(
        *("check", "--key", "-", "--path", "/v1/chat/completions", "--model", "llama3", "--json"), stdin=key
    )
    return json.loads(ran.out)


def one_key(**fields: Any) -> dict[str, Any]:
    return {"keys": [key(**fields)], "users": [user()], "teams": [team()]}


def test_everything_of_one_proxy(authz: Authz, tmp_path: Path) -> None:
    told = imported(
        authz,
        tmp_path,
        {
            "keys": [
                key(
                    team_id="4b0f",
                    models=["llama3"],
                    expires="2099-01-31T10:00:00.000Z",
                    tpm_limit=100000,
                    rpm_limit=60,
                    max_parallel_requests=4,
                    max_budget=12.5,
                    budget_duration="30d",
                )
            ],
            "users": [user(max_budget=100.0, budget_duration="1d")],
            "teams": [team(models=["llama3", "big"], tpm_limit=5)],
        },
    )
    assert [(each["kind"], each["name"], each["action"]) for each in told["rows"]] == [
        ("team", "nlp", "new"),
        ("user", "alice", "new"),
        ("key", "ci", "new"),
    ]
    (stored,) = authz("keys", "list", "--json").json
    assert (stored["display"], stored["name"], stored["user"]) == ("sk-...37wQ", "ci", "alice")
    assert (stored["team"], stored["models"]) == ("nlp", ["llama3"])
    assert stored["expires_at"] == "2099-01-31T10:00:00Z"
    assert stored["limits"] == [
        "requests=60/1m", "tokens=100000/1m", "concurrency=4", "cost=12.5/month",
    ]  # fmt: skip
    (person,) = authz("users", "list", "--json").json
    assert (person["email"], person["limits"]) == ("alice@example.com", ["cost=100/day"])
    (group,) = authz("teams", "list", "--json").json
    assert (group["models"], group["limits"]) == (["big", "llama3"], ["tokens=5/1m"])
    assert check(authz)["user"] == "alice"


def test_nothing_but_the_hash_is_needed(authz: Authz, tmp_path: Path, config: Path) -> None:
    imported(authz, tmp_path, one_key())
    assert check(authz)["allowed"] is True
    assert check(authz, PLAIN[:-1] + "x")["reason"] == "key_unknown"


def test_twice_changes_nothing_and_a_changed_row_is_told(authz: Authz, tmp_path: Path) -> None:
    imported(authz, tmp_path, one_key(rpm_limit=60))
    counts = {"new": 0, "changed": 0, "same": 3, "differs": 0, "skipped": 0}
    assert imported(authz, tmp_path, one_key(rpm_limit=60), "--update")["counts"] == counts
    told = imported(authz, tmp_path, one_key(rpm_limit=30))
    assert row(told)["why"] == "changes limits: left as it is in the store; --update changes it"
    assert authz("keys", "list", "--json").json[0]["limits"] == ["requests=60/1m"]
    assert row(imported(authz, tmp_path, one_key(rpm_limit=30), "--update"))["action"] == "changed"
    assert authz("keys", "list", "--json").json[0]["limits"] == ["requests=30/1m"]


def test_a_dry_run_writes_nothing(authz: Authz, tmp_path: Path) -> None:
    assert imported(authz, tmp_path, one_key(), "--dry-run")["counts"]["new"] == 3
    assert authz("teams", "list", "--json").json == []


@pytest.mark.parametrize(
    ("budget", "limits"),
    [
        ({"max_budget": 5, "budget_duration": "1d"}, ["cost=5/day"]),
        ({"max_budget": 5, "budget_duration": "24h"}, ["cost=5/day"]),
        ({"max_budget": 5, "budget_duration": "7d"}, ["cost=5/week"]),
        ({"max_budget": 5, "budget_duration": "1mo"}, ["cost=5/month"]),
        ({"max_budget": 5, "budget_duration": "12d"}, ["cost=5/288h"]),
        ({"max_budget": 5, "budget_duration": "2w"}, ["cost=5/336h"]),
        ({"max_budget": 5, "budget_duration": "36h"}, ["cost=5/36h"]),
        ({"max_budget": 0.1 + 0.2, "budget_duration": "1d"}, ["cost=0.3/day"]),
        ({"max_budget": 0}, ["cost=0/87600h"]),
        ({"max_budget": 10, "spend": 4.5}, ["cost=5.5/87600h"]),
        ({"max_budget": 10, "spend": 11}, ["cost=0/87600h"]),
        ({"rpm_limit": 0}, ["requests=0/1m"]),
        ({"budget_id": "b1"}, ["requests=7/1m", "cost=3/month"]),
        ({"budget_id": "b1", "rpm_limit": 9}, ["requests=9/1m", "cost=3/month"]),
        ({"litellm_budget_table": {"max_budget": 2, "budget_duration": "1h"}}, ["cost=2/1h"]),
        ({"tpm_limit": "100", "max_parallel_requests": "2"}, ["tokens=100/1m", "concurrency=2"]),
    ],
    ids=json.dumps,
)
def test_budgets(authz: Authz, tmp_path: Path, budget: Mapping[str, Any], limits: list[str]) -> None:
    named = {"budget_id": "b1", "rpm_limit": 7, "max_budget": 3, "budget_duration": "30d"}
    told = imported(authz, tmp_path, one_key(**budget) | {"budgets": [named]})
    assert (row(told)["action"], row(told)["limits"]) == ("new", limits)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"max_budget": 5, "budget_duration": "2mo"}, "a budget for a period"),
        ({"max_budget": 5, "budget_duration": "1s"}, "a limit that cannot be written here (cost)"),
        ({"model_max_budget": {"big": {"max_budget": 1}}}, "a budget for each model"),
        ({"metadata": {"model_rpm_limit": {"big": 1}}}, "limits for each model"),
        ({"budget_id": "gone"}, "its budget is not in the files"),
        ({"team_id": "gone"}, "its team is not in the files"),
        ({"organization_id": "acme"}, "what its organization restricts"),
        ({"project_id": "p"}, "what its project restricts"),
        ({"allowed_routes": ["/v1/embeddings"]}, "only some paths are allowed"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_lost_restriction_keeps_a_key_out_unless_accepted(
    authz: Authz, tmp_path: Path, fields: Mapping[str, Any], why: str
) -> None:
    found = row(imported(authz, tmp_path, one_key(**fields)))
    assert (found["action"], f"would be allowed more: {why}" in found["why"]) == ("skipped", True)
    assert authz("keys", "list", "--json").json == []
    found = row(imported(authz, tmp_path, one_key(**fields), "--accept-looser"))
    assert (found["action"], f"allowed more than before: {why}" in found["why"]) == ("new", True)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"team_id": "litellm-dashboard"}, "a session of LiteLLM's own web page"),
        ({"allowed_routes": ["management_routes"]}, "may only administer LiteLLM"),
        ({"deleted_at": "2026-01-01T00:00:00Z"}, "it was deleted"),
        ({"expires": "2020-01-01T00:00:00Z"}, "it has expired"),
    ],
    ids=["dashboard", "managing", "deleted", "expired"],
)
def test_what_is_no_key_any_more_is_left_out(
    authz: Authz, tmp_path: Path, fields: Mapping[str, Any], why: str
) -> None:
    found = row(imported(authz, tmp_path, one_key(**fields), "--accept-looser"))
    assert (found["action"], why in found["why"]) == ("skipped", True)


def test_a_key_of_a_skipped_team_is_skipped(authz: Authz, tmp_path: Path) -> None:
    told = imported(authz, tmp_path, one_key(team_id="4b0f") | {"teams": [team(organization_id="acme")]})
    assert [each["action"] for each in told["rows"]] == ["skipped", "new", "skipped"]
    assert row(told)["why"] == "its team 'nlp' is skipped"


def test_keys_alone_are_left_out_for_nobody_knows_what_their_users_may(authz: Authz, tmp_path: Path) -> None:
    told = imported(authz, tmp_path, {"keys": [key()], "total_count": 1})
    assert "its user is not in the files (LiteLLM_UserTable, /user/list)" in row(told)["why"]
    assert row(imported(authz, tmp_path, {"keys": [key()]}, "--accept-looser"))["action"] == "new"


def test_keys_alone_are_left_out_the_second_time_too(authz: Authz, tmp_path: Path) -> None:
    for _ in range(2):
        told = imported(authz, tmp_path, {"keys": [key()]})
        assert [each["action"] for each in told["rows"]] == ["skipped", "skipped"]
    assert authz("users", "list", "--json").json == []


def test_a_user_is_made_where_one_of_its_keys_comes_in(authz: Authz, tmp_path: Path) -> None:
    lost = key(token="ab" * 32, user_id="bob", model_max_budget={"llama3": {"budget_limit": 1}})
    keys = [lost, key(user_id="bob", key_alias="other"), lost | {"token": "cd" * 32}]
    told = imported(authz, tmp_path, {"keys": keys, "users": [user()]})
    assert [(each["kind"], each["action"]) for each in told["rows"]] == [
        ("user", "new"), ("user", "new"), ("key", "skipped"), ("key", "new"), ("key", "skipped"),
    ]  # fmt: skip


def test_blocked_is_revoked(authz: Authz, tmp_path: Path) -> None:
    imported(authz, tmp_path, one_key(blocked=True))
    assert authz("keys", "list", "--json").json[0]["status"] == "revoked"
    assert check(authz)["reason"] == "key_revoked"


def test_a_blocked_team_is_closed(authz: Authz, tmp_path: Path) -> None:
    imported(authz, tmp_path, one_key(team_id="4b0f") | {"teams": [team(blocked=True)]})
    assert authz("keys", "list", "--json").json[0]["status"] == "revoked"
    assert authz("teams", "list", "--json").json[0]["models"] == []


@pytest.mark.parametrize(
    ("own", "of_user", "of_team", "with_team", "models"),
    [
        ([], [], [], False, None),
        (["a"], [], [], False, ["a"]),
        (["a", "b"], ["b", "c"], [], False, ["b"]),
        (["a", "b"], ["a"], ["b"], True, ["b"]),  # of a team's key the user's list counts nowhere there
        ([], ["a"], ["b"], True, ["b"]),
        ([], [], ["b"], True, None),  # inherited
        (["all-team-models"], [], ["b"], True, None),
        (["all-team-models"], ["a"], ["b"], True, ["b"]),
        (["all-proxy-models"], [], ["b"], True, None),
        (["*"], [], [], False, None),
        (["a", "openai/*"], [], [], False, ["a"]),
        (["openai/*"], [], [], False, []),
        (["a"], [], ["b"], True, []),
        ([], ["no-default-models"], [], False, None),  # inherited: nothing
        ([], ["no-default-models"], ["b"], True, ["b"]),
        (["a"], ["no-default-models"], [], False, []),
    ],
)
def test_a_key_may_use_what_it_could_use_and_never_more(
    authz: Authz,
    tmp_path: Path,
    own: list[str],
    of_user: list[str],
    of_team: list[str],
    with_team: bool,
    models: list[str] | None,
) -> None:
    document = {
        "keys": [key(models=own, team_id="4b0f" if with_team else None)],
        "users": [user(models=of_user)],
        "teams": [team(models=of_team)],
    }
    assert row(imported(authz, tmp_path, document))["models"] == models


def test_narrower_than_before_is_told(authz: Authz, tmp_path: Path) -> None:
    document = one_key(team_id="4b0f") | {"users": [user(models=["no-default-models"])]}
    assert "fewer models than before" in row(imported(authz, tmp_path, document))["why"]


def test_a_key_without_a_user_gets_one(authz: Authz, tmp_path: Path) -> None:
    other = key(user_id=None, token="ab" * 32, key_alias=None)
    told = imported(authz, tmp_path, {"keys": [key(user_id=None), other], "users": [user()]})
    assert [each["name"] for each in told["rows"] if each["kind"] == "user"] == [
        "alice", "litellm-ci", "litellm-abababababab",
    ]  # fmt: skip


@pytest.mark.parametrize("alias", ["ci", None])
def test_a_key_without_a_user_keeps_the_one_that_was_made_for_it(
    authz: Authz, tmp_path: Path, alias: str | None
) -> None:
    for action in ("new", "same"):
        told = imported(authz, tmp_path, {"keys": [key(user_id=None, key_alias=alias)]}, "--update")
        assert [each["action"] for each in told["rows"]] == [action, action]


def test_teams_of_one_alias_keep_their_ids(authz: Authz, tmp_path: Path) -> None:
    imported(authz, tmp_path, {"teams": [team(), team(team_id="77aa"), team(team_id="99", team_alias=None)]})
    assert [each["name"] for each in authz("teams", "list", "--json").json] == ["4b0f", "77aa", "99"]


@pytest.mark.parametrize(
    "document",
    [
        [key(), user(), team()],
        {"LiteLLM_VerificationToken": [key()], "LiteLLM_UserTable": [user()], "LiteLLM_TeamTable": [team()]},
        {"user_id": "alice", "user_info": user(), "keys": [key()], "teams": [team()]},
        [team() | {"keys": [key()], "team_memberships": [{"user_id": "alice", "team_id": "4b0f"}]}, user()],
        {"team_id": "4b0f", "team_info": team(), "keys": [key(), key()], "users": [user()]},
    ],
    ids=["rows", "tables", "user-info", "team-list", "team-info"],
)
def test_every_shape_of_an_export(authz: Authz, tmp_path: Path, document: object) -> None:
    told = imported(authz, tmp_path, document)
    assert [each["kind"] for each in told["rows"]] == ["team", "user", "key"]
    assert told["counts"]["new"] == 3


def test_tables_as_postgres_copies_them(authz: Authz, tmp_path: Path) -> None:
    """`COPY "LiteLLM_VerificationToken" TO STDOUT WITH (FORMAT csv, HEADER)`, one file for each table."""
    keys = key(
        models='{llama3,"a ""b"" c"}', aliases="{}", config="{}", permissions="{}", metadata="{}",
        allowed_routes="{}", model_max_budget="{}", expires="2099-01-31 10:00:00.5", blocked="f",
        rpm_limit=60, team_id="4b0f", spend=0,
    )  # fmt: skip
    keys["models"] = '{llama3,"a \\"b\\" c"}'
    files = [
        _csv(tmp_path / "keys.csv", keys),
        _csv(tmp_path / "users.csv", user(models="{}", max_budget=1, budget_duration="30d", teams="{4b0f}")),
        _csv(tmp_path / "teams.csv", team(models="{}", blocked="f", metadata="{}")),
    ]
    told = authz("import", "litellm", *files, "--json").json
    assert told["counts"]["new"] == 3
    assert row(told)["models"] == ['a "b" c', "llama3"]
    assert row(told)["limits"] == ["requests=60/1m"]
    assert row(told, "user")["limits"] == ["cost=1/month"]
    assert authz("keys", "list", "--json").json[0]["expires_at"] == "2099-01-31T10:00:00Z"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"keys": [HASH]},
            "export.json, keys[0]: this is a bare hash: ask /key/list with return_full_object",
        ),
        ({"keys": [key(), key(token="ff")]}, "keys[1], `token`: this is no SHA-256 in 64 hex digits"),
        ({"keys": [key(token=None)]}, "keys[0], `token`: it is needed"),
        (one_key(expires="soon"), "keys[0], `expires`: this is not a date"),
        (one_key(rpm_limit=-1), "keys[0], `rpm_limit`: this is not a number from 0 on"),
        (one_key(rpm_limit=1.5), "keys[0], `rpm_limit`: this is not a whole number"),
        (one_key(rpm_limit="1e999999999"), "keys[0], `rpm_limit`: this is more than 9007199254740991"),
        (one_key(metadata="[" * 100_000), "keys[0], `metadata`: this is not JSON"),
        (one_key(max_budget="NaN"), "keys[0], `max_budget`: this is not a number from 0 on"),
        (one_key(max_budget=True), "keys[0], `max_budget`: this is not a number"),
        (one_key(models="llama3"), "keys[0], `models`: this is not JSON"),
        (one_key(models=[1]), "keys[0], `models`: this is not a list of texts"),
        (one_key(models=["a,b"]), "keys[0], `models`: one of them is not the name of a model"),
        (one_key(metadata=[1]), "keys[0], `metadata`: this is not an object"),
        (one_key(user_id="x\ny"), "keys[0], `user_id`: a user's name is"),
        ({"teams": [team(team_alias="user:x")]}, "teams[0], `team_alias`: a team's name does not begin"),
        ({"teams": [team(), team(team_id="nlp", team_alias=None)]}, "another team has this name"),
        ([{"user_id": "alice", "team_id": "4b0f", "budget_id": "b"}], "[0]: this is no row of"),
        ([{"organization_id": "o", "budget_id": "b", "models": []}], "[0]: this is no row of"),
        ([3], "[0]: this is no row of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_file_imports_nothing_and_says_where(
    authz: Authz, tmp_path: Path, document: object, message: str
) -> None:
    ran = authz("import", "litellm", write(tmp_path, document))
    assert ran.code == 1
    assert message in ran.err
    for kind in ("keys", "users", "teams"):
        assert authz(kind, "list", "--json").json == []


def test_a_plain_key_is_hashed_and_not_shown(authz: Authz, tmp_path: Path, config: Path) -> None:
    ran = authz("import", "litellm", write(tmp_path, one_key(token=PLAIN, key_name=PLAIN)))
    assert ran.code == 0
    assert PLAIN not in ran.out + ran.err
    assert check(authz)["allowed"] is True
    for file in config.parent.glob("authz.db*"):
        assert PLAIN.encode() not in file.read_bytes()


def test_what_holds_for_all_is_said_once(authz: Authz, tmp_path: Path) -> None:
    told = imported(authz, tmp_path, one_key(models=["gpt-4o"], max_budget=1, budget_duration="1d"))
    assert told["notes"] == [
        "budgets were in USD; the same figures count in EUR here.",
        "a budget counts what models cost: give them prices, or nothing is ever spent.",
        "not a model of authz.yaml or the store yet: gpt-4o.",
    ]


def _csv(path: Path, fields: Mapping[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(fields))
    writer.writeheader()
    writer.writerow({name: "" if value is None else value for name, value in fields.items()})
    path.write_text(text.getvalue())
    return str(path)
