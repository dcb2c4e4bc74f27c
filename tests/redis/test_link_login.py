"""Getting in: users, passwords, TLS, databases, and what is said to whom who does not get in."""

import logging
import ssl
from pathlib import Path

import pytest

from authz.store.redis.link_open import open_link
from authz.store.redis.target import Target
from tests.redis.link_kit import ECHO, PATIENT, linked, once, outcome, until
from tests.support.certificates import make_certificates
from tests.support.ports import free_port
from tests.support.redis import RedisCluster, RedisServer
from tests.support.toxic import Toxic

SECRET = "hunter2-and-more"
K = ["az:{0}:k"]


def with_login(server: RedisServer, login: str) -> str:
    return server.url.replace("redis://", f"redis://{login}@") + PATIENT


async def test_a_password(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "requirepass", SECRET) as own:
        async with linked(with_login(own, f":{SECRET}")) as link:
            assert await link.run(ECHO, K, ["in"]) == b"in"


@pytest.mark.parametrize(
    ("login", "says"),
    [
        ("", "wants a password"),
        (f":{SECRET}-not", "does not accept the user or the password"),
        (f"nobody:{SECRET}", "does not accept the user or the password"),
    ],
    ids=["none", "wrong", "unknown-user"],
)
async def test_who_does_not_get_in_is_told_what_to_do_and_no_secret(
    login: str, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer(tmp_path, "requirepass", SECRET) as own:
        async with linked(with_login(own, login) if login else own.url + PATIENT) as link:
            trouble = link.trouble
            assert trouble is not None
            assert says in trouble
            assert own.address in trouble
            assert "password_file" in trouble
            said = await outcome(link.run(ECHO, K, ["x"]))
            assert "hunter2" not in trouble + said + caplog.text + repr(link)
            # Put right on the server, it comes by itself.
            own.call("CONFIG", "SET", "requirepass", "", password=SECRET)
            own.call("ACL", "SETUSER", "nobody", "on", f">{SECRET}", "~*", "&*", "+@all")
            if "not" not in login:
                await until(lambda: link.trouble is None)


async def test_a_user_of_an_acl_with_what_the_docs_say_and_a_password_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old\n")
    with RedisServer(tmp_path) as own:
        rules = [
            "resetchannels",
            "~az:*",
            "&az:*",
            "+@all",
            "-@admin",
            "-@dangerous",
            "+info",
            "+cluster|slots",
        ]
        own.call("ACL", "SETUSER", "authz", "on", f">{SECRET}", *rules)
        async with linked(with_login(own, "authz") + f"&password_file={file}") as link:
            assert "password" in (link.trouble or "")
            file.write_text(SECRET + "\n")
            await until(lambda: link.trouble is None)
            assert await once(link, "in") == 1
            assert "ACL" in await outcome(link.command("GET", "somebody's"))
            assert link.trouble is None


async def test_name_and_database(server: RedisServer) -> None:
    async with linked(server.url[:-1] + "3" + PATIENT) as link:
        await link.command("SET", "az:{0}:here", "x")
        assert server.call("GET", "az:{0}:here", db=3) == b"x"
        mine = [line for line in server.call("CLIENT", "LIST").decode().splitlines() if "name=authz" in line]
        assert len(mine) == 1
        assert " db=3 " in mine[0]


async def test_tls(server: RedisServer, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "pki")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    with Toxic(server.port, tls=context) as toxic:
        async with linked(f"{toxic.url}{PATIENT}&ca={certificates.authority}") as link:
            assert link.trouble is None
            assert await link.run(ECHO, K, ["x" * 100_000]) == b"x" * 100_000
        async with linked(toxic.url + PATIENT) as link:
            assert "not trusted" in (link.trouble or "")
            assert "?ca=" in (link.trouble or "")
        async with linked(
            f"{server.url.replace('redis:', 'rediss:')}{PATIENT}&ca={certificates.authority}"
        ) as link:
            assert link.trouble is not None
        async with linked(toxic.url.replace("rediss:", "redis:") + PATIENT) as link:
            assert link.trouble is not None
        async with linked(f"{toxic.url}{PATIENT}&ca={tmp_path}/none.pem") as link:
            assert "none.pem" in (link.trouble or "")


async def test_one_server_of_a_cluster_is_not_taken_for_a_whole_one(cluster: RedisCluster) -> None:
    async with linked(cluster.masters[0].url + PATIENT) as link:
        assert "redis+cluster://" in (link.trouble or "")


async def test_no_cluster_is_not_taken_for_one(server: RedisServer) -> None:
    async with linked(f"redis+cluster://{server.address}{PATIENT}") as link:
        assert "cluster support disabled" in (link.trouble or "")


async def test_a_start_before_redis_says_so_and_goes_on_trying(tmp_path: Path) -> None:
    port = free_port()
    link = open_link(Target.parse(f"redis://127.0.0.1:{port}{PATIENT}"))
    await link.start()
    assert "nothing listens there; is it running?" in (link.trouble or "")
    assert link.run(ECHO, K, ["x"]).done()
    with RedisServer(tmp_path, port=port):
        await until(lambda: link.trouble is None)
        assert await link.run(ECHO, K, ["x"]) == b"x"
    await link.close()


async def test_a_start_beside_a_server_that_hangs_goes_on_too(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as own:
        own.pause()
        async with linked(own.url + PATIENT) as link:
            assert "it does not answer within 1 s" in (link.trouble or "")
            own.resume()
            await until(lambda: link.trouble is None)
            assert await link.run(ECHO, K, ["x"]) == b"x"


async def test_a_name_that_does_not_exist(tmp_path: Path) -> None:
    async with linked("redis://nowhere.invalid:6379") as link:
        assert "nowhere.invalid:6379" in (link.trouble or "")
