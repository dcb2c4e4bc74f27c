"""User and password: the `Basic` scheme (RFC 7617) against a password file."""

import base64
import binascii
from hashlib import sha256

from authz.authenticate.htpasswd import Htpasswd
from authz.authenticate.mapped import mapped
from authz.authenticate.origin import origin_of
from authz.authenticate.passwords import Passwords
from authz.authenticate.presented import AUTHORIZATION, Presented, Slot, Twice
from authz.authenticate.protocol import Outcome, Refused
from authz.reason import Reason
from authz.store.protocols import Directory
from authz.subject import Subject

LONGEST = 1024  # characters of user and password together, in base64

_MALFORMED = Refused(Reason.PASSWORD_WRONG, "The `Basic` credentials are malformed (RFC 7617).")
_WRONG = Refused(Reason.PASSWORD_WRONG)
_BUSY = Refused(Reason.HASHING_BUSY)


class BasicAuthenticator:
    """Knows its users by a password file.

    An unknown user's password is compared too, always with the same one of the
    file's hashes, so that time tells nothing, not even in a file of several
    kinds of hash (attack 73).
    """

    ambient = False
    asserts: frozenset[str] = frozenset()
    challenge = 'Basic realm="authz", charset="UTF-8"'
    wants = "user and password (`Authorization: Basic`)"
    slots: tuple[Slot, ...] = (AUTHORIZATION,)

    def __init__(
        self,
        name: str,
        users: Htpasswd,
        directory: Directory,
        passwords: Passwords,
        *,
        map_users: bool = False,
    ) -> None:
        self.name = name
        self._hashes = users.hashes
        self._decoys = tuple(users.hashes.values())
        self._directory = directory
        self._passwords = passwords
        self._map_users = map_users

    async def authenticate(self, presented: Presented) -> Outcome:
        """None where no credential, or one of another scheme, was sent."""
        try:
            value = presented.read(AUTHORIZATION)
        except Twice as twice:
            return Refused(Reason.DUPLICATE_CREDENTIAL, str(twice))
        if value is None:
            return None
        scheme, _, encoded = value.partition(" ")
        if scheme.lower() != "basic":
            return None
        pair = _decode(encoded)
        if pair is None:
            return _MALFORMED
        if not self._decoys:
            return _WRONG
        user, password = pair
        known = self._hashes.get(user)
        hashed = known or self._decoy(user)
        recalled: bool | bytes | None = self._passwords.recall(user, hashed, password)
        if isinstance(recalled, bytes):
            origin = origin_of(presented.request.ip)
            recalled = await self._passwords.compute(recalled, hashed, password, origin)
        if recalled is None:
            return _BUSY
        if known is None or not recalled:
            return _WRONG
        if not self._map_users:
            return Subject(user=f"{self.name}:{user}", authenticator=self.name)
        return mapped(Subject(user=user, authenticator=self.name), self._directory)

    def _decoy(self, user: str) -> str:
        """The hash that an unknown user's password is compared with: any, but for a name always the same."""
        number = int.from_bytes(sha256(user.encode()).digest()[:8], "big")
        return self._decoys[number % len(self._decoys)]


def _decode(encoded: str) -> tuple[str, str] | None:
    """User and password; None for what is not exactly that (attack 76)."""
    if len(encoded) > LONGEST:
        return None
    try:
        text = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    if not colon or not user or not text.isprintable():  # RFC 7617 2: no control characters
        return None
    return user, password
