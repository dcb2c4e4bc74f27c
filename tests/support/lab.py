"""A whole service, in memory unless told otherwise, on a clock that the test turns: no socket, no thread."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from authz.app import compile_condition
from authz.authenticate.key_format import MintedKey, mint
from authz.config.load import loads
from authz.decide import Decider
from authz.decision import Decision
from authz.limit.trial import note
from authz.quota import parse_quota
from authz.request import BodyState, Gateway, GatewayKind, Request
from authz.ruleset import Authenticators, build_rules
from authz.service import Service
from authz.store.embedded import EmbeddedStore
from authz.store.memory import open_memory
from authz.store.records import Key

EDGE = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True)
NOW = 1_790_000_000_000  # a Monday in September 2026
CHAT = b'{"model": "llama3", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}'
JSON = {"content-type": "application/json"}


class FakeClock:
    """Milliseconds since the epoch, moved by hand."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * 1000)


class Lab:
    """Decider and service over a memory store, from a config in YAML."""

    def __init__(
        self, config: str, *, clock: FakeClock | None = None, store: EmbeddedStore | None = None
    ) -> None:
        self.clock = clock or FakeClock()
        self.store = store or open_memory(self.clock)
        self.loaded = loads(config, compile_condition=compile_condition, environ={})
        self.authenticators = Authenticators(self.loaded.config, self.store.directory, self.clock)
        self.rules = build_rules(self.loaded, self.authenticators, self.store.directory)
        self.decider = Decider(
            self.rules,
            self.store.directory,
            self.store.counters,
            self.clock,
            tried=partial(note, self.store.trials),
        )
        self.service = Service(self.decider, self.store.counters, self.store.denials, self.clock)
        self._made = 0

    def key(self, user: str = "alice", *limits: str, **fields: Any) -> MintedKey:
        """Mint a key and keep its record."""
        minted = mint()
        record = Key(
            id=minted.id,
            digest=minted.digest,
            display=minted.display,
            user=user,
            quotas=tuple(parse_quota(limit) for limit in limits),
            created_at=self.clock(),
            **fields,
        )
        self.store.registry.add_key(record)
        return minted

    def request(
        self,
        method: str = "POST",
        target: str = "/v1/chat/completions",
        *,
        key: MintedKey | str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = CHAT,
        gateway: Gateway = EDGE,
        **fields: Any,
    ) -> Request:
        self._made += 1
        carried = dict(JSON if body else {}) | dict(headers or {})
        if key is not None:
            carried["authorization"] = f"Bearer {key if isinstance(key, str) else key.key}"
        fields.setdefault("request_id", f"req_{self._made}")
        fields.setdefault("body_state", BodyState.WHOLE if body else BodyState.NONE)
        fields.setdefault("host", "llm.test")
        return Request(
            gateway=gateway,
            method=method,
            target=target,
            scheme="https",
            headers=carried,
            body=body,
            **fields,
        )

    def decide(self, request: Request) -> Decision:
        """The decision; fails if it suspends even once."""
        return step(self.service.decide(request))


def step(coroutine: Any) -> Any:
    """Run a coroutine that must not suspend."""
    try:
        yielded = coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise AssertionError(f"suspended on {yielded!r}")
