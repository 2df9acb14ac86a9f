"""Forms: ``Request.form`` and ``Request.multipart``, with what browsers and libraries send and with what attackers send.

Rows: A-RES-07 (the form on the response, which stays as it is), H-22; S#67, S#45 of users.md. RFC 7578
defines forms.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from socketify import App, ClientDisconnected, ContentTooLarge, HTTPError, UploadedFile
from socketify.multipart import safe_filename
from support import until
from support.client import Client

Serve = Callable[..., Any]

TYPE = "Content-Type: multipart/form-data; boundary=frontier"
URLENCODED = "Content-Type: application/x-www-form-urlencoded"


def part(head: str, body: bytes, *lines: str) -> bytes:
    """One part; ``head`` is the text after ``form-data``."""
    headers = "\r\n".join([f"Content-Disposition: form-data{head}", *lines, "", ""])
    return b"--frontier\r\n" + headers.encode() + body + b"\r\n"


END = b"--frontier--\r\n"


def field(name: str, value: str) -> bytes:
    return part(f'; name="{name}"', value.encode())


def upload(name: str, filename: str, body: bytes, kind: str = "application/octet-stream") -> bytes:
    return part(f'; name="{name}"; filename="{filename}"', body, f"Content-Type: {kind}")


async def show(res: Any, req: Any) -> None:
    """Sends everything in a form."""
    form = await req.form(**LIMITS.get(req.get_url(), {}))
    files = []
    for name, file in form.files.multi_items():
        assert isinstance(file, UploadedFile)
        data = await file.read()
        assert len(data) == file.size
        files.append([name, file.filename, file.raw_filename, file.content_type, data.decode("latin-1")])
    res.end({"fields": form.multi_items(), "files": files})


LIMITS: dict[str, dict[str, Any]] = {
    "/few-fields": {"max_fields": 2},
    "/few-files": {"max_files": 1},
    "/short-fields": {"max_field_size": 10},
    "/short-files": {"max_file_size": 10},
    "/short-lines": {"max_header_bytes": 80},
    "/latin": {"encoding": "latin-1"},
}


def configure(app: App) -> None:
    app.any("/*", show)


def post(client: Client, body: bytes, kind: str = TYPE, path: str = "/") -> Any:
    return client.request("POST", path, kind, body=body).answer()


def shown(client: Client, body: bytes, kind: str = TYPE, path: str = "/") -> Any:
    answer = post(client, body, kind, path)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


@pytest.fixture
def client(serve: Serve) -> Iterator[Client]:
    with serve(configure).client() as client:
        yield client


# ---- accepted forms -----------------------------------------------------------------------------------------------------


def test_form(client: Client) -> None:
    body = (
        field("a", "1")
        + upload("f", "x.txt", b"file", "Text/Plain; charset=utf-8")
        + field("a", "zwei ä")
        + END
    )
    assert shown(client, body) == {
        "fields": [["a", "1"], ["a", "zwei ä"]],
        "files": [["f", "x.txt", "x.txt", "text/plain", "file"]],
    }


def test_boundary_split_at_every_byte(serve: Serve) -> None:
    """Wherever the network cuts, the form is the same. The body holds all that looks like a boundary and is none."""
    tricky = b"\r\n--fronti\r\n--frontie\r\r\n-\r\n--\r\n\r\n--frontie--"
    body = field("a", "1") + upload("f", "x", tricky) + upload("g", "y", b"") + field("b", "\r\n") + END
    steps: queue.Queue[str] = queue.Queue()

    def watched(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            found = []
            async for one in req.multipart():
                data = b""
                async for chunk in one:
                    data += chunk
                found.append([one.name, one.filename, data.decode()])
            res.end({"parts": found})

        app.post("/", handler)

    expected = [["a", None, "1"], ["f", "x", tricky.decode()], ["g", "y", ""], ["b", None, "\r\n"]]
    with serve(watched, body_buffer=1 << 20).client() as client:
        client.socket.setsockopt(6, 1, 1)
        for cut in range(len(body) + 1):
            # In chunks, each of which the core gives on as it comes.
            client.send(
                f"POST / HTTP/1.1\r\nHost: h\r\n{TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            )
            for piece in filter(None, (body[:cut], body[cut:])):
                client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            answer = client.send(b"0\r\n\r\n").answer()
            assert json.loads(answer.body) == {"parts": expected}, f"cut at {cut}"
    assert steps.empty()


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_parser_is_fed_any_pieces(step: int) -> None:
    """The same without a network, where each piece is known to come alone."""
    from socketify.multipart import Multipart

    tricky = b"\r\n--fronti\r\n--frontie\r\r\n-\r\n--\r\n\r\n--frontie--"
    body = field("a", "1") + upload("f", "x", tricky) + upload("g", "y", b"") + END

    class Request:
        def get_header(self, name: str) -> str:
            return TYPE.partition(": ")[2]

    class Response:
        def __init__(self) -> None:
            self.pieces = [body[at : at + step] for at in range(0, len(body), step)]

        def whole(self) -> None:
            return None

        def piece(self) -> tuple[bytes, bool]:
            piece = self.pieces.pop(0)
            return piece, not self.pieces

    async def read() -> list[tuple[str, bytes]]:
        response: Any = Response()
        request: Any = Request()
        return [(one.name, await one.read()) async for one in Multipart(request, response)]

    assert asyncio.run(read()) == [("a", b"1"), ("f", tricky), ("g", b"")]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("photo.jpg", "photo.jpg"),
        ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
        ("/etc/passwd", "passwd"),
        ("../../../etc/passwd", "passwd"),
        ("..", ""),
        (".", ""),
        ("a/..", ""),
        ("..\\..", ""),
        ("folder/", ""),
        ("", ""),
        (" . ", ""),
        ("nul\0byte", "nulbyte"),
        ("line\r\nbreak", "linebreak"),
        (".\x00.", ""),
        ("grüße 你好 😀.txt", "grüße 你好 😀.txt"),
        (".bashrc", ".bashrc"),
    ],
)
def test_safe_filename(sent: str, expected: str) -> None:
    """Nothing that leads out of a folder, for the file names of any system."""
    assert safe_filename(sent) == expected


@pytest.mark.parametrize(
    ("head", "name", "raw", "safe"),
    [
        ('; name="f"; filename="a.txt"', "f", "a.txt", "a.txt"),
        ('; filename="a.txt"; name="f"', "f", "a.txt", "a.txt"),
        ("; name=f; filename=a.txt", "f", "a.txt", "a.txt"),
        ('; name="f"; filename="say %22hi%22.txt"', "f", 'say "hi".txt', 'say "hi".txt'),
        ('; name="f"; filename="say \\"hi\\".txt"', "f", 'say "hi".txt', 'say "hi".txt'),
        ('; name="a; filename=x"; filename="b;c.txt"', "a; filename=x", "b;c.txt", "b;c.txt"),
        ('; name="f"; filename="ä你.txt"', "f", "ä你.txt", "ä你.txt"),
        ('; name="f"; filename="../../x"', "f", "../../x", "x"),
        # RFC 7578 section 4.2: the plain name counts. Clients that send only the other kind exist.
        ('; name="f"; filename="plain"; filename*=UTF-8\'\'other', "f", "plain", "plain"),
        ("; name=\"f\"; filename*=UTF-8''%e2%82%ac%20rates.txt", "f", "€ rates.txt", "€ rates.txt"),
        ("; name=\"f\"; filename*=utf-8'en'..%2Fx", "f", "../x", "x"),
    ],
)
def test_names(client: Client, head: str, name: str, raw: str, safe: str) -> None:
    body = part(head, b"data", "Content-Type: text/plain") + END
    assert shown(client, body)["files"] == [[name, safe, raw, "text/plain", "data"]]


@pytest.mark.parametrize(
    "head", ["; name=\"a; filename*=UTF-8''x\"", '; name="filename"', '; name="f"; filenames="x"']
)
def test_what_only_looks_like_a_file(client: Client, head: str) -> None:
    found = shown(client, part(head, b"v") + END)
    assert found["files"] == []
    assert [value for _, value in found["fields"]] == ["v"]


def test_files_that_are_empty(client: Client) -> None:
    """A file of no bytes is a file; a file input in which nothing was chosen is none."""
    found = shown(client, upload("a", "empty.txt", b"") + upload("b", "", b"") + END)
    assert found == {"fields": [], "files": [["a", "empty.txt", "empty.txt", "application/octet-stream", ""]]}


def test_form_without_parts(client: Client) -> None:
    assert shown(client, END) == {"fields": [], "files": []}


def test_preamble_and_epilogue(client: Client) -> None:
    """RFC 2046 section 5.1.1: bytes around the parts are ignored."""
    body = b"This is multipart.\r\n" + field("a", "1") + b"--frontier--\r\nand this is the rest\r\n"
    assert shown(client, body)["fields"] == [["a", "1"]]


def test_quoted_boundary(client: Client) -> None:
    body = (field("a", "1") + END).replace(b"frontier", b"a=b c")
    assert shown(client, body, 'Content-Type: Multipart/Form-Data; charset=utf-8; BOUNDARY="a=b c"')[
        "fields"
    ] == [["a", "1"]]


def test_encodings_of_fields(client: Client) -> None:
    body = part('; name="a"', b"\xe4", "Content-Type: text/plain; charset=iso-8859-1") + END
    assert shown(client, body)["fields"] == [["a", "ä"]]
    assert shown(client, part('; name="a"', b"\xe4") + END, path="/latin")["fields"] == [["a", "ä"]]


def test_encoding_asked_for_is_that_of_parts_that_name_none(client: Client) -> None:
    """A type without a charset names none; neither does that of the whole form, which has no such parameter."""
    for lines in ((), ("Content-Type: text/plain",), ("Content-Type: text/plain; format=flowed",)):
        body = part('; name="a"', b"\xe4", *lines) + END
        assert shown(client, body, path="/latin")["fields"] == [["a", "ä"]]
        assert post(client, body).status == 400
        assert post(client, body, TYPE + "; charset=latin-1").status == 400
    named = part('; name="a"', "ä".encode(), "Content-Type: text/plain; charset=utf-8") + END
    assert shown(client, named, path="/latin")["fields"] == [["a", "ä"]]


def test_charset_field(client: Client) -> None:
    """RFC 7578 section 4.6: the field names the charset of those that name none, wherever it stands."""
    told = part('; name="_charset_"', b"iso-8859-1")
    fields = [
        part('; name="a"', b"\xe4"),
        part('; name="b"', "ü".encode(), "Content-Type: text/plain; charset=utf-8"),
    ]
    for order in ([told, *fields], [*fields, told]):
        found = shown(client, b"".join(order) + END)["fields"]
        assert sorted(found) == [["_charset_", "iso-8859-1"], ["a", "ä"], ["b", "ü"]]
    empty = part('; name="_charset_"', b"") + part('; name="a"', "ä".encode()) + END
    assert ["a", "ä"] in shown(client, empty)["fields"]
    unknown = part('; name="_charset_"', b"klingon") + part('; name="a"', b"a") + END
    assert post(client, unknown).status == 415


def test_urlencoded_is_utf_8(client: Client) -> None:
    """For any charset of the client, unless the handler sets one (URL standard); ``_charset_`` is a field
    like others."""
    for kind in (URLENCODED, URLENCODED + "; charset=iso-8859-1"):
        assert shown(client, b"a=%E4&_charset_=iso-8859-1", kind)["fields"] == [
            ["a", "\ufffd"],
            ["_charset_", "iso-8859-1"],
        ]
        assert shown(client, b"a=%E4&b=\xe4", kind, "/latin")["fields"] == [["a", "ä"], ["b", "ä"]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a=1&b=2&a=3", [["a", "1"], ["b", "2"], ["a", "3"]]),
        (b"a=&b", [["a", ""], ["b", ""]]),
        (b"n=gr%C3%BC%C3%9Fe+x%20y%2B&%C3%A4=1", [["n", "grüße x y+"], ["ä", "1"]]),
        (b"a=1;b=2", [["a", "1;b=2"]]),
        (b"bad=%ff%", [["bad", "\ufffd%"]]),
        (b"", []),
    ],
)
def test_urlencoded(client: Client, body: bytes, expected: Any) -> None:
    """The URL standard's parser: blank values stay, unlike in get_form_urlencoded (A-RES-07)."""
    assert shown(client, body, URLENCODED) == {"fields": expected, "files": []}
    assert shown(client, body, URLENCODED + "; charset=UTF-8")["fields"] == expected


