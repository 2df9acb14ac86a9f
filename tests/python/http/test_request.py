"""What handlers learn of a request: A.6, DEC-3, DEC-12, A-CALL-09."""

from __future__ import annotations

import asyncio
import functools
import logging
import urllib.parse
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from socketify import App
from support.lanes import LOOP, RESUMED, TASK, THREAD, each_lane, on, options
from support.running import Running

Serve = Callable[..., Running]

Look = Callable[[Any], Any]


class Asked:
    """A server whose handler examines requests with a test's function."""

    def __init__(self, serve: Serve, lane: str = THREAD) -> None:
        self.look: Look = lambda req: None
        self.seen: Any = None
        self.request: Any = None
        self.app = serve(lambda app: app.any("/*", on(lane, self._handle)), **options(lane))
        self.client = self.app.client()

    def _handle(self, res: Any, req: Any) -> None:
        self.request = req
        self.seen = self.look(req)
        res.end("seen")

    def __call__(self, look: Look, method: str = "GET", target: str = "/", *lines: str, **more: Any) -> Any:
        """What ``look`` gives for this request."""
        self.look = look
        answer = self.client.request(method, target, *lines, **more).answer(method)
        assert answer.status == 200
        return self.seen

    def query(self, look: Look, query: str) -> Any:
        return self(look, "GET", f"/?{query}")

    def cookie(self, look: Look, *values: str) -> Any:
        return self(look, "GET", "/", *(f"Cookie: {value}" for value in values))


@pytest.fixture
def ask(serve: Serve) -> Any:
    asked = Asked(serve)
    yield asked
    asked.client.close()


# ---- url and method -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "url", "full"),
    [
        ("/", "/", "/"),
        ("/a/b?c=d&e", "/a/b", "/a/b?c=d&e"),
        ("/a?", "/a", "/a?"),
        ("/a?b?c", "/a", "/a?b?c"),
        ("/%41%2f+?q=%20+", "/%41%2f+", "/%41%2f+?q=%20+"),
        ("/a//b/../c/", "/a//b/../c/", "/a//b/../c/"),
        ("http://elsewhere/a?b", "/a", "/a?b"),
    ],
)
def test_url(ask: Asked, target: str, url: str, full: str) -> None:
    """A-REQ-03, A-REQ-04: raw, without scheme and host."""
    assert ask(lambda req: (req.get_url(), req.get_full_url()), "GET", target) == (url, full)


def test_url_beyond_ascii(ask: Asked) -> None:
    """A-REQ-03: UTF-8 that some clients send unencoded."""
    ask.look = lambda req: (req.get_url(), req.get_full_url())
    ask.client.send("GET /é?é HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    assert ask.client.answer().status == 200
    assert ask.seen == ("/é", "/é?é")


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "HEAD", "patch", "Get", "M-SEARCH"])
def test_method(ask: Asked, method: str) -> None:
    """A-REQ-05, I-S-24: as it was sent."""
    assert ask(lambda req: req.get_method(), method) == method


@pytest.mark.parametrize(("version", "ancient"), [("1.0", True), ("1.1", False)])
def test_is_ancient(ask: Asked, version: str, ancient: bool) -> None:
    """A-REQ-16."""
    assert ask(lambda req: req.is_ancient(), version=version) is ancient


# ---- headers --------------------------------------------------------------------------------------------------------

HEADERS = (
    "X-One: 1",
    "x-two:   blanks around\t ",
    "X-Empty:",
    "X-ONE: again",
    "X-Text: caf\xe9",
    "X_y.z!: token",
)


def test_get_headers(ask: Asked) -> None:
    """A-REQ-07, DEC-12, B-HT-07, B-HT-08: lower case names, trimmed values, repeated ones joined."""
    headers = ask(lambda req: req.get_headers(), "GET", "/", *HEADERS)
    assert type(headers) is dict
    assert headers == {
        "host": "test",
        "x-one": "1, again",
        "x-two": "blanks around",
        "x-empty": "",
        "x-text": "café",
        "x_y.z!": "token",
    }


