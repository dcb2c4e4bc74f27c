"""Everything is started once for this directory."""

from collections.abc import Iterator

import pytest

from tests.credentials.lab import GATEWAYS, Lab, Way
from tests.support.certificates import make_certificates


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    with Lab(tmp_path_factory.mktemp("lab"), certificates) as lab:
        yield lab


@pytest.fixture(params=GATEWAYS)
def way(lab: Lab, request: pytest.FixtureRequest) -> Way:
    """Each gateway in turn."""
    return Way(request.param, lab)
