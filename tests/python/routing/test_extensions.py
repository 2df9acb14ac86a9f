"""``app.register`` on a server (A-APP-13, A-EXT-01..05): methods and properties, and their cost."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from socketify import App, AppExtension, OpCode, Request, Response, WebSocket
from support import until
from support.lanes import each_lane, on, options
from support.ws_client import PONG

Serve = Callable[..., Any]


def extension(request: Any, response: Any, _websocket: Any) -> None:
    @request.method
    async def get_user(self: Any) -> str:
        return "user " + self.get_header("x-token")

    @response.method
    def message(self: Any, status: int, text: str) -> Any:
        return self.write_status(status).end({"message": text, "seen": list(self.seen)})

    response.property("seen", [])


@pytest.mark.parametrize("late", [False, True], ids=["registered first", "routes first"])
def test_methods_and_properties_reach_every_route(serve: Any, late: bool) -> None:
    """A-EXT-01, A-EXT-02, I-B-22 (routes registered before count too), I-B-23 (a default is not shared)."""

    def sync(res: Any, req: Any) -> None:
        res.seen.append("sync")
        res.message(201, "made")

    async def user(res: Any, req: Any) -> None:
        res.end(await req.get_user())

    def configure(app: Any) -> None:
        if not late:
            app.register(extension)
        app.get("/", sync).get("/user", user)
        if late:
            app.register(extension)

    with serve(configure).client() as client:
        for _ in range(2):
            answer = client.get("/")
            assert (answer.status, answer.body) == (201, b'{"message": "made", "seen": ["sync"]}')
        assert client.get("/user", "X-Token: t").body == b"user t"


def test_an_extension_may_replace_a_method_of_the_core(serve: Any) -> None:
    """A-EXT-05: a method with a built-in's name shadows it; several extensions add up."""

    def shadow(_request: Any, response: Any, _websocket: Any) -> None:
        @response.method
        def end(self: Any, message: str) -> Any:
            return self.send(message.upper())

    def configure(app: Any) -> None:
        app.register(extension)
        app.register(shadow)
        app.get("/", lambda res, req: res.end(f"seen {len(res.seen)}"))

    with serve(configure).client() as client:
        assert client.get("/").body == b"SEEN 0"


@each_lane
def test_every_kind_of_handler_has_them(serve: Serve, lane: str) -> None:
    """A-EXT-01: wherever a handler runs."""

    def register(request: AppExtension, response: AppExtension, _websocket: AppExtension) -> None:
        request.property("trail", ["start"])

        @response.method
        def finish(self: Any, req: Any) -> None:
            self.end(",".join(req.trail))

    def handler(res: Any, req: Any) -> None:
        req.trail.append("handler")
        res.finish(req)

    def configure(app: App) -> None:
        app.register(register)
        app.get("/", on(lane, handler))

    with serve(configure, **options(lane)).client() as client:
        for _ in range(2):
            assert client.get().body == b"start,handler"


def test_the_built_in_is_reached_from_what_replaces_it(serve: Serve) -> None:
    """A-EXT-05: through the class, or ``super``, as from any subclass."""

    def register(_request: AppExtension, response: AppExtension, _websocket: AppExtension) -> None:
        @response.method
        def end(self: Any, message: str) -> Any:
            return Response.end(self, f"<{message}>")

        @response.method
        def write_header(self: Any, key: str, value: str) -> Any:
            return super(type(self), self).write_header(f"X-{key}", value)

    def configure(app: App) -> None:
        app.register(register)
        app.get("/", lambda res, req: res.write_header("A", "b").end("text"))

    with serve(configure).client() as client:
        answer = client.get()
        assert (answer.body, answer.header("x-a")) == (b"<text>", "b")


