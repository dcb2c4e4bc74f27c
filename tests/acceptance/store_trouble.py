"""Redis in trouble behind one authz under load: what callers see before, meanwhile and after."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from authz.authenticate.key_format import MintedKey, mint
from authz.store.open import open_view
from authz.store.store import Store
from tests.acceptance.lab import add_key, ask, eventually, samples
from tests.acceptance.store_load import Answer, Caller, Load, quantile, question, statuses
from tests.support.asking import Asker
from tests.support.noon import NOON
from tests.support.redis import RedisServer
from tests.support.service import AuthzService
from tests.support.toxic import Toxic

TOKEN = "token-of-edge-in-the-tests"
BUDGET_MS = 50
QUOTA = 1_000_000
SPENT = 3
POLICIES = ("deny", "allow", "local")
CONFIG = f"""
timezone: {NOON}
gateways:
  edge: {{kind: traefik, token: {TOKEN}}}
authenticators:
  keys: {{type: api_key}}
models:
  on-deny: {{context: 4096, max_output: 64}}
  on-allow: {{context: 4096, max_output: 64}}
  on-local: {{context: 4096, max_output: 64}}
  spent-deny: {{context: 4096, max_output: 64}}
  spent-local: {{context: 4096, max_output: 64}}
  hidden: {{context: 4096, max_output: 64, access: {{roles: [nobody]}}}}
routes:
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
    limits: [deny, allow, local, spent-deny, spent-local]
limits:
  deny: {{unit: requests, quota: {QUOTA}, window: day, partition_by: [key], when: {{models: [on-deny]}}, on_store_failure: deny}}
  allow: {{unit: requests, quota: {QUOTA}, window: day, partition_by: [key], when: {{models: [on-allow]}}, on_store_failure: allow}}
  local: {{unit: requests, quota: {QUOTA}, window: day, partition_by: [key], when: {{models: [on-local]}}, on_store_failure: local}}
  spent-deny: {{unit: requests, quota: {SPENT}, window: day, partition_by: [key], when: {{models: [spent-deny]}}, on_store_failure: deny}}
  spent-local: {{unit: requests, quota: {SPENT}, window: day, partition_by: [key], when: {{models: [spent-local]}}, on_store_failure: local}}
"""
NEVER = ("revoked", "unknown", "hidden", "spent-deny", "spent-local")
"""Callers that nobody may ever let in, whatever becomes of the store."""

WITHOUT_STORE = ("revoked", "unknown", "hidden")
"""Of these: decided from memory, so that what they wait is this machine's own doing."""

WARM_UP = 0.4  # seconds: first requests compile and connect
QUIET = 0.5  # seconds without a bad answer are a recovery


@dataclass(frozen=True)
class Trouble:
    """What happens to Redis. `meanwhile` is called again and again until the trouble is over."""

    name: str
    begin: Callable[["Place"], None]
    end: Callable[["Place"], None]
    meanwhile: Callable[["Place"], None] = lambda at: time.sleep(0.02)
    answers: bool = False  # it does, now and then: a limit that says `deny` may let through


@dataclass(frozen=True)
class Place:
    """Redis, the way to it, and who goes it."""

    server: RedisServer
    toxic: Toxic
    service: AuthzService
    view: Store


def _slow(delay_ms: float) -> Callable[[Place], None]:
    def begin(at: Place) -> None:
        at.toxic.delay_ms = delay_ms

    return begin


def _reset_next(at: Place) -> None:
    at.toxic.reset_mid_reply(after=2)
    time.sleep(0.03)


TROUBLES = (
    Trouble("stopped", lambda at: at.server.pause(), lambda at: at.server.resume()),
    Trouble("killed", lambda at: at.server.kill(), lambda at: at.server.restart()),
    Trouble("slow-20ms", _slow(20), lambda at: at.toxic.mend(), answers=True),
    Trouble("slow-200ms", _slow(200), lambda at: at.toxic.mend()),
    Trouble("reset", _reset_next, lambda at: at.toxic.mend(), _reset_next, answers=True),
)


@contextmanager
def redis_behind_a_proxy(scratch: Path) -> Iterator[tuple[RedisServer, Toxic]]:
    # Without fsync each write is the kernel's before it is answered, so that kill -9 loses nothing. With
    # `everysec` it waits for up to 2 s while the disk is busy.
    kept = ("appendonly", "yes", "appendfsync", "no")
    with RedisServer(scratch, *kept) as server, Toxic(server.port) as toxic:
        yield server, toxic


@contextmanager
def place(scratch: Path, server: RedisServer, toxic: Toxic) -> Iterator[Place]:
    """A service of its own, so that its figures are of one trouble alone."""
    with ExitStack() as stack:
        store = f"{toxic.url}?budget={BUDGET_MS}ms"
        service = stack.enter_context(AuthzService(scratch, CONFIG, store=store))
        yield Place(server, toxic, service, open_view(server.url))


