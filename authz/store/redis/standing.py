"""How counters stand, read from outside: for commands and for a worker thread, never for a decision."""

import re
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct as Layout
from struct import iter_unpack
from typing import Any

import msgspec

from authz.store.counting import State, pack
from authz.store.levels import Standing
from authz.store.protocols import Kind
from authz.store.redis.failures import explained

AT_ONCE = 500
"""Keys that are asked for in one go: well under a millisecond of Redis's time."""

_RUNS_ON = 2**62  # a counter does not know when what is held of it ends
_NAME = re.compile(rb"az:\{\w+\}:([cl]):(.*)", re.DOTALL)
_HEAD = Layout("<Bddd")  # kind, window, mark, held
_GCRA = Layout("<dddddd")  # q, p, level, at, returned, since
_ALIGNED = Layout("<ddddd")  # start, end, next end, used, debt
_SLIDING = Layout("<ddd")  # head, newest, sum of the older; then pairs


def counter_levels(client: Any, prefix: str = "") -> Mapping[str, bytes]:
    """Counters by key, for `authz.store.levels.level_of`.

    `client` is of redis-py, synchronous and without decoding; of a Cluster, it asks every master.
    Looks at every name in Redis, a thousand at a time. Raises StoreUnavailable.
    """
    with explained():
        standings: dict[str, Standing] = {}
        for key, standing in _read(client, _names(client, prefix)):
            known = standings.get(key, Standing(None, []))
            standings[key] = Standing(standing.state or known.state, known.running + standing.running)
        return {key: msgspec.msgpack.encode(standings[key]) for key in sorted(standings)}


def decode_counter(raw: bytes) -> tuple[State, int, int]:
    """A counter as the scripts keep it: its state as the engine has it, the mark, and what is held at it."""
    kind, window, mark, held = _HEAD.unpack_from(raw)
    window, body = int(window), raw[_HEAD.size :]
    if kind == Kind.GCRA:
        q, p, level, at, returned, since = map(int, _GCRA.unpack(body))
        times = window // p
        state: State = (kind, window, q * times, level * times, at, returned * times, since)
    elif kind == Kind.SLIDING:
        head, newest, older_sum = map(int, _SLIDING.unpack_from(body))
        pairs = iter_unpack("<dd", body[_SLIDING.size :])
        older = tuple((int(part), int(amount)) for part, amount in pairs)
        state = (kind, window, head, newest, older_sum, older)
    else:
        state = (kind, window, *map(int, _ALIGNED.unpack(body)))
    return state, int(mark), int(held)


def _names(client: Any, prefix: str) -> Iterator[bytes]:
    pattern = "az:{*}:[cl]:" + re.sub(r"([\\*?\[\]^-])", r"\\\1", prefix) + "*"
    seen = set()  # SCAN may tell of a key twice
    for name in client.scan_iter(match=pattern, count=1000):
        if name not in seen:
            seen.add(name)
            yield name


def _read(client: Any, names: Iterable[bytes]) -> Iterator[tuple[str, Standing]]:
    batch: list[bytes] = []
    for name in names:
        batch.append(name)
        if len(batch) == AT_ONCE:
            yield from _batch(client, batch)
            batch = []
    yield from _batch(client, batch)


def _batch(client: Any, names: list[bytes]) -> Iterator[tuple[str, Standing]]:
    found = [(name, match) for name in names if (match := _NAME.fullmatch(name)) is not None]
    if not found:
        return
    pipeline = client.pipeline(transaction=False)
    for name, match in found:
        if match[1] == b"c":
            pipeline.get(name)
        else:
            pipeline.zrange(name, 0, -1, withscores=True)
    for (_, match), answer in zip(found, pipeline.execute(), strict=True):
        if not answer:
            continue  # gone since
        key = match[2].decode()
        if match[1] == b"l":
            yield key, Standing(None, [(0, int(deadline), 1) for _, deadline in answer])
            continue
        state, mark, held = decode_counter(answer)
        yield key, Standing(list(pack(state)), [(mark, _RUNS_ON, held)] if held else [])
