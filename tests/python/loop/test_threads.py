"""The threads of user code, and its possibilities there: design.md 3, A-CALL-02/03/14/16, A-RES-01/03,
A-APP-30, I-S-03, I-S-45."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from socketify import App, middleware
from support import Gate, until
from support.client import Client
from support.ws_client import PING, TEXT, frame

Serve = Callable[..., Any]
Requests = Callable[..., bytes]


def home(app: App) -> bool:
    """Whether this is the thread that runs the loop."""
    return threading.get_ident() == getattr(app, "home", None)


@pytest.fixture
def answer(serve: Serve) -> Callable[..., bytes]:
    """The body of the answer that a single handler gives; ``app.home`` is the loop's thread."""

    def ask(make: Callable[[App], Callable[..., Any]], **options: Any) -> bytes:
        def configure(app: App) -> None:
            app.home = threading.get_ident()  # type: ignore[attr-defined]
            app.get("/", make(app))  # type: ignore[arg-type]

        with serve(configure, **options).client() as client:
            return client.get("/").body

    return ask


# ---- def handlers take turns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_def_handlers_never_overlap(serve: Serve, threads: int) -> None:
    """Also not with callbacks, error handlers and the handlers of other routes; no update is lost without a lock."""
    state = {"inside": 0, "overlaps": 0, "count": 0}

    def enter() -> None:
        state["inside"] += 1
        if state["inside"] != 1:
            state["overlaps"] += 1
        seen = state["count"]
        # Gives the interpreter to others in the middle of a read and a write.
        time.sleep(0.0002)
        state["count"] = seen + 1
        state["inside"] -= 1

    def configure(app: App) -> None:
        def plain(res: Any, req: Any) -> None:
            enter()
            res.end("x")

        def body(res: Any, req: Any) -> None:
            def data(res: Any, chunk: bytes, last: bool) -> None:
                enter()
                if last:
                    res.end("x")

            res.on_data(data)

        def failing(res: Any, req: Any) -> None:
            raise LookupError

        def failed(error: Any, res: Any, req: Any) -> None:
            enter()
            res.end("x")

        app.get("/plain", plain).post("/body", body).get("/failing", failing)
        app.set_error_handler(failed)

    running = serve(configure, io_threads=threads)

    def load(number: int) -> int:
        asked = 0
        with running.client() as client:
            for turn in range(60):
                if (turn + number) % 3 == 0:
                    client.request("POST", "/body", body=b"four")
                else:
                    client.request(target="/plain" if turn % 2 else "/failing")
                assert client.answer().body == b"x"
                asked += 1
        return asked

    with ThreadPoolExecutor(12) as pool:
        asked = sum(pool.map(load, range(12)))
    assert state["overlaps"] == 0
    assert state["count"] == asked


def test_def_handlers_do_not_run_on_the_loops_thread(answer: Requests) -> None:
    assert answer(lambda app: lambda res, req: res.end(str(home(app)))) == b"False"


def test_sync_handlers_loop(serve: Serve) -> None:
    """With ``sync_handlers="loop"`` handlers and callbacks are on the loop's thread, between two steps of tasks."""
    places: list[bool] = []

    def configure(app: App) -> None:
        app.home = threading.get_ident()  # type: ignore[attr-defined]

        def handler(res: Any, req: Any) -> None:
            places.append(home(app))
            assert asyncio.get_running_loop() is app.loop.loop

            def data(res: Any, chunk: bytes, last: bool) -> None:
                places.append(home(app))
                if last:
                    res.cork(lambda res: places.append(home(app)))
                    res.end("x")

            res.on_data(data)

        app.post("/", handler)

    with serve(configure, sync_handlers="loop").client() as client:
        assert client.request("POST", body=b"x").answer().body == b"x"
    assert len(places) >= 3
    assert all(places)


def test_sync_handlers_must_be_known() -> None:
    with pytest.raises(ValueError, match="sync_handlers"):
        App(sync_handlers="thread")  # type: ignore[arg-type]


# ---- the loop in def handlers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["io", "loop"])
def test_the_running_loop_is_the_applications(answer: Requests, lane: str) -> None:
    def make(app: App) -> Any:
        def handler(res: Any, req: Any) -> None:
            assert asyncio.get_running_loop() is app.loop.loop
            assert asyncio.get_event_loop() is app.loop.loop
            assert asyncio.current_task() is None
            res.end("same")

        return handler

    assert answer(make, sync_handlers=lane) == b"same"


@pytest.mark.parametrize("lane", ["io", "loop"])
@pytest.mark.parametrize(
    "way", ["create_task", "ensure_future", "loop.create_task", "run_coroutine_threadsafe"]
)
def test_tasks_from_def_handlers_run_on_the_loop(answer: Requests, lane: str, way: str) -> None:
    def make(app: App) -> Any:
        def handler(res: Any, req: Any) -> None:
            async def work() -> None:
                assert home(app)
                assert asyncio.current_task() is not None
                await asyncio.sleep(0.001)
                res.end(f"{home(app)}")

            loop = asyncio.get_running_loop()
            if way == "create_task":
                res.task = asyncio.create_task(work(), name="named")
                assert res.task.get_name() == "named"
            elif way == "ensure_future":
                res.task = asyncio.ensure_future(work())
            elif way == "loop.create_task":
                res.task = loop.create_task(work())
            else:
                res.task = asyncio.run_coroutine_threadsafe(work(), loop)

        return handler

    assert answer(make, sync_handlers=lane) == b"True"


