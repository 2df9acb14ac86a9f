"""What callbacks of a WebSocket get, when they are called, and what becomes of their errors.

Rows: A-CALL-11..13, A-APP-19, A-EN-01, A-EN-02, A-WS-01..22, C-K-01..17, C-C-01..11, C-P-09, I-C-12..15, I-C-41,
I-C-42, H-28, H-31, H-32; issues #41, #127, #141, #159, #197.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import uuid
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App, CompressOptions, OpCode, SendStatus, WebSocket
from support import shown, until
from support.lanes import LOOP, TASK, THREAD, each_lane, on, options
from support.ws_client import (
    BINARY,
    CONTINUATION,
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
Events = list[tuple[Any, ...]]


def upgrade(res: Any, req: Any, context: Any) -> None:
    res.upgrade(req.get_header("sec-websocket-key"), None, None, context, "user data")


def recording(events: Events, lane: str, **others: Any) -> dict[str, Any]:
    """A behaviour that notes each call of each callback."""

    def note(name: str) -> Callable[..., object]:
        return on(lane, lambda ws, *arguments: events.append((name, *arguments)))

    slots = ("open", "message", "ping", "pong", "subscription", "close")
    return {name: note(name) for name in slots} | others


# ---- arguments ------------------------------------------------------------------------------------------------------


@each_lane
def test_every_callback_and_its_arguments(serve: Serve, lane: str) -> None:
    """C-K-09..16, #127: each slot takes a function and a coroutine function, with the same arguments."""
    events: Events = []

    def request(res: Any, req: Any, context: Any) -> None:
        events.append(("upgrade", type(res).__name__, type(req).__name__))
        upgrade(res, req, context)

    def opened(ws: Any) -> None:
        events.append(("open", type(ws)))
        ws.subscribe("news")

    behavior = recording(events, lane, upgrade=on(lane, request), open=on(lane, opened))
    with serve(lambda app: app.ws("/", behavior), **options(lane)).websocket() as client:
        until(lambda: len(events) == 3, "upgrade, open and subscription")
        client.send_text("text").send_binary(b"bytes").ping(b"payload")
        assert client.recv_frame() == Frame(True, False, PONG, b"payload")
        client.pong(b"unasked")
        until(lambda: len(events) == 7, "two messages, a ping and a pong")
        client.finish(3210, "reason")
    until(lambda: len(events) == 9, "the end")
    assert events[0] == ("upgrade", "Response", "Request")
    assert events[1:3] == [("open", WebSocket), ("subscription", "news", 1, 0)]
    assert events[3:7] == [
        ("message", "text", OpCode.TEXT),
        ("message", b"bytes", OpCode.BINARY),
        ("ping", b"payload"),
        ("pong", b"unasked"),
    ]
    assert events[7:] == [("subscription", "news", 0, 1), ("close", 3210, b"reason")]
    for event in events[3:5]:
        assert isinstance(event[2], OpCode)
    assert all(type(count) is int for count in events[2][2:])


@each_lane
def test_empty_ones(serve: Serve, lane: str) -> None:
    """C-K-11, C-K-13, C-K-14, C-K-15: empty is not None, except without a value."""
    events: Events = []
    running = serve(lambda app: app.ws("/", recording(events, lane)), **options(lane))
    with running.websocket() as client:
        client.send_text("").send_binary(b"").ping(b"").pong(b"")
        assert client.recv_frame() == Frame(True, False, PONG, b"")
        assert client.finish(1000) == (1000, b"")
    until(lambda: len(events) == 6, "six callbacks")
    expected: Events = [
        ("open",),
        ("message", "", OpCode.TEXT),
        ("message", b"", OpCode.BINARY),
        ("ping", b""),
        ("pong", b""),
        ("close", 1000, b""),
    ]
    assert events == expected
    assert [type(event[1]) for event in events[1:5]] == [str, bytes, bytes, bytes]


def test_a_behaviour_without_callbacks(serve: Serve) -> None:
    """C-K-09..16: none is needed."""
    with serve(lambda app: app.ws("/", {})).websocket() as client:
        client.send_text("a").send_binary(b"b").ping(b"c")
        assert client.recv_frame() == Frame(True, False, PONG, b"c")
        assert client.finish(1000, "bye") == (1000, b"bye")


@each_lane
def test_messages_in_their_order(serve: Serve, lane: str) -> None:
    """A-CALL-03: callbacks of one socket start in the order its frames arrived, in one segment or in many."""
    seen: list[Any] = []

    def opened(ws: Any) -> None:
        seen.append("open")

    behavior = {
        "open": on(lane, opened),
        "message": on(lane, lambda ws, message, opcode: seen.append(int(message))),
        "close": on(lane, lambda ws, code, message: seen.append("close")),
    }
    with serve(lambda app: app.ws("/", behavior), **options(lane)).websocket() as client:
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(500)))
        for number in range(500, 600):
            client.send_text(str(number))
        client.finish()
    until(lambda: len(seen) == 602, "everything to arrive")
    assert seen == ["open", *range(600), "close"]


# ---- the object -----------------------------------------------------------------------------------------------------


