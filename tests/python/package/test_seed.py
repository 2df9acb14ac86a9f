"""The user's own document, statement by statement and with its own code: section I.2 as far as it is about HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import select
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest

from socketify import App, OpCode, sendfile
from support.client import Answer
from support.lanes import each_lane, on, options
from support.running import Running

Serve = Callable[..., Running]
Handle = Callable[[Any, Any], object]


def get(
    serve: Serve, handler: Handle, target: str = "/", *lines: str, route: str = "/*", lane: str = "def"
) -> Answer:
    """The answer of one handler to one request, on a connection that serves another one after it."""
    app = serve(lambda app: app.get(route, on(lane, handler)).constant("/-", "next"), **options(lane))
    with app.client() as client:
        answer = client.get(target, *lines)
        assert client.get("/-").body == b"next"
        return answer


# ---- writing --------------------------------------------------------------------------------------------------------


@each_lane
def test_write(serve: Serve, lane: str) -> None:
    """I-S-01: text, bytes or JSON values; the response is not ended."""
    states = []

    def handler(res: Any, req: Any) -> None:
        for message in ("text", "é", "", b"bytes", b"\xff", b"", {"a": 1}, [1], 5):
            res.write(message)
            states.append(res.has_responded())
        res.end("end")

    answer = get(serve, handler, lane=lane)
    assert answer.header("transfer-encoding") == "chunked"
    assert answer.body == "texté".encode() + b'bytes\xff{"a": 1}[1]5end'
    assert states == [False] * 9


@each_lane
@pytest.mark.parametrize("method", ["end", "cork_end"])
@pytest.mark.parametrize(
    ("message", "body", "content_type"),
    [("é", "é".encode(), None), (b"\xff", b"\xff", None), ({"a": [1]}, b'{"a": [1]}', "application/json")],
)
def test_end(
    serve: Serve, method: str, message: Any, body: bytes, content_type: str | None, lane: str
) -> None:
    """I-S-02."""
    answer = get(serve, lambda res, req: getattr(res, method)(message), lane=lane)
    assert (answer.body, answer.header("content-type")) == (body, content_type)
    assert answer.header("content-length") == str(len(body))


@pytest.mark.parametrize("method", ["end", "cork_end", "send", "cork_send"])
def test_end_connection(serve: Serve, method: str) -> None:
    """I-S-02, I-S-05."""
    with serve(
        lambda app: app.get("/", lambda res, req: getattr(res, method)("x", end_connection=True))
    ).client() as client:
        answer = client.get()
        assert (answer.body, answer.header("connection")) == (b"x", "close")
        assert client.is_closed()


@pytest.mark.parametrize(
    "write",
    [
        lambda res: res.cork(lambda res: res.write_status(201).write_header("A", "b").end("body")),
        lambda res: res.write_status(201).write_header("A", "b").cork_end("body"),
        lambda res: res.cork_send("body", status=201, headers=[("A", "b")]),
    ],
    ids=["cork", "cork_end", "cork_send"],
)
def test_one_send(serve: Serve, write: Callable[[Any], object]) -> None:
    """I-S-03, I-S-08: status, headers and body are there at once, also from a later segment of a coroutine."""

    async def handler(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        write(res)

    with serve(lambda app: app.get("/", handler)).client() as client:
        for _ in range(10):
            data = client.request().receive()
            assert data.startswith(b"HTTP/1.1 201 Created\r\n")
            assert b"A: b\r\n" in data
            assert data.endswith(b"\r\n\r\nbody")


@each_lane
@pytest.mark.parametrize("method", ["send", "cork_send"])
def test_send(serve: Serve, method: str, lane: str) -> None:
    """I-S-05, I-S-06: the defaults, then each parameter by its name."""
    calls: list[dict[str, Any]] = [
        {"message": "m"},
        {
            "message": "m",
            "content_type": b"text/plain",
            "status": b"200 OK",
            "headers": None,
            "end_connection": False,
        },
        {
            "message": b"m",
            "content_type": "text/html",
            "status": "201 Made",
            "headers": [("A", "b"), ("C", "d")],
        },
    ]
    app = serve(
        lambda app: app.get(
            "/:n", on(lane, lambda res, req: getattr(res, method)(**calls[int(req.get_parameter(0))]))
        ),
        **options(lane),
    )
    with app.client() as client:
        answers = [client.get(f"/{number}") for number in range(3)]
    for answer in answers[:2]:
        assert (answer.status_line, answer.body) == ("HTTP/1.1 200 OK", b"m")
        assert answer.header("content-type") == "text/plain"
    assert answers[2].status_line == "HTTP/1.1 201 Made"
    assert answers[2].header("content-type") == "text/html"
    assert [line for line in answers[2].lines if line[0] in "AC" and line[1] == ":"] == ["A: b", "C: d"]


def test_headers_of_any_iterator(serve: Serve) -> None:
    """I-S-06, I-S-07: `iter(tuple(str, str))` and others; write_headers takes them too."""
    forms: list[Callable[[], Any]] = [
        lambda: iter((("A", "1"), ("B", "2"))),
        lambda: [["A", "1"], [b"B", b"2"]],
        lambda: {"A": "1", "B": "2"}.items(),
        lambda: (pair for pair in (("A", "1"), ("B", "2"))),
    ]
    for form in forms:
        for handler in (
            lambda res, req, form=form: res.send("x", headers=form()),
            lambda res, req, form=form: res.write_headers(form()).end("x"),
        ):
            answer = get(serve, handler)
            assert (answer.header("a"), answer.header("b"), answer.body) == ("1", "2", b"x")


@each_lane
def test_write_continue(serve: Serve, lane: str) -> None:
    """I-S-09."""
    app = serve(
        lambda app: app.post("/", on(lane, lambda res, req: res.write_continue().end("final"))),
        **options(lane),
    )
    with app.client() as client:
        client.request("POST")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.answer().body == b"final"


def test_write_offset(serve: Serve) -> None:
    """I-S-10: set 5, read 5; try_end goes on from where it is."""
    offsets: list[int] = []

    def handler(res: Any, req: Any) -> None:
        res.write_offset(5)
        offsets.append(res.get_write_offset())
        # The five bytes before belong to a response that another call began.
        offsets.append(res.try_end(b"67", 7))
        offsets.append(res.has_responded())

    with serve(lambda app: app.get("/", handler)).client() as client:
        client.request()
        assert b"Content-Length: 7\r\n" in client.until(b"\r\n\r\n")
        assert client.exactly(2) == b"67"
    assert offsets == [5, (True, True), True]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_pause_and_resume(serve: Serve, kind: str) -> None:
    """I-S-11: a large upload stalls while it is paused, and nothing of it is lost."""
    size = 48 << 20
    taken = 0
    responses: list[Any] = []
    paused = threading.Event()

    def on_data(res: Any, chunk: bytes, is_end: bool) -> None:
        nonlocal taken
        taken += len(chunk)
        if not paused.is_set():
            res.pause()
            paused.set()
        if is_end:
            res.end(str(taken))

    async def on_data_later(res: Any, chunk: bytes, is_end: bool) -> None:
        on_data(res, chunk, is_end)

    def handler(res: Any, req: Any) -> None:
        responses.append(res)
        res.on_data(on_data if kind == "def" else on_data_later)

    with serve(lambda app: app.post("/", handler)).client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size)
        client.socket.setblocking(False)
        piece = memoryview(bytes(1 << 20))
        sent = 0
        # Until the kernel takes no more, for longer than anything but a pause takes.
        while select.select([], [client.socket], [], 0.2)[1] and sent < size:
            sent += client.socket.send(piece[: size - sent])
        assert paused.wait(5)
        assert sent < size
        before = taken
        assert before < size
        assert select.select([], [client.socket], [], 0)[1] == []
        assert responses[0].resume() is responses[0]
        client.socket.settimeout(10)
        while sent < size:
            sent += client.socket.send(piece[: size - sent])
        assert client.answer().body == str(size).encode()


@each_lane
def test_send_in_parts(serve: Serve, lane: str) -> None:
    """I-S-12."""

    def send_in_parts(res: Any, req: Any) -> None:
        # write and end accepts bytes and str or its try to dumps to an json
        res.write("I can")
        res.write(" send ")
        res.write("messages")
        res.end(" in parts!")

    assert get(serve, send_in_parts, lane=lane).body == b"I can send messages in parts!"


@each_lane
def test_empty(serve: Serve, lane: str) -> None:
    """I-S-13: status line, headers, empty body, and the connection can be used (`get` shows it)."""

    def empty(res: Any, req: Any) -> None:
        res.end_without_body()

    answer = get(serve, empty, lane=lane)
    assert (answer.status_line, answer.body, answer.header("content-length")) == ("HTTP/1.1 200 OK", b"", "0")


@each_lane
def test_has_responded(serve: Serve, lane: str) -> None:
    """I-S-14."""
    states: list[bool] = []

    def handler(res: Any, req: Any) -> None:
        states.append(res.has_responded())
        res.write("x")
        states.append(res.has_responded())
        res.end("y")
        states.append(res.has_responded())

    get(serve, handler, lane=lane)
    assert states == [False, False, True]


@each_lane
def test_redirect(serve: Serve, lane: str) -> None:
    """I-S-15."""

    def redirect(res: Any, req: Any) -> None:
        # status code is optional default is 302
        res.redirect("/redirected", 302)

    for handler, line in (
        (redirect, "302 Found"),
        (lambda res, req: res.redirect("/redirected"), "302 Found"),
        (lambda res, req: res.redirect("/redirected", 307), "307 Temporary Redirect"),
    ):
        answer = get(serve, handler, lane=lane)
        assert (answer.status_line, answer.header("location")) == (f"HTTP/1.1 {line}", "/redirected")


def write_status_404(res: Any, req: Any) -> None:
    res.write_status(404).end("Not Found")


def write_status_200(res: Any, req: Any) -> None:
    res.write_status("200 OK").end("OK")


def send_404(res: Any, req: Any) -> None:
    res.send("Not Found", status=404)


def send_200(res: Any, req: Any) -> None:
    res.send("OK", status="200 OK")


@each_lane
@pytest.mark.parametrize(
    ("handler", "line", "body"),
    [
        (write_status_404, "404 Not Found", b"Not Found"),
        (write_status_200, "200 OK", b"OK"),
        (send_404, "404 Not Found", b"Not Found"),
        (send_200, "200 OK", b"OK"),
    ],
    ids=["I-S-16", "I-S-17", "I-S-18", "I-S-19"],
)
def test_status(serve: Serve, handler: Handle, line: str, body: bytes, lane: str) -> None:
    """I-S-16 to I-S-19."""
    answer = get(serve, handler, lane=lane)
    assert (answer.status_line, answer.body) == (f"HTTP/1.1 {line}", body)


@each_lane
def test_send_set(serve: Serve, lane: str) -> None:
    """I-S-20, DEC-4: it is a set, and goes out as an array."""

    def json_(res: Any, req: Any) -> None:
        res.send({"Hello", "World!"})

    answer = get(serve, json_, lane=lane)
    assert answer.header("content-type") == "application/json"
    assert sorted(json.loads(answer.body)) == ["Hello", "World!"]


@each_lane
def test_with_headers(serve: Serve, lane: str) -> None:
    """I-S-21."""

    def with_headers(res: Any, req: Any) -> None:
        res.send(
            {"Hello": "World!"}, headers=(("X-Rate-Limit-Remaining", "10"), (b"Another-Headers", b"Value"))
        )

    answer = get(serve, with_headers, lane=lane)
    assert (answer.status, json.loads(answer.body)) == (200, {"Hello": "World!"})
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-rate-limit-remaining") == "10"
    assert answer.header("another-headers") == "Value"


# ---- reading --------------------------------------------------------------------------------------------------------


@each_lane
def test_urls(serve: Serve, lane: str) -> None:
    """I-S-22, I-S-23."""
    answer = get(serve, lambda res, req: res.end([req.get_full_url(), req.get_url()]), "/a?b=1", lane=lane)
    assert json.loads(answer.body) == ["/a?b=1", "/a"]


def test_method(serve: Serve) -> None:
    """I-S-24."""
    with serve(lambda app: app.any("/", lambda res, req: res.end(req.get_method()))).client() as client:
        for method in ("GET", "PATCH", "patch"):
            assert client.request(method).answer().body == method.encode()


@each_lane
def test_parameters(serve: Serve, lane: str) -> None:
    """I-S-25: the document writes get_parameters(index) and uses get_parameter(index)."""

    def handler(res: Any, req: Any) -> None:
        res.end([req.get_parameters(), req.get_parameters(0), req.get_parameters(1), req.get_parameter(0)])

    answer = get(serve, handler, "/user/1/2", route="/user/:id/:other", lane=lane)
    assert json.loads(answer.body) == [["1", "2"], "1", "2", "1"]


@each_lane
def test_user(serve: Serve, lane: str, capsys: pytest.CaptureFixture[str]) -> None:
    """I-S-26: id 1 is answered; the handler of the others never does, and the server goes on."""
    printed = threading.Event()

    def user(res: Any, req: Any) -> Any:
        if int(req.get_parameter(0)) == 1:
            return res.end("Hello user with id 1!")
        params = req.get_parameters()
        print("All params", params)
        printed.set()
        return None

    app = serve(lambda app: app.get("/user/:id", on(lane, user)), **options(lane))
    with app.client() as silent, app.client() as client:
        assert client.get("/user/1").body == b"Hello user with id 1!"
        silent.request("GET", "/user/2")
        assert printed.wait(5)
        assert client.get("/user/1").body == b"Hello user with id 1!"
    assert capsys.readouterr().out == "All params ['2']\n"


@each_lane
def test_headers(serve: Serve, lane: str, capsys: pytest.CaptureFixture[str]) -> None:
    """I-S-27, I-S-28: text, a dict with lower case names, None for a missing one."""
    seen: list[Any] = []

    def home(res: Any, req: Any) -> None:
        auth = req.get_header("authorization")
        headers = req.get_headers()
        print("All headers", headers)
        seen.extend([auth, headers, req.get_header("missing")])
        res.end("")

    get(serve, home, "/", "Authorization: me", "User-Agent: test", lane=lane)
    assert seen == ["me", {"host": "test", "authorization": "me", "user-agent": "test"}, None]
    assert "All headers {'host': 'test'" in capsys.readouterr().out


@each_lane
def test_list_headers(serve: Serve, lane: str, capsys: pytest.CaptureFixture[str]) -> None:
    """I-S-29."""

    def list_headers(res: Any, req: Any) -> None:
        req.for_each_header(lambda key, value: print("Header %s: %s" % (key, value)))  # noqa: UP031
        res.end("")

    get(serve, list_headers, "/", "X-One: 1", "x-one: 2", lane=lane)
    assert capsys.readouterr().out == "Header host: test\nHeader x-one: 1\nHeader x-one: 2\n"


@each_lane
def test_custom_header(serve: Serve, lane: str) -> None:
    """I-S-30."""

    def custom_header(res: Any, req: Any) -> None:
        res.write_header("Content-Type", "application/octet-stream")
        res.write_header("Content-Disposition", 'attachment; filename="message.txt"')
        res.end("Downloaded this ;)")

    answer = get(serve, custom_header, lane=lane)
    assert answer.header("content-type") == "application/octet-stream"
    assert answer.header("content-disposition") == 'attachment; filename="message.txt"'
    assert answer.body == b"Downloaded this ;)"


@each_lane
def test_queries(serve: Serve, lane: str, capsys: pytest.CaptureFixture[str]) -> None:
    """I-S-31, I-S-32, DEC-3."""
    seen: list[Any] = []

    def home(res: Any, req: Any) -> None:
        search = req.get_query("search")
        queries = req.get_queries()
        print("All queries", queries)
        again = req.get_query("search")
        req.preserve()
        seen.extend([search, queries, again, req.get_query("search"), req.get_query("missing")])
        res.end("")

    get(serve, home, "/?search=red+tea%21&n=1&n=2", lane=lane)
    assert seen == ["red tea!", {"search": ["red tea!"], "n": ["1", "2"]}, "red tea!", "red tea!", None]
    assert capsys.readouterr().out == "All queries {'search': ['red tea!'], 'n': ['1', '2']}\n"


# ---- cookies and addresses ------------------------------------------------------------------------------------------


@each_lane
@pytest.mark.filterwarnings("ignore:datetime.*utcnow:DeprecationWarning")
def test_cookies(serve: Serve, lane: str) -> None:
    """I-S-33, I-S-36, I-S-37: read from the request, written with the end, expires in GMT."""

    def cookies(res: Any, req: Any) -> None:
        # cookies are written after end
        res.set_cookie(
            "session_id",
            "1234567890",
            {
                # expires
                # path
                # comment
                # domain
                # max-age
                # secure
                # version
                # httponly
                # samesite
                "path": "/",
                # "domain": "*.test.com",
                "httponly": True,
                "samesite": "None",
                "secure": True,
                "expires": datetime.utcnow() + timedelta(minutes=30),
            },
        )
        res.end("Your session_id cookie is: %s" % req.get_cookie("session_id"))  # noqa: UP031

    answer = get(serve, cookies, "/", "Cookie: other=1; session_id=abc", lane=lane)
    assert answer.body == b"Your session_id cookie is: abc"
    value, *attributes = (answer.header("set-cookie") or "").split("; ")
    assert value == "session_id=1234567890"
    expires = next(item for item in attributes if item.lower().startswith("expires="))
    assert expires.endswith(" GMT")
    later = parsedate_to_datetime(expires.partition("=")[2]) - datetime.now(timezone.utc)
    assert timedelta(minutes=29, seconds=50) < later <= timedelta(minutes=30)
    assert {item.lower() for item in attributes if item != expires} == {
        "path=/",
        "httponly",
        "samesite=none",
        "secure",
    }


@each_lane
@pytest.mark.parametrize("finish", ["end", "send", "cork_end", "cork_send", "end_without_body"])
def test_cookies_without_options(serve: Serve, finish: str, lane: str) -> None:
    """I-S-34, I-S-36: two arguments are enough."""

    def handler(res: Any, req: Any) -> None:
        res.set_cookie("a", "b")
        getattr(res, finish)(*([] if finish == "end_without_body" else ["x"]))

    assert get(serve, handler, lane=lane).header("set-cookie") == "a=b"


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("expires", "Thu, 01 Jan 1970 00:00:00 GMT", "expires=Thu, 01 Jan 1970 00:00:00 GMT"),
        ("path", "/a", "Path=/a"),
        ("comment", "none", "Comment=none"),
        ("domain", "*.test.com", "Domain=*.test.com"),
        ("max-age", 60, "Max-Age=60"),
        ("secure", True, "Secure"),
        ("version", 1, "Version=1"),
        ("httponly", True, "HttpOnly"),
        ("samesite", "Lax", "SameSite=Lax"),
    ],
)
@pytest.mark.parametrize("upper", [False, True])
def test_cookie_options(serve: Serve, name: str, value: Any, written: str, upper: bool) -> None:
    """I-S-35: each option of the document's list, in any case."""
    key = name.upper() if upper else name

    def handler(res: Any, req: Any) -> None:
        res.set_cookie("a", "b", {key: value})
        res.end("")

    header = get(serve, handler).header("set-cookie") or ""
    assert header.lower() == f"a=b; {written}".lower()
    assert SimpleCookie(header)["a"].value == "b"


