"""Request ids: on the request, in the response, in the log; and nowhere else.

Rows: A-CALL-16 (plain handlers share threads), section 3 row 19 of users.md.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from socketify import App, HTTPError, RequestIdFilter, get_request_id, middleware, request_id
from support import until
from support.h2_client import H2Client
from support.lanes import THREAD, each_lane, on, options

Serve = Callable[..., Any]


@pytest.fixture
def log() -> Iterator[Callable[[], list[str]]]:
    """The lines logged meanwhile, as ``id message``."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(logging.Formatter("%(request_id)s %(message)s"))
    logging.getLogger().addHandler(handler)
    yield lambda: stream.getvalue().splitlines()
    logging.getLogger().removeHandler(handler)


@each_lane
def test_id(serve: Serve, log: Any, lane: str) -> None:
    """One id, wherever one looks for it, and a new one for each request."""

    def handler(res: Any, req: Any, data: Any) -> None:
        logging.warning("in the handler")
        res.end({"request": req.request_id, "context": get_request_id()})

    running = serve(lambda app: app.router("", request_id()).get("/")(on(lane, handler)), **options(lane))
    seen = []
    with running.client() as client:
        for _ in range(3):
            answer = client.get()
            given = answer.header("x-request-id")
            assert given is not None
            assert re.fullmatch("[0-9a-f]{32}", given)
            assert answer.body.decode() == f'{{"request": "{given}", "context": "{given}"}}'
            seen.append(given)
    assert len(set(seen)) == 3
    assert log() == [f"{given} in the handler" for given in seen]


@each_lane
def test_it_ends_with_its_request(serve: Serve, log: Any, lane: str) -> None:
    """The next request on the same thread has its own, or none."""

    def other(res: Any, req: Any) -> None:
        logging.warning("other")
        res.end(str(get_request_id()))

    def configure(app: App) -> None:
        app.router("", request_id()).get("/")(on(lane, lambda res, req, data: res.end("")))
        app.get("/other", on(lane, other))
        app.get("/plain", other)

    with serve(configure, io_threads=1, **options(lane)).client() as client:
        for path in ("/other", "/plain"):
            client.get()
            assert client.get(path).body == b"None"
    assert log() == ["- other", "- other"]


@each_lane
def test_failures_are_logged_with_it(serve: Serve, log: Any, lane: str) -> None:
    """The line that one looks for most."""

    def handler(res: Any, req: Any, data: Any) -> None:
        raise RuntimeError("broken")

    running = serve(lambda app: app.router("", request_id()).get("/")(on(lane, handler)), **options(lane))
    with running.client() as client:
        assert client.get().status == 500
    assert re.match(r"[0-9a-f]{32} Uncaught Exception: broken", log()[0])


def test_tasks_of_a_handler_have_it(serve: Serve, log: Any) -> None:
    """A task has the context in which it was made, also when it outlives the request."""

    async def later() -> None:
        await asyncio.sleep(0.01)
        logging.warning("later")

    async def handler(res: Any, req: Any, data: Any) -> None:
        task = asyncio.create_task(later())
        res.end(req.request_id)
        await task

    running = serve(lambda app: app.router("", request_id()).get("/")(handler))
    with running.client() as client:
        given = client.get().body.decode()
    until(log, "the task has logged")
    assert log() == [f"{given} later"]


TRUSTED = ["7", "a-b_c.d:e+f/g=h@i", "x" * 128, "0af7651916cd43dd8448eb211c80319c"]
REFUSED = ["", "x" * 129, "a b", "a,b", "<script>", 'a"b', "a%b", "ä"]


