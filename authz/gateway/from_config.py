"""From `authz.yaml` to what a rendered gateway depends on."""

from authz.config import Config
from authz.config.authenticators import JwtAuthenticator
from authz.config.gateways import GatewayEntry
from authz.config.gateways import Tls as TlsEntry
from authz.config.network import Address as Listening
from authz.gateway.settings import (
    Address,
    AuthzTls,
    RenderSettings,
    Tls,
    TokenSource,
    UnusableSettings,
    Upstream,
    is_number,
)
from authz.request import GatewayKind

OWN_CERTIFICATE, OWN_KEY = "/etc/authz/tls/gateway.crt", "/etc/authz/tls/gateway.key"
"""Of a gateway that proves itself by a certificate, where its entry does not say."""

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def entry_name(config: Config, kind: str, name: str | None) -> str | None:
    """The gateway that is meant: the named one, else the only one of its kind; None where there is none.

    Raises UnusableSettings where that is not clear.
    """
    of_kind = [each for each, entry in config.gateways.items() if entry.kind.value == kind]
    if name is not None:
        if name not in config.gateways:
            known = ", ".join(config.gateways) or "none"
            raise UnusableSettings(f"there is no gateway {name!r}: `gateways` has {known}")
        if name not in of_kind:
            raise UnusableSettings(
                f"the gateway {name!r} is of kind {config.gateways[name].kind.value}, not {kind}"
            )
        return name
    if len(of_kind) > 1:
        raise UnusableSettings(f"there are several gateways of kind {kind}: choose {' or '.join(of_kind)}")
    return of_kind[0] if of_kind else None


def settings_for(config: Config, name: str | None, *, version: str | None = None) -> RenderSettings:
    """What the gateway's configuration depends on; without a name that of a gateway without an entry.

    Raises UnusableSettings, which says what to change in `authz.yaml`.
    """
    usual = RenderSettings()
    entry = config.gateways[name] if name is not None else None
    listen = entry.listen if entry is not None else None
    http, https = (listen.http, listen.https) if listen is not None else (None, None)
    return RenderSettings(
        name=name,
        server_name=entry.server_name if entry is not None else None,
        http=_address(http) if http is not None else usual.http,
        https=_address(https) if https is not None else usual.https,
        plain_http=http is not None and https is None,
        tls=_tls(entry.tls) if entry is not None and entry.tls is not None else usual.tls,
        upstreams=tuple(
            Upstream(each, backend.url, () if backend.models == "any" else tuple(backend.models))
            for each, backend in config.backends.items()
        )
        or usual.upstreams,
        authz_http=(_reached(config.decisions.http),),
        authz_grpc=(_reached(config.decisions.grpc),),
        authz_tls=_authz_tls(config, entry),
        token=_token(name, entry),
        own_request_ids=entry is not None and entry.request_id == "gateway",
        trusted_hops=tuple(map(str, (entry.trusted_hops if entry is not None else None) or ())),
        claim_headers=_further_headers(config),
        request_id_headers=tuple(
            dict.fromkeys(route.request_id.header for route in config.routes if route.request_id is not None)
        ),
        max_body=entry.max_body if entry is not None else usual.max_body,
        stream_timeout=-(-entry.stream_timeout // 1000) if entry is not None else usual.stream_timeout,
        log=_reached(entry.log) if entry is not None and entry.log is not None else None,
        lease_ms=entry.lease if entry is not None else usual.lease_ms,
        version=version,
    )


def _token(name: str | None, entry: GatewayEntry | None) -> TokenSource | None:
    if entry is None or entry.token is None:
        return None
    kind, _, place = entry.token.origin.partition(" ")
    if kind == "file":
        return TokenSource("file", place)
    if kind == "env":
        return TokenSource("env", place)
    raise UnusableSettings(
        f"the token of the gateway {name!r} stands in the config itself, where a gateway cannot read it: "
        "put it into a file and write `token: {file: PATH}`"
    )


def _authz_tls(config: Config, entry: GatewayEntry | None) -> AuthzTls | None:
    tls = config.decisions.tls
    if tls is None:
        return None
    name = tls.server_name or _host_name(config.decisions.http) or _host_name(config.decisions.grpc)
    if name is None:
        raise UnusableSettings(
            "decisions.tls has no `server_name`, and the address no host name: gateways cannot tell "
            "which name the certificate of authz must have"
        )
    mtls = entry.mtls if entry is not None else None
    if entry is not None and entry.kind is GatewayKind.ENVOY and tls.client_ca is not None and mtls is None:
        raise UnusableSettings(
            "Envoy asks over gRPC, where decisions.tls.client_ca keeps out whoever shows no certificate: "
            "give its entry `mtls`"
        )
    cert, key = (mtls.cert, mtls.key) if mtls is not None else (None, None)
    return AuthzTls(
        server_name=name,
        authority=str(tls.server_ca) if tls.server_ca is not None else None,
        certificate=None if mtls is None else str(cert or OWN_CERTIFICATE),
        key=None if mtls is None else str(key or OWN_KEY),
    )


def _host_name(listening: Listening) -> str | None:
    return None if is_number(listening.host) else listening.host


def _further_headers(config: Config) -> tuple[str, ...]:
    """What authz sets or takes off besides identity and Authorization: claims, backends' keys, wishes."""
    headers = [
        header
        for authenticator in config.authenticators.values()
        if isinstance(authenticator, JwtAuthenticator)
        for header in authenticator.claim_headers.values()
    ]
    headers += [backend.header for backend in config.backends.values() if backend.header != "authorization"]
    for route in config.routes:
        if route.request_id is not None:
            headers.append(route.request_id.header)
        wished = route.preferences
        named = (wished.header, wished.model_header, wished.target_header) if wished is not None else ()
        headers += [name for name in named if name is not None]
    return tuple(dict.fromkeys(headers))


def _tls(tls: TlsEntry) -> Tls:
    return Tls(str(tls.cert), str(tls.key), str(tls.client_ca) if tls.client_ca is not None else None)


def _address(listening: Listening) -> Address:
    return Address(listening.host, listening.port)


def _reached(listening: Listening) -> Address:
    """How a gateway on the same machine reaches what listens there."""
    return Address(_ANY.get(listening.host, listening.host), listening.port)
