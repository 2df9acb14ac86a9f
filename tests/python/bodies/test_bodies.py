"""Request bodies: their readers, the time of reading, and unread bodies.

Rows: A-RES-04 to A-RES-07, A-RES-23, A-RES-27, A-RES-28, A-RES-31, B-HT-11 to B-HT-15, B-HT-19, I-A-02, I-A-16,
I-C-22, I-C-23, I-C-24; S#207, S#166, S#120 of users.md.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App
from support import until
from support.client import Client

CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE = bytes(range(256)) * 20_000


class Site:
    """An application of one handler, and its records."""

    def __init__(self, serve: Callable[..., Any], handler: Callable[..., Any], **options: Any) -> None:
        self.running = serve(self._configure(handler), **options)

    @staticmethod
    def _configure(handler: Callable[..., Any]) -> Callable[[App], object]:
        def configure(app: App) -> None:
            app.any("/*", handler)
            app.get("/fence", lambda res, req: res.end("fence"))

        return configure

    def client(self) -> Client:
        return self.running.client()


def post(client: Client, body: bytes, *lines: str) -> Client:
    return client.request("POST", "/", *lines, body=body)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# ---- read whole ---------------------------------------------------------------------------------------------------------


async def echo(res: Any, req: Any) -> None:
    res.end((await res.get_data()).getvalue())


@pytest.mark.parametrize("size", [0, 1, 1000, 65_535, 65_536, 65_537, 200_000, len(LARGE)])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_get_data(serve: Any, size: int, framing: str) -> None:
    """A-RES-04: the whole body, for any size and framing."""
    with Site(serve, echo).client() as client:
        for _ in range(2):
            if framing == "length":
                post(client, LARGE[:size])
            else:
                body = LARGE[:size]
                client.send(CHUNKED + chunked(*(body[at : at + 7000] for at in range(0, size, 7000))))
            assert client.answer().body == LARGE[:size]


@pytest.mark.parametrize("lane", ["io", "loop"])
def test_readers_in_a_def_handler(serve: Any, lane: str) -> None:
    """A-RES-04: a plain function gets a future, and gives the rest to a task."""

    def handler(res: Any, req: Any) -> None:
        async def rest() -> None:
            res.end((await future).getvalue())

        future = res.get_data()
        res.run_async(rest())

    with Site(serve, handler, sync_handlers=lane).client() as client:
        assert post(client, b"abc").answer().body == b"abc"
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc")
        client.send(b"def")
        assert client.answer().body == b"abcdef"


@pytest.mark.parametrize(
    ("body", "encoding", "text"),
    [
        (b"", "utf-8", ""),
        ("grüß".encode(), "utf-8", "grüß"),
        ("grüß".encode("latin-1"), "latin-1", "grüß"),
        ("grüß".encode("latin-1"), "utf-8", None),
        (b"x", "no such encoding", None),
    ],
)
def test_get_text(serve: Any, body: bytes, encoding: str, text: str | None) -> None:
    """A-RES-05: a body that is not text in that encoding gives None."""

    async def handler(res: Any, req: Any) -> None:
        res.end([await res.get_text(encoding)])

    with Site(serve, handler).client() as client:
        assert json.loads(post(client, body).answer().body) == [text]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, "\xc3\xbc"]}', {"a": [1, "ü"]}),
        (b"", None),
        (b"{", None),
        (b'"\xff"', None),
        (b"0", 0),
        (b"null", None),
    ],
)
def test_get_json(serve: Any, body: bytes, value: object) -> None:
    """A-RES-06: anything that is not JSON gives None."""

    async def handler(res: Any, req: Any) -> None:
        res.end([await res.get_json()])

    with Site(serve, handler).client() as client:
        assert json.loads(post(client, body).answer().body) == [value]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=1&a=2", {"a": "2"}),
        (b"a=&b", None),
        (b"a=&b=1", {"b": "1"}),
        (b"x=gr%C3%BC%C3%9F+%2B%25&%C3%BC=1", {"x": "grüß +%", "ü": "1"}),
        (b"x=%2541", {"x": "%41"}),
        (b"", None),
        (b"x=\xff", None),
    ],
)
def test_get_form_urlencoded(serve: Any, body: bytes, value: object) -> None:
    """A-RES-07: decoded once, also for non-ASCII text."""

    async def handler(res: Any, req: Any) -> None:
        res.end([await res.get_form_urlencoded()])

    with Site(serve, handler).client() as client:
        assert json.loads(post(client, body).answer().body) == [value]


@pytest.mark.parametrize("method", ["get_data", "get_text", "get_json", "get_form_urlencoded"])
def test_without_a_body_they_resolve_at_once(serve: Any, method: str) -> None:
    """A-RES-04 to A-RES-07, S#166: a GET has nothing to wait for."""

    async def handler(res: Any, req: Any) -> None:
        value = await asyncio.wait_for(getattr(res, method)(), 5)
        res.end([value if method != "get_data" else value.getvalue().decode()])

    with Site(serve, handler).client() as client:
        expected = {"get_data": "", "get_text": ""}.get(method)
        assert json.loads(client.get().body) == [expected]
        assert json.loads(client.request("GET", "/", "Content-Length: 0").answer().body) == [expected]


