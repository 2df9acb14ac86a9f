"""Time limits of WebSockets: silence, age, pings before the limit; and a server that sleeps when nothing is due.

Rows: C-K-02, C-K-05, C-K-06, C-K-07, C-F-06, C-F-07, C-C-07, C-C-08, D-R-08, DEC-2; S#152; uWebSockets.js #119, #388,
#587, #1175.

Lower bounds are exact: no client is dropped early. Upper bounds leave a busy machine a second more.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import App, OpCode
from support import Gate, Program, until
from support.lanes import TASK, THREAD, each_lane, on, options
from support.ws_client import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocketClient,
    close_payload,
    frame,
    handshake,
)

Serve = Callable[..., Any]

#: A callback's reason for a client that was silent for too long.
SILENT = (1006, b"WebSocket timed out from inactivity")
#: Seconds by which a limit may be missed: a sixteenth of it, a sweep, and the delay of a busy machine.
LATE = 1.5


class Timed:
    """A server of one route, the moments of its callbacks, and clients that note theirs."""

    def __init__(self, serve: Serve, lane: str = THREAD, **behavior: Any) -> None:
        self.sockets: list[Any] = []
        self.told: list[tuple[int, bytes | None]] = []
        self.heard: list[tuple[str, bytes]] = []
        self.behavior = {
            "open": on(lane, self.sockets.append),
            "message": on(lane, self._message),
            "ping": on(lane, lambda ws, payload: self.heard.append(("ping", payload))),
            "pong": on(lane, lambda ws, payload: self.heard.append(("pong", payload))),
            "close": on(lane, lambda ws, code, message: self.told.append((code, message))),
        } | behavior
        self.running = serve(lambda app: app.ws("/", self.behavior), **options(lane))

    @staticmethod
    def _message(ws: Any, message: Any, opcode: Any) -> None:
        if message == "echo":
            ws.send(message, opcode)

    def client(self, **arguments: Any) -> WebSocketClient:
        client: WebSocketClient = self.running.websocket("/", **arguments)
        until(lambda: self.sockets, "open")
        return client

    def closed(self) -> tuple[int, bytes | None]:
        until(lambda: self.told, "close")
        assert len(self.told) == 1
        return self.told[0]


def since(began: float) -> float:
    return time.monotonic() - began


def between(low: float, seconds: float, high: float) -> None:
    """Clocks of client and server differ by the time of a packet."""
    assert low - 0.05 <= seconds, f"too early: {seconds:.3f} s"
    assert seconds <= high, f"too late: {seconds:.3f} s"


# ---- silence --------------------------------------------------------------------------------------------------------


@each_lane
def test_fractions_of_a_second(serve: Serve, lane: str) -> None:
    """C-K-02, C-C-07: a close frame with the reason, then the end; 1006 and the reason in the callback."""
    server = Timed(serve, lane, idle_timeout=0.3)
    began = time.monotonic()
    with server.client() as client:
        code, reason = client.expect_close_frame()
        between(0.3, since(began), 0.3 + LATE)
        assert (code, reason) == (1001, b"WebSocket timed out from inactivity")
        assert client.is_closed()
    assert server.closed() == SILENT
    assert server.sockets[0].closed


def test_a_client_that_answers_the_close_gets_its_end(serve: Serve) -> None:
    """C-C-07: it is no reset, so a client that was silent for too long and comes back gets the reason."""
    server = Timed(serve, idle_timeout=0.2)
    with server.client() as client:
        assert client.expect_close_frame()[0] == 1001
        client.send_close(1001)
        assert client.is_closed()
    assert server.closed() == SILENT


SIGNS: dict[str, Callable[[WebSocketClient], object]] = {
    "text": lambda client: client.send_text("x"),
    "binary": lambda client: client.send_binary(b""),
    "ping": lambda client: client.ping(b"x"),
    "pong": lambda client: client.pong(),
    "byte": lambda client: client.send(client.slow.pop(0)),  # type: ignore[attr-defined]
    "fragment": lambda client: client.send(client.fragments.pop(0)),  # type: ignore[attr-defined]
}


def test_what_counts_as_a_sign_of_life(serve: Serve) -> None:
    """C-F-07: any byte received, even of a frame that is not complete, with and without a listener."""
    server = Timed(serve, idle_timeout=0.5)
    clients = {kind: server.client() for kind in SIGNS}
    whole = frame(TEXT, b"in many segments")
    clients["byte"].slow = [whole[at : at + 1] for at in range(len(whole))]  # type: ignore[attr-defined]
    parts = [frame(TEXT if not at else CONTINUATION, b"x", fin=False) for at in range(12)]
    clients["fragment"].fragments = parts  # type: ignore[attr-defined]
    began = time.monotonic()
    while since(began) < 1.2:
        for kind, client in clients.items():
            SIGNS[kind](client)
        last = time.monotonic()
        time.sleep(0.12)
    assert not server.told
    for client in clients.values():
        while client.recv_frame().opcode != CLOSE:
            pass
        between(0.5, since(last), 0.5 + LATE)
        client.close()
    until(lambda: len(server.told) == len(SIGNS), "close callbacks")
    assert server.told == [SILENT] * len(SIGNS)


def test_sending_is_no_sign_of_life(serve: Serve) -> None:
    """C-K-05: not by default."""
    server = Timed(serve, idle_timeout=0.4)
    began = time.monotonic()
    with server.client() as client:
        while not server.told and since(began) < 5:
            server.sockets[0].send("are you there", OpCode.TEXT)
            time.sleep(0.02)
        between(0.4, since(began), 0.4 + LATE)
        while client.recv_frame().opcode != CLOSE:
            pass
    assert server.closed() == SILENT


def test_sending_counts_where_that_is_asked_for(serve: Serve) -> None:
    """C-K-05: every message that is sent, directly or by a topic."""
    server = Timed(serve, idle_timeout=0.4, reset_idle_timeout_on_send=True)
    clients = [server.client() for _ in range(3)]
    until(lambda: len(server.sockets) == 3, "open")
    first, second, third = server.sockets
    second.subscribe("news")
    began = time.monotonic()
    while since(began) < 1.2:
        first.send("x", OpCode.TEXT)
        server.running.app.publish("news", "x", OpCode.TEXT)
        third.cork(lambda ws: ws.send("x", OpCode.TEXT))
        last = time.monotonic()
        time.sleep(0.05)
    assert not server.told
    for client in clients:
        while client.recv_frame().opcode != CLOSE:
            pass
        between(0.4, since(last), 0.4 + LATE)
        client.close()
    until(lambda: len(server.told) == 3, "close callbacks")
    assert server.told == [SILENT] * 3


def test_sending_does_not_cut_the_end_short(serve: Serve) -> None:
    """C-K-05, C-C-01: sending to a client that has sent its close frame does not shorten its time."""

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send("first", OpCode.TEXT)
        await asyncio.sleep(0.7)
        ws.send("last", OpCode.TEXT)

    server = Timed(serve, idle_timeout=0.2, reset_idle_timeout_on_send=True, message=message)
    with server.client() as client:
        client.send(frame(TEXT, b"go") + frame(CLOSE, close_payload(4000, b"bye")))
        assert client.recv_message() == "first"
        assert client.recv_message() == "last"
        assert client.expect_close() == (4000, b"bye")
    assert server.closed() == (4000, b"bye")


def test_a_client_that_empties_a_full_buffer_is_alive(serve: Serve) -> None:
    """C-F-07: reading buffered output is a sign of life, though nothing is received."""
    server = Timed(serve, idle_timeout=1, max_backpressure=0)
    with server.client(receive_buffer=4096) as client:
        (ws,) = server.sockets
        while ws.get_buffered_amount() == 0:
            ws.send(b"x" * 60_000)
        size = 0
        time.sleep(0.6)
        # The buffered output leaves now, so the second begins anew.
        while ws.get_buffered_amount():
            size += len(client.receive())
        began = time.monotonic()
        time.sleep(0.6)
        assert not server.told
        client.rest()
        between(0.9, since(began), 1 + LATE)
    assert server.closed() == SILENT


def test_a_client_that_is_not_read_is_not_silent(serve: Serve) -> None:
    """U#258: while callbacks are behind and nothing is read from it, its silence is unknown."""
    gate = Gate()
    seen: list[int] = []

    def slow(ws: Any, message: Any, opcode: Any) -> None:
        seen.append(len(message))
        if len(seen) == 1:
            gate.pass_through()
        if len(seen) == 40:
            ws.send("all", OpCode.TEXT)

    server = Timed(serve, idle_timeout=0.4, inbound_buffer=4096, message=slow)
    with server.client() as client:
        client.send(frame(TEXT, b"x" * 1000) * 20)
        gate.arrived()
        # More than three limits go by. Its bytes stay in the kernel meanwhile.
        for _ in range(20):
            time.sleep(0.07)
            client.send(frame(TEXT, b"x" * 1000))
        assert not server.told
        gate.open()
        assert client.recv_message() == "all"
        assert client.expect_close_frame()[0] == 1001
    assert server.closed() == SILENT
    assert len(seen) == 40


