"""One worker of `authz serve --workers N`: `python -m authz.cli.worker CONFIG NUMBER DIRECTORY`.

Started by the supervisor and nobody else.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from authz.app import run
from authz.workers.place import Worker

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Serve until SIGTERM, or until the supervisor is gone."""
    path, number, directory = sys.argv[1:]
    _end_with_parent()
    run(Path(path), Worker(int(number), Path(directory)))


def _end_with_parent() -> None:
    """A supervisor that was killed leaves nobody behind at its ports."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)


if __name__ == "__main__":
    main()
