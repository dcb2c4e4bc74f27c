"""Refusals of callers that are nobody: such a caller chooses the path, and not how many rows it fills."""

from msgspec.structs import replace

from authz.store.records import Denial

WINDOW_MS = 60_000
APART = 100  # rows in a window for one (gateway, address, reason)
ALL_APART = 2_000  # rows in a window for all of them: addresses are cheap too

_MESSAGE = "One of a flood: more of these came than are told apart, so the path is not kept."


class Crowd:
    """Counts the rows that refusals without a subject begin in a window. Its memory is bounded."""

    def __init__(self) -> None:
        self._since = 0
        self._apart: dict[tuple[str, str, str], int] = {}
        self._all = 0

    def blurred(self, denial: Denial) -> Denial:
        """The refusal as it may begin a row: whole while there are few, then without what tells it apart."""
        if not 0 <= denial.at - self._since < WINDOW_MS:
            self._since, self._all = denial.at, 0
            self._apart.clear()
        who = (denial.gateway, denial.ip, denial.reason)
        begun = self._apart.get(who, 0)
        if begun < APART and self._all < ALL_APART:
            self._apart[who] = begun + 1
            self._all += 1
            return denial
        ip = denial.ip if begun else ""
        return replace(denial, route="", method="", path="*", model="", ip=ip, message=_MESSAGE)
