"""JSON Web Tokens: found, verified, and turned into a subject; remembered until they expire."""

from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from authz.authenticate.algorithms import KeySet, VerificationKey, secret_keys
from authz.authenticate.compact import NOT_A_TOKEN, Compact, looks_like_token, split
from authz.authenticate.jwks import Jwks
from authz.authenticate.jwks_fetch import Fetcher, HttpFetcher
from authz.authenticate.jwt_settings import JwtSettings
from authz.authenticate.jwt_subject import SubjectMapping, with_records
from authz.authenticate.presented import Presented, Twice
from authz.authenticate.protocol import Outcome, Refused
from authz.authenticate.ranking import either
from authz.authenticate.strict_json import Malformed, read_object
from authz.authenticate.validity import check
from authz.reason import Reason
from authz.recent import Recent
from authz.store.protocols import Clock, Directory
from authz.store.records import Team, User
from authz.subject import Subject

MOST_REMEMBERED = 16_384  # verified tokens

_DISABLED = Refused(Reason.USER_DISABLED)


class _Verified(Struct, frozen=True):
    """What a token was found to be, and what that rests on.

    `keys` is the key set that verified it: with another one the token is
    verified anew, so that a withdrawn key takes its tokens with it.
    """

    until: int  # ms since the epoch
    keys: KeySet
    claimed: Subject  # by the token alone
    user: User | None = None  # the records of a mapped user that `subject` was made with
    team: Team | None = None
    subject: Subject | None = None


class JwtAuthenticator:
    """Finds the subject of a token that one identity provider signed.

    The memory of verified tokens belongs to this object, which lives as long as
    its settings: no token verified for another provider or under older settings
    can be found in it (attack 68). Its keys are whole SHA-256 digests.
    """

    ambient = False
    challenge = 'Bearer realm="authz"'
    wants = ""

    def __init__(
        self,
        settings: JwtSettings,
        directory: Directory,
        clock: Clock,
        *,
        fetcher: Fetcher | None = None,
        remembered: int = MOST_REMEMBERED,
    ) -> None:
        self.name = settings.name
        self.slots = settings.token_from
        self.asserts = frozenset(header for _, header in settings.claim_headers)
        self._settings = settings
        self._directory = directory
        self._clock = clock
        self._mapping = SubjectMapping(settings)
        self._tokens: Recent[bytes, _Verified] = Recent(remembered)
        self._jwks: Jwks | None = None
        if settings.sign_key is not None:
            self._secret = secret_keys(settings.sign_key, settings.algorithms)
        else:
            self._jwks = Jwks(settings, fetcher or HttpFetcher(), clock)

    @property
    def jwks(self) -> Jwks | None:
        """The fetched keys, for health and metrics; None with a shared secret."""
        return self._jwks

    def start(self) -> None:
        """Begin to fetch keys in the background. Needs a running loop; never blocks."""
        if self._jwks is not None:
            self._jwks.start()

    async def close(self) -> None:
        """Stop fetching."""
        if self._jwks is not None:
            await self._jwks.close()

    async def authenticate(self, presented: Presented) -> Outcome:
        """The subject of the first slot whose token verifies. Two that name two users conflict."""
        found: Outcome = None
        try:
            for slot in self.slots:
                token = presented.credential(slot)
                if token is not None:
                    outcome = self._judge_at_once(token) or await self._judge(token)
                    found = outcome if found is None else either(found, outcome)
        except Twice as twice:
            return Refused(Reason.DUPLICATE_CREDENTIAL, str(twice))
        return found

    def _judge_at_once(self, token: str) -> Subject | Refused | None:
        """What is no token at all, or one that is remembered; None: it is to be verified."""
        if not looks_like_token(token) or not token.isascii():
            return NOT_A_TOKEN
        digest = sha256(token.encode()).digest()
        verified = self._remembered(digest)
        return self._subject(digest, verified) if verified is not None else None

    def _remembered(self, digest: bytes) -> _Verified | None:
        verified = self._tokens.get(digest)
        if verified is None:
            return None
        keys = self._secret if self._jwks is None else self._jwks.keys
        if verified.keys is keys and self._clock() < verified.until:
            return verified
        self._tokens.forget(digest)
        return None

    async def _judge(self, token: str) -> Subject | Refused:
        verified = await self._verify(token)
        if isinstance(verified, Refused):
            return verified
        digest = sha256(token.encode()).digest()
        self._tokens.put(digest, verified)
        return self._subject(digest, verified)

    async def _verify(self, token: str) -> _Verified | Refused:
        """Structure, algorithm, key, signature, and only then the claims."""
        compact = split(token)
        if isinstance(compact, Refused):
            return compact
        if compact.algorithm not in self._settings.algorithms:
            return _invalid("The token's algorithm is not accepted here.")
        keys = await self._keys_for(compact)
        if isinstance(keys, Refused):
            return keys
        candidates = keys.candidates(compact.kid, compact.algorithm)
        if not candidates:
            return _invalid("The token is signed with a key that is not known here.")
        if not _signed_by_any(candidates, compact):
            return _invalid("The token's signature is wrong.")
        try:
            claims = read_object(compact.payload)
        except Malformed as malformed:
            return _invalid(f"The token's payload {malformed}.")
        until = check(claims, self._settings, self._clock())
        if isinstance(until, Refused):
            return until
        subject = self._mapping.subject(claims)
        return subject if isinstance(subject, Refused) else _Verified(until, keys, subject)

    async def _keys_for(self, compact: Compact) -> KeySet | Refused:
        """The current keys; fetched first where that could bring the one that is asked for."""
        if self._jwks is None:
            return self._secret
        if not self._jwks.keys.knows(compact.kid):
            await self._jwks.search(compact.kid)
        if not self._jwks.ready:
            return Refused(Reason.KEYS_UNAVAILABLE)
        return self._jwks.keys

    def _subject(self, digest: bytes, verified: _Verified) -> Subject | Refused:
        """With `map_users`, what our own table says of the user: as of now, not as of the first use."""
        claimed = verified.claimed
        if not self._settings.map_users:
            return claimed
        user = self._directory.user(claimed.user)
        if user is not None and user.disabled:
            return _DISABLED
        team_name = claimed.team or (user.team if user is not None else None)
        team = self._directory.team(team_name) if team_name else None
        if verified.subject is not None and verified.user is user and verified.team is team:
            return verified.subject
        subject = with_records(claimed, user, team_name, team)
        self._tokens.put(digest, _Verified(verified.until, verified.keys, claimed, user, team, subject))
        return subject


def _signed_by_any(candidates: Iterable[VerificationKey], compact: Compact) -> bool:
    return any(key.verifies(compact.algorithm, compact.signed, compact.signature) for key in candidates)


def _invalid(detail: str) -> Refused:
    return Refused(Reason.TOKEN_INVALID, detail)
