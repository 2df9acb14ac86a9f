"""Limits and timeouts: the size and time of a client's requests, without harm to others.

Rows: B-HT-09, B-HT-11, B-HT-16, B-HT-17, B-HT-18, I-A-23, I-A-32; S#120 of users.md; design.md 4 (limits have defaults).
Timeouts here are short; the tests assert that they happen, to whom and in which order, not exactly when.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from socketify import App
from support import until
from support.client import Client
from support.h2_client import H2Client

SHORT = 0.3
AFTER = b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n"
LARGE = b"x" * 20_000_000


def connections(running: Any) -> int:
    count: int = running.app._server.connection_count()
    return count


def gone(client: Client) -> bool:
    """Whether the server has closed, or reset, without another byte."""
    return client.rest() == b""


# ---- the size of a body -------------------------------------------------------------------------------------------------


class Bodies:
    """Reads bodies and records executed requests."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def configure(self, app: App) -> None:
        async def length(res: Any, req: Any) -> None:
            self.seen.append(req.get_url())
            res.end(str(len((await res.get_data()).getvalue())))

        def unread(res: Any, req: Any) -> None:
            self.seen.append(req.get_url())
            res.end("unread")

        app.any("/", length)
        app.any("/after", unread)
        app.post("/small", length, max_body_size=3)
        app.post("/large", length, max_body_size=1000)
        app.post("/none", length, max_body_size=0)
        app.post("/unread", unread)


@pytest.mark.parametrize(("target", "limit"), [("/", 10), ("/small", 3), ("/large", 1000), ("/none", 0)])
def test_declared_body_size(serve: Any, target: str, limit: int) -> None:
    """S#120: 413 before a byte of it was read; the route's own limit goes before the application's."""
    bodies = Bodies()
    running = serve(bodies.configure, max_body_size=10)
    with running.client() as client:
        assert client.request("POST", target, body=b"x" * limit).answer().body == str(limit).encode()
        client.request("POST", target, f"Content-Length: {limit + 1}")
        answer = client.answer()
        assert (answer.status, answer.header("Connection")) == (413, "close")
        client.send(b"x" * (limit + 1) + AFTER)
        assert gone(client)
    with running.client() as client:
        client.get("/after")
    assert bodies.seen == [target, "/after"]


@pytest.mark.parametrize("pieces", [1, 3, 1000])
@pytest.mark.parametrize(("target", "limit"), [("/", 10), ("/small", 3), ("/large", 1000), ("/none", 0)])
def test_received_body_size(serve: Any, target: str, limit: int, pieces: int) -> None:
    """S#120: chunks are counted as they arrive, with any size."""
    bodies = Bodies()
    running = serve(bodies.configure, max_body_size=10)

    def chunked(size: int) -> bytes:
        data = b"".join(
            b"%x\r\n%s\r\n" % (len(piece), piece)
            for piece in (b"x" * min(pieces, size - at) for at in range(0, size, pieces))
        )
        return data + b"0\r\n\r\n"

    head = f"POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with running.client() as client:
        client.send(head + chunked(limit))
        assert client.answer().body == str(limit).encode()
        client.send(head + chunked(limit + 1) + AFTER)
        answer = client.answer()
        assert (answer.status, answer.header("Connection")) == (413, "close")
        assert gone(client)
    with running.client() as client:
        client.get("/after")
    assert bodies.seen.count("/after") == 1


def test_an_announced_chunk_is_not_believed(serve: Any) -> None:
    """B-HT-11: a chunk of 2^60 bytes is refused when the bytes come, and nothing is set aside for it."""
    running = serve(Bodies().configure, max_body_size=10)
    with running.client() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000\r\n1234567890"
        )
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.receive()
        client.socket.settimeout(20)
        client.send(b"1")
        assert client.answer().status == 413


def test_a_length_of_64_bits(serve: Any) -> None:
    """B-HT-11, I-A-32: it is a number like any other."""
    running = serve(Bodies().configure)
    with running.client() as client:
        assert client.request("POST", "/", "Content-Length: 18446744073709551615").answer().status == 413


