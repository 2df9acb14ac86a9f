"""``app.loop`` and tasks: A.10, A.11, A-APP-06, A-APP-32."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from socketify import App, Loop, RequestTask, TaskFactory, create_task
from support import Program, until
from support.client import Client

Serve = Callable[..., Any]


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.dispose()


@pytest.fixture
def app() -> Iterator[App]:
    application = App()
    yield application
    application.dispose()


async def value_later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


# ---- Loop ----------------------------------------------------------------------------------------------------------


def test_the_loop_is_asyncios_and_the_current_one(loop: Loop) -> None:
    """A-LOOP-01, A-LOOP-02, A-APP-06."""
    assert isinstance(loop.loop, asyncio.AbstractEventLoop)
    assert asyncio.get_event_loop_policy().get_event_loop() is loop.loop
    assert loop.started is False


def test_the_constructors_arguments() -> None:
    """A-LOOP-01, A-LOOP-15."""
    seen: list[Any] = []
    loop = Loop(lambda *arguments: seen.append(arguments), 100, 0.5)
    assert loop.idle_relaxation_time == 0.5
    loop.is_idle = False
    loop.loop.call_exception_handler({"message": "words", "exception": LookupError("one")})
    loop.loop.call_exception_handler({"message": "words"})
    (first, second) = seen
    assert first[0] is loop.loop
    assert repr(first[1:]) == "(LookupError('one'), None)"
    assert repr(second[1:]) == "(RuntimeError('words'), None)"
    loop.dispose()
    loop.dispose()
    assert loop.loop.is_closed()


def test_futures_and_tasks_belong_to_it(loop: Loop) -> None:
    """A-LOOP-03..05."""
    future = loop.create_future()
    assert future.get_loop() is loop.loop
    task = loop.create_task(value_later(1), name="named")
    assert task.get_name() == "named"
    ensured = loop.ensure_future(value_later(2))
    future.set_result(3)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(task, ensured, future)

    assert loop.run_until_complete(all_of_them()).result() == [1, 2, 3]


def test_run_until_complete(loop: Loop) -> None:
    """A-LOOP-10: gives the future; None is a TypeError; the task's exception is raised."""
    assert loop.run_until_complete(value_later(4)).result() == 4
    with pytest.raises(TypeError):
        loop.run_until_complete(None)  # type: ignore[arg-type]

    async def fail() -> None:
        raise LookupError("raised")

    with pytest.raises(LookupError, match="raised"):
        loop.run_until_complete(fail())
    assert loop.started is False


