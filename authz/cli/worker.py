"""One worker of `authz serve --workers N`: `python -m authz.cli.worker CONFIG [OPTIONS] NUMBER DIRECTORY`.

Started by the supervisor and nobody else. The options are those of `authz serve`, each in one word.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from authz.asked import Asked, RateLimitFiles
from authz.running import run
from authz.workers.place import Worker

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIMITS = "--ratelimit-config="
_COMPAT = "--ratelimit-compat"
_GRPCIO = "--grpc-server=grpcio"


def main() -> None:
    """Serve until SIGTERM, or until the supervisor is gone."""
    path, *options, number, directory = sys.argv[1:]
    _end_with_parent()
    run(Path(path), Worker(int(number), Path(directory)), read_options(options))


def options_of(asked: Asked) -> list[str]:
    """For the command line of a worker."""
    limits = asked.ratelimit
    return [
        *([f"{_LIMITS}{limits.directory}"] if limits is not None else []),
        *([_COMPAT] if limits is not None and limits.compat else []),
        *([_GRPCIO] if asked.grpc_server == "grpcio" else []),
    ]


def read_options(options: list[str]) -> Asked:
    """What `options_of` were made of."""
    directories = [Path(each.removeprefix(_LIMITS)) for each in options if each.startswith(_LIMITS)]
    return Asked(
        RateLimitFiles(directories[0], _COMPAT in options) if directories else None,
        "grpcio" if _GRPCIO in options else "lane",
    )


def _end_with_parent() -> None:
    """A supervisor that was killed leaves nobody behind at its ports."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)


if __name__ == "__main__":
    main()
