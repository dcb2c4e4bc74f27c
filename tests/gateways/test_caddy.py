"""Caddy, run with the committed configuration."""

from tests.gateways.forward_auth_contract import ForwardAuthContract
from tests.support.caddy import Caddy

GATEWAY = Caddy


class TestCaddy(ForwardAuthContract):
    kind = "caddy"
    asked_uri = "x-forwarded-uri"
    asked_method = "x-forwarded-method"
