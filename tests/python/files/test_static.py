"""Files: `app.static`, `sendfile` and `res.send_file`, over real sockets (E.1, E.2, I-C-35 to I-C-38)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from socketify import App, sendfile
from socketify.helpers import in_directory, static_route
from support.client import Answer, Client
from support.h2_client import H2Client
from support.running import Running

Serve = Callable[..., Running]

MODIFIED = 1_700_000_000
DATE = formatdate(MODIFIED, usegmt=True)
TEXT = b"0123456789" * 100
#: Far more than the limit for copying behind the head, and than one share of a thread.
LARGE = 5_000_011


def make(path: Path, content: bytes = TEXT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (MODIFIED, MODIFIED))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with something of everything, and a secret outside of it."""
    root = tmp_path / "public"
    make(root / "style.css")
    make(root / "a b.txt")
    make(root / "100%.txt")
    make(root / "ünï.txt")
    make(root / "empty.txt", b"")
    make(root / "sub" / "index.html", b"<p>inside</p>")
    make(root / "index.html", b"<p>home</p>")
    make(root / ".env", b"SECRET=1")
    make(root / ".git" / "config", b"secret")
    make(root / ".well-known" / "security.txt", b"Contact: us")
    make(tmp_path / "outside.txt", b"secret")
    make(tmp_path / "public2" / "x.txt", b"secret")
    (root / "out").symlink_to(tmp_path / "outside.txt")
    (root / "outdir").symlink_to(tmp_path / "public2")
    (root / "relative").symlink_to("style.css")
    (root / "absolute").symlink_to(root / "style.css")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    return root


def large(path: Path) -> bytes:
    content = os.urandom(LARGE)
    make(path, content)
    return content


@pytest.fixture
def site(serve: Serve, root: Path) -> Running:
    """Serves that directory at `/s`."""
    return serve(lambda app: app.static("/s", root))


def endless(path: Path) -> None:
    """A file that no buffer of the system takes whole; on the disk it is almost nothing."""
    make(path, b"")
    os.truncate(path, 64 * 1024 * 1024)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def until(condition: Callable[[], bool]) -> None:
    """Waits for what has no event to wait for."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def forget(path: Path) -> None:
    """Has the system drop the file from its memory, so that it must be read from the disk again."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# ---- headers of a file --------------------------------------------------------------------------------------------------


def test_head_and_body(site: Running) -> None:
    """E-SF-03, E-SF-05, E-SF-06: type, length, validators; no Content-Range on a 200, and nothing else."""
    with site.client() as client:
        answer = client.get("/s/style.css")
    assert answer.status_line == "HTTP/1.1 200 OK"
    assert answer.body == TEXT
    assert re.fullmatch('"3e8(-[0-9a-f]+){5}"', answer.header("etag") or "")
    assert [line for line in answer.lines if not line.startswith(("ETag", "Date", "Server"))] == [
        f"Last-Modified: {DATE}",
        "Accept-Ranges: bytes",
        "Content-Type: text/css",
        "Content-Length: 1000",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html"),
        ("a.JSON", "application/json"),
        ("a.webm", "video/webm"),
        ("a.png", "image/png"),
        ("a.tar", "application/x-tar"),
        ("a.unknown-thing", None),
        ("a", None),
        (".html", None),
    ],
)
def test_types(serve: Serve, tmp_path: Path, name: str, kind: str | None) -> None:
    """E-SF-05: the type from `mimetypes`."""
    make(tmp_path / name)

    async def one(res: Any, req: Any) -> None:
        await sendfile(res, req, tmp_path / name)

    def configure(app: App) -> None:
        app.static("/s", tmp_path, dotfiles=True)
        app.get("/one", one)

    with serve(configure).client() as client:
        assert client.get(f"/s/{name}").header("content-type") == kind
        assert client.get("/one").header("content-type") == kind


