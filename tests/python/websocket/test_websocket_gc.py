"""Memory of WebSockets, without the cycle collector and with it: nothing outlives its connection unless the user keeps it.

Rows: A-CALL-11, A-WS-10, A-WS-20, C-C-09, C-C-11, I-C-41, D-R-04; S#113, S#115, S#127, S#141, granian #799, #846.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App, CompressOptions, OpCode, SendStatus, WebSocket
from support import PRELUDE, Program, until
from support.client import Client
from support.lanes import RESUMED, THREAD, each_lane, on, options
from support.memory import resident, without_collector
from support.ws_client import PONG, Frame, WebSocketClient, close_payload, connect, frame, handshake

pytestmark = pytest.mark.alone

Serve = Callable[..., Any]

CYCLES = 2000


class Failure(Exception):
    """What callbacks raise here: other tests of this process may have left exceptions of other kinds."""


def earlier() -> dict[int, WebSocket]:
    """The sockets of other tests of this process that are still referenced, and stay so during this test."""
    gc.collect()
    return {id(each): each for each in gc.get_objects() if isinstance(each, WebSocket)}


class Data:
    """The objects of a program with a socket."""


class Kept:
    """Counts the user data that are alive."""

    def __init__(self) -> None:
        self.alive: weakref.WeakSet[Data] = weakref.WeakSet()
        self.made = 0

    def upgrade(self, res: Any, req: Any, context: Any) -> None:
        data = Data()
        self.alive.add(data)
        self.made += 1
        extensions = req.get_header("sec-websocket-extensions")
        res.upgrade(req.get_header("sec-websocket-key"), None, extensions, context, data)


def echo(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode, compress=True)


def nothing(*_: Any) -> None:
    pass


async def nothing_async(*_: Any) -> None:
    await asyncio.sleep(0)


async def echo_async(ws: Any, message: Any, opcode: Any) -> None:
    await asyncio.sleep(0)
    echo(ws, message, opcode)


def failing(*_: Any) -> None:
    raise Failure("failing")


async def failing_async(*_: Any) -> None:
    await asyncio.sleep(0)
    raise Failure("failing")


def subscribing(ws: Any) -> None:
    ws.subscribe("all")
    ws.subscribe(f"own {ws.ws}")
    ws.note = [ws.get_user_data(), ws.get_remote_address()]
    ws.get_user_data_uuid()


def publishing(ws: Any, message: Any, opcode: Any) -> None:
    ws.publish("all", message, opcode)


async def draining(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode)
    await ws.drain()
    ws.clone().get_topics()


def ending(ws: Any, message: Any, opcode: Any) -> None:
    ws.end(4000, "enough")


async def closing_async(ws: Any, message: Any, opcode: Any) -> None:
    await asyncio.sleep(0)
    ws.close()
    ws.send(message)


async def never(ws: Any, *_: Any) -> None:
    """Waits until the socket is over, as code on another thread does."""
    while not ws.closed:
        await asyncio.sleep(0.001)
    ws.send("too late")


BEHAVIORS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "plain": {"open": nothing, "message": echo, "close": nothing},
    "without a close callback": {"message": echo},
    "coroutines": {"open": nothing_async, "message": echo_async, "close": nothing_async},
    "coroutines without a close callback": {"message": echo_async},
    "failing": {"open": failing, "message": failing, "close": failing},
    "failing coroutines": {"open": failing_async, "message": failing_async, "close": failing_async},
    "topics": {"open": subscribing, "message": publishing, "subscription": nothing, "close": nothing},
    "topics without a close callback": {"open": subscribing, "message": publishing},
    "drain": {"message": draining},
    "ended": {"message": ending, "close": nothing},
    "closed": {"message": closing_async},
    "still awaiting": {"message": never, "close": nothing},
    "compressed": {"message": echo, "compression": CompressOptions.DEDICATED_COMPRESSOR_4KB},
    "limits": {"message": echo, "idle_timeout": 60, "max_lifetime": 60, "send_pings_automatically": True},
}
MESSAGE = frame(2, b"message" * 10)


def visit(port: int, number: int, manner: int) -> None:
    """One client. They go with a close frame, waiting for its answer or not, with a reset, in mid-message, or just so."""
    with WebSocketClient(port) as client:
        client.send(
            handshake(headers=["Sec-WebSocket-Extensions: permessage-deflate"] if number & 16 else [])
            + MESSAGE
        )
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")
        if manner == 0:
            client.send_close(1000, "bye")
            while client.receive():
                pass
        elif manner == 1:
            client.send_close(1000)
        elif manner == 2:
            client.send(MESSAGE[:20])
            client.abort()
        elif manner == 3:
            client.ping(b"x")
            client.abort()
        elif manner == 4:
            client.send(MESSAGE * 5)
            client.abort()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", BEHAVIORS)
def test_two_thousand_sockets_leave_nothing(serve: Serve, kind: str) -> None:
    """S#115, I-C-41: no object, no user data, no exception and no memory, though nothing looks for circles."""
    kept = Kept()
    behavior = BEHAVIORS[kind] | {"upgrade": kept.upgrade, "max_payload_length": 1 << 20}

    def configure(app: App) -> None:
        app.set_error_handler(nothing)
        app.ws("/", behavior)

    running = serve(configure, io_threads=2)
    # A close frame gets its reply when the earlier messages have been handled, or after a while.
    manners = (2, 3, 4, 5) if kind == "still awaiting" else range(6)
    # The log of failing callbacks is not read.
    logging.disable(logging.CRITICAL)

    def visits(count: int) -> None:
        for number in range(count):
            visit(running.port, number, manners[number % len(manners)])
        until(lambda: running.app._server.connection_count() == 0, "the connections are gone")
        until(lambda: not running.app._calls.tasks, "the tasks have ended")

    others = earlier()

    def left() -> list[Any]:
        found = [each for each in gc.get_objects() if isinstance(each, (WebSocket, Failure))]
        return [each for each in found if id(each) not in others]

    try:
        visits(300)
        with without_collector():
            visits(300)
            until(lambda: not kept.alive, "what was kept with them is gone")
            objects, memory = len(gc.get_objects()), resident()
            visits(CYCLES)
            until(lambda: not kept.alive, "what was kept with them is gone")
            more_objects, more_memory = len(gc.get_objects()) - objects, resident() - memory
            assert left() == []
    finally:
        logging.disable(logging.NOTSET)
    assert kept.made == CYCLES + 600
    assert more_objects < 200
    assert more_memory < 4_000_000


