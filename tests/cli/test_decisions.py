"""Refusals read back, in words."""

import asyncio
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from authz.cli.decisions import explain
from authz.config import load
from authz.store.open import open_store
from authz.store.records import Denial
from tests.cli.conftest import Authz

NOW = time.time_ns() // 1_000_000
FIGURES: dict[str, str | int | float | bool] = {
    "policy": "key-rpm",
    "unit": "requests",
    "partition": "key=key_1",
    "quota": 60,
    "window": "1m",
    "needed": 1,
    "remaining": 0,
    "reset_after": 42.0,
    "exhausted": True,
    "shadow": False,
}


def denial(
    id: str, *, user: str = "alice", status: int = 429, reason: str = "rate_limited", ago: int = 0
) -> Denial:
    return Denial(
        id=id,
        at=NOW - ago,
        last_at=NOW - ago,
        count=1,
        gateway="edge",
        route="inference",
        method="POST",
        path="/v1/chat/completions",
        reason=reason,
        status=status,
        message=f"Refused {id}.",
        user=user,
        team="nlp",
        key="key_1",
        model="llama3",
        ip="192.0.2.7",
        limits=(FIGURES,) if status == 429 else (),
    )


@pytest.fixture
def refused(config: Path) -> None:
    """Three refusals, as the service writes them down."""

    async def write() -> None:
        store = open_store(load(config).store.url)
        await store.start()
        store.denials.record(denial("r-1", ago=3 * 3_600_000))
        store.denials.record(denial("r-2", user="bob"))
        store.denials.record(denial("r-3", status=401, reason="key_unknown", user=""))
        await store.close()

    asyncio.run(write())


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ([], {"r-1", "r-2", "r-3"}),
        (["--user", "bob"], {"r-2"}),
        (["--status", "429"], {"r-1", "r-2"}),
        (["--since", "2h"], {"r-2", "r-3"}),
        (["--reason", "key_unknown"], {"r-3"}),
        (["--user", "bob", "--status", "401"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_list(authz: Authz, arguments: list[str], ids: set[str]) -> None:
    assert {row["id"] for row in authz("decisions", "list", *arguments, "--json").json} == ids
    assert {row["id"] for row in authz("decisions", "list", *arguments).rows} == ids


def test_an_id_is_whole_on_a_terminal_of_80_columns(authz: Authz, config: Path) -> None:
    id = "req_RQdMbkezfX1wZ3QIyBxrAt"

    async def write() -> None:
        store = open_store(load(config).store.url)
        await store.start()
        store.denials.record(denial(id, status=400, reason="conflicting_credentials"))
        await store.close()

    asyncio.run(write())
    told = authz("decisions", "list", terminal=True, columns=80).out
    assert all(each in told for each in (id, "conflicting_credentials", "alice"))


@pytest.mark.usefixtures("refused")
def test_show_as_json_has_every_figure(authz: Authz) -> None:
    shown = authz("decisions", "show", "r-2", "--json").json
    assert shown["limits"] == [FIGURES]
    assert (shown["user"], shown["gateway"], shown["status"]) == ("bob", "edge", 429)


@pytest.mark.usefixtures("refused")
def test_show_in_words(authz: Authz) -> None:
    lines = authz("decisions", "show", "r-2").out.splitlines()
    assert lines[0] == "Refused with HTTP 429: Refused r-2."
    assert "Who      user bob, team nlp, key key_1, from 192.0.2.7" in lines
    assert "What     POST /v1/chat/completions, model llama3" in lines
    assert "Through  gateway edge, route inference" in lines
    assert lines[-1] == (
        "  key-rpm: 60 requests per 1m for key=key_1. "
        "Needed 1, left 0: too little was left. All of it is free again after 42s."
    )


def test_show_of_an_unknown_id(authz: Authz) -> None:
    ran = authz("decisions", "show", "r-9")
    assert (ran.code, ran.out) == (1, "")
    assert "allowed requests never kept" in ran.err


def test_a_flood_a_stranger_and_no_route() -> None:
    flood = replace(
        denial("r", status=403, user=""), count=900, key="", team="", ip="", route="", model="", message=""
    )
    text = "\n".join(explain(flood))
    assert "900 times the same until" in text
    assert "Who      nobody that is known" in text
    assert "no route takes it" in text
    assert text.startswith("Refused with HTTP 403: Too many requests.")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unit": "cost", "quota": 5_000_000_000, "needed": 10_000_000, "remaining": 0}, "5.0 cost per"),
        ({"unit": "concurrency", "window": ""}, "60 requests at once"),
        ({"partition": ""}, "for all together"),
        ({"exhausted": False}, "enough was left"),
        ({"shadow": True}, "a trial that never refuses"),
        ({"reset_after": 12_000.0}, "after 3h 20m"),
        ({"reset_after": 0.0}, "too little was left."),
    ],
)
def test_a_limits_figures_in_words(change: dict[str, str | int | float | bool], words: str) -> None:
    refusal = replace(denial("r"), limits=({**FIGURES, **change},))
    assert words in explain(refusal)[-1]


def test_limit_is_at_least_one(authz: Authz) -> None:
    assert authz("decisions", "list", "--limit", "0").code == 2
