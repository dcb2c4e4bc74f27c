"""Every vector of Wycheproof's JSON Web Signature suite, through the whole authenticator.

Their payloads are no claims, so a token whose signature holds is refused for
its payload (or, where that is a JSON object, for its claims) and one whose
signature does not is refused before. That difference is what is judged.
"""

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest

from authz.authenticate.algorithms import ALGORITHMS
from authz.authenticate.jwt import JwtAuthenticator
from authz.authenticate.protocol import Refused
from authz.reason import Reason
from tests.authenticate.fakes import (
    JWKS_URL,
    Clock,
    MemoryDirectory,
    MemoryFetcher,
    bearer,
    key_set,
    settings,
)

SUITE = json.loads((Path(__file__).parents[1] / "data/wycheproof/json_web_signature_test.json").read_text())
VECTORS = [(group, test) for group in SUITE["testGroups"] for test in group["tests"]]

# Vectors that are called valid and that we refuse, with the reason why we do.
WAIVED = {
    346: "the key is for PS256, the token says PS384 (attack 48)",
    350: "the key is for PS256, the token says PS384 (attack 48)",
    347: "the key is for `ES521`, which RFC 7518 does not have",
    351: "the key is for `ES521`, which RFC 7518 does not have",
    372: "a stray `?` in the header, which RFC 7515 forbids and the signature covers (attack 53)",
    373: "a stray `?` in the payload, which RFC 7515 forbids and the signature covers (attack 53)",
}

# Vectors that are called invalid for their padding, which the published file has lost: what is left is, byte
# for byte, a vector of the same suite that is called valid. Nobody can refuse one and accept the other. That
# padding itself is refused is tested with attack 53.
TWINS = {367: 357, 370: 357}


def authenticator(group: dict[str, Any]) -> JwtAuthenticator:
    """Configured for the group's one key, and where that names no known algorithm for all of its type."""
    key = group.get("public", group["private"])
    named = key.get("alg")
    kin = {name for name, row in ALGORITHMS.items() if row.key_type == key["kty"]}
    algorithms = frozenset({named} if named in ALGORITHMS else kin)
    if key["kty"] == "oct":
        secret = urlsafe_b64decode(key["k"] + "==")
        made = settings(algorithms=algorithms, sign_key=secret, issuers=frozenset())
        return JwtAuthenticator(made, MemoryDirectory(), Clock())
    made = settings(algorithms=algorithms, jwks_url=JWKS_URL)
    return JwtAuthenticator(made, MemoryDirectory(), Clock(), fetcher=MemoryFetcher({JWKS_URL: key_set(key)}))


async def holds(group: dict[str, Any], jws: str) -> bool:
    outcome = await authenticator(group).authenticate(bearer(jws))
    assert isinstance(outcome, Refused)
    if outcome.reason in (Reason.TOKEN_WRONG_ISSUER, Reason.TOKEN_WRONG_AUDIENCE):
        return True
    assert outcome.reason is Reason.TOKEN_INVALID
    return outcome.detail.startswith("The token's payload ")


def test_the_suite_is_whole() -> None:
    assert len(VECTORS) == SUITE["numberOfTests"] == 401


def test_the_twins_are_twins() -> None:
    by_id = {test["tcId"]: test for _, test in VECTORS}
    for invalid, valid in TWINS.items():
        assert (by_id[invalid]["result"], by_id[valid]["result"]) == ("invalid", "valid")
        assert by_id[invalid]["jws"] == by_id[valid]["jws"]


@pytest.mark.parametrize(
    ("group", "test"),
    VECTORS,
    ids=[f"{test['tcId']} {group['comment']} {test['comment']}" for group, test in VECTORS],
)
async def test_vector(group: dict[str, Any], test: dict[str, Any]) -> None:
    expected = (test["result"] == "valid" and test["tcId"] not in WAIVED) or test["tcId"] in TWINS
    assert await holds(group, test["jws"]) is expected
