"""`authz ledger replay` shows the certificate of the gateway in whose name it speaks."""

from pathlib import Path

import pytest

from authz.cli.as_gateway import proof_headers
from authz.cli.context import Context
from authz.cli.errors import CommandError
from authz.config import load
from tests.cli.test_ledger import line
from tests.mtls.lab import Lab

NO_FILES = """
decisions: {tls: {cert: a.crt, key: a.key, client_ca: ca.crt}}
gateways: {edge: {kind: envoy, mtls: {subjects: [edge.lab]}}}
"""


def test_it_is_believed(lab: Lab, tmp_path: Path) -> None:
    """Envoy's journal tells of a reservation that nobody knows: heard, and found to be none."""
    journal = tmp_path / "envoy.log"
    journal.write_bytes(line(gateway="envoy"))
    counts = lab.service.run("ledger", "replay", str(journal), "--gateway", "envoy")
    assert {outcome: count for outcome, count in counts.items() if count} == {"unknown": 1}


def test_a_certificate_that_is_nowhere_named_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "authz.yaml"
    path.write_text(NO_FILES)
    loaded = load(path, secrets_required=False)
    with pytest.raises(CommandError, match="does not say by which"):
        proof_headers(Context(path=path, loaded=loaded, now=0), "edge")
