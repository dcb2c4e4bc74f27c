"""Whether a port of this machine can be listened on, and who has it if not."""

import os
import socket
from collections.abc import Iterator, Set
from contextlib import suppress
from pathlib import Path

_LISTENING = "0A"  # TCP_LISTEN, include/net/tcp_states.h


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there. A connection that just ended does not count."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1", *, prefer: int | None = None) -> int:
    """`prefer` if nobody has it, else one that the system picks."""
    if prefer is not None and is_free(host, prefer):
        return prefer
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def holder(port: int) -> str | None:
    """Who listens on a port, as `nginx (process 4711)`; None where that cannot be seen (proc(5))."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    for process in Path("/proc").iterdir() if sockets else ():
        if process.name.isdigit() and _has(process, sockets):
            with suppress(OSError):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return None


def listens(pid: int, port: int) -> bool:
    """Whether this very process listens there; False where that cannot be seen (proc(5))."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    return bool(sockets) and _has(Path(f"/proc/{pid}"), sockets)


def _has(process: Path, sockets: Set[str]) -> bool:
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) in sockets:
                    return True
    return False


def _inodes(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]