def test_httpx(serve: Serve) -> None:
    """A client of another author: fields and files as it writes them, large ones too."""
    large = os.urandom(3 * 1024 * 1024)

    def site(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            async with req.form() as form:
                file = form.files["big"]
                res.end(
                    {
                        "fields": form.multi_items(),
                        "names": [
                            (name, one.filename, one.content_type) for name, one in form.files.multi_items()
                        ],
                        "size": file.size,
                        "sha": hashlib.sha256(await file.read()).hexdigest(),
                        "small": (await form.files["small"].read()).decode(),
                    }
                )

        app.post("/", handler)

    running = serve(site)
    with httpx.Client(trust_env=False) as client:
        answer = client.post(
            f"http://127.0.0.1:{running.port}/",
            data={"title": "Grüße 你", "tag": ["a", "b"]},
            files=[
                ("small", ('quo"te ä.txt', b"klein", "text/plain")),
                ("big", ("big.bin", large)),
            ],
        ).json()
    assert answer == {
        "fields": [["title", "Grüße 你"], ["tag", "a"], ["tag", "b"]],
        "names": [["small", 'quo"te ä.txt', "text/plain"], ["big", "big.bin", "application/octet-stream"]],
        "size": len(large),
        "sha": hashlib.sha256(large).hexdigest(),
        "small": "klein",
    }


# ---- the objects --------------------------------------------------------------------------------------------------------


def run(serve: Serve, body: bytes, check: Callable[[Any], Any], kind: str = TYPE) -> Any:
    """The result of ``await check(request)`` for a request with this body; its exceptions are raised here."""
    outcome: queue.Queue[tuple[bool, Any]] = queue.Queue()

    def site(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            try:
                outcome.put((True, await check(req)))
            except Exception as error:
                outcome.put((False, error))
            res.end("")

        app.post("/", handler)

    with serve(site).client() as client:
        client.request("POST", "/", kind, body=body).answer()
    fine, value = outcome.get(timeout=20)
    if not fine:
        raise value
    return value


def test_mapping(serve: Serve) -> None:
    async def check(req: Any) -> None:
        form = await req.form()
        assert dict(form) == {"a": "3", "b": "2"}
        assert (form["a"], form.get("c"), form.get("c", "none"), len(form)) == ("3", None, "none", 2)
        assert form.get_list("a") == ["1", "3"]
        assert form.get_list("c") == []
        assert list(form.items()) == [("a", "3"), ("b", "2")]
        assert "b" in form
        assert "c" not in form
        with pytest.raises(KeyError):
            form["c"]
        with pytest.raises(TypeError):
            form["a"] = "4"
        assert len(form.files) == 0

    run(serve, b"a=1&b=2&a=3", check, URLENCODED)


def test_read_twice(serve: Serve) -> None:
    """A second call, after a middleware for example, gets the same form. The bytes of an urlencoded one
    too."""

    async def check(req: Any) -> None:
        first = await req.form()
        assert await req.form() is first
        assert await req.body() == b"a=1"

    run(serve, b"a=1", check, URLENCODED)

    async def check_parts(req: Any) -> None:
        first = await req.form()
        async with req.form() as second:
            assert second is first
            assert await second.files["f"].read() == b"x"

    run(serve, upload("f", "f", b"x") + END, check_parts)


@pytest.mark.parametrize("size", [10, 1024 * 1024])
def test_file(serve: Serve, tmp_path: Path, size: int) -> None:
    """In memory and on disk alike."""
    data = os.urandom(size)

    async def check(req: Any) -> None:
        form = await req.form()
        file = form.files["f"]
        assert file.size == size
        assert await file.read(4) == data[:4]
        await file.seek(2)
        assert await file.read() == data[2:]
        assert await file.read() == b""
        await file.save(tmp_path / "saved")
        assert (tmp_path / "saved").read_bytes() == data
        file.file.seek(0)
        assert file.file.read() == data
        with pytest.raises(OSError, match="missing"):
            await file.save(tmp_path / "missing" / "x")
        form.close()
        with pytest.raises(ValueError, match="closed"):
            await file.read()

    run(serve, upload("f", "f", data) + END, check)


def open_files() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    return {name for name in found if "(deleted)" in name}


@pytest.mark.parametrize("way", ["async with", "with", "dropped", "failed"])
def test_files_are_closed(serve: Serve, way: str) -> None:
    """The file on disk is gone when the block ends, or the form is dropped, without the garbage collector."""
    body = upload("f", "f", bytes(1024 * 1024))
    before = open_files()
    during: set[str] = set()

    async def check(req: Any) -> None:
        if way == "async with":
            async with req.form() as form:
                during.update(open_files() - before)
        elif way == "with":
            with await req.form() as form:
                during.update(open_files() - before)
        else:
            form = await req.form()
            during.update(open_files() - before)
        del form

    gc.disable()
    try:
        if way == "failed":
            with pytest.raises(HTTPError):
                run(serve, body + b"--frontier\r\nbroken\r\n\r\n", check)
        else:
            run(serve, body + END, check)
            assert during
        until(lambda: not open_files() - before, "the file was closed")
    finally:
        gc.enable()


def test_parts(serve: Serve, tmp_path: Path) -> None:
    async def check(req: Any) -> None:
        parts = req.multipart()
        first = await anext(parts)
        assert (first.name, first.is_file, first.filename, first.content_type) == ("a", False, None, "")
        assert await first.text() == "ä"
        assert await first.read() == b""
        second = await anext(parts)
        assert (second.name, second.is_file, second.filename) == ("f", True, "f.bin")
        assert second.headers == {
            "content-disposition": 'form-data; name="f"; filename="f.bin"',
            "content-type": "application/octet-stream",
        }
        assert await second.save(tmp_path / "f") == second.size == 100_000
        skipped = await anext(parts)
        last = await anext(parts)
        with pytest.raises(RuntimeError, match="skipped"):
            await skipped.read()
        assert await last.read() == b"last"
        with pytest.raises(StopAsyncIteration):
            await anext(parts)
        with pytest.raises(StopAsyncIteration):
            await anext(parts)

    body = (
        field("a", "ä")
        + upload("f", "f.bin", bytes(100_000))
        + upload("s", "s", bytes(300_000))
        + field("l", "last")
    )
    run(serve, body + END, check)
    assert (tmp_path / "f").read_bytes() == bytes(100_000)


# ---- hostile input ------------------------------------------------------------------------------------------------------

HEADER = b'--frontier\r\nContent-Disposition: form-data; name="a"'

MALFORMED = {
    "empty": b"",
    "no boundary": b"hello",
    "another boundary": b'--other\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--other--\r\n',
    "no final boundary": field("a", "1"),
    "cut in a body": field("a", "1") + HEADER + b"\r\n\r\nhalf",
    "cut in a header": HEADER,
    "no disposition": b"--frontier\r\nContent-Type: text/plain\r\n\r\n1\r\n" + END,
    "wrong disposition": b'--frontier\r\nContent-Disposition: attachment; name="a"\r\n\r\n1\r\n' + END,
    "no colon": b"--frontier\r\nnonsense\r\n\r\n1\r\n" + END,
    "line feeds": HEADER.replace(b"\r\n", b"\n") + b"\n\n1\n--frontier--\n",
    "name with a blank": b"--frontier\r\nContent Disposition: form-data\r\n\r\n1\r\n" + END,
    "header not UTF-8": b'--frontier\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n' + END,
    "field not UTF-8": part('; name="a"', b"\xff") + END,
    "two lengths": part('; name="a"', b"1", "Content-Length: 1", "Content-Length: 1") + END,
    "wrong length": part('; name="a"', b"1", "Content-Length: 2") + END,
    "negative length": part('; name="a"', b"1", "Content-Length: -1") + END,
    "junk behind the boundary": b"--frontierjunk\r\n" + END,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(client: Client, caplog: Any, name: str) -> None:
    """A 400 that says why; nothing in the log; the connection serves on."""
    answer = post(client, MALFORMED[name])
    assert answer.status == 400
    assert answer.body
    assert shown(client, field("a", "1") + END)["fields"] == [["a", "1"]]
    assert not caplog.records


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("Content-Type: multipart/form-data", 400),
        ("Content-Type: multipart/form-data; boundary=", 400),
        ('Content-Type: multipart/form-data; boundary=""', 400),
        ("Content-Type: multipart/form-data; boundary=" + "x" * 300, 400),
        ("Content-Type: multipart/mixed; boundary=frontier", 415),
        ("Content-Type: application/json", 415),
        ("Content-Type: nonsense" + ';a="' * 10_000, 415),
        ("X-Nothing: 1", 415),
    ],
)
def test_types(client: Client, kind: str, status: int) -> None:
    assert post(client, field("a", "1") + END, kind).status == status


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", b"".join(field(str(number), "") for number in range(1001))),
        ("/", b"".join(upload(str(number), "f", b"") for number in range(101))),
        ("/few-fields", field("a", "1") * 3),
        ("/few-files", upload("a", "1", b"") * 2),
        ("/short-fields", field("a", "12345678901")),
        ("/short-files", upload("a", "1", bytes(11))),
        ("/short-lines", field("a" * 100, "1")),
        ("/", HEADER + b"\r\nX-Long: " + b"x" * 5000 + b"\r\n\r\n1\r\n"),
        ("/", HEADER + b"\r\nX-Endless: " + b"x" * 100_000),
        ("/", HEADER + b"\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(20)) + b"\r\n1\r\n"),
        ("/short-files", part('; name="f"; filename="f"', bytes(5), "Content-Length: 99999999999999")),
    ],
    ids=[
        "fields",
        "files",
        "2 fields",
        "1 file",
        "field",
        "file",
        "line",
        "long",
        "endless",
        "lines",
        "declared",
    ],
)
def test_limits(client: Client, caplog: Any, path: str, body: bytes) -> None:
    """Each limit is a 413; a length that a part only claims is one or a 400."""
    answer = post(client, body + END, path=path)
    assert answer.status in ((413, 400) if b"9999" in body else (413,)), answer.body
    assert not caplog.records


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/few-fields", b"a&b&c"),
        ("/short-fields", b"a=12345678901"),
        ("/short-fields", b"12345678901"),
        ("/", b"a&" * 1001),
        ("/short-fields", "a=äöüßéè".encode()),
        ("/short-fields", b"a=%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4"),
    ],
)
def test_limits_of_urlencoded(client: Client, path: str, body: bytes) -> None:
    assert post(client, body, URLENCODED, path).status == 413


