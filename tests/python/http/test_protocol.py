"""HTTP/1.1 on the wire: refused and accepted requests, and nothing after a refusal is ever executed.

Rows: B-HT-03 to B-HT-16, B-HT-19, B-HT-20, B-HT-25, I-A-15, I-A-22, I-A-31, I-A-32 and RFC 9112.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from socketify import App
from support.client import Answer, Client
from support.running import Running

AFTER = b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"POST /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
PROXY = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_V4 = PROXY + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 10, 0, 0, 1]) + struct.pack(">HH", 80, 443)
PROXY_V6 = PROXY + b"\x21\x21\x00\x24" + bytes(15) + b"\x01" + bytes(16) + struct.pack(">HH", 80, 443)
PROXY_LOCAL = PROXY + b"\x20\x00\x00\x00"


class Site:
    """An application that records its requests."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def configure(self, app: App) -> None:
        def note(res: Any, req: Any) -> None:
            self.seen.append(f"{req.get_method()} {req.get_url()}")
            res.end(f"{req.get_method()} {req.get_url()} {req.get_query('q') or '-'}")

        async def body(res: Any, req: Any) -> None:
            self.seen.append(f"{req.get_method()} {req.get_url()}")
            res.end((await res.get_data()).getvalue())

        async def slow(res: Any, req: Any) -> None:
            await asyncio.sleep(0.05)
            res.end(f"slow {req.get_query('q')}")

        app.any("/*", note)
        app.post("/body", body)
        app.get("/slow", slow)
        app.get("/address", lambda res, req: res.end(res.get_proxied_remote_address() or "none"))
        app.get("/large", lambda res, req: res.end(b"x" * 20_000_000))
        app.options("*", lambda res, req: res.end("server-wide"))
        app.connect("h:443", lambda res, req: res.end("tunnel?"))


@pytest.fixture(scope="module")
def site() -> Iterator[Callable[[], tuple[Site, Running]]]:
    """One server for the tables, with nothing noted yet."""
    shared = Site()
    running = Running(shared.configure)

    def fresh() -> tuple[Site, Running]:
        shared.seen.clear()
        return shared, running

    yield fresh
    running.stop()


def answers(client: Client) -> list[Answer]:
    """Every answer until the server closes."""
    client.pending += client.rest()
    found = []
    while client.pending:
        found.append(client.answer())
    return found


def push(client: Client, data: bytes, *, step: int = 0) -> None:
    """Sends what the server still takes; it may have refused and closed before the end."""
    try:
        step = step or len(data) or 1
        for start in range(0, len(data), step):
            client.send(data[start : start + step])
    except (ConnectionResetError, BrokenPipeError):
        pass


def head(*lines: bytes | str, method: str = "POST", target: str = "/") -> bytes:
    encoded = [line.encode("latin-1") if isinstance(line, str) else line for line in lines]
    return b"\r\n".join([f"{method} {target} HTTP/1.1".encode("latin-1"), *encoded, b"", b""])


# ---- refused requests ---------------------------------------------------------------------------------------------------

BODY = "0\r\n\r\n"