@each_lane
def test_one_object_per_connection(serve: Serve, lane: str) -> None:
    """A-CALL-11: the same in every callback, with its attributes; it can be a key."""
    seen: list[Any] = []

    def opened(ws: Any) -> None:
        ws.count = 0
        seen.append(ws)
        ws.subscribe("topic")

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.count += 1
        seen.append(ws)
        ws.send(str(ws.count), OpCode.TEXT)

    def later(ws: Any, *arguments: Any) -> None:
        seen.append(ws)

    behavior = {name: on(lane, later) for name in ("ping", "pong", "close", "subscription")}
    behavior |= {"open": on(lane, opened), "message": on(lane, message)}
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    with running.websocket() as client, running.websocket() as another:
        for number in range(1, 4):
            assert client.send_text("a").recv_message() == str(number)
        assert another.send_text("a").recv_message() == "1"
        client.ping().recv_frame()
        client.pong().finish()
        another.finish()
    # Both: open, subscribe, unsubscribe, close; four messages, a ping and a pong.
    until(lambda: len(seen) == 14, "every callback")
    assert len({id(ws) for ws in seen}) == 2
    assert len(set(seen)) == 2
    assert sorted(ws.count for ws in set(seen)) == [1, 3]


def test_a_clone_is_another_object(serve: Serve) -> None:
    """A-WS-20, A-CALL-11: for the same connection."""
    clones: list[Any] = []

    def opened(ws: Any) -> None:
        clones.extend([ws, ws.clone()])

    behavior = {"upgrade": upgrade, "open": opened}
    with serve(lambda app: app.ws("/", behavior)).websocket() as client:
        until(lambda: len(clones) == 2, "open")
        ws, clone = clones
        assert clone is not ws
        assert isinstance(clone, WebSocket)
        assert clone.get_user_data() == "user data"
        assert clone.app is ws.app
        clone.send("from the clone", OpCode.TEXT)
        assert client.recv_message() == "from the clone"
        assert clone.subscribe("topic")
        assert ws.is_subscribed("topic")


def test_what_a_connection_knows(serve: Serve) -> None:
    """A-WS-10, A-WS-11, A-WS-19, A-WS-21."""
    seen: list[Any] = []

    def opened(ws: Any) -> None:
        seen.append((ws.app, ws.get_user_data(), ws.get_user_data_uuid(), ws.get_user_data_uuid()))
        seen.append((ws.get_remote_address(), ws.get_remote_address_bytes(), ws.get_buffered_amount()))

    running = serve(lambda app: app.ws("/", {"upgrade": upgrade, "open": opened}))
    with running.websocket(), running.websocket():
        until(lambda: len(seen) == 4, "two openings")
    (app, data, first, again), addresses, (_, _, second, _), _ = seen
    assert app is running.app
    assert data == "user data"
    assert isinstance(first, uuid.UUID)
    assert first == again
    assert first != second
    assert addresses == ("127.0.0.1", b"\x7f\0\0\1", 0)


def test_a_connection_is_forgotten(serve: Serve) -> None:
    """I-C-41: after the close nothing holds the object or its user data, with and without a close callback."""

    class Data:
        pass

    found: list[weakref.ref[Any]] = []

    def give(res: Any, req: Any, context: Any) -> None:
        data = Data()
        found.append(weakref.ref(data))
        res.upgrade(req.get_header("sec-websocket-key"), None, None, context, data)

    def configure(app: App) -> None:
        app.ws("/without", {"upgrade": give, "open": lambda ws: ws.send("a")})
        app.ws(
            "/with", {"upgrade": give, "open": lambda ws: ws.send("a"), "close": lambda ws, code, why: None}
        )

    running = serve(configure)
    for path in ("/with", "/without"):
        for leave in ("finish", "abort"):
            with running.websocket(path) as client:
                client.recv_message()
                getattr(client, leave)()
    until(lambda: gc.collect() >= 0 and all(reference() is None for reference in found), "nothing is held")
    assert len(found) == 4


# ---- sending --------------------------------------------------------------------------------------------------------

SENT = [
    (("text", OpCode.TEXT), (TEXT, b"text")),
    (("text",), (BINARY, b"text")),
    ((b"bytes",), (BINARY, b"bytes")),
    ((bytearray(b"array"), OpCode.BINARY), (BINARY, b"array")),
    ((memoryview(b"view"), OpCode.TEXT), (TEXT, b"view")),
    (("\N{SNOWMAN}", OpCode.TEXT), (TEXT, b"\xe2\x98\x83")),
    (({"a": [1, None]}, OpCode.TEXT), (TEXT, b'{"a":[1,null]}')),
    ((7, OpCode.TEXT), (TEXT, b"7")),
    ((None, OpCode.TEXT), (TEXT, b"")),
    (("",), (BINARY, b"")),
    (("number", 1), (TEXT, b"number")),
]


@each_lane
@pytest.mark.parametrize("method", ["send", "cork_send"])
def test_send(serve: Serve, lane: str, method: str) -> None:
    """A-WS-01, A-WS-02, A-EN-01: the result of each kind of message; the opcode is BINARY by default."""
    results: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        for arguments, _ in SENT:
            result = getattr(ws, method)(*arguments)
            results.append(result is ws if method == "cork_send" else result)

    running = serve(lambda app: app.ws("/", {"message": on(lane, message)}), **options(lane))
    with running.websocket() as client:
        client.send_text("go")
        for _, (opcode, payload) in SENT:
            found = client.recv_data()
            assert (found[0], found[1].replace(b" ", b"")) == (opcode, payload)
    expected = True if method == "cork_send" else SendStatus.SUCCESS
    until(lambda: len(results) == len(SENT), "the callback to end")
    assert results == [expected] * len(SENT)


