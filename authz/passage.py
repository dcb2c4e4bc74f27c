"""What every request of one caller carries upstream."""

from functools import lru_cache

from msgspec import Struct

from authz.decision import Header
from authz.header_text import header_value, is_field_value
from authz.subject import Subject
from authz.upstream import Backend

RESERVATION = "x-authz-reservation"
REQUEST_ID = "x-authz-request-id"


class Passage(Struct, frozen=True, gc=False):
    """The headers to set, the same object from request to request, and those to take off."""

    upstream: tuple[Header, ...]
    remove: tuple[str, ...]


@lru_cache(maxsize=1024)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same object of all callers for whom the same names are removed: there may be a million."""
    return names


def passage_of(
    subject: Subject, model: str | None, backend: Backend | None, remove: tuple[str, ...], *, proven: bool
) -> Passage:
    """The identity headers, and those to remove because they have no value (invariant 9).

    `remove` never goes upstream. `proven`: the gateway may be handed the backend's credential.
    ValueError: a value cannot stand in a header (attack 32).
    """
    named = {
        "x-authz-user": subject.user,
        "x-authz-team": subject.team,
        "x-authz-key": subject.key,
        "x-authz-model": model,
    }
    upstream = [(name, header_value(value)) for name, value in named.items() if value]
    if backend is not None:
        upstream.append(("x-authz-backend", backend.name))
    upstream += subject.headers
    if backend is not None and backend.credential is not None and proven:
        upstream.append((backend.credential.header, backend.credential.value))
    for name, value in upstream:
        if not is_field_value(value):
            raise ValueError(f"the value of {name} cannot stand in a header")
    present = {name for name, _ in upstream}
    return Passage(
        tuple(upstream),
        # A gateway may remove after it sets: no name stands in both lists.
        _shared(tuple([name for name in (*remove, *named, "x-authz-backend") if name not in present])),
    )
