"""Routes that are registered again, or removed, while the server runs: the replaced handlers are freed."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App, AppOptions, MiddlewareRouter, Request, Response
from support import Gate, until
from support.client import Client
from support.lanes import THREAD, each_lane, on, options
from support.running import Running
from support.tls_client import Certificates

Serve = Callable[..., Running]


class Made:
    """Handlers that are counted for as long as they live."""

    def __init__(self) -> None:
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()

    def handler(self, text: str = "", lane: str = THREAD) -> Callable[..., Any]:
        def handle(res: Response, req: Request) -> None:
            res.end(text)

        handler = on(lane, handle)
        self.alive.add(handler)
        return handler

    def listener(self) -> Callable[..., Any]:
        def listen(*arguments: Any) -> None:
            pass

        self.alive.add(listen)
        return listen

    def count(self) -> int:
        gc.collect()
        return len(self.alive)


def kinds(app: App, made: Made) -> dict[str, Callable[[], object]]:
    """Every way to register a handler, by name."""
    decorated = app.router("/decorated", lambda res, req, data: data or True)
    behind = MiddlewareRouter(app, lambda res, req, data: data or True)
    return {
        "get": lambda: app.get("/x", made.handler()),
        "any": lambda: app.any("/x/:name", made.handler()),
        "coroutine": lambda: app.get("/task", made.handler(lane="async def")),
        "domain": lambda: app.domain("a.example").get("/x", made.handler()),
        "decorator": lambda: decorated.get("/x")(made.handler()),
        "behind middlewares": lambda: behind.get("/behind", made.handler()),
        "websocket": lambda: app.ws("/ws", {"open": made.listener(), "message": made.listener()}),
        "upgrade": lambda: app.ws("/up", {"upgrade": made.listener()}),
        "websocket of a domain": lambda: app.domain("a.example").ws("/ws", {"open": made.listener()}),
        "error handler": lambda: app.set_error_handler(made.listener()),
        "start hook": lambda: app.on_start(made.listener()),
        "shutdown hook": lambda: app.on_shutdown(made.listener()),
        "missing server name": lambda: app.missing_server_name(made.listener()),
        "extension": lambda: app.register(
            lambda request, response, websocket: response.method(_named("extra", made.listener()))
        ),
        "property": lambda: app.register(
            lambda request, response, websocket: request.property("extra", made.listener())
        ),
    }


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = name
    return function


KINDS = list(kinds(App(), Made()))
#: A WebSocket has two listeners in this list.
ONE = {kind: 2 if kind == "websocket" else 1 for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_replaced_before_the_start_is_gone_at_once(kind: str) -> None:
    made = Made()
    app = App()
    register = kinds(app, made)[kind]
    for _ in range(10):
        register()
    assert made.count() == ONE[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_replaced_while_it_serves_is_gone_at_once(serve: Serve, kind: str) -> None:
    """Also between requests, which have seen the old handler."""
    made = Made()
    found: list[int] = []
    server = serve(lambda app: app.get("/count", lambda res, req: (found.append(made.count()), res.end(""))))
    register = kinds(server.app, made)[kind]
    with server.client() as client:
        for _ in range(2):
            for _ in range(10):
                register()
            # A thread that routes at this moment may keep it until it has finished.
            until(lambda: made.count() == ONE[kind], "what was replaced goes")
            client.get("/count")
    assert found == [ONE[kind]] * 2


def test_a_constant_or_a_folder_takes_the_place_of_a_handler(serve: Serve) -> None:
    made = Made()
    found: list[int] = []

    def routes(app: App) -> None:
        app.get("/count", lambda res, req: (found.append(made.count()), res.end("")))
        app.get("/x", made.handler("handler"))

    server = serve(routes)
    with server.client() as client:
        assert client.get("/x").body == b"handler"
        server.app.constant("/x", "constant")
        assert client.get("/x").body == b"constant"
        client.get("/count")
    assert found == [0]


def test_a_removed_server_name_takes_its_handlers_along(certificates: Certificates) -> None:
    made = Made()
    app = App(certificates.options())
    for _ in range(2):
        app.add_server_name("a.example", AppOptions())
        app.domain("a.example").get("/x", made.handler())
        app.domain("a.example").ws("/ws", {"message": made.listener()})
        assert made.count() == 2
        app.remove_server_name("a.example")
        assert made.count() == 0


@each_lane
def test_a_handler_is_there_until_its_requests_have_been_answered(serve: Serve, lane: str) -> None:
    """The request that waits for its turn was routed before the handler was replaced."""
    gate = Gate()
    made = Made()

    def block(res: Response, req: Request) -> None:
        gate.pass_through()
        res.end("blocked")

    def routes(app: App) -> None:
        app.get("/block", on(lane, block))
        app.get("/x", made.handler("old", lane))

    server = serve(routes, **options(lane))
    with server.client() as first, server.client() as second:
        first.send(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
        gate.arrived()
        second.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        # It has been read, and waits in the queue, once another one behind it has been answered.
        _routed(server)
        server.app.get("/x", on(lane, lambda res, req: res.end("new")))
        for _ in range(100):
            server.app.get("/x", on(lane, lambda res, req: res.end("new")))
        assert made.count() == 1
        gate.open()
        assert first.answer().body == b"blocked"
        assert second.answer().body in (b"old", b"new")
        assert second.get("/x").body == b"new"
        until(lambda: made.count() == 0, "the old handler goes")


def _routed(server: Running) -> None:
    """Requests that were sent before have been routed: a 404, which needs no user code, comes behind them."""
    with server.client() as client:
        assert client.get("/none").status == 404


@each_lane
def test_a_handler_may_replace_itself_and_keep_its_response(serve: Serve, lane: str) -> None:
    """A kept response does not keep the handler, which would be an invisible cycle."""
    kept: list[Response] = []
    made = Made()

    def first(res: Response, req: Request) -> None:
        kept.append(res)
        server.app.get("/x", on(lane, lambda res, req: res.end("second")))
        res.end("first")

    handler = on(lane, first)
    if handler is first:
        # A function of this frame would be kept by it.
        handler = on(THREAD, lambda res, req: first(res, req))
    made.alive.add(handler)
    server = serve(lambda app: None, **options(lane))
    server.app.get("/x", handler)
    del handler
    with server.client() as client:
        assert client.get("/x").body == b"first"
        assert client.get("/x").body == b"second"
        until(lambda: (client.get("/x"), made.count() == 0)[1], "the first handler goes")
    assert len(kept) == 1


def test_registering_costs_the_same_among_many_routes(serve: Serve) -> None:
    """It used to copy all routes each time."""
    took: dict[str, float] = {}

    def registrations(res: Response, req: Request) -> None:
        app = server.app
        began = time.perf_counter()
        for _ in range(300):
            app.get("/same", handler)
        took[req.get_query("when") or ""] = time.perf_counter() - began
        res.end("")

    def handler(res: Response, req: Request) -> None:
        res.end("")

    server = serve(lambda app: app.get("/do", registrations))
    with server.client() as client:
        client.get("/do?when=few")
        for number in range(5000):
            server.app.get(f"/r{number}", handler)
        client.get("/do?when=many")
        # Copied each time they would take a second and more.
        assert took["many"] < 20 * took["few"] + 0.1, took


def test_requests_find_what_was_registered_just_before(serve: Serve) -> None:
    """From any thread, and from a coroutine: a request finds the routes that exist when it arrives."""
    server = serve(lambda app: app.get("/", lambda res, req: res.end("")))
    failed: list[str] = []

    def work(name: str) -> None:
        with Client(server.port) as client:
            for number in range(50):
                text = f"{name} {number}"
                server.app.get(f"/{name}", lambda res, req, text=text: res.end(text))
                if (body := client.get(f"/{name}").body) != text.encode():
                    failed.append(f"{text}: {body!r}")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def test_a_coroutine_may_register_while_it_serves(serve: Serve) -> None:
    made = Made()

    async def change(res: Response, req: Request) -> None:
        for number in range(100):
            server.app.get("/x", made.handler(str(number)))
            await asyncio.sleep(0)
        res.end("")

    server = serve(lambda app: app.get("/do", change))
    with server.client() as client:
        client.get("/do")
        assert client.get("/x").body == b"99"
        until(lambda: (client.get("/x"), made.count() == 1)[1], "the others go")