def test_sent_in_pieces(serve: Serve) -> None:
    """A-WS-03..05, C-F-11: first, middle and last; and ``fin`` of send. All of them return a SendStatus."""
    results: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        results.append(ws.send_first_fragment("one", OpCode.TEXT))
        results.append(ws.send_fragment("two"))
        results.append(ws.send_fragment(None))
        results.append(ws.send_last_fragment(b"three"))
        results.append(ws.send("again", OpCode.TEXT, False, False))
        results.append(ws.send_last_fragment(""))

    with serve(lambda app: app.ws("/", {"message": message})).websocket() as client:
        client.send_text("go")
        assert [client.recv_frame() for _ in range(6)] == [
            Frame(False, False, TEXT, b"one"),
            Frame(False, False, CONTINUATION, b"two"),
            Frame(False, False, CONTINUATION, b""),
            Frame(True, False, CONTINUATION, b"three"),
            Frame(False, False, TEXT, b"again"),
            Frame(True, False, CONTINUATION, b""),
        ]
    until(lambda: len(results) == 6, "the callback to end")
    assert results == [SendStatus.SUCCESS] * 6


def test_pings_and_pongs_of_the_application(serve: Serve) -> None:
    """A-WS-22: a ping is sent with send; a payload too large for a control frame is refused."""
    results: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send("are you there", OpCode.PING)
        ws.send(b"x" * 125, OpCode.PONG)
        try:
            results.append(ws.send(b"x" * 126, OpCode.PING))
        except ValueError as error:
            results.append(error)
        ws.send("after", OpCode.TEXT)

    with serve(lambda app: app.ws("/", {"message": message})).websocket() as client:
        client.send_text("go")
        assert client.recv_frame() == Frame(True, False, PING, b"are you there")
        assert client.recv_frame() == Frame(True, False, PONG, b"x" * 125)
        assert client.recv_message() == "after"
    (result,) = results
    assert result == SendStatus.DROPPED or isinstance(result, ValueError)


@each_lane
def test_cork(serve: Serve, lane: str) -> None:
    """A-WS-09: runs at once with the socket; an error in it does not end the connection."""
    seen: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.cork(
            lambda corked: (
                seen.append(corked is ws),
                corked.send("a", OpCode.TEXT),
                corked.send("b", OpCode.TEXT),
            )
        )
        seen.append("after")

    running = serve(lambda app: app.ws("/", {"message": on(lane, message)}), **options(lane))
    with running.websocket() as client:
        client.send_text("go")
        assert [client.recv_message(), client.recv_message()] == ["a", "b"]
    until(lambda: "after" in seen, "the callback to end")
    assert seen == [True, "after"]


def test_backpressure_and_drain(serve: Serve) -> None:
    """C-K-03, C-K-12, C-F-08, C-F-09, A-WS-12, I-A-01, #159: a slow reader causes backpressure, and drain
    comes when it has read."""
    statuses: list[SendStatus] = []
    buffered: list[int] = []
    drained = threading.Event()

    def message(ws: Any, message: Any, opcode: Any) -> None:
        while len(statuses) < 10_000:
            statuses.append(ws.send(len(statuses).to_bytes(4, "big") * 4096))
            if statuses[-1] == SendStatus.DROPPED:
                break
        buffered.append(ws.get_buffered_amount())

    def drain(ws: Any) -> None:
        if ws.get_buffered_amount() == 0 and not drained.is_set():
            drained.set()
            ws.send("drained", OpCode.TEXT)

    behavior = {"message": message, "drain": drain, "max_backpressure": 100_000}
    with serve(lambda app: app.ws("/", behavior)).websocket(receive_buffer=4096) as client:
        client.send_text("go")
        until(lambda: buffered, "the buffer to be full")
        assert statuses[0] == SendStatus.SUCCESS
        assert statuses[-1] == SendStatus.DROPPED
        assert SendStatus.BACKPRESSURE in statuses
        assert all(type(status) is SendStatus for status in statuses)
        assert 100_000 < buffered[0] < 100_000 + 2 * 16_400, "one message may overshoot"
        # Everything that was not dropped arrives, in its order.
        for number, status in enumerate(statuses):
            if status != SendStatus.DROPPED:
                assert client.recv_message() == number.to_bytes(4, "big") * 4096
        assert client.recv_message() == "drained"


@pytest.mark.parametrize("last", ["ping", "end"])
def test_control_frames_pass_a_full_buffer(serve: Serve, last: str) -> None:
    """W PR#1876, C-K-03: pong and close are not dropped when messages are; they follow the queued
    messages."""
    sent: list[int] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        while ws.send(b"x" * 16_384) != SendStatus.DROPPED:
            sent.append(1)
        if last == "end":
            ws.end(1000, "full")
        sent.append(0)

    behavior = {"message": message, "max_backpressure": 50_000}
    with serve(lambda app: app.ws("/", behavior)).websocket(receive_buffer=4096) as client:
        client.send_text("go")
        until(lambda: 0 in sent, "the buffer to be full")
        client.ping(b"still there")
        for _ in range(len(sent) - 1):
            assert client.recv_data() == (BINARY, b"x" * 16_384)
        if last == "end":
            assert client.expect_close_frame() == (1000, b"full")
        else:
            assert client.recv_frame() == Frame(True, False, PONG, b"still there")


