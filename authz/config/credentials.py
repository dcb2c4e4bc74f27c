"""`authenticators:` passwords, client certificates, shared secrets, and nobody in particular."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from authz.authenticate.htpasswd import Htpasswd, parse
from authz.config.base import Section, Wrong
from authz.config.http import Header
from authz.config.secret import Secret, Token
from authz.config.words import Flag, Name, Some, Word


class BasicAuthenticator(Section):
    """User and password (RFC 7617)."""

    type: Literal["basic"]
    """User and password."""

    htpasswd: Secret
    """Users and hashes, as `htpasswd -nB` prints them: bcrypt, argon2 or `{SHA}`."""

    map_users: Flag = False
    """Whether its users are authz's own users of that name."""

    def users(self) -> Htpasswd:
        """The file's users. Raises SecretMissing."""
        return parse(self.htpasswd.reveal())

    @field_validator("htpasswd")
    @classmethod
    def _somebody(cls, htpasswd: Secret) -> Secret:
        if htpasswd.present:
            found = parse(htpasswd.reveal())
            if not found.hashes:
                why = f": line {found.ignored[0].number} {found.ignored[0].text}" if found.ignored else ""
                raise Wrong(f"nobody can be let in by this password file{why}")
        return htpasswd


class CertificateAuthenticator(Section):
    """A client certificate that a proven gateway verified."""

    type: Literal["certificate"]
    """Client certificates."""

    subject_from: Literal["uri_san", "dns_san", "email_san", "common_name"] = "uri_san"
    """Which name in the certificate is the user."""

    map_users: Flag = False
    """Whether its users are authz's own users of that name."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if data.get("map_users") is True and data.get("subject_from", "uri_san") == "uri_san":
            message = (
                "a URI holds a colon, and no user of authz's own does; "
                "take dns_san, email_san or common_name, or leave `map_users` out"
            )
            yield Wrong(message, at=("map_users",), on_key=True)


class SharedSecretAuthenticator(Section):
    """Secrets that whole classes of callers share, such as workers."""

    type: Literal["shared_secret"]
    """Shared secrets."""

    secrets: Mapping[Name, Token] = Field(json_schema_extra={"minProperties": 1})
    """The secrets by the name of who holds them: the caller is `NAME:` and this name."""

    headers: Some[Header] | None = None
    """Headers that may hold the secret; `authorization` drops `Bearer `."""

    query: Some[Word] | None = None
    """Query parameters that may hold it. They are removed from what goes upstream."""

    @field_validator("secrets")
    @classmethod
    def _apart(cls, secrets: Mapping[str, Secret]) -> Mapping[str, Secret]:
        if not secrets:
            raise Wrong("there is no secret; write {NAME: {file: PATH}}")
        first: dict[str, str] = {}
        for name, secret in secrets.items():
            if secret.present and first.setdefault(secret.reveal(), name) != name:
                other = first[secret.reveal()]
                raise Wrong(f"this is the same secret as `{other}`; each needs its own", at=(name,))
        return secrets

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if not {"headers", "query"} & data.keys():
            yield Wrong("missing key `headers` or `query`: where the secret is", on_key=True)


class AnonymousAuthenticator(Section):
    """A caller of whom nothing is known, where nothing at all was presented."""

    type: Literal["anonymous"]
    """Callers without a credential."""

    user: Name = "guest"
    """The user that all of them are: `NAME:guest`. Their routes need a limit."""
