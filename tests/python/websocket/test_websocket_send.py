"""The messages and results of a WebSocket's methods: messages, fragments, corks, closing, compression.

Rows: A-WS-01..12, A-WS-19..22, A-CALL-10, A-CALL-16, A-EN-01..03, C-F-08, C-F-10..13, C-N-01..08, I-A-19, I-C-12..16,
DEC-4; design.md "Threads"; issues #141, #197, J#633, J#422.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import struct
import sys
import threading
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import App, CompressOptions, OpCode, SendStatus, WebSocket
from support import shown, until
from support.lanes import each_lane, on, options
from support.ws_client import (
    BINARY,
    CLOSE,
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
from support.ws_server import OFFER, Deflate, Held, fill, parts

Serve = Callable[..., Any]

DEDICATED = int(CompressOptions.DEDICATED_COMPRESSOR) | int(CompressOptions.DEDICATED_DECOMPRESSOR)


def in_threads(count: int, act: Callable[[int], object]) -> None:
    """Runs ``act(number)`` in so many threads at once; an exception in one of them fails the test."""
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            start.wait(20)
            act(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a call does not return"
    if errors:
        raise errors[0]


# ---- messages -------------------------------------------------------------------------------------------------------


class BytesSerializer:
    """Serializers such as orjson give bytes."""

    @staticmethod
    def dumps(value: object) -> bytes:
        return b"bytes:" + json.dumps(value, separators=(",", ":")).encode()

    loads = staticmethod(json.loads)


MESSAGES: dict[str, tuple[Any, bytes]] = {
    "str": ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", b"caf\xc3\xa9"),
    "bytes": (b"abc", b"abc"),
    "bytearray": (bytearray(b"abc"), b"abc"),
    "memoryview": (memoryview(b"abc"), b"abc"),
    "every second byte": (memoryview(b"a-b-c-")[::2], b"abc"),
    "words": (memoryview(struct.pack("2H", 0x6161, 0x6262)).cast("H"), b"aabb"),
    "None": (None, b""),
    "dict": ({"a": [1, 2.5, None, True]}, b'{"a":[1,2.5,null,true]}'),
    "list": ([1, "b"], b'[1,"b"]'),
    "number": (1.5, b"1.5"),
    "True": (True, b"true"),
    "set": ({7}, b"[7]"),
    "frozenset within": ({"a": frozenset({7})}, b'{"a":[7]}'),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_of_every_type_from_a_foreign_thread(serve: Serve, name: str) -> None:
    """A-WS-01..05, A-CALL-16, DEC-4: the same bytes from every method."""
    message, expected = MESSAGES[name]
    client, ws = Held(serve).connect()
    with client:
        assert ws.send(message) is SendStatus.SUCCESS
        assert ws.cork_send(message, OpCode.TEXT) is ws
        assert ws.send_first_fragment(message) is SendStatus.SUCCESS
        assert ws.send_fragment(message) is SendStatus.SUCCESS
        assert ws.send_last_fragment(message) is SendStatus.SUCCESS
        found = [client.recv_frame() for _ in range(5)]
    assert [item.opcode for item in found] == [BINARY, TEXT, BINARY, CONTINUATION, CONTINUATION]
    for item in found:
        assert item.payload.replace(b" ", b"") == expected


def test_a_serializer_that_gives_bytes(serve: Serve) -> None:
    """A-APP-15: for send, publish and fragments."""
    held = Held(serve, configure=lambda app: app.json_serializer(BytesSerializer))
    client, ws = held.connect()
    with client:
        ws.subscribe("topic")
        assert ws.send({"a": 1}, OpCode.TEXT) is SendStatus.SUCCESS
        assert held.app.publish("topic", {"b": 2}, OpCode.TEXT)
        ws.send_first_fragment({"c": 3}, OpCode.TEXT)
        ws.send_last_fragment([])
        assert client.recv_message() == 'bytes:{"a":1}'
        assert client.recv_message() == 'bytes:{"b":2}'
        assert client.recv_message() == 'bytes:{"c":3}bytes:[]'


WRONG: dict[str, tuple[Callable[[Any], object], type[Exception]]] = {
    "object": (lambda ws: ws.send(object()), TypeError),
    "cork_send object": (lambda ws: ws.cork_send(object()), TypeError),
    "fragment object": (lambda ws: ws.send_first_fragment(object()), TypeError),
    "half a pair": (lambda ws: ws.send("\ud800"), ValueError),
    "TEXT that is none": (lambda ws: ws.send(b"\xff", OpCode.TEXT), ValueError),
    "CLOSE": (lambda ws: ws.send("", OpCode.CLOSE), ValueError),
    "3": (lambda ws: ws.send("", 3), ValueError),
    "15": (lambda ws: ws.send("", 15), ValueError),
    "258": (lambda ws: ws.send("", 258), ValueError),
    "-1": (lambda ws: ws.send("", -1), ValueError),
    "name": (lambda ws: ws.send("", "TEXT"), ValueError),
    "long ping": (lambda ws: ws.send(b"x" * 126, OpCode.PING), ValueError),
    "long pong": (lambda ws: ws.cork_send(b"x" * 126, OpCode.PONG), ValueError),
    "ping in pieces": (lambda ws: ws.send_first_fragment("", OpCode.PING), ValueError),
    "fragment of nothing": (lambda ws: ws.send_fragment("a"), RuntimeError),
    "last of nothing": (lambda ws: ws.send_last_fragment("a"), RuntimeError),
    "continuation of nothing": (lambda ws: ws.send("a", OpCode.CONTINUATION), RuntimeError),
    "no message": (lambda ws: ws.send(), TypeError),
    "publish a ping": (lambda ws: ws.publish("topic", "", OpCode.PING), ValueError),
    "publish a continuation": (lambda ws: ws.publish("topic", "", OpCode.CONTINUATION), ValueError),
    "publish object": (lambda ws: ws.publish("topic", object()), TypeError),
}


def test_what_cannot_be_sent(serve: Serve) -> None:
    """A-WS-01, A-WS-22, I-C-14: it raises, nothing of it leaves, and the socket goes on."""
    client, ws = Held(serve).connect()
    with client:
        ws.subscribe("topic")
        for name, (call, error) in WRONG.items():
            with pytest.raises(error):
                call(ws)
            ws.send(name, OpCode.TEXT)
            assert client.recv_message() == name
        assert client.finish() == (1000, b"")
    until(lambda: ws.closed, "the end")
    # A-CALL-10: an ended socket accepts any message.
    for message in (object(), "\ud800"):
        assert ws.send(message) is SendStatus.DROPPED
    assert ws.send(b"\xff", OpCode.TEXT) is SendStatus.DROPPED
    assert ws.send(b"x" * 126, OpCode.PING) is SendStatus.DROPPED


def test_arguments_by_name(serve: Serve) -> None:
    """A-WS-01..07: as the original calls them; flags count by their truth."""
    client, ws = Held(serve).connect()
    with client:
        ws.send(message="a", opcode=OpCode.TEXT, compress=1, fin="yes")
        ws.cork_send(message="b", opcode=1, compress=None, fin=1)
        ws.send(message="c", opcode=OpCode.TEXT, fin=0)
        ws.send_fragment(message="d", compress=[])
        ws.send_last_fragment(message="e", compress=True)
        assert [client.recv_message() for _ in range(3)] == ["a", "b", "cde"]
        ws.cork_end(code=1001, message="bye")
        assert client.expect_close_frame() == (1001, b"bye")


def test_what_is_sent_is_what_it_was(serve: Serve) -> None:
    """A-WS-01: a buffer that changes after the call has been sent as it was, even when it had to wait."""
    client, ws = Held(serve, max_backpressure=0).slow()
    buffer = bytearray(b"a" * 20_000)
    with client:
        count = 0
        while ws.send(buffer) != SendStatus.BACKPRESSURE:
            count += 1
        ws.send(memoryview(buffer)[:100])
        for place in range(len(buffer)):
            buffer[place] = 0
        for _ in range(count + 1):
            assert client.recv_message() == b"a" * 20_000
        assert client.recv_message() == b"a" * 100


def test_pings_and_pongs_from_anywhere(serve: Serve) -> None:
    """A-WS-22: between the parts of a message too, as RFC 6455 5.4 has it."""
    client, ws = Held(serve).connect()
    with client:
        ws.send_first_fragment("a")
        assert ws.send("ping", OpCode.PING) is SendStatus.SUCCESS
        assert ws.send(None, OpCode.PONG) is SendStatus.SUCCESS
        ws.send_last_fragment("b")
        assert [client.recv_frame() for _ in range(4)] == [
            Frame(False, False, BINARY, b"a"),
            Frame(True, False, PING, b"ping"),
            Frame(True, False, PONG, b""),
            Frame(True, False, CONTINUATION, b"b"),
        ]


def test_threads_that_send_to_one_socket(serve: Serve) -> None:
    """A-CALL-16: no frame is torn and each thread's messages keep their order, small and large ones."""
    client, ws = Held(serve, max_backpressure=0).connect()
    sizes = [1, 125, 126, 5000, 20_000, 300_000]

    def send(number: int) -> None:
        for at in range(60):
            ws.send(bytes([number, at]) * sizes[at % len(sizes)])

    with client:
        sender = threading.Thread(target=in_threads, args=(4, send))
        sender.start()
        seen: dict[int, list[int]] = {}
        for _ in range(240):
            message = client.recv_message()
            assert isinstance(message, bytes)
            number, at = message[:2]
            assert message == bytes([number, at]) * sizes[at % len(sizes)]
            seen.setdefault(number, []).append(at)
        sender.join(20)
    assert seen == {number: list(range(60)) for number in range(4)}