def test_a_reader_that_stops_holds_up_nobody(serve: Serve) -> None:
    """G#862: while one client reads nothing, the others are answered, and its buffered output is bounded."""
    sockets: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        if message == "flood me":
            sockets.append(ws)
            while ws.send(b"x" * 16_384) != SendStatus.DROPPED:
                pass
        ws.send(message, opcode)

    running = serve(lambda app: app.ws("/", {"message": message, "max_backpressure": 100_000}))
    with running.websocket(receive_buffer=4096) as stopped, running.websocket() as client:
        stopped.send_text("flood me")
        until(lambda: sockets, "the flood")
        for number in range(500):
            assert client.send_text(str(number)).recv_message() == str(number)
        assert sockets[0].get_buffered_amount() < 150_000


@pytest.mark.parametrize("method", ["cork", "for_each_topic"])
def test_coroutine_functions_are_refused(serve: Serve, method: str, caplog: pytest.LogCaptureFixture) -> None:
    """A-CALL-14: where a callback has to be plain, an async one is not called, and the log has an error."""
    called: list[Any] = []

    async def callback(argument: Any) -> None:
        called.append(argument)

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.subscribe("topic")
        getattr(ws, method)(callback)
        ws.send("after", OpCode.TEXT)

    with serve(lambda app: app.ws("/", {"message": message})).websocket() as client:
        assert client.send_text("go").recv_message() == "after"
    assert called == []
    assert method in caplog.text


def test_topics(serve: Serve) -> None:
    """A-WS-13..18, I-A-10: bytes and text name the same topic, others none; topics may change while they are looked at."""
    seen: dict[str, Any] = {}

    def message(ws: Any, message: Any, opcode: Any) -> None:
        seen["subscribe"] = [ws.subscribe(topic) for topic in ("a", b"b", "a", "", 7, None)]
        seen["is"] = [ws.is_subscribed(topic) for topic in (b"a", "b", "", "c", 7)]
        seen["topics"] = sorted(ws.get_topics())
        each: list[str] = []

        def leave(topic: str) -> None:
            each.append(topic)
            ws.unsubscribe(topic)
            ws.subscribe(f"after {topic}")

        ws.for_each_topic(leave)
        seen["each"] = sorted(each)
        seen["after"] = sorted(ws.get_topics())
        seen["unsubscribe"] = [ws.unsubscribe(topic) for topic in (b"after a", "after a", 7)]
        ws.send("done", OpCode.TEXT)

    with serve(lambda app: app.ws("/", {"message": message})).websocket() as client:
        assert client.send_text("go").recv_message() == "done"
    assert seen == {
        "subscribe": [True, True, True, True, False, False],
        "is": [True, True, True, False, False],
        "topics": ["", "a", "b"],
        "each": ["", "a", "b"],
        "after": ["after ", "after a", "after b"],
        "unsubscribe": [True, False, False],
    }


def test_methods_of_the_applications_own(serve: Serve) -> None:
    """A-EXT-01, A-EXT-02, A-APP-13: an extension's members on WebSockets."""

    def extension(request: Any, response: Any, ws: Any) -> None:
        ws.property("count", 40)

        @ws.method
        def shout(self: Any, text: str) -> None:
            self.count += 1
            self.send(f"{text.upper()} {self.count}", OpCode.TEXT)

    def configure(app: App) -> None:
        app.register(extension)
        app.ws("/", {"message": lambda ws, message, opcode: ws.shout(message)})

    with serve(configure).websocket() as client:
        assert [client.send_text("a").recv_message(), client.send_text("b").recv_message()] == [
            "A 41",
            "B 42",
        ]


# ---- closing: the table of C.4 -----------------------------------------------------------------------------------------

LEGAL = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
ILLEGAL = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@each_lane
def test_the_client_closes(serve: Serve, lane: str) -> None:
    """C-C-01, I-A-20: its code and reason reach the callback, and come back to it."""
    events: Events = []
    running = serve(lambda app: app.ws("/", recording(events, lane)), **options(lane))
    for code in LEGAL:
        for reason in (b"", "because \N{SNOWMAN}".encode(), b"x" * 123):
            events.clear()
            with running.websocket() as client:
                assert client.finish(code, reason) == (code, reason)
            until(lambda: len(events) == 2, "open and close")
            assert events == [("open",), ("close", code, reason)]


@each_lane
def test_the_client_closes_without_a_code(serve: Serve, lane: str) -> None:
    """C-C-02: 1005 and None; an empty close frame is answered by one."""
    events: Events = []
    running = serve(lambda app: app.ws("/", recording(events, lane)), **options(lane))
    with running.websocket() as client:
        assert client.finish(None) == (None, b"")
    until(lambda: len(events) == 2, "open and close")
    assert events[1] == ("close", 1005, None)


@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_the_client_closes_with_a_code_that_is_none(serve: Serve, lane: str) -> None:
    """C-C-03: 1006 and None; the close frame is empty, or has the code of a violation."""
    events: Events = []
    running = serve(lambda app: app.ws("/", recording(events, lane)))
    payloads = [close_payload(code, b"reason") for code in ILLEGAL]
    for payload in [*payloads, b"x", close_payload(1000, b"\xff"), close_payload(1000, b"\xe2\x98")]:
        events.clear()
        with running.websocket() as client:
            client.send_frame(8, payload)
            assert client.expect_close()[0] in (None, 1002, 1007), payload
        until(lambda: len(events) == 2, "open and close")
        assert events == [("open",), ("close", 1006, None)], payload


