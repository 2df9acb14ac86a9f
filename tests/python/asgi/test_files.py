"""Files and early hints of ASGI responses (S-ASGI-50, S-ASGI-52)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.asgi import Receive, Scope, Send, answer, serving
from support.h2_client import H2Client
from support.running import Running
from support.tls_client import Certificates, TlsClient

Serve = Callable[..., Running]

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
START = {"type": "http.response.start", "status": 200}
CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "file").write_bytes(CONTENT)
    return str(tmp_path / "file")


def sending(path: str, headers: Any = ()) -> Any:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert "http.response.pathsend" in scope["extensions"]
        await send({**START, "headers": headers})
        await send({"type": "http.response.pathsend", "path": path})

    return application


def test_a_file(serve: Serve, path: str) -> None:
    """S-ASGI-50: its length is added, and the connection goes on."""
    with serve(serving(sending(path, [(b"x-a", b"1")]))).client() as client:
        for _ in range(2):
            got = client.send(REQUEST).answer()
            assert (got.body, got.header("content-length"), got.header("x-a")) == (CONTENT, "512000", "1")
        head = client.send(REQUEST.replace(b"GET", b"HEAD")).answer("HEAD")
        assert head.header("content-length") == "512000"
        assert client.send(REQUEST).answer().body == CONTENT


def test_a_file_over_tls_and_http2(serve: Serve, path: str, certificates: Certificates) -> None:
    running = serve(serving(sending(path)), options=certificates.options())
    with TlsClient(running.port, certificates.context()) as client:
        assert client.send(REQUEST).answer().body == CONTENT
    plain = serve(serving(sending(path)))
    with H2Client(plain.port) as client:
        assert bytes(client.get("/").body) == CONTENT


def test_an_empty_file(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with serve(serving(sending(str(tmp_path / "empty")))).client() as client:
        for _ in range(2):
            got = client.send(REQUEST).answer()
            assert (got.body, got.header("content-length")) == (b"", "0")


def test_a_file_with_its_length(serve: Serve, path: str) -> None:
    """S-ASGI-35, S-ASGI-50."""
    with serve(serving(sending(path, [(b"content-length", b"512000")]))).client() as client:
        assert client.send(REQUEST).answer().body == CONTENT
    with serve(serving(sending(path, [(b"content-length", b"512001")]))).client() as client:
        assert client.send(REQUEST).answer().status == 500


@pytest.mark.parametrize(
    ("name", "error"),
    [("missing", FileNotFoundError), ("", OSError), ("file/below", NotADirectoryError)],
)
def test_a_file_that_cannot_be_sent(serve: Serve, path: str, name: str, error: type[OSError]) -> None:
    """S-ASGI-50: the response is still the application's to give."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "status": 404})
        with pytest.raises(error):
            await send({"type": "http.response.pathsend", "path": str(Path(path).parent / name)})
        await send({"type": "http.response.body", "body": b"instead"})

    with serve(serving(application)).client() as client:
        got = client.send(REQUEST).answer()
        assert (got.status, got.body) == (404, b"instead")


@pytest.mark.parametrize(
    ("message", "error"),
    [({"path": "relative"}, ValueError), ({"path": b"/bytes"}, TypeError), ({}, KeyError)],
)
def test_paths_that_are_wrong(serve: Serve, message: dict[str, Any], error: type[Exception]) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(RuntimeError, match=r"expected .http\.response\.start. first"):
            await send({"type": "http.response.pathsend", "path": "/"})
        await send(START)
        with pytest.raises(error):
            await send({"type": "http.response.pathsend", **message})
        await send({"type": "http.response.body", "body": b"fine"})

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).answer().body == b"fine"


def test_a_file_after_a_piece(serve: Serve, path: str) -> None:
    """S-ASGI-50: it is in place of a body, and not a part of it."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        with pytest.raises(RuntimeError, match=r"http\.response\.pathsend"):
            await send({"type": "http.response.pathsend", "path": path})
        await send({"type": "http.response.body", "body": b"y"})

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).until(b"0\r\n\r\n").endswith(b"1\r\nx\r\n1\r\ny\r\n0\r\n\r\n")


def test_early_hints(serve: Serve) -> None:
    """S-ASGI-52: before the start and after it, until the head is out; never to HTTP/1.0."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert "http.response.early_hint" in scope["extensions"]
        await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>"]})
        await send(START)
        await send({"type": "http.response.early_hint", "links": [b"</c>"]})
        with pytest.raises(ValueError, match="carriage return"):
            await send({"type": "http.response.early_hint", "links": [b"</d>\r\nx: y"]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.early_hint", "links": [b"</late>"]})
        await send({"type": "http.response.body", "body": b"b"})

    running = serve(serving(application))
    with running.client() as client:
        got = client.send(REQUEST).until(b"0\r\n\r\n")
        first, second, rest = got.split(b"\r\n\r\n", 2)
        assert first.lower() == b"http/1.1 103 early hints\r\nlink: </a>; rel=preload\r\nlink: </b>"
        assert second.lower() == b"http/1.1 103 early hints\r\nlink: </c>"
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"late" not in rest
    with running.client() as client:
        assert b" 103 " not in client.send(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").rest()
    with H2Client(running.port) as client:
        stream = client.get("/")
        assert (stream.interim, stream.status, bytes(stream.body)) == ([103, 103], 200, b"ab")


def test_unknown_extensions_are_refused(serve: Serve) -> None:
    """S-ASGI-15: what is not announced is not there."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for name in ("push", "debug", "zerocopysend"):
            assert f"http.response.{name}" not in scope["extensions"]
            with pytest.raises(ValueError, match=name):
                await send({"type": f"http.response.{name}"})
        await answer(send, b"ok")

    with serve(serving(application)).client() as client:
        assert client.get().body == b"ok"
