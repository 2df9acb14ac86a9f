"""Server-sent events: the bytes (WHATWG HTML section 9.2), the end on either side, and a browser's EventSource.

Rows: users.md section 3 rows 6 and 10 (a shutdown does not wait for streams), C-C-01 for the browser.
"""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from socketify import App, EventStream, ServerSentEvent
from support import Program, garbage, until
from support.client import Client

Serve = Callable[..., Any]

OPEN = ":\n\n"


def site(handler: Callable[..., Any], **options: Any) -> Callable[[App], object]:
    return lambda app: app.get("/", handler)


def text(client: Client, until: str) -> str:
    """A stream's text up to ``until``, without its chunk framing."""
    found = b""
    while not found.endswith(until.encode()):
        size = int(client.until(b"\r\n")[:-2], 16)
        assert size, f"the stream ended after {found!r}"
        found += client.exactly(size)
        client.exactly(2)
    return found.decode()


def opened(client: Client, *lines: str) -> str:
    """Asks for a stream; gives its head."""
    client.request("GET", "/", *lines)
    head = client.until(b"\r\n\r\n").decode()
    assert text(client, OPEN) == OPEN
    return head


# ---- bytes --------------------------------------------------------------------------------------------------------------


def test_head(serve: Serve) -> None:
    """It leaves before the first event, or a browser would not know that the stream is open."""
    go_on = threading.Event()

    async def handler(res: Any, req: Any) -> None:
        async with res.events(headers=[("X-Own", "1")]) as events:
            assert isinstance(events, EventStream)
            await asyncio.to_thread(go_on.wait, 20)
            assert await events.send("x") is True

    with serve(site(handler)).client() as client:
        head = opened(client)
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        for line in (
            "Content-Type: text/event-stream",
            "Cache-Control: no-cache",
            "X-Accel-Buffering: no",
            "X-Own: 1",
        ):
            assert f"\r\n{line}\r\n" in head
        go_on.set()
        assert text(client, "data: x\n\n") == "data: x\n\n"
        assert client.until(b"0\r\n\r\n") == b"0\r\n\r\n"
        assert client.request("GET", "/missing").answer().status == 404


def test_own_cache_control(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        async with res.events(headers=[(b"cache-control", "no-store")]):
            pass

    with serve(site(handler)).client() as client:
        assert client.get().header("cache-control") == "no-store"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"data": "x"}, "data: x\n\n"),
        ({"data": ""}, "data: \n\n"),
        ({"data": "ä 你"}, "data: ä 你\n\n"),
        ({"data": "a\nb\r\nc\rd\n"}, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        ({"data": "a\u2028b\x0bc\x85d"}, "data: a\u2028b\x0bc\x85d\n\n"),
        ({"data": " x"}, "data:  x\n\n"),
        ({"data": b"bytes"}, "data: bytes\n\n"),
        ({"data": {"a": [1, None]}}, 'data: {"a": [1, null]}\n\n'),
        ({"data": 5}, "data: 5\n\n"),
        (
            {"data": "x", "event": "note", "id": "7", "retry": 1500},
            "event: note\nid: 7\nretry: 1500\ndata: x\n\n",
        ),
        ({"id": ""}, "id: \n\n"),
        ({"retry": 0}, "retry: 0\n\n"),
        ({"data": "x", "event": "\u2028"}, "event: \u2028\ndata: x\n\n"),
    ],
)
def test_event(serve: Serve, given: dict[str, Any], expected: str) -> None:
    """One way for ``send``, for an object in an iterable, and for the data alone."""

    async def handler(res: Any, req: Any) -> None:
        if req.get_query("way") == "send":
            async with res.events() as events:
                await events.send(**given)
        else:
            await res.send_events([ServerSentEvent(**given)])

    with serve(site(handler)).client() as client:
        for way in ("send", "iterable"):
            assert client.get(f"/?way={way}").body.decode() == OPEN + expected


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"event": "a\nb"}, "type"),
        ({"event": "a\rb"}, "type"),
        ({"id": "a\nb"}, "id"),
        ({"id": "a\rdata: b"}, "id"),
        ({"id": "a\0b"}, "id"),
        ({"id": 5}, "id"),
        ({"retry": -1}, "retry"),
        ({"retry": 1.5}, "retry"),
        ({"retry": True}, "retry"),
        ({"retry": "5\ndata: x"}, "retry"),
    ],
)
def test_event_that_is_none(serve: Serve, given: dict[str, Any], what: str) -> None:
    """No value can inject a field, and nothing of a refused event is sent."""

    async def handler(res: Any, req: Any) -> None:
        async with res.events() as events:
            with pytest.raises(ValueError, match=what):
                await events.send("x", **given)
            await events.send("fine")

    with serve(site(handler)).client() as client:
        assert client.get().body.decode() == OPEN + "data: fine\n\n"


