"""What the service needs from a store. Memory, SQLite and Redis each provide all of it.

An embedded store answers without suspending; a remote one awaits bare futures.
Denied is not an error: it is a value. A store that cannot answer raises
`StoreUnavailable`, nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Protocol

from msgspec import Struct

from authz.quota import Unit
from authz.store.records import Adjustment, Denial, Entry, Key, Model, Team, User

Clock = Callable[[], int]
"""Milliseconds since the Unix epoch. Injected everywhere; it may step back."""


class StoreUnavailable(Exception):
    """The store did not answer in time or cannot be used. Says what to do next."""


class StoreUnusable(StoreUnavailable):
    """The store cannot be opened as it is: missing, unreadable, corrupt, in use, or of a newer version."""


class Kind(IntEnum):
    """The counter of a hold."""

    GCRA = 0
    FIXED = 1
    SLIDING = 2
    CALENDAR = 3
    CONCURRENCY = 4


class OnFailure(IntEnum):
    """What a policy wants while the store does not answer; see `authz.store.fallback`."""

    DENY = 0  # the request is refused
    ALLOW = 1  # it is let through, whatever was used
    LOCAL = 2  # it is counted by one replica alone, against its share


class Hold(Struct, frozen=True, array_like=True, gc=False):
    """One policy's share of a reservation.

    `key` names the counter (policy and partition, unambiguously); under another
    kind or window it is another counter, that begins empty. `quota` is
    the most the window may hold; for GCRA it is the burst, and the level drains
    `rate` units per `window` ms. `bounds` are consecutive calendar starts:
    previous, current, next, after next. A `shadow` hold is charged and reported
    but never denies. `owner` is whose counter it is, "team:NAME" or "user:NAME"; "" where it is nobody's
    alone. A store on many servers keeps what has one owner together. `on_failure` is what becomes of the
    request where the store does not answer. `owed` units of the quota, at most all of them, are spent and
    not yet told to the store: an admission keeps them free beside what it knows, and so do the levels that
    tell of it. A debt is carried and a settlement told by the whole quota. `allowance` is the most that a
    replica may set aside of the counter ahead; 0: every request is asked for.
    """

    key: str
    kind: Kind
    unit: Unit
    quota: int
    amount: int
    window: int = 0  # ms
    rate: int = 0
    bounds: tuple[int, int, int, int] = (0, 0, 0, 0)
    shadow: bool = False
    owner: str = ""
    on_failure: OnFailure = OnFailure.DENY
    owed: int = 0
    allowance: int = 0


class Level(Struct, frozen=True, array_like=True, gc=False):
    """How a counter stands."""

    remaining: int  # what is left of the quota, beside what the hold says is owed
    reset_ms: int  # until all of it is free again, if nothing else is spent; a calendar window: until it ends
    held: int = 0  # of the used part, what running requests hold and may still give back


class Reserved(Struct, frozen=True, gc=False):
    """Every hold was made. `levels` follow the order of the holds."""

    levels: tuple[Level, ...]
    replay: bool = False  # the gateway's own retry of the same check: nothing was charged twice
    over: tuple[int, ...] = ()  # indices of the shadow holds that would have been denied
    local: bool = False  # made by this replica alone: the store does not answer
    name: str = ""  # what the reservation goes by instead of the id that it was asked for under


class Exhausted(Struct, frozen=True, gc=False):
    """No hold was made. `denied` are the indices that did not fit.

    `wait_ms` is when all of them could fit if nothing else happens; -1: never,
    the amount exceeds the quota, or what of it is not owed.
    """

    denied: tuple[int, ...]
    wait_ms: int
    levels: tuple[Level, ...]
    local: bool = False  # refused by this replica's share: the store does not answer


class Outcome(StrEnum):
    """What became of a settlement."""

    SETTLED = "settled"
    CORRECTED = "corrected"  # it had expired: its entry in the ledger is put right, once
    ALREADY = "already"  # settled before; nothing was changed
    UNKNOWN = "unknown"  # never made, or forgotten
    FOREIGN = "foreign"  # another gateway's


class Settled(Struct, frozen=True, gc=False):
    """A settlement's outcome and, where it changed something, how the counters of the reservation stand.

    The levels are of the whole quotas: what was owed when the holds were made is not in them any more.
    """

    outcome: Outcome
    holds: tuple[Hold, ...] = ()
    levels: tuple[Level, ...] = ()  # in the order of `holds`


class Remembered(Struct, frozen=True, gc=False):
    """A reservation that may still be settled."""

    facts: bytes  # as `reserve` was given them
    created: int
    expired: bool  # charged as held; a report corrects it


class Counters(Protocol):
    """Reserve before, settle after. All or nothing; see `quota-semantics` in docs/."""

    def place(self, holds: Sequence[Hold]) -> str:
        """What the id of a reservation of these holds ends with, for `settle` to find it; mostly nothing."""
        ...

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved | Exhausted:
        """Make every hold, or none.

        With `facts` (`authz.store.records.Facts`, encoded) the reservation is remembered until it is
        settled, and its end, an expiry too, becomes an entry in the ledger; with `ttl_ms` 0, and no slot,
        it is entered at once as one that nobody can settle. Without, it counts and is
        forgotten once the gateway's own retry cannot come any more, unless it holds more than requests.
        Without facts and of no gateway (""), requests alone are nobody's to repeat, settle or extend.

        The same id from the same gateway within 5 s, while unsettled, is its own retry: a replay.
        Otherwise an id that was used before names a new attempt: it is charged, and cannot be settled.
        ValueError: two holds share a counter.
        """
        ...

    async def find(self, reservation: str, gateway: str) -> Remembered | Outcome:
        """What a settlement needs to know first. An `Outcome`: it cannot be settled any more, and why."""
        ...

    async def settle(
        self, reservation: str, gateway: str, actual: Mapping[Unit, int], note: bytes = b""
    ) -> Settled:
        """Charge what was used instead of what was held; a missing unit stays as held.

        Idempotent. `note` (`authz.store.records.Note`, encoded) becomes part of its ledger entry, in the
        same step.
        """
        ...

    async def extend(self, reservation: str, gateway: str, ttl_ms: int, life_ms: int) -> bool:
        """The request still runs: it expires `ttl_ms` from now, yet at most `life_ms` after it was made.

        False when it is unknown, settled, expired (nothing is revived) or another gateway's.
        """
        ...

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        """What `reserve` would answer. Charges nothing."""
        ...


class Directory(Protocol):
    """Look-ups on the hot path: a service has all of it in memory, so none waits. Raises StoreUnavailable."""

    def revision(self) -> int:
        """Another number after each change of a key, user or team: until then what was made of them holds."""
        ...

    def key(self, digest: bytes) -> Key | None: ...
    def user(self, name: str) -> User | None: ...
    def team(self, name: str) -> Team | None: ...
    def models(self) -> Mapping[str, Model]:
        """Models added at run time, by name. Those of the config file are not in it."""
        ...

    def adjustments(self, policy: str) -> Mapping[tuple[tuple[str, str], ...], Sequence[Adjustment]]:
        """Overrides and grants of a policy by partition."""
        ...

    def used(self, key_id: str, at: int) -> None:
        """Note that a key was used. Written later, off the hot path."""
        ...


class Duplicate(Exception):
    """A record of that name exists."""


class NotFound(Exception):
    """No record of that name."""


class InUse(Exception):
    """Other records still refer to it: without it they would allow more than before."""


class Registry(Protocol):
    """Changes to the records: durable before they return. Synchronous: for a command or a worker thread."""

    def add_key(self, key: Key, *, create_user: bool = True) -> None: ...
    def put_key(self, key: Key) -> None: ...
    def put_together(self, *, teams: Sequence[Team], users: Sequence[User], keys: Sequence[Key]) -> None:
        """Add or replace all of them, or none; the user of each key is among them, or there already."""
        ...

    def keys(self, *, user: str | None = None, team: str | None = None) -> Sequence[Key]: ...
    def find_key(self, id_or_display: str) -> Key: ...
    def put_user(self, user: User, *, new: bool = False) -> None: ...
    def users(self) -> Sequence[User]: ...
    def remove_user(self, name: str) -> None:
        """Revokes the user's keys too."""
        ...

    def put_team(self, team: Team, *, new: bool = False) -> None: ...
    def teams(self) -> Sequence[Team]: ...
    def remove_team(self, name: str) -> None:
        """Raises InUse while a key or user belongs to it."""
        ...

    def put_model(self, model: Model, *, new: bool = False) -> None: ...
    def models(self) -> Sequence[Model]: ...
    def remove_model(self, name: str) -> None: ...
    def add_adjustment(self, adjustment: Adjustment) -> None: ...
    def adjustments(self) -> Sequence[Adjustment]: ...
    def remove_adjustment(self, id: str) -> None: ...
    def counter_levels(self, prefix: str = "") -> Mapping[str, bytes]:
        """Counters by key, for `authz.store.levels.level_of`; of a running service at most 0.5 s old."""
        ...