def test_too_large_without_a_route_or_a_reader(serve: Any) -> None:
    """S#120: unread bytes count as well, also discarded ones."""
    running = serve(Bodies().configure, max_body_size=10)
    with running.client() as client:
        assert client.request("POST", "/nowhere", "Content-Length: 11").answer().status == 413
        assert gone(client)
    with running.client() as client:
        client.send(b"POST /unread HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert client.answer().body == b"unread"
        client.send(b"b\r\n01234567890\r\n0\r\n\r\n")
        assert gone(client)


@pytest.fixture
def bounded(serve: Any, tmp_path: Path) -> Any:
    """Everything that answers without a handler, where ten bytes of a body are allowed."""
    (tmp_path / "file").write_text("file")
    (tmp_path / "large").write_bytes(bytes(200_000))
    (tmp_path / "folder").mkdir()
    # An absolute link is looked at where waiting for a disk does not matter.
    (tmp_path / "slow").symlink_to(tmp_path / "file")

    def configure(app: App) -> None:
        app.static("/static", tmp_path)
        app.constant("/constant", "constant", method=None)
        app.ws("/socket", {"message": lambda ws, message, opcode: None})
        app.cors("https://example.org")

    return serve(configure, max_body_size=10)


WITHOUT_HANDLERS = {
    "file": ("GET", "/static/file", ()),
    "head of a file": ("HEAD", "/static/file", ()),
    "large file": ("GET", "/static/large", ()),
    "file behind the disk": ("GET", "/static/slow", ()),
    "file that is not modified": ("GET", "/static/file", ("If-None-Match: *",)),
    "file that has changed": ("GET", "/static/file", ('If-Match: "x"',)),
    "range beyond the end": ("GET", "/static/file", ("Range: bytes=100-",)),
    "folder": ("GET", "/static/folder", ()),
    "constant": ("POST", "/constant", ()),
    "no route": ("POST", "/nowhere", ()),
    "preflight": (
        "OPTIONS",
        "/constant",
        ("Origin: https://example.org", "Access-Control-Request-Method: GET"),
    ),
}


@pytest.mark.parametrize(("method", "target", "lines"), WITHOUT_HANDLERS.values(), ids=list(WITHOUT_HANDLERS))
@pytest.mark.parametrize("http2", [False, True])
def test_too_large_for_what_needs_no_handler(
    bounded: Any, method: str, target: str, lines: tuple[str, ...], http2: bool
) -> None:
    """S#120: a discarded body has the limit of the server."""
    if http2:
        headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        with H2Client(bounded.port) as client:
            refused = client.request(target, method, headers=[*headers, ("content-length", "11")], end=False)
            taken = client.request(
                target, method, headers=[*headers, ("content-length", "10")], body=b"x" * 10
            )
            assert client.answer(refused).status == 413
            assert client.answer(taken).status != 413
        return
    with bounded.client() as client:
        client.request(method, target, *lines, body=b"x" * 10)
        assert client.answer(method).status != 413
        client.request(method, target, *lines, "Content-Length: 11")
        answer = client.answer(method)
        assert (answer.status, answer.header("Connection")) == (413, "close")
        assert gone(client)
    with bounded.client() as client:
        client.request(method, target, *lines, "Transfer-Encoding: chunked")
        assert client.answer(method).status != 413
        client.send(b"b\r\n01234567890\r\n0\r\n\r\n" + AFTER)
        assert gone(client)


class Ways:
    """The ways to a handler behind others, each of which has a limit of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def configure(self, app: App) -> None:
        async def length(res: Any, req: Any) -> None:
            res.end(str(len((await res.get_data()).getvalue())))

        def plain_length(res: Any, req: Any) -> None:
            seen: list[int] = []

            def piece(res: Any, chunk: bytes, is_end: bool) -> None:
                seen.append(len(chunk))
                if is_end:
                    res.end(str(sum(seen)))

            res.on_data(piece)

        def check(res: Any, req: Any) -> None:
            req.set_yield(True)

        async def slow_check(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            req.set_yield(True)

        for name, first in ("plain", check), ("coroutine", slow_check):
            for size, limit in ("small", 3), ("large", 1000):
                for end, handler in ("plain", plain_length), ("coroutine", length):
                    way = f"/{name}/{size}/{end}"
                    app.any(f"{way}/:id", first)
                    app.any(f"{way}/*", handler, max_body_size=limit)
        app.any("/twice/:id", check, max_body_size=5)
        app.any("/twice/*", length)
        (self.folder / "nowhere").symlink_to(self.folder / "nothing")
        app.static("/small", self.folder).any("/small/*", length, max_body_size=3)
        app.static("/large", self.folder).any("/large/*", length, max_body_size=1000)
        app.any("/reads/:id", length)
        app.any("/reads/*", length, max_body_size=1000)
        app.any("/answers/:id", lambda res, req: res.end("answers"))
        app.any("/answers/*", length, max_body_size=1000)


WAYS = [
    *((f"/{first}/{size}/{end}/x", limit) for size, limit in (("small", 3), ("large", 1000))
      for first, end in itertools.product(("plain", "coroutine"), repeat=2)),
    ("/twice/x", 10),
    # Not in memory what the folder has, and nothing there.
    ("/small/nothing", 3), ("/large/nothing", 1000), ("/small/nowhere", 3), ("/large/nowhere", 1000),
    ("/reads/x", 10),
]  # fmt: skip


@pytest.mark.parametrize(("target", "limit"), WAYS)
@pytest.mark.parametrize("framing", ["length", "chunked", "late", "expected", "http2"])
def test_the_limit_is_that_of_the_route_that_reads(
    serve: Any, tmp_path: Path, target: str, limit: int, framing: str
) -> None:
    """S#120: however the request comes there."""
    running = serve(Ways(tmp_path).configure, max_body_size=10)
    for size, status in (limit, 200), (limit + 1, 413):
        body = b"x" * size
        if framing == "http2":
            with H2Client(running.port) as h2:
                assert h2.get(target, body=body).status == status
            continue
        with running.client() as client:
            if framing == "length":
                client.request("GET", target, body=body)
            elif framing == "chunked":
                client.request("GET", target, "Transfer-Encoding: chunked")
                client.send(b"%x\r\n%s\r\n0\r\n\r\n" % (size, body))
            elif framing == "late":
                client.request("GET", target, f"Content-Length: {size}")
                if status == 200:
                    client.send(body)
            else:
                client.request("GET", target, f"Content-Length: {size}", "Expect: 100-continue")
                if status == 200:
                    assert client.answer().status == 100
                    client.send(body)
            answer = client.answer()
            while answer.status == 100:
                # For the route before, which would have taken it.
                answer = client.answer()
            assert answer.status == status
            if status == 200:
                assert answer.body == str(size).encode()
            else:
                assert answer.header("Connection") == "close"


def test_a_route_that_answers_need_not_take_the_body(serve: Any, tmp_path: Path) -> None:
    """A handler that checks the permission to send so much comes before the limit."""
    running = serve(Ways(tmp_path).configure, max_body_size=10)
    with running.client() as client:
        client.request("POST", "/answers/x", "Content-Length: 11")
        assert client.answer().body == b"answers"
        client.send(b"x" * 11 + AFTER)
        assert gone(client)
    with running.client() as client:
        assert client.request("POST", "/answers/x", "Content-Length: 1001").answer().status == 413


@pytest.mark.parametrize("target", ["/nowhere", "/constant", "/static/file", "/static/slow"])
def test_an_answer_to_a_client_that_waits_to_be_asked_closes(bounded: Any, target: str) -> None:
    """RFC 9110 10.1.1: it need not send the body then, and what it sends may be that or the next request."""
    with bounded.client() as client:
        client.request("GET", target, "Expect: 100-continue", "Content-Length: 3")
        assert client.answer().header("Connection") == "close"
        client.send(AFTER)
        assert gone(client)


def test_too_large_for_a_head_request(serve: Any) -> None:
    """B-HT-01: no body in answer to HEAD, not even that of an error."""
    running = serve(Bodies().configure, max_body_size=10)
    with running.client() as client:
        client.request("HEAD", "/", "Content-Length: 11")
        answer = client.answer("HEAD")
        assert (answer.status, answer.header("Content-Length")) == (413, "17")
        assert gone(client)


def test_too_large_is_not_asked_for(serve: Any) -> None:
    """RFC 9110 10.1.1: no 100 Continue for a body that would be refused."""
    running = serve(Bodies().configure, max_body_size=10)
    with running.client() as client:
        assert (
            client.request("POST", "/", "Expect: 100-continue", "Content-Length: 11").answer().status == 413
        )


def test_whoever_reads_hears_that_it_is_too_large(serve: Any) -> None:
    """S#120: the handler sees an abort; its response goes nowhere."""
    heard: queue.Queue[Any] = queue.Queue()

    def handler(res: Any, req: Any) -> None:
        def piece(res: Any, chunk: bytes, is_end: bool) -> None:
            heard.put(len(chunk))

        res.on_data(piece)
        res.on_aborted(lambda res: (res.end("late"), heard.put("aborted")))

    running = serve(lambda app: app.post("/", handler), max_body_size=10)
    with running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert heard.get(timeout=20) == 5
        client.send(b"6\r\nworld!\r\n")
        assert client.answer().status == 413
        assert heard.get(timeout=20) == "aborted"


def test_too_large_after_the_answer_has_begun(serve: Any) -> None:
    """S#120: then it can only be cut, and must not look whole."""

    def handler(res: Any, req: Any) -> None:
        res.on_data(lambda res, chunk, is_end: None)
        res.write("half")

    running = serve(lambda app: app.post("/", handler), max_body_size=10)
    with running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        client.until(b"half\r\n")
        client.send(b"6\r\nworld!\r\n0\r\n\r\n" + AFTER)
        assert gone(client)


# ---- the size of a head -------------------------------------------------------------------------------------------------


def head_of(size: int) -> bytes:
    start = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("limit", [100, 1000, 65_536])
@pytest.mark.parametrize("step", [0, 97], ids=["whole", "pieces"])
def test_header_bytes(serve: Any, limit: int, step: int) -> None:
    """B-HT-09: as many as the limit says and not one more, however they arrive."""
    options = {} if limit == 65_536 else {"max_header_bytes": limit}
    running = serve(lambda app: app.get("/", lambda res, req: res.end("ok")), **options)

    def send(client: Client, data: bytes) -> None:
        for at in range(0, len(data), step or len(data)):
            client.send(data[at : at + (step or len(data))])

    with running.client() as client:
        for _ in range(2):
            send(client, head_of(limit))
            assert client.answer().status == 200
        send(client, head_of(limit + 1))
        answer = client.answer()
        assert (answer.status, answer.header("Connection")) == (431, "close")
        client.send(AFTER)
        assert gone(client)


@pytest.mark.parametrize(
    "start", [b"GET /", b"GET / HTTP/1.1\r\nHost: h\r\nX: ", b"GET / HTTP/1.1\r\nHost: h\r\n"]
)
def test_a_head_without_an_end(serve: Any, start: bytes) -> None:
    """B-HT-09: 431 as soon as the limit is passed; nobody waits for the rest."""
    running = serve(lambda app: None, max_header_bytes=1000)
    filler = b"X: y\r\n" if start.endswith(b"\r\n") else b"x"
    with running.client() as client:
        client.send(start + filler * 1000)
        assert client.answer().status == 431
        assert gone(client)


@pytest.mark.parametrize("limit", [1, 5, 100, 256])
def test_header_count(serve: Any, limit: int) -> None:
    """B-HT-09, I-A-23."""
    options = {} if limit == 100 else {"max_headers": limit}
    running = serve(
        lambda app: app.get("/", lambda res, req: res.end(str(len(req.get_headers())))), **options
    )
    lines = [f"X-{number}: y" for number in range(limit)]
    with running.client() as client:
        assert client.get("/", *lines[1:]).body == str(limit).encode()
        answer = client.get("/", *lines)
        assert (answer.status, answer.header("Connection")) == (431, "close")
        assert gone(client)


# ---- the time a client takes --------------------------------------------------------------------------------------------


class Patient:
    """A handler that answers when it is told to, so that time passes while its request is pending."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.started = threading.Event()

    async def __call__(self, res: Any, req: Any) -> None:
        self.started.set()
        await asyncio.to_thread(self.release.wait, 20)
        res.end("patient")


def drip(client: Client, data: bytes, pause: float) -> threading.Thread:
    """Sends a byte now and then until the server closes."""

    def run() -> None:
        try:
            for byte in data:
                client.send(bytes([byte]))
                time.sleep(pause)
        except OSError:
            pass

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_nul_behind_blank_lines(serve: Any) -> None:
    """B-HT-18: where no PROXY preface may come it is no request, and is refused without a timeout."""
    running = serve(
        lambda app: app.get("/", lambda res, req: res.end("ok")), proxy_protocol="off", header_timeout=600
    )
    with running.client() as fresh, running.client() as used:
        used.get()
        for client in (fresh, used):
            client.send(b"\r\n\r\n\0")
            answer = client.answer()
            assert (answer.status, answer.header("Connection")) == (400, "close")
            assert gone(client)


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\nHost: h\r\n", b"\r\n"])
def test_header_timeout(serve: Any, start: bytes) -> None:
    """408 to a client that begins a request and stops, at first and on a connection that has served
    before."""
    patient = Patient()
    running = serve(
        lambda app: (app.get("/", lambda res, req: res.end("ok")), app.get("/patient", patient)),
        header_timeout=SHORT,
        # The last may be the start of a PROXY preface, where one may come: then no response is possible.
        proxy_protocol="off",
    )
    with running.client() as waiting, running.client() as fresh, running.client() as used:
        waiting.request("GET", "/patient")
        assert patient.started.wait(20)
        used.get()
        for client in (fresh, used):
            client.send(start)
        for client in (fresh, used):
            answer = client.answer()
            assert (answer.status, answer.header("Connection")) == (408, "close")
            assert gone(client)
        # B-HT-18: a request that came whole has all the time its handler needs.
        patient.release.set()
        assert waiting.answer().body == b"patient"


@pytest.mark.parametrize(
    "filler", [b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 1000, b"X" * 60 + b"\r\n"]
)
def test_header_timeout_of_a_client_that_drips(serve: Any, filler: bytes) -> None:
    """Slowloris: each byte alone does not buy more time."""
    running = serve(lambda app: app.get("/", lambda res, req: res.end("ok")), header_timeout=SHORT)
    for used in (False, True):
        with running.client() as client:
            if used:
                client.get()
            started = time.monotonic()
            thread = drip(client, filler, 0.02)
            assert client.answer().status == 408
            assert time.monotonic() - started < 10 * SHORT
            thread.join()


def test_header_timeout_counts_from_the_request(serve: Any) -> None:
    """A request that comes in time is served, however long the connection was idle before."""
    running = serve(lambda app: app.get("/", lambda res, req: res.end("ok")), header_timeout=SHORT)
    with running.client() as client:
        client.get()
        time.sleep(2 * SHORT)
        thread = drip(client, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", SHORT / 100)
        assert client.answer().status == 200
        thread.join()


def test_a_client_that_says_nothing_is_closed(serve: Any) -> None:
    """There is no request to answer, so there is no 408."""
    running = serve(lambda app: None, header_timeout=SHORT)
    with running.client() as client:
        assert gone(client)


def test_keep_alive_timeout(serve: Any) -> None:
    """B-HT-16: silence ends a connection; talking, or waiting for a response, does not."""
    patient = Patient()
    running = serve(
        lambda app: (app.get("/", lambda res, req: res.end("ok")), app.get("/patient", patient)),
        keep_alive_timeout=SHORT,
    )
    with running.client() as waiting, running.client() as silent, running.client() as talking:
        waiting.request("GET", "/patient")
        silent.get()
        for _ in range(20):
            assert talking.get().status == 200
            time.sleep(SHORT / 5)
        assert gone(silent)
        patient.release.set()
        assert waiting.answer().body == b"patient"
        # It begins anew after each response.
        assert waiting.get().status == 200


async def read(res: Any, req: Any) -> None:
    res.end(str(len((await res.get_data()).getvalue())))


def read_pieces(res: Any, req: Any) -> None:
    res.on_data(lambda res, chunk, is_end: res.end("whole") if is_end else None)


@pytest.mark.parametrize("handler", [read, read_pieces])
@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_body_timeout(serve: Any, handler: Any, framing: str) -> None:
    """B-HT-17: 408 to a client that stops in the middle of a body while a handler waits for it."""
    running = serve(lambda app: app.post("/", handler), body_timeout=SHORT)
    with running.client() as client:
        client.request("POST", "/", framing).send(b"5\r\nab")
        answer = client.answer()
        assert (answer.status, answer.header("Connection")) == (408, "close")
        assert gone(client)


def test_body_timeout_tells_the_handler(serve: Any) -> None:
    """A-RES-27: the client has gone."""
    aborted = threading.Event()

    def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: aborted.set())
        res.on_data(lambda res, chunk, is_end: None)

    running = serve(lambda app: app.post("/", handler), body_timeout=SHORT)
    with running.client() as client:
        client.request("POST", "/", "Content-Length: 10")
        assert aborted.wait(20)
        assert client.answer().status == 408


def test_body_timeout_counts_silence_only(serve: Any) -> None:
    """A slow client that goes on is served; so is one whose body no handler has asked for yet, or that is
    paused."""

    async def late(res: Any, req: Any) -> None:
        await asyncio.sleep(3 * SHORT)
        await read(res, req)

    async def paused(res: Any, req: Any) -> None:
        res.on_data(lambda res, chunk, is_end: res.end("whole") if is_end else None)
        res.pause()
        await asyncio.sleep(3 * SHORT)
        res.resume()

    running = serve(
        lambda app: app.post("/", read).post("/late", late).post("/paused", paused),
        body_timeout=SHORT,
        min_rate=0,
    )
    with running.client() as slow, running.client() as late_client, running.client() as paused_client:
        late_client.request("POST", "/late", body=b"x" * 500_000)
        paused_client.request("POST", "/paused", "Content-Length: 10")
        slow.request("POST", "/", "Content-Length: 20")
        drip(slow, b"x" * 20, SHORT / 6).join()
        assert slow.answer().body == b"20"
        assert late_client.answer().body == b"500000"
        paused_client.send(b"x" * 10)
        assert paused_client.answer().body == b"whole"


def test_body_timeout_of_what_is_thrown_away(serve: Any) -> None:
    """B-HT-14: the rest of an unread body must come in time too, and gets no second response."""
    running = serve(lambda app: app.post("/", lambda res, req: res.end("unread")), body_timeout=SHORT)
    with running.client() as client:
        assert client.request("POST", "/", "Content-Length: 10").answer().body == b"unread"
        assert gone(client)


@pytest.mark.parametrize("kind", ["end", "write", "try_end"])
def test_write_timeout(serve: Any, kind: str) -> None:
    """A client that stopped reading is cut off; one that reads slowly is not."""

    def handler(res: Any, req: Any) -> None:
        if kind == "end":
            res.end(LARGE)
        elif kind == "write":
            res.write(LARGE)
            res.end("!")
        else:
            res.on_writable(lambda res, offset: res.try_end(LARGE[offset:], len(LARGE))[0])
            res.try_end(LARGE, len(LARGE))

    running = serve(lambda app: app.get("/", handler), write_timeout=SHORT)
    with running.client(receive_buffer=4096) as stopped, running.client(receive_buffer=65_536) as slow:
        stopped.request()
        slow.request()
        received = 0
        while chunk := slow.socket.recv(1 << 20):
            received += len(chunk)
            if received > len(LARGE):
                break
            time.sleep(0.001)
        assert received > len(LARGE)
        until(lambda: connections(running) == 1, "the client to be cut off")
        assert len(stopped.rest()) < len(LARGE)


def test_write_timeout_tells_who_waits_for_room(serve: Any) -> None:
    """A-RES-08, A-RES-27: `send_chunk` resolves, and `on_aborted` is called."""
    heard: queue.Queue[Any] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: heard.put("aborted"))
        chunk = b"x" * 100_000
        ok, done = True, False
        while ok and not done:
            ok, done = await res.send_chunk(chunk, 1_000_000_000)
        heard.put((ok, done))

    running = serve(lambda app: app.get("/", handler), write_timeout=SHORT)
    with running.client(receive_buffer=4096) as client:
        client.request()
        assert {heard.get(timeout=20), heard.get(timeout=20)} == {"aborted", (False, True)}
        assert len(client.rest()) < 1_000_000_000


def test_write_timeout_is_not_bought_by_sending(serve: Any) -> None:
    """A client that sends further requests and reads no response is still cut off."""
    running = serve(lambda app: app.get("/", lambda res, req: res.end(LARGE)), write_timeout=SHORT)
    with running.client(receive_buffer=4096) as client:
        client.request()
        client.until(b"\r\n\r\n")
        thread = drip(client, AFTER * 1000, 0.02)
        until(lambda: connections(running) == 0, "the client to be cut off")
        client.rest()
        thread.join()


# ---- the number of clients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_max_connections(serve: Any, limit: int) -> None:
    """At the limit the next client waits, and is served when one leaves."""
    running = serve(lambda app: app.get("/", lambda res, req: res.end("ok")), max_connections=limit)
    inside = [running.client() for _ in range(limit)]
    for client in inside:
        assert client.get().status == 200
    with running.client() as waiting, running.client() as later:
        for client in (waiting, later):
            client.request()
            client.socket.settimeout(SHORT)
        for client in (waiting, later):
            with pytest.raises(TimeoutError):
                client.receive()
            client.socket.settimeout(20)
        # Those who are in are served as before.
        for client in inside:
            assert client.get().status == 200
        inside.pop().close()
        assert waiting.answer().status == 200
        waiting.close()
        assert later.answer().status == 200
    for client in inside:
        client.close()


def test_max_connections_frees_the_place_of_whoever_vanishes(serve: Any) -> None:
    """A reset, a refusal and a timeout each make room."""
    running = serve(
        lambda app: app.get("/", lambda res, req: res.end("ok")), max_connections=1, header_timeout=SHORT
    )
    for leave in (
        lambda c: c.request().reset(),
        lambda c: c.send(b"\0"),
        lambda c: c.send(b"G"),
        lambda c: None,
    ):
        client = running.client()
        leave(client)
        with running.client() as following:
            assert following.get().status == 200
        client.close()