@pytest.mark.parametrize("method", ["get_data", "get_text", "get_json", "get_form_urlencoded", "on_data"])
@pytest.mark.parametrize("size", [10, 300_000])
def test_the_reader_comes_late(serve: Any, method: str, size: int) -> None:
    """S#207, B-HT-15, I-A-16: a body that arrived while the handler awaited something else is not lost."""
    body = {"get_form_urlencoded": b"a=" + b"x" * size, "get_json": b'"' + b"x" * size + b'"'}.get(
        method, b"x" * size
    )
    arrived = threading.Event()

    async def handler(res: Any, req: Any) -> None:
        await asyncio.to_thread(arrived.wait, 20)
        await asyncio.sleep(1)
        if method == "on_data":
            total = 0

            def piece(res: Any, chunk: bytes, is_end: bool) -> None:
                nonlocal total
                total += len(chunk)
                if is_end:
                    res.end(str(total))

            res.on_data(piece)
        elif method == "get_data":
            res.end(str(len((await res.get_data()).getvalue())))
        else:
            value = await getattr(res, method)()
            res.end(str(len(value["a"] if method == "get_form_urlencoded" else value)))

    with Site(serve, handler).client() as client:
        sender = threading.Thread(target=post, args=(client, body))
        sender.start()
        arrived.set()
        assert client.answer().body == str(size).encode()
        sender.join()


def test_the_same_body_again(serve: Any) -> None:
    """A-RES-04: a second call gives the same body, as do the other readers."""

    async def handler(res: Any, req: Any) -> None:
        first, second = await asyncio.gather(res.get_data(), res.get_data())
        third = await res.get_data()
        assert first is not second
        assert first.read() == second.read() == third.read()
        res.end([await res.get_text(), await res.get_json()])

    with Site(serve, handler).client() as client:
        assert json.loads(post(client, b"[1]").answer().body) == ["[1]", [1]]
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n[")
        client.send(b"1]")
        assert json.loads(client.answer().body) == ["[1]", [1]]


def test_after_the_answer_there_is_no_body(serve: Any) -> None:
    """A-CALL-10: reading late resolves to nothing instead of hanging."""
    results: queue.Queue[bytes] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        res.end("done")
        results.put((await res.get_data()).getvalue())

    with Site(serve, handler).client() as client:
        assert post(client, b"abc").answer().body == b"done"
        assert results.get(timeout=20) == b""
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc")
        assert client.answer().body == b"done"
        assert results.get(timeout=20) == b""


@pytest.mark.parametrize("method", ["get_data", "get_text", "get_json", "get_form_urlencoded"])
def test_abort_during_a_read_resolves(serve: Any, method: str) -> None:
    """A-RES-04: with the bytes that arrived, and `aborted` gives the reason; the user's own handler is called
    too (I-C-22)."""
    results: queue.Queue[Any] = queue.Queue()
    reading = threading.Event()

    async def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: results.put("aborted"))
        reader = getattr(res, method)()
        asyncio.get_running_loop().call_soon(reading.set)
        value = await reader
        results.put((res.aborted, value.getvalue() if method == "get_data" else value))
        res.end("nobody")

    expected = {"get_data": b"a=1", "get_text": "a=1", "get_form_urlencoded": {"a": "1"}}.get(method)
    client = Site(serve, handler).client()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\na=1")
    assert reading.wait(20)
    client.reset()
    assert sorted([results.get(timeout=20), results.get(timeout=20)], key=str) == [
        (True, expected),
        "aborted",
    ]


