"""What the bench compares us with answers as it should: a null server that refuses would flatter us."""

import sys
from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import Process, port_answers
from tests.support.raw_http import exchange, request_bytes


def test_the_null_http_server_lets_everything_through(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "bench.servers", "null-http", str(port)]
    server = Process(argv, log=tmp_path / "null.log", cwd=Path(__file__).parents[2])
    try:
        server.wait_until(lambda: port_answers(port))
        answer = exchange(port, request_bytes("POST", "/auth/nginx", None, b"{}"), method="POST")
    finally:
        server.stop()
    assert answer.status == 200
