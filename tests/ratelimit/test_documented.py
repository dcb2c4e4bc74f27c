"""The documented examples give the documented answers."""

import pytest

from authz.ratelimit.limiter import UNLIMITED
from authz.store.store import ServiceStore
from tests.contract.kit import Clock
from tests.ratelimit.kit import allowed, ask, d, documented, limiter

BOTH = pytest.mark.parametrize("compat", [False, True], ids=["all or nothing", "compat"])

HOW_MANY = [
    # domain, descriptor, requests of the window that are let through (of 2 more than that), seconds to its end
    ("mongo_cps", d(("database", "users")), 500, 1),
    ("mongo_cps", d(("database", "default")), 500, 1),
    ("messaging", d(("message_type", "marketing"), ("to_number", "2061111111")), 5, 86_400),
    ("messaging", d(("to_number", "2061111111")), 100, 86_400),
    ("edge_proxy_per_ip", d(("remote_address", "50.0.0.1")), 10, 1),
    ("edge_proxy_per_ip", d(("remote_address", "50.0.0.5")), 0, 1),
    ("example4_nested", d(("key", "value"), ("subkey", "subvalue")), 300, 1),
    ("internal", d(("azure", "x")), 100, 60),
    ("example6", d(("service", "auth-service"), ("user", "user-b")), 20, 1),
    ("example7", d(("key_1", "value_1"), ("user", "bkthomps")), 5, 1),
    ("example7", d(("key_2", "value_2"), ("user", "bkthomps")), 10, 1),
    ("example8", d(("key1", "unspecified_value")), 10, 60),
    ("example8", d(("key1", "value1")), 20, 60),
    ("example9", d(("key1", "value1")), 20, 60),
    ("example9", d(("path", "/api/user-id/action")), 20, 60),
    ("example9", d(("route", "/api/v2/resource/456/action")), 20, 60),
    ("example10", d(("route", "web"), ("http_method", "POST"), ("subject_id", "456")), 60, 60),
    ("example10_wildcard", d(("user", "alice"), ("action", "readfile"), ("resource", "documents")), 100, 60),
    ("example11", d(("files", "files/a.pdf")), 10, 3600),
    ("example11_metrics", d(("route", "api/v1"), ("method", "GET")), 60, 60),
    ("rl", d(("foo", "foo"), ("baz", "not-so-shady")), 1, 1),
    ("rl", d(("source_cluster", "proxy"), ("destination_cluster", "mock")), 1, 60),
    ("rl", d(("foo", "foo")), 2, 60),
    ("rl", d(("foo", "foo"), ("bar", "bar")), 3, 60),
    ("rl", d(("foo", "foo"), ("bar", "banned")), 0, 60),
    ("rl", d(("foo", "foo"), ("baz", "x")), 1, 1),
]