@dataclass
class Seen:
    """One trouble from its beginning to its end."""

    load: Load
    trouble: Trouble
    begun: float  # what is without trouble; all are of time.monotonic()
    breaking: float
    broken: float
    mending: float
    mended: float
    recovered: float
    over: float
    longest_wait_ms: float  # inside authz, on the store
    key: MintedKey

    def phases(self, caller: str) -> Mapping[str, list[Answer]]:
        return {
            "before": [each for each in self.load.of(caller, self.begun) if each.done < self.breaking],
            "during": self.load.of(caller, self.broken, self.mending),
            "after": self.load.of(caller, self.recovered, self.over),
        }

    @property
    def stall_ms(self) -> float:
        """The longest wait of those that no store is asked for: what this machine alone made anybody wait."""
        waits = [each.done - each.due for name in WITHOUT_STORE for each in self.load.of(name)]
        return max(waits) * 1000

    def recovery_ms(self, caller: str) -> float:
        """From the end of the trouble until the last answer that shows it."""
        late = [
            each.done
            for each in self.load.of(caller)
            if self.mended < each.done < self.recovered and is_bad(each)
        ]
        return (max(late, default=self.mended) - self.mended) * 1000

    def waits(self, phase: str) -> list[Answer]:
        """Of all that are let in."""
        return [each for name in POLICIES for each in self.phases(name)[phase]]

    def table(self) -> str:
        lines = [
            f"{self.trouble.name}: longest wait inside authz {self.longest_wait_ms:.1f} ms; "
            f"longest of those that need no store {self.stall_ms:.1f} ms",
            f"  {'policy':7}" + "".join(f"{phase:>8} {'p50':>6} {'p99':>6} {'p99.9':>6} " for phase in ("before", "during", "after")) + " recovery  answers during",
        ]  # fmt: skip
        for name in POLICIES:
            line = f"  {name:7}"
            for answers in self.phases(name).values():
                p50, p99, p999 = (quantile(answers, share) for share in (0.5, 0.99, 0.999))
                line += f"{len(answers):8} {p50:6.1f} {p99:6.1f} {p999:6.1f} "
            line += f"{self.recovery_ms(name):6.0f} ms  {statuses(self.phases(name)['during'])}"
            lines.append(line)
        return "\n".join(lines)


def is_bad(answer: Answer) -> bool:
    """Of a caller that is let in: it was not, or not by the store."""
    return answer.status != 200 or answer.reservation.startswith("local-")


def watch(at: Place, trouble: Trouble, seconds: float, rate: float) -> Seen:
    """Load, then trouble, then none; each for `seconds`. Everything is settled when it returns."""
    good = add_key(at.view.registry)
    revoked = add_key(at.view.registry, revoked_at=1)
    unknown = mint()
    eventually(lambda: ask(at.service, good.key).status == 200)
    keys = {"revoked": (revoked.key, "on-allow"), "unknown": (unknown.key, "on-allow")}
    callers = [Caller(name, good.key, f"on-{name}", rate) for name in POLICIES]
    for name in NEVER:
        key, model = keys.get(name, (good.key, name))
        callers.append(Caller(name, key, model, rate / 4, settles=False))
    for name in ("spent-deny", "spent-local"):
        asyncio.run(_spend(at, good.key, name))
    with _uncollected(), Load(at.service.http, TOKEN, callers) as load:
        time.sleep(WARM_UP)
        begun = time.monotonic()
        time.sleep(seconds)
        breaking = time.monotonic()
        trouble.begin(at)
        broken = time.monotonic()
        while time.monotonic() < broken + seconds:
            trouble.meanwhile(at)
        mending = time.monotonic()
        trouble.end(at)
        mended = time.monotonic()
        eventually(lambda: _recovered(load, mended), seconds=60)
        recovered = time.monotonic()
        time.sleep(seconds)
        over = time.monotonic()
    eventually(lambda: _figure(at, "authz_without_store_waiting") == 0, seconds=60)
    eventually(lambda: _figure(at, "authz_store_undos_owed") == 0, seconds=60)
    longest = _figure(at, "authz_store_longest_wait_seconds") * 1000
    return Seen(load, trouble, begun, breaking, broken, mending, mended, recovered, over, longest, good)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Whatever this process holds, collecting garbage among it would make the load wait for tens of ms."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _spend(at: Place, key: str, model: str) -> None:
    """Use a small quota up, one request after the other."""
    deadline, let_in = time.monotonic() + 60, 0
    async with Asker(at.service.http, TOKEN) as asker:
        while let_in < SPENT:
            assert time.monotonic() < deadline, f"{let_in} of {SPENT} were let in"
            let_in += (await asker.ask(key, question(model))).status == 200


def _recovered(load: Load, mended: float) -> bool:
    """Each caller that is let in was, by the store, since some time."""
    since = max(mended, time.monotonic() - QUIET)
    if time.monotonic() < mended + QUIET:
        return False
    late = [load.of(name, since) for name in POLICIES]
    return all(answers and not any(is_bad(each) for each in answers) for answers in late)


def _figure(at: Place, name: str) -> float:
    return samples(at.service, name)[()]