def test_the_classes_are_still_those_that_are_documented(serve: Serve) -> None:
    """A-EXP-10, A-EXP-11: by name, and by ``isinstance``; an application's additions are its own."""
    seen: list[Any] = []

    def register(request: AppExtension, response: AppExtension, websocket: AppExtension) -> None:
        for each in (request, response, websocket):
            each.property("added", 1)

    def note(app: App) -> None:
        app.get("/", lambda res, req: (seen.extend([res, req]), res.end("x")))
        app.ws("/", {"open": lambda ws: (seen.append(ws), ws.end())})

    def configure(app: App) -> None:
        app.register(register)
        note(app)

    for running in (serve(configure), serve(note)):
        with running.client() as client:
            client.get()
        with running.websocket() as socket:
            socket.expect_close()
    for name, base, extended, plain in zip(
        ("Response", "Request", "WebSocket"), (Response, Request, WebSocket), seen[:3], seen[3:], strict=True
    ):
        assert isinstance(extended, base)
        assert (type(extended).__name__, type(extended).__qualname__) == (name, base.__qualname__)
        assert type(extended).__module__ == base.__module__
        assert type(extended) is not base
        assert extended.added == 1
        # An application without extensions has the classes themselves.
        assert type(plain) is base
        assert not hasattr(plain, "added")


@pytest.mark.parametrize("kind", [Request, Response, WebSocket])
def test_only_the_server_makes_objects(kind: type) -> None:
    """Also where extensions have made the class one that could be called."""
    with pytest.raises(TypeError, match=f"cannot create '{kind.__name__}' instances"):
        kind()
    with pytest.raises(TypeError, match=f"cannot create '{kind.__name__}' instances"):
        type("Mine", (kind,), {})()


class Greeting:
    """Can be called, and is no function."""

    __name__ = "greeting"

    def __call__(self, res: Any, name: str) -> str:
        return f"{type(res).__name__} {name}"

    def bound(self, res: Any, name: str) -> str:
        return f"bound {self(res, name)}"


@staticmethod
def helper(name: str) -> str:
    return f"static {name}"


@pytest.mark.parametrize(
    ("func", "name", "expected"),
    [
        (Greeting(), "greeting", "Response x"),
        (Greeting().bound, "bound", "bound Response x"),
        (helper, "helper", "static x"),
        (getattr, "getattr", "getattr"),
    ],
    ids=["object", "bound method", "staticmethod", "built-in function"],
)
def test_methods_that_are_no_plain_functions(func: Any, name: str, expected: str) -> None:
    """A-EXT-01, A-EXT-03: each gets the object first, but for a static method, on a server as by hand."""
    app, made = App(), AppExtension()
    app.register(lambda request, response, websocket: response.method(func))
    assert made.method(func) is func
    argument = "x" if name != "getattr" else "__name__"

    class Response:
        __name__ = "getattr"

    instance = Response()
    made.bind_methods(instance)
    assert getattr(instance, name)(argument) == expected
    app.dispose()


def test_methods_that_are_no_plain_functions_on_a_server(serve: Serve) -> None:
    """A-EXT-01."""

    def register(_request: AppExtension, response: AppExtension, _websocket: AppExtension) -> None:
        for func in (Greeting(), Greeting().bound, helper, isinstance):
            response.method(func)

    def handler(res: Any, req: Any) -> None:
        res.end([res.greeting("a"), res.bound("b"), res.helper("c"), res.isinstance(Response)])

    def configure(app: App) -> None:
        app.register(register)
        app.get("/", handler)

    with serve(configure).client() as client:
        assert client.get().body == b'["Response a", "bound Response b", "static c", true]'


def test_properties_are_what_they_are(serve: Serve) -> None:
    """A-EXT-02, A-EXT-05, I-B-23: shared or copied, set at will, never bound, and behind a method of the name."""
    shared = object()
    seen: list[Any] = []

    def register(request: AppExtension, response: AppExtension, _websocket: AppExtension) -> None:
        request.property("shared", shared)
        request.property("nothing")
        request.property("call", len)
        request.property("plain", helper.__func__)  # type: ignore[attr-defined]
        request.property("table", {"a": [1]})
        request.property("group", {1})
        request.property("both", ["property"])
        response.property("app", "not the application")

        @request.method
        def both(self: Any) -> str:
            return "method"

        request.property("both", ["property again"])

    def handler(res: Any, req: Any) -> None:
        seen.append(
            [req.shared, req.nothing, req.call("abc"), req.plain("x"), dict(req.table), set(req.group)]
        )
        seen.append([req.both(), res.app])
        req.table["b"] = req.table["a"]
        req.group.add(2)
        req.nothing = "something"
        assert req.table is req.table
        assert (len(req.table), req.group, req.nothing) == (2, {1, 2}, "something")
        del req.nothing
        assert req.nothing is None
        res.end("ok")

    def configure(app: App) -> None:
        app.register(register)
        app.get("/", handler)

    with serve(configure).client() as client:
        for _ in range(2):
            assert client.get().body == b"ok"
    first = [[shared, None, 3, "static x", {"a": [1]}, {1}], ["method", "not the application"]]
    assert seen == first + first


