"""Ways to be charged less than was used."""

from typing import Any

import pytest

from authz.ledger.calibration import Calibration
from authz.store.records import Facts, Note, Source
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


def asked(key: str) -> Facts:
    return Facts(
        request_id="req_1",
        user="",
        key=key,
        model="llama3",
        path="/v1/chat/completions",
        hold=Usage(4000, 4000),
        answers=1,
        request_bytes=1000,
        stream=True,
    )


def test_101_who_teaches_many_bytes_for_few_tokens_does_not_leave_early_for_nothing() -> None:
    """With `logprobs` an event of one token is two kilobytes; without, and left early, it is 200 bytes."""
    calibration = Calibration()

    def teach(key: str, response_bytes: int) -> None:
        note = Note(
            usage=Usage(250, 100), source=Source.REPORTED, streamed=True, response_bytes=response_bytes
        )
        calibration.teach(asked(key), note)

    for _ in range(50):
        teach("key_honest", 20_000)
        teach("key_honest", 20_000)
        teach("key_attacker", 200_000)
    assert calibration.output(asked("key_honest"), 100_000, True) == 500
    # A third of what all teach is the attacker's own; half of that is charged at least.
    assert calibration.output(asked("key_attacker"), 100_000, True) >= 50 * 1.2
