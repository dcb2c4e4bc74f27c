"""Limits that follow their files. A mistake in them changes nothing, and is told."""

from collections.abc import Callable
from pathlib import Path

import structlog

from authz.config.problem import ConfigErrors
from authz.config.watch import ConfigWatcher
from authz.ratelimit.limiter import RateLimiter
from authz.ratelimit.load import LoadedLimits, load_limits

log = structlog.get_logger("authz.ratelimit")


class LimitsInForce:
    """Keeps the rules of a limiter as the files have them. Counters go on where their descriptors stay."""

    def __init__(
        self, directory: Path, loaded: LoadedLimits, limiter: RateLimiter, told: Callable[[bool], None]
    ) -> None:
        """`told` hears of each reload whether it was applied."""
        self.limiter = limiter
        self._told = told
        self._watcher = ConfigWatcher(loaded, lambda: load_limits(directory), self._changed, on_hangup=False)

    async def start(self) -> None:
        """Begins to watch the directory."""
        await self._watcher.start()

    async def stop(self) -> None:
        await self._watcher.stop()

    def reload(self) -> None:
        """Reads the files again now, changed or not."""
        self._watcher.reload()

    def _changed(self, changed: LoadedLimits | ConfigErrors) -> None:
        if isinstance(changed, ConfigErrors):
            problems = [str(problem) for problem in changed.problems]
            log.error("rate limits not reloaded; the old ones stay in force", problems=problems)
            self._told(False)
            return
        self.limiter.rules = changed.rules
        log.info("rate limits reloaded", limits=changed.digest, domains=len(changed.rules))
        self._told(True)
