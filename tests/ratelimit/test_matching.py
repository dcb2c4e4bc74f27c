"""Which limit a descriptor meets: its very value, a wildcard, the key alone; as deep as it has entries."""

import pytest

from authz.ratelimit.match import BadRequest, counter_of, match_all
from tests.ratelimit.kit import d, rules_of

FILE = """
domain: d
descriptors:
  - key: path
    value: /a/b
    rate_limit: {unit: minute, requests_per_unit: 1, name: exact}
  - key: path
    value: /a/*
    rate_limit: {unit: minute, requests_per_unit: 2, name: first wildcard}
  - key: path
    value: /a/c*
    rate_limit: {unit: minute, requests_per_unit: 3, name: later wildcard}
  - key: path
    rate_limit: {unit: minute, requests_per_unit: 4, name: key}
    descriptors:
      - key: user
        value: "7"
        rate_limit: {unit: hour, requests_per_unit: 5, name: nested}
      - key: user
        value: a*
        rate_limit: {unit: hour, requests_per_unit: 6, name: nested wildcard}
  - key: port
    value: 0080
    rate_limit: {unit: minute, requests_per_unit: 7, name: zeros}
  - key: port
    value: 1.10
    rate_limit: {unit: minute, requests_per_unit: 8, name: decimal}
  - key: port
    value: 443
    rate_limit: {unit: minute, requests_per_unit: 9, name: number}
  - key: port
    value: true
    rate_limit: {unit: minute, requests_per_unit: 9, name: truth}
  - key: any
    value: "*"
    rate_limit: {unit: minute, requests_per_unit: 10, name: all values}
  - key: route
    value: /api/*/action
    rate_limit: {unit: minute, requests_per_unit: 12, name: middle}
  - key: route
    value: /api/*/resource/*/act*
    rate_limit: {unit: minute, requests_per_unit: 13, name: several}
  - key: route
    value: "aa*aa"
    rate_limit: {unit: minute, requests_per_unit: 14, name: both ends}
  - key: gate
    descriptors:
      - key: user
        rate_limit: {unit: minute, requests_per_unit: 11, name: behind}
"""


@pytest.mark.parametrize(
    ("descriptor", "name"),
    [
        pytest.param(d(("path", "/a/b")), "exact", id="its very value"),
        pytest.param(d(("path", "/a/x")), "first wildcard", id="a wildcard"),
        pytest.param(d(("path", "/a/cd")), "first wildcard", id="wildcards in the order of the file"),
        pytest.param(d(("path", "/a/")), "first wildcard", id="a wildcard for nothing"),
        pytest.param(d(("path", "/a/*")), "first wildcard", id="a star in the request"),
        pytest.param(d(("path", "/b")), "key", id="the key alone"),
        pytest.param(d(("path", "")), "key", id="no value"),
        pytest.param(d(("path", "/b"), ("user", "7")), "nested", id="nested"),
        pytest.param(d(("path", "/b"), ("user", "ab")), "nested wildcard", id="nested wildcard"),
        pytest.param(d(("path", "/b"), ("user", "8")), None, id="nested, no such value"),
        pytest.param(d(("path", "/a/b"), ("user", "7")), None, id="the most specific has nothing nested"),
        pytest.param(d(("path", "/b"), ("user", "7"), ("x", "y")), None, id="deeper than the file"),
        pytest.param(d(("user", "7")), None, id="not at this level"),
        pytest.param(d(("port", "0080")), "zeros", id="a number with zeros"),
        pytest.param(d(("port", "80")), None, id="that number without them"),
        pytest.param(d(("port", "1.10")), "decimal", id="a decimal as it is written"),
        pytest.param(d(("port", "443")), "number", id="a number"),
        pytest.param(d(("port", "true")), "truth", id="a word of YAML"),
        pytest.param(d(("any", "")), "all values", id="a star alone, no value"),
        pytest.param(d(("any", "x")), "all values", id="a star alone"),
        pytest.param(d(("route", "/api/7/action")), "middle", id="a star in the middle"),
        pytest.param(d(("route", "/api//action")), "middle", id="a star in the middle for nothing"),
        pytest.param(d(("route", "/api/action")), None, id="a star in the middle, too short"),
        pytest.param(d(("route", "/api/7/other")), None, id="a star in the middle, another end"),
        pytest.param(d(("route", "/api/v1/resource/7/actor")), "several", id="several stars"),
        pytest.param(d(("route", "/api/resource/7/actor")), None, id="several stars, one missing"),
        pytest.param(d(("route", "/api/v1/act/resource/7")), None, id="several stars, another order"),
        pytest.param(d(("route", "aaa")), None, id="no character twice"),
        pytest.param(d(("route", "aaaa")), "both ends", id="both ends and nothing between"),
        pytest.param(d(("gate", "x")), None, id="a level without a limit"),
        pytest.param(d(("gate", "x"), ("user", "u")), "behind", id="behind a level without a limit"),
        pytest.param(d(), None, id="no entries"),
    ],
)
def test_the_limit(descriptor: object, name: str | None) -> None:
    (found,) = match_all(rules_of(FILE), "d", [descriptor])  # type: ignore[list-item]
    assert (found.limit.name if found is not None else None) == name


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [
        ("second", 1),
        ("Minute", 60),
        ("HOUR", 3_600),
        ("day", 86_400),
        ("week", 604_800),
        ("month", 2_592_000),
        ("year", 31_536_000),
    ],
)
def test_units(unit: str, seconds: int) -> None:
    rules = rules_of(
        f"domain: d\ndescriptors: [{{key: k, rate_limit: {{unit: {unit}, requests_per_unit: 1}}}}]"
    )
    (found,) = match_all(rules, "d", [d(("k", ""))])
    assert found is not None
    assert found.limit.period is not None
    assert found.limit.period.seconds == seconds


