"""The config that `authz up` writes on its first run, and the few values that it sets again on later ones.

Everything else in the file is the operator's, comments included.
"""

import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

GATEWAY = "envoy"
BACKEND = "upstream"
TOKEN_FILE = "gateway.token"  # noqa: S105  (a name, not a token)

_TEXT = """\
# Written by `authz up`, and yours to change: it is kept. On every start `authz up` sets again
# - gateways.envoy.listen.http from --port,
# - backends.upstream.url from --upstream,
# - the models without settings of their own from what the upstream lists at /v1/models, and their context.
# `authz config schema` describes every key; `authz config validate` checks the file.
store: sqlite:authz.db

decisions:
  http: 127.0.0.1:9000
  grpc: 127.0.0.1:9001
  grpc_other: 127.0.0.1:9003

admin:
  listen: 127.0.0.1:9002

gateways:
  envoy:
    kind: envoy
    token: {file: gateway.token}
    request_id: gateway
    listen:
      http: 127.0.0.1:8080

authenticators:
  keys: {type: api_key}

# What requests may ask for. Settings: context, max_output, price, access.
models: {}

backends:
  upstream:
    url: http://127.0.0.1:8000
    models: any

routes:
  - name: models
    match: {methods: [GET], paths: [/v1/models]}
    authenticate: {any_of: [keys]}
    authorize:
      - models: allowed
    limits: [key-rpm]

  - name: inference
    match: {api: [openai, anthropic]}
    authenticate: {any_of: [keys]}
    authorize:
      - models: allowed
    limits: [key-rpm, key-concurrency]

limits:
  key-rpm: {unit: requests, quota: 6000, window: 1m, partition_by: [key]}
  key-concurrency: {unit: concurrency, quota: 256, partition_by: [key]}

rate_headers: always
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a start asks of the config. None leaves what is there."""

    listen: str | None = None  # of the gateway, host:port
    upstream: str | None = None  # scheme, host and port
    models: Sequence[str] | None = None  # those that the upstream lists
    contexts: Mapping[str, int] = field(default_factory=dict)  # their tokens, where it tells


class NotOurs(Exception):
    """The file is there and lacks what `authz up` needs. Says what."""


def keep(directory: Path, wanted: Wanted, ports: Mapping[str, int]) -> Path:
    """Write `authz.yaml` if it is missing, set what is wanted, and return its path.

    `ports` are those of `decisions.http`, `decisions.grpc`, `decisions.grpc_other` and `admin.listen` in a
    new file. Raises NotOurs and OSError; the file is replaced whole or not at all.
    """
    path = directory / "authz.yaml"
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    is_new = not path.exists()
    data = yaml.load(_TEXT if is_new else path.read_text())
    if is_new:
        for place, port in ports.items():
            section, key = place.split(".")
            data[section][key] = f"127.0.0.1:{port}"
    before = _dump(yaml, data)
    _set(data, wanted, path)
    text = _dump(yaml, data)
    if is_new or text != before:
        _replace(path, text)
    _token(directory / TOKEN_FILE)
    return path


def _set(data: Any, wanted: Wanted, path: Path) -> None:
    try:
        if wanted.listen is not None:
            data["gateways"][GATEWAY].setdefault("listen", {})["http"] = wanted.listen
        if wanted.upstream is not None:
            data["backends"][BACKEND]["url"] = wanted.upstream
        if wanted.models is not None:
            _set_models(data, wanted.models, wanted.contexts)
    except (KeyError, TypeError, AttributeError):
        raise NotOurs(
            f"{path} has no `gateways.{GATEWAY}` or `backends.{BACKEND}`, which `authz up` works with; "
            "put them back, or choose another directory with --dir"
        ) from None


def _set_models(data: Any, served: Sequence[str], contexts: Mapping[str, int]) -> None:
    """Those with settings of their own are the operator's; of the others there are as many as are served."""
    models = data.setdefault("models", {})
    ours = [name for name, settings in models.items() if not settings or settings.keys() == {"context"}]
    for name in ours:
        if name not in served:
            del models[name]
    for name in served:
        if name not in models and models.fa.flow_style() and not models:
            models.fa.set_block_style()
        if name not in models or (name in contexts and not models[name]):
            settings = models[name] = CommentedMap({"context": contexts[name]} if name in contexts else {})
            settings.fa.set_flow_style()


def _dump(yaml: YAML, data: Any) -> str:
    stream = StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def _replace(path: Path, text: str) -> None:
    """The mode is the old file's: it may hold secrets, and who may read them is for the operator to say."""
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    fresh = path.with_suffix(".yaml.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, mode)
        stream.write(text)
    fresh.replace(path)


def _token(path: Path) -> None:
    """The gateway's token, readable to us alone."""
    if path.exists():
        return
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secrets.token_urlsafe(32) + "\n")
