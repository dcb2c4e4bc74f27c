"""A real gateway, run from its wheel with the configuration of this repository exactly as it is committed.

The only edits are addresses and paths: each gateway lists them as `Swap`s, and each of them must hit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from tests.support.certificates import Certificates
from tests.support.ports import free_port
from tests.support.processes import Process, port_answers

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Swap:
    """One address or path of the committed file, and where that is in the test."""

    find: str
    replace: str
    times: int = 1

    def apply(self, text: str, name: str) -> str:
        assert text.count(self.find) == self.times, (
            f"{name}: {self.find!r} is there {text.count(self.find)} times, expected {self.times}"
        )
        return text.replace(self.find, self.replace)


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a gateway under test stands between. `directory` is its scratch space."""

    directory: Path
    certificates: Certificates
    authz_http: int  # port
    authz_grpc: int  # port
    model: int  # port of the model server
    token: str = "gateway-token-of-the-tests"
    http: int = field(default_factory=free_port)
    https: int = field(default_factory=free_port)
    log: int = field(default_factory=free_port)  # where authz takes Caddy's log


class RealGateway:
    """One gateway process. A context manager: started on entry, stopped on exit."""

    name: ClassVar[str]

    def __init__(self, around: Around) -> None:
        self.around = around
        self.directory = around.directory / self.name
        self.process: Process | None = None

    def write(self) -> Sequence[str]:
        """Write what it reads into `self.directory`; the argv that starts it."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def answers(self) -> bool:
        """Whether it takes requests already."""
        return port_answers(self.around.http) and port_answers(self.around.https)

    @property
    def http(self) -> str:
        """Base URL of the plain listener."""
        return f"http://localhost:{self.around.http}"

    @property
    def https(self) -> str:
        """Base URL of the TLS listener."""
        return f"https://localhost:{self.around.https}"

    @property
    def log(self) -> str:
        """Everything that it wrote, its access log included."""
        assert self.process is not None
        return self.process.output()

    def log_with(self, text: str) -> str:
        """The log once it holds a text: gateways write a line after they have answered."""
        assert self.process is not None
        self.process.wait_until(lambda: text in self.log)
        return self.log

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        argv = self.write()
        self.process = Process(
            argv, log=self.directory / "output.log", cwd=self.directory, env=self.environment()
        )
        try:
            self.process.wait_until(self.answers)
        except BaseException:
            self.process.stop()
            raise

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()

    def token_file(self) -> Path:
        """The gateway's token in a file of its own."""
        path = self.directory / "gateway-token"
        path.write_text(self.around.token)
        return path

    def committed(self, path: str, swaps: Sequence[Swap], *, name: str | None = None) -> Path:
        """A file of this repository with the swaps applied, written into the scratch directory."""
        source = REPOSITORY / path
        text = source.read_text()
        for swap in swaps:
            text = swap.apply(text, path)
        target = self.directory / (name or source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