def test_types_of_the_application(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E-SF-05: types added to `mimetypes` before apply."""
    import mimetypes

    mimetypes.init()
    monkeypatch.setitem(mimetypes.types_map, ".thing", "application/x-thing")
    make(tmp_path / "a.thing")
    with serve(lambda app: app.static("/", tmp_path)).client() as client:
        assert client.get("/a.thing").header("content-type") == "application/x-thing"


CODED = {
    "gzip": "application/gzip",
    "compress": "application/x-compress",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "br": "application/x-brotli",
}


def test_types_of_compressed_files(serve: Serve, tmp_path: Path) -> None:
    """The type is that of the bytes: a stored compressed file is no JSON, and no tar (RFC 9110 section
    8.3)."""
    import mimetypes

    mimetypes.init()
    assert set(mimetypes.encodings_map.values()) <= set(CODED)
    expected = {
        f"a{inner}{extension}": (CODED[coding], None)
        for extension, coding in mimetypes.encodings_map.items()
        for inner in (".json", ".tar", ".svg", ".unknown-thing", "")
    }
    expected["a.tgz"] = ("application/gzip", None)
    expected["a.txz"] = ("application/x-xz", None)
    expected["a.tbz2"] = ("application/x-bzip2", None)
    # A picture that browsers are to show: the standard of SVG names this coding.
    expected["a.svgz"] = expected["b.SVGZ"] = ("image/svg+xml", "gzip")
    for name in expected:
        make(tmp_path / name)

    async def one(res: Any, req: Any) -> None:
        await sendfile(res, req, tmp_path / req.get_parameter(0))

    def configure(app: App) -> None:
        app.static("/s", tmp_path)
        app.get("/one/:name", one)

    with serve(configure).client() as client:
        for name, told in expected.items():
            for route in ("s", "one"):
                answer = client.get(f"/{route}/{name}")
                assert (answer.header("content-type"), answer.header("content-encoding")) == told, name
                assert answer.body == TEXT


def test_coding_of_a_type_of_ones_own(serve: Serve, tmp_path: Path) -> None:
    """The handler's headers for a compressed file win, and the rest is adapted."""
    make(tmp_path / "data.json.gz")
    make(tmp_path / "a.svgz")

    async def typed(res: Any, req: Any) -> None:
        res.write_header("Content-Type", "a/b")
        await res.send_file(tmp_path / req.get_parameter(0))

    async def coded(res: Any, req: Any) -> None:
        res.write_header("Content-Encoding", "gzip")
        await res.send_file(tmp_path / req.get_parameter(0))

    async def argument(res: Any, req: Any) -> None:
        await res.send_file(tmp_path / req.get_parameter(0), "c/d")

    def configure(app: App) -> None:
        app.get("/typed/:name", typed)
        app.get("/coded/:name", coded)
        app.get("/argument/:name", argument)

    with serve(configure).client() as client:
        for path, kind, coding in [
            ("/typed/data.json.gz", "a/b", None),
            ("/typed/a.svgz", "a/b", None),
            ("/coded/data.json.gz", "application/json", "gzip"),
            ("/coded/a.svgz", "image/svg+xml", "gzip"),
            ("/argument/data.json.gz", "c/d", None),
        ]:
            answer = client.get(path)
            assert (answer.header("content-type"), answer.header("content-encoding")) == (kind, coding), path


def test_compressed_file_beside_a_compressed_file(serve: Serve, tmp_path: Path) -> None:
    """Codings are listed in the order of their application; a sibling's own is its only one."""
    make(tmp_path / "a.svgz")
    make(tmp_path / "a.svgz.br", b"twice")
    make(tmp_path / "data.json")
    make(tmp_path / "data.json.gz", b"once")
    with serve(lambda app: app.static("/", tmp_path, precompressed=True)).client() as client:
        answer = client.get("/a.svgz", "Accept-Encoding: br")
        assert (answer.headers["content-encoding"], answer.header("content-type")) == (
            ["gzip", "br"],
            "image/svg+xml",
        )
        answer = client.get("/data.json", "Accept-Encoding: gzip")
        assert (answer.header("content-type"), answer.header("content-encoding")) == (
            "application/json",
            "gzip",
        )
        answer = client.get("/data.json.gz", "Accept-Encoding: gzip")
        assert (answer.header("content-type"), answer.header("content-encoding")) == (
            "application/gzip",
            None,
        )


def test_head_request(site: Running) -> None:
    """E-SF-17, E-ST-01: the head that GET would get, and no body."""
    with site.client() as client:
        head = client.request("HEAD", "/s/style.css", "Range: bytes=0-9").answer("HEAD")
        get = client.get("/s/style.css")
    assert head.status == 200
    drop = "Date"
    assert [line for line in head.lines if not line.startswith(drop)] == [
        line for line in get.lines if not line.startswith(drop)
    ]


def test_empty_file(site: Running) -> None:
    """E-SF-15, E-SF-13."""
    with site.client() as client:
        answer = client.get("/s/empty.txt")
        assert (answer.status, answer.header("content-length"), answer.body) == (200, "0", b"")
        answer = client.get("/s/empty.txt", "Range: bytes=0-")
        assert (answer.status, answer.header("content-range")) == (416, "bytes */0")


def test_cache_control(serve: Serve, root: Path) -> None:
    with serve(lambda app: app.static("/s", root, cache_control="max-age=60, immutable")).client() as client:
        answer = client.get("/s/style.css")
        assert answer.header("cache-control") == "max-age=60, immutable"
        etag = answer.header("etag")
        # RFC 9110 section 15.4.5: a 304 has it as well.
        answer = client.get("/s/style.css", f"If-None-Match: {etag}")
        assert (answer.status, answer.header("cache-control")) == (304, "max-age=60, immutable")


def test_precompressed(serve: Serve, root: Path) -> None:
    """A sibling of a file is sent in its place to clients that accept it (RFC 9110 section 12.5.3)."""
    make(root / "style.css.br", b"brotli")
    make(root / "style.css.gz", b"gzip....")
    make(root / "a b.txt.zst", b"zstd")

    def configure(app: App) -> None:
        app.static("/s", root, precompressed=True)
        app.static("/plain", root)

    with serve(configure).client() as client:
        for accepted, coding, body in [
            ("br, gzip", "br", b"brotli"),
            ("gzip", "gzip", b"gzip...."),
            ("gzip, br;q=0.5", "gzip", b"gzip...."),
            ("zstd", None, TEXT),
            ("zstd, gzip;q=0.1", "gzip", b"gzip...."),
            ("*", "br", b"brotli"),
            ("br;q=0", None, TEXT),
            ("identity, br;q=0.5", None, TEXT),
            ("nonsense;;", None, TEXT),
            ("", None, TEXT),
        ]:
            answer = client.get("/s/style.css", f"Accept-Encoding: {accepted}")
            assert (answer.header("content-encoding"), answer.body) == (coding, body), accepted
            assert answer.header("content-type") == "text/css"
            assert answer.header("vary") == "Accept-Encoding"
        answer = client.get("/s/style.css")
        assert (answer.header("content-encoding"), answer.header("vary")) == (None, "Accept-Encoding")
        encoded = client.get("/s/style.css", "Accept-Encoding: br").header("etag")
        assert encoded != answer.header("etag")
        answer = client.get("/s/style.css", "Accept-Encoding: br", f"If-None-Match: {encoded}")
        assert (answer.status, answer.header("vary")) == (304, "Accept-Encoding")
        answer = client.get("/s/style.css", "Accept-Encoding: br", "Range: bytes=1-2")
        assert (answer.status, answer.header("content-range"), answer.body) == (206, "bytes 1-2/6", b"ro")
        assert client.get("/s/a%20b.txt", "Accept-Encoding: zstd").body == b"zstd"
        # The file itself must be there, and its sibling is a file too.
        assert client.get("/s/style.css.gz").header("content-encoding") is None
        answer = client.get("/plain/style.css", "Accept-Encoding: br")
        assert (answer.body, answer.header("vary")) == (TEXT, None)


# ---- ranges and conditions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "body"),
    [
        ("bytes=0-9", 206, "bytes 0-9/1000", TEXT[:10]),
        ("bytes=995-", 206, "bytes 995-999/1000", TEXT[995:]),
        ("bytes=0-", 206, "bytes 0-999/1000", TEXT),
        ("bytes=990-5000", 206, "bytes 990-999/1000", TEXT[990:]),
        ("bytes=-10", 206, "bytes 990-999/1000", TEXT[990:]),
        ("bytes=-5000", 206, "bytes 0-999/1000", TEXT),
        ("Bytes = 5 - 5", 206, "bytes 5-5/1000", TEXT[5:6]),
        ("bytes=1000-", 416, "bytes */1000", b"Range Not Satisfiable"),
        ("bytes=-0", 416, "bytes */1000", b"Range Not Satisfiable"),
        ("bytes=" + "9" * 10_000 + "-", 416, "bytes */1000", b"Range Not Satisfiable"),
        ("bytes=9-5", 200, None, TEXT),
        ("bytes=a-b", 200, None, TEXT),
        ("bytes=0-,0-", 200, None, TEXT),
        ("lines=0-5", 200, None, TEXT),
        ("", 200, None, TEXT),
    ],
)
def test_ranges(site: Running, asked: str, status: int, content_range: str | None, body: bytes) -> None:
    """E-SF-06 to E-SF-13, I-C-35, I-C-36."""
    with site.client() as client:
        answer = client.get("/s/style.css", f"Range: {asked}")
    assert (answer.status, answer.header("content-range"), answer.body) == (status, content_range, body)
    assert answer.header("last-modified") == (None if status == 416 else DATE)


