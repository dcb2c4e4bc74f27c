"""Peers are pinned, kept outside of the repository, and left out with a reason where they cannot be built."""

from pathlib import Path

import pytest

from bench import peers
from bench.peers import Peer, cache, install, program, reasons
from bench.report import DOCS


@pytest.fixture(autouse=True)
def _nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_done", lambda command, env: "it cannot be built")


def test_the_cache_is_outside_of_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AUTHZ_BENCH_PEERS", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert not cache().is_relative_to(DOCS.parent)
    monkeypatch.setenv("AUTHZ_BENCH_PEERS", str(tmp_path))
    assert cache() == tmp_path


@pytest.mark.parametrize("peer", Peer, ids=lambda peer: peer.name.lower())
def test_each_is_pinned(peer: Peer) -> None:
    assert peer.value.version


def test_what_is_there_is_not_built_again(tmp_path: Path) -> None:
    file = program(tmp_path, Peer.RATELIMIT)
    file.parent.mkdir()
    file.touch()
    assert install(tmp_path, Peer.RATELIMIT) == ""


def test_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peers.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert install(tmp_path, Peer.GUBERNATOR) == "it cannot be built"
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    assert install(tmp_path, Peer.GUBERNATOR) == "go is not installed"


def test_nothing_was_left_out_where_nothing_was_tried(tmp_path: Path) -> None:
    assert reasons(tmp_path) == {}