REFUSED: list[tuple[str, bytes, int]] = [
    # B-HT-10; RFC 9112 6.3 and 11.2: two parsers would see two messages.
    ("length, then encoding", head("Host: h", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
    ("encoding, then length", head("Host: h", "Transfer-Encoding: chunked", "Content-Length: 5"), 400),
    ("length 0 and encoding", head("Host: h", "Content-Length: 0", "Transfer-Encoding: chunked"), 400),
    ("two lengths", head("Host: h", "Content-Length: 5", "Content-Length: 6"), 400),
    ("two lengths in another case", head("Host: h", "Content-Length: 5", "content-lENGTH: 6"), 400),
    ("a list of two lengths", head("Host: h", "Content-Length: 5, 6"), 400),
    ("a list that ends in a comma", head("Host: h", "Content-Length: 5,"), 400),
    ("empty length", head("Host: h", "Content-Length:"), 400),
    ("signed length", head("Host: h", "Content-Length: +5"), 400),
    ("negative length", head("Host: h", "Content-Length: -5"), 400),
    ("hexadecimal length", head("Host: h", "Content-Length: 0x5"), 400),
    ("length with a blank inside", head("Host: h", "Content-Length: 5 5"), 400),
    ("fraction", head("Host: h", "Content-Length: 5.0"), 400),
    ("underscore", head("Host: h", "Content-Length: 1_0"), 400),
    ("other digits", head("Host: h", "Content-Length: \xb2"), 400),
    ("length of 65 bits", head("Host: h", "Content-Length: 18446744073709551616"), 400),
    ("encoding identity", head("Host: h", "Transfer-Encoding: identity"), 400),
    ("empty encoding", head("Host: h", "Transfer-Encoding:"), 400),
    ("encoding gzip, chunked", head("Host: h", "Transfer-Encoding: gzip, chunked"), 501),
    ("encoding gzip and chunked lines", head("Host: h", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"), 501),
    ("empty element before chunked", head("Host: h", "Transfer-Encoding: , chunked"), 400),
    ("empty element behind chunked", head("Host: h", "Transfer-Encoding: chunked,"), 400),
    ("encoding chunked, identity", head("Host: h", "Transfer-Encoding: chunked, identity"), 400),
    ("chunked twice", head("Host: h", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
    ("chunked and identity lines", head("Host: h", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"), 400),
    ("xchunked", head("Host: h", "Transfer-Encoding: xchunked"), 400),
    ("quoted chunked", head("Host: h", 'Transfer-Encoding: "chunked"'), 400),
    ("chunked with a vertical tab", head("Host: h", "Transfer-Encoding: \x0bchunked"), 400),
    ("encoding in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    # B-HT-07; RFC 9112 5.1 and 5.2, 2.2: lines.
    ("blank before the colon", head("Host: h", "Transfer-Encoding : chunked"), 400),
    ("tab before the colon", head("Host: h", "Content-Length\t: 5"), 400),
    ("folded line", head("Host: h", "X: a", " b"), 400),
    ("folded with a tab", head("Host: h", "X: a", "\tTransfer-Encoding: chunked"), 400),
    ("folded first line", head(" Host: h"), 400),
    ("bare LF between headers", head("Host: h", "X: a\nTransfer-Encoding: chunked"), 400),
    ("bare LF after the request line", b"GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
    ("bare LF everywhere", b"GET / HTTP/1.1\nHost: h\n\n", 400),
    ("bare LF at the end", b"GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
    ("bare CR in a value", head("Host: h", "X: a\rTransfer-Encoding: chunked"), 400),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", 400),
    ("NUL in a value", head("Host: h", "X: a\0b"), 400),
    ("NUL in a name", head("Host: h", "X\0: a"), 400),
    ("control byte in a value", head("Host: h", "X: \x01"), 400),
    ("DEL in a value", head("Host: h", "X: \x7f"), 400),
    ("empty name", head("Host: h", ": a"), 400),
    ("no colon", head("Host: h", "nonsense"), 400),
    ("blank in a name", head("Host: h", "X Y: a"), 400),
    ("byte above 127 in a name", head("Host: h", "X\xff: a"), 400),
    ("parentheses in a name", head("Host: h", "X(Y): a"), 400),
    # B-HT-05; RFC 9112 3.2.
    ("no Host", head(), 400),
    ("two Hosts", head("Host: h", "Host: h"), 400),
    ("two Hosts in another case", head("Host: h", "hOST: i"), 400),
    ("Host with a blank", head("Host: a b"), 400),
    ("Host with a path", head("Host: h/x"), 400),
    ("Host with a user", head("Host: u@h"), 400),
    ("Host list", head("Host: a, b"), 400),
    # B-HT-03, B-HT-04; RFC 9112 3.
    ("two blanks before the target", b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("two blanks after the target", b"GET /  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("blank at the end of the request line", b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400),
    ("blank at the start", b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("blank in the target", b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("tabs instead of blanks", b"GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("HTTP/0.9", b"GET /\r\nHost: h\r\n\r\n", 400),
    ("no target", b"GET HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("lower case version", b"GET / http/1.1\r\nHost: h\r\n\r\n", 400),
    ("version with more digits", b"GET / HTTP/1.10\r\nHost: h\r\n\r\n", 400),
    ("version without a minor", b"GET / HTTP/1\r\nHost: h\r\n\r\n", 400),
    ("another protocol", b"GET / ICY/1.1\r\nHost: h\r\n\r\n", 400),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505),
    ("HTTP/0.9 by name", b"GET / HTTP/0.9\r\nHost: h\r\n\r\n", 505),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("only zeros", bytes(64), 400),
    ("five empty lines", b"\r\n" * 5 + b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("empty method", b" / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("method that is no token", b"GE(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("method of 65 letters", b"M" * 65 + b" / HTTP/1.1\r\nHost: h\r\n\r\n", 501),
    ("NUL in the target", b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("control byte in the target", b"GET /\x1f HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("target without a slash", head("Host: h", target="a"), 400),
    ("fragment", head("Host: h", target="/a#b"), 400),
    ("GET *", head("Host: h", method="GET", target="*"), 400),
    ("other scheme", head("Host: h", target="ftp://h/"), 400),
    ("absolute without authority", head("Host: h", target="http:///"), 400),
    ("absolute with a user", head("Host: h", target="http://u@h/"), 400),
    ("CONNECT with a path", head("Host: h", method="CONNECT", target="/"), 400),
    ("CONNECT without a port", head("Host: h", method="CONNECT", target="h"), 400),
    # RFC 9112 3.2, RFC 3986 3.2.
    *((f"host {host}", head(f"Host: {host}"), 400) for host in ("a:b:c", "a:port", "[::1", "[::1]x", "::1", "a%zz")),
    *(
        (f"absolute with the host {host}", head("Host: h", target=f"http://{host}/"), 400)
        for host in ("a:port", "[::1", "::1")
    ),
    # RFC 9110 10.1.1.
    ("unknown expectation", head("Host: h", "Expect: tea", "Content-Length: 5"), 417),
]  # fmt: skip

BAD_CHUNKS: list[tuple[str, bytes]] = [
    # B-HT-10, B-HT-12; RFC 9112 7.1.
    ("no size", b"\r\n"),
    ("no digit", b"x\r\n"),
    ("sign", b"+5\r\nhello\r\n"),
    ("minus", b"-5\r\nhello\r\n"),
    ("0x", b"0x5\r\nhello\r\n"),
    ("blank in front", b" 5\r\nhello\r\n"),
    ("blank behind", b"5 \r\nhello\r\n"),
    ("not a digit behind", b"5g\r\nhello\r\n"),
    ("underscore", b"1_0\r\nhello\r\n"),
    ("comma", b"5,\r\nhello\r\n"),
    ("17 digits", b"00000000000000005\r\nhello\r\n"),
    ("size overflows 64 bits", b"10000000000000005\r\nhello\r\n"),
    ("bare LF behind the size", b"5\nhello\r\n"),
    ("bare CR behind the size", b"5\rhello\r\n"),
    ("NUL in an extension", b"5;a=\0\r\nhello\r\n"),
    ("bare LF in an extension", b"5;a\nhello\r\n"),
    ("endless extension", b"5;" + b"a" * 5000 + b"\r\nhello\r\n"),
    ("data longer than its size", b"4\r\nhello\r\n"),
    ("data shorter than its size", b"6\r\nhello\r\n0\r\n\r\n"),
    ("bare LF behind the data", b"5\r\nhello\n"),
    ("no line end behind the data", b"5\r\nhello0\r\n\r\n"),
    ("trailer with a blank name", b"0\r\nX : a\r\n\r\n"),
    ("folded trailer", b"0\r\nX: a\r\n b\r\n\r\n"),
    ("trailer without a colon", b"0\r\nGET / HTTP/1.1\r\n\r\n"),
    ("bare LF in a trailer", b"0\r\nX: a\n\r\n"),
    ("bare LF at the end", b"0\r\n\n"),
    ("endless trailers", b"0\r\n" + b"X: aaaaaaaaaaaaaaaa\r\n" * 1000),
]  # fmt: skip

BYTEWISE_LIMIT = 600


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("raw", "status"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(site: Any, raw: bytes, status: int, bytewise: bool) -> None:
    """B-HT-03 to B-HT-10: one response of that status, the connection closed, nothing executed."""
    noted, running = site()
    with running.client() as client:
        if bytewise:
            push(client, (raw + AFTER)[:BYTEWISE_LIMIT], step=1)
        else:
            push(client, raw + BODY.encode() + AFTER)
        found = answers(client)
    assert [answer.status for answer in found] == [status]
    # B-HT-06.
    assert found[0].header("Connection") == "close"
    assert found[0].body
    with running.client() as client:
        client.get("/fence")
    assert noted.seen == ["GET /fence"]


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("chunks", [row[1] for row in BAD_CHUNKS], ids=[row[0] for row in BAD_CHUNKS])
def test_bad_chunks(site: Any, chunks: bytes, bytewise: bool) -> None:
    """B-HT-10, B-HT-12: 400 and close; the bytes after the body are not a request."""
    noted, running = site()
    with running.client() as client:
        if bytewise:
            client.send(CHUNKED)
            push(client, (chunks + AFTER)[:BYTEWISE_LIMIT], step=1)
            if len(chunks) > BYTEWISE_LIMIT:
                push(client, (chunks + AFTER)[BYTEWISE_LIMIT:])
        else:
            push(client, CHUNKED + chunks + AFTER)
        found = answers(client)
    assert [answer.status for answer in found] == [400]
    assert found[0].header("Connection") == "close"
    with running.client() as client:
        client.get("/fence")
    assert "GET /after" not in noted.seen


def test_bad_chunk_after_the_answer_has_begun_cuts_it(serve: Any) -> None:
    """B-HT-10: half a response cannot become a 400; it is cut, and no request is found after it."""
    seen: list[str] = []

    def begin(res: Any, req: Any) -> None:
        seen.append("begin")
        res.on_data(lambda res, chunk, is_end: None)
        res.write("half")

    def configure(app: App) -> None:
        app.post("/body", begin)
        app.get("/after", lambda res, req: (seen.append("after"), res.end("no")))

    running = serve(configure)
    with running.client() as client:
        client.send(CHUNKED)
        assert b"half" in client.until(b"half\r\n")
        push(client, b"zz\r\n" + AFTER)
        assert client.rest() == b""
    assert seen == ["begin"]


# ---- accepted requests --------------------------------------------------------------------------------------------------

ACCEPTED: list[tuple[str, bytes, bytes]] = [
    # B-HT-03.
    ("absolute form", head("Host: other", target="http://h/a?q=1", method="GET"), b"GET /a 1"),
    ("absolute form without Host", head(target="https://h:443/a", method="GET"), b"GET /a -"),
    ("absolute form without a path", head("Host: h", target="http://h", method="GET"), b"GET / -"),
    ("OPTIONS *", head("Host: h", target="*", method="OPTIONS"), b"server-wide"),
    # B-HT-05, B-HT-07, B-HT-08; I-A-22, I-A-32.
    ("empty Host", head("Host:", method="GET"), b"GET / -"),
    ("IPv6 Host", head("Host: [::1]:80", method="GET"), b"GET / -"),
    ("empty lines in front", b"\r\n" * 4 + head("Host: h", method="GET"), b"GET / -"),
    ("any method", head("Host: h", method="M" * 64), b"M" * 64 + b" / -"),
    ("lower case method", head("Host: h", method="get"), b"get / -"),
    ("every token character", head("Host: h", "a_b.c!#$%&'*+-^`|~9: x"), b"POST / -"),
    ("bytes above 127 in a value", head("Host: h", "X: \xe4\xff"), b"POST / -"),
    ("tabs and blanks round a value", head("Host: \t h \t "), b"POST / -"),
    ("empty value", head("Host: h", "X:"), b"POST / -"),
    ("bytes above 127 in the target", head("Host: h", target="/%2e/|\xc3\xbc?q=%20"), b"POST /%2e/|\xc3\xbc  "),
    ("the same length twice", head("Host: h", "Content-Length: 2", "Content-Length: 2") + b"ab", b"POST / -"),
    ("the same length as a list", head("Host: h", "Content-Length: 2, 2") + b"ab", b"POST / -"),
    ("length with zeros", head("Host: h", "Content-Length: 002") + b"ab", b"POST / -"),
    ("GET with a body", head("Host: h", "Content-Length: 2", method="GET") + b"ab", b"GET / -"),
    ("chunked", CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
    ("CHUNKED", head("Host: h", "TRANSFER-ENCODING: CHUNKED", target="/body") + b"1\r\na\r\n0\r\n\r\n", b"a"),
    ("chunk sizes with zeros", CHUNKED + b"000000000000000a\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
    ("chunk size in both cases", CHUNKED + b"A\r\n0123456789\r\na\r\nabcdefghij\r\n0\r\n\r\n", b"0123456789abcdefghij"),
    ("chunk extensions", CHUNKED + b'2;a;b="c d"\r\nab\r\n0;x\r\n\r\n', b"ab"),
    ("blank before a chunk extension", CHUNKED + b"2 ;a\r\nab\r\n0\r\n\r\n", b"ab"),
    ("trailers", CHUNKED + b"2\r\nab\r\n0\r\nX: y\r\nContent-Length: 9\r\n\r\n", b"ab"),
    ("Connection: hello", head("Host: h", "Connection: hello"), b"POST / -"),
    ("expectation without a body", head("Host: h", "Expect: 100-continue"), b"POST / -"),
]  # fmt: skip


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("raw", "body"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_accepted(site: Any, raw: bytes, body: bytes, bytewise: bool) -> None:
    """B-HT-03 to B-HT-16: answered, and the connection serves the next request."""
    _, running = site()
    with running.client() as client:
        push(client, raw, step=bytewise)
        answer = client.answer()
        assert answer.status == 200
        assert answer.body == body
        assert answer.header("Connection") is None
        assert client.get("/next").body == b"GET /next -"


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
def test_connect(site: Any, bytewise: bool) -> None:
    """B-HT-03: a route may answer it, and it is the last on its connection."""
    _, running = site()
    with running.client() as client:
        push(client, head("Host: h", target="h:443", method="CONNECT"), step=bytewise)
        answer = client.answer()
        assert (answer.status, answer.body, answer.header("Connection")) == (200, b"tunnel?", "close")
        assert client.is_closed()


@pytest.mark.parametrize(
    ("version", "lines", "persists"),
    [
        ("1.1", [], True),
        ("1.1", ["Connection: close"], False),
        ("1.1", ["Connection: x, CLOSE"], False),
        ("1.1", ["Connection: keep-alive", "Connection: close"], False),
        ("1.1", ["Connection: closed"], True),
        ("1.0", [], False),
        ("1.0", ["Connection: keep-alive"], True),
        ("1.0", ["Connection: keep-alive, close"], False),
    ],
)
def test_persistence(site: Any, version: str, lines: list[str], persists: bool) -> None:
    """B-HT-04, B-HT-16; RFC 9112 9.3."""
    _, running = site()
    with running.client() as client:
        answer = client.request("GET", "/", *lines, version=version).answer()
        assert answer.status == 200
        expected = {("1.1", False): "close", ("1.0", False): "close", ("1.0", True): "keep-alive"}
        assert answer.header("Connection") == expected.get((version, persists))
        if persists:
            assert client.request("GET", "/", *lines, version=version).answer().status == 200
        else:
            assert client.is_closed()


def test_http10_needs_no_host(site: Any) -> None:
    """B-HT-04, B-HT-05: the response says 1.1 and closes."""
    _, running = site()
    with running.client() as client:
        client.send(b"GET /old HTTP/1.0\r\n\r\n" + AFTER)
        (answer,) = answers(client)
        assert (answer.status_line, answer.body) == ("HTTP/1.1 200 OK", b"GET /old -")


# ---- pipelining ---------------------------------------------------------------------------------------------------------


def mixed(app: App) -> None:
    async def later(res: Any, req: Any) -> None:
        if int(req.get_query("n")) % 5 == 0:
            await asyncio.sleep(0)
        res.end(f"async {req.get_query('n')}")

    async def echo(res: Any, req: Any) -> None:
        res.end((await res.get_data()).getvalue())

    def pieces(res: Any, req: Any) -> None:
        res.write("sync ")
        res.end(req.get_query("n"))

    app.get("/sync", lambda res, req: res.end(f"sync {req.get_query('n')}"))
    app.get("/pieces", pieces)
    app.get("/async", later)
    app.post("/echo", echo)
    app.constant("/constant", "constant")


def mixed_request(number: int) -> tuple[bytes, int, bytes]:
    kind = number % 7
    if kind == 4:
        return b"GET /constant HTTP/1.1\r\nHost: h\r\n\r\n", 200, b"constant"
    if kind == 5:
        return b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n", 404, b"Not Found"
    if kind == 6:
        body = f"echo {number}".encode()
        chunked = b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
        plain = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s"
        return (chunked if number % 2 else plain) % (len(body), body), 200, body
    path, text = [("sync", "sync"), ("async", "async"), ("pieces", "sync"), ("sync", "sync")][kind]
    return f"GET /{path}?n={number} HTTP/1.1\r\nHost: h\r\n\r\n".encode(), 200, f"{text} {number}".encode()


@pytest.mark.parametrize("lane", ["io", "loop"])
def test_a_thousand_requests_in_one_segment(serve: Any, lane: str) -> None:
    """B-HT-19, I-A-15: every kind of answer, in the order of the requests."""
    running = serve(mixed, sync_handlers=lane)
    requests = [mixed_request(number) for number in range(1000)]
    with running.client() as client:
        client.send(b"".join(request for request, _, _ in requests))
        for number, (_, status, body) in enumerate(requests):
            answer = client.answer()
            assert (number, answer.status, answer.body) == (number, status, body)


def test_requests_wait_behind_a_slow_one(site: Any) -> None:
    """B-HT-19: more than the server keeps in memory waits in the socket, and none is lost."""
    _, running = site()
    count = 8_000
    with running.client() as client:
        wire = b"GET /slow?q=0 HTTP/1.1\r\nHost: h\r\n\r\n"
        wire += b"".join(b"GET /n?q=%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(count))
        sender = threading.Thread(target=client.send, args=(wire,))
        sender.start()
        assert client.answer().body == b"slow 0"
        for number in range(count):
            assert client.answer().body == b"GET /n %d" % number
        sender.join()


def test_a_client_that_only_sends_is_held_back(serve: Any) -> None:
    """B-HT-19: answers nobody reads do not pile up; the server stops reading requests instead."""
    served = 0

    def count(res: Any, req: Any) -> None:
        nonlocal served
        served += 1
        res.end(b"x" * 1000)

    running = serve(lambda app: app.get("/", count))
    wire = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 1_000_000
    with running.client(receive_buffer=4096) as client:
        assert client.flood(wire) < len(wire)
        before = served
        client.answer()
        assert before * 1000 < 32_000_000, "answers were made that nobody takes"


def test_garbage_after_a_request(site: Any) -> None:
    """RFC 9112 9.3: the request is answered, the garbage refused, and then it is over."""
    noted, running = site()
    with running.client() as client:
        client.send(head("Host: h", method="GET", target="/good") + b"\x00garbage\r\n\r\n" + AFTER)
        found = answers(client)
    assert [answer.status for answer in found] == [200, 400]
    assert noted.seen == ["GET /good"]


def test_garbage_after_a_request_that_takes_its_time(site: Any) -> None:
    noted, running = site()
    with running.client() as client:
        client.send(b"GET /slow?q=1 HTTP/1.1\r\nHost: h\r\n\r\n\x00garbage\r\n\r\n" + AFTER)
        found = answers(client)
    assert [answer.status for answer in found] == [200, 400]
    assert noted.seen == []


def test_a_body_longer_than_its_length_is_the_next_request(site: Any) -> None:
    """RFC 9112 6.3: the length decides, not the client's intention."""
    noted, running = site()
    with running.client() as client:
        client.send(head("Host: h", "Content-Length: 2", target="/body") + b"ab" + AFTER)
        assert client.answer().body == b"ab"
        assert client.answer().body == b"GET /after -"
    assert noted.seen == ["POST /body", "GET /after"]


def test_every_split_of_two_requests(site: Any) -> None:
    """Segments mean nothing: the same two responses for any split."""
    _, running = site()
    wire = (
        head("Host: h", "Content-Length: 3", target="/body")
        + b"abc"
        + CHUNKED
        + b"3;x\r\ndef\r\n0\r\nT: t\r\n\r\n"
    )
    with running.client() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(wire)):
            client.send(wire[:cut])
            client.send(wire[cut:])
            assert (client.answer().body, client.answer().body) == (b"abc", b"def"), cut


# ---- half-closed connections --------------------------------------------------------------------------------------------


def test_half_close_after_a_request(site: Any) -> None:
    """B-HT-20, I-A-31: the response still comes, and then the end."""
    _, running = site()
    for target, body in [("/a", b"GET /a -"), ("/slow?q=1", b"slow 1"), ("/none/*", b"GET /none/* -")]:
        with running.client() as client:
            client.request("GET", target).half_close()
            assert client.answer().body == body
            assert client.is_closed()


def test_half_close_before_a_large_answer_has_left(site: Any) -> None:
    """B-HT-20: a response that the client takes slowly is not cut because it has nothing more to ask."""
    _, running = site()
    with running.client(receive_buffer=4096) as client:
        client.request("GET", "/large")
        client.until(b"\r\n\r\n")
        client.half_close()
        assert len(client.exactly(20_000_000)) == 20_000_000
        assert client.is_closed()


def test_half_close_after_pipelined_requests(site: Any) -> None:
    """B-HT-20: each request that came whole is answered, as for ``printf ... | nc``."""
    _, running = site()
    with running.client() as client:
        client.send(b"GET /slow?q=1 HTTP/1.1\r\nHost: h\r\n\r\n" * 2 + AFTER)
        client.half_close()
        assert [answer.body for answer in answers(client)] == [b"slow 1", b"slow 1", b"GET /after -"]


@pytest.mark.parametrize("start", [b"", b"GET / HT", head("Host: h")[:-2], b"\r\n", PROXY_V4[:10]])
def test_half_close_within_a_head(site: Any, start: bytes) -> None:
    """B-HT-20: there is no request to answer."""
    noted, running = site()
    with running.client() as client:
        client.send(start).half_close()
        assert client.is_closed()
    assert noted.seen == []


def test_half_close_within_a_body(serve: Any) -> None:
    """B-HT-20: the body can never be whole, so the request is aborted and the connection ends."""
    registered, aborted = threading.Event(), threading.Event()

    async def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: aborted.set())
        registered.set()
        await res.get_data()
        res.end("never seen")

    running = serve(lambda app: app.post("/", handler))
    with running.client() as client:
        client.send(head("Host: h", "Content-Length: 10") + b"half")
        # An abort before the registration is not reported (A-RES-27).
        assert registered.wait(20)
        client.half_close()
        assert client.is_closed()
    assert aborted.wait(20)


# ---- the PROXY protocol -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preface", "address"),
    [
        (PROXY_V4, b"192.0.2.7"),
        (PROXY_V6, b"0000:0000:0000:0000:0000:0000:0000:0001"),
        (PROXY_LOCAL, b"none"),
        (PROXY + b"\x21\x11\x00\x0f" + PROXY_V4[16:] + b"\x04\x00\x00", b"192.0.2.7"),
        (PROXY + b"\x21\x31\x00\xd8" + bytes(216), b"none"),
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 80 443\r\n", b"192.0.2.7"),
    ],
    ids=["IPv4", "IPv6", "LOCAL", "with a TLV", "UNIX", "version 1"],
)
def test_proxy_preface_at_every_split(site: Any, preface: bytes, address: bytes) -> None:
    """B-HT-25, A-RES-34: the address a proxy gave; other clients are served meanwhile."""
    _, running = site()
    request = b"GET /address HTTP/1.1\r\nHost: h\r\n\r\n"
    for cut in range(1, len(preface) + 2):
        with running.client() as client, running.client() as other:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.send((preface + request)[:cut])
            assert other.get("/other").status == 200, cut
            client.send((preface + request)[cut:])
            assert client.answer().body == address, cut
            # It holds for the connection, and cannot be sent again.
            assert client.get("/address").body == address
            client.send(PROXY_LOCAL + request)
            assert client.answer().status == 400


@pytest.mark.parametrize(
    "preface",
    [
        PROXY + b"\x11\x11\x00\x0c" + bytes(12),
        PROXY + b"\x22\x11\x00\x0c" + bytes(12),
        PROXY + b"\x21\x11\x00\x02" + bytes(2),
        PROXY + b"\x21\x21\x00\x0c" + bytes(12),
        PROXY + b"\x21\x11\xff\xff" + bytes(12),
        PROXY[:-1] + b"X" + bytes(16),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 80\r\n",
    ],
    ids=["version", "command", "short IPv4", "short IPv6", "too large", "signature", "version 1"],
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
def test_bad_proxy_preface(site: Any, preface: bytes, bytewise: bool) -> None:
    """B-HT-25: closed without a response, since the peer's protocol is unknown."""
    noted, running = site()
    with running.client() as client:
        push(client, preface + AFTER, step=bytewise)
        assert client.is_closed()
    assert noted.seen == []


def test_proxy_preface_switched_off(serve: Any) -> None:
    """B-HT-25: then it is no more than a malformed request."""
    running = serve(lambda app: app.get("/", lambda res, req: res.end("no")), proxy_protocol=False)
    with running.client() as client:
        push(client, PROXY_V4 + AFTER)
        assert [answer.status for answer in answers(client)] == [400]


# ---- anything -----------------------------------------------------------------------------------------------------------

CORPUS = [
    head("Host: h", "User-Agent: x", "Accept: */*", method="GET", target="/a?q=1"),
    head("Host: h", "Content-Length: 11", target="/body") + b"hello world",
    CHUNKED + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: t\r\n\r\n",
    head("Host: h", "Expect: 100-continue", "Content-Length: 3", target="/body") + b"abc",
    head("Host: h", "Connection: close", method="HEAD"),
    head("Host: h", target="*", method="OPTIONS"),
    head("Host: h", target="http://h/x", method="GET"),
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    PROXY_V4 + AFTER,
    AFTER * 3,
]
SPICE = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b"0",
    b"f" * 17,
    b"\xff",
    b"\x7f",
    b"HTTP/1.1",
    b"\r\n\r\n",
]
SPICE += [
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: i\r\n",
    b"Expect: x\r\n",
    PROXY,
]


def mutate(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.randint(1, 12))
        match rng.randrange(6):
            case 0:
                data = data[:at] + rng.choice(SPICE) + data[at:]
            case 1:
                data = data[:at] + data[end:]
            case 2:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 3:
                data = data[:end] + data[at:end] * rng.randint(1, 5) + data[end:]
            case 4:
                data = data[:at]
            case _:
                data = data[:at] + rng.choice(CORPUS)[rng.randrange(40) :]
    return data


def test_whatever_arrives_is_answered_or_closed(site: Any) -> None:
    """Thousands of damaged requests (the same ones each time): every connection ends, every response is well formed."""
    _, running = site()
    rng = random.Random(20)
    for number in range(4000):
        data = mutate(rng, rng.choice(CORPUS))
        with running.client() as client:
            step = rng.choice([0, 0, 0, 1, 7])
            try:
                push(client, data, step=step)
                client.half_close()
            except OSError:
                pass
            try:
                client.pending += client.rest()
            except TimeoutError:
                pytest.fail(f"number {number} was neither answered nor closed: {data!r}")
            while client.pending:
                # The response to a HEAD has no body: then the next response follows at once.
                headers, end, rest = client.pending.partition(b"\r\n\r\n")
                line, *fields = headers.split(b"\r\n")
                assert end, (number, data, client.pending)
                assert line.startswith(b"HTTP/1.1 "), (number, data, client.pending)
                length = 0
                for name, _, value in (field.partition(b": ") for field in fields):
                    length = int(value) if name == b"Content-Length" else length
                client.pending = rest if rest.startswith(b"HTTP/1.1 ") else rest[length:]
    with running.client() as client:
        assert client.get("/alive").body == b"GET /alive -"
