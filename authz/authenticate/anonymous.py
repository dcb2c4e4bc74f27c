"""Callers of whom nothing is known (`type: anonymous`): a subject like any other, with limits of its own."""

from authz.authenticate.presented import Presented, Slot
from authz.authenticate.protocol import Outcome
from authz.subject import Subject


class AnonymousAuthenticator:
    """Lets in whoever presents nothing. `AnyOf` asks it only then, so that no failure becomes access."""

    ambient = True
    asserts: frozenset[str] = frozenset()
    challenge = ""
    wants = ""
    slots: tuple[Slot, ...] = ()

    def __init__(self, name: str, user: str) -> None:
        self.name = name
        self._subject = Subject(user=f"{name}:{user}", authenticator=name)

    async def authenticate(self, presented: Presented) -> Outcome:
        """Always the same subject."""
        return self._subject
