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
    directory = Path(tempfile.gettempdir()) / "llm-authz-test-ports"
    directory.mkdir(exist_ok=True)
    for _ in range(1000):
        port = _random.choice(_RANGE)
        lock = (directory / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        _held.append(lock)
        return port
    raise RuntimeError("no free port found")