@pytest.mark.parametrize("lane", ["io", "loop"])
@pytest.mark.parametrize("way", ["call_soon", "call_later", "call_at", "call_soon_threadsafe", "set_timeout"])
def test_calls_from_def_handlers_run_on_the_loop(answer: Requests, lane: str, way: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    def make(app: App) -> Any:
        def finish(res: Any) -> None:
            res.end(f"{home(app)} {variable.get()}")

        def handler(res: Any, req: Any) -> None:
            loop = asyncio.get_running_loop()
            variable.set("mine")
            if way == "call_later":
                began = loop.time()
                timer = loop.call_later(0.01, finish, res)
                assert 0 <= timer.when() - began - 0.01 < 5
                assert not timer.cancelled()
            elif way == "call_at":
                loop.call_at(loop.time() + 0.01, finish, res)
            elif way == "set_timeout":
                app.loop.set_timeout(10, finish, res)
            else:
                getattr(loop, way)(finish, res)

        return handler

    assert answer(make, sync_handlers=lane) == b"True mine"


@pytest.mark.parametrize("lane", ["io", "loop"])
def test_a_timer_from_a_def_handler_can_be_cancelled(answer: Requests, lane: str) -> None:
    """At once, later from the loop, and later from another handler; timers that are not cancelled fire in
    order."""
    fired: list[str] = []

    def make(app: App) -> Any:
        def handler(res: Any, req: Any) -> None:
            loop = asyncio.get_running_loop()
            first = loop.call_later(0.01, fired.append, "first")
            second = loop.call_later(0.02, fired.append, "second")
            third = loop.call_at(loop.time() + 1.0, fired.append, "third")
            first.cancel()
            first.cancel()
            assert first.cancelled()
            loop.call_later(0.005, second.cancel)
            threading.Thread(
                target=lambda: (until(lambda: "fourth" in fired, "fourth"), third.cancel())
            ).start()
            loop.call_later(0.001, fired.append, "fourth")
            loop.call_later(1.2, lambda: res.end(",".join(fired)))

        return handler

    assert answer(make, sync_handlers=lane) == b"fourth"


@pytest.mark.parametrize("lane", ["io", "loop"])
def test_set_result_from_a_def_handler_wakes_the_loop(serve: Serve, lane: str) -> None:
    """users.md 1.7: a coroutine waits, another request's handler completes it, and nothing else happens meanwhile."""
    waiting: list[asyncio.Future[str]] = []

    def configure(app: App) -> None:
        app.home = threading.get_ident()  # type: ignore[attr-defined]

        async def wait(res: Any, req: Any) -> None:
            future = asyncio.get_running_loop().create_future()
            waiting.append(future)
            res.end(f"{await future} {home(app)}")

        def complete(res: Any, req: Any) -> None:
            waiting.pop().set_result("done")
            res.end("")

        app.get("/wait", wait).get("/complete", complete)

    running = serve(configure, sync_handlers=lane)
    with running.client() as waiter, running.client() as other:
        for _ in range(50):
            waiter.request(target="/wait")
            until(lambda: waiting, "the coroutine waits")
            other.get("/complete")
            assert waiter.answer().body == b"done True"


def test_set_exception_cancel_and_queue_from_a_def_handler(serve: Serve) -> None:
    held: dict[str, Any] = {}

    def configure(app: App) -> None:
        async def wait(res: Any, req: Any) -> None:
            loop = asyncio.get_running_loop()
            held.update(future=loop.create_future(), queue=asyncio.Queue())

            async def forever() -> None:
                await asyncio.sleep(3600)

            held["task"] = asyncio.create_task(forever())
            results = [await held["queue"].get()]
            for name in ("future", "task"):
                try:
                    await held[name]
                except (LookupError, asyncio.CancelledError) as error:
                    results.append(type(error).__name__)
            res.end(",".join(results))

        def complete(res: Any, req: Any) -> None:
            held["queue"].put_nowait("item")
            held["future"].set_exception(LookupError("no"))
            held["task"].cancel()
            res.end("")

        app.get("/wait", wait).get("/complete", complete)

    running = serve(configure)
    with running.client() as waiter, running.client() as other:
        waiter.request(target="/wait")
        until(lambda: "task" in held, "the coroutine waits")
        other.get("/complete")
        assert waiter.answer().body == b"item,LookupError,CancelledError"


def test_a_storm_of_calls_from_every_thread(serve: Serve) -> None:
    """Nothing is lost between I/O threads, the loop and threads of the program."""
    counts = {"soon": 0, "later": 0, "task": 0, "thread": 0}
    tasks: set[Any] = set()

    def configure(app: App) -> None:
        def bump(name: str) -> None:
            counts[name] += 1

        async def work() -> None:
            await asyncio.sleep(0)
            bump("task")

        def handler(res: Any, req: Any) -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon(bump, "soon")
            loop.call_later(0.0005, bump, "later")
            tasks.add(asyncio.create_task(work()))
            threading.Thread(target=loop.call_soon_threadsafe, args=(bump, "thread")).start()
            res.end("")

        app.get("/", handler)

    running = serve(configure, io_threads=2)

    def load(_: int) -> None:
        with running.client() as client:
            for _ in range(50):
                client.get("/")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(load, range(8)))
    until(lambda: set(counts.values()) == {400}, f"everything has run: {counts}")