# ---- fragments ------------------------------------------------------------------------------------------------------


def test_nothing_comes_between_the_parts(serve: Serve) -> None:
    """A-WS-05, RFC 6455 5.4: messages sent and published meanwhile wait for the last part, and keep their
    order."""
    held = Held(serve, max_backpressure=0)
    client, ws = held.connect()
    with client:
        ws.subscribe("topic")
        ws.send_first_fragment("one ", OpCode.TEXT)
        statuses = [ws.send("a", OpCode.TEXT)]
        assert held.app.publish("topic", "b", OpCode.TEXT)
        in_threads(1, lambda _: ws.send("c", OpCode.TEXT))
        ws.send_fragment("two ")
        assert held.app.publish("topic", b"d" * 100_000)
        ws.send(b"e" * 100, OpCode.BINARY)
        ws.send_last_fragment("three")
        ws.send("f", OpCode.TEXT)
        assert parts([client.recv_frame() for _ in range(3)]) == b"one two three"
        assert [client.recv_message() for _ in range(6)] == ["a", "b", "c", b"d" * 100_000, b"e" * 100, "f"]
    assert SendStatus.DROPPED not in statuses


def test_one_fragmented_message_at_a_time(serve: Serve) -> None:
    """A-WS-03: a second one raises, and the first can go on."""
    client, ws = Held(serve).connect()
    with client:
        ws.send_first_fragment("one ", OpCode.TEXT)
        with pytest.raises(RuntimeError, match="has not been ended"):
            ws.send_first_fragment("another ")
        with pytest.raises(RuntimeError, match="has not been ended"):
            ws.send("another ", OpCode.TEXT, False, False)
        ws.send_last_fragment("two")
        assert client.recv_message() == "one two"


