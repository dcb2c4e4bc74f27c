"""Who used how much: the ranges, the groups, the three forms."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from authz.cli import context
from authz.cli.usage import FIGURES
from authz.store.records import Entry, Key, Source
from authz.store.sqlite.database import prepare
from authz.store.sqlite.ledger import save
from authz.store.sqlite.ledger_upkeep import set_timezone, trim
from authz.store.sqlite.registry import SqliteRegistry
from authz.usage import Usage
from tests.cli.conftest import Authz
from tests.ledger.kit import at, entry

ZONE = "Europe/Helsinki"
NOW = at("2026-10-27 15:00", ZONE)
KEY = "key_" + "a" * 16
EVIL = '=HYPERLINK("http://evil"),x'

Ledger = Callable[[Sequence[Entry]], None]

ENTRIES = [
    entry(1, at("2026-09-30 23:59:59.999", ZONE), cost=1),
    entry(2, at("2026-10-01 00:00", ZONE), cost=1_500_000_000),
    entry(3, at("2026-10-25 03:30", ZONE), user="bob", team="", source=Source.ESTIMATED),
    entry(4, at("2026-10-25 03:30", ZONE, fold=1), key=KEY, model="big", source=Source.EXPIRED),
    entry(5, at("2026-10-27 14:00", ZONE), user="bob", route="batch", cost=1),
    entry(6, at("2026-11-01 00:00", ZONE), source=Source.RELEASED, usage=Usage(), cost=0),
]


@pytest.fixture
def ledger(config: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Writes entries as the service does. It is 27 October 2026 in Helsinki."""
    config.write_text(f"timezone: {ZONE}\ncurrency: USD\n" + config.read_text())
    monkeypatch.setattr(context, "now", lambda: NOW)
    path = config.with_name("authz.db")

    def write(entries: Sequence[Entry]) -> None:
        database = prepare(path, thorough=False)
        set_timezone(database, ZONE)
        with database.change() as connection:
            save(connection, entries)
        database.close()

    write(ENTRIES)
    return write


@pytest.mark.usefixtures("ledger")
def test_json_has_the_group_first_and_every_figure(authz: Authz) -> None:
    rows = authz("usage", "--by", "team,model", "--month", "2026-10", "--json").json
    assert [list(row) for row in rows[:1]] == [
        [
            "team",
            "model",
            "requests",
            "input_tokens",
            "output_tokens",
            "cached_input_tokens",
            "reasoning_tokens",
            "cost",
            "currency",
            "estimated_input_tokens",
            "estimated_output_tokens",
        ]
    ]
    assert [(*row.values(),) for row in rows] == [
        ("", "llama3", 1, 10, 20, 3, 4, 0.009, "USD", 10, 20),
        ("nlp", "big", 1, 10, 20, 3, 4, 0.009, "USD", 10, 20),
        ("nlp", "llama3", 2, 20, 40, 6, 8, 1.500000001, "USD", 0, 0),
    ]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        pytest.param([], 4, id="this month so far"),
        pytest.param(["--month", "2026-10"], 4, id="a month of 31 days and an hour"),
        pytest.param(["--month", "2026-09"], 1, id="its last millisecond"),
        pytest.param(["--month", "2026-11"], 1, id="from its midnight on"),
        pytest.param(["--month", "2026-12"], 0, id="nothing"),
        pytest.param(["--since", "7d"], 3, id="seven days"),
        pytest.param(["--since", "2h"], 1, id="two hours"),
        pytest.param(["--since", "2026-10-25", "--until", "2026-10-26"], 2, id="the day of 25 hours"),
        pytest.param(["--since", "2026-10-25T03:30", "--until", "2026-10-25T04:00"], 2, id="an hour, twice"),
        pytest.param(["--since", "2026-09-01", "--until", "2026-11-02"], 6, id="all"),
        pytest.param(["--until", "2h"], 3, id="this month without the last hours"),
        pytest.param(["--user", "bob"], 2, id="of a user"),
        pytest.param(["--team", "nlp"], 3, id="of a team"),
        pytest.param(["--model", "big"], 1, id="of a model"),
        pytest.param(["--route", "batch"], 1, id="of a route"),
        pytest.param(["--key", KEY], 1, id="of a key"),
        pytest.param(["--user", "bob", "--route", "batch"], 1, id="of both"),
        pytest.param(["--user", "nobody"], 0, id="of nobody"),
    ],
)
def test_what_is_counted(authz: Authz, arguments: list[str], count: int) -> None:
    rows = authz("usage", *arguments, "--json").json
    assert sum(row["requests"] for row in rows) == count


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("user", ["alice", "bob"]),
        ("source", ["estimated", "expired", "reported"]),
        ("day", ["2026-10-01", "2026-10-25", "2026-10-27"]),
        ("route", ["batch", "inference"]),
        ("gateway", ["edge"]),
        ("key", ["key_1", KEY]),
    ],
)
def test_by_anything(authz: Authz, by: str, groups: list[str]) -> None:
    assert [row[by] for row in authz("usage", "--by", by, "--json").json] == groups
    assert [row[by] for row in authz("usage", "--by", by).rows] == groups