# ---- async handlers are tasks ---------------------------------------------------------------------------------------


def test_async_handlers_are_tasks_of_the_loop(answer: Requests) -> None:
    def make(app: App) -> Any:
        async def handler(res: Any, req: Any) -> None:
            assert asyncio.get_running_loop() is app.loop.loop
            assert home(app)
            task = asyncio.current_task()
            assert isinstance(task, asyncio.Task)
            assert task in asyncio.all_tasks()
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
            assert home(app)
            res.end("task")

        return handler

    assert answer(make) == b"task"


def test_asyncio_tools_in_an_async_handler(answer: Requests) -> None:
    """gather, wait_for, shield, to_thread, subprocesses, async generators (S#136), timeouts."""

    def make(app: App) -> Any:
        async def number(value: int) -> int:
            await asyncio.sleep(0.001)
            return value

        async def numbers() -> Any:
            for value in range(3):
                yield await number(value)

        async def handler(res: Any, req: Any) -> None:
            parts: list[Any] = [await asyncio.gather(number(1), number(2))]
            parts.append(await asyncio.wait_for(number(3), 10))
            parts.append(await asyncio.shield(number(4)))
            parts.append(await asyncio.to_thread(lambda: 5))
            parts.append([value async for value in numbers()])
            try:
                await asyncio.wait_for(asyncio.sleep(3600), 0.01)
            except asyncio.TimeoutError:
                parts.append("timeout")
            process = await asyncio.create_subprocess_exec("echo", "six", stdout=asyncio.subprocess.PIPE)
            parts.append((await process.communicate())[0])
            res.end(repr(parts))

        return handler

    assert answer(make) == b"[[1, 2], 3, 4, 5, [0, 1, 2], 'timeout', b'six\\n']"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup and timeout came with Python 3.11")
def test_task_groups_and_timeouts(answer: Requests) -> None:
    def make(app: App) -> Any:
        async def number(value: int) -> int:
            await asyncio.sleep(0.001)
            return value

        async def handler(res: Any, req: Any) -> None:
            async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined]
                tasks = [group.create_task(number(value)) for value in range(3)]
            parts: list[Any] = [task.result() for task in tasks]
            try:
                async with asyncio.timeout(0.01):  # type: ignore[attr-defined]
                    await asyncio.sleep(3600)
            except TimeoutError:
                parts.append("timeout")
            try:
                async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined]
                    group.create_task(asyncio.sleep(3600))
                    raise LookupError
            except BaseException as error:
                parts.append([type(inner).__name__ for inner in error.exceptions])  # type: ignore[attr-defined]
            res.end(repr(parts))

        return handler

    assert answer(make) == b"[0, 1, 2, 'timeout', ['LookupError']]"


def test_anyio(answer: Requests) -> None:
    """S#135: it must know which library runs it, from the first step of a task on."""
    anyio = pytest.importorskip("anyio")

    def make(app: App) -> Any:
        async def handler(res: Any, req: Any) -> None:
            parts: list[Any] = []
            with anyio.move_on_after(0.01) as scope:
                await anyio.sleep(3600)
            parts.append(scope.cancelled_caught)

            async def put(value: int) -> None:
                await anyio.sleep(0)
                parts.append(value)

            async with anyio.create_task_group() as group:
                group.start_soon(put, 1)
            parts.append(await anyio.to_thread.run_sync(lambda: 2))
            with anyio.fail_after(10):
                parts.append(anyio.get_current_task().id != 0)
            res.end(repr(parts))

        return handler

    assert answer(make) == b"[True, 1, 2, True]"


