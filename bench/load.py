"""h2load with one body again and again: as fast as the server answers."""

import re
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.figures import Sample
from bench.machine import cpu_seconds

CLIENTS, STREAMS = 4, 32


def framed(message: bytes) -> bytes:
    """A gRPC message as DATA carries it."""
    return b"\0" + struct.pack(">I", len(message)) + message


def h2load(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    file: Path,
    pid: int,
    *,
    calls: int,
    http1: bool = False,
    others: Mapping[str, int] | None = None,
) -> Callable[[], Sample]:
    """A run of so many calls. h2load knows HTTP statuses only: what is answered is for the oracle to see.

    `others`: processes whose CPU is told apart.
    """
    file.write_bytes(body)
    argv = [
        "h2load",
        f"-c{CLIENTS}",
        f"-n{calls}",
        "-d",
        str(file),
        *(["--h1"] if http1 else [f"-m{STREAMS}"]),
    ]
    for name, value in headers.items():
        argv += ["-H", f"{name}: {value}"]

    def run() -> Sample:
        elsewhere = {name: cpu_seconds(other) for name, other in (others or {}).items()}
        before = cpu_seconds(pid)
        done = subprocess.run([*argv, url], capture_output=True, text=True, timeout=120, check=False)
        spent = cpu_seconds(pid) - before
        found = re.search(r"([\d.]+) req/s", done.stdout)
        if found is None or f" {calls} succeeded" not in done.stdout:
            raise RuntimeError(f"h2load {url}: {done.stdout or done.stderr}")
        apart = {
            name: (cpu_seconds(other) - elsewhere[name]) / calls * 1e6
            for name, other in (others or {}).items()
        }
        return Sample(float(found[1]), spent / calls * 1e6, apart)

    return run


GRPC = {"content-type": "application/grpc", "te": "trailers"}
