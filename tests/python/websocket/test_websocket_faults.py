"""WebSockets whose clients vanish, stop, flood or dawdle, and whose callbacks fail or block: the others notice nothing.

Rows: A-CALL-08..13, A-CALL-16, C-C-04..06, C-C-11, C-C-12, C-F-05, C-H-06, C-H-07, D-R-02, D-R-04, D-R-05; S#141, S#197,
J#794, J#972, granian #796, #862, #875, uvicorn #596.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from socketify import App, OpCode, SendStatus
from support import Gate, Program, until
from support.lanes import LOOP, RESUMED, TASK, THREAD, each_lane, on, options
from support.ws_client import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocketClient,
    close_payload,
    frame,
    handshake,
)

Serve = Callable[..., Any]
Told = list[tuple[int, bytes | None]]


def echo(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode)


def works(client: WebSocketClient, text: str = "still here") -> bool:
    client.send_text(text)
    return bool(client.recv_message() == text)


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Lets the process have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"only {hard} descriptors are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Crowd:
    """Many clients of one thread: their bytes as they come, and how many have been ended."""

    def __init__(self, port: int, count: int, path: str = "/") -> None:
        self.sockets: list[socket.socket] = []
        self.received: dict[socket.socket, bytearray] = {}
        self._selector = selectors.DefaultSelector()
        for _ in range(count):
            each = socket.create_connection(("127.0.0.1", port), 20)
            each.sendall(handshake(path))
            self.sockets.append(each)
        for each in self.sockets:
            head = b""
            while b"\r\n\r\n" not in head:
                data = each.recv(4096)
                assert data, f"refused: {head!r}"
                head += data
            assert head.startswith(b"HTTP/1.1 101"), head
            self.received[each] = bytearray(head.partition(b"\r\n\r\n")[2])
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ)

    def read(self, enough: Callable[[], bool], timeout: float = 30) -> None:
        """Reads from all of them until that is so."""
        deadline = time.monotonic() + timeout
        while not enough():
            assert time.monotonic() < deadline, "never enough"
            for key, _ in self._selector.select(0.1):
                each: Any = key.fileobj
                try:
                    data = each.recv(65_536)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    data = b""
                self.received[each] += data
                if not data:
                    self._selector.unregister(each)

    def all_ended(self) -> bool:
        return not self._selector.get_map()

    def kill(self) -> None:
        """All of them vanish with a RST, as those of a process that was killed."""
        for each in self.sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._selector.close()
        for each in self.sockets:
            each.close()


# ---- clients that vanish --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_a_thousand_clients_are_killed_while_callbacks_await(serve: Serve, lane: str) -> None:
    """S#141, S#197: the callbacks' calls are harmless, each close callback runs, and others are served."""
    told: Told = []
    statuses: list[Any] = []
    entered: list[Any] = []
    go = asyncio.Event()

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        entered.append(ws)
        await go.wait()
        statuses.append(ws.send("late", OpCode.TEXT))
        ws.cork_send("late").cork(lambda ws: ws.send("late"))
        ws.publish("all", "late")
        ws.subscribe("all")
        ws.end(1000, "late")
        ws.close()

    def plain(ws: Any, text: Any, opcode: Any) -> None:
        asyncio.get_running_loop().create_task(message(ws, text, opcode))

    behavior = {
        "open": lambda ws: ws.subscribe("all"),
        "message": message if lane == TASK else plain,
        "close": lambda ws, code, message: told.append((code, message)),
    }

    def configure(app: App) -> None:
        app.ws("/", behavior).ws("/other", {"message": echo})

    running = serve(configure)
    with descriptors(3000), running.websocket("/other") as other:
        crowd = Crowd(running.port, 1000)
        for each in crowd.sockets:
            each.send(frame(TEXT, b"wait"))
        until(lambda: len(entered) == 1000, "all callbacks have begun")
        crowd.kill()
        until(lambda: len(told) == 1000, "all are told")
        assert works(other)
        running.app.loop.loop.call_soon_threadsafe(go.set)
        until(lambda: len(statuses) == 1000, "all callbacks have gone on")
        assert works(other)
    assert set(statuses) == {SendStatus.DROPPED}
    assert told == [(1006, None)] * 1000
    assert running.app.num_subscribers("all") == 0


