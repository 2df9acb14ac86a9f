"""Errors of callbacks that have no other place to be reported, in the log ``socketify``."""

from __future__ import annotations

import atexit
import functools
import inspect
import logging
import sys
import threading
from collections.abc import Callable

__all__ = [
    "log_async_refused",
    "log_callback",
    "log_event",
    "log_length",
    "log_silent",
    "logged",
    "logger",
    "qualified_name",
]

#: Seconds that what writes the last of a log has.
_PATIENCE = 0.5

#: Everything this package logs goes through this logger.
logger = logging.getLogger("socketify")


def qualified_name(callable_: object) -> str:
    """Names a callable as a person would look for it.

    Args:
        callable_: A function, a method, a ``functools.partial`` of one, a class or an object with
            ``__call__``.

    Returns:
        Module and qualified name, such as ``shop.orders.Orders.create``.
    """
    while isinstance(callable_, functools.partial):
        callable_ = callable_.func
    named = callable_ if hasattr(callable_, "__qualname__") else type(callable_)
    module = getattr(named, "__module__", None)
    name = str(getattr(named, "__qualname__", named))
    return f"{module}.{name}" if module else name


def log_callback(what: str, error: BaseException, callable_: object) -> None:
    """Logs, with its traceback, an exception that a callback let out.

    Args:
        what: The method that took the callback, such as ``on_aborted``.
        error: The exception.
        callable_: The callback.
    """
    logger.error("uncaught exception in the %s callback %s", what, qualified_name(callable_), exc_info=error)


def log_event(error: BaseException, callable_: object) -> None:
    """Logs, with its traceback, what a listener of a WebSocket raised. The socket stays open.

    Args:
        error: The exception.
        callable_: The listener.
    """
    logger.error("Uncaught Exception: %s in %s", error, qualified_name(callable_), exc_info=error)


def logged(result: object, what: str, callable_: object) -> object:
    """Wraps what a callback gave to await, so that its failure is logged and goes no further.

    Args:
        result: What the callback returned, which may be nothing to await.
        what: The method that took the callback.
        callable_: The callback.

    Returns:
        Something to await in its place, or ``result``.
    """
    if not inspect.isawaitable(result):
        return result

    async def guarded() -> None:
        try:
            await result
        except Exception as error:
            log_callback(what, error, callable_)

    return guarded()


def log_silent(path: str) -> None:
    """Warns that a request will stay unanswered. The core says so once per application.

    Args:
        path: The request's path.
    """
    logger.warning(
        "the handler of %s returned without a response, and nothing keeps the response object: the client "
        "waits. Send a response on every path through the handler (this warning appears once)",
        path,
    )


def log_length(path: str, declared: int, given: int) -> None:
    """Logs that the body of a response has another length than its ``Content-Length`` says.

    Args:
        path: The request's path.
        declared: The number of bytes in the header.
        given: The number of bytes that the application gave.
    """
    what = "the rest was not sent" if given > declared else "the connection was cut"
    logger.error(
        "the response to %s declares a Content-Length of %d and has %d bytes: %s", path, declared, given, what
    )


def log_unwritten() -> None:
    """Warns that the access log could not be written to its end, since a logging handler does not return."""
    if not _in_time(logger.warning, "access log: a logging handler does not return: its thread is abandoned"):
        # It is the same one, which would hold the end of the interpreter as well.
        atexit.unregister(logging.shutdown)
        atexit.register(_end_logging)


def _in_time(act: Callable[..., object], *arguments: object) -> bool:
    """Whether something that may wait for a reader for ever has been done."""
    thread = threading.Thread(target=act, args=arguments, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return not thread.is_alive()


def _end_logging() -> None:
    _in_time(logging.shutdown)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not _in_time(stream.flush):
            # A flush at the very end would abort the process: the thread that holds the lock cannot release it any more.
            import ctypes

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)


def log_async_refused(what: str, callable_: object) -> None:
    """Logs that a coroutine function was given where only a plain one can be called, and from where.

    Args:
        what: The method that refused it, such as ``cork``.
        callable_: The coroutine function.
    """
    logger.error(
        "%s needs a plain function: %s is a coroutine function, so it was not called",
        what,
        qualified_name(callable_),
        stack_info=True,
        stacklevel=2,
    )
