"""Clients that do not read and handlers that do not keep up: buffers are bounded both ways, and their state
is available.

Rows: A-WS-01, A-WS-12, A-EN-02, C-K-03, C-K-04, C-K-12, C-F-05, C-F-07..09, C-P-07, I-A-01, I-A-28; issues #159,
W#1047, W#1033, J#499, J#979, W PR#1876, G#862, websockets#105, aiohttp#1367.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import App, OpCode, SendStatus
from support import Gate, until
from support.lanes import LOOP, TASK, THREAD, each_lane, on, options
from support.ws_client import BINARY, PING, PONG, TEXT, Frame, WebSocketClient, frame, handshake
from support.ws_server import Held, fill, settle

Serve = Callable[..., Any]
LIMIT = 100_000


def queue(ws: Any) -> int:
    """Sends until output is buffered; returns the number of messages of 16 KiB."""
    count = 1
    while ws.send(b"x" * 16_384) != SendStatus.BACKPRESSURE:
        count += 1
    settle(ws)
    return count


def read(client: WebSocketClient, count: int, payload: bytes = b"x" * 16_384) -> None:
    for _ in range(count):
        assert client.recv_data() == (BINARY, payload)


# ---- the limit ------------------------------------------------------------------------------------------------------


def test_the_limit_is_asked_before_each_message(serve: Serve) -> None:
    """C-K-03, A-WS-12, C-F-08: the buffered output may be as much as the limit, and one message more; the
    next is dropped."""
    client, ws = Held(serve, max_backpressure=LIMIT).slow()
    with client:
        before = queue(ws)
        waiting = ws.get_buffered_amount()
        assert 0 < waiting <= 16_384 + 4
        # Up to the limit to the byte: 4 bytes of a header, or 10.
        assert ws.send(b"a" * (LIMIT - waiting - 10)) is SendStatus.BACKPRESSURE
        assert ws.get_buffered_amount() in (LIMIT, LIMIT - 6)
        fits = LIMIT - ws.get_buffered_amount()
        if fits:
            assert ws.send(b"b" * (fits - 2)) is SendStatus.BACKPRESSURE
        assert ws.get_buffered_amount() == LIMIT
        assert ws.dropped == 0
        assert ws.send(b"c" * 1_000_000) is SendStatus.BACKPRESSURE, "it is full, and not over"
        over = ws.get_buffered_amount()
        assert over == LIMIT + 1_000_010
        for number in range(1, 4):
            assert ws.send(b"") is SendStatus.DROPPED
            assert ws.cork_send("lost") is ws
            assert ws.dropped == 2 * number
        assert ws.get_buffered_amount() == over
        assert not ws.closed
        read(client, before)
        assert client.recv_message() == b"a" * (LIMIT - waiting - 10)
        if fits:
            assert client.recv_message() == b"b" * (fits - 2)
        assert client.recv_message() == b"c" * 1_000_000
        until(lambda: ws.get_buffered_amount() == 0, "room")
        assert ws.send("after", OpCode.TEXT) is SendStatus.SUCCESS
        assert client.recv_message() == "after"
        assert ws.dropped == 6


@each_lane
def test_the_limit_in_a_callback(serve: Serve, lane: str) -> None:
    """C-K-03, W#1033: in every lane, although a callback's messages are held together; send and publish
    alike."""
    seen: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.subscribe("topic")
        count = fill(ws)
        before = ws.dropped
        seen.append((ws.publish("topic", "lost"), ws.dropped - before, ws.get_buffered_amount(), count))

    behavior = {"message": on(lane, message), "max_backpressure": LIMIT}
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    with running.websocket(receive_buffer=4096) as client:
        client.send_text("go")
        until(lambda: seen, "the buffer to be full")
        published, dropped, buffered, count = seen[0]
        assert (published, dropped) == (True, 1), "somebody is subscribed, and has lost it"
        assert LIMIT < buffered <= LIMIT + 16_388
        read(client, count)


def test_no_limit(serve: Serve) -> None:
    """C-K-03: 0 is none; everything waits and everything comes."""
    client, ws = Held(serve, max_backpressure=0).slow()
    with client:
        for number in range(40):
            assert ws.send(bytes([number]) * 500_000) is not SendStatus.DROPPED
        assert ws.get_buffered_amount() > 5_000_000
        assert ws.dropped == 0
        for number in range(40):
            assert client.recv_message() == bytes([number]) * 500_000
        until(lambda: ws.get_buffered_amount() == 0, "room")


def test_the_default_limit(serve: Serve) -> None:
    """C-K-03: 64 KiB."""
    client, ws = Held(serve).slow()
    with client:
        fill(ws, b"x" * 1000)
        assert 65_536 < ws.get_buffered_amount() <= 65_536 + 1004


@pytest.mark.parametrize("lane", [THREAD, TASK])
@pytest.mark.parametrize("how", ["send", "publish", "callback"])
def test_closing_at_the_limit(serve: Serve, how: str, lane: str) -> None:
    """C-K-04: the message that is dropped ends the connection, with 1006, once; others are not touched."""
    closed: list[Any] = []

    def close(ws: Any, code: int, reason: Any) -> None:
        closed.append((code, reason, ws.dropped, ws.send("late"), ws.get_buffered_amount()))

    held = Held(
        serve,
        max_backpressure=LIMIT,
        close_on_backpressure_limit=True,
        close=on(lane, close),
        message=on(lane, lambda ws, message, opcode: fill(ws)),
    )
    client, ws = held.slow()
    other, bystander = held.connect()
    with client, other:
        for socket in (ws, bystander):
            socket.subscribe("topic")
        if how == "send":
            fill(ws)
        elif how == "callback":
            client.send_text("go")
        else:
            queue(ws)
            ws.send(b"x" * LIMIT)
            assert held.app.publish("topic", "too much", OpCode.TEXT)
            assert other.recv_message() == "too much"
        until(lambda: closed, "close")
        assert closed == [(1006, b"Backpressure limit reached", 1, SendStatus.DROPPED, 0)]
        assert ws.closed
        until(lambda: held.app.num_subscribers("topic") == 1, "it to be forgotten")
        client.rest()
        assert bystander.send("still here", OpCode.TEXT) is SendStatus.SUCCESS
        assert other.recv_message() == "still here"


def test_control_frames_pass(serve: Serve) -> None:
    """C-K-03, W PR#1876: pings, pongs and close are queued where messages are dropped, and are no dropped messages."""
    client, ws = Held(serve, max_backpressure=LIMIT, close_on_backpressure_limit=False).slow()
    with client:
        count = fill(ws)
        assert ws.send("ping", OpCode.PING) is SendStatus.BACKPRESSURE
        assert ws.send("pong", OpCode.PONG) is SendStatus.BACKPRESSURE
        assert ws.dropped == 1
        client.ping(b"from the client")
        ws.end(1000, "done")
        read(client, count)
        assert client.recv_frame() == Frame(True, False, PING, b"ping")
        assert client.recv_frame() == Frame(True, False, PONG, b"pong")
        answers = client.recv_frame()
        if answers.opcode == PONG:
            assert answers == Frame(True, False, PONG, b"from the client")
            answers = client.recv_frame()
        assert answers.payload == b"\x03\xe8done"


