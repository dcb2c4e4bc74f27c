"""Reading keys that come from elsewhere: JSON lines or CSV, all mistakes at once.

A message names the line and the field, never what the field holds: it may be a key.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from authz.authenticate.key_format import digest, display, new_id
from authz.cli import values
from authz.cli.context import Context
from authz.cli.errors import CommandError
from authz.store.records import Key

FIELDS = frozenset({"user", "key", "sha256", "name", "team", "models", "roles", "limits", "expires"})
LONGEST_KEY = 512  # characters, as the authenticator reads them
_SHOWN = 10  # mistakes

_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class _Wrong(Exception):
    """A line that cannot be imported."""


def read_keys(text: str, context: Context) -> list[Key]:
    """The keys of a file. Raises CommandError that tells every line that is wrong."""
    keys: list[Key] = []
    wrong: list[str] = []
    digests: dict[bytes, int] = {}
    for line, fields in _lines(text):
        try:
            key = _key(fields, context)
        except (_Wrong, CommandError) as error:
            wrong.append(f"line {line}: {error}")
            continue
        if key.digest in digests:
            wrong.append(f"line {line}: the same key as in line {digests[key.digest]}")
        digests[key.digest] = line
        keys.append(key)
    if wrong:
        more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        raise CommandError("\n  ".join(["nothing was imported:", *wrong[:_SHOWN], *more]))
    return keys


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    if text.lstrip().startswith("{"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError:
                    yield number, "this is not JSON"
        return
    reader = csv.DictReader(io.StringIO(text))
    for row in reader:
        fields = {name: value for name, value in row.items() if value != ""}
        for name in ("models", "roles", "limits"):
            if isinstance(fields.get(name), str):
                fields[name] = fields[name].split()
        yield reader.line_num, fields


def _key(fields: Any, context: Context) -> Key:
    if not isinstance(fields, Mapping):
        raise _Wrong(fields if isinstance(fields, str) else "this is not an object")
    unknown = {str(name) for name in fields} - FIELDS
    if unknown:
        raise _Wrong(f"fields are {', '.join(sorted(FIELDS))}; there is one more")
    secret, hashed = _text(fields, "key"), _text(fields, "sha256")
    if (secret is None) == (hashed is None):
        raise _Wrong("either `key` or `sha256` is needed")
    user = _text(fields, "user")
    if user is None:
        raise _Wrong("`user` is needed")
    expires = _text(fields, "expires")
    models = _list(fields, "models")
    team_name = _text(fields, "team")
    return Key(
        id=new_id(),
        digest=_digest(secret, hashed),
        display=display(secret) if secret is not None else "imported",
        user=values.name(user, "user"),
        name=_text(fields, "name") or "",
        team=None if team_name is None else values.team(team_name),
        models=None if models is None else values.names(models, "model"),
        roles=values.names(_list(fields, "roles") or (), "role"),
        quotas=values.quotas(_list(fields, "limits") or (), context),
        created_at=context.now,
        expires_at=values.moment_ahead(expires, context.now, context.zone) if expires else None,
    )


def _digest(secret: str | None, hashed: str | None) -> bytes:
    if secret is not None:
        if not (
            8 <= len(secret) <= LONGEST_KEY
            and secret.isascii()
            and secret.isprintable()
            and " " not in secret
        ):
            raise _Wrong(f"`key` is 8 to {LONGEST_KEY} printable ASCII characters without spaces")
        return digest(secret)
    if hashed is None or not _SHA256.fullmatch(hashed):
        raise _Wrong("`sha256` is 64 hex digits")
    return bytes.fromhex(hashed)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise _Wrong(f"`{name}` is text")
    return value


def _list(fields: Mapping[str, Any], name: str) -> list[str] | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _Wrong(f"`{name}` is a list of texts")
    return value