def preface(address: bytes) -> bytes:
    family = b"\x11" if len(address) == 4 else b"\x21"
    block = address + bytes(len(address)) + b"\0\1\0\2"
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + family + len(block).to_bytes(2, "big") + block


@each_lane
def test_addresses(serve: Serve, lane: str) -> None:
    """I-S-38: text without, bytes with `_bytes`."""
    seen: list[Any] = []

    def handler(res: Any, req: Any) -> None:
        seen.append(
            (
                res.get_remote_address(),
                res.get_remote_address_bytes(),
                res.get_proxied_remote_address(),
                res.get_proxied_remote_address_bytes(),
            )
        )
        res.end("")

    app = serve(lambda app: app.get("/", on(lane, handler)), **options(lane))
    for proxied in (b"", bytes([192, 0, 2, 7]), bytes(15) + b"\x01"):
        with app.client() as client:
            client.send(preface(proxied) if proxied else b"").get()
    own = ("127.0.0.1", b"\x7f\0\0\1")
    assert seen == [
        (*own, None, None),
        (*own, "192.0.2.7", bytes([192, 0, 2, 7])),
        (*own, "0000:0000:0000:0000:0000:0000:0000:0001", bytes(15) + b"\x01"),
    ]


@each_lane
@pytest.mark.parametrize("proxied", [None, "192.0.2.7"])
def test_proxy_example(serve: Serve, lane: str, proxied: str | None) -> None:
    """I-S-39."""

    def home(res: Any, req: Any) -> None:
        res.write("<html><h1>")
        res.write("Your proxied IP is: %s" % res.get_proxied_remote_address())  # noqa: UP031
        res.write("</h1><h1>")
        res.write("Your IP as seen by the origin server is: %s" % res.get_remote_address())  # noqa: UP031
        res.end("</h1></html>")

    with serve(lambda app: app.get("/", on(lane, home)), **options(lane)).client() as client:
        body = client.send(preface(bytes([192, 0, 2, 7])) if proxied else b"").get().body.decode()
    assert body == (
        f"<html><h1>Your proxied IP is: {proxied}</h1>"
        "<h1>Your IP as seen by the origin server is: 127.0.0.1</h1></html>"
    )


