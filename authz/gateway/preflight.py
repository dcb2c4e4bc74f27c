"""What must be so before `authz up` starts anything: a directory of its own, and ports that are free."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from authz.config import Loaded
from authz.config.network import Address
from authz.gateway.first_config import GATEWAY
from authz.gateway.ports import holder, is_free


class CannotStart(Exception):
    """What is in the way, and what to change."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NoUpstream(CannotStart):
    """No model server is named, neither now nor in an earlier run."""


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Only one `authz up` works in a directory. Raises CannotStart."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            other = lock.read().strip() or "?"
            raise CannotStart(
                f"another `authz up` (process {other}) works in {directory}.",
                "Stop it, or choose another --dir.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def listen_address(port: int | None, before: Loaded | None) -> str | None:
    """Where the gateway shall listen if a port is asked for: there, on the host that the config has."""
    if port is None:
        return None
    gateway = before.config.gateways.get(GATEWAY) if before is not None else None
    address = gateway.listen.http if gateway is not None else None
    return str(Address(address.host if address is not None else "127.0.0.1", port))


def addresses_of(loaded: Loaded) -> dict[str, Address]:
    """Where everything will listen, by its place in the config. Raises CannotStart."""
    config = loaded.config
    entry = config.gateways.get(GATEWAY)
    gateway = entry.listen.http if entry is not None else None
    if gateway is None:
        place = f"`gateways.{GATEWAY}.listen.http`"
        raise CannotStart(f"{place} is missing in the config.", "Put it back, or choose another --dir.")
    return {
        f"gateways.{GATEWAY}.listen.http": gateway,
        "decisions.http": config.decisions.http,
        "decisions.grpc": config.decisions.grpc,
        "admin.listen": config.admin.listen,
    }


def check_ports(addresses: Mapping[str, Address], config: Path) -> None:
    """Raises CannotStart, which names who has a port and what to change."""
    for place, address in addresses.items():
        if not is_free(address.host, address.port):
            who = holder(address.port)
            option = (
                "choose another with --port"
                if place.startswith("gateways.")
                else f"change `{place}` in {config}"
            )
            raise CannotStart(
                f"port {address.port} is taken{f' by {who}' if who else ''}.", f"Stop that, or {option}."
            )


def reached(address: Address) -> Address:
    """How what listens there is reached from this machine."""
    return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host), address.port)
