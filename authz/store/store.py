"""A store as a whole: what a command opens, and what the service opens."""

from collections.abc import Sequence
from typing import Protocol

from authz.store.allowances import Allowances
from authz.store.protocols import Counters, DenialLog, Denials, Directory, Ledger, Registry
from authz.store.reconciling import Without
from authz.store.trials import Trial, Trials
from authz.store.waits import Shared


class TrialLog(Protocol):
    """Reading back what limits on trial would have refused."""

    def list(self, *, since: int = 0) -> Sequence[Trial]:
        """By limit and partition, most refusals first. Counts from the hour that holds `since` (ms)."""
        ...


class Store:
    """What is remembered, behind the protocols. `start` begins the upkeep, `close` writes all of it down."""

    counters: Counters
    directory: Directory
    registry: Registry
    denials: Denials
    denial_log: DenialLog
    ledger: Ledger
    trial_log: TrialLog

    @property
    def trouble(self) -> str | None:
        """Why the store cannot be read or written right now; for readiness."""
        return None

    async def start(self) -> None:
        """Begin the upkeep on the running event loop."""

    async def close(self) -> None:
        """Write down what is not yet, and let go of every file."""


class ServiceStore(Store):
    """A store that decisions are counted in."""

    trials: Trials

    @property
    def dropped_denials(self) -> int:
        """Refusals that did not fit into the log, since the start."""
        raise NotImplementedError

    @property
    def expired(self) -> int:
        """Reservations that nobody told the end of, since the start, as far as this process saw."""
        raise NotImplementedError

    @property
    def without(self) -> Without | None:
        """What was decided while the store did not answer; None: such a store refuses then."""
        return None

    @property
    def shared(self) -> Shared | None:
        """How the store is reached; None: it is in this process."""
        return None

    @property
    def allowances(self) -> Allowances | None:
        """What is set aside of the counters; None: nothing need be, they are in this process."""
        return None

    async def others(self) -> int:
        """How many other services use the store right now, as far as can be known."""
        return 0

    def keep_ledger(self, milliseconds: int) -> None:
        """How long single entries are kept, from the next trim on."""
        raise NotImplementedError
