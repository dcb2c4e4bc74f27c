"""What a counter is called by a person."""

from collections.abc import Iterable

from authz.limit.partition import read_key, spell
from authz.limit.policy import Policy

_BESIDE = "~shadow"


def name_of(counter: str, policies: Iterable[Policy]) -> tuple[str, str]:
    """Policy and partition (`team=nlp, model=llama3`); no partition where the policy has changed since."""
    name = counter.partition("|")[0]
    live = name.removesuffix(_BESIDE)
    for policy in policies:
        if policy.name == live:
            dimensions = policy.partition_by
            break
    else:
        dimensions = (name.partition(":")[0],)  # a limit of a key, user or team: `key:tokens=1000/day`
    partition = read_key(name, dimensions, counter)
    return name, spell(partition) if partition is not None else ""
