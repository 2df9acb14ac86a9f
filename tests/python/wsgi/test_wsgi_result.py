"""What the application returns: S-WSGI-24 to S-WSGI-29, S-WSGI-31, S-WSGI-33 to S-WSGI-35, G-W-07, G-W-08, G-W-11, G-W-12,
G-W-15."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import reset, until
from support.wsgi import OK, TEXT, Blocks, Environ, Site, answering

Start = Callable[..., Site]


def returning(result: Callable[[], Any], headers: Any = TEXT, status: str = OK) -> Any:
    """An application that returns what ``result`` makes, but for ``/other``."""

    def application(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/other":
            return answering(b"other")(environ, start_response)
        start_response(status, list(headers))
        return result()

    return application


class Listed(list):  # type: ignore[type-arg]
    """A list that may do anything when it is iterated."""

    def __iter__(self) -> Iterator[Any]:
        return iter([b"its ", b"own"])


@pytest.mark.parametrize(
    ("result", "length", "body"),
    [
        (lambda: [b"one"], "3", b"one"),
        (lambda: (b"one",), "3", b"one"),
        (lambda: [b"a", b"", b"bcd"], "4", b"abcd"),
        (lambda: (b"a", b"bcd"), "4", b"abcd"),
        (lambda: [b"x" * 100_000, b"y" * 100_000], "200000", b"x" * 100_000 + b"y" * 100_000),
        (list, "0", b""),
        (lambda: (), "0", b""),
        (lambda: [b""], "0", b""),
        (lambda: [b"", b""], "0", b""),
        (lambda: iter([]), "0", b""),
        (lambda: iter([b"", b""]), "0", b""),
        (lambda: iter([b"a", b"b"]), None, b"ab"),
        (lambda: iter([bytearray(b"a"), memoryview(b"bc")]), None, b"abc"),
        (lambda: [bytearray(b"a"), memoryview(b"bcd")[::2]], None, b"abd"),
        (Listed, None, b"its own"),
    ],
)
def test_length(site: Start, result: Any, length: str | None, body: bytes) -> None:
    """S-WSGI-24, S-REG-25, G-W-08: set where it is known; else the body is chunked."""
    client = site(returning(result)).client()
    for _ in range(2):
        answer = client.request().answer()
        assert answer.body == body
        assert answer.header("content-length") == length
        assert answer.header("transfer-encoding") == (None if length else "chunked")


def test_one_block_is_one_write(site: Start) -> None:
    """S-WSGI-24: head and body leave together."""
    client = site(answering(b"hello")).client().request()
    data = client.receive()
    assert data.endswith(b"\r\n\r\nhello")
    assert b"Content-Length: 5\r\n" in data
    client = site(answering(b"hel", b"lo")).client().request()
    assert client.receive().endswith(b"\r\n\r\nhello")


def test_http_1_0(site: Start) -> None:
    """S-WSGI-24, S-WSGI-35: without a length the end of the connection ends the body."""
    client = site(returning(lambda: iter([b"a", b"b"]))).client().request(version="1.0")
    data = b""
    while piece := client.receive():
        data += piece
    assert b"chunked" not in data
    assert data.endswith(b"\r\n\r\nab")
    client = site(answering(b"x")).client()
    for _ in range(2):
        answer = client.request("GET", "/", "Connection: keep-alive", version="1.0").answer()
        assert (answer.header("connection"), answer.body) == ("keep-alive", b"x")


def test_each_block_is_on_its_way_before_the_next_is_asked_for(site: Start) -> None:
    """S-WSGI-25."""
    gates = [threading.Event() for _ in range(2)]

    def result() -> Any:
        for gate in gates:
            yield b"block"
            assert gate.wait(20)

    client = site(returning(result)).client().request()
    client.until(b"\r\n\r\n")
    for gate in gates:
        assert client.exactly(10) == b"5\r\nblock\r\n"
        gate.set()
    assert client.exactly(5) == b"0\r\n\r\n"


@pytest.mark.parametrize("block", ["text", None, 5, [b"x"]])
def test_a_block_that_is_none(site: Start, block: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-25: 500, with a message that says what was expected."""
    for result in ([block], (block,), [b"", block]):
        caplog.clear()
        client = site(returning(lambda result=result: result)).client()
        assert client.request().answer().status == 500
        assert client.request().answer().status == 500
        until(lambda: len(caplog.records) == 2, "both are logged")
        assert "a block of the body must be bytes, not" in caplog.text


