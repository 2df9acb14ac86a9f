"""Middlewares, routers and extensions: E.3, A.9. The helpers that need no server: DEC-4, A.11."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from socketify import (
    AppExtension,
    DecoratorRouter,
    MiddlewareRouter,
    RequestTask,
    TaskFactory,
    create_task,
    middleware,
)
from socketify.handlers import is_async
from socketify.helpers import async_middleware, sync_middleware
from socketify.json_sets import without_sets

METHODS = ["get", "post", "options", "delete", "patch", "put", "head", "connect", "trace", "any"]


class FakeRequest:
    """A request that counts calls of ``preserve``."""

    preserved = 0

    def preserve(self) -> None:
        self.preserved += 1

    def get_yield(self) -> bool:
        return False

    def _hand_over(self) -> None:
        """The core's: a task goes on with the request."""


class FakeResponse:
    """A response that records its coroutines."""

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def run_async(self, task: Any) -> None:
        self.tasks.append(task)

    def results(self) -> list[Any]:
        return [asyncio.run(task) for task in self.tasks]


class FakeApp:
    """An application that keeps its routes."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, str, Callable[..., Any]]] = []

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method not in METHODS:
            raise AttributeError(method)
        return lambda path, handler, max_body_size=None: self.routes.append((method, path, handler))


def plus(text: str) -> Callable[..., Any]:
    return lambda res, req, data: (data or "") + text


def plus_async(text: str) -> Callable[..., Any]:
    async def add(res: object, req: object, data: Any) -> str:
        await asyncio.sleep(0)
        return (data or "") + text

    return add


def stop(value: object) -> Callable[..., Any]:
    return lambda res, req, data: value


def unreachable(res: object, req: object, data: object) -> None:
    raise AssertionError("the chain has been stopped before")


# ---- middleware --------------------------------------------------------------------------------------------


def test_all_sync() -> None:
    """E-MW-01, E-MW-02."""
    chain = middleware(plus("a"), plus("b"), plus("c"))
    assert not is_async(chain)
    assert chain(FakeResponse(), FakeRequest()) == "abc"
    assert chain(FakeResponse(), FakeRequest(), "0") == "0abc"
    assert chain(FakeResponse(), FakeRequest(), data="0") == "0abc"


def test_first_gets_none() -> None:
    """E-MW-01."""
    seen = []
    middleware(lambda *arguments: seen.append(arguments))(1, 2)
    assert seen == [(1, 2, None)]


@pytest.mark.parametrize("value", [None, False, 0, "", {}])
def test_false_value_stops(value: object) -> None:
    """E-MW-01."""
    assert middleware(plus("a"), stop(value), unreachable)(FakeResponse(), FakeRequest()) == value
    assert (
        asyncio.run(middleware(plus_async("a"), stop(value), unreachable)(FakeResponse(), FakeRequest()))
        == value
    )
    response = FakeResponse()
    assert middleware(stop(value), plus_async("a"))(response, FakeRequest()) == value
    assert response.tasks == []


def test_all_async() -> None:
    """E-MW-03, E-MW-05."""
    chain, request = middleware(plus_async("a"), plus("b"), plus_async("c")), FakeRequest()
    assert inspect.iscoroutinefunction(chain)
    assert asyncio.run(chain(FakeResponse(), request)) == "abc"
    assert request.preserved == 1


def test_sync_then_async() -> None:
    """E-MW-04."""
    chain, response, request = (
        middleware(plus("a"), plus_async("b"), plus("c")),
        FakeResponse(),
        FakeRequest(),
    )
    assert not is_async(chain)
    assert chain(response, request) is None
    assert response.results() == ["abc"]
    assert request.preserved == 1


@pytest.mark.parametrize(
    "functions",
    [
        [middleware(plus("a"), plus_async("b")), plus("c"), plus_async("d")],
        [plus("a"), middleware(plus("b"), plus_async("c")), plus("d")],
        [middleware(middleware(plus("a"), plus_async("b")), plus("c")), plus("d")],
        [middleware(plus("a"), plus("b")), middleware(plus("c"), middleware(plus_async("d")))],
        [plus("a"), sync_middleware(plus("b")), async_middleware(plus("c")), plus("d")],
    ],
)
def test_nested_mixed_chains_propagate(functions: list[Callable[..., Any]]) -> None:
    """E-MW-04, I-C-39."""
    response = FakeResponse()
    assert middleware(*functions)(response, FakeRequest()) is None
    assert response.results() == ["abcd"]


def test_nested_chain_stops_the_outer_one() -> None:
    """E-MW-01."""
    assert middleware(middleware(plus("a"), stop(None)), unreachable)(FakeResponse(), FakeRequest()) is None


def test_wrapper_of_a_chain_is_no_chain() -> None:
    """Wrapping copies a function's attributes; the wrapper must run all the same."""
    chain = middleware(plus("a"), plus_async("b"))

    @functools.wraps(chain)
    def wrapper(res: Any, req: Any, data: Any = None) -> str:
        assert chain(res, req, data) is None
        return "wrapped"

    response = FakeResponse()
    assert middleware(wrapper, plus("c"))(response, FakeRequest()) == "wrappedc"
    assert response.results() == ["ab"]