# ---- aborts, coroutines, files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["close", "reset"])
@each_lane
def test_aborted(serve: Serve, lane: str, leave: str, capsys: pytest.CaptureFixture[str]) -> None:
    """I-S-42, I-S-43: the document's handler is called once, with the response."""
    responses: list[Any] = []
    waits, heard = threading.Event(), threading.Event()

    def home(res: Any, req: Any) -> None:
        def on_abort(given: Any) -> None:
            responses.append((given is res, res.aborted))
            res.aborted = True
            print("aborted!")
            heard.set()

        res.on_aborted(on_abort)
        responses.append(res.aborted)
        waits.set()

    app = serve(lambda app: app.get("/", on(lane, home)), **options(lane))
    client = app.client().request()
    assert waits.wait(5)
    getattr(client, leave)()
    assert heard.wait(5)
    app.stop()
    assert responses == [False, (True, True)]
    assert capsys.readouterr().out == "aborted!\n"


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_async_routes_know_of_aborts(serve: Serve, leave: str) -> None:
    """I-S-44."""
    waits, done = threading.Event(), threading.Event()

    async def home(res: Any, req: Any) -> None:
        waits.set()
        while not res.aborted:
            await asyncio.sleep(0.001)
        done.set()

    client = serve(lambda app: app.get("/", home)).client().request()
    assert waits.wait(5)
    getattr(client, leave)()
    assert done.wait(5)


