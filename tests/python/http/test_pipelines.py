"""Pipelines: each complete request gets its response, in order, with any source of the one before, and
whether or not the client sends any more."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.client import Client
from support.running import Running
from support.tls_client import Certificates, TlsClient

Serve = Callable[..., Running]

LARGE = b"L" * 150_000


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s" % (
        path.encode(),
        len(body),
        body,
    )


#: A request, and the body of its response.
REQUESTS: dict[str, tuple[bytes, bytes]] = {
    "slow": (get("/slow"), b"slow"),
    "slow plain": (get("/slow-plain"), b"slow plain"),
    "later": (get("/later"), b"later"),
    "plain": (get("/plain"), b"plain"),
    "large": (get("/large"), LARGE),
    "body": (post("/body", b"abc"), b"abc"),
    "constant": (get("/constant"), b"constant"),
    "no route": (get("/nowhere"), b"Not Found"),
    "unread body": (post("/nowhere", b"x" * 5000), b"Not Found"),
    "file": (get("/files/small"), b"small"),
    "large file": (get("/files/large"), LARGE),
    "file of a handler": (get("/file"), b"small"),
    "handshake": (
        get("/socket").replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        b"Upgrade Required",
    ),
}


@pytest.fixture
def running(serve: Serve, tmp_path: Path) -> Running:
    return serve(configure(tmp_path), io_threads=2)


def configure(folder: Path) -> Callable[[Any], None]:
    (folder / "small").write_bytes(b"small")
    (folder / "large").write_bytes(LARGE)

    async def slow(res: Any, req: Any) -> None:
        await asyncio.sleep(0.005)
        res.end("slow")

    def slow_plain(res: Any, req: Any) -> None:
        time.sleep(0.005)
        res.end("slow plain")

    def later(res: Any, req: Any) -> None:
        asyncio.get_running_loop().call_later(0.005, res.end, "later")
        res.on_aborted(lambda res: None)

    async def body(res: Any, req: Any) -> None:
        res.end((await res.get_data()).getvalue())

    async def file(res: Any, req: Any) -> None:
        await res.send_file(str(folder / "small"))

    def routes(app: Any) -> None:
        app.get("/slow", slow).get("/slow-plain", slow_plain).get("/later", later)
        app.get("/plain", lambda res, req: res.end("plain")).get("/large", lambda res, req: res.end(LARGE))
        app.post("/body", body).get("/file", file)
        app.constant("/constant", "constant")
        app.static("/files", folder)
        app.ws("/socket", {"message": lambda ws, message, opcode: None})

    return routes


def pipelines(length: int) -> Iterator[tuple[str, ...]]:
    return itertools.product(REQUESTS, repeat=length)


def check(client: Client, names: tuple[str, ...]) -> None:
    for place, name in enumerate(names):
        assert client.answer().body == REQUESTS[name][1], (names, place)
    assert client.is_closed(), names


@pytest.mark.parametrize("first", REQUESTS)
def test_a_client_that_sends_no_more_gets_all_answers(running: Running, first: str) -> None:
    """It shuts its sending side at once: its requests have still arrived."""
    for rest in pipelines(2):
        names = (first, *rest)
        with running.client() as client:
            client.send(b"".join(REQUESTS[name][0] for name in names)).half_close()
            check(client, names)


@pytest.mark.parametrize("first", REQUESTS)
def test_a_body_that_will_never_be_whole(running: Running, first: str) -> None:
    """The requests before it get responses, and so does it if no handler needs its body."""
    with running.client() as client:
        client.send(REQUESTS[first][0] + post("/nowhere", b"x" * 100)[:-1]).half_close()
        check(client, (first, "no route"))


@pytest.mark.parametrize("first", REQUESTS)
@pytest.mark.parametrize("rest", [b"GET / HT", b"\r\n", b"GET /plain HTTP/1.1\r\nHost: test\r\n"])
def test_a_head_that_will_never_be_whole(running: Running, first: str, rest: bytes) -> None:
    with running.client() as client:
        client.send(REQUESTS[first][0] + rest).half_close()
        check(client, (first,))


@pytest.mark.parametrize("first", REQUESTS)
def test_a_refusal_ends_the_pipeline(running: Running, first: str) -> None:
    with running.client() as client:
        client.send(REQUESTS[first][0] + b"BAD\r\n\r\n" + get("/plain")).half_close()
        assert client.answer().body == REQUESTS[first][1]
        assert client.answer().status == 400
        assert client.is_closed()


@pytest.mark.parametrize("first", REQUESTS)
def test_tls(start_tls: Serve, certificates: Certificates, tmp_path: Path, first: str) -> None:
    running = start_tls(configure(tmp_path), io_threads=2)
    context = certificates.context()
    closing = get("/plain").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for name in REQUESTS:
        with TlsClient(running.port, context) as client:
            client.send(REQUESTS[first][0] + REQUESTS[name][0] + closing)
            check(client, (first, name, "plain"))
