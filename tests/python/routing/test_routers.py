"""Routers and middlewares on a server: E.3, A-APP-12, A-CALL-06, H-15 to H-18, I-S-59."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App, DecoratorRouter, MiddlewareRouter, OpCode, middleware
from support import until
from support.lanes import each_lane, on, options
from support.ws_client import WebSocketClient, handshake

Serve = Callable[..., Any]

METHODS = ["get", "post", "options", "delete", "patch", "put", "head", "trace", "any"]


def auth(res: Any, req: Any, data: Any) -> Any:
    """H-15 to H-18: a handler without a response causes a warning."""
    user = req.get_header("authorization")
    if not user:
        res.write_status(403).end("not authorized")
    return user


async def auth_later(res: Any, req: Any, data: Any) -> Any:
    await asyncio.sleep(0)
    return auth(res, req, data)


def plus(text: str) -> Callable[..., Any]:
    return lambda res, req, data: f"{data or ''}{text}"


def plus_later(text: str) -> Callable[..., Any]:
    async def add(res: Any, req: Any, data: Any) -> str:
        await asyncio.sleep(0)
        return f"{data or ''}{text}"

    return add


def show(res: Any, req: Any, data: Any) -> None:
    res.end(f"{req.get_url()} {data}")


async def show_later(res: Any, req: Any, data: Any) -> None:
    await asyncio.sleep(0)
    show(res, req, data)


# ---- chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [auth, auth_later])
@pytest.mark.parametrize("last", [show, show_later])
@pytest.mark.parametrize(
    "between", [[], [plus("!")], [plus_later("!")], [middleware(plus("!"), plus_later(""))]]
)
def test_a_chain_answers_in_any_mix(serve: Serve, first: Any, between: list[Any], last: Any) -> None:
    """E-MW-01 to E-MW-05, H-15, I-C-39: data goes through, and a false value stops."""

    def configure(app: App) -> None:
        app.get("/x", middleware(first, *between, last))
        app.get("/nested", middleware(middleware(first, *between), middleware(last)))

    with serve(configure).client() as client:
        for path in ("/x", "/nested"):
            refused = client.get(path)
            assert (refused.status, refused.body) == (403, b"not authorized")
            assert client.get(path, "Authorization: me").body.decode() == f"{path} me{'!' if between else ''}"


def fail(res: Any, req: Any, data: Any) -> None:
    raise KeyError("member")


async def fail_later(res: Any, req: Any, data: Any) -> None:
    await asyncio.sleep(0)
    raise KeyError("member")


@pytest.mark.parametrize(
    ("chain", "has_request"),
    [
        ([fail, show], True),
        ([plus("a"), fail], True),
        ([fail, show_later], True),
        ([plus("a"), fail, show_later], True),
        ([plus("a"), middleware(plus("b"), fail), show], True),
        ([fail_later, show], False),
        ([plus("a"), fail_later, show], False),
        ([plus_later("a"), fail, show], False),
        ([plus_later("a"), show, fail], None),
        ([plus("a"), middleware(plus("b"), fail_later), show], False),
    ],
)
def test_an_error_in_any_member_is_told(serve: Serve, chain: list[Any], has_request: bool | None) -> None:
    """E-MW-06, A-CALL-06, A-CALL-07: the request is passed if the member ran at once, not after a
    coroutine."""
    errors: list[Any] = []

    def failed(error: Exception, res: Any, req: Any) -> None:
        errors.append((repr(error), req is not None))
        res.write_status(500).end("failed")

    def configure(app: App) -> None:
        app.set_error_handler(failed)
        app.get("/", middleware(*chain))
        app.router("/router", *chain[:-1]).get("")(chain[-1])
        MiddlewareRouter(app, *chain[:-1]).get("/other", chain[-1])

    with serve(configure).client() as client:
        for path in ("/", "/router", "/other"):
            if has_request is None:
                # A member that responds stops the chain here, since it returns nothing.
                assert client.get(path).status == 200
            else:
                assert (client.get(path).status, client.get(path).body) == (500, b"failed")
    assert errors == ([] if has_request is None else [("KeyError('member')", has_request)] * 6)


def test_handwritten_chains(serve: Serve) -> None:
    """H-16, H-17: a decorator of one's own needs nothing of this."""

    def sync(handler: Any) -> Any:
        def run(res: Any, req: Any) -> Any:
            return handler(res, req, user) if (user := auth(res, req, None)) else None

        return run

    def later(handler: Any) -> Any:
        async def run(res: Any, req: Any) -> None:
            headers, parameters, queries = req.get_headers(), req.get_parameters(), req.get_queries()
            if user := await auth_later(res, req, None):
                assert headers["authorization"] == user
                assert (parameters, queries) == (["10"], {"theme_color": ["dark"]})
                await handler(res, req, user)

        return run

    @sync
    def plain(res: Any, req: Any, user: str) -> None:
        res.end(f"plain {user}")

    @later
    async def user(res: Any, req: Any, user: str) -> None:
        res.end(f"{user} {req.get_parameter(0)} {req.get_query('theme_color')}")

    def configure(app: App) -> None:
        app.get("/", plain).get("/user/:id", user)

    with serve(configure).client() as client:
        assert client.get("/").status == 403
        assert client.get("/", "Authorization: me").body == b"plain me"
        assert client.get("/user/10?theme_color=dark").status == 403
        assert client.get("/user/10?theme_color=dark", "Authorization: me").body == b"me 10 dark"


