"""The ledger as a store offers it: read back, and waited for."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from authz.store.protocols import LedgerReading, UsageRow
from authz.store.records import Entry


class DurableLedger:
    """`read` answers, `durable` waits until what it would answer with is safe."""

    def __init__(self, read: LedgerReading, durable: Callable[[], Awaitable[None]]) -> None:
        self._read = read
        self._durable = durable

    def usage(
        self, *, since: int, until: int, by: Sequence[str], only: Mapping[str, str] | None = None
    ) -> Sequence[UsageRow]:
        return self._read.usage(since=since, until=until, by=by, only=only)

    def entries(
        self,
        *,
        since: int = 0,
        until: int | None = None,
        only: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Entry]:
        return self._read.entries(since=since, until=until, only=only, limit=limit)

    def entry(self, id: str) -> Entry | None:
        return self._read.entry(id)

    async def durable(self) -> None:
        await self._durable()
