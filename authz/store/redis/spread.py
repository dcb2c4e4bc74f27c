"""Requests whose holds lie in several shards of a Cluster: the others first, the reservation's own last.

Each shard keeps its part as a reservation of its own under the same id; only the home has the facts, and
names the others. If any part is refused the rest is taken back, so nothing is ever over. Who dies half way
leaves parts that stay charged until they expire: less is let through, never more. A settlement of a part that
is not answered is tried again (`unsettled`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from authz.quota import Unit
from authz.store.protocols import (
    Exhausted,
    Hold,
    Kind,
    Level,
    Reserved,
    Settled,
    StoreUnavailable,
)
from authz.store.redis.calls import Calls, all_of
from authz.store.redis.unsettled import Unanswered, Unsettled

_APART = ","

Answer = Reserved | Exhausted


class Part(NamedTuple):
    """The holds of one shard, and which ones of the request's they are."""

    shard: str
    holds: tuple[Hold, ...]
    indices: tuple[int, ...]


class Request(NamedTuple):
    """Whose holds they are, as `Counters.reserve` is told."""

    reservation: str
    attempt: str
    gateway: str
    ttl_ms: int
    facts: bytes


def parts_of(holds: Sequence[Hold], home: str, shard_of: Callable[[Hold], str]) -> list[Part]:
    """Tell the holds apart by shard: first the home, which may have none of them."""
    found: dict[str, list[int]] = {home: []}
    for index, hold in enumerate(holds):
        found.setdefault(shard_of(hold), []).append(index)
    return [
        Part(shard, tuple([holds[index] for index in indices]), tuple(indices))
        for shard, indices in found.items()
    ]


Asked = list[tuple[Part, asyncio.Future[Any]]]
"""The reservations that were asked for."""


async def reserve(calls: Calls, parts: Sequence[Part], request: Request) -> Answer:
    """Make all parts or none, also where the caller goes away half way."""
    asked: Asked = []
    try:
        return await _reserve(calls, parts, request, asked)
    except asyncio.CancelledError:
        # Its own counters lie in the home, which comes last: else a caller who always goes away in time
        # would use up what belongs to all.
        for part, question in asked:
            if not question.cancel() and not question.cancelled():  # the link takes back what is cancelled
                calls.cancel(part.shard, request.reservation, request.attempt)
        raise


async def _reserve(calls: Calls, parts: Sequence[Part], request: Request, asked: Asked) -> Answer:
    home, *others = parts
    settles = bool(request.facts) or any(
        hold.unit is not Unit.REQUESTS for part in parts for hold in part.holds
    )
    has_slots = any(hold.kind is Kind.CONCURRENCY for part in parts for hold in part.holds)
    remember = settles and (request.ttl_ms > 0 or has_slots)

    def ask(part: Part, facts: bytes, elsewhere: str) -> asyncio.Future[Any]:
        question = calls.reserve(
            part.shard,
            request.reservation,
            request.attempt,
            request.gateway,
            part.holds,
            request.ttl_ms,
            facts,
            remember=remember,
            elsewhere=elsewhere,
        )
        asked.append((part, question))
        return question

    answers, trouble = await _answers(calls, [ask(part, b"", "") for part in others])
    if trouble is None and all(isinstance(answer, Reserved) for answer in answers):
        elsewhere = _APART.join(part.shard for part in others)
        home_answer, trouble = await _answers(calls, [ask(home, request.facts, elsewhere)])
        answers = [*home_answer, *answers]
    else:
        answers = [None, *answers]
    if trouble is None and all(isinstance(answer, Reserved) for answer in answers):
        return _together(parts, answers)
    taken_back = []
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(answer, Reserved):
            taken_back.append(calls.cancel(part.shard, request.reservation, request.attempt))
    for question in taken_back:
        with suppress(StoreUnavailable):  # the link goes on trying
            await question
    if trouble is not None:
        raise trouble
    return await _refused(calls, parts, answers)


async def peek(calls: Calls, parts: Sequence[Part]) -> Answer:
    """What `reserve` would answer."""
    answers, trouble = await _answers(calls, [calls.peek(part.shard, part.holds) for part in parts])
    if trouble is not None:
        raise trouble
    if all(isinstance(answer, Reserved) for answer in answers):
        return _together(parts, answers)
    return await _refused(calls, parts, answers)


