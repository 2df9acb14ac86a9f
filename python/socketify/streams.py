"""Answers that are made while they are sent: ``Response.stream``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from ._core import Response
    from .handlers import Field, Payload

__all__ = ["TURN", "WhileOpen", "close_iterator", "each", "make_room", "stream"]

#: Bytes that may wait for a client before what makes them has to wait too: the core's own bound.
_HIGH_WATER = 64 * 1024
#: Pieces after which other tasks have their turn, where neither the source nor the client made this one wait.
TURN = 64


async def stream(
    response: Response,
    iterable: AsyncIterable[Field] | Iterable[Field],
    content_type: str | bytes | None,
    status: int | str | bytes | None,
    headers: Iterable[tuple[Field, Payload]] | None,
    is_head: bool,
) -> bool:
    """Sends what an iterable gives, at the pace of the client.

    Args:
        response: The response.
        iterable: Gives ``str`` or bytes.
        content_type: Its type; None for the one that goes with the first piece.
        status: The status; None for the one that was set, or 200.
        headers: Further headers.
        is_head: The request is HEAD, so nothing is taken from the iterable.

    Returns:
        Whether the client got all of it; False when it left before.
    """
    source = each(iterable)
    kind = content_type.decode("latin-1") if isinstance(content_type, bytes) else content_type
    begun = False
    try:
        if is_head:
            # The type may depend on the first piece, which HEAD does not make. No type is better than a wrong one.
            response._begin_stream(kind, status, headers)
            response._end_stream_unseen()
            return True
        with WhileOpen(response) as open_:
            count = 0
            async for piece in source:
                if not isinstance(piece, (str, bytes, bytearray, memoryview)):
                    raise TypeError(f"a stream is made of str or bytes, not {type(piece).__name__}")
                if not begun:
                    begun = True
                    usual = (
                        "text/plain; charset=utf-8" if isinstance(piece, str) else "application/octet-stream"
                    )
                    response._begin_stream(kind or usual, status, headers)
                response.write(piece)
                await make_room(response)
                count += 1
                if count % TURN == 0:
                    await asyncio.sleep(0)
    finally:
        await close_iterator(source)
    if open_.left:
        # One that has only shut its sending side would wait for the rest.
        response.close()
        return False
    if not begun:
        response._begin_stream(kind or "application/octet-stream", status, headers)
    response.end(b"")
    return True


async def make_room(response: Response) -> None:
    """Waits while a client has more to take than it should."""
    if response.get_buffered_amount() > _HIGH_WATER:
        await response.drain()


def each(iterable: Any) -> AsyncIterator[Any]:
    """Iterates over what may be an asynchronous iterable or a plain one.

    Raises:
        TypeError: It is neither, or is one piece and no iterable of pieces.
    """
    if isinstance(iterable, AsyncIterable):
        return aiter(iterable)
    if isinstance(iterable, (str, bytes, bytearray, memoryview)) or not isinstance(iterable, Iterable):
        raise TypeError(
            f"a stream needs an iterable of pieces, asynchronous or not, not {type(iterable).__name__}"
        )
    return _plain(iterable)


async def _plain(iterable: Iterable[Any]) -> AsyncIterator[Any]:
    iterator = iter(iterable)
    try:
        for item in iterator:
            yield item
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


async def close_iterator(source: AsyncIterator[Any]) -> None:
    """Closes a generator, so that its ``finally`` runs now and not when it is collected."""
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()


class WhileOpen:
    """Leaves a ``with`` block when the answer is complete or the client has gone, whatever the block waits for.

    It does so as ``asyncio.timeout`` does: by cancelling the task, and taking the cancellation back where the block ends.

    Attributes:
        left: Whether the block was left, or is about to be.
        ended: A future that is done then, once the block has been entered.
    """

    def __init__(self, response: Response) -> None:
        self._response = response
        self._task: asyncio.Task[Any] | None = None
        self.left = False

    def __enter__(self) -> WhileOpen:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("a stream needs a task: use it in a coroutine")
        self._cancelling = self._task.cancelling() if sys.version_info >= (3, 11) else 0
        self.ended = self._response._ended()
        self.ended.add_done_callback(self._leave)
        return self

    def _leave(self, _: object) -> None:
        if self._task is not None:
            self.left = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        self.ended.remove_done_callback(self._leave)
        self.ended.cancel()
        if not self.left or task is None:
            return False
        others = task.uncancel() > self._cancelling if sys.version_info >= (3, 11) else False
        return kind is asyncio.CancelledError and not others
