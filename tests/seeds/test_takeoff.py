"""The TitanML Takeoff documentation's "Deploying Reverse Proxy with Caddy", with authz in the place of two Caddy plugins.

Its own token and its own five curls; the config says what the `jwtauth` and `rate_limit` blocks of its
Caddyfile say. Only the address differs: our configuration of Caddy serves https.
"""

import base64
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.lab import eventually
from tests.gateways.compose_contract import COMPOSE, ComposeContract
from tests.seeds.identity_provider import ISSUER
from tests.seeds.site import Site, code
from tests.seeds.takeoff import JWTAUTH, SIGN_KEY, TOKEN, b64, claims, one_bit_changed, signed
from tests.seeds.takeoff_site import HERE, LIMIT_KEYS, WALK_THROUGH, Stack, backends, curl, production
from tests.support.any_server import AnyServer

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def test_the_walk_through(tmp_path: Path) -> None:
    post = ("-X", "POST", "-H", "Content-Type: application/json", "-d", '{"text": "Hello, world!"}')
    bearer = ("-H", f"Authorization: Bearer {TOKEN}")
    config = f"authenticators:\n{JWTAUTH}{WALK_THROUGH}"
    with AnyServer() as takeoff, Site(tmp_path, config + backends(takeoff), kinds=["caddy"]) as site:
        answers = [
            curl(site, *post, path="/generate"),
            curl(site, *post, *bearer, path="/generate"),
            curl(site, *post, *bearer, path="/generate"),
            curl(site, *post, *bearer, path="/generate"),
            curl(site, "-X", "GET", *bearer, path="/status"),
        ]
        # The first was not charged: two more of its method went through.
        assert [status for status, _ in answers] == [401, 200, 200, 429, 200]
        assert [body["error"]["code"] for status, body in answers if status != 200] == [
            "missing_credentials",
            "rate_limit_exceeded",
        ]
        assert "'per-method' of method POST is used up" in answers[3][1]["error"]["message"]
        assert [(each.method, each.target) for each in takeoff.received] == [
            ("POST", "/generate"),
            ("POST", "/generate"),
            ("GET", "/status"),
        ]
        for received in takeoff.received:
            assert received.header("x-authz-user") == "ggicci"
            assert TOKEN not in repr(received)
        assert takeoff.received[0].body == b'{"text": "Hello, world!"}'
        assert TOKEN not in site.logs


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with production(tmp_path_factory.mktemp("takeoff")) as running:
        yield running


@pytest.fixture
def lab(stack: Stack) -> Stack:
    stack.takeoff.received.clear()
    return stack


class TestTokenSources:
    """Query `access_token`, `token`, then `X-Api-Token`, then the cookie, then Authorization."""

    SOURCES: Mapping[str, tuple[str, dict[str, str], str]] = {
        "the query's access_token": ("/generate?access_token=TOKEN&n=1", {}, "/generate?n=1"),
        "the query's token": ("/generate?n=1&token=TOKEN", {}, "/generate?n=1"),
        "the header X-Api-Token": ("/generate", {"X-Api-Token": "TOKEN"}, "/generate"),
        "the cookie": ("/generate", {"Cookie": "theme=dark; user_session=TOKEN"}, "/generate"),
        "Authorization": ("/generate", {"Authorization": "Bearer TOKEN"}, "/generate"),
    }

    def ask(self, lab: Stack, source: str, token: str, more: Mapping[str, str] | None = None) -> int:
        target, headers, _ = self.SOURCES[source]
        filled = {name: value.replace("TOKEN", token) for name, value in headers.items()}
        filled.update(more or {})
        return lab.site.ask("caddy", target=target.replace("TOKEN", token), headers=filled).status

    @pytest.mark.parametrize("source", SOURCES)
    def test_the_token_is_found(self, lab: Stack, source: str) -> None:
        assert self.ask(lab, source, TOKEN) == 200
        (received,) = lab.takeoff.received
        assert received.target == self.SOURCES[source][2]
        assert received.header("x-authz-user") == "ggicci"
        assert received.header("cookie") == ("theme=dark" if source == "the cookie" else None)
        assert TOKEN not in repr(received)
        assert TOKEN not in lab.site.logs

    @pytest.mark.parametrize("source", [source for source in SOURCES if source != "Authorization"])
    def test_each_is_tried_until_one_verifies(self, lab: Stack, source: str) -> None:
        assert self.ask(lab, source, "not-a-token", BEARER) == 200
        (received,) = lab.takeoff.received
        assert received.header("x-authz-user") == "ggicci"
        assert "not-a-token" not in repr(received)


