"""What a client says and hears on one connection, without its socket: the blocking client and the asynchronous one drive it.

Each step is a generator, which yields bytes to be sent, or None where it needs more and is then sent what has come.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from .frames import BINARY, CLOSE, PING, PONG, TEXT, Event, Protocol, WebSocketClosed
from .messages import (
    LAST_CHUNK,
    Answer,
    Body,
    Buffer,
    RequestOptions,
    Steps,
    encode_chunk,
    encode_request,
    read_head,
)

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = ["Address", "HttpSession", "SocketSession", "chunks", "resumed"]

_T = TypeVar("_T")

#: Host and port, or the path of a Unix socket.
Address: TypeAlias = tuple[str, int] | str


def resumed(steps: Steps[_T]) -> Steps[_T]:
    """Goes on with steps where they stand.

    They stay as they are when this is given up at a timeout or a cancellation. ``yield from`` would close them, and what has
    come of a message would be lost.
    """
    try:
        wanted = next(steps) if inspect.getgeneratorstate(steps) == inspect.GEN_CREATED else None
        while True:
            wanted = steps.send((yield wanted))
    except StopIteration as end:
        result: _T = end.value
        return result


def chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """A body in pieces, as chunks."""
    for piece in pieces:
        yield encode_chunk(piece)
    yield LAST_CHUNK


class HttpSession:
    """Requests and answers, one after the other.

    Args:
        address: Where the server listens.
        server_name: The host to ask for; None for that of the address.

    Attributes:
        buffer: Bytes that have come and have not been read.
    """

    def __init__(self, address: Address, server_name: str | None) -> None:
        self.buffer = Buffer()
        self._host = _host(address, server_name)
        # Methods of requests whose answers are to come.
        self._sent: list[str] = []

    def request(
        self, method: str, path: str, options: RequestOptions
    ) -> tuple[bytes, Iterable[bytes] | AsyncIterable[bytes] | None]:
        """A request's bytes, and the pieces that follow as chunks, if its body comes in pieces."""
        encoded = encode_request(method, path, self._host, options)
        self._sent.append(method)
        return encoded

    def head(self) -> Steps[tuple[Answer, Body]]:
        """Reads the head of the answer to the first request that has none yet."""
        answer = yield from read_head(self.buffer)
        method = self._sent.pop(0) if self._sent else "GET"
        return answer, Body(self.buffer, method, answer)

    def answer(self) -> Steps[Answer]:
        """Reads an answer with its body."""
        answer, body = yield from self.head()
        answer.body = yield from body.whole()
        return answer


class SocketSession:
    """A client's side of a WebSocket.

    Args:
        buffer: That of the connection.

    Attributes:
        protocol: Framing and the handshake.
        closed: How the server has ended it; None while it has not.
    """

    def __init__(self, buffer: Buffer) -> None:
        self.protocol = Protocol(buffer)
        self.closed: WebSocketClosed | None = None
        self._event: Steps[Event] | None = None

    def send(self, message: str | bytes) -> Steps[None]:
        """Sends a text message for ``str``, a binary one for bytes."""
        if isinstance(message, str):
            yield from self._send(TEXT, message.encode())
        else:
            yield from self._send(BINARY, bytes(message))

    def receive(self) -> Steps[str | bytes]:
        """Waits for a message."""
        while True:
            opcode, payload = yield from self._next()
            if opcode in (TEXT, BINARY):
                return payload.decode() if opcode == TEXT else payload

    def ping(self, payload: bytes) -> Steps[None]:
        """Sends a ping and waits for its pong."""
        yield from self._send(PING, payload)
        while (yield from self._next()) != (PONG, payload):
            pass

    def wait_closed(self) -> Steps[WebSocketClosed]:
        """Waits for the end."""
        while self.closed is None:
            try:
                yield from self._next()
            except WebSocketClosed as end:
                return end
        return self.closed

    def close(self, code: int, reason: str) -> Steps[WebSocketClosed]:
        """Says why it closes, and waits for the answer to that."""
        if self.closed is None:
            yield from self._send(CLOSE, Protocol.close_payload(code, reason))
        return (yield from self.wait_closed())

    def _send(self, opcode: int, payload: bytes) -> Steps[None]:
        if self.closed is not None:
            raise self.closed
        yield Protocol.frame(opcode, payload)

    def _next(self) -> Steps[Event]:
        """The next event. Pings have been answered, and the end is raised."""
        if self.closed is not None:
            raise self.closed
        try:
            # What is half there at a timeout stays.
            self._event = self._event or self.protocol.event()
            event = yield from resumed(self._event)
        except ConnectionError as error:
            self.closed = WebSocketClosed(1006, str(error))
            raise self.closed from error
        self._event = None
        if event.opcode == PING:
            yield Protocol.frame(PONG, event.payload)
        elif event.opcode == CLOSE:
            self.closed = Protocol.closed_by(event.payload)
            # The other half of the handshake, unless it was ours that came first; the server then takes no notice.
            yield Protocol.frame(CLOSE, event.payload[:2])
            raise self.closed
        return event


def _host(address: Address, server_name: str | None) -> str:
    if isinstance(address, str):
        return server_name or "localhost"
    host, port = address
    host = server_name or host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
