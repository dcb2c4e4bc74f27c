"""API keys: looked up by their SHA-256, judged by the records of key, user and team."""

from collections.abc import Sequence
from hashlib import sha256

from msgspec import Struct

from authz.authenticate import inheritance
from authz.authenticate.act_for import ActFor
from authz.authenticate.compact import looks_like_token
from authz.authenticate.key_format import PREFIX, is_well_formed
from authz.authenticate.presented import Presented, Slot, Twice
from authz.authenticate.protocol import Outcome, Refused
from authz.authenticate.ranking import either
from authz.reason import Reason
from authz.recent import RecentOfMany
from authz.store.protocols import Clock, Directory
from authz.store.records import Key, Team, User
from authz.subject import Subject

LONGEST_KEY = 512  # characters; ours have 52, imported ones may be longer
MOST_REMEMBERED = 2_097_152  # subjects; only a key on record has one

_NEVER = 1 << 62
_MALFORMED = Refused(Reason.KEY_MALFORMED)
_NOT_A_KEY = Refused(Reason.KEY_MALFORMED, foreign=True)
_UNKNOWN = Refused(Reason.KEY_UNKNOWN)
_NOT_OURS = Refused(Reason.KEY_UNKNOWN, foreign=True)
_EXPIRED = Refused(Reason.KEY_EXPIRED)
_REVOKED = Refused(Reason.KEY_REVOKED)
_DISABLED = Refused(Reason.USER_DISABLED)


class _Known(Struct, frozen=True, gc=False):
    """A subject and the very records that it was made of: it holds as long as they are the current ones.

    They are where the directory is as it was. Otherwise each is looked up.
    """

    revision: int
    until: int  # ms; the key expires then
    key: Key
    user: User
    team: Team | None
    subject: Subject


class ApiKeyAuthenticator:
    """Finds the subject of an API key in the directory.

    `imported` says whether keys that we did not mint are looked up too. A key
    that is no longer wanted at once is revoked; one that shall still work for
    a while (a rotation's grace) expires. Nothing is cached here about unknown
    keys: the directory answers from memory.
    """

    ambient = False
    challenge = 'Bearer realm="authz"'
    wants = ""

    def __init__(
        self,
        name: str,
        slots: Sequence[Slot],
        directory: Directory,
        clock: Clock,
        *,
        act_for: ActFor | None = None,
        imported: bool = True,
        remembered: int = MOST_REMEMBERED,
    ) -> None:
        self.name = name
        self.slots = tuple(slots)
        self.asserts = frozenset((act_for.header,) if act_for is not None else ())
        self._act_for = act_for
        self._directory = directory
        self._clock = clock
        self._imported = imported
        self._subjects: RecentOfMany[bytes, _Known] = RecentOfMany(remembered)

    async def authenticate(self, presented: Presented) -> Outcome:
        """The subject of the presented key. Two valid keys are refused; the same one in two slots is one."""
        now = self._clock()
        found: Outcome = None
        for slot in self.slots:
            try:
                key = presented.credential(slot)
            except Twice as twice:
                return Refused(Reason.DUPLICATE_CREDENTIAL, str(twice))
            if key is None:
                continue
            outcome = self._judge(key, now)
            found = outcome if found is None else either(found, outcome)
        if isinstance(found, Subject) and found.key is not None:
            self._directory.used(found.key, now)
            if self._act_for is not None:
                return self._act_for.apply(found, presented)
        return found

    def _judge(self, key: str, now: int) -> Subject | Refused:
        if len(key) > LONGEST_KEY or not key.isascii():
            return _NOT_A_KEY if looks_like_token(key) else _MALFORMED
        digest = sha256(key.encode()).digest()
        known = self._subjects.get(digest)
        revision = self._directory.revision()  # before what is looked up: a change meanwhile makes another
        if known is not None and known.revision == revision and now < known.until:
            return known.subject
        if known is None:
            if key.startswith(PREFIX):
                if not is_well_formed(key):
                    return _MALFORMED
            elif not self._imported:
                return _NOT_OURS
        record = self._directory.key(digest)
        if record is None:
            return _NOT_OURS if looks_like_token(key) else _UNKNOWN
        if record.revoked_at is not None:
            return _REVOKED
        if record.expires_at is not None and now >= record.expires_at:
            return _EXPIRED
        user = self._directory.user(record.user)
        if user is None or user.disabled:
            return _DISABLED
        team_name = record.team or user.team
        team = self._directory.team(team_name) if team_name else None
        if known is not None and known.key is record and known.user is user and known.team is team:
            subject = known.subject
        else:
            subject = self._subject(record, user, team_name, team)
        until = record.expires_at if record.expires_at is not None else _NEVER
        self._subjects.put(record.digest, _Known(revision, until, record, user, team, subject))
        return subject

    def _subject(self, key: Key, user: User, team_name: str | None, team: Team | None) -> Subject:
        models = inheritance.models(key, user, team)
        return Subject(
            user=user.name,
            authenticator=self.name,
            team=team_name,
            key=key.id,
            roles=key.roles | user.roles if key.roles and user.roles else key.roles or user.roles,
            models=models,
            inherits_models=models is None,
            quotas=inheritance.quotas(key, user, team),
            home=inheritance.home(user),
        )
