"""What is learned of the length of answers: right, bounded, and never talked down by its own limits."""

import math
import random
import statistics
from itertools import pairwise

import pytest

from authz.limit.learned import EDGES, ENOUGH_SEEN, FLOOR, LEAST_SEEN, MOST_KEPT, Learned
from authz.store.records import Facts
from authz.subject import Subject
from authz.usage import Usage

ALICE = Subject(user="alice", authenticator="keys", key="key_1")
BOB = Subject(user="bob", authenticator="keys", key="key_2")
P99 = 621  # of the lengths below


def length(rng: random.Random) -> int:
    """Lognormal, 100 on average, half of them below 61: what the demand of the quota notes uses."""
    return max(1, round(math.exp(rng.gauss(math.log(100) - 0.5, 1))))


def facts(asked: int = 4096, key: str = "key_1", model: str = "llama3", answers: int = 1) -> Facts:
    return Facts(request_id="r", user="alice", key=key, model=model, asked_output=asked, answers=answers)


def teach(learned: Learned, lengths: list[int], asked: int = 4096, key: str = "key_1") -> None:
    for tokens in lengths:
        learned.observe(facts(asked, key), Usage(20, min(tokens, asked)))


def test_edges_are_each_by_itself_then_a_sixteenth_of_an_octave() -> None:
    assert EDGES[:16] == list(range(1, 17))
    assert all(low < high <= max(low + 1, low * 1.0443) for low, high in pairwise(EDGES))


def test_nothing_is_said_before_enough_was_seen() -> None:
    learned = Learned()
    teach(learned, [100] * (LEAST_SEEN - 1))
    assert learned.high(ALICE, "llama3") is None
    teach(learned, [100])
    assert learned.high(ALICE, "llama3") == 100


def test_another_key_has_to_do_with_what_is_known_of_the_model() -> None:
    learned = Learned()
    teach(learned, [100] * 60)
    teach(learned, [3000] * 60, key="key_3")
    high = learned.high(BOB, "llama3")
    assert high is not None
    assert high >= 3000
    assert learned.high(ALICE, "another") is None


def test_a_key_is_judged_alone_once_enough_of_it_was_seen() -> None:
    """Until then its longest answers may be yet to come: it is held what the model's answers need."""
    learned = Learned()
    teach(learned, [3000] * 60, key="key_3")
    teach(learned, [100] * (ENOUGH_SEEN - 1))
    high = learned.high(ALICE, "llama3")
    assert high is not None
    assert high >= 3000
    teach(learned, [100])
    assert learned.high(ALICE, "llama3") == 100


def test_nor_does_the_model_hold_back_a_key_with_longer_answers() -> None:
    learned = Learned()
    teach(learned, [3000] * 60)
    teach(learned, [100] * 2_000, key="key_3")
    high = learned.high(ALICE, "llama3")
    assert high is not None
    assert high >= 3000


def test_no_answer_is_limited_to_less_than_the_floor() -> None:
    learned = Learned()
    teach(learned, [2] * 100)
    assert learned.high(ALICE, "llama3") == FLOOR


@pytest.mark.parametrize("seed", range(5))
def test_the_quantile(seed: int) -> None:
    learned, rng = Learned(), random.Random(seed)
    teach(learned, [length(rng) for _ in range(20_000)], asked=10**6)
    high = learned.high(ALICE, "llama3")
    assert high is not None
    assert 0.75 * P99 < high < 1.35 * P99  # some twenty answers of the last two thousand exceed it


def test_an_answer_cut_at_its_limit_is_longer_than_that() -> None:
    """If every second one reaches its limit of 200, nobody knows how long they are: more than 200."""
    learned = Learned()
    teach(learned, [100, 5000] * 100, asked=200)
    high = learned.high(ALICE, "llama3")
    assert high is not None
    assert high > 200


def test_short_limits_of_one_client_say_nothing_of_the_rest() -> None:
    learned = Learned()
    for _ in range(200):
        teach(learned, [5000] * 3, asked=16)
        teach(learned, [900], asked=4096)
    high = learned.high(ALICE, "llama3")
    assert high is not None
    assert 900 <= high <= 940


@pytest.mark.parametrize("seed", range(3))
def test_limits_that_were_learned_never_wear_down(seed: int) -> None:
    """Fifty hours at 82 answers a minute, each limited to what was learned before it."""
    learned, rng = Learned(), random.Random(seed)
    hours: list[tuple[float, float]] = []
    for _ in range(50):
        cut, highs = 0, []
        for _ in range(60 * 82):
            high = min(learned.high(ALICE, "llama3") or 4096, 4096)
            wanted = length(rng)
            cut += wanted > high
            highs.append(high)
            learned.observe(facts(high), Usage(20, min(wanted, high)))
        hours.append((statistics.fmean(highs), cut / len(highs)))
    settled = hours[1:]
    assert all(0.7 * P99 < high < 1.5 * P99 for high, _ in settled), settled
    assert all(share < 0.02 for _, share in settled), settled
    early, late = statistics.fmean(h for h, _ in settled[:10]), statistics.fmean(h for h, _ in settled[-10:])
    assert 0.85 < late / early < 1.15


def test_longer_answers_are_followed_within_the_hour() -> None:
    """A new version of the model writes four times as much; limits learned of the old one are in force."""
    learned, rng = Learned(), random.Random(1)
    for factor in (1, 4):
        for _ in range(60 * 82):
            high = min(learned.high(ALICE, "llama3") or 4096, 4096)
            learned.observe(facts(high), Usage(20, min(factor * length(rng), high)))
    high = learned.high(ALICE, "llama3")
    assert high is not None
    assert high > 0.7 * 4 * P99


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (facts(answers=2), Usage(20, 50)),  # of which the longest is unknown
        (facts(asked=0), Usage(20, 0)),  # embeddings
        (facts(model=""), Usage(20, 50)),
        (facts(), Usage(20, 0)),
    ],
)
def test_what_tells_nothing_is_not_learned_from(told: Facts, usage: Usage) -> None:
    learned = Learned()
    for _ in range(100):
        learned.observe(told, usage)
    assert learned.high(ALICE, "llama3") is None


def test_attack_100_absurd_figures_stay_in_bounds() -> None:
    learned = Learned()
    for _ in range(100):
        learned.observe(facts(asked=2**31 - 1), Usage(20, 2**53))
    high = learned.high(ALICE, "llama3")
    assert high is not None
    assert high <= EDGES[-1]


def test_there_is_room_for_so_many_and_the_latest_stay() -> None:
    learned = Learned()
    teach(learned, [100] * 60)
    for number in range(2 * MOST_KEPT):
        learned.observe(facts(key=f"key_{number + 10}"), Usage(20, 50))
    assert len(learned._lengths) == MOST_KEPT
    assert learned.high(BOB, "llama3") is not None  # the model's own is in use all the time
