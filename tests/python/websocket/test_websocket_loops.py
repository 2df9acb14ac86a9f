"""Every kind of event loop, and callbacks on the loop's thread: messages leave at once, before anything else
in the loop.

The application's own loop asks the core before it sleeps. uvloop and a foreign loop do not, so everything
that is sent there, from a callback, a task or a timer, must not wait for the next request.

Rows: A-CALL-16, A-LOOP-13, C-C-01, C-C-05, C-H-06, C-P-05, C-P-06, D-14, D-R-06; S#137, S#154.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from socketify import App, OpCode
from support import Program, until
from support.client import Client
from support.h2_client import H2Client
from support.running import Running
from support.ws_client import PONG, TEXT, Frame, WebSocketClient, connect, frame

Configure = Callable[[App], object]
Start = Callable[[Configure], Any]

#: Seconds within which a message that leaves at once must have arrived, on a busy machine too.
PROMPT = 5


class Foreign:
    """An application made inside a loop that runs already, as a part of a larger program has it."""

    def __init__(self, configure: Configure) -> None:
        self._ready = threading.Event()
        self._configure = configure
        self.app: App
        self.port = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="foreign loop")
        self._thread.start()
        assert self._ready.wait(20), "the application did not start"

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self.app = App()
        assert self.app.loop.loop is asyncio.get_running_loop()
        self._configure(self.app)
        ended = asyncio.Event()
        self.app.on_shutdown(ended.set)
        self.app.listen({"host": "127.0.0.1"}, lambda config: setattr(self, "port", config.port))
        self._ready.set()
        await ended.wait()

    def websocket(self, path: str = "/") -> WebSocketClient:
        return connect(self.port, path)

    def client(self) -> Client:
        return Client(self.port)

    def stop(self) -> None:
        self.app.close()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the loop did not end"
        if self.error is not None:
            raise self.error


KINDS = {
    "own": {},
    "def on the loop": {"sync_handlers": "loop"},
    "uvloop": {"use_uvloop": True},
    "uvloop, def on the loop": {"use_uvloop": True, "sync_handlers": "loop"},
    "foreign": None,
}


@pytest.fixture(params=KINDS)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts an application on each kind of loop."""
    options = KINDS[request.param]
    if options is not None and "use_uvloop" in options:
        pytest.importorskip("uvloop")
    running: list[Any] = []

    def make(configure: Configure) -> Any:
        running.append(Foreign(configure) if options is None else Running(configure, **options))
        return running[-1]

    yield make
    for each in running:
        each.stop()


def impatient(client: Any) -> Any:
    client.socket.settimeout(PROMPT)
    return client


def warm(client: WebSocketClient) -> WebSocketClient:
    """Makes the loop serve once: from then on its messages are held back until the end of an iteration."""
    client.send_text("echo")
    assert client.recv_message() == "echo"
    return impatient(client)


async def echo(ws: Any, message: Any, opcode: Any) -> None:
    if message == "echo":
        ws.send(message, opcode)


# ---- the handshake --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async", "awaits", "task", "timer"])
def test_an_upgrade_is_answered_at_once(start: Start, kind: str) -> None:
    """C-H-06: also when nothing else is sent, for a 101 that stays behind is a client that waits."""

    def plain(res: Any, req: Any, context: Any) -> None:
        res.upgrade(req.get_header("sec-websocket-key"), None, None, context)

    async def coroutine(res: Any, req: Any, context: Any) -> None:
        plain(res, req, context)

    async def awaits(res: Any, req: Any, context: Any) -> None:
        await asyncio.sleep(0.01)
        plain(res, req, context)

    def task(res: Any, req: Any, context: Any) -> None:
        res.run_async(awaits(res, req, context))

    def timer(res: Any, req: Any, context: Any) -> None:
        asyncio.get_running_loop().call_later(0.01, plain, res, req, context)

    upgrade = {"def": plain, "async": coroutine, "awaits": awaits, "task": task, "timer": timer}[kind]
    running = start(lambda app: app.ws("/", {"upgrade": upgrade}))
    for _ in range(5):
        with WebSocketClient(running.port) as client:
            impatient(client).open("/").finish()


# ---- sending --------------------------------------------------------------------------------------------------------

Act = Callable[[App, Any], object]


def plainly(app: App, ws: Any) -> None:
    ws.send("sent", OpCode.TEXT)