def test_get_header(ask: Asked) -> None:
    """A-REQ-08, DEC-12: the same response before and after get_headers."""

    def look(req: Any) -> list[Any]:
        names = [
            "x-one",
            "x-two",
            "x-empty",
            "x-text",
            "missing",
            b"x-one",
            b"missing",
            "X-One",
            "x-on",
            "x-one:",
            "",
        ]
        before = [req.get_header(name) for name in names]
        req.get_headers()
        after = [req.get_header(name) for name in names]
        return [before, after]

    before, after = ask(look, "GET", "/", *HEADERS)
    assert before == [
        "1, again",
        "blanks around",
        "",
        "café",
        None,
        "1, again",
        None,
        "1, again",
        None,
        None,
        None,
    ]
    assert after == before


@pytest.mark.parametrize(("name", "value"), [(5, "five"), (None, None), (["x"], None)])
def test_get_header_of_other_types(ask: Asked, name: Any, value: str | None) -> None:
    """A-REQ-08: a name that is neither text nor bytes goes through JSON, and is rarely there."""
    assert ask(lambda req: req.get_header(name), "GET", "/", "5: five") == value


def test_headers_in_utf8(ask: Asked) -> None:
    """A-REQ-07, I-C-30."""
    ask.look = lambda req: req.get_header("x")
    ask.client.send("GET / HTTP/1.1\r\nHost: test\r\nX: čaj\r\n\r\n".encode())
    ask.client.answer()
    assert ask.seen == "čaj"
    ask.client.send(b"GET / HTTP/1.1\r\nHost: test\r\nX: \xff\r\n\r\n")
    ask.client.answer()
    assert ask.seen == "\xff"


def test_repeated_cookies_are_joined(ask: Asked) -> None:
    """DEC-12: cookies with a semicolon."""

    def look(req: Any) -> tuple[Any, ...]:
        return req.get_header("cookie"), req.get_headers()["cookie"], req.get_cookie("a"), req.get_cookie("b")

    assert ask.cookie(look, "a=1", "b=2; c=3") == ("a=1; b=2; c=3", "a=1; b=2; c=3", "1", "2")


def test_the_headers_dict_is_the_users(ask: Asked) -> None:
    """A-REQ-07: changing the result changes nothing for others."""

    def look(req: Any) -> Any:
        req.get_headers()["host"] = "changed"
        req.get_headers().clear()
        return req.get_header("host"), req.get_headers()["host"]

    assert ask(look) == ("test", "test")


def test_for_each_header(ask: Asked) -> None:
    """A-REQ-06, I-S-29: wire order, repeats included."""

    def look(req: Any) -> list[tuple[str, str]]:
        pairs: list[tuple[str, str]] = []
        assert req.for_each_header(lambda name, value: pairs.append((name, value))) in (None, req)
        return pairs

    assert ask(look, "GET", "/", *HEADERS) == [
        ("host", "test"),
        ("x-one", "1"),
        ("x-two", "blanks around"),
        ("x-empty", ""),
        ("x-one", "again"),
        ("x-text", "café"),
        ("x_y.z!", "token"),
    ]