@pytest.mark.alone
def test_none_and_very_long_ones(serve: Serve) -> None:
    """C-K-02, C-K-07: 0 switches a limit off; hours are as good as any, where 960 seconds or 240 minutes once were all."""
    limits: list[dict[str, Any]] = [
        {"idle_timeout": 0, key: value}
        for key in ("idle_timeout", "max_lifetime")
        for value in (0, 0.0, 3600, 24 * 3600, 10**9, 1e12)
    ]
    told: list[tuple[int, bytes | None]] = []

    def configure(app: App) -> None:
        behavior = {
            "message": Timed._message,
            "send_pings_automatically": True,
            "close": lambda ws, code, message: told.append((code, message)),
        }
        for number, limit in enumerate(limits):
            app.ws(f"/{number}", behavior | limit)

    running = serve(configure)
    clients = [running.websocket(f"/{number}") for number in range(len(limits))]
    time.sleep(0.5)
    for client in clients:
        client.send_text("echo")
        assert client.recv_message() == "echo", "a ping came, or the end"
        assert client.finish(1000, "bye") == (1000, b"bye")
        client.close()
    until(lambda: len(told) == len(limits), "close callbacks")
    assert told == [(1000, b"bye")] * len(limits)


def test_many_silent_clients_end_together(serve: Serve) -> None:
    """C-K-02: each of them is closed once; those that send stay."""
    server = Timed(serve, idle_timeout=0.5)
    clients = [server.client() for _ in range(100)]
    alive = clients[::10]
    began = time.monotonic()
    while len(server.told) < 90 and since(began) < 10:
        for client in alive:
            client.ping()
        time.sleep(0.05)
    assert server.told == [SILENT] * 90
    for client in alive:
        client.send_text("echo")
        while (got := client.recv_frame()).opcode == PONG:
            pass
        assert got.payload == b"echo"
        client.finish()
    for client in clients:
        client.close()