def test_what_waits_behind_a_fragmented_message_does_not_cut_it(serve: Serve) -> None:
    """C-K-03: a client that reads is not slow because of a publish in the middle of a message."""
    held = Held(serve, max_backpressure=10_000)
    client, ws = held.connect()
    with client:
        ws.subscribe("topic")
        ws.send_first_fragment("one ", OpCode.TEXT)
        for _ in range(20):
            held.app.publish("topic", b"x" * 1000)
        assert ws.dropped > 0, "what waits is bounded"
        received = 20 - ws.dropped
        assert ws.send_fragment("two ") is SendStatus.SUCCESS
        assert ws.send_last_fragment("three") is SendStatus.SUCCESS
        assert client.recv_message() == "one two three"
        for _ in range(received):
            assert client.recv_message() == b"x" * 1000
        assert ws.send("after", OpCode.TEXT) is SendStatus.SUCCESS
        assert client.recv_message() == "after"
        assert ws.get_buffered_amount() == 0


def test_a_fragmented_message_whose_beginning_was_dropped(serve: Serve) -> None:
    """A-WS-03..05: the rest of it is dropped too, and nothing else is."""
    client, ws = Held(serve, max_backpressure=50_000).slow()
    with client:
        count = fill(ws)
        assert ws.send_first_fragment("one") is SendStatus.DROPPED
        for _ in range(count):
            client.recv_message()
        until(lambda: ws.get_buffered_amount() == 0, "the buffer to be empty")
        assert ws.send_fragment("two") is SendStatus.DROPPED
        ws.send("between", OpCode.TEXT)
        assert ws.send_last_fragment("three") is SendStatus.DROPPED
        ws.send("after", OpCode.TEXT)
        assert [client.recv_message(), client.recv_message()] == ["between", "after"]
        with pytest.raises(RuntimeError):
            ws.send_last_fragment("three")


def test_giving_up_a_message_whose_beginning_was_dropped(serve: Serve) -> None:
    """A-WS-03: after DROPPED the rest need not be sent; no part of it is on the wire that others would wait
    for."""
    held = Held(serve, max_backpressure=50_000)
    client, ws = held.slow()
    with client:
        ws.subscribe("topic")
        count = fill(ws)
        assert ws.send_first_fragment("one") is SendStatus.DROPPED
        for _ in range(count):
            client.recv_message()
        until(lambda: ws.get_buffered_amount() == 0, "the buffer to be empty")
        ws.send("two", OpCode.TEXT)
        held.app.publish("topic", "three", OpCode.TEXT)
        assert [client.recv_message(), client.recv_message()] == ["two", "three"]
        assert ws.send_first_fragment("four ", OpCode.TEXT) is SendStatus.SUCCESS
        ws.send_last_fragment("five")
        assert client.recv_message() == "four five"


def test_the_end_within_a_fragmented_message(serve: Serve) -> None:
    """C-F-12: the close frame does not wait for a last part that cannot come any more."""
    client, ws = Held(serve).connect()
    with client:
        ws.send_first_fragment("one ", OpCode.TEXT)
        ws.send("behind it", OpCode.TEXT)
        ws.end(1000, "bye")
        assert ws.send_last_fragment("two") is SendStatus.DROPPED
        assert client.recv_frame() == Frame(False, False, TEXT, b"one ")
        assert client.expect_close_frame() == (1000, b"bye")


