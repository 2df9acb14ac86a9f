"""Routing over real sockets: B.1 with its order table, DEC-7, DEC-8, DEC-11, A-APP-17, A-APP-18."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from socketify import App
from support.h2_client import H2Client
from support.lanes import LANES, LOOP, RESUMED, TASK, THREAD, each_lane, on, options
from support.running import Running

Serve = Callable[..., Running]
Route = tuple[str, str]

METHODS = ("GET", "POST", "OPTIONS", "DELETE", "PATCH", "PUT", "HEAD", "CONNECT", "TRACE")


def text(body: str) -> Callable[[Any, Any], None]:
    """A handler with a constant response."""
    return lambda res, req: res.end(body) and None


class Tries:
    """Routes that write down that they were tried, with their parameters, and yield (or stop)."""

    def __init__(
        self, routes: list[Route], *, stops: tuple[Route, ...] = (), lanes: tuple[str, ...] = (THREAD,)
    ):
        self.tried: list[str] = []
        self.parameters: list[list[str]] = []
        self.routes = routes
        self.stops = stops
        self.lanes = lanes

    def __call__(self, app: App) -> None:
        for index, (method, pattern) in enumerate(self.routes):
            handler = self.handler(method, pattern)
            getattr(app, method.lower())(pattern, on(self.lanes[index % len(self.lanes)], handler))

    def handler(self, method: str, pattern: str) -> Callable[[Any, Any], None]:
        def handle(res: Any, req: Any) -> None:
            self.tried.append(f"{method} {pattern}")
            self.parameters.append(req.get_parameters())
            if (method, pattern) in self.stops:
                res.end("stopped")
            else:
                req.set_yield(True)

        return handle

    def of(self, client: Any, method: str, path: str) -> list[str]:
        """The handlers that a request tries, in order."""
        self.tried.clear()
        self.parameters.clear()
        answer = client.request(method, path).answer(method)
        stopped = (
            any(f"{method} {pattern}" == self.tried[-1] for method, pattern in self.stops)
            if self.tried
            else False
        )
        assert answer.status == (200 if stopped else 404)
        return list(self.tried)


# ---- the order table ------------------------------------------------------------------------------------------------

STATIC = "/static/route"
ABC: list[Route] = [
    ("any", "/a/b/c"),
    ("GET", "/a/:b/c"),
    ("GET", "/a/*"),
    ("GET", "/a/b/c"),
    ("POST", "/a/:b/c"),
    ("any", "/a/:b/c"),
]
SLASHES: list[Route] = [("GET", "/foo//////bar/baz/qux"), ("GET", "/foo")]
CANDY: list[Route] = [
    ("GET", "/candy/:kind/*"),
    ("GET", "/candy/lollipop/*"),
    ("GET", "/candy/:kind/:action"),
    ("GET", "/candy/lollipop/:action"),
    ("GET", "/candy/lollipop/eat"),
]
ORDER: list[tuple[str, list[Route], str, str, list[str]]] = [
    ("B-ORD-02", ABC, "POST", "/a/b/c", ["any /a/b/c", "POST /a/:b/c", "any /a/:b/c"]),
    (
        "B-ORD-03",
        ABC,
        "GET",
        "/a/b/c",
        ["GET /a/b/c", "any /a/b/c", "GET /a/:b/c", "any /a/:b/c", "GET /a/*"],
    ),
    (
        "B-ORD-07",
        [("GET", "/foo"), ("GET", "/:id"), ("GET", "/1ab")],
        "GET",
        "/1ab",
        ["GET /1ab", "GET /:id"],
    ),
    ("B-ORD-08", [("GET", "/*"), ("GET", "/")], "GET", "/", ["GET /", "GET /*"]),
    ("B-ORD-09", SLASHES, "GET", "/foo", ["GET /foo"]),
    ("B-ORD-09", SLASHES, "GET", "/foo/", []),
    ("B-ORD-09", SLASHES, "GET", "/foo//bar/baz/qux", []),
    ("B-ORD-09", SLASHES, "GET", "/foo//////bar/baz/qux", ["GET /foo//////bar/baz/qux"]),
    (
        "B-ORD-10",
        CANDY,
        "GET",
        "/candy/lollipop/eat",
        [
            "GET /candy/lollipop/eat",
            "GET /candy/lollipop/:action",
            "GET /candy/lollipop/*",
            "GET /candy/:kind/:action",
            "GET /candy/:kind/*",
        ],
    ),
    ("B-ORD-11", CANDY, "GET", "/candy/lollipop/", ["GET /candy/lollipop/*", "GET /candy/:kind/*"]),
    ("B-ORD-12", CANDY, "GET", "/candy/lollipop", []),
    ("B-ORD-12", CANDY, "GET", "/candy/", []),
    ("B-ORD-13", [("GET", "/*"), ("POST", "/x"), ("any", "/x")], "nonsense", "/x", ["any /x"]),
    ("B-ORD-13", [("GET", "/*"), ("POST", "/x")], "nonsense", "/x", []),
]

MIXES = [(THREAD,), (TASK,), (THREAD, TASK), (TASK, THREAD)]


@pytest.mark.parametrize("lanes", MIXES, ids=" and ".join)
@pytest.mark.parametrize(
    ("routes", "method", "path", "tries"),
    [row[1:] for row in ORDER],
    ids=[f"{row[0]} {row[2]} {row[3]}" for row in ORDER],
)
def test_order(
    serve: Serve, routes: list[Route], method: str, path: str, tries: list[str], lanes: tuple[str, ...]
) -> None:
    """B-ORD-02 to B-ORD-13 without those about WebSockets, for any mixture of handlers; B-RT-09."""
    table = Tries(routes, lanes=lanes)
    with serve(table).client() as client:
        assert table.of(client, method, path) == tries
        # B-RT-17, DEC-7: the connection is there for another.
        assert table.of(client, method, path) == tries


@pytest.mark.parametrize("lanes", MIXES, ids=" and ".join)
def test_order_with_stops(serve: Serve, lanes: tuple[str, ...]) -> None:
    """B-ORD-01, B-RT-10."""
    routes = [("any", STATIC), ("PATCH", STATIC), ("GET", STATIC)]
    table = Tries(routes, stops=(("any", STATIC), ("GET", STATIC)), lanes=lanes)
    with serve(table).client() as client:
        assert table.of(client, "POST", STATIC) == [f"any {STATIC}"]
        assert table.of(client, "GET", STATIC) == [f"GET {STATIC}"]
        assert table.of(client, "PATCH", STATIC) == [f"PATCH {STATIC}", f"any {STATIC}"]


@pytest.mark.parametrize("lanes", MIXES, ids=" and ".join)
def test_parameters_are_those_of_the_candidate(serve: Serve, lanes: tuple[str, ...]) -> None:
    """B-RT-14, B-ORD-10: parameters are found anew for each candidate; B-RT-07: a wildcard gives none."""
    table = Tries(CANDY, lanes=lanes)
    with serve(table).client() as client:
        table.of(client, "GET", "/candy/lollipop/eat")
    assert table.parameters == [[], ["eat"], [], ["lollipop", "eat"], ["lollipop"]]


# ---- patterns -------------------------------------------------------------------------------------------------------

MATCHES: list[tuple[str, str, str, bool]] = [
    ("B-RT-01", "foo", "/foo", True),
    ("B-RT-01", "foo", "/oo", False),
    ("B-RT-01", "*", "/any/thing", True),
    ("B-RT-01", "", "/", True),
    ("B-RT-02", "/foo", "/Foo", False),
    ("B-RT-02", "/foo", "/%66oo", False),
    ("B-RT-02", "/%66oo", "/%66oo", True),
    ("B-RT-02", "/%c3%a9", "/%C3%A9", False),
    ("B-RT-02", "/b", "/a/../b", False),
    ("B-RT-02", "/b", "/./b", False),
    ("B-RT-02", "/a/b", "/a//b", False),
    ("B-RT-02", "/a//b", "/a//b", True),
    ("B-RT-02", "/a//b", "/a/b", False),
    ("B-RT-02", "/a", "/a?b=c", True),
    ("B-RT-03", "/:id", "/1", True),
    ("B-RT-03", "/:id", "/", False),
    ("B-RT-03", "/:id", "/1/2", False),
    ("B-RT-03", "/a/:id/b", "/a//b", False),
    ("B-RT-03", "/a:id", "/a:id", True),
    ("B-RT-03", "/a:id", "/a1", False),
    ("B-RT-05", "/a/*", "/a/", True),
    ("B-RT-05", "/a/*", "/a/b", True),
    ("B-RT-05", "/a/*", "/a/b/c", True),
    ("B-RT-05", "/a/*", "/a", False),
    ("B-RT-05", "/a/*name", "/a/b/c", True),
    ("B-RT-05", "/a*", "/a*", True),
    ("B-RT-05", "/a*", "/ab", False),
    ("B-RT-05", "/*", "/", True),
    ("B-RT-05", "/*", "/a/b", True),
    ("B-RT-06", "/a/*/b", "/a/x/b", False),
    ("B-RT-08", "/foo", "/foo/", False),
    ("B-RT-08", "/foo/", "/foo", False),
    ("B-RT-08", "/foo/", "/foo/", True),
    ("B-RT-19", "/*", "/x" * 100, True),
    ("B-RT-19", "/*", "/x" * 101, False),
    ("B-RT-19", "/:a" + "/x" * 99, "/x" * 101, False),
]


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [row[1:] for row in MATCHES],
    ids=[f"{row[0]} {row[1][:20]!r} {row[2][:20]}" for row in MATCHES],
)
def test_match(serve: Serve, pattern: str, path: str, matches: bool) -> None:
    """B-RT-01 to B-RT-08, B-RT-19: the matches of a pattern."""
    with serve(lambda app: app.get(pattern, text("found"))).client() as client:
        assert client.get(path).status == (200 if matches else 404)


def test_unreachable_segments_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """B-RT-06: the route is accepted, and the log has a warning that it never matches."""
    app = App()
    with caplog.at_level(logging.WARNING, "socketify"):
        app.get("/fine/*", text(""))
        assert not caplog.records
        app.get("/files/*/edit", text(""))
    assert "/files/*/edit" in caplog.text
    app.dispose()


@each_lane
def test_parameters(serve: Serve, lane: str) -> None:
    """B-RT-03, A-REQ-11, A-REQ-12: raw values in pattern order, by position and by name."""

    def handle(res: Any, req: Any) -> None:
        res.end(
            [req.get_parameters(), req.get_parameter(1), req.get_parameter("user"), req.get_parameter("none")]
        )

    app = serve(lambda app: app.get("/:user/posts/:post", on(lane, handle)), **options(lane))
    answer = httpx.get(f"http://127.0.0.1:{app.port}/J%C3%BCrgen%20/posts/a+b")
    assert answer.json() == [["J%C3%BCrgen%20", "a+b"], "a+b", "J%C3%BCrgen%20", None]


def test_parameter_names_at_one_place(serve: Serve) -> None:
    """B-RT-04: patterns with different names at the same place are both reachable."""

    def configure(app: App) -> None:
        app.get("/:a/x", lambda res, req: res.end("x " + req.get_parameter("a")))
        app.get("/:b/y", lambda res, req: res.end("y " + req.get_parameter("b")))
        app.get("/:c", lambda res, req: res.end("c " + req.get_parameter("c")))

    with serve(configure).client() as client:
        assert [client.get(path).body for path in ("/1/x", "/2/y", "/3")] == [b"x 1", b"y 2", b"c 3"]


def test_backtracking(serve: Serve) -> None:
    """B-RT-09: a static branch that ends nowhere is left again."""

    def configure(app: App) -> None:
        app.get("/a/b/c/d", text("static"))
        app.get("/a/:x/c/e", text("parameter"))
        app.get("/a/*", text("wildcard"))
        app.get("/*", text("root"))

    with serve(configure).client() as client:
        paths = ("/a/b/c/d", "/a/b/c/e", "/a/b/c/f", "/a", "/b")
        bodies = [client.get(path).body for path in paths]
    assert bodies == [b"static", b"parameter", b"wildcard", b"root", b"root"]


BAD_PATTERNS = ["/users/:", "/:id/:id", "/a?b", "/a#b", "/a\nb", "/a\0b", "/x" * 101]


@pytest.mark.parametrize("pattern", BAD_PATTERNS, ids=[repr(pattern[:12]) for pattern in BAD_PATTERNS])
def test_bad_patterns(serve: Serve, pattern: str) -> None:
    """A pattern that can never match as it is meant is refused by name, also while serving, and harms nothing."""
    app = serve(lambda app: app.get("/", text("fine")))
    with pytest.raises(ValueError, match="route pattern"):
        app.app.get(pattern, text(""))
    with app.client() as client:
        assert client.get("/").body == b"fine"


@pytest.mark.parametrize("path", [None, 1, ["/"]])
def test_paths_that_are_no_text(path: Any) -> None:
    """A-APP-17."""
    app = App()
    with pytest.raises((TypeError, AttributeError)):
        app.get(path, text(""))
    app.dispose()


@pytest.mark.parametrize("handler", [None, "handler", 1])
def test_handlers_that_cannot_be_called(handler: Any) -> None:
    """B-RT-21: there is no handler None, and the message names the route."""
    app = App()
    with pytest.raises(TypeError, match="/route"):
        app.get("/route", handler)
    app.dispose()


# ---- methods --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_methods(serve: Serve, method: str) -> None:
    """A-APP-17: each registers exactly its method and gives the application."""

    def configure(app: App) -> None:
        assert getattr(app, method.lower())("/x", text(method)) is app

    app = serve(configure)
    for other in METHODS:
        with app.client() as client:
            # CONNECT names an authority, and no path.
            answer = client.request(other, "x" if other == "CONNECT" else "/x").answer(other)
        matches = other == method or (other == "HEAD" and method == "GET")
        assert answer.status == (400 if other == "CONNECT" else 200 if matches else 404), other


@pytest.mark.parametrize(("method", "target"), [("CONNECT", "test:443"), ("OPTIONS", "*")])
def test_targets_that_are_no_path(serve: Serve, method: str, target: str) -> None:
    """B-HT-03: they are routed to what takes everything."""

    def configure(app: App) -> None:
        getattr(app, method.lower())("/*", lambda res, req: res.end(req.get_url()))
        app.get("/*", text("get"))

    with serve(configure).client() as client:
        assert client.request(method, target).answer().body == target.encode()


def test_any(serve: Serve) -> None:
    """A-APP-18: every method, unknown ones too."""
    with serve(lambda app: app.any("/x", lambda res, req: res.end(req.get_method()))).client() as client:
        for method in (*METHODS, "PROPFIND", "get", "X-~"):
            if method not in ("HEAD", "CONNECT"):
                assert client.request(method, "/x").answer().body == method.encode()


def test_methods_are_case_sensitive(serve: Serve) -> None:
    """B-RT-13."""
    with serve(lambda app: app.get("/", text("found"))).client() as client:
        assert client.request("get", "/").answer().status == 404
        assert client.request("GET", "/").answer().status == 200


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "POST"])
def test_nothing_is_answered_unasked(serve: Serve, method: str) -> None:
    """B-HT-02: no automatic OPTIONS, TRACE or 405."""
    with serve(lambda app: app.get("/x", text("found"))).client() as client:
        answer = client.request(method, "/x").answer()
    assert answer.status == 404
    assert answer.header("allow") is None


def test_any_and_parameters(serve: Serve) -> None:
    """B-RT-12: a static `any` goes before a GET with a parameter."""

    def configure(app: App) -> None:
        app.get("/:id", text("parameter"))
        app.any("/me", text("any"))

    with serve(configure).client() as client:
        assert client.get("/me").body == b"any"
        assert client.get("/you").body == b"parameter"


def test_method_before_any(serve: Serve) -> None:
    """B-RT-10: in any order of registration."""

    def configure(app: App) -> None:
        app.any("/1", text("any")).get("/1", text("get"))
        app.get("/2", text("get")).any("/2", text("any"))

    with serve(configure).client() as client:
        assert [client.get(path).body for path in ("/1", "/2")] == [b"get", b"get"]


@pytest.mark.parametrize("target", ["http://test/x?y=1", "HTTP://other:80/x?y=1"])
def test_absolute_form(serve: Serve, target: str) -> None:
    """B-HT-03: the path of an absolute target is routed."""

    def handle(res: Any, req: Any) -> None:
        res.end([req.get_url(), req.get_full_url(), req.get_query("y")])

    with serve(lambda app: app.get("/x", handle)).client() as client:
        assert client.get(target).body == b'["/x", "/x?y=1", "1"]'


@pytest.mark.parametrize("target", ["x", "*", "?a", "#"])
def test_targets_of_no_form(serve: Serve, target: str) -> None:
    """B-HT-03."""
    with serve(lambda app: app.any("/*", text("found"))).client() as client:
        assert client.get(target).status == 400
        assert client.is_closed()


# ---- HEAD -----------------------------------------------------------------------------------------------------------


@each_lane
def test_head_falls_back_to_get(serve: Serve, lane: str) -> None:
    """DEC-11, B-HT-01: the head of the GET response, without its body."""

    def handle(res: Any, req: Any) -> None:
        res.write_header("X-Method", req.get_method()).end("twelve bytes")

    with serve(lambda app: app.get("/x", on(lane, handle)), **options(lane)).client() as client:
        answer = client.request("HEAD", "/x").answer("HEAD")
        assert (answer.status, answer.header("content-length")) == (200, "12")
        assert answer.header("x-method") == "HEAD"
        # Nothing of the body is in the way of the next response.
        assert client.get("/x").body == b"twelve bytes"


@pytest.mark.parametrize("method", ["head", "any"])
def test_head_has_its_own(serve: Serve, method: str) -> None:
    """DEC-19: where a HEAD or `any` route has the same pattern."""

    def configure(app: App) -> None:
        app.get("/x", lambda res, req: res.write_header("By", "get").end("get"))
        getattr(app, method)("/x", lambda res, req: res.write_header("By", method).end("other"))

    with serve(configure).client() as client:
        assert client.request("HEAD", "/x").answer("HEAD").header("by") == method
        assert client.get("/x").header("by") == "get"


@pytest.mark.parametrize("http2", [False, True])
def test_head_goes_where_get_goes(serve: Serve, tmp_path: Path, http2: bool) -> None:
    """DEC-19: a page for unknown paths, or a less specific HEAD route, is not in the way."""
    (tmp_path / "file").write_text("file")

    def configure(app: App) -> None:
        app.get("/users", text("users")).constant("/health", "up")
        app.head("/x/:id", lambda res, req: res.write_header("By", "head").end_without_body())
        app.get("/x/me", text("me"))
        app.static("/files", tmp_path)
        app.any("/*", lambda res, req: res.write_status(404).end("Nothing here"))

    running = serve(configure)
    expected = {"/users": 200, "/health": 200, "/x/me": 200, "/x/you": 404, "/files/file": 200, "/none": 404}
    for path, status in expected.items():
        heads = []
        for method in ("GET", "HEAD"):
            if http2:
                with H2Client(running.port) as h2:
                    stream = h2.get(path, method=method)
                    heads.append(
                        (stream.status, stream.headers.get("content-length"), "by" in stream.headers)
                    )
            else:
                with running.client() as client:
                    answer = client.request(method, path).answer(method)
                    heads.append((answer.status, answer.header("content-length"), "by" in answer.headers))
        assert heads[0][0] == status
        # Paths with a HEAD route of their own.
        assert heads[1] == ((200, "0", True) if path == "/x/you" else heads[0]), path


@pytest.mark.parametrize("lanes", MIXES, ids=" and ".join)
def test_head_fallback_yields(serve: Serve, lanes: tuple[str, ...]) -> None:
    """DEC-11, B-RT-14: the fallback goes through the GET routes in their order."""
    table = Tries([("GET", "/*"), ("GET", "/:id"), ("GET", "/x"), ("POST", "/x")], lanes=lanes)
    with serve(table).client() as client:
        assert table.of(client, "HEAD", "/x") == ["GET /x", "GET /:id", "GET /*"]


# ---- nothing matches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE", "nonsense"])
def test_not_found(serve: Serve, method: str) -> None:
    """DEC-7, B-RT-17: a 404 with a length; the connection stays, also after an unread body."""
    with serve(lambda app: app.get("/", text("found"))).client() as client:
        for _ in range(2):
            answer = client.request(method, "/none", body=None if method == "HEAD" else b"x" * 1000).answer(
                method
            )
            assert answer.status_line == "HTTP/1.1 404 Not Found"
            assert answer.header("content-length") == "9"
            assert answer.header("connection") is None
            assert answer.body == (b"" if method == "HEAD" else b"Not Found")
        assert client.get("/").body == b"found"


@each_lane
def test_all_yield(serve: Serve, lane: str) -> None:
    """B-RT-17, DEC-7: headers that the handlers wrote are not part of the 404."""

    def handle(res: Any, req: Any) -> None:
        res.write_status(201).write_header("X-Said", "1")
        req.set_yield(True)

    with serve(lambda app: app.get("/", on(lane, handle)), **options(lane)).client() as client:
        answer = client.get()
        assert (answer.status, answer.body, answer.header("x-said")) == (404, b"Not Found", None)
        assert client.get().status == 404


def test_yield_after_the_body_began(serve: Serve) -> None:
    """B-RT-17: a response that was begun and not continued is cut off, not completed."""

    def handle(res: Any, req: Any) -> None:
        res.write("part")
        req.set_yield(True)

    with serve(lambda app: app.get("/", handle)).client() as client:
        assert b"0\r\n\r\n" not in client.request().rest()


def test_yield_with_half_an_answer(serve: Serve) -> None:
    """B-RT-14: the next handler may continue the response of the one before."""

    def first(res: Any, req: Any) -> None:
        res.write("one ")
        req.set_yield(True)

    def configure(app: App) -> None:
        app.get("/x", first).get("/*", on(TASK, text("two")))

    with serve(configure).client() as client:
        assert client.get("/x").body == b"one two"
        assert client.get("/x").body == b"one two"


# ---- set_yield ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", LANES)
@pytest.mark.parametrize("first", [THREAD, TASK])
def test_yield_across_lanes(serve: Serve, first: str, second: str) -> None:
    """B-RT-14, A-REQ-14, A-REQ-15: the flag is off again, and the objects are the same."""
    seen: list[Any] = []

    def yields(res: Any, req: Any) -> None:
        seen.append((res, req, req.get_yield()))
        req.note = res.note = "kept"
        assert req.set_yield(True) in (None, req)
        seen.append(req.get_yield())

    def answers(res: Any, req: Any) -> None:
        seen.append((res, req, req.get_yield()))
        res.end(f"{req.note} {res.note} {req.get_parameter(0)}")

    def configure(app: App) -> None:
        app.get("/x", on(first, yields))
        app.get("/:id", on(second, answers))

    with serve(configure, **options(second)).client() as client:
        assert client.get("/x").body == b"kept kept x"
    (res, req, before), during, again = seen
    assert (before, during) == (False, True)
    assert again == (res, req, False)


@pytest.mark.parametrize("value", [True, 1, "yes", [0]])
def test_yield_is_a_truth_value(serve: Serve, value: Any) -> None:
    """A-REQ-14: any true value counts; examples pass 1."""

    def configure(app: App) -> None:
        app.get("/x", lambda res, req: req.set_yield(value)).get("/*", text("next"))

    with serve(configure).client() as client:
        assert client.get("/x").body == b"next"


@pytest.mark.parametrize("value", [False, 0, "", None])
def test_yield_taken_back(serve: Serve, value: Any) -> None:
    """A-REQ-14, A-REQ-15."""

    def handle(res: Any, req: Any) -> None:
        req.set_yield(True)
        req.set_yield(value)
        res.end(str(req.get_yield()))

    with serve(lambda app: app.get("/x", handle).get("/*", text("next"))).client() as client:
        assert client.get("/x").body == b"False"


@each_lane
def test_yield_after_responding(serve: Serve, lane: str) -> None:
    """B-RT-15, I-A-14, H-09: routing stops; there is one response, and the connection can be used."""
    ran: list[str] = []

    def handle(res: Any, req: Any) -> None:
        try:
            res.end("first")
        finally:
            req.set_yield(True)

    def configure(app: App) -> None:
        app.get("/x", on(lane, handle)).any("/*", lambda res, req: ran.append("any") or res.end("second"))

    with serve(configure, **options(lane)).client() as client:
        client.request("GET", "/x").request("GET", "/x").request("GET", "/y")
        assert [client.answer().body for _ in range(3)] == [b"first", b"first", b"second"]
    assert ran == ["any"]


@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_yield_and_raise(serve: Serve, lane: str) -> None:
    """H-09: a handler that yields and raises gets the error handler's response and no other."""

    def handle(res: Any, req: Any) -> None:
        try:
            raise ValueError("not a number")
        finally:
            req.set_yield(True)

    with serve(lambda app: app.get("/x", on(lane, handle)).any("/*", text("next"))).client() as client:
        answer = client.request("GET", "/x").request("GET", "/y").answer()
        assert (answer.status, answer.body) == (500, b"Internal Error")
        assert client.answer().body == b"next"


