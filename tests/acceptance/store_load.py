"""Callers of one authz that ask at their own pace, whatever becomes of the answers, and settle what was let through."""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from tests.support.asking import Asker, usage

GONE = (OSError, EOFError, TimeoutError)
SETTLERS = 6
PATIENCE = 60.0  # seconds, for what is still to be settled at the end


@dataclass(frozen=True)
class Caller:
    """Asks `rate` times a second for a model."""

    name: str
    key: str
    model: str
    rate: float
    settles: bool = True


class Answer(NamedTuple):
    """One of them. Times are of time.monotonic()."""

    caller: str
    due: float  # when it was to be asked; `done` less this is the wait, the generator's own delay included
    done: float
    status: int  # 0: none came
    reservation: str


@dataclass
class Load:
    """A context manager: they ask inside, from a thread of their own, and on leaving all is settled."""

    port: int
    token: str
    callers: Sequence[Caller]
    answers: list[Answer] = field(default_factory=list)
    settled: dict[str, str] = field(default_factory=dict)  # reservation -> how its report came out
    acknowledged: dict[str, float] = field(default_factory=dict)  # reservation -> when its report was

    def __post_init__(self) -> None:
        self._over = False
        self._idle: list[Asker] = []
        self._unsettled: deque[str] = deque()
        self._settling = 0  # reports under way
        self._deadline = 0.0  # of the settling, once nobody asks any more
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), name="load")
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        assert self._failure is None, self._failure

    def of(self, name: str, since: float = 0.0, until: float = float("inf")) -> list[Answer]:
        """The answers to questions that were due in that time."""
        return [each for each in list(self.answers) if each.caller == name and since <= each.due < until]

    async def _all(self) -> None:
        try:
            async with asyncio.TaskGroup() as settlers:
                for _ in range(SETTLERS):
                    settlers.create_task(self._settle_on())
                async with asyncio.TaskGroup() as askers:
                    for place, caller in enumerate(self.callers):
                        askers.create_task(self._ask_on(caller, place / len(self.callers), askers))
                self._deadline = time.monotonic() + PATIENCE
        except BaseException as failure:  # told to the thread of the test
            self._failure = failure
        finally:
            for asker in self._idle:
                asker.hang_up()

    async def _ask_on(self, caller: Caller, offset: float, tasks: asyncio.TaskGroup) -> None:
        due = time.monotonic() + offset / caller.rate
        while not self._over:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.create_task(self._ask(caller, due))
            due += 1 / caller.rate

    async def _ask(self, caller: Caller, due: float) -> None:
        asker = self._idle.pop() if self._idle else Asker(self.port, self.token)
        status, reservation = 0, ""
        with suppress(*GONE):
            told = await asker.ask(caller.key, question(caller.model))
            status, reservation = told.status, told.headers.get("x-authz-reservation", "")
        self._idle.append(asker)
        self.answers.append(Answer(caller.name, due, time.monotonic(), status, reservation))
        if status == 200 and caller.settles:
            self._unsettled.append(reservation)

    async def _settle_on(self) -> None:
        asker = Asker(self.port, self.token)
        while not self._deadline or self._unsettled or self._settling:
            if self._deadline:
                assert time.monotonic() < self._deadline, f"{len(self._unsettled)} could not be settled"
            if not self._unsettled:
                await asyncio.sleep(0.01)
                continue
            reservation = self._unsettled.popleft()
            self._settling += 1
            try:
                (outcome,) = await asker.report(usage(reservation, 1, 1))
                self.settled[reservation] = outcome
                self.acknowledged[reservation] = time.monotonic()
            except GONE:  # 503 too: whoever reports tries again
                self._unsettled.append(reservation)
                await asyncio.sleep(0.1)
            finally:
                self._settling -= 1
        asker.hang_up()


def question(model: str) -> dict[str, Any]:
    """A short one."""
    return {"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 8}


def quantile(answers: Iterable[Answer], share: float) -> float:
    """ms that so large a share of them took at most; 0 of none."""
    waits = sorted(each.done - each.due for each in answers)
    return waits[min(len(waits) - 1, int(len(waits) * share))] * 1000 if waits else 0.0


def statuses(answers: Iterable[Answer]) -> dict[int, int]:
    """How often each was seen, the commonest first."""
    return dict(Counter(each.status for each in answers).most_common())
