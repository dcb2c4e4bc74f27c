"""Which rows an export of LiteLLM holds, in any of the shapes that its tables and endpoints have.

Tables as JSON or CSV (`LiteLLM_VerificationToken`, `LiteLLM_UserTable`, `LiteLLM_TeamTable`,
`LiteLLM_BudgetTable`), and what `/key/list?return_full_object=true`, `/user/list`, `/team/list`,
`/budget/list` and the `info` endpoints answer.
https://github.com/BerriAI/litellm/blob/main/schema.prisma
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from msgspec import Struct

from authz.cli.import_rows import Fields, Table, Wrong


class Kind(Enum):
    """What a row is of."""

    KEY = "key"
    USER = "user"
    TEAM = "team"
    BUDGET = "budget"


class Export(Struct):
    """The rows of every file together; `wrong` are those that are none."""

    keys: list[Fields]
    users: list[Fields]
    teams: list[Fields]
    budgets: list[Fields]
    wrong: list[Wrong]


_LISTS: Final[Mapping[str, Kind]] = {
    "keys": Kind.KEY,
    "LiteLLM_VerificationToken": Kind.KEY,
    "users": Kind.USER,
    "LiteLLM_UserTable": Kind.USER,
    "teams": Kind.TEAM,
    "LiteLLM_TeamTable": Kind.TEAM,
    "budgets": Kind.BUDGET,
    "LiteLLM_BudgetTable": Kind.BUDGET,
}
_SINGLE: Final[Mapping[str, Kind]] = {"team_info": Kind.TEAM, "user_info": Kind.USER}
_UNKNOWN: Final = (
    "this is no row of LiteLLM_VerificationToken, LiteLLM_UserTable, LiteLLM_TeamTable or LiteLLM_BudgetTable"
)
_BARE: Final = "this is a bare hash: ask /key/list with return_full_object=true"


def read_export(tables: Sequence[Table]) -> Export:
    """Sort the rows of all documents by what they are."""
    export = Export([], [], [], [], [])
    into = {
        Kind.KEY: export.keys,
        Kind.USER: export.users,
        Kind.TEAM: export.teams,
        Kind.BUDGET: export.budgets,
    }
    for table in tables:
        for kind, row in _rows(table.place, table.value, export.wrong):
            into[kind].append(row)
    return export


def _rows(
    place: str, value: Any, wrong: list[Wrong], kind: Kind | None = None
) -> Iterator[tuple[Kind, Fields]]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _rows(f"{place}[{number}]" if kind else f"{place}, [{number}]", item, wrong, kind)
        return
    if not isinstance(value, Mapping):
        wrong.append(Wrong(f"{place}: {_BARE if kind is Kind.KEY and isinstance(value, str) else _UNKNOWN}"))
        return
    found = kind or _kind(value)
    if found is not None:
        yield found, Fields(place, value)
    inside = [name for name in (*_LISTS, *_SINGLE) if isinstance(value.get(name), list | Mapping)]
    if found in {Kind.KEY, Kind.USER, Kind.BUDGET}:
        inside = []  # such a row repeats what it belongs to
    for name in inside:
        yield from _rows(f"{place}, {name}", value[name], wrong, _LISTS.get(name) or _SINGLE[name])
    if found is None and not inside:
        wrong.append(Wrong(f"{place}: {_UNKNOWN}"))


def _kind(row: Mapping[str, Any]) -> Kind | None:
    """By the columns that only one table has; of the many other tables that name a key or a user, none."""
    listed = "models" in row
    if "token" in row:
        return Kind.KEY if listed else None
    if not listed and any(name in row for name in (*_LISTS, *_SINGLE)):
        return None  # an answer that holds rows
    if "user_id" in row:
        return Kind.USER if listed else None
    if "project_id" in row or ("organization_id" in row and "team_id" not in row) or "tag_name" in row:
        return None
    if "team_id" in row:
        return Kind.TEAM if listed else None
    return Kind.BUDGET if "budget_id" in row else None
