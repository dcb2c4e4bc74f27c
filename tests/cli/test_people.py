"""Users, teams and models by command."""

from pathlib import Path

import pytest

from authz.config import load
from authz.store.open import open_view
from tests.cli.conftest import Authz


def test_a_user_from_beginning_to_end(authz: Authz) -> None:
    authz("teams", "add", "nlp")
    added = authz(
        *("users", "add", "alice", "--email", "a@example.com", "--team", "nlp", "--role", "senior"),
        *("--limit", "tokens=200k/day", "--json"),
    ).json
    assert added["limits"] == ["tokens=200000/day"]
    assert authz("users", "add", "alice").code == 1
    changed = authz("users", "update", "alice", "--no-team", "--model", "big", "--disable", "--json").json
    assert (changed["team"], changed["models"], changed["status"]) == (None, ["big"], "disabled")
    assert (changed["email"], changed["roles"]) == ("a@example.com", ["senior"])
    assert authz("users", "update", "alice", "--enable", "--json").json["status"] == "active"
    assert authz("users", "list", "--team", "nlp", "--json").json == []
    assert authz("users", "remove", "alice").code == 0
    gone = authz("users", "show", "alice")
    assert (gone.code, gone.err.splitlines()[0]) == (1, "error: there is no user 'alice'.")


def test_a_user_that_an_update_does_not_mention_stays_disabled(authz: Authz) -> None:
    authz("users", "add", "alice")
    authz("users", "update", "alice", "--disable")
    assert authz("users", "update", "alice", "--email", "x@y", "--json").json["status"] == "disabled"


def test_a_team_from_beginning_to_end(authz: Authz) -> None:
    assert authz("teams", "add", "nlp", "--limit", "cost=5/month", "--json").json["limits"] == [
        "cost=5/month"
    ]
    changed = authz("teams", "update", "nlp", "--model", "llama3", "--no-limits", "--json").json
    assert (changed["models"], changed["limits"]) == (["llama3"], [])
    authz("users", "add", "alice", "--team", "nlp")
    in_use = authz("teams", "remove", "nlp")
    assert in_use.code == 1
    assert "belong to the team 'nlp'" in in_use.err
    authz("users", "update", "alice", "--no-team")
    assert authz("teams", "remove", "nlp").code == 0
    assert authz("teams", "list", "--json").json == []


def test_a_team_that_does_not_exist_is_pointed_out(authz: Authz) -> None:
    authz("teams", "add", "vision")
    ran = authz("users", "add", "alice", "--team", "visoin")
    assert ran.code == 0
    assert "Did you mean 'vision'?" in ran.err


def test_limits_follow_the_configs_calendar(authz: Authz, config: Path) -> None:
    config.write_text("timezone: Europe/Helsinki\nweek_start: sunday\n" + config.read_text())
    authz("users", "add", "alice", "--limit", "tokens=5/week")
    view = open_view(load(config).store.url)
    window = view.registry.users()[0].quotas[0].window
    assert (window.timezone, window.week_start) == ("Europe/Helsinki", 6)


def test_models_of_the_config_are_shown_and_kept(authz: Authz) -> None:
    listed = authz("models", "list", "--json").json
    assert [(model["name"], model["source"]) for model in listed] == [("llama3", "config"), ("big", "config")]
    assert listed[0]["price"] == {"input": 0.1, "cached_input": None, "output": 0.4}
    assert authz("models", "show", "big", "--json").json["access"] == {"roles": ["senior"], "teams": []}
    for arguments in (["add"], ["update"], ["remove"]):
        refused = authz("models", *arguments, "big")
        assert refused.code == 1
        assert "config file" in refused.err


def test_a_model_of_the_store_from_beginning_to_end(authz: Authz) -> None:
    added = authz(
        *("models", "add", "org/new-8b", "--context", "128k", "--max-output", "8192"),
        *("--price-input", "0.10", "--access-role", "senior", "--json"),
    ).json
    assert (added["context"], added["max_output"], added["source"]) == (128_000, 8192, "store")
    assert added["price"]["input"] == 0.1
    changed = authz("models", "update", "org/new-8b", "--price-output", "0.4", "--open-access", "--json").json
    assert changed["price"] == {"input": 0.1, "cached_input": None, "output": 0.4}
    assert changed["access"] == {"roles": [], "teams": []}
    assert authz("models", "add", "x", "--context", "10", "--max-output", "20").code == 2
    refused = authz("models", "add", "bad name!")
    assert refused.code == 2
    assert "a model's name is 1 to 128" in refused.err
    assert authz("models", "add", "x", "--price-input", "dear").code == 2
    assert authz("models", "remove", "org/new-8b").code == 0
    assert len(authz("models", "list", "--json").json) == 2


def test_models_can_be_listed_even_with_a_store_in_memory(authz: Authz, config: Path) -> None:
    config.write_text(config.read_text().replace("sqlite:authz.db", "memory://"))
    assert len(authz("models", "list", "--json").json) == 2


@pytest.mark.parametrize(
    "command",
    [
        ("teams", "add", "user:bob"),
        ("users", "add", "alice", "--team", "user:bob"),
        ("users", "update", "carol", "--team", "user:bob"),
        ("keys", "create", "--user", "alice", "--team", "user:bob"),
    ],
    ids=" ".join,
)
def test_no_team_is_called_like_the_counter_of_a_user_without_one(
    authz: Authz, command: tuple[str, ...]
) -> None:
    authz("users", "add", "carol")
    ran = authz(*command)
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: a team's name does not begin with `user:`.")
    assert authz("teams", "list", "--json").json == []
    assert [(user["name"], user["team"]) for user in authz("users", "list", "--json").json] == [
        ("carol", None)
    ]
    assert authz("keys", "list", "--json").json == []