def test_run_until_complete_serves_sockets(app: App) -> None:
    """A-LOOP-10: "runs loop incl. socket I/O"."""

    async def later(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end("later")

    ports: list[int] = []
    app.get("/", later).listen({"host": "127.0.0.1"}, lambda config: ports.append(config.port))
    app._lifecycle.begin()

    def ask() -> bytes:
        with Client(ports[0]) as client:
            return client.get("/").body

    async def main() -> bytes:
        return await asyncio.to_thread(ask)

    assert app.loop.run_until_complete(main()).result() == b"later"


def test_run_and_stop(loop: Loop) -> None:
    """A-LOOP-09, A-LOOP-12: stop() works from any thread, and before, and twice."""
    started: list[bool] = []

    async def main() -> str:
        started.append(loop.started)
        threading.Thread(target=lambda: (loop.stop(), loop.stop())).start()
        return "done"

    future = loop.run(main())
    assert future is not None
    assert future.result() == "done"
    assert started == [True]
    assert loop.started is False
    loop.loop.call_soon(loop.stop)
    assert loop.run() is None


def test_stop_after_dispose(loop: Loop) -> None:
    loop.dispose()
    loop.stop()


def test_run_once(loop: Loop) -> None:
    """A-LOOP-11: one turn, however often."""
    turns: list[int] = []

    def turn() -> None:
        turns.append(1)
        loop.loop.call_soon(turn)

    loop.loop.call_soon(turn)
    for _ in range(5):
        loop.run_once()
    assert 5 <= len(turns) <= 6
    began = time.monotonic()
    loop.set_timeout(60_000, turns.append, 1)
    turns.clear()
    loop.loop.call_soon(turns.append, 1)
    loop.run_once()
    assert time.monotonic() - began < 5, "a turn does not wait for timers"


def test_run_async(loop: Loop) -> None:
    """A-LOOP-06: errors go to the exception handler with the response; None is returned."""
    seen: list[Any] = []
    loop.exception_handler = lambda where, error, response: seen.append(
        (where is loop.loop, str(error), response)
    )

    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError("failed")

    async def fine() -> None:
        seen.append("fine")

    assert loop.run_async(fine()) is None
    loop.run_async(fail(), "response")
    threading.Thread(target=lambda: loop.run_async(fail(), "thread")).start()

    async def wait() -> None:
        while len(seen) < 3:
            await asyncio.sleep(0.002)

    loop.run_until_complete(asyncio.wait_for(wait(), 20))
    assert seen[0] == "fine"
    assert sorted(seen[1:]) == [(True, "failed", "response"), (True, "failed", "thread")]


def test_create_background_task(loop: Loop) -> None:
    """A-LOOP-07: a callable, called on the next turn, from any thread."""
    seen: list[Any] = []

    async def work() -> None:
        await asyncio.sleep(0)
        seen.append(asyncio.get_running_loop() is loop.loop)

    assert loop.create_background_task(work) is None
    assert seen == []
    threading.Thread(target=loop.create_background_task, args=(work,)).start()

    async def wait() -> None:
        while len(seen) < 2:
            await asyncio.sleep(0.002)

    loop.run_until_complete(asyncio.wait_for(wait(), 20))
    assert seen == [True, True]


def test_set_timeout(loop: Loop) -> None:
    """A-LOOP-08: kept alive until it has fired; stop() and set_repeat()."""
    fired: list[str] = []
    loop.set_timeout(5, fired.append, "nobody keeps it")
    stopped = loop.set_timeout(5, fired.append, "stopped")
    stopped.stop()
    stopped.stop()
    repeated = loop.set_timeout(1, fired.append, "again")
    repeated.set_repeat(1)
    gc.collect()

    async def wait() -> None:
        while fired.count("again") < 5 or "nobody keeps it" not in fired:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(wait(), 20))
    repeated.stop()
    count = len(fired)
    loop.run_until_complete(asyncio.sleep(0.02))
    assert len(fired) == count
    assert "stopped" not in fired


def test_a_timer_that_stops_itself(loop: Loop) -> None:
    fired: list[int] = []

    def fire(data: Any) -> None:
        fired.append(1)
        if len(fired) == 3:
            timer.stop()

    timer = loop.set_timeout(1, fire, None)
    timer.set_repeat(1)
    loop.run_until_complete(asyncio.sleep(0.05))
    assert len(fired) == 3


def test_a_failing_timer_repeats(loop: Loop) -> None:
    seen: list[Any] = []
    loop.exception_handler = lambda where, error, response: seen.append(str(error))

    def fire(data: Any) -> None:
        raise LookupError(data)

    timer = loop.set_timeout(1, fire, "timer")
    timer.set_repeat(1)

    async def wait() -> None:
        while len(seen) < 3:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(wait(), 20))
    timer.stop()
    assert set(seen) == {"timer"}


def test_timers_of_a_serving_application_from_any_thread(serve: Serve) -> None:
    """The loop sleeps in the operating system: a timer set from elsewhere must wake it and not wait for a request."""
    fired: list[str] = []
    running = serve(lambda app: None)
    running.app.loop.set_timeout(1, fired.append, "main")
    until(lambda: fired == ["main"], "the timer fires", 5)
    timer = running.app.loop.set_timeout(60_000, fired.append, "never")
    timer.stop()
    running.app.loop.set_timeout(1, fired.append, "second")
    until(lambda: fired == ["main", "second"], "the second timer fires", 5)


