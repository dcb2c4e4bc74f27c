"""A service under load, to be killed: counts, settles, adds and revokes keys, and says what was acknowledged.

Every line is one write to the pipe, so what the parent reads was said before the end.
"""

import asyncio
import itertools
import json
import os
import sys

from authz.quota import Unit
from authz.store.open import open_store, wall_clock
from authz.store.protocols import Hold, Kind, Outcome, Reserved
from authz.store.records import Key
from tests.contract.kit import facts, note

AGES = 10**12  # ms: one window for all rounds
QUOTA = 10**9
HELD, USED = 10, 4
REQUESTS = Hold("requests", Kind.FIXED, Unit.REQUESTS, QUOTA, 1, AGES)
TOKENS = Hold("tokens", Kind.FIXED, Unit.TOKENS, QUOTA, HELD, AGES)


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def main(url: str, round_: str) -> None:
    store = open_store(url)
    seen = await store.counters.peek([look(REQUESTS), look(TOKENS)])
    keys = {key.id: key.revoked_at for key in list(store.registry.keys())}
    sums = store.ledger.usage(since=0, until=10**13, by=())
    ledger = [sum(each.requests for each in sums), sum(each.input_tokens for each in sums)]
    used = [QUOTA - level.remaining for level in seen.levels]
    say("start", json.dumps({"requests": used[0], "tokens": used[1], "keys": keys, "ledger": ledger}))
    await store.start()
    for n in itertools.count():
        name = f"{round_}-{n}"
        say("try", name)
        answer = await store.counters.reserve(name, "edge", [REQUESTS, TOKENS], 600_000, facts(name))
        assert isinstance(answer, Reserved)
        say("ok", name)
        if n % 2:
            say("settling", name)
            done = await store.counters.settle(name, "edge", {Unit.TOKENS: USED}, note(USED))
            assert done.outcome is Outcome.SETTLED
            say("settled", name)
        if n % 40 == 0:
            key = Key(id=name, digest=os.urandom(32), display=name, user="u", created_at=wall_clock())
            store.registry.add_key(key)
            say("key", name)
            if n % 80 == 0:
                store.registry.put_key(
                    Key(id=name, digest=key.digest, display=name, user="u", created_at=1, revoked_at=2)
                )
                say("revoked", name)
        if n % 20 == 0:
            await asyncio.sleep(0.001)


def look(hold: Hold) -> Hold:
    return Hold(hold.key, hold.kind, hold.unit, hold.quota, 0, hold.window)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
