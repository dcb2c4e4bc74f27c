"""An identity provider that publishes its keys (RFC 7517) and may change them."""

import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.seeds.takeoff import b64, unsigned
from tests.support.any_server import Answer, AnyServer, Received

ISSUER = "https://idp.test"


class IdentityProvider(AnyServer):
    """A context manager; its key set is at every path."""

    def __init__(self) -> None:
        super().__init__(answer=self._publish)
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate("first")

    def _publish(self, _: Received) -> Answer:
        keys = []
        for kid, key in self._keys.items():
            numbers = key.public_key().public_numbers()
            n, e = (b64(each.to_bytes(-(-each.bit_length() // 8))) for each in (numbers.n, numbers.e))
            keys.append({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": n, "e": e})
        return Answer(pieces=(json.dumps({"keys": keys}).encode(),))

    def rotate(self, kid: str) -> None:
        """Publish a new key beside those before."""
        self._keys[kid] = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def public_pem(self, kid: str) -> bytes:
        return self._keys[kid].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def token(self, kid: str = "first", **more: Any) -> str:
        """A token of alice for `llm`, good for an hour."""
        now = int(time.time())
        own = {"iss": ISSUER, "aud": "llm", "sub": "alice", "iat": now, "exp": now + 3600}
        text = unsigned({"alg": "RS256", "typ": "JWT", "kid": kid}, own | more)
        signature = self._keys[kid].sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{b64(signature)}"