@each_lane
def test_a_member_may_pass_the_request_on(serve: Serve, lane: str) -> None:
    """B-RT-14: a chain is a handler like any other."""

    def pass_on(res: Any, req: Any, data: Any = None) -> None:
        req.set_yield(True)

    def configure(app: App) -> None:
        app.get("/x", middleware(on(lane, pass_on), show)).get("/*", lambda res, req: res.end("next"))

    with serve(configure, **options(lane)).client() as client:
        assert client.get("/x").body == b"next"


def test_the_body_is_there_after_an_await(serve: Serve) -> None:
    """S#207: a middleware that awaits loses nothing of the body."""

    async def handler(res: Any, req: Any, data: Any) -> None:
        res.end({"user": data, "json": await res.get_json()})

    def configure(app: App) -> None:
        app.post("/", middleware(auth_later, handler))

    with serve(configure).client() as client:
        client.request("POST", "/", "Authorization: me", body=b'{"a": 1}')
        assert json.loads(client.answer().body) == {"user": "me", "json": {"a": 1}}


# ---- app.router -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_decorators_of_every_method(serve: Serve, method: str) -> None:
    """A-APP-12, E-MW-10, E-MW-11, I-B-13, I-B-14, I-S-59: with and without middlewares."""
    found: list[Any] = []

    def configure(app: App) -> None:
        @getattr(app.router("/plain"), method)("/x")
        def plain(res: Any, req: Any) -> None:
            res.end("plain")

        @getattr(app.router("/chain", plus("a"), plus("b")), method)("/x")
        def chain(res: Any, req: Any, data: str) -> None:
            res.end(data)

        found.extend([plain, chain])

    with serve(configure).client() as client:
        sent = "PROPFIND" if method == "any" else method.upper()
        for path, expected in (("/plain/x", b"plain"), ("/chain/x", b"ab")):
            answer = client.request(sent, path).answer(sent)
            assert answer.status == 200
            assert answer.header("content-length") == str(len(expected))
            assert answer.body == (b"" if method == "head" else expected)
    assert [function.__name__ for function in found] == ["plain", "chain"]


@pytest.mark.parametrize(
    ("prefix", "path", "route"),
    [
        ("/api", "/x", "/api/x"),
        ("/api/", "x", "/api/x"),
        ("api", "/x", "/api/x"),
        ("", "/x", "/x"),
        ("", "x", "/x"),
        ("/api", "", "/api"),
        ("/api", "-x", "/api-x"),
        ("/:id", "/x", "/7/x"),
        ("/api/", "/x", "/api//x"),
    ],
)
def test_prefixes(serve: Serve, caplog: pytest.LogCaptureFixture, prefix: str, path: str, route: str) -> None:
    """B-RT-01, B-RT-22: put together as they are; two slashes are rarely meant, so there is a warning."""

    def configure(app: App) -> None:
        app.router(prefix).get(path)(lambda res, req: res.end("found"))

    with caplog.at_level(logging.WARNING, "socketify"), serve(configure).client() as client:
        assert client.get(route).body == b"found"
    warned = [record.getMessage() for record in caplog.records if record.name == "socketify"]
    if "//" in route:
        assert warned == ["the prefix '/api/' and the path '/x' make '/api//x', which has an empty segment"]
    else:
        assert warned == []