@pytest.mark.parametrize("lane", ["def", "def on the loop"])
@pytest.mark.parametrize("who", ["res", "app", "res.app"])
def test_run_async(serve: Serve, who: str, lane: str) -> None:
    """I-S-45: a plain handler has a coroutine executed."""

    def configure(app: App) -> None:
        async def later(res: Any) -> None:
            await asyncio.sleep(0)
            res.end("later")

        def handler(res: Any, req: Any) -> None:
            {"res": res, "app": app, "res.app": res.app}[who].run_async(later(res))

        app.get("/", handler)

    with serve(configure, **options(lane)).client() as client:
        for _ in range(3):
            assert client.get().body == b"later"


def test_sendfile_example(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I-S-46: a relative path, from a plain handler."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_text").write_bytes(b"text of the file" * 5000)
    in_memory_text = ""

    def route_handler(res: Any, req: Any) -> None:
        if in_memory_text:
            res.end(in_memory_text)
        else:
            # grab the abort handler adding it to res.aborted if aborted
            res.grab_aborted_handler()
            res.run_async(sendfile(res, req, "my_text"))

    with serve(lambda app: app.get("/", route_handler)).client() as client:
        assert client.get().body == b"text of the file" * 5000
        in_memory_text = "in memory"
        assert client.get().body == b"in memory"