def test_for_each_header_goes_on_after_an_exception(ask: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """A-REQ-06: it is logged."""

    def look(req: Any) -> list[str]:
        names: list[str] = []

        def handler(name: str, value: str) -> None:
            names.append(name)
            if name == "x-one":
                raise ValueError(f"no {value}")

        req.for_each_header(handler)
        return names

    assert ask(look, "GET", "/", "X-One: 1", "X-Two: 2") == ["host", "x-one", "x-two"]
    assert len(caplog.records) == 1
    assert "no 1" in caplog.text


def test_for_each_header_refuses_coroutine_functions(ask: Asked, caplog: pytest.LogCaptureFixture) -> None:
    """A-CALL-14: with a logged error, without a coroutine that is never awaited."""
    called: list[str] = []

    async def handler(name: str, value: str) -> None:
        called.append(name)

    with caplog.at_level(logging.ERROR):
        ask(lambda req: req.for_each_header(handler), "GET", "/")
    assert called == []
    assert "for_each_header" in caplog.text


# ---- query ----------------------------------------------------------------------------------------------------------

QUERIES = [
    "",
    "a=1",
    "a=1&a=2&b=3",
    "a=&b=&c=1",
    "flag",
    "flag&f=1",
    "f&flag=2&f=1",
    "=1",
    "=&=1&a=1",
    "a=1=2",
    "a+b=c+d",
    "a%20b=c%2Bd",
    "%61=1",
    "a=%",
    "a=%4",
    "a=%zz",
    "%=1",
    "a=%C3%A9&b=%e9",
    "a=%F0%9F%98%80",
    "a=1;b=2",
    "&&a=1&&",
    "a[]=1&a[]=2",
    "a=%00",
    "a=b%26c%3Dd",
    "?a=1",
    "a=x?y",
]


@pytest.mark.parametrize("query", QUERIES)
def test_get_queries(ask: Asked, query: str) -> None:
    """A-REQ-09, I-C-19: exactly what urllib reads."""
    queries = ask.query(lambda req: req.get_queries(), query)
    assert queries == urllib.parse.parse_qs(query)
    assert list(queries) == list(urllib.parse.parse_qs(query))


def test_get_queries_without_query(ask: Asked) -> None:
    """A-REQ-09, I-C-19: `{}`, each time."""
    assert ask(lambda req: (req.get_queries(), req.get_queries())) == ({}, {})


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ("a=1", "a", "1"),
        ("a=1", b"a", "1"),
        ("a=1", "b", None),
        ("a=1&a=2", "a", "1"),
        ("a=&b=1", "a", ""),
        ("a", "a", None),
        ("flag&f=1", "f", "1"),
        ("ab&ac&abc=1", "abc", "1"),
        ("a&a=1", "a", "1"),
        ("a=1&=2", "", None),
        ("q=red+tea%21", "q", "red tea!"),
        ("a%20b=1", "a b", "1"),
        ("caf%C3%A9=%C3%A9", "café", "é"),
        ("aa=1&a=2", "a", "2"),
        ("a=1=2&b", "a", "1=2"),
        ("A=1", "a", None),
        ("a=%e9", "a", "\ufffd"),
    ],
)
def test_get_query(ask: Asked, query: str, key: Any, value: str | None) -> None:
    """A-REQ-10, DEC-3, I-C-17, I-C-18: always text or None, after any earlier call."""

    def look(req: Any) -> list[Any]:
        first = [req.get_query(key), req.get_query(key), req.get_full_url()]
        req.get_queries()
        req.preserve()
        return [*first, req.get_query(key), req.get_full_url()]

    assert ask.query(look, query) == [value, value, f"/?{query}", value, f"/?{query}"]


@pytest.mark.parametrize("target", ["/", "/?"])
def test_get_query_without_query(ask: Asked, target: str) -> None:
    """A-REQ-10."""
    assert ask(lambda req: (req.get_query("a"), req.get_query("")), "GET", target) == (None, None)


# ---- parameters -----------------------------------------------------------------------------------------------------


@each_lane
def test_parameters(serve: Serve, lane: str) -> None:
    """A-REQ-11, A-REQ-12, I-C-31, I-S-25."""
    seen: list[Any] = []

    def handle(res: Any, req: Any) -> None:
        for _ in range(2):
            seen.append([req.get_parameter(index) for index in (0, 1, 2, -1, -2, "a", "b", "c")])
            seen.append(
                [req.get_parameters(), req.get_parameters(0), req.get_parameters(1), req.get_parameters(2)]
            )
        res.end("")

    with serve(lambda app: app.get("/:a/x/:b", on(lane, handle)), **options(lane)).client() as client:
        client.get("/1%20/x/%C3%A9")
    single = ["1%20", "%C3%A9", None, None, None, "1%20", "%C3%A9", None]
    assert seen == 2 * [single, [["1%20", "%C3%A9"], "1%20", "%C3%A9", None]]


