"""Threads that write and read beside the decisions, and give way to them."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import get_native_id

NICENESS = 10  # more than the others: with a core that decisions keep busy the writer still keeps up


def thread_aside(name: str) -> ThreadPoolExecutor:
    """One thread. Where cores are few it runs when whoever decides has nothing to do."""
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_give_way)


def _give_way() -> None:
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with suppress(OSError):  # not allowed here: then it is as it was
            usual = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, get_native_id(), min(19, usual + NICENESS))
