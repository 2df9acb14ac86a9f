"""A client's half of the WebSocket protocol (RFC 6455), without sockets and without extensions."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .messages import Answer, Buffer, RequestOptions, Steps

__all__ = [
    "BINARY",
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "Event",
    "HandshakeRefused",
    "Protocol",
    "WebSocketClosed",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

#: RFC 6455 section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class HandshakeRefused(ConnectionError):
    """The server has not made a WebSocket of the request.

    Attributes:
        answer: What it has said instead.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.reason}: {answer.body[:200]!r}")
        self.answer = answer


class WebSocketClosed(ConnectionError):
    """The WebSocket has ended, and no message is left.

    Attributes:
        code: The code of the server's close frame; 1005 when it had none, 1006 when no such frame came
            (RFC 6455 section 7.4.1).
        reason: The text behind the code.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class Event(NamedTuple):
    """A whole message, or a control frame."""

    opcode: int
    payload: bytes


class Protocol:
    """Framing and the handshake of one connection."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._key = base64.b64encode(os.urandom(16)).decode()
        self._opcode = 0
        self._parts: list[bytes] = []
        self.protocol: str | None = None

    def handshake(self, options: RequestOptions, protocols: Sequence[str]) -> RequestOptions:
        """The options of the request that asks for a WebSocket."""
        fields = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", self._key),
        ]
        if protocols:
            fields.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
        given = options.get("headers", ())
        pairs = list(given.items()) if isinstance(given, Mapping) else list(given)
        taken = {name.lower() for name, _ in pairs}
        return {**options, "headers": [field for field in fields if field[0].lower() not in taken] + pairs}

    def accept(self, answer: Answer, protocols: Iterable[str]) -> None:
        """Checks the answer.

        Raises:
            HandshakeRefused: It is no 101.
            ConnectionError: It is a wrong one.
        """
        if answer.status != 101:
            raise HandshakeRefused(answer)
        expected = base64.b64encode(hashlib.sha1(self._key.encode() + _GUID).digest()).decode()
        if (accept := answer.headers["sec-websocket-accept"]) != expected:
            raise ConnectionError(f"Sec-WebSocket-Accept is {accept!r}, not {expected!r}")
        self.protocol = answer.headers["sec-websocket-protocol"]
        if self.protocol is not None and self.protocol not in protocols:
            raise ConnectionError(f"the server chose the protocol {self.protocol!r}, which was not offered")

    @staticmethod
    def frame(opcode: int, payload: bytes) -> bytes:
        """One frame, masked as a client's have to be (RFC 6455 section 5.3)."""
        size = len(payload)
        if size < 126:
            head = bytes([0x80 | opcode, 0x80 | size])
        elif size < 1 << 16:
            head = bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2, "big")
        else:
            head = bytes([0x80 | opcode, 0xFF]) + size.to_bytes(8, "big")
        mask = os.urandom(4)
        stream = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
        return head + mask + masked

    def event(self) -> Steps[Event]:
        """The next message, put together, or the next control frame.

        Raises:
            ConnectionError: The connection ended, or a frame breaks the rules.
        """
        while True:
            first, second = yield from self._buffer.exactly(2)
            opcode, size = first & 0x0F, second & 0x7F
            if first & 0x70 or second & 0x80:
                raise ConnectionError(f"a reserved bit or a mask: frame {first:#04x} {second:#04x}")
            if size > 125:
                size = int.from_bytes((yield from self._buffer.exactly(2 if size == 126 else 8)), "big")
            payload = yield from self._buffer.exactly(size)
            if opcode >= CLOSE:
                return Event(opcode, payload)
            if (opcode == CONTINUATION) != bool(self._opcode):
                raise ConnectionError(f"a frame with opcode {opcode} in an unexpected place")
            self._opcode = opcode or self._opcode
            self._parts.append(payload)
            if first & 0x80:
                event = Event(self._opcode, b"".join(self._parts))
                self._opcode, self._parts = 0, []
                return event

    @staticmethod
    def close_payload(code: int, reason: str) -> bytes:
        return code.to_bytes(2, "big") + reason.encode()

    @staticmethod
    def closed_by(payload: bytes) -> WebSocketClosed:
        """What a close frame says."""
        if not payload:
            return WebSocketClosed(1005, "")
        return WebSocketClosed(int.from_bytes(payload[:2], "big"), payload[2:].decode())
