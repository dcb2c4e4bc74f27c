"""The same gateway binaries without authz: TLS in front of the model server, unbuffered, nothing else.

What a gateway costs by itself, to tell apart from it what authz adds.
"""

import json
from collections.abc import Sequence

from tests.support.caddy import scratch_home
from tests.support.gateway import RealGateway
from tests.support.nginx import command
from tests.support.processes import executable, port_answers
from tests.support.raw_http import exchange, request_bytes


class Passthrough(RealGateway):
    """Only the TLS listener is there."""

    def answers(self) -> bool:
        return port_answers(self.around.https)

    def put(self, name: str, text: str) -> str:
        path = self.directory / name
        path.write_text(text)
        return str(path)


class PlainEnvoy(Passthrough):
    name = "plain-envoy"

    def write(self) -> Sequence[str]:
        around = self.around
        extensions = "type.googleapis.com/envoy.extensions"
        configuration = {
            "static_resources": {
                "listeners": [
                    {
                        "address": _address(around.https),
                        "filter_chains": [
                            {
                                "filters": [
                                    {
                                        "name": "http",
                                        "typed_config": {
                                            "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
                                            "stat_prefix": "plain",
                                            "route_config": {
                                                "virtual_hosts": [
                                                    {
                                                        "name": "all",
                                                        "domains": ["*"],
                                                        "routes": [
                                                            {
                                                                "match": {"prefix": "/"},
                                                                "route": {
                                                                    "cluster": "model",
                                                                    "timeout": "0s",
                                                                },
                                                            }
                                                        ],
                                                    }
                                                ]
                                            },
                                            "http_filters": [
                                                {
                                                    "name": "router",
                                                    "typed_config": {
                                                        "@type": f"{extensions}.filters.http.router.v3.Router"
                                                    },
                                                }
                                            ],
                                        },
                                    }
                                ],
                                "transport_socket": {
                                    "name": "tls",
                                    "typed_config": {
                                        "@type": f"{extensions}.transport_sockets.tls.v3.DownstreamTlsContext",
                                        "common_tls_context": {
                                            "tls_certificates": [
                                                {
                                                    "certificate_chain": {
                                                        "filename": str(around.certificates.server)
                                                    },
                                                    "private_key": {
                                                        "filename": str(around.certificates.server_key)
                                                    },
                                                }
                                            ]
                                        },
                                    },
                                },
                            }
                        ],
                    }
                ],
                "clusters": [
                    {
                        "name": "model",
                        "type": "STATIC",
                        "load_assignment": {
                            "cluster_name": "model",
                            "endpoints": [
                                {"lb_endpoints": [{"endpoint": {"address": _address(around.model)}}]}
                            ],
                        },
                    }
                ],
            },
        }
        path = self.put("envoy.json", json.dumps(configuration))
        return [
            executable("envoy"),
            *("--config-path", path, "--use-dynamic-base-id"),
            *("--concurrency", "1", "--log-level", "warning"),
        ]


class PlainTraefik(Passthrough):
    name = "plain-traefik"

    def write(self) -> Sequence[str]:
        around = self.around
        dynamic = {
            "tls": {
                "certificates": [
                    {
                        "certFile": str(around.certificates.server),
                        "keyFile": str(around.certificates.server_key),
                    }
                ]
            },
            "http": {
                "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "model", "tls": {}}},
                "services": {
                    "model": {
                        "loadBalancer": {
                            "responseForwarding": {"flushInterval": "-1ms"},
                            "servers": [{"url": f"http://127.0.0.1:{around.model}"}],
                        }
                    }
                },
            },
        }
        static = {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "entryPoints": {"all": {"address": f"127.0.0.1:{around.https}"}},
            "providers": {"file": {"filename": self.put("dynamic.yml", json.dumps(dynamic))}},
        }
        return [executable("traefik"), f"--configFile={self.put('traefik.yml', json.dumps(static))}"]

    def answers(self) -> bool:
        """The port is open before the certificate and the route are there."""
        try:
            tls = self.around.certificates.trust()
            return exchange(self.around.https, request_bytes("GET", "/echo"), tls=tls).status == 200
        except OSError:
            return False


class PlainNginx(Passthrough):
    name = "plain-nginx"

    def write(self) -> Sequence[str]:
        around = self.around
        text = f"""
            pid {self.directory}/nginx.pid;
            error_log /dev/stderr error;
            events {{ }}
            http {{
                access_log off;
                server {{
                    listen 127.0.0.1:{around.https} ssl;
                    ssl_certificate {around.certificates.server};
                    ssl_certificate_key {around.certificates.server_key};
                    location / {{
                        proxy_pass http://127.0.0.1:{around.model};
                        proxy_http_version 1.1;
                        proxy_set_header Connection "";
                        proxy_buffering off;
                    }}
                }}
            }}
        """
        return command(str(self.directory), self.put("nginx.conf", text))


class PlainCaddy(Passthrough):
    name = "plain-caddy"

    def write(self) -> Sequence[str]:
        around = self.around
        text = f"""
            {{
                admin off
                persist_config off
                auto_https off
            }}
            https://:{around.https} {{
                bind 127.0.0.1
                tls {around.certificates.server} {around.certificates.server_key}
                reverse_proxy 127.0.0.1:{around.model} {{
                    flush_interval -1
                }}
            }}
        """
        return [
            executable("caddy"),
            *("run", "--adapter", "caddyfile", "--config", self.put("Caddyfile", text)),
        ]

    def environment(self) -> dict[str, str]:
        return scratch_home(str(self.directory))


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


PASSTHROUGH: dict[str, type[Passthrough]] = {
    "envoy": PlainEnvoy,
    "traefik": PlainTraefik,
    "nginx": PlainNginx,
    "caddy": PlainCaddy,
}
