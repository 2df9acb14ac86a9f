"""Memory without the cycle collector: users.md 1.5 (S#115), issue 2 section 4, and cycles for the
collector."""

from __future__ import annotations

import asyncio
import gc
import io
import re
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App, middleware
from support import reset, until
from support.client import Client
from support.memory import resident, without_collector

pytestmark = pytest.mark.alone

Serve = Callable[..., Any]

REQUESTS = 20_000
#: Requests that are sent before their responses are read.
BURST = 50


def plain(res: Any, req: Any) -> None:
    res.end("plain")


async def coroutine(res: Any, req: Any) -> None:
    res.end("coroutine")


async def waiting(res: Any, req: Any) -> None:
    await asyncio.sleep(0)
    res.end("waiting")


def getters(res: Any, req: Any) -> None:
    req.preserve()
    parts = [req.get_method(), req.get_url(), req.get_full_url(), req.get_headers(), req.get_queries()]
    parts += [req.get_header("host"), req.get_query("a"), req.get_cookie("c"), req.get_parameters()]
    req.for_each_header(lambda name, value: parts.append(value))
    res.note = parts
    req.note = parts
    res.end({"a": [1, 2]})


def many_headers(res: Any, req: Any) -> None:
    res.write_status(201).write_header("X-A", "b").set_cookie("session", "1", {"path": "/"})
    res.send({"a"}, headers=[("X-B", "c")])


def streamed(res: Any, req: Any) -> None:
    res.write("one ")
    res.cork(lambda res: res.write("two "))
    res.end("three")


def body_pieces(res: Any, req: Any) -> None:
    size = 0

    def data(res: Any, chunk: bytes, last: bool) -> None:
        nonlocal size
        size += len(chunk)
        if last:
            res.end(str(size))

    res.on_data(data)


async def body_json(res: Any, req: Any) -> None:
    res.end(await res.get_json())


async def body_text_late(res: Any, req: Any) -> None:
    await asyncio.sleep(0)
    res.end(await res.get_text())


async def body_pieces_async(res: Any, req: Any) -> None:
    async def data(res: Any, chunk: bytes, last: bool) -> None:
        await asyncio.sleep(0)
        if last:
            res.end("pieces")

    res.on_data(data)


def abort_registered(res: Any, req: Any) -> None:
    res.on_aborted(lambda _: (res, req))
    res.on_writable(lambda res, offset: True)
    res.end("registered")


def run_async(res: Any, req: Any) -> None:
    res.run_async(waiting(res, req))


def returned(res: Any, req: Any) -> Any:
    return waiting(res, req)


def failing(res: Any, req: Any) -> None:
    raise LookupError("failing")


async def failing_async(res: Any, req: Any) -> None:
    await asyncio.sleep(0)
    raise LookupError("failing")


async def chunks(res: Any, req: Any) -> None:
    for at in range(4):
        assert await res.send_chunk(b"x" * 10, 40) == (True, at == 3)


def yields(res: Any, req: Any) -> None:
    req.set_yield(True)


async def members(res: Any, req: Any, data: Any = None) -> Any:
    await asyncio.sleep(0)
    return {"user": 1}


def member_end(res: Any, req: Any, data: Any) -> None:
    res.end(data)


