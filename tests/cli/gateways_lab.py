"""The service, the demo model and gateways in front, to be probed by `authz gateways test`."""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from authz.cli.main import run
from tests.acceptance.lab import add_key, in_force
from tests.support.certificates import Certificates
from tests.support.gateway import Around
from tests.support.model import DemoModel
from tests.support.ports import free_port
from tests.support.service import AuthzService

CONFIG = """
gateways:
  our-envoy: {{kind: envoy, token: token-of-envoy-in-the-tests, request_id: gateway}}
  our-traefik: {{kind: traefik, token: token-of-traefik-in-the-tests}}
  our-nginx: {{kind: nginx, token: token-of-nginx-in-the-tests}}
  our-caddy: {{kind: caddy, token: token-of-caddy-in-the-tests, log: "127.0.0.1:{log}"}}
authenticators:
  keys: {{type: api_key, headers: [authorization, x-api-key]}}
models:
  demo: {{context: 8192, max_output: 4096}}
backends:
  model: {{url: "http://127.0.0.1:{model}", models: any, bearer: upstream-secret-of-the-tests}}
routes:
  - name: models
    match: {{methods: [GET], paths: [/v1/models]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: allowed}}]
  - name: echo
    match: {{methods: [GET], paths: [/echo/headers]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
"""


@dataclass(frozen=True)
class Report:
    """What the command found."""

    code: int
    told: Any
    err: str

    def verdict(self, probe: str) -> str:
        (found,) = [each["verdict"] for each in self.told["findings"] if each["probe"] == probe]
        return str(found)

    def those(self, verdict: str) -> dict[str, str]:
        """The probes of a verdict, with what was seen."""
        found = self.told["findings"]
        return {each["probe"]: each["seen"] for each in found if each["verdict"] == verdict}


@dataclass(frozen=True)
class ProbedLab:
    """Everything but the gateway."""

    service: AuthzService
    model: DemoModel
    key: str
    directory: Path
    certificates: Certificates
    log: int

    def around(self, name: str, *, directory: str = "gateways") -> Around:
        return Around(
            directory=self.directory / directory,
            certificates=self.certificates,
            authz_http=self.service.http,
            authz_grpc=self.service.grpc,
            model=self.model.port,
            token=f"token-of-{name}-in-the-tests",
            log=self.log,
        )

    def probe(self, kind: str, url: str, *more: str, echo: bool = True, key: str | None = None) -> Report:
        """`authz gateways test`, in this process. The model takes its time between two events of a stream."""
        arguments = ["gateways", "test", f"our-{kind}", "--url", url, "--key", "-", "--json"]
        arguments += ["--header", "x-demo-interval-ms=40"]
        if "--config" not in more:
            arguments += ["--config", str(self.service.config)]
        arguments += ["--echo", "/echo/headers"] if echo else []
        return command([*arguments, *more], stdin=key or self.key)


def command(arguments: Sequence[str], *, stdin: str) -> Report:
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "stdin", io.StringIO(stdin)), redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    return Report(code, json.loads(out.getvalue()) if out.getvalue() else None, err.getvalue())


@contextmanager
def probed_lab(directory: Path, certificates: Certificates) -> Iterator[ProbedLab]:
    with ExitStack() as stack:
        model = stack.enter_context(DemoModel(directory / "model"))
        log = free_port()
        config = CONFIG.format(model=model.port, log=log)
        service = stack.enter_context(AuthzService(directory / "authz", config))
        key = add_key(service.registry)
        in_force(service)
        yield ProbedLab(service, model, key.key, directory, certificates, log)
