"""Password files as Apache's `htpasswd` writes them, and whether a password fits one of their hashes.

https://httpd.apache.org/docs/2.4/misc/password_encryptions.html

bcrypt (`$2y$`, `htpasswd -nB`), argon2 (`$argon2id$`) and, for old files,
`{SHA}`. A line with any other hash, or with none, matches no password (attack 77).
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha1
from hmac import compare_digest
from typing import TYPE_CHECKING

from msgspec import Struct

from authz.authenticate.claims import is_name

if TYPE_CHECKING:
    from argon2 import PasswordHasher

LONGEST_BCRYPT = 72  # bytes: bcrypt looks at no more, so a longer password must not pass (attack 75)
MOST_COST = 14  # of bcrypt: the next takes longer than a gateway waits
MOST_MEMORY = 256 << 10  # KiB that one argon2 check may take

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)


class Line(Struct, frozen=True):
    """What is wrong with a line of a file. Never says the hash."""

    number: int
    text: str


class Htpasswd(Struct, frozen=True):
    """The users of one file and their hashes."""

    hashes: Mapping[str, str]
    ignored: tuple[Line, ...] = ()

    def __repr__(self) -> str:
        return f"<Htpasswd of {len(self.hashes)} users>"


def parse(text: str) -> Htpasswd:
    """Reads a file. Lines that can match nobody are in `ignored`; of two of one user the first counts."""
    hashes: dict[str, str] = {}
    ignored: list[Line] = []
    for number, line in _entries(text):
        user, colon, hashed = line.partition(":")
        fault = "is not USER:HASH" if not colon or not is_name(user) else None
        if fault is None and user in hashes:
            fault = f"names {user} again; the first line counts"
        fault = fault or fault_of_hash(hashed)
        if fault is None:
            hashes[user] = hashed
        else:
            ignored.append(Line(number, fault))
    return Htpasswd(hashes, tuple(ignored))


def _entries(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield number, entry


def fault_of_hash(hashed: str) -> str | None:
    """Why no password can match it, or none in time; None where one could."""
    if hashed.startswith("{SHA}"):
        try:
            digest = base64.b64decode(hashed[5:], validate=True)
        except binascii.Error:
            digest = b""
        return (
            None if len(digest) == sha1(usedforsecurity=False).digest_size else "has a {SHA} hash that is cut"
        )
    if hashed.startswith("$argon2"):
        import argon2

        try:
            memory = argon2.extract_parameters(hashed).memory_cost
        except argon2.exceptions.InvalidHashError:
            return "has an argon2 hash that is cut"
        return None if memory <= MOST_MEMORY else f"has an argon2 hash that takes more than {MOST_MEMORY} KiB"
    found = _BCRYPT.fullmatch(hashed)
    if found is None:
        return "has a hash that is none of bcrypt (htpasswd -nB), argon2 and {SHA}"
    return (
        None if 4 <= int(found[1]) <= MOST_COST else f"has a bcrypt hash of a cost outside 4 to {MOST_COST}"
    )


def fits(password: str, hashed: str) -> bool:
    """Whether the password is the hash's. Slow on purpose; never raises for a hash without a fault."""
    encoded = password.encode()
    if hashed.startswith("{SHA}"):
        digest = base64.b64encode(sha1(encoded, usedforsecurity=False).digest())
        return compare_digest(digest, hashed[5:].encode())
    if hashed.startswith("$argon2"):
        import argon2

        try:
            return _argon2().verify(hashed, encoded)
        except (argon2.exceptions.Argon2Error, argon2.exceptions.InvalidHashError):
            return False
    import bcrypt

    same = bcrypt.checkpw(encoded[:LONGEST_BCRYPT], hashed.encode())
    return same and len(encoded) <= LONGEST_BCRYPT


@cache
def _argon2() -> "PasswordHasher":
    """Imported, as bcrypt, where a file has such a hash."""
    from argon2 import PasswordHasher

    return PasswordHasher()
