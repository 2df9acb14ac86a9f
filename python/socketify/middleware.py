"""Chains of functions that a request goes through.

Each member is called as ``(res, req, data)``. ``data`` is what the member before it returned, and None for
the first. A member that returns something false stops the chain; the last member is, as a rule, the handler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .error_log import qualified_name
from .handlers import is_async, warn_if_swapped

if TYPE_CHECKING:
    from ._core import Request, Response
    from .handlers import Chain, Middleware, RequestT, ResponseT, Step

__all__ = ["async_middleware", "middleware", "sync_middleware"]


def middleware(*functions: Step[ResponseT, RequestT]) -> Chain[ResponseT, RequestT]:
    """Makes one handler of several functions, ``async`` or not.

    Members before the first coroutine function run at once. From it on all run in one coroutine, in which
    coroutine functions are awaited and plain functions called. A chain may be a member of another chain: its
    value goes to the member after it.

    Args:
        functions: The members, the handler last. Without any, the chain returns the ``data`` it gets.

    Returns:
        ``chain(res, req, data=None)``. Without coroutine functions, a plain function that gives the last
        value. With one in first place, a coroutine function that does. Else a plain callable that starts the
        coroutine with ``res.run_async`` and gives None, or the false value that stopped it before.

    Raises:
        TypeError: One of them cannot be called.
    """
    members = _members(functions)
    first = next((index for index, member in enumerate(members) if is_async(member)), len(members))
    if first == len(members):
        return _sync_chain(members)
    if first == 0:
        return _async_chain(members)
    return _MixedChain(members, first)


def sync_middleware(*functions: Step[ResponseT, RequestT]) -> Chain[ResponseT, RequestT]:
    """Makes one plain function of several.

    Args:
        functions: The members, as for :func:`middleware`.

    Returns:
        A plain function ``chain(res, req, data=None)`` that gives the last value.

    Raises:
        TypeError: One of them cannot be called, or is a coroutine function.
    """
    members = _members(functions)
    for member in members:
        if is_async(member):
            raise TypeError(
                f"{qualified_name(member)} is a coroutine function, which sync_middleware() does not take: "
                "use middleware()"
            )
    return _sync_chain(members)


def async_middleware(*functions: Step[ResponseT, RequestT]) -> Chain[ResponseT, RequestT]:
    """Makes one coroutine function of several, ``async`` or not.

    Args:
        functions: The members, as for :func:`middleware`.

    Returns:
        A coroutine function ``chain(res, req, data=None)`` that gives the last value.

    Raises:
        TypeError: One of them cannot be called.
    """
    return _async_chain(_members(functions))


class _MixedChain:
    """A chain whose first members are plain and one of the others is not.

    Called as a handler, its value comes when nobody waits for it any more. As a member of another chain it is
    therefore taken apart, so that the value reaches the members after it.
    """

    def __init__(self, members: tuple[Middleware, ...], first: int) -> None:
        self.members = members
        self._prefix = members[:first]
        self._rest = _async_chain(members[first:])

    def __call__(self, res: Response, req: Request, data: Any = None) -> Any:
        for member in self._prefix:
            data = member(res, req, data)
            if not data:
                return data
        # Called as a plain handler, the chain returns now: its task goes on with the request.
        req._hand_over()
        res.run_async(self._finish(res, req, data))
        return None

    async def _finish(self, res: Response, req: Request, data: Any) -> Any:
        data = await self._rest(res, req, data)
        if req.get_yield():
            # What goes on ends a piece of work, and this one is ended by `run_async`.
            res._begin_work()
            req._go_on(res)
        return data


def _members(functions: tuple[Any, ...]) -> tuple[Middleware, ...]:
    members: list[Middleware] = []
    for function in functions:
        if not callable(function):
            raise TypeError(f"a middleware must be callable as (res, req, data), which {function!r} is not")
        warn_if_swapped(function, f"the middleware {qualified_name(function)}")
        members.extend(function.members if isinstance(function, _MixedChain) else (function,))
    return tuple(members)


def _sync_chain(members: tuple[Middleware, ...]) -> Chain[Response, Request]:
    def chain(res: Response, req: Request, data: Any = None) -> Any:
        for member in members:
            data = member(res, req, data)
            if not data:
                break
        return data

    return chain


def _async_chain(members: tuple[Middleware, ...]) -> Chain[Response, Request]:
    steps = tuple((member, is_async(member)) for member in members)

    async def chain(res: Response, req: Request, data: Any = None) -> Any:
        req.preserve()
        for member, awaited in steps:
            data = member(res, req, data)
            if awaited:
                data = await data
            if not data:
                break
        return data

    return chain
