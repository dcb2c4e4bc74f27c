"""A streamed chat: passed on as it comes, and in the ledger when it is over."""

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from authz.probe.finding import Finding, judged, unseen
from authz.probe.scene import Scene, told
from authz.store.records import Source

_FEWEST: Final = 4  # events that a judgement needs
_TOO_QUICK: Final = 0.1  # seconds in which it cannot be told
_APART: Final = 0.05  # seconds between the first and the last event that no gateway makes by itself
_PAUSE: Final = 0.002  # seconds between two events that came one by one
_COUNTED: Final = frozenset({Source.REPORTED, Source.CORRECTED})


def stream(scene: Scene) -> Iterator[Finding]:
    """Both of one and the same chat."""
    answer = scene.chat(stream=True)
    over = time.monotonic()
    unbuffered, settled = "events one by one", f"in the ledger, {_source(scene)}"
    if answer.status != 200:
        yield judged(
            "a stream", unbuffered, told(answer), False, "the chat before it worked: ask for its log"
        )
        return
    yield _timing(unbuffered, answer.asked_at, answer.arrivals)
    id = answer.header("x-request-id")
    if scene.witness is None or id is None:
        yield unseen("its settlement", settled, "not seen: the ledger is out of reach from here")
        return
    entry = scene.witness.entry(id)
    waited = time.monotonic() - over
    if entry is None:
        scene.settles = False
        advice = (
            "nobody tells authz what a request used: it is charged the most that it could use. "
            f"See {scene.kind} in docs/gateways.md, and POST /v1/usage in docs/settlement.md"
        )
        yield judged("its settlement", settled, f"not after {waited:.0f} s", False, advice)
        return
    source, usage = entry.note.source, entry.note.usage
    seen = f"{source}, {usage.input}+{usage.output} tokens, after {waited:.1f} s"
    right = source in _COUNTED or (source is Source.ESTIMATED and not scene.reported)
    scene.settles = right
    yield judged("its settlement", settled, seen, right, _why_not_counted(source))


def _source(scene: Scene) -> str:
    return "reported" if scene.reported else "by its bytes"


def _why_not_counted(source: Source) -> str:
    if source is Source.ESTIMATED:
        return (
            "no usage was found in the answer: does the model server tell it in streams (include_usage), "
            "and may the gateway change bodies (x-authz-gateway-can: edit)?"
        )
    return "authz believes no report of this gateway: it has to prove itself, or nobody reports at all"


def _timing(expected: str, asked_at: float, arrivals: Sequence[float]) -> Finding:
    probe = "a stream"
    if len(arrivals) < _FEWEST:
        return unseen(probe, expected, f"only {len(arrivals)} events: too few to tell")
    first, last = arrivals[0] - asked_at, arrivals[-1] - asked_at
    seen = f"{len(arrivals)} events from {first * 1000:.0f} to {last * 1000:.0f} ms"
    if last < _TOO_QUICK:
        return unseen(probe, expected, f"{seen}: too quick to tell")
    pauses = sum(late - early > _PAUSE for early, late in pairwise(arrivals))
    right = last - first > _APART or pauses >= _FEWEST - 1
    advice = "it keeps the answer back until it is whole: switch buffering off (nginx: proxy_buffering off)"
    return judged(probe, expected, seen, right, advice)