def test_handlers_that_await_do_not_put_the_end_off_for_ever(serve: Serve) -> None:
    """C-C-07: the end waits for a callback that runs, but not for long."""
    gate = Gate()
    server = Timed(serve, idle_timeout=0.2, message=lambda *_: gate.pass_through())
    began = time.monotonic()
    with server.client() as client:
        client.send_text("stuck")
        gate.arrived()
        assert client.expect_close_frame()[0] == 1001
        between(0.2, since(began), 0.2 + 2 + LATE)
        gate.open()
    assert server.closed() == SILENT


# ---- pings of the server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_a_ping_comes_before_the_limit(serve: Serve, lane: str) -> None:
    """C-K-06, C-F-06: early enough to answer it; a client that does not is dropped at the limit."""
    server = Timed(serve, lane, idle_timeout=1, send_pings_automatically=True)
    began = time.monotonic()
    with server.client() as client:
        ping = client.recv_frame()
        assert ping.opcode == PING
        between(0.5, since(began), 0.95)
        assert client.expect_close_frame()[0] == 1001
        between(0.95, since(began), 1 + LATE)
    assert server.closed() == SILENT
    assert server.heard == []


@pytest.mark.parametrize("answer", ["pong", "another pong", "message", "byte"])
def test_whoever_answers_lives(serve: Serve, answer: str) -> None:
    """C-F-07: a pong is the polite answer, and anything else is as good."""
    server = Timed(serve, idle_timeout=0.3, send_pings_automatically=True)
    with server.client() as client:
        whole = frame(TEXT, b"slow")
        for number in range(4):
            ping = client.recv_frame()
            assert ping.opcode == PING
            if answer == "byte":
                client.send(whole[number : number + 1])
            elif answer == "message":
                client.send_text("here")
            else:
                client.pong(ping.payload if answer == "pong" else b"unasked")
        assert not server.told
        if answer in ("pong", "another pong"):
            until(lambda: len(server.heard) == 4, "pongs")


