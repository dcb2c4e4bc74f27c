"""The Takeoff documentation's Caddyfiles as sites: Caddy, authz, an inference server and an identity provider."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt

from tests.seeds.identity_provider import ISSUER, IdentityProvider
from tests.seeds.site import Site
from tests.seeds.takeoff import JWTAUTH, claims, signed
from tests.support.any_server import AnyServer

# `route * { rate_limit {method} 2r/m; jwtauth {...} }`
WALK_THROUGH = """
routes:
  - name: all
    match: {paths: ["/*"]}
    authenticate: {any_of: [jwtauth]}
    authorize: [{models: any}]
    limits: [per-method]
limits:
  per-method: {unit: requests, quota: 2, window: 1m, partition_by: [method]}
"""

# What the document tells to do in production: other policies for each route.
PRODUCTION = """
  staff: {type: basic, htpasswd: {file: users.htpasswd}}
  sso:
    type: jwt
    issuers: [ISSUER]
    audiences: [llm]
    algorithms: [RS256]
    jwks_url: JWKS
    subject: {user: sub, roles: realm_access.roles}
routes:
  - {name: basic, match: {paths: [/basic]}, authenticate: {any_of: [staff]}, authorize: [{models: any}]}
  - {name: sso, match: {paths: [/sso]}, authenticate: {any_of: [sso]}, authorize: [{models: any}]}
  - {name: roles, match: {paths: [/admin]}, authenticate: {any_of: [jwtauth]}, authorize: [{roles: [admin]}]}
  - name: attributes
    match: {paths: [/big]}
    authenticate: {any_of: [jwtauth]}
    authorize: [{when: "claims.clearance >= 3 && request.method == 'POST' && 'ml' in subject.roles"}]
  - name: short
    match: {paths: [/short/*]}
    authenticate: {any_of: [jwtauth]}
    authorize: [{models: any}]
    limits: [two-a-minute]
  - name: fast
    match: {paths: [/fast]}
    authenticate: {any_of: [jwtauth]}
    authorize: [{models: any}]
    limits: [one-a-second]
  - name: matched
    match: {paths: [/matched/*]}
    authenticate: {any_of: [jwtauth]}
    authorize: [{models: any}]
    limits: [generate]
  - name: custom
    match: {paths: [/custom/*]}
    authenticate: {any_of: [jwtauth]}
    authorize: [{models: any}]
    limits: [custom, free-tier, batch]
ROUTES
  - {name: all, match: {paths: ["/*"]}, authenticate: {any_of: [jwtauth]}, authorize: [{models: any}]}
limits:
  two-a-minute: 2r/m
  one-a-second: 1r/s
  generate: {unit: requests, quota: 1, window: 1m, when: {methods: [POST], paths: [/matched/generate]}}
  custom: {quota: 1r/m, partition_by: ["query:custom"], when: {query: {custom: "*"}}, refusal: {status: 503, message: Come back in a minute.}}
  free-tier: {quota: 1r/m, partition_by: ["query:n"], when: {headers: {x-tier: free}}}
  batch: {quota: 1r/m, partition_by: ["query:n"], when: {claims: {job: batch}, cookies: {night: "*"}, ips: [127.0.0.1/32]}, refusal: {status: 403}}
"""


@dataclass(frozen=True)
class LimitKey:
    """Requests of one partition, then one of another. Each is a target below `/by-NAME` with headers and an address."""

    partition_by: str
    same: tuple[tuple[str, dict[str, str], str], ...]
    other: tuple[str, dict[str, str], str]


HERE = "127.0.0.1"
LIMIT_KEYS = {
    "path": LimitKey("path", (("/a", {}, HERE), ("/a?b=c", {}, HERE)), ("/b", {}, HERE)),
    "query": LimitKey("query:tenant", (("/a?tenant=1", {}, HERE), ("/b?tenant=1", {}, HERE)), ("/a?tenant=2", {}, HERE)),
    "header": LimitKey(
        "header:x-tenant",
        (("/a", {"X-Tenant": "1"}, HERE), ("/b", {"x-tenant": "1"}, HERE)),
        ("/a", {"X-Tenant": "2"}, HERE),
    ),
    "cookie": LimitKey(
        "cookie:tenant",
        (("/a", {"Cookie": "a=b; tenant=1"}, HERE), ("/a", {"Cookie": "tenant=1"}, HERE)),
        ("/a", {"Cookie": "tenant=2"}, HERE),
    ),
    "ip": LimitKey("ip", (("/a", {}, HERE), ("/b", {"X-Forwarded-For": "10.0.0.1"}, HERE)), ("/a", {}, "127.0.0.2")),
    "ip-prefix": LimitKey("ip_prefix", (("/a", {}, HERE), ("/a", {}, "127.0.0.200")), ("/a", {}, "127.0.1.1")),
    "claim": LimitKey(
        "claim:org",
        (("/a", {"Authorization": f"Bearer {signed(claims(org='one'))}"}, HERE),) * 2,
        ("/a", {"Authorization": f"Bearer {signed(claims(org='two'))}"}, HERE),
    ),
}  # fmt: skip


def keyed_route(name: str) -> str:
    return (
        f"  - {{name: by-{name}, match: {{paths: [/by-{name}/*]}}, authenticate: {{any_of: [jwtauth]}}, "
        f"authorize: [{{models: any}}], limits: [by-{name}]}}\n"
    )


@dataclass
class Stack:
    """Caddy, authz and the inference server."""

    site: Site
    takeoff: AnyServer
    provider: IdentityProvider


@contextmanager
def production(scratch: Path) -> Iterator[Stack]:
    """All of it, for as long as the context."""
    with AnyServer() as takeoff, IdentityProvider() as provider:
        config = PRODUCTION.replace("ISSUER", ISSUER).replace("JWKS", f"{provider.url}/keys")
        config = config.replace("ROUTES\n", "".join(keyed_route(name) for name in LIMIT_KEYS))
        config += "".join(
            f"  by-{name}: {{unit: requests, quota: 1, window: 1m, partition_by: [{each.partition_by}]}}\n"
            for name, each in LIMIT_KEYS.items()
        )
        site = Site(scratch, f"authenticators:\n{JWTAUTH}{config}{backends(takeoff)}", kinds=["caddy"])
        # As `htpasswd -nB carol` prints it.
        hashed = bcrypt.hashpw(b"hunter2 is long", bcrypt.gensalt(5)).replace(b"$2b$", b"$2y$")
        users = scratch / "authz" / "users.htpasswd"
        users.write_bytes(b"carol:" + hashed + b"\n")
        users.chmod(0o600)
        with site:
            yield Stack(site, takeoff, provider)


def backends(takeoff: AnyServer) -> str:
    return f"backends:\n  takeoff: {{url: {takeoff.url}, models: any}}\n"


def curl(site: Site, *arguments: str, path: str) -> tuple[int, Any]:
    """The real curl: the status, and the body decoded."""
    done = subprocess.run(
        [
            _curl(),
            *("--silent", "--show-error", "--cacert", str(site.certificates.authority)),
            *("--write-out", "\n%{http_code}", "--max-time", "10", "--noproxy", "*"),
            *arguments,
            f"{site.gateways['caddy'].https}{path}",
        ],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def _curl() -> str:
    found = shutil.which("curl")
    assert found is not None, "these tests run the curl commands of the document: install curl"
    return found
