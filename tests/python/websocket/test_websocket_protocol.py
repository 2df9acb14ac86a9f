"""Frames: their effect on a WebSocket, right and wrong, on the wire and in the callbacks.

Rows: C-F-01..05, C-F-12, C-F-13, C-K-01, C-K-02, C-C-02, C-C-03, C-C-07, I-A-20, I-A-21, I-A-28, I-A-30; RFC 6455 5 to 7.
The Autobahn suite (test_autobahn.py) asks the same from the wire alone.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from socketify import OpCode
from support import until
from support.lanes import TASK, THREAD, each_lane, on, options
from support.ws_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    close_payload,
    frame,
)

Serve = Callable[..., Any]
Events = list[tuple[Any, ...]]
MEBI = 1 << 20


class Echo:
    """An echo server, and its callbacks' arguments."""

    def __init__(self, serve: Serve, lane: str = THREAD, **behavior: Any) -> None:
        self.events: Events = []
        behavior = {
            "open": on(lane, lambda ws: self.events.append(("open",))),
            "message": on(lane, self._message),
            "ping": on(lane, lambda ws, payload: self.events.append(("ping", payload))),
            "pong": on(lane, lambda ws, payload: self.events.append(("pong", payload))),
            "close": on(lane, lambda ws, code, reason: self.events.append(("close", code, reason))),
        } | behavior
        self.running = serve(lambda app: app.ws("/", behavior), **options(lane))

    def _message(self, ws: Any, message: Any, opcode: Any) -> None:
        self.events.append(("message", message))
        ws.send(message, opcode)

    def client(self, **arguments: Any) -> Any:
        return self.running.websocket("/", **arguments)

    def closed(self) -> tuple[Any, ...]:
        """The close callback's arguments, once it was called; open and close are paired, and nothing
        follows."""
        until(lambda: any(event[0] == "close" for event in self.events), "close")
        assert self.events[0] == ("open",)
        assert self.events[-1][0] == "close"
        assert [event[0] for event in self.events].count("close") == 1
        return self.events[-1][1:]


# ---- violations -----------------------------------------------------------------------------------------------------

