"""Trailers of ASGI responses (S-ASGI-53)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from support import until
from support.asgi import Receive, Scope, Send, serving
from support.h2_client import H2Client
from support.running import Running

Serve = Callable[..., Running]

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\nTE: gzip, Trailers\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "trailers": True}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"content-length", b"4")] if scope["path"] == "/sized" else []
    await send({**START, "headers": headers})
    await send({"type": "http.response.body", "body": b"bo", "more_body": True})
    await send({"type": "http.response.body", "body": b"dy"})
    await send({"type": "http.response.trailers", "headers": [(b"x-a", b"1")], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"x-b", b"2")]})


def test_they_follow_the_last_chunk(serve: Serve) -> None:
    with serve(serving(application)).client() as client:
        for _ in range(2):
            got = client.send(REQUEST).until(b"x-b: 2\r\n\r\n")
            assert got.endswith(b"\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "end"),
    [
        (REQUEST.replace(b"TE: gzip, Trailers\r\n", b""), b"2\r\ndy\r\n0\r\n\r\n"),
        (REQUEST.replace(b"GET /", b"GET /sized"), b"\r\n\r\nbody"),
    ],
)
def test_without_a_place_for_them(serve: Serve, request_: bytes, end: bytes) -> None:
    with serve(serving(application)).client() as client:
        for _ in range(2):
            assert client.send(request_).until(end).endswith(end)


def test_on_a_stream(serve: Serve) -> None:
    running = serve(serving(application))
    with H2Client(running.port) as client:
        for path in ("/", "/sized"):
            stream = client.get(path, headers=[("te", "trailers")])
            assert bytes(stream.body) == b"body"
            assert dict(stream.trailers) == {"x-a": "1", "x-b": "2"}
            assert not client.get(path).trailers


@pytest.mark.parametrize("name", [b"content-length", b"Transfer-Encoding", b"host", b"trailer"])
def test_names_that_have_no_place_there(serve: Serve, name: bytes) -> None:
    async def refused(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})
        with pytest.raises(ValueError, match="no place among trailers"):
            await send({"type": "http.response.trailers", "headers": [(b"x-lost", b"1"), (name, b"1")]})
        await send({"type": "http.response.trailers", "headers": [(b"x-a", b"1")]})

    with serve(serving(refused)).client() as client:
        assert client.send(REQUEST).until(b"x-a: 1\r\n\r\n").endswith(b"0\r\nx-a: 1\r\n\r\n")


def test_trailers_that_were_not_announced(serve: Serve) -> None:
    """S-ASGI-43."""

    async def unannounced(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        with pytest.raises(RuntimeError, match=r"http\.response\.trailers"):
            await send({"type": "http.response.trailers", "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    with serve(serving(unannounced)).client() as client:
        assert client.send(REQUEST).answer().body == b"fine"


def test_an_application_that_forgets_them(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def forgetful(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})

    def warnings() -> list[Any]:
        return [record for record in caplog.records if record.levelno == logging.WARNING]

    with serve(serving(forgetful)).client() as client:
        for _ in range(2):
            assert client.send(REQUEST).until(b"0\r\n\r\n")
    until(lambda: len(warnings()) == 2, "two warnings in the log")