def test_contextvars_belong_to_a_request(serve: Serve) -> None:
    """Each async handler has a context of its own, and keeps it over its awaits."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            before = variable.get()
            variable.set(req.get_parameter(0))
            for _ in range(5):
                await asyncio.sleep(0)
            inner = await asyncio.create_task(read())
            res.end(f"{before} {variable.get()} {inner}")

        async def read() -> str:
            return variable.get()

        app.get("/:name", handler)

    running = serve(configure)

    def load(number: int) -> None:
        with running.client() as client:
            for turn in range(20):
                name = f"{number}-{turn}"
                assert client.get(f"/{name}").body == f"unset {name} {name}".encode()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(load, range(8)))


def test_many_async_handlers_wait_at_the_same_time(serve: Serve) -> None:
    arrived: list[Any] = []

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            future = asyncio.get_running_loop().create_future()
            arrived.append(future)
            if len(arrived) == 200:
                for each in arrived:
                    each.set_result(None)
            await future
            res.end("together")

        app.get("/", handler)

    running = serve(configure)
    clients = [running.client() for _ in range(200)]
    for client in clients:
        client.request()
    for client in clients:
        assert client.answer().body == b"together"
        client.close()


# ---- kinds of callables ---------------------------------------------------------------------------------------------


class Handlers:
    """Bound methods, static methods and objects that can be called."""

    def method(self, res: Any, req: Any) -> None:
        res.end("method")

    async def async_method(self, res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end("async method")

    @staticmethod
    async def static(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end("static")

    @classmethod
    def clas(cls, res: Any, req: Any) -> None:
        res.end(cls.__name__)

    def __call__(self, res: Any, req: Any) -> None:
        res.end("object")


class AsyncObject:
    async def __call__(self, res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end("async object")


def three(word: str, res: Any, req: Any) -> None:
    res.end(word)


async def async_three(word: str, res: Any, req: Any) -> None:
    await asyncio.sleep(0)
    res.end(word)


def gives_coroutine(res: Any, req: Any) -> Any:
    return async_three("returned", res, req)


class Awaitable:
    def __init__(self, res: Any) -> None:
        self.res = res

    def __await__(self) -> Iterator[Any]:
        yield from asyncio.sleep(0).__await__()
        self.res.end("awaitable")


KINDS: dict[str, Any] = {
    "method": Handlers().method,
    "async method": Handlers().async_method,
    "static": Handlers.static,
    "Handlers": Handlers.clas,
    "object": Handlers(),
    "async object": AsyncObject(),
    "partial": functools.partial(three, "partial"),
    "async partial": functools.partial(async_three, "async partial"),
    "partial partial": functools.partial(functools.partial(async_three), "partial partial"),
    "returned": gives_coroutine,
    "lambda": lambda res, req: async_three("lambda", res, req),
    "awaitable": lambda res, req: Awaitable(res),
    "self": lambda res, req: res.end("self"),
    "value": lambda res, req: (res.end("value"), 42)[1],
}


@pytest.mark.parametrize("lane", ["io", "loop"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_handlers(answer: Requests, kind: str, lane: str) -> None:
    """A-CALL-01, A-CALL-02."""
    assert answer(lambda app: KINDS[kind], sync_handlers=lane) == kind.encode()


def test_a_failing_returned_coroutine_is_the_handlers_failure(answer: Requests, caplog: Any) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("returned")

    assert answer(lambda app: lambda res, req: fail()) == b"Internal Error"
    # The client is answered first.
    until(lambda: "returned" in caplog.text, "the error is logged")


@pytest.mark.parametrize("lane", ["io", "loop"])
@pytest.mark.parametrize("kind", ["def", "async def", "none", "constant"])
def test_what_a_handler_returned_may_yield(serve: Serve, kind: str, lane: str) -> None:
    """The next handler is called when the awaitable has ended, each kind on its own thread."""
    threads: list[str] = []

    def first(res: Any, req: Any) -> Any:
        async def later() -> None:
            await asyncio.sleep(0)
            req.set_yield(1)

        return later()

    def plain(res: Any, req: Any) -> None:
        threads.append(threading.current_thread().name)
        res.end("next")

    async def coroutine(res: Any, req: Any) -> None:
        plain(res, req)

    def configure(app: App) -> None:
        app.get("/:any", first)
        if kind == "constant":
            app.constant("/*", "next")
        elif kind != "none":
            app.get("/*", plain if kind == "def" else coroutine)

        async def where(res: Any, req: Any) -> None:
            res.end(threading.current_thread().name)

        app.get("/a/where", where)

    with serve(configure, sync_handlers=lane).client() as client:
        for _ in range(3):
            answer = client.get("/x")
            assert (answer.status, answer.body) == ((404, answer.body) if kind == "none" else (200, b"next"))
        if threads:
            on_loop = kind == "async def" or lane == "loop"
            assert (threads[-1] == client.get("/a/where").body.decode()) is on_loop


@pytest.mark.parametrize("way", ["returned", "chain"])
def test_what_yields_on_the_loop_goes_on_there(serve: Serve, way: str) -> None:
    """The thread that has called the handler comes back later, and leaves the request alone."""
    order: list[str] = []
    callers: list[int] = []
    yielded, back = threading.Event(), threading.Event()

    async def later(res: Any, req: Any, data: Any = None) -> None:
        req.set_yield(1)
        yielded.set()
        while not back.is_set():
            await asyncio.sleep(0)
        order.append("ended")

    def following(res: Any, req: Any) -> None:
        order.append("following")
        res.end("end")

    def in_turn(res: Any, req: Any) -> None:
        back.set()
        res.end("in turn")

    def configure(app: App) -> None:
        def called(res: Any, req: Any, data: Any = None) -> Any:
            callers.append(threading.get_ident())
            return later(res, req) if way == "returned" else True

        app.get("/x", called if way == "returned" else middleware(called, later))
        app.get("/turn", in_turn)
        app.get("/*", following)
        hand_over = app.loop.loop.call_soon_threadsafe

        def slowly(*arguments: Any, **named: Any) -> Any:
            handle = hand_over(*arguments, **named)
            if threading.get_ident() in callers:
                assert yielded.wait(20)
            return handle

        app.loop.loop.call_soon_threadsafe = slowly  # type: ignore[method-assign]

    running = serve(configure)
    with running.client() as client, running.client() as other:
        client.request(target="/x")
        assert yielded.wait(20)
        assert other.get("/turn").body == b"in turn"
        assert client.answer().body == b"end"
        assert order == ["ended", "following"]


# ---- tasks that never begin -----------------------------------------------------------------------------------------------


class BeforeTheFirstStep:
    """Keeps the loop until some have asked for something, and then cancels the tasks that were made for that."""

    def __init__(self, asked: int) -> None:
        self.gate = Gate()
        self.asked = asked
        self.cancelled = 0

    def keep(self, res: Any, req: Any) -> None:
        loop = asyncio.get_running_loop()
        others = asyncio.all_tasks(loop)

        def cancel() -> None:
            if new := asyncio.all_tasks(loop) - others:
                self.cancelled += len(new)
                for task in new:
                    task.cancel()
            if self.cancelled < self.asked:
                loop.call_soon(cancel)

        self.gate.pass_through()
        # It runs before the loop's work for a request that starts now.
        loop.call_soon(cancel)
        res.end("kept")


@pytest.mark.parametrize("kind", ["async def", "returned", "run_async"])
def test_a_task_that_is_cancelled_before_its_first_step(serve: Serve, kind: str) -> None:
    """The client gets its response, and the request does not stay in progress for ever."""
    tasks = BeforeTheFirstStep(1)

    async def waits(res: Any, req: Any = None) -> None:
        await asyncio.sleep(3600)

    def spawns(res: Any, req: Any) -> None:
        res.run_async(waits(res))

    def configure(app: App) -> None:
        app.get("/keep", tasks.keep)
        app.get("/", {"async def": waits, "returned": lambda res, req: waits(res), "run_async": spawns}[kind])

    running = serve(configure, sync_handlers="loop")
    with warnings.catch_warnings():
        # A coroutine that was never awaited.
        warnings.simplefilter("ignore", RuntimeWarning)
        with running.client() as keeper, running.client() as client:
            keeper.request(target="/keep")
            tasks.gate.arrived()
            client.request()
            until(lambda: running.app._server.request_count() == 2, "both have asked")
            tasks.gate.open()
            assert keeper.answer().body == b"kept"
            assert client.answer().status == 500
    assert tasks.cancelled == 1
    until(lambda: running.app._server.request_count() == 0, "nothing is in progress")
    assert not running.app._calls.tasks


def test_an_event_whose_task_is_cancelled_before_its_first_step(serve: Serve) -> None:
    """The socket gets the next event."""
    tasks = BeforeTheFirstStep(1)
    heard: list[str] = []

    async def message(ws: Any, text: str, opcode: Any) -> None:
        await asyncio.sleep(0)
        heard.append(text)

    def configure(app: App) -> None:
        app.get("/keep", tasks.keep)
        app.ws("/", {"message": message, "inbound_buffer": 1})

    running = serve(configure, sync_handlers="loop")
    with running.client() as keeper, running.websocket() as client:
        keeper.request(target="/keep")
        tasks.gate.arrived()
        # Both are read at once.
        client.send(frame(PING, b"all is there") + frame(TEXT, b"lost"))
        assert client.recv_frame().payload == b"all is there"
        tasks.gate.open()
        assert keeper.answer().body == b"kept"
        until(lambda: tasks.cancelled, "the task is cancelled")
        client.send_text("heard")
        until(lambda: "heard" in heard, "the next message is heard")


# ---- nothing else waits ---------------------------------------------------------------------------------------------


def tasks_of_process() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("io_threads", [1, 2])
@pytest.mark.parametrize("kind", ["def sleeps", "def computes", "async sleeps", "async computes"])
def test_slow_code_holds_up_nothing_that_needs_no_python(serve: Serve, kind: str, io_threads: int) -> None:
    """Issue 2, section 3: 404s and constant answers come at once, on new and on existing connections, and no thread is
    made for a request. "Computes" means that the interpreter is held for 2 s, as far as it lets itself be held."""
    entered = threading.Event()
    left = threading.Event()

    def slow() -> None:
        entered.set()
        if kind.endswith("sleeps"):
            time.sleep(2)
        else:
            end = time.monotonic() + 2
            while time.monotonic() < end:
                pass
        left.set()

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            slow()
            res.end("slow")

        async def async_handler(res: Any, req: Any) -> None:
            slow()
            res.end("slow")

        app.get("/slow", async_handler if kind.startswith("async") else handler)
        app.get("/quick", lambda res, req: res.end("quick"))
        app.constant("/constant", "constant")

    running = serve(configure, io_threads=io_threads)
    existing = [running.client() for _ in range(8)]
    for client in existing:
        assert client.get("/quick").body == b"quick"
    with running.client() as busy:
        before = tasks_of_process()
        busy.request(target="/slow")
        assert entered.wait(20)
        rounds = 0
        worst = 0.0
        most = 0
        while not left.is_set():
            began = time.monotonic()
            for client in (existing[rounds % 8], running.client()):
                assert client.get("/nothing").status == 404
                assert client.get("/constant").body == b"constant"
                if client not in existing:
                    client.close()
            took = time.monotonic() - began
            if not left.is_set():
                rounds += 1
                worst = max(worst, took)
                most = max(most, tasks_of_process())
        assert busy.answer().body == b"slow"
    for client in existing:
        client.close()
    # This very test needs the interpreter too, which a computing handler gives away every 5 ms only.
    assert rounds >= 10
    assert worst < 1
    assert most <= before


def test_a_pipeline_behind_a_slow_handler_waits_for_it_and_only_it(serve: Serve) -> None:
    gate = Gate()

    def configure(app: App) -> None:
        def slow(res: Any, req: Any) -> None:
            gate.pass_through()
            res.end("slow")

        app.get("/slow", slow).constant("/constant", "constant")

    running = serve(configure)
    with running.client() as first, running.client() as second:
        first.request(target="/slow").request(target="/constant").request(target="/nothing")
        gate.arrived()
        for _ in range(100):
            assert second.get("/constant").body == b"constant"
        gate.open()
        assert [first.answer().body for _ in range(3)] == [b"slow", b"constant", b"Not Found"]


def test_def_handlers_go_on_while_a_coroutine_computes(serve: Serve) -> None:
    entered = threading.Event()
    stop = threading.Event()

    def configure(app: App) -> None:
        async def busy(res: Any, req: Any) -> None:
            entered.set()
            while not stop.is_set():
                pass
            res.end("busy")

        app.get("/busy", busy)
        app.get("/", lambda res, req: res.end("quick"))

    running = serve(configure)
    with running.client() as client, running.client() as other:
        client.request(target="/busy")
        assert entered.wait(20)
        for _ in range(10):
            assert other.get("/").body == b"quick"
        stop.set()
        assert client.answer().body == b"busy"


def test_coroutines_go_on_while_a_def_handler_waits(serve: Serve) -> None:
    gate = Gate()

    def configure(app: App) -> None:
        def blocked(res: Any, req: Any) -> None:
            gate.pass_through()
            res.end("blocked")

        async def later(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            res.end("later")

        app.get("/blocked", blocked).get("/", later)

    running = serve(configure)
    with running.client() as client, running.client() as other:
        client.request(target="/blocked")
        gate.arrived()
        for _ in range(100):
            assert other.get("/").body == b"later"
        gate.open()
        assert client.answer().body == b"blocked"


def test_queued_def_requests_all_run_after_a_slow_one(serve: Serve) -> None:
    """Requests queued while the turn was held are not forgotten, repeatedly, with every number of threads."""
    for threads in (1, 2, 3):
        gates: list[Gate] = []

        def configure(app: App, gates: list[Gate] = gates) -> None:
            def slow(res: Any, req: Any) -> None:
                gates[-1].pass_through()
                res.end("slow")

            app.get("/slow", slow).get("/", lambda res, req: res.end("quick"))

        running = serve(configure, io_threads=threads)
        clients = [running.client() for _ in range(20)]
        with running.client() as first:
            for _ in range(10):
                gates.append(Gate())
                first.request(target="/slow")
                gates[-1].arrived()
                for client in clients:
                    client.request()
                gates[-1].open()
                assert first.answer().body == b"slow"
                for client in clients:
                    assert client.answer().body == b"quick"
        for client in clients:
            client.close()
        running.stop()


def test_no_thread_is_made_for_requests(serve: Serve) -> None:
    def configure(app: App) -> None:
        async def later(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            res.end("")

        app.get("/def", lambda res, req: res.end("")).get("/async", later)

    running = serve(configure)
    with running.client() as client:
        client.get("/def")
        before = tasks_of_process()
        for _ in range(200):
            client.get("/def")
            client.get("/async")
        clients = [running.client() for _ in range(100)]
        for each in clients:
            each.get("/def")
        assert tasks_of_process() == before
        for each in clients:
            each.close()


# ---- answers from other threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_thread_of_the_program_answers(serve: Serve, kind: str) -> None:
    def configure(app: App) -> None:
        def work(res: Any, req: Any) -> None:
            res.write_status(201).write_header("X-Thread", threading.current_thread().name)
            res.write("a" * 100_000)
            res.write(b"b")
            res.end(req.get_url())
            assert res.has_responded()

        def handler(res: Any, req: Any) -> None:
            threading.Thread(target=work, args=(res, req), name="mine").start()

        async def async_handler(res: Any, req: Any) -> None:
            await asyncio.to_thread(work, res, req)

        app.get("/*", handler if kind == "def" else async_handler)

    with serve(configure).client() as client:
        for number in range(20):
            answer = client.get(f"/{number}")
            assert answer.status == 201
            assert answer.body == b"a" * 100_000 + b"b" + f"/{number}".encode()


def test_many_threads_use_one_response(serve: Serve) -> None:
    """Whole pieces in some order, exactly one end, and every later call gives its neutral value."""
    neutral: list[Any] = []

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            start = threading.Barrier(6)

            def write(letter: str) -> None:
                start.wait()
                for _ in range(50):
                    res.write(letter * 10)

            def end() -> None:
                for thread in threads[:5]:
                    thread.join()
                endings = [threading.Thread(target=res.end, args=("!",)) for _ in range(4)]
                for thread in endings:
                    thread.start()
                for thread in endings:
                    thread.join()
                neutral.append((res.has_responded(), res.write("late") is res, res.get_write_offset()))

            threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcde"]
            threads.append(threading.Thread(target=end))
            for thread in threads:
                thread.start()
            start.wait()

        app.get("/", handler)

    with serve(configure).client() as client:
        for _ in range(5):
            body = client.get("/").body
            assert len(body) == 2501
            assert body.endswith(b"!")
            pieces = [body[at : at + 10] for at in range(0, 2500, 10)]
            assert all(len(set(piece)) == 1 for piece in pieces)
    until(lambda: neutral == [(True, True, 0)] * 5, "the neutral values")


def test_close_from_a_thread(serve: Serve) -> None:
    aborted: list[Any] = []

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            res.on_aborted(lambda res: aborted.append(res.aborted))
            threading.Thread(target=res.close).start()

        app.get("/", handler)

    with serve(configure).client() as client:
        assert client.request().is_closed()
    until(lambda: aborted == [True], "the abort handler runs")


def test_every_method_after_every_end_from_a_thread(serve: Serve) -> None:
    """A-CALL-10: after the end, after an abort and after the application has gone."""
    kept: list[Any] = []
    results: list[Any] = []

    def call_all(res: Any, req: Any) -> None:
        results.append(
            [
                res.end("x") is res,
                res.send("x") is res,
                res.cork_end("x") is res,
                res.cork_send("x") is res,
                res.write("x") is res,
                res.write_status(200) is res,
                res.write_header("a", "b") is res,
                res.end_without_body() is res,
                res.redirect("/") is res,
                res.write_continue() is res,
                res.write_offset(3) is res,
                res.get_write_offset() == 0,
                res.try_end(b"x", 10) == (False, True),
                res.pause() is res,
                res.resume() is res,
                res.on_data(lambda *_: None) is res,
                res.on_aborted(lambda *_: results.append("late")) is res,
                res.on_writable(lambda *_: results.append("late")) is res,
                res.grab_aborted_handler() is res,
                res.close() is res,
                isinstance(res.get_remote_address(), str),
                isinstance(res.get_native_handle(), int),
                req.get_url() == "/",
                req.get_header("host") == "test",
            ]
        )

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            kept.append((res, req))
            if req.get_query("end"):
                res.end("")

        app.get("/", handler)

    running = serve(configure)
    with running.client() as client:
        client.get("/?end=1")
        thread = threading.Thread(target=call_all, args=kept[0])
        thread.start()
        thread.join(20)
        assert client.get("/?end=1").status == 200
        client.request(target="/")
        until(lambda: len(kept) == 3, "the handler has run")
    until(lambda: kept[2][0].aborted, "the abort is seen")
    call_all(*kept[2])
    running.stop()
    for res, req in kept:
        call_all(res, req)
    assert len(results) == 5
    assert all(all(result) for result in results), results


# ---- order ----------------------------------------------------------------------------------------------------------


def test_pipelined_requests_run_and_answer_in_order(serve: Serve) -> None:
    """A-CALL-03: in any mix of kinds, one at a time per connection."""
    order: list[str] = []

    def configure(app: App) -> None:
        def plain(res: Any, req: Any) -> None:
            order.append(req.get_url())
            res.end(req.get_url())

        async def later(res: Any, req: Any) -> None:
            order.append(req.get_url())
            await asyncio.sleep(0.001)
            order.append("end of " + req.get_url())
            res.end(req.get_url())

        app.get("/def/:n", plain).get("/async/:n", later).constant("/constant", "constant")

    targets = [
        target
        for number in range(40)
        for target in (f"/def/{number}", f"/async/{number}", "/constant", f"/none/{number}")
    ]
    with serve(configure, io_threads=2).client() as client:
        client.send("".join(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n" for target in targets).encode())
        bodies = [client.answer().body.decode() for _ in targets]
    expected = [{"c": "constant", "n": "Not Found"}.get(target[1], target) for target in targets]
    assert bodies == expected
    calls = []
    for number in range(40):
        calls += [f"/def/{number}", f"/async/{number}", f"end of /async/{number}"]
    assert order == calls


# ---- run_async and tasks --------------------------------------------------------------------------------------------


def test_run_async_of_a_response(answer: Requests) -> None:
    """A-RES-03, I-S-45."""

    def make(app: App) -> Any:
        async def work(res: Any) -> None:
            await asyncio.sleep(0)
            res.end(f"{home(app)}")

        def handler(res: Any, req: Any) -> None:
            assert res.run_async(work(res)) in (res, None)

        return handler

    assert answer(make) == b"True"


def test_run_async_of_the_application_before_and_during_run(serve: Serve) -> None:
    """A-APP-30, D-R-06: from the main thread before run(), from handlers, from threads, from the loop."""
    done: list[str] = []

    def configure(app: App) -> None:
        app.home = threading.get_ident()  # type: ignore[attr-defined]

        async def work(name: str) -> None:
            assert home(app)
            await asyncio.sleep(0)
            done.append(name)

        app.run_async(work("before run"))

        def handler(res: Any, req: Any) -> None:
            app.run_async(work("def"))
            thread = threading.Thread(target=lambda: app.run_async(work("thread")))
            thread.start()
            thread.join()
            res.end("")

        async def async_handler(res: Any, req: Any) -> None:
            app.run_async(work("async def"))
            res.end("")

        app.get("/def", handler).get("/async", async_handler)

    with serve(configure).client() as client:
        until(lambda: done == ["before run"], "the first task has run")
        client.get("/def")
        client.get("/async")
        until(lambda: len(done) == 4, "all tasks have run")
    assert sorted(done) == ["async def", "before run", "def", "thread"]


def test_run_async_with_a_response_fails_for_it(answer: Requests, caplog: Any) -> None:
    def make(app: App) -> Any:
        async def work() -> None:
            raise LookupError("work")

        return lambda res, req: app.run_async(work(), res)

    assert answer(make) == b"Internal Error"
    # The client is answered first.
    until(lambda: "work" in caplog.text, "the error is logged")


def test_run_async_tasks_are_kept_alive(serve: Serve) -> None:
    """asyncio keeps only weak references: only the application holds these."""
    import gc

    done: list[int] = []

    def configure(app: App) -> None:
        async def work() -> None:
            # The only reference to the future is the task's own frame.
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.02, lambda: future.done() or future.set_result(None))
            await future
            done.append(1)

        def handler(res: Any, req: Any) -> None:
            for _ in range(10):
                app.run_async(work())
            gc.collect()
            res.end("")

        app.get("/", handler)

    with serve(configure).client() as client:
        client.get("/")
        gc.collect()
        until(lambda: len(done) == 10, "all tasks have run")


def test_tasks_are_cancelled_at_the_end(serve: Serve) -> None:
    events: list[str] = []

    def configure(app: App) -> None:
        async def forever() -> None:
            try:
                events.append("begun")
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                events.append("ended")

        app.run_async(forever())

    running = serve(configure)
    until(lambda: events, "the task begins")
    running.stop()
    assert events == ["begun", "ended"]


def test_run_async_after_the_end_does_nothing(serve: Serve) -> None:
    running = serve(lambda app: None)
    running.stop()

    async def work() -> None:
        raise AssertionError

    running.app.dispose()
    task = work()
    running.app.run_async(task)
    task.close()


# ---- cork -----------------------------------------------------------------------------------------------------------


def pieces(client: Client) -> list[bytes]:
    """The bytes of the first read after the response has begun, and the rest of the response."""
    first = client.receive()
    client.pending += first
    return [first]


@pytest.mark.parametrize("kind", ["def", "async def", "thread"])
def test_cork_sends_once(serve: Serve, kind: str) -> None:
    """I-S-03, A-RES-01: status, headers and three writes leave in one write to the socket."""

    def configure(app: App) -> None:
        def inside(res: Any) -> None:
            res.write_status(202).write_header("X-A", "b")
            res.write("one ")
            res.write("two ")
            res.cork(lambda res: res.write("three "))
            res.end("four")

        def handler(res: Any, req: Any) -> None:
            if kind == "thread":
                threading.Thread(target=lambda: results.append(res.cork(inside))).start()
            else:
                results.append(res.cork(inside))

        async def async_handler(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            results.append(res.cork(inside))

        results: list[Any] = []
        app.get("/", async_handler if kind == "async def" else handler)

    with serve(configure).client() as client:
        for _ in range(20):
            client.request()
            (first,) = pieces(client)
            answer = client.answer()
            assert answer.status == 202
            assert answer.body == b"one two three four"
            assert first.endswith(b"0\r\n\r\n"), first


def test_one_segment_of_a_coroutine_is_one_write(serve: Serve) -> None:
    """A-CALL-03: without any cork."""

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            res.write("one ")
            res.write("two ")
            res.end("three")

        app.get("/", handler)

    with serve(configure).client() as client:
        for _ in range(20):
            client.request()
            (first,) = pieces(client)
            assert client.answer().body == b"one two three"
            assert first.endswith(b"0\r\n\r\n"), first


def test_what_is_written_before_an_await_leaves_before_it_ends(serve: Serve) -> None:
    """The end of a segment is the end of its cork: a client must not wait for the whole coroutine."""
    gate = threading.Event()

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            res.write("first")
            while not gate.is_set():
                await asyncio.sleep(0.002)
            res.end("second")

        app.get("/", handler)

    with serve(configure).client() as client:
        client.request()
        client.until(b"5\r\nfirst\r\n")
        gate.set()
        assert client.until(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"


def test_what_a_thread_writes_leaves_at_once(serve: Serve) -> None:
    """A thread's write does not wait for anything, neither right after the handler nor later."""
    gate = threading.Event()

    def configure(app: App) -> None:
        def work(res: Any) -> None:
            res.write("first")
            assert gate.wait(20)
            res.end("second")

        app.get("/", lambda res, req: threading.Thread(target=work, args=(res,)).start())

    with serve(configure).client() as client:
        client.request()
        client.until(b"5\r\nfirst\r\n")
        gate.set()
        client.until(b"0\r\n\r\n")
