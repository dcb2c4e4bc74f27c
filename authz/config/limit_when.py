"""`limits.NAME.when:` which requests a limit is for."""

from collections.abc import Iterator, Mapping
from typing import Any

from authz.config.base import Section, Wrong
from authz.config.http import ExactPath, Header, Method
from authz.config.network import Network
from authz.config.words import Claim, ModelRef, Some, Word


class When(Section):
    """When a limit applies: every part that is given must hold."""

    models: Some[ModelRef] | None = None
    """Any of these models."""

    methods: Some[Method] | None = None
    """Any of these methods."""

    paths: Some[ExactPath] | None = None
    """Any of these paths, whole."""

    roles: Some[Word] | None = None
    """The caller has any of these roles."""

    teams: Some[Word] | None = None
    """The caller is in one of these teams."""

    users: Some[Word] | None = None
    """The caller is one of these users."""

    headers: Mapping[Header, Word] = {}
    """Headers with exactly this value; `*` for any value."""

    query: Mapping[Word, Word] = {}
    """Query parameters with exactly this value; `*` for any value."""

    cookies: Mapping[Word, Word] = {}
    """Cookies with exactly this value; `*` for any value."""

    ips: Some[Network] | None = None
    """The client's address is in one of these networks."""

    claims: Mapping[Claim, Word] = {}
    """Claims of the token with this value, or a list that holds it; `*` for any value."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if not data:
            yield Wrong("`when` names no condition; leave it out if the limit always applies", on_key=True)