def test_set_event_loop(loop: Loop) -> None:
    """A-LOOP-13."""
    seen: list[Any] = []
    loop.exception_handler = lambda where, error, response: seen.append(str(error))
    old, new = loop.loop, asyncio.new_event_loop()
    loop.set_event_loop(new)
    assert loop.loop is new
    assert asyncio.get_event_loop_policy().get_event_loop() is new
    new.call_exception_handler({"message": "through the new loop"})
    assert seen == ["through the new loop"]
    assert loop.run_until_complete(value_later(5)).result() == 5
    old.close()


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_an_application_on_another_loop(kind: str) -> None:
    """A-LOOP-13: a loop that knows nothing of the server; both kinds of handlers, shutdown included."""
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    source = """
    app = App(sync_handlers=sys.argv[2])
    if sys.argv[1] == "uvloop":
        import uvloop
        new = uvloop.new_event_loop()
    else:
        new = asyncio.new_event_loop()
    old = app.loop.loop
    app.loop.set_event_loop(new)
    old.close()

    async def later(res, req):
        assert asyncio.get_running_loop() is new
        await asyncio.sleep(0.001)
        res.end("later")

    app.get("/def", lambda res, req: res.end("def"))
    app.get("/async", later)
    app.on_shutdown(lambda: say("shutdown"))
    app.listen({"host": "127.0.0.1"}, ready)
    app.run()
    """
    for lane in ("io", "loop"):
        with Program(source, kind, lane) as program, program.listening().client() as client:
            for _ in range(20):
                assert client.get("/def").body == b"def"
                assert client.get("/async").body == b"later"
            program.signal(15)
            assert program.finish() == (0, "shutdown\n", "")


def test_uvloop_as_an_option() -> None:
    pytest.importorskip("uvloop")
    source = """
    app = App(use_uvloop=True)

    async def later(res, req):
        await asyncio.sleep(0.001)
        res.end(type(asyncio.get_running_loop()).__mro__[2].__module__)

    def plain(res, req):
        loop = asyncio.get_running_loop()
        assert loop is app.loop.loop
        loop.call_later(0.001, res.end, "def")

    app.get("/def", plain)
    app.get("/async", later)
    app.on_shutdown(lambda: say("shutdown"))
    app.listen({"host": "127.0.0.1"}, ready)
    app.run()
    """
    with Program(source) as program, program.listening().client() as client:
        for _ in range(20):
            assert client.get("/def").body == b"def"
            assert client.get("/async").body == b"uvloop"
        program.signal(15)
        assert program.finish() == (0, "shutdown\n", "")


def test_get_native_loop(loop: Loop) -> None:
    """A-LOOP-14."""
    assert loop.get_native_loop() is not None


def test_the_loop_in_the_way_examples_use_it(serve: Serve) -> None:
    """A-APP-32: ``res.app.loop.create_future()``."""

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            assert res.app is app
            future = res.app.loop.create_future()
            res.app.loop.set_timeout(1, future.set_result, "from a future")
            res.end(await future)

        app.get("/", handler)

    with serve(configure).client() as client:
        assert client.get("/").body == b"from a future"


def test_asyncios_debug_mode(serve: Serve, caplog: Any) -> None:
    """The loop's short cuts give way to asyncio's checks, and nothing they check is done wrong."""

    def configure(app: App) -> None:
        app.loop.loop.set_debug(True)

        async def later(res: Any, req: Any) -> None:
            await asyncio.sleep(0.001)
            res.end("later")

        def plain(res: Any, req: Any) -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_later, 0.001, res.end, "def")

        app.get("/async", later).get("/def", plain)

    with serve(configure).client() as client:
        for _ in range(10):
            assert client.get("/async").body == b"later"
            assert client.get("/def").body == b"def"


