"""Published keys: rotation, outage, floods, discovery (attacks 57-60)."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from authz.authenticate.jwks import MOST_UNKNOWN, MOST_WAITING, Jwks
from authz.authenticate.jwks_fetch import FetchFailed
from authz.authenticate.jwt import JwtAuthenticator
from authz.authenticate.protocol import Refused
from authz.reason import Reason
from authz.subject import Subject
from tests.authenticate.fakes import (
    ISSUER,
    JWKS_URL,
    Clock,
    MemoryDirectory,
    MemoryFetcher,
    at_once,
    bearer,
    claims,
    dumps,
    jwk,
    key_set,
    settings,
    sign,
    with_keys,
)

RS256 = frozenset({"RS256"})
DISCOVERY_URL = f"{ISSUER}/.well-known/openid-configuration"


def token(kid: str | None = "a", key: str = "rsa", **changed: Any) -> str:
    header = {} if kid is None else {"kid": kid}
    return sign(claims(**changed), alg="RS256", key=key, **header)


def provider(
    documents: dict[str, bytes | Exception], clock: Clock | None = None, **changed: Any
) -> tuple[JwtAuthenticator, MemoryFetcher]:
    fetcher = MemoryFetcher(documents)
    fields: dict[str, Any] = {"algorithms": RS256, "jwks_url": JWKS_URL, "cooldown": 10} | changed
    if "discovery" in changed:
        del fields["jwks_url"]
    made = JwtAuthenticator(settings(**fields), MemoryDirectory(), clock or Clock(), fetcher=fetcher)
    return made, fetcher


async def reason(judged: Coroutine[Any, Any, object]) -> Reason:
    outcome = await judged
    if isinstance(outcome, Subject):
        return Reason.ALLOWED
    assert isinstance(outcome, Refused)
    return outcome.reason


class HeldFetcher(MemoryFetcher):
    """Answers when it is let go."""

    def __init__(self, documents: dict[str, bytes | Exception]) -> None:
        super().__init__(documents)
        self.gate = asyncio.Event()

    async def get(self, url: str) -> bytes:
        await self.gate.wait()
        return await super().get(url)


async def test_the_first_token_waits_for_the_first_keys() -> None:
    sso, fetcher = provider({JWKS_URL: key_set(jwk("rsa", "a"))})
    assert await reason(sso.authenticate(bearer(token()))) is Reason.ALLOWED
    assert fetcher.calls == [JWKS_URL]


async def test_with_a_known_key_nothing_suspends() -> None:
    sso, _ = await with_keys(jwk("rsa", "a"))
    assert isinstance(at_once(sso.authenticate(bearer(token()))), Subject)
    assert isinstance(at_once(sso.authenticate(bearer(token(sub="bob")))), Subject)


async def test_no_keys_were_ever_fetched() -> None:
    clock = Clock()
    sso, fetcher = provider({JWKS_URL: FetchFailed("refused")}, clock)
    assert await reason(sso.authenticate(bearer(token()))) is Reason.KEYS_UNAVAILABLE
    assert at_once(reason(sso.authenticate(bearer(token())))) is Reason.KEYS_UNAVAILABLE, (
        "in the cooldown nobody waits"
    )
    assert len(fetcher.calls) == 1
    clock.forward(10)
    fetcher.documents[JWKS_URL] = key_set(jwk("rsa", "a"))
    assert await reason(sso.authenticate(bearer(token()))) is Reason.ALLOWED


async def test_rotation_a_new_key_is_fetched_when_it_is_first_seen() -> None:
    clock = Clock()
    sso, fetcher = await with_keys(jwk("rsa", "a"), clock=clock)
    clock.forward(10)
    fetcher.documents[JWKS_URL] = key_set(jwk("rsa", "a"), jwk("rsa2", "b"))
    assert await reason(sso.authenticate(bearer(token("b", "rsa2")))) is Reason.ALLOWED
    assert at_once(reason(sso.authenticate(bearer(token("a"))))) is Reason.ALLOWED
    assert len(fetcher.calls) == 2


async def test_a_withdrawn_key_takes_its_remembered_tokens_with_it() -> None:
    clock = Clock()
    sso, fetcher = await with_keys(jwk("rsa", "a"), jwk("rsa2", "b"), clock=clock)
    assert at_once(reason(sso.authenticate(bearer(token("a"))))) is Reason.ALLOWED
    assert at_once(reason(sso.authenticate(bearer(token("a"))))) is Reason.ALLOWED
    clock.forward(10)
    fetcher.documents[JWKS_URL] = key_set(jwk("rsa2", "b"))
    assert sso.jwks is not None
    await sso.jwks.search("new")
    assert await reason(sso.authenticate(bearer(token("a")))) is Reason.TOKEN_INVALID
    assert at_once(reason(sso.authenticate(bearer(token("b", "rsa2"))))) is Reason.ALLOWED


async def test_a_key_replaced_under_the_same_id() -> None:
    clock = Clock()
    sso, fetcher = await with_keys(jwk("rsa", "a"), clock=clock)
    assert at_once(reason(sso.authenticate(bearer(token("a"))))) is Reason.ALLOWED
    clock.forward(10)
    fetcher.documents[JWKS_URL] = key_set(jwk("rsa2", "a"))
    assert sso.jwks is not None
    await sso.jwks.search("new")
    assert at_once(reason(sso.authenticate(bearer(token("a"))))) is Reason.TOKEN_INVALID
    assert at_once(reason(sso.authenticate(bearer(token("a", "rsa2"))))) is Reason.ALLOWED


async def test_the_same_keys_again_change_nothing() -> None:
    clock = Clock()
    sso, _ = await with_keys(jwk("rsa", "a"), clock=clock)
    assert sso.jwks is not None
    before = sso.jwks.keys
    clock.forward(10)
    await sso.jwks.search("new")
    assert sso.jwks.keys is before


@pytest.mark.parametrize(
    "document",
    [
        FetchFailed("timeout"),
        OSError("no route"),
        ValueError("odd"),
        b"",
        b"[]",
        b'"keys"',
        b'{"keys":{}}',
        b'{"keys":null}',
        b"{}",
        b'{"keys":[],"keys":[]}',
        b"<html>",
        b'{"keys":' + b"[" * 100_000,
        b"\xff",
    ],
    ids=lambda document: repr(document)[:24],
)
async def test_58_and_60_an_outage_leaves_the_known_keys_working(document: bytes | Exception) -> None:
    clock = Clock()
    sso, fetcher = await with_keys(jwk("rsa", "a"), clock=clock)
    assert sso.jwks is not None
    fetcher.documents[JWKS_URL] = document
    for _ in range(3):
        clock.forward(10)
        assert await reason(sso.authenticate(bearer(token("new")))) is Reason.TOKEN_INVALID
        assert sso.jwks.fault
        assert at_once(reason(sso.authenticate(bearer(token("a", sub=str(clock())))))) is Reason.ALLOWED
    clock.forward(10)
    fetcher.documents[JWKS_URL] = key_set(jwk("rsa", "new"))
    assert await reason(sso.authenticate(bearer(token("new")))) is Reason.ALLOWED
    assert not sso.jwks.fault


async def test_57_a_flood_of_unknown_ids_fetches_once_per_cooldown() -> None:
    clock = Clock()
    sso, fetcher = await with_keys(jwk("rsa", "a"), clock=clock)
    before = len(fetcher.calls)
    for second in range(100):
        for number in range(20):
            assert (
                await reason(sso.authenticate(bearer(token(f"x{second}-{number}", sub="x"))))
                is Reason.TOKEN_INVALID
            )
        clock.forward(1)
    assert len(fetcher.calls) - before <= 10
    assert sso.jwks is not None
    assert len(sso.jwks._unknown) <= MOST_UNKNOWN


async def test_57_one_unknown_id_does_not_fetch_again_and_again() -> None:
    clock = Clock()
    sso, fetcher = await with_keys(jwk("rsa", "a"), clock=clock)
    unknown = token("x")
    for _ in range(6):
        clock.forward(9.99)
        assert await reason(sso.authenticate(bearer(unknown))) is Reason.TOKEN_INVALID
    assert len(fetcher.calls) == 2
    clock.forward(60)
    fetcher.documents[JWKS_URL] = key_set(jwk("rsa", "x"))
    assert await reason(sso.authenticate(bearer(unknown))) is Reason.ALLOWED, "it is forgotten after a minute"


async def test_57_a_thousand_at_once_share_one_fetch() -> None:
    sso, fetcher = provider({})
    held = HeldFetcher({JWKS_URL: key_set(jwk("rsa", "a"))})
    assert sso.jwks is not None
    sso.jwks._fetcher = held
    judged = [
        asyncio.ensure_future(reason(sso.authenticate(bearer(token())))) for _ in range(MOST_WAITING + 50)
    ]
    await asyncio.sleep(0)
    refused_at_once = [each for each in judged if each.done()]
    assert len(refused_at_once) == 50, "the queue is bounded"
    assert {each.result() for each in refused_at_once} == {Reason.KEYS_UNAVAILABLE}
    held.gate.set()
    results = await asyncio.gather(*judged)
    assert results.count(Reason.ALLOWED) == MOST_WAITING
    assert held.calls == [JWKS_URL]
    assert fetcher.calls == []


async def test_one_that_gives_up_takes_nobody_with_it() -> None:
    sso, _ = provider({})
    held = HeldFetcher({JWKS_URL: key_set(jwk("rsa", "a"))})
    assert sso.jwks is not None
    sso.jwks._fetcher = held
    one = asyncio.ensure_future(reason(sso.authenticate(bearer(token()))))
    other = asyncio.ensure_future(reason(sso.authenticate(bearer(token()))))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait({one})
    held.gate.set()
    assert await other is Reason.ALLOWED
    assert one.cancelled()


async def test_nobody_waits_longer_than_the_budget() -> None:
    held = HeldFetcher({JWKS_URL: key_set(jwk("rsa", "a"))})
    jwks = Jwks(settings(algorithms=RS256, jwks_url=JWKS_URL), held, Clock(), budget=0.001)
    await jwks.search("a")
    assert not jwks.ready
    at_once(jwks.search("a"))  # the fetch still runs, and waiting for it is over
    held.gate.set()
    while not jwks.ready:
        await asyncio.sleep(0)
    assert jwks.keys.knows("a"), "what comes late is taken all the same"
    assert held.calls == [JWKS_URL]
    await jwks.close()


class Sleeper:
    """Stands in for `asyncio.sleep`; notes what was asked and wakes when told."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._wake.wait()
        self._wake.clear()

    async def wake(self, clock: Clock) -> None:
        """After the time that was asked for."""
        clock.forward(self.asked[-1])
        before = len(self.asked)
        self._wake.set()
        while len(self.asked) == before:
            await asyncio.sleep(0)


