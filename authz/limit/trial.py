"""Limits on trial: what they would have refused is noted, for `authz limits report`."""

from collections.abc import Sequence

from authz.limit.planned import Planned
from authz.limit.policy import BESIDE
from authz.store.protocols import Exhausted, Reserved
from authz.store.trials import Trials


def note(trials: Trials, planned: Sequence[Planned], outcome: Reserved | Exhausted, now: int) -> None:
    """Note a request that a limit on trial was against, or that a limit with a shadow beside it refused."""
    if isinstance(outcome, Reserved):
        for index in outcome.over:
            each = planned[index]
            trials.would_refuse(each.policy.name.removesuffix(BESIDE), each.partition, now)
        return
    for index in outcome.denied:
        each = planned[index]
        if each.policy.shadow_amount is not None:
            trials.refused(each.policy.name, each.partition, now)
