"""What is charged: nothing for a refused request, or everything where compatibility is asked for."""

import pytest

from authz.quota import MAX_AMOUNT
from authz.ratelimit.headers import HeaderNames, header_names
from authz.ratelimit.limiter import RateLimiter
from authz.ratelimit.match import BadRequest
from authz.store.store import ServiceStore
from tests.contract.kit import Clock
from tests.ratelimit.kit import allowed, ask, codes, d, limiter, remaining, rules_of

FILE = """
domain: d
descriptors:
  - {key: ten, rate_limit: {unit: minute, requests_per_unit: 10, name: ten}}
  - {key: two, rate_limit: {unit: minute, requests_per_unit: 2}}
  - {key: quiet, shadow_mode: true, rate_limit: {unit: minute, requests_per_unit: 2}}
  - {key: free, rate_limit: {unlimited: true}}
"""
TEN, TWO, QUIET, FREE, NONE = (d((key, "x")) for key in ("ten", "two", "quiet", "free", "none"))
BOTH = pytest.mark.parametrize("compat", [False, True], ids=["all or nothing", "compat"])


@pytest.fixture
def strict(store: ServiceStore) -> RateLimiter:
    return limiter(store.counters, FILE)


@pytest.fixture
def compat(store: ServiceStore) -> RateLimiter:
    return limiter(store.counters, FILE, compat=True)


async def left(limits: RateLimiter, *descriptors: object) -> list[int]:
    """Asks for nothing."""
    asked = [d(*each.entries, hits=0) for each in descriptors]  # type: ignore[attr-defined]
    return remaining(await limits.decide("d", asked))


async def test_a_refused_request_charges_nothing_anywhere(strict: RateLimiter) -> None:
    assert await ask(strict, "d", TEN, TWO, QUIET, times=5) == ["kkk", "kkk", "kok", "kok", "kok"]
    assert await left(strict, TEN, TWO, QUIET) == [8, 0, 0]
    assert allowed(await ask(strict, "d", TEN, times=20)) == 8


async def test_with_compat_it_charges_every_descriptor(compat: RateLimiter) -> None:
    assert await ask(compat, "d", TEN, TWO, times=5) == ["kk", "kk", "ko", "ko", "ko"]
    assert await left(compat, TEN, TWO) == [5, 0]
    assert allowed(await ask(compat, "d", TEN, times=20)) == 5


async def test_hits_that_do_not_fit(store: ServiceStore) -> None:
    strict = limiter(store.counters, FILE)
    assert await ask(strict, "d", TEN, hits=8) == ["k"]
    refused = await strict.decide("d", [TEN], 3)
    assert (codes(refused), remaining(refused)) == ("o", [2])
    assert await ask(strict, "d", TEN, hits=2) == ["k"]

    compat = limiter(store.counters, FILE.replace("domain: d", "domain: e"), compat=True)
    assert await ask(compat, "e", TEN, hits=8) == ["k"]
    over = await compat.decide("e", [TEN], 3)
    assert (codes(over), remaining(over)) == ("o", [0])
    assert await ask(compat, "e", TEN, hits=2) == ["o"]


@BOTH
async def test_hits_of_a_descriptor_come_before_those_of_the_request(
    store: ServiceStore, compat: bool
) -> None:
    limits = limiter(store.counters, FILE, compat=compat)
    answer = await limits.decide("d", [d(("ten", "x"), hits=3), d(("ten", "y"))], 5)
    assert remaining(answer) == [7, 5]
    assert remaining(await limits.decide("d", [TEN])) == [6]


@BOTH
async def test_no_hits_look_and_charge_nothing(store: ServiceStore, compat: bool) -> None:
    limits = limiter(store.counters, FILE, compat=compat)
    for _ in range(3):
        assert await left(limits, TWO) == [2]
    await ask(limits, "d", TWO, times=2)
    assert codes(await limits.decide("d", [d(("two", "x"), hits=0)])) == "k"  # used is not over


async def test_with_compat_no_hits_see_that_it_is_over(compat: RateLimiter) -> None:
    """So a gateway may ask before a response and charge after it."""
    await ask(compat, "d", TWO, hits=5)
    assert codes(await compat.decide("d", [d(("two", "x"), hits=0)])) == "o"


@BOTH
async def test_the_same_descriptor_twice(store: ServiceStore, compat: bool) -> None:
    limits = limiter(store.counters, FILE, compat=compat)
    answer = await limits.decide("d", [TEN, TEN], 2)
    assert remaining(answer) == ([8, 6] if compat else [6, 6])
    assert codes(await limits.decide("d", [TEN, TEN], 4)) == ("ko" if compat else "oo")
    assert await left(limits, TEN) == [0 if compat else 6]


