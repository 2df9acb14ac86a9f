"""The client of tests that are coroutines; each name does what its namesake in ``client`` does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from http.client import HTTPMessage
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .frames import WebSocketClosed
from .messages import LAST_CHUNK, Answer, Body, Lines, RequestOptions, Steps, encode_chunk
from .session import Address, HttpSession, SocketSession, chunks, resumed

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self, Unpack

__all__ = ["AsyncConnection", "AsyncStream", "AsyncWebSocketSession"]

_T = TypeVar("_T")


class AsyncConnection:
    """One connection: requests one after the other, or any bytes at all. See :class:`Connection`.

    It is opened and closed by ``async with``.

    Attributes:
        timeout: Seconds that each call may take.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        ssl_context: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        self._address = address
        self._session = HttpSession(address, server_name)
        self._secure: dict[str, Any] = {}
        if ssl_context is not None:
            self._secure = {"ssl": ssl_context, "server_hostname": server_name or "localhost"}
        self._deadline = 0.0
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None
        self.timeout = timeout

    async def open(self) -> Self:
        """Connects; ``async with`` does it too."""
        opening = (
            asyncio.open_unix_connection(self._address, **self._secure)
            if isinstance(self._address, str)
            else asyncio.open_connection(*self._address, **self._secure)
        )
        try:
            self._reader, self._writer = await asyncio.wait_for(opening, self.timeout)
        except asyncio.TimeoutError:
            raise TimeoutError(f"no connection with {self._address} within {self.timeout} s") from None
        return self

    @property
    def pending(self) -> bytes:
        """Bytes that have come and belong to no answer yet."""
        return bytes(self._session.buffer.pending)

    async def send(self, data: bytes) -> Self:
        """Sends bytes as they are."""
        self._begin()
        await self._send(data)
        return self

    async def receive(self) -> bytes:
        """Bytes as they come; nothing at the end."""
        self._begin()
        return await self._run(self._session.buffer.any())

    async def request(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a request and reads its answer; see :meth:`Connection.request`. ``body`` may be an async iterable too."""
        await self.send_request(method, path, **options)
        return await self._run(self._session.answer())

    async def send_request(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> Self:
        """Sends a request and does not wait; :meth:`answer` reads what comes. Several can be sent ahead."""
        head, pieces = self._session.request(method, path, options)
        self._begin(options.get("timeout"))
        await self._send(head)
        if isinstance(pieces, AsyncIterable):
            async for piece in pieces:
                await self._send(encode_chunk(piece))
            await self._send(LAST_CHUNK)
        elif pieces is not None:
            for chunk in chunks(pieces):
                await self._send(chunk)
        return self

    async def answer(self) -> Answer:
        """Reads the answer to the first request that has none yet."""
        self._begin()
        return await self._run(self._session.answer())

    def stream(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> AsyncStream:
        """Gives an answer whose body is read as it comes: ``async with`` sends the request and reads the head."""
        return AsyncStream(self, method, path, options)

    async def close(self) -> None:
        """Closes the connection. Closing it again does nothing."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self if self._writer is not None else await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _begin(self, timeout: float | None = None) -> None:
        self._deadline = asyncio.get_running_loop().time() + (self.timeout if timeout is None else timeout)

    def _patience(self) -> float:
        return max(self._deadline - asyncio.get_running_loop().time(), 1e-3)

    async def _send(self, data: bytes) -> None:
        if self._writer is None:
            raise ConnectionError("the connection is closed")
        # A server may answer, and close, before it has read everything: what it has said is to be heard.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._writer.write(data)
            try:
                await asyncio.wait_for(self._writer.drain(), self._patience())
            except asyncio.TimeoutError:
                raise TimeoutError("the server reads no more bytes") from None

    async def _run(self, steps: Steps[_T]) -> _T:
        try:
            wanted = next(steps)
            while True:
                if wanted is None:
                    wanted = steps.send(await self._read())
                else:
                    await self._send(wanted)
                    wanted = steps.send(b"")
        except StopIteration as end:
            result: _T = end.value
            return result

    async def _read(self) -> bytes:
        try:
            return await asyncio.wait_for(self._reader.read(1 << 16), self._patience())
        except ConnectionResetError:
            return b""
        except asyncio.TimeoutError:
            last = self.pending[-200:]
            raise TimeoutError(f"no more bytes within the timeout, after {last!r}") from None


class AsyncStream:
    """An answer whose body is read as it comes; ``async with`` sends the request, and closes the
    connection at the end.

    Iterating gives pieces of bytes as they arrive, without their framing.

    Attributes:
        status: The status code.
        headers: The header fields, as in :class:`Answer`.
    """

    status: int
    headers: HTTPMessage

    def __init__(self, connection: AsyncConnection, method: str, path: str, options: RequestOptions) -> None:
        self._connection = connection
        self._request = (method, path, options)
        self._body: Body
        self._lines = Lines()

    def __aiter__(self) -> Self:
        return self

    # No generator: one that was cancelled while it waited has ended, and its body would seem complete.
    async def __anext__(self) -> bytes:
        if piece := await self.read():
            return piece
        raise StopAsyncIteration

    async def read(self) -> bytes:
        """The next bytes, as soon as there are any; see :meth:`Stream.read`."""
        self._connection._begin()
        return await self._connection._run(resumed(self._body.next_piece()))

    def lines(self) -> AsyncIterator[str]:
        """The body as lines of text, without their ends, as soon as each is there; see :meth:`Stream.lines`."""
        return _LineIterator(self, self._lines)

    async def close(self) -> None:
        """Closes the connection, whether the body has ended or not: the handler sees that its client has left."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        method, path, options = self._request
        try:
            await self._connection.__aenter__()
            await self._connection.send_request(method, path, **options)
            answer, self._body = await self._connection._run(self._connection._session.head())
        except BaseException:
            await self._connection.close()
            raise
        self.status, self.headers = answer.status, answer.headers
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _LineIterator(AsyncIterator[str]):
    def __init__(self, stream: AsyncStream, lines: Lines) -> None:
        self._stream = stream
        self._lines = lines

    async def __anext__(self) -> str:
        while (line := self._lines.next()) is None:
            if self._lines.ended:
                raise StopAsyncIteration
            self._lines.feed(await self._stream.read())
        return line


class AsyncWebSocketSession:
    """A client's side of a WebSocket. It answers pings while it receives. ``async with`` opens and closes it.

    Iterating gives messages until the server closes.

    Attributes:
        answer: The answer to the handshake, with its headers.
        protocol: The subprotocol that the server chose, or None.
        connection: The connection below, for frames that break the rules.
    """

    answer: Answer

    def __init__(
        self, connection: AsyncConnection, path: str, protocols: Sequence[str], options: RequestOptions
    ) -> None:
        self.connection = connection
        self.protocol: str | None = None
        self._session = SocketSession(connection._session.buffer)
        self._request = (path, protocols, options)

    async def open(self) -> Self:
        """Connects and shakes hands; ``async with`` does it too.

        Raises:
            HandshakeRefused: The server gave another answer than a 101.
        """
        path, protocols, options = self._request
        protocol = self._session.protocol
        try:
            await self.connection.open()
            self.answer = await self.connection.request("GET", path, **protocol.handshake(options, protocols))
            protocol.accept(self.answer, protocols)
        except BaseException:
            await self.connection.close()
            raise
        self.protocol = protocol.protocol
        return self

    @property
    def closed(self) -> bool:
        """Whether the end has been received."""
        return self._session.closed is not None

    async def send(self, message: str | bytes) -> None:
        """Sends ``str`` as a text message, bytes as a binary one."""
        await self._run(self._session.send(message))

    async def send_json(self, value: Any) -> None:
        """Sends a value as JSON in a text message."""
        await self.send(json.dumps(value))

    async def receive(self, timeout: float | None = None) -> str | bytes:
        """Waits for a message; see :meth:`WebSocketSession.receive`."""
        return await self._run(self._session.receive(), timeout)

    async def receive_json(self, timeout: float | None = None) -> Any:
        """Waits for a message, and gives what it is as JSON; see :meth:`receive`."""
        return json.loads(await self.receive(timeout))

    async def ping(self, payload: bytes = b"") -> None:
        """Sends a ping and waits for its pong; see :meth:`WebSocketSession.ping`."""
        await self._run(self._session.ping(payload))

    async def wait_closed(self, timeout: float | None = None) -> WebSocketClosed:
        """Waits for the server to end the WebSocket; see :meth:`WebSocketSession.wait_closed`."""
        return await self._run(self._session.wait_closed(), timeout)

    async def close(self, code: int = 1000, reason: str = "") -> WebSocketClosed:
        """Closes; see :meth:`WebSocketSession.close`."""
        end = await self._run(self._session.close(code, reason))
        await self.connection.close()
        return end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.receive()
        except WebSocketClosed:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self if self.connection._writer is not None else await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.close()
        finally:
            await self.connection.close()

    async def _run(self, steps: Steps[_T], timeout: float | None = None) -> _T:
        self.connection._begin(timeout)
        return await self.connection._run(steps)