SHARED = """
domain: d
descriptors:
  - key: files
    value: files/*
    share_threshold: true
    rate_limit: {unit: minute, requests_per_unit: 2}
    descriptors:
      - key: user
        rate_limit: {unit: minute, requests_per_unit: 3}
  - key: files
    value: apart/*
    rate_limit: {unit: minute, requests_per_unit: 2}
"""


def test_values_share_a_threshold_where_that_is_asked_for() -> None:
    asked = [
        d(("files", "files/a")),
        d(("files", "files/b")),
        d(("files", "files/a"), ("user", "u")),
        d(("files", "files/b"), ("user", "u")),
        d(("files", "files/b"), ("user", "v")),
        d(("files", "apart/a")),
        d(("files", "apart/b")),
    ]
    found = match_all(rules_of(SHARED), "d", asked)
    counters = [counter_of("d", each.counted, "minute") for each in found if each is not None]
    assert [counters.index(counter) for counter in counters] == [0, 0, 2, 2, 4, 5, 6]


def test_an_override_is_the_limit_whatever_the_file_says() -> None:
    found = match_all(
        rules_of(FILE), "d", [d(("path", "/a/b"), limit=(70, 3)), d(("no", "such"), limit=(1, 7))]
    )
    limits = [each.limit for each in found if each is not None]
    assert [(limit.requests_per_unit, limit.period.name) for limit in limits if limit.period] == [
        (70, "hour"),
        (1, "week"),
    ]


def test_an_override_needs_a_unit_and_a_domain() -> None:
    with pytest.raises(BadRequest, match="unit"):
        match_all(rules_of(FILE), "d", [d(("path", "/a/b"), limit=(70, 0))])
    assert match_all(rules_of(FILE), "other", [d(("path", "/a/b"), limit=(70, 3))]) == [None]


REPLACING = """
domain: d
descriptors:
  - {key: a, rate_limit: {unit: minute, requests_per_unit: 1, name: a}}
  - {key: b, rate_limit: {unit: minute, requests_per_unit: 2, name: b, replaces: [{name: a}]}}
  - {key: c, rate_limit: {unlimited: true, name: c, replaces: [{name: b}, {name: a}]}}
  - {key: e, rate_limit: {unit: minute, requests_per_unit: 4, replaces: [{name: c}]}}
"""


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        ("ab", "-b"),
        ("ba", "b-"),
        ("abc", "--c"),
        ("a", "a"),
        ("aa", "aa"),
        pytest.param("ce", "ce", id="what is unlimited stays so"),
    ],
)
def test_what_is_replaced_applies_not(keys: str, left: str) -> None:
    found = match_all(rules_of(REPLACING), "d", [d((key, "x")) for key in keys])
    assert "".join("-" if each is None else each.limit.name or "e" for each in found) == left


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("d", [("a", "bc")]), ("d", [("ab", "c")]), id="attack 83: key and value"),
        pytest.param(
            ("d", [("a", "b"), ("c", "d")]), ("d", [("a", "b|1:c1:d")]), id="attack 83: an entry in a value"
        ),
        pytest.param(("d", [("a", "b")]), ("d|", [("a", "b")]), id="attack 83: domains"),
    ],
)
def test_counters_never_meet(
    one: tuple[str, list[tuple[str, str]]], other: tuple[str, list[tuple[str, str]]]
) -> None:
    assert counter_of(*one, "minute") != counter_of(*other, "minute")
    assert counter_of(*one, "minute") != counter_of(*one, "hour")


def test_no_counter_is_named_by_what_a_client_sent() -> None:
    name = counter_of("d", [("authorization", "Bearer sk-secret" * 1000)], "minute")
    assert "secret" not in name
    assert len(name) < 64
