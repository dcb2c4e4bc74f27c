"""What transports are told of the configuration: who may ask, who reports by a log, and how they connect."""

from authz.config.gateways import GatewayEntry as ConfiguredGateway
from authz.config.model import Config
from authz.request import MAX_BODY, Gateway
from authz.transport.caddy_log import PATIENCE, LoggingGateway
from authz.transport.gateways import GatewayEntry, GatewayRegistry
from authz.transport.tls import TlsFiles, seal_key


def registry_of(config: Config) -> GatewayRegistry:
    """The gateways that may prove themselves."""
    return GatewayRegistry(_entry(config, name, entry) for name, entry in config.gateways.items())


def _entry(config: Config, name: str, entry: ConfiguredGateway) -> GatewayEntry:
    mtls = entry.mtls
    return GatewayEntry(
        name=name,
        kind=entry.kind,
        token_digest=entry.token.digest if entry.token is not None else None,
        subjects=tuple((mtls.subjects if mtls is not None else None) or ()),
        fingerprints=tuple((mtls.fingerprints if mtls is not None else None) or ()),
        networks=tuple(entry.from_ or ()),
        trusted_hops=tuple(entry.trusted_hops or ()),
        request_id_is_ours=entry.request_id == "gateway",
        stream_timeout_ms=entry.stream_timeout,
        seal_key=_seal_key(config, entry) if entry.log is not None else None,
    )


def logging_gateways(config: Config) -> tuple[LoggingGateway, ...]:
    """The gateways that report by their log."""
    return tuple(
        LoggingGateway(
            Gateway(name=name, kind=entry.kind, proven=True, stream_timeout_ms=entry.stream_timeout),
            key=key,
            listen=str(entry.log),
            waits=PATIENCE if entry.usage == "backend" else 0.0,
        )
        for name, entry in config.gateways.items()
        if entry.log is not None and (key := _seal_key(config, entry)) is not None
    )


def tls_files(config: Config) -> TlsFiles | None:
    """Of the decisions addresses; None where they speak plainly."""
    tls = config.decisions.tls
    return TlsFiles(cert=tls.cert, key=tls.key, client_ca=tls.client_ca) if tls is not None else None


def largest_body(config: Config) -> int:
    """The most that any gateway hands over, in bytes."""
    return max((entry.max_body for entry in config.gateways.values()), default=MAX_BODY)


def addresses(config: Config) -> tuple[object, ...]:
    """What of the decisions addresses cannot change while they are open."""
    files = tls_files(config)
    demands = files is not None and files.client_ca is not None
    decisions = config.decisions
    return decisions.http, decisions.grpc, decisions.grpc_other, files is not None, demands


def _seal_key(config: Config, entry: ConfiguredGateway) -> bytes | None:
    """What seals the lines of a gateway's log: a secret of its own, or of ours where it has none."""
    if entry.token is not None:
        return entry.token.digest
    files = tls_files(config)
    return seal_key(files) if entry.mtls is not None and files is not None else None
