"""One worker of `authz serve --workers N`: `python -m authz.cli.worker CONFIG [OPTIONS] NUMBER DIRECTORY`.

Started by the supervisor and nobody else. The options: a directory of rate limits, and `--ratelimit-compat`.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from authz.app import RateLimitFiles, run
from authz.workers.place import Worker

_PR_SET_PDEATHSIG = 1  # prctl(2)
_COMPAT = "--ratelimit-compat"


def main() -> None:
    """Serve until SIGTERM, or until the supervisor is gone."""
    path, *options, number, directory = sys.argv[1:]
    _end_with_parent()
    run(Path(path), Worker(int(number), Path(directory)), read_rate_limits(options))


def rate_limit_options(ratelimit: RateLimitFiles | None) -> list[str]:
    """For the command line of a worker."""
    if ratelimit is None:
        return []
    return [str(ratelimit.directory), *([_COMPAT] if ratelimit.compat else [])]


def read_rate_limits(options: list[str]) -> RateLimitFiles | None:
    """What `rate_limit_options` were made of."""
    return RateLimitFiles(Path(options[0]), _COMPAT in options[1:]) if options else None


def _end_with_parent() -> None:
    """A supervisor that was killed leaves nobody behind at its ports."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)


if __name__ == "__main__":
    main()
