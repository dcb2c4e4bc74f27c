"""Everything but the gateways is started once for this directory."""

from collections.abc import Iterator

import pytest

from tests.mtls.lab import Lab
from tests.support.certificates import make_certificates


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    with Lab(tmp_path_factory.mktemp("mtls"), certificates) as lab:
        yield lab
