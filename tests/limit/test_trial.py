"""Limits on trial: who would have been refused, counted by limit, partition and hour."""

import pytest

from authz.decision import Allow, Deny
from authz.known import Known
from authz.store.sqlite.database import Database, in_memory
from authz.store.sqlite.trials import KEPT_MS, ROWS_KEPT, SqliteTrialLog, save, trim
from authz.store.trials import HOUR_MS, WAITING, Trial, Trials
from tests.support.lab import NOW, Lab, step

HEAD = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {llama3: {}}
routes:
  - name: open
    match: {paths: [/*]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [it]
limits:
  it: """
SHADOW = "{unit: requests, quota: 2, window: day, partition_by: [user], mode: shadow}"
BESIDE = "{unit: requests, quota: 5, window: day, partition_by: [user], shadow: {quota: 2}}"
ALICE, BOB = (("user", "alice"),), (("user", "bob"),)


def ask(lab: Lab, users: dict[str, int]) -> list[bool]:
    """So many requests of each user, a second apart; which were let through."""
    decisions = []
    for user, count in users.items():
        key = lab.key(user)
        for _ in range(count):
            decisions.append(lab.decide(lab.request("GET", "/x", key=key, body=b"")))
            lab.clock.advance(1)
    assert all(isinstance(decision, Allow | Deny) for decision in decisions)
    return [isinstance(decision, Allow) for decision in decisions]


def test_a_shadow_alone_refuses_nobody_and_counts_whom_it_would() -> None:
    lab = Lab(HEAD + SHADOW)
    assert all(ask(lab, {"alice": 5, "bob": 2}))
    assert lab.store.trials.totals == {"it": 3}
    assert list(lab.store.trial_log.list()) == [Trial("it", ALICE, 3, 0, NOW + 2000, NOW + 4000)]


def test_a_shadow_beside_a_live_limit_counts_what_that_refused_too() -> None:
    lab = Lab(HEAD + BESIDE)
    assert ask(lab, {"alice": 7, "bob": 3}) == [True] * 5 + [False] * 2 + [True] * 3
    assert list(lab.store.trial_log.list()) == [
        Trial("it", ALICE, 3, 2, NOW + 2000, NOW + 6000),
        Trial("it", BOB, 1, 0, NOW + 9000, NOW + 9000),
    ]


def test_a_limit_without_a_shadow_is_not_on_trial() -> None:
    lab = Lab(HEAD + BESIDE.replace("shadow: {quota: 2}", "mode: live"))
    assert not all(ask(lab, {"alice": 7}))
    assert list(lab.store.trial_log.list()) == []


def test_an_explanation_counts_nothing() -> None:
    lab = Lab(HEAD + SHADOW)
    ask(lab, {"alice": 2})
    request = lab.request("GET", "/x", key=lab.key("alice"), body=b"")
    assert isinstance(step(lab.decider.follow(Known(request), charge=False)), Allow)
    assert list(lab.store.trial_log.list()) == []


def test_counts_are_added_up_over_hours_and_commits() -> None:
    database, trials = in_memory(), Trials()
    log = SqliteTrialLog(database, lambda: _write(database, trials))
    for hour in range(5):
        for _ in range(2):
            trials.would_refuse("it", ALICE, hour * HOUR_MS + 7)
            log.list()
    trials.refused("it", ALICE, 4 * HOUR_MS + 9)
    trials.would_refuse("other", (), 3)
    assert list(log.list()) == [
        Trial("it", ALICE, 10, 1, 7, 4 * HOUR_MS + 9),
        Trial("other", (), 1, 0, 3, 3),
    ]
    assert list(log.list(since=3 * HOUR_MS + 1)) == [
        Trial("it", ALICE, 4, 1, 3 * HOUR_MS + 7, 4 * HOUR_MS + 9)
    ]


def test_it_is_bounded() -> None:
    """Attack: a partition by something that clients make up."""
    trials = Trials()
    for number in range(WAITING + 5):
        trials.would_refuse("it", (("ip", str(number)),), 0)
    trials.would_refuse("it", (("ip", "0"),), 1)  # one that is known still counts
    assert trials.dropped == 5
    assert len(trials.take()) == WAITING
    assert trials.totals == {"it": WAITING + 6}
    assert trials.take() == []


@pytest.mark.parametrize("what", ["age", "number"])
def test_old_counts_are_dropped(what: str) -> None:
    database = in_memory()
    now = KEPT_MS + 10 * HOUR_MS
    with database.change() as connection:
        if what == "age":
            save(connection, [Trial("it", ALICE, 1, 0, hour * HOUR_MS, hour * HOUR_MS) for hour in range(20)])
        else:
            many = [Trial("it", (("ip", str(n)),), 1, 0, now + n, now + n) for n in range(ROWS_KEPT + 10)]
            save(connection, many)
        trim(connection, now)
    kept = SqliteTrialLog(database).list()
    assert sum(trial.would for trial in kept) == (10 if what == "age" else ROWS_KEPT)


def _write(database: Database, trials: Trials) -> None:
    with database.change() as connection:
        save(connection, trials.take())
