"""The responses of handlers, to the byte: A.7 without upgrades and request bodies, and the framing of B.2."""

from __future__ import annotations

import asyncio
import http
import http.cookies
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_plus

import httpx
import pytest

from socketify import App
from socketify.status_codes import status_codes
from support.client import Client
from support.h2_client import H2Client
from support.lanes import LANES, RESUMED, TASK, THREAD, each_lane, on, options
from support.running import Running

Serve = Callable[..., Running]
Handle = Callable[[Any, Any], object]

DATE = re.compile(rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n")
LAST = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: *\r\nServer: socketify\r\nContent-Length: 4\r\n"
    b"Connection: close\r\n\r\nlast"
)
OK = "HTTP/1.1 200 OK\r\n"
COMMON = "Date: *\r\nServer: socketify\r\n"


def masked(answer: bytes) -> bytes:
    """With the one thing that is never the same taken out."""
    return DATE.sub(b"Date: *\r\n", answer)


def answering(serve: Serve, handle: Handle, lane: str = THREAD, **more: Any) -> Running:
    """A server with one handler for everything but `/last`."""

    def configure(app: App) -> None:
        app.any("/*", on(lane, handle))
        app.constant("/last", "last")

    return serve(configure, **{**options(lane), **more})


def wire(app: Running, request: str | bytes = "GET / HTTP/1.1\r\nHost: test\r\n\r\n") -> str:
    """All bytes that response a request, on a connection that is shown to be usable after them."""
    if isinstance(request, str):
        request = request.encode()
    with app.client() as client:
        client.send(request + b"GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        answer = masked(client.rest())
    assert answer.endswith(LAST), answer
    return answer.removesuffix(LAST).decode("latin-1")


# ---- framing --------------------------------------------------------------------------------------------------------


def chain(*calls: tuple[Any, ...]) -> Handle:
    """A handler that calls methods of the response, each given as name and arguments."""

    def handle(res: Any, req: Any) -> None:
        for name, *arguments in calls:
            assert getattr(res, name)(*arguments) is res or name == "try_end"

    return handle


JSON_TYPE = "Content-Type: application/json\r\n"
TEXT_TYPE = "Content-Type: text/plain\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n\r\n"

FRAMING: list[tuple[str, str, Handle, str]] = [
    ("A-RES-15 text", "GET", chain(("end", "häh")), f"{OK}{COMMON}Content-Length: 4\r\n\r\nhÃ¤h"),
    ("A-RES-15 bytes", "GET", chain(("end", b"hi")), f"{OK}{COMMON}Content-Length: 2\r\n\r\nhi"),
    ("A-RES-15 empty", "GET", chain(("end", "")), f"{OK}{COMMON}Content-Length: 0\r\n\r\n"),
    ("A-RES-15 none", "GET", chain(("end", None)), f"{OK}{COMMON}Content-Length: 0\r\n\r\n"),
    (
        "A-RES-15 JSON",
        "GET",
        chain(("end", {"a": 1})),
        f'{OK}{JSON_TYPE}{COMMON}Content-Length: 8\r\n\r\n{{"a": 1}}',
    ),
    ("A-RES-16", "GET", chain(("cork_end", "hi")), f"{OK}{COMMON}Content-Length: 2\r\n\r\nhi"),
    ("A-RES-17 default", "GET", chain(("send",)), f"{OK}{TEXT_TYPE}{COMMON}Content-Length: 0\r\n\r\n"),
    ("A-RES-17 none", "GET", chain(("send", None)), f"{OK}{TEXT_TYPE}{COMMON}Content-Length: 0\r\n\r\n"),
    ("A-RES-17 text", "GET", chain(("send", "hi")), f"{OK}{TEXT_TYPE}{COMMON}Content-Length: 2\r\n\r\nhi"),
    ("A-RES-25 I-S-13", "GET", chain(("end_without_body",)), f"{OK}{COMMON}Content-Length: 0\r\n\r\n"),
    ("B-HT-01 end", "HEAD", chain(("end", "twelve bytes")), f"{OK}{COMMON}Content-Length: 12\r\n\r\n"),
    ("B-HT-01 send", "HEAD", chain(("send", "hi")), f"{OK}{TEXT_TYPE}{COMMON}Content-Length: 2\r\n\r\n"),
    ("B-HT-01 write", "HEAD", chain(("write", "a"), ("end", "b")), f"{OK}{COMMON}{CHUNKED}"),
    (
        "A-RES-25 length of the user",
        "HEAD",
        chain(("write_header", "Content-Length", 100), ("end_without_body",)),
        f"{OK}{COMMON}Content-Length: 100\r\n\r\n",
    ),
    ("B-HT-01 try_end", "HEAD", chain(("try_end", "abc", 3)), f"{OK}{COMMON}Content-Length: 3\r\n\r\n"),
    ("204", "GET", chain(("write_status", 204), ("end", "x")), f"HTTP/1.1 204 No Content\r\n{COMMON}\r\n"),
    (
        "204 empty",
        "GET",
        chain(("write_status", 204), ("end_without_body",)),
        f"HTTP/1.1 204 No Content\r\n{COMMON}\r\n",
    ),
    (
        "204 length of the user",
        "GET",
        chain(("write_status", 204), ("write_header", "Content-Length", 1), ("end", "x")),
        f"HTTP/1.1 204 No Content\r\n{COMMON}\r\n",
    ),
    (
        "204 in pieces",
        "GET",
        chain(("write_status", 204), ("write", "x"), ("end", "y")),
        f"HTTP/1.1 204 No Content\r\n{COMMON}\r\n",
    ),
    (
        "205",
        "GET",
        chain(("write_status", 205), ("end", "x")),
        f"HTTP/1.1 205 Reset Content\r\n{COMMON}Content-Length: 0\r\n\r\n",
    ),
    (
        "304",
        "GET",
        chain(("write_status", "304 Not Modified"), ("end", "x")),
        f"HTTP/1.1 304 Not Modified\r\n{COMMON}\r\n",
    ),
    (
        "304 length of the user",
        "GET",
        chain(("write_status", 304), ("write_header", "Content-Length", "7"), ("end_without_body",)),
        f"HTTP/1.1 304 Not Modified\r\n{COMMON}Content-Length: 7\r\n\r\n",
    ),
    (
        "A-RES-22 chunks, I-S-01",
        "GET",
        chain(
            ("write", "a"),
            ("write", b"bc"),
            ("write", {"a": 1}),
            ("write", ""),
            ("write", b""),
            ("end", "z" * 26),
        ),
        f'{OK}{COMMON}{CHUNKED}1\r\na\r\n2\r\nbc\r\n8\r\n{{"a": 1}}\r\n1a\r\n{"z" * 26}\r\n0\r\n\r\n',
    ),
    (
        "A-RES-22 null",
        "GET",
        chain(("write", None), ("end", "")),
        f"{OK}{COMMON}{CHUNKED}4\r\nnull\r\n0\r\n\r\n",
    ),
    (
        "A-RES-22 nothing",
        "GET",
        chain(("write", ""), ("end", "x")),
        f"{OK}{COMMON}Content-Length: 1\r\n\r\nx",
    ),
    (
        "chunks, end(None)",
        "GET",
        chain(("write", "a"), ("end", None)),
        f"{OK}{COMMON}{CHUNKED}1\r\na\r\n0\r\n\r\n",
    ),
    (
        "chunks, no body",
        "GET",
        chain(("write", "a"), ("end_without_body",)),
        f"{OK}{COMMON}{CHUNKED}1\r\na\r\n0\r\n\r\n",
    ),
    (
        "chunks, send()",
        "GET",
        chain(("write", "a"), ("send", "b")),
        f"{OK}{COMMON}{CHUNKED}1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
    ),
    (
        "I-C-33 length of the user",
        "GET",
        chain(("write_header", "content-length", "2"), ("end", "hi")),
        f"{OK}{COMMON}Content-Length: 2\r\n\r\nhi",
    ),
    (
        "I-C-33 false length of the user",
        "GET",
        chain(("write_header", "Content-Length", 99), ("end", "hi")),
        f"{OK}{COMMON}Content-Length: 2\r\n\r\nhi",
    ),
    (
        "A-RES-21 length of the user, in pieces",
        "GET",
        chain(("write_header", "Content-Length", 4), ("write", "ab"), ("end", "cd")),
        f"{OK}{COMMON}Content-Length: 4\r\n\r\nabcd",
    ),
    (
        "A-RES-21 more than the length of the user",
        "GET",
        chain(("write_header", "Content-Length", 4), ("write", "abc"), ("end", "def")),
        f"{OK}{COMMON}Content-Length: 4\r\n\r\nabcd",
    ),
    (
        "A-RES-21 encoding of the user",
        "GET",
        chain(("write_header", "Transfer-Encoding", "gzip"), ("end", "hi")),
        f"{OK}{COMMON}Content-Length: 2\r\n\r\nhi",
    ),
    (
        "B-HT-23 order",
        "GET",
        chain(
            ("write_header", "B", "1"),
            ("write_header", b"a", b"2"),
            ("write_status", "201 Made up"),
            ("write_header", "B", 3),
            ("end", "hi"),
        ),
        f"HTTP/1.1 201 Made up\r\nB: 1\r\na: 2\r\nB: 3\r\n{COMMON}Content-Length: 2\r\n\r\nhi",
    ),
    (
        "B-HT-23 Date and Server of the user",
        "GET",
        chain(("write_header", "Server", "mine"), ("write_header", "date", "today"), ("end", "")),
        f"{OK}Server: mine\r\ndate: today\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "A-RES-10 I-S-15",
        "GET",
        chain(("redirect", "/elsewhere")),
        f"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n{COMMON}Content-Length: 0\r\n\r\n",
    ),
    (
        "A-RES-10 status",
        "POST",
        chain(("redirect", b"/elsewhere", 303)),
        f"HTTP/1.1 303 See Other\r\nLocation: /elsewhere\r\n{COMMON}Content-Length: 0\r\n\r\n",
    ),
    ("A-RES-14", "GET", chain(("try_end", "abc", 3)), f"{OK}{COMMON}Content-Length: 3\r\n\r\nabc"),
    ("A-RES-14 size 0", "GET", chain(("try_end", b"abc", 0)), f"{OK}{COMMON}Content-Length: 3\r\n\r\nabc"),
    ("A-RES-14 nothing", "GET", chain(("try_end", "", 0)), f"{OK}{COMMON}Content-Length: 0\r\n\r\n"),
    (
        "A-RES-14 too much",
        "GET",
        chain(("try_end", "abcdef", 3)),
        f"{OK}{COMMON}Content-Length: 3\r\n\r\nabc",
    ),
    (
        "A-RES-14 pieces",
        "GET",
        chain(("try_end", "ab", 3), ("try_end", "c", 3)),
        f"{OK}{COMMON}Content-Length: 3\r\n\r\nabc",
    ),
    (
        "A-RES-23 I-S-09",
        "GET",
        chain(("write_continue",), ("write_continue",), ("end", "hi")),
        f"{2 * 'HTTP/1.1 100 Continue%'}{OK}{COMMON}Content-Length: 2\r\n\r\nhi".replace("%", "\r\n\r\n"),
    ),
]


@each_lane
@pytest.mark.parametrize(
    ("method", "handle", "expected"),
    [row[1:] for row in FRAMING],
    ids=[f"{row[0]} {row[1]}" for row in FRAMING],
)
def test_framing(serve: Serve, method: str, handle: Handle, expected: str, lane: str) -> None:
    """B-HT-01, B-HT-23 and the rows named: every byte, and that the connection goes on after them."""
    app = answering(serve, handle, lane)
    assert wire(app, f"{method} / HTTP/1.1\r\nHost: test\r\n\r\n") == expected


@each_lane
def test_old_clients_get_an_end(serve: Serve, lane: str) -> None:
    """B-HT-04, A-REQ-16: an HTTP/1.0 response ends with the connection."""
    with answering(serve, chain(("end", "hi")), lane).client() as client:
        answer = masked(client.send(b"GET / HTTP/1.0\r\n\r\n").rest())
    assert answer.decode() == f"{OK}{COMMON}Content-Length: 2\r\nConnection: close\r\n\r\nhi"


@each_lane
def test_old_clients_get_no_chunks(serve: Serve, lane: str) -> None:
    """B-HT-04: what HTTP/1.0 does not know is not sent to it."""
    handle = chain(("write_continue",), ("write", "a"), ("write", "b"), ("end", "c"))
    with answering(serve, handle, lane).client() as client:
        answer = masked(client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").rest())
    assert answer.decode() == f"{OK}{COMMON}Connection: close\r\n\r\nabc"


def test_old_clients_may_ask_for_more(serve: Serve) -> None:
    """B-HT-16: and are told that they get it."""
    app = answering(serve, chain(("end", "hi")))
    answer = wire(app, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
    assert answer == f"{OK}{COMMON}Content-Length: 2\r\nConnection: keep-alive\r\n\r\nhi"


@pytest.mark.parametrize(
    ("value", "closes"),
    [
        ("close", True),
        ("Close", True),
        ("x, close", True),
        ("keep-alive", False),
        ("hello", False),
        ("closed", False),
    ],
)
def test_connection_of_the_client(serve: Serve, value: str, closes: bool) -> None:
    """B-HT-16: a token, in any case, in a list."""
    with answering(serve, chain(("end", "hi"))).client() as client:
        assert client.get("/", f"Connection: {value}").header("connection") == ("close" if closes else None)
        if closes:
            assert client.is_closed()
        else:
            assert client.get("/").body == b"hi"


ENDINGS: dict[str, Handle] = {
    "end": lambda res, req: res.end("hi", True),
    "end by name": lambda res, req: res.end("hi", end_connection=True),
    "end true": lambda res, req: res.end("hi", 1),
    "end JSON": lambda res, req: res.end([1], True),
    "end none": lambda res, req: res.end(None, True),
    "end large": lambda res, req: res.end("x" * 3_000_000, True),
    "cork_end": lambda res, req: res.cork_end("hi", end_connection=True),
    "send": lambda res, req: res.send("hi", end_connection=True),
    "send true": lambda res, req: res.send("hi", end_connection="yes"),
    "cork_send": lambda res, req: res.cork_send("hi", end_connection=True),
    "end_without_body": lambda res, req: res.end_without_body(end_connection=True),
    "end_without_body true": lambda res, req: res.end_without_body(1),
    "try_end": lambda res, req: res.try_end("hi", 2, end_connection=True),
    "try_end true": lambda res, req: res.try_end("hi", 2, 1),
    "header": lambda res, req: res.write_header("Connection", "close").end("hi"),
}


@each_lane
@pytest.mark.parametrize("name", ENDINGS)
def test_end_connection(serve: Serve, name: str, lane: str) -> None:
    """B-HT-21, I-S-02, I-A-03: the response says it, arrives whole, and then the connection ends."""
    with answering(serve, ENDINGS[name], lane).client() as client:
        # The second request comes too late.
        answer = client.request("POST", "/", body=b"ignored").request().answer()
        assert answer.header("connection") == "close"
        assert len(answer.body) == int(answer.header("content-length") or -1)
        assert client.is_closed()


def test_end_connection_after_the_head(serve: Serve) -> None:
    """B-HT-21: too late for a header, not for closing."""
    with answering(serve, chain(("write", "a"), ("end", "b", True))).client() as client:
        assert client.request().answer().body == b"ab"
        assert client.is_closed()


@pytest.mark.parametrize(("value", "falsy"), [(0, True), ("", True), (None, True)])
def test_end_connection_is_a_truth_value(serve: Serve, value: Any, falsy: bool) -> None:
    """B-HT-21."""
    app = answering(serve, lambda res, req: res.end("hi", value))
    assert wire(app) == f"{OK}{COMMON}Content-Length: 2\r\n\r\nhi"


# ---- one write ------------------------------------------------------------------------------------------------------

SMALL: dict[str, Handle] = {
    "end": lambda res, req: res.end("x" * 1000),
    "head and end": lambda res, req: res.write_status(201).write_header("A", "b").end("x"),
    "pieces": lambda res, req: [res.write("a") for _ in range(10)] and res.end("x"),
    "cork": lambda res, req: res.cork(lambda res: res.write("a").write("b").end("c")),
    "cork_end": lambda res, req: res.cork_end("x"),
    "cork_send": lambda res, req: res.cork_send("x", headers=[("a", "b")]),
    "json": lambda res, req: res.end({"a": 1}),
    "try_end": lambda res, req: res.try_end("abc", 3),
    "send_chunk": lambda res, req: res.send_chunk("abc", 3) and None,
    "continue": lambda res, req: res.end_without_body(),
}


@each_lane
@pytest.mark.parametrize("name", SMALL)
def test_one_write(serve: Serve, name: str, lane: str) -> None:
    """I-S-03, I-S-08, B-HT-22, A-CALL-03: what one segment writes leaves together: one read takes the whole response."""
    with answering(serve, SMALL[name], lane).client() as client:
        whole = len(client.request().answer().body)
        for _ in range(10):
            client.request()
            data = client.receive()
            client.pending = data
            assert len(client.answer().body) == whole
            assert client.pending == b""


def test_one_write_for_pipelined_answers(serve: Serve) -> None:
    """B-HT-19: answers to requests that came together, given by one thread in one go, are whole and in order."""
    with answering(serve, lambda res, req: res.end(req.get_url())).client() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: test\r\n\r\n" % number for number in range(200)))
        assert [client.answer().body for _ in range(200)] == [b"/%d" % number for number in range(200)]


@pytest.mark.parametrize("count", [1, 30])
def test_pipelining_keeps_the_order(serve: Serve, count: int) -> None:
    """B-HT-19, I-A-15: from any source, at any time; a request is not begun before the response to the one
    before it."""
    began: list[str] = []

    async def late(res: Any, req: Any) -> None:
        began.append(req.get_url())
        for _ in range(3):
            await asyncio.sleep(0)
        assert began[-1] == req.get_url()
        res.end(req.get_url())

    def at_once(res: Any, req: Any) -> None:
        began.append(req.get_url())
        res.end(req.get_url())

    def pieces(res: Any, req: Any) -> None:
        began.append(req.get_url())
        res.write(req.get_url()[:2])
        res.app.loop.loop.call_soon_threadsafe(lambda: res.end(req.get_url()[2:]))

    def configure(app: App) -> None:
        app.get("/late/:n", late).get("/now/:n", at_once).get("/pieces/:n", pieces).constant(
            "/constant/0", "/constant/0"
        )

    with serve(configure).client() as client:
        urls = [f"/{kind}/{number}" for number in range(count) for kind in ("late", "now", "pieces", "none")]
        urls.insert(2, "/constant/0")
        client.send(b"".join(f"GET {url} HTTP/1.1\r\nHost: test\r\n\r\n".encode() for url in urls))
        answers = [client.answer().body.decode() for _ in urls]
    assert answers == ["Not Found" if "none" in url else url for url in urls]
    assert began == [url for url in urls if "none" not in url and "constant" not in url]


def test_pipelining_with_bodies(serve: Serve) -> None:
    """B-HT-19, B-HT-14: unread bodies, of either kind, are skipped."""
    chunked = (
        b"POST /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"
    )
    sized = b"POST /s HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello"
    with answering(serve, lambda res, req: res.end(req.get_url())).client() as client:
        client.send((chunked + sized) * 20)
        assert [client.answer().body for _ in range(40)] == [b"/c", b"/s"] * 20


@pytest.mark.parametrize("lane", [THREAD, TASK, RESUMED])
def test_half_closed(serve: Serve, lane: str) -> None:
    """B-HT-20, I-A-31: a client that shuts its sending side still gets its responses."""
    with answering(serve, lambda res, req: res.end(req.get_url()), lane).client() as client:
        client.request("GET", "/1").request("GET", "/2")
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.answer().body for _ in range(2)] == [b"/1", b"/2"]
        assert client.is_closed()


def test_pending_is_not_idle(serve: Serve) -> None:
    """B-HT-18: no time limit ends a request while its handler works."""

    async def handle(res: Any, req: Any) -> None:
        await asyncio.sleep(0.3)
        res.end("done")

    limits = {"keep_alive_timeout": 0.05, "header_timeout": 0.05, "body_timeout": 0.05, "write_timeout": 0.05}
    with answering(serve, handle, **limits).client() as client:
        assert client.get().body == b"done"


# ---- requests that are refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        (b"rubbish\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nBad header: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * 100_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    ],
    ids=["no Host", "two Hosts", "2.0", "1.2", "rubbish", "TLS", "name", "large", "many"],
)
def test_refused(serve: Serve, request_: bytes, status: int) -> None:
    """B-HT-04, B-HT-05, B-HT-06, B-HT-09: with a length, and the connection ends."""
    called: list[Any] = []
    with answering(serve, lambda res, req: called.append(req)).client() as client:
        answer = client.send(request_).answer()
        assert answer.status == status
        assert answer.header("connection") == "close"
        assert int(answer.header("content-length") or -1) == len(answer.body) > 0
        assert client.is_closed()
    assert called == []


@pytest.mark.parametrize(
    "request_", ["GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nHost: a:80\r\n\r\n"]
)
def test_hosts(serve: Serve, request_: str) -> None:
    """B-HT-05: it may be empty."""
    app = answering(serve, chain(("end", "hi")))
    assert wire(app, request_) == f"{OK}{COMMON}Content-Length: 2\r\n\r\nhi"


def test_refused_behind_a_good_one(serve: Serve) -> None:
    """B-HT-06, B-HT-19: the response before it is not touched."""

    async def handle(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end("good")

    with answering(serve, handle).client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\nrubbish\r\n\r\n")
        assert client.answer().body == b"good"
        assert client.answer().status == 400
        assert client.is_closed()


# ---- 100 Continue ---------------------------------------------------------------------------------------------------

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("lane", [THREAD, TASK, RESUMED])
def test_continue(serve: Serve, lane: str) -> None:
    """B-HT-13: once, before the body comes, also where a handler yields."""

    async def handle(res: Any, req: Any) -> None:
        res.end(await res.get_text())

    def configure(app: App) -> None:
        app.post("/:a", on(lane if lane != RESUMED else TASK, lambda res, req: req.set_yield(True))).any(
            "/*", handle
        )

    with serve(configure).client() as client:
        for _ in range(2):
            client.send(b"POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n")
            assert client.until(b"\r\n\r\n") == CONTINUE
            client.send(b"body")
            answer = client.answer()
            assert (answer.status, answer.body) == (200, b"body")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.0\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody",
    ],
    ids=["no body", "empty", "1.0"],
)
def test_no_continue(serve: Serve, head: bytes) -> None:
    """B-HT-13: where nothing waits for it."""
    with answering(serve, chain(("end", "hi"))).client() as client:
        assert client.send(head).answer().status == 200


