"""`authz check` with every kind of credential, in words for a stranger."""

from pathlib import Path

import pytest

from tests.cli.conftest import Authz
from tests.config.conftest import SECRETS
from tests.support.certificates import CLIENT_URI, make_certificates

WORKER = "worker-secret-of-the-tests"
CONFIG = """\
store: sqlite:authz.db
authenticators:
  keys: {type: api_key, headers: [x-apikey], query: [api_key], act_for: {header: x-user, role: act_for}}
  staff: {type: basic, htpasswd: {file: users.htpasswd}}
  mtls: {type: certificate}
  office: {type: network, allow: [10.0.0.0/8]}
  machines: {type: shared_secret, secrets: {worker: {file: worker}}, headers: [x-worker-secret], query: [token]}
  anyone: {type: anonymous}
routes:
  - {name: keys, match: {paths: [/keys]}, authenticate: {any_of: [keys, anyone]}, authorize: [{models: any}], limits: [rpm]}
  - {name: staff, match: {paths: [/staff]}, authenticate: {all_of: [office, staff]}, authorize: [{models: any}]}
  - {name: mtls, match: {paths: [/mtls]}, authenticate: {any_of: [mtls]}, authorize: [{models: any}]}
  - {name: worker, match: {paths: [/worker]}, authenticate: {any_of: [machines]}, authorize: [{models: any}]}
limits:
  rpm: {unit: requests, quota: 60, window: 1m, partition_by: [ip]}
"""


@pytest.fixture
def certificate(config: Path) -> str:
    """Puts this file's configuration in place too."""
    config.write_text(CONFIG)
    for name, text in (("users.htpasswd", SECRETS["users.htpasswd"]), ("worker", WORKER)):
        (config.parent / name).write_text(text)
        (config.parent / name).chmod(0o600)
    return str(make_certificates(config.parent / "certificates").client)


@pytest.mark.parametrize(
    ("arguments", "stdin", "user"),
    [
        (["--path", "/staff", "--user", "carol", "--ip", "10.0.0.7"], "tulip", "staff:carol"),
        (
            ["--path", "/worker", "--key", "-", "--key-in", "header:X-Worker-Secret"],
            WORKER,
            "machines:worker",
        ),
        (["--path", "/worker?a=b", "--key", "-", "--key-in", "query:token"], WORKER, "machines:worker"),
        (["--path", "/mtls", "--certificate", "CERTIFICATE"], "", f"mtls:{CLIENT_URI}"),
        (["--path", "/keys"], "", "anyone:guest"),
    ],
    ids=["password", "secret in a header", "secret in the query", "certificate", "nobody"],
)
def test_who_it_is(authz: Authz, certificate: str, arguments: list[str], stdin: str, user: str) -> None:
    given = [certificate if each == "CERTIFICATE" else each for each in arguments]
    ran = authz("check", "--method", "GET", *given, stdin=stdin)
    assert ran.code == 0, ran.out + ran.err
    assert f"is {user!r} by" in ran.out
    assert not stdin or stdin not in ran.out + ran.err


def test_for_whom_a_key_acts(authz: Authz, certificate: str) -> None:
    made = authz("keys", "create", "--user", "webui", "--role", "act_for", "--json").json
    given = ("--method", "GET", "--path", "/keys", "--key", "-", "--key-in", "header:x-apikey")
    ran = authz("check", *given, "--header", "x-user=erin@lab.test", stdin=made["key"])
    assert "is 'keys:erin@lab.test' by 'keys'" in ran.out
    assert made["key"] not in ran.out


@pytest.mark.parametrize(
    ("arguments", "stdin", "reason", "words"),
    [
        (
            ["--path", "/staff", "--user", "carol", "--ip", "10.0.0.7"],
            "rose",
            "401 password_wrong",
            "The user or the password is wrong.",
        ),
        (
            ["--path", "/staff", "--user", "carol", "--ip", "192.0.2.1"],
            "tulip",
            "403 network_refused",
            "Requests from this network are not accepted.",
        ),
        (
            ["--path", "/worker", "--key", "-", "--key-in", "query:token"],
            "guess",
            "401 secret_wrong",
            "The secret is wrong.",
        ),
        (
            ["--path", "/keys", "--key", "-", "--key-in", "query:api_key"],
            "guess",
            "401 key_unknown",
            "The API key is not known.",
        ),
        (
            ["--path", "/mtls", "--certificate", "SERVER"],
            "",
            "401 certificate_invalid",
            "not one for clients",
        ),
    ],
    ids=["password", "network", "secret", "35 no anonymous access by a bad key", "45 certificate"],
)
def test_why_not(
    authz: Authz, certificate: str, arguments: list[str], stdin: str, reason: str, words: str
) -> None:
    server = certificate.replace("client.crt", "server.crt")
    given = [server if each == "SERVER" else each for each in arguments]
    ran = authz("check", "--method", "GET", *given, stdin=stdin)
    assert ran.code == 3
    assert ran.out.splitlines()[-1] == f"Refused: HTTP {reason}"
    assert words in ran.out


def test_where_a_key_cannot_be(authz: Authz, certificate: str) -> None:
    ran = authz("check", "--path", "/keys", "--key", "-", "--key-in", "body:key", stdin="x")
    assert (ran.code, ran.out) == (2, "")
    assert "header:NAME, query:NAME or cookie:NAME" in ran.err
