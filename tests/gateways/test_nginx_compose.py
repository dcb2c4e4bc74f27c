"""compose/nginx.yaml."""

from tests.gateways.compose_contract import COMPOSE, ComposeContract


class TestNginxCompose(ComposeContract):
    kind = "nginx"
    configuration = ("nginx/nginx.conf", "/etc/nginx/nginx.conf")

    def test_njs_is_loaded_and_beside_the_configuration(self) -> None:
        mounted = self.mounts(self.read()["services"]["gateway"])
        assert mounted["/etc/nginx/authz.js"] == "../nginx/authz.js"
        module = (COMPOSE / mounted["/etc/nginx/modules-enabled/njs.conf"]).read_text()
        assert module == "load_module modules/ngx_http_js_module.so;\n"
