"""The parts of settlement by themselves: charge, classes, calibration, thresholds, matching, names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.ledger.calibration import ENOUGH, Calibration
from authz.ledger.charge import charges, cost_of
from authz.ledger.classify import classify
from authz.ledger.line import Line
from authz.ledger.matching import Matching
from authz.ledger.naming import name_of
from authz.ledger.thresholds import Reached, Thresholds
from authz.limit.partition import counter_key
from authz.limit.policy import Policy
from authz.quota import MAX_AMOUNT, Unit, parse_quota
from authz.report import Report
from authz.store.protocols import Hold, Kind, Level
from authz.store.records import Facts, Note, Price, Source
from authz.usage import Usage
from authz.usage_dialect import MOST_TOKENS

# --- charge


@pytest.mark.parametrize(
    ("usage", "price", "cost"),
    [
        (Usage(1000, 500), Price(input=10**9, output=4 * 10**9), 3_000_000),
        (Usage(1000, 0, cached=400), Price(input=10**9, cached_input=10**8), 640_000),
        (Usage(1000, 0, cached=400), Price(input=10**9), 1_000_000),
        (Usage(1, 0), Price(input=1), 1),
        (Usage(0, 0), Price(input=1), 0),
        (Usage(1000, 500), Price(), 0),
        (Usage(MOST_TOKENS, MOST_TOKENS), Price(input=MAX_AMOUNT, output=MAX_AMOUNT), MAX_AMOUNT),
    ],
    ids=["both", "cached", "cached-unpriced", "rounded-up", "nothing", "free", "bounded"],
)
def test_what_it_costs(usage: Usage, price: Price, cost: int) -> None:
    assert cost_of(usage, price) == cost


def test_requests_stay_as_held() -> None:
    assert Unit.REQUESTS not in charges(Usage(1, 1), 1)


# --- classes


@given(
    st.builds(
        Report,
        reservation=st.just("r"),
        usage=st.none() | st.builds(Usage, st.integers(1, 10**6), st.integers(0, 10**6)),
        status=st.integers(0, 999),
        reached=st.booleans(),
        aborted=st.booleans(),
        streamed=st.none() | st.booleans(),
        response_bytes=st.none() | st.integers(0, 2**53 - 1),
    ),
    st.builds(
        Facts,
        request_id=st.just("q"),
        user=st.just("alice"),
        path=st.sampled_from(["/v1/chat/completions", "/v1/messages", "/v1/embeddings"]),
        hold=st.builds(Usage, st.integers(0, 10**6), st.integers(0, 10**6)),
        request_bytes=st.integers(0, 2**22),
    ),
    st.booleans(),
)
def test_no_report_is_charged_absurdly(report: Report, facts: Facts, expired: bool) -> None:
    told = classify(report, facts, Calibration(), expired=expired)
    usage, hold = told.usage, facts.hold
    if report.usage is not None:
        assert usage.input == report.usage.input
        assert usage.output in (report.usage.output, *range(report.usage.output, hold.output + 1))
        return
    assert 0 <= usage.input <= hold.input
    assert 0 <= usage.output <= hold.output
    if told.source is Source.ESTIMATED:
        assert usage.input > 0 or hold.input == 0
        assert usage.output > 0 or hold.output == 0, "attack 101: never 0"
    else:
        assert usage == Usage()
    assert told.counted or not report.reached


# --- the line


def test_a_line_with_framing_is_found() -> None:
    line = Line()
    for size in (400, 900, 2000, 5000, 800):
        line.add(size, (size - 300) // 4)
    assert line.at(1300) == pytest.approx(250, abs=2)


def test_where_all_sizes_are_alike_it_is_the_ratio() -> None:
    line = Line()
    for tokens in (20, 30, 25):
        line.add(100, tokens)
    assert line.at(200) == pytest.approx(50, abs=1)


@given(st.lists(st.tuples(st.integers(1, 2**22), st.integers(0, 10**6)), min_size=1, max_size=30))
def test_a_line_never_falls(points: list[tuple[int, int]]) -> None:
    line = Line()
    for size, tokens in points:
        line.add(size, tokens)
    heights = [line.at(size) for size in (1, 100, 10_000, 10**6)]
    assert heights == sorted(heights)


def test_the_latest_count_most() -> None:
    line = Line()
    for _ in range(500):
        line.add(100, 10)
    for _ in range(500):
        line.add(100, 50)
    assert line.at(100) > 49


# --- calibration


def facts(key: str = "key_1", model: str = "llama3", **changes: object) -> Facts:
    values: dict[str, object] = {
        "request_id": "q",
        "user": "alice",
        "key": key,
        "model": model,
        "path": "/v1/chat/completions",
        "hold": Usage(10**6, 10**6),
        "request_bytes": 1000,
    }
    return Facts(**{**values, **changes})  # type: ignore[arg-type]


def note(usage: Usage, size: int = 1000, source: Source = Source.REPORTED, aborted: bool = False) -> Note:
    return Note(usage=usage, source=source, response_bytes=size, aborted=aborted)


def test_each_key_is_learned_apart_and_falls_back_to_its_model() -> None:
    learned = Calibration()
    for _ in range(ENOUGH):
        learned.teach(facts("chinese"), note(Usage(600, 500)))
    for _ in range(200):
        learned.teach(facts("english"), note(Usage(200, 100)))
    assert learned.input(facts("chinese"), False) == 600
    assert learned.output(facts("chinese"), 1000, False) == 500
    assert learned.typical(facts("chinese"), False) == 500
    assert 200 <= learned.input(facts("newcomer"), False) < 300
    assert learned.input(facts("newcomer", "other-model"), False) == learned.input(facts("newcomer"), False)
    assert learned.typical(facts("newcomer", "other-model"), False) == 10**6, "of an unknown model: the hold"


def test_streams_are_learned_apart() -> None:
    learned = Calibration()
    for _ in range(ENOUGH):
        learned.teach(facts(), note(Usage(250, 250)))
    assert learned.output(facts(), 1500, True) == 10, "untaught: 150 bytes an event"
    assert learned.output(facts(), 1500, False) == 375


@pytest.mark.parametrize(
    "lesson",
    [
        note(Usage(900, 900), source=Source.ESTIMATED),
        note(Usage(900, 900), source=Source.EXPIRED),
        note(Usage(900, 900), source=Source.CORRECTED),
        note(Usage(0, 0), source=Source.RELEASED),
        note(Usage(900, 900), aborted=True),
    ],
    ids=["estimated", "expired", "corrected", "released", "aborted"],
)
def test_only_what_was_counted_whole_teaches(lesson: Note) -> None:
    learned = Calibration()
    for _ in range(20):
        learned.teach(facts(), lesson)
    assert learned.input(facts(), False) == 300
    assert learned.typical(facts(), False) == 10**6


def test_several_answers_cost_several_times() -> None:
    learned = Calibration()
    for _ in range(ENOUGH):
        learned.teach(facts(answers=4), note(Usage(10, 400)))
    assert learned.typical(facts(answers=2), False) == 200


def test_the_table_is_bounded() -> None:
    learned = Calibration(most=50)
    for number in range(1000):
        learned.teach(facts(f"key_{number}", f"model_{number}"), note(Usage(250, 250)))
    assert len(learned._seen) == 50


# --- thresholds


def hold(start: int = 0, key: str = "user-day|5:alice", quota: int = 1000, unit: Unit = Unit.TOKENS) -> Hold:
    bounds = (start - 100, start, start + 100, start + 200)
    return Hold(key=key, kind=Kind.CALENDAR, unit=unit, quota=quota, amount=1, bounds=bounds)


def percents(watch: Thresholds, now: int, each: Hold, used: int, held: int = 0) -> list[int]:
    level = Level(max(0, each.quota - used - held), 0, held)
    return [reached.percent for reached in watch.look(now, [each], [level])]


def test_each_threshold_is_told_once_a_window() -> None:
    watch = Thresholds()
    assert percents(watch, 0, hold(), 799) == []
    assert percents(watch, 0, hold(), 799, held=201) == [], "what is held is not used"
    assert percents(watch, 0, hold(), 800) == [80]
    assert percents(watch, 0, hold(), 900) == []
    assert percents(watch, 0, hold(), 1000) == [100]
    assert percents(watch, 0, hold(), 1000) == []
    assert percents(watch, 100, hold(100), 10) == []
    assert percents(watch, 100, hold(100), 1000) == [80, 100]
    assert percents(watch, 150, hold(100, key="user-day|3:bob"), 850) == [80]


def test_a_hold_of_the_last_window_counts_for_the_one_that_is() -> None:
    watch = Thresholds()
    assert percents(watch, 0, hold(0), 900) == [80]
    assert percents(watch, 120, hold(0), 850) == [80]
    assert percents(watch, 120, hold(100), 860) == []


def test_what_is_told() -> None:
    [reached] = Thresholds().look(0, [hold()], [Level(150, 0, 50)])
    assert reached == Reached("user-day|5:alice", 80, 1000, 800, "tokens", False)


@pytest.mark.parametrize(
    "each",
    [
        hold(unit=Unit.REQUESTS),
        hold(quota=0),
        Hold(key="k", kind=Kind.SLIDING, unit=Unit.TOKENS, quota=10, amount=1, window=60_000),
        Hold(key="k", kind=Kind.CONCURRENCY, unit=Unit.CONCURRENCY, quota=10, amount=1),
    ],
    ids=["requests", "none", "rolling", "slots"],
)
def test_only_calendar_budgets_of_tokens_and_money(each: Hold) -> None:
    assert percents(Thresholds(), 0, each, each.quota) == []


def test_what_was_told_is_bounded() -> None:
    watch = Thresholds(most=10)
    for number in range(100):
        assert percents(watch, 0, hold(key=f"user-day|{number}"), 800) == [80]
    assert len(watch._told) == 10


# --- matching


def test_both_tables_of_ids_are_bounded() -> None:
    matching = Matching(most_open=2, most_ended=2)
    for number in range(3):
        assert not matching.made("edge", f"id-{number}", f"rsv_{number}")
    assert [matching.ended("edge", f"id-{number}") for number in range(3)] == [None, "rsv_1", "rsv_2"]
    for number in range(10, 13):
        assert matching.ended("edge", f"id-{number}") is None
    assert [matching.made("edge", f"id-{number}", "r") for number in (10, 11, 12)] == [False, True, True]
    assert not matching.made("edge", "id-12", "r"), "once"
    assert not matching.made("other", "id-11", "r"), "of another gateway"


# --- names


@pytest.mark.parametrize(
    ("name", "partition", "expected"),
    [
        ("user-day", (("user", "alice"),), ("user-day", "user=alice")),
        ("user-day~shadow", (("user", "alice"),), ("user-day~shadow", "user=alice")),
        ("global", (), ("global", "")),
        ("team:tokens=1000/day", (("team", "nlp"),), ("team:tokens=1000/day", "team=nlp")),
        ("user-day", (("user", "a"), ("model", "b")), ("user-day", "")),
    ],
    ids=["policy", "shadow", "global", "owned", "changed-since"],
)
def test_what_a_counter_is_called(
    name: str, partition: tuple[tuple[str, str], ...], expected: tuple[str, str]
) -> None:
    quota = parse_quota("tokens=10/day")
    policies = [
        Policy(name="global", quota=quota),
        Policy(name="user-day", quota=quota, partition_by=("user",)),
    ]
    assert name_of(counter_key(name, partition), policies) == expected
