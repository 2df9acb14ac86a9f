"""Server-sent events (WHATWG HTML, section 9.2): ``Response.events`` and ``Response.send_events``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .streams import TURN, WhileOpen, close_iterator, each, make_room

if TYPE_CHECKING:
    from types import TracebackType

    from ._core import Response
    from .handlers import Field, Payload

__all__ = ["EventStream", "ServerSentEvent", "send_all"]

_LINE_END = re.compile(r"\r\n|\r|\n")
#: A browser ignores an id with a NUL.
_NOT_IN_ID = re.compile(r"[\r\n\x00]")
#: A comment: it says that the stream is alive, and nothing else.
_NOTHING = ":\n\n"


@dataclass(frozen=True)
class ServerSentEvent:
    """One event.

    Args:
        data: The message: ``str``, UTF-8 bytes, or anything else, sent as JSON. None, the default, for no message: the
            browser then only takes note of ``id`` and ``retry``.
        event: Its type, for ``addEventListener``; None for ``message``.
        id: What the browser says in ``Last-Event-ID`` when it connects again.
        retry: Milliseconds after which the browser connects again when the connection is lost.
    """

    data: Any = None
    event: str | None = None
    id: str | None = None
    retry: int | None = None


class EventStream:
    """A stream of events to one client; use it as ``async with``.

    The block is left, as if it had ended, when the client goes and when the application closes, whatever it waits for:
    it is cancelled there, and the code behind it runs on. Where the block ends by itself the stream ends, and browsers
    connect again after a while; answer those with 204 to have them stop.

    Args:
        response: The response.
        keep_alive: Seconds without an event after which a comment is sent, so that no proxy takes the connection for
            dead, and a client that has vanished is found out; 0 for none.
        headers: Further headers.
        last_event_id: What the client says in ``Last-Event-ID``.
        is_head: The client wants to know of the head alone.

    Attributes:
        last_event_id: The id of the last event that the client got before it lost the connection; None for a new
            client.

    Raises:
        ValueError: ``keep_alive`` is no number of seconds.
    """

    def __init__(
        self,
        response: Response,
        keep_alive: float,
        headers: Iterable[tuple[Field, Payload]] | None,
        last_event_id: str | None,
        is_head: bool,
    ) -> None:
        if not 0 <= keep_alive < float("inf"):
            raise ValueError(f"keep_alive must be a number of seconds from 0, not {keep_alive!r}")
        self.last_event_id = last_event_id
        self._response = response
        self._keep_alive = keep_alive
        self._headers = list(headers or ())
        self._is_head = is_head
        self._open = WhileOpen(response)
        self._timer: asyncio.TimerHandle | None = None
        #: Whether anything was sent since the timer was set.
        self._sent = False
        self._count = 0

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._open.left or self._response.aborted or self._response.has_responded()

    async def send(
        self,
        data: Any = None,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the name that it has on the wire
        retry: int | None = None,
    ) -> bool:
        """Sends an event, and waits while the client has more to take than it should. Any task may call it.

        Args:
            data: As for :class:`ServerSentEvent`, like the others.
            event: The type.
            id: The id.
            retry: Milliseconds.

        Returns:
            Whether the client was still there.

        Raises:
            ValueError: The type or the id has a line break, or the id a NUL, or ``retry`` is no number from 0.
            TypeError: The serializer takes no such message.
        """
        return await self._write(_encode(self._text(data), event, id, retry))

    async def comment(self, text: str = "") -> bool:
        """Sends a comment, which browsers ignore.

        Returns:
            Whether the client was still there.
        """
        return await self._write(
            "".join(f":{' ' if line else ''}{line}\n" for line in _LINE_END.split(text)) + "\n"
        )

    async def wait_closed(self) -> None:
        """Waits for the end of the stream, for a block in which other tasks send."""
        await asyncio.wait([self._open.ended])

    def close(self) -> None:
        """Ends the stream. On the loop's thread."""
        self._response.end(b"")

    async def __aenter__(self) -> EventStream:
        headers: list[tuple[Any, Any]] = self._headers
        named = {str(name, "latin-1") if isinstance(name, bytes) else str(name) for name, _ in headers}
        for name, value in (("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")):
            # nginx keeps answers back unless it is told not to.
            if name.lower() not in {other.lower() for other in named}:
                headers.append((name, value))
        self._response._begin_stream("text/event-stream", None, headers)
        self._open.__enter__()
        if self._is_head:
            self._response._end_stream_unseen()
            return self
        # The head leaves with the first bytes, and browsers wait for it to say that the stream is open.
        self._response.write(_NOTHING)
        if not self._response.app._lifecycle.hold(self):
            self.close()
        elif self._keep_alive:
            self._timer = asyncio.get_running_loop().call_later(self._keep_alive, self._beat)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._response.app._lifecycle.release(self)
        swallowed = self._open.__exit__(kind, error, trace)
        if swallowed or kind is None:
            if self._response.aborted:
                # One that has only shut its sending side would wait for the rest.
                self._response.close()
            self._response.end(b"")
        return swallowed

    def _beat(self) -> None:
        # What waits for the client says as well that the stream is alive.
        if not self._sent and not self._response.get_buffered_amount():
            self._response.write(_NOTHING)
        self._sent = False
        self._timer = asyncio.get_running_loop().call_later(self._keep_alive, self._beat)

    async def _write(self, text: str) -> bool:
        self._count += 1
        if self.closed or self._count % TURN == 0:
            # A loop that only sends would never let its cancellation in, nor others have their turn.
            await asyncio.sleep(0)
        if self.closed:
            return False
        self._response.write(text)
        self._sent = True
        await make_room(self._response)
        return not self.closed

    def _text(self, data: Any) -> str | None:
        if data is not None and not isinstance(data, (str, bytes, bytearray, memoryview)):
            data = self._response.app._json_serializer.dumps(data)
        return data if data is None or isinstance(data, str) else str(data, "utf-8")


async def send_all(events: EventStream, iterable: AsyncIterable[Any] | Iterable[Any]) -> None:
    """Sends what an iterable gives as events, until it ends or the client goes, and closes it then.

    Args:
        events: The stream.
        iterable: Gives :class:`ServerSentEvent` objects, or the data of events.
    """
    source = each(iterable)
    try:
        async with events:
            async for item in source:
                if isinstance(item, ServerSentEvent):
                    await events.send(item.data, item.event, item.id, item.retry)
                else:
                    await events.send(item)
    finally:
        await close_iterator(source)


def _encode(data: str | None, event: str | None, id_: str | None, retry: int | None) -> str:
    lines = []
    if event is not None:
        lines.append(f"event: {_one_line('type', event, _LINE_END)}")
    if id_ is not None:
        lines.append(f"id: {_one_line('id', id_, _NOT_IN_ID)}")
    if retry is not None:
        if isinstance(retry, bool) or not isinstance(retry, int) or retry < 0:
            raise ValueError(f"retry must be a whole number of milliseconds from 0, not {retry!r}")
        lines.append(f"retry: {retry}")
    if data is not None:
        lines.extend(f"data: {line}" for line in _LINE_END.split(data))
    return "".join(f"{line}\n" for line in [*lines, ""])


def _one_line(what: str, value: str, forbidden: re.Pattern[str]) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the {what} of an event must be a str, not {value!r}")
    if forbidden.search(value):
        raise ValueError(f"the {what} of an event must be one line without NUL, not {value!r}")
    return value
