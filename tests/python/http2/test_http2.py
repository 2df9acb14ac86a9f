"""HTTP/2 (RFC 9113) in plain text: the same handlers and calls, on streams.

Rows: I-S-04, I-S-38, I-S-42..44, A-RES-20, A-CALL-04; users.md 1 (24).
"""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import App, sendfile
from support.h2_client import H2Client
from support.lanes import each_lane, on, options

Serve = Callable[..., Any]
MEBI = 1 << 20
NO_ERROR, PROTOCOL_ERROR = 0, 1


def h2(running: Any, **options: Any) -> H2Client:
    return H2Client(running.port, **options)


# ---- answers --------------------------------------------------------------------------------------------------------


def answers(app: App, lane: str) -> None:
    def streamed(res: Any, req: Any) -> None:
        for piece in ("one ", "two ", "three"):
            res.write(piece)
        res.end("")

    def sized(res: Any, req: Any) -> None:
        assert res.try_end(b"x" * 1000, 1000) == (True, True)

    def headers(res: Any, req: Any) -> None:
        res.write_header("X-Upper", "Kept").write_header("Connection", "close").write_header(
            "Keep-Alive", "5"
        )
        res.write_header("Transfer-Encoding", "chunked").write_header("Set-Cookie", "a=1").write_header(
            "Set-Cookie", "b=2"
        )
        res.write_status("201 Made").end("made")

    def refused(res: Any, req: Any) -> None:
        try:
            res.write_header("X-Bell", "\x07")
        except ValueError as error:
            res.end(str(error))

    def status(res: Any, req: Any) -> None:
        res.write_status(int(req.get_parameter(0))).end("body")

    def fails(res: Any, req: Any) -> None:
        raise RuntimeError("on purpose")

    app.get("/", on(lane, lambda res, req: res.end("Hello")))
    app.get("/empty", on(lane, lambda res, req: res.end("")))
    app.get("/streamed", on(lane, streamed))
    app.get("/sized", on(lane, sized))
    app.get("/headers", on(lane, headers))
    app.get("/refused", on(lane, refused))
    app.get("/status/:code", on(lane, status))
    app.get("/fails", on(lane, fails))
    app.get("/large", on(lane, lambda res, req: res.end(b"l" * MEBI)))
    app.get("/none", on(lane, lambda res, req: res.write_status(204).end_without_body()))


@each_lane
def test_every_kind_of_answer(serve: Serve, lane: str) -> None:
    """A-RES-20: whole, in pieces, sized, empty, without a body, large; with the framing of HTTP/2 alone."""
    running = serve(lambda app: answers(app, lane), **options(lane))
    with h2(running) as client:
        hello = client.get("/")
        assert (hello.status, bytes(hello.body), hello.reset) == (200, b"Hello", None)
        assert hello.headers["content-length"] == "5"
        assert hello.headers["server"] == "socketify"
        assert "date" in hello.headers
        assert "connection" not in hello.headers
        streamed = client.get("/streamed")
        assert (streamed.status, bytes(streamed.body)) == (200, b"one two three")
        assert "transfer-encoding" not in streamed.headers
        assert "content-length" not in streamed.headers
        assert bytes(client.get("/sized").body) == b"x" * 1000
        empty = client.get("/empty")
        assert (empty.status, bytes(empty.body), empty.headers["content-length"]) == (200, b"", "0")
        none = client.get("/none")
        assert (none.status, bytes(none.body)) == (204, b"")
        assert "content-length" not in none.headers
        assert (client.get("/status/304").status, client.get("/status/418").status) == (304, 418)
        assert bytes(client.get("/large").body) == b"l" * MEBI
        assert client.get("/nowhere").status == 404
        assert client.get("/fails").status == 500
        assert b"control character" in client.get("/refused").body


@each_lane
def test_headers_of_the_connection_do_not_go_over_a_stream(serve: Serve, lane: str) -> None:
    """RFC 9113 8.2.2 and 8.2.1; what else was given arrives, repeats included."""
    running = serve(lambda app: answers(app, lane), **options(lane))
    with h2(running) as client:
        cookies: list[str] = []
        number = client.request("/headers")
        while not client.streams[number].over:
            for event in client.receive():
                cookies += [
                    value for name, value in getattr(event, "headers", None) or [] if name == "set-cookie"
                ]
        made = client.streams[number]
        assert (made.status, made.headers["x-upper"], cookies) == (201, "Kept", ["a=1", "b=2"])
        assert not {"connection", "keep-alive", "transfer-encoding"} & made.headers.keys()


def test_head_has_the_length_and_no_body(serve: Serve) -> None:
    running = serve(lambda app: app.head("/", lambda res, req: res.end("Hello")))
    with h2(running) as client:
        answer = client.get("/", method="HEAD")
        assert (answer.status, answer.headers["content-length"], bytes(answer.body)) == (200, "5", b"")


