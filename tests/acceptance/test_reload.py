"""Changes while the service answers: the config, its secrets, and what commands write beside it."""

import contextlib
import http.client
import io
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from authz.cli.main import run
from tests.acceptance.lab import add_key, eventually, in_force, samples
from tests.reliability.processes import all_kept_waiting
from tests.support.service import AuthzService

TOKEN = "token-of-the-gateway-in-the-tests"
CHAT = b'{"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}'
PLENTY = 100_000
CONFIG = """
gateways:
  edge: {{kind: envoy, token: {token}}}
authenticators:
  keys: {{type: api_key}}
models:
  demo: {{}}
routes:
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
    limits: [per-key]
limits:
  per-key: {{unit: requests, quota: {quota}, window: 1m, partition_by: [key]}}
"""
IN_FORCE_S = 1.0  # what a command wrote
RELOADED_S = 2.0  # a changed file: it has to lie still for a moment first


class Watch:
    """Seconds since it was made, without those in which the service or the test was ready and others had the processors."""

    def __init__(self, service: AuthzService) -> None:
        assert service.process is not None
        self._pids = (service.process.pid, os.getpid())
        self._begun, self._waited = time.monotonic(), self._kept_waiting()

    def at(self, moment: float) -> float:
        """Until a moment of the monotonic clock that has only just passed."""
        return moment - self._begun - (self._kept_waiting() - self._waited)

    def now(self) -> float:
        return self.at(time.monotonic())

    def _kept_waiting(self) -> float:
        return sum(map(all_kept_waiting, self._pids))


def config(quota: int = PLENTY, token: str = TOKEN) -> str:
    return CONFIG.format(quota=quota, token=token)


@dataclass(frozen=True)
class Answer:
    """One decision as the gateway saw it. Times are seconds of the monotonic clock."""

    sent_at: float
    status: int
    code: str | None  # of a refusal
    quota: int | None  # of the policy `per-key`, as RateLimit-Policy tells it


class Caller:
    """A gateway that asks again and again with one key. A context manager: it asks inside."""

    def __init__(self, service: AuthzService, key: str, *, pause: float = 0.004) -> None:
        self.answers: list[Answer] = []
        self.failures: list[Exception] = []
        self.token = TOKEN
        self._port, self._key, self._pause = service.http, key, pause
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            while not self._stopping.wait(self._pause):
                self.answers.append(self._ask(connection))
        except (OSError, http.client.HTTPException) as failure:
            self.failures.append(failure)
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection) -> Answer:
        sent_at = time.monotonic()
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "X-Authz-Gateway-Token": self.token,
            "X-Forwarded-For": "127.0.0.1",
            "X-Forwarded-Proto": "https",
        }
        connection.request("POST", "/auth/envoy/v1/chat/completions", CHAT, headers)
        response = connection.getresponse()
        body = response.read()
        policy = response.headers.get("ratelimit-policy", "")
        return Answer(
            sent_at=sent_at,
            status=response.status,
            code=json.loads(body)["error"]["code"] if response.status != 200 else None,
            quota=int(policy.partition('"per-key";q=')[2].partition(";")[0]) if "per-key" in policy else None,
        )

    @property
    def last(self) -> Answer:
        return self.answers[-1]

    def until(self, holds: Callable[[Answer], bool]) -> Answer:
        """The first answer from now on of which it holds."""
        begin = len(self.answers)
        eventually(lambda: bool(self.failures) or any(map(holds, self.answers[begin:])))
        assert not self.failures, self.failures
        return next(answer for answer in self.answers[begin:] if holds(answer))

    def never_failed(self) -> None:
        assert not self.failures, self.failures
        assert {answer.status for answer in self.answers} == {200}

    def __enter__(self) -> Self:
        self._thread.start()
        eventually(lambda: bool(self.answers or self.failures))
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[AuthzService]:
    with AuthzService(tmp_path, config()) as service:
        yield service


@pytest.fixture
def caller(service: AuthzService) -> Iterator[Caller]:
    """Light load: a gateway that asks two hundred times a second, with a key that may."""
    key = add_key(service.registry)
    in_force(service)
    with Caller(service, key.key) as caller:
        yield caller


