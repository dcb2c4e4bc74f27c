"""From verified claims to a subject."""

from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from authz.authenticate import inheritance
from authz.authenticate.claims import (
    LONGEST_HEADER_VALUE,
    claim,
    first_claim,
    first_identifier,
    is_name,
    names,
    spell,
    words,
)
from authz.authenticate.jwt_settings import JwtSettings
from authz.authenticate.protocol import Refused
from authz.header_text import header_value
from authz.reason import Reason
from authz.store.records import Team, User
from authz.subject import Subject


class SubjectMapping:
    """Turns claims into subjects as the settings say."""

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings

    def subject(self, claims: dict[str, Any]) -> Subject | Refused:
        """The subject that the claims alone make. A user or team of the wrong kind refuses."""
        settings = self._settings
        user = first_identifier(claims, settings.user)
        if user is None or not is_name(user):
            return _invalid("No claim names the user.")
        if settings.map_users and ":" in user:
            return _invalid("The user's name holds a colon, which only names from other providers do.")
        team = self._team(claims)
        if isinstance(team, Refused):
            return team
        headers = self._claim_headers(claims)
        if isinstance(headers, Refused):
            return headers
        models = first_claim(claims, settings.models)
        email = first_claim(claims, settings.email)
        return Subject(
            user=user if settings.map_users else self._namespace(claims) + user,
            authenticator=settings.name,
            team=team,
            roles=names(first_claim(claims, settings.roles)),
            scopes=words(first_claim(claims, settings.scopes)),
            models=None if models is None else names(models),
            claims=claims if not isinstance(email, str) else {**claims, "email": email},
            headers=headers,
        )

    def _namespace(self, claims: dict[str, Any]) -> str:
        """`name:`, or with several issuers `name:issuer:`, so that no two of them can name the same user."""
        if len(self._settings.issuers) == 1:
            return f"{self._settings.name}:"
        issuer = claims.get("iss")
        return f"{self._settings.name}:{quote(issuer, safe='')}:" if issuer else f"{self._settings.name}:"

    def _team(self, claims: dict[str, Any]) -> str | Refused | None:
        value = first_claim(claims, self._settings.teams)
        if isinstance(value, list):
            value = value[0] if value else None
        if value is None:
            return None
        if not isinstance(value, str) or not is_name(value):
            return _invalid("The team's claim is not a name.")
        if value.startswith("user:"):  # a caller without a team is counted as `user:NAME` in its place
            return _invalid("The team's name begins with `user:`.")
        return value

    def _claim_headers(self, claims: dict[str, Any]) -> tuple[tuple[str, str], ...] | Refused:
        headers = []
        for path, header in self._settings.claim_headers:
            value = claim(claims, path)
            if value is None or value == "":
                continue
            encoded = header_value(spell(value))
            if len(encoded) > LONGEST_HEADER_VALUE:
                return _invalid(f"The claim for the header {header} is too long.")
            headers.append((header, encoded))
        return tuple(headers)


def with_records(subject: Subject, user: User | None, team_name: str | None, team: Team | None) -> Subject:
    """A mapped user's subject with what our own table says of it. What the token says comes first."""
    models = subject.models if subject.models is not None else inheritance.models(None, user, team)
    return replace(
        subject,
        team=team_name,
        roles=subject.roles | user.roles if user is not None else subject.roles,
        models=models,
        quotas=inheritance.quotas(None, user, team),
        home=inheritance.home(user),
    )


def _invalid(detail: str) -> Refused:
    return Refused(Reason.TOKEN_INVALID, detail)