def test_json_serializer(serve: Serve) -> None:
    """I-S-47: a module with dumps and loads, whether they deal in text or bytes; the standard one before."""
    ujson = types.ModuleType("ujson")
    ujson.dumps = lambda value: json.dumps(value, separators=(",", ":"))  # type: ignore[attr-defined]
    ujson.loads = lambda text: {"loaded": json.loads(text)}  # type: ignore[attr-defined]
    orjson = types.SimpleNamespace(dumps=lambda value: ujson.dumps(value).encode(), loads=ujson.loads)

    async def read(res: Any, req: Any) -> None:
        res.end(repr(await res.get_json()))

    for module in (None, ujson, orjson):

        def configure(app: App, module: Any = module) -> None:
            if module:
                # set json serializer to ujson
                # json serializer must have dumps and loads functions
                app.json_serializer(module)
            app.get("/", lambda res, req: res.end({"Hello": "World!"}))
            app.get("/send", lambda res, req: res.send({"Hello": "World!"}))
            app.get("/write", lambda res, req: res.write({"Hello": "World!"}).end(""))
            app.get("/header", lambda res, req: res.write_header("X", {"Hello": "World!"}).end(""))
            app.post("/read", read)

        with serve(configure).client() as client:
            text = '{"Hello":"World!"}' if module else '{"Hello": "World!"}'
            for path in ("/", "/send", "/write"):
                assert client.get(path).body.decode() == text
            assert client.get("/header").header("x") == text
            body = client.request("POST", "/read", body=b'{"a": 1}').answer().body
            assert body == (b"{'loaded': {'a': 1}}" if module else b"{'a': 1}")