async def test_the_background_refresh_and_its_haste_after_a_failure() -> None:
    clock, sleeper = Clock(), Sleeper()
    fetcher = MemoryFetcher({JWKS_URL: key_set(jwk("rsa", "a"))})
    jwks = Jwks(
        settings(algorithms=RS256, jwks_url=JWKS_URL, refresh=600, cooldown=10), fetcher, clock, sleep=sleeper
    )
    jwks.start()
    jwks.start()
    while not sleeper.asked:
        await asyncio.sleep(0)
    assert jwks.ready
    fetcher.documents[JWKS_URL] = FetchFailed("refused")
    await sleeper.wake(clock)
    assert jwks.fault == "refused"
    assert jwks.keys.knows("a")
    fetcher.documents[JWKS_URL] = key_set(jwk("rsa2", "b"))
    await sleeper.wake(clock)
    assert not jwks.fault
    assert not jwks.keys.knows("a")
    assert sleeper.asked == [600, 10, 600]
    assert len(fetcher.calls) == 3
    await jwks.close()
    assert fetcher.closed
    assert len(asyncio.all_tasks()) == 1


async def test_closing_lets_everybody_go() -> None:
    sso, _ = provider({})
    assert sso.jwks is not None
    sso.jwks._fetcher = HeldFetcher({})
    sso.start()
    waiting = asyncio.ensure_future(reason(sso.authenticate(bearer(token()))))
    await asyncio.sleep(0)
    await sso.close()
    assert await waiting is Reason.KEYS_UNAVAILABLE
    assert len(asyncio.all_tasks()) == 1


