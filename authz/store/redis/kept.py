"""What is kept of the records in Redis, and in which shape.

Bodies are JSON in hashes. Keys and adjustments carry before it their number, by which they are listed:
`17 {"id": ...}`. Whose a key is stands in sorted sets whose members all have the score 0, and begin with
the owner (`member`), so that one range finds them all.
"""

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, Literal, TypeVar

import msgspec

from authz.store.records import Adjustment, Key, Model, Team, User
from authz.store.redis.names import records
from authz.store.sqlite.reading import reader

Kind = Literal["key", "user", "team", "model", "adjustment"]
Record = TypeVar("Record", Key, User, Team, Model, Adjustment)

KEYS = records("keys")  # id -> numbered body
DIGESTS = records("key-digests")  # SHA-256 of a key -> id
DISPLAYS = records("keys-by-display")
KEYS_BY_USER = records("keys-by-user")
KEYS_BY_TEAM = records("keys-by-team")
KEY_USE = records("key-use")  # id -> ms
USERS = records("users")  # name -> body
USERS_BY_TEAM = records("users-by-team")
TEAMS = records("teams")
MODELS = records("models")
ADJUSTMENTS = records("adjustments")  # id -> numbered body
NUMBER = records("number")  # the last that a key or an adjustment was given

HASHES: dict[Kind, str] = {
    "key": KEYS,
    "user": USERS,
    "team": TEAMS,
    "model": MODELS,
    "adjustment": ADJUSTMENTS,
}
"""Where the bodies of a kind are."""

PLACES = (
    *HASHES.values(),
    DIGESTS,
    DISPLAYS,
    KEYS_BY_USER,
    KEYS_BY_TEAM,
    USERS_BY_TEAM,
    NUMBER,
)
"""All that a change may write to."""

_encode = msgspec.json.Encoder().encode
read_key = reader(Key)
read_user = reader(User)
read_team = reader(Team)
read_model = reader(Model)
read_adjustment = reader(Adjustment)


def encode(record: Key | User | Team | Model | Adjustment) -> str:
    return _encode(record).decode()


def numbered(number: int, record: Key | Adjustment) -> str:
    return f"{number} {encode(record)}"


def unnumbered(body: bytes, read: Callable[[bytes], Record]) -> tuple[int, Record]:
    """The number and the record. Raises StoreUnavailable."""
    number, _, rest = body.partition(b" ")
    record = read(rest)
    return int(number), record


def in_order(bodies: Iterable[bytes], read: Callable[[bytes], Record]) -> list[Record]:
    """Numbered records, the oldest first."""
    found = [unnumbered(body, read) for body in bodies]
    return [record for _, record in sorted(found, key=itemgetter(0))]


def member(owner: str, name: str) -> str:
    """A member of an index. The owner's length stands first: no owner's range holds another's."""
    return f"{len(owner)}:{owner}:{name}"


def of_owner(owner: str) -> tuple[bytes, bytes]:
    """The range of an owner's members, as ZRANGEBYLEX wants it."""
    return b"[" + member(owner, "").encode(), f"({len(owner)}:{owner};".encode()  # ; comes after :


def name_of(owner: str, member_: bytes) -> str:
    return member_.decode()[len(member(owner, "")) :]


def text(value: Any) -> str:
    """A name as Redis gives it back."""
    return value.decode() if isinstance(value, bytes) else str(value)