def parts(answer: Answer) -> list[tuple[list[str], bytes]]:
    """Headers and bodies of a multipart answer (RFC 2046 section 5.1)."""
    boundary = re.fullmatch(
        "multipart/byteranges; boundary=([0-9a-f]{32})", answer.header("content-type") or ""
    )
    assert boundary
    delimiter = b"--" + boundary[1].encode()
    assert answer.body.startswith(delimiter + b"\r\n")
    assert answer.body.endswith(b"\r\n" + delimiter + b"--\r\n")
    found = []
    for piece in answer.body[len(delimiter) + 2 : -len(delimiter) - 6].split(b"\r\n" + delimiter + b"\r\n"):
        head, _, body = piece.partition(b"\r\n\r\n")
        found.append((head.decode().split("\r\n"), body))
    return found


def test_several_ranges(site: Running) -> None:
    """RFC 9110 section 14.6: in the order that was asked for."""
    with site.client() as client:
        answer = client.get("/s/style.css", "Range: bytes=-5, 0-2,10-11, 5000-")
        assert answer.status == 206
        assert parts(answer) == [
            (["Content-Type: text/css", "Content-Range: bytes 995-999/1000"], TEXT[995:]),
            (["Content-Type: text/css", "Content-Range: bytes 0-2/1000"], TEXT[:3]),
            (["Content-Type: text/css", "Content-Range: bytes 10-11/1000"], TEXT[10:12]),
        ]
        # One of several that exists is one.
        answer = client.get("/s/style.css", "Range: bytes=0-2,5000-")
        assert (answer.status, answer.header("content-range"), answer.body) == (
            206,
            "bytes 0-2/1000",
            TEXT[:3],
        )
        assert client.get("/s/style.css", "Range: bytes=2000-,3000-").status == 416


def test_several_ranges_of_a_type_of_ones_own(serve: Serve, tmp_path: Path) -> None:
    """RFC 9110 section 15.3.7.2: the type of the response has the boundary of the parts; the parts have the
    handler's."""
    make(tmp_path / "video.bin")

    async def handle(res: Any, req: Any) -> None:
        for value in ("video/mp4", "video/other"):
            res.write_header("Content-Type", value)
        await sendfile(res, req, tmp_path / "video.bin")

    expected = [
        (
            ["Content-Type: video/mp4", f"Content-Range: bytes {start}-{start + 1}/1000"],
            TEXT[start : start + 2],
        )
        for start in (0, 5)
    ]
    running = serve(lambda app: app.get("/", handle))
    with running.client() as client:
        answer = client.get("/", "Range: bytes=0-1,5-6")
        assert answer.status == 206
        assert parts(answer) == expected
        answer = client.get("/", "Range: bytes=5-6")
        assert answer.headers["content-type"] == ["video/mp4", "video/other"]
    with H2Client(running.port) as h2:
        stream = h2.get("/", headers=[("range", "bytes=0-1,5-6")])
        assert stream.status == 206
        lines = [f"{name}: {value}" for name, value in stream.headers.items()]
        assert parts(Answer("HTTP/2 206", lines, bytes(stream.body))) == expected


def test_large_ranges(serve: Serve, tmp_path: Path) -> None:
    """Ranges that are sent without copying are exact to the byte."""
    content = large(tmp_path / "large")
    with serve(lambda app: app.static("/", tmp_path)).client() as client:
        assert client.get("/large").body == content
        assert client.get("/large", "Range: bytes=123-3999999").body == content[123:4_000_000]
        assert client.get("/large", "Range: bytes=-40000").body == content[-40000:]
        answer = client.get("/large", "Range: bytes=4000000-4999999,7-2000006")
        assert [body for _, body in parts(answer)] == [content[4_000_000:5_000_000], content[7:2_000_007]]


def test_conditions(site: Running) -> None:
    """E-SF-04 and RFC 9110 section 13.2.2."""
    with site.client() as client:
        etag = client.get("/s/style.css").header("etag")
        later, earlier = (formatdate(MODIFIED + offset, usegmt=True) for offset in (60, -60))
        for status, *lines in [
            (304, f"If-None-Match: {etag}"),
            (304, f'If-None-Match: "x", W/{etag}'),
            (304, "If-None-Match: *"),
            (200, 'If-None-Match: "x"', f"If-Modified-Since: {DATE}"),
            (304, f"If-Modified-Since: {DATE}"),
            (304, f"If-Modified-Since: {later}"),
            (200, f"If-Modified-Since: {earlier}"),
            (200, "If-Modified-Since: yesterday"),
            (412, 'If-Match: "x"'),
            (200, f"If-Match: {etag}"),
            (412, f"If-Unmodified-Since: {earlier}"),
            (206, "Range: bytes=0-9", f"If-Range: {etag}"),
            # A time that was set may be that of other content, of which a part is no part of this.
            (200, "Range: bytes=0-9", f"If-Range: {DATE}"),
            (200, "Range: bytes=0-9", 'If-Range: "x"'),
            (200, "Range: bytes=0-9", f"If-Range: {later}"),
        ]:
            answer = client.get("/s/style.css", *lines)
            assert answer.status == status, lines
            if status == 304:
                assert (answer.header("etag"), answer.header("content-type")) == (etag, None)


def renamed(path: Path, content: bytes, seconds: float) -> None:
    """Replaces a file as the page on files advises, with a time as builds and copies set it."""
    new = path.with_name("new")
    new.write_bytes(content)
    os.utime(new, (seconds, seconds))
    new.rename(path)