@pytest.mark.parametrize("given", TRUSTED + REFUSED)
@pytest.mark.parametrize("trust", [False, True])
def test_id_of_the_client(serve: Serve, given: str, trust: bool) -> None:
    """Taken where it is trusted, and only if nothing in it could mean anything to anybody."""

    def handler(res: Any, req: Any, data: Any) -> None:
        res.end(req.request_id)

    running = serve(lambda app: app.router("", request_id("X-Trace", trust=trust)).get("/")(handler))
    with running.client() as client:
        answer = client.get("/", f"x-trace: {given}")
        assert answer.header("x-trace") == answer.body.decode()
        assert (answer.body.decode() == given) == (trust and given in TRUSTED)


def test_repeated_header(serve: Serve) -> None:
    """Two ids are none."""
    chain = middleware(request_id(trust=True), lambda res, req, data: res.end(req.request_id))
    with serve(lambda app: app.get("/", chain)).client() as client:
        assert len(client.get("/", "X-Request-ID: a", "X-Request-ID: b").body) == 32


def test_generate(serve: Serve) -> None:
    """Generated ids of the application; and the data of the middleware before passes through."""
    numbers = iter(range(100))

    def handler(res: Any, req: Any, data: Any) -> None:
        res.end(f"{req.request_id} {data}")

    def configure(app: App) -> None:
        router = app.router(
            "", lambda res, req, data: "data", request_id(generate=lambda: f"n{next(numbers)}")
        )
        router.get("/")(handler)

    with serve(configure).client() as client:
        assert client.get().body == b"n0 data"
        assert client.get().header("x-request-id") == "n1"


def test_chain_with_a_coroutine_behind_it(serve: Serve) -> None:
    """Members before the first coroutine run on the thread of the request, the others in a task: all with the id."""
    seen: list[str | None] = []

    def plain(res: Any, req: Any, data: Any) -> bool:
        seen.append(get_request_id())
        return True

    async def coroutine(res: Any, req: Any, data: Any) -> None:
        await asyncio.sleep(0)
        seen.append(get_request_id())
        res.end("")

    running = serve(lambda app: app.get("/", middleware(request_id(), plain, coroutine)))
    with running.client() as client:
        given = client.get().header("x-request-id")
    assert seen == [given, given]


def test_a_plain_handler_may_return_something_to_await(serve: Serve) -> None:
    """A-CALL-02 holds with ids too."""

    async def rest(res: Any) -> None:
        res.end(str(get_request_id()))

    chain = middleware(request_id(), lambda res, req, data: rest(res))
    with serve(lambda app: app.get("/", chain)).client() as client:
        answer = client.get()
        assert answer.body.decode() == answer.header("x-request-id")


@pytest.mark.parametrize("http2", [False, True])
@each_lane
def test_failures_are_answered_with_it(serve: Serve, lane: str, http2: bool) -> None:
    """Users report failures, so every response has the id: once, although the head is reset."""
    seen: dict[str, str] = {}

    def remember(res: Any, req: Any, data: Any) -> Any:
        seen[req.get_url()] = req.request_id
        res.write_header("X-Lost", "1")
        return data

    def raises(res: Any, req: Any, data: Any) -> None:
        raise RuntimeError("broken")

    def refuses(res: Any, req: Any, data: Any) -> None:
        raise HTTPError(403, headers=[("X-Why", "because")])

    def passes(res: Any, req: Any, data: Any) -> None:
        req.set_yield(True)

    def absent(res: Any, req: Any, data: Any) -> None:
        res.send_file("/nowhere")

    def elsewhere(res: Any, req: Any, data: Any) -> None:
        res.redirect("/")

    def own(res: Any, req: Any, data: Any) -> None:
        res.write_header("x-request-id", "own").end("")

    def configure(app: App) -> None:
        router = app.router("", request_id(), remember)
        for path, handler in [
            ("/raises", raises),
            ("/refuses", refuses),
            ("/passes", passes),
            ("/absent", absent),
            ("/elsewhere", elsewhere),
            ("/own", own),
        ]:
            router.get(path)(on(lane, handler))

    running = serve(configure, **options(lane))
    for path, status in [
        ("/raises", 500),
        ("/refuses", 403),
        ("/passes", 404),
        ("/absent", 404),
        ("/elsewhere", 302),
        ("/own", 200),
    ]:
        if http2:
            with H2Client(running.port) as h2:
                stream = h2.get(path)
                found = (stream.status, stream.headers.get("x-request-id"), stream.headers.get("x-lost"))
        else:
            with running.client() as client:
                answer = client.get(path)
                found = (answer.status, answer.header("x-request-id"), answer.header("x-lost"))
        lost = "1" if path in ("/elsewhere", "/own") else None
        assert found == (status, "own" if path == "/own" else seen[path], lost)


