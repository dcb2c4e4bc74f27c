from typing import Any, NamedTuple

import pytest

from authz.decision import Header, Limit
from authz.limit.headers import Shown, rate_headers, shown, spell_reset
from authz.store.protocols import Level
from tests.transport.structured_fields import parse_list

State = tuple[Limit, Level]


class Planned(NamedTuple):
    shown: Shown | None


def state(policy: str = "rpm", unit: str = "requests", **changes: Any) -> State:
    values: dict[str, Any] = {
        "partition": "key=key_1",
        "quota": 60,
        "window": "60s",
        "window_seconds": 60,
        "needed": 1,
        "shadow": False,
    }
    standing: dict[str, Any] = {"remaining": 59, "reset_ms": 1000}
    for name in changes.keys() & standing.keys():
        standing[name] = changes.pop(name)
    return Limit(policy=policy, unit=unit, **values | changes), Level(**standing)


def headers_of(
    *states: State, denied: tuple[int, ...] = (), wait_ms: int | None = None
) -> tuple[Header, ...]:
    planned = [Planned(shown(limit)) for limit, _ in states]
    return rate_headers(planned, [level for _, level in states], denied=denied, wait_ms=wait_ms)


def test_both_fields_are_structured_and_speak_of_every_live_policy() -> None:
    headers = dict(
        headers_of(
            state(),
            state("day", "tokens", quota=10_000, window_seconds=86_400, remaining=7_000, reset_ms=3600200),
            state("four", "concurrency", quota=4, window_seconds=0, remaining=3, reset_ms=5000),
            state("tried", "tokens", shadow=True),
            state("all", "requests", partition="", quota=600, remaining=500, reset_ms=3000),
        )
    )
    policies = parse_list(headers["ratelimit-policy"])
    levels = parse_list(headers["ratelimit"])
    assert [name for name, _ in policies] == ["rpm", "day", "four", "all"] == [name for name, _ in levels]
    key = policies[0][1].pop("pk")
    assert isinstance(key, bytes)
    assert len(key) == 9
    assert policies[0][1] == {"q": 60, "w": 60}
    assert {k: v for k, v in policies[1][1].items() if k != "pk"} == {
        "q": 10_000,
        "qu": "tokens",
        "w": 86_400,
    }
    assert {k: v for k, v in policies[2][1].items() if k != "pk"} == {"q": 4, "qu": "concurrent-requests"}
    assert policies[3][1] == {"q": 600, "w": 60}, "a global policy has no partition key"
    assert levels[0][1] == {"r": 59, "t": 1, "pk": key}
    assert levels[1][1]["t"] == 3601
    assert "t" not in levels[2][1]


def test_openai_headers_show_the_tightest_policy_of_their_unit() -> None:
    headers = dict(
        headers_of(
            state(remaining=5, reset_ms=300000),
            state("b", remaining=3, quota=10, reset_ms=120),
            state("c", "tokens", remaining=-4, quota=100, reset_ms=86400000),
            state("d", "cost", remaining=1),
        )
    )
    assert headers["x-ratelimit-limit-requests"] == "10"
    assert headers["x-ratelimit-remaining-requests"] == "3"
    assert headers["x-ratelimit-reset-requests"] == "120ms"
    assert headers["x-ratelimit-limit-tokens"] == "100"
    assert headers["x-ratelimit-remaining-tokens"] == "0", "debt shows as nothing left"
    assert headers["x-ratelimit-reset-tokens"] == "24h0m0s"


def test_without_a_live_policy_there_is_nothing_to_say() -> None:
    assert headers_of() == ()
    assert headers_of(state(shadow=True)) == ()


def test_what_is_exhausted_says_no_later_than_retry_after() -> None:
    headers = dict(
        headers_of(state(remaining=0, reset_ms=60000), state("b", reset_ms=60000), denied=(0,), wait_ms=900)
    )
    levels = dict(parse_list(headers["ratelimit"]))
    assert levels["rpm"]["t"] == 1
    assert levels["b"]["t"] == 60


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "käse", "tab\there", 'key:tokens=5/day "x"', "50%", "a\r\nx-evil: 1"]
)
def test_any_policy_name_makes_a_valid_string(name: str) -> None:
    headers = dict(headers_of(state(name)))
    assert len(parse_list(headers["ratelimit"])) == 1
    assert headers["ratelimit"].isascii()
    assert headers["ratelimit"].isprintable()


def test_numbers_stay_within_what_an_integer_may_hold() -> None:
    headers = dict(headers_of(state(quota=2**53 - 1, remaining=2**53 - 1)))
    assert parse_list(headers["ratelimit-policy"])[0][1]["q"] == 999_999_999_999_999
    assert parse_list(headers["ratelimit"])[0][1]["r"] == 999_999_999_999_999


def test_partition_keys_differ_and_hide_the_partition() -> None:
    one = dict(headers_of(state(partition="user=alice")))["ratelimit"]
    two = dict(headers_of(state(partition="user=bob")))["ratelimit"]
    assert one != two
    assert "alice" not in one


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (1, "1ms"),
        (120, "120ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1001, "2s"),
        (1010, "2s"),
        (59_500, "1m0s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (86_400_000 * 30, "720h0m0s"),
    ],
)
def test_resets_are_spelled_as_openai_does(milliseconds: int, text: str) -> None:
    assert spell_reset(milliseconds) == text


@pytest.mark.parametrize(
    "bad", ["", "token;q=1", '"a";q', '"a";q=1,', '"a";q=1;q=2', '"a" "b"', '"a";pk=:?:', '"a";r=1.5']
)
def test_the_reader_of_this_test_is_strict(bad: str) -> None:
    with pytest.raises(ValueError, match=r"no |twice"):
        parse_list(bad)