def test_exceptions_propagate() -> None:
    """E-MW-06."""

    def fail(res: object, req: object, data: object) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        middleware(plus("a"), fail)(FakeResponse(), FakeRequest())
    with pytest.raises(KeyError):
        asyncio.run(middleware(plus_async("a"), fail)(FakeResponse(), FakeRequest()))


def test_no_functions() -> None:
    """E-MW-07."""
    assert middleware()(FakeResponse(), FakeRequest(), "data") == "data"
    assert middleware()(FakeResponse(), FakeRequest()) is None


def test_callable_objects() -> None:
    class Member:
        async def __call__(self, res: object, req: object, data: Any) -> str:
            return (data or "") + "a"

    chain = middleware(Member(), functools.partial(plus_async("b")))
    assert asyncio.run(chain(FakeResponse(), FakeRequest())) == "ab"


def test_sync_and_async_middleware() -> None:
    """E-MW-13."""
    assert sync_middleware(plus("a"), plus("b"))(FakeResponse(), FakeRequest()) == "ab"
    with pytest.raises(TypeError, match="add is a coroutine function"):
        sync_middleware(plus("a"), plus_async("b"))
    chain = async_middleware(plus("a"), plus("b"))
    assert inspect.iscoroutinefunction(chain)
    assert asyncio.run(chain(FakeResponse(), FakeRequest())) == "ab"


@pytest.mark.parametrize("factory", [middleware, sync_middleware, async_middleware])
def test_member_that_cannot_be_called(factory: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="must be callable as"):
        factory(plus("a"), "/path")


# ---- routers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_decorator_router(method: str) -> None:
    """E-MW-10, E-MW-11, B-RT-22: the function comes back and has two arguments."""
    app = FakeApp()

    def handler(res: object, req: object) -> None: ...

    assert getattr(DecoratorRouter(app, "/api"), method)("/x")(handler) is handler
    assert app.routes == [(method, "/api/x", handler)]


def test_decorators_stack() -> None:
    """E-MW-12."""
    app = FakeApp()
    router = DecoratorRouter(app)

    @router.get("/a")
    @router.post("/b")
    def handler(res: object, req: object) -> None: ...

    assert app.routes == [("post", "/b", handler), ("get", "/a", handler)]


@pytest.mark.parametrize(
    "given", [(plus("a"), plus("b")), ([plus("a"), plus("b")],), (iter([plus("a"), plus("b")]),)]
)
def test_decorator_router_middlewares(given: tuple[Any, ...]) -> None:
    """E-MW-10, I-B-14: several, or one iterable of them; three arguments."""
    app = FakeApp()
    router = DecoratorRouter(app, "", *given)
    for path in ("/1", "/2"):
        assert router.get(path)(plus("c"))
    assert [chain(FakeResponse(), FakeRequest()) for _, _, chain in app.routes] == ["abc", "abc"]


@pytest.mark.parametrize("method", METHODS)
def test_middleware_router(method: str) -> None:
    """E-MW-08, E-MW-09: three arguments, also without middlewares."""
    app = FakeApp()
    router = MiddlewareRouter(app, plus("a"))
    assert getattr(router, method)("/x", plus("b")) is router
    assert getattr(MiddlewareRouter(app), method)("/y", plus("b")).app is app
    assert [(route[0], route[1]) for route in app.routes] == [(method, "/x"), (method, "/y")]
    assert [route[2](FakeResponse(), FakeRequest()) for route in app.routes] == ["ab", "b"]


# ---- extensions --------------------------------------------------------------------------------------------


class Instance:
    """What extensions are added to."""

    def built_in(self) -> str:
        return "built in"


def test_extension_methods() -> None:
    """A-EXT-01, A-EXT-03, A-EXT-05."""
    extension = AppExtension()
    assert extension.empty

    @extension.method
    def built_in(self: Instance) -> str:
        return "shadowed"

    @extension.method
    async def later(self: Instance, value: int) -> tuple[Instance, int]:
        return self, value

    assert not extension.empty
    assert extension.methods == [("built_in", built_in), ("later", later)]
    instance = Instance()
    extension.bind_methods(instance)
    assert instance.built_in() == "shadowed"
    assert asyncio.run(instance.later(1)) == (instance, 1)
    assert Instance().built_in() == "built in"


def test_extension_properties() -> None:
    """A-EXT-02, A-EXT-04, I-B-23: containers are copied, everything else is shared."""
    extension, shared = AppExtension(), object()
    extension.property("shared", shared)
    extension.property("nothing")
    extension.property("items", [1])
    extension.property("ordered", OrderedDict(a=1))
    assert not extension.empty
    assert extension.properties[0] == ("shared", shared)
    first, second = Instance(), Instance()
    for instance in (first, second):
        extension.set_properties(instance)
    first.items.append(2)
    assert (first.items, second.items) == ([1, 2], [1])
    assert first.shared is second.shared is shared
    assert first.nothing is None
    assert type(first.ordered) is OrderedDict
    assert first.ordered is not second.ordered


