"""A WebSocket client of raw frames: it sends a test's bytes, right or wrong, and interprets only on request.

It shares no code with the server: framing, masking and the key of the handshake are written down here once
more.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from support.client import Answer, Client

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
#: RFC 6455 1.3, and the example key and answer of that section.
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SAMPLE_KEY, SAMPLE_ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class Frame(NamedTuple):
    """One frame as it came."""

    fin: bool
    rsv1: bool
    opcode: int
    payload: bytes


def accept_for(key: str) -> str:
    """A server's correct response to a key (RFC 6455 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode("ascii")).digest()).decode("ascii")


def masked_with(mask: bytes, payload: bytes) -> bytes:
    """The payload under its mask; the same again takes it off."""
    size = len(payload)
    stream = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    mask: bytes | None = None,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """The bytes of one frame.

    Args:
        opcode: Four bits, valid or not.
        payload: The payload, before masking.
        fin: Whether the message ends with it.
        rsv: The three reserved bits as a number; 4 is RSV1.
        masked: Whether it is, as a client's frame must be.
        mask: The key; a random one without.
        length: The length to claim, when it shall not be the true one.
        length_bytes: 0, 2 or 8 bytes for the length after the first two, when it shall not be the shortest form.
    """
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 1 << 16 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([(fin << 7) | (rsv << 4) | opcode, (masked << 7) | short])
    head += size.to_bytes(length_bytes, "big") if length_bytes else b""
    if not masked:
        return head + payload
    mask = os.urandom(4) if mask is None else mask
    return head + mask + masked_with(mask, payload)


def close_payload(code: int | None, reason: bytes | str = b"") -> bytes:
    """The payload of a close frame; empty without a code."""
    reason = reason.encode() if isinstance(reason, str) else reason
    return b"" if code is None else struct.pack("!H", code) + reason


def handshake(
    path: str = "/",
    *,
    key: str | None = SAMPLE_KEY,
    version: str | None = "13",
    upgrade: str | None = "websocket",
    connection: str | None = "Upgrade",
    host: str | None = "test",
    method: str = "GET",
    http: str = "1.1",
    headers: Iterable[str] = (),
) -> bytes:
    """The head of a request for a WebSocket; None values are left out."""
    fixed = {
        "Host": host,
        "Upgrade": upgrade,
        "Connection": connection,
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": version,
    }
    lines = [f"{name}: {value}" for name, value in fixed.items() if value is not None]
    return "\r\n".join([f"{method} {path} HTTP/{http}", *lines, *headers, "", ""]).encode("latin-1")


