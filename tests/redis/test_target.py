"""The URL of a Redis store, taken apart."""

from pathlib import Path
from typing import Any

import pytest

from authz.store.protocols import StoreUnusable
from authz.store.redis.target import CLUSTER, SENTINEL, SINGLE, Target, shown

URLS: dict[str, dict[str, Any]] = {
    "redis://h": {"kind": SINGLE, "hosts": (("h", 6379),), "db": 0, "tls": False, "budget_ms": 50},
    "redis://h:7000/3": {"hosts": (("h", 7000),), "db": 3},
    "redis://h/": {"db": 0},
    "redis://[::1]:7000": {"hosts": (("::1", 7000),)},
    "redis://:s3cret@h": {"user": "", "password": "s3cret"},
    "redis://alice:s3cret@h": {"user": "alice", "password": "s3cret"},
    "redis://al%40ice:s%2F3%3Acret%40@h:1": {"user": "al@ice", "password": "s/3:cret@", "hosts": (("h", 1),)},
    "rediss://h?ca=/c.pem&cert=/o.pem&key=/k.pem": {
        "tls": True,
        "ca": "/c.pem",
        "cert": "/o.pem",
        "key": "/k.pem",
    },
    "redis://h?budget=20ms": {"budget_ms": 20},
    "redis://h?wait_replicas=2": {"wait_replicas": 2},
    "redis+cluster://a,b:7001,[::2]:7002": {
        "kind": CLUSTER,
        "hosts": (("a", 6379), ("b", 7001), ("::2", 7002)),
    },
    "rediss+cluster://u:s3cret@a,b": {"kind": CLUSTER, "tls": True, "user": "u", "password": "s3cret"},
    "redis+sentinel://a,b:7001/mymaster": {
        "kind": SENTINEL,
        "hosts": (("a", 26379), ("b", 7001)),
        "name": "mymaster",
        "db": 0,
    },
    "rediss+sentinel://a/my%20master/2?sentinel_user=w": {
        "tls": True,
        "name": "my master",
        "db": 2,
        "sentinel_user": "w",
    },
}


@pytest.mark.parametrize("url", URLS)
def test_url(url: str) -> None:
    target = Target.parse(url)
    assert {name: getattr(target, name) for name in URLS[url]} == URLS[url]
    assert "s3cret" not in repr(target)
    assert "cret" not in str(target)


WRONG = {
    "http://h": "begins with redis://",
    "redis:/h": "begins with redis://",
    "redis://": "lacks a host",
    "redis://u:s3cret@": "lacks a host",
    "redis://h:s3cret": "a port that is no number",
    "redis://[::1": "broken IPv6",
    "redis://h/x": "number of the database",
    "redis://h/0/s3cret": "number of the database",
    "redis+cluster://a,,b": "lacks a host",
    "redis+cluster://a/1": "only the database 0",
    "redis+sentinel://a,b": "ends with the master's name",
    "redis://h?budget=0ms": "1ms to 10000ms",
    "redis://h?wait_replicas=s3cret": "0 to 16",
    "redis://h?budget=s3cret": "1ms to 10000ms",
    "redis://h?password=s3cret": "password_file",
    "redis://s3cret/s3cret@h": "number of the database",
}


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_url_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(StoreUnusable, match=WRONG[url]) as caught:
        Target.parse(url)
    assert "s3cret" not in str(caught.value)


def test_a_password_in_a_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    target = Target.parse(f"redis://alice@h?password_file={file}")
    with pytest.raises(StoreUnusable, match="cannot read the password"):
        _ = target.password
    for password in ("first", "second"):
        file.write_text(password + "\n")
        assert target.password == password


def test_the_password_of_sentinels_is_another_one(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("theirs")
    target = Target.parse(f"redis+sentinel://:ours@h/m?sentinel_password_file={file}")
    assert (target.password, target.sentinel_password) == ("ours", "theirs")
    assert Target.parse("redis+sentinel://:ours@h/m").sentinel_password == ""


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    for name in (str(broken), "/nowhere/ca.pem"):
        with pytest.raises(StoreUnusable, match=name):
            Target.parse(f"rediss://h?ca={name}").context()
    assert Target.parse("redis://h").context() is None
    assert Target.parse("rediss://h").context() is not None


def test_addresses_are_shown_as_people_write_them() -> None:
    assert [shown(("h", 1)), shown(("::1", 2))] == ["h:1", "[::1]:2"]
