"""nginx with njs, run with the committed configuration."""

from tests.gateways.forward_auth_contract import ForwardAuthContract
from tests.support.nginx import Nginx

GATEWAY = Nginx


class TestNginx(ForwardAuthContract):
    kind = "nginx"
    asked_uri = "x-original-uri"
    asked_method = "x-original-method"