async def settle_rest(
    calls: Calls,
    unsettled: Unsettled,
    elsewhere: str,
    settled: Settled,
    reservation: str,
    gateway: str,
    actual: Mapping[Unit, int],
) -> Settled:
    """The parts in other shards, after the home's. One that cannot be reached is settled later."""
    parts = [Unanswered(shard, reservation, gateway, actual) for shard in elsewhere.split(_APART)]
    try:
        rest = await asyncio.gather(
            *(calls.settle(shard, reservation, gateway, actual, b"") for shard, *_ in parts),
            return_exceptions=True,
        )
    except asyncio.CancelledError:  # the home does not name the others a second time
        for part in parts:
            unsettled.add(part)
        raise
    holds, levels = settled.holds, settled.levels
    for part, each in zip(parts, rest, strict=True):
        if isinstance(each, StoreUnavailable):
            unsettled.add(part)
            continue
        if isinstance(each, BaseException):
            raise each
        holds += each[0].holds
        levels += each[0].levels
    return Settled(settled.outcome, holds, levels)


async def extend_rest(
    calls: Calls, elsewhere: str, reservation: str, gateway: str, ttl_ms: int, life_ms: int
) -> bool:
    """The parts in other shards. False: one was given up, so that its slot may be another's."""
    rest = await asyncio.gather(
        *(calls.extend(shard, reservation, gateway, ttl_ms, life_ms) for shard in elsewhere.split(_APART))
    )
    return all(runs for runs, _ in rest)


async def _answers(
    calls: Calls, asked: Sequence[asyncio.Future[Any]]
) -> tuple[list[Answer | None], StoreUnavailable | None]:
    """All answers, None for what did not come, and why it did not."""
    answers: list[Answer | None] = []
    trouble = None
    for question in asked:
        try:
            answers.append(calls.answer(await question))
        except StoreUnavailable as error:
            answers.append(None)
            trouble = error
    return answers, trouble


def _together(parts: Sequence[Part], answers: Sequence[Answer | None]) -> Reserved:
    """All parts were reserved. Whether it is a replay is what the home says."""
    levels: dict[int, Level] = {}
    over: list[int] = []
    for part, answer in zip(parts, answers, strict=True):
        assert isinstance(answer, Reserved)
        levels |= zip(part.indices, answer.levels, strict=True)
        over += [part.indices[place] for place in answer.over]
    home = answers[0]
    assert isinstance(home, Reserved)
    return Reserved(tuple([levels[index] for index in sorted(levels)]), home.replay, tuple(sorted(over)))


async def _refused(calls: Calls, parts: Sequence[Part], answers: Sequence[Answer | None]) -> Exhausted:
    """The refusal as a whole: also what was not asked, or taken back since, and how all counters stand."""
    denials = {part: answer for part, answer in zip(parts, answers, strict=True) if answer is not None}
    unasked = [part for part in parts if part not in denials]
    fitting = [part for part in parts if not isinstance(denials.get(part), Exhausted)]
    asked = [calls.peek(part.shard, part.holds) for part in unasked]
    stands = [
        calls.peek(part.shard, [msgspec.structs.replace(hold, amount=0) for hold in part.holds])
        for part in fitting
    ]
    replies = [calls.answer(reply) for reply in await all_of([*asked, *stands])]
    denials |= zip(unasked, replies, strict=False)
    shown = denials | dict(zip(fitting, replies[len(asked) :], strict=True))
    levels: dict[int, Level] = {}
    denied: list[int] = []
    waits: list[int] = []
    for part in parts:
        levels |= zip(part.indices, shown[part].levels, strict=True)
        answer = denials[part]
        if isinstance(answer, Exhausted):
            denied += [part.indices[place] for place in answer.denied]
            waits.append(answer.wait_ms)
    wait = -1 if min(waits) < 0 else max(waits)
    return Exhausted(tuple(sorted(denied)), wait, tuple([levels[index] for index in sorted(levels)]))