VIOLATIONS: dict[str, bytes] = {
    "rsv1": frame(TEXT, b"x", rsv=4),
    "rsv2": frame(TEXT, b"x", rsv=2),
    "rsv3": frame(BINARY, b"x", rsv=1),
    "all of rsv": frame(TEXT, b"", rsv=7),
    "rsv1 of a ping": frame(PING, b"", rsv=4),
    "rsv1 of a close": frame(CLOSE, close_payload(1000), rsv=4),
    **{f"opcode {opcode}": frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "opcode 3 without a payload": frame(3),
    "a ping in pieces": frame(PING, b"x", fin=False),
    "a pong in pieces": frame(PONG, b"x", fin=False),
    "a close in pieces": frame(CLOSE, close_payload(1000), fin=False),
    "a long ping": frame(PING, b"x" * 126),
    "a long pong": frame(PONG, b"x" * 126),
    "a long close": frame(CLOSE, close_payload(1000, b"x" * 124)),
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "the end of nothing": frame(CONTINUATION, b"x", fin=False),
    "a continuation after the end": frame(TEXT, b"a", fin=False)
    + frame(CONTINUATION, b"b")
    + frame(CONTINUATION, b"c"),
    "text within text": frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
    "binary within text": frame(TEXT, b"a", fin=False) + frame(BINARY, b"b", fin=False),
    "unmasked text": frame(TEXT, b"x", masked=False),
    "unmasked and empty": frame(TEXT, b"", masked=False),
    "an unmasked ping": frame(PING, b"x", masked=False),
    "an unmasked close": frame(CLOSE, close_payload(1000), masked=False),
    "an unmasked continuation": frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", masked=False),
}


@pytest.mark.parametrize("lane", [THREAD, TASK])
@pytest.mark.parametrize("name", VIOLATIONS)
def test_violations(serve: Serve, name: str, lane: str) -> None:
    """C-F-02, C-F-04, I-A-21, I-A-30: 1002 on the wire; 1006 and None in the callback; later bytes are
    ignored."""
    echo = Echo(serve, lane)
    with echo.client() as client:
        client.send(VIOLATIONS[name] + frame(TEXT, b"too late") + frame(PING, b"too late"))
        if name == "a continuation after the end":
            assert client.recv_message() == "ab"
        assert client.expect_close()[0] == 1002
    assert echo.closed() == (1006, None)
    assert ("message", "too late") not in echo.events
    assert not any(event[0] in ("ping", "pong") for event in echo.events)


@each_lane
def test_what_came_before_a_violation_counts(serve: Serve, lane: str) -> None:
    """C-F-02: messages before it, in the same segment, are told and answered."""
    echo = Echo(serve, lane)
    with echo.client() as client:
        client.send(
            frame(TEXT, b"one") + frame(PING, b"p") + frame(BINARY, b"two") + frame(TEXT, b"x", rsv=2)
        )
        if lane == THREAD:
            # The ping is answered when it comes, despite slow callbacks.
            assert client.recv_frame() == Frame(True, False, PONG, b"p")
            assert client.recv_message() == "one"
            assert client.recv_message() == b"two"
            assert client.expect_close()[0] == 1002
        else:
            client.rest()
    assert echo.closed() == (1006, None)
    assert echo.events[1:4] == [("message", "one"), ("ping", b"p"), ("message", b"two")]


@pytest.mark.parametrize(
    "head",
    [
        frame(TEXT, length=1000, masked=False),
        frame(TEXT, length=1000, rsv=2),
        frame(3, length=1000),
        frame(PING, length=126),
        frame(PING, length=100, fin=False),
        frame(CONTINUATION, length=1000),
    ],
    ids=["no mask", "rsv2", "opcode 3", "a long ping", "a ping in pieces", "a continuation of nothing"],
)
def test_a_violation_is_seen_in_the_head(serve: Serve, head: bytes) -> None:
    """C-F-02: the server does not wait for the payload of a wrong frame."""
    echo = Echo(serve)
    with echo.client() as client:
        client.send(head)
        assert client.expect_close()[0] == 1002
    assert echo.closed() == (1006, None)


def test_a_violation_byte_by_byte(serve: Serve) -> None:
    """However it is cut."""
    for name in ("text within text", "a long ping", "opcode 11"):
        echo = Echo(serve)
        with echo.client() as client:
            # The end may come before the last byte is sent.
            with contextlib.suppress(OSError):
                client.send_slowly(VIOLATIONS[name])
            assert client.expect_close()[0] == 1002, name
        assert echo.closed() == (1006, None)


def test_a_length_beyond_all_bounds(serve: Serve) -> None:
    """RFC 6455 5.2: the highest bit of a length is 0; with any rule broken first, the connection ends."""
    echo = Echo(serve)
    with echo.client() as client:
        client.send(b"\x82\xff" + b"\xff" * 8 + b"mask" + b"x")
        assert client.expect_close()[0] in (1002, 1009)
    assert echo.closed()[0] == 1006


# ---- text -----------------------------------------------------------------------------------------------------------

NO_TEXT: dict[str, bytes] = {
    "a byte": b"\xff",
    "a lone continuation": b"a\x80",
    "too long a form": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond the last": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "cut at the end": "snow\N{SNOWMAN}".encode()[:-1],
    "after much": b"x" * 5000 + b"\xfe",
}


@pytest.mark.parametrize("lane", [THREAD, TASK])
@pytest.mark.parametrize("name", NO_TEXT)
def test_what_is_no_text(serve: Serve, name: str, lane: str) -> None:
    """C-F-03, C-C-07, I-A-30: 1007 on the wire, 1006 and the reason in the callback; whole and in pieces."""
    payload = NO_TEXT[name]
    half = len(payload) // 2
    for sent in (
        frame(TEXT, payload),
        frame(TEXT, payload[:half], fin=False) + frame(CONTINUATION, payload[half:]),
        b"".join(
            frame(CONTINUATION if at else TEXT, payload[at : at + 1], fin=at == len(payload) - 1)
            for at in range(len(payload))
        ),
    ):
        echo = Echo(serve, lane)
        with echo.client() as client:
            client.send(sent)
            assert client.expect_close()[0] == 1007
        assert echo.closed() == (1006, b"Received invalid UTF-8")
        assert not any(event[0] == "message" for event in echo.events)


def test_text_that_can_become_nothing_ends_at_once(serve: Serve) -> None:
    """C-F-03, Autobahn 6.4: in the first piece of a message, and in the first bytes of a frame, without the rest."""
    for begun in (
        frame(TEXT, b"ok\xff", fin=False),
        frame(TEXT, b"ok\xf4\x90" + b"x" * 100)[:10],
    ):
        echo = Echo(serve)
        with echo.client() as client:
            client.send(begun)
            assert client.expect_close()[0] == 1007
        assert echo.closed() == (1006, b"Received invalid UTF-8")


def test_text_in_pieces_may_be_cut_anywhere(serve: Serve) -> None:
    """C-F-01: only the whole has to be text; binary never has to."""
    text = "κόσμε \N{SNOWMAN} \N{GRINNING FACE} \U0010ffff"
    encoded = text.encode()
    with Echo(serve).client() as client:
        for cut in range(len(encoded) + 1):
            client.send_frame(TEXT, encoded[:cut], fin=False).send_frame(CONTINUATION, encoded[cut:])
            assert client.recv_message() == text
        assert client.send_binary(b"\xff\xfe\x80").recv_message() == b"\xff\xfe\x80"
        client.send_frame(BINARY, b"\xff", fin=False).send_frame(CONTINUATION, b"\xfe")
        assert client.recv_message() == b"\xff\xfe"


# ---- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", [THREAD, TASK])
@pytest.mark.parametrize("kind", ["whole", "claimed", "in pieces", "many pieces"])
def test_too_much(serve: Serve, lane: str, kind: str) -> None:
    """C-K-01, C-C-07, I-A-30: 1009 on the wire, 1006 and the reason in the callback; a claim is enough."""
    echo = Echo(serve, lane, max_payload_length=1000)
    with echo.client() as client:
        assert client.send_text("x" * 1000).recv_message() == "x" * 1000, "as much as there may be"
        client.send_frame(TEXT, b"x" * 500, fin=False).send_frame(CONTINUATION, b"x" * 500)
        assert client.recv_message() == "x" * 1000
        if kind == "whole":
            client.send_binary(b"x" * 1001)
        elif kind == "claimed":
            client.send(frame(BINARY, b"", length=1 << 40))
        elif kind == "in pieces":
            client.send_frame(BINARY, b"x" * 1000, fin=False).send_frame(CONTINUATION, b"x", fin=False)
        else:
            client.send(frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"x" * 143, fin=False) * 7)
        assert client.expect_close()[0] == 1009
    assert echo.closed() == (1006, b"Received too big message")
    assert [event[0] for event in echo.events] == ["open", "message", "message", "close"]


