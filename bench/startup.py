"""From the start of `authz serve` until both addresses say that it is ready, and the memory that it then has.

A busy machine tells nothing: what counts is the best of the starts. The files of bytecode that an installation
has are written first, into a directory of their own.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Process, executable, port_answers

STARTS = 5
CONFIGS = {
    "keys": "{type: api_key}",
    "tokens": "{type: jwt, issuers: [i], audiences: [a], algorithms: [HS256], "
    "sign_key: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}",
}


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def start(directory: Path, authenticator: str, env: dict[str, str]) -> tuple[float, float, float]:
    """Seconds until it was ready, seconds of CPU in them, MiB resident."""
    http, grpc, admin, other = (free_port() for _ in range(4))
    config = directory / "authz.yaml"
    config.write_text(
        f"store: sqlite://{directory}/authz.db\n"
        f"decisions: {{http: 127.0.0.1:{http}, grpc: 127.0.0.1:{grpc}, grpc_other: 127.0.0.1:{other}}}\n"
        f"admin: {{listen: 127.0.0.1:{admin}}}\n"
        f"authenticators: {{some: {authenticator}}}\n"
        "routes:\n"
        "  - {name: inference, match: {api: [openai]}, authenticate: {any_of: [some]}, "
        "authorize: [{models: any}], limits: [minute]}\n"
        "limits: {minute: {unit: requests, quota: 60, window: 1m, partition_by: [user]}}\n"
    )
    begun = time.monotonic()
    argv = [executable("authz"), "serve", "--config", str(config)]
    process = Process(argv, log=directory / "authz.log", cwd=directory, env=env)
    try:
        process.wait_until(lambda: is_ready(http) and is_ready(admin) and port_answers(grpc))
        took = time.monotonic() - begun
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    finally:
        process.stop()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return took, cpu, resident * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        env = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{scratch}/bytecode"}
        subprocess.run([sys.executable, "-c", "import authz.running"], env={**os.environ, **env}, check=True)
        print(f"{'config':<8} {'ready s, best':>14} {'median':>8} {'CPU s, best':>12} {'RSS MiB':>8}")
        for name, authenticator in CONFIGS.items():
            starts = [start(Path(scratch), authenticator, env) for _ in range(STARTS)]
            took, cpu, resident = zip(*starts, strict=True)
            print(
                f"{name:<8} {min(took):>14.2f} {statistics.median(took):>8.2f} {min(cpu):>12.2f} "
                f"{statistics.median(resident):>8.0f}"
            )


if __name__ == "__main__":
    main()
