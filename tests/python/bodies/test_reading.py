"""Methods that raise for bad bodies: ``Request.body``, ``text``, ``json`` and ``stream``.

Rows: A-RES-04 to A-RES-07 (whose forms stay as they are), A-CALL-07; S#166, S#171, S#179, S#207 of users.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App, BadRequest, ClientDisconnected, HTTPError
from support import until
from support.client import Client

Serve = Callable[..., Any]

LARGE = bytes(range(256)) * 20_000


def site(handler: Callable[..., Any], **route: Any) -> Callable[[App], object]:
    return lambda app: app.any("/", handler, **route)


def post(client: Client, body: bytes, *lines: str) -> Client:
    return client.request("POST", "/", *lines, body=body)


# ---- whole --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_536, 200_000, len(LARGE)])
def test_body(serve: Serve, size: int) -> None:
    """The whole body, as bytes, and the same again; after get_data() too (A-RES-04)."""

    async def handler(res: Any, req: Any) -> None:
        body = await req.body()
        assert isinstance(body, bytes)
        assert await req.body() is body
        assert (await res.get_data()).getvalue() == body
        res.end(body)

    with serve(site(handler)).client() as client:
        for _ in range(2):
            assert post(client, LARGE[:size]).answer().body == LARGE[:size]


def test_body_after_get_data(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        first = (await res.get_data()).getvalue()
        res.end(first + await req.body())

    with serve(site(handler)).client() as client:
        assert post(client, b"ab").answer().body == b"abab"


def test_body_after_a_wait(serve: Serve) -> None:
    """S#207: a body that came long before it was asked for."""

    async def handler(res: Any, req: Any) -> None:
        await asyncio.sleep(0.05)
        res.end({"got": await req.json()})

    with serve(site(handler)).client() as client:
        answer = post(client, b'{"a": [1]}').answer()
        assert json.loads(answer.body) == {"got": {"a": [1]}}


@pytest.mark.parametrize("options", [{}, {"sync_handlers": "loop"}])
def test_body_for_a_plain_handler(serve: Serve, options: dict[str, Any]) -> None:
    """A plain handler makes the coroutine, and a task awaits it."""

    def handler(res: Any, req: Any) -> None:
        async def rest() -> None:
            res.end(await req.text())

        res.run_async(rest())

    with serve(site(handler), **options).client() as client:
        for text in ("", "grüße"):
            assert post(client, text.encode()).answer().body.decode() == text


@pytest.mark.parametrize(
    ("body", "lines", "encoding", "expected"),
    [
        ("ä".encode(), (), None, "ä"),
        (b"\xe4", ("Content-Type: text/plain; charset=ISO-8859-1",), None, "ä"),
        (b"\xe4", ('Content-Type: text/plain; x=";charset=utf-8"; charset="latin1"',), None, "ä"),
        (b"\xe4", ("Content-Type: text/plain; charset=utf-8",), "latin-1", "ä"),
        ("ä".encode("utf-16"), ("Content-Type: text/plain;charset=utf-16",), None, "ä"),
    ],
)
def test_text(serve: Serve, body: bytes, lines: tuple[str, ...], encoding: str | None, expected: str) -> None:
    """The encoding asked for, else the one that the client names, else UTF-8."""

    async def handler(res: Any, req: Any) -> None:
        res.end(await req.text(encoding) if encoding else await req.text())

    with serve(site(handler)).client() as client:
        assert post(client, body, *lines).answer().body.decode() == expected


