"""A store as it is copied from and to."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from authz.store.counting import State
from authz.store.floods import Row
from authz.store.protocols import Registry
from authz.store.records import Entry
from authz.store.reservations import Reservation
from authz.store.trials import Trial

Group = tuple[str, ...]
"""What a sum is of, in the order of `authz.store.sums.DIMENSIONS`."""

Sums = tuple[int, ...]
"""Of `authz.store.sums.AMOUNTS`, and last the requests."""

DaySums = Mapping[Group, Sums]

TOGETHER = 1_000
"""Entries, rows or records that are handed over at once."""


DENIALS_KEPT_MS = 30 * 86_400_000
"""As every store keeps them: older ones would be dropped as they come."""


class Frame(NamedTuple):
    """What a ledger's figures depend on."""

    timezone: str  # of its days
    kept_from: int  # ms: since when every entry is there; 0: since ever
    retention: int  # ms that entries are kept; 0: not known


class Counting(NamedTuple):
    """Counters and what may still be settled, as the engine has them."""

    counters: Mapping[str, State]
    reservations: Mapping[str, Reservation]


class Side(Protocol):
    """Opened for a copy. Every method may raise StoreUnavailable."""

    @property
    def place(self) -> str:
        """Where it is: no secret."""
        ...

    @property
    def shuts_out(self) -> bool:
        """Whether no service can start on it before it is closed here."""
        ...

    @property
    def registry(self) -> Registry: ...

    def own(self) -> None:
        """Keep services away from here on, where none is there yet and it can be done."""
        ...

    def used_by(self) -> str:
        """Which services use it now; empty: none."""
        ...

    def is_empty(self) -> bool: ...

    def frame(self) -> Frame: ...

    def fit(self, frame: Frame) -> None:
        """Sum by the days of that zone, and keep entries for so long at least; none are missing later than
        there."""
        ...

    def days(self) -> Sequence[int]:
        """UTC days, by number since the epoch, of which there are entries."""
        ...

    def entries(self, day: int) -> Iterator[Sequence[Entry]]:
        """Those of a UTC day."""
        ...

    def news(self) -> Iterator[Sequence[Entry]]:
        """Entries that came since the last call; at first all. May tell one again, or leave one out that
        replaced another."""
        ...

    def save(self, entries: Sequence[Entry]) -> None:
        """Add entries, and what they used to the sums of their days; those that are there stay."""
        ...

    def sums(self) -> Mapping[str, DaySums]:
        """By local day."""
        ...

    def raise_sums(self, sums: Mapping[str, DaySums]) -> None:
        """Have at least these sums; what is more stays."""
        ...

    def denials(self) -> Iterator[Sequence[Row]]: ...
    def save_denials(self, rows: Sequence[Row]) -> None: ...

    def trials(self) -> Sequence[Trial]:
        """By limit, partition and hour."""
        ...

    def save_trials(self, trials: Sequence[Trial]) -> None:
        """Have at least these counts; what is more stays."""
        ...

    def counting(self) -> Counting: ...

    def set_counting(self, counting: Counting) -> None:
        """In place of all that was counted here."""
        ...

    def close(self) -> None: ...