def test_clients_are_killed_while_everybody_sends_to_them(serve: Serve) -> None:
    """S#141: at any moment, not only between two acts."""
    told: Told = []
    sockets: list[Any] = []
    stopping = threading.Event()

    def opened(ws: Any) -> None:
        ws.subscribe("all")
        sockets.append(ws)

    def configure(app: App) -> None:
        app.ws("/", {"open": opened, "close": lambda ws, code, message: told.append((code, message))})
        app.ws("/other", {"message": echo})

    def send() -> None:
        while not stopping.is_set():
            for ws in sockets[-200:]:
                ws.send(b"x" * 1000)
            running.app.publish("all", b"y" * 1000)

    running = serve(configure, io_threads=2)
    senders = [threading.Thread(target=send) for _ in range(2)]
    for sender in senders:
        sender.start()
    try:
        with descriptors(2000), running.websocket("/other") as other:
            for number in range(1, 4):
                Crowd(running.port, 100).kill()
                until(lambda count=number: len(told) == 100 * count, "all are told")
                assert works(other)
    finally:
        stopping.set()
        for sender in senders:
            sender.join(20)
    assert told == [(1006, None)] * 300


PHASES = [
    "in the handshake",
    "in the upgrade callback",
    "as soon as it is asked for",
    "open",
    "in a frame",
    "in a message",
    "with a message that is not read",
    "in the client's close",
    "after the client's close",
    "after the server's close",
]


@each_lane
@pytest.mark.parametrize("phase", PHASES)
def test_a_reset_in_each_phase(serve: Serve, phase: str, lane: str) -> None:
    """C-C-04, C-C-11: open and close stay paired, and the server goes on."""
    events: list[tuple[Any, ...]] = []
    gate = Gate()
    upgraded: list[bool] = []

    def finish(res: Any, req: Any, context: Any) -> None:
        upgraded.append(res.upgrade(req.get_header("sec-websocket-key"), None, None, context))

    def blocking(res: Any, req: Any, context: Any) -> None:
        gate.entered.set()
        until(lambda: res.aborted, "the reset is seen")
        finish(res, req, context)

    async def waiting(res: Any, req: Any, context: Any) -> None:
        gate.entered.set()
        while not res.aborted:
            await asyncio.sleep(0.002)
        finish(res, req, context)

    def message(ws: Any, message: Any, opcode: Any) -> None:
        if message == "end":
            ws.end(4000, "over")
        elif phase.startswith("with") and message != "still here":
            ws.send(b"z" * 100_000)
        else:
            ws.send(message, opcode)

    behavior = {
        "open": on(lane, lambda ws: events.append(("open", ws.ws))),
        "message": on(lane, message),
        "close": on(lane, lambda ws, code, message: events.append(("close", ws.ws, code, message))),
    }

    def configure(app: App) -> None:
        app.ws("/", behavior)
        app.ws("/slow", behavior | {"upgrade": waiting if lane in (TASK, RESUMED) else blocking})

    running = serve(configure, **options(lane))
    with WebSocketClient(running.port) as client:
        if phase == "in the handshake":
            client.send(handshake()[:-10])
        elif phase == "in the upgrade callback":
            client.send(handshake("/slow"))
            gate.arrived()
        elif phase == "as soon as it is asked for":
            client.send(handshake())
        else:
            client.open()
        if phase == "in a frame":
            client.send(frame(TEXT, b"x" * 200)[:100])
        elif phase == "in a message":
            client.send_frame(TEXT, b"x", fin=False).ping()
        elif phase.startswith("with"):
            client.send(frame(TEXT, b"x") * 20)
            until(lambda: len(events) >= 1, "open")
        elif phase == "in the client's close":
            client.send(frame(CLOSE, close_payload(1000, b"reason"))[:7])
        elif phase == "after the client's close":
            client.send_close(4001, "bye")
        elif phase == "after the server's close":
            client.send_text("end")
            assert client.expect_close_frame() == (4000, b"over")
        client.abort()
    if phase == "in the upgrade callback":
        until(lambda: upgraded, "the upgrade callback")
    until(lambda: running.app._server.connection_count() == 0, "the connection is gone")
    if PHASES.index(phase) > PHASES.index("as soon as it is asked for"):
        until(lambda: len(events) == 2, "open and close")
    until(lambda: len(events) % 2 == 0, "open and close are paired")
    if phase in ("in the handshake", "in the upgrade callback"):
        # A client that is known to be gone gets no socket.
        assert events == []
        assert upgraded == ([False] if phase == "in the upgrade callback" else [])
    elif phase != "as soon as it is asked for":
        code, message = {
            "after the client's close": (4001, b"bye"),
            "after the server's close": (4000, b"over"),
        }.get(phase, (1006, None))
        assert [each[0] for each in events] == ["open", "close"]
        assert events[0][1] == events[1][1]
        # A reset may overtake the close frame.
        assert events[1][2:] in ((code, message), (1006, None))
    with running.websocket() as client:
        assert works(client)
        client.finish()


