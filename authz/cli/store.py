"""`authz store`: everything that is in it, copied to another or kept as a file."""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Final

from cyclopts import App

from authz.cli import context, output
from authz.cli.errors import CommandError, Exit, UsageError
from authz.cli.options import DEFAULTS, Common
from authz.cli.store_owners import owners
from authz.config import Config, find_config, load
from authz.store.copying.compare import Part
from authz.store.copying.copy import Copy
from authz.store.copying.open import OwnerOf, has_password, is_spread, open_side
from authz.store.copying.side import Side
from authz.store.open import wall_clock

app = App(name="store", help="The store: copy it to another, or back it up.")

COLUMNS: Final = ("part", "source", "target", "missing", "source_digest", "target_digest")
_SPARE: Final = ("target_digest", "source_digest")
_PAUSE_S: Final = 1.0
_TRIES: Final = 3  # of a comparison beside a service that goes on
_COPY_AGAIN: Final = "repeat with --into-nonempty"
_BACK_UP_AGAIN: Final = "make another backup"


@app.command
def copy(
    source: str,
    target: str,
    /,
    *,
    follow: bool = False,
    into_nonempty: bool = False,
    common: Common = DEFAULTS,
) -> int:
    """Copy all that is in one store into another, then compare both by numbers and digests.

    Keys, users, teams, models, overrides and grants, the ledger, counters, running requests, refusals.
    The exit code is 1 where anything is missing afterwards. It may be repeated: nothing counts twice.

    Parameters
    ----------
    source
        sqlite:///PATH, redis://..., env:NAME for a URL in the environment, @FILE for the store of a config.
    target
        Likewise. No URL on a command line has a password in it: everybody on the machine could read it.
    follow
        Go on copying what changes. Stop the service that uses the source, and the copy ends complete; so it
        does on Ctrl-C.
    into_nonempty
        Into a store that has something in it, such as a copy that was interrupted. What is counted there is
        replaced, all else is added to.
    """
    from_url, to_url = _url(source), _url(target)
    with ExitStack() as stack:
        one = _open(from_url, stack, new=False)
        owner_of = owners(_config(common), one.registry) if is_spread(to_url) else _nobodys
        other = _open(to_url, stack, owner_of, new=True)
        _prepare(one, other, into_nonempty=into_nonempty)
        return _copy(one, other, follow=follow, again=_COPY_AGAIN, as_json=common.json)


@app.command
def backup(file: Path, /, *, common: Common = DEFAULTS) -> int:
    """Keep all that is in the config's store in a new file of SQLite, while the service runs or not.

    It is compared as a copy is. To restore: `authz store copy sqlite:///FILE ...` into an empty store, or
    put it in the place of a file.

    Parameters
    ----------
    file
        Must not be there yet. Made with mode 0600.
    """
    if file.exists():
        raise CommandError(
            f"{file} is there already.", hint="A backup never replaces a file; choose another."
        )
    directory = file.absolute().parent
    if not directory.is_dir():
        raise CommandError(f"there is no directory {directory}.", hint="Make it, or choose another.")
    at = context.read(common)
    with ExitStack() as stack:
        one = _open(at.loaded.store.url, stack, new=False)
        other = _open(f"sqlite://{file.absolute()}", stack, new=True)
        _prepare(one, other, into_nonempty=False)
        return _copy(one, other, follow=False, again=_BACK_UP_AGAIN, as_json=common.json)


def _url(given: str) -> str:
    """Raises UsageError, CommandError and what a config raises."""
    if given.startswith("@"):
        return load(Path(given[1:]), secrets_required=False).store.url
    if given.startswith("env:"):
        name = given.removeprefix("env:")
        url = os.environ.get(name, "").strip()
        if not url:
            raise CommandError(f"the environment variable {name} is not set.", hint="It holds a store's URL.")
        return url
    if "://" not in given:
        raise UsageError(
            "a store is a URL, env:NAME or @FILE.",
            hint="Write for example sqlite:///var/lib/authz/authz.db, env:REDIS_URL or @authz.yaml.",
        )
    if has_password(given):
        raise UsageError(
            "a password on a command line can be read by everybody on the machine.",
            hint="Put the URL into the environment and write env:NAME, or name a config with @FILE.",
        )
    return given


def _config(common: Common) -> Config:
    """Whose limits the counters are of."""
    return load(find_config(common.config), secrets_required=False).config


def _nobodys(counter: str) -> str:
    return ""


def _open(url: str, stack: ExitStack, owner_of: OwnerOf = _nobodys, *, new: bool) -> Side:
    side = open_side(url, wall_clock, owner_of, new=new)
    stack.callback(side.close)
    return side


def _prepare(one: Side, other: Side, *, into_nonempty: bool) -> None:
    """See that the one may be copied into the other. Raises UsageError and CommandError."""
    if one.place == other.place:
        raise UsageError("both are the same store.")
    _check_unused(other)
    if not into_nonempty and not other.is_empty():
        raise CommandError(
            f"{other.place} has something in it.",
            hint="--into-nonempty adds to it; counters and running requests there are replaced.",
        )


def _copy(one: Side, other: Side, *, follow: bool, again: str, as_json: bool) -> int:
    """`again` says what to do where the copy is not whole."""
    copying = Copy(one, other, wall_clock)
    if follow:
        _follow(copying, one)
        _check_unused(other)
    one.own()
    parts = _finish(copying, one, other)
    rows = [part._asdict() for part in parts]
    output.show_rows(rows, COLUMNS, as_json=as_json, none="", spare=_SPARE)
    return _conclude(one, other, parts, again)


def _check_unused(other: Side) -> None:
    """Before its counters are replaced. Raises CommandError."""
    user = other.used_by()
    if user:
        raise CommandError(
            f"{other.place} is in use ({user}).", hint="Stop the service that uses it: it would count beside."
        )


def _finish(copying: Copy, one: Side, other: Side) -> Sequence[Part]:
    """The last pass and the comparison; again where the source went on meanwhile."""
    for _ in range(_TRIES):
        parts = copying.finish()
        if not one.used_by():
            break
        entries = copying.compare_entries()
        if entries.is_whole and _is_whole(parts):
            return [entries, *parts]
    if _is_whole(parts) and not other.shuts_out:
        output.note(f"note: all is copied; a service may start on {other.place}. Comparing every entry.")
    return [copying.compare_entries(), *parts]


def _conclude(one: Side, other: Side, parts: Sequence[Part], again: str) -> int:
    user = one.used_by()
    if not _is_whole(parts):
        lacking = ", ".join(part.part for part in parts if not part.is_whole)
        hint = (
            f"{one.place} is in use ({user}) and changes meanwhile: stop the service, and {again}."
            if user
            else f"Nothing was changed in the source; {again}."
        )
        raise CommandError(f"{other.place} lacks some of: {lacking}.", hint=hint)
    if user:
        output.note(
            f"note: {one.place} is still in use ({user}): what it counts from now on is not in the copy. "
            f"Before you switch, stop it and {again}."
        )
    return Exit.OK


def _is_whole(parts: Sequence[Part]) -> bool:
    return all(part.is_whole for part in parts)


def _follow(copying: Copy, one: Side) -> None:
    """Until nobody uses the source any more, or we are told to end."""
    with _told() as told:
        output.note(f"note: following {one.place} until no service uses it, or Ctrl-C.")
        while True:
            copying.go_over()
            if not one.used_by() or told.wait(_PAUSE_S):
                return


@contextmanager
def _told() -> Iterator[Event]:
    """SIGINT and SIGTERM end the following, and not the command."""
    told = Event()
    before = {
        number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