@pytest.mark.parametrize("seconds", [1, MODIFIED, -1])
def test_other_content_has_another_tag(serve: Serve, tmp_path: Path, seconds: int) -> None:
    """RFC 9110 section 8.8.1: a strong tag names one content, also where builds set the same time for each version."""
    path = tmp_path / "app.js"
    with serve(lambda app: app.static("/", tmp_path)).client() as client:
        seen = set()
        for version in range(5):
            renamed(path, b"version %d" % version, seconds)
            answer = client.get("/app.js")
            etag, modified = answer.header("etag"), answer.header("last-modified")
            assert answer.body == b"version %d" % version
            assert client.get("/app.js", f"If-None-Match: {etag}").status == 304
            assert client.get("/app.js", "Range: bytes=8-", f"If-Range: {etag}").status == 206
            assert client.get("/app.js", "Range: bytes=8-", f"If-Range: {modified}").status == 200
            for other in seen:
                assert client.get("/app.js", f"If-None-Match: {other}").status == 200
                assert client.get("/app.js", f"If-Match: {other}").status == 412
                assert client.get("/app.js", "Range: bytes=8-", f"If-Range: {other}").status == 200
            seen.add(etag)
        assert len(seen) == 5
        # Written in place, with the time it had before.
        path.write_bytes(b"version x")
        os.utime(path, (seconds, seconds))
        assert client.get("/app.js").header("etag") not in seen


def test_times_that_http_cannot_tell(serve: Serve, tmp_path: Path) -> None:
    """No date before 1970, which clients do not read; none in the future (RFC 9110 section 8.8.2.1)."""
    old, new = make(tmp_path / "old"), make(tmp_path / "new")
    os.utime(old, (-86400, -86400))
    os.utime(new, (2**33, 2**33))
    epoch = formatdate(0, usegmt=True)
    with serve(lambda app: app.static("/", tmp_path)).client() as client:
        answer = client.get("/old")
        assert answer.header("last-modified") is None
        assert client.get("/old", f"If-Modified-Since: {epoch}").status == 200
        assert client.get("/old", f"If-Unmodified-Since: {epoch}").status == 200
        assert client.get("/old", f"If-None-Match: {answer.header('etag')}").status == 304
        answer = client.get("/new")
        assert answer.header("last-modified") == answer.header("date")
        assert client.get("/new", f"If-Modified-Since: {answer.header('date')}").status == 200
        assert client.get("/new", f"If-None-Match: {answer.header('etag')}").status == 304


def test_a_time_that_nobody_has_set(serve: Serve, tmp_path: Path) -> None:
    """RFC 9110 section 13.1.5: a date does for a range, where no other content can have it."""
    (tmp_path / "file").write_bytes(TEXT)
    with serve(lambda app: app.static("/", tmp_path)).client() as client:
        modified = client.get("/file").header("last-modified")
        assert client.get("/file", "Range: bytes=0-9", f"If-Range: {modified}").status == 206


@pytest.mark.parametrize("weak", ["", "W/"])
def test_validators_of_ones_own(serve: Serve, tmp_path: Path, weak: str) -> None:
    """A client asks with the validators that it got, so the handler's own count."""
    make(tmp_path / "file")

    async def handle(res: Any, req: Any) -> None:
        res.write_header("ETag", f'{weak}"own"').write_header("Last-Modified", DATE)
        await res.send_file(tmp_path / "file")

    later, earlier = (formatdate(MODIFIED + offset, usegmt=True) for offset in (60, -60))
    with serve(lambda app: app.get("/", handle)).client() as client:
        os.utime(tmp_path / "file")
        for status, *lines in [
            (304, 'If-None-Match: "own"'),
            (304, 'If-None-Match: W/"own"'),
            (200, 'If-None-Match: "other"'),
            (412 if weak else 200, 'If-Match: "own"'),
            (200 if weak else 206, "Range: bytes=0-9", 'If-Range: "own"'),
            (200, "Range: bytes=0-9", 'If-Range: W/"own"'),
            (200, "Range: bytes=0-9", f"If-Range: {DATE}"),
            (304, f"If-Modified-Since: {DATE}"),
            (304, f"If-Modified-Since: {later}"),
            (200, f"If-Modified-Since: {earlier}"),
        ]:
            answer = client.get("/", *lines)
            assert answer.status == status, lines
            if status != 412:
                assert answer.header("etag") == f'{weak}"own"'


# ---- which file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "a%20b.txt",
        "100%25.txt",
        "100%.txt",
        "%c3%bcn%C3%AF.txt",
        "sub/index.html",
        "style.css?v=../../x",
        "relative",
        "absolute",
        ".well-known/security.txt",
    ],
)
def test_names(site: Running, name: str) -> None:
    """E-ST-02, E-ST-03, I-C-38."""
    with site.client() as client:
        assert client.get(f"/s/{name}").status == 200


@pytest.mark.parametrize(
    "name",
    [
        "",
        "sub",
        "sub/",
        "missing.txt",
        "style.css/",
        "style.css//",
        "style.css%2f",
        "/style.css",
        "//style.css",
        "sub//index.html",
        "sub/index.html/",
        "style.css/x",
        "..",
        "../outside.txt",
        "sub/../../outside.txt",
        "%2e%2e/outside.txt",
        "%2E%2E%2Foutside.txt",
        "..%2foutside.txt",
        "%252e%252e/outside.txt",
        "..%252foutside.txt",
        "..%c0%afoutside.txt",
        "..\\outside.txt",
        "/../outside.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "../public2/x.txt",
        "out",
        "outdir/x.txt",
        "loop",
        "pipe",
        "a%00b",
        "style.css%00",
        ".env",
        "%2eenv",
        ".git/config",
        "a" * 5000,
        "a/" * 2000,
    ],
)
def test_names_that_are_refused(site: Running, name: str) -> None:
    """E-ST-03, E-ST-04, I-C-37: a 404 with its length, and the connection goes on."""
    with site.client() as client:
        answer = client.get(f"/s/{name}")
        assert (answer.status, answer.header("content-length")) == (404, "9")
        assert b"secret" not in answer.body
        assert client.get("/s/style.css").body == TEXT


def test_dotfiles(serve: Serve, root: Path) -> None:
    with serve(lambda app: app.static("/s", root, dotfiles=True)).client() as client:
        assert client.get("/s/.env").body == b"SECRET=1"
        assert client.get("/s/.git/config").status == 200
        assert client.get("/s/../outside.txt").status == 404


