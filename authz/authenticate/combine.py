"""`any_of` and `all_of`: several authenticators, one verdict."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Protocol, TypeVar

from msgspec.structs import replace

from authz.authenticate.presented import Presented, Slot
from authz.authenticate.protocol import Authenticator, Outcome, Refused
from authz.authenticate.ranking import differ, either
from authz.reason import Reason
from authz.subject import Subject

T = TypeVar("T")

_MISSING = Refused(Reason.CREDENTIAL_MISSING)
_NOBODY = Refused(Reason.CREDENTIAL_MISSING, "No authenticator is configured here.")
_CONFLICT = Refused(Reason.CONFLICTING_CREDENTIALS)


class Combined(Protocol):
    """How a route authenticates: `AnyOf` or `AllOf`."""

    async def authenticate(self, presented: Presented) -> Subject | Refused:
        """Never None: where nothing was presented, that is the refusal."""
        ...


class AnyOf:
    """One valid credential is enough; of nothing, none is.

    - Something sent twice, or two valid credentials of two subjects: refused.
    - Else the valid one wins, whatever else was sent; with two of one subject, the first authenticator's.
    - Else, where something was presented: the most telling refusal (`ranking.TELLING`).
    - Else, where nothing was presented: an ambient authenticator (network, anonymous) may pass. So a bad
      credential never becomes an address's access (attack 35), and neither does one that nobody here reads.
    """

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self.authenticators = tuple(authenticators)
        self._presented = tuple(one for one in authenticators if not one.ambient)
        self._ambient = tuple(one for one in authenticators if one.ambient)
        self._slots = credential_slots(self)
        self._missing = _missing(self._presented) if authenticators else _NOBODY

    async def authenticate(self, presented: Presented) -> Subject | Refused:
        """The one subject, or why there is none. Raises Twice."""
        found: Outcome = None
        for authenticator in self._presented:
            outcome = await authenticator.authenticate(presented)
            if outcome is not None:
                found = outcome if found is None else either(found, outcome)
        return found if found is not None else await self._surroundings(presented)

    async def _surroundings(self, presented: Presented) -> Subject | Refused:
        refused = self._missing
        for slot in self._slots if self._ambient else ():
            if presented.read(slot) is not None:
                text = f"The {slot} holds no credential of a kind that is accepted here."
                return Refused(Reason.CREDENTIAL_MISSING, text)
        for authenticator in self._ambient:
            outcome = await authenticator.authenticate(presented)
            if isinstance(outcome, Subject):
                return outcome
            if outcome is not None and not self._presented:
                refused = outcome
        return refused


class AllOf:
    """Every authenticator must be satisfied; of nothing, none is.

    The first that names a user gives the identity. Roles, scopes, quotas and
    headers of all are united, model lists intersect. Two users conflict. An
    ambient authenticator (network) adds a condition, and no user unless it is
    all there is; it is asked first, for it costs nothing and others may.
    """

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self.authenticators = tuple(authenticators)
        self._in_turn = sorted(authenticators, key=lambda one: not one.ambient)

    async def authenticate(self, presented: Presented) -> Subject | Refused:
        """The united subject, or the first refusal."""
        if not self.authenticators:
            return _NOBODY
        named: list[Subject] = []
        unnamed: list[Subject] = []
        for authenticator in self._in_turn:
            outcome: Outcome = await authenticator.authenticate(presented)
            if outcome is None:
                return _missing([authenticator])
            if isinstance(outcome, Refused):
                return outcome
            (unnamed if authenticator.ambient else named).append(outcome)
        subjects = named or unnamed[:1]
        if any(differ(one, other) for one, other in combinations(subjects, 2)):
            return _CONFLICT
        return subjects[0] if len(subjects) == 1 else unite(subjects)


def _missing(authenticators: Sequence[Authenticator]) -> Refused:
    """Nothing was sent: says what would be looked at, where that is more than keys and tokens."""
    others = [one.wants for one in authenticators if one.wants]
    if not others:
        return _MISSING
    usual = ["an API key or token"] if len(others) < len(authenticators) else []
    wanted = ", or ".join(dict.fromkeys([*usual, *others]))
    return Refused(Reason.CREDENTIAL_MISSING, f"No credential was sent. Send {wanted}.")


def challenge(combined: AnyOf | AllOf) -> str:
    """The WWW-Authenticate value of a 401: every scheme that would help, each once (RFC 9110 11.6.1)."""
    return ", ".join(dict.fromkeys(one.challenge for one in combined.authenticators if one.challenge))


def credential_slots(combined: AnyOf | AllOf) -> tuple[Slot, ...]:
    """Everywhere a credential may be: none of it goes upstream, whichever was used."""
    return tuple(dict.fromkeys(slot for one in combined.authenticators for slot in one.slots))


def unite(subjects: Sequence[Subject]) -> Subject:
    """One subject of several of one user. What only some of them name is taken from the first that does."""
    headers: dict[str, str] = {}
    claims: dict[str, object] = {}
    for subject in reversed(subjects):
        headers.update(subject.headers)
        claims.update(subject.claims)
    lists = [subject.models for subject in subjects if subject.models is not None]
    by_key = next((subject for subject in subjects if subject.key is not None), None)
    return replace(
        subjects[0],
        team=_first(subject.team for subject in subjects),
        key=by_key.key if by_key is not None else None,
        key_home=by_key.key_owner if by_key is not None else "",
        roles=_united(subjects, lambda subject: subject.roles),
        scopes=_united(subjects, lambda subject: subject.scopes),
        models=lists[0].intersection(*lists[1:]) if lists else None,
        inherits_models=not lists and any(subject.inherits_models for subject in subjects),
        claims=claims,
        headers=tuple(headers.items()),
        quotas=tuple({(owned.kind, owned.owner): owned for one in subjects for owned in one.quotas}.values()),
    )


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _united(subjects: Iterable[Subject], part: Callable[[Subject], frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*(part(subject) for subject in subjects))
