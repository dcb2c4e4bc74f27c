"""Credentials that change while the service runs."""

import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.acceptance.lab import eventually
from tests.reliability.flood import question
from tests.support.raw_http import exchange
from tests.support.service import AuthzService

TOKEN = "gateway-token-of-the-tests"
OLD, NEW = "old-worker-secret-0", "new-worker-secret-0"
CONFIG = f"""
gateways:
  edge: {{kind: traefik, token: {TOKEN}}}
authenticators:
  staff: {{type: basic, htpasswd: {{file: users.htpasswd}}}}
  machines: {{type: shared_secret, secrets: {{worker: {{file: worker}}}}, headers: [authorization]}}
routes:
  - {{name: staff, match: {{paths: [/staff]}}, authenticate: {{any_of: [staff]}}, authorize: [{{models: any}}]}}
  - {{name: worker, match: {{paths: [/worker]}}, authenticate: {{any_of: [machines]}}, authorize: [{{models: any}}]}}
"""


def line(user: str, password: str, cost: int = 4) -> str:
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()}\n"


def replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.chmod(0o600)
    temporary.replace(path)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[AuthzService]:
    replace(tmp_path / "users.htpasswd", line("carol", "tulip") + line("dave", "rose"))
    replace(tmp_path / "worker", OLD)
    with AuthzService(tmp_path, CONFIG) as service:
        yield service


@pytest.fixture
def status(service: AuthzService) -> Callable[[str, str, str], int]:
    def ask(path: str, credential: str, origin: str = "192.0.2.1") -> int:
        head = question(credential, origin, TOKEN, path).removesuffix(b"\r\n")
        return exchange(service.http, head + b"connection: close\r\n\r\n").status

    return ask


def password(user: str, text: str) -> str:
    return "Basic " + b64encode(f"{user}:{text}".encode()).decode()


def test_users_come_and_go_with_their_lines(service: AuthzService, status: Callable[..., int]) -> None:
    assert status("/staff", password("carol", "tulip")) == 200
    assert status("/staff", password("dave", "rose")) == 200
    assert status("/staff", password("erin", "lily")) == 401
    kept = (service.directory / "users.htpasswd").read_text().splitlines(keepends=True)[1]
    replace(service.directory / "users.htpasswd", line("carol", "new") + kept + line("erin", "lily"))
    # A wrong password is remembered for a while, but not beyond its line.
    eventually(lambda: status("/staff", password("erin", "lily")) == 200, seconds=20)
    assert status("/staff", password("carol", "tulip")) == 401
    assert status("/staff", password("carol", "new")) == 200
    assert status("/staff", password("dave", "rose")) == 200


def test_a_file_that_lets_nobody_in_is_not_taken(service: AuthzService, status: Callable[..., int]) -> None:
    replace(service.directory / "users.htpasswd", "carol:hunter2\n")
    eventually(lambda: "nobody can be let in" in service.log, seconds=20)
    assert "hunter2" not in service.log
    assert status("/staff", password("carol", "tulip")) == 200


def test_a_new_secret_ends_the_old_one_and_forgives_nobody(
    service: AuthzService, status: Callable[..., int]
) -> None:
    assert status("/worker", f"Bearer {OLD}") == 200
    guesser = "198.51.100.1"
    begun = time.monotonic()
    assert [status("/worker", "Bearer guess", guesser) for _ in range(11)] == [401] * 10 + [429]
    replace(service.directory / "worker", NEW)
    eventually(lambda: status("/worker", f"Bearer {NEW}", "203.0.113.9") == 200, seconds=20)
    refused = status("/worker", f"Bearer {OLD}")
    assert refused == 401
    if time.monotonic() - begun < 5:  # one more try is due after 6 s, and not by the reload
        assert status("/worker", f"Bearer {NEW}", guesser) == 429


def test_nothing_of_a_credential_is_in_the_log(service: AuthzService, status: Callable[..., int]) -> None:
    given = ("carol", "tulip", password("carol", "tulip").split()[1], OLD, "guess-that-is-wrong")
    status("/staff", password("carol", "tulip"))
    status("/staff", password("carol", "guess-that-is-wrong"))
    status(f"/worker?token={OLD}", f"Bearer {OLD}")
    status("/worker", "Bearer guess-that-is-wrong")
    service.stop()
    assert [text for text in given[1:] if text in service.log] == []
