"""`authz check`: what would be decided, and that asking costs nothing."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Authz, Ran

CHAT = ("--path", "/v1/chat/completions")


@pytest.fixture
def key(authz: Authz) -> str:
    made: str = authz("keys", "create", "--user", "alice", "--limit", "requests=2/m", "--json").json["key"]
    return made


def test_every_stage_with_its_reason(authz: Authz, key: str) -> None:
    ran = authz("check", "--key", "-", *CHAT, "--model", "llama3", stdin=key)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    stages = ["request", "route", "authenticate", "authorize", "limits"]
    assert [line.split("\t")[:2] for line in lines[1:6]] == [[stage, "yes"] for stage in stages]
    assert "'alice'" in lines[3]
    assert lines[-1] == "Allowed on the route inference"
    assert key not in ran.out + ran.err


def test_asking_charges_nothing(authz: Authz, key: str) -> None:
    for _ in range(5):
        told = authz("check", "--key", "-", *CHAT, "--model", "llama3", "--json", stdin=key + "\n").json
        assert told["allowed"] is True
        assert {row["limit"]: row["left"] for row in told["limits"]}["key-rpm"] == 59
    assert authz("decisions", "list", "--json").json == []


@pytest.mark.parametrize(
    ("arguments", "status", "reason", "stage"),
    [
        (["--model", "big"], 403, "model_not_allowed", "authorize"),
        (["--model", "nope"], 403, "model_unknown", "authorize"),
        ([], 400, "body_required", "authorize"),
        (["--model", "llama3", "--method", "DELETE"], 403, "no_route", "route"),
    ],
)
def test_a_refusal_is_exit_3(
    authz: Authz, key: str, arguments: list[str], status: int, reason: str, stage: str
) -> None:
    plain = authz("check", "--key", "-", *CHAT, *arguments, stdin=key)
    assert plain.code == 3
    assert plain.out.splitlines()[-1] == f"Refused: HTTP {status} {reason}"
    told = authz("check", "--key", "-", *CHAT, *arguments, "--json", stdin=key)
    answer = json.loads(told.out)
    assert (told.code, answer["allowed"], answer["status"], answer["reason"]) == (3, False, status, reason)
    assert (answer["stages"][-1]["stage"], answer["stages"][-1]["passed"]) == (stage, False)


def test_an_address_that_is_none_is_a_usage_error(authz: Authz) -> None:
    ran = authz("check", *CHAT, "--ip", "1000.1.1.1")
    assert (ran.code, ran.out) == (2, "")
    assert "'1000.1.1.1' is no address" in ran.err


def test_without_a_key(authz: Authz) -> None:
    ran = authz("check", *CHAT, "--model", "llama3")
    assert (ran.code, ran.out.splitlines()[-1]) == (3, "Refused: HTTP 401 credential_missing")


def test_a_body_from_a_file(authz: Authz, key: str, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"model": "llama3", "max_tokens": 4096, "messages": []}))
    ran = authz("check", "--key", "-", *CHAT, "--body", str(body), stdin=key)
    assert ran.code == 3
    assert "produces at most 2048 tokens; 4096 were asked for" in ran.out


SECRET = "sk-live-0123456789abcdef"


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["--key", SECRET], "", "a key is no argument"),
        (["--key", "hunter2"], "", "a key is no argument"),
        (["--key="], "", "a key is no argument"),
        (["--key", "-"], " \n", "standard input holds no key"),
        (["--key", "-", "--body", "-"], SECRET, "cannot both"),
        (["--header", f"Authorization=Bearer {SECRET}"], "", "may hold a secret"),
        (["--header", f"Cookie=a={SECRET}"], "", "may hold a secret"),
        (["--header", "no-equals"], "", "NAME=VALUE"),
    ],
)
def test_secrets_are_no_arguments_and_are_not_repeated(
    authz: Authz, arguments: list[str], stdin: str, message: str
) -> None:
    ran: Ran = authz("check", *CHAT, *arguments, stdin=stdin)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert SECRET not in ran.err
    assert "hunter2" not in ran.err


def test_a_body_file_that_is_missing(authz: Authz) -> None:
    ran = authz("check", *CHAT, "--body", "/nonexistent/body.json")
    assert ran.code == 1
    assert "No such file" in ran.err


def test_a_secret_of_the_config_that_is_missing(authz: Authz, config: Path) -> None:
    sso = "sso: {type: jwt, issuers: [x], audiences: [y], algorithms: [HS256], sign_key: {env: AZ_NOT_SET}}"
    text = config.read_text().replace("  keys: {type: api_key}", f"  keys: {{type: api_key}}\n  {sso}")
    config.write_text(text.replace("any_of: [keys]", "any_of: [keys, sso]"))
    ran = authz("check", *CHAT, "--model", "llama3")
    assert ran.code == 1
    assert "AZ_NOT_SET" in ran.err
    assert "Traceback" not in ran.err
