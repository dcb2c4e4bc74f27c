"""A key that speaks for others: it names the user that a request is for (Open WebUI)."""

from msgspec import Struct

from authz.authenticate import inheritance
from authz.authenticate.claims import is_name
from authz.authenticate.combine import unite
from authz.authenticate.presented import Presented
from authz.authenticate.protocol import Refused
from authz.reason import Reason
from authz.recent import Recent
from authz.store.protocols import Directory
from authz.store.records import Team, User
from authz.subject import Subject

MOST_REMEMBERED = 16_384  # pairs of key and user

_DISABLED = Refused(Reason.USER_DISABLED, "The user that the key acts for is disabled.")


class _Acting(Struct, frozen=True):
    """A subject and what it was made of: it holds as long as these are the current ones."""

    key: Subject
    user: User | None
    team: Team | None
    subject: Subject


class ActFor:
    """Lets keys that hold `role` name a user in `header`; for other keys the header says nothing.

    The request is the user's, by the key: limits of both apply, their model
    lists intersect, their roles are united. A user whom the store does not know
    is kept apart as `NAME:user`, and may what the key may.
    """

    def __init__(self, name: str, header: str, role: str, directory: Directory) -> None:
        """`name` is the authenticator's, `header` in lower case."""
        self.header = header
        self._name = name
        self._role = role
        self._directory = directory
        self._known: Recent[tuple[str | None, str], _Acting] = Recent(MOST_REMEMBERED)

    def apply(self, key: Subject, presented: Presented) -> Subject | Refused:
        """The user's subject, or the key's own where it names nobody."""
        request = presented.request
        text = request.headers.get(self.header)
        if not text or self._role not in key.roles:
            return key
        if self.header in request.repeated:
            return Refused(
                Reason.DUPLICATE_CREDENTIAL, f"The header {self.header} was sent twice. Send it once."
            )
        name = _name(text)
        if name is None:
            return Refused(Reason.BAD_HEADER, f"The header {self.header} does not name a user.")
        user = self._directory.user(name)
        if user is not None and user.disabled:
            return _DISABLED
        team = self._directory.team(user.team) if user is not None and user.team else None
        known = self._known.get((key.key, name))
        if known is not None and known.key is key and known.user is user and known.team is team:
            return known.subject
        named = Subject(
            user=name if user is not None else f"{self._name}:{name}",
            authenticator=self._name,
            team=user.team if user is not None else None,
            roles=user.roles if user is not None else frozenset(),
            models=inheritance.models(None, user, team),
            quotas=inheritance.quotas(None, user, team),
            home=inheritance.home(user),
        )
        subject = unite([named, key])
        self._known.put((key.key, name), _Acting(key, user, team, subject))
        return subject


def _name(text: str) -> str | None:
    """The user's name. A colon would make it a user of another source."""
    try:
        name = text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return None
    return name if is_name(name) and ":" not in name else None