def test_continue_after_the_head(serve: Serve) -> None:
    """A-RES-23: an interim response cannot come inside of the final one."""
    app = answering(serve, chain(("write", "a"), ("write_continue",), ("end", "b"), ("write_continue",)))
    assert wire(app) == f"{OK}{COMMON}{CHUNKED}1\r\na\r\n1\r\nb\r\n0\r\n\r\n"


# ---- status ---------------------------------------------------------------------------------------------------------


def test_status_by_number(serve: Serve) -> None:
    """A-RES-20, A-RES-39: every code of the table that a response may have, with its text."""
    codes = [code for code in status_codes if code >= 200]
    with answering(
        serve, lambda res, req: res.write_status(int(req.get_url()[1:])).end("")
    ).client() as client:
        for code in codes:
            assert client.get(f"/{code}").status_line == f"HTTP/1.1 {status_codes[code].decode()}"


def errors_of(serve: Serve, *acts: Callable[[Any], object]) -> list[BaseException | None]:
    """The exception of each act in a handler; the response is sent after them."""
    raised: list[BaseException | None] = []

    def handle(res: Any, req: Any) -> None:
        for act in acts:
            try:
                act(res)
                raised.append(None)
            except Exception as error:
                raised.append(error)
        res.end("still fine")

    with answering(serve, handle).client() as client:
        answer = client.get()
        assert (answer.status, answer.body) == (200, b"still fine")
        assert answer.lines[1:] == ["Server: socketify", "Content-Length: 10"]
    return raised