def test_the_default_limit(serve: Serve) -> None:
    """C-K-01: 16 KiB."""
    echo = Echo(serve)
    with echo.client() as client:
        assert client.send_binary(bytes(16 * 1024)).recv_message() == bytes(16 * 1024)
        client.send_binary(bytes(16 * 1024 + 1))
        assert client.expect_close()[0] == 1009
    assert echo.closed() == (1006, b"Received too big message")


def test_control_frames_are_not_counted(serve: Serve) -> None:
    """C-K-01: the limit is for messages; a ping within one is none of it."""
    with Echo(serve, max_payload_length=10).client() as client:
        client.send_frame(TEXT, b"12345", fin=False).ping(b"x" * 125).send_frame(CONTINUATION, b"67890")
        assert client.recv_frame() == Frame(True, False, PONG, b"x" * 125)
        assert client.recv_message() == "1234567890"


@pytest.mark.parametrize(
    "size", [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 65_535, 65_536, 65_537, MEBI, 5 * MEBI + 3]
)
def test_sizes(serve: Serve, size: int) -> None:
    """C-F-13, I-A-28, RFC 6455 5.2: each form of the length, back as it came; the frame is in its shortest form."""
    payload = os.urandom(size)
    with Echo(serve, max_payload_length=6 * MEBI, max_backpressure=0).client() as client:
        for _ in range(2):
            # A client that sends much has to read meanwhile.
            sender = threading.Thread(target=client.send_binary, args=(payload,))
            sender.start()
            assert client.recv_frame() == Frame(True, False, BINARY, payload)
            sender.join(20)


def test_lengths_that_are_longer_than_they_need_be(serve: Serve) -> None:
    """RFC 6455 5.2 asks for the shortest form. It is refused, or understood: never taken for something else."""
    for length_bytes in (2, 8):
        echo = Echo(serve)
        with echo.client() as client:
            client.send(frame(TEXT, b"short", length_bytes=length_bytes) + frame(TEXT, b"next"))
            answer = client.recv_frame()
            assert answer.payload in (b"short", close_payload(1002)) or answer.opcode == CLOSE
            if answer.opcode == TEXT:
                assert client.recv_message() == "next"


def test_a_big_message_to_a_slow_reader(serve: Serve) -> None:
    """C-F-13, I-A-28: output that the socket does not take at once arrives complete and in order, the head of
    the frame included."""

    def message(ws: Any, message: Any, opcode: Any) -> None:
        for number in range(40):
            ws.send(bytes([number]) * (100_000 + number), OpCode.BINARY)

    running = serve(lambda app: app.ws("/", {"message": message, "max_backpressure": 0}))
    with running.websocket(receive_buffer=2048) as client:
        client.send_text("go")
        for number in range(40):
            assert client.recv_message() == bytes([number]) * (100_000 + number)