@pytest.mark.parametrize("result", [None, 5, object()])
def test_a_result_that_cannot_be_iterated(site: Start, result: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-33."""
    assert site(returning(lambda: result)).ask().status == 500
    assert "not iterable" in caplog.text


def test_text_and_bytes_are_no_results(site: Start) -> None:
    """S-WSGI-33: iterating them gives no bytes."""
    assert site(returning(lambda: b"bytes")).ask().status == 500
    assert site(returning(lambda: "text")).ask().status == 500


def test_backpressure(site: Start) -> None:
    """S-WSGI-26, S-REG-36: a client that does not read stops the application, without the GIL, until it reads."""
    blocks = Blocks(b"x" * 65536 for _ in range(300))
    started = site(returning(lambda: blocks), io_threads=1)
    started.running.app._server.add_constant("GET", "/static", 200, [], b"static")
    client = started.client(receive_buffer=65536).request()
    client.until(b"\r\n\r\n")
    asked = 0
    deadline = time.monotonic() + 20
    # It stands still.
    while asked != blocks.asked or not asked:
        assert time.monotonic() < deadline
        asked = blocks.asked
        time.sleep(0.3)
    assert asked < 150
    assert started.ask("/static").body == b"static"
    assert client.chunks() == b"x" * 65536 * 300
    until(lambda: blocks.closed == 1, "it is closed")


def test_a_client_that_never_reads(site: Start, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-26, S-WSGI-27: it is cut off after write_timeout, and the application hears of it."""
    blocks = Blocks(b"x" * 65536 for _ in range(100_000))
    started = site(returning(lambda: blocks), write_timeout=0.3)
    started.client(receive_buffer=4096).request()
    until(lambda: blocks.closed == 1, "it is closed")
    assert blocks.asked < 1000
    assert started.ask("/other").status == 200
    assert caplog.records == []


@pytest.mark.parametrize("when", ["before", "in", "after"])
def test_a_client_that_leaves(site: Start, when: str, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-27, S-WSGI-28, S-REG-21: no further block is asked for, close() is called once, nothing is logged."""
    entered, gate = threading.Event(), threading.Event()

    def make() -> Any:
        if when == "in":
            yield b"x"
        entered.set()
        assert gate.wait(20)
        while True:
            yield b"x" * 65536

    blocks = Blocks(make())

    def result() -> Any:
        if when == "before":
            entered.set()
            assert gate.wait(20)
        elif when == "after":
            blocks.blocks = iter([b"a", b"b"])
        return blocks

    started = site(returning(result))
    client = started.client().request()
    if when == "after":
        assert client.answer().body == b"ab"
    else:
        assert entered.wait(20)
    reset(client)
    gate.set()
    until(lambda: blocks.closed == 1, "it is closed")
    # Bounded by what the kernel takes before it knows.
    assert blocks.asked < 300
    assert started.ask("/other").status == 200
    assert blocks.closed == 1
    assert caplog.records == []


def test_a_client_that_leaves_during_write(site: Start, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-27, S-WSGI-30: OSError, so that no application writes for ever; and it is not logged."""
    written: list[int] = []

    def application(environ: Environ, start_response: Any) -> Any:
        write = start_response(OK, TEXT)
        if environ["PATH_INFO"] == "/other":
            return [b""]
        while True:
            write(b"x" * 65536)
            written.append(1)

    started = site(application)
    client = started.client().request()
    client.until(b"\r\n\r\n")
    reset(client)
    assert started.ask("/other").status == 200
    assert len(written) < 1000
    assert caplog.records == []


@pytest.mark.parametrize(
    ("blocks", "headers", "status"),
    [
        ([b"a", b"b"], TEXT, 200),
        ([], TEXT, 200),
        ([b"a", ValueError("x"), b"b"], TEXT, None),
        ([ValueError("x")], TEXT, 500),
        ([b"abc", b"d"], [("Content-Length", "2")], 200),
        (["text"], TEXT, 500),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_close_is_called_once(
    site: Start, blocks: Any, headers: Any, status: int | None, method: str
) -> None:
    """S-WSGI-28, G-W-11: whatever has happened."""
    made: list[Blocks] = []

    def make() -> Any:
        for block in blocks:
            if isinstance(block, Exception):
                raise block
            yield block

    def result() -> Any:
        made.append(Blocks(make()))
        return made[-1]

    started = site(returning(result, headers))
    client = started.client().request(method)
    if status is not None:
        expected = 200 if method == "HEAD" and blocks[:1] == [b"a"] else status
        assert client.answer(method).status == expected
    # One thread: the other request is after it.
    started.ask("/other")
    assert made[0].closed == 1


def test_close_comes_before_the_next_request(site: Start) -> None:
    """S-WSGI-28: on the same connection too."""
    events: list[str] = []

    class Closed(Blocks):
        def close(self) -> None:
            events.append("close")

    def application(environ: Environ, start_response: Any) -> Any:
        events.append("call")
        start_response(OK, TEXT)
        return Closed([b"x"])

    client = site(application).client()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    for _ in range(3):
        assert client.answer().body == b"x"
    until(lambda: len(events) == 6, "all are closed")
    assert events == ["call", "close"] * 3


def test_close_that_fails(site: Start, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-28: logged, and the response is not harmed."""

    class Failing(Blocks):
        def close(self) -> None:
            raise RuntimeError("in close")

    client = site(returning(lambda: Failing([b"x"]))).client()
    assert client.request().answer().body == b"x"
    assert client.request().answer().body == b"x"
    until(lambda: len(caplog.records) == 2, "both are logged")
    assert "in close" in caplog.text


@pytest.mark.parametrize(
    "result", [lambda: [b"abcdef"], lambda: [b"abc", b"def"], lambda: iter([b"abc", b"def"])]
)
def test_more_than_declared(site: Start, result: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-29, G-W-07: what is beyond is not sent, and that is logged once."""
    client = site(returning(result, [("Content-Length", "4")])).client()
    answer = client.request().answer()
    assert (answer.header("content-length"), answer.body) == ("4", b"abcd")
    assert client.request().answer().body == b"abcd"
    until(lambda: len(caplog.records) == 2, "both are logged")
    assert caplog.records[0].getMessage() == (
        "the response to / declares a Content-Length of 4 and has 6 bytes: the rest was not sent"
    )


@pytest.mark.parametrize(
    "result", [lambda: [b"ab"], lambda: [b"a", b"b"], lambda: iter([b"a", b"b"]), list, lambda: iter([])]
)
def test_less_than_declared(site: Start, result: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-29, G-W-07: the connection is cut, so that no client takes it for whole."""
    client = site(returning(result, [("Content-Length", "4")])).client().request()
    data = b""
    while piece := client.receive():
        data += piece
    assert len(data.partition(b"\r\n\r\n")[2]) < 4
    until(lambda: caplog.records, "it is logged")
    assert caplog.records[0].getMessage().endswith(": the connection was cut")


@pytest.mark.parametrize(
    ("result", "headers", "length", "chunked"),
    [
        (lambda: [b"hello"], TEXT, "5", False),
        (lambda: [b"hel", b"lo"], TEXT, "5", False),
        (lambda: iter([b"hello"]), TEXT, None, True),
        (lambda: iter([b"hello"]), [("Content-Length", "5")], "5", False),
        (list, [("Content-Length", "5")], "5", False),
        (lambda: iter([]), [("Content-Length", "5")], "5", False),
        (list, TEXT, None, False),
    ],
)
def test_head(site: Start, result: Any, headers: Any, length: str | None, chunked: bool) -> None:
    """S-WSGI-31, G-W-15: the head of GET, and nothing else."""
    client = site(returning(result, headers)).client()
    for _ in range(2):
        answer = client.request("HEAD").answer("HEAD")
        assert answer.header("content-length") == length
        assert (answer.header("transfer-encoding") == "chunked") is chunked
    assert client.pending == b""


def test_head_asks_for_one_block(site: Start) -> None:
    """S-WSGI-31: an endless body ends."""
    blocks = Blocks(iter(lambda: b"x", b""))
    started = site(returning(lambda: blocks))
    assert started.client().request("HEAD").answer("HEAD").status == 200
    until(lambda: blocks.closed, "it is closed")
    assert blocks.asked == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("result", [lambda: [b"x"], lambda: [b"x", b"y"], lambda: iter([b"x"]), list])
def test_statuses_without_a_body(
    site: Start, status: str, result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """S-WSGI-31: no body, and nothing that frames one."""
    client = site(returning(result, [("X-A", "1")], status)).client()
    for _ in range(2):
        answer = client.request().answer()
        assert answer.status_line == f"HTTP/1.1 {status}"
        assert not {"transfer-encoding"} & answer.headers.keys()
        if status.startswith("204"):
            assert answer.header("content-length") is None
    assert client.pending == b""
    assert caplog.records == []


def test_an_interim_status(site: Start) -> None:
    """S-WSGI-31: sent as it is, and then nobody waits for a response that does not come."""
    client = site(answering(b"x", status="102 Processing")).client().request()
    data = b""
    while piece := client.receive():
        data += piece
    assert data.startswith(b"HTTP/1.1 102 Processing\r\n")
    assert data.endswith(b"\r\n\r\n")
    assert b"Length" not in data


@pytest.mark.parametrize("error", [RuntimeError("oops"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_application_that_raises(
    site: Start, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """S-WSGI-33, S-WSGI-35, G-W-12: 500, logged once; the connection is kept, and the server serves on."""

    def application(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/late":
            start_response(OK, [("Set-Cookie", "secret=1")])
        raise error

    client = site(application).client()
    for path in ("/", "/late"):
        answer = client.request("GET", path).answer()
        assert answer.status_line == "HTTP/1.1 500 Internal Server Error"
        assert answer.body == b"Internal Server Error"
        assert answer.header("set-cookie") is None
    until(lambda: len(caplog.records) == 2, "both are logged")
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_an_error_after_the_head(site: Start, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-33: the response is cut."""

    def result() -> Any:
        yield b"begun"
        raise RuntimeError("oops")

    for headers in (TEXT, [("Content-Length", "10")]):
        client = site(returning(result, headers)).client().request()
        data = b""
        while piece := client.receive():
            data += piece
        assert data.endswith(b"begun\r\n" if headers is TEXT else b"\r\n\r\nbegun")
    until(lambda: len(caplog.records) == 2, "both are logged")


def test_date_and_server(site: Start) -> None:
    """S-WSGI-34: added, unless the application has them."""
    answer = site(answering(b"x")).ask()
    assert answer.header("server") == "socketify"
    assert answer.header("date")
    answer = site(answering(b"x", headers=[("Server", "mine"), ("Date", "then")])).ask()
    assert (answer.header("server"), answer.header("date")) == ("mine", "then")
    options = {"server_header": "", "date_header": False, "headers": [("X-All", "1"), ("X-Own", "1")]}
    for path in ("/", "/list", "/error"):

        def application(environ: Environ, start_response: Any) -> Any:
            start_response(OK, [("X-Own", "2")])
            if environ["PATH_INFO"] == "/error":
                raise RuntimeError("oops")
            return [b"x"] if environ["PATH_INFO"] == "/list" else iter([b"x"])

        answer = site(application, **options).ask(path)
        assert (answer.header("server"), answer.header("date"), answer.header("x-all")) == (None, None, "1")
        assert answer.header("x-own") == ("1" if path == "/error" else "2")


def test_the_connection_ends_where_it_is_asked_to(site: Start) -> None:
    """S-WSGI-35."""
    client = site(answering(b"x")).client().request("GET", "/", "Connection: close")
    assert client.answer().header("connection") == "close"
    assert client.receive() == b""


def test_the_rest_of_a_body_is_no_request(site: Start) -> None:
    """S-WSGI-18: what the application does not read is thrown away."""
    client = site(answering(b"x")).client()
    client.request("POST", body=b"GET /evil HTTP/1.1\r\n\r\n" * 100)
    client.request("GET", "/next")
    assert client.answer().body == b"x"
    assert client.answer().body == b"x"
    client.request("POST", "/", "Content-Length: 100000").send(b"y" * 50_000)
    assert client.answer().body == b"x"


def test_compression(site: Start) -> None:
    """S-WSGI-24: an application that compresses does so here as well."""
    import gzip

    for result in (lambda: [b"x" * 5000], lambda: [b"x" * 2500] * 2, lambda: iter([b"x" * 2500] * 2)):
        answer = site(returning(result), compression=True).ask("/", "Accept-Encoding: gzip")
        assert answer.header("content-encoding") == "gzip"
        assert gzip.decompress(answer.body) == b"x" * 5000