class Denials(Protocol):
    """Every refusal, bounded, identical floods as one row."""

    def record(self, denial: Denial) -> None:
        """Never blocks; written later."""
        ...


class DenialLog(Protocol):
    """Reading refusals back."""

    def list(
        self, *, since: int = 0, user: str = "", status: int = 0, reason: str = "", limit: int = 100
    ) -> Sequence[Denial]: ...
    def show(self, id: str) -> Denial | None: ...


class UsageRow(Struct, frozen=True, kw_only=True):
    """The sum of the ledger over one group. Cached is part of input, reasoning part of output."""

    group: Mapping[str, str]  # {"team": "nlp", "model": "llama3"}
    requests: int
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cost: int  # 1e-9 of the currency
    estimated_input_tokens: int  # of the above: not counted by a model server
    estimated_output_tokens: int


class LedgerReading(Protocol):
    """What requests used: for commands and the admin API, never for a decision."""

    def usage(
        self, *, since: int, until: int, by: Sequence[str], only: Mapping[str, str] | None = None
    ) -> Sequence[UsageRow]:
        """Sums of [since, until) by any of user, team, key, model, route, gateway, source, day."""
        ...

    def entries(
        self,
        *,
        since: int = 0,
        until: int | None = None,
        only: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Entry]:
        """Single entries, the latest first."""
        ...

    def entry(self, id: str) -> Entry | None:
        """By reservation or request id."""
        ...


class Ledger(LedgerReading, Protocol):
    """The ledger of a store, which may be behind with writing it."""

    async def durable(self) -> None:
        """Returns once every settlement so far is where no restart loses it. Raises StoreUnavailable."""
        ...