def test_requests_read_as_those_of_http_1(serve: Serve) -> None:
    """A-REQ: method, target, host from :authority, cookies joined (RFC 9113 8.2.3), repeated headers."""

    def show(res: Any, req: Any) -> None:
        parts = [
            req.get_method(),
            req.get_url(),
            req.get_query("q"),
            req.get_header("host"),
            req.get_header("cookie"),
        ]
        parts += [req.get_header("x-a"), req.get_parameter(0), req.get_cookie("b")]
        res.end("|".join(map(str, parts)))

    running = serve(lambda app: app.get("/show/:name", show))
    with h2(running) as client:
        headers = [("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("x-a", "2")]
        answer = client.get("/show/me?q=7", headers=headers)
        assert answer.body.decode() == "GET|/show/me|7|example.org|a=1; b=2|1, 2|me|2"


@pytest.mark.parametrize(
    ("pseudo", "headers", "status"),
    [
        ([(":method", "GET"), (":scheme", "http"), (":path", "/")], [], 400),
        (
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
            [("host", "b")],
            400,
        ),
        (
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "A")],
            [("host", "a")],
            200,
        ),
        ([(":method", "GET"), (":scheme", "http"), (":path", "/")], [("host", "a")], 200),
        ([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "u@a")], [], 400),
        ([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "[::1]:80")], [], 200),
        ([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a:port")], [], 400),
        ([(":method", "GET"), (":scheme", "http"), (":path", "/")], [("host", "::1")], 400),
        ([(":method", "GET"), (":scheme", "http"), (":path", "/")], [("host", "[::1]x")], 400),
        ([(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "a")], [], 400),
        (
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")],
            [("expect", "cake")],
            417,
        ),
        ([(":method", "M" * 65), (":scheme", "http"), (":path", "/"), (":authority", "a")], [], 501),
    ],
)
def test_malformed_requests_are_answered_on_their_stream(
    serve: Serve, pseudo: Any, headers: Any, status: int
) -> None:
    """RFC 9113 8.3.1: the connection goes on."""
    running = serve(lambda app: app.get("/", lambda res, req: res.end("ok")))
    with h2(running) as client:
        assert client.get(pseudo=pseudo, headers=headers).status == status
        assert client.get("/").status == 200


@pytest.mark.parametrize("header", [("connection", "close"), ("transfer-encoding", "chunked"), ("te", "x")])
def test_forbidden_headers_reset_the_stream(serve: Serve, header: tuple[str, str]) -> None:
    """RFC 9113 8.2: malformed requests are stream errors."""
    running = serve(lambda app: app.get("/", lambda res, req: res.end("ok")))
    with h2(running) as client:
        assert client.get("/", headers=[header]).reset == PROTOCOL_ERROR
        assert client.get("/").status == 200


def test_too_many_headers_and_too_large_ones(serve: Serve) -> None:
    """431 on the stream; far too large ones end the connection."""
    running = serve(
        lambda app: app.get("/", lambda res, req: res.end("ok")), max_headers=20, max_header_bytes=4096
    )
    with h2(running) as client:
        assert client.get("/", headers=[(f"x-{n}", "v") for n in range(21)]).status == 431
        assert client.get("/", headers=[("x-long", "v" * 5000)]).status == 431
        assert client.get("/").status == 200
    with h2(running) as client:
        client.request("/", headers=[(f"x-{n}", "v" * 8000) for n in range(20)])
        client.until_closed()
        # The frame may be lost: unread bytes make the kernel reset the connection.
        assert client.goaway is None or client.goaway.error_code != NO_ERROR


def test_cookies_that_came_apart_count_as_one(serve: Serve) -> None:
    """RFC 9113 8.2.3: a browser sends each in a field of its own; max_headers is 100."""
    running = serve(lambda app: app.get("/", lambda res, req: res.end(req.get_header("cookie"))))
    cookies = [f"c{n}=v" for n in range(150)]
    with h2(running) as client:
        answer = client.get("/", headers=[("cookie", cookie) for cookie in cookies])
        assert (answer.status, bytes(answer.body).decode()) == (200, "; ".join(cookies))
        others = [(f"x-{n}", "v") for n in range(100)]
        assert client.get("/", headers=[*others, ("cookie", "a=b"), ("cookie", "c=d")]).status == 431


def test_an_answer_is_sent_without_te(serve: Serve) -> None:
    """It is a request's, and HTTP/2 has no other value of it than trailers (RFC 9113 8.2.2)."""
    running = serve(lambda app: app.get("/", lambda res, req: res.write_header("TE", "gzip").end("ok")))
    with h2(running) as client:
        answer = client.get("/")
        assert (answer.status, bytes(answer.body), answer.headers.get("te")) == (200, b"ok", None)


def test_constant_answers_have_values_that_can_be_sent(serve: Serve) -> None:
    """A control character in a value is found when the route is registered, unless HTTP/2 is switched off."""

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.end("ok"))
        with pytest.raises(ValueError, match="control"):
            app._server.add_constant("GET", "/bell", 200, [("X-Bell", "a\x07b")], b"")

    running = serve(configure)
    with h2(running) as client:
        assert client.get("/").status == 200