def test_extensions_while_serving(serve: Serve) -> None:
    """I-B-22: later additions apply to the next request, and for objects that exist already."""
    kept: list[AppExtension] = []
    go = threading.Event()

    async def waiting(res: Any, req: Any) -> None:
        res.write("-")
        while not go.is_set():
            await asyncio.sleep(0.001)
        res.end(res.late())

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.end(res.late() if hasattr(res, "late") else "none"))
        app.get("/waiting", waiting)
        app.register(lambda request, response, websocket: response.property("early", 1))

    def late(self: Any) -> str:
        return f"late {self.early}"

    running = serve(configure)
    with running.client() as client, running.client() as other:
        assert client.get().body == b"none"
        other.request(target="/waiting").until(b"\r\n\r\n")
        running.app.register(
            lambda request, response, websocket: (response.method(late), kept.append(response))
        )
        go.set()
        assert other.chunks() == b"-late 1"
        assert client.get().body == b"late 1"

        def again(self: Any) -> str:
            return "latest"

        again.__name__ = "late"
        kept[0].method(again)
        assert client.get().body == b"latest"


def test_sockets_have_them(serve: Serve) -> None:
    """A-EXT-01, A-EXT-02, I-B-05, I-B-06: in every listener, ``async`` too, and the same object's in all of them."""

    def register(_request: AppExtension, _response: AppExtension, websocket: AppExtension) -> None:
        websocket.property("heard", [])

        @websocket.method
        def tell(self: Any, what: str) -> None:
            self.heard.append(what)
            self.send(",".join(self.heard), OpCode.TEXT)

        @websocket.method
        async def tell_later(self: Any, what: str) -> None:
            await asyncio.sleep(0)
            self.tell(what)

    closed: list[Any] = []

    async def message(ws: Any, message: str, opcode: OpCode) -> None:
        await ws.tell_later(message)

    def configure(app: App) -> None:
        app.register(register)
        app.ws(
            "/",
            {
                "open": lambda ws: ws.tell("open"),
                "message": message,
                "subscription": lambda ws, *_: ws.tell("subscription"),
                "ping": lambda ws, payload: ws.tell("ping"),
                "pong": lambda ws, payload: ws.subscribe("topic"),
                "close": lambda ws, *_: closed.append(list(ws.heard)),
            },
        )

    running = serve(configure)
    for _ in range(2):
        with running.websocket() as socket:
            assert socket.recv_message() == "open"
            assert socket.send_text("message").recv_message() == "open,message"
            assert socket.ping().recv_frame()[2] == PONG
            assert socket.recv_message() == "open,message,ping"
            assert socket.pong().recv_message() == "open,message,ping,subscription"
            socket.finish()
    until(lambda: len(closed) == 2, "both are closed")
    assert closed[0] == closed[1]
    assert closed[0][:4] == ["open", "message", "ping", "subscription"]


def test_a_clone_is_of_the_same_class(serve: Serve) -> None:
    """A-WS-20: without the attributes of the first one."""

    def register(_request: AppExtension, _response: AppExtension, websocket: AppExtension) -> None:
        websocket.property("heard", [])
        websocket.method(tell)

    def tell(self: Any) -> None:
        self.send(f"{self.heard}", OpCode.TEXT)

    def opened(ws: Any) -> None:
        ws.heard.append("open")
        copy = ws.clone()
        assert type(copy) is type(ws)
        assert copy is not ws
        copy.tell()
        ws.tell()

    def configure(app: App) -> None:
        app.register(register)
        app.ws("/", {"open": opened})

    with serve(configure).websocket() as socket:
        assert [socket.recv_message(), socket.recv_message()] == ["[]", "['open']"]
        socket.finish()


