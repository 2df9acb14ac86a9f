"""WebSockets on streams of HTTP/2 (RFC 8441): the behaviours of any other, in frames that are DATA.

Rows: C-H-03, C-F-01, C-N-01..07, C-C-01, C-C-02, C-P-01.
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App, CompressOptions, OpCode
from support import until
from support.h2_client import H2Client
from support.lanes import each_lane, on, options
from support.ws_client import BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame

Serve = Callable[..., Any]


class Socket:
    """A WebSocket on a stream; it shares its connection with others."""

    def __init__(self, client: H2Client, path: str = "/", headers: Any = (), version: str = "13") -> None:
        self.client = client
        client.until(lambda: client.settings)
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path)]
        pseudo.append((":authority", "example.org"))
        self.number = client.request(
            pseudo=pseudo, headers=[("sec-websocket-version", version), *headers], end=False, body=None
        )
        self.stream = client.streams[self.number]
        client.until(lambda: self.stream.status or self.stream.over)

    def send(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        self.client.send(self.number, frame(opcode, payload, **options))

    def receive(self) -> tuple[int, bytes]:
        """The next frame."""

        def whole() -> bool:
            body = self.stream.body
            if len(body) < 2 or (body[1] == 126 and len(body) < 4):
                return False
            assert body[1] < 127
            return len(body) >= self._size()[0] + self._size()[1]

        self.client.until(lambda: whole() or self.stream.over)
        head, size = self._size()
        opcode, payload = self.stream.body[0], bytes(self.stream.body[head : head + size])
        del self.stream.body[: head + size]
        return opcode, payload

    def _size(self) -> tuple[int, int]:
        body = self.stream.body
        return (4, int.from_bytes(body[2:4], "big")) if body[1] == 126 else (2, body[1])


def echo(lane: str, told: list[Any], **behavior: Any) -> dict[str, Any]:
    return {
        "message": on(lane, lambda ws, message, opcode: ws.send(message, opcode, compress=True)),
        "close": on(lane, lambda ws, code, message: told.append((code, message))),
        "max_payload_length": 65536,
    } | behavior


@each_lane
def test_messages_pings_and_the_close(serve: Serve, lane: str) -> None:
    """200 in place of 101 and no key; text, binary, ping and pong; the close frame is answered and ends the stream."""
    told: list[Any] = []
    running = serve(lambda app: app.ws("/", echo(lane, told)), **options(lane))
    with H2Client(running.port) as client:
        client.until(lambda: 8 in client.settings)
        assert client.settings[8] == 1
        socket = Socket(client)
        assert socket.stream.status == 200
        unwanted = {"upgrade", "connection", "sec-websocket-accept", "content-length"}
        assert not unwanted & socket.stream.headers.keys()
        socket.send(TEXT, "héllo".encode())
        assert socket.receive() == (0x80 | TEXT, "héllo".encode())
        socket.send(BINARY, b"b" * 40_000)
        assert socket.receive() == (0x80 | BINARY, b"b" * 40_000)
        socket.send(PING, b"are you there")
        assert socket.receive() == (0x80 | PONG, b"are you there")
        socket.send(CLOSE, close_payload(1000, "bye"))
        assert socket.receive() == (0x80 | CLOSE, close_payload(1000, "bye"))
        client.until(lambda: socket.stream.over)
        assert socket.stream.ended
        until(lambda: told, "the close listener")
        assert told == [(1000, "bye")] or told == [(1000, b"bye")]


def test_sockets_and_requests_share_a_connection(serve: Serve) -> None:
    """And topics reach sockets of both kinds."""
    told: list[Any] = []

    def configure(app: App) -> None:
        behavior = echo("def", told) | {"open": lambda ws: ws.subscribe("news")}
        app.ws("/", behavior)

        def publish(res: Any, req: Any) -> None:
            app.publish("news", "extra", OpCode.TEXT)
            res.end("published")

        app.get("/publish", publish)

    running = serve(configure)
    with H2Client(running.port) as client, running.websocket() as other:
        sockets = [Socket(client) for _ in range(3)]
        assert bytes(client.get("/publish").body) == b"published"
        for socket in sockets:
            assert socket.receive() == (0x80 | TEXT, b"extra")
        assert other.recv_message() == "extra"


def test_the_handshake_chooses_a_protocol_and_compression(serve: Serve) -> None:
    """C-H-03: sub-protocol and permessage-deflate as over HTTP/1.1, through an upgrade handler that is a coroutine."""
    seen: list[Any] = []

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        seen.append((req.get_method(), req.get_header("x-mine")))
        res.write_header("X-Theirs", "yes")
        protocol = req.get_header("sec-websocket-protocol")
        res.upgrade("", protocol, req.get_header("sec-websocket-extensions"), context, {"user": "data"})

    told: list[Any] = []
    behavior = echo("def", told, compression=CompressOptions.SHARED_COMPRESSOR, upgrade=upgrade)
    running = serve(lambda app: app.ws("/", behavior))
    with H2Client(running.port) as client:
        headers = [
            ("sec-websocket-protocol", "chat, other"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("x-mine", "1"),
        ]
        socket = Socket(client, headers=headers)
        assert (socket.stream.status, socket.stream.headers["sec-websocket-protocol"]) == (200, "chat")
        assert socket.stream.headers["sec-websocket-extensions"].startswith("permessage-deflate")
        assert socket.stream.headers["x-theirs"] == "yes"
        socket.send(TEXT, b"again and again and again and again")
        opcode, payload = socket.receive()
        assert opcode == 0xC0 | TEXT
        inflated = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
        assert inflated == b"again and again and again and again"
        assert seen == [("CONNECT", "1")]


@pytest.mark.parametrize(
    ("path", "version", "protocol", "status"),
    [
        ("/", "12", "websocket", 426),
        ("/none", "13", "websocket", 404),
        ("/http", "13", "websocket", 404),
        ("/", "13", "other", 501),
    ],
)
def test_handshakes_that_are_refused(
    serve: Serve, path: str, version: str, protocol: str, status: int
) -> None:
    """RFC 8441 4 and 5: nothing but a socket's route opens a tunnel."""

    def configure(app: App) -> None:
        app.ws("/", echo("def", []))
        app.any("/http", lambda res, req: res.end("no tunnel"))

    running = serve(configure)
    with H2Client(running.port) as client:
        client.until(lambda: client.settings)
        pseudo = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":path", path)]
        pseudo.append((":authority", "example.org"))
        answer = client.get(pseudo=pseudo, headers=[("sec-websocket-version", version)], end=False)
        assert answer.status == status