def test_native_handles(serve: Serve) -> None:
    """I-S-48, I-S-49: there is something, and nothing crashes."""
    handles: list[Any] = []

    def handler(res: Any, req: Any) -> None:
        handles.extend([res.get_native_handle(), res.app.get_native_handle()])
        res.end("")

    get(serve, handler)
    assert all(handle is not None for handle in handles)


@pytest.mark.parametrize("preserve", [True, False])
def test_preserve(serve: Serve, preserve: bool) -> None:
    """I-S-50, I-S-51: with preserve, and as a superset without, everything can be read after an await."""
    seen: list[Any] = []

    async def handler(res: Any, req: Any) -> None:
        if preserve:
            assert req.preserve() is req
        await asyncio.sleep(0.001)
        pairs: list[Any] = []
        req.for_each_header(lambda name, value: pairs.append(name))
        seen.extend(
            [
                req.get_header("x"),
                req.get_headers(),
                pairs,
                req.get_url(),
                req.get_full_url(),
                req.get_method(),
            ]
        )
        seen.extend([req.get_cookie("c"), req.get_query("q"), req.get_queries(), req.get_parameters()])
        res.end("")

    get(serve, handler, "/user/1?q=2", "X: y", "Cookie: c=d", route="/user/:id")
    headers = {"host": "test", "x": "y", "cookie": "c=d"}
    assert seen == [
        "y",
        headers,
        list(headers),
        "/user/1",
        "/user/1?q=2",
        "GET",
        "d",
        "2",
        {"q": ["2"]},
        ["1"],
    ]


