"""The scripts of the counters, and the constants that they share with the engine and with who calls them."""

from enum import IntEnum

from authz.quota import MAX_AMOUNT
from authz.store.counting import aligned, sliding
from authz.store.protocols import Hold, Kind
from authz.store.redis.fineness import FINEST
from authz.store.redis.script import Script, compose
from authz.store.reservations import GRAIN, LATE, LATE_GRAIN, REPLAY, SETTLED, Phase

GRACE = 600_000
"""ms that a spent counter is kept: a clock that steps back finds it as it was."""


class Status(IntEnum):
    """What becomes of a reservation."""

    DENIED = 0
    RESERVED = 1
    REPLAYED = 2
    JUMPED = 3  # a calendar does not know the server's time
    TOO_FINE = 4  # a bucket would need more parts than a double holds
    FULL = 5  # as many are open as may be
    CANCELLED = 6  # it was given up before it came
    NO_ROOM = 7  # for a counter that is not there yet


class Ending(IntEnum):
    """What becomes of a settlement."""

    UNKNOWN = 0
    IN_TIME = 1
    CORRECTED = 2
    ALREADY = 3
    FOREIGN = 4
    REMEMBERED = 5  # nothing yet: it may be settled


_CONSTANTS: dict[str, int | str] = {
    "MAX": MAX_AMOUNT,
    "BEYOND": MAX_AMOUNT + 1,
    "FINEST": FINEST,
    "PARTS": sliding.PARTS,
    "LONGEST": aligned.LONGEST,
    "GRACE": GRACE,
    "REPLAY": REPLAY,
    "GRAIN": GRAIN,
    "LATE_MS": LATE,
    "LATE_GRAIN": LATE_GRAIN,
    "SETTLED_MS": SETTLED,
    "SETTLED": max(Phase) + 1,  # a phase that the engine keeps apart
    "FEW": 3,  # reservations that an admission ends on the way: it opens one at most
    # Layouts, as Redis's struct has them
    "HEAD": "<Bddd",  # kind, window, mark, held
    "HELD_FROM": 9,
    "BODY": 26,
    "FIXED_WHOLE": "<Bdddddddd",  # one of a fixed window: head, start, finish, after, used, debt
    "FIXED_SIZE": 65,
    "USED_FROM": 49,
    "PAIR": "<dd",
    "PAIR_SIZE": 16,
    "LABEL": "<ddd",
    "LABEL_SIZE": 24,
    "RECORD": "<BddI2c0I2c0I2c0I4c0I4c0",
    "PHASE_FROM": 0,
    "DEADLINE_FROM": 9,
    **{name.upper(): place for place, name in enumerate(Hold.__struct_fields__, 1)},
    **{member.name: member.value for group in (Kind, Phase, Status, Ending) for member in group},
}

_KINDS = ("kinds/gcra", "kinds/aligned", "kinds/sliding")
_SETTLING = tuple(f"{kind}_settling" for kind in _KINDS)


def _compose(name: str, *parts: str) -> Script:
    whole = [part if "/" in part else f"parts/{part}" for part in ("common", *parts)]
    return compose(name, *whole, constants=_CONSTANTS)


_EXPIRING = ("held", "labels", "closing", "releasing", "expiring", "sweeping")
_ADMITTING = (*_KINDS, "admitting", "counters", "slots", "records", *_EXPIRING, "answering", "staging")
_ENDING = (
    *_KINDS,
    *_SETTLING,
    "settling",
    "counters",
    "records",
    "held",
    "labels",
    "releasing",
    "correcting",
)

RESERVE = _compose("reserve", *_ADMITTING, "remembering", "replaying", "guards/room")
PEEK = _compose("peek", *_ADMITTING)
SETTLE = _compose("settle", *_ENDING, "objections", "closing", "slots", "answering")
CANCEL = _compose("cancel", *_ENDING)
SWEEP = _compose("sweep", *_KINDS, "admitting", "counters", "records", *_EXPIRING)
EXTEND = _compose("extend", "slots", "records", "objections", "remembering")
FIND = _compose("find", "records", "objections")
DRAW = _compose("draw", "records", "labels", "closing", "remembering", "replaying")
COUNT = _compose("count", "kinds/aligned", "fixed")
TAKE_BACK = _compose("take_back", "kinds/aligned", "kinds/aligned_settling", "fixed")

ALL = (RESERVE, PEEK, SETTLE, CANCEL, SWEEP, EXTEND, FIND, DRAW, COUNT, TAKE_BACK)
