"""The cost of hostile bodies and heads: limits are checked before parsing, and work that is
much work leaves the loop to others.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import pytest

from socketify import ContentTooLarge, HTTPError
from socketify.cookies import get_cookie, get_cookies
from socketify.form_limits import Limits
from socketify.multipart import Multipart
from socketify.strict_bodies import decode
from socketify.urlencoded import decode_fields, is_text
from support import Program

pytestmark = pytest.mark.alone

Serve = Callable[..., Any]

URLENCODED = "Content-Type: application/x-www-form-urlencoded"

SITE = """
app = App()

async def form(res, req):
    await req.form()
    res.end("read")

async def urlencoded(res, req):
    res.end(repr(await res.get_form_urlencoded()))

async def ping(res, req):
    res.end("pong")

app.post("/form", form)
app.post("/urlencoded", urlencoded)
app.get("/ping", ping)
app.listen({"port": 0, "host": "127.0.0.1"}, ready)
app.run()
"""

SIZE = 24_000_000

HOSTILE = {
    "one field": b"a=" + b"%41" * (SIZE // 3),
    "one name": b"%41" * (SIZE // 3),
    "many fields": b"a&" * (SIZE // 2),
    "many names": b"".join(b"%x=&" % number for number in range(SIZE // 8)),
    "not UTF-8 in one": b"a=" + b"%FF" * (SIZE // 3),
}


def peak(program: Program) -> int:
    """The most memory that the program has had, in bytes."""
    for line in Path(f"/proc/{program.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not say")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    # What raises nothing gives nothing.
    [("/form", 413, b"the "), ("/urlencoded", 200, b"None")],
)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_form(kind: str, path: str, status: int, text: bytes) -> None:
    """Refused for little more than it takes to have it: twice its memory, and no time that others would notice."""
    body = HOSTILE[kind]
    with Program(SITE).listening() as program:
        with program.client() as client:
            assert client.get("/ping").body == b"pong"
        before = peak(program)
        slowest, over = 0.0, threading.Event()

        def probe() -> None:
            nonlocal slowest
            with program.client() as client:
                while not over.is_set():
                    began = time.monotonic()
                    client.get("/ping")
                    slowest = max(slowest, time.monotonic() - began)
                    over.wait(0.01)

        probing = threading.Thread(target=probe)
        probing.start()
        try:
            spent = program.cpu()
            with program.client() as client:
                answer = client.request("POST", path, URLENCODED, body=body).answer()
                assert (answer.status, answer.body[:4]) == (status, text)
            spent = program.cpu() - spent
        finally:
            over.set()
            probing.join()
        assert peak(program) - before < 2.5 * len(body)
        assert spent < 2
        assert slowest < 3


# ---- turns of the loop ----------------------------------------------------------------------------------------------------


def turns_of(work: Callable[[], Awaitable[Any]]) -> tuple[Any, int]:
    """The result of the work, and how often the event loop ran others meanwhile."""

    async def main() -> tuple[Any, int]:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.ensure_future(others())
        try:
            return await work(), turns
        finally:
            task.cancel()

    return asyncio.run(main())


MEBIBYTE = 1024 * 1024
MANY = Limits(max_fields=10**9, max_field_size=10**9)


def test_large_form_leaves_the_loop_to_others() -> None:
    pairs = [(str(number), "ü" * 100) for number in range(20_000)]
    body = b"&".join(f"{name}={value}".encode() for name, value in pairs)
    found, turns = turns_of(lambda: decode_fields(body, "utf-8", MANY))
    assert found == pairs
    assert turns > 2 * len(body) // (128 * 1024)


@pytest.mark.parametrize("encoding", ["utf-8", "iso2022_jp", "gb18030", "utf-16", "latin-1"])
def test_long_text_leaves_the_loop_to_others(encoding: str) -> None:
    text = "ä日本é" * 500_000 if encoding in ("utf-8", "utf-16", "gb18030") else "é" * 2_000_000
    text = "日本" * 500_000 if encoding == "iso2022_jp" else text
    body = text.encode(encoding)
    found, turns = turns_of(lambda: decode(body, encoding))
    assert found == text
    assert turns > len(body) // MEBIBYTE
    assert turns_of(lambda: is_text(body, encoding))[0]


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_long_text_that_is_none(encoding: str) -> None:
    """The end of it counts: half a character is none."""
    body = b"a" * MEBIBYTE + "日".encode(encoding)[:-1]
    with pytest.raises(UnicodeDecodeError):
        asyncio.run(decode(body, encoding))
    assert asyncio.run(is_text(body, encoding)) is False


@pytest.mark.parametrize("encoding", ["hex", "zlib", "rot13", "no-such-encoding"])
def test_codecs_that_are_not_for_text(encoding: str) -> None:
    assert asyncio.run(is_text(b"61", encoding)) is False
    with pytest.raises(LookupError):
        asyncio.run(decode(b"61" * MEBIBYTE, encoding))


# ---- urlencoded, as the standard library has it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"a=1&b=2&a=3",
        b"&&a=1&&",
        b"=&=1&a=",
        b"a=%C3%A9&%C3%A9=%e9&b=%f0%9f%98%80%f0%9f",
        b"a=\xc3\xa9\xff\xed\xa0\x80&b=%ed%a0%80",
        b"a=%&b=%4&c=%zz&d=%%34%31",
        b"a+b=c+d%2B",
    ],
)
def test_fields_are_those_of_parse_qsl(body: bytes) -> None:
    expected = parse_qsl(
        body.decode("utf-8", "replace"), keep_blank_values=True, encoding="utf-8", errors="replace"
    )
    assert asyncio.run(decode_fields(body, "utf-8", MANY)) == expected


def test_fields_of_any_bytes_are_those_of_parse_qsl() -> None:
    random = Random(20_251)
    pieces = [
        b"&",
        b"=",
        b"+",
        b"%",
        b"%4",
        b"%41",
        b"%c3%a9",
        b"%FF",
        b"\xff",
        "é😀".encode(),
        b"a",
        b";",
        b" ",
    ]

    async def compare() -> None:
        for _ in range(3000):
            body = b"".join(random.choices(pieces, k=random.randrange(20)))
            expected = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace")
            # A character whose bytes are escaped in part is decoded with its neighbours, which parse_qsl cannot do.
            if "\ufffd" not in str(expected):
                assert await decode_fields(body, "utf-8", MANY) == expected, body

    asyncio.run(compare())


@pytest.mark.parametrize(
    ("body", "encoding", "expected"),
    [
        (b"a=\xe9%E9", "latin-1", [("a", "éé")]),
        (b"a=%93%FA%96%7B", "shift_jis", [("a", "日本")]),
        ("a=é&b=日%C3%A9".encode("utf-16"), "utf-16", [("a", "é"), ("b", "日é")]),
        ("a=1".encode("utf-8-sig"), "utf-8-sig", [("a", "1")]),
    ],
)
def test_encodings_of_forms(body: bytes, encoding: str, expected: Any) -> None:
    assert asyncio.run(decode_fields(body, encoding, MANY)) == expected


def test_limits_of_forms_are_counted_in_decoded_bytes() -> None:
    limits = Limits(max_fields=2, max_field_size=4)
    for body in (b"&&a=1&&b=%C3%A9%C3%A9&", b"%C3%A9%C3%A9", b"a=1&b"):
        asyncio.run(decode_fields(body, "utf-8", limits))
    for body, message in (
        (b"a=1&b=2&c", "the form has more than 2 fields"),
        (b"a=%C3%A9%C3%A9%C3%A9", 'the field "a" has more than 4 bytes'),
        (b"abcde=1", 'the field "abcde" has more than 4 bytes'),
    ):
        with pytest.raises(ContentTooLarge, match=message):
            asyncio.run(decode_fields(body, "utf-8", limits))


def test_limits_of_get_form_urlencoded(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        limits = json.loads(req.get_query("limits"))
        res.end([await res.get_form_urlencoded(**limits)])

    with serve(lambda app: app.post("/", handler)).client() as client:
        for limits, body, expected in (
            ("{}", b"a=1", {"a": "1"}),
            ("{}", b"&".join(b"%d=1" % number for number in range(1001)), None),
            ('{"max_fields":2}', b"a=1&&b=2&", {"a": "1", "b": "2"}),
            ('{"max_fields":1}', b"a=1&b=2", None),
            ('{"max_field_size":2}', b"a=%C3%A9", {"a": "é"}),
            ('{"max_field_size":1}', b"a=%C3%A9", None),
        ):
            answer = client.request("POST", f"/?limits={limits}", body=body).answer()
            assert json.loads(answer.body) == [expected]
        assert client.request("POST", '/?limits={"max_fields":-1}', body=b"a=1").answer().status == 500


# ---- multipart ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "filler", ['\\"', '"', ';a="', 'a="";', ";", " ;", "=", "filename*", "; filename*=utf-8'", "\\"]
)
def test_heads_of_parts_take_linear_time(serve: Serve, filler: str) -> None:
    """A hundred of them, each as long as one may be, are looked through in no time that others would notice."""
    pytest.importorskip("multipart")

    async def handler(res: Any, req: Any) -> None:
        began = time.thread_time()
        count = 0
        try:
            async for _ in req.multipart():
                count += 1
        except HTTPError as error:
            count = -error.status
        res.end([count, time.thread_time() - began])

    head = f"--b\r\nContent-Disposition: form-data; {filler * (3900 // len(filler))}\r\n"
    kind = f"Content-Type: text/plain; {filler * (1000 // len(filler))}\r\n"
    body = f"{head}{kind}\r\n\r\n".encode() * 100 + b"--b--"
    with serve(lambda app: app.post("/", handler)).client() as client:
        client.request("POST", "/", "Content-Type: multipart/form-data; boundary=b", body=body)
        count, took = json.loads(client.answer().body)
    assert count in (100, -400)
    assert took < 3


def test_large_part_leaves_the_loop_to_others() -> None:
    """A body that is here whole is given to the parser in steps."""
    pytest.importorskip("multipart")
    data = b"\r\n--c" * 800_000
    body = b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n' + data + b"\r\n--b--\r\n"

    class Core:
        """A request with a whole body, and its response."""

        def get_header(self, name: str) -> str:
            return "multipart/form-data; boundary=b"

        def whole(self) -> bytes:
            return body

    async def read() -> bytes:
        core: Any = Core()
        return b"".join([await part.read() async for part in Multipart(core, core)])

    found, turns = turns_of(read)
    assert found == data
    assert turns > len(body) // (128 * 1024)


# ---- JSON -----------------------------------------------------------------------------------------------------------------


def test_json_has_a_limit(serve: Serve) -> None:
    """Parsed JSON takes many times its bytes, and parsing blocks the event loop."""

    async def handler(res: Any, req: Any) -> None:
        if (size := req.get_query("size")) is None:
            res.end([await res.get_json() is not None, await req.json() is not None])
        else:
            limit = None if size == "none" else int(size)
            res.end([await res.get_json(max_size=limit), await req.json(max_size=limit)])

    with serve(lambda app: app.post("/", handler)).client() as client:

        def post(body: bytes, query: str = "") -> Any:
            answer = client.request("POST", f"/{query}", body=body).answer()
            return json.loads(answer.body) if answer.status == 200 else (answer.status, answer.body)

        usual = 8 * MEBIBYTE
        assert post(b'"' + b"a" * (usual - 2) + b'"') == [True, True]
        assert post(b'"' + b"a" * (usual - 1) + b'"') == (413, b"the JSON has more than 8388608 bytes")
        assert post(b"[12]", "?size=4") == [[12], [12]]
        assert post(b"[12]", "?size=3") == (413, b"the JSON has more than 3 bytes")
        assert post(b"[12]", "?size=none") == [[12], [12]]
        assert post(b"[12]", "?size=-1") == (500, b"Internal Error")


# ---- heads ----------------------------------------------------------------------------------------------------------------


class Head:
    """A request with nothing but a ``Cookie`` header."""

    def __init__(self, header: str) -> None:
        self.header = header

    def get_header(self, name: str) -> str:
        return self.header


@pytest.mark.parametrize(
    "header",
    ["a=1;" * 16_384, "".join(f"{n:x}=;" for n in range(11_000)), 'a="x";' * 10_922, 'a="x;' * 13_107],
)
def test_cookies_cost_little(header: str) -> None:
    """64 KiB of them, the most that a head can have: some milliseconds for one, and a thousand objects for all."""
    one, all_ = [], []
    for _ in range(7):
        request: Any = Head(header + "; last=1")
        began = time.thread_time()
        assert get_cookie(request, "last") == "1"
        one.append(time.thread_time() - began)
        jar = get_cookies(request)
        all_.append(time.thread_time() - began)
        assert jar is not None
        assert len(jar) <= 1000
    assert min(one) < 0.02
    assert min(all_) < 0.04


def test_queries_cost_little(serve: Serve) -> None:
    """The same of a query."""

    async def handler(res: Any, req: Any) -> None:
        began = time.thread_time()
        queries = req.get_queries()
        last = req.get_query("last")
        took = time.thread_time() - began
        res.end([len(queries), last, took])

    with serve(lambda app: app.get("/", handler)).client() as client:
        for item in ("a=1&", "%61=%31&", "&", "a&"):
            found = []
            for _ in range(7):
                query = item * (64_000 // len(item))
                _, last, took = json.loads(client.get(f"/?{query}&last=1").body)
                assert last == "1"
                found.append(took)
            assert min(found) < 0.05
