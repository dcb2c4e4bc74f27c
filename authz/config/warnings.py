"""What a valid config may not mean: worth a look, no reason to refuse."""

from collections.abc import Iterator

from authz.config.admin import AdminToken
from authz.config.authenticators import JwtAuthenticator
from authz.config.credentials import BasicAuthenticator
from authz.config.findings import Finding
from authz.config.model import Config
from authz.config.secret import SHORTEST_TOKEN, Secret
from authz.config.shape import walk
from authz.config.store import Store
from authz.config.yaml_source import DataPath
from authz.limit.admission import Admission
from authz.quota import Algorithm, Unit
from authz.request import GatewayKind

_CONTAINER_SECRETS = (
    "file /run/secrets/"  # container runtimes mount these readable by all, into one container
)


def warnings(config: Config) -> Iterator[Finding]:
    """In no order."""
    yield from _secrets(config)
    yield from _private_key(config)
    yield from _kept_out(config)
    yield from _closed_admin(config)
    yield from _unused(config)
    yield from _shadowed_routes(config)
    yield from _loose_tokens(config)
    yield from _served_twice(config)
    yield from _idle_keys(config)
    yield from _unread_key_sources(config)
    yield from _slots_without_an_end(config)
    yield from _admissions(config)
    yield from _password_files(config)
    yield from _wishes(config)


def _secrets(config: Config) -> Iterator[Finding]:
    for path, value in walk(config):
        secret = value.secret if isinstance(value, AdminToken | Store) else value
        if not isinstance(secret, Secret) or not secret.present:
            continue
        if secret.origin == "literal":
            yield Finding(
                path, "a secret stands in the file itself; write {env: NAME} or {file: PATH} instead"
            )
        elif (
            secret.mode is not None
            and secret.mode & 0o077
            and not secret.origin.startswith(_CONTAINER_SECRETS)
        ):
            yield Finding(path, f"others can read the secret's file (mode {secret.mode:04o}); chmod 600 it")
        is_token = path[-1] == "token" or isinstance(value, AdminToken) or path[2:3] == ("secrets",)
        if is_token and len(secret.reveal()) < SHORTEST_TOKEN:
            yield Finding(
                path,
                f"a token of less than {SHORTEST_TOKEN} characters; make one with `openssl rand -hex 32`",
            )


def _private_key(config: Config) -> Iterator[Finding]:
    tls = config.decisions.tls
    if tls is None:
        return
    try:
        mode = tls.key.stat().st_mode & 0o777
    except OSError:
        return  # a command that needs no secret
    if mode & 0o077 and not f"file {tls.key}".startswith(_CONTAINER_SECRETS):
        message = f"others can read the private key (mode {mode:04o}); chmod 600 it"
        yield Finding(("decisions", "tls", "key"), message)


def _kept_out(config: Config) -> Iterator[Finding]:
    tls = config.decisions.tls
    for name, gateway in config.gateways.items() if tls is not None and tls.client_ca is not None else ():
        if gateway.kind is GatewayKind.ENVOY and gateway.mtls is None:
            message = (
                "Envoy asks over gRPC, where `decisions.tls.client_ca` keeps out whoever shows no "
                "certificate: give it `mtls`"
            )
            yield Finding(("gateways", name), message, on="key")


def _closed_admin(config: Config) -> Iterator[Finding]:
    admin = config.admin
    if not admin.listen.loopback and admin.token is None and not admin.tokens:
        message = "`admin` has no `token`: every admin call but /livez and /readyz is refused"
        yield Finding(("admin", "listen"), message)


def _unused(config: Config) -> Iterator[Finding]:
    limits = {name for route in config.routes for name in route.limits}
    authenticators = {name for route in config.routes for name in route.authenticate.names}
    for name in config.limits.keys() - limits:
        yield Finding(("limits", name), f"no route uses the limit `{name}`", on="key")
    for name in config.authenticators.keys() - authenticators:
        yield Finding(("authenticators", name), f"no route uses the authenticator `{name}`", on="key")
    if not config.routes:
        yield Finding((), "there are no routes, so every request is refused")


def _shadowed_routes(config: Config) -> Iterator[Finding]:
    for index, route in enumerate(config.routes):
        for earlier in config.routes[:index]:
            if earlier.match == route.match:
                message = f"never reached: the route `{earlier.name}` matches the very same requests first"
                yield Finding(("routes", index, "match"), message, on="key")
                break


_LOOSE = {
    "issuers": "any token that the provider's keys sign is accepted, whoever issued it",
    "audiences": "a token that names one is refused, and one that names none is accepted, whatever it is for",
}


