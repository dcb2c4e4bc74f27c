"""Everything is started once for this directory."""

from collections.abc import Iterator

import pytest

from tests.attacks.site import Way, open_site
from tests.support.installed import KINDS


@pytest.fixture(scope="session")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    with open_site(tmp_path_factory.mktemp("attacks")) as ways:
        yield ways


@pytest.fixture(params=KINDS)
def way(ways: dict[str, Way], request: pytest.FixtureRequest) -> Way:
    """Each gateway in turn."""
    return ways[request.param]
