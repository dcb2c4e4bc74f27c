"""The bounded map."""

import pytest

from authz.recent import Recent, RecentOfMany


def test_it_is_bounded() -> None:
    recent: Recent[int, int] = Recent(100)
    for number in range(10_000):
        recent.put(number, number)
        assert len(recent) <= 100


def test_what_is_used_stays() -> None:
    recent: Recent[int, int] = Recent(100)
    recent.put(-1, 7)
    for number in range(10_000):
        recent.put(number, number)
        assert recent.get(-1) == 7
    assert recent.get(0) is None


def test_a_value_is_replaced_and_forgotten() -> None:
    recent: Recent[str, int] = Recent(4)
    recent.put("a", 1)
    for name in "bcd":
        recent.put(name, 0)
    recent.put("a", 2)
    assert recent.get("a") == 2
    recent.forget("a")
    assert recent.get("a") is None


def test_it_forgets_one_at_a_time() -> None:
    """Where a whole generation went at once, all its values were freed in one pause."""
    freed: list[int] = []

    class Value:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            freed.append(self.number)

    recent: Recent[int, Value] = Recent(100)
    for number in range(1000):
        before = len(freed)
        recent.put(number, Value(number))
        assert len(freed) - before <= 1
    assert len(recent) == 100
    assert len(freed) >= 850  # at most half as many wait to be freed


def test_what_is_young_again_is_there_once() -> None:
    recent: Recent[int, str] = Recent(10)
    for number in range(15):
        recent.put(number, "first")
    assert recent.get(7) == "first"
    recent.put(7, "second")
    for number in range(15, 24):
        recent.put(number, "more")
    assert recent.get(7) == "second"
    recent.forget(7)
    assert recent.get(7) is None


def test_many_are_bounded_and_what_is_used_stays() -> None:
    recent: RecentOfMany[int, int] = RecentOfMany(1024)
    recent.put(-1, 7)
    for number in range(10_000):
        recent.put(number, number)
        assert recent.get(-1) == 7
    assert len(recent) <= 1024
    assert recent.get(9_999) == 9_999
    assert recent.get(0) is None


@pytest.mark.parametrize("recent", [Recent(1000), RecentOfMany(1 << 20)], ids=["Recent", "RecentOfMany"])
def test_two_turns_forget_what_nobody_asked_for(recent: Recent[str, int] | RecentOfMany[str, int]) -> None:
    recent.put("asked", 1)
    recent.put("not", 2)
    recent.turn()
    assert recent.get("asked") == 1
    recent.turn()
    assert recent.get("not") is None
    assert recent.get("asked") == 1
    recent.turn()
    recent.turn()
    assert recent.get("asked") is None
    assert len(recent) == 0