def _loose_tokens(config: Config) -> Iterator[Finding]:
    for name, entry in config.authenticators.items():
        if not isinstance(entry, JwtAuthenticator):
            continue
        path: DataPath = ("authenticators", name)
        if entry.sign_key is None:
            for key, said in (("issuers", entry.issuers), ("audiences", entry.audiences)):
                if said is None:
                    message = f"without `{key}` {_LOOSE[key]}"
                    yield Finding(path, message, on="key")
        for key, url in (("discovery", entry.discovery), ("jwks_url", entry.jwks_url)):
            if url is not None and url.startswith("http:"):
                yield Finding((*path, key), "over plain http anybody on the way can replace the signing keys")


def _served_twice(config: Config) -> Iterator[Finding]:
    first: dict[str, str] = {}
    wished = {
        name
        for route in config.routes
        if route.preferences is not None
        for name in (route.preferences.targets or {}).values()
    }
    for name, backend in config.backends.items():
        for model in config.models if backend.models == "any" else backend.models:
            if name in wished:  # clients choose it themselves
                first.setdefault(model, name)
            elif first.setdefault(model, name) != name:
                message = f"`{model}` is served by `{first[model]}`, which comes first"
                yield Finding(("backends", name, "models"), message)
    if config.backends and not any(backend.models == "any" for backend in config.backends.values()):
        for model in config.models.keys() - first.keys():
            yield Finding(("models", model), f"no backend serves `{model}`", on="key")


def _idle_keys(config: Config) -> Iterator[Finding]:
    for name, limit in config.limits.items():
        for key in ("timezone", "week_start"):
            if getattr(limit, key) is not None and limit.window.algorithm is not Algorithm.CALENDAR:
                yield Finding(
                    ("limits", name, key),
                    f"`{key}` has no effect: this window is not day, week or month",
                    on="key",
                )
    for name, gateway in config.gateways.items():
        if gateway.tls is not None and gateway.listen.https is None:
            yield Finding(
                ("gateways", name, "tls"), "`tls` has no effect without `listen: {https: ...}`", on="key"
            )


def _unread_key_sources(config: Config) -> Iterator[Finding]:
    for name, entry in config.authenticators.items():
        if isinstance(entry, JwtAuthenticator) and entry.sign_key is not None:
            for key in ("jwks_url", "discovery"):
                if getattr(entry, key) is not None:
                    message = f"`{key}` is not used: `sign_key` says where the signing key is"
                    yield Finding(("authenticators", name, key), message, on="key")


def _slots_without_an_end(config: Config) -> Iterator[Finding]:
    silent = [name for name, entry in config.gateways.items() if entry.token is None and entry.mtls is None]
    if not silent:
        return
    for name, limit in config.limits.items():
        if limit.unit is Unit.CONCURRENCY:
            message = (
                f"the gateway `{silent[0]}` proves nothing, so it cannot tell when a request ends: "
                "each keeps its slot for the gateway's whole `stream_timeout`"
            )
            yield Finding(("limits", name), message, on="key")


def _admissions(config: Config) -> Iterator[Finding]:
    places: list[tuple[DataPath, Admission | None]] = [
        (("models", name, "admission"), model.admission) for name, model in config.models.items()
    ]
    places += [(("routes", index, "admission"), route.admission) for index, route in enumerate(config.routes)]
    caddy = [name for name, gateway in config.gateways.items() if gateway.kind is GatewayKind.CADDY]
    for path, admission in places:
        if admission == "learned":
            message = "requests may use more than is held for them: limits of tokens and cost can be overrun"
            yield Finding(path, message)
        elif admission == "fitted" and caddy:
            message = f"the gateway `{caddy[0]}` cannot change bodies: behind it the worst case is held"
            yield Finding(path, message)


def _wishes(config: Config) -> Iterator[Finding]:
    only_envoy = [name for name, gateway in config.gateways.items() if gateway.kind is not GatewayKind.ENVOY]
    neither = [name for name in only_envoy if config.gateways[name].kind is not GatewayKind.TRAEFIK]
    for index, route in enumerate(config.routes):
        for key, others in (("timeout", neither), ("max_retries", only_envoy), ("hedge_delay", only_envoy)):
            if others and getattr(route.preferences, key, None) is not None:
                message = f"behind the gateway `{others[0]}` this has no effect: it cannot do that"
                yield Finding(("routes", index, "preferences", key), message, on="key")


def _password_files(config: Config) -> Iterator[Finding]:
    for name, entry in config.authenticators.items():
        if not isinstance(entry, BasicAuthenticator) or not entry.htpasswd.present:
            continue
        users, path = entry.users(), ("authenticators", name, "htpasswd")
        for line in users.ignored:
            yield Finding(path, f"line {line.number} lets nobody in: it {line.text}")
        quick = [user for user, hashed in users.hashes.items() if hashed.startswith("{SHA}")]
        if quick:
            others = f" and {len(quick) - 1} more" if len(quick) > 1 else ""
            message = (
                f"the {{SHA}} hash of {quick[0]}{others} is quick to guess by; make one with `htpasswd -nB`"
            )
            yield Finding(path, message)
