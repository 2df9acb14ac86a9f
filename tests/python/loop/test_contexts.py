"""Context variables (of contextvars): all code of a request sees its values, and no other code does."""

from __future__ import annotations

import contextvars
import decimal
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App, middleware
from support import until
from support.client import Client
from support.ws_client import connect

Serve = Callable[..., Any]

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


def sign_in(res: Any, req: Any, data: Any = None) -> bool:
    if name := req.get_header("x-user"):
        user.set(name)
    return True


def show(res: Any, req: Any, data: Any = None) -> None:
    res.end(user.get())


async def show_later(res: Any, req: Any, data: Any = None) -> None:
    res.end(user.get())


def yields(res: Any, req: Any) -> None:
    sign_in(res, req)
    req.set_yield(True)


async def yields_later(res: Any, req: Any) -> None:
    sign_in(res, req)
    req.set_yield(True)


def fails(res: Any, req: Any) -> None:
    sign_in(res, req)
    raise LookupError


async def fails_later(res: Any, req: Any) -> None:
    sign_in(res, req)
    raise LookupError


def returns_coroutine(res: Any, req: Any) -> Any:
    sign_in(res, req)
    return show_later(res, req)


def spawns(res: Any, req: Any) -> None:
    sign_in(res, req)
    res.run_async(show_later(res, req))


async def sign_in_later(res: Any, req: Any, data: Any = None) -> bool:
    return sign_in(res, req)


def reads(res: Any, req: Any) -> None:
    sign_in(res, req)
    res.on_data(lambda res, chunk, last: res.end(user.get()) if last else None)


def reads_later(res: Any, req: Any) -> None:
    sign_in(res, req)

    async def data(res: Any, chunk: bytes, last: bool) -> None:
        if last:
            res.end(user.get())

    res.on_data(data)


async def reads_in_task(res: Any, req: Any) -> None:
    sign_in(res, req)
    res.on_data(lambda res, chunk, last: res.end(user.get()) if last else None)


def leaks_from_data(res: Any, req: Any) -> None:
    name = req.get_header("x-user")

    def data(res: Any, chunk: bytes, last: bool) -> None:
        if name:
            user.set(name)
        if last:
            res.end(user.get())

    res.on_data(data)


CHAINS: dict[str, tuple[Callable[..., Any], ...]] = {
    "plain": (middleware(sign_in, show),),
    "plain-then-coroutine": (middleware(sign_in, show_later),),
    "coroutine-then-plain": (middleware(sign_in_later, show),),
    "yields-to-plain": (yields, show),
    "yields-to-coroutine": (yields, show_later),
    "coroutine-yields-to-plain": (yields_later, show),
    "coroutine-yields-to-coroutine": (yields_later, show_later),
    "fails": (fails,),
    "coroutine-fails": (fails_later,),
    "returns-a-coroutine": (returns_coroutine,),
    "runs-a-task": (spawns,),
    "data": (reads,),
    "coroutine-data": (reads_later,),
    "data-of-a-coroutine": (reads_in_task,),
    "data-that-sets": (leaks_from_data,),
}


@pytest.fixture(params=["io", "loop"])
def port(request: pytest.FixtureRequest, serve: Serve) -> int:
    """One thread runs all plain handlers, so that the next would find values that one leaves behind."""

    def routes(app: App) -> None:
        app.set_error_handler(lambda error, res, req: res.end(user.get()))
        for name, handlers in CHAINS.items():
            for pattern, handler in zip((f"/{name}/:x", f"/{name}/*"), handlers, strict=False):
                app.any(pattern, handler)
        app.any("/only-plain/x", show)
        app.any("/only-coroutine/x", show_later)

    port: int = serve(routes, sync_handlers=request.param, io_threads=1).port
    return port


def ask(port: int, name: str, *lines: str) -> bytes:
    with Client(port) as client:
        return client.request("POST", f"/{name}/x", *lines, body=b"body").answer().body


@pytest.mark.parametrize("chain", CHAINS)
def test_one_request_has_one_context(port: int, chain: str) -> None:
    """From the first plain handler to the task that responds; the next request, of either kind, finds none of
    it."""
    assert ask(port, chain, "X-User: ada") == b"ada"
    for other in (chain, "only-plain", "only-coroutine"):
        assert ask(port, other) == b"nobody", other


def test_a_callback_of_a_client_that_has_left_leaves_nothing_behind(serve: Serve) -> None:
    heard: list[str] = []

    def waits(res: Any, req: Any) -> None:
        sign_in(res, req)

        def aborted(res: Any) -> None:
            heard.append(user.get())
            user.set("somebody who has left")

        res.on_aborted(aborted)

    running = serve(lambda app: app.get("/", waits).get("/next", show).get("/then", show_later), io_threads=1)
    with Client(running.port) as client:
        client.request("GET", "/", "X-User: ada")
        with running.client() as other:
            assert other.get("/next").body == b"nobody"
    until(lambda: heard, "the client's end is told")
    with running.client() as client:
        assert heard == ["ada"]
        assert client.get("/next").body == b"nobody"
        assert client.get("/then").body == b"nobody"


@pytest.mark.parametrize("place", ["io", "loop"])
def test_each_event_of_a_socket_has_a_context_of_its_own(serve: Serve, place: str) -> None:
    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send(user.get())
        user.set(message)
        # Reported within this call.
        ws.subscribe("topic")

    async def later(ws: Any, message: Any, opcode: Any) -> None:
        ws.send(user.get())
        user.set(message)

    def subscription(ws: Any, *_: Any) -> None:
        ws.send(user.get())
        user.set("somebody who subscribes")

    def upgrade(res: Any, req: Any, context: Any) -> None:
        user.set("somebody who connects")
        fields = (req.get_header(f"sec-websocket-{name}") for name in ("key", "protocol", "extensions"))
        res.upgrade(*fields, context)

    def routes(app: App) -> None:
        app.ws("/plain", {"upgrade": upgrade, "message": message, "subscription": subscription})
        app.ws("/async", {"message": later, "open": lambda ws: user.set("somebody who opens")})
        app.get("/", show)

    running = serve(routes, sync_handlers=place, io_threads=1)
    for path in ("/plain", "/async"):
        with connect(running.port, path) as first, connect(running.port, path) as second:
            for socket, topics in ((first, 1), (first, 0), (second, 1)):
                socket.send_text("a user")
                for _ in range(1 + (topics if path == "/plain" else 0)):
                    assert socket.recv_message() == b"nobody"
            with running.client() as client:
                assert client.get("/").body == b"nobody"


@pytest.mark.parametrize("place", ["io", "loop"])
def test_a_decimal_context_ends_with_its_request(serve: Serve, place: str) -> None:
    def coarse(res: Any, req: Any) -> None:
        decimal.getcontext().prec = 2
        res.end(str(decimal.Decimal(1) / 3))

    def fine(res: Any, req: Any) -> None:
        res.end(str(decimal.Decimal(1) / 3))

    running = serve(lambda app: app.get("/coarse", coarse).get("/fine", fine), sync_handlers=place)
    with running.client() as client:
        assert client.get("/coarse").body == b"0.33"
        assert client.get("/fine").body == b"0." + 28 * b"3"


@pytest.mark.parametrize("place", ["io", "loop"])
def test_what_was_set_before_the_start_is_seen_by_all(serve: Serve, place: str) -> None:
    def routes(app: App) -> None:
        user.set("the one who started it")
        app.get("/plain", show)
        app.get("/async", show_later)

    with serve(routes, sync_handlers=place).client() as client:
        assert client.get("/plain").body == b"the one who started it"
        assert client.get("/async").body == b"the one who started it"