def test_no_parameters(ask: Asked) -> None:
    """A-REQ-11, A-REQ-12."""
    assert ask(lambda req: (req.get_parameters(), req.get_parameter(0)), "GET", "/a") == ([], None)


# ---- cookies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "name", "value"),
    [
        ("a=1", "a", "1"),
        ("a=1", "b", None),
        ("a=1; b=2", "b", "2"),
        ("a=1;b=2", b"b", "2"),
        ("a=1; a=2", "a", "2"),
        ("a=", "a", ""),
        ('a="quoted; value"', "a", "quoted; value"),
        ('a="x\\"y"', "a", 'x"y'),
        ("a=b%20c+d", "a", "b%20c+d"),
        ("a=b=c", "a", "b=c"),
        ("a b=1; c=2", "c", "2"),
        ("a,b=1; c=2", "c", "2"),
        ("novalue; c=2", "c", "2"),
        ("c=2; ;;; =x", "c", "2"),
        ("path=/; c=2", "c", "2"),
        ("A=1", "a", None),
    ],
)
def test_get_cookie(ask: Asked, header: str, name: Any, value: str | None) -> None:
    """A-REQ-01, I-C-21, I-S-33, DEC-9: read raw, and pair by pair."""
    assert ask.cookie(lambda req: (req.get_cookie(name), req.get_cookie(name)), header) == (value, value)


def test_get_cookies(ask: Asked) -> None:
    """A-REQ-02: a jar, or None without a header."""
    jar = ask.cookie(lambda req: req.get_cookies(), "a=1; b=two")
    assert isinstance(jar, SimpleCookie)
    assert {name: jar[name].value for name in jar} == {"a": "1", "b": "two"}
    assert ask(lambda req: (req.get_cookies(), req.get_cookie("a"))) == (None, None)


# ---- the object -----------------------------------------------------------------------------------------------------


def everything(req: Any) -> list[Any]:
    pairs: list[Any] = []
    req.for_each_header(lambda name, value: pairs.append((name, value)))
    return [
        req.get_method(),
        req.get_url(),
        req.get_full_url(),
        req.get_header("x"),
        req.get_headers(),
        pairs,
        req.get_query("q"),
        req.get_queries(),
        req.get_parameters(),
        req.get_parameter(0),
        req.get_cookie("c"),
        req.get_cookies()["c"].value,
        req.is_ancient(),
    ]


EVERYTHING = [
    "GET",
    "/user/7",
    "/user/7?q=a+b&q=c",
    "1",
    {"host": "test", "x": "1", "cookie": "c=2"},
    [("host", "test"), ("x", "1"), ("cookie", "c=2")],
    "a b",
    {"q": ["a b", "c"]},
    ["7"],
    "7",
    "2",
    "2",
    False,
]
WHOLE = ("GET", "/user/7?q=a+b&q=c", "X: 1", "Cookie: c=2")


@pytest.mark.parametrize("lane", [TASK, RESUMED])
@pytest.mark.parametrize("preserve", [True, False])
def test_valid_after_an_await(serve: Serve, lane: str, preserve: bool) -> None:
    """A-REQ-13, A-CALL-09, I-C-16, I-S-50, I-S-51: it owns its data, with preserve and without."""
    seen: list[Any] = []

    async def handle(res: Any, req: Any) -> None:
        if lane == RESUMED:
            await asyncio.sleep(0)
        if preserve:
            assert req.preserve() is req
        await asyncio.sleep(0.001)
        seen.append(everything(req))
        res.end("")
        seen.append(everything(req))

    with serve(lambda app: app.get("/user/:id", handle)).client() as client:
        # The request after it lies where it lay in the buffer.
        client.request(*WHOLE).request("GET", "/none?" + "z" * 300)
        assert [client.answer().status for _ in range(2)] == [200, 404]
    assert seen == [EVERYTHING, EVERYTHING]


