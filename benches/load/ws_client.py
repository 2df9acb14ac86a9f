"""The WebSocket client that checks messages. It is slow, and independent of the load generator."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing

from client import HOST, TIMEOUT, WrongAnswer

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN, RSV1 = 0x80, 0x40
DEFLATE = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
TAIL = b"\x00\x00\xff\xff"
# The time that a server may need after its last handshake until all are subscribed.
SETTLING = 0.2


class WebSocket:
    """One WebSocket connection."""

    def __init__(self, port: int, path: str, *, deflate: bool = False) -> None:
        """Connects, and checks the handshake."""
        self.connection = socket.create_connection((HOST, port), TIMEOUT)
        self.input = self.connection.makefile("rb")
        try:
            self._upgrade(port, path, deflate)
        except BaseException:
            self.close()
            raise

    def _upgrade(self, port: int, path: str, deflate: bool) -> None:
        key = base64.b64encode(os.urandom(16))
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {HOST}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}",
            "Sec-WebSocket-Version: 13",
        ]
        if deflate:
            lines.append(f"Sec-WebSocket-Extensions: {DEFLATE}")
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode())
        status = self.input.readline().decode().split(maxsplit=2)
        if status[1:2] != ["101"]:
            raise WrongAnswer(f"{path}: {' '.join(status) or 'no answer'} where 101 was due")
        headers = dict(self._headers())
        due = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        if headers.get("sec-websocket-accept") != due.decode():
            raise WrongAnswer(f"{path}: Sec-WebSocket-Accept is wrong")
        agreed = headers.get("sec-websocket-extensions", "")
        if (deflate and "server_no_context_takeover" not in agreed) or (not deflate and agreed):
            raise WrongAnswer(f"{path}: the extension agreed on is {agreed!r}")

    def _headers(self) -> Iterator[tuple[str, str]]:
        while line := self.input.readline().decode().strip():
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()

    def close(self) -> None:
        """Drops the connection."""
        self.input.close()
        self.connection.close()

    def send(self, first: int, payload: bytes) -> None:
        """Sends a frame; `first` is its opcode with the bits before it."""
        size = len(payload)
        if size < 126:
            head = bytes([first, FIN | size])
        elif size < 1 << 16:
            head = bytes([first, FIN | 126]) + size.to_bytes(2, "big")
        else:
            head = bytes([first, FIN | 127]) + size.to_bytes(8, "big")
        mask = os.urandom(4)
        key = int.from_bytes(mask * (size // 4 + 1), "big") >> 8 * (4 - size % 4)
        masked = (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")
        self.connection.sendall(head + mask + masked)

    def receive(self) -> tuple[int, bytes]:
        """Receives a frame, as `send` takes it."""
        first, size = self._read(2)
        if size == 126:
            size = int.from_bytes(self._read(2), "big")
        elif size == 127:
            size = int.from_bytes(self._read(8), "big")
        return first, self._read(size)

    def _read(self, size: int) -> bytes:
        found = self.input.read(size)
        if len(found) < size:
            raise WrongAnswer("the server has closed the connection")
        return found

    def expect(self, first: int, payload: bytes) -> None:
        """Checks for this frame."""
        if (found := self.receive()) != (first, payload):
            shown = f"{found[0]:#04x} {found[1][:60]!r} ({len(found[1])} bytes)"
            raise WrongAnswer(f"frame {shown} where {first:#04x} {payload[:60]!r} ({len(payload)}) was due")

    def say_goodbye(self) -> None:
        """Does the close handshake."""
        reason = (1000).to_bytes(2, "big")
        self.send(FIN | CLOSE, reason)
        first, payload = self.receive()
        if first != FIN | CLOSE or payload[:2] != reason:
            raise WrongAnswer(f"frame {first:#04x} {payload!r} where a close frame was due")


def check_echo(port: int, path: str) -> None:
    """Messages of every length class come back unchanged, pings get pongs, and the socket ends correctly."""
    with closing(WebSocket(port, path)) as ws:
        for size in (1, 32, 125, 126, 65_535, 65_536, 200_000):
            payload = os.urandom(size)
            ws.send(FIN | BINARY, payload)
            ws.expect(FIN | BINARY, payload)
        for text in ("Hello, World!", "Grüße, 世界"):
            ws.send(FIN | TEXT, text.encode())
            ws.expect(FIN | TEXT, text.encode())
        ws.send(FIN | PING, b"there?")
        ws.expect(FIN | PONG, b"there?")
        ws.say_goodbye()


def check_deflate(port: int, path: str) -> None:
    """Compressed messages come back compressed, each by itself."""
    with closing(WebSocket(port, path, deflate=True)) as ws:
        for text in (b'{"some": "JSON"}' * 64, b"A" * 5000, b'{"some": "JSON"}' * 64):
            compressor = zlib.compressobj(wbits=-15)
            compressed = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
            ws.send(FIN | RSV1 | TEXT, compressed.removesuffix(TAIL))
            first, payload = ws.receive()
            if first != FIN | RSV1 | TEXT or inflate(payload) != text:
                raise WrongAnswer(
                    f"frame {first:#04x} of {len(payload)} bytes is not what was sent, compressed"
                )
        ws.say_goodbye()


def inflate(payload: bytes) -> bytes:
    """Inflates a message that was compressed by itself."""
    try:
        return zlib.decompressobj(wbits=-15).decompress(payload + TAIL)
    except zlib.error as error:
        raise WrongAnswer(f"a message does not inflate: {error}") from error


def check_topic(port: int, path: str) -> None:
    """Each published message reaches all subscribers, in order."""
    with ExitStack() as stack:
        members = [stack.enter_context(closing(WebSocket(port, path))) for _ in range(3)]
        time.sleep(SETTLING)
        for sender in members:
            messages = [os.urandom(128) for _ in range(4)]
            for message in messages:
                sender.send(FIN | BINARY, message)
            for receiver in members:
                for message in messages:
                    receiver.expect(FIN | BINARY, message)


def command(ws: WebSocket, name: str, first: int, end: int) -> int:
    """Runs a command on these topics, and counts the messages published before its end."""
    ws.send(FIN | TEXT, f"{name} {first} {end}".encode())
    published = 0
    while (found := ws.receive()) == (FIN | TEXT, b"published"):
        published += 1
    if found != (FIN | TEXT, b"done"):
        raise WrongAnswer(f"frame {found[0]:#04x} {found[1][:60]!r} where `done` was due")
    return published


def check_topics(port: int, path: str) -> None:
    """Topics with one subscriber reach it."""
    with closing(WebSocket(port, path)) as ws:
        command(ws, "subscribe", 0, 100)
        receive_published(ws, 90, 110, 10)


def receive_published(ws: WebSocket, first: int, end: int, due: int) -> None:
    """Publishes to these topics and receives the messages, before `done` or after it."""
    for _ in range(due - command(ws, "publish", first, end)):
        ws.expect(FIN | TEXT, b"published")
