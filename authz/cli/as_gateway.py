"""How a command speaks to the running service in the name of a gateway, with that gateway's proof."""

import socket
import ssl
from http.client import HTTPConnection

from authz.cli.context import Context
from authz.cli.errors import CommandError
from authz.config import SecretMissing
from authz.config.gateways import GatewayEntry
from authz.config.tls import DecisionsTls
from authz.gateway.preflight import reached

_TIMEOUT = 30.0


class _Secured(HTTPConnection):
    """HTTPS to an address, where the certificate has a name of its own."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=_TIMEOUT)
        self._context = context
        self._name = name

    def connect(self) -> None:
        super().connect()
        self.sock: socket.socket = self._context.wrap_socket(self.sock, server_hostname=self._name)


def connection_to(at: Context, gateway: str) -> HTTPConnection:
    """To the decisions address over HTTP; opened with the first request. Raises CommandError."""
    entry, tls = at.config.gateways[gateway], at.config.decisions.tls
    address = reached(at.config.decisions.http)
    if tls is None:
        return HTTPConnection(address.host, address.port, timeout=_TIMEOUT)
    try:
        return _Secured(address.host, address.port, _context(entry, tls), tls.server_name or address.host)
    except OSError as error:
        raise CommandError(
            f"the TLS files of the gateway {gateway!r} cannot be used: {error}.",
            hint=f"It takes decisions.tls.server_ca, and gateways.{gateway}.mtls.cert and key, in {at.path}.",
        ) from None


def proof_headers(at: Context, gateway: str) -> dict[str, str]:
    """What the gateway shows with each request. Raises CommandError where it has nothing to show."""
    entry = at.config.gateways[gateway]
    if entry.token is not None:
        try:
            return {"x-authz-gateway-token": entry.token.reveal()}
        except SecretMissing as error:
            raise CommandError(f"{error}.", hint="It has to be readable where this command runs.") from None
    if entry.mtls is None:
        raise CommandError(
            f"the gateway {gateway!r} has no token, and without one nothing that it says is believed.",
            hint=f"Set gateways.{gateway}.token in {at.path}.",
        )
    if entry.mtls.cert is None:
        raise CommandError(
            f"the gateway {gateway!r} proves itself by a certificate, and the config does not say by which.",
            hint=f"Set gateways.{gateway}.mtls.cert and key in {at.path}.",
        )
    return {}


def _context(entry: GatewayEntry, tls: DecisionsTls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.server_ca) if tls.server_ca is not None else None)
    if entry.mtls is not None and entry.mtls.cert is not None:
        context.load_cert_chain(entry.mtls.cert, entry.mtls.key)
    return context
