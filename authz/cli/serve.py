"""`authz serve`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from authz.cli.errors import CommandError, UsageError
from authz.cli.options import ConfigFile
from authz.config import find_config

if TYPE_CHECKING:
    from authz.asked import Asked

app = App(name="serve")


@app.default
def serve(
    *,
    config: ConfigFile = None,
    workers: Annotated[int, Parameter(validator=Number(gte=1, lte=64))] = 1,
    ratelimit_config: Path | None = None,
    ratelimit_compat: bool = False,
    grpc_server: Literal["lane", "grpcio"] = "lane",
) -> None:
    """Answer gateways' questions until SIGTERM or Ctrl-C.

    The config is read again when it changes and on SIGHUP; a wrong one is refused and the old one kept.

    Parameters
    ----------
    workers
        So many processes at the same addresses; one that ends is replaced. Needs a shared store: Redis.
    ratelimit_config
        A directory of envoyproxy/ratelimit's files: answer Envoy's rate limit service by them, too.
    ratelimit_compat
        Charge a refused request as well, as that service does.
    grpc_server
        Who answers at decisions.grpc: authz itself, or grpcio, which takes ten times the processor time.
    """
    from authz.asked import Asked, RateLimitFiles
    from authz.running import run  # all of the service: the largest import there is
    from authz.transport.listen import CannotListen

    path = find_config(config)
    if ratelimit_compat and ratelimit_config is None:
        raise UsageError(
            "--ratelimit-compat says how the limits of --ratelimit-config charge, and there are none",
            hint="Name the directory of their files with --ratelimit-config, too.",
        )
    ratelimit = RateLimitFiles(ratelimit_config, ratelimit_compat) if ratelimit_config is not None else None
    asked = Asked(ratelimit, grpc_server)
    try:
        if workers > 1:
            _supervise(path, workers, asked)
        else:
            run(path, asked=asked)
    except CannotListen as error:
        raise CommandError(str(error)) from None


def _supervise(path: Path, workers: int, asked: "Asked") -> None:
    """Find out what would end every worker at once, then start them."""
    from authz.app import load_config
    from authz.cli.worker import options_of
    from authz.ratelimit.load import load_limits
    from authz.running import supervise
    from authz.transport.listen import bind, parse_listen

    config = load_config(path)
    if config.store.scheme in ("memory", "sqlite"):
        raise UsageError(
            f"{workers} workers cannot share the store {config.store}: it counts inside one process",
            hint="Use a Redis store (store: redis://localhost:6379/0), or serve without --workers.",
        )
    decisions = config.config.decisions
    for listen in (decisions.http, decisions.grpc, config.config.admin.listen):
        address = parse_listen(str(listen))
        if address.path:
            raise UsageError(f"{workers} workers cannot share {address}", hint="Listen on a host and a port.")
        bind(address).close()
    if asked.ratelimit is not None:
        load_limits(asked.ratelimit.directory)
    command = [sys.executable, "-P", "-m", "authz.cli.worker", str(path), *options_of(asked)]
    supervise(command, workers)
