"""TLS of the addresses where decisions are asked for: our own certificate, and who signs those of gateways.

A new certificate is taken up without a restart, for every handshake from then on.
"""

import ssl
from hashlib import sha256
from pathlib import Path

from msgspec import Struct


class TlsFiles(Struct, frozen=True):
    """PEM files."""

    cert: Path  # chain, the own certificate first
    key: Path
    client_ca: Path | None = None


class ServerTls:
    """TLS of every server. Over HTTP a client certificate may be shown, over gRPC it must be.

    Health checks and gateways with a token speak HTTP without one. grpcio can only demand a certificate
    or not ask for any (`ssl_server_credentials`), and a gateway cannot see which server it is that answers.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Raises OSError (`ssl.SSLError` is one) where the files cannot be used."""
        self.files = files
        self.http = _context(files, "http/1.1")
        self.grpc = _context(files, "h2")
        if files.client_ca is not None:
            self.grpc.verify_mode = ssl.CERT_REQUIRED
        self.shown = _pair(files)
        """Key, chain and authority in PEM, as they are in force."""

    def renew(self, files: TlsFiles) -> None:
        """Show another certificate from now on. Raises OSError, and then all stays as it was.

        An authority is only ever added: whoever is to lose trust loses it by a restart.
        """
        _context(files, "h2")  # what cannot be loaded must not take half of it away
        pair = _pair(files)
        for context in (self.http, self.grpc):
            context.load_cert_chain(files.cert, files.key)
            if files.client_ca is not None:
                context.load_verify_locations(files.client_ca)
        self.shown, self.files = pair, files


def seal_key(files: TlsFiles) -> bytes:
    """What seals the log of a gateway without a token. Who does not have our private key does not know it."""
    return sha256(b"log of a gateway\0" + files.key.read_bytes()).digest()


def _context(files: TlsFiles, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.cert, files.key, password=_none)
    context.set_alpn_protocols([protocol])
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _none() -> str:
    """An encrypted key: OpenSSL would ask for its password on the terminal."""
    return ""


def _pair(files: TlsFiles) -> tuple[bytes, bytes, bytes | None]:
    authority = files.client_ca.read_bytes() if files.client_ca is not None else None
    return files.key.read_bytes(), files.cert.read_bytes(), authority