def test_half_open_peers_are_found_out(serve: Serve) -> None:
    """uWebSockets.js #1175: a vanished client is dropped after a ping without a pong.

    A client that neither reads nor sends looks like one whose cable was cut.
    """
    told: Told = []
    behavior = {
        "idle_timeout": 0.6,
        "send_pings_automatically": True,
        "open": lambda ws: ws.subscribe("all"),
        "close": lambda ws, code, message: told.append((code, message)),
    }
    running = serve(lambda app: app.ws("/", behavior))
    silent = [running.websocket() for _ in range(20)]
    with running.websocket() as alive:
        while len(told) < 20:
            got = alive.recv_frame()
            if got.opcode == PING:
                alive.pong(got.payload)
        assert told == [(1006, b"WebSocket timed out from inactivity")] * 20
        until(lambda: running.app.num_subscribers("all") == 1, "they have left")
        until(lambda: running.app._server.connection_count() == 1, "their connections are closed", 30)
    for client in silent:
        client.close()


def test_a_client_that_closes_and_stays(serve: Serve) -> None:
    """C-C-05: one that does not end its connection after a close has no hold on it."""
    told: Told = []
    behavior = {"message": lambda ws, *_: ws.end(4000), "close": lambda ws, *event: told.append(event)}
    running = serve(lambda app: app.ws("/", behavior))
    with running.websocket() as first, running.websocket() as second:
        first.send_text("end")
        second.send_close(1000)
        until(lambda: len(told) == 2, "close callbacks")
        until(lambda: running.app._server.connection_count() == 0, "the server has given them up", 10)
    assert sorted(told) == [(1000, b""), (4000, None)]


# ---- clients that are slow or loud ----------------------------------------------------------------------------------


def test_one_of_five_hundred_stops_reading(serve: Serve) -> None:
    """granian #862: the others get every message; its buffered output has a bound; it gets its pongs when it
    reads again."""
    sockets: list[Any] = []
    limit = 100_000

    def opened(ws: Any) -> None:
        sockets.append(ws)
        ws.subscribe("all")

    behavior = {"open": opened, "message": echo, "max_backpressure": limit}
    running = serve(lambda app: app.ws("/", behavior))
    with descriptors(2000), running.websocket(receive_buffer=4096) as stopped:
        until(lambda: sockets, "open")
        crowd = Crowd(running.port, 499)
        until(lambda: len(sockets) == 500, "all are open")
        # It has had so much for itself that the kernel takes no more.
        whole, before = frame(BINARY, b"m" * 2000, masked=False), 0
        while sockets[0].get_buffered_amount() == 0:
            sockets[0].send(b"b" * 50_000)
            before += 1
        count = 0
        while sockets[0].dropped < 10:
            for _ in range(10):
                assert running.app.publish("all", b"m" * 2000)
            count += 10
            # Every other one has got all of them by now.
            total = count * len(whole)
            crowd.read(lambda total=total: min(map(len, crowd.received.values())) == total)
            assert sockets[0].get_buffered_amount() <= limit + len(whole)
        assert {bytes(data) for data in crowd.received.values()} == {whole * count}
        assert [ws.dropped for ws in sockets[1:]] == [0] * 499
        stopped.ping(b"alive")
        frames = 0
        while (got := stopped.recv_frame()) != Frame(True, False, PONG, b"alive"):
            assert got == Frame(True, False, BINARY, b"b" * 50_000 if frames < before else b"m" * 2000)
            frames += 1
        assert frames == before + count - sockets[0].dropped
        assert works(stopped)
        crowd.close()


@pytest.mark.parametrize("how", ["abort", "end", "close", "the application"])
def test_whoever_waits_for_room_hears_of_the_end(serve: Serve, how: str) -> None:
    """S#159: ``await ws.drain()`` ends with the socket, for every kind of end."""
    waiting: list[Any] = []
    went_on: list[Any] = []

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        while ws.send(b"x" * 100_000) is SendStatus.SUCCESS:
            pass
        waiting.append(ws)
        await ws.drain()
        went_on.append(ws.send("late"))

    running = serve(lambda app: app.ws("/", {"message": message, "max_backpressure": 0}), shutdown_timeout=1)
    with running.websocket(receive_buffer=4096) as client:
        client.send_text("go")
        until(lambda: waiting, "the buffer is full")
        assert not went_on
        if how == "abort":
            client.abort()
        elif how == "the application":
            running.app.close()
        else:
            getattr(waiting[0], how)()
        until(lambda: went_on, "drain()", 5)
    assert went_on == [SendStatus.DROPPED]


