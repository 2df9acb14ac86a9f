"""``Response.stream``: the source of a response while it is sent, and its end when the client leaves.

Rows: A-RES-14 (drain), A-CALL-07, DEC-11; S#159 and section 3 row 6 of users.md.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from socketify import App
from support import garbage, reset, until

Serve = Callable[..., Any]


def site(handler: Callable[..., Any]) -> Callable[[App], object]:
    return lambda app: app.any("/", handler)


async def numbers(count: int) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(0)
        yield f"{number}\n"


def test_stream_on_the_wire(serve: Serve) -> None:
    """Each piece is a chunk, and the response ends."""

    async def pieces() -> AsyncIterator[Any]:
        yield "ä"
        await asyncio.sleep(0.01)
        yield b""
        yield bytearray(b"bc")
        yield memoryview(b"d")

    async def handler(res: Any, req: Any) -> None:
        assert await res.stream(pieces()) is True

    with serve(site(handler)).client() as client:
        for _ in range(2):
            client.request()
            head = client.until(b"\r\n\r\n").decode()
            assert head.startswith("HTTP/1.1 200 OK\r\n")
            assert "\r\nContent-Type: text/plain; charset=utf-8\r\n" in head
            assert client.until(b"0\r\n\r\n") == "2\r\nä\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (lambda: numbers(3), "text/plain; charset=utf-8"),
        (lambda: (f"{number}\n" for number in range(3)), "text/plain; charset=utf-8"),
        (lambda: [b"0\n1\n", b"2\n"], "application/octet-stream"),
        (lambda: iter((b"0\n", "1\n2\n")), "application/octet-stream"),
    ],
    ids=["async generator", "generator", "list", "iterator"],
)
def test_sources(serve: Serve, source: Callable[[], Any], kind: str) -> None:
    async def handler(res: Any, req: Any) -> None:
        await res.stream(source())

    with serve(site(handler)).client() as client:
        answer = client.get()
        assert answer.body == b"0\n1\n2\n"
        assert answer.header("content-type") == kind


def test_head_of_a_stream(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        await res.stream(numbers(1), "text/csv", 201, [("X-One", "1"), ("X-Two", 2)])

    async def own(res: Any, req: Any) -> None:
        res.write_status(202).write_header("Content-Type", "a/b")
        await res.stream(numbers(1), content_type=b"c/d")

    def configure(app: App) -> None:
        app.get("/", handler)
        app.get("/own", own)

    with serve(configure).client() as client:
        answer = client.get()
        assert (answer.status, answer.header("content-type")) == (201, "text/csv")
        assert (answer.header("x-one"), answer.header("x-two")) == ("1", "2")
        answer = client.get("/own")
        assert (answer.status, answer.header("content-type"), answer.body) == (202, "a/b", b"0\n")


def test_empty_stream(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        await res.stream(numbers(0), status=203)

    with serve(site(handler)).client() as client:
        answer = client.get()
        assert (answer.status, answer.header("content-length"), answer.body) == (203, "0", b"")


def test_head_request(serve: Serve) -> None:
    """DEC-11: the head of the GET response, and no body is made."""
    made: list[int] = []

    def pieces() -> Iterator[str]:
        made.append(1)
        while True:
            yield "for ever"

    async def handler(res: Any, req: Any) -> None:
        await res.stream(pieces(), "text/x-endless")

    with serve(lambda app: app.get("/", handler)).client() as client:
        for _ in range(2):
            answer = client.request("HEAD").answer("HEAD")
            assert (answer.status, answer.header("content-type")) == (200, "text/x-endless")
    assert not made


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("compression", [False, True])
def test_head_says_what_get_would(serve: Serve, compression: bool, version: str) -> None:
    """RFC 9110 section 9.3.2: each header as GET has it, or not at all. The type that goes with a piece is not known yet."""
    source = ["number,square\n" * 100, "1,1\n"]

    async def plain(res: Any, req: Any) -> None:
        await res.stream(source)

    async def typed(res: Any, req: Any) -> None:
        res.write_header("ETag", '"v1"')
        await res.stream(source, "text/csv", 201)

    async def sized(res: Any, req: Any) -> None:
        res.write_header("Content-Length", sum(map(len, source)))
        await res.stream(source, "text/csv")

    def configure(app: App) -> None:
        app.get("/plain", plain)
        app.get("/typed", typed)
        app.get("/sized", sized)

    running = serve(configure, compression=compression)
    for path, left_out in [
        ("/plain", {"content-type", "vary", "content-encoding"}),
        ("/typed", set()),
        ("/sized", set()),
    ]:
        answers = []
        for method in ("GET", "HEAD"):
            with running.client() as client:
                client.request(method, path, "Accept-Encoding: gzip", version=version)
                answers.append(client.answer(method))
        get, head = ({**answer.headers, "status": [answer.status_line]} for answer in answers)
        del get["date"], head["date"]
        get.pop("connection", None), head.pop("connection", None)
        assert {name: get[name] for name in get if name in head} == head
        assert set(get) - set(head) <= left_out, path


def test_http_1_0(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        await res.stream(numbers(3))

    with serve(site(handler)).client() as client:
        assert client.request(version="1.0").answer().body == b"0\n1\n2\n"


@pytest.mark.parametrize("source", ["text", b"bytes", 5, None, object()])
def test_what_is_no_source(serve: Serve, source: Any) -> None:
    errors: queue.Queue[Exception] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        try:
            await res.stream(source)
        except Exception as error:
            errors.put(error)
        res.end("still open")

    with serve(site(handler)).client() as client:
        assert client.get().body == b"still open"
    assert "needs an iterable of pieces" in str(errors.get(timeout=20))


@pytest.mark.parametrize("first", [None, "begun"])
def test_failure(serve: Serve, caplog: Any, first: str | None) -> None:
    """Before the first byte it is a 500; later only the end of the connection shows it."""
    closed: queue.Queue[str] = queue.Queue()

    async def pieces() -> AsyncIterator[Any]:
        try:
            if first:
                yield first
            raise RuntimeError("broken")
        finally:
            closed.put("closed")

    async def handler(res: Any, req: Any) -> None:
        await res.stream(pieces())

    with serve(site(handler)).client() as client:
        if first is None:
            assert client.get().status == 500
        else:
            client.request()
            client.until(b"\r\n\r\n")
            assert client.rest() == b"5\r\nbegun\r\n"
    assert closed.get(timeout=20) == "closed"
    until(lambda: "broken" in caplog.text, "the failure was logged")


@pytest.mark.parametrize("piece", [5, None, {"a": 1}])
def test_piece_that_is_none(serve: Serve, caplog: Any, piece: Any) -> None:
    async def handler(res: Any, req: Any) -> None:
        await res.stream([piece])

    with serve(site(handler)).client() as client:
        assert client.get().status == 500
    until(lambda: "made of str or bytes" in caplog.text, "the error is logged")


@pytest.mark.parametrize("way", ["waits", "writes"])
@pytest.mark.parametrize("end", ["close", "reset", "half"])
def test_client_that_leaves(serve: Serve, way: str, end: str) -> None:
    """The generator is cancelled where it waits, and closed; the handler goes on behind the stream."""
    steps: queue.Queue[Any] = queue.Queue()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            while way == "writes":
                yield bytes(100_000)
            await asyncio.Event().wait()
        finally:
            steps.put("closed")

    async def handler(res: Any, req: Any) -> None:
        steps.put(await res.stream(pieces()))
        task = asyncio.current_task()
        assert task is not None
        # The cancellation was the stream's own, and has been taken back.
        await asyncio.sleep(0)
        steps.put("after")

    running = serve(site(handler))
    client = running.client()
    client.request()
    client.until(b"first")
    if end == "reset":
        reset(client)
    elif end == "half":
        client.half_close()
        # Treated as gone, like any client that shuts its sending side; nothing keeps the connection.
        client.rest()
        client.close()
    else:
        client.close()
    assert steps.get(timeout=20) == "closed"
    assert steps.get(timeout=20) is False
    assert steps.get(timeout=20) == "after"
    until(lambda: running.app._server.connection_count() == 0, "the connection ended")


def test_cancelled_from_outside(serve: Serve) -> None:
    """Cancelling the task of a stream gives a cancelled task."""
    steps: queue.Queue[Any] = queue.Queue()

    async def pieces() -> AsyncIterator[str]:
        yield "first"
        await asyncio.Event().wait()

    async def handler(res: Any, req: Any) -> None:
        streaming = asyncio.ensure_future(res.stream(pieces()))
        await asyncio.sleep(0.05)
        streaming.cancel()
        await asyncio.wait([streaming])
        steps.put(streaming.cancelled())
        res.close()

    with serve(site(handler)).client() as client:
        client.request()
        client.rest()
    assert steps.get(timeout=20) is True


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_slow_client(serve: Serve, kind: str) -> None:
    """The buffered output is bounded, and its source waits too."""
    made = [0]
    sizes: list[int] = []
    piece = bytes(10_000)
    count = 5_000

    def plain(res: Any) -> Iterator[bytes]:
        for number in range(count):
            made[0] = number
            sizes.append(res.get_buffered_amount())
            yield piece

    async def coroutine(res: Any) -> AsyncIterator[bytes]:
        for one in plain(res):
            yield one

    async def handler(res: Any, req: Any) -> None:
        await res.stream(plain(res) if kind == "plain" else coroutine(res))

    with serve(site(handler)).client() as client:
        client.request("GET", "/", "Connection: close")
        # A piece more, and the source would have to wait: how far below that the last one ends, the kernel decides.
        until(lambda: sizes and max(sizes) > 54_000, "something waited for the client")
        assert made[0] < count - 1, "all was made for a client that takes nothing"
        # No chunk's length has a NUL.
        assert client.rest().count(b"\0") == count * len(piece)
    assert max(sizes) < 256 * 1024


def test_others_have_their_turn(serve: Serve) -> None:
    """A source that never waits, and a client that takes all, leave the loop to others."""

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 100

    async def handler(res: Any, req: Any) -> None:
        await res.stream(endless())

    async def quick(res: Any, req: Any) -> None:
        res.end("quick")

    def configure(app: App) -> None:
        app.get("/endless", handler)
        app.get("/quick", quick)

    running = serve(configure)
    with running.client() as greedy, running.client() as client:
        greedy.request("GET", "/endless")
        for _ in range(5):
            greedy.receive()
            assert client.get("/quick").body == b"quick"


def test_no_cycles(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        await res.stream(numbers(3))

    with serve(site(handler)).client() as client:
        found = garbage(client.get)
    assert found < 100, f"{found} objects were garbage after 200 streams"