@pytest.mark.parametrize(
    "code", [0, 1, -1, 99, 199, 209, 299, 419, 430, 512, 599, 600, 999, 1000, 2**70, -(2**70)]
)
def test_unknown_numbers(serve: Serve, code: int) -> None:
    """A-RES-20: RuntimeError, and the response is as it was."""
    acts = (
        lambda res: res.write_status(code),
        lambda res: res.send("x", status=code),
        lambda res: res.redirect("/", code),
    )
    for error in errors_of(serve, *acts):
        assert type(error) is RuntimeError
        assert str(code) in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OK",
        "20 OK",
        "2000 OK",
        "099 x",
        " 200 OK",
        "200OK",
        b"\xff",
        True,
        1.5,
        None,
        ["200 OK"],
        "100 Continue",
        b"102",
        "199 x",
    ],
)
def test_texts_that_are_no_status(serve: Serve, text: Any) -> None:
    """A-RES-20: what no client could read as a status line is refused."""
    (error,) = errors_of(serve, lambda res: res.write_status(text))
    assert type(error) is RuntimeError


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("200 OK", "200 OK"),
        (b"404 Nothing", "404 Nothing"),
        ("299 Whatever it is", "299 Whatever it is"),
        ("418", "418 I'm a teapot"),
        (bytearray(b"201 Array"), "201 Array"),
        (http.HTTPStatus.CREATED, "201 Created"),
        ("200 ", "200 "),
        ("700 Beyond", "700 Beyond"),
    ],
)
def test_status_by_text(serve: Serve, status: Any, line: str) -> None:
    """A-RES-20, I-S-17: verbatim."""
    with answering(serve, lambda res, req: res.write_status(status).end("x")).client() as client:
        answer = client.get()
        assert (answer.status_line, answer.body) == (f"HTTP/1.1 {line}", b"x")


@each_lane
def test_first_status_wins(serve: Serve, lane: str) -> None:
    """A-RES-20, I-A-11, I-C-03: at any time before the body."""

    def handle(res: Any, req: Any) -> None:
        res.write_header("A", "b").write_status(404).write_status("500 Later")
        res.send("body", status=201, headers=[("C", "d")])

    app = answering(serve, handle, lane)
    body = f"A: b\r\nC: d\r\n{TEXT_TYPE}{COMMON}Content-Length: 4\r\n\r\nbody"
    assert wire(app) == f"HTTP/1.1 404 Not Found\r\n{body}"


def test_status_after_the_body_began(serve: Serve) -> None:
    """A-RES-20: too late, and harmless."""
    app = answering(
        serve, chain(("write", "a"), ("write_status", 404), ("write_header", "A", "b"), ("end", ""))
    )
    assert wire(app) == f"{OK}{COMMON}{CHUNKED}1\r\na\r\n0\r\n\r\n"


# ---- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (b"bytes", "bytes"),
        (bytearray(b"array"), "array"),
        (memoryview(b"view"), "view"),
        (5, "5"),
        (-1, "-1"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ({"a": [1]}, '{"a": [1]}'),
        ("", ""),
        ("a\tb", "a\tb"),
    ],
)
def test_header_values(serve: Serve, value: Any, text: str) -> None:
    """A-RES-21, I-C-07."""
    with answering(serve, lambda res, req: res.write_header("X", value).end("")).client() as client:
        assert client.get().header("x") == text


def test_header_value_beyond_ascii(serve: Serve) -> None:
    """A-RES-21: text goes out as UTF-8, bytes unchanged."""
    with answering(
        serve, lambda res, req: res.write_header("X", "é").write_header("Y", b"\xe9").end("")
    ).client() as client:
        answer = client.get()
    assert (answer.header("x"), answer.header("y")) == ("Ã©", "é")


def test_repeated_headers(serve: Serve) -> None:
    """A-RES-21: in the order of the calls."""
    with answering(
        serve, lambda res, req: res.write_header("X", 1).write_header("Y", 2).write_header("x", 3).end("")
    ).client() as client:
        assert client.get().lines[:3] == ["X: 1", "Y: 2", "x: 3"]


INJECTIONS: dict[str, Callable[[Any, str], object]] = {
    "write_header value": lambda res, bad: res.write_header("X", bad),
    "write_header value in bytes": lambda res, bad: res.write_header("X", bad.encode()),
    "write_header name": lambda res, bad: res.write_header(bad, "x"),
    "write_header name in bytes": lambda res, bad: res.write_header(bad.encode(), "x"),
    "write_headers": lambda res, bad: res.write_headers([("X", bad)]),
    "write_status": lambda res, bad: res.write_status(f"200 {bad}"),
    "write_status in bytes": lambda res, bad: res.write_status(f"200 {bad}".encode()),
    "redirect": lambda res, bad: res.redirect(bad),
    "redirect status": lambda res, bad: res.redirect("/", f"302 {bad}"),
    "send content_type": lambda res, bad: res.send("x", content_type=bad),
    "send status": lambda res, bad: res.send("x", status=f"200 {bad}"),
    "send headers": lambda res, bad: res.send("x", headers=[("X", bad)]),
    "cork_send headers": lambda res, bad: res.cork_send("x", headers=[(bad, "x")]),
    "Content-Length": lambda res, bad: res.write_header("Content-Length", f"1{bad}"),
    "Connection": lambda res, bad: res.write_header("Connection", bad),
    "set_cookie name": lambda res, bad: res.set_cookie(bad, "x"),
    "set_cookie path": lambda res, bad: res.set_cookie("x", "y", {"path": bad}),
    "set_cookie expires": lambda res, bad: res.set_cookie("x", "y", {"expires": bad}),
}


