"""What must hold of every trouble, however busy the machine is: who was let in, and what is known of it."""

from authz.calendar import calendar_bounds
from authz.quota import Unit
from authz.store.levels import level_of
from authz.store.open import wall_clock
from authz.store.protocols import Hold, Kind
from tests.acceptance.lab import eventually
from tests.acceptance.store_trouble import NEVER, POLICIES, QUOTA, Place, Seen
from tests.support.noon import NOON


def nobody_unauthorised(seen: Seen) -> None:
    """Neither whom nobody may let in, nor by a limit that needs the store while it does not answer."""
    for name in NEVER:
        answers = seen.load.of(name)
        assert len(answers) > 5
        assert [each for each in answers if each.status == 200] == []
    if not seen.trouble.answers:
        meanwhile = [each for each in seen.phases("deny")["during"] if each.done < seen.mending]
        assert [each for each in meanwhile if each.status == 200] == []
        assert {each.status for each in meanwhile} == {503}
    for name in ("allow", "local"):
        assert {each.status for each in seen.load.of(name)} == {200}
    assert {each.status for each in seen.load.of("deny")} <= {200, 503}


def all_is_known(at: Place, seen: Seen) -> None:
    """What was let through is charged and in the ledger, once; what was refused is not."""
    load = seen.load
    admitted = {name: [each for each in load.of(name) if each.status == 200] for name in POLICIES}
    everything = {each.reservation for answers in admitted.values() for each in answers}
    assert everything == set(load.settled)
    assert "unknown" not in load.settled.values()
    assert len(everything) == sum(map(len, admitted.values()))

    def entries() -> set[str]:
        found = [
            each.reservation for each in at.view.ledger.entries(only={"key": seen.key.id}, limit=100_000)
        ]
        assert len(set(found)) == len(found), "two entries of one request"
        return set(found)

    eventually(lambda: entries() >= everything, seconds=60)
    assert entries() == everything
    for name, answers in admitted.items():
        assert charged(at, name, seen.key.id) == len(answers)


def charged(at: Place, policy: str, key_id: str) -> int:
    """Requests that the store says a key made."""
    now = wall_clock()
    hold = Hold("", Kind.CALENDAR, Unit.REQUESTS, QUOTA, 0, bounds=calendar_bounds(now, "day", NOON))
    levels = at.view.registry.counter_levels(policy)
    (state,) = [encoded for name, encoded in levels.items() if key_id in name and name.startswith(policy)]
    return QUOTA - level_of(state, hold, now).remaining