def test_a_socket_that_begins_behind_a_full_buffer(serve: Serve) -> None:
    """C-K-12, S#159: its handshake was sent after a request whose response is unread; drain comes when there
    is room."""
    taken: list[int] = []
    seen: list[Any] = []
    body = b"x" * 20_000_000

    def probe(res: Any, req: Any) -> None:
        res.on_writable(lambda res, offset: True)
        res.try_end(body, len(body))
        taken.append(res.get_write_offset())

    async def opened(ws: Any) -> None:
        seen.append(ws.get_buffered_amount() > 0 and ws.send("sent", OpCode.TEXT))
        await asyncio.wait_for(ws.drain(), 10)
        seen.append("room")

    def configure(app: App) -> None:
        app.get("/probe", probe).get(
            "/:more", lambda res, req: res.end(body[: taken[-1] + int(req.get_parameter(0))])
        )
        app.ws("/", {"open": opened, "drain": lambda ws: seen.append("drain")})

    running = serve(configure)
    for more in range(10_000, 400_000, 20_000):
        with WebSocketClient(running.port, receive_buffer=4096) as client:
            client.request(target="/probe")
            until(lambda: taken, "what the kernel takes")
        with WebSocketClient(running.port, receive_buffer=4096) as client:
            client.request(target=f"/{more}").send(handshake())
            # Until it is read, the socket opens only if little enough waits.
            deadline = time.monotonic() + 0.1
            while not seen and time.monotonic() < deadline:
                time.sleep(0.002)
            early = list(seen)
            client.answer()
            client.opened()
            if early and early[0] is SendStatus.BACKPRESSURE:
                assert client.recv_message() == "sent"
                until(lambda: len(seen) == 3, "drain, and the callback that waits for it", 12)
                assert seen[0] is SendStatus.BACKPRESSURE
                assert sorted(seen[1:]) == ["drain", "room"]
                return
            until(lambda: "room" in seen, "open")
        seen.clear()
        taken.clear()
    pytest.skip("the kernel takes another amount each time")


@pytest.mark.alone
def test_a_flood_of_frames_of_one_byte(serve: Serve) -> None:
    """All of them are delivered, in order; others are served meanwhile, and unhandled ones have a bound."""
    seen = bytearray()
    count = 60_000
    running = serve(
        lambda app: app.ws("/", {"message": lambda ws, message, opcode: seen.extend(message)}).ws(
            "/other", {"message": echo}
        )
    )
    data = bytes(number % 251 for number in range(count))
    flood = b"".join(frame(BINARY, data[at : at + 1], mask=b"\0\0\0\0") for at in range(count))
    with running.websocket() as client, running.websocket("/other") as other:
        sender = threading.Thread(target=client.send, args=(flood,))
        sender.start()
        waits = []
        while len(seen) < count:
            began = time.monotonic()
            assert works(other)
            waits.append(time.monotonic() - began)
        sender.join(20)
        assert max(waits) < 1
        assert client.finish() == (1000, b"")
    assert seen == data


@pytest.mark.alone
def test_a_flood_that_nobody_reads_the_echo_of(serve: Serve) -> None:
    """uWebSockets.js #499: pings and messages without end, from a client that reads nothing: it is held back,
    and no other."""
    sockets: list[Any] = []
    behavior = {"open": sockets.append, "message": echo, "max_backpressure": 50_000}
    running = serve(lambda app: app.ws("/", behavior))
    with running.websocket(receive_buffer=4096) as client, running.websocket() as other:
        sent = client.flood(frame(PING, b"p" * 100) * 200_000)
        assert sent < 20_000_000, "the server took all of it"
        assert works(other)
    with running.websocket(receive_buffer=4096) as client, running.websocket() as other:
        client.flood(frame(BINARY, b"m" * 100) * 50_000)
        assert all(ws.get_buffered_amount() < 51_000 for ws in sockets)
        assert works(other)


def test_fragments_without_end(serve: Serve) -> None:
    """C-K-01: the limit counts the reassembled message, for any size of the pieces."""
    told: Told = []
    behavior = {"max_payload_length": 1000, "close": lambda ws, *event: told.append(event)}
    running = serve(lambda app: app.ws("/", behavior))
    with running.websocket() as client:
        client.send(frame(BINARY, b"", fin=False) + frame(0, b"x", fin=False) * 1001)
        assert client.expect_close_frame()[0] == 1009
    # Empty pieces cost the server nothing.
    with running.websocket() as client:
        client.send(frame(BINARY, b"", fin=False) + frame(0, b"", fin=False) * 20_000 + frame(PING, b"here"))
        assert client.recv_frame() == Frame(True, False, PONG, b"here")
    until(lambda: len(told) == 2, "close callbacks")
    assert told[0] == (1006, b"Received too big message")