def published(app: App, ws: Any) -> None:
    ws.subscribe("news")
    assert app.publish("news", "sent", OpCode.TEXT)


def published_by_a_socket(app: App, ws: Any) -> None:
    ws.subscribe("news")
    assert ws.publish("news", "sent", OpCode.TEXT)


def corked(app: App, ws: Any) -> None:
    ws.cork(lambda ws: ws.send("sent", OpCode.TEXT))


ACTS: dict[str, Act] = {
    "send": plainly,
    "publish": published,
    "ws.publish": published_by_a_socket,
    "cork": corked,
}
WAYS = [
    "open",
    "message",
    "message that awaits",
    "call_soon",
    "call_later",
    "create_task",
    "run_async",
    "set_timeout",
    "thread",
    "executor",
]


def in_a_way(way: str, app: App, act: Act) -> dict[str, Any]:
    """A behaviour whose socket acts in that way."""

    async def later(ws: Any) -> None:
        await asyncio.sleep(0.01)
        act(app, ws)

    async def awaits(ws: Any, message: Any, opcode: Any) -> None:
        await echo(ws, message, opcode)
        if message == "act":
            await later(ws)

    kept: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        loop = asyncio.get_running_loop()
        if message == "echo":
            ws.send(message, opcode)
        elif way == "message":
            act(app, ws)
        elif way == "call_soon":
            loop.call_soon(act, app, ws)
        elif way == "call_later":
            loop.call_later(0.01, act, app, ws)
        elif way == "create_task":
            kept.append(loop.create_task(later(ws)))
        elif way == "run_async":
            app.run_async(later(ws))
        elif way == "set_timeout":
            kept.append(app.loop.set_timeout(10, lambda _: act(app, ws)))
        elif way == "thread":
            threading.Thread(target=act, args=(app, ws)).start()
        elif way == "executor":
            loop.run_in_executor(None, act, app, ws)

    behavior: dict[str, Any] = {"message": awaits if way == "message that awaits" else message}
    if way == "open":
        behavior["open"] = lambda ws: act(app, ws)
    return behavior


@pytest.mark.parametrize("way", WAYS)
def test_what_is_sent_leaves_at_once(start: Start, way: str) -> None:
    """C-P-05: sent by every means of the program, to an idle server."""

    def configure(app: App) -> None:
        for name, act in ACTS.items():
            app.ws(f"/{name}", in_a_way(way, app, act))

    running = start(configure)
    for name in ACTS:
        with running.websocket(f"/{name}") as client:
            if way == "open":
                assert impatient(client).recv_message() == "sent"
                continue
            warm(client)
            for _ in range(2):
                client.send_text("act")
                assert client.recv_message() == "sent", name
            client.finish()


def test_from_elsewhere_to_a_server_that_sleeps(start: Start) -> None:
    """A-CALL-16: publish, send and end from a thread of the program."""
    sockets: list[Any] = []

    def opened(ws: Any) -> None:
        ws.subscribe("news")
        sockets.append(ws)

    running = start(lambda app: app.ws("/", {"open": opened, "message": echo}))
    with running.websocket() as client:
        warm(client)
        assert running.app.publish("news", "published", OpCode.TEXT)
        assert client.recv_message() == "published"
        sockets[0].send("sent", OpCode.TEXT)
        assert client.recv_message() == "sent"
        sockets[0].end(4001, "enough")
        assert client.expect_close() == (4001, b"enough")


@pytest.mark.parametrize("way", ["call_later", "message that awaits", "run_async", "thread"])
@pytest.mark.parametrize("name", ["end", "close"])
def test_an_end_leaves_at_once(start: Start, way: str, name: str) -> None:
    """C-C-05, C-C-06: and the close callback is called without waiting for anything else."""
    told: list[Any] = []

    def act(app: App, ws: Any) -> None:
        if name == "end":
            ws.end(4002, "over")
        else:
            ws.close()

    def configure(app: App) -> None:
        behavior = in_a_way(way, app, act)
        app.ws("/", behavior | {"close": lambda ws, code, message: told.append((code, message))})

    with start(configure).websocket() as client:
        warm(client).send_text("act")
        if name == "end":
            assert client.expect_close() == (4002, b"over")
        else:
            assert client.is_dropped()
        until(lambda: told, "close", PROMPT)
    assert told == [(4002, b"over") if name == "end" else (1006, None)]


