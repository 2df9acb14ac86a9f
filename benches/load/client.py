"""The clients other than wrk: they check responses, move large bodies and hold connections open."""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import certificate

HOST = "127.0.0.1"
TIMEOUT = 20.0
HELLO = b"Hello, World!"
BODY = Path(__file__).parent / "body.json"
UPLOAD_BYTES = 10 * 1024 * 1024
DOWNLOAD_BYTES = 100 * 1024 * 1024
PATTERN = b"0123456789abcdef"


class WrongAnswer(Exception):
    """The server sent a wrong response."""


@dataclass(frozen=True)
class Transport:
    """The protocol of a server."""

    tls: bool = False
    http2: bool = False

    @property
    def scheme(self) -> str:
        """The scheme of a URL."""
        return "https" if self.tls else "http"

    def secure(self, connection: socket.socket) -> socket.socket:
        """Does the TLS handshake if there is TLS: 1.3 and nothing older, so that every server does the
        same."""
        if not self.tls:
            return connection
        return self.context().wrap_socket(connection, server_hostname=HOST)

    def context(self) -> ssl.SSLContext:
        """The settings that verify the server."""
        context = ssl.create_default_context(cafile=certificate.files()[0])
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2" if self.http2 else "http/1.1"])
        return context

    def question(self) -> bytes:
        """Bytes that get a response at once."""
        if self.http2:
            return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EMPTY_SETTINGS
        return b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


PLAIN = Transport()
EMPTY_SETTINGS = b"\0\0\0\4\0\0\0\0\0"

# The errors of a connection to a server.
FAILURES = (WrongAnswer, OSError, http.client.HTTPException)


@dataclass(frozen=True)
class Answer:
    """A response, read whole."""

    status: int
    body: bytes

    def expect(self, body: bytes) -> None:
        """Checks for 200 and this body."""
        if (self.status, self.body) != (200, body):
            raise WrongAnswer(f"status {self.status}, body {self.body[:80]!r} where {body[:80]!r} was due")

    def expect_json(self, value: object) -> None:
        """Checks for 200 and this JSON, with any spacing."""
        try:
            found = json.loads(self.body)
        except ValueError:
            found = None
        if self.status != 200 or found != value:
            raise WrongAnswer(f"status {self.status}, body {self.body[:80]!r} where {value!r} was due")


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, transport: Transport = PLAIN) -> None:
        """Connects when the first request is sent."""
        self.port = port
        self.transport = transport
        self.connection = (
            http.client.HTTPSConnection(HOST, port, timeout=TIMEOUT, context=transport.context())
            if transport.tls
            else http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)
        )
        self.buffer = memoryview(bytearray(256 * 1024))

    def cipher(self) -> str:
        """The TLS version and the cipher of a used connection."""
        secured = self.connection.sock
        agreed = secured.cipher() if isinstance(secured, ssl.SSLSocket) else None
        if agreed is None:
            raise WrongAnswer("this connection is not one over TLS")
        return f"{agreed[1]} {agreed[0]}"

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()

    def get(self, path: str) -> Answer:
        """Sends a GET."""
        self.connection.request("GET", path)
        return self._answer()

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        """Sends a POST."""
        self.connection.request("POST", path, body, {"Content-Type": content_type})
        return self._answer()

    def upload(self, body: bytes) -> None:
        """Sends a large body and checks that the server counted all of it."""
        self.post("/upload", body, "application/octet-stream").expect(str(len(body)).encode())

    def download(self, *, compare: bool = False) -> None:
        """Receives the large body and counts it; compares it byte for byte if asked to."""
        self.connection.request("GET", "/download")
        response = self.connection.getresponse()
        expected = memoryview(PATTERN * (len(self.buffer) // len(PATTERN) + 1))
        total = 0
        while received := response.readinto(self.buffer):
            if compare:
                start = total % len(PATTERN)
                if self.buffer[:received] != expected[start : start + received]:
                    raise WrongAnswer(f"download differs within the {received} bytes after byte {total}")
            total += received
        if response.status != 200 or total != DOWNLOAD_BYTES:
            raise WrongAnswer(f"status {response.status}, {total} bytes where {DOWNLOAD_BYTES} were due")

    def _answer(self) -> Answer:
        response = self.connection.getresponse()
        return Answer(response.status, response.read())


def first_answer(
    port: int, transport: Transport, since: float, deadline: float, alive: Callable[[], bool]
) -> float | None:
    """Connects until there is a response, and returns the time; None if the server ends or time runs out."""
    while time.perf_counter() < deadline and alive():
        with socket.socket() as connection:
            connection.settimeout(TIMEOUT)
            try:
                connection.connect((HOST, port))
                with transport.secure(connection) as secured:
                    secured.sendall(transport.question())
                    answered = bool(secured.recv(1024))
            except OSError:
                answered = False
            if answered:
                return time.perf_counter() - since
        time.sleep(0.0005)
    return None


def open_idle(port: int, count: int) -> list[socket.socket]:
    """Opens connections, sends one request on each, and keeps them."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connections: list[socket.socket] = []
    try:
        for _ in range(count):
            connection = socket.create_connection((HOST, port), TIMEOUT)
            connections.append(connection)
            connection.sendall(request)
            received = b""
            while not received.endswith(HELLO):
                piece = connection.recv(4096)
                if not piece:
                    raise WrongAnswer("connection closed before it was answered")
                received += piece
    except BaseException:
        close_all(connections)
        raise
    return connections


def still_open(connections: list[socket.socket]) -> int:
    """Counts the connections that the server has not closed."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN | select.POLLRDHUP)
    return len(connections) - len(poll.poll(0))


def close_all(connections: list[socket.socket]) -> None:
    """Closes connections."""
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.close()
