"""When to stop asking, and when to ask again."""

import pytest

from authz.store.redis.breaker import FAILURES, LONGEST_PAUSE, Breaker, Pauses


def test_it_opens_after_failures_in_a_row_and_says_so_once() -> None:
    breaker = Breaker()
    assert [breaker.failed() for _ in range(FAILURES + 2)] == [False] * (FAILURES - 1) + [True, False, False]
    assert breaker.open


def test_a_success_between_begins_the_count_anew() -> None:
    breaker = Breaker(limit=3)
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        breaker.failures = 0
    assert not breaker.open


def test_closed_by_a_probe_it_takes_as_many_failures_again() -> None:
    breaker = Breaker(limit=2)
    breaker.trip()
    breaker.close()
    assert not breaker.open
    assert [breaker.failed(), breaker.failed()] == [False, True]


@pytest.mark.parametrize(("chance", "part"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_pauses_double_up_to_the_longest_and_are_jittered(chance: float, part: float) -> None:
    pauses = Pauses(0.02, 0.1, chance=lambda: chance)
    assert [pauses.take() for _ in range(5)] == pytest.approx(
        [part * s for s in (0.02, 0.04, 0.08, 0.1, 0.1)]
    )
    pauses.restart()
    assert pauses.take() == pytest.approx(part * 0.02)


def test_it_asks_quickly_at_first_whenever_it_opens() -> None:
    breaker = Breaker(pauses=Pauses(chance=lambda: 1.0))
    breaker.trip()
    first = breaker.pauses.take()
    for _ in range(10):
        breaker.pauses.take()
    assert breaker.pauses.take() == LONGEST_PAUSE
    breaker.close()
    breaker.trip()
    assert breaker.pauses.take() == first
