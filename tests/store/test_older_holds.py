"""Holds that an older version wrote down, which end before the newer fields: nothing was owed."""

import msgspec
import pytest

from authz.store import ops, reservations
from authz.store.ops import Reserve
from authz.store.protocols import Hold
from authz.store.reservations import Phase, Reservation
from tests.contract.kit import NOON, fixed, gcra, sliding, slot

LENGTH = Hold.__struct_fields__.index("owed")
HOLDS = (gcra(60), fixed(1000, 400), sliding(1000, 400), slot(2))


def shorter(encoded: bytes, place: int) -> bytes:
    """The same with the holds, at this place of the record, as they were once."""
    fields = msgspec.msgpack.decode(encoded)
    fields[place] = [hold[:LENGTH] for hold in fields[place]]
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.LATE])
def test_a_reservation(phase: Phase) -> None:
    made = Reservation(phase, "edge", NOON, NOON + 1, HOLDS, (None,) * len(HOLDS), b"facts")
    assert reservations.decode(shorter(reservations.encode(made), 4)) == made


def test_a_change_in_the_journal() -> None:
    made = Reserve(NOON, "a", "edge", 500, HOLDS, b"facts")
    assert ops.decode(shorter(ops.encode(made), 5)) == made