@pytest.mark.parametrize(
    "bad", ["a\r\nInjected: 1", "a\nInjected: 1", "a\rInjected: 1", "a\0b", "a\r\n\r\nbody"], ids=repr
)
@pytest.mark.parametrize("name", INJECTIONS)
def test_injection(serve: Serve, name: str, bad: str) -> None:
    """A-RES-21, I-C-32: refused with an error that reaches the error handler; nothing of it goes out."""
    errors: list[Exception] = []

    def configure(app: App) -> None:
        app.get("/", lambda res, req: INJECTIONS[name](res, bad) and res.end("not reached"))
        app.set_error_handler(
            lambda error, res, req: errors.append(error) or res.write_status(500).end("refused")
        )
        app.constant("/last", "last")

    app = serve(configure)
    assert wire(app) == f"HTTP/1.1 500 Internal Server Error\r\n{COMMON}Content-Length: 7\r\n\r\nrefused"
    assert isinstance(errors[0], (ValueError, http.cookies.CookieError))


@pytest.mark.parametrize("name", ["", "a b", "a:", "é", "a\x7f", "(a)", None])
def test_names_that_are_no_token(serve: Serve, name: Any) -> None:
    """A-RES-21: `None` is JSON like other objects, and `null` a token."""
    (error,) = (
        errors_of(serve, lambda res: res.write_header(name, "x")) if name is not None else (ValueError(),)
    )
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "1 2", "0x10", 2**64])
def test_lengths_that_are_none(serve: Serve, value: Any) -> None:
    """A-RES-21: a length that would break the framing is refused."""
    (error,) = errors_of(serve, lambda res: res.write_header("Content-Length", value))
    assert isinstance(error, ValueError)


def pairs() -> Iterator[tuple[str, str]]:
    yield "X-A", "1"
    yield "X-B", "2"


FORMS: dict[str, Callable[[], Any]] = {
    "tuples": lambda: (("X-A", "1"), (b"X-B", b"2")),
    "lists": lambda: [["X-A", "1"], ["X-B", 2]],
    "items": lambda: {"X-A": "1", "X-B": "2"}.items(),
    "iterator": lambda: iter([("X-A", "1"), ("X-B", "2")]),
    "generator": pairs,
    "iterators": lambda: (iter(["X-A", "1"]), iter(["X-B", "2"])),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["write_headers", "send", "cork_send"])
def test_headers_in_any_form(serve: Serve, method: str, form: str) -> None:
    """A-RES-17, A-RES-24, I-S-06, I-S-07: any iterable of pairs."""

    def handle(res: Any, req: Any) -> None:
        given = FORMS[form]()
        if method == "write_headers":
            assert res.write_headers(given) is res
            res.end("x")
        else:
            getattr(res, method)("x", headers=given)

    with answering(serve, handle).client() as client:
        answer = client.get()
        assert [line for line in answer.lines if line.startswith("X-")] == ["X-A: 1", "X-B: 2"]
        assert answer.body == b"x"


@pytest.mark.parametrize("headers", [5, [("a",)], [("a", "b", "c")], [5], "abc"])
def test_headers_of_no_form(serve: Serve, headers: Any) -> None:
    """A-RES-17, I-C-05: the error is raised, not swallowed."""
    for error in errors_of(serve, lambda res: res.write_headers(headers)):
        assert isinstance(error, (TypeError, ValueError))


@each_lane
def test_date_and_server(serve: Serve, lane: str) -> None:
    """A-APP-34, DEC-10, B-HT-24."""
    app = answering(serve, lambda res, req: res.end(""), lane)
    answer = httpx.get(f"http://127.0.0.1:{app.port}/")
    assert answer.headers["server"] == "socketify"
    assert abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()) < 3


def test_date_is_refreshed(serve: Serve) -> None:
    """B-HT-24: a connection that stays sees the time go on."""
    with answering(serve, lambda res, req: res.end("")).client() as client:
        first = client.get().header("date")
        end = time.monotonic() + 5
        while (later := client.get().header("date")) == first:
            assert time.monotonic() < end
        seconds = [parsedate_to_datetime(date or "").timestamp() for date in (first, later)]
        assert 1 <= seconds[1] - seconds[0] <= 2


# ---- payloads -------------------------------------------------------------------------------------------------------


class Text(str):
    pass


class Bytes(bytes):
    pass


PAYLOADS: list[tuple[str, Any, bytes]] = [
    ("text", "häh ☺", "häh ☺".encode()),
    ("bytes", b"\x00\xff", b"\x00\xff"),
    ("bytearray", bytearray(b"\x00\xff"), b"\x00\xff"),
    ("memoryview", memoryview(b"abcdef")[1:4], b"bcd"),
    ("memoryview with steps", memoryview(b"abcdef")[::2], b"ace"),
    ("memoryview of numbers", memoryview(bytearray(b"abcdefgh")).cast("I"), b"abcdefgh"),
    ("subclass of str", Text("text"), b"text"),
    ("subclass of bytes", Bytes(b"bytes"), b"bytes"),
]
OBJECTS: list[tuple[str, Any]] = [
    ("dict", {"a": [1, None, True, "é"]}),
    ("list", [1, 2]),
    ("tuple", (1, 2)),
    ("int", 5),
    ("float", 1.5),
    ("bool", True),
    ("empty dict", {}),
    ("zero", 0),
    ("false", False),
]
WAYS: dict[str, Callable[[Any, Any], object]] = {
    "end": lambda res, payload: res.end(payload),
    "cork_end": lambda res, payload: res.cork_end(payload),
    "send": lambda res, payload: res.send(payload),
    "cork_send": lambda res, payload: res.cork_send(payload),
    "write": lambda res, payload: res.write(payload).end(""),
    "write and end": lambda res, payload: res.write("").end(payload),
}


@pytest.mark.parametrize(("payload", "body"), [row[1:] for row in PAYLOADS], ids=[row[0] for row in PAYLOADS])
@pytest.mark.parametrize("way", WAYS)
def test_payloads(serve: Serve, way: str, payload: Any, body: bytes) -> None:
    """MSG rule, I-S-01, I-S-02, I-C-27: text as UTF-8, bytes in any form unchanged."""
    with answering(serve, lambda res, req: WAYS[way](res, payload)).client() as client:
        answer = client.get()
        assert (answer.status, answer.body) == (200, body)
        assert answer.header("content-type") == ("text/plain" if "send" in way else None)


@pytest.mark.parametrize("payload", [row[1] for row in OBJECTS], ids=[row[0] for row in OBJECTS])
@pytest.mark.parametrize("way", WAYS)
def test_objects(serve: Serve, way: str, payload: Any) -> None:
    """MSG rule: the text of the standard library; end and send set its type."""
    with answering(serve, lambda res, req: WAYS[way](res, payload)).client() as client:
        answer = client.get()
        assert (answer.status, answer.body) == (200, json.dumps(payload).encode())
        assert answer.header("content-type") == (None if way == "write" else "application/json")


@pytest.mark.parametrize("payload", [{"Hello", "World!"}, frozenset([1]), {"a": {1, 2}, "b": [{3}]}, [set()]])
@pytest.mark.parametrize("way", WAYS)
def test_sets(serve: Serve, way: str, payload: Any) -> None:
    """DEC-4, I-S-20: arrays, at any depth."""

    def lists(value: Any) -> Any:
        if isinstance(value, (set, frozenset)):
            return sorted(value)
        if isinstance(value, dict):
            return {key: lists(item) for key, item in value.items()}
        return [lists(item) for item in value] if isinstance(value, list) else value

    def in_order(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: in_order(item) for key, item in value.items()}
        if isinstance(value, list):
            items = [in_order(item) for item in value]
            return items if any(isinstance(item, (list, dict)) for item in items) else sorted(items)
        return value

    with answering(serve, lambda res, req: WAYS[way](res, payload)).client() as client:
        answer = client.get()
        assert in_order(json.loads(answer.body)) == lists(payload)


@pytest.mark.parametrize("content_type", [None, "application/problem+json"])
def test_json_keeps_the_type_of_the_user(serve: Serve, content_type: str | None) -> None:
    """A-RES-15, A-RES-17: one Content-Type, the one that was written."""

    def handle(res: Any, req: Any) -> None:
        if content_type:
            res.write_header("content-type", content_type)
        getattr(res, req.get_url()[1:])({"a": 1})

    with answering(serve, handle).client() as client:
        for method in ("end", "cork_end", "send", "cork_send"):
            assert client.get(f"/{method}").header("content-type") == (content_type or "application/json")


class Unserialisable:
    pass


def circle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


@each_lane
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "payload",
    [Unserialisable(), {"a": Unserialisable()}, {Unserialisable()}, "\ud800", circle()],
    ids=lambda _: "",
)
def test_unserialisable(serve: Serve, way: str, payload: Any, lane: str) -> None:
    """DEC-4, I-C-05, A-RES-15: the error handler's 500, and nothing of the half-made response."""

    def handle(res: Any, req: Any) -> None:
        res.write_status(201).write_header("X", "y")
        WAYS[way](res, payload)

    app = answering(serve, handle, lane)
    expected = (
        f"HTTP/1.1 500 Internal Server Error\r\n{TEXT_TYPE}{COMMON}Content-Length: 14\r\n\r\nInternal Error"
    )
    assert wire(app) == expected


@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_errors_after_the_body_began(serve: Serve, lane: str) -> None:
    """I-C-05: the client must not take the part for the whole."""

    def handle(res: Any, req: Any) -> None:
        res.write("part")
        res.end(Unserialisable())

    with answering(serve, handle, lane).client() as client:
        answer = client.request().rest()
        assert answer == b"" or answer.endswith(b"4\r\npart\r\n")