# ---- read in pieces -----------------------------------------------------------------------------------------------------


class Collector:
    """A handler that collects pieces, sync or async, and responds at the end."""

    def __init__(self, *, is_async: bool) -> None:
        self.pieces: list[tuple[bytes, bool]] = []
        self.is_async = is_async

    def __call__(self, res: Any, req: Any) -> None:
        self.pieces.clear()
        res.on_data(self.later if self.is_async else self.now)

    def now(self, res: Any, chunk: bytes, is_end: bool) -> None:
        assert type(chunk) is bytes
        self.pieces.append((chunk, is_end))
        if is_end:
            res.end(b"".join(chunk for chunk, _ in self.pieces))

    async def later(self, res: Any, chunk: bytes, is_end: bool) -> None:
        before = len(self.pieces)
        await asyncio.sleep(0.001)
        assert before == len(self.pieces), "pieces overlap"
        self.now(res, chunk, is_end)


@pytest.fixture(params=["def", "async"])
def collector(request: Any) -> Collector:
    return Collector(is_async=request.param == "async")


@pytest.mark.parametrize("lane", ["io", "loop"])
@pytest.mark.parametrize("size", [0, 1, 100, 200_000, 1_000_000])
def test_on_data(serve: Any, collector: Collector, size: int, lane: str) -> None:
    """A-RES-28: every byte in order, and exactly one call is marked as the last."""
    with Site(serve, collector, sync_handlers=lane).client() as client:
        assert post(client, LARGE[:size]).answer().body == LARGE[:size]
        assert [is_end for _, is_end in collector.pieces] == [False] * (len(collector.pieces) - 1) + [True]


def test_on_data_of_a_get(serve: Any, collector: Collector) -> None:
    """A-RES-28: no body is one call with `b""`."""
    with Site(serve, collector).client() as client:
        assert client.get().body == b""
        assert collector.pieces == [(b"", True)]


def test_chunked_body_at_every_split(serve: Any, collector: Collector) -> None:
    """B-HT-12, I-C-23: parted anywhere, the same bytes; an empty last piece is `b""`."""
    body = chunked(b"hello", b" ", b"w" * 17)
    with Site(serve, collector).client() as client:
        for cut in range(len(body)):
            client.send(CHUNKED + body[:cut])
            client.send(body[cut:])
            assert client.answer().body == b"hello " + b"w" * 17, cut
            assert sum(is_end for _, is_end in collector.pieces) == 1


def test_chunked_body_byte_by_byte(serve: Any, collector: Collector) -> None:
    """B-HT-12: with extensions and trailers, which are dropped."""
    wire = CHUNKED + b"5;x=1\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: t\r\n\r\n"
    with Site(serve, collector).client() as client:
        client.send_slowly(wire)
        assert client.answer().body == b"hello!"
        assert collector.pieces[-1][1]


def test_on_data_and_on_aborted_are_both_kept(serve: Any) -> None:
    """I-C-22: nothing replaces the user's registration."""
    heard: queue.Queue[Any] = queue.Queue()

    def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: heard.put(("aborted", res.aborted)))
        res.on_data(lambda res, chunk, is_end: heard.put((chunk, is_end)))

    client = Site(serve, handler).client()
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc")
    assert heard.get(timeout=20) == (b"abc", False)
    client.reset()
    assert heard.get(timeout=20) == ("aborted", True)


def test_on_data_and_get_data_are_both_served(serve: Any, collector: Collector) -> None:
    """A-RES-04, I-C-22: `get_data` does not displace a user's `on_data`."""
    whole: queue.Queue[bytes] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        collector(res, req)
        whole.put((await res.get_data()).getvalue())

    with Site(serve, handler).client() as client:
        for start in (b"", b"abc", b"abcdef"):
            client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n" + start)
            client.send(b"abcdef"[len(start) :])
            assert client.answer().body == b"abcdef"
            assert sum(is_end for _, is_end in collector.pieces) == 1
            # Bytes that were read in pieces before are gone.
            assert b"abcdef".endswith(whole.get(timeout=20))