@each_lane
@pytest.mark.parametrize("how", ["abort", "close", "half_close"])
def test_the_connection_is_lost(serve: Serve, lane: str, how: str) -> None:
    """C-C-04: 1006 and None, whether it ends or breaks; also in the middle of a frame and of a message."""
    events: Events = []
    running = serve(lambda app: app.ws("/", recording(events, lane)), **options(lane))
    for unfinished in (b"", frame(TEXT, b"whole")[:7], frame(TEXT, b"a part", fin=False)):
        events.clear()
        with running.websocket() as client:
            until(lambda: events == [("open",)], "open")
            client.send(unfinished)
            getattr(client, how)()
            until(lambda: len(events) == 2, "close")
            if how == "half_close":
                assert client.rest() in (b"", b"\x88\x00", b"\x88\x02\x03\xea")
        assert events == [("open",), ("close", 1006, None)], unfinished


ENDINGS: dict[str, tuple[tuple[Any, ...], tuple[int | None, bytes], tuple[int, bytes | None]]] = {
    "bare": ((), (None, b""), (0, None)),
    "code": ((1000,), (1000, b""), (1000, None)),
    "both": ((4001, "enough"), (4001, b"enough"), (4001, b"enough")),
    "bytes": ((4001, b"enough"), (4001, b"enough"), (4001, b"enough")),
    "snowman": ((1008, "\N{SNOWMAN}"), (1008, b"\xe2\x98\x83"), (1008, b"\xe2\x98\x83")),
}


@each_lane
@pytest.mark.parametrize("method", ["end", "cork_end"])
@pytest.mark.parametrize("name", ENDINGS)
def test_the_server_ends(serve: Serve, lane: str, name: str, method: str) -> None:
    """A-WS-06, A-WS-07, C-C-05, I-C-12, I-C-13: a close frame, then the end; it returns the socket."""
    arguments, wire, told = ENDINGS[name]
    events: Events = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        events.append(("returned", getattr(ws, method)(*arguments) is ws))

    behavior = recording(events, lane, message=on(lane, message))
    with serve(lambda app: app.ws("/", behavior), **options(lane)).websocket() as client:
        client.send_text("end")
        assert client.expect_close_frame() == wire
        client.send_close(wire[0])
        assert client.is_closed()
    until(lambda: len(events) == 3, "open, close and the return")
    assert ("close", *told) in events
    assert ("returned", True) in events


@pytest.mark.parametrize("code", [0, 1005, 1006])
def test_codes_that_are_never_sent(serve: Serve, code: int) -> None:
    """A-WS-06: they stand for a close frame without a payload."""
    with serve(
        lambda app: app.ws("/", {"message": lambda ws, *_: ws.end(code, "reason")})
    ).websocket() as client:
        assert client.send_text("end").expect_close_frame() == (None, b"")


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("x" * 123, 123),
        ("x" * 124, 123),
        ("x" * 1000, 123),
        ("\N{SNOWMAN}" * 42, 123),
        ("x" + "\N{SNOWMAN}" * 41, 121),
    ],
)
def test_a_long_reason_is_cut(serve: Serve, reason: str, sent: int) -> None:
    """A-WS-06: to the size of a close frame, and not within a character."""
    with serve(
        lambda app: app.ws("/", {"message": lambda ws, *_: ws.end(1000, reason)})
    ).websocket() as client:
        assert client.send_text("end").expect_close_frame() == (1000, reason.encode()[:sent])


@pytest.mark.parametrize("arguments", [("1000",), (None,), (1000.5,), (1000, object())], ids=shown)
def test_end_refuses_what_it_cannot_say(serve: Serve, arguments: tuple[Any, ...]) -> None:
    """A-WS-06: a RuntimeError, and the connection stays."""
    seen: list[type] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        try:
            ws.end(*arguments)
        except RuntimeError as error:
            seen.append(type(error))
        ws.send("still open", OpCode.TEXT)

    with serve(lambda app: app.ws("/", {"message": message})).websocket() as client:
        assert client.send_text("end").recv_message() == "still open"
    assert seen == [RuntimeError]


@each_lane
def test_the_server_hangs_up(serve: Serve, lane: str) -> None:
    """A-WS-08, C-C-06, H-31: no close frame, 1006 and None; the second time does nothing."""
    events: Events = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        events.append(("returned", ws.close() is ws, ws.close() is ws))

    behavior = recording(events, lane, message=on(lane, message))
    with serve(lambda app: app.ws("/", behavior), **options(lane)).websocket() as client:
        client.send_text("close")
        assert client.is_dropped()
    until(lambda: len(events) == 3, "open, close and the return")
    assert ("close", 1006, None) in events
    assert ("returned", True, True) in events


@pytest.mark.parametrize("lane", [THREAD, LOOP])
@pytest.mark.parametrize("method", ["end", "close"])
def test_close_is_told_within_the_call(serve: Serve, lane: str, method: str) -> None:
    """C-C-05, C-C-06: a plain close callback has run when end or close returns."""
    events: list[str] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        events.append("before")
        getattr(ws, method)()
        events.append("after")

    behavior = {"message": message, "close": lambda ws, code, reason: events.append("close")}
    with serve(lambda app: app.ws("/", behavior), **options(lane)).websocket() as client:
        client.send_text("go")
        until(lambda: len(events) == 3, "all of it")
    assert events == ["before", "close", "after"]


