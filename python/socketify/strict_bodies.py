"""The body of a request, with an exception where it cannot be had: ``Request.body``, ``text``, ``json`` and ``stream``.

``lenient_bodies`` has the methods of ``Response``, which give None instead.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NoReturn

from .content_type import charset
from .exceptions import BadRequest, ClientDisconnected, ContentTooLarge

if TYPE_CHECKING:
    from ._core import Body, Request
    from .handlers import JsonSerializer

__all__ = [
    "MAX_JSON_SIZE",
    "BodyReader",
    "check_size",
    "decode",
    "json_text",
    "read_body",
    "read_json",
    "read_stream",
    "read_text",
]

#: Bytes of JSON that are parsed unless more are asked for: parsing holds up the loop, and takes a multiple of their memory.
MAX_JSON_SIZE = 8 * 1024 * 1024
#: Bytes of a body that are decoded in one go: some milliseconds in the slowest encoding.
_DECODED_AT_ONCE = 256 * 1024


async def read_body(body: Body) -> bytes:
    """Reads the whole body.

    Args:
        body: The body of the request.

    Returns:
        The bytes, which are kept: reading again gives them again.

    Raises:
        ClientDisconnected: It cannot become complete.
        RuntimeError: It has been read in pieces, or the request has been answered before.
    """
    data = body.whole()
    if data is None:
        await body.arrival()
        data = body.whole()
    if data is None:
        _raise_gone(body)
    return data


async def read_text(request: Request, body: Body, encoding: str | None) -> str:
    """Reads the whole body as text.

    Args:
        request: The request.
        body: Its body.
        encoding: Name of the encoding; None for what the ``Content-Type`` says, and UTF-8 if it says nothing.

    Returns:
        The text.

    Raises:
        BadRequest: The body is not in that encoding.
        UnsupportedMediaType: The client names an encoding that is not known.
        LookupError: Python has no such encoding as was asked for.
    """
    if encoding is None:
        encoding = charset(request.get_header("content-type"))
    data = await read_body(body)
    try:
        return await decode(data, encoding)
    except ValueError as error:
        raise BadRequest(f"the body is not valid {encoding}") from error


async def read_json(body: Body, serializer: JsonSerializer, *, max_size: int | None = MAX_JSON_SIZE) -> Any:
    """Reads the whole body as JSON.

    Args:
        body: The body of the request.
        serializer: Its ``loads`` gets the body as ``str``, without a byte order mark.
        max_size: Bytes of it; None for no limit but that of the body.

    Returns:
        What ``loads`` gives.

    Raises:
        BadRequest: The body is not UTF-8 (RFC 8259 section 8.1), or not JSON; an empty one is not.
        ContentTooLarge: It has more bytes.
    """
    check_size(max_size)
    data = await read_body(body)
    if max_size is not None and len(data) > max_size:
        raise ContentTooLarge(f"the JSON has more than {max_size} bytes")
    try:
        text = json_text(data)
    except ValueError as error:
        raise BadRequest("the body is not valid utf-8") from error
    try:
        return serializer.loads(text)
    except MemoryError:
        raise
    except Exception as error:
        # Serializers share no exception class; one that nests too deep for the parser is a RecursionError.
        raise BadRequest(f"the body is not JSON: {error}") from error


def read_stream(body: Body) -> BodyReader:
    """Reads the body piece by piece: the client waits until the next piece is asked for.

    Args:
        body: The body of the request.

    Returns:
        An asynchronous iterator of pieces, none of them empty.
    """
    return BodyReader(body)


class BodyReader(AsyncIterator[bytes]):
    """Reads a body piece by piece, each when it is asked for: as an asynchronous iterator, or by :meth:`read`.

    It is no generator: one that was cancelled while it waited has ended, and its reader would take what it has for the whole
    body. Here the next call goes on; so does another reader of the same body. A body that was read whole is one
    piece, for each reader anew.

    Args:
        body: The body of the request.
        from_start: Whether it is an error that pieces have been read before; what has arrived whole is then kept, so that
            the body can be read again.
    """

    def __init__(self, body: Body, from_start: bool = False) -> None:
        self._body = body
        self._from_start = from_start
        self._ended = False

    def __aiter__(self) -> BodyReader:
        return self

    async def __anext__(self) -> bytes:
        """Gives the next piece, at least one byte; see :meth:`read`."""
        piece = await self.read()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Ends this iterator. Another goes on where it stood."""
        self._ended = True

    async def read(self) -> bytes:
        """Gives the next piece; ``b""`` at the end.

        Raises:
            ClientDisconnected: There is no end, since the client has left or was refused.
            RuntimeError: Another task reads the body.
        """
        if self._from_start:
            self._from_start = False
            if (whole := self._body.whole()) is not None:
                self._ended = True
                return whole
        while not self._ended:
            piece = self._body.piece()
            if piece is None:
                _raise_gone(self._body)
            if not isinstance(piece, tuple):
                # It says that there is something. What was given in it would be lost with a cancellation that comes now.
                await piece
                continue
            data, self._ended = piece
            if data:
                return data
        return b""


async def decode(body: bytes, encoding: str) -> str:
    """Gives a body as text; others on the loop have their turn while a long one is decoded.

    Raises:
        ValueError: It is not in that encoding.
        LookupError: Python has no such encoding.
    """
    if len(body) <= _DECODED_AT_ONCE:
        return body.decode(encoding)
    # It raises for codecs that are not for text.
    "".encode(encoding)
    decoder = codecs.getincrementaldecoder(encoding)()
    parts = []
    for start in range(0, len(body), _DECODED_AT_ONCE):
        end = start + _DECODED_AT_ONCE
        parts.append(decoder.decode(body[start:end], end >= len(body)))
        await asyncio.sleep(0)
    return "".join(parts)


def json_text(body: bytes) -> str:
    """Gives JSON as text. A byte order mark in front is skipped, as RFC 8259 section 8.1 allows and browsers do.

    Raises:
        ValueError: It is not UTF-8.
    """
    return body.decode("utf-8-sig" if body.startswith(codecs.BOM_UTF8) else "utf-8")


def check_size(max_size: int | None) -> None:
    """Refuses what is no limit.

    Raises:
        ValueError: It is no whole number from 0.
    """
    if max_size is not None and (isinstance(max_size, bool) or not isinstance(max_size, int) or max_size < 0):
        raise ValueError(f"max_size must be a whole number from 0, or None, not {max_size!r}")


def _raise_gone(body: Body) -> NoReturn:
    if body.is_answered():
        raise RuntimeError("the response was sent before the body was read: read the body first")
    raise ClientDisconnected("the body of the request is incomplete: the client has gone")
