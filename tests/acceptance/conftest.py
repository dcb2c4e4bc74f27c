"""Everything is started once for this directory; each test has keys of its own."""

from collections.abc import Iterator

import pytest

from tests.acceptance.lab import NAMES, Lab, Way
from tests.support.certificates import Certificates, make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), certificates) as lab:
        yield lab


@pytest.fixture(params=NAMES)
def way(lab: Lab, request: pytest.FixtureRequest) -> Way:
    """Each gateway in turn; the model has received nothing yet."""
    lab.model.reset()
    return Way(request.param, lab)
