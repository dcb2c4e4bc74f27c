"""The real service as a process of its own: `authz serve` on a store in a scratch directory."""

import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from authz.store.open import open_view
from authz.store.protocols import Registry
from tests.support.ports import free_port
from tests.support.processes import Process, executable


class AuthzService:
    """`authz serve` with the given config; addresses and store are filled in. A context manager."""

    def __init__(
        self,
        directory: Path,
        config: str,
        *,
        env: dict[str, str] | None = None,
        store: str = "",
        workers: int = 1,
        tls: tuple[str, ssl.SSLContext] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """`tls`: what stands at `decisions.tls`, and how to speak to that. `options`: more of `authz serve`."""
        self._tls = tls
        self._options = options
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.http, self.grpc, self.admin = free_port(), free_port(), free_port()
        self.grpc_other = free_port()
        self.store = store or f"sqlite://{directory / 'authz.db'}"
        self._workers = workers
        self.config = directory / "authz.yaml"
        self._env = env or {}
        self.write(config)
        self.process: Process | None = None

    def write(self, config: str) -> None:
        """Put a config in place; a running service reloads it."""
        tls = f", tls: {self._tls[0]}" if self._tls is not None else ""
        head = (
            f"store: {self.store}\n"
            f"decisions: {{http: 127.0.0.1:{self.http}, grpc: 127.0.0.1:{self.grpc}, "
            f"grpc_other: 127.0.0.1:{self.grpc_other}{tls}}}\n"
            f"admin: {{listen: 127.0.0.1:{self.admin}}}\n"
        )
        temporary = self.config.with_suffix(".new")
        temporary.write_text(head + config)
        temporary.replace(self.config)

    @property
    def trust(self) -> ssl.SSLContext | None:
        """How to speak to its decisions address over HTTP."""
        return self._tls[1] if self._tls is not None else None

    @property
    def registry(self) -> Registry:
        """The records, as a command beside the service writes them."""
        return open_view(self.store).registry

    def ready(self) -> bool:
        scheme, context = ("http", None) if self._tls is None else ("https", self._tls[1])
        url = f"{scheme}://127.0.0.1:{self.http}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=2, context=context) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def start(self) -> None:
        argv = [executable("authz"), "serve", "--config", str(self.config)]
        if self._workers > 1:
            argv += ["--workers", str(self._workers)]
        argv += self._options
        self.process = Process(argv, log=self.directory / "authz.log", cwd=self.directory, env=self._env)
        self.process.wait_until(self.ready)

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()

    def run(self, *arguments: str, stdin: str = "") -> Any:
        """A command with `--json`; what it printed, decoded."""
        argv = [sys.executable, "-m", "authz.cli", *arguments, "--json", "--config", str(self.config)]
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, env={**os.environ, **self._env}
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def log(self) -> str:
        return (self.directory / "authz.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
