"""Secrets that a whole class of callers shares, such as the workers of a cluster (`type: shared_secret`)."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest

from authz.authenticate.origin import origin_of
from authz.authenticate.presented import Presented, Slot, Twice
from authz.authenticate.protocol import Outcome, Refused
from authz.authenticate.ranking import either
from authz.authenticate.throttle import Throttle
from authz.reason import Reason
from authz.store.protocols import Clock
from authz.subject import Subject

LONGEST = 512  # characters

_WRONG = Refused(Reason.SECRET_WRONG)
_TOO_MANY = Refused(Reason.TOO_MANY_TRIES)


class SharedSecretAuthenticator:
    """Makes the subject `NAME:worker` of whoever shows the worker's secret.

    Digests are compared, each with each, so that time tells nothing. Wrong ones
    are counted by origin; who was wrong too often is not asked any more, right
    or wrong, until some time has passed.
    """

    ambient = False
    asserts: frozenset[str] = frozenset()
    wants = "the shared secret"

    def __init__(
        self, name: str, slots: Sequence[Slot], digests: Mapping[str, bytes], throttle: Throttle, clock: Clock
    ) -> None:
        """`digests` are the secrets' SHA-256 by the name of who holds them."""
        self.name = name
        self.slots = tuple(slots)
        self.challenge = 'Bearer realm="authz"' if any(one.name == "authorization" for one in slots) else ""
        self._digests = tuple(
            (digest, Subject(user=f"{name}:{holder}", authenticator=name))
            for holder, digest in digests.items()
        )
        self._throttle = throttle
        self._clock = clock

    async def authenticate(self, presented: Presented) -> Outcome:
        """The subject of the presented secret. Two of two holders conflict."""
        found: Outcome = None
        for slot in self.slots:
            try:
                secret = presented.credential(slot)
            except Twice as twice:
                return Refused(Reason.DUPLICATE_CREDENTIAL, str(twice))
            if secret is not None:
                outcome = self._judge(secret, origin_of(presented.request.ip))
                found = outcome if found is None else either(found, outcome)
        return found

    def _judge(self, secret: str, origin: str) -> Subject | Refused:
        now = self._clock()
        if not self._throttle.allows(origin, now):
            return _TOO_MANY
        digest = sha256(secret.encode("utf-8", "surrogatepass")).digest() if len(secret) <= LONGEST else b""
        holder: Subject | None = None
        for known, subject in self._digests:
            if compare_digest(known, digest):
                holder = subject
        if holder is None:
            self._throttle.wrong(origin, now)
            return _WRONG
        return holder
