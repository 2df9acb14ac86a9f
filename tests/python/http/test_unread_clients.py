"""Clients that go away while nothing is read from them: A-CALL-04, A-RES-27, I-S-42, B-HT-20.

The server reads no more of a body than ``body_buffer`` before a handler asks for it, nothing of a paused one, and no more
than 64 KiB of pipelined requests. The end of such a client stands behind bytes that are not read.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import App, OpCode
from support import reset, until
from support.client import Client
from support.running import Running
from support.tls_client import Certificates, TlsClient

Serve = Callable[..., Running]

#: A body of which the first part reaches ``body_buffer``, and the second is not read.
FIRST, SECOND = b"1" * 2000, b"2" * 10_000
#: Half a second less than the time that a client which has shut its side has for its response.
SOON = 4.5


class Server:
    """An application over one transport, and its clients."""

    def __init__(self, over: str, serve: Serve, certificates: Certificates, folder: Path) -> None:
        self.over = over
        self.serve = serve
        self.certificates = certificates
        self.path = str(folder / "socket")

    def start(self, configure: Callable[[App], object], **options: Any) -> None:
        if self.over == "TLS":
            options["options"] = self.certificates.options()
        if self.over == "unix":
            options["listen"] = {"domain": self.path}
        self.running = self.serve(configure, body_buffer=1024, **options)

    def client(self) -> Client:
        if self.over == "TLS":
            return TlsClient(self.running.port, self.certificates.context())
        return Client(self.running.port) if self.over == "TCP" else Client(path=self.path)

    def connections(self) -> int:
        count: int = self.running.app._server.connection_count()
        return count


@pytest.fixture(params=["TCP", "TLS", "unix"])
def server(
    request: pytest.FixtureRequest, serve: Serve, certificates: Certificates, tmp_path: Path
) -> Server:
    return Server(request.param, serve, certificates, tmp_path)


def leave(client: Client, how: str) -> None:
    if how == "RST":
        reset(client)
    else:
        # Under TLS too, without ``close_notify``. A close would be a reset there: session tickets are unread.
        socket.socket.shutdown(client.socket, socket.SHUT_WR)


def head(length: int, target: str = "/") -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


#: A Unix socket has no reset.
DEPARTURES = [("TCP", "RST"), ("TCP", "FIN"), ("TLS", "RST"), ("TLS", "FIN"), ("unix", "FIN")]


@pytest.mark.parametrize(("server", "how"), DEPARTURES, indirect=["server"])
@pytest.mark.parametrize("unread", ["body", "whole body", "paused body", "pipeline"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_handler_is_told(server: Server, kind: str, unread: str, how: str) -> None:
    """A-RES-27: it waits for nothing but the end of its client, and neither reads nor writes."""
    entered = threading.Event()
    told: list[bool] = []

    def configure(app: App) -> None:
        def plain(res: Any, req: Any) -> None:
            res.on_aborted(lambda res: told.append(res.aborted))
            if unread == "paused body":
                res.pause()
            entered.set()

        async def coroutine(res: Any, req: Any) -> None:
            plain(res, req)
            while not res.aborted:
                await asyncio.sleep(0.002)

        app.any("/", plain if kind == "def" else coroutine)

    server.start(configure)
    client = server.client()
    if unread == "pipeline":
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert entered.wait(20)
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3000)
    else:
        size = len(FIRST + SECOND) + (0 if unread == "whole body" else 10)
        client.send(head(size) + FIRST)
        assert entered.wait(20)
        client.send(SECOND)
    begun = time.monotonic()
    leave(client, how)
    until(lambda: told, "the abort handler runs")
    assert told == [True]
    if how == "RST":
        until(lambda: server.connections() == 0, "the connection is gone")
        assert time.monotonic() < begun + SOON, "a reset is the end at once"
    client.close()


@pytest.mark.parametrize("then", ["waits", "resets"])
def test_a_client_that_shuts_its_side_and_gets_no_response(server: Server, then: str) -> None:
    """B-HT-20: it has five seconds for that, or less if it resets meanwhile."""
    entered = threading.Event()
    told = threading.Event()

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            res.on_aborted(lambda res: told.set())
            entered.set()

        app.post("/", handler)

    server.start(configure)
    client = server.client()
    client.send(head(len(FIRST + SECOND)) + FIRST)
    assert entered.wait(20)
    client.send(SECOND)
    begun = time.monotonic()
    leave(client, "FIN")
    assert told.wait(20)
    assert server.connections() == 1
    if then == "resets":
        reset(client)
    until(lambda: server.connections() == 0, "the connection is gone")
    client.close()
    # A Unix socket has no reset.
    assert (time.monotonic() > begun + SOON) == (then == "waits" or server.over == "unix")


@pytest.mark.parametrize("way", ["get_data", "get_data before", "stream", "on_data", "async on_data"])
def test_a_client_that_shuts_its_side_behind_an_unread_body(server: Server, way: str) -> None:
    """B-HT-20: it looks like one that has gone, and still gets its response; its body can be read."""
    entered = threading.Event()
    flags: list[bool] = []

    def configure(app: App) -> None:
        async def begin(res: Any) -> None:
            told = asyncio.Event()

            async def tell(res: Any) -> None:
                told.set()

            res.on_aborted(tell)
            entered.set()
            await told.wait()

        async def coroutine(res: Any, req: Any) -> None:
            if way == "get_data before":
                res.pause()
                waiting = asyncio.ensure_future(res.get_data())
                await begin(res)
                assert not waiting.done(), "the rest of the body can still be read"
                res.resume()
                body = (await waiting).getvalue()
            elif way == "stream":
                await begin(res)
                body = b"".join([piece async for piece in req.stream()])
            else:
                await begin(res)
                body = (await res.get_data()).getvalue()
            flags.append(res.aborted)
            res.end(str(len(body)))

        async def pieces(res: Any, req: Any) -> None:
            await begin(res)
            length = 0

            def piece(res: Any, chunk: bytes, last: bool) -> None:
                nonlocal length
                length += len(chunk)
                if last:
                    flags.append(res.aborted)
                    res.end(str(length))

            async def async_piece(res: Any, chunk: bytes, last: bool) -> None:
                await asyncio.sleep(0)
                piece(res, chunk, last)

            res.on_data(piece if way == "on_data" else async_piece)

        app.post("/", pieces if "on_data" in way else coroutine)

    server.start(configure)
    size = len(FIRST + SECOND)
    with server.client() as client:
        client.send(head(size) + FIRST)
        assert entered.wait(20)
        client.send(SECOND)
        leave(client, "FIN")
        assert client.answer().body == str(size).encode()
        assert client.is_closed()
    assert flags == [True]


def test_the_rest_that_never_comes(server: Server) -> None:
    """The client has shut its side in the middle of its body: who asks for the rest is told that there is none."""
    entered = threading.Event()
    results: list[Any] = []

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            entered.set()
            while not res.aborted:
                await asyncio.sleep(0.002)
            results.append((await res.get_data()).getvalue())
            results.append(res.has_responded())

        app.post("/", handler)

    server.start(configure)
    client = server.client()
    client.send(head(len(FIRST + SECOND) + 10) + FIRST)
    assert entered.wait(20)
    client.send(SECOND)
    leave(client, "FIN")
    until(lambda: len(results) == 2, "get_data is released")
    assert results == [FIRST + SECOND, False]
    until(lambda: server.connections() == 0, "the connection is gone")
    client.close()


def test_a_response_that_has_begun(server: Server) -> None:
    """The handler is told, and ends it: nobody else waits for that."""
    entered = threading.Event()
    told: list[bool] = []

    def configure(app: App) -> None:
        def end(res: Any) -> None:
            told.append(True)
            res.close()

        def handler(res: Any, req: Any) -> None:
            res.write("begun")
            res.on_aborted(end)
            entered.set()

        app.post("/", handler)

    server.start(configure)
    client = server.client()
    client.send(head(len(FIRST + SECOND)) + FIRST)
    client.until(b"begun")
    client.send(SECOND)
    leave(client, "FIN")
    until(lambda: told, "the abort handler runs")
    until(lambda: server.connections() == 0, "the connection is gone")
    client.close()


def test_a_reset_behind_messages_that_nobody_has_got(serve: Serve) -> None:
    """The listener of a WebSocket takes its time, so nothing is read; its client resets."""
    entered = threading.Event()
    go_on = threading.Event()
    closed = threading.Event()

    def configure(app: App) -> None:
        async def message(ws: Any, text: Any, code: OpCode) -> None:
            entered.set()
            while not go_on.is_set():
                await asyncio.sleep(0.002)

        app.ws(
            "/",
            {"message": message, "close": lambda ws, code, text: closed.set(), "inbound_buffer": 1000},
        )

    running = serve(configure)
    client = running.websocket()
    client.send_binary(b"x" * 5000)
    assert entered.wait(20)
    for _ in range(5):
        client.send_binary(b"x" * 5000)
    reset(client)
    until(lambda: running.app._server.connection_count() == 0, "the connection is gone")
    go_on.set()
    assert closed.wait(20), "the close listener is not called"