def test_index(serve: Serve, root: Path) -> None:
    """E-ST-05: only when asked for; a directory's URL gets the slash that relative links need."""
    (root / "bare").mkdir()

    def configure(app: App) -> None:
        app.static("/s", root, index="index.html")
        app.static("/plain", root)

    with serve(configure).client() as client:
        answer = client.get("/s/")
        assert (answer.body, answer.header("content-type")) == (b"<p>home</p>", "text/html")
        assert client.get("/s/sub/").body == b"<p>inside</p>"
        answer = client.get("/s/sub")
        assert (answer.status, answer.header("location")) == (301, "./sub/")
        assert client.get("/s/sub?a=b&c").header("location") == "./sub/?a=b&c"
        answer = client.get("/s")
        assert (answer.status, answer.header("location")) == (301, "./s/")
        assert client.get("/plain").status == 404
        assert client.get("/s/index.html/").status == 404
        assert client.get("/s/sub/index.html/").status == 404
        assert client.get("/s/sub//").status == 404
        assert client.get("/s//sub").status == 404
        assert client.get("/s/style.css/").status == 404
        assert client.get("/s/bare/").status == 404
        assert client.get("/s/bare").status == 404
        assert client.get("/plain/").status == 404
        assert client.get("/plain/sub/").status == 404


@pytest.mark.parametrize("route", ["/s", "/s/", "s", "s/"])
def test_route(serve: Serve, root: Path, route: str) -> None:
    """E-ST-01, H-39: slashes at its ends do not count."""
    with serve(lambda app: app.static(route, root)).client() as client:
        assert client.get("/s/style.css").body == TEXT
        assert client.get("/style.css").status == 404


def test_route_with_segments_and_parameters(serve: Serve, root: Path) -> None:
    with serve(lambda app: app.static("/v1/:tenant/files", root)).client() as client:
        assert client.get("/v1/acme/files/style.css").body == TEXT
        assert client.get("/v1/files/style.css").status == 404


def test_other_routes(serve: Serve, root: Path) -> None:
    """E-ST-06, and missing files go to the application's routes, in any order of registration."""
    make(root / "page")

    def configure(app: App) -> None:
        app.get("/*", lambda res, req: res.end(f"get {req.get_url()}"))
        app.static("/", root)
        app.get("/", lambda res, req: res.end("home"))
        app.get("/page", lambda res, req: res.end("page"))
        app.post("/style.css", lambda res, req: res.end("posted"))
        app.any("/*", lambda res, req: res.end("any"))

    with serve(configure).client() as client:
        assert client.get("/").body == b"home"
        assert client.get("/page").body == b"page"
        assert client.get("/style.css").body == TEXT
        assert client.get("/nothing").body == b"get /nothing"
        assert client.request("POST", "/style.css", body=b"x").answer().body == b"posted"
        assert client.request("PUT", "/style.css", body=b"x").answer().body == b"any"
        assert client.request("HEAD", "/style.css").answer("HEAD").header("content-length") == "1000"


def test_what_guards_a_directory_guards_its_files(serve: Serve, root: Path) -> None:
    """A file has one URL: routes distinguish `/sub` from `//sub`, so files exist below one of them only."""

    def configure(app: App) -> None:
        app.any("/sub/*", lambda res, req: res.write_status(403).end("guarded"))
        app.static("/", root, index="index.html")

    with serve(configure).client() as client:
        assert client.get("/sub/index.html").status == 403
        assert client.get("/sub//index.html").status == 403
        for target in ("//sub/index.html", "//sub/", "//sub", "///sub/index.html"):
            assert client.get(target).status == 404, target
        assert client.get("/style.css").status == 200


def test_location_of_a_directory(serve: Serve, root: Path) -> None:
    """RFC 9110 section 10.2.2: a URI, for any request."""
    make(root / "ü [x]" / "index.html")
    with serve(lambda app: app.static("/s", root, index="index.html")).client() as client:
        for target, location in [
            ("/s/%c3%bc%20[x]", "./%c3%bc%20[x]/"),
            ("/s/%c3%bc%20[x]?q={|}%7c", "./%c3%bc%20[x]/?q=%7B%7C%7D%7c"),
        ]:
            answer = client.get(target)
            assert (answer.status, answer.header("location")) == (301, location)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_fallback(serve: Serve, root: Path, asynchronous: bool) -> None:
    """The page that a missing file gets, as applications of one page want it; a body that came with it is readable."""

    def plain(res: Any, req: Any) -> None:
        res.write_status(404).end(f"no {req.get_url()}")

    async def awaiting(res: Any, req: Any) -> None:
        body = await res.get_text()
        res.write_status(404).end(f"no {req.get_url()}{body}")

    def configure(app: App) -> None:
        app.static("/", root)
        app.any("/*", awaiting if asynchronous else plain)

    with serve(configure).client() as client:
        for _ in range(3):
            answer = client.request("GET", "/none", body=b"!").answer()
            assert (answer.status, answer.body) == (404, b"no /none!" if asynchronous else b"no /none")


def test_yield_to_files(serve: Serve, root: Path) -> None:
    """A handler that yields passes the request on to files, and they to the next."""

    def first(res: Any, req: Any) -> None:
        req.set_yield(True)

    def configure(app: App) -> None:
        app.get("/style.css", first)
        app.get("/none", first)
        app.static("/", root)
        app.any("/*", lambda res, req: res.end("last"))

    with serve(configure).client() as client:
        assert client.get("/style.css").body == TEXT
        assert client.get("/none").body == b"last"


def test_two_directories(serve: Serve, tmp_path: Path) -> None:
    """The more exact route first, then the other."""
    make(tmp_path / "a" / "one.txt", b"one")
    make(tmp_path / "b" / "s" / "two.txt", b"two")

    def configure(app: App) -> None:
        app.static("/", tmp_path / "b")
        app.static("/s", tmp_path / "a")

    with serve(configure).client() as client:
        assert client.get("/s/one.txt").body == b"one"
        assert client.get("/s/two.txt").body == b"two"
        assert client.get("/s/three.txt").status == 404


def test_files_that_come_and_go(serve: Serve, tmp_path: Path) -> None:
    """E-ST-08: nothing is remembered; a directory that comes later, or is replaced as deployments do, is served."""
    root = tmp_path / "current"
    app = serve(lambda app: app.static("/", root))
    with app.client() as client:
        assert client.get("/a.txt").status == 404
        make(root / "a.txt", b"first")
        assert client.get("/a.txt").body == b"first"
        make(root / "a.txt", b"changed")
        assert client.get("/a.txt").body == b"changed"
        make(tmp_path / "next" / "a.txt", b"next")
        root.rename(tmp_path / "old")
        (tmp_path / "next").rename(root)
        until(lambda: client.get("/a.txt").body == b"next")
        shutil.rmtree(root)
        assert client.get("/a.txt").status == 404