def test_valid_for_ever(serve: Serve) -> None:
    """A-CALL-09: also when the connection and the application have gone."""
    kept: list[Any] = []
    app = serve(lambda app: app.get("/user/:id", lambda res, req: kept.append(req) or res.end("")))
    with app.client() as client:
        client.request(*WHOLE).answer()
    app.stop()
    assert everything(kept[0]) == EVERYTHING
    assert kept[0].get_yield() is False


def test_attributes(serve: Serve) -> None:
    """A-REQ-17: `app`, and users' own attributes."""
    seen: list[Any] = []

    def handle(res: Any, req: Any) -> None:
        req.user = {"id": 1}
        seen.extend([req.app, res.app, req.user, hasattr(req, "other"), hash(req) == hash(req), req == req])
        res.end("")

    app = serve(lambda app: app.get("/", handle))
    with app.client() as client:
        client.get()
        client.get()
    assert seen == [app.app, app.app, {"id": 1}, False, True, True] * 2


@pytest.mark.parametrize("kind", ["partial", "callable object", "method"])
def test_kinds_of_handlers(serve: Serve, kind: str) -> None:
    """A-CALL-01, A-CALL-02: asynchronous ones are recognized."""

    async def handle(extra: str, res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end(extra + req.get_url())

    class Object:
        async def __call__(self, res: Any, req: Any) -> None:
            await handle("x", res, req)

    handlers: dict[str, Any] = {
        "partial": functools.partial(handle, "x"),
        "callable object": Object(),
        "method": Object().__call__,
    }
    with serve(lambda app: app.get("/", handlers[kind])).client() as client:
        assert client.get().body == b"x/"


def test_a_coroutine_from_a_plain_function(serve: Serve) -> None:
    """A-CALL-02: an awaitable that a plain handler returns is awaited."""

    async def answer(res: Any) -> None:
        await asyncio.sleep(0)
        res.end("awaited")

    with serve(lambda app: app.get("/", lambda res, req: answer(res))).client() as client:
        assert client.get().body == b"awaited"


@each_lane
def test_with_another_client(serve: Serve, lane: str) -> None:
    """A.6 as httpx sends it."""
    seen: list[Any] = []

    def handle(res: Any, req: Any) -> None:
        seen.append(
            [
                req.get_method(),
                req.get_full_url(),
                req.get_queries(),
                req.get_cookie("c"),
                req.get_header("x-y"),
            ]
        )
        res.end("")

    app = serve(lambda app: app.any("/*", on(lane, handle)), **options(lane))
    with httpx.Client(base_url=f"http://127.0.0.1:{app.port}", cookies={"c": "v"}) as client:
        for method in ("GET", "PUT", "HEAD"):
            client.request(method, "/päth", params={"k": ["a b", "ü&"]}, headers={"X-Y": "z"})
    url = "/p%C3%A4th?k=a%20b&k=%C3%BC%26"
    queries = {"k": ["a b", "ü&"]}
    assert [[item[0], item[1].replace("+", "%20"), *item[2:]] for item in seen] == [
        [method, url, queries, "v", "z"] for method in ("GET", "PUT", "HEAD")
    ]


def test_loop_lane_is_the_loops_thread(serve: Serve) -> None:
    """design.md 3: `sync_handlers="loop"` runs plain handlers where the loop runs; the default finds the loop
    too."""
    loops: list[Any] = []

    def configure(app: App) -> None:
        app.get(
            "/", lambda res, req: loops.append((app.loop.loop, asyncio.get_running_loop())) or res.end("")
        )

    for lane in (LOOP, THREAD):
        with serve(configure, **options(lane)).client() as client:
            client.get()
    assert all(first is second for first, second in loops)
    assert len(loops) == 2
