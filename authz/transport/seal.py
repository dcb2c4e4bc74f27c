"""What a line of a gateway's log proves itself by: a seal that authz gave with the reservation.

A log goes to more places than one, and where its reader is away Caddy writes it to standard error.
So it carries no token: a seal that leaks is good for one reservation, which is settled once.
"""

import hmac

_PURPOSE = b"log of a gateway\0"
_BYTES = 16


def seal(key: bytes, reservation: str) -> str:
    """Of a reservation, in hex. `key` is the SHA-256 of the gateway's token."""
    return hmac.digest(key, _PURPOSE + reservation.encode(), "sha256")[:_BYTES].hex()


def is_seal(text: str, key: bytes, reservation: str) -> bool:
    """Whether the text is the seal of that reservation. Takes as long for any text of its length."""
    return hmac.compare_digest(text.encode(), seal(key, reservation).encode())
