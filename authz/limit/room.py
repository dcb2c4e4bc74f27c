"""The longest answer that a refused request could have asked for."""

from collections.abc import Sequence

from authz.limit.estimate import MILLION, Bound
from authz.limit.planned import Planned
from authz.quota import TOKEN_UNITS, Unit
from authz.store.protocols import Exhausted

_NO_END = 1 << 62


def longest_answer(planned: Sequence[Planned], outcome: Exhausted, bound: Bound, *, ever: bool) -> int | None:
    """Tokens of one answer, exactly: with one more the request does not fit. 0: not even one does.

    `ever`: into the whole quotas, else into what is left now. None where the length of the answer is not
    what matters: there is none, or something else was in the way too.
    """
    if not bound.answer or any(planned[index].hold.unit not in TOKEN_UNITS for index in outcome.denied):
        return None
    longest = _NO_END
    for each, level in zip(planned, outcome.levels, strict=True):
        if each.hold.unit in TOKEN_UNITS and not each.hold.shadow:
            most = each.hold.quota if ever else level.remaining
            longest = min(longest, _answer(each.hold.unit, most, bound))
    return max(0, longest) if longest < bound.answer else None


def _answer(unit: Unit, most: int, bound: Bound) -> int:
    """Of which a hold in the unit is at most `most`."""
    if unit is Unit.TOKENS:
        return (most - bound.input) // bound.answers
    if unit is Unit.OUTPUT_TOKENS:
        return most // bound.answers
    if unit is Unit.INPUT_TOKENS:
        return _NO_END if bound.input <= most else 0
    left, each = most * MILLION - bound.input * bound.price.input, bound.price.output * bound.answers
    if left < 0:
        return 0
    return left // each if each else _NO_END
