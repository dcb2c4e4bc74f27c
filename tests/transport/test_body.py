import pytest

from authz.request import BodyState
from authz.transport.body import body_state, is_partial_flag

NONE, WHOLE, PARTIAL, WITHHELD = BodyState.NONE, BodyState.WHOLE, BodyState.PARTIAL, BodyState.WITHHELD


@pytest.mark.parametrize(
    ("received", "length", "encoding", "most", "state"),
    [
        (5, "5", None, None, WHOLE),
        (5, "6", None, None, PARTIAL),
        (6, "5", None, None, PARTIAL),
        (0, "5", None, 100, WITHHELD),
        (0, "0", None, 100, NONE),
        (0, None, None, 100, NONE),
        (0, None, "chunked", 100, WITHHELD),
        (99, None, "chunked", 100, WHOLE),
        (100, None, "chunked", 100, PARTIAL),  # exactly what is buffered: there may be more
        (101, None, None, 100, PARTIAL),
        (5, None, None, None, PARTIAL),  # nobody said how much is buffered
        (5, "5", "chunked", 100, PARTIAL),  # attack 96
        (5, "5, 5", None, 100, PARTIAL),
        (5, "+5", None, 100, PARTIAL),
        (5, "５", None, 100, PARTIAL),
        (0, "-1", None, 100, WITHHELD),
        (5, "9" * 5000, None, 100, PARTIAL),
        (5, "", None, 100, PARTIAL),
    ],
)
def test_a_body_is_whole_only_by_what_was_declared(
    received: int, length: str | None, encoding: str | None, most: int | None, state: BodyState
) -> None:
    assert body_state(received, length, encoding, most=most, empty_is_none=True) is state


def test_nothing_at_all_is_a_body_where_none_need_be_announced() -> None:
    assert body_state(0, None, None, most=None, empty_is_none=False) is WITHHELD


@pytest.mark.parametrize(
    ("value", "cut"),
    [(None, False), ("false", False), ("true", True), ("FALSE", False), ("", True), ("false, true", True)],
)
def test_the_flag_can_only_make_it_worse(value: str | None, cut: bool) -> None:
    assert is_partial_flag(value) is cut
