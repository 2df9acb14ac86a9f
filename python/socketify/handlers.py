"""The vocabulary of types: what handlers look like and what they may pass on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from ._core import Request, Response

__all__ = [
    "AbortedHandler",
    "AnyHandler",
    "AsyncHandler",
    "AsyncMiddleware",
    "Buffer",
    "DataHandler",
    "ErrorHandler",
    "Field",
    "Handler",
    "HeaderHandler",
    "Hook",
    "JsonSerializer",
    "Middleware",
    "Payload",
    "TemplateEngine",
    "WritableHandler",
    "is_async",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes in any of their forms."""

Field: TypeAlias = str | bytes | bytearray | memoryview
"""Text or bytes: the name or value of a header, a key."""

Payload: TypeAlias = str | bytes | bytearray | memoryview | object
"""A message: text goes out as UTF-8, bytes as they are, any other object as JSON."""

Handler: TypeAlias = "Callable[[Response, Request], object]"
"""A route's plain function. What it returns is ignored, but an awaitable is run as a task."""

AsyncHandler: TypeAlias = "Callable[[Response, Request], Coroutine[Any, Any, object]]"
"""A route's coroutine function."""

AnyHandler: TypeAlias = "Handler | AsyncHandler"
"""What a route takes."""

ErrorHandler: TypeAlias = "Callable[[Exception, Response | None, Request | None], object]"
"""Gets what a handler raised. After an ``async`` handler the request is None; the response may be too."""

AbortedHandler: TypeAlias = "Callable[[Response], object]"
"""Called when the client has gone before the answer was complete."""

DataHandler: TypeAlias = "Callable[[Response, bytes, bool], object]"
"""Gets each piece of the request's body, and whether it is the last one."""

WritableHandler: TypeAlias = "Callable[[Response, int], bool]"
"""Called when there is room to write again, with the number of body bytes taken so far. A plain function."""

HeaderHandler: TypeAlias = "Callable[[str, str], object]"
"""Gets the lower case name and the value of each header. A plain function."""

Hook: TypeAlias = Callable[[], object]
"""Runs when the application starts or shuts down; ``async`` or not."""

Middleware: TypeAlias = "Callable[[Response, Request, Any], Any]"
"""A member of a chain: gets the value of the member before it; a false value stops the chain."""

AsyncMiddleware: TypeAlias = "Callable[[Response, Request, Any], Awaitable[Any]]"
"""A member of a chain that is a coroutine function."""


class JsonSerializer(Protocol):
    """What JSON goes through: the module ``json``, or a module or object like it."""

    def dumps(self, obj: Any, /) -> str | bytes:
        """Gives the JSON text of a value; raises TypeError for what has none."""

    def loads(self, text: str, /) -> Any:
        """Gives the value of a JSON text; raises anything for what is not JSON."""


class TemplateEngine(Protocol):
    """What ``Response.render`` goes through."""

    def render(self, *args: Any, **kwargs: Any) -> str | bytes:
        """Gives the page."""


def is_async(function: object) -> bool:
    """Tells whether calling something gives a coroutine.

    Args:
        function: Anything.

    Returns:
        True for a coroutine function, for a ``functools.partial`` of one and for an object whose ``__call__``
        is one. False for a plain function that returns a coroutine: nobody can know before calling it.
    """
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - asked for what it is, not whether it is there
    )
