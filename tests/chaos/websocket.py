"""Conversations over WebSockets: everything that listeners do, and every way in which a socket may end."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

import wire
from session import Session
from websocket_client import CLOSE, Socket, frame
from wire import Ended, Gone, Hang, Pace, Wrong, random_pace


def run(session: Session) -> None:
    """One socket from its handshake to its end."""
    rng = session.rng
    if rng.random() < 0.1 and session.context is None:
        _library(session)
        return
    code = rng.choice([1000, 1001, 3000, 4321])
    end = rng.choice(["client", "server", "reset", "eof", "cut", "offence", "empty"])
    expected = {
        "client": f"{code}%20bye",
        "server": f"{code}%20bye",
        "empty": "1005%20None",
    }.get(end, "1006%20None")
    path = rng.choice(["/ws/plain", "/ws/async", "/ws/mixed", "/ws/limited"])
    pace = random_pace(rng, 100_000, 500_000)
    if path != "/ws/limited" and pace.slow:
        pace = Pace()
    with session.connect(pace) as connection:
        talker = Socket(session, connection, compressed=rng.random() < 0.4)
        talker.lossy = path == "/ws/limited"
        try:
            talker.open(path, expected)
            _talk(talker, path)
            _end(talker, end, code)
        except Ended as ended:
            raise Wrong("an open socket", f"the end of the connection: {ended}") from ended
        except Gone:
            pass


def _talk(socket: Socket, path: str) -> None:
    rng = socket.rng
    deeds: list[Callable[[], None]] = [socket.join, socket.leave, socket.publish, socket.publish, socket.ping]
    if path != "/ws/limited":
        # Messages that may be lost are not awaited.
        deeds += [socket.echo, socket.echo, socket.later, socket.thread, socket.big]
    for _ in range(rng.randrange(60)):
        rng.choice(deeds)()
        if rng.random() < 0.2:
            socket.wire.pump(lambda: socket.wire.idle)
            if rng.random() < 0.3:
                socket.wire.hold(rng.choice([0.001, 0.02]))
        if rng.random() < 0.1:
            _settle(socket)
    for topic in socket.topics:
        if topic not in socket.leaving and rng.random() < 0.8:
            socket.leaving.add(topic)
            socket.send(f"leave {topic}")
    _settle(socket)


def _settle(socket: Socket) -> None:
    if socket.lossy:
        # The word that a topic was left may be lost like any other.
        socket.leaving.clear()
        socket.wire.pump(lambda: socket.wire.idle)
        return
    socket.wire.pump(lambda: socket.settled, what="all messages")


def _end(socket: Socket, end: str, code: int) -> None:
    wire, rng = socket.wire, socket.rng
    match end:
        case "client":
            wire.say(frame(rng, CLOSE, struct.pack("!H", code) + b"bye"))
            _until_closed(socket, struct.pack("!H", code) + b"bye")
        case "empty":
            wire.say(frame(rng, CLOSE, b""))
            _until_closed(socket, b"")
        case "server":
            socket.send(f"end {code} bye")
            _until_closed(socket, struct.pack("!H", code) + b"bye")
        case "offence":
            wire.say(bytes([0x83, 0x80, 0, 0, 0, 0]))
            _until_closed(socket, struct.pack("!H", 1002))
        case "cut":
            socket.send("close")
            _until_closed(socket, None)
        case "reset":
            wire.reset()


def _until_closed(socket: Socket, payload: bytes | None) -> None:
    """The server's close frame has to come, and then the end of the connection."""
    wire = socket.wire
    if payload is not None:
        wire.pump(lambda: socket.closing is not None, what="a close frame")
        closing = socket.closing or b""
        if closing.startswith(struct.pack("!H", 1001)) and socket.stopping.is_set():
            raise Ended("1001")
        if closing != payload and not (payload == struct.pack("!H", 1002) and closing.startswith(payload)):
            raise Wrong(f"a close frame with {payload!r}", repr(closing))
    wire.pump(lambda: wire.end is not None, what="the end of the connection")
    if wire.end != "eof" and payload is not None:
        raise Wrong("the end of the connection", str(wire.end))


def _library(session: Session) -> None:
    """The same with the client of another author, which has its own mind of handshakes, compression and closing.

    Without TLS alone: it reads and writes on two threads, and OpenSSL's sessions are for one. It loses messages of its own
    author's server then.
    """
    rng = session.rng
    path = rng.choice(["/ws/plain", "/ws/async", "/ws/mixed"])
    uri = f"ws://localhost:{session.port}{path}?id={session.name(0)}&close=4000%20bye"
    messages = [f"echo {index} " + "x" * rng.randrange(3000) for index in range(rng.randrange(20))]
    try:
        plain = socket.create_connection(("127.0.0.1", session.port), wire.HANG)
        compression = rng.choice(["deflate", None])
        # With a queue of its own that is full it would read no pong.
        options: dict[str, Any] = {
            "compression": compression,
            "max_queue": None,
            "ping_interval": None,
            "proxy": None,
        }
        with connect(uri, sock=plain, **options) as client:
            for message in messages:
                client.send(message)
            pong, limit = client.ping(), time.monotonic() + wire.HANG
            while not pong.wait(0.2):
                if session.stopping.is_set():
                    raise Ended("while it waits for a pong")
                if time.monotonic() > limit:
                    raise Hang("a pong", "none")
            for message in messages:
                if (came := client.recv(wire.HANG)) != message:
                    raise Wrong(message, str(came))
            client.close(4000, "bye")
            if client.close_code != 4000 or client.close_reason != "bye":
                if session.stopping.is_set():
                    raise Ended(f"with {client.close_code}")
                raise Wrong("4000 and bye", f"{client.close_code} and {client.close_reason}")
    except TimeoutError as error:
        raise Hang("an answer to the client of the package", repr(error)) from error
    except (OSError, WebSocketException) as error:
        raise Ended(repr(error)) from error
