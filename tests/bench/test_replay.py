"""The bench's own client: answers in the order of the requests, and waits from when each was due."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from bench.connections import Http1, Http2
from bench.h2_frames import DATA, HEADERS, SETTINGS, frame, frames, header_block
from bench.load import framed
from bench.oracle import Verdict, expected, judge
from bench.replay import Replay

HANGS = b"hangs"


@contextmanager
def listening(answer: "type[_Http1Peer] | type[_Http2Peer]") -> Iterator[int]:
    """A server that takes one connection, in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        peer = threading.Thread(target=answer(door).run)
        peer.start()
        try:
            yield door.getsockname()[1]
        finally:
            peer.join(10)
            assert not peer.is_alive()


class _Http1Peer:
    """Answers with 200, or 403 for what says so."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door

    def run(self) -> None:
        connection, _ = self._door.accept()
        with connection:
            while got := connection.recv(65536):
                if HANGS in got:
                    time.sleep(0.2)  # a pause that the client has to tell
                status = b"403 Forbidden" if b"denied" in got else b"200 OK"
                connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n")
                connection.sendall(b"ok")


class _Http2Peer:
    """Echoes messages, those of a batch in reverse; fails a call whose message says so."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door

    def run(self) -> None:
        connection, _ = self._door.accept()
        with connection:
            buffer = bytearray()
            preface = 24
            connection.sendall(frame(SETTINGS, 0, 0, b""))
            while got := connection.recv(65536):
                buffer += got
                if preface and len(buffer) >= preface:
                    del buffer[:preface]
                    preface = 0
                asked = [(stream, payload) for kind, _, stream, payload in frames(buffer) if kind == DATA]
                for stream, payload in reversed(asked):
                    if b"fails" not in payload:
                        connection.sendall(frame(HEADERS, 4, stream, b"") + frame(DATA, 0, stream, payload))
                    connection.sendall(frame(HEADERS, 5, stream, b""))


def test_http1_answers_come_in_the_order_of_the_requests() -> None:
    requests = [b"POST /denied HTTP/1.1\r\n\r\n", b"POST /fine HTTP/1.1\r\n\r\n"]
    with listening(_Http1Peer) as port, Replay(partial(Http1, port), 1) as replay:
        played = replay.saturate(requests, 5)
    assert played.answers == [b"http/1.1 403 forbidden", b"http/1.1 200 ok"] * 2 + [b"http/1.1 403 forbidden"]
    assert played.waits == []


def test_http2_calls_are_told_apart() -> None:
    requests = [framed(b"%d" % at) for at in range(10)]
    connect = partial(Http2, headers={"te": "trailers"}, streams=4, path="/x.Y/Z")
    with listening(_Http2Peer) as port, Replay(lambda told: connect(port, answered=told), 1) as replay:
        played = replay.saturate(requests, 25)
    assert played.answers == [b"%d" % (at % 10) for at in range(25)]


def test_a_call_without_a_message_has_failed() -> None:
    with listening(_Http2Peer) as port, Replay(partial(Http2, port, "/x.Y/Z", {}, 4), 1) as replay:
        played = replay.saturate([framed(b"fails"), framed(b"")], 2)
    assert played.answers == [b"", b"\0"]


def test_a_pause_is_told_by_every_request_that_was_due_in_it() -> None:
    """Coordinated omission would tell of one slow request."""
    requests = [b"POST /" + HANGS + b" HTTP/1.1\r\n\r\n", *[b"POST / HTTP/1.1\r\n\r\n"] * 99]
    with listening(_Http1Peer) as port, Replay(partial(Http1, port), 1) as replay:
        played = replay.pace(requests, 20, 1000)
    assert len(played.waits) == 20
    assert min(played.waits) > 0.15  # the last was due after 19 ms, and the pause takes 200


def test_two_servers_are_asked_in_turns() -> None:
    requests = [b"POST /fine HTTP/1.1\r\n\r\n", b"POST /denied HTTP/1.1\r\n\r\n"]
    with (
        listening(_Http1Peer) as first,
        listening(_Http1Peer) as second,
        Replay(partial(Http1, first), 1, partial(Http1, second)) as replay,
    ):
        played = replay.pace(requests, 6, 1000)
    assert played.answers == [b"http/1.1 200 ok", b"http/1.1 403 forbidden"] * 3
    assert len(played.waits) == 6
    assert min(played.waits) > 0


def test_a_header_too_long_for_this_client_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        header_block({"x": "y" * 127})


@pytest.mark.parametrize(
    ("keys", "quota", "asked", "fit"), [(4, 500, 800, 2000), (3, 10, 4, 12), (1, 0, 9, 0)], ids=str
)
def test_the_oracle_of_keys_that_share_nothing(keys: int, quota: int, asked: int, fit: int) -> None:
    assert expected(keys, quota, asked) == fit


def test_the_gate_tells_what_was_admitted() -> None:
    requests = [b"POST /fine HTTP/1.1\r\n\r\n", b"POST /denied HTTP/1.1\r\n\r\n"]
    with listening(_Http1Peer) as port, Replay(partial(Http1, port), 1) as replay:
        verdict = judge(replay, requests, 3, 6, lambda answer: b" 200 " in answer)
    assert verdict == Verdict(6, 6)
    assert str(verdict) == "6 of 6"
    assert str(Verdict(7, 6)) == "7 of 6 WRONG"
