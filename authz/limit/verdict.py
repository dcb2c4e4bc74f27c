"""What an exhausted limit means to the caller: try again shortly, or not at all."""

from collections.abc import Sequence

from authz.decision import LimitState
from authz.limit.estimate import Bound
from authz.limit.planned import Planned
from authz.limit.room import longest_answer
from authz.quota import NANO, Unit
from authz.reason import Reason
from authz.refusal import Refusal
from authz.store.protocols import Exhausted, Kind, Level, OnFailure, StoreUnavailable

PATIENCE_MS = 120_000  # no client waits longer: the OpenAI SDK gives up on a Retry-After above two minutes
LEASE_RETRY_MS = 1_000  # when a running request ends is unknown: a first try after this

_BY_SHARE = "The store of the limits does not answer; what is left is the share of one replica."


def verdict(
    planned: Sequence[Planned], outcome: Exhausted, request_id: str, bound: Bound, field: str
) -> tuple[Refusal, int | None]:
    """The refusal, and after how many milliseconds another try makes sense (None: it does not).

    `field` is what the request's API calls the limit of an answer. Whatever a limit says of its own in place
    of the status and the sentence, the reason stays, and with it whether waiting helps.
    """
    worst = _worst(planned, outcome)
    refusal, wait_ms = _usual(planned, outcome, request_id, bound, field, worst)
    if outcome.local:
        refusal = Refusal(refusal.reason, f"{refusal.message} {_BY_SHARE}")
    policy = planned[worst].policy
    if policy.refusal_status is not None or policy.refusal_message is not None:
        message = policy.refusal_message or refusal.message
        refusal = Refusal(refusal.reason, message, refusal.param, policy.refusal_status)
    return refusal, wait_ms


def without_store(failure: StoreUnavailable, planned: Sequence[Planned]) -> str:
    """Why a request is refused that could not be counted, for the operator."""
    firm = [each.policy.name for each in planned if each.hold.on_failure is OnFailure.DENY]
    if not firm:
        return str(failure)
    names = ", ".join(repr(name) for name in firm)
    return f"{failure}; {names} refuse{'s' if len(firm) == 1 else ''} meanwhile (on_store_failure: deny)"


def _usual(
    planned: Sequence[Planned],
    outcome: Exhausted,
    request_id: str,
    bound: Bound,
    field: str,
    worst: int,
) -> tuple[Refusal, int | None]:
    each, level = planned[worst], outcome.levels[worst]
    if each.hold.kind is Kind.CONCURRENCY:
        held = (
            f"{each.hold.quota} requests of {_whom(each)} are running, "
            f"which is all that {each.policy.name!r} allows"
        )
        retry = LEASE_RETRY_MS if each.hold.quota else None
        reason = Reason.CONCURRENCY_LIMITED if each.hold.quota else Reason.QUOTA_EXHAUSTED
        return Refusal(reason, f"{held} (request {request_id})."), retry
    text = _text(each, level, request_id) + _advice(planned, outcome, bound, field)
    settled_is_in_the_way = each.hold.amount > level.remaining + level.held
    hopeless = outcome.wait_ms < 0 or outcome.wait_ms > PATIENCE_MS or each.hold.kind is Kind.CALENDAR
    if outcome.wait_ms < 0 or (hopeless and settled_is_in_the_way):
        return Refusal(Reason.QUOTA_EXHAUSTED, text), None if outcome.wait_ms < 0 else outcome.wait_ms
    if not settled_is_in_the_way:
        return Refusal(Reason.RATE_LIMITED, text), min(outcome.wait_ms, LEASE_RETRY_MS)
    return Refusal(Reason.RATE_LIMITED, text), outcome.wait_ms


def _worst(planned: Sequence[Planned], outcome: Exhausted) -> int:
    """The denied policy that frees latest; counters come before concurrency."""

    def order(index: int) -> tuple[bool, bool, int]:
        hold = planned[index].hold
        return hold.kind is not Kind.CONCURRENCY, hold.amount > hold.quota, outcome.levels[index].reset_ms

    return max(outcome.denied, key=order)


def _whom(each: Planned) -> str:
    return ", ".join(f"{dimension} {value}" for dimension, value in each.partition) or "everybody"


def _text(each: Planned, level: Level, request_id: str) -> str:
    unit, quota = each.policy.quota.unit, each.policy.quota
    figures = (
        f"needed {amount_text(each.hold.amount, unit)}, left {amount_text(level.remaining, unit)} "
        f"of {amount_text(each.limit.quota, unit)} {unit}"
    )
    if each.hold.amount > each.hold.quota:
        return (
            f"The limit {each.policy.name!r} can never admit this request: {figures} per {quota.window} "
            f"(request {request_id})."
        )
    return (
        f"The limit {each.policy.name!r} of {_whom(each)} is used up: {figures} per {quota.window}, "
        f"reset in {_span(level.reset_ms)} (request {request_id})."
    )


def _advice(planned: Sequence[Planned], outcome: Exhausted, bound: Bound, field: str) -> str:
    """What would fit, where asking for a shorter answer can help."""
    ever = outcome.wait_ms < 0
    longest = longest_answer(planned, outcome, bound, ever=ever)
    if longest is None:
        return ""
    if longest:
        return f" With `{field}` at most {longest} it {'could fit' if ever else 'would fit now'}."
    return f" No `{field}` is small enough{'' if ever else ' now'}: the input alone takes too much."


def describe(limits: Sequence[LimitState]) -> str:
    """What a request that fits needs of each limit, for a person."""
    if not limits:
        return "no limit applies"
    return "; ".join(
        f"{state.limit.policy!r} {'only counts, ' if state.limit.shadow else ''}"
        f"needs {amount_text(state.limit.needed, Unit(state.limit.unit))}, left "
        f"{amount_text(state.remaining, Unit(state.limit.unit))} of "
        f"{amount_text(state.limit.quota, Unit(state.limit.unit))} "
        + (f"{state.limit.unit} per {state.limit.window}" if state.limit.window else "requests at once")
        for state in limits
    )


def amount_text(amount: int, unit: Unit) -> str:
    """Cost in the currency, anything else as it is counted."""
    return f"{amount / NANO:.9f}".rstrip("0").rstrip(".") if unit is Unit.COST else str(amount)


def _span(milliseconds: int) -> str:
    seconds = -(-milliseconds // 1000)
    if seconds < 120:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{-(-minutes // 60)} h"
