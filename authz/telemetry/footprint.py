"""What the process costs its machine, for the log line that says that it is ready."""

import os
import time
from pathlib import Path


def age() -> float | None:
    """Seconds since the kernel started the process (proc_pid_stat(5)); None where it does not tell."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def resident() -> int | None:
    """Bytes of memory that the process has, as `process_resident_memory_bytes` in the metrics."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
