"""Concurrency: who holds a slot, and until when."""


class Leases:
    """The running requests of one concurrency counter. A slot ends with its request or at its deadline."""

    __slots__ = ("_deadlines", "_latest", "_soonest")

    def __init__(self) -> None:
        self._deadlines: dict[str, int] = {}
        self._soonest = 0  # no deadline is earlier: nothing has to be looked at before
        self._latest = 0

    def count(self, now: int) -> int:
        """Slots taken at `now` (ms). Expired ones are given up on the way."""
        if self._deadlines and now >= self._soonest:
            for reservation in [each for each, deadline in self._deadlines.items() if deadline <= now]:
                del self._deadlines[reservation]
            self._soonest = min(self._deadlines.values(), default=0)
        return len(self._deadlines)

    def take(self, reservation: str, deadline: int) -> None:
        """Take a slot, or keep it until another deadline."""
        if not self._deadlines:
            self._soonest = self._latest = deadline
        self._deadlines[reservation] = deadline
        self._soonest = min(self._soonest, deadline)
        self._latest = max(self._latest, deadline)

    def has(self, reservation: str) -> bool:
        """Whether the slot is still its own: once given up, it may be another's."""
        return reservation in self._deadlines

    def give_up(self, reservation: str) -> bool:
        """Free the slot. True when no slot is taken any more."""
        self._deadlines.pop(reservation, None)
        return not self._deadlines

    def wait(self, now: int) -> int:
        """ms until a slot is free if no request ends before its deadline; a lower bound."""
        return max(1, self._soonest - now)

    def reset(self, now: int) -> int:
        """ms until all are free, if every request runs to its deadline; an upper bound."""
        return max(0, self._latest - now) if self._deadlines else 0
