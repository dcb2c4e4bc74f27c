"""What a command works with: the config, the store, the time."""

import getpass
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from authz.cli.errors import CommandError
from authz.cli.options import Common
from authz.config import Config, Loaded, find_config, load
from authz.config.base import WEEKDAYS
from authz.config.fineness import countable
from authz.quota import BadQuota, Quota, parse_quota
from authz.store.open import open_view
from authz.store.protocols import Registry
from authz.store.store import Store


@dataclass(frozen=True, slots=True)
class Context:
    """A config that was read for a command: no secret of it needs to be there."""

    path: Path
    loaded: Loaded
    now: int  # ms since the epoch

    @property
    def config(self) -> Config:
        return self.loaded.config

    @property
    def zone(self) -> ZoneInfo:
        """Where a date without a zone belongs."""
        return ZoneInfo(self.config.timezone)

    @property
    def week_start(self) -> int:
        """0 is Monday."""
        return WEEKDAYS.index(self.config.week_start)

    def quota(self, text: str) -> Quota:
        """`tokens=1M/day` by the config's calendar. Raises BadQuota; also for what the store cannot count."""
        quota = parse_quota(text, timezone=self.config.timezone, week_start=self.week_start)
        if not countable(self.loaded.store, quota):
            raise BadQuota(f"Redis cannot drain {text!r} exactly; write a rounder quota")
        return quota


def read(common: Common) -> Context:
    """The config that the command line names. Raises ConfigNotFound and ConfigErrors."""
    path = find_config(common.config)
    return Context(path, load(path, secrets_required=False), now())


@contextmanager
def view(context: Context) -> Iterator[Store]:
    """The store as a command has it: records to change, counters and refusals to look at.

    The service notices a change within a second.
    """
    if os.environ.get("AUTHZ_SERVER"):
        raise CommandError(
            "AUTHZ_SERVER names a server, but this version has no admin API: the store here is another one.",
            hint="Unset it, and run the command on the service's machine, as its user.",
        )
    store = context.loaded.store
    if store.scheme == "memory":
        raise CommandError(
            f"the store of {context.path} is memory://, which no command reaches: it lives in the service.",
            hint="For keys that commands can change, set `store: sqlite:///var/lib/authz/authz.db` there.",
        )
    opened = open_view(store.url)
    try:
        yield opened
    finally:
        with suppress(StopIteration):  # an embedded store never suspends: one step closes it
            opened.close().send(None)


@contextmanager
def registry(context: Context) -> Iterator[Registry]:
    """The records alone."""
    with view(context) as opened:
        yield opened.registry


def now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def operator() -> str:
    """Who runs the command, for the record."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