@BOTH
@pytest.mark.parametrize(
    ("domain", "descriptor", "most", "seconds"),
    HOW_MANY,
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_so_many_are_let_through(
    store: ServiceStore, clock: Clock, compat: bool, domain: str, descriptor: object, most: int, seconds: int
) -> None:
    limits = limiter(store.counters, documented(), compat=compat)
    first = (await limits.decide(domain, [descriptor])).statuses[0]  # type: ignore[list-item]
    assert first.limit is not None
    assert (first.limit.requests_per_unit, first.reset_s, first.remaining) == (
        most,
        seconds,
        max(0, most - 1),
    )
    answers = await ask(limits, domain, descriptor, times=most + 1)  # type: ignore[arg-type]
    assert allowed(answers) == max(0, most - 1)
    clock.pass_(seconds * 1000)
    assert await ask(limits, domain, descriptor) == ["k" if most else "o"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("domain", "descriptor"),
    [
        pytest.param("example4", d(("key", "value"), ("subkey", "subvalue")), id="more entries than levels"),
        pytest.param("messaging", d(("message_type", "marketing")), id="a level without a limit"),
        pytest.param("mongo_cps", d(("database", "other")), id="no such value"),
        pytest.param("mongo_cps", d(("Database", "users")), id="case matters"),
        pytest.param("nowhere", d(("database", "users")), id="no such domain"),
        pytest.param("example9", d(("key1", "other")), id="no wildcard meets it"),
        pytest.param("example9", d(("path", "/api/123/other")), id="another end than the wildcard's"),
    ],
)
async def test_no_limit_is_met(store: ServiceStore, domain: str, descriptor: object) -> None:
    answer = await limiter(store.counters, documented()).decide(domain, [descriptor])  # type: ignore[list-item]
    assert not answer.over
    assert [(s.over, s.limit, s.remaining, s.reset_s) for s in answer.statuses] == [(False, None, 0, 0)]


async def test_each_number_has_a_limit_of_its_own(store: ServiceStore) -> None:
    limits = limiter(store.counters, documented())
    for number in ("2061111111", "2062222222"):
        marketing = d(("message_type", "marketing"), ("to_number", number))
        assert allowed(await ask(limits, "messaging", marketing, times=7)) == 5


async def test_both_rules_hold_for_a_request_of_two_descriptors(store: ServiceStore) -> None:
    limits = limiter(store.counters, documented())
    number = ("to_number", "2061111111")
    answers = await ask(limits, "messaging", d(("message_type", "marketing"), number), d(number), times=6)
    assert answers == ["kk"] * 5 + ["ok"]


async def test_unlimited_says_so_and_counts_nothing(store: ServiceStore) -> None:
    answer = await limiter(store.counters, documented()).decide("internal", [d(("ldap", "x"))], 1_000_000)
    status = answer.statuses[0]
    assert (status.over, status.limit, status.remaining) == (False, None, UNLIMITED)


@BOTH
async def test_shadow_mode_counts_and_never_refuses(store: ServiceStore, compat: bool) -> None:
    limits = limiter(store.counters, documented(), compat=compat)
    user_a = d(("service", "auth-service"), ("user", "user-a"))
    left = [(await limits.decide("example6", [user_a])).statuses[0] for _ in range(12)]
    assert [status.over for status in left] == [False] * 12
    assert [status.remaining for status in left] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0]


@BOTH
async def test_what_is_replaced_is_not_charged(store: ServiceStore, compat: bool) -> None:
    limits = limiter(store.counters, documented(), compat=compat)
    user = ("user", "bkthomps")
    first, second = d(("key_1", "value_1"), user), d(("key_2", "value_2"), user)
    assert allowed(await ask(limits, "example7", first, second, times=12)) == 10
    assert allowed(await ask(limits, "example7", first, times=12)) == 5


async def test_values_of_a_wildcard_are_counted_apart(store: ServiceStore) -> None:
    limits = limiter(store.counters, documented())
    for value in ("value1", "value2"):
        assert allowed(await ask(limits, "example9", d(("key1", value)), times=22)) == 20


async def test_values_of_a_shared_wildcard_are_counted_together(store: ServiceStore) -> None:
    limits = limiter(store.counters, documented())
    for name in ("files/a.pdf", "files/b.csv"):
        assert allowed(await ask(limits, "example11", d(("files", name)), times=5)) == 5
    assert await ask(limits, "example11", d(("files", "files/c.txt"))) == ["o"]
    for name in ("files_no_share/a.pdf", "files_no_share/b.csv"):
        assert allowed(await ask(limits, "example11", d(("files_no_share", name)), times=12)) == 10


async def test_the_demonstration(store: ServiceStore) -> None:
    limits = limiter(store.counters, documented())
    shady = d(("foo", "foo"), ("baz", "shady"))
    assert allowed(await ask(limits, "rl", shady, times=4)) == 4
    unlimited = await limits.decide("rl", [d(("qux", "x")), d(("foo", "foo"), ("bay", "x"))])
    assert [status.remaining for status in unlimited.statuses] == [UNLIMITED, UNLIMITED]
