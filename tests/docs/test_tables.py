"""Tables of the documentation that repeat what the code says: neither may drift."""

import re

import pytest

from authz.cli.errors import Exit
from authz.config.model import Config
from authz.gateway.nginx import TOKEN_INCLUDE
from authz.gateway.own_answers import ALL
from authz.gateway.render import RENDERERS
from authz.gateway.settings import AUTH_TIMEOUT, MAX_BODY, STREAM_TIMEOUT, RenderSettings
from authz.ledger.thresholds import Reached
from authz.quota import Unit
from authz.reason import ANSWERS, Reason
from authz.store.allowances import Allowances
from authz.store.protocols import Outcome
from authz.store.reconciling import Without
from authz.store.records import Note
from authz.store.waits import Shared, Waits
from authz.telemetry.metrics import Metrics
from authz.usage_dialect import Fault
from tests.docs.pages import DOCS, rows

ERRORS, GATEWAYS, OPERATIONS = DOCS / "errors.md", DOCS / "gateways.md", DOCS / "operations.md"


def test_the_reasons_are_those_of_the_code() -> None:
    documented = [row[:-1] for row in rows(ERRORS, "Reason")]
    expected = [
        [
            f"`{reason}`",
            str(answer.http),
            str(answer.grpc),
            f"`{answer.code}`",
            f"`{answer.type}`" if answer.type else "",
            "yes" if answer.retryable else "no",
            answer.text,
        ]
        for reason, answer in ((reason, ANSWERS[reason]) for reason in Reason)
    ]
    assert documented == expected


def test_each_reason_says_what_to_do() -> None:
    assert [row[0] for row in rows(ERRORS, "Reason") if len(row) != 8 or len(row[-1]) < 10] == []


def test_the_gateways_own_answers_are_those_of_the_code() -> None:
    documented = {(row[0].strip("`"), int(row[1])) for row in rows(ERRORS, "Code")}
    # As a client sees them: the code of the body.
    assert documented == {(re.findall(r'"code":"(\w+)"', answer.body)[0], answer.status) for answer in ALL}


def test_the_metrics_are_those_of_the_code() -> None:
    metrics = Metrics(
        version="1",
        config=lambda: "digest",
        tried=lambda: {"user-day": 1},
        without=lambda: Without(),
        shared=lambda: Shared(Waits()),
        allowances=lambda: Allowances(outstanding={Unit.TOKENS: 1}),
        cut_off=lambda: {"PROTOCOL_ERROR": 1},
    )
    metrics.decided("edge", "inference", Reason.ALLOWED, 0.001)
    metrics.store_failed("reserve")
    metrics.reloaded(applied=True)
    metrics.settlements.settled("edge", Outcome.SETTLED, Note())
    metrics.settlements.rejected("edge", Fault.NEGATIVE.value)
    metrics.settlements.reached(Reached("user-day|5:alice", 80, 10, 8, "tokens", False))
    real = {}
    for family in metrics.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        real[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    documented = {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows(OPERATIONS, "Metric")
    }
    assert documented == real


def test_the_exit_codes_are_those_of_the_code() -> None:
    assert [int(row[0]) for row in rows(OPERATIONS, "Code")] == list(Exit)


def test_the_ports_are_those_of_the_code() -> None:
    config = Config()
    defaults = {
        "decisions.http": config.decisions.http,
        "decisions.grpc": config.decisions.grpc,
        "decisions.grpc_other": config.decisions.grpc_other,
        "admin.listen": config.admin.listen,
    }
    documented = {row[2].strip("`"): row[1].strip("`") for row in rows(OPERATIONS, "Listener")}
    assert documented == {key: str(address) for key, address in defaults.items()}


@pytest.mark.parametrize("kind", RENDERERS)
def test_every_part_of_a_gateway_is_documented_and_only_those(kind: str) -> None:
    section = GATEWAYS.read_text().partition(f"\n## {kind if kind == 'nginx' else kind.capitalize()}\n")[2]
    section = section.partition("\n## ")[0]
    table = section.partition("| `--part` |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE))
    assert documented == set(RENDERERS[kind].parts)
    for file in RENDERERS[kind].files:
        assert f"`{file}`" in section


def test_figures_of_the_gateways() -> None:
    text = GATEWAYS.read_text()
    assert f"within {AUTH_TIMEOUT:g} s" in text
    assert f"({MAX_BODY >> 20} MiB)" in text
    assert f"{STREAM_TIMEOUT:,} s" in text
    assert TOKEN_INCLUDE in text
    assert RenderSettings().token is not None
    assert RenderSettings().token.name in text  # type: ignore[union-attr]