@pytest.mark.parametrize(
    "pools", [{}, {"websocket_factory_max_items": 10}, {"request_response_factory_max_items": 10}]
)
def test_objects_are_used_once_whatever_the_pools(serve: Serve, pools: dict[str, int]) -> None:
    """I-B-02 to I-B-04, I-B-07: sizes of pools change nothing, and kept objects stay the same."""
    kept: list[Any] = []

    def register(request: AppExtension, _response: AppExtension, websocket: AppExtension) -> None:
        request.property("trail", [])
        websocket.property("trail", [])

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        await asyncio.sleep(0)
        req.trail.append("upgrade")
        kept.append(req)
        key, extensions = req.get_header("sec-websocket-key"), req.get_header("sec-websocket-extensions")
        res.upgrade(key, req.get_header("sec-websocket-protocol"), extensions, context, req.get_query("n"))

    async def message(ws: Any, message: Any, opcode: OpCode) -> None:
        await asyncio.sleep(0)
        ws.trail.append((message, opcode))
        kept.append(ws)
        ws.send(f"{ws.get_user_data()} {ws.trail}", OpCode.TEXT)

    def configure(app: App) -> None:
        app.register(register)
        app.ws("/", {"upgrade": upgrade, "message": message})

    running = serve(configure, **pools)
    for n in "12":
        with running.websocket(f"/?n={n}") as socket:
            assert socket.send_text("a").recv_message() == f"{n} [('a', <OpCode.TEXT: 1>)]"
            socket.finish()
    assert [each.trail for each in kept] == [["upgrade"], [("a", OpCode.TEXT)]] * 2
    assert [each.get_query("n") for each in kept[::2]] == ["1", "2"]


