"""Settles a reservation by what its gateway reports, and learns from it."""

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from authz.ledger.calibration import Calibration
from authz.ledger.charge import charges, cost_of
from authz.ledger.classify import classify, is_streamed
from authz.ledger.thresholds import Reached, Thresholds
from authz.quota import MAX_AMOUNT, Unit
from authz.report import Report
from authz.request import SHORTEST_LEASE_MS, Gateway
from authz.store.protocols import Clock, Counters, Outcome
from authz.store.records import Entry, Facts, Note, Source
from authz.usage import Usage

LEASE_MARGIN_MS = 30_000
"""A reservation outlasts the longest response that it is for."""

_read_facts = msgspec.msgpack.Decoder(Facts).decode
_write_note = msgspec.msgpack.Encoder().encode

Learn = Callable[[Facts, Usage], None]
"""Told of every whole answer that a model server counted."""


class Watcher(Protocol):
    """Told of settlements: counts them."""

    def settled(self, gateway: str, outcome: Outcome, note: Note | None) -> None:
        """One report was taken; `note` where it changed something."""
        ...

    def reached(self, reached: Reached) -> None:
        """A budget came to a threshold."""
        ...


class _Nobody:
    def settled(self, gateway: str, outcome: Outcome, note: Note | None) -> None:
        return

    def reached(self, reached: Reached) -> None:
        return


def _nothing_learned(facts: Facts, usage: Usage) -> None:
    return


class Settler:
    """Find, classify, charge; then learn. Adds no suspension to the store's own."""

    def __init__(
        self,
        counters: Counters,
        clock: Clock,
        *,
        learn: Learn = _nothing_learned,
        watcher: Watcher | None = None,
    ) -> None:
        self.calibration = Calibration()
        self.learn = learn
        self._counters = counters
        self._clock = clock
        self._watcher = watcher or _Nobody()
        self._thresholds = Thresholds()

    async def settle(self, report: Report, gateway: Gateway) -> tuple[Outcome, Facts | None]:
        """Charge what the report tells, once. The facts of a reservation that could be settled.

        Only a proven gateway settles, and only what it holds (invariants 7 and 10). Raises StoreUnavailable.
        """
        if not gateway.proven:
            return self._over(gateway, Outcome.FOREIGN)
        found = await self._counters.find(report.reservation, gateway.name)
        if isinstance(found, Outcome):
            return self._over(gateway, found)
        if not found.facts:  # counted only: there is nothing that a report could change
            done = await self._counters.settle(report.reservation, gateway.name, {})
            return self._over(gateway, done.outcome)
        facts = _read_facts(found.facts)
        told = classify(report, facts, self.calibration, expired=found.expired)
        cost = cost_of(told.usage, facts.price)
        actual = charges(told.usage, cost)
        if not told.counted:
            actual[Unit.REQUESTS] = 0
        note = Note(
            usage=told.usage,
            cost=cost,
            source=told.source,
            status=report.status,
            aborted=report.aborted,
            streamed=is_streamed(report, facts),
            response_bytes=min(report.response_bytes or 0, MAX_AMOUNT),
            duration_ms=min(report.duration_ms or 0, MAX_AMOUNT),
        )
        done = await self._counters.settle(report.reservation, gateway.name, actual, _write_note(note))
        if done.outcome in (Outcome.SETTLED, Outcome.CORRECTED):
            self._watcher.settled(gateway.name, done.outcome, note)
            self._learn(facts, note)
            for reached in self._thresholds.look(self._clock(), done.holds, done.levels):
                self._watcher.reached(reached)
            return done.outcome, facts
        return self._over(gateway, done.outcome)

    async def extend(self, reservation: str, gateway: Gateway) -> bool:
        """The response still runs: its reservation lives on, for as long as it was first made for.

        False where it cannot: unknown, settled, expired or another gateway's. Raises StoreUnavailable.
        """
        if not gateway.proven:
            return False
        found = await self._counters.find(reservation, gateway.name)
        if isinstance(found, Outcome) or found.expired:
            return False
        life_ms = gateway.stream_timeout_ms + LEASE_MARGIN_MS
        lease_ms = _read_facts(found.facts).lease_ms if found.facts else 0
        ttl_ms = min(max(lease_ms, SHORTEST_LEASE_MS), life_ms) if lease_ms else life_ms
        return await self._counters.extend(reservation, gateway.name, ttl_ms, life_ms)

    def teach(self, entries: Iterable[Entry]) -> None:
        """Learn from the ledger, the oldest first: a restart forgets nothing that matters."""
        for entry in entries:
            self._learn(entry.facts, entry.note)

    def _learn(self, facts: Facts, note: Note) -> None:
        self.calibration.teach(facts, note)
        if not note.aborted and note.source is Source.REPORTED:
            self.learn(facts, note.usage)

    def _over(self, gateway: Gateway, outcome: Outcome) -> tuple[Outcome, None]:
        self._watcher.settled(gateway.name, outcome, None)
        return outcome, None
