"""The authenticators of a configuration, and what of them a reload keeps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from authz.authenticate.act_for import ActFor
from authz.authenticate.anonymous import AnonymousAuthenticator
from authz.authenticate.api_key import ApiKeyAuthenticator
from authz.authenticate.basic import BasicAuthenticator
from authz.authenticate.jwt_settings import JwtSettings
from authz.authenticate.network import NetworkAuthenticator
from authz.authenticate.passwords import Passwords
from authz.authenticate.presented import Slot
from authz.authenticate.protocol import Authenticator
from authz.authenticate.shared_secret import SharedSecretAuthenticator
from authz.authenticate.throttle import Throttle
from authz.config import authenticators as configured
from authz.config.credentials import AnonymousAuthenticator as AnonymousEntry
from authz.config.credentials import BasicAuthenticator as BasicEntry
from authz.config.credentials import CertificateAuthenticator as CertificateEntry
from authz.config.credentials import SharedSecretAuthenticator as SharedSecretEntry
from authz.config.model import Config
from authz.store.protocols import Clock, Directory

if TYPE_CHECKING:
    from authz.authenticate.jwt import JwtAuthenticator


class Authenticators:
    """The authenticators of one configuration, by name.

    One that a reload leaves as it was keeps living, with the keys it fetched and
    the tokens it verified.
    """

    def __init__(
        self,
        config: Config,
        directory: Directory,
        clock: Clock,
        before: "Authenticators | None" = None,
    ) -> None:
        self._jwt: dict[JwtSettings, JwtAuthenticator] = {}
        self._passwords: Passwords = before._passwords if before is not None else Passwords(clock)
        self._throttles: dict[str, Throttle] = {}
        self._by_name: dict[str, Authenticator] = {}
        for name, entry in config.authenticators.items():
            self._by_name[name] = self._build(name, entry, directory, clock, before)

    def _build(
        self,
        name: str,
        entry: configured.AuthenticatorEntry,
        directory: Directory,
        clock: Clock,
        before: "Authenticators | None",
    ) -> Authenticator:
        match entry:
            case configured.ApiKeyAuthenticator():
                act_for = entry.act_for
                return ApiKeyAuthenticator(
                    name,
                    _slots(entry.headers, entry.query),
                    directory,
                    clock,
                    act_for=ActFor(name, act_for.header, act_for.role, directory) if act_for else None,
                )
            case configured.JwtAuthenticator():
                from authz.authenticate.jwt import JwtAuthenticator  # brings an HTTP client

                settings = _jwt_settings(name, entry)
                known = before._jwt.get(settings) if before is not None else None
                self._jwt[settings] = known or JwtAuthenticator(settings, directory, clock)
                return self._jwt[settings]
            case BasicEntry():
                users = entry.users()
                return BasicAuthenticator(name, users, directory, self._passwords, map_users=entry.map_users)
            case CertificateEntry():
                from authz.authenticate.certificate import CertificateAuthenticator  # brings `cryptography`

                return CertificateAuthenticator(
                    name, entry.subject_from, directory, clock, map_users=entry.map_users
                )
            case SharedSecretEntry():
                known_throttle = before._throttles.get(name) if before is not None else None
                self._throttles[name] = known_throttle or Throttle()
                digests = {holder: secret.digest for holder, secret in entry.secrets.items()}
                slots = _slots(entry.headers, entry.query)
                return SharedSecretAuthenticator(name, slots, digests, self._throttles[name], clock)
            case AnonymousEntry():
                return AnonymousAuthenticator(name, entry.user)
            case configured.NetworkAuthenticator():
                return NetworkAuthenticator(name, [str(network) for network in entry.allow])

    def __getitem__(self, name: str) -> Authenticator:
        return self._by_name[name]

    @property
    def asserted(self) -> frozenset[str]:
        """Upstream headers that only an authenticator may set: a client's own are removed on every route."""
        return frozenset[str]().union(*(one.asserts for one in self._by_name.values()))

    def start(self) -> None:
        """Begin to keep the published keys fresh. Needs a running loop; harmless when begun already."""
        for authenticator in self._jwt.values():
            authenticator.start()

    async def close(self, keep: "Authenticators | None" = None) -> None:
        """Stop those that `keep` does not use any more."""
        kept = set() if keep is None else {id(authenticator) for authenticator in keep._jwt.values()}
        for authenticator in self._jwt.values():
            if id(authenticator) not in kept:
                await authenticator.close()
        if keep is None or keep._passwords is not self._passwords:
            self._passwords.close()


def _slots(headers: Sequence[str] | None, query: Sequence[str] | None) -> list[Slot]:
    """Headers first."""
    return [Slot("header", name) for name in headers or ()] + [Slot("query", name) for name in query or ()]


def _jwt_settings(name: str, entry: configured.JwtAuthenticator) -> JwtSettings:
    """How the tokens of one `type: jwt` entry are judged."""
    subject = entry.subject
    return JwtSettings(
        name=name,
        algorithms=frozenset(entry.algorithms),
        issuers=frozenset(entry.issuers or ()),
        audiences=frozenset(entry.audiences or ()),
        sign_key=entry.signing_key() if entry.sign_key is not None else None,
        jwks_url=entry.jwks_url,
        discovery=entry.discovery,
        token_from=tuple(Slot(source.kind, source.name) for source in entry.token_from),
        leeway_ms=entry.leeway,
        user=tuple(subject.user),
        email=tuple(subject.email or ()),
        teams=tuple(subject.teams or ()),
        roles=tuple(subject.roles or ()),
        scopes=tuple(subject.scopes),
        models=tuple(subject.models or ()),
        claim_headers=tuple(entry.claim_headers.items()),
        map_users=entry.map_users,
    )