def test_routers_in_routers(serve: Serve) -> None:
    """Prefixes and middlewares add up from the outside in; the outer router stays unchanged."""

    def configure(app: App) -> None:
        outer = app.router("/a", plus("1"))
        inner = outer.router("/b", plus_later("2"), plus("3"))
        inner.router("/c").get("/d")(show)
        inner.router("", [plus("4")]).get("/e")(show)
        outer.get("/f")(show)
        app.router("/g").router("/h").get("/i")(lambda res, req: res.end("plain"))

    with serve(configure).client() as client:
        assert client.get("/a/b/c/d").body == b"/a/b/c/d 123"
        assert client.get("/a/b/e").body == b"/a/b/e 1234"
        assert client.get("/a/f").body == b"/a/f 1"
        assert client.get("/g/h/i").body == b"plain"


def test_stacked_decorators(serve: Serve) -> None:
    """E-MW-12: several routes for one function, of several routers."""

    def configure(app: App) -> None:
        router, other = app.router("/a", plus("a")), app.router("/b", plus("b"))

        @router.get("/1")
        @router.post("/2")
        @other.get("/3")
        def handler(res: Any, req: Any, data: str) -> None:
            res.end(data)

    with serve(configure).client() as client:
        assert client.get("/a/1").body == b"a"
        assert client.request("POST", "/a/2").answer().body == b"a"
        assert client.get("/b/3").body == b"b"
        assert client.get("/a/2").status == 404


def test_body_limits(serve: Serve) -> None:
    """``max_body_size`` of a route counts, however it is registered."""

    async def handler(res: Any, req: Any, data: Any = None) -> None:
        res.end(str(len((await res.get_data()).getvalue())))

    def configure(app: App) -> None:
        app.router().post("/decorator", max_body_size=3)(handler)
        MiddlewareRouter(app).post("/router", handler, max_body_size=3)

    running = serve(configure)
    for path in ("/decorator", "/router"):
        with running.client() as client:
            assert client.request("POST", path, body=b"123").answer().body == b"3"
            assert client.request("POST", path, body=b"1234").answer().status == 413


# ---- MiddlewareRouter -------------------------------------------------------------------------------------------------


def test_middleware_router(serve: Serve) -> None:
    """E-MW-08, E-MW-09, H-18: chained registration, chains as handlers, three arguments without middlewares too."""

    def configure(app: App) -> None:
        MiddlewareRouter(app, auth).get("/a", show).get("/b", middleware(plus("!"), show_later))
        MiddlewareRouter(app).get("/c", show)

    with serve(configure).client() as client:
        assert client.get("/a").status == 403
        assert client.get("/a", "Authorization: me").body == b"/a me"
        assert client.get("/b", "Authorization: me").body == b"/b me!"
        assert client.get("/c").body == b"/c None"


# ---- sockets ----------------------------------------------------------------------------------------------------------


def opened(ws: Any) -> None:
    ws.send(f"hello {ws.get_user_data()}", OpCode.TEXT)


def upgrade(res: Any, req: Any, context: Any, data: Any) -> None:
    assert context["open"] is opened
    res.write_header("X-User", data)
    key, protocol = req.get_header("sec-websocket-key"), req.get_header("sec-websocket-protocol")
    res.upgrade(key, protocol, req.get_header("sec-websocket-extensions"), context, f"the {data}")


async def upgrade_later(res: Any, req: Any, context: Any, data: Any) -> None:
    await asyncio.sleep(0)
    upgrade(res, req, context, data)


