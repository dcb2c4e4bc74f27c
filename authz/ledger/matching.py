"""Joins a request's end with its reservation where only the gateway's own id is known.

A client may leave while its check is pending. The gateway then tells of an end, but not of
which reservation: it never heard of one. The end may even come before the reservation is made.
"""

MOST_OPEN = 50_000
MOST_ENDED = 20_000

_Id = tuple[str, str]
"""Gateway and its id of the request."""


class Matching:
    """Both tables are bounded: the oldest is forgotten first, and such a reservation expires."""

    def __init__(self, *, most_open: int = MOST_OPEN, most_ended: int = MOST_ENDED) -> None:
        self._most_open, self._most_ended = most_open, most_ended
        self._open: dict[_Id, str] = {}
        self._ended: dict[_Id, None] = {}

    def made(self, gateway: str, request_id: str, reservation: str) -> bool:
        """A reservation was made. True: its request has ended already."""
        name = (gateway, request_id)
        if name in self._ended:
            del self._ended[name]
            return True
        if len(self._open) >= self._most_open:
            del self._open[next(iter(self._open))]
        self._open[name] = reservation
        return False

    def ended(self, gateway: str, request_id: str) -> str | None:
        """A request ended. Its reservation; None: not made yet, or never."""
        name = (gateway, request_id)
        reservation = self._open.pop(name, None)
        if reservation is None:
            if len(self._ended) >= self._most_ended:
                del self._ended[next(iter(self._ended))]
            self._ended[name] = None
        return reservation

    def settled(self, gateway: str, request_id: str) -> None:
        """A reservation that was made for it is settled: nothing is left to join."""
        self._open.pop((gateway, request_id), None)
