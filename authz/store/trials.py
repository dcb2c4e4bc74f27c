"""What limits on trial would have refused: counted by limit, partition and hour on its way to the store."""

from collections.abc import Sequence

from msgspec import Struct

HOUR_MS = 3_600_000
WAITING = 10_000  # counts that may wait for the writer

Partition = tuple[tuple[str, str], ...]


class Trial(Struct, frozen=True):
    """What one limit on trial did with one partition, from the first time to the last."""

    policy: str
    partition: Partition  # (("team", "nlp"),)
    would: int  # requests that were let through, and that it would have refused
    live: int  # requests that the limit itself refused, where it has a shadow beside it
    first_at: int
    last_at: int


class Trials:
    """Counts on the event loop. Never blocks; what does not fit is counted in `dropped`."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, str, Partition], list[int]] = {}
        self.totals: dict[str, int] = {}  # requests that would have been refused, by limit, since the start
        self.dropped = 0

    def would_refuse(self, policy: str, partition: Partition, at: int) -> None:
        """A request was let through that only a shadow was against."""
        self.totals[policy] = self.totals.get(policy, 0) + 1
        self._count(policy, partition, at, 0)

    def refused(self, policy: str, partition: Partition, at: int) -> None:
        """A limit that has a shadow beside it refused a request itself."""
        self._count(policy, partition, at, 1)

    def _count(self, policy: str, partition: Partition, at: int, which: int) -> None:
        key = (at // HOUR_MS, policy, partition)
        counts = self._waiting.get(key)
        if counts is None:
            if len(self._waiting) >= WAITING:
                self.dropped += 1
                return
            counts = self._waiting[key] = [0, 0, at, at]
        counts[which] += 1
        counts[3] = max(counts[3], at)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted since the last `take`."""
        return not self._waiting

    def take(self) -> Sequence[Trial]:
        """What was counted since the last call."""
        waiting, self._waiting = self._waiting, {}
        return [Trial(policy, partition, *counts) for (_, policy, partition), counts in waiting.items()]