@each_lane
@pytest.mark.parametrize("method", ["end", "close"])
@pytest.mark.parametrize("slot", ["open", "message", "ping", "pong", "subscription", "close"])
def test_ending_in_any_callback(serve: Serve, lane: str, method: str, slot: str) -> None:
    """S#41, C-C-11: once or twice, in every one of them; close is called exactly once, and the next client is
    served."""
    events: list[str] = []

    def leave(ws: Any, *arguments: Any) -> None:
        if slot == "close":
            events.append("close")
        getattr(ws, method)()
        getattr(ws, method)()
        ws.end(4000, "again")
        ws.close()

    def opened(ws: Any) -> None:
        ws.subscribe("topic")

    behavior: dict[str, Any] = {
        "open": on(lane, opened),
        "close": on(lane, lambda ws, code, reason: events.append("close")),
        slot: on(lane, leave),
    }
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    for _ in range(3):
        events.clear()
        # All at once, for it may be over before the 101 has left.
        with WebSocketClient(running.port) as client:
            client.send(handshake() + frame(TEXT, b"a") + frame(PING, b"") + frame(PONG, b""))
            client.send_close().rest()
        until(lambda: events, "close")
        with running.client() as another:
            assert another.get("/nothing").status == 404
        assert events == ["close"]


def test_after_the_end_nothing_is_told(serve: Serve) -> None:
    """C-F-12: messages that arrive after end are ignored."""
    events: Events = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        events.append(("message", message))
        ws.end(1000, "enough")

    behavior = recording(events, THREAD, message=message)
    with serve(lambda app: app.ws("/", behavior)).websocket() as client:
        client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(5)) + frame(PING, b"p"))
        # Pings are answered when they come, whatever callbacks do.
        assert client.recv_frame() == Frame(True, False, PONG, b"p")
        assert client.expect_close_frame() == (1000, b"enough")
        client.send_text("more").send_close(1000)
        assert client.is_closed()
    assert events == [("open",), ("message", "0"), ("close", 1000, b"enough")]


@each_lane
def test_the_order_at_the_end(serve: Serve, lane: str) -> None:
    """C-C-09, C-C-10, C-P-09, H-32: first each topic, then close, when none is left and the user data still is there."""
    events: Events = []

    def opened(ws: Any) -> None:
        for topic in ("a", "b"):
            assert ws.subscribe(topic)
            assert ws.subscribe(topic), "again, and nobody is told"

    def changed(ws: Any, topic: str, count: int, before: int) -> None:
        events.append((topic, count, before, ws.get_user_data()))

    def closed(ws: Any, code: int, message: Any) -> None:
        events.append(("close", code, ws.get_user_data(), ws.get_topics(), ws.is_subscribed("a")))

    behavior = {
        "upgrade": on(lane, upgrade),
        "open": on(lane, opened),
        "subscription": on(lane, changed),
        "close": on(lane, closed),
    }
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    with running.websocket() as client:
        until(lambda: len(events) == 2, "both subscriptions")
        client.finish()
    until(lambda: len(events) == 5, "the end")
    assert events[:2] == [("a", 1, 0, "user data"), ("b", 1, 0, "user data")]
    assert sorted(events[2:4]) == [("a", 0, 1, "user data"), ("b", 0, 1, "user data")]
    assert events[4] == ("close", 1000, "user data", [], False)
    assert running.app.num_subscribers("a") == 0


def test_subscription_counts_sockets(serve: Serve) -> None:
    """C-K-16, C-P-09, H-32: the new count and the old one, on every change and only then."""
    events: Events = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send({"result": {"+": ws.subscribe, "-": ws.unsubscribe}[message]("topic")}, OpCode.TEXT)

    behavior = {"message": message, "subscription": lambda ws, *change: events.append(change)}
    running = serve(lambda app: app.ws("/", behavior))
    with running.websocket() as first, running.websocket() as second:
        for client, sign, result in [
            (first, "+", True),
            (second, "+", True),
            (second, "+", True),
            (first, "-", True),
            (first, "-", False),
            (first, "+", True),
        ]:
            answer = client.send_text(sign).recv_message()
            assert answer.replace(" ", "") == f'{{"result":{str(result).lower()}}}'
        second.abort()
        until(lambda: len(events) == 5, "the one that vanished")
    until(lambda: len(events) == 6, "the last one")
    assert events == [("topic", *counts) for counts in [(1, 0), (2, 1), (1, 2), (2, 1), (1, 2), (0, 1)]]


def test_publish_reaches_the_publisher(serve: Serve) -> None:
    """DEC-1, A-WS-16, C-P-03: all subscribers, and True if there is one."""
    results: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        if message == "join":
            ws.send(str(ws.subscribe("news")), OpCode.TEXT)
        else:
            results.append((ws.publish("news", message, OpCode.TEXT), ws.publish("nobody", message)))

    running = serve(lambda app: app.ws("/", {"message": message}))
    with running.websocket() as first, running.websocket() as second, running.websocket() as stranger:
        for client in (first, second):
            assert client.send_text("join").recv_message() == "True"
        for client in (first, stranger):
            client.send_text("hello")
            assert [first.recv_message(), second.recv_message()] == ["hello", "hello"]
        assert running.app.num_subscribers("news") == 2
        assert running.app.publish("news", {"from": "outside"}, OpCode.TEXT)
        assert second.recv_message().replace(" ", "") == '{"from":"outside"}'
        assert stranger.ping(b"nothing for me").recv_frame() == Frame(True, False, PONG, b"nothing for me")
    until(lambda: len(results) == 2, "both callbacks to end")
    assert results == [(True, False), (True, False)]