def test_threads_that_register_at_once_make_one_class() -> None:
    """Every method of an application may be called from any thread."""
    app, barrier = App(), threading.Barrier(8)
    errors: list[BaseException] = []

    def register(number: int) -> None:
        barrier.wait(20)
        try:
            app.register(lambda request, response, websocket: response.property(f"p{number}", number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
    made: Any = app._response_extension._class
    assert [getattr(made, f"p{number}") for number in range(8)] == list(range(8))
    app.dispose()


def test_an_error_in_a_method_is_the_handlers(serve: Serve) -> None:
    """A-CALL-06: of a plain one and of a coroutine."""

    def register(_request: AppExtension, response: AppExtension, _websocket: AppExtension) -> None:
        @response.method
        def fail(self: Any) -> None:
            raise KeyError("plain")

        @response.method
        async def fail_later(self: Any) -> None:
            await asyncio.sleep(0)
            raise KeyError("later")

    async def later(res: Any, req: Any) -> None:
        await res.fail_later()

    def failed(error: Exception, res: Any, req: Any) -> None:
        res.write_status(500).end(f"{error!r} {req is not None}")

    def configure(app: App) -> None:
        app.register(register)
        app.set_error_handler(failed)
        app.get("/", lambda res, req: res.fail()).get("/later", later)

    with serve(configure).client() as client:
        assert client.get("/").body == b"KeyError('plain') True"
        assert client.get("/later").body == b"KeyError('later') False"


@pytest.mark.parametrize("name", ["_fail", "__init__", "__new__", "__class__", "__dict__", "__repr__"])
def test_names_that_socketify_needs(name: str) -> None:
    """They would break every request; a name with an underscore of one's own is fine."""
    app = App()

    def method(self: Any) -> None: ...

    method.__name__ = name
    with pytest.raises(ValueError, match=f"must not replace '{name}' of Response"):
        app.register(lambda request, response, websocket: response.method(method))
    with pytest.raises(ValueError, match=f"must not replace '{name}' of Response"):
        app.register(lambda request, response, websocket: response.property(name))
    assert app._response_extension.empty
    app.register(lambda request, response, websocket: response.property("_mine"))
    app.dispose()


def test_what_is_no_extension_is_refused() -> None:
    """A-APP-13, A-EXT-01, A-EXT-02."""
    app = App()
    with pytest.raises(TypeError, match=r"must be callable as .*, which {} is not"):
        app.register({})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"function with a name, not <function .*<lambda>"):
        app.register(lambda request, response, websocket: response.method(lambda self: None))
    with pytest.raises(TypeError, match="function with a name, not 'name'"):
        app.register(lambda request, response, websocket: response.method("name"))  # type: ignore[type-var]
    with pytest.raises(TypeError, match="named by a str, not 1"):
        app.register(lambda request, response, websocket: response.property(1))
    app.dispose()


# ---- memory -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def everything(request: AppExtension, response: AppExtension, websocket: AppExtension) -> None:
    for each in (request, response, websocket):
        each.property("items", [])
        each.property("number", 1)

        @each.method
        def use(self: Any) -> None:
            self.items.append(self.number)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_objects_die_with_their_handler(serve: Serve, no_collector: None, kind: str) -> None:
    """By their reference counts alone: nothing that an extension adds refers to the object."""
    kept: list[Any] = []

    def handler(res: Any, req: Any) -> None:
        for each in (res, req):
            each.use()
            kept.append(weakref.ref(each))
        res.end("x")

    async def task(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        handler(res, req)

    def configure(app: App) -> None:
        app.register(everything)
        app.get("/", handler if kind == "def" else task)

    with serve(configure).client() as client:
        for _ in range(10):
            client.get()
        until(lambda: all(each() is None for each in kept), "all of them are gone")
    assert len(kept) == 20


def test_sockets_die_with_their_connection(serve: Serve, no_collector: None) -> None:
    """By their reference counts alone."""
    kept: list[Any] = []

    def configure(app: App) -> None:
        app.register(everything)
        app.ws("/", {"open": lambda ws: (ws.use(), kept.append(weakref.ref(ws)))})

    running = serve(configure)
    for _ in range(10):
        with running.websocket() as socket:
            socket.finish()
    until(lambda: len(kept) == 10 and all(each() is None for each in kept), "all of them are gone")


def test_requests_leave_nothing(serve: Serve, no_collector: None) -> None:
    """S#115: no object more after thousands of requests, without the collector."""

    classes: list[type] = []

    def handler(res: Any, req: Any) -> None:
        if not classes:
            classes.append(type(res))
        res.use()
        req.use()
        res.end("x")

    def configure(app: App) -> None:
        app.register(everything)
        app.get("/", handler)

    def ask(count: int) -> None:
        for _ in range(count // 50):
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 50)
            for _ in range(50):
                assert client.answer().status == 200

    with serve(configure).client() as client:
        ask(500)
        objects, references = len(gc.get_objects()), sys.getrefcount(classes[0])
        ask(5000)
        assert len(gc.get_objects()) - objects < 100
        # An object refers to its class: one that was not taken back would be counted here.
        assert sys.getrefcount(classes[0]) - references < 100


def test_circles_of_ones_own_are_collected(serve: Serve) -> None:
    """``res.items.append(res)`` is the user's circle: the collector finds it in objects of a subclass too."""
    kept: list[Any] = []

    def handler(res: Any, req: Any) -> None:
        for each in (res, req):
            each.items.append(each)
            kept.append(weakref.ref(each))
        res.end("x")

    def configure(app: App) -> None:
        app.register(everything)
        app.get("/", handler)

    with serve(configure).client() as client:
        for _ in range(10):
            client.get()
        until(
            lambda: (gc.collect(), all(each() is None for each in kept))[1], "the collector finds all of them"
        )
    assert len(kept) == 20


def test_an_application_dies_with_its_extensions() -> None:
    """A method that holds the application holds the class that the application holds: the collector finds it."""

    def made() -> weakref.ref[App]:
        app = App()

        def register(_request: AppExtension, response: AppExtension, _websocket: AppExtension) -> None:
            @response.method
            def application(self: Any) -> App:
                return app

            response.property("application_too", app)

        app.register(register)
        app.dispose()
        return weakref.ref(app)

    app = made()
    gc.collect()
    assert app() is None