NONE = b64(b'{"alg":"none","typ":"JWT"}')
REFUSED = {
    "one bit of the header changed": one_bit_changed(0),
    "one bit of the claims changed": one_bit_changed(1),
    "one bit of the signature changed": one_bit_changed(2),
    "46 alg none": f"{NONE}.{TOKEN.split('.')[1]}.",
    "46 alg none, signed": f"{NONE}.{TOKEN.split('.', 1)[1]}",
    "48 another algorithm": signed(claims(), algorithm="HS384"),
    "48 an algorithm with another kind of key": signed(claims(), algorithm="RS256"),
    "another key": signed(claims(), key=b"another key of thirty-two bytes!"),
    "the key without its base64": signed(claims(), key=SIGN_KEY.encode()),
    "another issuer": signed(claims(iss="https://api.example.org")),
    "another audience": signed(claims(aud=["https://api.example.org"])),
    "expired": signed(claims(exp=1_700_000_000)),
    "not yet": signed(claims(nbf=9_955_892_000)),
    "issued in the future": signed(claims(iat=9_955_892_000)),
    "nobody": signed(claims(username=None)),
}


class TestJwtKeyClaimsAndAlgorithm:
    """`sign_key` is base64 of 32 bytes and beats `jwk_url`; issuers, audiences, times, users and meta claims."""

    def test_the_key_is_32_bytes(self) -> None:
        assert len(base64.b64decode(SIGN_KEY)) == 32

    @pytest.mark.parametrize("case", REFUSED)
    def test_any_other_token_is_refused(self, lab: Stack, case: str) -> None:
        answer = lab.site.ask("caddy", target="/status", headers={"Authorization": f"Bearer {REFUSED[case]}"})
        assert (answer.status, answer.json()["error"]["type"]) == (401, "authentication_error")
        assert not lab.takeoff.received

    def test_any_of_the_audiences_will_do(self, lab: Stack) -> None:
        for audience in (["https://learn.example.com"], ["https://other.example", "https://api.example.io"]):
            token = signed(claims(aud=audience, uid=42))
            assert lab.site.ask("caddy", headers={"Authorization": f"Bearer {token}"}).status == 200
        # The first of `aud uid user_id username login` that is text or a number: a list is passed over.
        assert [each.header("x-authz-user") for each in lab.takeoff.received] == ["42", "42"]

    def test_meta_claims_go_upstream_as_headers(self, lab: Stack) -> None:
        token = signed(claims(IsAdmin=True, settings={"payout": {"paypal": {"enabled": False}}}))
        spoofed = {"X-Is-Admin": "true", "X-Is-Paypal-Enabled": "true"}
        for shown in (token, TOKEN):
            assert lab.site.ask("caddy", headers=spoofed | {"Authorization": f"Bearer {shown}"}).status == 200
        told, untold = lab.takeoff.received
        assert (told.header("x-is-admin"), told.header("x-is-paypal-enabled")) == ("true", "false")
        assert (untold.header("x-is-admin"), untold.header("x-is-paypal-enabled")) == (None, None)

    def test_47_the_public_key_is_no_shared_key(self, lab: Stack) -> None:
        """RS/HS swap: the algorithm is pinned by the config."""
        own = {"iss": ISSUER, "aud": "llm", "sub": "alice", "exp": int(time.time()) + 3600}
        forged = signed(own, key=lab.provider.public_pem("first"))
        for shown, status in ((forged, 401), (lab.provider.token(), 200)):
            headers = {"Authorization": f"Bearer {shown}"}
            assert lab.site.ask("caddy", target="/sso", headers=headers).status == status


class TestLimitKeys:
    """Method (the walk-through), path, query, header, cookie, IP, IP prefix, claim; spelled `2r/m` and `1r/s`; matchers."""

    def ask(self, lab: Stack, target: str, method: str = "GET", **more: Any) -> int:
        return lab.site.ask("caddy", method, target, BEARER, **more).status

    @pytest.mark.parametrize("name", LIMIT_KEYS)
    def test_each_value_is_counted_by_itself(self, lab: Stack, name: str) -> None:
        each = LIMIT_KEYS[name]
        statuses = [
            lab.site.ask("caddy", "GET", f"/by-{name}{target}", BEARER | headers, source=source).status
            for target, headers, source in (*each.same, each.other)
        ]
        assert statuses == [200, 429, 200]

    def test_2r_m(self, lab: Stack) -> None:
        assert [self.ask(lab, f"/short/{n}") for n in range(3)] == [200, 200, 429]

    def test_1r_s(self, lab: Stack) -> None:
        last = lab.site.ask("caddy", target="/fast", headers=BEARER)
        assert (last.status, last.header("ratelimit-policy")) == (200, lab_policy(last))
        tries = 0
        while last.status == 200:  # on a slow machine a second may pass between two
            tries += 1
            assert tries < 50
            last = lab.site.ask("caddy", target="/fast", headers=BEARER)
        assert last.header("retry-after") == "1"
        eventually(lambda: self.ask(lab, "/fast") == 200)

    def test_a_matcher_chooses_what_is_counted(self, lab: Stack) -> None:
        assert [
            self.ask(lab, "/matched/generate", "POST"),
            self.ask(lab, "/matched/generate", "POST"),
            self.ask(lab, "/matched/generate"),
            self.ask(lab, "/matched/status", "POST"),
        ] == [200, 429, 200, 200]

    def test_by_header(self, lab: Stack) -> None:
        free, paid = BEARER | {"X-Tier": "free"}, BEARER | {"X-Tier": "paid"}
        asked = [free, paid, free, paid, BEARER]
        statuses = [lab.site.ask("caddy", "GET", "/custom/x?n=1", headers).status for headers in asked]
        assert statuses == [200, 200, 429, 200, 200]

    def test_by_claim_cookie_and_address_together(self, lab: Stack) -> None:
        batch = {"Authorization": f"Bearer {signed(claims(job='batch'))}"}
        night = {"Cookie": "night=1"}
        asked = [
            (batch | night, HERE),
            (batch, HERE),
            (BEARER | night, HERE),
            (batch | night, "127.0.0.2"),
            (batch | night, HERE),
        ]
        statuses = [
            lab.site.ask("caddy", "GET", "/custom/x?n=2", sent, source=at).status for sent, at in asked
        ]
        assert statuses == [200, 200, 200, 200, 403]

    def test_a_status_and_a_message_of_ones_own(self, lab: Stack) -> None:
        answers = [lab.site.ask("caddy", "GET", "/custom/x?custom=1", BEARER) for _ in range(2)]
        assert [code(answer) for answer in answers] == [(200, None), (503, "rate_limit_exceeded")]
        assert answers[1].json()["error"]["message"] == "Come back in a minute."
        assert answers[1].header("retry-after")


