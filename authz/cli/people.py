"""What keys, users and teams have in common: models, roles and limits that an option sets or leaves."""

from collections.abc import Sequence
from typing import TypeVar

from authz.cli import output
from authz.cli.context import Context
from authz.cli.errors import CommandError, UsageError
from authz.cli.values import names, quotas, team
from authz.config.base import nearest
from authz.quota import Quota
from authz.store.protocols import Duplicate, InUse, NotFound, Registry
from authz.store.records import Model, Team, User

Named = TypeVar("Named", User, Team, Model)


def model_list(
    context: Context,
    registry: Registry,
    given: Sequence[str] | None,
    *,
    none: bool,
    inherit: bool = False,
    before: frozenset[str] | None = None,
) -> frozenset[str] | None:
    """The models that the options ask for; `before` where they ask for nothing. Raises UsageError."""
    if (given is not None) + none + inherit > 1:
        raise UsageError("give only one of --model, --no-models and --inherit-models.")
    if none:
        return frozenset()
    if inherit:
        return None
    if given is None:
        return before
    wanted = names(given, "model")
    known = {*context.config.models, *(model.name for model in registry.models())}
    for model in sorted(wanted - known):
        meant = nearest(model, sorted(known))
        output.note(
            f"note: there is no model {model!r} yet." + (f" Did you mean {meant!r}?" if meant else "")
        )
    return wanted


def limit_list(
    context: Context, given: Sequence[str] | None, *, none: bool = False, before: tuple[Quota, ...] = ()
) -> tuple[Quota, ...]:
    """The limits that the options ask for; `before` where they ask for nothing. Raises UsageError."""
    if given is not None and none:
        raise UsageError("give only one of --limit and --no-limits.")
    if none:
        return ()
    if given is None:
        return before
    return quotas(given, context)


def role_list(
    given: Sequence[str] | None, *, none: bool = False, before: frozenset[str] = frozenset()
) -> frozenset[str]:
    """The roles that the options ask for; `before` where they ask for nothing. Raises UsageError."""
    if given is not None and none:
        raise UsageError("give only one of --role and --no-roles.")
    if none:
        return frozenset()
    return before if given is None else names(given, "role")


def team_name(registry: Registry, given: str | None) -> str | None:
    """The team, with a word of warning where no record of it exists. Raises UsageError."""
    if given is None:
        return None
    known = [each.name for each in registry.teams()]
    if team(given) not in known:
        meant = nearest(given, known)
        more = f"Did you mean {meant!r}?" if meant else f"authz teams add {given} gives it models and limits."
        output.note(f"note: there is no team {given!r} yet. {more}")
    return given


def at_most_one(**options: bool) -> None:
    """Raises UsageError where options that exclude each other were both given."""
    given = [f"--{option.replace('_', '-')}" for option, is_given in options.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"give only one of {' and '.join(given)}.")


class Explained:
    """Around a use of the registry: turns what it raises into what a command says."""

    def __init__(self, listing: str) -> None:
        self._listing = listing  # the command that lists such things

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotFound):
            raise CommandError(f"{error}.", hint=f"{self._listing} shows those that exist.") from None
        if isinstance(error, Duplicate | InUse):
            raise CommandError(f"{error}.") from None


def one(things: Sequence[Named], wanted: str, what: str) -> Named:
    """The thing of that name. Raises NotFound."""
    for thing in things:
        if thing.name == wanted:
            return thing
    raise NotFound(f"there is no {what} {wanted!r}")