@pytest.mark.parametrize(
    ("body", "lines", "status"),
    [
        (b"\xff\xfe\xff", (), 400),
        (b"x", ("Content-Type: text/plain; charset=klingon",), 415),
        # Codecs of Python that are no text, or take quadratic time.
        (b"x", ("Content-Type: text/plain; charset=rot13",), 415),
        (b"x", ("Content-Type: text/plain; charset=punycode",), 415),
        (b"x", ("Content-Type: text/plain; charset=idna",), 415),
    ],
)
def test_text_that_is_none(
    serve: Serve, caplog: Any, body: bytes, lines: tuple[str, ...], status: int
) -> None:
    async def handler(res: Any, req: Any) -> None:
        res.end(await req.text())

    with serve(site(handler)).client() as client:
        assert post(client, body, *lines).answer().status == status
        assert post(client, b"fine").answer().body == b"fine"
    assert not caplog.records, "what a client sent is no failure of the server's"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"nothing", b"[" * 100_000, b'{"a": 1} x'],
    ids=["empty", "open", "bytes", "word", "deep", "rest"],
)
def test_json_that_is_none(serve: Serve, caplog: Any, body: bytes) -> None:
    """A 400 that says why, without a line of the handler's own, and nothing in the log."""

    async def handler(res: Any, req: Any) -> None:
        res.write_header("X-Lost", "1")
        await req.json()
        res.end("not reached")

    with serve(site(handler)).client() as client:
        answer = post(client, body).answer()
        assert answer.status_line == "HTTP/1.1 400 Bad Request"
        assert answer.header("content-type") == "text/plain; charset=utf-8"
        assert answer.header("x-lost") is None
        assert answer.body.startswith(b"the body is not ")
    assert not caplog.records


def test_json_goes_through_the_serializer(serve: Serve) -> None:
    class Serializer:
        @staticmethod
        def dumps(value: Any) -> str:
            return f"<{value}>"

        @staticmethod
        def loads(text: str) -> Any:
            assert isinstance(text, str)
            if text == "bad":
                raise RuntimeError("none of mine")
            return text.upper()

    async def handler(res: Any, req: Any) -> None:
        res.end([await req.json()])

    def configure(app: App) -> None:
        app.json_serializer(Serializer)
        app.post("/", handler)

    with serve(configure).client() as client:
        assert post(client, b"abc").answer().body == b"<['ABC']>"
        assert post(client, b"bad").answer().status == 400


def test_the_error_handler_decides(serve: Serve) -> None:
    """A-CALL-07: with an error handler the exception is its own, as any other."""
    seen: queue.Queue[Exception] = queue.Queue()

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            await req.json()

        def on_error(error: Exception, res: Any, req: Any) -> None:
            seen.put(error)
            res.write_status(422).end("mine")

        app.post("/", handler)
        app.set_error_handler(on_error)

    with serve(configure).client() as client:
        answer = post(client, b"{").answer()
        assert (answer.status, answer.body) == (422, b"mine")
    error = seen.get(timeout=20)
    assert isinstance(error, BadRequest)
    assert isinstance(error, HTTPError)
    assert error.status == 400


# ---- HTTPError ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_http_error(serve: Serve, kind: str) -> None:
    """Any handler may raise one."""

    def plain(res: Any, req: Any) -> None:
        raise HTTPError(int(req.get_query("status")), "sö nicht", [("X-Why", "because")])

    async def coroutine(res: Any, req: Any) -> None:
        plain(res, req)

    with serve(site(plain if kind == "def" else coroutine)).client() as client:
        for status, line in ((404, "404 Not Found"), (429, "429 Too Many Requests"), (499, "499 Error")):
            answer = client.get(f"/?status={status}")
            assert answer.status_line == f"HTTP/1.1 {line}"
            assert answer.body.decode() == "sö nicht"
            assert answer.header("x-why") == "because"


def test_http_error_of_the_server_is_logged(serve: Serve, caplog: Any) -> None:
    def handler(res: Any, req: Any) -> None:
        raise HTTPError(503)

    with serve(site(handler)).client() as client:
        answer = client.get()
        assert (answer.status, answer.body) == (503, b"Service Unavailable")
    until(lambda: caplog.records, "the error is logged")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_http_error_in_the_middle_of_an_answer(serve: Serve) -> None:
    """A part never looks like the whole."""

    async def handler(res: Any, req: Any) -> None:
        res.write("part")
        await asyncio.sleep(0)
        raise HTTPError(404)

    with serve(site(handler)).client() as client:
        client.request()
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert client.rest() == b"4\r\npart\r\n"


