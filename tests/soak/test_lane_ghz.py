"""ghz, a load generator in Go, against the service that runs: each answer arrives, and none is decided twice.

https://ghz.sh
"""

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from prometheus_client.parser import text_string_to_metric_families

from tests.support.go_tools import go_tool
from tests.support.raw_grpc import check_request
from tests.support.service import AuthzService

CALLS, QUOTA = 100_000, 60_000
TOKEN = "the-token-of-the-envoy-of-this-test-0123"
CONFIG = f"""\
gateways: {{edge: {{kind: envoy, token: {TOKEN}}}}}
authenticators: {{keys: {{type: api_key}}}}
routes:
  - name: inference
    match: {{api: [openai]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [many]
limits: {{many: {{quota: {QUOTA}, unit: requests, window: 30d, algorithm: fixed}}}}
"""


def descriptors(of: FileDescriptor) -> FileDescriptorSet:
    """A file and all that it imports, each after its own imports."""
    found: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in found:
            for each in file.dependencies:
                add(each)
            found[file.name] = FileDescriptorProto()
            file.CopyToProto(found[file.name])

    add(of)
    return FileDescriptorSet(file=found.values())


def decided(service: AuthzService) -> dict[str, int]:
    """How many, by reason."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.admin}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return {
        sample.labels["reason"]: int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "authz_decisions_total"
    }


@pytest.mark.parametrize("connections", [1, 8])
def test_every_call_is_answered_once(tmp_path: Path, connections: int) -> None:
    program = go_tool("ghz")
    protoset, message = tmp_path / "check.protoset", tmp_path / "check.bin"
    protoset.write_bytes(descriptors(external_auth_pb2.DESCRIPTOR).SerializeToString())
    with AuthzService(tmp_path / "authz", CONFIG) as service:
        key = service.run("keys", "create", "--user", "alice")["key"]
        service.stop()
        service.start()  # by now it knows the key: otherwise that is within a second
        asked = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: llm.test\r\ncontent-type: application/json\r\n"
            f'authorization: Bearer {key}\r\ncontent-length: 13\r\n\r\n{{"model":"m"}}'
        )
        message.write_bytes(check_request(asked.encode()).SerializeToString())
        argv = [program, "--insecure", "--protoset", str(protoset), "--binary-file", str(message)]
        argv += ["--call", "envoy.service.auth.v3.Authorization.Check", "--format", "json"]
        argv += ["--metadata", json.dumps({"x-authz-gateway-token": TOKEN}), "--total", str(CALLS)]
        argv += ["--concurrency", "64", "--connections", str(connections), f"127.0.0.1:{service.grpc}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        print(
            f"\n{connections} connections: {report['rps']:.0f} calls/s, mean {report['average'] / 1e3:.0f} µs"
        )
        assert report["statusCodeDistribution"] == {"OK": CALLS}, report["errorDistribution"]
        assert decided(service) == {"allowed": QUOTA, "quota_exhausted": CALLS - QUOTA}
