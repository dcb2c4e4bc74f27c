"""A store that does not answer: limits follow their own policy, authentication never fails open (invariant 12)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from authz.decide import Decider
from authz.decision import Allow, Deny
from authz.quota import Unit
from authz.reason import Reason
from authz.store.protocols import Exhausted, Hold, Outcome, Remembered, Reserved, Settled, StoreUnavailable
from tests.support.lab import Lab, step

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {llama3: {}}
routes:
  - name: one
    match: {paths: [/one]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [open]
  - name: both
    match: {paths: [/both]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [open, closed]
  - name: share
    match: {paths: [/share]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [share]
limits:
  open: {unit: requests, quota: 1, window: 1m, partition_by: [key], on_store_failure: allow}
  closed: {unit: requests, quota: 1, window: 1m, partition_by: [key]}
  share: {unit: requests, quota: 1, window: 1m, partition_by: [key], on_store_failure: local}
"""


class Broken:
    """Counters and a directory that never answer."""

    def place(self, holds: Sequence[Hold]) -> str:
        return ""

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved | Exhausted:
        raise StoreUnavailable("gone")

    async def find(self, reservation: str, gateway: str) -> Remembered | Outcome:
        raise StoreUnavailable("gone")

    async def settle(
        self, reservation: str, gateway: str, actual: Mapping[Unit, int], note: bytes = b""
    ) -> Settled:
        raise StoreUnavailable("gone")

    async def extend(self, reservation: str, gateway: str, ttl_ms: int, life_ms: int) -> bool:
        raise StoreUnavailable("gone")

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        raise StoreUnavailable("gone")

    async def key(self, digest: bytes) -> Any:
        raise StoreUnavailable("gone")


@pytest.mark.parametrize(("path", "allowed"), [("/one", True), ("/both", False), ("/share", False)])
def test_counters_that_do_not_answer(path: str, allowed: bool) -> None:
    lab, failed = Lab(CONFIG), []
    decider = Decider(lab.rules, lab.store.directory, Broken(), lab.clock, store_failed=failed.append)
    key = lab.key()
    for _ in range(3):
        decision = step(decider.decide(lab.request("GET", path, key=key, body=b"")))
        if allowed:
            assert isinstance(decision, Allow)
            assert decision.reservation is None
        else:
            assert isinstance(decision, Deny)
            assert (decision.reason, decision.status) == (Reason.STORE_UNAVAILABLE, 503)
    assert failed == ["reserve"] * 3


def test_a_directory_that_does_not_answer_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(CONFIG)
    key = lab.key()
    monkeypatch.setattr(type(lab.store.directory), "key", Broken.key)
    decision = step(lab.decider.decide(lab.request("GET", "/one", key=key, body=b"")))
    assert isinstance(decision, Deny)
    assert decision.reason is Reason.STORE_UNAVAILABLE
