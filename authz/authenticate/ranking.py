"""Which of several refusals, or of two subjects, a client is told about."""

from collections.abc import Iterable

from authz.authenticate.protocol import Refused
from authz.reason import Reason
from authz.subject import Subject

DECISIVE = frozenset({Reason.DUPLICATE_CREDENTIAL, Reason.CONFLICTING_CREDENTIALS})
"""Refusals that no valid credential beside them can heal."""

TELLING = (
    # What was sent cannot be read in one way only.
    Reason.DUPLICATE_CREDENTIAL,
    Reason.CONFLICTING_CREDENTIALS,
    Reason.BAD_HEADER,
    # The credential is genuine, and no longer or not yet good.
    Reason.USER_DISABLED,
    Reason.KEY_REVOKED,
    Reason.KEY_EXPIRED,
    Reason.TOKEN_EXPIRED,
    Reason.TOKEN_NOT_YET_VALID,
    Reason.CERTIFICATE_EXPIRED,
    # It is genuine, and meant for somebody else.
    Reason.TOKEN_WRONG_AUDIENCE,
    Reason.TOKEN_WRONG_ISSUER,
    # It may be genuine: nobody can tell now.
    Reason.KEYS_UNAVAILABLE,
    Reason.HASHING_BUSY,
    Reason.TOO_MANY_TRIES,
    # It is not.
    Reason.CERTIFICATE_INVALID,
    Reason.KEY_MALFORMED,
    Reason.TOKEN_INVALID,
    Reason.PASSWORD_WRONG,
    Reason.SECRET_WRONG,
    Reason.KEY_UNKNOWN,
    Reason.NETWORK_REFUSED,
    Reason.CREDENTIAL_MISSING,
)
"""Most telling first. What an authenticator says of a credential of another kind comes after all of these."""

_CONFLICT = Refused(Reason.CONFLICTING_CREDENTIALS)
_RANK = {reason: rank for rank, reason in enumerate(TELLING)}


def most_telling(refusals: Iterable[Refused]) -> Refused:
    """The refusal that helps its reader most; the first of equals."""
    return min(refusals, key=lambda refused: (refused.foreign, _RANK.get(refused.reason, len(TELLING))))


def either(one: Subject | Refused, other: Subject | Refused) -> Subject | Refused:
    """The verdict on two credentials of one request, in the order of their slots.

    Ambiguity refuses; else a valid one wins, of two the first; else the more telling refusal.
    """
    if isinstance(other, Refused):
        if isinstance(one, Refused):
            return most_telling((one, other))
        return other if other.reason in DECISIVE else one
    if isinstance(one, Refused):
        return one if one.reason in DECISIVE else other
    return _CONFLICT if differ(one, other) else one


def differ(one: Subject, other: Subject) -> bool:
    """Whether two subjects conflict: two users, or two keys of one user, which may allow different things."""
    if one.user != other.user:
        return True
    return one.key is not None and other.key is not None and one.key != other.key
