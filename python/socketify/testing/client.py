"""The client of tests that are plain functions."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .frames import WebSocketClosed
from .messages import Answer, Body, Lines, RequestOptions, Steps
from .session import Address, HttpSession, SocketSession, chunks, resumed

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self, Unpack

__all__ = ["Connection", "Stream", "WebSocketSession"]

_T = TypeVar("_T")


class Connection:
    """One connection: requests one after the other, or any bytes at all.

    It is closed at the end of a ``with`` block.

    Attributes:
        socket: The socket, for what the methods do not do. What has been read from it and not used is in ``pending``.
        timeout: Seconds that each call may take.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        ssl_context: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        self._session = HttpSession(address, server_name)
        self._deadline = 0.0
        self.timeout = timeout
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else _family(address[0]))
        try:
            self.socket.settimeout(timeout)
            self.socket.connect(address)
            if ssl_context is not None:
                self.socket = ssl_context.wrap_socket(self.socket, server_hostname=server_name or "localhost")
        except BaseException:
            self.socket.close()
            raise

    @property
    def pending(self) -> bytes:
        """Bytes that have come and belong to no answer yet."""
        return bytes(self._session.buffer.pending)

    def send(self, data: bytes) -> Self:
        """Sends bytes as they are.

        Raises:
            TimeoutError: The server does not take them.
        """
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)
        return self

    def receive(self) -> bytes:
        """Bytes as they come; nothing at the end.

        Raises:
            TimeoutError: None came.
        """
        self._begin()
        return self._run(self._session.buffer.any())

    def request(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a request and reads its answer.

        Args:
            method: GET, POST and so on.
            path: Path, and query if any; what is not ASCII is encoded.
            **options: ``params``, ``headers``, ``cookies``, ``body``, ``json``, ``form`` and ``timeout``, see
                :class:`~socketify.testing.messages.RequestOptions`.

        Returns:
            The answer.

        Raises:
            TimeoutError: It has not come in time.
            ConnectionError: The server has closed the connection, or its answer is none.
            ValueError: The request cannot be sent as it is.
        """
        self.send_request(method, path, **options)
        return self._run(self._session.answer())

    def send_request(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> Self:
        """Sends a request and does not wait; :meth:`answer` reads what comes. Several can be sent ahead."""
        head, pieces = self._session.request(method, path, options)
        self._begin(options.get("timeout"))
        self._send(head)
        if pieces is not None:
            for chunk in chunks(pieces):  # type: ignore[arg-type]
                self._send(chunk)
        return self

    def answer(self) -> Answer:
        """Reads the answer to the first request that has none yet; see :meth:`request`."""
        self._begin()
        return self._run(self._session.answer())

    def stream(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> Stream:
        """Sends a request and reads the head of its answer; the body is read by iterating over what this gives."""
        self.send_request(method, path, **options)
        return Stream(self, *self._run(self._session.head()))

    def close(self) -> None:
        """Closes the connection. Closing it again does nothing."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, timeout: float | None = None) -> None:
        self._deadline = time.monotonic() + (self.timeout if timeout is None else timeout)

    def _patience(self) -> float:
        # Not 0, which would not wait at all but is another error.
        return max(self._deadline - time.monotonic(), 1e-3)

    def _send(self, data: bytes) -> None:
        self.socket.settimeout(self._patience())
        # A server may answer, and close, before it has read everything: what it has said is to be heard.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def _run(self, steps: Steps[_T]) -> _T:
        try:
            wanted = next(steps)
            while True:
                if wanted is None:
                    wanted = steps.send(self._read())
                else:
                    self._send(wanted)
                    wanted = steps.send(b"")
        except StopIteration as end:
            result: _T = end.value
            return result

    def _read(self) -> bytes:
        self.socket.settimeout(self._patience())
        try:
            return self.socket.recv(1 << 16)
        except ConnectionResetError:
            return b""
        except TimeoutError:
            last = self.pending[-200:]
            raise TimeoutError(f"no more bytes within the timeout, after {last!r}") from None


class Stream:
    """An answer whose body is read as it comes; leaving its ``with`` block closes the connection.

    Iterating gives pieces of bytes as they arrive, without their framing.

    Attributes:
        status: The status code.
        headers: The header fields, as in :class:`Answer`.
    """

    def __init__(self, connection: Connection, answer: Answer, body: Body) -> None:
        self._connection = connection
        self._body = body
        self.status = answer.status
        self.headers = answer.headers
        self._lines = Lines()

    def __iter__(self) -> Self:
        return self

    # No generator: one that has raised a TimeoutError has ended, and its body would seem complete.
    def __next__(self) -> bytes:
        if piece := self.read():
            return piece
        raise StopIteration

    def read(self) -> bytes:
        """The next bytes, as soon as there are any; nothing at the end of the body.

        Raises:
            TimeoutError: None came in time.
            ConnectionError: The connection ended before the body did.
        """
        self._connection._begin()
        return self._connection._run(resumed(self._body.next_piece()))

    def lines(self) -> Iterator[str]:
        """The body as lines of text, without their ends, as soon as each is there: for server-sent events and the like.

        After a timeout it goes on where it stood; so does another iterator of the same answer.
        """
        return _LineIterator(self, self._lines)

    def close(self) -> None:
        """Closes the connection, whether the body has ended or not: the handler sees that its client has left."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _LineIterator(Iterator[str]):
    def __init__(self, stream: Stream, lines: Lines) -> None:
        self._stream = stream
        self._lines = lines

    def __next__(self) -> str:
        while (line := self._lines.next()) is None:
            if self._lines.ended:
                raise StopIteration
            self._lines.feed(self._stream.read())
        return line


class WebSocketSession:
    """A client's side of a WebSocket. It answers pings while it receives, and is closed at the end of a ``with`` block.

    Iterating gives messages until the server closes.

    Attributes:
        answer: The answer to the handshake, with its headers.
        protocol: The subprotocol that the server chose, or None.
        connection: The connection below, for frames that break the rules.
    """

    def __init__(
        self, connection: Connection, path: str, protocols: Sequence[str], options: RequestOptions
    ) -> None:
        self.connection = connection
        self._session = SocketSession(connection._session.buffer)
        protocol = self._session.protocol
        try:
            self.answer = connection.request("GET", path, **protocol.handshake(options, protocols))
            protocol.accept(self.answer, protocols)
        except BaseException:
            connection.close()
            raise
        self.protocol = protocol.protocol

    @property
    def closed(self) -> bool:
        """Whether the end has been received."""
        return self._session.closed is not None

    def send(self, message: str | bytes) -> None:
        """Sends ``str`` as a text message, bytes as a binary one."""
        self._run(self._session.send(message))

    def send_json(self, value: Any) -> None:
        """Sends a value as JSON in a text message."""
        self.send(json.dumps(value))

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Waits for a message.

        Args:
            timeout: Seconds to wait; None, the default, means the connection's ``timeout``.

        Returns:
            ``str`` for a text message, ``bytes`` for a binary one.

        Raises:
            WebSocketClosed: The WebSocket has ended; its ``code`` and ``reason`` say how.
            TimeoutError: No message came.
        """
        return self._run(self._session.receive(), timeout)

    def receive_json(self, timeout: float | None = None) -> Any:
        """Waits for a message, and gives what it is as JSON; see :meth:`receive`."""
        return json.loads(self.receive(timeout))

    def ping(self, payload: bytes = b"") -> None:
        """Sends a ping and waits for its pong. Messages that come before that are dropped.

        Raises:
            WebSocketClosed: The WebSocket has ended.
            TimeoutError: No pong came.
        """
        self._run(self._session.ping(payload))

    def wait_closed(self, timeout: float | None = None) -> WebSocketClosed:
        """Waits for the server to end the WebSocket, dropping messages, and gives how it did: ``code`` and ``reason``."""
        return self._run(self._session.wait_closed(), timeout)

    def close(self, code: int = 1000, reason: str = "") -> WebSocketClosed:
        """Closes: says why, and waits for the server's answer to it. Closing again does nothing.

        Returns:
            How the server has ended it: ``code`` and ``reason``.
        """
        end = self._run(self._session.close(code, reason))
        self.connection.close()
        return end

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str | bytes:
        try:
            return self.receive()
        except WebSocketClosed:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.close()
        finally:
            self.connection.close()

    def _run(self, steps: Steps[_T], timeout: float | None = None) -> _T:
        self.connection._begin(timeout)
        return self.connection._run(steps)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