def test_comment(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        async with res.events() as events:
            await events.comment("two\nlines")
            await events.comment()

    with serve(site(handler)).client() as client:
        assert client.get().body.decode() == OPEN + ": two\n: lines\n\n:\n\n"


def test_serializer(serve: Serve) -> None:
    """Data that is no text goes through the application's serializer, with any result (A-APP-15)."""
    import orjson

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            await res.send_events([{"a": "ä"}])

        app.json_serializer(orjson)
        app.get("/", handler)

    with serve(configure).client() as client:
        assert client.get().body.decode() == OPEN + 'data: {"a":"ä"}\n\n'


def test_last_event_id(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        async with res.events() as events:
            await events.send({"last": events.last_event_id})

    with serve(site(handler)).client() as client:
        assert client.get("/").body.decode() == OPEN + 'data: {"last": null}\n\n'
        assert client.get("/", "Last-Event-ID: 41").body.decode() == OPEN + 'data: {"last": "41"}\n\n'


def test_keep_alive(serve: Serve) -> None:
    """A comment now and then while nothing happens."""

    async def handler(res: Any, req: Any) -> None:
        async with res.events(keep_alive=0.05):
            await asyncio.Event().wait()

    with serve(site(handler)).client() as client:
        opened(client)
        for _ in range(3):
            assert text(client, OPEN) == OPEN


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_keep_alive_that_is_none(serve: Serve, value: float) -> None:
    async def handler(res: Any, req: Any) -> None:
        with pytest.raises(ValueError, match="keep_alive must be a number of seconds"):
            res.events(value)
        res.end("refused")

    with serve(site(handler)).client() as client:
        assert client.get().body == b"refused"


def test_head_request(serve: Serve) -> None:
    """HEAD gets the head alone, and the block ends."""

    async def handler(res: Any, req: Any) -> None:
        async with res.events():
            await asyncio.Event().wait()

    with serve(site(handler)).client() as client:
        for _ in range(2):
            answer = client.request("HEAD").answer("HEAD")
            assert answer.header("content-type") == "text/event-stream"


def test_send_from_another_task(serve: Serve) -> None:
    """A broadcast: one task sends to the streams of others; a send to an ended stream returns False."""
    streams: list[Any] = []
    told: queue.Queue[Any] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        async with res.events() as events:
            streams.append(events)
            await events.wait_closed()

    async def publish(res: Any, req: Any) -> None:
        told.put([(await stream.send("news"), stream.closed) for stream in streams])
        for stream in streams:
            if stream.closed:
                await stream.wait_closed()
        res.end("")

    def configure(app: App) -> None:
        app.get("/", handler)
        app.post("/", publish)

    running = serve(configure)
    with running.client() as one, running.client() as two, running.client() as publisher:
        opened(one)
        opened(two)
        publisher.request("POST", body=b"").answer()
        assert told.get(timeout=20) == [(True, False), (True, False)]
        assert text(one, "news\n\n") == text(two, "news\n\n") == "data: news\n\n"
        one.close()
        until(lambda: streams[0].closed, "the stream of the client that left was closed")
        publisher.request("POST", body=b"").answer()
        assert told.get(timeout=20) == [(False, True), (True, False)]


# ---- the end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["block", "iterable"])
def test_client_that_leaves(serve: Serve, form: str) -> None:
    """The block is left wherever it waits, the generator closed, and the code behind goes on."""
    steps: queue.Queue[str] = queue.Queue()

    async def source() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            steps.put("left")

    async def handler(res: Any, req: Any) -> None:
        if form == "iterable":
            await res.send_events(source())
        else:
            async with res.events() as events:
                try:
                    await events.send("first")
                    await asyncio.Event().wait()
                finally:
                    steps.put("left")
        await asyncio.sleep(0)
        steps.put("after")

    running = serve(site(handler))
    with running.client() as client:
        opened(client)
        text(client, "first\n\n")
    assert steps.get(timeout=20) == "left"
    assert steps.get(timeout=20) == "after"
    until(lambda: running.app._server.connection_count() == 0, "the connection ended")
    until(lambda: not running.app._lifecycle._streams, "the stream was forgotten")


def test_failure_cuts_the_connection(serve: Serve, caplog: Any) -> None:
    """A browser connects again then; an end in order would look the same to it, but not to others."""

    async def handler(res: Any, req: Any) -> None:
        async with res.events() as events:
            await events.send("x")
            raise RuntimeError("broken")

    with serve(site(handler)).client() as client:
        opened(client)
        assert text(client, "x\n\n")
        assert client.rest() == b""
    until(lambda: "broken" in caplog.text, "the failure was logged")


def test_cancelled_from_outside(serve: Serve) -> None:
    steps: queue.Queue[Any] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        async def block() -> None:
            async with res.events():
                await asyncio.Event().wait()

        task = asyncio.ensure_future(block())
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])
        steps.put(task.cancelled())
        res.close()

    with serve(site(handler)).client() as client:
        opened(client)
        client.rest()
    assert steps.get(timeout=20) is True


