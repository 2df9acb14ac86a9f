"""A client of raw bytes: it sends a test's bytes and reads responses strictly."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class Answer:
    """One response, split but not interpreted."""

    status_line: str
    lines: list[str]
    body: bytes
    headers: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in self.lines:
            name, _, value = line.partition(": ")
            self.headers.setdefault(name.lower(), []).append(value)

    @property
    def status(self) -> int:
        return int(self.status_line.split(" ", 2)[1])

    def header(self, name: str) -> str | None:
        """The only value of a header; more than one is the test's failure."""
        values = self.headers.get(name.lower())
        if values is None:
            return None
        assert len(values) == 1, f"{name} is repeated: {values}"
        return values[0]


class Client:
    """One TCP connection (or one to a Unix socket, with ``path``)."""

    def __init__(self, port: int = 0, *, path: str | None = None, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        self.socket.settimeout(20)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect(("127.0.0.1", port) if path is None else path)
        except OSError:
            self.socket.close()
            raise
        self.pending = b""

    def send(self, data: bytes) -> Client:
        self.socket.sendall(data)
        return self

    def send_slowly(self, data: bytes) -> Client:
        """Sends each byte in a segment of its own."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            self.socket.sendall(bytes([byte]))
        return self

    def flood(self, data: bytes) -> int:
        """Sends until nothing more is taken for a while; returns how much was sent."""
        patience = self.socket.gettimeout()
        self.socket.settimeout(0.5)
        sent = 0
        try:
            while sent < len(data):
                sent += self.socket.send(memoryview(data)[sent:])
        except TimeoutError:
            pass
        finally:
            self.socket.settimeout(patience)
        return sent

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        *lines: str,
        body: bytes | None = None,
        version: str = "1.1",
    ) -> Client:
        """Sends a request; Host and Content-Length are added."""
        head = [f"{method} {target} HTTP/{version}", "Host: test", *lines]
        if body is not None:
            head.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join([*head, "", ""]).encode("latin-1") + (body or b""))

    def receive(self) -> bytes:
        """The next bytes; none after the server has closed."""
        try:
            return self.socket.recv(1 << 16)
        except ConnectionResetError:
            return b""

    def until(self, end: bytes) -> bytes:
        """Reads up to and including ``end``."""
        while end not in self.pending:
            data = self.receive()
            assert data, f"closed before {end!r}, after {self.pending!r}"
            self.pending += data
        found, self.pending = self.pending.split(end, 1)
        return found + end

    def exactly(self, count: int) -> bytes:
        parts, length = [self.pending], len(self.pending)
        while length < count:
            parts.append(self.receive())
            assert parts[-1], f"closed after {length} of {count} bytes"
            length += len(parts[-1])
        data = b"".join(parts)
        found, self.pending = data[:count], data[count:]
        return found

    def answer(self, method: str = "GET") -> Answer:
        """Reads one response by its framing; ``method`` is that of the request, since HEAD has no body."""
        status_line, *lines = self.until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        answer = Answer(status_line, lines, b"")
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        if answer.header("transfer-encoding") == "chunked":
            answer.body = self.chunks()
        elif (length := answer.header("content-length")) is not None:
            answer.body = self.exactly(int(length))
        else:
            answer.body = self.rest()
        return answer

    def chunks(self) -> bytes:
        body = b""
        while size := int(self.until(b"\r\n")[:-2], 16):
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"
        assert self.until(b"\r\n") == b"\r\n"
        return body

    def rest(self) -> bytes:
        """Everything until the server closes."""
        parts = [self.pending]
        while data := self.receive():
            parts.append(data)
        self.pending = b""
        return b"".join(parts)

    def get(self, target: str = "/", *lines: str) -> Answer:
        return self.request("GET", target, *lines).answer()

    def is_closed(self) -> bool:
        """Whether the server has closed and nothing is left to read."""
        return not self.pending and self.receive() == b""

    def half_close(self) -> Client:
        """Shuts the sending side; responses can still come."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Vanishes: the server sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
