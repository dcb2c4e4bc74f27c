"""`decisions:` and `admin:` where authz listens, and who may administer it."""

from collections.abc import Mapping
from typing import Literal

from pydantic import ConfigDict, PrivateAttr, ValidationInfo, model_validator

from authz.config.base import Section, Wrong, context
from authz.config.gateways import check_token
from authz.config.network import Address, ListenAddress
from authz.config.secret import Secret, SecretRef
from authz.config.words import Name, Some, Word

AdminRole = Literal["admin", "reader", "team-admin"]


class Decisions(Section):
    """Where gateways ask. Any address but loopback needs every gateway to prove itself."""

    http: ListenAddress = Address("127.0.0.1", 9000)
    """Forward-auth over HTTP, settlements, `/v1/models`, health."""

    grpc: ListenAddress = Address("127.0.0.1", 9001)
    """Envoy's gRPC services."""


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
    def _complete(self, info: ValidationInfo) -> "AdminToken":
        self._secret = self.resolve(context(info))
        if self._secret.present:
            check_token(
                self._secret, next(key for key in ("env", "file", "value") if getattr(self, key) is not None)
            )
        if self.role == "team-admin" and self.teams is None:
            raise Wrong("a team-admin needs the key `teams`", on_key=True)
        if self.role != "team-admin" and self.teams is not None:
            raise Wrong(
                f"`teams` belongs to a team-admin; the role {self.role} covers every team",
                at=("teams",),
                on_key=True,
            )
        return self


class Admin(Section):
    """Web UI, admin API and metrics. Without any token every admin call is refused."""

    listen: ListenAddress = Address("127.0.0.1", 9002)
    """Address of the web UI, `/api/v1` and `/metrics`."""

    token: Secret | None = None
    """The one token; its role is `admin`."""

    tokens: Mapping[Name, AdminToken] = {}
    """Several tokens by name, each with a role."""

    @model_validator(mode="after")
    def _one_way(self) -> "Admin":
        if self.token is not None and self.tokens:
            raise Wrong("give `token` or `tokens`, not both", at=("tokens",), on_key=True)
        if self.token is not None and self.token.present:
            check_token(self.token, "token")
        return self