def metadata(**changed: Any) -> bytes:
    good = {"issuer": ISSUER, "jwks_uri": JWKS_URL}
    return dumps({name: value for name, value in (good | changed).items() if value is not ...})


@pytest.mark.parametrize("address", [ISSUER, ISSUER + "/"])
async def test_discovery(address: str) -> None:
    sso, fetcher = provider(
        {DISCOVERY_URL: metadata(), JWKS_URL: key_set(jwk("rsa", "a"))}, discovery=address
    )
    assert await reason(sso.authenticate(bearer(token()))) is Reason.ALLOWED
    assert fetcher.calls == [DISCOVERY_URL, JWKS_URL]


@pytest.mark.parametrize(
    "document",
    [
        metadata(issuer=...),
        metadata(issuer="https://evil.test"),
        metadata(issuer=ISSUER + "/"),
        metadata(issuer=[ISSUER]),
        metadata(issuer={"a": 1}),
        metadata(jwks_uri=...),
        metadata(jwks_uri=7),
        metadata(jwks_uri=""),
        metadata(jwks_uri="/keys"),
        metadata(jwks_uri="file:///etc/passwd"),
        metadata(jwks_uri="ftp://idp.test/keys"),
        metadata(jwks_uri="http://idp.test/keys"),
        metadata(jwks_uri="http://localhost:8200/secrets"),
        metadata(jwks_uri="https://169.254.169.254/latest/meta-data"),
        metadata(jwks_uri="https://[fe80::1]/keys"),
        metadata(jwks_uri="https://[::ffff:169.254.169.254]/keys"),
        metadata(jwks_uri="https://0.0.0.0/keys"),
        metadata(jwks_uri="https://user:secret@idp.test/keys"),
        metadata(jwks_uri="https://idp.test/keys#x"),
        metadata(jwks_uri="https://idp.test:99999/keys"),
        metadata(jwks_uri="https://"),
        b"[]",
        b"",
    ],
    ids=lambda document: document.decode()[:90],
)
async def test_59_discovery_documents_that_lead_astray(document: bytes) -> None:
    sso, fetcher = provider({DISCOVERY_URL: document}, discovery=ISSUER)
    assert await reason(sso.authenticate(bearer(token()))) is Reason.KEYS_UNAVAILABLE
    assert fetcher.calls == [DISCOVERY_URL]
    assert sso.jwks is not None
    assert "secret" not in sso.jwks.fault


async def test_discovery_over_http_may_name_its_own_host() -> None:
    here = "http://127.0.0.1:8080"
    found_at = f"{here}/.well-known/openid-configuration"
    documents: dict[str, bytes | Exception] = {
        found_at: metadata(jwks_uri=f"{here}/keys"),
        f"{here}/keys": key_set(jwk("rsa", "a")),
    }
    sso, _ = provider(documents, discovery=here)
    assert await reason(sso.authenticate(bearer(token()))) is Reason.ALLOWED
    documents[found_at] = metadata(jwks_uri="http://127.0.0.1:8081/keys")
    other, _ = provider(documents, discovery=here)
    assert await reason(other.authenticate(bearer(token()))) is Reason.KEYS_UNAVAILABLE


async def test_keys_beyond_the_most_are_not_read() -> None:
    many = [jwk("rsa", f"k{number}") for number in range(70)]
    sso, _ = await with_keys(*many)
    assert sso.jwks is not None
    assert len(sso.jwks.keys) == 64
