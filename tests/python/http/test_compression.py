"""Response compression: the compressed bodies, the clients, and the heads (RFC 9110 8.4, 12.5)."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import httpx
import pytest
import zstandard

from socketify import App, Compression
from support.client import Answer
from support.lanes import each_lane, on, options
from support.running import Running

Serve = Callable[..., Running]

TEXT = ("The quick brown fox jumps over the lazy dog. " * 100).encode()
ENCODINGS = ("gzip", "br", "zstd")
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS)


def decode(encoding: str | None, body: bytes) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "br":
        return bytes(brotli.decompress(body))
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    assert encoding is None, encoding
    return body


class Pieces:
    """Reads a body as it comes, with a decoder of another author."""

    def __init__(self, encoding: str) -> None:
        self._read: Callable[[bytes], bytes]
        if encoding == "gzip":
            self._read = zlib.decompressobj(31).decompress
        elif encoding == "br":
            decoder = brotli.Decompressor()
            # It returns output beyond its buffer only at the next call.
            self._read = lambda data: b"".join([decoder.process(data), decoder.process(b"")])
        else:
            self._read = zstandard.ZstdDecompressor().decompressobj().decompress

    def read(self, data: bytes) -> bytes:
        return self._read(data)


def plain(answer: Answer) -> bytes:
    return decode(answer.header("content-encoding"), answer.body)


def accept(encoding: str) -> str:
    return f"Accept-Encoding: {encoding}"


# ---- whole bodies ---------------------------------------------------------------------------------------------------


@each_lane
@each_encoding
def test_a_whole_body(serve: Serve, lane: str, encoding: str) -> None:
    def handler(res: Any, req: Any) -> None:
        res.end(TEXT)

    app = serve(lambda app: app.get("/", on(lane, handler)), compression=True, **options(lane))
    with app.client() as client:
        for _ in range(2):
            answer = client.get("/", accept(encoding))
            assert answer.header("content-encoding") == encoding
            assert answer.header("vary") == "Accept-Encoding"
            assert answer.header("content-length") == str(len(answer.body))
            assert len(answer.body) < len(TEXT) / 4
            assert plain(answer) == TEXT
        bare = client.get("/")
        assert bare.header("content-encoding") is None
        assert bare.header("vary") == "Accept-Encoding"
        assert bare.body == TEXT


def test_every_call_that_ends_with_a_whole_body(serve: Serve) -> None:
    class Engine:
        def render(self) -> str:
            return TEXT.decode()

    def configure(app: App) -> None:
        app.template(Engine())
        app.get("/end", lambda res, req: res.end(TEXT.decode()))
        app.get("/cork_end", lambda res, req: res.cork_end(TEXT))
        app.get("/send", lambda res, req: res.send(TEXT, "text/css", "201 Created"))
        app.get("/json", lambda res, req: res.end([TEXT.decode()]))
        app.get("/render", lambda res, req: res.render())
        app.get("/cork", lambda res, req: res.cork(lambda res: res.end(TEXT)))

    app = serve(configure, compression=True)
    with app.client() as client:
        for path in ("/end", "/cork_end", "/send", "/render", "/cork"):
            answer = client.get(path, accept("gzip"))
            assert answer.header("content-encoding") == "gzip", path
            assert plain(answer) == TEXT
        answer = client.get("/json", accept("br"))
        assert answer.header("content-encoding") == "br"
        assert json.loads(plain(answer)) == [TEXT.decode()]


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip;q=1, br;q=0.5", "gzip"),
        ("*", "zstd"),
        ("identity", None),
        ("gzip;q=0", None),
        ("gzip;q=3", None),
        ("deflate", None),
        ("", None),
    ],
)
def test_the_client_chooses(serve: Serve, value: str, encoding: str | None) -> None:
    app = serve(lambda app: app.get("/", lambda res, req: res.end(TEXT)), compression=True)
    with app.client() as client:
        answer = client.get("/", accept(value))
        assert answer.header("content-encoding") == encoding
        assert plain(answer) == TEXT


def test_several_lines_are_one_list(serve: Serve) -> None:
    app = serve(lambda app: app.get("/", lambda res, req: res.end(TEXT)), compression=True)
    with app.client() as client:
        answer = client.get("/", accept("gzip;q=0.5"), accept("br"))
        assert answer.header("content-encoding") == "br"


def test_head_has_the_headers_of_get(serve: Serve) -> None:
    app = serve(lambda app: app.get("/", lambda res, req: res.end(TEXT)), compression=True)
    with app.client() as client:
        got = client.get("/", accept("gzip"))
        head = client.request("HEAD", "/", accept("gzip")).answer("HEAD")
        same = [line for line in got.lines if not line.startswith("Date")]
        assert [line for line in head.lines if not line.startswith("Date")] == same
        assert client.get("/", accept("gzip")).body == got.body


def test_a_large_body(serve: Serve) -> None:
    """Compressed without the interpreter, in many buffers."""
    big = bytes(range(32, 127)) * 200_000
    app = serve(lambda app: app.get("/", lambda res, req: res.end(big)), compression={"encodings": ["gzip"]})
    with app.client() as client:
        answer = client.get("/", accept("gzip"))
        assert plain(answer) == big


# ---- uncompressed responses ---------------------------------------------------------------------------------------------


def test_small_bodies_are_left_alone(serve: Serve) -> None:
    def configure(app: App) -> None:
        app.get("/small", lambda res, req: res.end(b"x" * 99))
        app.get("/enough", lambda res, req: res.end(b"x" * 100))

    app = serve(configure, compression={"minimum_size": 100})
    with app.client() as client:
        small = client.get("/small", accept("gzip"))
        assert small.header("content-encoding") is small.header("vary") is None
        assert client.get("/enough", accept("gzip")).header("content-encoding") == "gzip"
        # A client that refuses identity gets a coding.
        assert client.get("/small", accept("gzip, identity;q=0")).header("content-encoding") == "gzip"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "deflate"},
        {"Cache-Control": "private, no-transform"},
        {"Content-Type": "image/png"},
        {"Content-Type": "text/event-stream"},
        {"Content-Range": "bytes 0-4499/9000"},
        {"Repr-Digest": "sha-256=:AA==:"},
    ],
)
def test_answers_that_are_left_alone(serve: Serve, headers: dict[str, str]) -> None:
    def handler(res: Any, req: Any) -> None:
        for name, value in headers.items():
            res.write_header(name, value)
        res.end(TEXT)

    app = serve(lambda app: app.get("/", handler), compression=True)
    with app.client() as client:
        answer = client.get("/", accept("gzip"))
        assert answer.body == TEXT
        assert answer.header("vary") is None
        for name, value in headers.items():
            assert answer.header(name) == value


@pytest.mark.parametrize("way", ["end", "write", "try_end", "empty"])
def test_identity_is_the_way_out(serve: Serve, way: str) -> None:
    def handler(res: Any, req: Any) -> None:
        res.write_header("Content-Encoding", "identity")
        if way == "end":
            res.end(TEXT)
        elif way == "write":
            res.write(TEXT).end(b"")
        elif way == "try_end":
            res.try_end(TEXT, len(TEXT))
        else:
            res.end_without_body()

    app = serve(lambda app: app.get("/", handler), compression=True)
    with app.client() as client:
        answer = client.get("/", accept("gzip"))
        assert answer.body == (b"" if way == "empty" else TEXT)
        assert answer.header("content-encoding") is answer.header("vary") is None


def test_statuses_without_a_whole_body(serve: Serve) -> None:
    def configure(app: App) -> None:
        app.get("/204", lambda res, req: res.write_status(204).end(TEXT))
        app.get("/206", lambda res, req: res.write_status(206).end(TEXT))
        app.get("/304", lambda res, req: res.write_status(304).write_header("ETag", '"a"').end_without_body())

    app = serve(configure, compression=True)
    with app.client() as client:
        assert client.get("/204", accept("gzip")).header("content-encoding") is None
        assert client.get("/206", accept("gzip")).body == TEXT
        # RFC 9110 15.4.5: the caching headers of the 200.
        answer = client.get("/304", accept("gzip"))
        assert answer.header("vary") == "Accept-Encoding"
        assert answer.header("content-encoding") is None


def test_a_declared_total_is_kept(serve: Serve) -> None:
    def declared(res: Any, req: Any) -> None:
        res.write_header("Content-Length", len(TEXT)).write(TEXT[:100]).end(TEXT[100:])

    def configure(app: App) -> None:
        app.get("/try_end", lambda res, req: res.try_end(TEXT, len(TEXT)))
        app.get("/declared", declared)

    app = serve(configure, compression=True)
    with app.client() as client:
        for path in ("/try_end", "/declared"):
            answer = client.get(path, accept("gzip"))
            assert answer.header("content-length") == str(len(TEXT))
            assert answer.body == TEXT


def test_what_does_not_get_smaller_is_sent_as_it_is(serve: Serve) -> None:
    body = os.urandom(2000)
    app = serve(
        lambda app: app.get("/", lambda res, req: res.send(body, "application/wasm")),
        compression={"minimum_size": 1},
    )
    with app.client() as client:
        answer = client.get("/", accept("gzip"))
        assert answer.header("content-encoding") is None
        assert answer.body == body
        assert answer.header("vary") == "Accept-Encoding"


def test_off_by_default(serve: Serve) -> None:
    def handler(res: Any, req: Any) -> None:
        res.write_header("Content-Encoding", "identity").end(TEXT)

    app = serve(lambda app: app.get("/", handler))
    with app.client() as client:
        answer = client.get("/", accept("gzip"))
        assert answer.body == TEXT
        assert answer.header("vary") is None
        assert answer.header("content-encoding") == "identity"


# ---- heads ----------------------------------------------------------------------------------------------------------


def test_vary_is_merged_and_etags_get_weak(serve: Serve) -> None:
    def handler(res: Any, req: Any) -> None:
        res.write_header("vary", "Origin").write_header("ETag", '"v1"').write_header("Accept-Ranges", "bytes")
        res.end(TEXT)

    app = serve(lambda app: app.get("/", handler), compression=True)
    with app.client() as client:
        answer = client.get("/", accept("gzip"))
        assert answer.header("vary") == "Origin, Accept-Encoding"
        assert answer.header("etag") == 'W/"v1"'
        assert answer.header("accept-ranges") is None
        bare = client.get("/")
        assert bare.header("vary") == "Origin, Accept-Encoding"
        assert bare.header("etag") == '"v1"'
        assert bare.header("accept-ranges") == "bytes"


def test_a_304_has_the_tag_that_its_200_would_have(serve: Serve) -> None:
    """RFC 9110 section 15.4.5: a cache takes a 304 for none of its responses if it has none with that tag."""

    def page(res: Any, req: Any) -> None:
        res.write_header("ETag", '"v1"')
        if (kind := req.get_query("type")) is not None:
            res.write_header("Content-Type", kind)
        if (req.get_header("if-none-match") or "").removeprefix("W/") in ('"v1"', "*", '"v0", W/"v1"'):
            res.write_status(304).end_without_body()
        else:
            res.end(TEXT)

    with serve(lambda app: app.get("/", page), compression=True).client() as client:
        for query, accepted, known, tag, varies in [
            ("", "gzip", 'W/"v1"', 'W/"v1"', True),
            ("", "gzip", '"v0", W/"v1"', 'W/"v1"', True),
            ("", "gzip", "*", 'W/"v1"', True),
            # The client's copy was not compressed: it was too small, or requested without a coding.
            ("", "gzip", '"v1"', '"v1"', True),
            ("", "identity", 'W/"v1"', '"v1"', True),
            ("?type=text/css", "gzip", 'W/"v1"', 'W/"v1"', True),
            ("?type=image/png", "gzip", 'W/"v1"', '"v1"', False),
        ]:
            for method in ("GET", "HEAD"):
                lines = (f"Accept-Encoding: {accepted}", f"If-None-Match: {known}")
                client.request(method, f"/{query}", *lines)
                answer = client.answer(method)
                assert (answer.status, answer.header("etag")) == (304, tag), (query, lines)
                assert answer.header("vary") == ("Accept-Encoding" if varies else None)
                assert answer.header("content-encoding") is None


def test_head_without_a_body_says_what_get_would(serve: Serve) -> None:
    """A length that a HEAD handler declares is that of a body that GET would get compressed."""

    def whole(res: Any, req: Any) -> None:
        res.write_header("ETag", '"v1"').write_header("Content-Type", req.get_query("type"))
        res.end(TEXT)

    def head(res: Any, req: Any) -> None:
        res.write_header("ETag", '"v1"').write_header("Content-Type", req.get_query("type"))
        res.write_header("Content-Length", len(TEXT)).end_without_body()

    def configure(app: App) -> None:
        app.get("/", whole)
        app.head("/", head)

    with serve(configure, compression=True).client() as client:
        for kind, accepted in [("text/css", "gzip"), ("image/png", "gzip"), ("text/css", "identity")]:
            answers = []
            for method in ("GET", "HEAD"):
                client.request(method, f"/?type={kind}", f"Accept-Encoding: {accepted}")
                answers.append(client.answer(method))
            for name in ("etag", "vary", "content-type", "content-encoding"):
                assert answers[0].header(name) == answers[1].header(name), (kind, accepted, name)
            assert answers[1].header("content-length") in (None, answers[0].header("content-length"))


# ---- bodies in pieces -----------------------------------------------------------------------------------------------


@each_lane
@each_encoding
def test_a_body_in_pieces(serve: Serve, lane: str, encoding: str) -> None:
    offsets: list[int] = []

    def handler(res: Any, req: Any) -> None:
        res.write_header("Content-Type", "text/plain")
        res.write("one ").write(b"two ")
        offsets.append(res.get_write_offset())
        res.end(TEXT)

    app = serve(lambda app: app.get("/", on(lane, handler)), compression=True, **options(lane))
    with app.client() as client:
        for _ in range(2):
            answer = client.get("/", accept(encoding))
            assert answer.header("content-encoding") == encoding
            assert answer.header("transfer-encoding") == "chunked"
            assert plain(answer) == b"one two " + TEXT
        assert offsets == [8, 8]
        assert client.get("/").body == b"one two " + TEXT


@each_encoding
def test_each_piece_can_be_read_when_it_is_written(serve: Serve, encoding: str) -> None:
    """The handler goes on only when the client has read the earlier output."""
    pieces = [b"x", b"", TEXT, bytes(100_000), b"ab" * 5000]
    turns = [threading.Event() for _ in pieces]

    async def handler(res: Any, req: Any) -> None:
        res.write_header("Content-Type", "text/plain")
        for piece, turn in zip(pieces, turns, strict=True):
            res.write(piece)
            await asyncio.to_thread(turn.wait, 20)
        res.end(b"")

    app = serve(lambda app: app.get("/", handler), compression=True)
    with app.client() as client:
        client.request("GET", "/", accept(encoding))
        head = client.until(b"\r\n\r\n")
        assert f"Content-Encoding: {encoding}".encode() in head
        decoder, read, written = Pieces(encoding), b"", b""
        for piece, turn in zip(pieces, turns, strict=True):
            written += piece
            while len(read) < len(written):
                size = int(client.until(b"\r\n"), 16)
                read += decoder.read(client.exactly(size))
                assert client.exactly(2) == b"\r\n"
            assert read == written
            turn.set()
        rest = b""
        while size := int(client.until(b"\r\n"), 16):
            rest += decoder.read(client.exactly(size))
            client.exactly(2)
        assert rest == b""


@pytest.mark.parametrize("end", ["end", "end_without_body", "end_none"])
def test_pieces_are_ended_by_each_end(serve: Serve, end: str) -> None:
    def handler(res: Any, req: Any) -> None:
        res.write(TEXT)
        if end == "end":
            res.end("")
        elif end == "end_none":
            res.end(None)
        else:
            res.end_without_body()

    app = serve(lambda app: app.get("/", handler), compression=True)
    with app.client() as client:
        for encoding in ENCODINGS:
            assert plain(client.get("/", accept(encoding))) == TEXT


def test_head_and_http_1_0_of_pieces(serve: Serve) -> None:
    app = serve(lambda app: app.get("/", lambda res, req: res.write(TEXT).end(TEXT)), compression=True)
    with app.client() as client:
        head = client.request("HEAD", "/", accept("gzip")).answer("HEAD")
        assert head.header("content-encoding") == "gzip"
        old = client.request("GET", "/", accept("gzip"), version="1.0").answer()
        assert old.header("transfer-encoding") is None
        assert plain(old) == TEXT * 2


def test_pieces_from_several_threads_are_one_body(serve: Serve) -> None:
    """In any order, each piece is whole and the body can be read."""

    async def handler(res: Any, req: Any) -> None:
        res.write(b"")
        writers = [
            asyncio.to_thread(lambda k=k: [res.write(b"%d" % k * 20_000) for _ in range(5)]) for k in range(4)
        ]
        await asyncio.gather(*writers)
        res.end(b"!")

    app = serve(lambda app: app.get("/", handler), compression=True)
    with app.client() as client:
        body = plain(client.get("/", accept("zstd")))
        assert sorted(body) == sorted(b"!" + b"".join(b"%d" % k * 100_000 for k in range(4)))
        runs = [body[at : at + 20_000] for at in range(0, 400_000, 20_000)]
        assert all(len(set(run)) == 1 for run in runs)


def test_an_answer_that_is_cut_has_no_end(serve: Serve) -> None:
    def handler(res: Any, req: Any) -> None:
        res.write(TEXT)
        raise RuntimeError("broken on purpose")

    app = serve(lambda app: app.get("/", handler), compression=True)
    with app.client() as client:
        client.request("GET", "/", accept("gzip"))
        assert not client.rest().endswith(b"0\r\n\r\n")


def test_a_client_that_leaves_takes_its_encoder_along(serve: Serve) -> None:
    kept: list[Any] = []
    gone = threading.Event()

    def handler(res: Any, req: Any) -> None:
        kept.append(res)
        res.on_aborted(lambda res: gone.set())
        res.write(TEXT)

    app = serve(lambda app: app.get("/", handler), compression=True)
    client = app.client()
    client.request("GET", "/", accept("gzip")).until(b"\r\n\r\n")
    client.reset()
    assert gone.wait(20)
    # Nothing happens any more, and nothing breaks.
    kept[0].write(TEXT).end(TEXT)
    with app.client() as other:
        assert other.get("/nothing").status == 404


@pytest.mark.alone
def test_many_streams_leave_no_memory_behind(serve: Serve) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    app = serve(lambda app: app.get("/", lambda res, req: res.write(TEXT).end(TEXT)), compression=True)
    with app.client() as client:
        for _ in range(100):
            client.get("/", accept("zstd"))
        before = resident()
        for _ in range(1000):
            client.get("/", accept("zstd"))
        # Each has an encoder of 300 KB.
        assert resident() - before < 60 * 1024 * 1024


# ---- constants ------------------------------------------------------------------------------------------------------


def test_constants_are_compressed_once(serve: Serve) -> None:
    def configure(app: App) -> None:
        app.constant("/", TEXT, "text/html", headers=[("ETag", '"c"')])
        app.constant("/small", b"small")
        app.constant("/as-is", TEXT, headers=[("Content-Encoding", "identity")])
        # A request that yields to a constant.
        app.get("/yield/:id", lambda res, req: req.set_yield(1))
        app.constant("/yield/*", TEXT)

    app = serve(configure, compression=True)
    with app.client() as client:
        for encoding in ENCODINGS:
            answer = client.get("/", accept(encoding))
            assert answer.header("content-encoding") == encoding
            assert answer.header("etag") == 'W/"c"'
            assert plain(answer) == TEXT
            assert plain(client.get("/yield/1", accept(encoding))) == TEXT
        assert client.get("/yield/1", accept("br")).header("content-encoding") == "br"
        bare = client.get("/")
        assert (bare.body, bare.header("vary"), bare.header("etag")) == (TEXT, "Accept-Encoding", '"c"')
        assert client.get("/small", accept("gzip")).header("vary") is None
        as_is = client.get("/as-is", accept("gzip"))
        assert as_is.body == TEXT
        assert as_is.header("content-encoding") is as_is.header("vary") is None


# ---- other clients --------------------------------------------------------------------------------------------------


def test_httpx(serve: Serve) -> None:
    app = serve(lambda app: app.get("/", lambda res, req: res.write(TEXT).end(TEXT)), compression=True)
    answer = httpx.get(f"http://127.0.0.1:{app.port}/")
    assert answer.headers["content-encoding"] in ENCODINGS
    assert answer.content == TEXT * 2


@pytest.mark.needs("curl")
@pytest.mark.parametrize("path", ["/whole", "/pieces"])
def test_curl(serve: Serve, path: str) -> None:
    def configure(app: App) -> None:
        app.get("/whole", lambda res, req: res.end(TEXT))
        app.get("/pieces", lambda res, req: res.write(TEXT).end(b""))

    app = serve(configure, compression=True)
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--compressed",
        "--include",
        f"http://127.0.0.1:{app.port}{path}",
    ]
    out = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    head, _, body = out.partition(b"\r\n\r\n")
    assert b"Content-Encoding: " in head
    assert body == TEXT


# ---- settings -------------------------------------------------------------------------------------------------------


def test_types_and_levels(serve: Serve) -> None:
    def configure(app: App) -> None:
        app.get("/csv", lambda res, req: res.send(TEXT, "text/csv"))
        app.get("/html", lambda res, req: res.send(TEXT, "text/html; charset=utf-8"))
        app.get("/events", lambda res, req: res.send(TEXT, "text/event-stream"))

    settings = Compression(encodings=["gzip", "br"], gzip_level=9, types=["text/csv", "text/event-stream"])
    app = serve(configure, compression=settings)
    with app.client() as client:
        assert client.get("/csv", accept("br, gzip, zstd")).header("content-encoding") == "gzip"
        assert client.get("/events", accept("gzip")).header("content-encoding") == "gzip"
        assert client.get("/html", accept("gzip")).header("content-encoding") is None


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            {"encodings": ["deflate"]},
            ValueError,
            "'deflate' is no encoding: expected some of 'br', 'zstd', 'gzip'",
        ),
        ({"encodings": []}, ValueError, "encodings must name at least one"),
        ({"encodings": "gzip"}, TypeError, "encodings must be a sequence of str, not 'gzip'"),
        ({"encodings": ["br", "br"]}, ValueError, "named twice"),
        ({"gzip_level": 10}, ValueError, "gzip_level must be a whole number from 1 to 9, not 10"),
        ({"br_level": "4"}, TypeError, "br_level must be an int, not '4'"),
        ({"zstd_level": 0}, ValueError, "zstd_level must be a whole number from 1 to 19, not 0"),
        ({"minimum_size": -1}, ValueError, "minimum_size must be a whole number from 0, not -1"),
        ({"minimum_size": True}, TypeError, "minimum_size must be an int, not True"),
        ({"types": ["*/*"]}, ValueError, r'"\*/\*" is no media type'),
        ({"level": 3}, ValueError, "unknown key 'level'"),
        ("gzip", TypeError, "must be a bool, a Compression or a dict of its fields, not 'gzip'"),
        (1, TypeError, "must be a bool"),
    ],
)
def test_settings_that_are_wrong(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        App(compression=value)


def test_false_is_off() -> None:
    for value in (False, None):
        App(compression=value).dispose()