def test_close(serve: Serve) -> None:
    """The application closes: the streams end in order, at once, although they have no end."""
    steps: queue.Queue[str] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        async with res.events():
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        steps.put("after")

    running = serve(site(handler), shutdown_timeout=3600)
    with running.client() as client:
        opened(client)
        running.stop()
        assert client.until(b"0\r\n\r\n") == b"0\r\n\r\n"
        assert client.is_closed()
    assert steps.get(timeout=20) == "after"


def test_stream_begun_while_closing(serve: Serve) -> None:
    """A request that was in progress may still open one; it has no time to live."""
    steps: queue.Queue[str] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        req.app.close()
        async with res.events():
            await asyncio.Event().wait()
        steps.put("after")

    running = serve(site(handler), shutdown_timeout=3600)
    with running.client() as client:
        assert client.get().body.decode() == OPEN
    assert steps.get(timeout=20) == "after"
    running.join()


def test_signal() -> None:
    """SIGTERM with a browser that listens: no waiting for it, and exit code 0."""
    import signal

    source = """
    async def handler(res, req):
        async with res.events():
            await asyncio.Event().wait()

    app = App(shutdown_timeout=3600)
    app.get("/", handler)
    app.listen({"host": "127.0.0.1", "port": 0}, ready)
    app.run()
    """
    with Program(source).listening() as program, program.client() as client:
        opened(client)
        program.signal(signal.SIGTERM)
        assert client.until(b"0\r\n\r\n")
        assert program.finish() == (0, "", "")


def test_slow_client(serve: Serve) -> None:
    """``send`` waits while too much waits for the client."""
    sizes: list[int] = []

    async def handler(res: Any, req: Any) -> None:
        async with res.events() as events:
            while True:
                await events.send("x" * 10_000)
                sizes.append(res.get_buffered_amount())

    running = serve(site(handler))
    with running.client(receive_buffer=4096) as client:
        opened(client)
        until(lambda: sizes and max(sizes) > 30_000, "something waited")
        for _ in range(100):
            text(client, "\n\n")
    assert max(sizes) < 256 * 1024


def test_no_cycles(serve: Serve) -> None:
    async def handler(res: Any, req: Any) -> None:
        async with res.events() as events:
            await events.send("x")

    with serve(site(handler)).client() as client:
        found = garbage(client.get)
    assert found < 100, f"{found} objects were garbage after 200 streams"


# ---- a browser ----------------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

PAGE = """
window.told = [];
window.source = new EventSource("/events");
source.onopen = () => told.push("open");
source.onmessage = (event) => told.push([event.data, event.lastEventId]);
source.addEventListener("note", (event) => told.push(["note", event.data, event.lastEventId]));
source.onerror = () => told.push(source.readyState === EventSource.CLOSED ? "closed" : "lost");
undefined;  // a function here would be called
"""


@pytest.fixture
def page() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # The sandbox needs rights that a container seldom gives.
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"], env=dict(os.environ)
        )
        yield browser.new_page()
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (Debian: apt install chromium)")
@pytest.mark.timeout(120)
def test_event_source(serve: Serve, page: Any) -> None:
    """Events of all kinds; a lost connection is made again from the last one; a 204 is the end of it."""

    async def events(res: Any, req: Any) -> None:
        if req.get_header("last-event-id") == "3":
            res.write_status(204).end_without_body()
            return
        async with res.events() as events:
            if events.last_event_id is None:
                await events.send(retry=10)
                await events.send("one\ntwo", id="1")
                await events.send({"a": 1}, event="note", id="2")
            else:
                await events.send(f"after {events.last_event_id}", id="3")

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.write_header("Content-Type", "text/html").end("<!doctype html>"))
        app.get("/events", events)

    running = serve(configure)
    page.goto(f"http://127.0.0.1:{running.port}/")
    page.evaluate(PAGE)
    page.wait_for_function("told.includes('closed')")
    assert page.evaluate("told") == [
        "open",
        ["one\ntwo", "1"],
        ["note", '{"a": 1}', "2"],
        "lost",
        "open",
        ["after 2", "3"],
        "lost",
        "closed",
    ]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (Debian: apt install chromium)")
@pytest.mark.timeout(120)
def test_event_source_that_is_closed(serve: Serve, page: Any) -> None:
    """The page closes it: the block is left."""
    left = threading.Event()

    async def events(res: Any, req: Any) -> None:
        async with res.events() as events:
            await events.send("hello")
            await asyncio.Event().wait()
        left.set()

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.write_header("Content-Type", "text/html").end("<!doctype html>"))
        app.get("/events", events)

    running = serve(configure)
    page.goto(f"http://127.0.0.1:{running.port}/")
    page.evaluate(PAGE)
    page.wait_for_function("told.length === 2")
    page.evaluate("source.close()")
    assert left.wait(20)