@pytest.mark.parametrize("cost", [0, 1, 10, 999_999_999, 123_456_789_012_345_678, 2**53 - 1])
def test_cost_is_exact(authz: Authz, ledger: Ledger, cost: int) -> None:
    """To 1e-9 as far as the numbers of JSON reach, which is nine million; in CSV always."""
    parts = [min(cost - done, 2**53 - 1) for done in range(0, max(cost, 1), 2**53 - 1)]
    ledger([entry(f"c{number}", NOW - 1000, user="carol", cost=part) for number, part in enumerate(parts)])
    (row,) = authz("usage", "--user", "carol", "--json").json
    if cost < 2**53:
        assert round(row["cost"] * 1_000_000_000) == cost
    (read,) = csv.DictReader(io.StringIO(authz("usage", "--user", "carol", "--csv").out))
    whole, _, rest = read["cost"].partition(".")
    assert int(whole) * 10**9 + int(rest.ljust(9, "0")) == cost
    assert "e" not in authz("usage", "--user", "carol").rows[0]["cost"]


def test_csv_reads_back_and_holds_no_formula(authz: Authz, ledger: Ledger) -> None:
    """Attack: a name that a spreadsheet runs."""
    names = [EVIL, "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "plain, with a comma", 'a "quote"', "zoë"]
    ledger([entry(name, NOW - 1000, user=name, team="evil") for name in names])
    ran = authz("usage", "--by", "user", "--team", "evil", "--csv")
    assert ran.code == 0
    header, *rows = csv.reader(io.StringIO(ran.out, newline=""))
    assert header == [
        "user",
        "requests",
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "reasoning_tokens",
        "cost",
        "currency",
        "estimated_input_tokens",
        "estimated_output_tokens",
    ]
    assert {row[0] for row in rows} == {f"'{name}" for name in names[:6]} | set(names[6:])
    assert {tuple(row[1:]) for row in rows} == {("1", "10", "20", "3", "4", "0.009", "USD", "0", "0")}
    assert ran.out.endswith("\r\n")
    assert "\n" not in ran.out.replace("\r\n", "")


@pytest.mark.usefixtures("ledger")
def test_nothing_is_a_header_or_an_empty_list(authz: Authz) -> None:
    nothing = ("usage", "--month", "2020-01")
    assert authz(*nothing, "--json").json == []
    assert authz(*nothing, "--csv").out.startswith("user,model,requests,")
    assert authz(*nothing).rows == []
    assert authz(*nothing, terminal=True).out.strip() == "No requests in that time."


@pytest.mark.usefixtures("ledger")
def test_on_a_terminal(authz: Authz) -> None:
    head = authz("usage", "--by", "user", terminal=True, columns=200).out.splitlines()[0]
    assert re.split(r"\s{2,}", head.strip()) == ["user", *(name.replace("_", " ") for name in FIGURES)]
    narrow = authz("usage", "--by", "user", terminal=True, columns=60).out.splitlines()[0]
    assert re.split(r"\s{2,}", narrow.strip())[:4] == ["user", "requests", "input tokens", "output tokens"]


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--by", "usr"], "Did you mean user?"),
        (["--by", "colour"], "Choose from user, team,"),
        (["--by", ""], "Choose from user, team,"),
        (["--by", "user,user"], "twice"),
        (["--month", "2026-13"], "not a month"),
        (["--month", "10"], "not a month"),
        (["--month", "2026-10", "--since", "7d"], "a time of its own"),
        (["--since", "yesterday"], "neither a duration nor a date"),
        (["--since", "2026-10-02", "--until", "2026-10-01"], "ends before it begins"),
        (["--csv", "--json"], "choose one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line(authz: Authz, arguments: list[str], words: str) -> None:
    ran = authz("usage", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err


def test_a_key_by_what_is_displayed_of_it(authz: Authz, ledger: Ledger, config: Path) -> None:
    del ledger
    database = prepare(config.with_name("authz.db"), thorough=False)
    SqliteRegistry(database, lambda: NOW).add_key(
        Key(id=KEY, digest=b"\1" * 32, display="sk-az-3fK9...", user="alice", created_at=NOW)
    )
    database.close()
    (row,) = authz("usage", "--key", "sk-az-3fK9...", "--json").json
    assert (row["model"], row["requests"]) == ("big", 1)
    unknown = authz("usage", "--key", "sk-az-none...")
    assert (unknown.code, unknown.out) == (1, "")
    assert "authz keys list" in unknown.err


@pytest.mark.usefixtures("ledger")
def test_where_a_range_cuts_a_day_without_rows_it_is_said(authz: Authz, config: Path) -> None:
    database = prepare(config.with_name("authz.db"), thorough=False)
    with database.change() as connection:
        trim(connection, NOW, 7 * 86_400_000)
    database.close()
    config.write_text("ledger: {retention: 7d}\n" + config.read_text())
    cut = authz("usage", "--since", "2026-10-01T12:00", "--json")
    assert sum(row["requests"] for row in cut.json) == 4
    assert "kept for 7 days: earlier days are counted whole" in cut.err
    assert authz("usage", "--since", "2026-10-01", "--json").err == ""


def test_a_store_in_memory_is_out_of_reach(authz: Authz, config: Path) -> None:
    config.write_text(config.read_text().replace("sqlite:authz.db", "memory://"))
    ran = authz("usage")
    assert (ran.code, ran.out) == (1, "")
    assert "memory://" in ran.err