@pytest.mark.parametrize("first", [auth, auth_later])
@pytest.mark.parametrize("between", [[], [plus(""), plus_later("")]])
@pytest.mark.parametrize(("own", "expected"), [(None, "me"), (upgrade, "the me"), (upgrade_later, "the me")])
@pytest.mark.parametrize("make", ["router", "MiddlewareRouter"])
def test_sockets_behind_middlewares(
    serve: Serve, first: Any, between: list[Any], own: Any, expected: str, make: str
) -> None:
    """``router.ws``: a client that a middleware stops gets no socket, and the data reaches the upgrade
    handler, or the socket."""

    def configure(app: App) -> None:
        behavior = {
            "open": opened,
            "upgrade": own,
            "message": lambda ws, message, opcode: ws.send(message, opcode),
        }
        if make == "router":
            assert isinstance(app.router("/a", first, *between).ws("/chat", behavior), DecoratorRouter)
        else:
            assert isinstance(
                MiddlewareRouter(app, first, *between).ws("/a/chat", behavior), MiddlewareRouter
            )
        app.get("/a/chat", lambda res, req: res.end("page"))

    running = serve(configure)
    with WebSocketClient(running.port) as socket:
        answer = socket.send(handshake("/a/chat")).answer()
        assert (answer.status, answer.body) == (403, b"not authorized")
        assert socket.get("/a/chat").body == b"page"
    with WebSocketClient(running.port) as socket:
        head = ["Authorization: me", "Sec-WebSocket-Protocol: first, second"]
        socket.send(handshake("/a/chat", headers=head))
        socket.opened()
        assert socket.protocol == "first"
        assert socket.response.header("x-user") == (None if own is None else "me")
        assert socket.recv_message() == f"hello {expected}"
        assert socket.send_text("echo").recv_message() == "echo"
        socket.finish()


def test_sockets_of_a_router_without_middlewares(serve: Serve) -> None:
    """The behaviour is what ``app.ws`` takes: three arguments, and errors that name the key."""
    seen: list[Any] = []
    behavior = {"upgrade": lambda res, req, context: (seen.append(context), res.write_status(418).end("no"))}

    def configure(app: App) -> None:
        app.router("/a").ws("/:room", behavior)

    with WebSocketClient(serve(configure).port) as socket:
        assert socket.send(handshake("/a/x")).answer().status == 418
    assert seen == [behavior]


def test_a_middleware_router_without_middlewares_has_sockets_too(serve: Serve) -> None:
    """E-MW-09: the upgrade handler still takes ``data``, and without one every client gets a socket."""

    def refuse(res: Any, req: Any, context: Any, data: Any) -> None:
        res.write_status(418).end(repr(data))

    def configure(app: App) -> None:
        MiddlewareRouter(app).ws("/a", {"open": opened}).ws("/b", {"upgrade": refuse})

    running = serve(configure)
    with running.websocket("/a") as socket:
        assert socket.recv_message() == "hello None"
        socket.finish()
    with WebSocketClient(running.port) as socket:
        assert socket.send(handshake("/b")).answer().body == b"None"


def test_an_error_in_a_middleware_of_a_socket(serve: Serve) -> None:
    """A-CALL-06: the handshake is a request."""

    def failed(error: Exception, res: Any, req: Any) -> None:
        res.write_status(500).end(repr(error))

    def configure(app: App) -> None:
        app.set_error_handler(failed)
        app.router("/a", fail).ws("", {})
        app.router("/b", plus("x"), fail_later).ws("", {})

    running = serve(configure)
    for path in ("/a", "/b"):
        with WebSocketClient(running.port) as socket:
            assert socket.send(handshake(path)).answer().body == b"KeyError('member')"


