"""A limiter over counters of a clock, and requests in few words."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from authz.config.yaml_source import parse
from authz.ratelimit.limiter import Answer, RateLimiter
from authz.ratelimit.limits import Node, Rules
from authz.ratelimit.load import load_limits
from authz.ratelimit.match import Descriptor
from authz.ratelimit.read import Reading
from authz.store.protocols import Counters

DOCUMENTED = Path(__file__).parent / "documented"
"""The examples of https://github.com/envoyproxy/ratelimit#examples, and its demonstration."""


def rules_of(text: str) -> Rules:
    """The limits of one file, which must be right."""
    reading = Reading(parse(text.encode(), "limits.yaml"))
    domain, descriptors = reading.read()
    node = Node()
    reading.add(node, descriptors)
    assert reading.problems == []
    return {domain: node}


def put(path: Path, text: str) -> None:
    """Write a file that is watched: at once, so that nobody reads half of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def documented() -> Rules:
    return load_limits(DOCUMENTED, {}).rules


def limiter(counters: Counters, rules: Rules | str, **options: Any) -> RateLimiter:
    ids = itertools.count()
    rules = rules_of(rules) if isinstance(rules, str) else rules
    return RateLimiter(counters, rules, lambda: f"req_{next(ids)}", **options)


def d(*entries: tuple[str, str], hits: int | None = None, limit: tuple[int, int] | None = None) -> Descriptor:
    """A descriptor; `limit` overrides the files."""
    return Descriptor(entries, hits, limit)


def codes(answer: Answer) -> str:
    """A letter for each descriptor: `o` is over its limit, `k` is not."""
    assert answer.over == any(status.over for status in answer.statuses)
    return "".join("o" if status.over else "k" for status in answer.statuses)


def remaining(answer: Answer) -> list[int]:
    return [status.remaining for status in answer.statuses]


async def ask(
    limiter: RateLimiter, domain: str, *descriptors: Descriptor, hits: int = 0, times: int = 1
) -> list[str]:
    """The codes of so many equal requests."""
    return [codes(await limiter.decide(domain, descriptors, hits)) for _ in range(times)]


def allowed(answers: Sequence[str]) -> int:
    return sum("o" not in answer for answer in answers)
