"""The one-method protocol that every authenticator fulfils."""

from typing import Protocol

from msgspec import Struct

from authz.authenticate.presented import Presented
from authz.reason import Reason
from authz.subject import Subject


class Refused(Struct, frozen=True):
    """A credential was there and is no good. `detail` is safe to show: it never repeats the credential."""

    reason: Reason
    detail: str = ""


Outcome = Subject | Refused | None
"""None: this authenticator found no credential in its slots."""


class Authenticator(Protocol):
    """Turns what a request presents into a subject.

    `challenge` is the WWW-Authenticate value of a 401 (RFC 9110 11.6.1).
    """

    @property
    def name(self) -> str: ...
    @property
    def challenge(self) -> str: ...

    async def authenticate(self, presented: Presented) -> Outcome:
        """Awaits bare futures only, and none at all where the answer is at hand."""
        ...