# ---- masks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04", b"\0\0\0\x80"])
def test_masks(serve: Serve, mask: bytes) -> None:
    """RFC 6455 5.3: every key, at every size, wherever a segment ends."""
    with Echo(serve).client() as client:
        for size in [*range(70), 1000, 1001, 1002, 1003]:
            payload = bytes((7 * at + size) % 256 for at in range(size))
            client.send_frame(BINARY, payload, mask=mask)
            assert client.recv_message() == payload
        payload = bytes(range(100))
        whole = frame(BINARY, payload, mask=mask)
        for cut in range(1, len(whole)):
            client.send(whole[:cut])
            client.send(whole[cut:])
            assert client.recv_message() == payload


def test_each_frame_has_its_own_mask(serve: Serve) -> None:
    with Echo(serve).client() as client:
        client.send_frame(TEXT, b"one ", fin=False, mask=b"abcd")
        client.send_frame(CONTINUATION, b"two ", fin=False, mask=b"\0\0\0\0")
        client.ping(b"ping").send_frame(CONTINUATION, b"three", mask=b"efgh")
        assert client.recv_frame() == Frame(True, False, PONG, b"ping")
        assert client.recv_message() == "one two three"


# ---- pieces and segments --------------------------------------------------------------------------------------------


@each_lane
def test_fragments_are_put_together(serve: Serve, lane: str) -> None:
    """C-F-01: one callback a message, of the kind of its first frame; empty pieces are pieces, too."""
    echo = Echo(serve, lane)
    with echo.client() as client:
        client.send_frame(TEXT, b"", fin=False).send_frame(CONTINUATION, b"", fin=False)
        client.send_frame(CONTINUATION, b"text", fin=False).send_frame(CONTINUATION, b"")
        assert client.recv_data() == (TEXT, b"text")
        client.send_frame(BINARY, b"\x00", fin=False).send_frame(CONTINUATION, b"\x01")
        assert client.recv_data() == (BINARY, b"\x00\x01")
        client.send(
            frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"a", fin=False) * 1000 + frame(CONTINUATION)
        )
        assert client.recv_data() == (TEXT, b"a" * 1000)
        client.send_frame(TEXT, b"", fin=False).send_frame(CONTINUATION, b"")
        assert client.recv_data() == (TEXT, b"")
    messages = [event[1] for event in echo.events if event[0] == "message"]
    assert messages == ["text", b"\x00\x01", "a" * 1000, ""]


def test_control_frames_between_the_pieces(serve: Serve) -> None:
    """C-F-01, RFC 6455 5.4: they are handled and answered at once, and do not get into the message."""
    echo = Echo(serve)
    with echo.client() as client:
        client.send_frame(TEXT, b"one ", fin=False).ping(b"1")
        assert client.recv_frame() == Frame(True, False, PONG, b"1")
        client.send_frame(CONTINUATION, b"two ", fin=False).pong(b"2").ping(b"3")
        assert client.recv_frame() == Frame(True, False, PONG, b"3")
        assert client.send_frame(CONTINUATION, b"three").recv_message() == "one two three"
    assert echo.closed()[0] == 1006
    assert echo.events[1:-1] == [("ping", b"1"), ("pong", b"2"), ("ping", b"3"), ("message", "one two three")]


def test_a_close_between_the_pieces(serve: Serve) -> None:
    """C-C-01, Autobahn 7.1.5: an incomplete message is not delivered."""
    echo = Echo(serve)
    with echo.client() as client:
        client.send_frame(TEXT, b"one ", fin=False)
        assert client.finish(1000, "bye") == (1000, b"bye")
    assert echo.closed() == (1000, b"bye")
    assert echo.events == [("open",), ("close", 1000, b"bye")]


def test_after_the_clients_close_nothing_is_told(serve: Serve) -> None:
    """RFC 6455 5.5.1: bytes after a close frame are ignored, right or wrong."""
    for after in (frame(TEXT, b"late"), frame(PING, b"late"), frame(TEXT, b"x", rsv=7), frame(CLOSE, b"x")):
        echo = Echo(serve)
        with echo.client() as client:
            client.send(frame(CLOSE, close_payload(1000, b"bye")) + after)
            assert client.expect_close() == (1000, b"bye")
        assert echo.closed() == (1000, b"bye")
        assert echo.events == [("open",), ("close", 1000, b"bye")]