def test_yield_after_a_suspension(serve: Serve) -> None:
    """B-RT-16: the handler's own answer is the response."""

    async def handle(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        req.set_yield(True)
        await asyncio.sleep(0)
        res.end("mine")

    with serve(lambda app: app.get("/x", handle).any("/*", text("next"))).client() as client:
        assert client.get("/x").body == b"mine"


@pytest.mark.parametrize("rest", ["nothing", "constant", "def", "async def"])
@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_yield_leaves_nothing_behind(serve: Serve, lane: str, rest: str) -> None:
    """Request and response are freed, wherever routing ended."""
    kept: list[weakref.ref[Any]] = []

    def handle(res: Any, req: Any) -> None:
        kept.extend((weakref.ref(res), weakref.ref(req)))
        if req.get_query("answer"):
            res.end("first")
        req.set_yield(True)

    def configure(app: App) -> None:
        app.get("/x", on(lane, handle))
        if rest == "constant":
            app.constant("/*", "next")
        elif rest != "nothing":
            app.get("/*", on(rest, text("next")))

    with serve(configure).client() as client:
        client.get("/x")
        client.get("/x?answer=1")
        # One more, so that the thread of the last one has released it.
        client.get("/y")
        gc.collect()
        assert [ref() for ref in kept] == [None] * 4


def test_yield_to_a_constant(serve: Serve) -> None:
    """B-RT-14: a response that needs no Python is a candidate like others."""

    def configure(app: App) -> None:
        app.get("/x", lambda res, req: res.write_header("X-Said", "1") and req.set_yield(True))
        app.constant("/*", "constant")

    with serve(configure).client() as client:
        for _ in range(2):
            answer = client.get("/x")
            assert (answer.status, answer.body, answer.header("x-said")) == (200, b"constant", None)


def test_yield_keeps_the_body(serve: Serve) -> None:
    """B-RT-14, B-HT-15: the handler that takes the request in the end gets its whole body."""

    async def handle(res: Any, req: Any) -> None:
        res.end((await res.get_data()).getvalue())

    def configure(app: App) -> None:
        app.post("/x", lambda res, req: req.set_yield(True)).any("/*", handle)

    with serve(configure).client() as client:
        body = b"b" * 200_000
        assert client.request("POST", "/x", body=body).answer().body == body


# ---- changing routes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "any"])
def test_replaced(serve: Serve, method: str) -> None:
    """DEC-8, B-RT-18: the later one replaces the earlier, and does not come after it."""

    def configure(app: App) -> None:
        register = getattr(app, method)
        register("/x", text("first"))
        register("/x", lambda res, req: req.set_yield(True))
        app.get("/*", text("rest"))

    with serve(configure).client() as client:
        assert client.get("/x").body == b"rest"


def test_replaced_while_running(serve: Serve) -> None:
    """DEC-8, B-RT-20: effective with the next request of an open connection."""
    app = serve(lambda app: app.get("/x", text("first")))
    with app.client() as client:
        assert client.get("/x").body == b"first"
        app.app.get("/x", on(TASK, text("second")))
        assert client.get("/x").body == b"second"


@pytest.mark.parametrize("lane", [THREAD, LOOP, TASK, RESUMED])
def test_added_while_running(serve: Serve, lane: str) -> None:
    """B-RT-20: from a handler, from another thread."""
    app: Running

    def handle(res: Any, req: Any) -> None:
        res.app.get("/from/handler", text("handler"))
        res.end("added")

    app = serve(lambda app: app.get("/", on(lane, handle)), **options(lane))
    with app.client() as client:
        assert client.get("/from/handler").status == 404
        assert client.get("/").body == b"added"
        assert client.get("/from/handler").body == b"handler"
        assert client.get("/from/thread").status == 404
        app.app.get("/from/:thread", text("thread"))
        assert client.get("/from/thread").body == b"thread"
        assert client.get("/from/handler").body == b"handler"


def test_prefix(serve: Serve) -> None:
    """B-RT-22: prefix and path are joined unchanged."""

    def configure(app: App) -> None:
        router = app.router("/api")
        router.get("/users")(text("users"))
        router.get("-docs")(text("docs"))
        router.get("")(text("root"))

    with serve(configure).client() as client:
        paths = ("/api/users", "/api-docs", "/api", "/api/")
        assert [client.get(path).body for path in paths] == [b"users", b"docs", b"root", b"Not Found"]