@pytest.mark.parametrize("violation", [False, True])
def test_a_client_that_closes_while_a_callback_awaits_is_answered(start: Start, violation: bool) -> None:
    """C-C-01, C-F-02: the end comes when the callback does, though that has sent nothing."""

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        await echo(ws, message, opcode)
        await asyncio.sleep(0.05)

    with start(lambda app: app.ws("/", {"message": message})).websocket() as client:
        warm(client).send_text("wait")
        if violation:
            client.send(frame(TEXT, b"unmasked", masked=False))
        else:
            client.send_close(4003, "bye")
        began = time.monotonic()
        code, reason = client.expect_close_frame()
        assert (code, reason) == (4003, b"bye") or (violation and code == 1002)
        assert time.monotonic() - began < 1.5, "it took the time limit to end"


def test_one_order_and_one_segment(start: Start) -> None:
    """C-P-06: the messages of one callback keep their order, published or not, with pings in between."""

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        await asyncio.sleep(0)
        ws.subscribe("all")
        for number in range(10):
            ws.send(f"{number} sent", OpCode.TEXT)
            ws.publish("all", f"{number} published", OpCode.TEXT)
        ws.send(b"ping", OpCode.PING)

    with start(lambda app: app.ws("/", {"message": message})).websocket() as client:
        impatient(client).send_text("go").ping(b"mine")
        expected = [f"{number} {how}" for number in range(10) for how in ("sent", "published")]
        frames = [client.recv_frame() for _ in range(22)]
        assert Frame(True, False, PONG, b"mine") in frames
        assert [each.payload.decode() for each in frames if each.opcode == TEXT] == expected


def test_a_ticker(start: Start) -> None:
    """S#137, S#154: a task that publishes all the time, begun before there was a client."""

    def configure(app: App) -> None:
        async def tick() -> None:
            number = 0
            while True:
                await asyncio.sleep(0.002)
                number += 1
                app.publish("ticks", str(number), OpCode.TEXT)

        app.run_async(tick())
        app.ws("/", {"open": lambda ws: ws.subscribe("ticks")})

    running = start(configure)
    clients = [impatient(running.websocket()) for _ in range(5)]
    for client in clients:
        numbers = [int(client.recv_message()) for _ in range(20)]
        assert numbers == list(range(numbers[0], numbers[0] + 20))
        client.close()


@pytest.mark.parametrize("late", [False, True])
def test_the_end_of_the_application(start: Start, late: bool) -> None:
    """C-C-12, D-R-05: every socket gets 1001, and every close callback has run when the application has
    ended."""
    told: list[Any] = []

    def closed(ws: Any, code: int, message: bytes | None) -> None:
        told.append((code, message))

    async def closed_late(ws: Any, code: int, message: bytes | None) -> None:
        await asyncio.sleep(0.02)
        closed(ws, code, message)

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        await echo(ws, message, opcode)
        while not ws.closed:
            await asyncio.sleep(0.005)

    running = start(lambda app: app.ws("/", {"message": message, "close": closed_late if late else closed}))
    clients = [running.websocket() for _ in range(10)]
    for client in clients[:5]:
        warm(client)
    running.app.close()
    for client in clients:
        assert client.expect_close() == (1001, b"")
        client.close()
    running.stop()
    assert told == [(1001, None)] * 10


def test_a_loop_that_ends_without_close() -> None:
    """D-14: the program forgets close(), and leaves sockets, timers and callbacks behind: it still ends,
    with a warning."""
    source = """
    async def message(ws, message, opcode):
        ws.me = ws
        ws.send(message, opcode)
        asyncio.get_running_loop().call_later(30, ws.send, "late")
        leave.set()

    async def main():
        global leave
        leave = asyncio.Event()
        app = App()
        app.ws("/", {"open": lambda ws: ws.subscribe("all"), "message": message, "close": lambda *_: None})
        app.listen({"host": "127.0.0.1"}, ready)
        await leave.wait()

    asyncio.run(main())
    say("end")
    """
    with Program(source) as program:
        program.listening()
        clients = [connect(program.port) for _ in range(5)]
        clients[0].send_text("leave")
        assert clients[0].recv_message() == "leave"
        told = "the event loop ends without close(): the application has been closed\n"
        assert program.finish() == (0, "end\n", told)
        for client in clients:
            client.close()


