"""The service with every kind of credential, four rendered gateways, an identity provider: what attackers stand before."""

import json
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests.seeds.identity_provider import ISSUER, IdentityProvider
from tests.seeds.site import Headers, Site
from tests.seeds.takeoff import b64
from tests.support.any_server import AnyServer, Received
from tests.support.installed import KINDS
from tests.support.raw_http import RawResponse

OFFICE, ELSEWHERE, BALANCER = "127.0.0.2", "127.0.0.3", "127.0.0.4"  # all of 127.0.0.0/8 is this machine's
PASSWORD = "tulip" * 14  # 70 bytes: bcrypt looks at 72
UPSTREAM = "the-key-of-the-model-server"

CONFIG = """
authenticators:
  keys:   {type: api_key, headers: [authorization, X-APIKEY]}
  staff:  {type: basic, htpasswd: {file: users.htpasswd}}
  mtls:   {type: certificate}
  office: {type: network, allow: [OFFICE/32]}
  anyone: {type: anonymous}
  sso:
    type: jwt
    jwks_url: IDP
    issuers: [ISSUER]
    audiences: [llm]
    algorithms: [RS256, ES256]
    token_from: [{cookie: session}, {header: authorization}]
    claim_headers: {note: x-note, admin: x-is-admin}
routes:
  - {name: keys, match: {paths: [/keys]}, authenticate: {any_of: [keys]}, authorize: [{models: any}]}
  - {name: staff, match: {paths: [/staff]}, authenticate: {any_of: [staff]}, authorize: [{models: any}]}
  - {name: mtls, match: {paths: [/mtls]}, authenticate: {any_of: [mtls]}, authorize: [{models: any}]}
  - {name: office, match: {paths: [/office]}, authenticate: {any_of: [office]}, authorize: [{models: any}]}
  - {name: sso, match: {paths: [/sso]}, authenticate: {any_of: [sso]}, authorize: [{models: any}]}
  - {name: open, match: {paths: [/open]}, authenticate: {any_of: [keys, anyone]}, authorize: [{models: any}], limits: [guests]}
  - {name: few, match: {paths: [/few]}, authenticate: {any_of: [keys]}, authorize: [{models: any}], limits: [few]}
  - {name: models, match: {methods: [GET], paths: [/v1/models]}, authenticate: {any_of: [keys]}, authorize: [{models: any}]}
limits:
  guests: {unit: requests, quota: 1000, window: 1m, partition_by: [ip]}
  few: {unit: requests, quota: 1, window: 1h, partition_by: [user, team]}
backends:
  model: {url: URL, models: any, bearer: {file: upstream-key}}
"""


@dataclass(frozen=True)
class Way:
    """One of the gateways."""

    kind: str
    site: Site
    model: AnyServer
    idp: "Provider"

    def ask(self, target: str, headers: Headers = (), **more: Any) -> RawResponse:
        self.model.received.clear()
        return self.site.ask(self.kind, "GET", target, headers, **more)

    def is_refused(
        self, status: int | tuple[int, ...], target: str, headers: Headers = (), **more: Any
    ) -> RawResponse:
        """A 4xx in our shape, without a backend hit and without the words of the program that made it."""
        answer = self.ask(target, headers, **more)
        assert answer.status in ((status,) if isinstance(status, int) else status), answer.body
        error = answer.json()["error"]
        assert error["code"]
        assert error["message"]
        assert b"Traceback" not in answer.body
        assert not self.model.received
        return answer

    def passes(self, target: str, headers: Headers = (), **more: Any) -> Received:
        """What reached the model server."""
        answer = self.ask(target, headers, **more)
        assert answer.status == 200, answer.body
        (received,) = self.model.received
        return received

    def bearer(self, **fields: Any) -> dict[str, str]:
        """A new key's."""
        return bearer(self.site.key(**fields).key)


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def signed(
    idp: "Provider", header: Mapping[str, Any] | None = None, claims: bytes | None = None, **more: Any
) -> str:
    """A token that the provider really signed by RS256, whatever stands in it."""
    head = {"alg": "RS256", "typ": "JWT", "kid": "first"} | dict(header or {})
    payload = claims if claims is not None else json.dumps(idp.claims(**more)).encode()
    text = f"{b64(json.dumps(head).encode())}.{b64(payload)}"
    return f"{text}.{b64(idp.sign(text.encode()))}"


class Provider(IdentityProvider):
    """One that signs whatever it is given."""

    def claims(self, **more: Any) -> dict[str, Any]:
        own: dict[str, Any] = json.loads(_decoded(self.token(**more).split(".")[1]))
        return own

    def sign(self, text: bytes) -> bytes:
        return self._keys["first"].sign(text, padding.PKCS1v15(), hashes.SHA256())


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


@contextmanager
def open_site(scratch: Path) -> Iterator[dict[str, Way]]:
    """All four, and what they stand between."""
    with ExitStack() as stack:
        model, idp = stack.enter_context(AnyServer()), stack.enter_context(Provider())
        config = CONFIG.replace("OFFICE", OFFICE).replace("ISSUER", ISSUER)
        config = config.replace("IDP", idp.url).replace("URL", model.url)
        hops = dict.fromkeys(KINDS, f", trusted_hops: [{BALANCER}/32]")
        site = Site(scratch, config, kinds=KINDS, more=hops)
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        users = f"carol:{hashed}\nempty:\nodd:{{MD9}}abc\nplain:tulip\n"
        for name, text in (("users.htpasswd", users), ("upstream-key", UPSTREAM)):
            file = scratch / "authz" / name
            file.write_text(text)
            file.chmod(0o600)
        stack.enter_context(site)
        yield {kind: Way(kind, site, model, idp) for kind in KINDS}
