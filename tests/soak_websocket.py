"""The WebSocket part of soak.py: its server, and clients of raw frames that send millions of messages.

Answers are known to the byte, so a client sends a block of frames, reads as much as must come back, and compares: it costs
next to nothing beside the server.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

#: Frames that are sent before their answers are read.
BLOCK = 200
#: Members of a room: each gets the messages of the first one.
ROOM = 10


def serve(grace: float) -> None:
    """The process under test: prints its port; reports on standard error if open and close were not
    paired."""
    import asyncio

    from socketify import App, CompressOptions

    gc.disable()
    logging.disable(logging.CRITICAL)
    app = App(shutdown_timeout=grace)
    app.set_error_handler(lambda error, res, req: None)
    # Callbacks run on one thread at a time, so these can be counted.
    opened = closed = 0

    def upgrade(res, req, context):
        key, extensions = req.get_header("sec-websocket-key"), req.get_header("sec-websocket-extensions")
        res.upgrade(key, None, extensions, context, {"path": req.get_url()})

    async def upgrade_late(res, req, context):
        await asyncio.sleep(0.001)
        upgrade(res, req, context)

    def hello(ws):
        nonlocal opened
        opened += 1
        ws.note = ws.get_user_data()

    def bye(ws, code, message):
        nonlocal closed
        closed += 1
        ws.get_user_data()["code"] = code

    def join(ws):
        hello(ws)
        ws.subscribe(ws.get_user_data()["path"])

    def echo(ws, message, opcode):
        ws.send(message, opcode)

    async def echo_async(ws, message, opcode):
        ws.send(message, opcode)

    async def echo_late(ws, message, opcode):
        await asyncio.sleep(0.01)
        ws.send(message, opcode)
        ws.publish("/room/visitors", message, opcode)

    def tell(ws, message, opcode):
        ws.publish(ws.get_user_data()["path"], message, opcode)

    def deflate(ws, message, opcode):
        ws.send(message, opcode, compress=True)

    def fail(ws, message, opcode):
        ws.send(message, opcode)
        raise RuntimeError("message")

    def end(ws, message, opcode):
        ws.end(4000, "enough")

    common = {"upgrade": upgrade, "open": hello, "close": bye, "max_backpressure": 0, "idle_timeout": 60}
    shared, dedicated = CompressOptions.SHARED_COMPRESSOR, CompressOptions.DEDICATED_COMPRESSOR_4KB
    app.ws("/echo", common | {"message": echo})
    app.ws("/async", common | {"message": echo_async, "upgrade": upgrade_late})
    app.ws("/late", common | {"message": echo_late, "upgrade": upgrade_late})
    app.ws("/room/:name", common | {"message": tell, "open": join, "subscription": lambda *_: None})
    app.ws("/shared", common | {"message": deflate, "compression": shared})
    app.ws("/dedicated", common | {"message": deflate, "compression": dedicated})
    app.ws("/fail", common | {"message": fail})
    app.ws("/end", common | {"message": end})
    app.ws("/bare", {"message": echo_late})
    app.listen({"host": "127.0.0.1"}, lambda config: print(config.port, flush=True))
    try:
        app.run()
    finally:
        if opened != closed:
            print(f"{opened} opened and {closed} closed", file=sys.stderr)


# ---- clients --------------------------------------------------------------------------------------------------------


def frame(payload: bytes, opcode: int = 2, *, masked: bool = True, fin: bool = True) -> bytes:
    """One frame; a client's is masked with a key of zeros, which leaves the payload as it is."""
    size, mask = len(payload), b"\0\0\0\0" if masked else b""
    length = (
        bytes([masked << 7 | size]) if size < 126 else bytes([masked << 7 | 126]) + struct.pack("!H", size)
    )
    return bytes([fin << 7 | opcode]) + length + mask + payload