# ---- events ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["def", "async def"])
@pytest.mark.parametrize("shutdown", ["def", "async def"])
def test_events(serve: Serve, start: str, shutdown: str) -> None:
    """I-S-52: each sync or async, each completely, in order."""
    said: list[str] = []

    def hook(name: str, kind: str) -> Callable[[], object]:
        def plain() -> None:
            said.extend(["wait...", f"{name}!"])

        async def later() -> None:
            said.append("wait...")
            await asyncio.sleep(0.001)
            said.append(f"{name}!")

        return plain if kind == "def" else later

    def run(app: App) -> None:
        on_start = hook("start", start)
        assert app.on_start(on_start) is on_start
        app.on_shutdown(hook("shutdown", shutdown))
        app.get("/", lambda res, req: said.append("request") or res.end("served"))

    app = serve(run)
    assert said == ["wait...", "start!"]
    assert httpx.get(f"http://127.0.0.1:{app.port}/").text == "served"
    app.stop()
    assert said == ["wait...", "start!", "request", "wait...", "shutdown!"]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_start_fails(serve: Serve, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """I-S-53: it is reported, and the application goes on."""

    def run(app: App) -> None:
        def plain() -> None:
            raise RuntimeError("no database")

        async def later() -> None:
            await asyncio.sleep(0)
            plain()

        app.on_start(plain if kind == "def" else later)
        app.get("/", lambda res, req: res.end("served all the same"))

    with serve(run).client() as client:
        assert client.get().body == b"served all the same"
    assert "no database" in caplog.text


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_start_exits(kind: str) -> None:
    """I-S-54: sys.exit(1) shuts down prematurely."""
    program = f"""
        import sys
        from socketify import App

        app = App()

        @app.on_start
        {kind} on_start():
            try:
                raise RuntimeError("no database")
            except RuntimeError:
                sys.exit(1)

        app.listen({{"port": 0, "host": "127.0.0.1"}}, lambda config: print("listening"))
        app.run()
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")


MODULE = """
from socketify import App

def run(app: App):
    @app.on_start
    async def on_start():
        print("wait...")
        await asyncio.sleep(1)
        print("start!")

    @app.on_shutdown
    async def on_shutdown():
        print("wait...")
        await asyncio.sleep(1)
        print("shutdown!")

    router = app.router()

    @router.get("/")
    def home(res, req):
        res.send("Hello, World!")
"""


def test_module(serve: Serve, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """I-S-55: the document's module, which forgets to import asyncio; that stops neither start nor shutdown."""
    module: dict[str, Any] = {}
    exec(MODULE, module)
    app = serve(module["run"])
    with app.client() as client:
        assert client.get().body == b"Hello, World!"
    app.stop()
    assert capsys.readouterr().out == "wait...\nwait...\n"
    assert caplog.text.count("NameError") >= 2


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["set_error_handler", "on_error"])
@each_lane
def test_error_handler(serve: Serve, way: str, lane: str, capsys: pytest.CaptureFixture[str]) -> None:
    """I-S-56, I-S-58, I-S-59: the document's example, registered in both ways."""

    def run(app: App) -> None:
        def on_error(error: Any, res: Any, req: Any) -> None:
            # here you can log properly the error and do a pretty response to your clients
            print("Somethind goes %s" % str(error))  # noqa: UP031
            # response and request can be None if the error is in an async function
            if res != None:  # noqa: E711
                # if response exists try to send something
                res.write_status(500)
                res.end("Sorry we did something wrong")

        if way == "on_error":
            assert app.on_error(on_error) is on_error
        else:
            app.set_error_handler(on_error)
        router = app.router()

        def home(res: Any, req: Any) -> None:
            raise RuntimeError("Oops!")

        routed = on(lane, home)
        assert router.get("/")(routed) is routed

    with serve(run, **options(lane)).client() as client:
        for _ in range(2):
            answer = client.get()
            assert (answer.status, answer.body) == (500, b"Sorry we did something wrong")
    assert capsys.readouterr().out == 2 * "Somethind goes Oops!\n"


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("where", ["def", "async def", "res.run_async", "app.run_async"])
def test_error_handler_arguments(serve: Serve, where: str, kind: str) -> None:
    """I-S-57: after a coroutine there is no request, and after one that belongs to no response none of both."""
    got: list[Any] = []
    made: list[Any] = []
    heard = threading.Event()

    def configure(app: App) -> None:
        def handle(error: Any, res: Any, req: Any) -> None:
            got.extend([str(error), res, req])
            heard.set()
            if res is not None:
                res.end("reported")

        async def handle_later(error: Any, res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            handle(error, res, req)

        async def fail_later() -> None:
            await asyncio.sleep(0)
            raise RuntimeError("Oops!")

        def plain(res: Any, req: Any) -> None:
            made.extend([res, req])
            if where == "def":
                raise RuntimeError("Oops!")
            if where == "res.run_async":
                res.run_async(fail_later())
            else:
                app.run_async(fail_later())
                res.end("reported")

        async def later(res: Any, req: Any) -> None:
            made.extend([res, req])
            await fail_later()

        app.set_error_handler(handle if kind == "def" else handle_later)
        app.get("/", later if where == "async def" else plain)

    with serve(configure).client() as client:
        assert client.get().body == b"reported"
        assert heard.wait(5)
    res, req = made
    assert got == ["Oops!", None if where == "app.run_async" else res, req if where == "def" else None]


def test_router_gives_the_function_back(serve: Serve) -> None:
    """I-S-59: a decorated function is still a function, and can be decorated again."""

    def configure(app: App) -> None:
        router = app.router()

        @router.post("/again")
        @router.get("/")
        def home(res: Any, req: Any) -> str:
            res.end("home")
            return "called"

        assert home.__name__ == "home"
        assert home(types.SimpleNamespace(end=len), None) == "called"

    with serve(configure).client() as client:
        assert client.get().body == b"home"
        assert client.request("POST", "/again").answer().body == b"home"


# ---- names ----------------------------------------------------------------------------------------------------------


def test_every_name_of_the_document() -> None:
    """Each method that the document names exists; `publish` and `num_subscribers` come with WebSockets."""
    document = """
        res.write res.cork_end res.end res.write_status res.write_header res.cork res.send res.cork_send res.write_headers
        res.write_continue res.write_offset res.get_write_offset res.pause res.resume res.end_without_body
        res.has_responded res.redirect res.set_cookie res.get_remote_address_bytes res.get_remote_address
        res.get_proxied_remote_address_bytes res.get_proxied_remote_address res.aborted res.on_aborted res.run_async
        res.grab_aborted_handler res.get_native_handle
        req.get_full_url req.get_url req.get_method req.get_parameters req.get_parameter req.get_header req.get_headers
        req.for_each_header req.get_query req.get_queries req.get_cookie req.preserve
        app.get app.run_async app.json_serializer app.get_native_handle app.on_start app.on_shutdown app.router
        app.set_error_handler app.on_error
    """
    from socketify import Request, Response

    classes: dict[str, Any] = {"res": Response, "req": Request, "app": App}
    for owner, name in re.findall(r"(\w+)\.(\w+)", document):
        assert hasattr(classes[owner], name), f"{owner}.{name}"
    assert OpCode.BINARY == 2
