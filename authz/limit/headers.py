"""How much is left, as response headers.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10:
lists of strings (RFC 9651) with the parameters q, qu, w, pk and r, t, pk. The
`x-ratelimit-*` ones are those that OpenAI sends and its clients read.

Units that the draft's registry lacks are spelled `tokens`, `input-tokens`,
`output-tokens` and `nanocost` (1e-9 of the currency).
"""

from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from math import ceil
from urllib.parse import quote

from authz.decision import Header, LimitState
from authz.quota import Unit

LARGEST = 999_999_999_999_999  # RFC 9651 3.3.1: an Integer has at most 15 digits
_KEY_BYTES = 9  # of the partition's SHA-256: 12 base64 characters without padding
_NAME = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) not in '%"\\')
_UNIT = {
    Unit.REQUESTS: "",  # the draft's default
    Unit.TOKENS: ';qu="tokens"',
    Unit.INPUT_TOKENS: ';qu="input-tokens"',
    Unit.OUTPUT_TOKENS: ';qu="output-tokens"',
    Unit.COST: ';qu="nanocost"',
    Unit.CONCURRENCY: ';qu="concurrent-requests"',
}


def rate_headers(limits: Sequence[LimitState], *, wait_ms: int | None = None) -> tuple[Header, ...]:
    """The rate headers of an answer; none when no live policy applied.

    Shadow policies are not shown. `wait_ms` is a refusal's Retry-After: what is
    exhausted then says that more is to be had no later (draft-10, 6).
    """
    policies: list[str] = []
    levels: list[str] = []
    requests: LimitState | None = None
    tokens: LimitState | None = None
    for state in limits:
        if state.shadow:
            continue
        unit = state.unit
        described, head, tail = _static(
            state.policy, unit, state.quota, state.window_seconds, state.partition
        )
        policies.append(described)
        remaining = state.remaining
        if remaining < 0:
            remaining = 0
        levels.append(f"{head}{min(remaining, LARGEST)}{_reset(state, wait_ms)}{tail}")
        if unit == "requests":
            if requests is None or remaining < requests.remaining:
                requests = state
        elif unit == "tokens" and (tokens is None or remaining < tokens.remaining):
            tokens = state
    if not policies:
        return ()
    headers = [("ratelimit-policy", ", ".join(policies)), ("ratelimit", ", ".join(levels))]
    if requests is not None:
        headers += (
            ("x-ratelimit-limit-requests", str(requests.quota)),
            ("x-ratelimit-remaining-requests", str(max(requests.remaining, 0))),
            ("x-ratelimit-reset-requests", spell_reset(requests.reset_after)),
        )
    if tokens is not None:
        headers += (
            ("x-ratelimit-limit-tokens", str(tokens.quota)),
            ("x-ratelimit-remaining-tokens", str(max(tokens.remaining, 0))),
            ("x-ratelimit-reset-tokens", spell_reset(tokens.reset_after)),
        )
    return tuple(headers)


def _reset(state: LimitState, wait_ms: int | None) -> str:
    """`;t=`: whole seconds; a concurrency limit has none, nobody knows when a request ends."""
    if state.unit == "concurrency":
        return ""
    seconds = state.reset_after
    if wait_ms is not None and wait_ms >= 0 and state.exhausted:
        seconds = min(seconds, wait_ms / 1000)
    return f";t={ceil(seconds)}" if seconds > 0 else ";t=0"


@lru_cache(maxsize=8192)
def _static(policy: str, unit: str, quota: int, window_seconds: int, partition: str) -> tuple[str, str, str]:
    """The RateLimit-Policy item, and a RateLimit item up to and after its figures."""
    name = f'"{quote_name(policy)}"'
    window = f";w={window_seconds}" if window_seconds > 0 and unit != Unit.CONCURRENCY else ""
    key = f";pk=:{b64encode(sha256(partition.encode()).digest()[:_KEY_BYTES]).decode()}:" if partition else ""
    return f"{name};q={min(quota, LARGEST)}{_UNIT[Unit(unit)]}{window}{key}", f"{name};r=", key


def quote_name(policy: str) -> str:
    """A policy's name as the inside of a String (RFC 9651 3.3.3): what does not fit is percent-encoded."""
    return quote(policy, safe=_NAME)


def spell_reset(seconds: float) -> str:
    """As OpenAI spells it: `120ms`, `1s`, `6m0s`, `24h0m0s`. Rounded up."""
    if seconds <= 0:
        return "0s"
    if seconds <= 0.999:
        return f"{ceil(seconds * 1000)}ms"
    minutes, rest = divmod(ceil(seconds), 60)
    if minutes == 0:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