def test_pings_of_a_client_that_does_not_read_are_bounded(serve: Serve) -> None:
    """C-F-05, aiohttp#1367: its pongs do not fill the memory; it gets every one of them once it reads."""
    client, ws = Held(serve, max_backpressure=LIMIT).slow()
    count = 130_000
    payloads = [b"%d" % number + b"." * 119 for number in range(count)]
    pings = b"".join(frame(PING, payload, mask=b"\0\0\0\0") for payload in payloads)
    pongs = b"".join(bytes([0x80 | PONG, len(payload)]) + payload for payload in payloads)
    with client:
        sent = client.flood(pings)
        assert sent < len(pings), "it has to wait"
        assert 0 < settle(ws) < 2 * LIMIT
        sender = threading.Thread(target=client.send, args=(pings[sent:],))
        sender.start()
        assert client.exactly(len(pongs)) == pongs
        sender.join(20)
        assert not ws.closed


# ---- drain ----------------------------------------------------------------------------------------------------------


@each_lane
def test_drain_once_after_backpressure(serve: Serve, lane: str) -> None:
    """C-K-12, C-F-09, I-A-01, J#169: once nothing waits any more, and not again until something had to wait again."""
    drains: list[int] = []
    held = Held(
        serve,
        drain=on(lane, lambda ws: drains.append(ws.get_buffered_amount())),
        message=lambda ws, message, opcode: ws.send(message, opcode),
        max_backpressure=LIMIT,
        app=options(lane),
    )
    client, ws = held.slow()
    with client:
        for number in range(1, 4):
            count = fill(ws)
            assert len(drains) == number - 1, "while something waits nothing is told"
            read(client, count)
            until(lambda number=number: len(drains) == number, "drain")  # type: ignore[misc]
            # Small talk fits, and drains nothing.
            for _ in range(5):
                assert client.send_text("a").recv_message() == "a"
            assert len(drains) == number
    assert drains == [0, 0, 0]


