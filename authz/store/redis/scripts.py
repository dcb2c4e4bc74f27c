"""The scripts of the counters, and the numbers that they share with the engine."""

from authz.quota import MAX_AMOUNT
from authz.store.counting import aligned, sliding
from authz.store.redis.script import Script, compose
from authz.store.reservations import GRAIN, LATE, LATE_GRAIN, REPLAY, SETTLED

FINEST = 2**52
"""Parts of units that the quota of a draining bucket may have: twice as many fit into a double."""

GRACE = 600_000
"""ms that a spent counter is kept: a clock that steps back finds it as it was."""

_NUMBERS = {
    "MAX": MAX_AMOUNT,
    "PARTS": sliding.PARTS,
    "LONGEST": aligned.LONGEST,
    "REPLAY": REPLAY,
    "GRAIN": GRAIN,
    "LATE": LATE,
    "LATE_GRAIN": LATE_GRAIN,
    "SETTLED": SETTLED,
    "FINEST": FINEST,
    "GRACE": GRACE,
    "FEW": 3,  # reservations that an admission ends on the way: it opens one at most
}

_KINDS = ("kinds/gcra", "kinds/aligned", "kinds/sliding")


def _compose(name: str, *parts: str, kinds: bool = True) -> Script:
    parts = ("common", *parts)
    named = [f"parts/{part}" for part in parts]
    return compose(name, named[0], *(_KINDS if kinds else ()), *named[1:], **_NUMBERS)


RESERVE = _compose("reserve", "counters", "slots", "reservations", "endings", "answers", "staging")
PEEK = _compose("peek", "counters", "slots", "reservations", "endings", "answers", "staging")
SETTLE = _compose("settle", "counters", "slots", "reservations", "endings", "answers")
CANCEL = _compose("cancel", "counters", "slots", "reservations", "endings")
SWEEP = _compose("sweep", "counters", "slots", "reservations", "endings")
EXTEND = _compose("extend", "slots", "reservations", kinds=False)
FIND = _compose("find", "reservations", kinds=False)

ALL = (RESERVE, PEEK, SETTLE, CANCEL, SWEEP, EXTEND, FIND)