class BytesSerializer:
    """As orjson: bytes, without blanks, and no sets."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    def loads(self, text: str) -> Any:
        return json.loads(text)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("payload", "body"), [({"a": "é"}, '{"a":"é"}'), ({1}, "[1]"), ([1, 2], "[1,2]")])
def test_serializer_that_gives_bytes(serve: Serve, way: str, payload: Any, body: str) -> None:
    """A-APP-15, I-C-26, I-S-47, DEC-4."""

    def configure(app: App) -> None:
        app.json_serializer(BytesSerializer())
        app.get("/", lambda res, req: WAYS[way](res, payload))

    with serve(configure).client() as client:
        assert client.get().body == body.encode()


class Broken:
    def __init__(self, result: Any) -> None:
        self.result = result

    def dumps(self, value: Any) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def loads(self, text: str) -> Any:
        return None


@pytest.mark.parametrize("result", [5, None, ValueError("no"), KeyError("x"), RecursionError()], ids=repr)
@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_serializer_that_fails(serve: Serve, lane: str, result: Any) -> None:
    """I-C-05: any fault of it is a 500."""

    def configure(app: App) -> None:
        app.json_serializer(Broken(result))
        app.get("/", on(lane, lambda res, req: res.end({})))
        app.get("/header", on(lane, lambda res, req: res.write_header("X", []).end("")))

    with serve(configure).client() as client:
        for path in ("/", "/header", "/"):
            answer = client.get(path)
            assert (answer.status, answer.body) == (500, b"Internal Error")


def test_serializer_set_later(serve: Serve) -> None:
    """D-11: a new setting applies from then on."""
    app = answering(serve, lambda res, req: res.end({"a": 1}))
    with app.client() as client:
        assert client.get().body == b'{"a": 1}'
        app.app.json_serializer(BytesSerializer())
        assert client.get().body == b'{"a":1}'


@each_lane
@pytest.mark.parametrize("size", [16_000, 70_000, 300_000, 5_000_000])
@pytest.mark.parametrize("way", ["end", "write", "try_end"])
def test_large(serve: Serve, size: int, lane: str, way: str) -> None:
    """B-HT-26: larger than any buffer on the way, byte for byte, and the connection goes on."""
    payload = (b"0123456789abcde\n" * (size // 16 + 1))[:size]

    def handle(res: Any, req: Any) -> None:
        if req.get_url() == "/small":
            res.end("small")
        elif way == "try_end":
            try_all(res, payload)
        else:
            WAYS[way](res, payload)

    with answering(serve, handle, lane).client(receive_buffer=4096 if size < 100_000 else None) as client:
        client.request().request("GET", "/small")
        assert client.answer().body == payload
        assert client.answer().body == b"small"


# ---- send -----------------------------------------------------------------------------------------------------------

SENDS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "200 OK", TEXT_TYPE),
    ({"content_type": b"text/html"}, "200 OK", "Content-Type: text/html\r\n"),
    ({"content_type": "text/html; charset=utf-8"}, "200 OK", "Content-Type: text/html; charset=utf-8\r\n"),
    ({"status": 404}, "404 Not Found", TEXT_TYPE),
    ({"status": "404 Nowhere"}, "404 Nowhere", TEXT_TYPE),
    ({"status": b"404 Nowhere"}, "404 Nowhere", TEXT_TYPE),
    ({"headers": [("A", "b")]}, "200 OK", f"A: b\r\n{TEXT_TYPE}"),
    ({"status": 201, "headers": [("A", "b")]}, "201 Created", f"A: b\r\n{TEXT_TYPE}"),
    ({"headers": None, "status": None, "content_type": None}, "200 OK", TEXT_TYPE),
    ({"headers": ()}, "200 OK", TEXT_TYPE),
]


@pytest.mark.parametrize("lane", [THREAD, RESUMED])
@pytest.mark.parametrize("method", ["send", "cork_send"])
@pytest.mark.parametrize("message", ["hi", b"hi", "", b"", None])
@pytest.mark.parametrize(("arguments", "status", "head"), SENDS, ids=[",".join(row[0]) for row in SENDS])
def test_send(
    serve: Serve, arguments: dict[str, Any], status: str, head: str, message: Any, method: str, lane: str
) -> None:
    """A-RES-17, A-RES-18, I-S-05, I-S-18, I-S-19, I-C-01 to I-C-06: each parameter, also with an empty body."""
    app = answering(serve, lambda res, req: getattr(res, method)(message, **arguments), lane)
    body = "hi" if message else ""
    assert wire(app) == f"HTTP/1.1 {status}\r\n{head}{COMMON}Content-Length: {len(body)}\r\n\r\n{body}"


def test_send_by_position(serve: Serve) -> None:
    """I-S-05: message, content_type, status, headers, end_connection."""
    with answering(serve, chain(("send", "hi", b"a/b", b"201 X", [("C", "d")], True))).client() as client:
        answer = masked(client.request().rest())
    assert answer == (
        b"HTTP/1.1 201 X\r\nC: d\r\nContent-Type: a/b\r\nDate: *\r\nServer: socketify\r\nContent-Length: 2\r\n"
        b"Connection: close\r\n\r\nhi"
    )


def test_send_json(serve: Serve) -> None:
    """A-RES-17: JSON has its own type, for any `content_type`."""
    app = answering(serve, lambda res, req: res.send([1], content_type="text/html", status=202))
    assert wire(app) == f"HTTP/1.1 202 Accepted\r\n{JSON_TYPE}{COMMON}Content-Length: 3\r\n\r\n[1]"


def test_send_with_a_type_among_the_headers(serve: Serve) -> None:
    """A-RES-17: there is one Content-Type."""
    with answering(
        serve, lambda res, req: res.send("x", headers={"content-type": "text/css"}.items())
    ).client() as client:
        assert client.get().header("content-type") == "text/css"


def test_send_needs_its_message(serve: Serve) -> None:
    """A-RES-18: cork_send has no default message."""
    (error,) = errors_of(serve, lambda res: res.cork_send())
    assert type(error) is TypeError


@pytest.mark.parametrize("method", ["send", "cork_send"])
def test_send_that_fails_says_nothing(serve: Serve, method: str) -> None:
    """I-C-05, DEC-4: JSON first, so that the head is untouched when it fails."""
    (error,) = errors_of(
        serve, lambda res: getattr(res, method)(Unserialisable(), status=404, headers=[("A", "b")])
    )
    assert type(error) is TypeError


# ---- cookies --------------------------------------------------------------------------------------------------------

FINISHES: dict[str, Callable[[Any], object]] = {
    "end": lambda res: res.end("x"),
    "cork_end": lambda res: res.cork_end({}),
    "send": lambda res: res.send("x", status=201, headers=[("A", "b")]),
    "cork_send": lambda res: res.cork_send("x"),
    "end_without_body": lambda res: res.end_without_body(),
    "end none": lambda res: res.end(None),
    "redirect": lambda res: res.redirect("/"),
    "try_end": lambda res: res.try_end("abc", 3),
    "send_chunk": lambda res: res.send_chunk("abc", 3),
    "write": lambda res: res.write("a").end("b"),
    "cork": lambda res: res.cork(lambda res: res.end("x")),
    "render": lambda res: res.render("x"),
}


class Engine:
    def render(self, template: Any, **values: Any) -> Any:
        if isinstance(template, Exception):
            raise template
        return template if isinstance(template, bytes) else template.format(**values)


@each_lane
@pytest.mark.parametrize("name", FINISHES)
def test_cookies_are_written(serve: Serve, name: str, lane: str) -> None:
    """A-RES-02, I-C-08, I-C-11, I-S-34, I-S-36: a line each, with any end of the response, and only once."""

    def handle(res: Any, req: Any) -> None:
        assert res.set_cookie("a", "1") in (None, res)
        res.set_cookie("b", "2", {"path": "/"})
        FINISHES[name](res)

    def configure(app: App) -> None:
        app.template(Engine())
        app.any("/*", on(lane, handle))

    with serve(configure, **options(lane)).client() as client:
        for _ in range(2):
            assert client.get().headers["set-cookie"] == ["a=1", "b=2; Path=/"]


@pytest.mark.parametrize("value", ['a b+c%d;e,f"g=é&', "", "x", "100%", 5, b"by tes"])
def test_cookies_come_back(serve: Serve, value: Any) -> None:
    """DEC-9, I-C-09, I-C-10: both ways of unquoting give the value."""
    app = answering(serve, lambda res, req: (res.set_cookie("c", value), res.end(str(req.get_cookie("c")))))
    text = value.decode() if isinstance(value, bytes) else str(value)
    with httpx.Client(base_url=f"http://127.0.0.1:{app.port}") as client:
        raw = client.get("/").headers["set-cookie"].removeprefix("c=")
        assert unquote(raw) == unquote_plus(raw) == text
        # Read raw, as the browser gives it back.
        assert client.get("/").text == raw


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("a", None), TypeError),
        (("a", [1]), TypeError),
        (("a", "b", {"unknown": 1}), http.cookies.CookieError),
        (("a b", "c"), http.cookies.CookieError),
        (("a", "b", 5), TypeError),
    ],
)
def test_cookies_that_are_none(serve: Serve, arguments: tuple[Any, ...], kind: type[Exception]) -> None:
    """A-RES-02, I-C-09."""
    (error,) = errors_of(serve, lambda res: res.set_cookie(*arguments))
    assert isinstance(error, kind)


# ---- redirect, render, cork -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/café bar?q=€", "/caf%C3%A9%20bar?q=%E2%82%AC"),
        ("/caf%C3%A9%20bar?q=%e2%82%ac#a%20b", "/caf%C3%A9%20bar?q=%e2%82%ac#a%20b"),
        (
            "https://user@[::1]:8080/a;b=(c)?d[]=e&f=*'!$,+~",
            "https://user@[::1]:8080/a;b=(c)?d[]=e&f=*'!$,+~",
        ),
        ("/100%", "/100%25"),
        ("/\\evil.example", "/%5Cevil.example"),
        ('/<a>"^`{|}\t.', "/%3Ca%3E%22%5E%60%7B%7C%7D%09."),
        (" /trimmed ", "/trimmed"),
        (b"/caf\xe9", "/caf%E9"),
        ("", ""),
    ],
)
def test_location_is_a_uri(serve: Serve, location: str | bytes, sent: str) -> None:
    """RFC 9110 section 10.2.2, RFC 3986 section 2: characters that a URI does not allow are encoded, and
    nothing twice."""
    running = serve(lambda app: app.get("/", lambda res, req: res.redirect(location)))
    with running.client() as client:
        assert client.get().header("location") == sent
    with H2Client(running.port) as h2:
        assert h2.get().headers["location"] == sent


def test_redirect_is_followed(serve: Serve) -> None:
    """A-RES-10, I-S-15: as another client sees it."""

    def configure(app: App) -> None:
        app.get("/old", lambda res, req: res.redirect("/new?x=1", 301))
        app.get("/new", lambda res, req: res.end(req.get_query("x")))

    app = serve(configure)
    answer = httpx.get(f"http://127.0.0.1:{app.port}/old", follow_redirects=True)
    assert (answer.text, [step.status_code for step in answer.history]) == ("1", [301])


@each_lane
@pytest.mark.parametrize(("template", "body"), [("<b>{x}</b>", b"<b>1</b>"), (b"<i>", b"<i>")])
def test_render(serve: Serve, template: Any, body: bytes, lane: str) -> None:
    """A-RES-19, A-APP-14."""

    def configure(app: App) -> None:
        app.template(Engine())
        app.get("/", on(lane, lambda res, req: res.render(template, x=1)))

    with serve(configure, **options(lane)).client() as client:
        answer = client.get()
        assert (answer.status, answer.body, answer.header("content-type")) == (200, body, "text/html")


@each_lane
@pytest.mark.parametrize("engine", [True, False])
def test_render_fails(serve: Serve, engine: bool, lane: str) -> None:
    """A-RES-19, I-C-34: to the error handler, with or without an engine."""
    errors: list[Exception] = []

    def configure(app: App) -> None:
        if engine:
            app.template(Engine())
        app.set_error_handler(
            lambda error, res, req: errors.append(error) or res.write_status(500).end("sorry")
        )
        app.get("/", on(lane, lambda res, req: res.render(KeyError("x"))))

    with serve(configure, **options(lane)).client() as client:
        answer = client.get()
        assert (answer.status, answer.body) == (500, b"sorry")
    assert type(errors[0]) is (KeyError if engine else RuntimeError)
    if not engine:
        assert str(errors[0]) == "No registered templated engine"


@each_lane
def test_cork(serve: Serve, lane: str) -> None:
    """A-RES-01, I-C-25: at once, with the response, within another, and it gives the response."""
    seen: list[Any] = []

    def handle(res: Any, req: Any) -> None:
        def inner(given: Any) -> None:
            seen.append(given is res)
            res.write("b")

        def outer(given: Any) -> None:
            seen.append(given is res)
            res.write("a")
            assert res.cork(inner) is res
            res.write("c")

        assert res.cork(outer) is res
        seen.append("after")
        res.end("d")

    with answering(serve, handle, lane).client() as client:
        assert client.get().body == b"abcd"
    assert seen == [True, True, "after"]


@each_lane
def test_cork_fails(serve: Serve, lane: str) -> None:
    """I-C-24: its exception is the handler's, and the half-made response is cut."""

    def fail(res: Any) -> None:
        res.write("corked, ")
        raise ValueError("in the callback")

    running = answering(serve, lambda res, req: res.cork(fail) and res.end("and ended"), lane)
    with running.client() as client:
        assert b"\r\n0\r\n" not in client.request().rest()


