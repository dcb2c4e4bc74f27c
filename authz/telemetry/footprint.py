"""What the process costs its machine, for the log line that says that it is ready."""

import os
import time
from pathlib import Path

_STARTED = (
    19  # of what follows the name in /proc/PID/stat (proc_pid_stat(5)): ticks since the machine's start
)
_RESIDENT = 1  # in /proc/PID/statm: pages


def footprint(process: Path = Path("/proc/self")) -> dict[str, float]:
    """Seconds since the kernel started it, and MiB resident; nothing where the machine has no /proc.

    The second is `process_resident_memory_bytes` in the metrics.
    """
    try:
        started = int((process / "stat").read_text().rpartition(")")[2].split()[_STARTED])
        resident = int((process / "statm").read_text().split()[_RESIDENT])
    except OSError:
        return {}
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    return {
        "ready_after_s": round(age, 2),
        "rss_mib": round(resident * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
    }