class WebSocketClient(Client):
    """One connection. It begins as a plain :class:`Client`; :meth:`open` makes it a WebSocket."""

    response: Answer

    def open(
        self,
        path: str = "/",
        *,
        key: str | None = None,
        headers: Iterable[str] = (),
        first_frames: bytes = b"",
    ) -> WebSocketClient:
        """Asks for a WebSocket, and checks that it gets one.

        Args:
            path: Path and query.
            key: Sec-WebSocket-Key; a random one without.
            headers: Further header lines, ``"Name: value"``.
            first_frames: Bytes that go in the same segment as the request.
        """
        key = base64.b64encode(os.urandom(16)).decode() if key is None else key
        self.send(handshake(path, key=key, headers=headers) + first_frames)
        return self.opened(key)

    def opened(self, key: str = SAMPLE_KEY) -> WebSocketClient:
        """Reads the response to a handshake, which must be a right 101."""
        self.response = answer = self.answer()
        assert answer.status == 101, f"{answer.status_line}: {answer.body!r}"
        assert (answer.header("upgrade") or "").lower() == "websocket", f"Upgrade: {answer.lines}"
        assert (answer.header("connection") or "").lower() == "upgrade", f"Connection: {answer.lines}"
        accept = answer.header("sec-websocket-accept")
        assert accept == accept_for(key), f"{accept} is no answer to {key}"
        for name in ("content-length", "transfer-encoding"):
            assert answer.header(name) is None, f"a 101 has no {name}"
        return self

    @property
    def protocol(self) -> str | None:
        return self.response.header("sec-websocket-protocol")

    @property
    def extensions(self) -> str | None:
        return self.response.header("sec-websocket-extensions")

    # ---- sending --------------------------------------------------------------------------------------------------------

    def send_frame(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        fin: bool = True,
        rsv: int = 0,
        masked: bool = True,
        mask: bytes | None = None,
    ) -> WebSocketClient:
        self.send(frame(opcode, payload, fin=fin, rsv=rsv, masked=masked, mask=mask))
        return self

    def send_text(self, text: str | bytes) -> WebSocketClient:
        return self.send_frame(TEXT, text.encode() if isinstance(text, str) else text)

    def send_binary(self, data: bytes) -> WebSocketClient:
        return self.send_frame(BINARY, data)

    def ping(self, payload: bytes = b"") -> WebSocketClient:
        return self.send_frame(PING, payload)

    def pong(self, payload: bytes = b"") -> WebSocketClient:
        return self.send_frame(PONG, payload)

    def send_close(self, code: int | None = 1000, reason: bytes | str = b"") -> WebSocketClient:
        return self.send_frame(CLOSE, close_payload(code, reason))

    # ---- receiving ------------------------------------------------------------------------------------------------------

    def recv_frame(self) -> Frame:
        """The next frame of the server, of any kind. A forbidden frame fails the test."""
        first, second = self.exactly(2)
        opcode, size = first & 0x0F, second & 0x7F
        assert not first & 0x30, f"RSV2 or RSV3 is set: {first:08b}"
        assert not second & 0x80, "a server does not mask"
        if size == 126:
            size = int.from_bytes(self.exactly(2), "big")
            assert size > 125, f"{size} does not need two bytes"
        elif size == 127:
            size = int.from_bytes(self.exactly(8), "big")
            assert 1 << 16 <= size < 1 << 63, f"{size} does not need eight bytes"
        fin = bool(first & 0x80)
        assert opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG), f"opcode {opcode}"
        if opcode >= CLOSE:
            assert fin, "a control frame is whole"
            assert size <= 125, f"a control frame of {size} bytes"
            assert not first & 0x40, "a control frame is not compressed"
        return Frame(fin, bool(first & 0x40), opcode, self.exactly(size))

    def recv_data(self) -> tuple[int, bytes]:
        """The next message, put together: its opcode and its bytes. Anything but a data frame is the test's failure."""
        fin, rsv1, opcode, payload = self.recv_frame()
        assert opcode in (TEXT, BINARY), f"opcode {opcode} in place of a message: {payload!r}"
        assert not rsv1, "compressed, though nobody has agreed to it"
        parts = [payload]
        while not fin:
            fin, rsv1, follows, payload = self.recv_frame()
            assert (rsv1, follows) == (False, CONTINUATION)
            parts.append(payload)
        return opcode, b"".join(parts)

    def recv_message(self) -> str | bytes:
        """The next message: text as ``str``, binary as ``bytes``."""
        opcode, payload = self.recv_data()
        return payload.decode() if opcode == TEXT else payload

    def expect_close(self) -> tuple[int | None, bytes]:
        """The server's close frame must come next, and then its end of the connection; (None, b"") for an empty one."""
        closing = self.expect_close_frame()
        assert self.is_closed(), f"after the close frame: {self.pending!r}"
        return closing

    def expect_close_frame(self) -> tuple[int | None, bytes]:
        """The server's close frame must come next."""
        _, _, opcode, payload = self.recv_frame()
        assert opcode == CLOSE, f"opcode {opcode} in place of a close frame: {payload!r}"
        assert len(payload) != 1, "a code is two bytes"
        if not payload:
            return None, b""
        reason = payload[2:]
        reason.decode()
        return int.from_bytes(payload[:2], "big"), reason

    def finish(self, code: int | None = 1000, reason: bytes | str = b"") -> tuple[int | None, bytes]:
        """Closes politely: sends the reason, and returns the server's close frame before the end of the
        connection."""
        return self.send_close(code, reason).expect_close()

    # ---- being difficult ------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Vanishes with a RST, as a client that was killed."""
        self.reset()

    def is_dropped(self) -> bool:
        """Whether the connection ends here without a close frame."""
        return self.is_closed()


def connect(
    port: int,
    path: str = "/",
    *,
    key: str | None = None,
    headers: Iterable[str] = (),
    first_frames: bytes = b"",
    receive_buffer: int | None = None,
) -> WebSocketClient:
    """An open WebSocket. With a small ``receive_buffer``, a client that does not read is soon felt by the server."""
    client = WebSocketClient(port, receive_buffer=receive_buffer)
    try:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client.open(path, key=key, headers=headers, first_frames=first_frames)
    except BaseException:
        client.close()
        raise
