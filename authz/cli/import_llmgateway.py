"""LLMGateway's `apikeys` and `user` collections, as `mongoexport` writes them.

`apikeys` is {user, active, key, name} and holds the very keys: they are hashed as they are read and go
nowhere else (https://github.com/AaltoRSE/LLMGateway).
"""

from collections.abc import Mapping, Sequence

from authz.authenticate.key_format import digest, display, new_id
from authz.cli import values
from authz.cli.context import Context
from authz.cli.errors import UsageError
from authz.cli.import_plan import Found
from authz.cli.import_rows import Fields, Table, Wrong
from authz.cli.key_import import LONGEST_KEY
from authz.store.records import Key, User

_SHAPES = (
    "an entry of `apikeys` has `key`, `user`, `active` and `name`, one of `user` has `username` and `keys`"
)


def read_llmgateway(tables: Sequence[Table], at: Context) -> tuple[list[Found], list[Wrong]]:
    """Users and keys as they would be here, and every mistake."""
    users: dict[str, Found] = {}
    keys: dict[bytes, Found] = {}
    listed: list[tuple[str, str, bytes]] = []  # of the collection `user`: place, user, digest
    wrong: list[Wrong] = []
    for fields in _rows(tables, wrong):
        try:
            if fields.has("username") and not fields.has("key"):
                user = _user(fields, "username", at)
                listed.extend((fields.place, user.name, digest(key)) for key in fields.names("keys"))
            else:
                user = _user(fields, "user", at)
                key, found = _key(fields, user.name, at)
                if key.digest in keys:
                    raise Wrong(f"{fields.place}: the same key as in {keys[key.digest].place}")
                keys[key.digest] = found
            users.setdefault(user.name, Found(place=fields.place, record=user, told=()))
        except Wrong as error:
            wrong.append(error)
    unknown = [_listed_only(*each, at) for each in listed if each[2] not in keys]
    return [*users.values(), *keys.values(), *unknown], wrong


def _rows(tables: Sequence[Table], wrong: list[Wrong]) -> list[Fields]:
    rows: list[Fields] = []
    for table in tables:
        listed = isinstance(table.value, list)
        for number, value in enumerate(table.value if listed else [table.value]):
            place = f"{table.place}, [{number}]" if listed else table.place
            if isinstance(value, Mapping) and ("key" in value or "username" in value):
                rows.append(Fields(place, value))
            else:
                wrong.append(Wrong(f"{place}: this is nothing of LLMGateway: {_SHAPES}"))
    return rows


def _user(fields: Fields, column: str, at: Context) -> User:
    name = fields.text(column)
    if name is None:
        raise fields.wrong(column, "a user is needed")
    try:
        return User(name=values.name(name, "user"), created_at=at.now)
    except UsageError as error:
        raise fields.wrong(column, str(error)) from None


def _key(fields: Fields, user: str, at: Context) -> tuple[Key, Found]:
    secret = fields.text("key") or ""
    if not (8 <= len(secret) <= LONGEST_KEY and secret.isascii() and secret.isprintable()) or " " in secret:
        raise fields.wrong("key", f"a key is 8 to {LONGEST_KEY} printable ASCII characters without spaces")
    active = _active(fields)
    key = Key(
        id=new_id(),
        digest=digest(secret),
        display=display(secret),
        user=user,
        name=fields.text("name") or "",
        created_at=at.now,
        revoked_at=None if active else at.now,
    )
    quota = fields.has("has_quota") or fields.has("quota")
    lost = ("its quota, whose unit the export does not tell",) if quota else ()
    notes = () if active else ("it was not active: it is revoked here",)
    return key, Found(place=fields.place, record=key, told=("user", "name"), lost=lost, notes=notes)


def _active(fields: Fields) -> bool:
    active = fields.flag("active")
    if active is None:
        raise fields.wrong("active", "true or false is needed")
    return active


def _listed_only(place: str, user: str, hashed: bytes, at: Context) -> Found:
    """A key that a user had and `apikeys` does not know: it does not work there either."""
    key = Key(id=new_id(), digest=hashed, display="imported", user=user, created_at=at.now)
    return Found(
        place=place, record=key, told=(), skip="`apikeys` does not hold it, so it did not work before"
    )
