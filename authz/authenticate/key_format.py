"""How our API keys look: `sk-az-`, 40 random base62 characters, 6 of checksum.

238 random bits make a key its own proof: it needs no slow hash at rest. The
checksum refuses an invented or badly copied key without a look-up; it is no
secret and proves nothing else.
"""

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256

PREFIX = "sk-az-"
BODY_LENGTH = 40
CHECKSUM_LENGTH = 6
KEY_LENGTH = len(PREFIX) + BODY_LENGTH + CHECKSUM_LENGTH
ID_PREFIX = "key_"
ID_LENGTH = 16
SHOWN_LENGTH = 4

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHAPE = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{BODY_LENGTH}}})([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class MintedKey:
    """A new key, shown once and then only known by its digest. Its repr hides the key."""

    id: str
    key: str = field(repr=False)
    digest: bytes = field(repr=False)
    display: str


def mint() -> MintedKey:
    """A new key and its id, from the system's random source."""
    body = _random(BODY_LENGTH)
    key = PREFIX + body + _checksum(body)
    return MintedKey(id=new_id(), key=key, digest=digest(key), display=display(key))


def new_id() -> str:
    """A key's id: public, unguessable, never derived from the key."""
    return ID_PREFIX + _random(ID_LENGTH)


def digest(key: str) -> bytes:
    """SHA-256 of the whole key: what is kept, and what a key is looked up by."""
    return sha256(key.encode()).digest()


def display(key: str) -> str:
    """Enough of a key for a person to tell it from others: `sk-az-3fK9...`; of an imported one, less."""
    shown = len(PREFIX) + SHOWN_LENGTH if key.startswith(PREFIX) else min(SHOWN_LENGTH, len(key) // 4)
    return key[:shown] + "..."


def is_well_formed(key: str) -> bool:
    """True where the shape and the checksum are those of a minted key."""
    match = _SHAPE.fullmatch(key)
    return match is not None and _checksum(match[1]) == match[2]


def holds_key(text: str) -> bool:
    """True where a minted key stands somewhere in the text."""
    return any(is_well_formed(match[0]) for match in _SHAPE.finditer(text))


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    number = int.from_bytes(sha256((PREFIX + body).encode()).digest()[:8], "big")
    characters = []
    for _ in range(CHECKSUM_LENGTH):
        number, index = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[index])
    return "".join(characters)