def test_what_is_within_the_limits(client: Client) -> None:
    """They are met exactly, not short of it."""
    assert len(shown(client, field("a", "1") * 2 + END, path="/few-fields")["fields"]) == 2
    assert len(shown(client, upload("a", "1", b"") + END, path="/few-files")["files"]) == 1
    assert shown(client, field("a", "1234567890") + END, path="/short-fields")["fields"] == [
        ["a", "1234567890"]
    ]
    assert shown(client, upload("a", "1", bytes(10)) + END, path="/short-files")["files"]
    for body in (b"a&b", b"a&b&", b"&&a&&b"):
        assert len(shown(client, body, URLENCODED, "/few-fields")["fields"]) == 2
    assert shown(client, "a=%C3%A4öüßé".encode(), URLENCODED, "/short-fields")["fields"] == [["a", "äöüßé"]]


def test_whole_body_is_limited(serve: Serve) -> None:
    """max_body_size goes for forms as for all bodies."""
    running = serve(lambda app: app.post("/", show, max_body_size=10_000))
    with running.client() as client:
        assert post(client, upload("f", "f", bytes(20_000)) + END).status == 413


def test_failure_is_told_again(serve: Serve) -> None:
    """Nothing that follows an error means anything."""

    async def check(req: Any) -> None:
        parts = req.multipart(max_field_size=1)
        for _ in range(2):
            with pytest.raises(ContentTooLarge):
                await (await anext(parts)).read()

    run(serve, field("a", "12") + END, check)


