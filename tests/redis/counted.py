"""As much of a store as the counters need, without an event loop: for the machine that knows what should be."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from authz.store.closed import entry_of
from authz.store.counting import State
from authz.store.protocols import Clock
from authz.store.records import Entry
from authz.store.redis import names
from authz.store.redis.counters import RedisCounters
from authz.store.redis.standing import decode_counter
from tests.redis.direct import DirectLink, at_once
from tests.redis.twins import awaited, closed_of


class CountedStore:
    """On an emptied server. Time passes by the clock alone."""

    trouble = None

    def __init__(self, link: DirectLink, clock: Clock) -> None:
        self.link = link
        link.keep_all = True
        link.command("FLUSHALL")
        self.counters = RedisCounters(link, clock)
        self.ledger = self
        self._entries: dict[tuple[str, int], Entry] = {}
        self._read_to = "-"

    def keep_ledger(self, milliseconds: int) -> None:
        """All of it."""

    def keep_up(self) -> None:
        """What is over ends, and is entered."""
        for shard in self.link.shards:
            while at_once(awaited(self.counters.calls.sweep(shard, 100, 0)))[0] == 100:
                pass

    def wait_for_writer(self) -> None:
        """Nothing is written behind."""

    async def close(self) -> None:
        """The link is not its own."""

    @property
    def states(self) -> Mapping[str, State]:
        """Every counter, as the engine has it."""
        found = self.link.command("KEYS", names.counter("*", "*")).value
        prefix = len(names.counter(self.link.shards[0], ""))
        values = self.link.command("MGET", *found).value if found else []
        return {
            name[prefix:].decode(): decode_counter(raw)[0] for name, raw in zip(found, values, strict=True)
        }

    # -- its ledger --------------------------------------------------------------------------------

    def entries(self, limit: int = 0) -> Sequence[Entry]:
        found = self.link.command("XRANGE", names.closed(self.link.shards[0]), self._read_to, "+").value
        for number, fields in found:
            self._read_to = "(" + number.decode()
            entry = entry_of(closed_of(fields[1]))
            self._entries[entry.reservation, entry.at] = entry
        return list(self._entries.values())

    def usage(self, since: int, until: int, by: Sequence[str]) -> Sequence[Any]:
        used = [entry.note.usage for entry in self.entries()]
        return [
            SimpleNamespace(
                requests=len(used),
                input_tokens=sum(each.input for each in used),
                output_tokens=sum(each.output for each in used),
            )
        ]
