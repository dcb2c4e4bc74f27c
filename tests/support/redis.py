"""Real Redis: one server, a Cluster, or a master with a replica and three Sentinels, on free ports.

Start them from the main thread: a child dies with the thread that started it (`processes`).
"""

import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from tests.support.ports import free_port, free_port_with
from tests.support.processes import Process
from tests.support.redis_binary import redis_server

_BUS = 10_000  # a Cluster node talks to the others on this much above its port (Redis Cluster specification)
_TROUBLE = (redis.RedisError, OSError)


class _Together:
    """What is started on entering and stopped on leaving."""

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class RedisServer(_Together):
    """One redis-server on 127.0.0.1. Keeps nothing over a restart unless `options` say so.

    `options` are as on the command line, without dashes: `"maxmemory", "1mb"`; a value of several words is one string.
    """

    def __init__(self, directory: Path, *options: str, port: int = 0, mode: Sequence[str] = ()) -> None:
        self.port = port or free_port()
        self.directory = directory / f"redis-{self.port}"
        self.options = list(options)
        self._mode = list(mode)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def process(self) -> Process:
        assert self._process is not None, "the server was not started"
        return self._process

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        options = []
        for name, value in zip(self.options[::2], self.options[1::2], strict=True):
            options += [f"--{name}", *(value.split() or [""])]
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        quiet = [] if self._mode[-1:] == ["--sentinel"] else ["--save", "", "--appendonly", "no"]
        argv = [redis_server(), *self._mode, *fixed, *quiet, *options]
        self._process = Process(argv, log=self.directory / "log", cwd=self.directory)
        self._process.wait_until(self.answers)

    def answers(self) -> bool:
        """Whether it says anything at all: one that loads, or wants a password, does."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as plain:
                plain.sendall(b"PING\r\n")
                return plain.recv(1) in {b"+", b"-"}
        except OSError:
            return False

    def client(self, **options: Any) -> "redis.Redis":
        """A client for the test itself. Close it, or use it in `with`."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=10, **options)

    def call(self, *words: str | bytes | int, **options: Any) -> Any:
        """One command on a connection of its own; the reply as the server sent it (RESP2)."""
        connection = redis.Connection(
            host="127.0.0.1", port=self.port, socket_timeout=10, protocol=2, **options
        )
        try:
            connection.send_command(*words)
            answer = connection.read_response()
        finally:
            connection.disconnect()
        return answer

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; returns once it is gone."""
        self.process.signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self.resume()
            self._process.stop()
            self._process = None

    def restart(self) -> None:
        """The same server again on the same port, also after `kill`."""
        self.stop()
        self.start()


def wait_for(server: RedisServer, what: Callable[[], bool], *, seconds: float = 60) -> None:
    """Until `what` is true; an error of Redis counts as not yet."""

    def holds() -> bool:
        with suppress(*_TROUBLE):
            return what()
        return False

    server.process.wait_until(holds, seconds=seconds)


class RedisCluster(_Together):
    """`masters` nodes that share the slots evenly, each with `replicas`.

    A node counts as failed after `node_timeout` ms of silence: short only where a test wants a failover.
    """

    SLOTS = 16384

    def __init__(
        self, directory: Path, *options: str, masters: int = 3, replicas: int = 0, node_timeout: int = 15_000
    ) -> None:
        options = ("cluster-enabled", "yes", "cluster-node-timeout", str(node_timeout), *options)
        self.nodes = [
            RedisServer(directory, *options, port=free_port_with(_BUS))
            for _ in range(masters * (1 + replicas))
        ]
        self.masters = self.nodes[:masters]
        self.replicas = self.nodes[masters:]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        size = len(self.masters)
        bounds = [self.SLOTS * place // size for place in range(size + 1)]
        for place, node in enumerate(self.masters):
            node.call("CLUSTER", "ADDSLOTS", *range(bounds[place], bounds[place + 1]))
        for place, node in enumerate(self.nodes):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        for node in self.nodes[1:]:
            self.nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in self.nodes:
            wait_for(node, lambda node=node: self._known(node) == len(self.nodes))  # type: ignore[misc]
        for place, node in enumerate(self.replicas):
            node.call("CLUSTER", "REPLICATE", self.id_of(self.masters[place % size]))
        for node in self.nodes:
            wait_for(node, lambda node=node: self.info(node)["cluster_state"] == "ok")  # type: ignore[misc]
        for node in self.replicas:
            wait_for(node, lambda node=node: _follows(node))  # type: ignore[misc]

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.stop()

    def info(self, node: RedisServer) -> dict[str, str]:
        """CLUSTER INFO as one node sees it."""
        return dict(line.split(":") for line in node.call("CLUSTER", "INFO").decode().splitlines())

    def id_of(self, node: RedisServer) -> str:
        return str(node.call("CLUSTER", "MYID").decode())

    def node_of(self, slot: int) -> RedisServer:
        """The master of a slot, as the first running node sees it."""
        seer = next(node for node in self.nodes if node.process.running)
        rows = seer.call("CLUSTER", "SLOTS")
        port = next(row[2][1] for row in rows if row[0] <= slot <= row[1])
        return next(node for node in self.nodes if node.port == port)

    def begin_move(self, slot: int, to: RedisServer) -> None:
        """From now on new keys of the slot are made in `to` (ASK), and the others are still where they were."""
        source = self.node_of(slot)
        if source is to:
            return
        to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))

    def finish_move(self, slot: int, to: RedisServer) -> None:
        """Move its keys, then the slot (MOVED)."""
        source = self.node_of(slot)
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.call("MIGRATE", "127.0.0.1", to.port, "", 0, 10_000, "KEYS", *keys)
        for node in (to, source, *(each for each in self.masters if each not in (to, source))):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))

    def flush(self) -> None:
        """Forget everything, on every master."""
        for node in self.nodes:
            with suppress(redis.ReadOnlyError):
                node.call("FLUSHALL")

    def _known(self, node: RedisServer) -> int:
        return int(self.info(node)["cluster_known_nodes"])


class Sentinels(_Together):
    """A master, its replica, and three Sentinels that watch them under `NAME`."""

    NAME = "main"

    def __init__(self, directory: Path, *options: str, down_after: int = 1_000) -> None:
        self.directory = directory
        self.master = RedisServer(directory, *options)
        self.replica = RedisServer(directory, *options, "replicaof", f"127.0.0.1 {self.master.port}")
        self._down_after = down_after
        self.sentinels: list[RedisServer] = []

    @property
    def url(self) -> str:
        hosts = ",".join(each.address for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.NAME}/0"

    def start(self) -> None:
        self.master.start()
        self.replica.start()
        wait_for(self.replica, lambda: _follows(self.replica))
        ports = [free_port() for _ in range(3)]
        for place, port in enumerate(ports):
            config = self.directory / f"sentinel-{port}.conf"
            # They know each other from the start: by themselves they would meet after some seconds.
            others = [
                f"sentinel known-sentinel {self.NAME} 127.0.0.1 {other} {_identity(number)}"
                for number, other in enumerate(ports)
                if other != port
            ]
            lines = [
                f"sentinel myid {_identity(place)}",
                f"sentinel monitor {self.NAME} 127.0.0.1 {self.master.port} 2",
                f"sentinel down-after-milliseconds {self.NAME} {self._down_after}",
                f"sentinel failover-timeout {self.NAME} 5000",
                *others,
            ]
            config.write_text("\n".join(lines) + "\n")
            sentinel = RedisServer(self.directory, port=port, mode=[str(config), "--sentinel"])
            self.sentinels.append(sentinel)
            sentinel.start()
        for sentinel in self.sentinels:
            wait_for(sentinel, lambda sentinel=sentinel: self._ready(sentinel))  # type: ignore[misc]

    def stop(self) -> None:
        for each in (*self.sentinels, self.replica, self.master):
            each.stop()

    def current(self) -> int:
        """The port of the master that the Sentinels name."""
        _, port = self.sentinels[0].call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.NAME)
        return int(port)

    def _ready(self, sentinel: RedisServer) -> bool:
        replicas = sentinel.call("SENTINEL", "REPLICAS", self.NAME)
        return len(replicas) == 1 and sentinel.call("SENTINEL", "CKQUORUM", self.NAME) is not None


def _identity(number: int) -> str:
    return f"{number + 1:040x}"


def _follows(replica: RedisServer) -> bool:
    with replica.client() as client:
        found = client.info("replication")
        return found["role"] == "slave" and found["master_link_status"] == "up"
