"""The rules of `authorize:`, one small class each. None means "agreed"."""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from authz.canonical import Target
from authz.catalog import Catalog, allowed
from authz.peek import Peek
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import Request
from authz.store.records import Model
from authz.subject import Subject


class Asked(Struct, frozen=True, gc=False):
    """What the rules look at. `model` is what the request names, `known` its record."""

    request: Request
    target: Target
    subject: Subject
    peek: Peek
    model: str | None
    known: Model | None
    catalog: Catalog
    listing: bool = False  # GET /v1/models names no model; the list is filtered instead
    now: int = 0  # ms since the epoch


class Rule(Protocol):
    @property
    def needs_model(self) -> bool: ...
    def refuses(self, asked: Asked) -> Refusal | None: ...


def authorize(rules: Sequence[Rule], asked: Asked) -> Refusal | None:
    """All rules must agree; no rule at all is a refusal (invariant 2)."""
    if not rules:
        return Refusal(Reason.NOT_AUTHORIZED, "This route lets nobody in: its `authorize` list is empty.")
    for rule in rules:
        refusal = rule.refuses(asked)
        if refusal is not None:
            return refusal
    return None


def _unknown_or_missing(asked: Asked) -> Refusal | None:
    if asked.model is None:
        return None if asked.listing else Refusal(Reason.MODEL_REQUIRED, param="model")
    return Refusal(Reason.MODEL_UNKNOWN, _closed(asked.model), "model") if asked.known is None else None


def _closed(model: str) -> str:
    return f"The model `{model}` does not exist or is not open to this caller. GET /v1/models lists what is."


class ModelsAllowed(Struct, frozen=True):
    """`models: allowed`."""

    needs_model = True

    def refuses(self, asked: Asked) -> Refusal | None:
        refusal = _unknown_or_missing(asked)
        if refusal is not None or asked.known is None or asked.model is None:
            return refusal
        if allowed(asked.known, asked.subject):
            return None
        return Refusal(Reason.MODEL_NOT_ALLOWED, _closed(asked.model), "model")


class ModelsListed(Struct, frozen=True):
    """`models: [a, b]`."""

    names: frozenset[str]
    needs_model = True

    def refuses(self, asked: Asked) -> Refusal | None:
        refusal = _unknown_or_missing(asked)
        if refusal is not None or asked.model is None:
            return refusal
        if asked.model in self.names:
            return _beyond_its_list(asked)
        return Refusal(Reason.MODEL_NOT_ALLOWED, _closed(asked.model), "model")


class ModelsAny(Struct, frozen=True):
    """`models: any`: every configured model, and requests that name none.

    Where no model is configured at all there is nothing to compare a name with, and any name passes.
    """

    needs_model = False

    def refuses(self, asked: Asked) -> Refusal | None:
        if asked.model is None or asked.known is not None or not asked.catalog:
            return _beyond_its_list(asked)
        return Refusal(Reason.MODEL_UNKNOWN, _closed(asked.model), "model")


def _beyond_its_list(asked: Asked) -> Refusal | None:
    """A list of the caller's own narrows every route: a key for one model opens no other."""
    models = asked.subject.models
    if asked.model is None or models is None or asked.model in models:
        return None
    return Refusal(Reason.MODEL_NOT_ALLOWED, _closed(asked.model), "model")


class HasScopes(Struct, frozen=True):
    """`scopes: [a, b]`: all of them."""

    scopes: frozenset[str]
    needs_model = False

    def refuses(self, asked: Asked) -> Refusal | None:
        missing = self.scopes - asked.subject.scopes
        if not missing:
            return None
        return Refusal(Reason.NOT_AUTHORIZED, f"The credential lacks the scope {', '.join(sorted(missing))}.")


class HasRoles(Struct, frozen=True):
    """`roles: [a, b]`: any of them."""

    roles: frozenset[str]
    needs_model = False

    def refuses(self, asked: Asked) -> Refusal | None:
        if not self.roles.isdisjoint(asked.subject.roles):
            return None
        return Refusal(
            Reason.NOT_AUTHORIZED, f"The caller needs one of the roles {', '.join(sorted(self.roles))}."
        )


class Meets(Struct, frozen=True):
    """`when: CEL`. An evaluation error refuses."""

    text: str
    program: Callable[[Asked], bool | None]  # None: it cannot be evaluated
    needs_model: bool

    def refuses(self, asked: Asked) -> Refusal | None:
        try:
            met = self.program(asked)
        except Exception:  # any failure to evaluate is a "no"
            met = None
        if met is True:
            return None
        why = (
            "is false"
            if met is False
            else "cannot be evaluated: a key is missing, a value of another kind, or a parameter came twice"
        )
        message = "The caller does not meet a condition of this route."
        return Refusal(Reason.NOT_AUTHORIZED, message, detail=f"The condition `{self.text}` {why}.")