# ---- invalid registrations --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (
            lambda app: app.get(show, "/path"),
            "get() takes the path as a str and then the handler, not <function show",
        ),
        (lambda app: app.get(show, "/path"), "they are swapped"),
        (
            lambda app: app.any(b"/path", show),
            "any() takes the path as a str and then the handler, not b'/path'",
        ),
        (lambda app: app.get(None, show), "not None first"),
        (
            lambda app: app.post("/path", None),
            "the handler of '/path' must be callable as (res, req), which None",
        ),
        (lambda app: app.post("/path", "show"), "which 'show' is not"),
        (lambda app: app.ws({}, "/path"), "ws() takes the path as a str and then the behavior, not {}"),
        (lambda app: app.ws("/path", show), "the behavior of '/path' must be a dict, not <function show"),
        (lambda app: app.router(auth, "/prefix"), "prefix must be a str, not <function auth"),
        (
            lambda app: app.router("/prefix", "auth"),
            "must be callable as (res, req, data), which 'auth' is not",
        ),
        (lambda app: app.router("/prefix", auth, None), "which None is not"),
        (lambda app: app.router("/prefix", [auth, None]), "which None is not"),
        (lambda app: app.router("/prefix", 5), "which 5 is not"),
        (lambda app: app.router().router(auth), "prefix must be a str, not <function auth"),
        (lambda app: app.router().get(show), "get() takes the path first: <function show"),
        (lambda app: app.router().get(b"/path"), "get() takes the path as a str, not b'/path'"),
        (
            lambda app: app.router().get("/path")("show"),
            "get('/path'): the handler must be callable, which 'show'",
        ),
        (lambda app: app.router("", auth).get("/path")("show"), "get('/path'): the handler must be callable"),
        (lambda app: app.router().ws({}, "/path"), "ws() takes the path as a str, not {}"),
        (lambda app: app.router("", auth).ws("/path", show), "the behavior of '/path' must be a dict"),
        (
            lambda app: app.router("", auth).ws("/path", {"upgrade": 1}),
            "'upgrade' of '/path' must be callable",
        ),
        (lambda app: MiddlewareRouter(app, "/x"), "must be callable as (res, req, data), which '/x' is not"),
        (lambda app: MiddlewareRouter(app).get(show, "/path"), "get() takes the path first: <function show"),
        (
            lambda app: MiddlewareRouter(app).get("/path", "/path"),
            "the handler must be callable, which '/path'",
        ),
        (lambda app: MiddlewareRouter(app).ws(show, {}), "ws() takes the path first: <function show"),
        (lambda app: middleware("x"), "a middleware must be callable as (res, req, data), which 'x' is not"),
        (lambda app: middleware(auth, None), "which None is not"),
    ],
)
def test_mistakes_are_told_at_registration(register: Callable[[App], object], message: str) -> None:
    """The given and the expected value (A-APP-12, E-MW-01, I-B-21)."""
    app = App()
    try:
        with pytest.raises(TypeError) as raised:
            register(app)
        assert message in str(raised.value)
    finally:
        app.dispose()


def test_parameters_that_are_named_the_other_way_round(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """S#171: it may be intended, so it is logged once, and the route works."""

    def swapped(req: Any, res: Any, data: Any = None) -> None:
        req.end("response")

    class Views:
        def view(self, request: Any, response: Any) -> None: ...

        def fine(self, res: Any, req: Any) -> None: ...

    def configure(app: App) -> None:
        app.get("/", swapped).post("/", swapped)
        app.router("/router", swapped).get("")(swapped)
        app.get("/view", Views().view).get("/fine", Views().fine)
        app.get("/partial", functools.partial(swapped, data=1)).get("/builtin", print)

    with caplog.at_level(logging.WARNING, "socketify"), serve(configure).client() as client:
        assert client.get().body == b"response"
    warned = [record.getMessage() for record in caplog.records if record.name == "socketify"]
    assert warned == [
        "the handler of '/' is called as (res, req), and its parameters are named (req, res)",
        "the handler of '/view' is called as (res, req), and its parameters are named (request, response)",
    ]


def test_a_chain_that_stops_without_an_answer_is_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """S#171, A-CALL-05: a middleware that forgets to return leaves the client waiting."""

    def configure(app: App) -> None:
        app.get("/", middleware(lambda res, req, data: None, show))

    with caplog.at_level(logging.WARNING, "socketify"), serve(configure).client() as client:
        client.request()
        until(
            lambda: any("returned without a response" in record.getMessage() for record in caplog.records),
            "a word",
        )
