"""The vocabulary of types: what handlers look like and what they may pass on."""

from __future__ import annotations

import functools
import inspect
import logging
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from types import CodeType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from ._core import Request, Response

__all__ = [
    "AbortedHandler",
    "AnyHandler",
    "AsyncHandler",
    "AsyncMiddleware",
    "Buffer",
    "Chain",
    "DataHandler",
    "ErrorHandler",
    "Field",
    "Handler",
    "HeaderHandler",
    "Hook",
    "JsonSerializer",
    "Middleware",
    "Payload",
    "RequestT",
    "ResponseT",
    "RouteHandler",
    "Step",
    "TemplateEngine",
    "WritableHandler",
    "is_async",
    "warn_if_swapped",
]

logger = logging.getLogger("socketify")

#: Code that has been warned of.
_warned: weakref.WeakSet[CodeType] = weakref.WeakSet()

ResponseT = TypeVar("ResponseT", bound="Response")
"""``Response``, or a subclass that says what extensions have added to it."""

RequestT = TypeVar("RequestT", bound="Request")
"""``Request``, or a subclass that says what extensions have added to it."""

_Res = TypeVar("_Res", bound="Response", contravariant=True)
_Req = TypeVar("_Req", bound="Request", contravariant=True)

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

RouteHandler: TypeAlias = "Callable[[ResponseT, RequestT], Any]"
"""What a route takes, with the classes it is written for."""

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

Step: TypeAlias = "Callable[[ResponseT, RequestT, Any], Any]"
"""A member of a chain, ``async`` or not, with the classes it is written for."""


class Chain(Protocol[_Res, _Req]):
    """Several functions as one: a handler, or a member of another chain."""

    def __call__(self, res: _Res, req: _Req, data: Any = None, /) -> Any:
        """Runs the members in turn.

        Args:
            res: The response.
            req: The request.
            data: What the first member gets.

        Returns:
            The last value, or a coroutine that gives it.
        """


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
        is one. False for a plain function that returns a coroutine: that cannot be known before the call.
    """
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(type(function), "__call__", None)  # noqa: B004 - asked for what it is, not whether it is there
    )


def warn_if_swapped(function: object, what: str) -> None:
    """Logs a warning, once, when a function names its first parameters as the other one's.

    It may use them in that order on purpose, so it is no error.

    Args:
        function: Called as ``(res, req)``, or with more arguments after these.
        what: What it is, for the message.
    """
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if not inspect.iscode(code) or code in _warned:
        return
    first = 1 if inspect.ismethod(function) else 0
    names = code.co_varnames[first : code.co_argcount][:2]
    if len(names) == 2 and names[0] in ("req", "request") and names[1] in ("res", "response"):
        _warned.add(code)
        logger.warning("%s is called as (res, req), and its parameters are named (%s, %s)", what, *names)