def test_slow_handshakes_hold_up_nobody(serve: Serve) -> None:
    """A hundred of them stand half-way; those that go on in time get their socket, the others a 408."""
    running = serve(lambda app: app.ws("/", {"message": echo}), header_timeout=1)
    whole = handshake()
    slow = [WebSocketClient(running.port) for _ in range(100)]
    for number, client in enumerate(slow):
        client.send(whole[: number + 1])
    with running.websocket() as client:
        assert works(client)
    for number, client in enumerate(slow[::2]):
        client.send(whole[2 * number + 1 :])
    for client in slow[::2]:
        assert works(client.opened())
    for client in slow[1::2]:
        assert client.answer().status == 408
    for client in slow:
        client.close()


# ---- callbacks that fail or block -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", [THREAD, LOOP, RESUMED])
def test_a_callback_that_raises_at_every_message(
    serve: Serve, lane: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A-CALL-12, A-CALL-13: logged each time, or given to the error handler; the socket stays open."""
    handled: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send(message, opcode)
        raise LookupError(message)

    def configure(app: App) -> None:
        app.set_error_handler(lambda error, res, req: handled.append((str(error), res, req)))
        app.ws("/", {"message": on(lane, message)})

    with (
        caplog.at_level(logging.ERROR),
        serve(configure, **options(lane)).websocket() as client,
    ):
        for number in range(200):
            assert works(client, str(number))
        assert client.finish() == (1000, b"")
        if lane == RESUMED:
            until(lambda: len(handled) == 200, "the error handler")
            assert handled == [(str(number), None, None) for number in range(200)]
        else:
            until(lambda: len(caplog.records) >= 200, "the log")
            assert len([record for record in caplog.records if record.exc_info]) == 200
            assert handled == []


@each_lane
def test_an_upgrade_callback_that_raises(serve: Serve, lane: str, caplog: pytest.LogCaptureFixture) -> None:
    """C-H-07, A-CALL-08: 500, as for any request; the connection can be used for another handshake."""
    tries: list[int] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        tries.append(1)
        if len(tries) % 2:
            raise LookupError("no")
        res.upgrade(req.get_header("sec-websocket-key"), None, None, context)

    running = serve(lambda app: app.ws("/", {"upgrade": on(lane, upgrade), "message": echo}), **options(lane))
    with WebSocketClient(running.port) as client:
        answer = client.send(handshake()).answer()
        assert (answer.status, answer.body) == (500, b"Internal Error")
        assert works(client.open())
    until(lambda: "LookupError" in caplog.text, "the error is logged")


@pytest.mark.parametrize("lane", [THREAD, LOOP, TASK])
def test_a_callback_that_blocks_for_a_second(serve: Serve, lane: str) -> None:
    """C-F-05: pings of all others, and its own, are answered meanwhile; new sockets without callbacks open."""
    gate = Gate()

    def configure(app: App) -> None:
        app.ws("/", {"message": on(lane, lambda *_: gate.pass_through())}).ws("/plain", {})

    running = serve(configure, **options(lane), io_threads=2)
    with running.websocket() as stuck:
        others = [running.websocket() for _ in range(10)]
        stuck.send_text("stuck")
        gate.arrived()
        began = time.monotonic()
        while time.monotonic() - began < 1:
            for client in [stuck, *others]:
                client.ping(b"there?")
                assert client.recv_frame() == Frame(True, False, PONG, b"there?")
            with running.websocket("/plain") as new:
                assert new.finish() == (1000, b"")
        assert time.monotonic() - began < 2, "somebody had to wait"
        gate.open()
        stuck.finish()
        for client in others:
            client.close()


@pytest.mark.parametrize("lane", [THREAD, LOOP, TASK])
def test_the_server_stops_while_a_callback_blocks(serve: Serve, lane: str) -> None:
    """D-R-05, granian #875: clients get a close frame at once; the end waits for no callback for ever."""
    gate = Gate()
    told: Told = []
    behavior = {
        "message": on(lane, lambda *_: gate.pass_through()),
        "close": lambda ws, code, message: told.append((code, message)),
    }
    running = serve(lambda app: app.ws("/", behavior), **options(lane), shutdown_timeout=1, io_threads=2)
    with running.websocket() as stuck, running.websocket() as other:
        stuck.send_text("stuck")
        gate.arrived()
        running.app.close()
        for client in (stuck, other):
            assert client.expect_close_frame() == (1001, b"")
            client.send_close(1001)
        gate.open()
        running.join()
    assert told == [(1001, None)] * 2


# ---- ends that meet -------------------------------------------------------------------------------------------------


@each_lane
def test_both_sides_close_at_once(serve: Serve, lane: str) -> None:
    """C-C-11: one end is reported, either of the two, and each client sees a close frame and the end."""
    told: Told = []
    sockets: list[Any] = []
    behavior = {
        "open": on(lane, sockets.append),
        "close": on(lane, lambda ws, code, message: told.append((code, message))),
    }
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    for number in range(60):
        with running.websocket() as client:
            until(lambda count=number: len(sockets) == count + 1, "open")
            barrier = threading.Barrier(2)

            def end(ws: Any = sockets[number], barrier: threading.Barrier = barrier) -> None:
                barrier.wait(20)
                ws.end(4001, "server")

            ender = threading.Thread(target=end)
            ender.start()
            barrier.wait(20)
            client.send_close(4000, "client")
            assert client.expect_close() in ((4000, b"client"), (4001, b"server"))
            ender.join(20)
    until(lambda: len(told) == 60, "close callbacks")
    assert set(told) <= {(4000, b"client"), (4001, b"server")}


def test_eight_threads_end_one_socket(serve: Serve) -> None:
    """A-CALL-16, C-C-11: one of them does it; one frame, one callback."""
    told: Told = []
    sockets: list[Any] = []
    behavior = {"open": sockets.append, "close": lambda ws, code, message: told.append((code, message))}
    running = serve(lambda app: app.ws("/", behavior))
    for number in range(40):
        with running.websocket() as client:
            until(lambda count=number: len(sockets) == count + 1, "open")
            barrier = threading.Barrier(9)

            def end(code: int, ws: Any = sockets[number], barrier: threading.Barrier = barrier) -> None:
                barrier.wait(20)
                ws.end(code, str(code))
                assert ws.closed
                assert ws.send("late") is SendStatus.DROPPED

            threads = [threading.Thread(target=end, args=(4000 + which,)) for which in range(8)]
            for thread in threads:
                thread.start()
            barrier.wait(20)
            code, reason = client.expect_close()
            assert code is not None
            assert reason == str(code).encode()
            for thread in threads:
                thread.join(20)
            until(lambda count=number: len(told) == count + 1, "close")
            assert told[number] == (code, reason)
    assert len(told) == 40


@each_lane
@pytest.mark.parametrize("slot", ["upgrade", "open", "message", "ping", "close"])
def test_the_application_is_closed_by_a_callback(serve: Serve, lane: str, slot: str) -> None:
    """D-R-02, C-C-12: earlier messages leave first; then 1001, and one close callback."""
    told: list[int] = []
    running: Any = None

    def upgrade(res: Any, req: Any, context: Any) -> None:
        running.app.close()
        res.upgrade(req.get_header("sec-websocket-key"), None, None, context)

    def act(ws: Any, *_: Any) -> None:
        ws.send("last", OpCode.TEXT)
        ws.app.close()

    def closed(ws: Any, code: int, message: bytes | None) -> None:
        told.append(code)
        if slot == "close":
            act(ws)

    behavior: dict[str, Any] = {"close": on(lane, closed)}
    if slot != "close":
        behavior[slot] = on(lane, upgrade if slot == "upgrade" else act)
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    with running.websocket() as client:
        if slot == "message":
            client.send_text("x")
        elif slot == "ping":
            client.ping(b"x")
            assert client.recv_frame().opcode == PONG
        elif slot == "close":
            client.send_close(1000)
        if slot in ("open", "message", "ping"):
            assert client.recv_message() == "last"
        assert client.expect_close_frame()[0] == (1000 if slot == "close" else 1001)
    running.join()
    assert told == [1000 if slot == "close" else 1001]


def test_the_application_closes_while_handshakes_are_in_flight(serve: Serve) -> None:
    """C-C-11, C-C-12: each ends with 1001, with an answer, or with nothing at all, but ends; every close
    callback runs."""
    for number in range(6):
        events: list[str] = []

        async def upgrade(res: Any, req: Any, context: Any) -> None:
            await asyncio.sleep(0.005)
            res.upgrade(req.get_header("sec-websocket-key"), None, None, context)

        def configure(app: App, upgrade: Any = upgrade, events: list[str] = events) -> None:
            behavior = {
                "open": lambda ws: events.append("open"),
                "close": lambda ws, code, message: events.append(f"close {code}"),
            }
            app.ws("/", behavior).ws("/later", behavior | {"upgrade": upgrade})

        running = serve(configure, shutdown_timeout=2)
        clients = [WebSocketClient(running.port) for _ in range(40)]
        closer = threading.Timer(0.002 * number, running.app.close)
        closer.start()
        for at, client in enumerate(clients):
            with contextlib.suppress(ConnectionError):
                client.send(handshake("/later" if at % 2 else "/"))
        for client in clients:
            with contextlib.suppress(ConnectionError):
                rest = client.rest()
                if rest.startswith(b"HTTP/1.1 101"):
                    assert rest.partition(b"\r\n\r\n")[2] == b"\x88\x02\x03\xe9"
                else:
                    assert rest == b"" or rest.startswith(b"HTTP/1.1 503"), rest
            client.close()
        running.join()
        closer.join()
        assert events.count("open") == events.count("close 1001")
        assert len(events) == 2 * events.count("open")


# ---- the end of the process -----------------------------------------------------------------------------------------

MANY = """
import gc, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
opened, codes = 0, []
app = App(shutdown_timeout=5)

def open(ws):
    global opened
    opened += 1
    ws.subscribe("all")

def closed(ws, code, message):
    assert ws.closed and not ws.get_topics()
    codes.append((code, message))

async def closed_late(ws, code, message):
    await asyncio.sleep(0.01)
    closed(ws, code, message)

async def message(ws, message, opcode):
    ws.send("waiting", 1)
    await asyncio.sleep(60)

app.ws("/", {"open": open, "close": closed})
app.ws("/async", {"open": open, "message": message, "close": closed_late})
app.on_shutdown(lambda: say(f"shutdown {opened} {len(codes)} {set(codes)}"))
app.listen({"host": "127.0.0.1"}, ready)
app.run()
"""


@pytest.mark.parametrize("count", [5000])
@pytest.mark.alone
def test_sigterm_with_five_thousand_sockets(count: int) -> None:
    """J#794, J#972, granian #796, uvicorn #596: all get 1001, all close callbacks run, and the process ends
    in time."""
    with descriptors(count + 200), Program(MANY) as program:
        program.listening()
        half = Crowd(program.port, count // 2)
        other = Crowd(program.port, count // 2, "/async")
        for each in other.sockets[::10]:
            each.send(frame(TEXT, b"wait"))
        waiting = frame(TEXT, b"waiting", masked=False)
        other.read(lambda: sum(len(data) > 0 for data in other.received.values()) == count // 20)
        began = time.monotonic()
        program.signal(signal.SIGTERM)
        half.read(half.all_ended)
        other.read(other.all_ended)
        goodbye = frame(CLOSE, close_payload(1001), masked=False)
        assert {bytes(data) for data in half.received.values()} == {goodbye}
        assert {bytes(data) for data in other.received.values()} == {goodbye, waiting + goodbye}
        half.close()
        other.close()
        ended = program.finish()
        assert time.monotonic() - began < 5 + 1
        assert ended == (0, f"shutdown {count} {count} {{(1001, None)}}\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.alone
def test_a_signal_in_the_middle_of_a_storm(number: int) -> None:
    """granian #875: clients that come, send, and vanish; whenever the signal comes, the end is clean and in time."""
    for delay in (0.0, 0.03, 0.1):
        with Program(MANY) as program:
            with WebSocketClient(program.listening().port) as first:
                # Once it responds, it handles signals.
                first.open()
            stopping = threading.Event()

            def storm(port: int = program.port, stopping: threading.Event = stopping) -> None:
                while not stopping.is_set():
                    with contextlib.suppress(OSError), WebSocketClient(port) as client:
                        client.send(handshake("/async") + frame(TEXT, b"x"))
                        client.receive()
                        if client.socket.fileno() % 2:
                            client.abort()

            threads = [threading.Thread(target=storm) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(delay)
            program.signal(number)
            began = time.monotonic()
            try:
                code, out, err = program.finish()
            finally:
                stopping.set()
                for thread in threads:
                    thread.join(20)
            assert time.monotonic() - began < 5 + 1
            assert (code, err) == (0, "")
            opened, told = out.split()[1:3]
            assert opened == told


@pytest.mark.parametrize("client", ["silent", "stopped reading"])
def test_sigterm_waits_for_no_client_that_does_not_answer(client: str) -> None:
    """uvicorn #596: the close frame is sent, and a client that ignores it is cut off."""
    source = MANY.replace("shutdown_timeout=5", "shutdown_timeout=1").replace(
        "    ws.subscribe",
        "    ws.send(b'x' * 20_000_000)\n    ws.subscribe" if client != "silent" else "    ws.subscribe",
    )
    with Program(source) as program:
        program.listening()
        clients = []
        for _ in range(5):
            clients.append(WebSocketClient(program.port, receive_buffer=4096))
            clients[-1].send(handshake())
            assert clients[-1].until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")
        with WebSocketClient(program.port) as last:
            last.send(handshake("/async") + frame(TEXT, b"x"))
            last.until(b"waiting") if client == "silent" else last.exactly(100_000)
            began = time.monotonic()
            program.signal(signal.SIGTERM)
            assert program.finish() == (0, "shutdown 6 6 {(1001, None)}\n", "")
            assert time.monotonic() - began < 1 + 1 + 1
        for each in clients:
            each.close()


# ---- one callback, and the others -------------------------------------------------------------------------------------


@pytest.mark.parametrize("publish", [False, True], ids=["send", "publish"])
def test_what_a_slow_callback_has_sent_does_not_wait_for_it(serve: Serve, publish: bool) -> None:
    """Messages that a plain callback sends before it blocks reach the client meanwhile."""
    gate = threading.Event()

    def configure(app: App) -> None:
        def message(ws: Any, message: Any, opcode: Any) -> None:
            if publish:
                ws.publish("topic", "begun", OpCode.TEXT)
            else:
                ws.send("begun", OpCode.TEXT)
            gate.wait(20)
            ws.send("done", OpCode.TEXT)

        app.ws("/", {"open": lambda ws: ws.subscribe("topic"), "message": message})

    with serve(configure).websocket() as client:
        client.send_text("go")
        # Times out if it waits for the callback, which waits for this.
        assert client.recv_message() == "begun"
        gate.set()
        assert client.recv_message() == "done"


def test_an_answer_does_not_wait_for_the_callbacks_behind_it(serve: Serve) -> None:
    """Callbacks run in batches; one that blocks delays later ones, not earlier messages."""
    gate, begun = threading.Event(), threading.Event()

    def message(ws: Any, message: Any, opcode: Any) -> None:
        if message == "first":
            begun.set()
            gate.wait(20)
        elif message == "block":
            gate.clear()
            gate.wait(20)
        ws.send(message, opcode)

    running = serve(lambda app: app.ws("/", {"message": message}))
    with running.websocket() as holder, running.websocket() as quick, running.websocket() as blocked:
        # While the first callback runs the two others queue up behind it, and so come in one batch.
        holder.send_text("first")
        assert begun.wait(20)
        quick.send_text("quick")
        blocked.send_text("block")
        gate.set()
        assert holder.recv_message() == "first"
        assert quick.recv_message() == "quick"
        gate.set()
        assert blocked.recv_message() == "block"


@pytest.mark.parametrize("lane", [THREAD, LOOP])
def test_one_client_that_never_stops_keeps_nobody_waiting(serve: Serve, lane: str) -> None:
    """Messages that come faster than their callback deals with them: other requests and sockets have their turn."""

    def message(ws: Any, message: Any, opcode: Any) -> None:
        sum(range(1500))

    def configure(app: App) -> None:
        app.ws("/flood", {"message": message}).ws("/", {"message": echo})
        app.get("/", lambda res, req: res.end("answer"))

    running = serve(configure, **options(lane))
    stop = threading.Event()

    def flood() -> None:
        burst = frame(TEXT, b"x") * 1000
        with running.websocket("/flood") as client, contextlib.suppress(OSError):
            while not stop.is_set():
                client.send(burst)

    flooder = threading.Thread(target=flood)
    flooder.start()
    try:
        for _ in range(3):
            with running.client() as client:
                assert client.get("/").body == b"answer"
            with running.websocket() as client:
                assert works(client)
    finally:
        stop.set()
        flooder.join(20)
    assert not flooder.is_alive()


def test_the_last_words_of_a_slow_callback_arrive(serve: Serve) -> None:
    """C-C-05: a message and a close frame that precede a long pause in the callback are not lost to it."""

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send("goodbye", OpCode.TEXT)
        ws.end(1000, "done")
        time.sleep(2.5)  # longer than the end of a connection may take

    with serve(lambda app: app.ws("/", {"message": message})).websocket() as client:
        client.send_text("go")
        assert client.recv_message() == "goodbye"
        assert client.expect_close_frame() == (1000, b"done")
