"""Ports that nobody else uses, also not another test process at the same time."""

import fcntl
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

# Below the range from which the kernel takes ports for outgoing connections.
_RANGE = range(20000, 32000)
_held: list[IO[str]] = []  # a lock lives as long as its file is open: until this process ends
_random = random.SystemRandom()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free, and stays ours among all test processes."""
    for _ in range(1000):
        port = _random.choice(_RANGE)
        if _take(port):
            return port
    raise RuntimeError("no free port found")


def free_port_with(offset: int) -> int:
    """A port that is free together with the one `offset` above it."""
    for _ in range(1000):
        upper = _random.choice(_RANGE)
        if _take(upper) and _take(upper - offset):
            return upper - offset
    raise RuntimeError("no free port found")


def _take(port: int) -> bool:
    directory = Path(tempfile.gettempdir()) / "llm-authz-test-ports"
    directory.mkdir(exist_ok=True)
    lock = (directory / str(port)).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        lock.close()
        return False
    _held.append(lock)
    return True