def test_threads_that_send_fragments_of_one_socket(serve: Serve) -> None:
    """A-CALL-16: one begins, others send whole messages; the wire is a valid one at every moment."""
    client, ws = Held(serve, max_backpressure=0).connect()

    def send(number: int) -> None:
        for at in range(100):
            if number == 0:
                ws.send_first_fragment(b"%d " % at)
                ws.send_fragment(b"x" * 1000)
                ws.send_last_fragment(b" end")
            else:
                ws.send(f"{number} {at}", OpCode.TEXT)

    with client:
        sender = threading.Thread(target=in_threads, args=(4, send))
        sender.start()
        fragmented: list[bytes] = []
        whole: dict[str, list[int]] = {}
        for _ in range(400):
            message = client.recv_message()
            if isinstance(message, bytes):
                fragmented.append(message)
            else:
                number, at = message.split()
                whole.setdefault(number, []).append(int(at))
        sender.join(20)
    assert fragmented == [b"%d " % at + b"x" * 1000 + b" end" for at in range(100)]
    assert whole == {str(number): list(range(100)) for number in (1, 2, 3)}


# ---- corks ----------------------------------------------------------------------------------------------------------


def segments(client: WebSocketClient) -> int:
    """Segments with data that have come so far: ``tcpi_data_segs_in`` of Linux."""
    info = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    found: int = struct.unpack_from("I", info, 152)[0]
    return found


counts_segments = pytest.mark.skipif(sys.platform != "linux", reason="segments are counted by Linux")


@counts_segments
@each_lane
@pytest.mark.parametrize("corked", [True, False])
def test_a_callback_sends_one_segment(serve: Serve, lane: str, corked: bool) -> None:
    """A-WS-09, design.md: a callback's messages leave in one piece, with a cork and without."""

    def talk(ws: Any) -> None:
        for number in range(20):
            ws.send(str(number), OpCode.TEXT)
            ws.publish("topic", "p", OpCode.TEXT)
            ws.send_first_fragment("f")
            ws.send_last_fragment("l")

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.subscribe("topic")
        if corked:
            ws.cork(talk)
        else:
            talk(ws)

    running = serve(lambda app: app.ws("/", {"message": on(lane, message)}), **options(lane))
    with running.websocket() as client:
        before = segments(client)
        client.send_text("go")
        for number in range(20):
            assert [client.recv_message() for _ in range(3)] == [str(number), "p", b"fl"]
        assert segments(client) == before + 1


@counts_segments
def test_a_cork_in_a_foreign_thread(serve: Serve) -> None:
    """A-WS-09: it holds until the outermost has ended; without one each message leaves by itself."""
    client, ws = Held(serve).connect()
    seen: list[int] = []

    def outer(corked: Any) -> None:
        corked.send("a", OpCode.TEXT)
        assert corked.cork(lambda again: again.send("b", OpCode.TEXT)) is ws
        corked.cork_send("c", OpCode.TEXT)
        seen.append(segments(client))

    with client:
        before = segments(client)
        assert ws.cork(outer) is ws
        assert [client.recv_message() for _ in range(3)] == ["a", "b", "c"]
        assert seen == [before]
        assert segments(client) == before + 1
        for number in range(3):
            ws.send(str(number), OpCode.TEXT)
        assert [client.recv_message() for _ in range(3)] == ["0", "1", "2"]
        assert segments(client) == before + 4


def test_a_cork_is_bounded(serve: Serve) -> None:
    """C-P-05, design.md: a large amount leaves during the cork."""
    client, ws = Held(serve).connect()

    def much(corked: Any) -> None:
        for _ in range(100):
            assert corked.send(b"x" * 1000) is SendStatus.SUCCESS
        assert client.recv_message() == b"x" * 1000

    with client:
        ws.cork(much)
        for _ in range(99):
            assert client.recv_message() == b"x" * 1000


