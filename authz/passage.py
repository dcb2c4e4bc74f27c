"""What every request of one caller carries upstream: put together once, because most callers come again."""

from msgspec import Struct

from authz.decision import Header
from authz.header_text import header_value, is_field_value
from authz.recent import Recent
from authz.subject import Subject
from authz.upstream import Backend

MOST_KEPT = 16_384  # callers of one route

RESERVATION = "x-authz-reservation"
REQUEST_ID = "x-authz-request-id"


class Passage(Struct, frozen=True, gc=False):
    """The headers to set, the same object from request to request, and those to take off."""

    upstream: tuple[Header, ...]
    remove: tuple[str, ...]


class _Kept(Struct, frozen=True, gc=False):
    subject: Subject  # told by identity: whoever changes a record makes another
    passage: Passage


class Passages:
    """Those of one route. `remove` are request headers that never go upstream."""

    __slots__ = ("_kept", "_remove")

    def __init__(self, remove: tuple[str, ...] = ()) -> None:
        self._remove = remove
        self._kept: Recent[tuple[str, str | None, str | None, str | None, bool], _Kept] = Recent(MOST_KEPT)

    def of(self, subject: Subject, model: str | None, backend: Backend | None, *, proven: bool) -> Passage:
        """The caller's passage. `proven`: the gateway may be handed the backend's credential.

        ValueError: a value cannot stand in a header (attack 32).
        """
        caller = (
            subject.user,
            subject.key,
            model,
            backend.name if backend is not None else None,
            proven,
        )
        kept = self._kept.get(caller)
        if kept is None or kept.subject is not subject:
            kept = _Kept(subject, self._make(subject, model, backend, proven=proven))
            self._kept.put(caller, kept)
        return kept.passage

    def _make(self, subject: Subject, model: str | None, backend: Backend | None, *, proven: bool) -> Passage:
        """The identity headers, and those to remove because they have no value (invariant 9)."""
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
            tuple([name for name in (*self._remove, *named, "x-authz-backend") if name not in present]),
        )