@pytest.mark.parametrize("lane", [THREAD, RESUMED])
@pytest.mark.parametrize("key", ["message", "open"])
def test_sockets_that_die_during_their_first_callback(serve: Serve, key: str, lane: str) -> None:
    """I-C-41: a socket without a close callback, lost at the moment at which its object is made for another one."""
    behavior = {key: on(lane, nothing)}
    running = serve(lambda app: app.ws("/", behavior), io_threads=4)
    others = earlier()

    def left() -> list[Any]:
        return [each for each in gc.get_objects() if isinstance(each, WebSocket) and id(each) not in others]

    def visits() -> None:
        for _ in range(500):
            with WebSocketClient(running.port) as client:
                client.send(handshake())
                assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")
                client.send(frame(1, b"x"))
                client.abort()

    with without_collector():
        threads = [threading.Thread(target=visits) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        until(lambda: running.app._server.connection_count() == 0, "the connections are gone")
        until(lambda: not running.app._calls.tasks, "the tasks have ended")
        until(lambda: not left(), "they are gone", 5)


# ---- circles --------------------------------------------------------------------------------------------------------

CIRCLES: dict[str, Callable[[Any, Any], object]] = {
    "ws.me": lambda ws, data: setattr(ws, "me", [ws]),
    "data.ws": lambda ws, data: setattr(data, "ws", ws),
    "both ways": lambda ws, data: (setattr(data, "ws", ws), setattr(ws, "data", data)),
    "a closure": lambda ws, data: setattr(ws, "callback", lambda: (ws, data)),
    "a bound method": lambda ws, data: setattr(data, "send", ws.send),
    "a clone": lambda ws, data: setattr(data, "clone", ws.clone()),
    "the application": lambda ws, data: setattr(ws, "held", [ws.app, ws, data]),
}


@each_lane
@pytest.mark.parametrize("kind", CIRCLES)
def test_circles_are_collected_after_the_end_and_not_before(serve: Serve, kind: str, lane: str) -> None:
    """S#115: the user's circles are the collector's; while the socket is open nothing of it is garbage."""
    kept = Kept()
    sockets: list[weakref.ref[Any]] = []

    def opened(ws: Any) -> None:
        CIRCLES[kind](ws, ws.get_user_data())
        ws.mark = "mine"
        sockets.append(weakref.ref(ws))

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send(f"{ws.mark} {type(ws.get_user_data()).__name__} {ws is sockets[0]()}", OpCode.TEXT)

    behavior = {"upgrade": kept.upgrade, "open": on(lane, opened), "message": on(lane, message)}
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    with running.websocket() as client:
        until(lambda: sockets, "open")
        for _ in range(3):
            gc.collect()
        client.send_text("what is left")
        assert client.recv_message() == "mine Data True"
        client.finish()

    def collected() -> bool:
        gc.collect()
        return not kept.alive and sockets[0]() is None

    until(collected, "the collector finds them")


@each_lane
def test_weak_references_die_with_the_socket(serve: Serve, lane: str) -> None:
    """A-CALL-11: at the end, by reference counts alone, and their callbacks run."""
    kept, gone = Kept(), []
    references: list[weakref.ref[Any]] = []

    def opened(ws: Any) -> None:
        references.append(weakref.ref(ws, gone.append))
        ws.note = "attribute"

    behavior = {"upgrade": kept.upgrade, "open": on(lane, opened), "close": on(lane, nothing)}
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    with without_collector():
        for leave in ("finish", "abort"):
            with running.websocket() as client:
                until(lambda: references, "open")
                assert references[0]() is not None
                getattr(client, leave)()
            until(lambda: gone, "the callback of the weak reference")
            until(lambda: not kept.alive, "the user data are gone")
            assert gone == references
            gone.clear()
            references.clear()


# ---- references of the user ---------------------------------------------------------------------------------------------


def test_what_the_user_keeps_stays(serve: Serve) -> None:
    """A-WS-10, A-WS-20, S#141: it returns neutral values while it is kept, and is freed afterwards."""
    kept = Kept()
    held: list[Any] = []
    behavior = {"upgrade": kept.upgrade, "open": held.append}
    running = serve(lambda app: app.ws("/", behavior))
    with running.websocket() as client:
        until(lambda: held, "open")
        held[0].note = "attribute"
        held[0].subscribe("news")
        held.append(held[0].clone())
        client.finish()
    until(lambda: held[0].closed, "the end")
    with without_collector():
        for ws in held:
            assert isinstance(ws.get_user_data(), Data)
            assert ws.send("x") is SendStatus.DROPPED
            assert ws.end(1000, "again") is ws
            assert ws.close() is ws
            assert ws.cork(lambda ws: ws.send("y")) is ws
            assert not ws.subscribe("news")
            assert (ws.get_topics(), ws.get_buffered_amount(), ws.get_remote_address()) == ([], 0, None)
        assert held[0].note == "attribute"
        assert held[0].get_user_data() is held[1].get_user_data()
        reference = weakref.ref(held[0])
        until(lambda: running.app.num_subscribers("news") == 0, "it has left its topic")
        del ws
        held.clear()
        until(lambda: reference() is None and not kept.alive, "it dies when it is let go of")
    # The core has nothing of it left either.
    with running.websocket() as client:
        assert client.finish() == (1000, b"")


def test_what_the_user_keeps_outlives_the_application() -> None:
    """A-CALL-10: after run() and dispose() too."""
    held: list[Any] = []

    def serve_once() -> weakref.ref[Any]:
        app = App()
        ports: list[int] = []
        app.ws("/", {"open": held.append, "close": nothing})
        app.listen({"host": "127.0.0.1"}, lambda config: ports.append(config.port))

        def visit() -> None:
            with connect(ports[0]) as client:
                until(lambda: held, "open")
                app.close()
                assert client.expect_close_frame()[0] == 1001

        visitor = threading.Thread(target=visit)
        visitor.start()
        app.run()
        visitor.join(20)
        app.dispose()
        return weakref.ref(app)

    left: list[weakref.ref[Any]] = []
    maker = threading.Thread(target=lambda: left.append(serve_once()))
    maker.start()
    maker.join(30)
    (ws,) = held
    for _ in range(2):
        gc.collect()
        assert ws.closed
        assert ws.send("x") is SendStatus.DROPPED
        assert ws.publish("news", "x") is False
        ws.end()
        ws.close()
        assert not ws.subscribe("news")
    held.clear()
    del ws
    gc.collect()
    assert left[0]() is None


@each_lane
def test_user_data_last_until_the_close_callback_has_ended(serve: Serve, lane: str) -> None:
    """C-C-09, A-WS-10, S#127: also where that awaits, and not longer."""
    kept = Kept()
    seen: list[bool] = []

    def closed(ws: Any, code: int, message: bytes | None) -> None:
        seen.append(isinstance(ws.get_user_data(), Data))

    async def closed_late(ws: Any, code: int, message: bytes | None) -> None:
        await asyncio.sleep(0.02)
        closed(ws, code, message)

    behavior = {"upgrade": kept.upgrade, "close": closed_late if lane == RESUMED else on(lane, closed)}
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    with without_collector():
        for leave in ("finish", "abort", "close"):
            with running.websocket() as client:
                getattr(client, leave)()
        until(lambda: len(seen) == 3, "three ends")
        until(lambda: not kept.alive, "the user data are gone")
    assert seen == [True] * 3


@pytest.mark.parametrize("way", ["refused", "failed", "vanished"])
def test_handshakes_that_come_to_nothing_leave_nothing(serve: Serve, way: str) -> None:
    """C-H-05, C-H-06, C-H-07: the intended user data is released."""
    kept = Kept()
    seen: list[bool] = []

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        data = Data()
        kept.alive.add(data)
        await asyncio.sleep(0)
        if way == "refused":
            res.write_status(403).end("no")
        elif way == "failed":
            raise LookupError("no")
        else:
            while not res.aborted:
                await asyncio.sleep(0.001)
            seen.append(res.upgrade(req.get_header("sec-websocket-key"), None, None, context, data))

    def configure(app: App) -> None:
        app.set_error_handler(lambda error, res, req: res.write_status(500).end("failed"))
        app.ws("/", {"upgrade": upgrade, "close": nothing})

    running = serve(configure)
    with without_collector():
        for _ in range(50):
            with WebSocketClient(running.port) as client:
                client.send(handshake())
                if way == "vanished":
                    client.abort()
                else:
                    assert client.answer().status in (403, 500)
        until(
            lambda: running.app._server.connection_count() == 0 and not running.app._calls.tasks,
            "all is over",
        )
        until(lambda: not kept.alive, "nothing is kept")
    assert seen == [False] * len(seen)


# ---- applications ---------------------------------------------------------------------------------------------------


def tangled(ran: bool) -> list[weakref.ref[Any]]:
    """An application whose WebSocket routes hold it, and whose sockets held it; the remains when it is
    dropped."""
    app = App()
    held = Data()
    held.app = app  # type: ignore[attr-defined]

    def opened(ws: Any) -> None:
        ws.held = held
        held.ws = ws  # type: ignore[attr-defined]
        ws.subscribe("all")

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        await asyncio.sleep(0)
        app.publish("all", message, opcode)

    behavior = {"open": opened, "message": message, "close": lambda *_: (app, held)}
    app.ws("/", behavior).ws("/other", {"upgrade": lambda *_: app, "drain": lambda ws: held})
    if ran:
        ports: list[int] = []
        app.listen({"host": "127.0.0.1"}, lambda config: ports.append(config.port))

        def visit() -> None:
            with connect(ports[0]) as first, connect(ports[0]) as second:
                first.send_text("hello")
                first.recv_message()
                second.abort()
                app.close()
                while first.receive():
                    pass

        visitor = threading.Thread(target=visit)
        visitor.start()
        app.run()
        visitor.join(20)
    return [weakref.ref(app), weakref.ref(held), weakref.ref(app.loop)]


@pytest.mark.parametrize("ran", [True, False])
def test_an_application_with_sockets_is_collected(ran: bool) -> None:
    """Closures over itself in every listener, sockets that hold it, without dispose()."""
    left: list[weakref.ref[Any]] = []
    maker = threading.Thread(target=lambda: left.extend(tangled(ran)))
    maker.start()
    maker.join(30)
    gc.collect()
    gc.collect()
    assert [reference() for reference in left] == [None] * 3


CYCLING = """
import gc
gc.disable()
cycles, kind = int(sys.argv[1]), sys.argv[2]
told = []

async def closed(ws, code, message):
    await asyncio.sleep(0)
    told.append((code, ws.get_user_data()["n"]))

async def message(ws, message, opcode):
    ws.me = ws
    ws.send(message, opcode)
    await asyncio.sleep(30)

def upgrade(res, req, context):
    res.upgrade(req.get_header("sec-websocket-key"), None, None, context, {"n": 1})

def make():
    app = App(shutdown_timeout=2, use_uvloop=kind == "uvloop")
    behavior = {"upgrade": upgrade, "open": lambda ws: ws.subscribe("all"), "close": closed}
    app.ws("/", behavior | ({"message": message} if kind in ("awaiting", "uvloop") else {}))
    return app

def serve(app):
    app.listen({"host": "127.0.0.1"}, ready)
    threading.Thread(target=lambda: (sys.stdin.readline(), app.close())).start()
    app.run()
    if kind not in ("kept", "again"):
        app.dispose()
    return app

one = make()
kept = [serve(one if kind == "again" else make()) for _ in range(cycles)]
say(f"told {len(told)}")
assert told == [(1001, 1)] * len(told)
"""


@pytest.mark.parametrize("kind", ["idle", "awaiting", "kept", "again", "uvloop"])
def test_twenty_stops_with_open_sockets(kind: str) -> None:
    """granian #799, #846: within one process, which then ends without a word."""
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "faulthandler", "-c", PRELUDE + CYCLING, "20", kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(20):
            port = int(process.stdout.readline().split()[1])
            clients = [connect(port) for _ in range(5)]
            for client in clients:
                # Where there is a callback, it is in the middle of it.
                client.send_text("x").ping(b"here")
                while client.recv_frame() != Frame(True, False, PONG, b"here"):
                    pass
            process.stdin.write(b"\n")
            process.stdin.flush()
            for client in clients:
                while (got := client.recv_frame()).opcode != 8:
                    pass
                assert got.payload == close_payload(1001)
                client.close()
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    assert (process.returncode, out, err) == (0, b"told 100\n", b"")


FINAL = """
app = App()
held = []

async def message(ws, message, opcode):
    held.append(ws)
    ws.me = ws
    ws.send(message, opcode)
    await asyncio.sleep(30)

app.ws("/", {"message": message, "close": lambda *_: None})
app.listen({"host": "127.0.0.1"}, ready)
leave = sys.exit if sys.argv[1] == "exit" else lambda code: app.loop.stop()
app.ws("/exit", {"open": lambda ws: app.loop.loop.call_soon_threadsafe(leave, 3)})
app.run()
"""


@pytest.mark.parametrize("ending", ["exit", "stop"])
def test_a_process_that_ends_with_sockets_open(ending: str) -> None:
    """granian #799: after any end of the loop, finalisation finds threads, sockets and tasks, and prints
    nothing."""
    for _ in range(5):
        with Program(FINAL, ending) as program:
            clients = [connect(program.listening().port)]
            clients += [connect(program.port) for _ in range(4)]
            for client in clients:
                client.send_text("x")
                assert client.recv_message() == "x"
            with Client(program.port) as last:
                last.send(handshake("/exit"))
                code, out, err = program.finish()
            for client in clients:
                client.close()
            assert (code, out, err) == (3 if ending == "exit" else 0, "", "")
