"""compose/envoy.yaml."""

from authz.config.load import load
from tests.gateways.compose_contract import COMPOSE, ComposeContract


class TestEnvoyCompose(ComposeContract):
    kind = "envoy"
    configuration = ("envoy/envoy.yaml", "/etc/envoy/envoy.yaml")

    def test_authz_knows_a_question_that_is_asked_again(self) -> None:
        loaded = load(COMPOSE / "envoy.authz.yaml", secrets_required=False)
        assert loaded.config.gateways["edge"].request_id == "gateway"
