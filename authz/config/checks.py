"""Checks that look at the whole config: mistakes that no section can see by itself."""

from collections.abc import Iterator

from authz.config.admissions import admissions
from authz.config.credential_slots import counted_credentials
from authz.config.findings import Finding
from authz.config.fineness import fine_buckets
from authz.config.model import Config
from authz.config.network import Address
from authz.config.secret import SHORTEST_TOKEN, Secret
from authz.config.yaml_source import DataPath, Source

_OURS: tuple[DataPath, ...] = (("decisions", "http"), ("decisions", "grpc"), ("admin", "listen"))
_OTHER: DataPath = ("decisions", "grpc_other")  # may be taken, unless somebody asked for it: not served then


def checks(config: Config, source: Source) -> Iterator[Finding]:
    """Mistakes. The config may lack entries that have mistakes of their own."""
    yield from _same_address(config)
    yield from _same_token(config)
    yield from _certificates(config, source)
    yield from _unproven_gateways(config, source)
    yield from _short_tokens(config)
    yield from counted_credentials(config)
    yield from admissions(config)
    yield from fine_buckets(config)


def _same_address(config: Config) -> Iterator[Finding]:
    addresses: list[tuple[DataPath, Address]] = [
        (_OURS[0], config.decisions.http),
        (_OURS[1], config.decisions.grpc),
        (_OURS[2], config.admin.listen),
    ]
    other = config.decisions.grpc_other
    if other is not None and "grpc_other" in config.decisions.model_fields_set:
        addresses.append((_OTHER, other))
    for name, gateway in config.gateways.items():
        for key in ("http", "https"):
            address = getattr(gateway.listen, key)
            if address is not None:
                addresses.append((("gateways", name, "listen", key), address))
    taken: dict[Address, DataPath] = {}
    for path, address in addresses:
        if address.port == 0:
            continue
        first = taken.setdefault(address, path)
        # Two gateways may be on two machines; nobody shares an address with authz itself.
        if first is not path and (first in (*_OURS, _OTHER) or first[1] == path[1]):
            yield Finding(path, f"{address} is taken by `{'.'.join(map(str, first))}`")


def _tokens(config: Config) -> Iterator[tuple[DataPath, Secret]]:
    for name, gateway in config.gateways.items():
        if gateway.token is not None:
            yield ("gateways", name, "token"), gateway.token
    if config.admin.token is not None:
        yield ("admin", "token"), config.admin.token
    for name, token in config.admin.tokens.items():
        yield ("admin", "tokens", name), token.secret


def _same_token(config: Config) -> Iterator[Finding]:
    """A token says who presents it, so no two may be equal."""
    first: dict[str, DataPath] = {}
    for path, token in _tokens(config):
        if token.present and first.setdefault(token.reveal(), path) is not path:
            other = ".".join(map(str, first[token.reveal()]))
            yield Finding(path, f"this is the same token as `{other}`; each needs its own")


def _certificates(config: Config, source: Source) -> Iterator[Finding]:
    """A certificate says who presents it, so no two gateways may be proven by the same."""
    # As written, so that a mistake elsewhere in `decisions` is not told twice.
    authority = source.at(("decisions", "tls", "client_ca"))
    first: dict[str, DataPath] = {}
    for name, gateway in config.gateways.items():
        if gateway.mtls is None:
            continue
        path: DataPath = ("gateways", name, "mtls")
        if authority is None:
            message = "`mtls` needs `decisions: {tls: {cert: ..., key: ..., client_ca: ...}}`"
            yield Finding(path, message, on="key")
        for key in ("subjects", "fingerprints"):
            for index, shown in enumerate(getattr(gateway.mtls, key) or ()):
                place = (*path, key, index)
                if first.setdefault(shown.lower(), place) is not place:
                    other = ".".join(map(str, first[shown.lower()][:2]))
                    yield Finding(
                        place, f"this proves `{other}` too; each gateway needs a certificate of its own"
                    )


def _open_listener(config: Config) -> tuple[str, Address] | None:
    """The first of `decisions` that others than this machine reach."""
    listeners = (("http", config.decisions.http), ("grpc", config.decisions.grpc))
    return next((listener for listener in listeners if not listener[1].loopback), None)


def _short_tokens(config: Config) -> Iterator[Finding]:
    """Off loopback anybody may guess; on it this is a warning."""
    listener = _open_listener(config)
    for name, gateway in config.gateways.items() if listener is not None else ():
        token = gateway.token
        if token is not None and token.present and len(token.reveal()) < SHORTEST_TOKEN:
            message = (
                f"a token of less than {SHORTEST_TOKEN} characters, and decisions do not listen on loopback; "
                "make one with `openssl rand -hex 32`"
            )
            yield Finding(("gateways", name, "token"), message)


def _unproven_gateways(config: Config, source: Source) -> Iterator[Finding]:
    """Off loopback a gateway without token or certificate could be anybody (refuse to start)."""
    listener = _open_listener(config)
    if listener is None:
        return
    key, address = listener
    # As written, so that a gateway with some other mistake is looked at too.
    gateways = source.at(("gateways",))
    if not gateways:
        message = f"{address} is not loopback, and no gateway proves itself by `token` or `mtls`"
        yield Finding(("decisions", key), message)
    for name, gateway in gateways.items() if isinstance(gateways, dict) else ():
        if isinstance(gateway, dict) and not {"token", "mtls"} & gateway.keys():
            message = f"`{name}` needs `token` or `mtls`: decisions listen on {address}, not on loopback"
            yield Finding(("gateways", name), message, on="key")
