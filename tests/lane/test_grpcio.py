"""grpcio's own client against the lane, over real sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from authz.transport.lane import Caller, ClientStream, Lane, Limits, Unary
from authz.transport.lane.connection import Connection
from authz.transport.lane.wire import GOAWAY
from tests.support.certificates import Certificates, make_certificates

MESSAGE = 2 * 1024 * 1024


class Service:
    """Counts what reaches it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.callers: list[Caller] = []
        self.cancelled = asyncio.Event()
        self.began = asyncio.Event()
        self.lane = Lane(
            {
                "/t/Echo": Unary(self.echo),
                "/t/Slow": Unary(self.slow),
                "/t/Never": Unary(self.never),
                "/t/Join": ClientStream(self.join),
            },
            limits=limits,
        )
        self.connections: list[Connection] = []

    def connection(self) -> Connection:
        self.connections.append(self.lane.connection())
        return self.connections[-1]

    def echo(self, message: bytes, caller: Caller) -> bytes:
        self.callers.append(caller)
        return message

    async def slow(self, message: bytes, caller: Caller) -> bytes:
        await asyncio.sleep(0.001)
        return message

    async def never(self, message: bytes, caller: Caller) -> bytes:
        self.began.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b""

    async def join(self, messages: AsyncIterator[bytes], caller: Caller) -> bytes:
        return b"%d" % sum([len(each) async for each in messages])


@asynccontextmanager
async def served(
    service: Service, tls: ssl.SSLContext | None = None, credentials: grpc.ChannelCredentials | None = None
) -> AsyncIterator[aio.Channel]:
    server = await asyncio.get_running_loop().create_server(service.connection, "127.0.0.1", 0, ssl=tls)
    target = f"localhost:{server.sockets[0].getsockname()[1]}"
    options = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    channel = (
        aio.secure_channel(target, credentials, options=options)
        if credentials is not None
        else aio.insecure_channel(target, options=options)
    )
    try:
        async with asyncio.timeout(60), channel:
            yield channel
    finally:
        server.close()
        await service.lane.stop(0.05)  # a call that a test still holds has the client keep its connection
        async with asyncio.timeout(20):
            while service.lane.connections:
                await asyncio.sleep(0.001)


def unary(channel: aio.Channel, path: str) -> Any:
    return channel.unary_unary(path)


async def test_one_call_and_its_metadata() -> None:
    service = Service()
    async with served(service) as channel:
        call = unary(channel, "/t/Echo")(b"hello", metadata=(("x-token", "t"), ("x-bin", b"\0\xff")))
        assert await call == b"hello"
        assert await call.code() == grpc.StatusCode.OK
    metadata = dict(service.callers[0].metadata)
    assert (metadata["x-token"], metadata["x-bin"].rstrip("=")) == ("t", "AP8")
    assert service.callers[0].peer[0] == "127.0.0.1"
    assert service.callers[0].tls is None


@pytest.mark.parametrize("path", ["/t/Echo", "/t/Slow"])
async def test_many_calls_at_once_on_one_channel(path: str) -> None:
    service = Service(Limits(streams=100))
    async with served(service) as channel:
        ask = unary(channel, path)
        await ask(b"first")  # from here on the client knows how many may be at once
        sent = [b"%d" % at * (at % 50) for at in range(1000)]
        assert list(await asyncio.gather(*(ask(each) for each in sent))) == sent
    assert len(service.connections) == 1


async def test_big_messages_both_ways() -> None:
    """Beyond every first window, several at once."""
    async with served(Service(Limits(message_bytes=MESSAGE, window_bytes=70_000))) as channel:
        sent = [bytes([at]) * (MESSAGE - at) for at in range(4)]
        assert list(await asyncio.gather(*(unary(channel, "/t/Echo")(each) for each in sent))) == sent
        with pytest.raises(aio.AioRpcError) as refused:
            await unary(channel, "/t/Echo")(bytes(MESSAGE + 1))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await unary(channel, "/t/Echo")(b"after") == b"after"


async def test_a_deadline_and_a_cancellation_reach_the_handler() -> None:
    service = Service()
    async with served(service) as channel:
        with pytest.raises(aio.AioRpcError) as late:
            await unary(channel, "/t/Never")(b"", timeout=0.05)
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await service.cancelled.wait()
        service.cancelled.clear()
        service.began.clear()
        call = unary(channel, "/t/Never")(b"")
        await service.began.wait()
        call.cancel()
        await service.cancelled.wait()
        assert await unary(channel, "/t/Echo")(b"after") == b"after"


async def test_unknown_methods_and_compressed_messages_are_unimplemented() -> None:
    async with served(Service()) as channel:
        for path, compression in (("/t/None", None), ("/t/Echo", grpc.Compression.Gzip)):
            with pytest.raises(aio.AioRpcError) as refused:
                await unary(channel, path)(b"x" * 1000, compression=compression)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("messages", [0, 1, 3000])
async def test_a_stream_of_messages(messages: int) -> None:
    """More in all than the stream's window is at first."""
    async with served(Service(Limits(message_bytes=1000, held_bytes=1_000_000))) as channel:
        call: Any = channel.stream_unary("/t/Join")()
        for _ in range(messages):
            await call.write(bytes(900))
        await call.done_writing()
        assert await call == b"%d" % (900 * messages)


async def test_drained_in_the_middle_no_call_is_lost() -> None:
    """The client takes its further calls to a new connection; each call of all is answered, and answered OK."""
    service = Service()
    async with served(service) as channel:
        ask = unary(channel, "/t/Slow")
        await ask(b"first")
        for _ in range(5):
            calls = [asyncio.ensure_future(ask(b"%d" % at)) for at in range(100)]
            await asyncio.sleep(0)
            for connection in service.connections:
                connection.leave()
            calls += [asyncio.ensure_future(ask(b"%d" % at)) for at in range(100)]
            assert list(await asyncio.gather(*calls)) == [b"%d" % at for at in range(100)] * 2
    assert len(service.connections) > 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(Path(tmp_path_factory.mktemp("certificates")))


def server_tls(certificates: Certificates, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    context.load_verify_locations(certificates.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([protocol])
    return context


async def test_over_tls_with_the_certificate_of_the_client(certificates: Certificates) -> None:
    service = Service(Limits(message_bytes=MESSAGE))
    credentials = grpc.ssl_channel_credentials(
        certificates.authority.read_bytes(),
        certificates.client_key.read_bytes(),
        certificates.client.read_bytes(),
    )
    async with served(service, server_tls(certificates, "h2"), credentials) as channel:
        assert await unary(channel, "/t/Echo")(bytes(MESSAGE)) == bytes(MESSAGE)
        assert service.callers[0].tls.getpeercert(binary_form=True) is not None


async def test_tls_without_h2_is_no_way_in(certificates: Certificates) -> None:
    service = Service()
    server = await asyncio.get_running_loop().create_server(
        service.connection, "127.0.0.1", 0, ssl=server_tls(certificates, "http/1.1")
    )
    try:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=certificates.trust(with_client=True),
            server_hostname="localhost",
        )
        async with asyncio.timeout(20):
            assert (await reader.read())[3] == GOAWAY
        writer.close()
        await writer.wait_closed()
    finally:
        server.close()