@pytest.mark.parametrize("method", ["cork", "on_writable"])
def test_coroutine_functions_are_refused(serve: Serve, method: str, caplog: pytest.LogCaptureFixture) -> None:
    """A-CALL-14."""
    called: list[Any] = []

    async def callback(*arguments: Any) -> None:
        called.append(arguments)

    def handle(res: Any, req: Any) -> None:
        assert getattr(res, method)(callback) is res
        res.end("x")

    with answering(serve, handle).client() as client:
        assert client.get().status == 200
    assert called == []
    assert method in caplog.text


# ---- large responses, piece by piece ----------------------------------------------------------------------------------


def try_all(res: Any, payload: bytes) -> None:
    """The way a body is sent with try_end: the rest is tried again when there is room."""

    def go_on(res: Any, offset: int) -> bool:
        assert offset == res.get_write_offset()
        ok, _ = res.try_end(payload[offset:], len(payload))
        return bool(ok)

    ok, done = res.try_end(payload, len(payload))
    if not ok:
        assert not done
        res.on_writable(go_on)


@each_lane
def test_room_while_a_callback_runs(serve: Serve, lane: str) -> None:
    """A-RES-29: a callback that had no room, and returns when there is some again, is called again."""
    payload = bytes(range(256)) * 40_000
    refused, go = threading.Event(), threading.Event()
    offsets: list[int] = []

    def go_on(res: Any, offset: int) -> bool:
        ok, _ = res.try_end(payload[offset:], len(payload))
        if not ok and not refused.is_set():
            offsets.append(res.get_write_offset())
            refused.set()
            assert go.wait(10)
        return bool(ok)

    def configure(app: Any) -> None:
        def handle(res: Any, req: Any) -> None:
            res.try_end(payload, len(payload))
            res.on_writable(go_on)

        app.get("/", on(lane, handle))
        app.constant("/constant", "without Python")

    running = serve(configure, **options(lane))
    with running.client(receive_buffer=4096) as client, running.client() as other:
        client.request()
        body = b""
        head = client.until(b"\r\n\r\n")
        assert f"Content-Length: {len(payload)}\r\n".encode() in head
        while not refused.is_set() or len(body) < offsets[0]:
            body += client.pending or client.socket.recv(65536)
            client.pending = b""
        # Any room has been noticed when a later response has arrived.
        assert other.get("/constant").body == b"without Python"
        go.set()
        assert body + client.exactly(len(payload) - len(body)) == payload


@each_lane
def test_try_end_waits_for_the_client(serve: Serve, lane: str) -> None:
    """A-RES-12, A-RES-14, A-RES-29, B-HT-27: nothing is buffered; a client that takes nothing is waited for."""
    payload = bytes(range(256)) * 40_000
    first: list[Any] = []
    offered = threading.Event()

    def handle(res: Any, req: Any) -> None:
        assert res.get_write_offset() == 0
        ok, done = res.try_end(payload, len(payload))
        first.extend([ok, done, res.get_write_offset(), res.has_responded(), res.get_buffered_amount()])
        res.on_writable(lambda res, offset: res.try_end(payload[offset:], len(payload))[0])
        offered.set()

    with answering(serve, handle, lane).client(receive_buffer=4096) as client:
        client.request()
        assert offered.wait(10)
        assert client.answer().body == payload
        assert client.get("/last").body == b"last"
    ok, done, offset, responded, buffered = first
    assert (ok, done, responded) == (False, False, False)
    assert 0 < offset < len(payload)
    assert buffered < 100_000


def test_write_offset(serve: Serve) -> None:
    """A-RES-11, A-RES-12, I-S-10: the set offset can be read, and try_end goes on from there."""

    def handle(res: Any, req: Any) -> None:
        assert res.get_write_offset() == 0
        assert res.write_offset(5) is res
        assert res.get_write_offset() == 5
        res.write_offset(0)
        assert res.try_end("abc", 6) == (True, False)
        assert res.get_write_offset() == 3
        assert not res.has_responded()
        assert res.try_end("def", 6) == (True, True)
        assert res.has_responded()

    with answering(serve, handle).client() as client:
        assert client.get().body == b"abcdef"


@pytest.mark.parametrize("message", [None, 5, {}, [1]])
def test_try_end_of_other_types(serve: Serve, message: Any) -> None:
    """A-RES-14: (False, True), and nothing happens."""

    def handle(res: Any, req: Any) -> None:
        assert res.try_end(message, 3) == (False, True)
        assert not res.has_responded()
        res.end("x")

    with answering(serve, handle).client() as client:
        assert client.get().body == b"x"


@pytest.mark.parametrize("chunk", [1000, 16_384, 1_000_000])
def test_send_chunk(serve: Serve, chunk: int) -> None:
    """A-RES-08: at the pace of the client, byte for byte."""
    payload = bytes(range(256)) * 8000
    results: list[Any] = []

    async def handle(res: Any, req: Any) -> None:
        for at in range(0, len(payload), chunk):
            results.append(await res.send_chunk(payload[at : at + chunk], len(payload)))

    with answering(serve, handle).client(receive_buffer=4096 if chunk > 1000 else None) as client:
        assert client.get().body == payload
        assert client.get("/last").body == b"last"
    assert results == [(True, False)] * (len(results) - 1) + [(True, True)]


@pytest.mark.parametrize("buffer", [None, 5, {}])
def test_send_chunk_of_other_types(serve: Serve, buffer: Any) -> None:
    """A-RES-08: only text and bytes."""
    (error,) = errors_of(serve, lambda res: res.send_chunk(buffer, 3))
    assert type(error) is TypeError


def test_send_chunk_to_nobody(serve: Serve) -> None:
    """A-RES-08: (False, True) once the client has gone; a handler of the user is called too (I-C-22)."""
    results: list[Any] = []
    gone, done = threading.Event(), threading.Event()

    async def handle(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: gone.set())
        result = (True, False)
        while result == (True, False):
            result = await res.send_chunk(b"x" * 100_000, 1 << 40)
        results.append(result)
        done.set()

    with answering(serve, handle).client(receive_buffer=4096) as client:
        client.request()
        client.until(b"\r\n\r\n")
    assert done.wait(10)
    assert gone.wait(10)
    assert results == [(False, True)]


# ---- after the end, and after an abort ------------------------------------------------------------------------------