def test_a_client_that_speaks_is_not_pinged(serve: Serve) -> None:
    """C-K-06: its messages keep it alive."""
    server = Timed(serve, idle_timeout=0.6, send_pings_automatically=True)
    with server.client() as client:
        began = time.monotonic()
        while since(began) < 1:
            client.send_text("echo")
            assert client.recv_frame()[2:] == (TEXT, b"echo"), "a ping that nobody needed"
            time.sleep(0.05)
        client.finish()


def test_pings_do_not_come_between_the_parts_of_a_frame(serve: Serve) -> None:
    """They may come between fragments, and between messages that wait for a slow client."""
    server = Timed(serve, idle_timeout=0.4, send_pings_automatically=True, max_backpressure=0)
    with server.client(receive_buffer=4096) as client:
        (ws,) = server.sockets
        ws.send_first_fragment("a", OpCode.TEXT)
        pings = 0
        assert client.recv_frame() == (False, False, TEXT, b"a")
        while pings < 2:
            assert client.recv_frame().opcode == PING
            client.pong()
            pings += 1
        ws.send_last_fragment("b")
        while (last := client.recv_frame()).opcode == PING:
            client.pong()
        assert last == (True, False, 0, b"b")
        for _ in range(8):
            ws.send(b"y" * 100_000)
        for _ in range(8):
            while (got := client.recv_frame()).opcode == PING:
                client.pong()
            assert got.payload == b"y" * 100_000


# ---- age ------------------------------------------------------------------------------------------------------------


@each_lane
def test_fractions_of_a_minute(serve: Serve, lane: str) -> None:
    """C-K-07, C-C-08: 1000 and "please reconnect", on the wire and in the callback, however lively the socket is."""
    server = Timed(serve, lane, max_lifetime=0.5 / 60)
    began = time.monotonic()
    with server.client() as client:
        client.send_text("echo")
        assert client.recv_message() == "echo"
        while (got := client.recv_frame()).opcode != CLOSE:
            pass
        between(0.5, since(began), 0.5 + LATE)
        assert got.payload == b"\x03\xe8please reconnect"
        assert client.is_closed()
    assert server.closed() == (1000, b"please reconnect")


def test_whichever_limit_comes_first(serve: Serve) -> None:
    """C-K-02, C-K-07."""
    server = Timed(serve, max_lifetime=1.0, idle_timeout=0.3)
    with server.client() as client:
        assert client.expect_close_frame()[0] == 1001
    assert server.closed() == SILENT
    server = Timed(serve, max_lifetime=0.3 / 60, idle_timeout=60)
    with server.client() as client:
        assert client.expect_close_frame() == (1000, b"please reconnect")
    assert server.closed() == (1000, b"please reconnect")


# ---- nothing to do --------------------------------------------------------------------------------------------------