def test_refusals_while_a_handler_waits(serve: Serve) -> None:
    """A body that turns out to be too long, malformed or late is refused by the core, after the id was given."""

    entered = threading.Semaphore(0)

    async def handler(res: Any, req: Any, data: Any) -> None:
        entered.release()
        await req.body()
        res.end("")

    def configure(app: App) -> None:
        app.router("", request_id()).post("/", max_body_size=5)(handler)

    running = serve(configure, body_timeout=0.3)
    for body, status in [(b"6\r\nabcdef\r\n", 413), (b"x\r\n", 400), (b"3\r\nabc\r\n", 408)]:
        with running.client() as client:
            client.request("POST", "/", "Transfer-Encoding: chunked")
            assert entered.acquire(timeout=20)
            answer = client.send(body).answer()
            assert answer.status == status
            assert re.fullmatch("[0-9a-f]{32}", answer.header("x-request-id") or "")


def test_handshakes_are_answered_with_it(serve: Serve) -> None:
    """Also an upgrade is a response; one that fails is one that users report."""
    give = request_id()

    def upgrade(res: Any, req: Any, context: Any) -> None:
        give(res, req)
        if req.get_query("fail"):
            raise HTTPError(403)
        key = req.get_header("sec-websocket-key")
        res.upgrade(key, "", "", context)

    running = serve(
        lambda app: app.ws("/", {"upgrade": upgrade, "message": lambda ws, message, opcode: None})
    )
    handshake = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    for target, status in [("/", 101), ("/?fail=1", 403)]:
        with running.client() as client:
            answer = client.get(target, *handshake)
            assert answer.status == status
            assert re.fullmatch("[0-9a-f]{32}", answer.header("x-request-id") or "")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
def test_an_id_stays_on_its_line(serve: Serve, value: str) -> None:
    """What ``generate`` makes is checked as any value of a header is: the request fails, and nothing is injected."""

    def configure(app: App) -> None:
        app.router("", request_id(generate=lambda: value)).get("/")(lambda res, req, data: res.end(""))

    with serve(configure).client() as client:
        answer = client.get()
        assert (answer.status, answer.header("x-request-id"), answer.header("x-evil")) == (500, None, None)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"header": ""}, ValueError),
        ({"header": "a b"}, ValueError),
        ({"header": "a\r\nb"}, ValueError),
        ({"header": 5}, ValueError),
        ({"header": "Date"}, ValueError),
        ({"header": "connection"}, ValueError),
        ({"header": "Content-Length"}, ValueError),
        ({"generate": "id"}, TypeError),
    ],
)
def test_errors_at_registration(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        request_id(**arguments)


def test_filter() -> None:
    """It lets everything through, and keeps existing values."""
    record = logging.LogRecord("x", logging.INFO, "x", 1, "x", None, None)
    assert RequestIdFilter("none").filter(record)
    assert vars(record)["request_id"] == "none"
    assert RequestIdFilter("other").filter(record)
    assert vars(record)["request_id"] == "none"


def test_lane_is_what_it_was(serve: Serve) -> None:
    """A plain chain stays a plain function, on the thread that read the request."""
    import threading

    def handler(res: Any, req: Any, data: Any) -> None:
        res.end(str(threading.get_ident()))

    running = serve(lambda app: app.get("/", middleware(request_id(), handler)), **options(THREAD))
    with running.client() as client:
        assert int(client.get().body) in running.app._server.threads()