def test_on_data_after_get_data(serve: Any, collector: Collector) -> None:
    """A-RES-28: a middleware that has read the body leaves it to the handler, as one piece."""

    async def handler(res: Any, req: Any) -> None:
        await res.get_data()
        collector(res, req)

    with Site(serve, handler).client() as client:
        assert post(client, b"abc").answer().body == b"abc"
        assert collector.pieces == [(b"abc", True)]


def test_the_last_on_data_counts(serve: Any) -> None:
    """A-RES-28."""

    def handler(res: Any, req: Any) -> None:
        res.on_data(lambda res, chunk, is_end: res.end("first"))
        res.on_data(lambda res, chunk, is_end: res.end("second") if is_end else None)

    with Site(serve, handler).client() as client:
        assert post(client, b"abc").answer().body == b"second"


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_on_data_that_fails(serve: Any, is_async: bool, caplog: Any) -> None:
    """I-C-24: its error is the handler's, and the client is answered."""

    def fail(res: Any, chunk: bytes, is_end: bool) -> None:
        raise RuntimeError("no data, please")

    async def fail_later(res: Any, chunk: bytes, is_end: bool) -> None:
        fail(res, chunk, is_end)

    def handler(res: Any, req: Any) -> None:
        res.on_data(fail_later if is_async else fail)

    with Site(serve, handler).client() as client:
        assert post(client, b"abc").answer().status == 500
    until(lambda: "no data, please" in caplog.text, "it is logged, which comes after the answer")


def test_what_is_not_callable_is_ignored(serve: Any) -> None:
    """A-RES-27, A-RES-28."""

    async def handler(res: Any, req: Any) -> None:
        assert res.on_data(None) is res
        assert res.on_aborted(7) is res
        res.end(await res.get_text())

    with Site(serve, handler).client() as client:
        assert post(client, b"abc").answer().body == b"abc"


# ---- pause and resume ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["io", "loop"])
def test_pause_and_resume(serve: Any, lane: str) -> None:
    """A-RES-31, I-A-02: no piece comes while paused, the client is held back, and nothing is lost."""
    pieces: list[int] = []
    paused = False
    early = 0

    def handler(res: Any, req: Any) -> None:
        loop = asyncio.get_running_loop()

        def resume() -> None:
            nonlocal paused
            paused = False
            res.resume()

        def piece(res: Any, chunk: bytes, is_end: bool) -> None:
            nonlocal paused, early
            early += paused
            pieces.append(len(chunk))
            if is_end:
                res.end(str(sum(pieces)))
                return
            paused = True
            res.pause()
            loop.call_later(0.005, resume)

        res.on_data(piece)

    with Site(serve, handler, sync_handlers=lane).client() as client:
        sender = threading.Thread(target=post, args=(client, LARGE))
        sender.start()
        assert client.answer().body == str(len(LARGE)).encode()
        sender.join()
    assert early == 0


def test_paused_the_client_is_held_back(serve: Any) -> None:
    """A-RES-31: unread bytes stay with the client, not in the server's memory."""
    holder: queue.Queue[Any] = queue.Queue()

    def handler(res: Any, req: Any) -> None:
        total = 0

        def piece(res: Any, chunk: bytes, is_end: bool) -> None:
            nonlocal total
            total += len(chunk)
            if is_end:
                res.end(str(total))

        res.on_data(piece)
        res.pause()
        holder.put(res)

    body = LARGE * 4
    with Site(serve, handler).client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body))
        sent = client.flood(body)
        assert sent < len(body)
        holder.get(timeout=20).resume()
        client.send(body[sent:])
        assert client.answer().body == str(len(body)).encode()


def test_pause_and_resume_are_harmless_after_the_end(serve: Any) -> None:
    """A-RES-31, A-CALL-10."""

    def handler(res: Any, req: Any) -> None:
        res.end("x")
        assert res.pause() is res
        assert res.resume() is res
        res.pause()

    with Site(serve, handler).client() as client:
        assert post(client, b"abc").answer().body == b"x"
        assert post(client, b"abc").answer().body == b"x"


def test_a_paused_request_that_is_answered_lets_the_next_in(serve: Any) -> None:
    """A-RES-31: pausing ends with its request."""

    async def handler(res: Any, req: Any) -> None:
        res.pause()
        await asyncio.sleep(0.01)
        res.end("x")

    with Site(serve, handler).client() as client:
        for _ in range(3):
            assert post(client, LARGE[:300_000]).answer().body == b"x"


