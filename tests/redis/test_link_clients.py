"""Redis-py's own clients for the same URLs."""

import ssl
from pathlib import Path

import pytest
import redis

from authz.store.protocols import StoreUnavailable
from authz.store.redis.client import async_client, sync_client
from authz.store.redis.target import Target
from tests.support.certificates import make_certificates
from tests.support.ports import free_port
from tests.support.redis import RedisCluster, RedisServer
from tests.support.toxic import Toxic

SECRET = "hunter2-and-more"


async def both(url: str) -> None:
    """Write by one and read by the other."""
    target = Target.parse(url)
    plain, later = sync_client(target), async_client(target)
    try:
        plain.set("az:{r}:x", b"\x00\xff")
        assert await later.get("az:{r}:x") == b"\x00\xff"
        async with later.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("INCR", "az:{r}:n")
            pipeline.execute_command("INCR", "az:{r}:n")
            assert await pipeline.execute() == [1, 2]
        channel = later.pubsub()
        await channel.subscribe("az:changes")
        assert (await channel.get_message(timeout=20))["type"] == "subscribe"
        plain.publish("az:changes", b"x")
        assert (await channel.get_message(timeout=20))["data"] == b"x"
        await channel.aclose()
    finally:
        plain.close()
        await later.aclose()


async def test_a_server(server: RedisServer) -> None:
    await both(server.url[:-1] + "2")
    assert server.call("GET", "az:{r}:n", db=2) == b"2"


async def test_a_cluster(cluster: RedisCluster) -> None:
    await both(cluster.url)


async def test_a_password_in_a_file_that_changes(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old")
    with RedisServer(tmp_path, "requirepass", SECRET) as own:
        client = sync_client(Target.parse(f"{own.url}?password_file={file}"))
        with pytest.raises(redis.AuthenticationError):
            client.ping()
        file.write_text(SECRET)
        assert client.ping()
        client.close()
        await both(own.url.replace("//", f"//:{SECRET}@"))


async def test_tls(server: RedisServer, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "pki")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    with Toxic(server.port, tls=context) as toxic:
        await both(f"{toxic.url}?ca={certificates.authority}")
        client = sync_client(Target.parse(toxic.url))
        with pytest.raises(redis.ConnectionError):
            client.ping()
        client.close()
        with pytest.raises(StoreUnavailable, match=r"none\.pem"):
            sync_client(Target.parse(f"{toxic.url}?ca={tmp_path}/none.pem"))


def test_what_cannot_be_reached_is_not_tried_twice(tmp_path: Path) -> None:
    port = free_port()
    client = sync_client(Target.parse(f"redis://127.0.0.1:{port}"))
    with pytest.raises(redis.ConnectionError):
        client.ping()
    client.close()
    with pytest.raises(StoreUnavailable, match="no server of the Redis Cluster"):
        sync_client(Target.parse(f"redis+cluster://127.0.0.1:{port}"))


def test_a_command_whose_reply_is_lost_is_not_sent_again(server: RedisServer) -> None:
    with Toxic(server.port) as toxic:
        client = sync_client(Target.parse(toxic.url))
        client.set("az:{r}:count", 0)
        toxic.reset_mid_reply(1)
        with pytest.raises(redis.ConnectionError):
            client.incr("az:{r}:count")
        assert client.get("az:{r}:count") == b"1"
        client.close()
