"""The bounded map."""

from authz.recent import Recent


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
