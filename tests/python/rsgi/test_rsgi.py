"""RSGI 1.6 (S-RSGI-01 to S-RSGI-15)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import RSGI, App
from socketify.rsgi import (
    HTTPProtocol,
    RSGIProtocolClosed,
    RSGIProtocolError,
    Scope,
    WebsocketMessageType,
    WebsocketProtocol,
)
from support import until
from support.client import Client
from support.command import Project
from support.h2_client import H2Client
from support.running import Running
from support.ws_client import BINARY, TEXT

Serve = Callable[..., Running]

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


def serving(application: Any, **options: Any) -> Callable[[App], None]:
    """Has an application serve every path of an App, as the class does."""

    def configure(app: App) -> None:
        RSGI(application, **options)._mount(app)

    return configure


def test_the_scope(serve: Serve) -> None:
    """S-RSGI-02, S-RSGI-03."""
    scopes: list[Scope] = []

    async def application(scope: Scope, protocol: HTTPProtocol) -> None:
        scopes.append(scope)
        protocol.response_empty(200)

    running = serve(serving(application))
    with running.client() as client:
        client.send(b"GET /a%20b?c=%20 HTTP/1.1\r\nHost: test\r\nX-A: 1\r\nX-a: \xe4\r\n\r\n").answer()
        host, port = client.socket.getsockname()
        client.send(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").answer()
    with H2Client(running.port) as h2:
        h2.get("/")
    one, old, two = scopes
    assert (one.proto, one.rsgi_version, one.http_version, one.method) == ("http", "1.6", "1.1", "GET")
    assert (one.scheme, one.path, one.query_string, one.authority) == ("http", "/a b", "c=%20", None)
    assert (one.server, one.client) == (f"127.0.0.1:{running.port}", f"{host}:{port}")
    assert (old.http_version, two.http_version, two.authority) == ("1", "2", "example.org")
    headers = one.headers
    assert headers["x-a"] == headers.get("x-a") == "1"
    assert headers.get_all("x-a") == ["1", "\xe4"]
    assert headers.get_all("missing") == []
    assert headers.get("missing") is None
    assert "x-a" in headers
    assert list(headers) == list(headers.keys()) == ["host", "x-a"]
    assert dict(headers.items()) == {"host": "test", "x-a": "1"}
    assert len(headers) == 2
    with pytest.raises(KeyError):
        headers["missing"]


SITE = """
class Site:
    def __rsgi_init__(self, loop):
        print("init", loop.is_running(), flush=True)

    def __rsgi_del__(self, loop):
        print("del", loop.is_running(), flush=True)

    async def __rsgi__(self, scope, protocol):
        protocol.response_str(200, [("content-type", "text/plain")], scope.path)

app = Site()

def plain(scope, protocol):
    return app.__rsgi__(scope, protocol)
"""


@pytest.mark.parametrize("target", ["main:app", "main:plain"])
def test_the_command_line(project: Project, target: str) -> None:
    """S-RSGI-01, S-RSGI-14: hooks are called while the loop does not run."""
    project.write("main.py", SITE)
    interface = ["--interface", "rsgi"] if target == "main:plain" else []
    command = project.start(target, "--port", "0", *interface)
    with Client(command.port) as client:
        assert client.get("/path").body == b"/path"
    status, out, _ = command.stop()
    assert status == 0
    hooks = [line for line in out.splitlines() if line.startswith(("init", "del"))]
    assert hooks == ([] if interface else ["init False", "del False"])


def test_a_plain_function_that_returns_a_coroutine(serve: Serve) -> None:
    """S-RSGI-01."""

    async def later(protocol: HTTPProtocol) -> None:
        protocol.response_bytes(200, [], b"ok")

    def application(scope: Scope, protocol: HTTPProtocol) -> Any:
        return later(protocol)

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).answer().body == b"ok"


def test_the_body(serve: Serve) -> None:
    """S-RSGI-04: whole or in pieces, and once."""

    async def application(scope: Scope, protocol: HTTPProtocol) -> None:
        if scope.path == "/whole":
            body = await protocol()
        else:
            body = b"".join([piece async for piece in protocol])
        with pytest.raises(RSGIProtocolError, match="read already"):
            await protocol()
        with pytest.raises(RSGIProtocolError, match="read already"):
            async for _ in protocol:
                pass
        protocol.response_bytes(200, [], body)

    body = bytes(range(256)) * 1000
    with serve(serving(application)).client() as client:
        for path in (b"/whole", b"/pieces"):
            head = b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
            assert client.send(head + body).answer().body == body


def test_files(serve: Serve, tmp_path: Path) -> None:
    """S-RSGI-05, S-RSGI-09."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    async def application(scope: Scope, protocol: HTTPProtocol) -> None:
        if scope.path == "/missing":
            protocol.response_file(200, [], str(tmp_path / "missing"))
        elif scope.path == "/range":
            with pytest.raises(ValueError, match="must not be empty"):
                protocol.response_file_range(206, [], str(path), 5, 5)
            protocol.response_file_range(206, [("x-a", "1")], str(path), 3, 100)
        else:
            protocol.response_file(200, [("x-a", "1")], str(path))

    with serve(serving(application)).client() as client:
        for target, status, body in (
            ("/", 200, b"0123456789"),
            ("/range", 206, b"3456789"),
            ("/missing", 404, b""),
        ):
            got = client.get(target)
            assert (got.status, got.body) == (status, body)
            assert got.header("x-a") == (None if target == "/missing" else "1")