# ---- after the close --------------------------------------------------------------------------------------------------

NEUTRAL: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "send": (lambda ws: ws.send("a"), SendStatus.DROPPED),
    "cork_send": (lambda ws: ws.cork_send("a") is ws, True),
    "send_first_fragment": (lambda ws: ws.send_first_fragment("a"), SendStatus.DROPPED),
    "send_fragment": (lambda ws: ws.send_fragment("a"), SendStatus.DROPPED),
    "send_last_fragment": (lambda ws: ws.send_last_fragment("a"), SendStatus.DROPPED),
    "end": (lambda ws: ws.end(1000, "a") is ws, True),
    "cork_end": (lambda ws: ws.cork_end(1000, "a") is ws, True),
    "close": (lambda ws: ws.close() is ws, True),
    "get_user_data": (lambda ws: ws.get_user_data(), "user data"),
    "get_buffered_amount": (lambda ws: ws.get_buffered_amount(), 0),
    "subscribe": (lambda ws: ws.subscribe("a"), False),
    "unsubscribe": (lambda ws: ws.unsubscribe("a"), False),
    "is_subscribed": (lambda ws: ws.is_subscribed("a"), False),
    "publish": (lambda ws: ws.publish("a", "a"), False),
    "get_topics": (lambda ws: ws.get_topics(), []),
    "for_each_topic": (lambda ws: ws.for_each_topic(print) in (None, ws), True),
    "get_remote_address": (lambda ws: ws.get_remote_address(), None),
    "get_remote_address_bytes": (lambda ws: ws.get_remote_address_bytes(), None),
    "clone": (lambda ws: isinstance(ws.clone(), WebSocket), True),
}


@pytest.mark.parametrize("how", ["abort", "finish", "server end", "server close"])
def test_a_closed_socket_is_harmless(serve: Serve, how: str) -> None:
    """I-C-15, A-WS-*, S#141, S#197, J#539: every method, after an await in which the connection went."""
    entered, closed, done = threading.Event(), threading.Event(), threading.Event()
    results: dict[str, Any] = {}

    async def message(ws: Any, message: Any, opcode: Any) -> None:
        entered.set()
        if how.startswith("server"):
            getattr(ws, how.split()[1])()
        while not closed.is_set():
            await asyncio.sleep(0.001)
        for name, (call, _) in NEUTRAL.items():
            try:
                results[name] = call(ws)
            except Exception as error:
                results[name] = error
        done.set()

    behavior = {"upgrade": upgrade, "message": message, "close": lambda ws, code, reason: closed.set()}
    running = serve(lambda app: app.ws("/", behavior))
    with running.websocket() as client:
        client.send_text("go")
        assert entered.wait(20)
        if how == "server end":
            assert client.expect_close_frame() == (None, b"")
            client.send_close(None)
        elif how == "server close":
            assert client.is_dropped()
        else:
            getattr(client, how)()
        assert done.wait(20)
    assert results == {name: expected for name, (_, expected) in NEUTRAL.items()}


@each_lane
def test_methods_in_the_close_callback(serve: Serve, lane: str) -> None:
    """C-C-10, I-C-42: the same neutral values inside it, in a plain one and in a coroutine."""
    results: dict[str, Any] = {}

    def closed(ws: Any, code: int, reason: Any) -> None:
        for name, (call, _) in NEUTRAL.items():
            if not name.startswith("get_remote_address"):
                results[name] = call(ws)
        results["done"] = True

    behavior = {"upgrade": upgrade, "close": on(lane, closed)}
    with serve(lambda app: app.ws("/", behavior), **options(lane)).websocket() as client:
        client.abort()
    until(lambda: "done" in results, "close")
    del results["done"]
    expected = {
        name: value for name, (_, value) in NEUTRAL.items() if not name.startswith("get_remote_address")
    }
    assert results == expected


# ---- errors ---------------------------------------------------------------------------------------------------------


class Failure(Exception):
    """What callbacks of these tests raise."""


def failing(lane: str, slot: str, others: dict[str, Any]) -> dict[str, Any]:
    """A behaviour whose ``slot`` fails; its message callback answers if it is another."""

    def fail(ws: Any, *arguments: Any) -> None:
        raise Failure(f"in {slot}")

    def opened(ws: Any) -> None:
        ws.subscribe("topic")

    def echo(ws: Any, message: Any, opcode: Any) -> None:
        ws.send("fine", OpCode.TEXT)

    return {"open": opened, "message": echo} | others | {slot: on(lane, fail)}


SLOTS = ["open", "message", "ping", "pong", "subscription", "close"]


@each_lane
@pytest.mark.parametrize("slot", SLOTS)
def test_an_error_in_a_callback(serve: Serve, lane: str, slot: str, caplog: pytest.LogCaptureFixture) -> None:
    """A-CALL-12, A-CALL-13: plain, it is logged; in a coroutine, the error handler has it. The connection stays open."""
    errors: Events = []

    def configure(app: App) -> None:
        app.set_error_handler(lambda error, res, req: errors.append((error, res, req)))
        app.ws("/", failing(lane, slot, {}))

    with serve(configure, **options(lane)).websocket() as client:
        client.send_text("a").ping(b"b").pong(b"c").send_text("d").ping(b"e")
        frames = [client.recv_frame() for _ in range(2 if slot == "message" else 4)]
        assert [found.payload for found in frames if found.opcode == PONG] == [b"b", b"e"]
        assert [found.payload for found in frames if found.opcode == TEXT] == [b"fine"] * (len(frames) - 2)
        assert client.finish(1000) == (1000, b"")
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    times = {"message": 2, "ping": 2, "subscription": 2 if slot == "subscription" else 0}.get(slot, 1)
    if lane in (THREAD, LOOP):
        until(
            lambda: caplog.text.count(f"Uncaught Exception: in {slot}") >= times,
            f"the log: {caplog.text}",
        )
        assert errors == []
    else:
        until(lambda: len(errors) >= times, "the error handler")
        assert [(type(error), res, req) for error, res, req in errors] == [(Failure, None, None)] * times
        assert logged == []