@pytest.mark.parametrize(
    "limits", [{"max_fields": -1}, {"max_files": 1.5}, {"max_field_size": None}, {"max_file_size": True}]
)
def test_limits_that_are_none(serve: Serve, limits: dict[str, Any]) -> None:
    async def check(req: Any) -> None:
        for method in (req.form, req.multipart):
            with pytest.raises(ValueError, match=f"{next(iter(limits))} must be a whole number"):
                method(**limits)
            with pytest.raises(TypeError, match="max_feilds"):
                method(max_feilds=1)

    run(serve, END, check)


@pytest.mark.parametrize("way", ["form", "multipart"])
def test_client_that_leaves(serve: Serve, way: str) -> None:
    seen: queue.Queue[Any] = queue.Queue()

    def site(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            try:
                seen.put("reading")
                if way == "form":
                    await req.form()
                else:
                    async for one in req.multipart():
                        await one.read()
            except Exception as error:
                seen.put(error)

        app.post("/", handler)

    with serve(site).client() as client:
        head = f"POST / HTTP/1.1\r\nHost: h\r\n{TYPE}\r\nContent-Length: 1000\r\n\r\n"
        client.send(head.encode() + upload("f", "f", b"half"))
        assert seen.get(timeout=20) == "reading"
    assert isinstance(seen.get(timeout=20), ClientDisconnected)


# ---- memory -------------------------------------------------------------------------------------------------------------

MEASURE = """
import gc, resource
gc.disable()

async def handler(res, req):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = 0
    if sys.argv[1] == "form":
        async with req.form() as form:
            size = form.files["f"].size
    else:
        async for part in req.multipart():
            async for chunk in part:
                size += len(chunk)
    res.end({"size": size, "grown": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before})

app = App()
app.post("/", handler, max_body_size=10**10)
app.listen({"host": "127.0.0.1", "port": 0}, ready)
app.run()
"""


@pytest.mark.parametrize("way", ["form", "multipart"])
def test_memory(way: str) -> None:
    """20 MB pass through in memory that does not grow with them."""
    from support import Program

    size = 20 * 1024 * 1024
    with Program(MEASURE, way).listening() as program, program.client() as client:
        answer = post(client, upload("f", "f", bytes(size)) + END)
        found = json.loads(answer.body)
        assert found["size"] == size
        assert found["grown"] < 8 * 1024, "KiB of memory for a file that should be on disk, or nowhere"


def test_part_makes_the_client_wait(serve: Serve) -> None:
    """Until the handler asks for the next bytes of a part, the client cannot send them."""
    steps: queue.Queue[Any] = queue.Queue()
    go_on = asyncio.Event()
    size = 64 * 1024 * 1024

    def site(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            total = 0
            async for one in req.multipart():
                async for chunk in one:
                    if not total:
                        steps.put("begun")
                        await go_on.wait()
                    total += len(chunk)
            res.end(str(total))

        app.post("/", handler)

    running = serve(site)
    body = upload("f", "f", bytes(size)) + END
    with running.client() as client:
        client.send(f"POST / HTTP/1.1\r\nHost: h\r\n{TYPE}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        client.send(body[:1000])
        assert steps.get(timeout=20) == "begun"
        taken = 1000 + client.flood(body[1000:])
        assert taken < size
        running.app.loop.loop.call_soon_threadsafe(go_on.set)
        # The response can come only when everything has been sent.
        sender = threading.Thread(target=client.send, args=(body[taken:],))
        sender.start()
        assert client.answer().body == str(size).encode()
        sender.join()


def test_no_cycles(serve: Serve) -> None:
    """S#115: forms, parts and refusals leave nothing to the collector."""
    bodies = [field("a", "1") + upload("f", "f", b"x" * 1000) + END, MALFORMED["no final boundary"]]

    def site(app: App) -> None:
        async def parts(res: Any, req: Any) -> None:
            async for one in req.multipart():
                await one.read()
            res.end("")

        app.post("/form", show)
        app.post("/parts", parts)

    with serve(site).client() as client:
        for path in ("/form", "/parts"):
            for body in bodies:
                post(client, body, path=path)
        gc.collect()
        gc.disable()
        try:
            for path in ("/form", "/parts"):
                for body in bodies:
                    for _ in range(50):
                        post(client, body, path=path)
            # A few objects are anybody's: what each of 200 requests left would be hundreds.
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 100, f"{found} objects were garbage after 200 forms"


# ---- without the parser -------------------------------------------------------------------------------------------------


def test_package_that_is_missing(serve: Serve, caplog: Any, monkeypatch: Any) -> None:
    """The answer is a 500, and the log says what to install. Forms without files need nothing."""
    monkeypatch.setitem(sys.modules, "multipart", None)
    with serve(configure).client() as client:
        assert post(client, field("a", "1") + END).status == 500
        assert shown(client, b"a=1", URLENCODED)["fields"] == [["a", "1"]]
    until(lambda: "pip install 'socketify[multipart]'" in caplog.text, "the error is logged")


def test_nothing_is_imported_for_those_who_need_it_not() -> None:
    from support import Program

    source = """
    import socketify
    late = ("multipart", "socketify.forms", "socketify.multipart", "tempfile")
    say(",".join(name for name in late if name in sys.modules))
    socketify.Form, socketify.Part, socketify.EventStream
    """
    with Program(source) as program:
        assert program.word() == ""
        assert program.finish()[0] == 0