def test_streams_are_answered_in_any_order(serve: Serve) -> None:
    """One waits, the others do not wait for it."""
    release = threading.Event()

    async def slow(res: Any, req: Any) -> None:
        while not release.is_set():
            await asyncio.sleep(0.001)
        res.end("slow")

    def configure(app: App) -> None:
        app.get("/slow", slow)
        app.get("/fast", lambda res, req: res.end("fast"))

    running = serve(configure)
    with h2(running) as client:
        slow_one = client.request("/slow")
        assert bytes(client.get("/fast").body) == b"fast"
        assert not client.streams[slow_one].over
        release.set()
        assert bytes(client.answer(slow_one).body) == b"slow"


@each_lane
def test_a_hundred_streams_at_a_time(serve: Serve, lane: str) -> None:
    running = serve(
        lambda app: app.get("/:n", on(lane, lambda res, req: res.end(req.get_parameter(0)))), **options(lane)
    )
    with h2(running) as client:
        for _ in range(5):
            numbers = {client.request(f"/{n}", flush=False): str(n) for n in range(100)}
            client.flush()
            for number, text in numbers.items():
                assert client.answer(number).body.decode() == text


def test_max_concurrent_streams_is_told_and_kept(serve: Serve) -> None:
    """RFC 9113 5.1.2: those beyond are refused, and may be sent again."""

    async def wait(res: Any, req: Any) -> None:
        while not res.aborted:
            await asyncio.sleep(0.001)

    running = serve(lambda app: app.get("/", wait), max_concurrent_streams=3)
    with h2(running) as client:
        client.until(lambda: 3 in client.settings)
        assert client.settings[3] == 3
        client.h2.remote_settings.max_concurrent_streams = 100
        client.h2.remote_settings.acknowledge()
        numbers = [client.request("/") for _ in range(4)]
        assert client.answer(numbers[3]).reset == 7  # REFUSED_STREAM
        assert not any(client.streams[number].over for number in numbers[:3])


def test_http2_can_be_switched_off(serve: Serve) -> None:
    """The preface is a request like any other then, and a bad one."""
    running = serve(lambda app: app.get("/", lambda res, req: res.end("ok")), http2=False)
    with running.client() as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.answer().status == 505


def test_the_preface_may_come_in_pieces_and_others_are_not_mistaken_for_it(serve: Serve) -> None:
    running = serve(lambda app: app.post("/", lambda res, req: res.end("posted")))
    with running.client() as client:
        for byte in b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n":
            client.send(bytes([byte]))
        assert client.answer().body == b"posted"
    with H2Client(running.port) as whole:
        assert bytes(whole.get("/", method="POST").body) == b"posted"
    with running.client() as client:
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0":
            client.send(bytes([byte]))
        # Its settings come first.
        assert client.socket.recv(4)[3:4] == b"\4"


# ---- files, compression, routes ----------------------------------------------------------------------------------------


def test_files_whole_in_ranges_and_not_modified(serve: Serve, tmp_path: Path) -> None:
    """app.static and sendfile: small files, large ones, ranges, conditions."""
    small, large = b"small file", bytes(range(256)) * 8192
    (tmp_path / "small.txt").write_bytes(small)
    (tmp_path / "large.bin").write_bytes(large)

    async def send(res: Any, req: Any) -> None:
        await sendfile(res, req, tmp_path / "large.bin")

    def configure(app: App) -> None:
        app.static("/files", str(tmp_path))
        app.get("/sent", send)

    running = serve(configure)
    with h2(running) as client:
        whole = client.get("/files/small.txt")
        assert (whole.status, bytes(whole.body)) == (200, small)
        assert bytes(client.get("/files/large.bin").body) == large
        assert bytes(client.get("/sent").body) == large
        part = client.get("/files/large.bin", headers=[("range", "bytes=1000-1000000")])
        assert (part.status, bytes(part.body)) == (206, large[1000:1000001])
        several = client.get("/files/small.txt", headers=[("range", "bytes=0-1,4-5")])
        assert several.status == 206
        assert b"sm" in several.body
        again = client.get("/files/small.txt", headers=[("if-none-match", whole.headers["etag"])])
        assert (again.status, bytes(again.body)) == (304, b"")
        assert client.get("/files/none").status == 404


def test_compressed_answers(serve: Serve) -> None:
    text = "compress me " * 1000

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.write_header("Content-Type", "text/plain").end(text))

    running = serve(configure, compression=True)
    with h2(running) as client:
        answer = client.get("/", headers=[("accept-encoding", "gzip")])
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(answer.body).decode() == text


def test_domains_are_chosen_by_authority(serve: Serve) -> None:
    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.end("default"))
        app.domain("api.example.org").get("/", lambda res, req: res.end("api"))

    running = serve(configure)
    with h2(running) as client:
        assert bytes(client.get("/", authority="api.example.org").body) == b"api"
        assert bytes(client.get("/").body) == b"default"