@pytest.mark.parametrize("end", ["reset", "end", "connection"])
def test_clients_that_leave_are_heard_of_once(serve: Serve, end: str) -> None:
    """C-C: 1006 without a close frame, for every end of the stream."""
    told: list[Any] = []
    running = serve(lambda app: app.ws("/", echo("def", told)))
    with H2Client(running.port) as client:
        socket = Socket(client)
        if end == "reset":
            client.h2.reset_stream(socket.number, 8)
        elif end == "end":
            client.h2.end_stream(socket.number)
        client.flush()
        if end != "connection":
            until(lambda: told, "the close listener")
            assert bytes(client.get("/").body) == b"Not Found"
    until(lambda: told, "the close listener")
    assert [code for code, _ in told] == [1006]


def test_a_server_that_ends_a_socket_ends_its_stream(serve: Serve) -> None:
    """C-C-01, C-C-08: end() with a code, close() without a word; the connection lives on."""

    def order(ws: Any, message: Any, opcode: Any) -> None:
        if message == "end":
            ws.end(4000, "reason")
        else:
            ws.close()

    told: list[Any] = []
    running = serve(lambda app: app.ws("/", echo("def", told) | {"message": order}))
    with H2Client(running.port) as client:
        socket = Socket(client)
        socket.send(TEXT, b"end")
        assert socket.receive() == (0x80 | CLOSE, close_payload(4000, "reason"))
        client.until(lambda: socket.stream.over)
        assert socket.stream.ended
        socket = Socket(client)
        socket.send(TEXT, b"close")
        client.until(lambda: socket.stream.over)
        assert socket.stream.reset is not None
        assert client.get("/").status == 404