IDLE = """
app = App(use_uvloop=sys.argv[1] == "uvloop")

async def message(ws, message, opcode):
    await asyncio.sleep(0)
    ws.send(message, opcode)

behavior = {
    "idle_timeout": 600,
    "max_lifetime": 60,
    "send_pings_automatically": True,
    "open": lambda ws: ws.subscribe("all"),
    "message": message,
}
app.ws("/", behavior)
app.listen({"host": "127.0.0.1"}, ready)
app.run()
"""


def wake_ups(pid: int) -> int:
    """How often the threads of a process have gone to sleep by themselves."""
    count = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.M)
        count += int(found[1]) if found else 0
    return count


@pytest.mark.alone
def test_idle_sockets_wake_nobody() -> None:
    """D-R-08, S#152: a hundred of them, with every limit set and none of them near, on either loop."""
    pytest.importorskip("uvloop")
    with Program(IDLE, "asyncio") as first, Program(IDLE, "uvloop") as second:
        programs = [first.listening(), second.listening()]
        clients = [WebSocketClient(program.port) for program in programs for _ in range(100)]
        for client in clients:
            client.open()
            client.send_text("hello")
            assert client.recv_message() == "hello"
        time.sleep(0.3)
        before = [(program.cpu(), wake_ups(program.process.pid)) for program in programs]
        time.sleep(2)
        for program, (cpu, wakes) in zip(programs, before, strict=True):
            assert program.cpu() - cpu < 0.03
            assert wake_ups(program.process.pid) - wakes < 10
        for client in clients:
            client.close()


# ---- before it is a socket ------------------------------------------------------------------------------------------


def test_a_slow_handshake(serve: Serve) -> None:
    """The head of a handshake has the time of any head; a byte at a time is fine while that lasts."""
    server = Timed(serve)
    running = serve(lambda app: app.ws("/", server.behavior), header_timeout=0.4)
    whole = handshake()
    with WebSocketClient(running.port) as client:
        client.send_slowly(whole)
        client.opened()
        client.send_text("echo")
        assert client.recv_message() == "echo"
        # The limit was for the handshake alone.
        time.sleep(0.6)
        client.send_text("echo")
        assert client.recv_message() == "echo"
    began = time.monotonic()
    with WebSocketClient(running.port) as client:
        client.send(whole[:-3])
        assert client.answer().status == 408
        between(0.4, since(began), 0.4 + LATE)
        assert client.is_closed()


def test_limits_begin_with_the_handshake(serve: Serve) -> None:
    """C-K-02, C-H-06: an upgrade callback may take its time, longer than the socket may later be silent."""

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        await asyncio.sleep(0.6)
        res.upgrade(req.get_header("sec-websocket-key"), None, None, context)

    server = Timed(serve, upgrade=upgrade, idle_timeout=0.4)
    with WebSocketClient(server.running.port) as client:
        client.open()
        began = time.monotonic()
        assert client.expect_close_frame()[0] == 1001
        between(0.4, since(began), 0.4 + LATE)
    assert server.closed() == SILENT


def test_no_timer_outlives_its_application(serve: Serve) -> None:
    """Sockets with limits do not keep a stopped application waiting for them."""
    running = serve(lambda app: app.ws("/", {"idle_timeout": 3600, "max_lifetime": 60}))
    with running.websocket() as client:
        began = time.monotonic()
        closer = threading.Thread(target=running.stop)
        closer.start()
        assert client.expect_close_frame()[0] == 1001
        client.close()
        closer.join(20)
        assert since(began) < 5


def test_each_route_has_its_own_limits(serve: Serve) -> None:
    """C-K-02: they belong to the behaviour, and not to the application."""

    def configure(app: App) -> None:
        app.ws("/short", {"idle_timeout": 0.2}).ws("/long", {"idle_timeout": 60, "message": Timed._message})

    running = serve(configure)
    with running.websocket("/long") as long, running.websocket("/short") as short:
        assert short.expect_close_frame()[0] == 1001
        long.send_text("echo")
        assert long.recv_message() == "echo"