# ---- not read -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 10_000, 1_000_000])
@pytest.mark.parametrize("target", ["/", "/fence/none"])
def test_unread_body_is_drained(serve: Any, size: int, target: str) -> None:
    """B-HT-14: the connection serves on, after a response from a handler or from the core."""

    def configure(app: App) -> None:
        app.post("/", lambda res, req: res.end("unread"))
        app.get("/", lambda res, req: res.end("next"))

    running = serve(configure)
    with running.client() as client:
        for body in (LARGE[:size], b"0\r\n\r\n"):
            client.request("POST", target, body=body)
            assert client.answer().status == (200 if target == "/" else 404)
            client.send(
                b"POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" % target.encode()
            )
            client.send(chunked(LARGE[:size], b"x"))
            assert client.answer().status == (200 if target == "/" else 404)
            assert client.get().body == b"next"


def test_answered_before_the_body_has_come(serve: Any) -> None:
    """B-HT-14: the rest of the body is no request, and the next bytes are one."""
    with Site(serve, lambda res, req: res.end(req.get_method())).client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n" + b"GET /x HTTP/1.1\r\n")
        assert client.answer().body == b"POST"
        client.send(b"x" * (100 - 17))
        assert client.get("/fence").body == b"fence"


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
def test_a_reader_that_answers_first(serve: Any, is_async: bool) -> None:
    """B-HT-14: after the response no piece is delivered, and the connection serves on."""
    pieces = 0

    def piece(res: Any, chunk: bytes, is_end: bool) -> None:
        nonlocal pieces
        pieces += 1
        res.end("early")

    async def later(res: Any, chunk: bytes, is_end: bool) -> None:
        piece(res, chunk, is_end)

    with Site(serve, lambda res, req: res.on_data(later if is_async else piece)).client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nfirst")
        assert client.answer().body == b"early"
        client.send(LARGE[: 1_000_000 - 5])
        assert client.get("/fence").body == b"fence"
        assert pieces == 1


# ---- 100 Continue -------------------------------------------------------------------------------------------------------

EXPECTING = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"


@pytest.mark.parametrize("kind", ["async", "def", "late"])
def test_expect_continue(serve: Any, kind: str) -> None:
    """B-HT-13, A-RES-23: exactly one, before the body, and none where it was not asked for."""

    async def late(res: Any, req: Any) -> None:
        await asyncio.sleep(0.05)
        await echo(res, req)

    handler = {"async": echo, "def": Collector(is_async=False), "late": late}[kind]
    with Site(serve, handler).client() as client:
        for _ in range(3):
            client.send(EXPECTING)
            interim = client.answer()
            assert (interim.status_line, interim.lines) == ("HTTP/1.1 100 Continue", [])
            client.send(b"abc")
            assert client.answer().body == b"abc"
            assert post(client, b"def").answer().body == b"def"


def test_expect_continue_over_two_handlers(serve: Any) -> None:
    """B-HT-13: once, although a first handler yields."""

    def configure(app: App) -> None:
        app.post("/", lambda res, req: req.set_yield(True))
        app.any("/*", echo)

    with serve(configure).client() as client:
        client.send(EXPECTING)
        assert client.answer().status == 100
        client.send(b"abc")
        assert client.answer().body == b"abc"


def test_expect_continue_of_http10_is_ignored(serve: Any) -> None:
    """RFC 9110 10.1.1."""
    with Site(serve, echo).client() as client:
        client.send(EXPECTING.replace(b"1.1", b"1.0") + b"abc")
        assert client.answer().status == 200


def test_final_answer_instead_of_continue(serve: Any) -> None:
    """RFC 9110 10.1.1: no route, no invitation to send."""
    with serve(lambda app: None).client() as client:
        client.send(EXPECTING)
        assert client.answer().status == 404


def test_write_continue(serve: Any) -> None:
    """A-RES-23: writes an interim response, and none once the response has begun."""

    async def handler(res: Any, req: Any) -> None:
        assert res.write_continue() is res
        body = await res.get_text()
        res.write(body)
        res.write_continue()
        res.end("!")
        res.write_continue()

    with Site(serve, handler).client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n")
        assert client.answer().status == 100
        client.send(b"abc")
        assert client.answer().body == b"abc!"
        assert client.get("/fence").body == b"fence"