@BOTH
async def test_an_override_counts_with_the_limit_that_it_overrides(store: ServiceStore, compat: bool) -> None:
    limits = limiter(store.counters, FILE, compat=compat)
    await ask(limits, "d", TWO, times=2)
    answer = await limits.decide("d", [d(("two", "x"), limit=(5, 2))])
    assert (codes(answer), remaining(answer)) == ("k", [2])
    assert answer.statuses[0].limit is not None
    assert answer.statuses[0].limit.requests_per_unit == 5
    assert await ask(limits, "d", TWO) == ["o"]
    assert await ask(limits, "d", d(("two", "x"), limit=(1, 3))) == ["k"]  # another unit: another counter


async def test_two_limits_of_one_counter_in_a_request(strict: RateLimiter) -> None:
    wide = d(("two", "x"), limit=(5, 2))
    answer = await strict.decide("d", [wide, TWO])
    assert (codes(answer), remaining(answer)) == ("kk", [3, 0])
    assert codes(await strict.decide("d", [wide, TWO])) == "oo"
    assert codes(await strict.decide("d", [d(("quiet", "x"), limit=(3, 2)), QUIET])) == "kk"
    assert codes(await strict.decide("d", [d(("quiet", "x"), limit=(3, 2)), QUIET])) == "ok"


@BOTH
async def test_descriptors_without_a_limit_need_no_store(store: ServiceStore, compat: bool) -> None:
    limits = limiter(None, FILE, compat=compat)  # type: ignore[arg-type]
    assert codes(await limits.decide("d", [FREE, NONE])) == "kk"
    answer = await limiter(store.counters, FILE, compat=compat).decide("d", [NONE, TWO, FREE])
    assert remaining(answer) == [0, 1, 2**32 - 1]


@BOTH
async def test_windows_begin_at_whole_units(store: ServiceStore, clock: Clock, compat: bool) -> None:
    limits = limiter(store.counters, FILE, compat=compat)
    clock.pass_(59_001)
    assert await ask(limits, "d", TWO, times=3) == ["k", "k", "o"]
    answer = await limits.decide("d", [TWO])
    assert answer.statuses[0].reset_s == 1
    clock.pass_(999)
    assert await ask(limits, "d", TWO) == ["k"]


@BOTH
async def test_any_number_of_hits_is_taken(store: ServiceStore, compat: bool) -> None:
    limits = limiter(store.counters, FILE, compat=compat)
    huge = d(("ten", "x"), hits=2**64 - 1)
    assert await ask(limits, "d", huge, huge, times=3) == ["oo"] * 3
    assert await left(limits, TEN) == [0 if compat else 10]
    assert MAX_AMOUNT < 2**64 - 1


@pytest.mark.parametrize(
    ("domain", "descriptors"), [("", [TEN]), ("d", [])], ids=["no domain", "no descriptor"]
)
async def test_a_request_that_asks_nothing(
    strict: RateLimiter, domain: str, descriptors: list[object]
) -> None:
    with pytest.raises(BadRequest, match="must not be empty"):
        await strict.decide(domain, descriptors)  # type: ignore[arg-type]


def test_a_decision_on_an_embedded_store_never_suspends(store: ServiceStore) -> None:
    with pytest.raises(StopIteration) as ended:
        limiter(store.counters, FILE).decide("d", [TEN, TWO]).send(None)
    assert codes(ended.value.value) == "kk"


async def test_counters_go_on_under_other_rules(strict: RateLimiter) -> None:
    await ask(strict, "d", TEN, times=4)
    strict.rules = rules_of(FILE.replace("requests_per_unit: 10", "requests_per_unit: 6"))
    assert allowed(await ask(strict, "d", TEN, times=4)) == 2


HEADERS = [
    # descriptors, what is told of
    ([TEN, TWO], ("2", "1", "60")),
    ([TEN, NONE, FREE], ("10", "9", "60")),
    ([d(("two", "x"), hits=3), TEN], ("2", "2", "60")),
    ([d(("quiet", "x"), hits=5), TWO], ("2", "0", "60")),
    ([NONE, FREE], None),
]


@pytest.mark.parametrize(
    ("descriptors", "told"), HEADERS, ids=["nearest", "limited", "over", "shadow", "none"]
)
async def test_headers_tell_of_the_nearest_limit(
    store: ServiceStore, descriptors: list[object], told: tuple[str, ...] | None
) -> None:
    limits = limiter(store.counters, FILE, headers=HeaderNames())
    answer = await limits.decide("d", descriptors)  # type: ignore[arg-type]
    names = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
    assert tuple(answer.headers) == (tuple(zip(names, told, strict=True)) if told else ())


def test_headers_are_asked_for_by_the_environment() -> None:
    assert header_names({"LIMIT_LIMIT_HEADER": "x"}) is None
    assert header_names({"LIMIT_RESPONSE_HEADERS_ENABLED": "true"}) == HeaderNames()
    assert header_names(
        {
            "LIMIT_RESPONSE_HEADERS_ENABLED": "1",
            "LIMIT_LIMIT_HEADER": "a",
            "LIMIT_REMAINING_HEADER": "b",
            "LIMIT_RESET_HEADER": "c",
        }
    ) == HeaderNames("a", "b", "c")
