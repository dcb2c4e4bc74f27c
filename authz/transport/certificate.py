"""Client certificates as the gateways spell them, all turned into the same PEM.

Only a proven gateway is believed; whether the certificate is acceptable is for
the authenticator to say.
"""

import re
from base64 import b64decode
from functools import lru_cache
from ssl import DER_cert_to_PEM_cert
from urllib.parse import unquote

LONGEST = 65536
_SMALLEST_DER = 128
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END CERTIFICATE-----")
_FORWARDED = re.compile(r'(?:[A-Za-z]+=(?:"[^"\\]*"|[^",;\\]*))(?:;[A-Za-z]+=(?:"[^"\\]*"|[^",;\\]*))*')
_CERT = re.compile(r'(?:^|;)Cert="([^"\\]*)"', re.IGNORECASE)


@lru_cache(maxsize=512)
def from_escaped_pem(text: str) -> str | None:
    """URL-encoded PEM (Envoy's source.certificate, nginx's $ssl_client_escaped_cert): its first block."""
    if len(text) > LONGEST:
        return None
    block = _BLOCK.match(unquote(text).strip())
    return _pem("".join(block[1].split())) if block is not None else None


@lru_cache(maxsize=512)
def from_base64(text: str) -> str | None:
    """Base64 DER (Caddy), or several separated by commas, the client's own first (Traefik)."""
    return _pem(text.partition(",")[0].strip()) if len(text) <= LONGEST else None


@lru_cache(maxsize=512)
def from_forwarded(text: str) -> str | None:
    """The `Cert` of Envoy's `x-forwarded-client-cert`; one element with one certificate only (attack 44)."""
    if len(text) > LONGEST or _FORWARDED.fullmatch(text) is None:
        return None
    certificates = _CERT.findall(text)
    return from_escaped_pem(certificates[0]) if len(certificates) == 1 else None


def _pem(base64: str) -> str | None:
    try:
        der = b64decode(base64, validate=True)
    except ValueError:
        return None
    return DER_cert_to_PEM_cert(der) if len(der) >= _SMALLEST_DER and der[0] == 0x30 else None
