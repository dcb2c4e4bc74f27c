"""What Redis is set to, as far as the store depends on it."""

from collections.abc import Mapping, Sequence

from authz.store.redis.link import Link


async def doubtful(link: Link) -> Sequence[str]:
    """What a server (of a Cluster: one of them) should be set to otherwise. Raises StoreUnavailable."""
    found = []
    memory = _fields(await link.command("INFO", "memory"))
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory", "0") != "0" and policy != "noeviction":
        found.append(
            f"Redis drops what it holds when its memory is full (maxmemory-policy {policy}): quotas are "
            "given back and keys forgotten; set it to noeviction"
        )
    if _fields(await link.command("INFO", "persistence")).get("aof_enabled") == "0":
        found.append(
            "Redis keeps no append-only file: a restart of it forgets what came since its last snapshot, "
            "keys and quotas too; set appendonly to yes"
        )
    return found


def _fields(information: bytes) -> Mapping[str, str]:
    """What INFO tells, by name."""
    lines = information.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}