KINDS: dict[str, tuple[Any, bytes | None]] = {
    "plain": (plain, None),
    "coroutine": (coroutine, None),
    "waiting": (waiting, None),
    "getters": (getters, None),
    "many headers": (many_headers, None),
    "streamed": (streamed, None),
    "body pieces": (body_pieces, b"x" * 100),
    "body json": (body_json, b'{"a": [1, 2]}'),
    "body text late": (body_text_late, b"text"),
    "body pieces async": (body_pieces_async, b"x" * 100),
    "body ignored": (plain, b"x" * 100),
    "abort registered": (abort_registered, None),
    "run_async": (run_async, None),
    "returned": (returned, None),
    "failing": (failing, None),
    "failing async": (failing_async, None),
    "chunks": (chunks, None),
    "middleware": (middleware(members, member_end), None),
    "constant": (None, None),
    "not found": (None, None),
    "yields": (yields, None),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_thousand_requests_leave_nothing(serve: Serve, kind: str) -> None:
    """No object and no memory is left, though nothing looks for circles."""
    handler, body = KINDS[kind]

    def configure(app: App) -> None:
        app.set_error_handler(lambda error, res, req: res.write_status(500).end("handled"))
        if kind == "constant":
            app.constant("/:a", "constant")
        elif kind == "yields":
            app.get("/:a", handler).any("/:a", plain)
        elif handler is not None:
            app.any("/:a", handler)

    request = b"GET /b?a=1&b=2 HTTP/1.1\r\nHost: test\r\nCookie: c=d\r\n"
    if body is not None:
        request = request.replace(b"GET", b"POST") + b"Content-Length: %d\r\n" % len(body)
    burst = (request + b"\r\n" + (body or b"")) * BURST

    def ask(client: Client, count: int) -> None:
        for _ in range(count // BURST):
            client.send(burst)
            # All answers are equally long, so they need not be parsed, which would take longer than to make them.
            assert client.exactly(length * BURST).count(status) == BURST

    running = serve(configure)
    with running.client() as client:
        head = client.send(request + b"\r\n" + (body or b"")).until(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0]
        if b"chunked" in head:
            length = len(head) + len(client.until(b"0\r\n\r\n"))
        else:
            size = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]
            length = len(head) + len(client.exactly(size))
        ask(client, 2000)
        with without_collector():
            ask(client, 1000)
            objects, memory = len(gc.get_objects()), resident()
            ask(client, REQUESTS)
            more_objects, more_memory = len(gc.get_objects()) - objects, resident() - memory
    assert more_objects < 200
    assert more_memory < 3_000_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["idle", "answered", "silent", "waiting"])
