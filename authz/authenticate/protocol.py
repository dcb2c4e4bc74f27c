"""The protocol that every authenticator fulfils, and its one answer type."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from authz.authenticate.presented import Presented, Slot
from authz.reason import Reason
from authz.subject import Subject


class Refused(Struct, frozen=True):
    """A credential was there and is no good. `detail` is safe to show: it never repeats the credential.

    `note` is for the operator alone, as `Refusal.detail`.

    `foreign` says that the credential does not look like one of this
    authenticator's kind, so that another's refusal tells more.
    """

    reason: Reason
    detail: str = ""
    foreign: bool = False
    note: str = ""


Outcome = Subject | Refused | None
"""None: this authenticator found no credential in its slots."""


class Authenticator(Protocol):
    """Turns what a request presents into a subject."""

    @property
    def name(self) -> str:
        """Its name in the config."""
        ...

    @property
    def challenge(self) -> str:
        """The WWW-Authenticate value of a 401 (RFC 9110 11.6.1); empty where none would help."""
        ...

    @property
    def wants(self) -> str:
        """What a caller is told to send, where that is neither an API key nor a token."""
        ...

    @property
    def slots(self) -> Sequence[Slot]:
        """Where it looks for credentials: all of them are removed upstream."""
        ...

    @property
    def asserts(self) -> frozenset[str]:
        """Upstream headers that only it may set, in lower case: a client's own are removed."""
        ...

    @property
    def ambient(self) -> bool:
        """True where it judges what surrounds a request (its address), and not something that it presents."""
        ...

    async def authenticate(self, presented: Presented) -> Outcome:
        """Awaits bare futures only, and none at all where the answer is at hand."""
        ...
