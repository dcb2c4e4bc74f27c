"""Ways to be charged less than was used."""

from typing import Any

import pytest

from authz.store.records import Source
from authz.usage import Usage
from tests.settle.scene import Scene, charge


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    "told", [{"status": 504, "response_bytes": 120}, {"status": 504}, {"status": 504, "aborted": True}]
)
def test_101_an_answer_that_takes_too_long_is_not_free(scene: Scene, told: dict[str, Any]) -> None:
    """The gateway gave up on it; the model server may have written all that while."""
    scene.tell(scene.ask(), **told)
    note = scene.entry().note
    assert (note.source, note.usage) == (Source.ESTIMATED, Usage(26, 16))
    assert scene.charged() == charge(note.usage)


def test_a_request_that_met_no_model_server_within_the_time_is_free(scene: Scene) -> None:
    scene.tell(scene.ask(), status=504, reached=False)
    assert scene.entry().note.source is Source.RELEASED
