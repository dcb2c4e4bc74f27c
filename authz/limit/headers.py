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

from authz.decision import Header, Limit, LimitState
from authz.quota import Unit

LARGEST = 999_999_999_999_999  # RFC 9651 3.3.1: an Integer has at most 15 digits
_MOST_KEPT = 16_384
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
        limit = state.limit
        if limit.shadow:
            continue
        kept = _kept.get(id(limit))
        if kept is None or kept[0] is not limit:
            kept = _keep(limit)
        _, policy, head, tail = kept
        policies.append(policy)
        remaining, unit, seconds = state.remaining, limit.unit, state.reset_after
        shown = remaining if 0 <= remaining <= LARGEST else _bounded(remaining)
        if unit == "concurrency":  # nobody knows when a request ends
            levels.append(f"{head}{shown}{tail}")
        else:
            if wait_ms is not None and wait_ms >= 0 and state.exhausted:
                seconds = min(seconds, wait_ms / 1000)
            levels.append(f"{head}{shown};t={ceil(seconds) if seconds > 0 else 0}{tail}")
        if unit == "requests":
            if requests is None or remaining < requests.remaining:
                requests = state
        elif unit == "tokens" and (tokens is None or remaining < tokens.remaining):
            tokens = state
    if not policies:
        return ()
    headers: tuple[Header, ...] = (
        ("ratelimit-policy", ", ".join(policies)),
        ("ratelimit", ", ".join(levels)),
    )
    if requests is not None:
        headers += _openai(requests, _OPENAI_REQUESTS)
    if tokens is not None:
        headers += _openai(tokens, _OPENAI_TOKENS)
    return headers


_OPENAI_REQUESTS = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
_OPENAI_TOKENS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")


def _openai(state: LimitState, names: tuple[str, str, str]) -> tuple[Header, ...]:
    limit, remaining, reset = names
    left = state.remaining
    return (
        (limit, str(state.limit.quota)),
        (remaining, str(left) if left > 0 else "0"),
        (reset, spell_reset(state.reset_after)),
    )


def _bounded(amount: int) -> int:
    return min(max(amount, 0), LARGEST)


_Kept = tuple[Limit, str, str, str]
_kept: dict[int, _Kept] = {}
"""Limits live long and are many requests' own: they are told by identity, which is cheaper than by value."""


def _keep(limit: Limit) -> _Kept:
    spelled = (limit, *_spell(limit))
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[id(limit)] = spelled
    return spelled


def _spell(limit: Limit) -> tuple[str, str, str]:
    """The RateLimit-Policy item, and a RateLimit item up to and after its figures."""
    name = f'"{quote_name(limit.policy)}"'
    window = (
        f";w={limit.window_seconds}" if limit.window_seconds > 0 and limit.unit != Unit.CONCURRENCY else ""
    )
    key = ""
    if limit.partition:
        key = f";pk=:{b64encode(sha256(limit.partition.encode()).digest()[:_KEY_BYTES]).decode()}:"
    return f"{name};q={min(limit.quota, LARGEST)}{_UNIT[Unit(limit.unit)]}{window}{key}", f"{name};r=", key


def quote_name(policy: str) -> str:
    """A policy's name as the inside of a String (RFC 9651 3.3.3): what does not fit is percent-encoded."""
    return quote(policy, safe=_NAME)


def spell_reset(seconds: float) -> str:
    """As OpenAI spells it: `120ms`, `1s`, `6m0s`, `24h0m0s`. Rounded up."""
    if seconds <= 0:
        return "0s"
    if seconds <= 0.999:
        return f"{ceil(seconds * 1000)}ms"
    return _spell_seconds(ceil(seconds))


@lru_cache(maxsize=4096)
def _spell_seconds(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    if minutes == 0:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