@pytest.mark.parametrize(
    ("register", "error", "words"),
    [
        (lambda app: app.static(b"/s", "."), TypeError, "b'/s'"),
        (lambda app: app.static("/s", None), TypeError, "None"),
        (lambda app: app.static("/s", ".", index="a/b"), ValueError, "'a/b'"),
        (lambda app: app.static("/s", ".", cache_control="a\r\nb"), ValueError, r"'a\\r\\nb'"),
    ],
)
def test_mistakes(register: Callable[[App], object], error: type[Exception], words: str) -> None:
    app = App()
    with pytest.raises(error, match=re.escape(words) if "\\" not in words else words):
        register(app)
    app.dispose()


def test_static_route(serve: Serve, root: Path) -> None:
    """E-MW-13: the helper under its old name."""
    with serve(lambda app: static_route(app, "/s", str(root))).client() as client:
        assert client.get("/s/style.css").body == TEXT


def test_in_directory(tmp_path: Path) -> None:
    """E-ST-03."""
    assert in_directory(tmp_path / "x", tmp_path)
    assert in_directory(os.path.join(tmp_path, "x", "..", "y"), str(tmp_path))
    assert not in_directory(tmp_path, tmp_path)
    assert not in_directory(str(tmp_path) + "x", tmp_path)
    assert not in_directory(tmp_path / ".." / "x", tmp_path)
    assert in_directory("/etc/passwd", "/")


# ---- sending ----------------------------------------------------------------------------------------------------------


def one_file(path: Path) -> Callable[[App], None]:
    """The same file by all ways: `/static`, a coroutine, and from a plain handler."""

    async def awaiting(res: Any, req: Any) -> None:
        await sendfile(res, req, path)

    def plain(res: Any, req: Any) -> None:
        res.grab_aborted_handler()
        res.run_async(sendfile(res, req, path))

    def configure(app: App) -> None:
        app.static("/static", path.parent)
        app.get("/async", awaiting)
        app.get("/plain", plain)

    return configure


WAYS = ["/static/file", "/async", "/plain"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "size", [0, 1, 4096, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 512 * 1024, 1024 * 1024 + 5]
)
def test_sizes(serve: Serve, tmp_path: Path, way: str, size: int) -> None:
    """Around every bound of the sender, in a pipeline with others."""
    content = os.urandom(size)
    make(tmp_path / "file", content)
    with serve(one_file(tmp_path / "file")).client() as client:
        client.request("GET", way).request("GET", "/none").request("GET", way).request("HEAD", way).request(
            "GET", way
        )
        assert client.answer().body == content
        assert client.answer().status == 404
        assert client.answer().body == content
        assert client.answer("HEAD").header("content-length") == str(size)
        assert client.answer().body == content


@pytest.mark.parametrize("way", WAYS)
def test_not_in_memory(serve: Serve, tmp_path: Path, way: str) -> None:
    """Data from the disk is read on another thread, and is complete."""
    content = large(tmp_path / "file")
    with serve(one_file(tmp_path / "file")).client() as client:
        for _ in range(3):
            forget(tmp_path / "file")
            assert client.get(way).body == content
            forget(tmp_path / "file")
            assert client.get(way, "Range: bytes=2000000-2000009").body == content[2_000_000:2_000_010]


@pytest.mark.parametrize("way", WAYS)
def test_slow_reader(serve: Serve, tmp_path: Path, way: str) -> None:
    """E-SF-14: at the pace of the client, while others are served."""
    content = large(tmp_path / "file")
    app = serve(one_file(tmp_path / "file"))
    with app.client(receive_buffer=4096) as slow, app.client() as other:
        slow.request("GET", way)
        head = slow.until(b"\r\n\r\n")
        assert b"Content-Length: 5000011\r\n" in head
        assert other.get(way).body == content
        assert slow.exactly(LARGE) == content
        assert slow.get("/none").status == 404


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.alone
def test_file_that_shrinks(serve: Serve, tmp_path: Path, way: str) -> None:
    """E-SF-19: the promised length cannot be kept, so the connection is cut; it never hangs."""
    content = large(tmp_path / "file")
    app = serve(one_file(tmp_path / "file"))
    with app.client() as client:
        # The directory itself is opened at its first use.
        assert client.get("/static/none").status == 404
    until(lambda: app.app._server.connection_count() == 0)
    before = descriptors()
    with app.client(receive_buffer=4096) as client:
        client.request("GET", way).until(b"\r\n\r\n")
        os.truncate(tmp_path / "file", 100_000)
        rest = client.rest()
        # The bytes sent before are right.
        assert len(rest) < LARGE
        assert content.startswith(rest[:100_000])
    until(lambda: descriptors() <= before)


@pytest.mark.parametrize("way", WAYS)
def test_file_that_grows(serve: Serve, tmp_path: Path, way: str) -> None:
    content = large(tmp_path / "file")
    with serve(one_file(tmp_path / "file")).client(receive_buffer=4096) as client:
        client.request("GET", way).until(b"\r\n\r\n")
        with (tmp_path / "file").open("ab") as file:
            file.write(b"more" * 1000)
        assert client.exactly(LARGE) == content
        assert client.get("/none").status == 404


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("leave", [Client.reset, Client.close])
@pytest.mark.alone
def test_client_that_leaves(serve: Serve, tmp_path: Path, way: str, leave: Callable[[Client], None]) -> None:
    """Nothing stays open behind a client that has gone."""
    endless(tmp_path / "file")
    app = serve(one_file(tmp_path / "file"))
    with app.client() as client:
        # The directory itself is opened at its first use.
        assert client.get("/static/none").status == 404
    until(lambda: app.app._server.connection_count() == 0)
    before = descriptors()
    for _ in range(10):
        client = app.client(receive_buffer=4096)
        client.request("GET", way).until(b"\r\n\r\n")
        leave(client)
    until(lambda: descriptors() <= before)


def test_half_closed(serve: Serve, tmp_path: Path) -> None:
    """B-HT-20: a client that says that it will send no more still gets all of it."""
    content = large(tmp_path / "file")
    app = serve(one_file(tmp_path / "file"))
    for way in WAYS:
        with app.client(receive_buffer=4096) as client:
            client.request("GET", way).half_close()
            assert client.answer().body == content
            assert client.is_closed()


def test_connection_close(serve: Serve, tmp_path: Path) -> None:
    content = large(tmp_path / "file")
    app = serve(one_file(tmp_path / "file"))
    for way in WAYS:
        with app.client() as client:
            client.request("GET", way, "Connection: close")
            assert client.answer().body == content
            assert client.is_closed()
        with app.client() as client:
            client.request("GET", way, version="1.0")
            assert client.answer().body == content
            assert client.is_closed()


