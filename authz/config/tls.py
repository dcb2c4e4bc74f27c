"""`decisions.tls:` and `gateways.NAME.mtls:` TLS between gateways and authz."""

import re
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from authz.config.base import Section, Wrong, context
from authz.config.network import ServerName
from authz.config.words import FilePath, Some, Word, text_of


class DecisionsTls(Section):
    """TLS of both decisions addresses."""

    cert: FilePath
    """Certificate chain of authz in PEM."""

    key: FilePath
    """Its private key in PEM, without a password."""

    client_ca: FilePath | None = None
    """Authority in PEM that signed gateways' certificates. Over gRPC everybody must then show one."""

    server_ca: FilePath | None = None
    """Authority in PEM by which rendered gateways check `cert`. Left out: those of their system."""

    server_name: ServerName | None = None
    """Name in `cert` for which rendered gateways look. Left out: the host of the address."""

    @model_validator(mode="after")
    def _usable(self, info: ValidationInfo) -> "DecisionsTls":
        load = context(info)
        read = [path for path in (self.cert, self.key, self.client_ca) if path is not None]
        load.files.update(read)
        if load.secrets_required:
            _check_authority(self.client_ca)
            _check_pair(self.cert, self.key)
        return self


def _check_pair(cert: Path, key: Path) -> None:
    for at, path in (("cert", cert), ("key", key)):
        _check_file(path, at)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, ValueError):
        message = f"{cert} and {key} are not a certificate in PEM and the key that belongs to it"
        raise Wrong(message, at=("cert",)) from None


def _check_authority(path: Path | None) -> None:
    if path is None:
        return
    _check_file(path, "client_ca")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        raise Wrong(f"{path} holds no certificate in PEM", at=("client_ca",)) from None


def _check_file(path: Path, at: str) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise Wrong(f"{path} cannot be read: {error.strerror}", at=(at,)) from None


def _no_password() -> str:
    """OpenSSL would ask for one on the terminal."""
    return ""


_HEX = re.compile(r"[0-9a-f]{64}")


def _fingerprint(value: Any) -> str:
    text = text_of(value, "a fingerprint").replace(":", "").lower()
    if not _HEX.fullmatch(text):
        raise Wrong(
            "a fingerprint is SHA-256 in hex, as `openssl x509 -noout -fingerprint -sha256` prints it"
        )
    return text


Fingerprint = Annotated[
    str,
    PlainValidator(_fingerprint),
    WithJsonSchema({"type": "string", "pattern": "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$"}),
]


class Mtls(Section):
    """Proof by a client certificate instead of a token: one with one of the names or fingerprints."""

    subjects: Some[Word] | None = None
    """Names: a URI or DNS name of the certificate, or its common name where it has neither."""

    fingerprints: Some[Fingerprint] | None = None
    """SHA-256 of whole certificates, in hex."""

    cert: FilePath | None = None
    """The gateway's certificate in PEM, as the rendered gateway reads it; `authz ledger replay` too."""

    key: FilePath | None = None
    """Its private key in PEM."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if not {"subjects", "fingerprints"} & data.keys():
            yield Wrong("missing key `subjects` or `fingerprints`: whose certificate it is", on_key=True)
        if ("cert" in data) != ("key" in data):
            missing, there = ("key", "cert") if "cert" in data else ("cert", "key")
            yield Wrong(f"missing key `{missing}`: `{there}` needs it", on_key=True)