def digest(service: AuthzService) -> str:
    """Of the config in force, as /readyz tells it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.http}/readyz", timeout=30) as response:
        return str(json.load(response)["config"])


def reloads(service: AuthzService, result: str) -> int:
    return int(samples(service, "authz_config_reloads_total").get((("result", result),), 0))


def command(service: AuthzService, *arguments: str) -> Any:
    """A command line, run in this process: what is measured is not how long Python takes to start."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*arguments, "--json", "--config", str(service.config)])
    assert code == 0, err.getvalue()
    return json.loads(out.getvalue())


# The config


def test_a_changed_config_is_in_force_by_itself(
    service: AuthzService, caller: Caller, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(service)
    assert caller.last.quota == PLENTY
    watch = Watch(service)
    service.write(config(quota=PLENTY + 1))
    changed = caller.until(lambda answer: answer.quota == PLENTY + 1)
    took = watch.at(changed.sent_at)
    with capsys.disabled():
        print(f"\na changed config is in force after {took:.2f} s")
    assert took < RELOADED_S
    assert reloads(service, "applied") == 1
    assert digest(service) != before
    caller.until(lambda answer: True)
    caller.never_failed()
    from_then = [answer.quota for answer in caller.answers if answer.sent_at >= changed.sent_at]
    assert set(from_then) == {PLENTY + 1}  # one config at a time


def test_a_lower_limit_counts_what_was_used_before(service: AuthzService, caller: Caller) -> None:
    eventually(lambda: len(caller.answers) > 50)
    service.write(config(quota=10))
    refused = caller.until(lambda answer: answer.status != 200)
    assert (refused.status, refused.code, refused.quota) == (429, "rate_limit_exceeded", 10)
    service.write(config())
    caller.until(lambda answer: answer.status == 200)


def test_sighup_loads_again_changed_or_not(service: AuthzService, caller: Caller) -> None:
    assert service.process is not None
    before = digest(service)
    for times in (1, 2, 3):
        watch = Watch(service)
        service.process.signal(signal.SIGHUP)
        eventually(lambda times=times: reloads(service, "applied") == times)  # type: ignore[misc]
        assert watch.now() < RELOADED_S
    assert digest(service) == before
    service.write(config(quota=PLENTY + 1))
    watch = Watch(service)
    service.process.signal(signal.SIGHUP)
    assert watch.at(caller.until(lambda answer: answer.quota == PLENTY + 1).sent_at) < RELOADED_S
    caller.never_failed()


def test_a_gateways_new_token_is_in_force(service: AuthzService, caller: Caller) -> None:
    service.write(config(token="another-token-of-the-gateway"))
    refused = caller.until(lambda answer: answer.status != 200)
    assert (refused.status, refused.code) == (403, "gateway_unproven")
    caller.token = "another-token-of-the-gateway"
    caller.until(lambda answer: answer.status == 200)


MISTAKES = {
    "a misspelt key": ("    limits: [per-key]", "    limit: [per-key]", "limit", "limits"),
    "an unknown limit": ("limits: [per-key]", "limits: [per-keys]", "per-keys", "per-key"),
    "broken YAML": ("authorize: [{models: allowed}]", "authorize: [{models: allowed]", "allowed]", None),
    "a wrong window": ("window: 1m", "window: 1 fortnight", "1 fortnight", None),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_invalid_file_leaves_the_old_one_in_force(
    service: AuthzService, caller: Caller, mistake: str
) -> None:
    find, replace, wrong, meant = MISTAKES[mistake]
    before = digest(service)
    valid = config(quota=5)
    assert valid.count(find) == 1
    watch = Watch(service)
    service.write(valid.replace(find, replace))
    eventually(lambda: reloads(service, "rejected") > 0)
    assert watch.now() < RELOADED_S
    lines = service.config.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if wrong in text)
    assert service.process is not None
    said = next(line for line in service.log.splitlines() if "config not reloaded" in line)
    assert f"{service.config}:{line}:" in said
    if meant is not None:
        assert f"{service.config}:{line}:{lines[line - 1].index(wrong) + 1}" in said
        assert f"did you mean `{meant}`" in said
    caller.until(lambda answer: True)
    caller.never_failed()
    assert {answer.quota for answer in caller.answers} == {PLENTY}
    assert (digest(service), reloads(service, "applied")) == (before, 0)
    service.write(config(quota=PLENTY + 1))  # repaired
    caller.until(lambda answer: answer.quota == PLENTY + 1)
    caller.never_failed()


def test_a_file_that_is_gone_leaves_the_old_one_in_force(service: AuthzService, caller: Caller) -> None:
    before = digest(service)
    service.config.unlink()
    eventually(lambda: reloads(service, "rejected") > 0)
    assert "the file cannot be read" in service.log
    assert digest(service) == before
    service.write(config(quota=PLENTY + 1))
    caller.until(lambda answer: answer.quota == PLENTY + 1)
    caller.never_failed()


# What commands write


def test_a_revoked_key_is_refused_within_a_second(
    service: AuthzService, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [add_key(service.registry) for _ in range(20)]
    in_force(service)
    lags = []
    for key in keys:
        with Caller(service, key.key) as caller:
            caller.until(lambda answer: answer.status == 200)
            watch = Watch(service)
            command(service, "keys", "revoke", key.id)
            caller.until(lambda answer: answer.status == 401)
            refused = caller.until(lambda answer: True)
        assert (refused.status, refused.code) == (401, "revoked_api_key")
        allowed = [answer.sent_at for answer in caller.answers if answer.status == 200]
        lags.append(watch.at(allowed[-1]))
        assert not caller.failures
        statuses = [answer.status for answer in caller.answers]
        assert statuses == sorted(statuses), "once refused, never allowed again"
    with capsys.disabled():
        print(f"\nlast allowed after the revocation began: {_spell(lags)}")
    assert max(lags) <= IN_FORCE_S


def test_a_created_key_is_known_within_a_second(
    service: AuthzService, capsys: pytest.CaptureFixture[str]
) -> None:
    lags = []
    for number in range(5):
        made = command(service, "keys", "create", "--user", f"user{number}", "--limit", "requests=60/m")
        watch = Watch(service)
        with Caller(service, made["key"]) as caller:
            eventually(lambda caller=caller: caller.last.status == 200)  # type: ignore[misc]
            lags.append(watch.at(next(answer.sent_at for answer in caller.answers if answer.status == 200)))
        assert {answer.status for answer in caller.answers} <= {200, 401, 429}
    with capsys.disabled():
        print(f"\na created key is known after {_spell(lags)}")
    assert max(lags) <= IN_FORCE_S


def test_a_disabled_user_is_refused_within_a_second(
    service: AuthzService, capsys: pytest.CaptureFixture[str]
) -> None:
    key = command(service, "keys", "create", "--user", "carol")["key"]
    in_force(service)
    with Caller(service, key) as caller:
        watch = Watch(service)
        command(service, "users", "update", "carol", "--disable")
        refused = caller.until(lambda answer: answer.status != 200)
        took = [watch.at(refused.sent_at)]
        assert (refused.status, refused.code) == (401, "user_disabled")
        watch = Watch(service)
        command(service, "users", "update", "carol", "--enable", "--no-models")
        forbidden = caller.until(lambda answer: answer.status != 401)
        took.append(watch.at(forbidden.sent_at))
        assert forbidden.status == 403
    with capsys.disabled():
        print(f"\na changed user is in force after {_spell(took)}")
    assert max(took) <= IN_FORCE_S


def test_a_grant_is_in_force_within_a_second(
    service: AuthzService, capsys: pytest.CaptureFixture[str]
) -> None:
    made = command(service, "keys", "create", "--user", "dora")
    in_force(service)
    with Caller(service, made["key"]) as caller:
        watch = Watch(service)
        command(service, "limits", "grant", "per-key", "500", "--key-id", made["id"], "--until", "7d")
        granted = caller.until(lambda answer: answer.quota == PLENTY + 500)
        took = watch.at(granted.sent_at)
    caller.never_failed()
    with capsys.disabled():
        print(f"\na grant is in force after {took:.2f} s")
    assert took <= IN_FORCE_S


def test_a_command_of_its_own_process_is_noticed_too(service: AuthzService) -> None:
    made = service.run("keys", "create", "--user", "erin")
    with Caller(service, made["key"]) as caller:
        watch = Watch(service)
        eventually(lambda: caller.last.status == 200)
        assert watch.now() <= IN_FORCE_S
        service.run("keys", "revoke", made["id"])
        watch = Watch(service)
        eventually(lambda: caller.last.status == 401)
        assert watch.now() <= IN_FORCE_S
    assert service.run("keys", "show", made["id"])["status"] == "revoked"


def _spell(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    return f"median {ordered[len(ordered) // 2]:.2f} s, at most {ordered[-1]:.2f} s ({len(ordered)} trials)"
