"""The same drill for each kind of death: load, death, and then every claim is looked at.

admitted (200 was seen)  <=  charged  <=  sent          for each key, after each death
received by the model    <=  charged, each with a reservation of its own
acknowledged keys and revocations: all there, the newest in force
answers: decisions, or 503 in our shape, and nothing else
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from authz.authenticate.key_format import MintedKey
from tests.reliability.clerk import Clerk, new_key
from tests.reliability.load import NUMBER, Client, Load
from tests.reliability.processes import wait_for
from tests.reliability.stack import Stack
from tests.support.model import DemoModel, Received
from tests.support.raw_http import RawResponse, exchange, request_bytes

QUOTA = 100_000  # requests a day, of each client's key
SERVING_WITHIN = 2.0  # seconds; now and then others have the disk and the caches for as long again
MOST_RECORDED = 2000  # by the model
CHAT = b'{"model":"demo","messages":[{"role":"user","content":"hi"}],"max_tokens":8}'
DIRECT = "/auth/envoy/echo/direct"
THROUGH_ENVOY = ("alice", "bob", "carol")


@dataclass(frozen=True)
class Outage:
    """Seconds from a death to the first admission of the last client, and what of it nobody could help."""

    seconds: float
    kept_waiting: float  # the new process was ready, and others had the processors

    @property
    def ours(self) -> float:
        return self.seconds - self.kept_waiting


@dataclass
class Findings:
    """What the rounds of a drill came to."""

    kind: str
    outages: list[Outage] = field(default_factory=list)
    gone_after: list[float] = field(
        default_factory=list
    )  # s from a signal to `up` to the end of the last process
    figures: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        ours = sorted(outage.ours for outage in self.outages)
        worst = max(self.outages, key=lambda outage: outage.seconds)
        counts = ", ".join(f"{count} {what}" for what, count in self.figures.items())
        gone = f"all gone after {max(self.gone_after):.2f} s at worst, " if self.gone_after else ""
        return (
            f"{self.kind}: {len(ours)} rounds, {gone}serving again after {ours[len(ours) // 2]:.2f} s in the middle and "
            f"{ours[-1]:.2f} s at worst (by the clock {worst.seconds:.2f} s, {worst.kept_waiting:.2f} s of it "
            f"without a processor); {counts}"
        )


class Drill:
    """A stack under load from every side. `drilled` makes one."""

    def __init__(
        self, kind: str, stack: Stack, model: DemoModel | None, clerk: Clerk, keys: dict[str, MintedKey]
    ):
        self.findings = Findings(kind)
        self.stack = stack
        self.clerk = clerk
        self._model = model
        self._keys = keys
        self.through = Load(stack.gateway, _through_envoy(keys))
        self.direct = Load(stack.http, [_direct(keys, stack.token)])
        self._probed: Counter[str] = Counter()  # by client: our own requests with its key, all admitted
        self._received: Counter[str] = Counter()  # by client: what reached the model

    @property
    def _ways(self) -> tuple[Load, Load]:
        return self.through, self.direct

    def round(self, strike: Callable[[], float], kept: Callable[[], float]) -> None:
        """One death under load.

        `strike` brings it about and returns the moment from which on no answer can be an old one. `kept` tells
        for how long those who came after were kept from a processor.
        """
        begun = time.monotonic()
        for way in self._ways:
            way.await_admissions(begun)
        time.sleep(random.uniform(0, 0.25))  # somewhere between two commits
        key, revoked = self.clerk.kept[-1], self.clerk.revoked[-1]
        died = strike()
        back = max(way.await_admissions(died) for way in self._ways)
        self.findings.outages.append(Outage(back - died, kept()))
        for way in self._ways:
            way.pause()
        self._check_counts(self._check_model())
        assert not (lost := self.clerk.lost()), lost[:5]
        assert (self.ask(key.key).status, self.ask(revoked.key).status) == (200, 401)
        for way in self._ways:
            way.resume()

    def conclude(self) -> None:
        """The claims over all rounds: how long, and that only what ran in a moment of death still holds a slot."""
        for way in self._ways:
            way.pause()
        wait_for(
            "no more slots of a key than deaths",
            lambda: max(self.stack.running().values(), default=0) <= self.stack.deaths,
            seconds=30,
            every=0.2,
        )
        self.findings.figures["slots held by what died"] = sum(self.stack.running().values())
        ours = sorted(outage.ours for outage in self.findings.outages)
        assert ours[len(ours) // 2] <= SERVING_WITHIN, self.findings
        assert ours[-1] <= 2 * SERVING_WITHIN * self.stack.slowness, self.findings

    def ask(self, key: str) -> RawResponse:
        """A decision straight from the service."""
        headers: list[tuple[str | bytes, str | bytes]] = [
            ("authorization", f"Bearer {key}"),
            ("x-authz-gateway-token", self.stack.token),
        ]
        return exchange(self.stack.http, request_bytes("GET", DIRECT, headers))

    def _check_model(self) -> Counter[str]:
        """Nothing came through unjudged. By client, what has reached the model in all."""
        by_number = {number: client for client in self.through.clients for number in client.take_numbers()}
        if self._model is None:
            return self._received
        received = self._model.received()
        self._model.reset()
        assert len(received) < MOST_RECORDED, "the round took longer than the model remembers"
        received = [seen for seen in received if not _asked_by_up(seen)]
        for seen in received:
            client = by_number[int(seen.header(NUMBER) or "0")]
            assert client.key is not None, f"let through without a key: {seen}"
            assert seen.header("x-authz-key") == self._keys[client.name].id
            self._received[client.name] += 1
        reservations = Counter(seen.header("x-authz-reservation") for seen in received)
        assert None not in reservations
        assert not [each for each, count in reservations.items() if count > 1]
        return self._received

    def _check_counts(self, received: Counter[str]) -> None:
        """No quota was given back, and none was taken for what nobody sent."""
        clients = [client for way in self._ways for client in way.clients]
        wrong = [text for client in clients for text in client.wrong]
        assert not wrong, wrong[:5]
        figures = self.findings.figures
        for name in ("sent", "admitted", "unavailable", "cut", "refused"):
            figures[name] = sum(getattr(client, name) for client in clients)
        figures["charged without an admission"] = 0
        for client in clients:
            if client.key is None:
                continue
            answer = self.ask(client.key)
            assert answer.status == 200, (client.name, answer)
            self._probed[client.name] += 1
            charged = QUOTA - int(answer.header("x-ratelimit-remaining-requests") or QUOTA)
            charged -= self._probed[client.name]
            assert client.admitted <= charged <= client.sent, f"charged {charged}: {client}"
            assert received[client.name] <= charged, f"charged {charged}, {received[client.name]} received"
            figures["charged without an admission"] += charged - client.admitted
        figures["received by the model"] = sum(received.values())
        figures["keys made"] = len(self.clerk.kept) + len(self.clerk.revoked)
        figures["keys revoked"] = len(self.clerk.revoked)


def _asked_by_up(seen: Received) -> bool:
    """`authz up` looks which models there are. Of ours such a request has a number, and never gets there."""
    return (seen.method, seen.target) == ("GET", "/v1/models") and seen.header(NUMBER) is None


def _through_envoy(keys: dict[str, MintedKey]) -> list[Client]:
    chats = [Client(name, keys[name].key, "POST", "/v1/chat/completions", CHAT) for name in THROUGH_ENVOY]
    stranger = Client("stranger", None, "POST", "/v1/chat/completions", CHAT)
    return [*chats, stranger, Client("lister", keys["lister"].key, "GET", "/v1/models")]


def _direct(keys: dict[str, MintedKey], token: str) -> Client:
    return Client("direct", keys["direct"].key, "GET", DIRECT, headers=(("x-authz-gateway-token", token),))


@contextmanager
def drilled(kind: str, directory: Path, *, recording: bool = True) -> Iterator[Drill]:
    """A stack with load on it and a clerk at work.

    `recording`: before a model that tells what it got. Else before the demo model, a child of `authz up`.
    """
    with ExitStack() as running:
        model = running.enter_context(DemoModel(directory / "model")) if recording else None
        upstream = ["--upstream", f"http://127.0.0.1:{model.port}"] if model is not None else ["--demo"]
        stack = running.enter_context(Stack(directory / "up", *upstream))
        names = (*THROUGH_ENVOY, "lister", "direct")
        keys = {name: new_key(stack.registry, name, f"requests={QUOTA}/day") for name in names}
        stack.start()
        clerk = running.enter_context(Clerk(stack.registry))
        clerk.await_some()
        drill = Drill(kind, stack, model, clerk, keys)
        with drill.through, drill.direct:
            yield drill
    print(drill.findings)