# ---- answers over HTTP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["awaits", "task", "timer"])
def test_what_is_written_leaves_at_once(start: Start, way: str) -> None:
    """A-RES: each piece of a streamed answer arrives before the next one is requested."""
    go: list[Callable[[], object]] = []

    def configure(app: App) -> None:
        async def awaits(res: Any, req: Any) -> None:
            for piece in ("one", "two", "three"):
                asked = asyncio.Event()
                await asyncio.sleep(0.005)
                res.write(piece)
                go.append(lambda asked=asked: app.loop.loop.call_soon_threadsafe(asked.set))
                await asked.wait()
            res.end("")

        def task(res: Any, req: Any) -> None:
            res.run_async(awaits(res, req))

        def timer(res: Any, req: Any) -> None:
            loop = asyncio.get_running_loop()
            rest = iter(("one", "two", "three"))

            def write() -> None:
                piece = next(rest, None)
                if piece is None:
                    res.end("")
                    return
                res.write(piece)
                go.append(lambda: loop.call_soon_threadsafe(write))

            loop.call_later(0.005, write)

        app.get("/", {"awaits": awaits, "task": task, "timer": timer}[way])

    running = start(configure)
    with running.client() as client:
        impatient(client)
        # The second answer comes from a loop that has served before.
        for _ in range(2):
            go.clear()
            client.request()
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
            for number, piece in enumerate((b"one", b"two", b"three"), 1):
                assert client.until(b"%x\r\n%s\r\n" % (len(piece), piece))
                until(lambda count=number: len(go) == count, "the next piece can be asked for")
                go[-1]()
            assert client.until(b"0\r\n\r\n")


def test_an_answer_from_a_timer_or_a_task_leaves_at_once(start: Start) -> None:
    """Whole answers, too: written, cut in corks, from a future that another thread completes."""

    def configure(app: App) -> None:
        async def waits(res: Any, req: Any) -> None:
            future = asyncio.get_running_loop().create_future()
            threading.Timer(
                0.01, lambda: app.loop.loop.call_soon_threadsafe(future.set_result, "future")
            ).start()
            res.end(await future)

        async def corks(res: Any, req: Any) -> None:
            await asyncio.sleep(0.005)
            res.cork(lambda res: res.write_header("X-A", "b").end("corked"))

        def later(res: Any, req: Any) -> None:
            asyncio.get_running_loop().call_later(0.005, res.end, "timer")

        app.get("/future", waits).get("/cork", corks).get("/timer", later)

    with start(configure).client() as client:
        impatient(client)
        for _ in range(3):
            assert client.get("/future").body == b"future"
            assert client.get("/cork").body == b"corked"
            assert client.get("/timer").body == b"timer"


# ---- answers on streams of HTTP/2 ---------------------------------------------------------------------------------------


def test_an_answer_on_a_stream_leaves_at_once(start: Start) -> None:
    """From every source: a task after it has waited, a callback or a timer of the loop. Nothing else happens
    on the connection that would take it along."""

    async def task(res: Any, req: Any) -> None:
        await asyncio.sleep(0.001)
        res.end("task")

    def callback(res: Any, req: Any) -> None:
        asyncio.get_running_loop().call_soon(res.end, "callback")

    def timer(res: Any, req: Any) -> None:
        asyncio.get_running_loop().call_later(0.001, res.end, "timer")

    async def pieces(res: Any, req: Any) -> None:
        for _ in range(3):
            await asyncio.sleep(0.001)
            res.write("piece ")
        await asyncio.sleep(0.001)
        res.end("")

    async def failing(res: Any, req: Any) -> None:
        await asyncio.sleep(0.001)
        raise LookupError

    def configure(app: App) -> None:
        for handler in (task, callback, timer, pieces, failing):
            app.get(f"/{handler.__name__}", handler)
        app.set_error_handler(lambda error, res, req: res.send("failed", status=500))

    running = start(configure)
    bodies = {
        "task": b"task",
        "callback": b"callback",
        "timer": b"timer",
        "pieces": b"piece " * 3,
        "failing": b"failed",
    }
    with H2Client(running.port) as client:
        client.socket.settimeout(PROMPT)
        for _ in range(5):
            for path, body in bodies.items():
                assert client.get(f"/{path}").body == body