def test_unix_socket(serve: Serve, tmp_path: Path) -> None:
    content = large(tmp_path / "file")
    path = str(tmp_path / "sock")
    serve(one_file(tmp_path / "file"), listen=path and {"domain": path})
    with Client(path=path) as client:
        for way in WAYS:
            assert client.get(way).body == content


def test_many_at_once(serve: Serve, tmp_path: Path) -> None:
    content = large(tmp_path / "file")
    app = serve(one_file(tmp_path / "file"))
    wrong: list[int] = []

    def download(number: int) -> None:
        with app.client() as client:
            for way in WAYS:
                if client.get(way).body != content:
                    wrong.append(number)

    threads = [threading.Thread(target=download, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_without_python(serve: Serve, root: Path) -> None:
    """design.md, threads: a handler that keeps the turn keeps no file from anybody."""
    entered, leave = threading.Event(), threading.Event()

    def stay(res: Any, req: Any) -> None:
        entered.set()
        leave.wait(20)
        res.end("stayed")

    def configure(app: App) -> None:
        app.get("/stay", stay)
        app.static("/s", root)

    app = serve(configure)
    with app.client() as held, app.client() as client:
        held.request("GET", "/stay")
        assert entered.wait(20)
        assert client.get("/s/style.css").body == TEXT
        leave.set()
        assert held.answer().body == b"stayed"


@pytest.mark.parametrize("way", WAYS)
def test_shutdown(serve: Serve, tmp_path: Path, way: str) -> None:
    """D-R-05: output in progress at the end still arrives."""
    content = large(tmp_path / "file")
    app = serve(one_file(tmp_path / "file"))
    with app.client(receive_buffer=4096) as client:
        client.request("GET", way).until(b"\r\n\r\n")
        app.app.close()
        assert client.exactly(LARGE) == content
        assert client.is_closed()
    app.join()


# ---- sendfile in a handler ----------------------------------------------------------------------------------------------


def handling(serve: Serve, handler: Callable[..., Any]) -> Client:
    return serve(lambda app: app.any("/*", handler)).client()


@pytest.mark.parametrize("name", ["missing", "directory", "pipe", "nul\0name", "directory/../missing"])
def test_sendfile_of_no_file(serve: Serve, tmp_path: Path, name: str) -> None:
    """E-SF-02, E-SF-16."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")

    async def handle(res: Any, req: Any) -> None:
        await sendfile(res, req, f"{tmp_path}/{name}")

    with handling(serve, handle) as client:
        for _ in range(2):
            answer = client.get()
            assert (answer.status, answer.body) == (404, b"Not Found")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_sendfile_that_may_not_be_read(serve: Serve, tmp_path: Path) -> None:
    """E-SF-16."""
    make(tmp_path / "file").chmod(0)

    async def handle(res: Any, req: Any) -> None:
        await sendfile(res, req, tmp_path / "file")

    with handling(serve, handle) as client:
        assert client.get().status == 403


def test_sendfile_gives_none_when_the_file_has_left(serve: Serve, tmp_path: Path) -> None:
    """E-SF-18."""
    content = large(tmp_path / "file")
    results: list[Any] = []
    done = threading.Event()

    async def handle(res: Any, req: Any) -> None:
        results.append(await sendfile(res, req, tmp_path / "file"))
        results.append(res.has_responded())
        res.end("ignored")
        done.set()

    with handling(serve, handle) as client:
        client.request()
        client.until(b"\r\n\r\n")
        assert client.exactly(LARGE) == content
        assert done.wait(20)
        assert results == [None, True]
        assert client.get("/", "Range: bytes=0-0").body == content[:1]


def test_sendfile_of_a_client_that_leaves(serve: Serve, tmp_path: Path) -> None:
    """E-SF-18: it ends, and the response gives the reason."""
    endless(tmp_path / "file")
    aborted: list[bool] = []
    done = threading.Event()

    async def handle(res: Any, req: Any) -> None:
        await sendfile(res, req, tmp_path / "file")
        aborted.append(res.aborted)
        done.set()

    app = serve(lambda app: app.any("/*", handle))
    client = app.client(receive_buffer=4096)
    client.request().until(b"\r\n\r\n")
    client.reset()
    assert done.wait(20)
    assert aborted == [True]


def test_sendfile_with_a_status_and_headers(serve: Serve, tmp_path: Path) -> None:
    """Headers written before go out with it; conditions and ranges are about a 200 (RFC 9110 section
    13.2.1)."""
    make(tmp_path / "404.html")

    async def handle(res: Any, req: Any) -> None:
        res.write_status(404).write_header("X-Page", "lost").write_header("Content-Type", "text/x-own")
        res.set_cookie("a", "b")
        await sendfile(res, req, tmp_path / "404.html")

    with handling(serve, handle) as client:
        answer = client.get("/", "Range: bytes=0-1", "If-None-Match: *")
    assert (answer.status, answer.body) == (404, TEXT)
    assert answer.header("x-page") == "lost"
    assert answer.header("content-type") == "text/x-own"
    assert answer.header("set-cookie") == "a=b"


@pytest.mark.parametrize("status", [200, "200 OK"])
def test_sendfile_after_an_explicit_200(serve: Serve, tmp_path: Path, status: Any) -> None:
    """A written 200 is replaced if only a part is sent, or nothing."""
    make(tmp_path / "file")

    async def handle(res: Any, req: Any) -> None:
        res.write_status(status)
        await sendfile(res, req, tmp_path / req.get_parameter(0))

    with serve(lambda app: app.get("/:name", handle)).client() as client:
        answer = client.get("/file")
        assert (answer.status, answer.body) == (200, TEXT)
        answer = client.get("/file", "Range: bytes=0-1")
        assert (answer.status_line, answer.body) == ("HTTP/1.1 206 Partial Content", TEXT[:2])
        assert client.get("/file", f"If-Modified-Since: {DATE}").status == 304
        assert client.get("/file", "Range: bytes=5000-").status == 416
        assert client.get("/file", 'If-Match: "x"').status == 412
        assert client.get("/missing").status == 404


def test_headers_of_ones_own(serve: Serve, tmp_path: Path) -> None:
    """Written headers count, once; and a file's headers are not sent without the file."""
    make(tmp_path / "file")

    async def handle(res: Any, req: Any) -> None:
        res.write_header("ETag", '"own"').write_header("Last-Modified", "never").write_header(
            "Content-Type", "a/b"
        )
        await res.send_file(tmp_path / req.get_parameter(0))

    with serve(lambda app: app.get("/:name", handle)).client() as client:
        answer = client.get("/file")
        assert (answer.header("etag"), answer.header("last-modified")) == ('"own"', "never")
        assert answer.header("content-type") == "a/b"
        answer = client.get("/missing")
        assert (answer.header("etag"), answer.header("content-type")) == (None, "text/plain")
        answer = client.get("/file", "Range: bytes=5000-")
        assert (answer.header("etag"), answer.header("content-range")) == (None, "bytes */1000")


@pytest.mark.parametrize("cold", [False, True])
def test_the_answer_is_the_files(serve: Serve, tmp_path: Path, cold: bool) -> None:
    """From the call on, whether the disk has to be waited for or not: other calls on the response do
    nothing."""
    content = large(tmp_path / "file")
    results: list[Any] = []
    done = threading.Event()

    async def handle(res: Any, req: Any) -> None:
        first = res.send_file(tmp_path / "file")
        second = res.send_file(tmp_path / "other")
        res.write("ignored")
        res.write_header("X-Late", "1")
        res.end("ignored")
        await res.drain()
        await asyncio.gather(first, second)
        results.append(res.aborted)
        done.set()

    app = serve(lambda app: app.get("/", handle))
    for _ in range(5):
        with app.client(receive_buffer=4096) as client:
            if cold:
                forget(tmp_path / "file")
            done.clear()
            answer = client.get()
            assert (answer.status, answer.header("x-late"), answer.body) == (200, None, content)
            assert done.wait(20)
            assert client.get().status == 200
    assert set(results) == {False}


@pytest.mark.parametrize("lost", [False, True])
def test_callbacks_while_a_file_leaves(serve: Serve, tmp_path: Path, lost: bool) -> None:
    """`on_aborted` is called for a client that is lost on the way, and for no other."""
    endless(tmp_path / "file")
    aborted: list[Any] = []
    sent = threading.Event()

    async def handle(res: Any, req: Any) -> None:
        res.on_aborted(aborted.append)
        future = res.send_file(tmp_path / "file")
        res.end("ignored")
        await future
        sent.set()

    app = serve(lambda app: app.get("/", handle))
    client = app.client(receive_buffer=4096 if lost else None)
    client.request().until(b"\r\n\r\n")
    if lost:
        client.reset()
    else:
        client.exactly(64 * 1024 * 1024)
        client.close()
    assert sent.wait(20)
    until(lambda: app.app._server.connection_count() == 0)
    # It is called on another thread than the one that signalled.
    if lost:
        until(lambda: len(aborted) == 1)
    app.stop()
    assert len(aborted) == (1 if lost else 0)


def test_a_download_is_ended(serve: Serve, tmp_path: Path) -> None:
    """A-RES-13: `close` ends it, also while it leaves."""
    endless(tmp_path / "file")
    kept: list[Any] = []

    async def handle(res: Any, req: Any) -> None:
        kept.append(res)
        await res.send_file(tmp_path / "file")

    app = serve(lambda app: app.get("/", handle))
    with app.client(receive_buffer=4096) as client:
        client.request().until(b"\r\n\r\n")
        kept[0].close()
        assert len(client.rest()) < 64 * 1024 * 1024


@pytest.mark.parametrize("last", ["plain", "async"])
@pytest.mark.parametrize("cold", [False, True])
def test_yield_through_files(serve: Serve, tmp_path: Path, last: str, cold: bool) -> None:
    """From a coroutine, past a directory without the file, to the next handler: on its own thread, with the same objects."""
    make(tmp_path / "root" / "a.txt")
    seen: list[Any] = []

    async def first(res: Any, req: Any) -> None:
        req.note = "from the first"
        seen.append(threading.get_ident())
        req.set_yield(True)

    def plain(res: Any, req: Any) -> None:
        seen.append(threading.get_ident())
        res.end(getattr(req, "note", "nothing"))

    async def awaiting(res: Any, req: Any) -> None:
        plain(res, req)

    def configure(app: App) -> None:
        app.get("/:name", first)
        app.static("/", tmp_path / "root")
        app.any("/*", awaiting if last == "async" else plain)

    app = serve(configure)
    for number in range(5):
        # A name that was never asked for is nowhere in memory, unless it was looked for just before.
        name = f"/none{number if cold else ''}"
        with app.client() as client:
            seen.clear()
            assert client.get(name).body == b"from the first"
            assert (seen[0] == seen[1]) is (last == "async")
            assert client.get("/a.txt").body == TEXT


def test_send_file(serve: Serve, tmp_path: Path) -> None:
    """The method itself: a media type of one's own, any kind of path, any thread, and from a plain handler."""
    make(tmp_path / "file")
    finished = threading.Event()

    async def typed(res: Any, req: Any) -> None:
        await res.send_file(str(tmp_path / "file"), "text/x-own")

    def plain(res: Any, req: Any) -> None:
        res.send_file(tmp_path / "file")

    def elsewhere(res: Any, req: Any) -> None:
        def run() -> None:
            res.send_file(tmp_path / "file")
            finished.set()

        threading.Thread(target=run).start()

    def configure(app: App) -> None:
        app.get("/typed", typed)
        app.get("/plain", plain)
        app.get("/elsewhere", elsewhere)

    with serve(configure).client() as client:
        answer = client.get("/typed")
        assert (answer.body, answer.header("content-type")) == (TEXT, "text/x-own")
        assert client.get("/plain").body == TEXT
        assert client.get("/elsewhere").body == TEXT
        assert finished.wait(20)


def test_sendfile_after_the_answer_has_begun(serve: Serve, tmp_path: Path) -> None:
    make(tmp_path / "file")
    errors: list[str] = []

    async def handle(res: Any, req: Any) -> None:
        res.write("begun ")
        try:
            await sendfile(res, req, tmp_path / "file")
        except RuntimeError as error:
            errors.append(str(error))
        res.end("ended")

    with handling(serve, handle) as client:
        assert client.get().body == b"begun ended"
    assert errors == ["a file cannot be sent: the answer has begun"]


def test_sendfile_is_cancelled(serve: Serve, tmp_path: Path) -> None:
    """A task that stops to wait does not stop the file."""
    content = large(tmp_path / "file")

    async def handle(res: Any, req: Any) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(sendfile(res, req, tmp_path / "file"), 0.01)

    with serve(lambda app: app.any("/*", handle)).client(receive_buffer=4096) as client:
        client.request().until(b"\r\n\r\n")
        assert client.exactly(LARGE) == content
        assert client.get("/", "Range: bytes=0-0").body == content[:1]
