"""What somebody has who moved over from one of the seeds: `authz serve`, and gateways as `authz render` writes them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from authz.authenticate.key_format import MintedKey
from tests.acceptance.lab import add_key, decisions, in_force
from tests.support.certificates import Certificates, make_certificates
from tests.support.gateway import Around
from tests.support.installed import Installed, entry
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.service import AuthzService

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


class Site:
    """A context manager: everything runs inside.

    `config` is `authz.yaml` without `store`, `decisions`, `admin` and `gateways`; `more` adds keys to a gateway's
    entry, by kind.
    """

    def __init__(
        self, scratch: Path, config: str, *, kinds: Sequence[str], more: Mapping[str, str] | None = None
    ) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self.certificates: Certificates = make_certificates(scratch / "certificates")
        self._stack = ExitStack()
        around = {
            kind: Around(
                directory=scratch,
                certificates=self.certificates,
                authz_http=0,  # these three stand in the config that is rendered
                authz_grpc=0,
                model=0,
                token=f"token-of-{kind}-in-the-tests",
            )
            for kind in kinds
        }
        entries = ""
        for kind, each in around.items():
            token = scratch / f"{kind}-token"
            token.write_text(each.token)
            token.chmod(0o600)
            entries += entry(each, kind, (more or {}).get(kind, ""))
        self.service = AuthzService(scratch / "authz", f"gateways:\n{entries}{config}")
        self.gateways = {kind: Installed(kind, each, self.service) for kind, each in around.items()}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.service)
            for gateway in self.gateways.values():
                stack.enter_context(gateway)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(
        self,
        kind: str,
        method: str = "GET",
        target: str = "/",
        headers: Headers = (),
        body: bytes | dict[str, Any] = b"",
        *,
        source: str | None = None,
        certificate: bool = False,
        host: str = "localhost",
    ) -> RawResponse:
        """One request over HTTPS. `source`: the client's own address; `certificate`: it shows its certificate."""
        sent = list(headers.items() if isinstance(headers, Mapping) else headers)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        if body and not any(name.lower() == "content-type" for name, _ in sent):
            sent.append(("Content-Type", "application/json"))
        return exchange(
            self.gateways[kind].around.https,
            request_bytes(method, target, [*sent], body, host=host),
            tls=self.certificates.trust(with_client=certificate),
            method=method,
            source=source,
        )

    def key(self, *limits: str, user: str = "alice", **fields: Any) -> MintedKey:
        """A new key, in force. The config needs a route for GET /v1/models."""
        minted = add_key(self.service.registry, *limits, user=user, **fields)
        in_force(self.service)
        return minted

    def reasons(self, kind: str) -> Mapping[str, int]:
        """How often authz gave which answer to that gateway."""
        return decisions(self.service, kind)

    @property
    def logs(self) -> str:
        """What the service and the gateways wrote."""
        return self.service.log + "".join(gateway.log for gateway in self.gateways.values())


def code(response: RawResponse) -> tuple[int, str | None]:
    """The status, and the code of a refusal."""
    error = response.json().get("error") if response.status >= 400 else None
    return response.status, error["code"] if error else None
