"""Names of what is kept in Redis: `az:{shard}:kind:...`, so that a shard's keys share one hash slot.

No name holds a secret, and none can be read in two ways: what others choose stands last,
and a hash tag is a number of ours or `r`, so that no brace in a name moves it to another slot
(Redis Cluster specification, "Hash tags": the first `{`, and the first `}` after it).
"""

from hashlib import blake2b

SINGLE = ("0",)
"""The shards of a server that keeps all keys: one, so that every request is one call."""

SPREAD = tuple(str(number) for number in range(256))
"""The shards of a Cluster. Their number never changes: a counter's place follows from it."""

RECORDS = "r"
"""The shard of keys, users, teams, models, adjustments, refusals and trials."""


def shard_of(owner: str, shards: tuple[str, ...]) -> str:
    """Where everything of an owner is: the same in every process, for ever."""
    if len(shards) == 1:
        return shards[0]
    return shards[int.from_bytes(blake2b(owner.encode(), digest_size=4).digest(), "big") % len(shards)]


def counter(shard: str, key: str) -> str:
    """A counter of `Hold.key`."""
    return f"az:{{{shard}}}:c:{key}"


def leases(shard: str, key: str) -> str:
    """Who holds a slot of `Hold.key`, by deadline."""
    return f"az:{{{shard}}}:l:{key}"


def reservation(shard: str, id: str) -> str:
    """A reservation, or what is left of a settled one."""
    return f"az:{{{shard}}}:r:{id}"


def cancelled(shard: str, attempt: str) -> str:
    """The tombstone of an attempt to reserve that was given up before it came."""
    return f"az:{{{shard}}}:x:{attempt}"


def running(shard: str) -> str:
    """Reservations that nobody settled, by deadline."""
    return f"az:{{{shard}}}:open"


def late(shard: str) -> str:
    """Reservations that expired and may still be corrected, in the order of their end."""
    return f"az:{{{shard}}}:late"


def closed(shard: str) -> str:
    """The stream of reservations that ended, on their way into the ledger."""
    return f"az:{{{shard}}}:closed"


def ledger(shard: str, what: str) -> str:
    """Parts of the ledger."""
    return f"az:{{{shard}}}:d:{what}"


def records(what: str) -> str:
    """Parts of the records."""
    return f"az:{{{RECORDS}}}:{what}"
