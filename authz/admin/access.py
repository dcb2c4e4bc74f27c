"""Who may use the admin listener: tokens, and protection against a browser that was led astray."""

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Literal

from msgspec import Struct

from authz.config.model import Config
from authz.transport.address import is_loopback, parse_address

Role = Literal["admin", "reader", "team-admin"]


class AdminToken(Struct, frozen=True, kw_only=True):
    """One token of the configuration; only its digest is kept."""

    name: str
    digest: bytes  # SHA-256
    role: Role = "admin"
    teams: frozenset[str] = frozenset()


class AdminAccess:
    """Checks tokens and Host headers."""

    def __init__(self, tokens: Sequence[AdminToken], hosts: Sequence[str] = ()) -> None:
        """`hosts` are names by which the listener is reached besides addresses and localhost."""
        self._tokens = tuple(tokens)
        self._hosts = frozenset(host.lower() for host in hosts) | {"localhost"}

    def who(self, authorization: str | None) -> AdminToken | None:
        """The token of an `Authorization: Bearer` value. Every token is compared, so time tells nothing."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        digest = sha256(token.strip(" ").encode("latin-1", "replace")).digest()
        found: AdminToken | None = None
        for known in self._tokens:
            if compare_digest(known.digest, digest):
                found = known
        return found

    def is_known_host(self, host: str | None) -> bool:
        """Whether a Host header names us. A name that an attacker lets point here is not ours (attack 80)."""
        if not host:
            return False
        if host.startswith("["):
            name, _, port = host[1:].partition("]")
            port = port.removeprefix(":")
        else:
            name, _, port = host.partition(":")
        if port and not (port.isascii() and port.isdigit()):
            return False
        return name.lower() in self._hosts or parse_address(name) is not None

    @staticmethod
    def is_local(peer: str) -> bool:
        """Whether the peer is this machine."""
        return is_loopback(peer)


def access_of(config: Config) -> AdminAccess:
    """By the tokens of a config."""
    admin = config.admin
    tokens = [
        AdminToken(name=name, digest=token.secret.digest, role=token.role, teams=frozenset(token.teams or ()))
        for name, token in admin.tokens.items()
    ]
    if admin.token is not None:
        tokens.append(AdminToken(name="admin", digest=admin.token.digest))
    return AdminAccess(tokens)