def lab_policy(answer: Any) -> str:
    """The policy that `1r/s` is, with the partition that the answer names."""
    found: str = answer.header("ratelimit-policy")
    return f'"one-a-second";q=1;w=1;pk={found.rpartition("pk=")[2]}'


class TestBasicAuth:
    """A bcrypt htpasswd; 401 carries WWW-Authenticate."""

    def ask(self, lab: Stack, text: str | None) -> Any:
        headers = (
            {} if text is None else {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
        )
        return lab.site.ask("caddy", target="/basic", headers=headers)

    def test_the_right_password(self, lab: Stack) -> None:
        assert self.ask(lab, "carol:hunter2 is long").status == 200
        received = lab.takeoff.last()
        assert received.header("x-authz-user") == "staff:carol"
        assert received.header("authorization") is None

    @pytest.mark.parametrize("text", [None, "carol:hunter2", "carol:", "mallory:hunter2 is long"])
    def test_anything_else(self, lab: Stack, text: str | None) -> None:
        answer = self.ask(lab, text)
        assert answer.status == 401
        assert answer.header("www-authenticate").startswith('Basic realm="authz"')
        assert not lab.takeoff.received


class TestRolesAndAttributes:
    """Roles per route, and conditions on claims."""

    @pytest.mark.parametrize(
        ("target", "method", "more", "status"),
        [
            ("/admin", "GET", {"roles": ["admin"]}, 200),
            ("/admin", "GET", {"roles": ["user"]}, 403),
            ("/admin", "GET", {}, 403),
            ("/big", "POST", {"roles": ["ml"], "clearance": 3}, 200),
            ("/big", "POST", {"roles": ["ml"], "clearance": 2}, 403),
            ("/big", "POST", {"roles": ["hr"], "clearance": 3}, 403),
            ("/big", "GET", {"roles": ["ml"], "clearance": 3}, 403),
            ("/big", "POST", {"roles": ["ml"]}, 403),  # the condition cannot be evaluated
            ("/big", "POST", {"roles": ["ml"], "clearance": "3"}, 403),
        ],
    )  # fmt: skip
    def test_each_route_has_its_own(
        self, lab: Stack, target: str, method: str, more: dict[str, Any], status: int
    ) -> None:
        headers = {"Authorization": f"Bearer {signed(claims(**more))}"}
        answer = lab.site.ask("caddy", method, target, headers)
        assert code(answer) == ((200, None) if status == 200 else (403, "not_authorized"))
        assert len(lab.takeoff.received) == (status == 200)


class TestDocker(ComposeContract):
    """Compose of Caddy, authz and a model; nothing here needs Docker."""

    kind = "caddy"
    configuration = ("caddy/Caddyfile", "/etc/caddy/Caddyfile")

    def test_there_are_the_three(self) -> None:
        assert {"authz", "gateway", "model"} <= set(self.read()["services"])
        assert (COMPOSE / "caddy.authz.yaml").is_file()


def test_jwks_a_rotated_key_is_accepted_once_fetched(lab: Stack) -> None:
    """The last of this file: a provider is asked at most every 10 s, which have passed by now."""

    def status(kid: str) -> int:
        headers = {"Authorization": f"Bearer {lab.provider.token(kid)}"}
        return lab.site.ask("caddy", target="/sso", headers=headers).status

    assert status("first") == 200
    lab.provider.rotate("second")
    eventually(lambda: status("second") == 200, seconds=20)
    assert status("first") == 200