@each_lane
def test_no_drain_without_backpressure(serve: Serve, lane: str) -> None:
    """C-K-12: output that the kernel takes at once has not waited, for any corked amount."""
    drains: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        for _ in range(50):
            assert ws.send(b"x" * 1000) is SendStatus.SUCCESS
        ws.cork(lambda corked: [corked.send(b"y") for _ in range(50)])
        ws.publish("topic", b"z" * 1000)

    behavior = {"open": lambda ws: ws.subscribe("topic"), "message": on(lane, message)}
    behavior["drain"] = on(lane, drains.append)
    with serve(lambda app: app.ws("/", behavior), **options(lane)).websocket() as client:
        for _ in range(10):
            client.send_text("go")
            read(client, 50, b"x" * 1000)
            read(client, 50, b"y")
            read(client, 1, b"z" * 1000)
        client.finish()
    assert drains == []


def test_drain_whoever_flushed(serve: Serve) -> None:
    """W#1047: others send to the socket all the time while it gets room; drain comes nevertheless."""
    drained, stop = threading.Event(), threading.Event()

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send(message, opcode)

    held = Held(serve, drain=lambda ws: drained.set(), message=message, max_backpressure=LIMIT)
    client, ws = held.slow()

    def talk() -> None:
        while not stop.is_set():
            ws.send(b"")
            held.app.publish("topic", b"")
            ws.cork(lambda corked: corked.send("ping", OpCode.PING))
            stop.wait(0.001)

    def drink() -> None:
        while client.receive():
            pass

    with client:
        ws.subscribe("topic")
        fill(ws)
        threads = [threading.Thread(target=run) for run in (talk, talk, drink)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            client.send_frame(TEXT, b"echo")
        assert drained.wait(20), "drain was lost"
        stop.set()
        for thread in threads[:2]:
            thread.join(20)
        ws.close()
        threads[2].join(20)


def test_drain_of_a_publisher(serve: Serve) -> None:
    """C-K-12, W#1033: a publish that had to wait counts as a send that had."""
    drained = threading.Event()
    held = Held(serve, drain=lambda ws: drained.set(), max_backpressure=LIMIT)
    client, ws = held.slow()
    with client:
        ws.subscribe("topic")
        count = 0
        while ws.dropped == 0:
            held.app.publish("topic", b"x" * 16_384)
            count += 1
        assert not drained.is_set()
        read(client, count - 1)
        assert drained.wait(20)


def test_sending_in_drain(serve: Serve) -> None:
    """J#979: a drain callback that fills the buffer again is called again when that has left, and never within itself."""
    inside: list[bool] = []
    sent = [0]
    finished = threading.Event()

    def more(ws: Any) -> None:
        assert not inside
        inside.append(True)
        if sent[0] < 400:
            sent[0] += fill(ws)
        else:
            finished.set()
        inside.pop()

    client, ws = Held(serve, drain=more, max_backpressure=LIMIT).slow()
    with client:
        first = fill(ws)
        read(client, first)
        count = 0
        while not finished.is_set():
            client.socket.settimeout(0.05)
            try:
                assert client.recv_message() == b"x" * 16_384
                count += 1
            except TimeoutError:
                pass
        client.socket.settimeout(20)
        read(client, sent[0] - count)


def test_awaiting_drain(serve: Serve) -> None:
    """#159: the loop of the issue: send, and wait after BACKPRESSURE. No message is lost and little is
    buffered."""
    worst: list[int] = []

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        for number in range(300):
            if ws.send(number.to_bytes(2, "big") * 8192) is SendStatus.BACKPRESSURE:
                worst.append(ws.get_buffered_amount())
                await ws.drain()
        ws.send("done", OpCode.TEXT)

    held = Held(serve, message=message, max_backpressure=LIMIT)
    client, ws = held.slow()
    with client:
        client.send_text("go")
        until(lambda: worst, "the first to wait")
        for number in range(300):
            assert client.recv_message() == number.to_bytes(2, "big") * 8192
        assert client.recv_message() == "done"
        assert ws.dropped == 0
    assert max(worst) <= 16_388


def test_awaiting_drain_when_nothing_waits(serve: Serve) -> None:
    """#159: it returns at once, and after the end as well."""

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        assert await ws.drain() is None
        await asyncio.gather(*(ws.drain() for _ in range(100)))
        ws.end(4000)
        assert await ws.drain() is None
        ended.set()

    ended = threading.Event()
    with serve(lambda app: app.ws("/", {"message": message})).websocket() as client:
        client.send_text("go")
        assert client.expect_close_frame() == (4000, b"")
        assert ended.wait(20)


@pytest.mark.parametrize("how", ["read", "abort", "client close", "close", "end"])
def test_many_await_drain(serve: Serve, how: str) -> None:
    """#159, S#141: all of them go on, when the client reads and when either side ends the socket instead."""
    done: list[int] = []
    waiting: list[int] = []
    closed = threading.Event()

    async def wait(ws: Any, number: int) -> None:
        waiting.append(number)
        await ws.drain()
        done.append(number)

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        await asyncio.gather(*(wait(ws, number) for number in range(50)))

    held = Held(serve, message=message, close=lambda *end: closed.set(), max_backpressure=LIMIT)
    client, ws = held.slow()
    with client:
        count = fill(ws)
        client.send_text("go")
        until(lambda: len(waiting) == 50, "fifty to wait")
        assert done == []
        if how == "read":
            read(client, count)
        elif how == "abort":
            client.abort()
        elif how == "client close":
            client.send_close()
            client.rest()
        else:
            getattr(ws, how)()
        until(lambda: len(done) == 50, "fifty to go on")
        if how != "read":
            assert closed.wait(20)
    assert sorted(done) == list(range(50))


def test_drain_of_what_waited_before_the_handshake(serve: Serve, tmp_path: Path) -> None:
    """#159, C-K-12: unread responses come before the socket's messages."""
    statuses: list[SendStatus] = []
    waits: list[str] = []
    drained = threading.Event()

    def opened(ws: Any) -> None:
        statuses.append(ws.send("hello", OpCode.TEXT))

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        waits.append("begun")
        await ws.drain()
        waits.append("ended")

    def configure(app: App) -> None:
        app.get("/page", lambda res, req: res.end(b"x" * 4000))
        app.ws("/", {"open": opened, "message": message, "drain": lambda ws: drained.set()})

    # The buffers of a Unix socket have a fixed size. Once it is met, some more pages are asked for and still fit.
    path = str(tmp_path / "socket")
    serve(configure, listen={"domain": path})
    page = b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n"
    for attempt in range(1, 200):
        client = WebSocketClient(path=path)
        with client:
            client.send(page * 8 * attempt + handshake())
            until(lambda attempt=attempt: len(statuses) == attempt, "open")  # type: ignore[misc]
            if statuses[-1] is not SendStatus.BACKPRESSURE:
                continue
            client.send_text("go")
            until(lambda: waits, "the message")
            assert not drained.is_set()
            for _ in range(8 * attempt):
                assert client.answer().body == b"x" * 4000
            assert client.opened().recv_message() == "hello"
            assert drained.wait(20)
            until(lambda: len(waits) == 2, "drain to return")
            return
    raise AssertionError("nothing ever waits")


def test_a_waiter_that_is_cancelled(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """#159: it takes nothing from the others, and nothing is logged."""
    done: list[str] = []

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        async def wait() -> None:
            await ws.drain()
            done.append("drained")

        task = asyncio.ensure_future(wait())
        try:
            await asyncio.wait_for(ws.drain(), 0.01)
        except asyncio.TimeoutError:
            done.append("cancelled")
        await task

    held = Held(serve, message=message, max_backpressure=LIMIT)
    client, ws = held.slow()
    with client:
        count = fill(ws)
        client.send_text("go")
        until(lambda: done, "the cancellation")
        read(client, count)
        until(lambda: len(done) == 2, "the other one")
    assert done == ["cancelled", "drained"]
    assert caplog.records == []


def test_a_future_of_drain_from_a_def_handler(serve: Serve) -> None:
    """#159, design.md: ``drain`` may be called in any lane and thread; its future is one of the application's loop."""
    seen: list[Any] = []
    held = Held(serve, max_backpressure=LIMIT)
    client, ws = held.slow()

    async def wait(future: Any) -> None:
        seen.append(future.get_loop() is asyncio.get_running_loop())
        await future
        seen.append("room")

    loop = held.app.loop.loop
    with client:
        count = fill(ws)
        waiting = asyncio.run_coroutine_threadsafe(wait(ws.drain()), loop)
        until(lambda: seen, "the wait")
        read(client, count)
        waiting.result(20)
        asyncio.run_coroutine_threadsafe(wait(ws.drain()), loop).result(20)
    assert seen == [True, "room"] * 2


# ---- a slow one among others ----------------------------------------------------------------------------------------


def test_a_slow_subscriber_loses_alone(serve: Serve) -> None:
    """C-P-07, J#499, G#862: the others get all of it at once; what it lost is counted, and what it got is in order."""
    held = Held(serve, max_backpressure=LIMIT)
    client, ws = held.slow()
    others = [held.connect() for _ in range(3)]
    count = 1500
    with client:
        for socket in (ws, *(socket for _, socket in others)):
            socket.subscribe("topic")
        for number in range(count):
            assert held.app.publish("topic", number.to_bytes(2, "big") * 2048)
            for other, _ in others:
                assert other.recv_message() == number.to_bytes(2, "big") * 2048
        assert [socket.dropped for _, socket in others] == [0, 0, 0]
        lost = ws.dropped
        assert lost > 0
        ws.end(1000)
        numbers = []
        while (found := client.recv_frame()).opcode == BINARY:
            numbers.append(int.from_bytes(found.payload[:2], "big"))
            assert found.payload == found.payload[:2] * 2048
        assert len(numbers) == count - lost
        assert numbers == sorted(numbers)
        for other, _ in others:
            other.close()


def test_the_count_of_what_was_dropped_stays(serve: Serve) -> None:
    """J#499: it can still be read in the close callback and after it."""
    seen: list[int] = []
    client, ws = Held(serve, max_backpressure=LIMIT, close=lambda ws, *end: seen.append(ws.dropped)).slow()
    with client:
        fill(ws)
        assert ws.dropped == 1
        client.abort()
        until(lambda: seen, "close")
    assert seen == [1]
    assert ws.dropped == 1


# ---- the other way --------------------------------------------------------------------------------------------------

TEXTS = [b"%06d" % number + b"." * 10_000 for number in range(2500)]


@pytest.mark.parametrize("lane", [THREAD, LOOP])
def test_a_handler_that_blocks_stops_the_client(serve: Serve, lane: str) -> None:
    """websockets#105: no more is read than may wait; then everything comes, in its order."""
    gate, seen = Gate(), []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        gate.pass_through()
        seen.append(message)

    held = Held(serve, message=message, app=options(lane))
    client, _ = held.connect()
    data = b"".join(frame(BINARY, text) for text in TEXTS)
    with client:
        sent = client.flood(data)
        gate.arrived()
        assert sent < len(data), "the client has to wait"
        gate.open()
        client.send(data[sent:])
        until(lambda: len(seen) == len(TEXTS), "all of it")
    assert seen == TEXTS


def test_tasks_that_lag_stop_the_client(serve: Serve) -> None:
    """websockets#105, C-K: a coroutine that has not ended holds its message's place; other sockets go on."""
    release: list[Any] = []
    started: list[bytes] = []
    ended: list[bytes] = []

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        if opcode == OpCode.TEXT:
            ws.send(message, opcode)
            return
        if not release:
            release.append(asyncio.Event())
        started.append(message)
        await release[0].wait()
        ended.append(message)

    held = Held(serve, message=message, inbound_buffer=100_000)
    (client, _), (other, _) = held.connect(), held.connect()
    data = b"".join(frame(BINARY, text) for text in TEXTS)
    with client, other:
        sent = client.flood(data)
        assert sent < len(data), "the client has to wait"
        assert len(started) == 10, "as many as fit, and the one that met the bound"
        assert other.send_text("others go on").recv_message() == "others go on"
        held.app.loop.loop.call_soon_threadsafe(release[0].set)
        client.send(data[sent:])
        until(lambda: len(ended) == len(TEXTS), "all of it")
    assert started == ended == TEXTS


def test_one_message_at_a_time(serve: Serve) -> None:
    """The smallest bound: a coroutine has ended before the next one starts, though many messages have come."""
    inside: list[int] = []
    order: list[bytes] = []

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        inside.append(1)
        assert len(inside) == 1
        for _ in range(3):
            await asyncio.sleep(0)
        order.append(message)
        inside.pop()

    client, _ = Held(serve, message=message, inbound_buffer=1).connect()
    with client:
        client.send(b"".join(frame(BINARY, b"%d" % number) for number in range(300)))
        until(lambda: len(order) == 300, "all of it")
        assert client.finish() == (1000, b"")
    assert order == [b"%d" % number for number in range(300)]


def test_small_messages_count_too(serve: Serve) -> None:
    """aiohttp#1367: empty messages without end are no way to fill the memory."""
    gate, seen = Gate(), [0]

    def message(ws: Any, message: Any, opcode: Any) -> None:
        gate.pass_through()
        seen[0] += 1

    client, _ = Held(serve, message=message).connect()
    count = 2_000_000
    data = frame(BINARY, b"", mask=b"\0\0\0\0") * count
    with client:
        sent = client.flood(data)
        gate.arrived()
        gate.open()
        whole = -sent % 6
        client.send(data[sent : sent + whole])
        until(lambda: seen[0] == (sent + whole) // 6, "all that was sent", 30)


def test_a_client_that_has_to_wait_is_not_idle(serve: Serve) -> None:
    """C-F-07: no bytes arrive because nothing is read; that is no silence of the client."""
    closed: list[Any] = []
    ended: list[bytes] = []

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        await asyncio.sleep(0.5)
        ended.append(message)

    held = Held(
        serve,
        message=message,
        close=lambda ws, *end: closed.append(end),
        inbound_buffer=1,
        idle_timeout=0.2,
    )
    client, _ = held.connect()
    with client:
        client.send(b"".join(frame(BINARY, b"%d" % number) for number in range(2)))
        until(lambda: len(ended) == 1, "the first")
        assert closed == []
        until(lambda: len(ended) == 2 or closed, "the second")
        assert ended == [b"0", b"1"]
        # From here on it is silent.
        assert client.expect_close_frame()[0] == 1001
    until(lambda: closed, "close")
    assert closed == [(1006, b"WebSocket timed out from inactivity")]


@pytest.mark.parametrize("how", ["send", "publish", "ping", "nothing counts"])
def test_sending_against_the_idle_timeout(serve: Serve, how: str) -> None:
    """C-K-05, C-F-07: sending counts with the option; without it the client has to send."""
    closed: list[Any] = []
    held = Held(
        serve,
        close=lambda ws, *end: closed.append(end),
        idle_timeout=0.3,
        reset_idle_timeout_on_send=how != "nothing counts",
    )
    client, ws = held.connect()
    with client:
        ws.subscribe("topic")
        sent = 0
        while not closed and sent < 30:
            if how == "publish":
                held.app.publish("topic", "a")
            elif how == "ping":
                ws.send("a", OpCode.PING)
            else:
                ws.send("a")
            sent += 1
            time.sleep(0.02)
        if how == "nothing counts":
            assert 5 < sent < 30
        else:
            assert closed == []
            until(lambda: closed, "the timeout")
    assert closed == [(1006, b"WebSocket timed out from inactivity")]


def test_the_end_of_a_client_waits_for_what_it_sent(serve: Serve) -> None:
    """C-C-01, W#1047: waiting messages are handled before the later close."""
    gate = Gate()
    seen: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        if not seen:
            gate.pass_through()
        seen.append(message)

    def close(ws: Any, code: int, reason: Any) -> None:
        seen.append((code, reason))

    client, _ = Held(serve, message=message, close=close, inbound_buffer=1).connect()
    with client:
        client.send(b"".join(frame(BINARY, b"%d" % number) for number in range(100)))
        client.send_close(4000, "bye")
        gate.arrived()
        gate.open()
        assert client.expect_close() == (4000, b"bye")
    until(lambda: len(seen) == 101, "close")
    assert seen == [*(b"%d" % number for number in range(100)), (4000, b"bye")]
