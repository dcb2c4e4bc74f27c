"""The servers under measure, each a process of its own: ours, and null servers of the same stacks.

`python -m bench.servers null-http PORT` answers every request with an empty 200
on uvicorn; `null-grpc PORT` answers every Check with a ready-made OK on grpc.aio.
"""

import sys
from typing import Any

import grpc
import uvicorn
from envoy.service.auth.v3 import external_auth_pb2
from grpc import aio

from authz.transport.protocol import BoundedProtocol, ServerConfig

_OK = external_auth_pb2.CheckResponse(ok_response=external_auth_pb2.OkHttpResponse()).SerializeToString()


async def null_http(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, as any auth server must, and says yes."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def _null_check(message: bytes, context: Any) -> bytes:
    return _OK


async def null_grpc(port: int) -> None:
    server = aio.server(options=(("grpc.so_reuseport", 0),))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_null_check)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    import uvloop

    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "null-grpc":
        uvloop.run(null_grpc(port))
        return
    config = ServerConfig(
        null_http, host="127.0.0.1", port=port, http=BoundedProtocol, ws="none", lifespan="off",
        log_level="error", access_log=False, date_header=False, server_header=False,
    )  # fmt: skip
    uvloop.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