def test_backpressure_is_that_of_the_stream(serve: Serve) -> None:
    """A client that gives no window makes messages wait, and drain comes when they have been sent."""
    drained = threading.Event()
    amounts: list[int] = []

    def flood(ws: Any, message: Any, opcode: Any) -> None:
        for _ in range(10):
            ws.send(b"x" * 10_000, OpCode.BINARY)
        amounts.append(ws.get_buffered_amount())

    behavior = echo("def", []) | {
        "message": flood,
        "drain": lambda ws: drained.set(),
        "max_backpressure": 1 << 20,
    }
    running = serve(lambda app: app.ws("/", behavior))
    with H2Client(running.port, window=1000, acknowledge=False) as client:
        socket = Socket(client)
        socket.send(TEXT, b"go")
        client.until(lambda: len(socket.stream.body) >= 1000)
        until(lambda: amounts, "the messages")
        assert amounts[0] > 90_000
        assert not drained.is_set()
        client.h2.increment_flow_control_window(200_000)
        client.h2.increment_flow_control_window(200_000, socket.number)
        client.flush()
        client.until(lambda: len(socket.stream.body) == 10 * 10_004)
        assert drained.wait(20)


def test_closing_the_application_tells_its_sockets(serve: Serve) -> None:
    """1001 on each stream, then GOAWAY and the end."""
    told: list[Any] = []
    running = serve(lambda app: app.ws("/", echo("def", told)))
    with H2Client(running.port) as client:
        Socket(client)
        Socket(client)
        running.app.close()
        data = b""
        while piece := client.socket.recv(65536):
            data += piece
        assert data.count(b"\x88\x02\x03\xe9") == 2
    running.join()
    assert [code for code, _ in told] == [1001, 1001]


def test_small_messages_that_wait_end_nothing(serve: Serve) -> None:
    """Ten thousand messages of ten bytes for a socket that is busy with the first: they wait, and other streams go on."""
    got: list[int] = []
    entered = threading.Event()
    release = threading.Event()

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        entered.set()
        while not release.is_set():
            await asyncio.sleep(0.001)
        got.append(len(message))

    def configure(app: App) -> None:
        app.ws("/", {"message": message, "inbound_buffer": 1024})
        app.get("/", lambda res, req: res.end("other"))

    running = serve(configure)
    with H2Client(running.port) as client:
        socket = Socket(client)
        small = frame(TEXT, b"0123456789")
        client.send(socket.number, small)
        assert entered.wait(20)
        for _ in range(100):
            for _ in range(100):
                client.h2.send_data(socket.number, small)
            client.flush()
        assert bytes(client.get("/").body) == b"other"
        release.set()
        until(lambda: len(got) == 10_001, "all of the messages")
        assert bytes(client.get("/").body) == b"other"


def test_a_handshake_that_ends_its_stream_is_refused(serve: Serve) -> None:
    """No message could ever be sent on that socket: 400, and no listener is called."""
    told: list[Any] = []
    behavior = echo("def", told, open=lambda ws: told.append("open"))
    running = serve(lambda app: app.ws("/", behavior))
    with H2Client(running.port) as client:
        client.until(lambda: client.settings)
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/")]
        pseudo.append((":authority", "example.org"))
        number = client.request(pseudo=pseudo, headers=[("sec-websocket-version", "13")], end=True)
        assert client.answer(number).status == 400
        assert told == []