NEUTRAL: dict[str, Callable[[Any], object]] = {
    "write_status": lambda res: res.write_status(404),
    "write_status unknown": lambda res: res.write_status(9999),
    "write_status no status": lambda res: res.write_status("x"),
    "write_header": lambda res: res.write_header("A", "b"),
    "write_header broken": lambda res: res.write_header("A", "b\r\nc"),
    "write_headers": lambda res: res.write_headers([("A", "b")]),
    "set_cookie": lambda res: res.set_cookie("a", "b"),
    "write_continue": lambda res: res.write_continue(),
    "end": lambda res: res.end("x"),
    "end JSON": lambda res: res.end({}),
    "end none": lambda res: res.end(None),
    "end unserialisable": lambda res: res.end(Unserialisable()),
    "end connection": lambda res: res.end("x", True),
    "cork_end": lambda res: res.cork_end("x"),
    "send": lambda res: res.send("x", status=404, headers=[("A", "b")]),
    "send unserialisable": lambda res: res.send(Unserialisable(), status=9999),
    "cork_send": lambda res: res.cork_send("x"),
    "end_without_body": lambda res: res.end_without_body(),
    "redirect": lambda res: res.redirect("/"),
    "redirect broken": lambda res: res.redirect("a\nb", 9999),
    "render": lambda res: res.render("x"),
    "write": lambda res: res.write("x"),
    "write unserialisable": lambda res: res.write(Unserialisable()),
    "write_offset": lambda res: res.write_offset(7),
    "cork": lambda res: res.cork(lambda res: 1 / 0),
    "grab_aborted_handler": lambda res: res.grab_aborted_handler(),
    "on_aborted": lambda res: res.on_aborted(lambda res: 1 / 0),
    "on_data": lambda res: res.on_data(lambda res, chunk, last: 1 / 0),
    "on_writable": lambda res: res.on_writable(lambda res, offset: 1 / 0),
    "pause": lambda res: res.pause(),
    "resume": lambda res: res.resume(),
}
VALUES: dict[str, tuple[Callable[[Any], object], object]] = {
    "try_end": (lambda res: res.try_end("x", 1), (False, True)),
    "get_write_offset": (lambda res: res.get_write_offset(), 0),
    "get_buffered_amount": (lambda res: res.get_buffered_amount(), 0),
    "get_proxied_remote_address": (lambda res: res.get_proxied_remote_address(), None),
    "get_proxied_remote_address_bytes": (lambda res: res.get_proxied_remote_address_bytes(), None),
}


def check_neutral(res: Any) -> list[str]:
    """The methods that still do something on a response that is over."""
    wrong = []
    for name, act in NEUTRAL.items():
        try:
            if act(res) not in (res, None):
                wrong.append(f"{name}: not the response")
        except Exception as error:
            wrong.append(f"{name}: {error!r}")
    for name, (act, value) in VALUES.items():
        try:
            if (given := act(res)) != value:
                wrong.append(f"{name}: {given!r}")
        except Exception as error:
            wrong.append(f"{name}: {error!r}")
    # Facts about the client may still be known.
    if res.get_remote_address() not in ("127.0.0.1", None):
        wrong.append("get_remote_address")
    if res.get_remote_address_bytes() not in (b"\x7f\0\0\1", b"", None):
        wrong.append("get_remote_address_bytes")
    res.get_native_handle()
    repr(res)
    return wrong


async def check_neutral_futures(res: Any) -> list[str]:
    """The same for awaitables."""
    wrong = check_neutral(res)
    if (given := await asyncio.wait_for(res.send_chunk("x", 1), 5)) not in ((False, True), (True, True)):
        wrong.append(f"send_chunk: {given}")
    if (given := await asyncio.wait_for(res.get_data(), 5)).getvalue() != b"":
        wrong.append(f"get_data: {given}")
    for name in ("get_text", "get_json", "get_form_urlencoded"):
        if (given := await asyncio.wait_for(getattr(res, name)(), 5)) not in ("", None):
            wrong.append(f"{name}: {given}")
    await asyncio.wait_for(res.drain(), 5)
    return wrong


@each_lane
def test_after_the_end(serve: Serve, lane: str) -> None:
    """A-RES-15, I-A-13, I-C-04, A-CALL-10: nothing reaches the wire, nothing raises."""
    wrong: list[str] = []

    def handle(res: Any, req: Any) -> None:
        assert not res.has_responded()
        res.end("first")
        assert res.has_responded()
        wrong.extend(check_neutral(res))
        assert res.has_responded()
        assert not res.aborted

    app = answering(serve, handle, lane)
    app.app.template(Engine())
    assert wire(app) == f"{OK}{COMMON}Content-Length: 5\r\n\r\nfirst"
    assert wrong == []


def test_long_after_the_end(serve: Serve) -> None:
    """A-CALL-10: while the connection serves the next request, which it does not touch."""
    wrong: list[str] = []
    responses: list[Any] = []

    async def handle(res: Any, req: Any) -> None:
        if responses:
            res.write_status(201)
            wrong.extend(await check_neutral_futures(responses[0]))
            res.end("second")
        else:
            responses.append(res)
            res.end("first")

    app = answering(serve, handle)
    app.app.template(Engine())
    with app.client() as client:
        answers = [client.get(), client.get(), client.get("/last")]
    assert [(answer.status, answer.body) for answer in answers] == [
        (200, b"first"),
        (201, b"second"),
        (200, b"last"),
    ]
    assert answers[1].lines[1:] == ["Server: socketify", "Content-Length: 6"]
    assert wrong == []


def test_run_async_after_the_end(serve: Serve) -> None:
    """A-RES-03: a coroutine started after the response runs; its failure harms no connection."""
    ran = threading.Event()

    async def background() -> None:
        await asyncio.sleep(0)
        ran.set()
        raise ValueError("late")

    app = answering(serve, lambda res, req: res.end("x").run_async(background()))
    with app.client() as client:
        assert client.get().body == b"x"
        assert ran.wait(5)
        assert client.get("/last").body == b"last"


class Abort:
    """A request whose client leaves before it is answered."""

    def __init__(self) -> None:
        self.response: Any = None
        self.began = threading.Event()
        self.heard = threading.Event()
        self.calls: list[Any] = []

    def handler(self, res: Any, req: Any) -> None:
        self.response = res
        assert res.aborted is False
        assert res.on_aborted(self.aborted) is res
        self.began.set()

    def aborted(self, res: Any) -> None:
        self.calls.append((res, res.aborted, res.has_responded()))
        self.heard.set()

    def happen(self, app: Running) -> None:
        client = app.client().request()
        assert self.began.wait(5)
        client.reset()
        assert self.heard.wait(5)