def test_an_error_in_a_coroutine_without_an_error_handler(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A-CALL-13, D-08: it is logged."""
    with serve(lambda app: app.ws("/", failing(TASK, "message", {}))).websocket() as client:
        client.send_text("a")
        until(lambda: "in message" in caplog.text, "the log")
        assert client.ping(b"still here").recv_frame() == Frame(True, False, PONG, b"still here")


# ---- the behaviour --------------------------------------------------------------------------------------------------


def test_ws_returns_the_app() -> None:
    """A-APP-19, A-CALL-15."""
    app = App()
    assert app.ws("/", {}).ws("/*", {"message": print}) is app
    app.dispose()


@pytest.mark.parametrize("behavior", [None, 7, "message", [], print], ids=shown)
def test_a_behaviour_that_is_none(behavior: Any) -> None:
    """A-APP-19."""
    app = App()
    with pytest.raises((RuntimeError, TypeError)):
        app.ws("/", behavior)
    app.dispose()


@pytest.mark.parametrize("key", ["massage", "on_message", "", "Message", "idleTimeout"])
def test_an_unknown_key(key: str) -> None:
    """C-K-17: a misspelt callback would never be called: the error names it."""
    app = App()
    with pytest.raises((TypeError, ValueError), match=repr(key)):
        app.ws("/", {key: print})
    app.dispose()


CALLBACKS = ["upgrade", "open", "message", "drain", "ping", "pong", "close", "subscription"]
NUMBERS = ["max_payload_length", "idle_timeout", "max_backpressure", "max_lifetime", "compression"]


@pytest.mark.parametrize("key", CALLBACKS)
@pytest.mark.parametrize("value", [7, "print", {}], ids=repr)
def test_a_callback_that_cannot_be_called(key: str, value: Any) -> None:
    """C-K-09..16: the error names the key."""
    app = App()
    with pytest.raises(TypeError, match=key):
        app.ws("/", {key: value})
    app.dispose()


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", ["16", [], object(), "x"], ids=lambda value: type(value).__name__)
def test_a_number_that_is_none(key: str, value: Any) -> None:
    """C-K-01..08: the error names the key."""
    app = App()
    with pytest.raises(TypeError, match=key):
        app.ws("/", {key: value})
    app.dispose()


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [-1, 10**400], ids=["negative", "huge"])
def test_a_number_out_of_range(key: str, value: int) -> None:
    """I-A-06: no limit is negative or beyond all measure; the error names the key."""
    app = App()
    with pytest.raises(ValueError, match=key):
        app.ws("/", {key: value})
    app.dispose()


@pytest.mark.parametrize("key", ["idle_timeout", "max_lifetime"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e20, -0.1])
def test_a_time_out_of_range(key: str, value: float) -> None:
    """C-K-02, C-K-07: fractions are fine, but not every float; the error names the key and the route."""
    app = App()
    with pytest.raises(ValueError, match=f"{key}.*'/here'"):
        app.ws("/here", {key: value})
    app.dispose()


@pytest.mark.parametrize(
    "behavior",
    [
        dict.fromkeys(CALLBACKS),
        {"idle_timeout": 0},
        {"idle_timeout": 1},
        {"idle_timeout": 7},
        {"idle_timeout": 961},
        {"idle_timeout": 1800},
        {"max_lifetime": 241},
        {"max_backpressure": 0},
        {"max_payload_length": 1 << 30},
        {"compression": CompressOptions.SHARED_COMPRESSOR},
        {"compression": CompressOptions.DEDICATED_COMPRESSOR_4KB | CompressOptions.SHARED_DECOMPRESSOR},
        {"compression": int(CompressOptions.DEDICATED_COMPRESSOR)},
        {
            "close_on_backpressure_limit": 1,
            "reset_idle_timeout_on_send": True,
            "send_pings_automatically": False,
        },
    ],
    ids=str,
)
def test_behaviours_that_are_fine(serve: Serve, behavior: dict[str, Any]) -> None:
    """C-K-01..08, I-A-06, H-35: values that ended the process of the original; None is as good as absent."""
    with serve(lambda app: app.ws("/", behavior)).websocket() as client:
        assert client.ping(b"a").recv_frame() == Frame(True, False, PONG, b"a")


def test_the_behaviour_is_read_once(serve: Serve) -> None:
    """What happens to the dictionary later changes nothing."""
    behavior: dict[str, Any] = {"message": lambda ws, message, opcode: ws.send("first", OpCode.TEXT)}

    def configure(app: App) -> None:
        app.ws("/", behavior)
        behavior["message"] = None
        behavior.clear()

    with serve(configure).websocket() as client:
        assert client.send_text("a").recv_message() == "first"
