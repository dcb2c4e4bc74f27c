"""`authz serve --grpc-server`: who serves what, by the processes that run."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from authz.transport import access_log, ext_authz
from tests.support.raw_grpc import RawGrpc
from tests.support.service import AuthzService

ASKED = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n"
OURS = {ext_authz.SERVICE, access_log.SERVICE}


def reflected(port: int) -> set[str]:
    """The services that are told of there; none where nobody tells."""

    def asked() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        try:
            answers = list(stub.ServerReflectionInfo(asked(), timeout=60, wait_for_ready=True))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            return set()
    return {each.name for answer in answers for each in answer.list_services_response.service}


@pytest.mark.parametrize("kind", ["lane", "grpcio"])
def test_who_serves_what(tmp_path: Path, kind: str) -> None:
    with AuthzService(tmp_path, "", options=["--grpc-server", kind]) as service:
        client = RawGrpc(service.grpc, "wrong")
        assert client.check(ASKED).status == 403
        client.close()
        with grpc.insecure_channel(f"127.0.0.1:{service.grpc}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert (reflected(service.grpc) >= OURS) is (kind == "grpcio")
        assert reflected(service.grpc_other) >= OURS
    assert '"event": "stopped"' in service.log
