"""The servers under measure, each a process of its own: null servers of the same stacks, and ours in memory.

`python -m bench.servers null-http PORT` answers every request with an empty 200 on uvicorn; `null-grpc PORT FILE`
and `null-lane PORT FILE` answer every Check with the bytes in FILE, on grpc.aio and on our own lane;
`ours KEYS ARGUMENT...` is `authz ARGUMENT...` with the keys of a file in its `memory://` store, which no command reaches.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from authz.store.records import Key

CHECK = "/envoy.service.auth.v3.Authorization/Check"


async def null_http(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, as any auth server must, and says yes."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def null_grpc(port: int, answer: bytes) -> None:
    import grpc
    from grpc import aio

    async def check(message: bytes, context: Any) -> bytes:
        return answer

    server = aio.server(options=(("grpc.so_reuseport", 0),))
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    service, _, method = CHECK[1:].partition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def null_lane(port: int, answer: bytes) -> None:
    from authz.transport.lane import Caller, Lane, Unary

    async def check(message: bytes, caller: Caller) -> bytes:
        return answer

    lane = Lane({CHECK: Unary(check)})
    server = await asyncio.get_running_loop().create_server(lane.connection, "127.0.0.1", port)
    await server.serve_forever()


def _null_http(port: int) -> None:
    import uvicorn
    import uvloop

    from authz.transport.protocol import BoundedProtocol, ServerConfig

    config = ServerConfig(
        null_http, host="127.0.0.1", port=port, http=BoundedProtocol, ws="none", lifespan="off",
        log_level="error", access_log=False, date_header=False, server_header=False,
    )  # fmt: skip
    uvloop.run(uvicorn.Server(config).serve())


def _ours(keys: Path, arguments: list[str]) -> None:
    from authz import app
    from authz.cli.main import app as command
    from authz.store.store import ServiceStore

    opened = app.open_store

    def seeded(url: str, **options: Any) -> ServiceStore:
        store = opened(url, **options)
        for key in msgspec.json.decode(keys.read_bytes(), type=list[Key]):
            store.registry.add_key(key)
        return store

    app.open_store = seeded
    command(arguments)


def main() -> None:
    import uvloop

    kind, *rest = sys.argv[1:]
    if kind == "ours":
        _ours(Path(rest[0]), rest[1:])
    elif kind == "null-http":
        _null_http(int(rest[0]))
    else:
        serve = null_grpc if kind == "null-grpc" else null_lane
        uvloop.run(serve(int(rest[0]), Path(rest[1]).read_bytes()))


if __name__ == "__main__":
    main()
