"""How much is left, as response headers.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10:
lists of strings (RFC 9651) with the parameters q, qu, w, pk and r, t, pk. The
`x-ratelimit-*` ones are those that OpenAI sends and its clients read.

Units that the draft's registry lacks are spelled `tokens`, `input-tokens`,
`output-tokens` and `nanocost` (1e-9 of the currency).
"""

from base64 import b64encode
from collections.abc import Container, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Protocol
from urllib.parse import quote

from msgspec import Struct

from authz.decision import Header, Limit
from authz.quota import Unit
from authz.store.protocols import Level

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


class Shown(Struct, frozen=True, gc=False):
    """What the headers say of a limit to one partition from request to request."""

    unit: str
    timed: bool  # whether anybody knows when it is free again
    quota: str
    policy: str  # the RateLimit-Policy item
    head: str  # the RateLimit item up to its figures
    tail: str  # and what is behind them


def shown(limit: Limit) -> Shown | None:
    """None: it is a shadow, of which nothing is shown."""
    if limit.shadow:
        return None
    policy, head, quota = _spelled(limit.policy, limit.unit, limit.quota, limit.window_seconds)
    key = ""
    if limit.partition:
        key = f";pk=:{b64encode(sha256(limit.partition.encode()).digest()[:_KEY_BYTES]).decode()}:"
    return Shown(
        unit=limit.unit,
        timed=limit.unit != Unit.CONCURRENCY,
        quota=quota,
        policy=policy + key,
        head=head,
        tail=key,
    )


@lru_cache(maxsize=1024)
def _spelled(policy: str, unit: str, quota: int, window_seconds: int) -> tuple[str, str, str]:
    """The RateLimit-Policy item, the beginning of the RateLimit item, both without a partition; the quota."""
    name = f'"{quote_name(policy)}"'
    window = f";w={window_seconds}" if window_seconds > 0 and unit != Unit.CONCURRENCY else ""
    return f"{name};q={min(quota, LARGEST)}{_UNIT[Unit(unit)]}{window}", f"{name};r=", str(quota)


class HasShown(Protocol):
    @property
    def shown(self) -> Shown | None: ...


def rate_headers(
    planned: Sequence[HasShown],
    levels: Sequence[Level],
    *,
    denied: Container[int] = (),
    wait_ms: int | None = None,
) -> tuple[Header, ...]:
    """The rate headers of an answer, by how each limit stands; none when no live policy applied.

    `wait_ms` is a refusal's Retry-After: what is `denied` (by index) then says that more is to be had
    no later (draft-10, 6).
    """
    policies: list[str] = []
    items: list[str] = []
    requests = tokens = -1  # the tightest of each
    for index, each in enumerate(planned):
        limit = each.shown
        if limit is None:
            continue
        level = levels[index]
        policies.append(limit.policy)
        remaining, reset_ms, unit = level.remaining, level.reset_ms, limit.unit
        left = remaining if 0 <= remaining <= LARGEST else min(max(remaining, 0), LARGEST)
        if not limit.timed:
            items.append(f"{limit.head}{left}{limit.tail}")
        else:
            if wait_ms is not None and wait_ms >= 0 and index in denied:
                reset_ms = min(reset_ms, wait_ms)
            items.append(f"{limit.head}{left};t={-(-reset_ms // 1000)}{limit.tail}")
        if unit == "requests":
            if requests < 0 or remaining < levels[requests].remaining:
                requests = index
        elif unit == "tokens" and (tokens < 0 or remaining < levels[tokens].remaining):
            tokens = index
    if not policies:
        return ()
    headers: tuple[Header, ...] = (
        ("ratelimit-policy", ", ".join(policies)),
        ("ratelimit", ", ".join(items)),
    )
    if requests >= 0:
        headers += _openai(planned[requests].shown, levels[requests], _OPENAI_REQUESTS)
    if tokens >= 0:
        headers += _openai(planned[tokens].shown, levels[tokens], _OPENAI_TOKENS)
    return headers


_OPENAI_REQUESTS = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
_OPENAI_TOKENS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")


def _openai(limit: Shown | None, level: Level, names: tuple[str, str, str]) -> tuple[Header, ...]:
    assert limit is not None
    quota, remaining, reset = names
    left = level.remaining
    return (
        (quota, limit.quota),
        (remaining, str(left) if left > 0 else "0"),
        (reset, spell_reset(level.reset_ms)),
    )


def quote_name(policy: str) -> str:
    """A policy's name as the inside of a String (RFC 9651 3.3.3): what does not fit is percent-encoded."""
    return quote(policy, safe=_NAME)


def spell_reset(milliseconds: int) -> str:
    """As OpenAI spells it: `120ms`, `1s`, `6m0s`, `24h0m0s`. Rounded up."""
    if milliseconds <= 0:
        return "0s"
    return f"{milliseconds}ms" if milliseconds < 1000 else _spell_seconds(-(-milliseconds // 1000))


@lru_cache(maxsize=4096)
def _spell_seconds(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    if minutes == 0:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