def test_connections_leave_nothing(serve: Serve, kind: str) -> None:
    """Four thousand clients that come and go, with any request.

    Those without a response reset their connection: one that is only shut is kept a while, for its client may still read.
    """

    def configure(app: App) -> None:
        async def forever(res: Any, req: Any) -> None:
            while not res.aborted:
                await asyncio.sleep(0.001)

        app.get("/answered", plain).get("/silent", lambda res, req: None).get("/waiting", forever)

    running = serve(configure)

    def connect(count: int) -> None:
        for _ in range(count):
            with running.client() as client:
                if kind == "answered":
                    client.get("/answered")
                elif kind != "idle":
                    client.request(target=f"/{kind}")
                    reset(client)
        until(lambda: running.app._server.connection_count() == 0, "the connections are gone")
        until(lambda: not running.app._calls.tasks, "the tasks have ended")

    connect(500)
    with without_collector():
        connect(500)
        objects, memory = len(gc.get_objects()), resident()
        connect(4000)
        more_objects, more_memory = len(gc.get_objects()) - objects, resident() - memory
    assert more_objects < 200
    assert more_memory < 4_000_000


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_response_and_request_die_with_their_handler(serve: Serve, kind: str) -> None:
    """At once, by their reference counts."""
    kept: list[Any] = []

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            kept.extend([weakref.ref(res), weakref.ref(req)])
            res.end("x")

        async def async_handler(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            handler(res, req)

        app.get("/", handler if kind == "def" else async_handler)

    with serve(configure).client() as client, without_collector():
        for _ in range(10):
            client.get("/")
        until(lambda: all(each() is None for each in kept), "all of them are gone")
    assert len(kept) == 20


@pytest.mark.parametrize("kind", ["res", "req", "both", "listener"])
def test_circles_through_attributes_are_collected(serve: Serve, kind: str) -> None:
    """``res.me = res`` is the user's circle: the collector finds it."""
    kept: list[Any] = []

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            kept.extend([weakref.ref(res), weakref.ref(req)])
            if kind == "res":
                res.me = [res]
            elif kind == "req":
                req.me = {"req": req}
            elif kind == "both":
                res.other, req.other = req, res
            else:
                res.callback = lambda *_: (res, req)
                res.on_aborted(res.callback)
            res.end("x")

        app.get("/", handler)

    with serve(configure).client() as client:
        for _ in range(10):
            client.get("/")
        until(
            lambda: (gc.collect(), all(each() is None for each in kept))[1], "the collector finds all of them"
        )
    assert len(kept) == 20


class Everything:
    """The objects of a program around its application."""


def tangled(run: bool) -> list[weakref.ref[Any]]:
    """An application whose handlers, hooks and timers hold it; its remains after it is dropped."""
    app = App()
    held = Everything()
    held.app = app  # type: ignore[attr-defined]
    app.held = held  # type: ignore[attr-defined]

    async def later(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end(str(held))

    def failed(error: Any, res: Any, req: Any) -> None:
        res.end(str((app, held)))

    app.get("/", lambda res, req: res.end(str((app, held)))).get("/later", later)
    app.get("/fail", failing)
    app.set_error_handler(failed)
    app.on_start(lambda: app and held)
    app.on_shutdown(lambda: app and held)
    app.json_serializer(type("Json", (), {"dumps": lambda *_: str(app), "loads": lambda *_: held}))
    app.router("/routed").get("/")(lambda res, req: (app, held))
    if run:

        def body() -> None:
            ports: list[int] = []
            app.listen({"host": "127.0.0.1"}, lambda config: ports.append(config.port))

            def ask() -> None:
                with Client(ports[0]) as client:
                    for target in ("/", "/later", "/fail"):
                        assert client.get(target).status == 200
                app.close()

            client = threading.Thread(target=ask)
            client.start()
            app.run()
            client.join()

        thread = threading.Thread(target=body)
        thread.start()
        thread.join(20)
    return [weakref.ref(app), weakref.ref(held), weakref.ref(app.loop), weakref.ref(app.loop.loop)]


@pytest.mark.parametrize("run", [True, False])
def test_an_application_that_is_dropped_is_collected(run: bool) -> None:
    """With closures over itself, before it ran and after close(), without dispose()."""
    left: list[weakref.ref[Any]] = []
    # asyncio keeps the current loop of each thread: this one's ends with it.
    maker = threading.Thread(target=lambda: left.extend(tangled(run)))
    maker.start()
    maker.join(30)
    gc.collect()
    assert [reference() for reference in left] == [None] * 4


def test_a_disposed_application_is_collected_on_its_own_thread() -> None:
    """asyncio's policy keeps the current loop of a thread, but not through it the application."""

    def make() -> weakref.ref[App]:
        app = App()
        app.get("/", lambda res, req: app)  # type: ignore[arg-type]
        app.listen({"host": "127.0.0.1"})
        app.dispose()
        return weakref.ref(app)

    left = make()
    gc.collect()
    assert left() is None


def test_a_running_application_is_not_collected(serve: Serve) -> None:
    """Its threads hold it, even without another reference."""
    running = serve(lambda app: app.get("/", plain))
    for _ in range(3):
        gc.collect()
    with running.client() as client:
        assert client.get("/").body == b"plain"


def test_what_get_data_gives_is_the_users(serve: Serve) -> None:
    """A-RES-04: a buffer of its own for each call; the body lives as long as the response."""
    kept: list[Any] = []

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            first, second = await res.get_data(), await res.get_data()
            assert isinstance(first, io.BytesIO)
            assert first is not second
            assert first.getvalue() == second.getvalue() == b"body"
            kept.append(weakref.ref(res))
            res.end("x")

        app.post("/", handler)

    with serve(configure).client() as client, without_collector():
        client.request("POST", body=b"body").answer()
        until(lambda: kept and kept[0]() is None, "the response is gone")


def test_reference_counts_of_shared_objects_stay(serve: Serve) -> None:
    """Objects that pass through the core repeatedly: handlers, loop, application, None, small constants."""

    def configure(app: App) -> None:
        app.get("/", plain).get("/async", waiting).post("/", body_json)

    running = serve(configure)
    loop = running.app.loop.loop

    def counts() -> list[int]:
        return [
            sys.getrefcount(each)
            for each in (plain, waiting, body_json, loop, running.app, loop.create_future)
        ]

    def ask() -> None:
        for _ in range(200):
            client.get("/")
            client.get("/async")
            client.request("POST", body=b"{}").answer()

    with running.client() as client:
        ask()
        before = counts()
        ask()
        until(lambda: not running.app._calls.tasks, "the tasks have ended")
        assert all(abs(after - count) < 20 for after, count in zip(counts(), before, strict=False))
