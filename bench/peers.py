"""The peers: what they are, which version, and how each is installed. `python -m bench.peers` (`make bench-peers`)

Each is built from its language's package registry by the ordinary client, outside of the repository. One that
cannot be built is left out of the bench, and the reason is told there.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

import msgspec
from msgspec import Struct


class Recipe(Struct, frozen=True):
    """How a peer is had."""

    tool: str  # `go`, or `pip` into an environment of its own
    package: str
    version: str
    program: str
    job: str


class Peer(Enum):
    """All of them, pinned."""

    RATELIMIT = Recipe(
        "go", "github.com/envoyproxy/ratelimit/src/service_cmd", "v1.4.1-0.20260122083618-3fb702589d36", "service_cmd",
        "the same job as --ratelimit-config",
    )  # fmt: skip
    OPA = Recipe(
        "go", "github.com/open-policy-agent/opa-envoy-plugin/cmd/opa-envoy-plugin", "v1.19.1-envoy", "opa-envoy-plugin",
        "half the job: a policy over Check, no counters",
    )  # fmt: skip
    GUBERNATOR = Recipe(
        "go", "github.com/gubernator-io/gubernator/v2/cmd/gubernator", "v2.19.1", "gubernator",
        "half the job: counters, no credentials",
    )  # fmt: skip
    OAUTH2_PROXY = Recipe(
        "go", "github.com/oauth2-proxy/oauth2-proxy/v7", "v7.15.3", "v7",
        "half the job: who a request is from (a password of an htpasswd file), no limits",
    )  # fmt: skip
    LITELLM = Recipe(
        "pip", "litellm[proxy]", "1.109.1", "litellm", "a whole proxy: what it relays is part of its cost"
    )


_ADDRESS = re.compile(r"https?://\S+ ?")  # of a registry: each machine has its own
WITHIN = 900
"""Seconds for one peer."""


def cache() -> Path:
    """Where they are: `AUTHZ_BENCH_PEERS`, or the user's cache."""
    named = os.environ.get("AUTHZ_BENCH_PEERS")
    return (
        Path(named)
        if named
        else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "authz-bench"
    )


def program(directory: Path, peer: Peer) -> Path:
    """Where its program is, or would be."""
    recipe: Recipe = peer.value
    within = directory / "bin" if recipe.tool == "go" else directory / recipe.program / "bin"
    return within / recipe.program


def reasons(directory: Path) -> dict[str, str]:
    """Why peers could not be built, by their name, as `install` found."""
    file = directory / "left-out.json"
    return msgspec.json.decode(file.read_bytes(), type=dict[str, str]) if file.exists() else {}


def install(directory: Path, peer: Peer) -> str:
    """Build it unless it is there. Returns why it could not be, or nothing."""
    recipe: Recipe = peer.value
    if program(directory, peer).exists():
        return ""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        return _go(directory, recipe) if recipe.tool == "go" else _pip(directory, recipe)
    except subprocess.TimeoutExpired:
        return f"not built within {WITHIN} s"


def _go(directory: Path, recipe: Recipe) -> str:
    if shutil.which("go") is None:
        return "go is not installed"
    env = {**os.environ, "GOBIN": str(directory / "bin"), "GOFLAGS": "-buildvcs=false"}
    return _done(["go", "install", f"{recipe.package}@{recipe.version}"], env)


def _pip(directory: Path, recipe: Recipe) -> str:
    home = directory / recipe.program
    venv.create(home, with_pip=True)
    wanted = f"{recipe.package}=={recipe.version}" if recipe.version else recipe.package
    return _done(
        [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", wanted],
        {**os.environ},
    )


def _done(command: Sequence[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=WITHIN, check=False)
    said = (done.stderr or done.stdout).strip().splitlines()
    return (
        ""
        if done.returncode == 0
        else _ADDRESS.sub("", said[-1].strip() if said else f"exit code {done.returncode}")
    )


def main() -> None:
    directory = cache()
    left_out = {}
    for peer in Peer:
        reason = install(directory, peer)
        print(f"{peer.value.package} {peer.value.version}: {reason or program(directory, peer)}", flush=True)
        if reason:
            left_out[peer.name.lower()] = reason
    (directory / "left-out.json").write_bytes(msgspec.json.encode(left_out))
    sys.exit(0 if len(left_out) < len(Peer) else "no peer could be built")


if __name__ == "__main__":
    main()