def test_a_stream(serve: Serve) -> None:
    """S-RSGI-06: it ends when the application returns."""

    async def application(scope: Scope, protocol: HTTPProtocol) -> None:
        transport = protocol.response_stream(200, [("x-a", "1")])
        await transport.send_bytes(b"a")
        await transport.send_str("\u00e4")

    with serve(serving(application)).client() as client:
        for _ in range(2):
            got = client.send(REQUEST).until(b"0\r\n\r\n")
            assert got.endswith(b"1\r\na\r\n2\r\n\xc3\xa4\r\n0\r\n\r\n")


def test_a_client_that_leaves(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """S-RSGI-06, S-RSGI-07."""
    caplog.set_level(logging.INFO, logger="socketify")
    begun, left = threading.Event(), threading.Event()

    async def application(scope: Scope, protocol: HTTPProtocol) -> None:
        transport = protocol.response_stream(200)
        watcher = asyncio.create_task(protocol.client_disconnect())
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(protocol.client_disconnect(), 0.001)
        await transport.send_bytes(b"x")
        begun.set()
        await watcher
        for _ in range(100):
            # The first ones may still be on their way.
            with contextlib.suppress(RSGIProtocolClosed):
                await transport.send_bytes(b"x")
        with pytest.raises(RSGIProtocolClosed):
            await transport.send_bytes(b"x")
        left.set()
        raise RSGIProtocolClosed("passed on")

    with serve(serving(application)).client() as client:
        client.send(REQUEST)
        assert begun.wait(20)
        client.reset()
        assert left.wait(20)
    assert not caplog.records


def test_the_watcher_ends_with_the_response(serve: Serve) -> None:
    """S-RSGI-07."""
    ended = threading.Event()

    async def application(scope: Scope, protocol: HTTPProtocol) -> None:
        watcher = asyncio.create_task(protocol.client_disconnect())
        await asyncio.sleep(0)
        protocol.response_empty(200)
        await asyncio.wait_for(watcher, 10)
        await asyncio.wait_for(protocol.client_disconnect(), 10)
        ended.set()

    with serve(serving(application)).client() as client:
        client.send(REQUEST).answer()
        assert ended.wait(20)


def test_one_response(serve: Serve) -> None:
    """S-RSGI-08."""

    async def application(scope: Scope, protocol: HTTPProtocol) -> None:
        protocol.response_bytes(200, [], b"first")
        for again in (protocol.response_empty, protocol.response_bytes, protocol.response_stream):
            with pytest.raises(RSGIProtocolError, match="answered already"):
                again(200, [])

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).answer().body == b"first"


@pytest.mark.parametrize("how", ["return", "raise"])
def test_no_response(serve: Serve, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """S-RSGI-08."""

    async def application(scope: Scope, protocol: HTTPProtocol) -> None:
        if how == "raise":
            raise LookupError("as planned")

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).answer().status == 500
    until(lambda: caplog.records, "an error in the log")


def test_wrong_values(serve: Serve) -> None:
    """S-RSGI-09: a response that was refused may still be given."""

    async def application(scope: Scope, protocol: HTTPProtocol) -> None:
        with pytest.raises(ValueError, match="99"):
            protocol.response_empty(99)
        with pytest.raises(ValueError, match="line feed"):
            protocol.response_empty(200, [("x", "a\nb")])
        protocol.response_str(200, [], "fine")

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).answer().body == b"fine"


def test_a_websocket(serve: Serve) -> None:
    """S-RSGI-10, S-RSGI-11."""
    told: list[Any] = []

    async def application(scope: Scope, protocol: WebsocketProtocol) -> None:
        told.append((scope.proto, scope.scheme, scope.method, scope.path))
        transport = await protocol.accept()
        with pytest.raises(RSGIProtocolError, match="answered already"):
            await protocol.accept()
        while (message := await transport.receive()).kind is not WebsocketMessageType.close:
            if message.kind is WebsocketMessageType.bytes:
                await transport.send_bytes(message.data)  # type: ignore[arg-type]
            else:
                await transport.send_str(message.data)  # type: ignore[arg-type]
        told.append((await transport.receive()).kind)
        with pytest.raises(RSGIProtocolClosed):
            await transport.send_str("late")
        told.append("closed")

    with serve(serving(application)).websocket("/chat") as client:
        assert client.send_text("text").recv_data() == (TEXT, b"text")
        assert client.send_binary(b"bytes").recv_data() == (BINARY, b"bytes")
        client.finish()
    until(lambda: "closed" in told, "the end of the application")
    assert told == [("ws", "http", "GET", "/chat"), WebsocketMessageType.close, "closed"]


@pytest.mark.parametrize(
    ("how", "status"), [("close", 403), ("status", 418), ("return", 403), ("raise", 500)]
)
def test_a_websocket_that_is_refused(serve: Serve, how: str, status: int) -> None:
    """S-RSGI-11, S-RSGI-12."""

    async def application(scope: Scope, protocol: WebsocketProtocol) -> None:
        if how == "raise":
            raise LookupError("as planned")
        if how != "return":
            protocol.close(418 if how == "status" else None)
            protocol.close()

    handshake = (
        b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with serve(serving(application)).client() as client:
        assert client.send(handshake).answer().status == status


@pytest.mark.parametrize(("how", "code"), [("close", 1000), ("return", 1000), ("raise", 1011)])
def test_the_end_of_a_websocket(serve: Serve, how: str, code: int) -> None:
    """S-RSGI-11, S-RSGI-12."""

    async def application(scope: Scope, protocol: WebsocketProtocol) -> None:
        await protocol.accept()
        if how == "close":
            protocol.close()
        if how == "raise":
            raise LookupError("as planned")

    with serve(serving(application)).websocket() as client:
        assert client.expect_close_frame()[0] == code


@pytest.mark.parametrize("wrong", [None, 5, "main:app"])
def test_what_is_no_application(wrong: Any) -> None:
    """S-RSGI-15."""
    with pytest.raises(TypeError, match="RSGI application"):
        RSGI(wrong)
