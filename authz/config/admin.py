"""`decisions:` and `admin:` where authz listens, and who may administer it."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import ConfigDict, PrivateAttr, ValidationInfo, model_validator

from authz.config.base import Section, Wrong, context
from authz.config.network import Address, ListenAddress, OptionalListenAddress
from authz.config.secret import Secret, SecretRef, Token, check_token
from authz.config.tls import DecisionsTls
from authz.config.words import Name, Some, Word

AdminRole = Literal["admin", "reader", "team-admin"]


class Decisions(Section):
    """Where gateways ask. Any address but loopback needs every gateway to prove itself."""

    http: ListenAddress = Address("127.0.0.1", 9000)
    """Forward-auth over HTTP, settlements, `/v1/models`, health."""

    grpc: ListenAddress = Address("127.0.0.1", 9001)
    """Envoy's gRPC services."""

    grpc_other: OptionalListenAddress = Address("127.0.0.1", 9003)
    """Reflection and `grpc.health.v1` with `Watch`, for people's tools; `none`: nowhere."""

    tls: DecisionsTls | None = None
    """TLS for all of them. Left out: none, and whoever reads the network reads credentials."""


class AdminToken(SecretRef):
    """A token of the admin API and what it may do."""

    model_config = ConfigDict(json_schema_extra={})

    role: AdminRole
    """`admin` may do everything, `reader` look at everything, `team-admin` manage its teams."""

    teams: Some[Word] | None = None
    """The teams of a `team-admin`."""

    _secret: Secret = PrivateAttr()

    @property
    def secret(self) -> Secret:
        return self._secret

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> "AdminToken":
        self._secret = check_token(self.resolve(context(info)))
        return self

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        role = data.get("role")
        if role == "team-admin" and "teams" not in data:
            yield Wrong("missing key `teams`: a team-admin has some", on_key=True)
        if role in ("admin", "reader") and "teams" in data:
            message = f"`teams` belongs to a team-admin; the role {role} covers every team"
            yield Wrong(message, at=("teams",), on_key=True)


class Admin(Section):
    """Web UI, admin API and metrics. Without any token every admin call is refused."""

    listen: ListenAddress = Address("127.0.0.1", 9002)
    """Address of the web UI, `/api/v1` and `/metrics`."""

    token: Token | None = None
    """The one token; its role is `admin`."""

    tokens: Mapping[Name, AdminToken] = {}
    """Several tokens by name, each with a role."""

    @classmethod
    def mistakes(cls, data: Mapping[str, Any]) -> Iterator[Wrong]:
        if "token" in data and "tokens" in data:
            yield Wrong("give `token` or `tokens`, not both", at=("tokens",), on_key=True)