def test_eager_task_factory(serve: Serve) -> None:
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")

    def configure(app: App) -> None:
        app.loop.loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]

        async def later(res: Any, req: Any) -> None:
            await asyncio.create_task(asyncio.sleep(0))
            res.end("later")

        def plain(res: Any, req: Any) -> None:
            res.task = asyncio.create_task(later(res, req))

        app.get("/async", later).get("/def", plain)

    with serve(configure).client() as client:
        for _ in range(10):
            assert client.get("/async").body == b"later"
            assert client.get("/def").body == b"later"


# ---- tasks ---------------------------------------------------------------------------------------------------------


def test_create_task_is_eager_where_it_can_be(loop: Loop) -> None:
    """A-TSK-01: on the loop's thread the first step runs at once (Python 3.12 and later); else on the next turn."""
    steps: list[str] = []

    async def work() -> str:
        steps.append("first")
        await asyncio.sleep(0)
        steps.append("second")
        return "result"

    async def main() -> None:
        done: list[Any] = []
        task = create_task(loop.loop, work(), done.append)
        assert steps == (["first"] if sys.version_info >= (3, 12) else [])
        assert await task == "result"
        await asyncio.sleep(0)
        assert done == [task]

    loop.run_until_complete(main())
    assert steps == ["first", "second"]


def test_request_task_is_a_task(loop: Loop) -> None:
    """A-TSK-02."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def main() -> None:
        context = contextvars.copy_context()
        context.run(variable.set, "given")

        async def work() -> str:
            assert asyncio.current_task() is not main_task
            await asyncio.sleep(0)
            return variable.get()

        main_task = asyncio.current_task()
        task = RequestTask(work(), loop.loop, context=context)
        assert asyncio.current_task() is main_task
        assert isinstance(task, asyncio.Task)
        assert task.get_name() == "socketify.py-request-task"
        task.set_name("renamed")
        assert task.get_name() == "renamed"
        assert task.get_loop() is loop.loop
        assert task.get_coro() is not None
        assert task.get_stack()
        assert task in asyncio.all_tasks()
        assert not task.done()
        if sys.version_info >= (3, 11):
            assert await task == "given"
            assert task.get_context() is context
        else:
            assert await task == "given"
        assert task.result() == "given"
        assert task.exception() is None

        cancelled = RequestTask(asyncio.sleep(3600), loop.loop)
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert cancelled.cancelled()
        with pytest.raises(TypeError):
            RequestTask(lambda: None, loop.loop)  # type: ignore[arg-type]

    loop.run_until_complete(main())


def test_request_tasks_with_timeouts_and_groups(loop: Loop) -> None:
    async def work() -> str:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3600), 0.01)
        if sys.version_info >= (3, 11):
            async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined]
                inner = group.create_task(value_later("inner"))
            return inner.result()
        return await value_later("inner")

    async def main() -> None:
        assert await RequestTask(work(), loop.loop) == "inner"

    loop.run_until_complete(main())


def test_task_factory(loop: Loop) -> None:
    """A-TSK-03, and fit for ``set_task_factory`` with every argument of ``create_task`` (A-APP-06)."""
    factory = TaskFactory(10)

    async def main() -> None:
        assert await factory(loop.loop, value_later(1)) == 1
        loop.loop.set_task_factory(factory)  # type: ignore[arg-type]
        assert await asyncio.create_task(value_later(2), name="named") == 2
        if sys.version_info >= (3, 11):
            assert await loop.loop.create_task(value_later(3), context=contextvars.copy_context()) == 3

    loop.run_until_complete(main())


def test_user_tasks_are_plain_asyncio_tasks(serve: Serve) -> None:
    """A-TSK-04: the application replaces no task factory, and every argument of ``create_task`` works."""

    def configure(app: App) -> None:
        assert app.loop.loop.get_task_factory() is None

        async def handler(res: Any, req: Any) -> None:
            order = ["before"]

            async def work() -> None:
                order.append("task")

            task = asyncio.create_task(work(), name="mine")
            order.append("after")
            await task
            res.end(",".join([*order, task.get_name(), type(task).__name__]))

        app.get("/", handler)

    with serve(configure).client() as client:
        assert client.get("/").body == b"before,after,task,mine,Task"
