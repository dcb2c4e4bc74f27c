"""Counters in few bytes: what goes in comes out, and the table behaves as a dictionary does."""

import gc
from time import thread_time

from hypothesis import given
from hypothesis import strategies as st

from authz.quota import MAX_AMOUNT
from authz.store.counter_table import CounterTable
from authz.store.counting import KINDS, State
from authz.store.protocols import Kind
from authz.store.shards import SHARDS, Shards

NUMBER = st.integers(0, MAX_AMOUNT)
LONGEST = 10 * 366 * 86_400_000  # ms of a window


def gcra(window: int) -> st.SearchStrategy[State]:
    """Level and odometer are in units times milliseconds."""
    scaled = st.integers(0, MAX_AMOUNT * window)
    return st.tuples(st.just(Kind.GCRA.value), st.just(window), NUMBER, scaled, NUMBER, scaled, NUMBER)


STATES: st.SearchStrategy[State] = st.one_of(
    st.integers(1, LONGEST).flatmap(gcra),
    st.tuples(st.sampled_from([Kind.FIXED.value, Kind.CALENDAR.value]), *[NUMBER] * 6),
    st.tuples(
        st.just(Kind.SLIDING.value),
        *[NUMBER] * 4,
        st.lists(st.tuples(NUMBER, NUMBER), max_size=60).map(tuple),
    ),
)


@given(STATES)
def test_a_state_comes_out_as_it_went_in(state: State) -> None:
    table = CounterTable()
    table["a"] = state
    assert table.get("a") == state
    assert dict(table.items()) == {"a": state}
    assert KINDS[state[0]].used(table.get("a")) == KINDS[state[0]].used(state)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), STATES)), max_size=40))
def test_it_is_a_dictionary(steps: list[tuple[str, State | None]]) -> None:
    table, model = CounterTable(), dict[str, State]()
    for key, state in steps:
        if state is not None:
            table.update({key: state})
            model[key] = state
        elif key in model:
            del table[key], model[key]
        assert (len(table), dict(table.items())) == (len(model), model)
        assert [key in table for key in "abcdef"] == [key in model for key in "abcdef"]
    assert sorted(key for part in range(SHARDS) for key in table.keys_of(part)) == sorted(model)


def test_it_grows_without_a_pause_that_one_dictionary_makes() -> None:
    """Compared in one run: the longest step of each, on its way to the same size."""
    count = 200_000
    keys = [f"user-day|9:user{number:05d}" for number in range(count)]

    def longest(into: Shards[int] | dict[str, int]) -> float:
        worst = 0.0
        for number, key in enumerate(keys):
            begun = thread_time()
            into[key] = number
            worst = max(worst, thread_time() - begun)
        return worst

    gc.collect()
    assert min(longest(Shards()) for _ in range(3)) < min(longest({}) for _ in range(3))