def test_an_error_in_a_cork(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A-WS-09: it is logged, and the earlier messages leave."""
    client, ws = Held(serve).connect()

    def fail(corked: Any) -> None:
        corked.send("before", OpCode.TEXT)
        raise LookupError("in the cork")

    with client:
        assert ws.cork(fail) is ws
        assert client.recv_message() == "before"
        assert "in the cork" in caplog.text
        with pytest.raises(TypeError):
            ws.cork()


def test_corks_and_the_end(serve: Serve) -> None:
    """A-WS-09, A-WS-07: the end within a cork leaves with it; in one after the end nothing does."""
    client, ws = Held(serve).connect()
    called: list[Any] = []
    with client:
        ws.cork(lambda corked: (corked.send("last", OpCode.TEXT), corked.end(1000), corked.send("late")))
        assert client.recv_message() == "last"
        assert client.expect_close_frame() == (1000, b"")
        assert ws.cork(lambda corked: called.append(corked.send("later"))) is ws
        assert called in ([], [SendStatus.DROPPED])
        client.send_close()
        assert client.is_closed()


# ---- ending ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "wire"),
    [
        ((), (None, b"")),
        ((1000,), (1000, b"")),
        ((4999, "x"), (4999, b"x")),
        ((3000, bytearray(b"array")), (3000, b"array")),
        ((1001, memoryview(b"view")), (1001, b"view")),
        ((1000, "\N{SNOWMAN}" * 60), (1000, "\N{SNOWMAN}".encode() * 41)),
        ((1000, b"x" * 122 + "\N{SNOWMAN}".encode()), (1000, b"x" * 122)),
        ((1000, "\N{GRINNING FACE}" * 31), (1000, "\N{GRINNING FACE}".encode() * 30)),
        ((1000, b"ok\xff"), (1000, b"ok")),
    ],
    ids=shown,
)
@pytest.mark.parametrize("method", ["end", "cork_end"])
def test_ending_from_a_foreign_thread(serve: Serve, method: str, arguments: Any, wire: Any) -> None:
    """A-WS-06, A-WS-07: the frame is always valid; nothing is sent after it."""
    client, ws = Held(serve).connect()
    with client:
        ws.send("before", OpCode.TEXT)
        assert getattr(ws, method)(*arguments) is ws
        assert ws.closed
        assert ws.send("after") is SendStatus.DROPPED
        assert getattr(ws, method)(1001, "again") is ws
        assert client.recv_message() == "before"
        assert client.expect_close_frame() == wire
        client.send_close()
        assert client.is_closed()


@pytest.mark.parametrize("code", [1, 999, 5000, 65_535, 65_536, -1, "1000", 1000.0, None], ids=repr)
def test_codes_that_are_none(serve: Serve, code: Any) -> None:
    """A-WS-06: a RuntimeError, and nothing has happened."""
    client, ws = Held(serve).connect()
    with client:
        for method in (ws.end, ws.cork_end):
            with pytest.raises(RuntimeError, match="close code"):
                method(code)
            with pytest.raises(RuntimeError, match="not list"):
                method(1000, ["reason"])
        assert not ws.closed
        ws.send("open", OpCode.TEXT)
        assert client.recv_message() == "open"


def test_the_code_of_tls_is_never_sent(serve: Serve) -> None:
    """A-WS-06, RFC 6455 7.4.1: 1015 "MUST NOT be set as a status code in a Close control frame" any more than 1006."""
    codes: list[Any] = []
    client, ws = Held(serve, close=lambda ws, *end: codes.append(end)).connect()
    with client:
        ws.end(1015, "tls")
        assert client.expect_close_frame() == (None, b"")
    until(lambda: codes, "close")
    assert codes == [(1015, b"tls")]


def test_many_threads_end_one_socket(serve: Serve) -> None:
    """A-WS-06, A-WS-08, C-C-11: one of them does; close is called once."""
    closed: list[Any] = []
    held = Held(serve, close=lambda ws, *end: closed.append((ws, end)))
    for _ in range(10):
        client, ws = held.connect()
        with client:
            in_threads(
                4,
                lambda number, ws=ws: [  # type: ignore[misc]
                    ws.end(4000 + number, "why"),
                    ws.close() if number == 3 else ws.cork_end(1000),
                ],
            )
    until(lambda: len(closed) == 10, "ten ends")
    client, ws = held.connect()
    with client:
        assert client.finish() == (1000, b"")
    until(lambda: len(closed) == 11, "another")
    assert len({id(ws) for ws, _ in closed}) == 11


EVERYTHING: list[Callable[[Any], object]] = [
    lambda ws: ws.send("a"),
    lambda ws: ws.send(b"x" * 40_000, OpCode.BINARY, True),
    lambda ws: ws.cork_send({"a": 1}, OpCode.TEXT, True),
    lambda ws: ws.cork(lambda corked: corked.send("a")),
    lambda ws: (ws.send("a", OpCode.PING), ws.send("a", OpCode.PONG)),
    lambda ws: ws.get_buffered_amount(),
    lambda ws: (ws.get_user_data(), ws.get_user_data_uuid(), ws.socket_data, ws.socket_data_id),
    lambda ws: (ws.get_remote_address(), ws.get_remote_address_bytes()),
    lambda ws: (ws.get_proxied_remote_address(), ws.get_proxied_remote_address_bytes()),
    lambda ws: (ws.subscribe("a"), ws.subscribe(b"b")),
    lambda ws: (ws.is_subscribed("a"), ws.get_topics(), ws.for_each_topic(len)),
    lambda ws: (ws.unsubscribe("a"), ws.unsubscribe("b")),
    lambda ws: (ws.publish("a", "a"), ws.app.publish("b", "b", OpCode.TEXT, True)),
    lambda ws: ws.app.num_subscribers("a"),
    lambda ws: (repr(ws.clone()), repr(ws), hash(ws), ws.closed, ws.dropped),
    lambda ws: (ws.ws, ws.app, ws.got_socket_data, ws.get_native_handle()),
    lambda ws: setattr(ws, "note", object()),
    lambda ws: ws.drain(),
]


@pytest.mark.parametrize("how", ["abort", "finish", "end", "close"])
def test_every_method_from_many_threads_while_the_socket_ends(serve: Serve, how: str) -> None:
    """A-CALL-16, I-C-15, #141, #197: nothing raises, for an end from either side, at any time."""
    closed: list[Any] = []
    held = Held(
        serve,
        close=lambda ws, *end: closed.append(end),
        subscription=lambda *change: None,
        drain=lambda ws: None,
        compression=DEDICATED,
    )
    for _ in range(3):
        client, ws = held.connect(headers=[OFFER])
        before, stop = len(closed), threading.Event()

        def hammer(number: int, ws: Any = ws, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                for call in EVERYTHING[number % 3 :: 3]:
                    call(ws)

        threads = threading.Thread(target=in_threads, args=(6, hammer))
        threads.start()
        if how in ("end", "close"):
            client.exactly(10_000)
            getattr(ws, how)()
            client.rest()
        elif how == "abort":
            client.exactly(10_000)
            client.abort()
        else:
            client.send_close()
            while client.recv_frame().opcode != CLOSE:
                pass
        until(lambda before=before: len(closed) > before, "close")  # type: ignore[misc]
        stop.set()
        threads.join(60)
        client.close()
        assert ws.closed
        until(lambda: held.app.num_subscribers("a") == held.app.num_subscribers("b") == 0, "nobody left")


def test_a_socket_outlives_its_application(serve: Serve) -> None:
    """A-CALL-16, A-APP-31: every method after run() has returned and the application is disposed of."""
    held = Held(serve)
    client, ws = held.connect()
    with client:
        held.app.close()
        client.expect_close_frame()
    held.running.stop()
    for call in EVERYTHING:
        if call is not EVERYTHING[-1]:
            call(ws)
    assert ws.send("a") is SendStatus.DROPPED
    assert ws.closed
    assert [ws.end(), ws.cork_end(1000, "a"), ws.close()] == [ws] * 3
    assert ws.subscribe("a") is False


# ---- identity of a socket ------------------------------------------------------------------------------------------------


class Unfriendly:
    """Compares and hashes badly, so nothing may call these."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("nobody asked for a comparison")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("data", [0, "", [], False, {"a": 1}, Unfriendly(), print], ids=shown)
def test_user_data_is_the_same_object(serve: Serve, data: Any) -> None:
    """A-WS-10, A-WS-11, A-WS-21: for any value, true or false, in a clone and after the end as well."""

    def upgrade(res: Any, req: Any, context: Any) -> None:
        res.upgrade(req.get_header("sec-websocket-key"), None, None, context, data)

    client, ws = Held(serve, upgrade=upgrade).connect()
    with client:
        unique = ws.get_user_data_uuid()
        assert isinstance(unique, uuid.UUID)
        for _ in range(2):
            assert ws.get_user_data() is data
            assert ws.socket_data is data
            assert ws.got_socket_data is True
            assert ws.clone().get_user_data() is data
            assert ws.clone().clone().get_user_data_uuid() == ws.socket_data_id == unique
        client.finish()
    until(lambda: ws.closed, "the end")
    assert ws.get_user_data() is data
    assert ws.clone().get_user_data() is data
    assert ws.get_user_data_uuid() == unique


def test_no_user_data(serve: Serve) -> None:
    """A-WS-10, A-WS-11, A-WS-21: None, and still an id, different for each socket."""
    held = Held(serve)
    (one, first), (two, second) = held.connect(), held.connect()
    with one, two:
        for ws in (first, second):
            assert ws.get_user_data() is None
            assert ws.socket_data is None
            assert ws.got_socket_data is False
        assert first.get_user_data_uuid() == first.get_user_data_uuid() != second.get_user_data_uuid()
        ids: set[uuid.UUID] = set()
        in_threads(4, lambda _: ids.add(second.get_user_data_uuid()))
        assert len(ids) == 1
        assert first.ws != second.ws


def test_remote_addresses(serve: Serve, tmp_path: Path) -> None:
    """A-WS-19: as for a response; none on a Unix socket, none after the end."""
    client, ws = Held(serve).connect()
    with client:
        assert (ws.get_remote_address(), ws.get_remote_address_bytes()) == ("127.0.0.1", b"\x7f\0\0\1")
        assert (ws.get_proxied_remote_address(), ws.get_proxied_remote_address_bytes()) == (None, None)
        client.abort()
    until(lambda: ws.closed, "the end")
    assert (ws.get_remote_address(), ws.get_remote_address_bytes()) == (None, None)
    sockets: list[Any] = []
    path = str(tmp_path / "socket")
    serve(lambda app: app.ws("/", {"open": sockets.append}), listen={"domain": path})
    with WebSocketClient(path=path) as unix:
        unix.open()  # type: ignore[attr-defined]
        until(lambda: sockets, "open")
        assert (sockets[0].get_remote_address(), sockets[0].get_remote_address_bytes()) == (None, None)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_a_remote_address_of_ipv6(serve: Serve) -> None:
    """A-WS-19: sixteen bytes, and text as for a response."""
    sockets: list[Any] = []
    seen: list[Any] = []

    def answer(res: Any, req: Any) -> None:
        seen.append(res.get_remote_address())
        res.end("")

    def configure(app: App) -> None:
        app.ws("/", {"open": sockets.append})
        app.get("/", answer)

    try:
        running = serve(configure, listen={"host": "::1", "port": 0})
    except RuntimeError:
        pytest.skip("no IPv6 here")
    for request in (handshake(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        with socket.create_connection(("::1", running.port), 20) as client:
            client.sendall(request)
            assert client.recv(1000)
            until(lambda: sockets, "open")
            assert sockets[0].closed or sockets[0].get_remote_address_bytes() == b"\0" * 15 + b"\1"
            if not seen:
                seen.append(sockets[0].get_remote_address())
    assert seen[0] == seen[1]


def test_a_socket_is_an_object(serve: Serve) -> None:
    """A-CALL-11, A-WS-20, A-WS-21: attributes, identity, hash, weak references, its repr."""
    held = Held(serve)
    (one, first), (two, second) = held.connect(), held.connect()
    with one, two:
        clone = first.clone()
        assert len({first, second, clone, first}) == 3
        assert type(first) is type(clone) is WebSocket
        first.name = "first"
        assert not hasattr(clone, "name")
        assert first.__dict__ == {"name": "first"}
        del first.name
        with pytest.raises(AttributeError):
            first.app = None
        with pytest.raises(TypeError):
            WebSocket()
        assert first.app is held.app
        assert clone.ws == first.ws
        assert "open" in repr(first)
        assert weakref.ref(first)() is first
        one.finish()
        until(lambda: held.sockets[0].closed, "the end")
        assert clone.closed
        assert not second.closed
        assert "closed" in repr(first)
        found = weakref.ref(first)
        held.sockets.clear()
        del first, clone
    until(lambda: gc.collect() >= 0 and found() is None, "nothing is held")


# ---- compression ----------------------------------------------------------------------------------------------------

SAMPLE = json.dumps([{"number": number, "name": f"name {number * 7919 % 97}"} for number in range(60)])


@pytest.mark.parametrize("compression", [1, DEDICATED])
def test_the_flag(serve: Serve, compression: int) -> None:
    """A-WS-01, C-F-10: only on request, only messages, only non-empty ones, only with an agreement."""
    held = Held(serve, compression=compression)
    (one, agreed), (two, other) = held.connect(headers=[OFFER]), held.connect()
    with one, two:
        assert two.extensions is None
        for client, ws in ((one, agreed), (two, other)):
            ws.subscribe("topic")
            ws.send(SAMPLE, OpCode.TEXT)
            ws.send(SAMPLE, OpCode.TEXT, True)
            ws.cork_send(SAMPLE, OpCode.BINARY, compress=1)
            ws.send("", OpCode.TEXT, True)
            ws.send("ping", OpCode.PING, True)
            ws.send_first_fragment("a" * 100, OpCode.TEXT, True)
            ws.send_fragment("a" * 100, True)
            ws.send_last_fragment("a" * 100, True)
            held.app.publish("topic", SAMPLE, OpCode.TEXT, True)
            held.app.publish("topic", SAMPLE)
            ws.unsubscribe("topic")
            codec = Deflate(client) if ws is agreed else None
            found = [client.recv_frame() for _ in range(10)]
            compressed = [number for number, item in enumerate(found) if item.rsv1]
            assert compressed == ([1, 2, 8] if codec else [])
            texts = [codec.inflate(item.payload) if codec and item.rsv1 else item.payload for item in found]
            assert texts[:3] == [SAMPLE.encode()] * 3
            assert texts[3:5] == [b"", b"ping"]
            assert parts(found[5:8]) == b"a" * 300
            assert texts[8:] == [SAMPLE.encode()] * 2
            for number in compressed:
                assert len(found[number].payload) < len(SAMPLE) / 2


COMPRESSORS = [item for item in CompressOptions.__members__ if "_COMPRESSOR" in item]
DECOMPRESSORS = [item for item in CompressOptions.__members__ if "_DECOMPRESSOR" in item]
#: Window bits that each dedicated compressor may use at most.
WINDOWS = {"3KB": 9, "4KB": 9, "8KB": 10, "16KB": 11, "32KB": 12, "64KB": 13, "128KB": 14, "256KB": 15}


def conversation() -> list[bytes]:
    """Messages that repeat each other, near and far, and some that cannot be made smaller."""
    noise = os.urandom(70_000)
    text = SAMPLE.encode()
    sizes = [1, 100, 500, 600, 1100, 5000, 17_000, 33_000, 66_000]
    return [
        text,
        text,
        b"x",
        *(noise[:size] for size in sizes),
        text,
        noise,
        noise[-300:] + text,
        b"y" * 200_000,
    ]


@pytest.mark.parametrize(
    "offer", ["", "; client_max_window_bits", "; server_max_window_bits=10", "; no takeover"]
)
@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor(serve: Serve, name: str, offer: str) -> None:
    """A-EN-03, C-N-02, C-N-03, C-N-08, I-A-19: the window that was promised is enough, message by message."""
    offer = offer.replace("no takeover", "server_no_context_takeover")
    client, ws = Held(serve, compression=CompressOptions[name], max_backpressure=0).connect(
        headers=[OFFER + offer]
    )
    with client:
        codec = Deflate(client)
        if name == "SHARED_COMPRESSOR" or "no_context" in offer:
            assert not codec.server_remembers
        else:
            assert codec.server_remembers
            size = name.rpartition("_")[2]
            limit = 10 if "=10" in offer else 15
            assert codec.server_bits == min(limit, WINDOWS.get(size, 15))
        lengths = []
        for message in conversation():
            assert ws.send(message, OpCode.BINARY, True) is not SendStatus.DROPPED
            found = client.recv_frame()
            assert found.rsv1
            assert codec.inflate(found.payload) == message
            lengths.append(len(found.payload))
        # The second of two equal messages: parts of the first in the window are left out.
        if not codec.server_remembers:
            assert lengths[1] == lengths[0]
        elif 1 << codec.server_bits > len(SAMPLE):
            assert lengths[1] * 4 < lengths[0]


@pytest.mark.parametrize(
    "offer", ["", "; client_max_window_bits", "; client_max_window_bits=9", "; no takeover"]
)
@pytest.mark.parametrize("name", DECOMPRESSORS)
def test_every_decompressor(serve: Serve, name: str, offer: str) -> None:
    """A-EN-03, C-N-04, C-N-05, J#633: a client that uses all of its window is understood, message by message."""
    offer = offer.replace("no takeover", "client_no_context_takeover")

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.send(message, opcode)

    held = Held(
        serve,
        compression=CompressOptions[name] | CompressOptions.SHARED_COMPRESSOR,
        message=message,
        max_payload_length=300_000,
        max_backpressure=0,
    )
    client, _ = held.connect(headers=[OFFER + offer])
    with client:
        codec = Deflate(client)
        if name == "SHARED_DECOMPRESSOR" or "no_context" in offer:
            assert not codec.client_remembers
        for sent in conversation():
            codec.send(BINARY, sent)
            assert client.recv_message() == sent


def test_one_context_for_all_who_send(serve: Serve) -> None:
    """A-CALL-16, C-F-10, C-P-08: what threads send and publish, compressed in the order in which it leaves."""
    held = Held(serve, compression=DEDICATED, max_backpressure=0)
    client, ws = held.connect(headers=[OFFER])

    def send(number: int) -> None:
        for at in range(50):
            text = f"{number} {at} {SAMPLE}"
            if number == 0:
                held.app.publish("topic", text, OpCode.TEXT, True)
            elif number == 1:
                ws.send(text, OpCode.TEXT, at % 2 == 0)
            elif number == 2:
                ws.send_first_fragment(f"{number} {at} ", OpCode.TEXT)
                ws.send_last_fragment(SAMPLE)
            else:
                ws.send(text, OpCode.TEXT, True)

    with client:
        ws.subscribe("topic")
        sender = threading.Thread(target=in_threads, args=(4, send))
        sender.start()
        codec = Deflate(client)
        seen: dict[int, list[int]] = {}
        for _ in range(200):
            found = client.recv_frame()
            payload = codec.inflate(found.payload) if found.rsv1 else found.payload
            while not found.fin:
                found = client.recv_frame()
                assert found.opcode == CONTINUATION
                payload += found.payload
            number, at, rest = payload.decode().split(" ", 2)
            assert rest == SAMPLE
            seen.setdefault(int(number), []).append(int(at))
        sender.join(20)
    assert seen == {number: list(range(50)) for number in range(4)}


def test_a_message_that_is_dropped_is_not_remembered(serve: Serve) -> None:
    """C-K-03, C-F-10: the client's window knows what arrived, so ours does."""
    held = Held(serve, compression=DEDICATED, max_backpressure=30_000)
    client, ws = held.connect(receive_buffer=4096, headers=[OFFER])
    with client:
        codec = Deflate(client)
        sent = []
        while True:
            sent.append(os.urandom(10_000))
            if ws.send(sent[-1], OpCode.BINARY, True) is SendStatus.DROPPED:
                break
        dropped = sent.pop()
        for message in sent:
            assert codec.message() == message
        until(lambda: ws.get_buffered_amount() == 0, "the buffer to be empty")
        ws.send(dropped, OpCode.BINARY, True)
        assert codec.message() == dropped


@pytest.mark.parametrize("lane_of_sender", ["loop", "thread"])
def test_timers_and_tasks_send(serve: Serve, lane_of_sender: str) -> None:
    """A-APP-06, design.md: from call_later and from a task that no request started."""
    held = Held(serve)
    client, ws = held.connect()

    async def later() -> None:
        await asyncio.sleep(0.001)
        ws.send("task", OpCode.TEXT)

    loop = held.app.loop.loop
    with client:
        if lane_of_sender == "loop":
            loop.call_soon_threadsafe(loop.call_later, 0.001, ws.send, "timer", OpCode.TEXT)
        else:
            threading.Timer(0.001, ws.send, ("timer", OpCode.TEXT)).start()
        assert client.recv_message() == "timer"
        asyncio.run_coroutine_threadsafe(later(), loop).result(20)
        assert client.recv_message() == "task"


def test_a_close_frame_of_the_client_meets_one_of_ours(serve: Serve) -> None:
    """A-WS-06, C-C-05, RFC 6455 7.1.5: both at once; ours gets no second reply."""
    closed: list[Any] = []
    client, ws = Held(serve, close=lambda ws, *end: closed.append(end)).connect()
    with client:
        ws.end(4001, "ours")
        client.send(frame(TEXT, b"ignored") + frame(CLOSE, close_payload(4002, b"theirs")))
        assert client.expect_close() == (4001, b"ours")
    until(lambda: closed, "close")
    assert closed == [(4001, b"ours")]
