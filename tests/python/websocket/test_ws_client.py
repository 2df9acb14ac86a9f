"""The client of the WebSocket tests, against a foreign server: so its results about ours can be trusted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.server import serve

from support import until
from support.client import Client
from support.ws_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    SAMPLE_ACCEPT,
    SAMPLE_KEY,
    TEXT,
    Frame,
    WebSocketClient,
    accept_for,
    connect,
    frame,
    handshake,
    masked_with,
)


class Peer:
    """The other server: it echoes, and obeys some messages."""

    def __init__(self) -> None:
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self.port = 0
        self.closed: list[int | None] = []
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(20)

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        async with serve(
            self._echo,
            "127.0.0.1",
            0,
            compression=None,
            select_subprotocol=lambda _, offered: websockets.Subprotocol("chat") if offered else None,
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await self._end.wait()

    async def _echo(self, connection: Any) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for message in connection:
                await self._answer(connection, message)
        self.closed.append(connection.close_code)

    async def _answer(self, connection: Any, message: str | bytes) -> None:
        if message == "fragments":
            await connection.send(iter(["one ", "two ", "three"]))
        elif message == "ping":
            await connection.ping(b"are you there")
        elif message == "close":
            await connection.close(4321, "because")
        else:
            await connection.send(message)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._loop.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.stop()


def test_the_example_key() -> None:
    """RFC 6455 1.3."""
    assert accept_for(SAMPLE_KEY) == SAMPLE_ACCEPT


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (frame(TEXT, b"Hello", mask=b"\x37\xfa\x21\x3d"), "818537fa213d7f9f4d5158"),
        (frame(TEXT, b"Hello", masked=False), "810548656c6c6f"),
        (frame(TEXT, b"Hel", masked=False, fin=False), "010348656c"),
        (frame(CONTINUATION, b"lo", masked=False), "80026c6f"),
        (frame(PING, b"Hello", masked=False), "890548656c6c6f"),
        (frame(BINARY, bytes(256), masked=False)[:4], "827e0100"),
        (frame(BINARY, bytes(65536), masked=False)[:10], "827f0000000000010000"),
        (frame(TEXT, b"", masked=False, rsv=4), "c100"),
        (frame(TEXT, b"", masked=False, rsv=3), "b100"),
        (frame(15, b"", mask=b"\0\0\0\0", length=200), "8ffe00c800000000"),
        (frame(TEXT, b"a", masked=False, length_bytes=8), "817f000000000000000161"),
    ],
)
def test_frames_to_the_byte(made: bytes, expected: str) -> None:
    """RFC 6455 5.7, and a few invalid ones."""
    assert made.hex() == expected


def test_masks() -> None:
    payload = bytes(range(256)) * 3 + b"x"
    assert masked_with(b"abcd", masked_with(b"abcd", payload)) == payload
    assert masked_with(b"abcd", b"abcde") == b"\0\0\0\0" + bytes([ord("e") ^ ord("a")])
    assert masked_with(b"abcd", b"") == b""


def test_the_head_that_is_sent() -> None:
    assert handshake("/chat?x=1", key="k", version=None, headers=["Cookie: a=b"]) == (
        b"GET /chat?x=1 HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: k\r\nCookie: a=b\r\n\r\n"
    )


def test_messages(peer: Peer) -> None:
    with connect(peer.port, "/some/path?query", key=SAMPLE_KEY) as client:
        assert client.response.header("sec-websocket-accept") == SAMPLE_ACCEPT
        for message in ("", "text", "a" * 125, "a" * 126, "a" * 65535, "a" * 65536, "\N{SNOWMAN}"):
            assert client.send_text(message).recv_message() == message
            assert client.send_binary(message.encode()).recv_message() == message.encode()
        assert client.send_text("fragments").recv_data() == (TEXT, b"one two three")
        client.send_frame(TEXT, b"in ", fin=False).ping(b"between").send_frame(CONTINUATION, b"pieces")
        assert client.recv_frame() == Frame(True, False, PONG, b"between")
        assert client.recv_message() == "in pieces"
        assert client.send_text("ping").recv_frame() == Frame(True, False, PING, b"are you there")
        assert client.pong(b"are you there").finish(1000, "bye") == (1000, b"bye")


def test_the_request_and_frames_in_one_segment(peer: Peer) -> None:
    with connect(peer.port, first_frames=frame(TEXT, b"one") + frame(BINARY, b"two")) as client:
        assert [client.recv_message(), client.recv_message()] == ["one", b"two"]


def test_headers_and_protocol(peer: Peer) -> None:
    with connect(peer.port, headers=["Sec-WebSocket-Protocol: other, chat"]) as client:
        assert (client.protocol, client.extensions) == ("chat", None)


def test_the_servers_close(peer: Peer) -> None:
    with connect(peer.port) as client:
        assert client.send_text("close").expect_close_frame() == (4321, b"because")
        client.send_close(4321, "because")
        assert client.is_closed()


def test_closing_without_a_code(peer: Peer) -> None:
    with connect(peer.port) as client:
        assert client.finish(None)[1] == b""


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(TEXT, b"x", masked=False), 1002),
        (frame(TEXT, b"x", rsv=2), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(BINARY, b"", length=1 << 30), 1009),
    ],
    ids=["no mask", "rsv", "utf-8", "continuation", "fin", "close", "size"],
)
def test_what_is_wrong_arrives_wrong(peer: Peer, bad: bytes, code: int) -> None:
    """A frame that shall break a rule breaks it for others too."""
    with connect(peer.port) as client:
        client.send(bad)
        assert client.expect_close_frame()[0] == code


@pytest.mark.parametrize("leave", ["abort", "half_close"])
def test_leaving_without_a_word(peer: Peer, leave: str) -> None:
    with connect(peer.port) as client:
        getattr(client, leave)()
    until(lambda: peer.closed == [1006], "the server notices")


def test_what_is_no_websocket_fails(peer: Peer) -> None:
    with WebSocketClient(peer.port) as client:
        client.send(handshake(version="12"))
        with pytest.raises(AssertionError, match=r"426|400"):
            client.opened()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (
            b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "x is no answer",
        ),
        (b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\n\r\n", "^Upgrade"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", "200 OK"),
    ],
    ids=["accept", "upgrade", "status"],
)
def test_wrong_answers_are_noticed(answer: bytes, complaint: str) -> None:
    client = WebSocketClient.__new__(WebSocketClient)
    client.pending = answer
    with pytest.raises(AssertionError, match=complaint):
        client.opened()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x81\x85\0\0\0\0Hello",
        b"\xa1\x00",
        b"\x83\x00",
        b"\x09\x00",
        b"\x89\x7e\x00\x7e" + bytes(126),
        b"\x81\x7e\x00\x7d" + bytes(125),
        b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff" + bytes(65535),
        b"\xc9\x00",
    ],
    ids=["mask", "rsv", "opcode", "fin", "control size", "two bytes", "eight bytes", "compressed ping"],
)
def test_frames_that_no_server_may_send(sent: bytes) -> None:
    client = WebSocketClient.__new__(WebSocketClient)
    client.pending = sent
    with pytest.raises(AssertionError):
        client.recv_frame()


def test_it_is_a_client_of_bytes(peer: Peer) -> None:
    """Everything a plain client can do, it can, too."""
    with WebSocketClient(peer.port) as client:
        assert isinstance(client, Client)
        client.send_slowly(handshake()).opened()  # type: ignore[attr-defined]
        assert client.send_text("a").recv_message() == "a"