def test_extension_refuses() -> None:
    """A-EXT-01, A-EXT-02."""
    with pytest.raises(TypeError):
        AppExtension().method("name")
    with pytest.raises(TypeError):
        AppExtension().property(1)


# ---- sets in JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "copy"),
    [
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        ({"a": [{1}, ({2},)], "b": 3}, {"a": [[1], [[2]]], "b": 3}),
        ({frozenset({1})}, [[1]]),
        (set(), []),
    ],
)
def test_sets_become_lists(value: object, copy: object) -> None:
    """DEC-4."""
    assert without_sets(value, TypeError()) == copy


def test_other_values_raise_the_error() -> None:
    """DEC-4: also when they contain themselves, and at once when a part occurs very often."""
    error = TypeError("not serialisable")
    cycle: list[Any] = [{1}]
    cycle.append({"cycle": cycle})
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    wide: list[Any] = []
    for _ in range(100):
        wide = [wide, wide]
    for value in (object(), {"a": [1, "b"]}, cycle, deep, wide):
        with pytest.raises(TypeError) as raised:
            without_sets(value, error)
        assert raised.value is error


# ---- tasks -------------------------------------------------------------------------------------------------


def test_request_task_is_a_task() -> None:
    """A-TSK-01, A-TSK-02."""
    done: list[object] = []

    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        assert task.get_name() == "socketify.py-request-task"
        async with asyncio.Lock():
            await asyncio.wait_for(asyncio.sleep(0), 1)
        return "result"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for make in (create_task, lambda loop, coro, callback: RequestTask(coro, loop, callback, True)):
            task = make(loop, work(), done.append)
            assert isinstance(task, asyncio.Task)
            assert task in asyncio.all_tasks()
            assert await task == "result"
            assert task.get_context() is not None
        await asyncio.sleep(0)
        loop.set_task_factory(TaskFactory())
        task = asyncio.create_task(work(), name="socketify.py-request-task")
        assert isinstance(task, RequestTask)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(done) == 2


def test_request_task_before_the_loop_runs() -> None:
    """A-TSK-01: then it starts with the loop."""

    async def work() -> int:
        return 1

    loop = asyncio.new_event_loop()
    try:
        task = create_task(loop, work())
        assert not task.done()
        assert loop.run_until_complete(task) == 1
    finally:
        loop.close()


# ---- chains by hand ------------------------------------------------------------------------------------------------


def test_a_chain_that_yields_in_its_coroutine(serve: Callable[..., Any]) -> None:
    """It hands the request on when it has ended, whether its first member is plain or not."""

    def plain(res: Any, req: Any, data: Any) -> str:
        return "on"

    async def passes(res: Any, req: Any, data: Any) -> None:
        await asyncio.sleep(0)
        req.set_yield(True)

    def configure(app: Any) -> None:
        app.get("/mixed", middleware(plain, passes))
        app.get("/coroutine", middleware(passes))
        app.any("/*", lambda res, req: res.end("next"))

    with serve(configure).client() as client:
        assert client.get("/coroutine").body == b"next"
        assert client.get("/mixed").body == b"next"


def test_plain_chain_by_hand(serve: Callable[..., Any]) -> None:
    """H-16: a function that makes one handler of several, without `middleware`."""

    def chain(*functions: Callable[..., Any]) -> Callable[..., None]:
        def handle(res: Any, req: Any) -> None:
            data = None
            for function in functions:
                data = function(res, req, data)
                if not data:
                    return

        return handle

    def authenticate(res: Any, req: Any, data: Any) -> Any:
        user = req.get_header("authorization")
        if user is None:
            res.write_status(403).end("not authorized")
        return user

    with serve(
        lambda app: app.get("/", chain(authenticate, lambda res, req, user: res.end(f"Hi {user}")))
    ).client() as client:
        assert (client.get().status, client.get().body) == (403, b"not authorized")
        assert client.get("/", "Authorization: Ada").body == b"Hi Ada"


def test_coroutine_decorator_by_hand(serve: Callable[..., Any]) -> None:
    """H-17, DEC-3: a decorator that reads the request, waits, and leaves it readable to the handler."""

    def authenticated(handler: Callable[..., Any]) -> Callable[..., Any]:
        async def handle(res: Any, req: Any) -> None:
            headers, queries = req.get_headers(), req.get_queries()
            assert req.get_parameters() == ["10"]
            await asyncio.sleep(0)
            if "authorization" not in headers:
                res.write_status(403).cork_end("not authorized")
                return
            assert queries == {"theme_color": ["dark"]}
            await handler(res, req)

        return handle

    async def home(res: Any, req: Any) -> None:
        res.cork_end(f"theme {req.get_query('theme_color')} id {req.get_parameter(0)}")

    with serve(lambda app: app.get("/user/:id", authenticated(home))).client() as client:
        assert client.get("/user/10?theme_color=dark").status == 403
        answer = client.get("/user/10?theme_color=dark", "Authorization: x")
        assert answer.body == b"theme dark id 10"
