"""The signature algorithms, and keys that fit them (RFC 7518, RFC 8037, RFC 8812).

The primitives are PyJWT's. What it leaves to its callers is done here: a key is
bound to its algorithms when it is read, so that neither a token nor a mixed key
set can make a key serve another (attacks 47, 48, 52, 54, 55, 67).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from authz.authenticate.compact import LONGEST_KID

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm as Primitive

SMALLEST_RSA, LARGEST_RSA = 2048, 8192  # bits; RFC 7518 3.3, and a bound on the work per token
LONGEST_COORDINATE = 1400  # base64url characters of the largest RSA modulus
LONGEST_EXPONENT = 12
MOST_CANDIDATES = 4  # keys tried for one token


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A row of the table: which keys it takes, and who computes it."""

    name: str
    key_type: str
    curves: frozenset[str] = frozenset()
    shortest_secret: int = 0  # bytes; RFC 7518 3.2: at least the size of the hash

    @property
    def primitive(self) -> "Primitive":
        return primitives()[self.name]


@cache
def primitives() -> "Mapping[str, Primitive]":
    """PyJWT's, by name. They bring all of `cryptography`, so only a config with tokens has them read."""
    from jwt.algorithms import get_default_algorithms

    return get_default_algorithms()


def _row(name: str, key_type: str, *curves: str, shortest_secret: int = 0) -> Algorithm:
    return Algorithm(name, key_type, frozenset(curves), shortest_secret)


ALGORITHMS: Mapping[str, Algorithm] = {
    row.name: row
    for row in (
        _row("HS256", "oct", shortest_secret=32),
        _row("HS384", "oct", shortest_secret=48),
        _row("HS512", "oct", shortest_secret=64),
        *(_row(name, "RSA") for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        _row("ES256", "EC", "P-256"),
        _row("ES256K", "EC", "secp256k1"),
        _row("ES384", "EC", "P-384"),
        _row("ES512", "EC", "P-521"),
        _row("EdDSA", "OKP", "Ed25519", "Ed448"),
    )
}


class UnusableKey(ValueError):
    """A key that cannot verify anything here. Says why, and never shows the key."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key and the algorithms that it may be used with."""

    kid: str | None
    algorithms: frozenset[str]
    material: Any = field(repr=False)

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature over these bytes is this key's."""
        if algorithm not in self.algorithms:
            return False
        return ALGORITHMS[algorithm].primitive.verify(signed, self.material, signature)


class KeySet:
    """Keys by id. Never changes: another key set is another object."""

    __slots__ = ("_by_kid", "_keys", "_single")

    def __init__(self, keys: Iterable[VerificationKey] = (), *, single: bool = False) -> None:
        """`single`: one configured key that verifies every token, whatever key id it names."""
        self._keys = tuple(keys)
        self._single = single
        self._by_kid: dict[str, tuple[VerificationKey, ...]] = {}
        for key in self._keys:
            if key.kid is not None:
                self._by_kid[key.kid] = (*self._by_kid.get(key.kid, ()), key)

    def candidates(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """The keys to try: those of the id, or all where the token names none. If they are too many, none."""
        named = self._keys if kid is None or self._single else self._by_kid.get(kid, ())
        fitting = tuple(key for key in named if algorithm in key.algorithms)
        return fitting if len(fitting) <= MOST_CANDIDATES else ()

    def knows(self, kid: str | None) -> bool:
        """Whether fetching again could not bring a key of this id."""
        return bool(self._keys) and (kid is None or self._single or kid in self._by_kid)

    def __len__(self) -> int:
        return len(self._keys)


def secret_keys(secret: bytes, algorithms: Collection[str]) -> KeySet:
    """The key set of one shared secret. Raises UnusableKey where it is too short or is no secret."""
    from jwt.exceptions import InvalidKeyError

    for name in algorithms:
        row = ALGORITHMS[name]
        if row.key_type != "oct":
            raise UnusableKey(f"a shared secret cannot verify {name}; use HS256, HS384 or HS512")
        if len(secret) < row.shortest_secret:
            raise UnusableKey(
                f"{name} needs a secret of at least {row.shortest_secret} bytes, this one has {len(secret)}"
            )
        try:
            row.primitive.prepare_key(secret)
        except InvalidKeyError as error:
            raise UnusableKey("a public key or certificate is no secret") from error
    return KeySet((VerificationKey(None, frozenset(algorithms), secret),), single=True)


def public_key(jwk: object, allowed: Collection[str]) -> VerificationKey:
    """A public signing key (RFC 7517), for the allowed algorithms that it fits. Raises UnusableKey."""
    if not isinstance(jwk, dict):
        raise UnusableKey("it is not a JSON object")
    if jwk.get("kty") not in ("RSA", "EC", "OKP"):
        raise UnusableKey("it is not a public key")
    if "d" in jwk:
        raise UnusableKey("its private part was published")
    if jwk.get("use", "sig") != "sig":
        raise UnusableKey("it is not for signatures")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKey("it is not for verifying")
    kid = jwk.get("kid")
    if kid is not None and (not isinstance(kid, str) or len(kid) > LONGEST_KID):
        raise UnusableKey("its id is not a short string")
    fitting = [row for name, row in ALGORITHMS.items() if name in allowed and _fits(row, jwk)]
    if not fitting:
        raise UnusableKey("it fits none of the configured algorithms")
    return VerificationKey(kid, frozenset(row.name for row in fitting), _material(fitting[0], jwk))


def _fits(row: Algorithm, jwk: dict[str, Any]) -> bool:
    if row.key_type != jwk["kty"] or jwk.get("alg", row.name) != row.name:
        return False
    return not row.curves or jwk.get("crv") in row.curves


def _material(row: Algorithm, jwk: dict[str, Any]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from jwt.exceptions import InvalidKeyError

    for name, longest in (("n", LONGEST_COORDINATE), ("e", LONGEST_EXPONENT), ("x", 200), ("y", 200)):
        part = jwk.get(name, "")
        if not isinstance(part, str) or len(part) > longest:
            raise UnusableKey(f"its `{name}` is not a short string")
    try:
        material = row.primitive.prepare_key(row.primitive.from_jwk(jwk))
    except (InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise UnusableKey("it cannot be read") from error
    if isinstance(material, RSAPublicKey) and not SMALLEST_RSA <= material.key_size <= LARGEST_RSA:
        raise UnusableKey(f"an RSA key must have {SMALLEST_RSA} to {LARGEST_RSA} bits")
    return material