@each_lane
def test_aborted(serve: Serve, lane: str) -> None:
    """A-RES-27, A-RES-37, I-S-42, I-S-43, A-CALL-04: called once with the response, whose flag is set."""
    abort = Abort()
    app = answering(serve, abort.handler, lane)
    abort.happen(app)
    res = abort.response
    assert res.aborted is True
    assert res.has_responded() is False
    app.stop()
    assert abort.calls == [(res, True, False)]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_aborted_handlers(serve: Serve, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A-RES-27: sync or async; the last one counts; a value that is not callable is ignored; exceptions are
    logged."""
    calls: list[str] = []
    began, heard = threading.Event(), threading.Event()

    def last(res: Any) -> None:
        calls.append("last")
        try:
            raise ValueError("in the callback")
        finally:
            heard.set()

    async def last_later(res: Any) -> None:
        await asyncio.sleep(0)
        last(res)

    def handle(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: calls.append("first"))
        res.on_aborted(last if kind == "def" else last_later)
        res.on_aborted(None)
        res.on_aborted("no function")
        began.set()

    app = answering(serve, handle)
    with app.client() as client:
        client.request()
        assert began.wait(5)
    assert heard.wait(5)
    app.stop()
    assert calls == ["last"]
    assert "in the callback" in caplog.text


@each_lane
def test_half_closed_and_aborted(serve: Serve, lane: str) -> None:
    """B-HT-20, A-RES-26: a client that shut its side may be gone, so this is an abort; or be there, so it
    gets its response."""
    abort = Abort()
    app = answering(serve, abort.handler, lane)
    with app.client() as client:
        client.request()
        assert abort.began.wait(5)
        client.half_close()
        assert abort.heard.wait(5)
        assert abort.calls == [(abort.response, True, False)]
        assert abort.response.end("still there") is abort.response
        assert client.answer().body == b"still there"
        assert client.is_closed()
    assert abort.response.has_responded() is False
    app.stop()
    assert len(abort.calls) == 1


def test_half_closed_while_its_body_is_read_in_pieces(serve: Serve) -> None:
    """B-HT-20: all of the body is here, so its reader comes to its end, and responds."""
    first, aborted = threading.Event(), threading.Event()

    async def handle(res: Any, req: Any) -> None:
        sizes: list[int] = []

        async def piece(res: Any, chunk: bytes, is_end: bool) -> None:
            sizes.append(len(chunk))
            first.set()
            while not aborted.is_set():
                await asyncio.sleep(0.001)
            if is_end:
                res.end(str(sum(sizes)))

        res.on_aborted(lambda res: aborted.set())
        res.on_data(piece)

    with answering(serve, handle).client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 3000\r\n\r\n" + b"x" * 1000)
        assert first.wait(20)
        client.send(b"x" * 2000).half_close()
        assert aborted.wait(20)
        assert client.answer().body == b"3000"
        assert client.is_closed()


def test_half_closed_while_a_piece_keeps_its_reader_busy(serve: Serve) -> None:
    """B-HT-20: the rest of the body, asked for as a whole while its pieces are read, is the rest of the body."""
    first, aborted = threading.Event(), threading.Event()

    async def handle(res: Any, req: Any) -> None:
        async def piece(res: Any, chunk: bytes, is_end: bool) -> None:
            if is_end:
                return
            rest = res.get_data()
            first.set()
            body = (await rest).getvalue()
            while not aborted.is_set():
                await asyncio.sleep(0.001)
            res.end(f"{len(chunk)} {len(body)}")

        res.on_aborted(lambda res: aborted.set())
        res.on_data(piece)

    with answering(serve, handle).client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 3000\r\n\r\n" + b"x" * 1000)
        assert first.wait(20)
        client.send(b"x" * 2000).half_close()
        assert client.answer().body == b"1000 2000"
        assert client.is_closed()


@each_lane
def test_half_closed_while_its_answer_waits_for_room(serve: Serve, lane: str) -> None:
    """B-HT-20: a client that has shut its side takes its answer at its pace, like any other."""
    body = bytes(range(256)) * 64_000
    began, aborted = threading.Event(), threading.Event()

    def handle(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: aborted.set())
        res.on_writable(lambda res, offset: res.try_end(body[offset:], len(body))[0])
        res.try_end(body, len(body))
        began.set()

    with answering(serve, handle, lane).client(receive_buffer=4096) as client:
        client.request()
        assert began.wait(20)
        client.half_close()
        assert aborted.wait(20)
        assert client.answer().body == body
        assert client.is_closed()


@each_lane
def test_after_an_abort(serve: Serve, lane: str) -> None:
    """A-CALL-10, I-C-04, I-C-28 and the abort column of A.7: nothing raises, everything gives its neutral value."""
    abort = Abort()
    app = answering(serve, abort.handler, lane)
    app.app.template(Engine())
    abort.happen(app)
    wrong: list[str] = []
    checked = threading.Event()

    async def check() -> None:
        try:
            wrong.extend(await check_neutral_futures(abort.response))
        finally:
            checked.set()

    app.app.run_async(check())
    assert checked.wait(10)
    # From any thread, too.
    wrong.extend(check_neutral(abort.response))
    assert abort.response.close() is abort.response
    assert wrong == []
    assert abort.response.aborted is True
    assert abort.response.has_responded() is False
    with app.client() as client:
        assert client.get("/last").body == b"last"


@pytest.mark.parametrize("lane", LANES)
def test_not_aborted(serve: Serve, lane: str) -> None:
    """A-RES-27: not after a complete response, for any close afterwards."""
    called: list[Any] = []
    app = answering(serve, lambda res, req: res.on_aborted(called.append).end("x"), lane)
    with app.client() as client:
        client.get()
        client.get("/", "Connection: close")
    with app.client() as client:
        assert client.get("/last").status == 200
    app.stop()
    assert called == []


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_aborted_while_awaiting(serve: Serve, leave: str) -> None:
    """I-S-44, A-CALL-04: without any handler registered; the coroutine goes on, and its response goes nowhere."""
    states: list[Any] = []
    began, done = threading.Event(), threading.Event()

    async def handle(res: Any, req: Any) -> None:
        began.set()
        states.append(res.aborted)
        while not res.aborted:
            await asyncio.sleep(0.001)
        states.append(res.aborted)
        res.end("nobody")
        states.append(res.has_responded())
        done.set()

    client = answering(serve, handle).client().request()
    assert began.wait(5)
    getattr(client, leave)()
    assert done.wait(5)
    assert states == [False, True, False]


def test_aborted_can_be_assigned(serve: Serve) -> None:
    """A-RES-37: as the examples do; and other attributes, too."""

    def handle(res: Any, req: Any) -> None:
        res.aborted = True
        assert res.aborted is True
        res.aborted = 0
        assert not res.aborted
        res.user = {"id": 1}
        assert res.user == {"id": 1}
        assert res.app.is_ssl is False
        res.end("x")

    with answering(serve, handle).client() as client:
        assert client.get().body == b"x"


@each_lane
def test_close(serve: Serve, lane: str) -> None:
    """A-RES-13: cuts the connection and aborts the response."""
    abort = Abort()

    def handle(res: Any, req: Any) -> None:
        abort.handler(res, req)
        assert res.close() is res

    app = answering(serve, handle, lane)
    with app.client() as client:
        assert client.request().is_closed()
    assert abort.heard.wait(5)
    assert abort.response.aborted
    assert abort.response.close() is abort.response


def test_from_another_thread(serve: Serve) -> None:
    """A-CALL-16: every method may be called from any thread."""
    threads: list[threading.Thread] = []

    def handle(res: Any, req: Any) -> None:
        def answer() -> None:
            res.write_status(201).write_header("A", "b").write("a").write("b")
            res.cork(lambda res: res.write("c"))
            res.end(req.get_url())

        threads.append(threading.Thread(target=answer))
        threads[-1].start()

    with answering(serve, handle).client() as client:
        for _ in range(20):
            answer = client.get("/x")
            assert (answer.status, answer.body) == (201, b"abc/x")
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_unanswered(serve: Serve, lane: str, caplog: pytest.LogCaptureFixture) -> None:
    """A-CALL-05, I-S-26: the connection stays pending; others are served."""
    app = answering(serve, lambda res, req: None, lane)
    with app.client() as silent, app.client() as client:
        silent.request()
        assert client.get("/last").body == b"last"
        silent.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.socket.recv(1)
    app.stop()


# ---- who asked ------------------------------------------------------------------------------------------------------


def addresses(res: Any, req: Any) -> None:
    proxied, raw = res.get_proxied_remote_address_bytes(), res.get_remote_address_bytes()
    res.end(
        [
            res.get_remote_address(),
            None if raw is None else raw.hex(),
            res.get_proxied_remote_address(),
            None if proxied is None else proxied.hex(),
        ]
    )


def asked(app: Running, *prefaces: bytes, **options: Any) -> list[Any]:
    with app.client(**options) as client:
        client.send(b"".join(prefaces))
        return list(json.loads(client.get().body))


MAPPED = "0000:0000:0000:0000:0000:ffff:7f00:0001"
LONG = "0000:0000:0000:0000:0000:0000:0000:0001"


@each_lane
def test_remote_address(serve: Serve, lane: str) -> None:
    """A-RES-32, A-RES-33, I-S-38."""
    app = answering(serve, addresses, lane)
    assert asked(app) == ["127.0.0.1", "7f000001", None, None]


def listening(listen: Any) -> Iterator[Running]:
    app = Running(lambda app: app.get("/*", addresses), listen)
    yield app
    app.stop()


def test_remote_address_of_both_families() -> None:
    """A-RES-32: on the default listener an IPv4 client has a mapped address; IPv6 is never shortened."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    for app in listening(0):
        assert asked(app) == [MAPPED, f"{0xFFFF:024x}7f000001", None, None]
        with socket.create_connection(("::1", app.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == [LONG, f"{1:032x}", None, None]


def test_remote_address_of_a_unix_socket(tmp_path: Path) -> None:
    """A-RES-32, A-RES-33."""
    path = str(tmp_path / "socket")
    for _ in listening({"domain": path}):
        with Client(path=path) as client:
            assert json.loads(client.get().body) == [None, "", None, None]
        with Client(path=path) as client:
            client.send(proxy(1, 0x11, V4))
            assert json.loads(client.get().body) == [None, "", "192.0.2.7", "c0000207"]


V4 = bytes([192, 0, 2, 7, 10, 0, 0, 1, 0, 80, 1, 187])
V6 = bytes.fromhex("20010db8000000000000000000000005") + bytes(16) + b"\0\x50\1\xbb"
V6_TEXT = "2001:0db8:0000:0000:0000:0000:0000:0005"


def proxy(command: int, family: int, block: bytes) -> bytes:
    """A PROXY protocol v2 preface."""
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20 | command, family]) + len(block).to_bytes(2, "big") + block


PREFACES: list[tuple[str, list[bytes], Any, Any]] = [
    ("TCP over IPv4", [proxy(1, 0x11, V4)], "192.0.2.7", "c0000207"),
    ("TCP over IPv6", [proxy(1, 0x21, V6)], V6_TEXT, V6[:16].hex()),
    ("UDP over IPv4", [proxy(1, 0x12, V4)], "192.0.2.7", "c0000207"),
    ("TLVs after it", [proxy(1, 0x11, V4 + b"\x01\0\2h2")], "192.0.2.7", "c0000207"),
    ("LOCAL", [proxy(0, 0x11, V4)], None, None),
    ("LOCAL and nothing", [proxy(0, 0, b"")], None, None),
    ("UNSPEC", [proxy(1, 0, b"")], None, None),
    ("version 1", [b"PROXY TCP6 2001:db8::5 ::1 80 443\r\n"], V6_TEXT, V6[:16].hex()),
    ("version 1, unknown", [b"PROXY UNKNOWN\r\n"], None, None),
]


@pytest.mark.parametrize(
    ("prefaces", "address", "raw"), [row[1:] for row in PREFACES], ids=[row[0] for row in PREFACES]
)
def test_proxied(serve: Serve, prefaces: list[bytes], address: Any, raw: Any) -> None:
    """A-RES-34, A-RES-35, B-HT-25, I-S-38."""
    assert asked(answering(serve, addresses), *prefaces) == ["127.0.0.1", "7f000001", address, raw]


def test_proxied_in_pieces(serve: Serve) -> None:
    """B-HT-25: however it arrives, and for every request of the connection."""
    with answering(serve, addresses).client() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in proxy(1, 0x11, V4):
            client.send(bytes([byte]))
        assert [json.loads(client.get().body)[2] for _ in range(3)] == ["192.0.2.7"] * 3
        # Another one would be of the client.
        client.send(proxy(1, 0x21, V6))
        assert client.answer().status == 400


@pytest.mark.parametrize(
    "preface",
    [
        b"PROXY TCP5 192.0.2.7 10.0.0.1 80 443\r\n",
        proxy(1, 0x11, b"\1\2"),
        proxy(2, 0x11, V4),
        proxy(0x11, 0x11, V4),
    ],
    ids=["version 1", "short", "command", "version"],
)
def test_prefaces_that_are_none(serve: Serve, preface: bytes) -> None:
    """B-HT-25."""
    with answering(serve, addresses).client() as client:
        assert client.send(preface).is_closed()


def test_prefaces_switched_off(serve: Serve) -> None:
    """B-HT-25: where nobody may claim another address."""
    with answering(serve, addresses, proxy_protocol=False).client() as client:
        assert client.send(proxy(1, 0x11, V4)).request().answer().status == 400


def test_native_handle(serve: Serve) -> None:
    """A-RES-36, I-S-48: the descriptor of the socket."""
    handles: list[Any] = []

    def handle(res: Any, req: Any) -> None:
        handles.append((res.get_native_handle(), os.fstat(res.get_native_handle())))
        res.end("x")

    with answering(serve, handle).client() as client:
        client.get()
    number, found = handles[0]
    assert type(number) is int
    assert found.st_mode & 0o170000 == 0o140000
