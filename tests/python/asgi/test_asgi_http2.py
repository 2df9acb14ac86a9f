"""ASGI applications over HTTP/2 and TLS: the same rows, on streams."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from socketify.testing import TestServer
from support.asgi import Receive, Scope, Send, answer, read, serving
from support.certificates import Authority
from support.h2_client import H2Client
from support.running import Running
from support.tls_client import Certificates, TlsClient
from support.ws_client import CLOSE, TEXT, close_payload, frame

Serve = Callable[..., Running]

START = {"type": "http.response.start", "status": 200}


def test_the_scope(serve: Serve) -> None:
    """S-ASGI-04, S-ASGI-11: the authority is the host, cookies are one header, and there are no pseudo headers."""
    scopes: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answer(send, await read(receive))

    running = serve(serving(application))
    with H2Client(running.port) as client:
        number = client.request(
            "/a%20b?c",
            method="POST",
            headers=[("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-a", "2")],
            body=b"body",
        )
        assert bytes(client.answer(number).body) == b"body"
    (scope,) = scopes
    assert (scope["http_version"], scope["method"], scope["path"]) == ("2", "POST", "/a b")
    names = [name for name, _ in scope["headers"]]
    assert names[0] == b"host"
    assert not [name for name in names if name.startswith(b":")]
    assert [value for name, value in scope["headers"] if name == b"cookie"] == [b"a=1; b=2"]
    assert [value for name, value in scope["headers"] if name == b"x-a"] == [b"1", b"2"]


def test_streams_side_by_side(serve: Serve) -> None:
    """S-ASGI-66."""
    both = threading.Barrier(2)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.to_thread(both.wait, 20)
        await send(START)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    running = serve(serving(application))
    with H2Client(running.port) as client:
        numbers = [client.request("/"), client.request("/")]
        assert [bytes(client.answer(number).body) for number in numbers] == [b"ab", b"ab"]


def test_a_stream_that_is_reset(serve: Serve) -> None:
    """S-ASGI-25, S-REG-02: its application hears of it, and the connection lives."""
    ended, begun = threading.Event(), threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/other":
            await answer(send, b"other")
            return
        await receive()
        await send(START)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        begun.set()
        assert await receive() == {"type": "http.disconnect"}
        ended.set()

    running = serve(serving(application))
    with H2Client(running.port) as client:
        number = client.request("/")
        client.until(lambda: client.streams[number].body)
        assert begun.wait(20)
        client.h2.reset_stream(number)
        client.flush()
        assert ended.wait(20)
        assert bytes(client.get("/other").body) == b"other"


def test_an_error_in_the_body_resets_the_stream(serve: Serve) -> None:
    """S-ASGI-56: with INTERNAL_ERROR; the others go on."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/other":
            await answer(send, b"other")
            return
        await send(START)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise LookupError("as planned")

    running = serve(serving(application))
    with H2Client(running.port) as client:
        stream = client.get("/")
        # The reset may overtake what waits.
        assert b"half".startswith(bytes(stream.body))
        assert (stream.ended, stream.reset) == (False, 2)
        assert bytes(client.get("/other").body) == b"other"


def test_headers_of_the_connection_do_not_leave(serve: Serve) -> None:
    """S-ASGI-32, S-ASGI-36: names are in lower case."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"ok", headers=[(b"Connection", b"close"), (b"Keep-Alive", b"5"), (b"X-A", b"1")])

    running = serve(serving(application))
    with H2Client(running.port) as client:
        for _ in range(2):
            stream = client.get("/")
            assert stream.headers["x-a"] == "1"
            assert not {"connection", "keep-alive"} & set(stream.headers)


def test_a_websocket_on_a_stream(serve: Serve) -> None:
    """S-WS-01, S-WS-29."""
    scopes: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/denied":
            await send({"type": "websocket.close"})
            return
        scopes.append(scope)
        await send({"type": "websocket.accept", "subprotocol": "b"})
        await receive()
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"]})
        assert (await receive())["code"] == 1000

    running = serve(serving(application))
    with H2Client(running.port) as client:
        client.until(lambda: client.settings)

        def handshake(path: str) -> int:
            pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http")]
            pseudo += [(":path", path), (":authority", "example.org")]
            headers = [("sec-websocket-version", "13"), ("sec-websocket-protocol", "a, b")]
            return client.request(pseudo=pseudo, headers=headers, end=False, body=None)

        stream = client.answer(handshake("/denied"))
        assert (stream.status, bytes(stream.body)) == (403, b"")
        number = handshake("/")
        stream = client.streams[number]
        client.until(lambda: stream.status)
        assert (stream.status, stream.headers["sec-websocket-protocol"]) == (200, "b")
        client.send(number, frame(TEXT, b"text"))
        client.until(lambda: len(stream.body) >= 6)
        assert bytes(stream.body) == b"\x81\x04text"
        client.send(number, frame(CLOSE, close_payload(1000)))
        client.until(lambda: stream.over)
    (scope,) = scopes
    assert (scope["http_version"], scope["scheme"], scope["subprotocols"]) == ("2", "ws", ["a", "b"])


def test_the_extension_tls(serve: Serve, certificates: Certificates) -> None:
    """S-ASGI-15, S-ASGI-16: over TLS alone."""
    extensions: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        extensions.append(scope["extensions"])
        await answer(send, b"ok")

    running = serve(serving(application), options=certificates.options())
    with TlsClient(running.port, certificates.context()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").answer()
    plain = serve(serving(application))
    with plain.client() as client:
        client.get()
    over_tls, in_plain_text = extensions
    assert "tls" not in in_plain_text
    tls = over_tls["tls"]
    assert (tls["client_cert_chain"], tls["client_cert_name"], tls["client_cert_error"]) == ([], None, None)
    assert tls["tls_version"] == 0x0304
    assert tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)


def test_the_certificate_of_a_client(authority: Authority, tmp_path: Path) -> None:
    """S-ASGI-16."""
    told: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        told.append(scope["extensions"]["tls"])
        await answer(send, b"ok")

    (tmp_path / "clients").mkdir()
    clients = Authority(tmp_path / "clients")
    context = authority.context()
    clients.show(context, "alice")
    options = authority.options("localhost", ca_file_name=clients.file, client_cert="required")
    with (
        TestServer(serving(application), options=options) as server,
        server.connect(ssl_context=context) as connection,
    ):
        assert connection.request("GET").body == b"ok"
    (tls,) = told
    assert "CN=alice" in tls["client_cert_name"]
    first = ssl.PEM_cert_to_DER_cert(tls["client_cert_chain"][0])
    assert ssl.DER_cert_to_PEM_cert(first) == tls["client_cert_chain"][0]
