"""A key from standard input, and headers that hold none: no secret is ever an argument."""

import getpass
import sys
from collections.abc import Sequence

from authz.cli.errors import UsageError


def key_from_stdin(given: str) -> str:
    """The key where `-` is given. Whatever else was written is not repeated. Raises UsageError."""
    if given != "-":
        raise UsageError(
            "a key is no argument: others could read it in the list of processes and in the shell's history.",
            hint="Write --key - and pipe the key in, or type it when asked.",
        )
    key = getpass.getpass("key: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not key.strip():
        raise UsageError("standard input holds no key.")
    return key.strip()


def headers_of(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` each. Raises UsageError."""
    headers = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip().lower()
        if not equals or not name:
            raise UsageError("--header is NAME=VALUE, such as user-agent=curl.")
        if name in {"authorization", "proxy-authorization", "x-api-key", "cookie"}:
            raise UsageError(
                f"{name} may hold a secret, which is no argument.", hint="Use --key - for a key."
            )
        headers[name] = value
    return headers