def test_many_messages_in_a_segment(serve: Serve) -> None:
    """All of them, in their order, small and large."""
    payloads = [os.urandom(size % 700) for size in range(0, 70_000, 113)]
    with Echo(serve, max_backpressure=0).client() as client:
        sender = threading.Thread(
            target=client.send, args=(b"".join(frame(BINARY, data) for data in payloads),)
        )
        sender.start()
        for payload in payloads:
            assert client.recv_message() == payload
        sender.join(20)


def test_a_message_byte_by_byte(serve: Serve) -> None:
    text = "one \N{SNOWMAN} two" * 20
    with Echo(serve).client() as client:
        client.send_slowly(frame(TEXT, text.encode()) + frame(PING, b"p") + frame(BINARY, b""))
        # The ping is answered when it comes: before or after the callback of the earlier message.
        frames = [client.recv_frame(), client.recv_frame()]
        assert Frame(True, False, PONG, b"p") in frames
        assert Frame(True, False, TEXT, text.encode()) in frames
        assert client.recv_message() == b""


# ---- ping and pong --------------------------------------------------------------------------------------------------


@each_lane
def test_the_pong_goes_before_the_ping_callback(serve: Serve, lane: str) -> None:
    """C-F-05, C-K-13: the callback's messages come after it."""

    def ping(ws: Any, payload: bytes) -> None:
        ws.send(payload, OpCode.TEXT)

    with Echo(serve, lane, ping=on(lane, ping)).client() as client:
        for payload in (b"", b"payload", b"x" * 125):
            client.ping(payload)
            assert client.recv_frame() == Frame(True, False, PONG, payload)
            assert client.recv_message() == payload.decode()


def test_pings_are_answered_without_a_callback(serve: Serve) -> None:
    """C-F-05: in their order, each with its payload."""
    with serve(lambda app: app.ws("/", {})).websocket() as client:
        client.send(b"".join(frame(PING, b"%d" % number) for number in range(100)))
        for number in range(100):
            assert client.recv_frame() == Frame(True, False, PONG, b"%d" % number)


def test_pings_are_answered_while_a_callback_works(serve: Serve) -> None:
    """C-F-05: a pong needs no Python, and another connection's callback, which blocks, does not hold it up."""
    entered, release = threading.Event(), threading.Event()

    def message(ws: Any, message: Any, opcode: Any) -> None:
        entered.set()
        assert release.wait(20)

    running = serve(lambda app: app.ws("/", {"message": message}), io_threads=2)
    # Sockets are shared between the threads: some of these are on the one that is free.
    with running.websocket() as busy:
        others = [running.websocket() for _ in range(8)]
        busy.send_text("work")
        assert entered.wait(20)
        try:
            for client in others:
                client.socket.settimeout(0.5)
                client.ping(b"there")
            answered = 0
            for client in others:
                with contextlib.suppress(TimeoutError):
                    answered += client.recv_frame() == Frame(True, False, PONG, b"there")
            assert answered, "nobody was answered"
        finally:
            release.set()
            for client in others:
                client.close()


def test_pongs_that_nobody_asked_for(serve: Serve) -> None:
    """C-K-14, RFC 6455 5.5.3: delivered, and not answered."""
    echo = Echo(serve)
    with echo.client() as client:
        client.pong(b"one").pong(b"").send_text("text")
        assert client.recv_message() == "text"
    assert echo.closed()[0] == 1006
    assert echo.events[1:4] == [("pong", b"one"), ("pong", b""), ("message", "text")]


# ---- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_a_silent_client_is_dropped(serve: Serve, lane: str) -> None:
    """C-K-02, C-C-07: 1006 and the reason in the callback; a close frame before the end, with any code."""
    echo = Echo(serve, lane, idle_timeout=1)
    with echo.client() as client:
        rest = client.rest()
        assert rest == b"" or rest[0] == 0x88
    assert echo.closed() == (1006, b"WebSocket timed out from inactivity")


def test_pings_of_the_server_keep_a_client_that_answers(serve: Serve) -> None:
    """C-K-06, C-F-06, C-F-07: a pong counts as a sign of life; without an answer the connection ends."""
    echo = Echo(serve, idle_timeout=1, send_pings_automatically=True)
    with echo.client() as client:
        for _ in range(3):
            ping = client.recv_frame()
            assert ping.opcode == PING
            client.pong(ping.payload)
        while client.receive():
            pass
    assert echo.closed() == (1006, b"WebSocket timed out from inactivity")
    assert [event[0] for event in echo.events].count("pong") == 3


def test_no_pings_unless_asked_for(serve: Serve) -> None:
    """DEC-2, C-K-06: the default is to send none."""
    with Echo(serve, idle_timeout=2).client() as client:
        rest = client.rest()
        assert rest == b"" or rest[0] == 0x88, "a ping"
