"""What the command line of `authz serve` asks for beside the config."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class RateLimitFiles:
    """Limits of Envoy's rate limit service: a directory of files, and how they charge."""

    directory: Path
    compat: bool = False  # a refused request is charged too


GrpcServerName = Literal["lane", "grpcio"]
"""Who serves `decisions.grpc`: our own server, or grpcio's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """All of it."""

    ratelimit: RateLimitFiles | None = None
    grpc_server: GrpcServerName = "lane"