def connect(port: int, path: str, extensions: str = "") -> socket.socket:
    """An open WebSocket."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: soak",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    if extensions:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    # Byte by byte, for frames may follow.
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise ConnectionError(f"no answer to a handshake: {head!r}")
        head += byte
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"no WebSocket: {head!r}")
    return connection


def exactly(connection: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        data = connection.recv(min(count, 1 << 20))
        if not data:
            raise ConnectionError("closed in the middle of an answer")
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def answer(connection: socket.socket) -> bytes:
    """The next frame, head and all."""
    head = exactly(connection, 2)
    size = head[1]
    if size == 126:
        head += exactly(connection, 2)
        size = int.from_bytes(head[2:], "big")
    return head + exactly(connection, size)


class Talk:
    """Long-lived sockets of every kind, each in a thread of its own, that talk for some seconds at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: list[socket.socket] = []
        self._kinds: list[Callable[[float], int]] = [
            self._echo("/echo", b"short"),
            self._echo("/echo", b"y" * 2000),
            self._echo("/async", b"async"),
            self._echo("/fail", b"fail"),
            self._echo("/shared", b'{"price": 1234.5, "size": 100} ' * 10, "permessage-deflate"),
            self._dedicated(b'{"price": 1234.5, "size": 100} ' * 10),
            self._room("/room/one"),
        ]

    def run(self, seconds: float) -> int:
        """How many messages came back."""
        until = time.monotonic() + seconds
        done = [0] * len(self._kinds)
        failures: list[str] = []

        def talk(number: int) -> None:
            try:
                done[number] = self._kinds[number](until)
            except Exception as error:
                failures.append(f"{error!r}")

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(len(done))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            sys.exit(f"clients failed: {failures}")
        return sum(done)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _connect(self, path: str, extensions: str = "") -> socket.socket:
        self._connections.append(connect(self._port, path, extensions))
        return self._connections[-1]

    def _echo(self, path: str, payload: bytes, extensions: str = "") -> Callable[[float], int]:
        connection = self._connect(path, extensions)
        connection.sendall(frame(payload))
        # A compressor without a memory makes the same of the same.
        expected = answer(connection) * BLOCK
        if not extensions and expected != frame(payload, masked=False) * BLOCK:
            sys.exit(f"{path} is no echo")
        block = frame(payload) * BLOCK

        def talk(until: float) -> int:
            count = 0
            while time.monotonic() < until:
                connection.sendall(block)
                if exactly(connection, len(expected)) != expected:
                    raise AssertionError(f"another answer than before from {path}")
                count += BLOCK
            return count

        return talk

    def _dedicated(self, payload: bytes) -> Callable[[float], int]:
        """A compressor with a memory: each answer is another one, so it is only counted."""
        connection = self._connect("/dedicated", "permessage-deflate; client_no_context_takeover")
        block = frame(payload) * 20

        def talk(until: float) -> int:
            count = 0
            while time.monotonic() < until:
                connection.sendall(block)
                for _ in range(20):
                    answer(connection)
                count += 20
            return count

        return talk

    def _room(self, path: str) -> Callable[[float], int]:
        members = [self._connect(path) for _ in range(ROOM)]
        block, expected = frame(b"said") * BLOCK, frame(b"said", masked=False) * BLOCK

        def talk(until: float) -> int:
            count = 0
            while time.monotonic() < until:
                members[0].sendall(block)
                for member in members:
                    if exactly(member, len(expected)) != expected:
                        raise AssertionError("something else was said in the room")
                count += BLOCK * ROOM
            return count

        return talk


class Visitors:
    """Clients that connect, send a message, and leave in every possible way, from two threads."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._failures: list[str] = []
        self.requests = 0
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(2)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            sys.exit(f"visitors failed: {self._failures}")

    def _run(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._stopping.is_set():
            try:
                self._visit(rng)
            except Exception as error:
                self._failures.append(repr(error))
                return
            with self._lock:
                self.requests += 1
            # A spice, not the dish.
            self._stopping.wait(0.001)

    def _visit(self, rng: random.Random) -> None:
        paths = [
            "/echo",
            "/async",
            "/late",
            "/bare",
            "/end",
            "/fail",
            "/shared",
            "/dedicated",
            "/room/visitors",
        ]
        extensions = rng.choice(["", "permessage-deflate", "permessage-deflate; server_max_window_bits=9"])
        connection = connect(self._port, rng.choice(paths), extensions)
        # The server may end it first.
        with connection, contextlib.suppress(ConnectionError):
            self._talk(connection, rng)

    @staticmethod
    def _talk(connection: socket.socket, rng: random.Random) -> None:
        for _ in range(rng.randrange(4)):
            connection.sendall(frame(os.urandom(rng.choice([0, 10, 1000, 10_000]))))
        manner = rng.randrange(7)
        if manner == 0:
            # Politely: until the server has closed as well.
            connection.sendall(frame(struct.pack("!H", 1000) + b"bye", 8))
            while connection.recv(65_536):
                pass
        elif manner == 1:
            connection.sendall(frame(b"", 8))
        elif manner == 2:
            connection.sendall(frame(b"ping", 9) + frame(b"text", 1, fin=False))
        elif manner == 3:
            connection.sendall(frame(b"half of it" * 10)[:50])
        elif manner == 4:
            # Against the rules.
            connection.sendall(rng.choice([b"\xff\xff", frame(b"unmasked", masked=False), frame(b"\xff", 1)]))
            while connection.recv(65_536):
                pass
        elif manner == 5:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        if rng.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
