"""The whole config as one frozen value. Every key of `authz.yaml` is a field here or below."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema

from authz.config.admin import Admin, Decisions
from authz.config.amounts import TimeZone
from authz.config.authenticators import AuthenticatorEntry
from authz.config.base import Section, Wrong
from authz.config.gateways import GatewayEntry
from authz.config.ledger import Ledger
from authz.config.limits import Limit, WeekDay
from authz.config.models import BackendEntry, ModelEntry
from authz.config.routes import RouteEntry
from authz.config.store import Store
from authz.config.words import ModelName, Name


def _currency(text: str) -> str:
    if not (len(text) == 3 and text.isascii() and text.isalpha() and text.isupper()):
        raise Wrong("a currency is three capital letters (ISO 4217), such as EUR")
    return text


Currency = Annotated[
    str, AfterValidator(_currency), WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$"})
]


class Config(Section):
    """Everything that `authz.yaml` says. Made by `authz.config.load`."""

    store: Store | None = None
    """Where keys and counters live. Left out: `sqlite:authz.db` beside the config file."""

    decisions: Decisions = Decisions()
    """Where gateways ask for decisions."""

    admin: Admin = Admin()
    """Where authz is administered, and by whom."""

    timezone: TimeZone = "UTC"
    """IANA time zone of calendar windows that name none."""

    week_start: WeekDay = "monday"
    """First day of calendar weeks that name none."""

    currency: Currency = "EUR"
    """Currency of prices and cost limits."""

    rate_headers: Literal["always", "never"] = "always"
    """Whether answers carry `RateLimit`, `RateLimit-Policy` and `x-ratelimit-*`."""

    ledger: Ledger = Ledger()
    """What is kept of the requests that were let through."""

    gateways: Mapping[Name, GatewayEntry] = {}
    """The gateways that ask, by name."""

    authenticators: Mapping[Name, AuthenticatorEntry] = {}
    """The ways to show who one is, by name."""

    models: Mapping[ModelName, ModelEntry] = {}
    """The models, by the name that requests carry."""

    backends: Mapping[Name, BackendEntry] = {}
    """The model servers, by name."""

    routes: tuple[RouteEntry, ...] = ()
    """Routes, tried in order. What matches none is refused."""

    limits: Mapping[Name, Limit] = {}
    """Limits, by the name that routes refer to."""
