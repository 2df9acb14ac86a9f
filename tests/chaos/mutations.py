"""Faults that are put into the server under test on purpose: its checker has to find each of them.

One in some twenty requests or messages is wrong, so that it has to be found among right ones. The first of them comes early:
a busy machine may have no more than a few in a short round.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from counts import Counts
from handlers import Handlers, Job
from sockets import Publishers

#: The leaked objects.
_kept: list[Any] = []

Each = Callable[[], bool]


def _wrong_id(handlers: Handlers, now: Each) -> None:
    def end(job: Job) -> None:
        job.res.write_header("X-Id", "of-another" if now() else job.name).end(job.body())

    _replace(handlers, end)


def _wrong_byte(handlers: Handlers, now: Each) -> None:
    def end(job: Job) -> None:
        body = bytearray(job.body())
        body[-1] ^= now()
        job.head().end(bytes(body))

    _replace(handlers, end)


def _lost_answer(handlers: Handlers, now: Each) -> None:
    def end(job: Job) -> None:
        if now():
            _kept.append(job.res)
        else:
            job.answer()

    _replace(handlers, end)


def _second_answer(handlers: Handlers, now: Each) -> None:
    def end(job: Job) -> None:
        if now():
            os.write(job.res.get_native_handle(), b"HTTP/1.1 204 No Content\r\nDate: x\r\nServer: x\r\n\r\n")
        job.answer()

    _replace(handlers, end)


def _leaked_connection(handlers: Handlers, now: Each) -> None:
    def end(job: Job) -> None:
        if now() and len(_kept) < 10:
            _kept.append(os.dup(job.res.get_native_handle()))
        job.answer()

    _replace(handlers, end)


def _leaked_memory(handlers: Handlers, now: Each) -> None:
    def end(job: Job) -> None:
        if len(_kept) < 50:
            _kept.append(bytearray(b"leak" * (4 << 20)))
        job.answer()

    _replace(handlers, end)


def _leaked_response(handlers: Handlers, now: Each) -> None:
    def end(job: Job) -> None:
        if now():
            _kept.append(job.res)
        job.answer()

    _replace(handlers, end)


def _word(handlers: Handlers, now: Each) -> None:
    def end(job: Job) -> None:
        if now():
            print("Exception ignored in a test", file=sys.stderr)
        job.answer()

    _replace(handlers, end)


def _failed_start(handlers: Handlers, now: Each) -> None:
    # It goes on to run.
    print("no port", flush=True)


def _failed_exit(handlers: Handlers, now: Each) -> None:
    def stop() -> None:
        os._exit(3)

    handlers.app.on_shutdown(stop)


def _stuck_exit(handlers: Handlers, now: Each) -> None:
    import time

    handlers.app.on_shutdown(lambda: time.sleep(1000))


def _close_twice(counts: Counts, now: Each) -> None:
    closed = counts.socket_closed

    def twice(name: str, how: str) -> None:
        closed(name, how)
        if now():
            closed(name, how)

    counts.socket_closed = twice  # type: ignore[method-assign]


def _lost_close(counts: Counts, now: Each) -> None:
    closed = counts.socket_closed
    counts.socket_closed = lambda name, how: None if now() else closed(name, how)  # type: ignore[method-assign]


def _lost_message(publishers: Publishers, now: Each) -> None:
    send = publishers.send
    publishers.send = lambda topic, message: None if now() else send(topic, message)  # type: ignore[method-assign]


def _swapped_messages(publishers: Publishers, now: Each) -> None:
    send = publishers.send
    held: list[tuple[str, str]] = []

    def swapped(topic: str, message: str) -> None:
        if now():
            held.append((topic, message))
            return
        send(topic, message)
        while held:
            send(*held.pop())

    publishers.send = swapped  # type: ignore[method-assign]


def _replace(handlers: Handlers, way: Callable[[Job], None]) -> None:
    handlers.plain_end = way  # type: ignore[method-assign, assignment]


_OF_HANDLERS = {
    "wrong-id": _wrong_id,
    "wrong-byte": _wrong_byte,
    "lost-answer": _lost_answer,
    "second-answer": _second_answer,
    "leaked-connection": _leaked_connection,
    "leaked-memory": _leaked_memory,
    "leaked-response": _leaked_response,
    "word-on-stderr": _word,
    "failed-start": _failed_start,
    "failed-exit": _failed_exit,
    "stuck-exit": _stuck_exit,
}
_OF_COUNTS = {"close-twice": _close_twice, "lost-close": _lost_close}
_OF_PUBLISHERS = {"lost-message": _lost_message, "swapped-messages": _swapped_messages}
NAMES = (*_OF_HANDLERS, *_OF_COUNTS, *_OF_PUBLISHERS)


def apply(name: str, handlers: Handlers, publishers: Publishers) -> None:
    """Puts one in, before the routes are registered."""
    calls = itertools.count(1)

    def now() -> bool:
        return next(calls) % 20 == 3

    if name in _OF_HANDLERS:
        _OF_HANDLERS[name](handlers, now)
    elif name in _OF_COUNTS:
        _OF_COUNTS[name](handlers.counts, now)
    else:
        _OF_PUBLISHERS[name](publishers, now)
