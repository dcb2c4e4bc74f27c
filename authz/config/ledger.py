"""`ledger:` what is kept of the requests that were let through."""

from pydantic import field_validator

from authz.config.amounts import Milliseconds
from authz.config.base import Section, Wrong

DAY_MS = 86_400_000
LEAST_DAYS = 7  # a report may come late, and corrects an entry that must still be there
MOST_DAYS = 400  # so long are the sums of days kept, and whole days are read from those


class Ledger(Section):
    """The record of every request."""

    retention: Milliseconds = 90 * DAY_MS
    """How long single requests are kept. Their sums by day stay for 400 days."""

    @field_validator("retention")
    @classmethod
    def _within_reason(cls, retention: int) -> int:
        if not LEAST_DAYS * DAY_MS <= retention <= MOST_DAYS * DAY_MS:
            raise Wrong(f"a retention lies between {LEAST_DAYS}d and {MOST_DAYS}d")
        return retention