@pytest.mark.parametrize("status", [200, 399, 600, True, "404", 404.0])
def test_http_error_needs_an_error(status: Any) -> None:
    with pytest.raises(ValueError, match="from 400 to 599"):
        HTTPError(status)


def test_http_error_with_a_header_that_is_none(serve: Serve) -> None:
    """A mistake of the handler there ends in a 500, not in silence."""

    def handler(res: Any, req: Any) -> None:
        raise HTTPError(404, "x", [("X", "a\r\nb")])

    with serve(site(handler)).client() as client:
        assert client.get().status == 500


# ---- the end of the client ----------------------------------------------------------------------------------------------


def gone(serve: Serve, reader: Callable[..., Any], **route: Any) -> tuple[Any, queue.Queue[Any]]:
    seen: queue.Queue[Any] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        try:
            seen.put("reading")
            seen.put(await reader(req))
            res.end("whole")
        except Exception as error:
            seen.put(error)
            raise

    return serve(site(handler, **route)), seen


async def all_of(req: Any) -> bytes:
    return b"".join([piece async for piece in req.stream()])


@pytest.mark.parametrize(
    "reader", [lambda req: req.body(), lambda req: req.json(), all_of], ids=["body", "json", "stream"]
)
def test_client_that_leaves(serve: Serve, caplog: Any, reader: Callable[..., Any]) -> None:
    """An exception and no part of a body; only an error handler gets it."""
    running, seen = gone(serve, reader)
    with running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n[1,2]")
        assert seen.get(timeout=20) == "reading"
    assert isinstance(seen.get(timeout=20), ClientDisconnected)
    with running.client() as client:
        assert post(client, b"[1]").answer().body == b"whole"
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize("reader", [lambda req: req.body(), all_of], ids=["body", "stream"])
def test_body_beyond_the_limit(serve: Serve, reader: Callable[..., Any]) -> None:
    """S#120: the client gets its 413, the handler an exception."""
    running, seen = gone(serve, reader, max_body_size=1000)
    with running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        assert seen.get(timeout=20) == "reading"
        client.send(b"fff\r\n" + bytes(0xFFF) + b"\r\n")
        assert client.answer().status == 413
    assert isinstance(seen.get(timeout=20), ClientDisconnected)


def test_client_that_shuts_its_side_has_sent_all(serve: Serve) -> None:
    """A complete body stays complete, even if the client then leaves."""

    async def handler(res: Any, req: Any) -> None:
        # It is known by now that the client sends no more.
        while not res.aborted:
            await asyncio.sleep(0.001)
        res.end(await req.body())

    with serve(site(handler)).client() as client:
        post(client, b"all of it").half_close()
        assert client.answer().body == b"all of it"


def test_body_after_the_answer(serve: Serve) -> None:
    """The body of a request that was answered is not kept: a handler's mistake, reported as one."""
    seen: queue.Queue[Any] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        res.end("done")
        try:
            await req.body()
        except Exception as error:
            seen.put(error)

    with serve(site(handler)).client() as client:
        post(client, b"x").answer()
    error = seen.get(timeout=20)
    assert isinstance(error, RuntimeError)
    assert "read the body first" in str(error)


# ---- in pieces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, len(LARGE)])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_stream(serve: Serve, size: int, framing: str) -> None:
    async def handler(res: Any, req: Any) -> None:
        pieces = [piece async for piece in req.stream()]
        assert all(pieces)
        res.end(b"".join(pieces))

    body = LARGE[:size]
    with serve(site(handler)).client() as client:
        for _ in range(2):
            if framing == "length":
                post(client, body)
            else:
                pieces = [body[at : at + 7001] for at in range(0, size, 7001)]
                chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
                client.send(
                    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + chunks
                    + b"0\r\n\r\n"
                )
            assert client.answer().body == body


