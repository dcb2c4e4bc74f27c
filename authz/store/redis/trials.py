"""The counts of limits on trial: by the hour, bounded, added up over all replicas."""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from authz.store.redis.failures import explained
from authz.store.redis.names import records
from authz.store.redis.pages import fetch
from authz.store.redis.sources import source
from authz.store.trials import HOUR_MS, Partition, Trial

ROWS_KEPT = 100_000
KEPT_MS = 90 * 86_400_000
TOGETHER = 100  # rows in one call: Redis does nothing else meanwhile
STEP = 200  # rows that a call drops at most, for each reason: more than it brings
PAGE = 500  # rows in one reply
DONE_MS = 600_000  # how long a call that is sent again is known

_COUNTS = records("trials")
_HOURS = records("trials-by-hour")

_SAVE = source("save_trials")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[int, str, Partition]).decode


class Batch(msgspec.Struct, frozen=True):
    """Counts that are added once, however often they are sent."""

    name: str
    trials: Sequence[Trial]


def batches(trials: Sequence[Trial]) -> list[Batch]:
    return [
        Batch(secrets.token_hex(8), trials[begin : begin + TOGETHER])
        for begin in range(0, len(trials), TOGETHER)
    ]


async def save(client: Any, batch: Batch, now: int) -> None:
    """Add to the counts of the hour."""
    places = [_COUNTS, _HOURS, records(f"trials-done:{batch.name}")]
    bounds = [(now - KEPT_MS) // HOUR_MS, ROWS_KEPT, STEP, KEPT_MS, DONE_MS]
    arguments = [argument for trial in batch.trials for argument in _arguments(trial)]
    with explained():
        await client.eval(_SAVE, len(places), *places, *bounds, *arguments)


def _arguments(trial: Trial) -> tuple[bytes | int, ...]:
    hour = trial.first_at // HOUR_MS
    row = _encode((hour, trial.policy, trial.partition))
    return row, hour, trial.would, trial.live, trial.first_at, trial.last_at


class RedisTrialLog:
    """Reads the counts back. Synchronous."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @explained()
    def list(self, *, since: int = 0) -> Sequence[Trial]:
        """By limit and partition, most refusals first. Counts from the hour that holds `since` (ms)."""
        found: dict[tuple[str, Partition], Trial] = {}
        for row, counts in self._rows(since // HOUR_MS).items():
            _, policy, partition = _decode(row)
            would, live, first, last = map(int, counts.split())
            known = found.get((policy, partition))
            if known is not None:
                would, live = known.would + would, known.live + live
                first, last = min(known.first_at, first), max(known.last_at, last)
            found[policy, partition] = Trial(policy, partition, would, live, first, last)
        return sorted(found.values(), key=lambda each: (-each.would, each.policy, _encode(each.partition)))

    def _rows(self, hour: int) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        begin = 0
        while True:
            rows = self._client.zrangebyscore(_HOURS, hour, "+inf", begin, PAGE)
            found |= fetch(self._client, _COUNTS, [row.decode() for row in rows])
            if len(rows) < PAGE:
                return found
            begin += PAGE
