"""Takes so much memory, a page at a time, and does nothing else: what the machine alone pauses for.

`python -m bench.taking BYTES` prints the longest time that one page took, in ms of thread CPU time and by the wall.
A page that was not used before is found by the kernel, and in a virtual machine by its host.
"""

import mmap
import sys

from bench.growth_run import moment


def longest_ms(size: int) -> float:
    longest = 0.0
    with mmap.mmap(-1, max(size, mmap.PAGESIZE)) as taken:
        for at in range(0, size, mmap.PAGESIZE):
            begun = moment()
            taken[at] = 1
            longest = max(longest, min(now - then for now, then in zip(moment(), begun, strict=True)))
    return longest * 1000


if __name__ == "__main__":
    print(longest_ms(int(sys.argv[1])))
