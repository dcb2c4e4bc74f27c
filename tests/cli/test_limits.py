"""Limits by command: how they stand, and who has more or less of them."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from authz.config import load
from authz.limit.partition import Partition, counter_key, read_key
from authz.limit.planner import hold_of
from authz.quota import NANO
from authz.ruleset import policy_of
from authz.store.open import open_store, open_view, wall_clock
from authz.store.protocols import Reserved
from tests.cli.conftest import Authz


def test_the_limits_of_the_config(authz: Authz) -> None:
    rows = {row["name"]: row for row in authz("limits", "list", "--json").json}
    assert rows["key-rpm"] == {
        "name": "key-rpm",
        "unit": "requests",
        "quota": 60,
        "window": "1m",
        "counted_by": ["key"],
        "overrides": 0,
        "mode": "live",
        "counters": 0,
        "routes": ["inference"],
    }
    assert rows["user-cost"]["quota"] == 5
    assert rows["user-cost"]["routes"] == []


Spend = Callable[[str, Partition, int], None]


@pytest.fixture
def spend(config: Path) -> Spend:
    """Does what the service does: reserves, settles, writes it down."""

    async def reserve(name: str, partition: Partition, amount: int) -> None:
        loaded = load(config)
        now = wall_clock()
        store = open_store(loaded.store.url, clock=lambda: now)
        await store.start()
        policy = policy_of(name, loaded.config.limits[name])
        hold = hold_of(policy, partition, policy.quota.amount, needed=amount, now=now)
        reservation = f"rsv-{partition}"
        assert isinstance(await store.counters.reserve(reservation, "edge", [hold], 60_000), Reserved)
        await store.counters.settle(reservation, "edge", {})
        await store.close()

    return lambda name, partition, amount: asyncio.run(reserve(name, partition, amount))


def test_show_tells_what_is_left_to_whom(authz: Authz, spend: Spend) -> None:
    spend("team-month", (("team", "nlp"),), 20_000_000)
    spend("team-month", (("team", "vision"),), 45_000_000)
    shown = authz("limits", "show", "team-month", "--json").json
    assert [(row["for"], row["quota"], row["left"]) for row in shown["levels"]] == [
        ({"team": "vision"}, 50_000_000, 5_000_000),
        ({"team": "nlp"}, 50_000_000, 30_000_000),
    ]
    assert authz("limits", "list", "--json").json[1]["counters"] == 2


def test_on_a_terminal_what_is_left_stands_apart_and_waits_are_in_words(authz: Authz, spend: Spend) -> None:
    spend("team-month", (("team", "nlp"),), 20_000_000)
    authz("limits", "override", "team-month", "--team", "nlp", "100M")
    *_, given, left = authz("limits", "show", "team-month", terminal=True).out.split("\n\n")
    assert given.startswith("id ")
    assert left.startswith("for ")
    assert re.search(r"\d+d \d+h *$|\d+[dhms] *$", left.rstrip("\n"))


def test_the_list_breaks_no_word_where_it_is_narrow(authz: Authz) -> None:
    told = authz("limits", "list", terminal=True, columns=56).out
    assert len(told.splitlines()) == 2 + 4
    assert "team-month" in told


def test_a_list_of_adjustments_breaks_no_word_where_it_is_narrow(authz: Authz) -> None:
    made = authz(
        "limits", "grant", "team-month", "--team", "natural-language", "1M", "--until", "7d", "--json"
    )
    told = authz("limits", "adjustments", "list", terminal=True, columns=80).out
    assert made.json["id"] in told
    assert len(told.splitlines()) == 3


def test_an_override_and_a_grant_are_in_the_figures(authz: Authz, spend: Spend) -> None:
    spend("team-month", (("team", "nlp"),), 20_000_000)
    override = authz("limits", "override", "team-month", "--team", "nlp", "100M", "--json").json
    grant = authz(
        *("limits", "grant", "team-month", "--team", "nlp", "1M", "--until", "7d", "--json"),
    ).json
    assert (override["for"], override["quota"], override["grant"]) == ({"team": "nlp"}, 100_000_000, None)
    assert (grant["quota"], grant["grant"], grant["until"] is not None) == (None, 1_000_000, True)
    (row,) = authz("limits", "show", "team-month", "--json").json["levels"]
    assert (row["quota"], row["left"]) == (101_000_000, 81_000_000)
    listed = authz("limits", "adjustments", "list", "--limit", "team-month", "--json").json
    assert {each["id"] for each in listed} == {override["id"], grant["id"]}
    assert authz("limits", "adjustments", "remove", override["id"]).code == 0
    (row,) = authz("limits", "show", "team-month", "--json").json["levels"]
    assert row["quota"] == 51_000_000


def test_money_that_is_settled_held_and_granted_stands_apart(
    authz: Authz, config: Path, spend: Spend
) -> None:
    partition = (("user", "alice"), ("model", "llama3"))
    spend("user-cost", partition, 3 * NANO)

    async def begin() -> None:
        loaded, now = load(config), wall_clock()
        store = open_store(loaded.store.url, clock=lambda: now)
        await store.start()
        policy = policy_of("user-cost", loaded.config.limits["user-cost"])
        hold = hold_of(policy, partition, policy.quota.amount, needed=NANO // 2, now=now)
        assert isinstance(await store.counters.reserve("rsv-running", "edge", [hold], 3_600_000), Reserved)
        await store.close()

    asyncio.run(begin())
    granted = ("limits", "grant", "user-cost", "--user", "alice", "2.5", "--until", "7d")
    assert authz(*granted).code == 0
    (row,) = authz("limits", "show", "user-cost", "--json").json["levels"]
    assert (row["quota"], row["settled"], row["held"], row["left"]) == (7.5, 3.0, 0.5, 4.0)
    assert row["for"] == {"user": "alice", "model": "llama3"}


def test_cost_is_written_and_shown_in_the_currency(authz: Authz) -> None:
    made = authz(
        *("limits", "override", "user-cost", "--user", "alice", "--model", "llama3", "2.5", "--json"),
    ).json
    assert (made["quota"], made["for"]) == (2.5, {"user": "alice", "model": "llama3"})


def test_the_store_holds_what_the_service_reads(authz: Authz, config: Path) -> None:
    authz("limits", "override", "user-cost", "--model", "llama3", "--user", "alice", "2.5")
    view = open_view(load(config).store.url)
    (adjustment,) = view.registry.adjustments()
    assert adjustment.partition == (("user", "alice"), ("model", "llama3"))
    assert adjustment.override == 2_500_000_000 == 5 * NANO // 2


def test_a_key_may_be_named_as_it_is_displayed(authz: Authz) -> None:
    key = authz("keys", "create", "--user", "alice", "--json").json
    made = authz("limits", "override", "key-rpm", "--key-id", key["display"], "600", "--json").json
    assert made["for"] == {"key": key["id"]}


def test_a_limit_without_partitions_needs_nobody(authz: Authz) -> None:
    assert authz("limits", "override", "all-day", "5M", "--json").json["for"] == {}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["override", "key-rmp", "5", "--user", "a"], 1, "Did you mean 'key-rpm'?"),
        (["override", "team-month", "5"], 2, "counts by team"),
        (["override", "team-month", "5", "--user", "a"], 2, "does not count by user"),
        (["override", "team-month", "many", "--team", "a"], 2, "is not an amount"),
        (["override", "user-cost", "0.0000000001", "--user", "a"], 2, "to 9 decimals"),
        (["override", "key-rpm", "1.5", "--key-id", "key_x"], 2, "whole number of requests"),
        (["override", "key-rpm", "5", "--key-id", "nope"], 1, "there is no key"),
        (["override", "team-month", "5", "--for", "team"], 2, "is not NAME=VALUE"),
        (["grant", "team-month", "1M", "--team", "a"], 2, "--until"),
        (["grant", "team-month", "0", "--team", "a", "--until", "7d"], 2, "at least 1"),
        (["grant", "team-month", "1M", "--team", "a", "--until", "2001-01-01"], 2, "has passed"),
        (["grant", "team-month", "1M", "--team", "a", "--until", "never"], 2, "a grant has an end"),
        (["adjustments", "remove", "adj_x"], 1, "there is no adjustment"),
        (["show", "nope"], 1, "there is no limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(authz: Authz, arguments: Sequence[str], code: int, message: str) -> None:
    ran = authz("limits", *arguments)
    assert ran.code == code
    assert message in ran.err
    assert authz("limits", "adjustments", "list", "--json").json == []


def test_an_adjustment_of_a_limit_that_is_gone_is_said_to_be_unused(authz: Authz, config: Path) -> None:
    authz("limits", "override", "user-cost", "--user", "alice", "1")
    text = config.read_text()
    config.write_text("\n".join(line for line in text.splitlines() if "user-cost" not in line))
    assert authz("limits", "adjustments", "list", "--json").json[0]["status"].startswith("unused")


def test_with_a_store_in_memory_the_list_has_no_counters(authz: Authz, config: Path) -> None:
    config.write_text(config.read_text().replace("sqlite:authz.db", "memory://"))
    assert authz("limits", "list", "--json").json[0]["counters"] is None


def test_shown_figures_are_those_of_the_policy(authz: Authz) -> None:
    shown: Mapping[str, object] = authz("limits", "show", "key-rpm", "--json").json
    assert (shown["algorithm"], shown["window"], shown["levels"]) == ("gcra", "1m", [])


DIMENSIONS = ("key", "user")


@pytest.mark.parametrize("values", [("x", ""), ("a|2:bc", "ü:|1:"), ("|", ":"), ("1:x|", "0:")])
def test_83_a_counter_is_read_back_as_it_was_named(values: tuple[str, str]) -> None:
    partition = tuple(zip(DIMENSIONS, values, strict=True))
    assert read_key("a", DIMENSIONS, counter_key("a", partition)) == partition


@pytest.mark.parametrize(
    "counter", ["a", "ab|1:x|1:y", "a|1:x", "a|1:x|1:y|1:z", "b|1:x|1:y", "a|x:x|1:y", ""]
)
def test_83_a_counter_of_another_limit_is_not_read(counter: str) -> None:
    assert read_key("a", DIMENSIONS, counter) is None