def test_stream_makes_the_client_wait(serve: Serve) -> None:
    """Without a reader nothing is read beyond the bound. And no timeout runs, since the client is not
    late."""
    steps: queue.Queue[Any] = queue.Queue()
    go_on = asyncio.Event()
    size = 64 * 1024 * 1024

    async def handler(res: Any, req: Any) -> None:
        total, largest = 0, 0
        async for piece in req.stream():
            if not total:
                steps.put("begun")
                await go_on.wait()
            total += len(piece)
            largest = max(largest, len(piece))
        res.end({"total": total, "largest": largest})

    running = serve(site(handler), body_timeout=0.2)
    with running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
        client.send(b"x")
        assert steps.get(timeout=20) == "begun"
        taken = 1 + client.flood(bytes(size - 1))
        assert taken < size, "all of it was taken while nobody read"
        running.app.loop.loop.call_soon_threadsafe(go_on.set)
        client.send(bytes(size - taken))
        answer = json.loads(client.answer().body)
    assert answer["total"] == size
    assert answer["largest"] <= 1024 * 1024


def test_stream_that_is_left_early(serve: Serve) -> None:
    """Unread bytes are discarded, and the connection serves on."""

    async def handler(res: Any, req: Any) -> None:
        async for piece in req.stream():
            res.end(piece[:3])
            break

    with serve(site(handler)).client() as client:
        for _ in range(3):
            assert post(client, LARGE).answer().body == LARGE[:3]


def test_wait_for_a_piece_that_is_cancelled_loses_none(serve: Serve) -> None:
    steps: queue.Queue[Any] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        reader = req.stream()
        waiting = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        steps.put("cancelled")
        first = await reader.read()
        waiting = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        steps.put("cancelled")
        # Arrives while nothing waits for it.
        await asyncio.sleep(0.05)
        res.end(first + await reader.read() + await reader.read())

    with serve(site(handler)).client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
        assert steps.get(timeout=20) == "cancelled"
        client.send(b"ab")
        assert steps.get(timeout=20) == "cancelled"
        client.send(b"cd")
        assert client.answer().body == b"abcd"


def test_pause_holds_a_stream_back(serve: Serve) -> None:
    """A-RES-31: pause() and resume() apply to every reader."""
    steps: queue.Queue[Any] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        res.pause()
        reading = asyncio.ensure_future(all_of(req))
        steps.put("paused")
        await asyncio.wait([reading], timeout=0.1)
        assert not reading.done()
        res.resume()
        res.end(await reading)

    with serve(site(handler)).client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
        assert steps.get(timeout=20) == "paused"
        client.send(b"cd")
        assert client.answer().body == b"abcd"


def test_whole_after_pieces_is_an_error(serve: Serve) -> None:
    """The pieces are gone; a body without them would be another one."""

    async def handler(res: Any, req: Any) -> None:
        async for _ in req.stream():
            break
        with pytest.raises(RuntimeError, match="read in pieces"):
            await req.body()
        res.end("told")

    with serve(site(handler)).client() as client:
        assert post(client, LARGE).answer().body == b"told"


def test_one_reader_at_a_time(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        res.on_data(lambda res, chunk, last: None)
        with pytest.raises(RuntimeError, match="is being read already"):
            await all_of(req)
        res.end("told")

    with serve(site(handler)).client() as client:
        assert (
            client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab").answer().body == b"told"
        )


def test_shutdown_while_a_body_is_read(serve: Serve) -> None:
    """The deadline cuts the connection, and the waiting reader gets an error."""
    running, seen = gone(serve, all_of)
    running.app.shutdown_timeout = 0.1
    with running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nab")
        assert seen.get(timeout=20) == "reading"
        running.stop()
        until(lambda: not seen.empty(), "the reader heard of the end")
