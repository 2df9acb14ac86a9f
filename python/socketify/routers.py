"""Routes in other words: with decorators and a common prefix, or with a common chain of middlewares."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .cors import cover
from .handlers import is_async
from .middleware import middleware

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._core import Request, Response
    from .handlers import Middleware, RequestT, ResponseT, Step
    from .routes import Routes
    from .websocket import WebSocketBehavior

__all__ = ["DecoratorRouter", "MiddlewareRouter"]

logger = logging.getLogger("socketify")

_F = TypeVar("_F", bound=Callable[..., Any])


class DecoratorRouter:
    """Registers routes with decorators: ``@router.get("/users")``.

    Each decorator gives the function back, so several may be stacked on one.

    Args:
        app: The application, or the domain, that the routes are for.
        prefix: Put before each path as it is, without a slash between them.
        middlewares: Run before each handler, which then is called as ``(res, req, data)``; without any it is
            called as ``(res, req)``. One iterable of them is taken as well.

    Raises:
        TypeError: The prefix is not a str, or a middleware cannot be called.
    """

    def __init__(
        self,
        app: Routes,
        prefix: str = "",
        *middlewares: Step[ResponseT, RequestT] | Iterable[Step[ResponseT, RequestT]],
    ) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"a router's prefix must be a str, not {prefix!r}: middlewares come after it")
        given: Iterable[Any] = middlewares
        if len(middlewares) == 1 and not callable(middlewares[0]) and not isinstance(middlewares[0], str):
            given = _iterable(middlewares[0])
        self.app = app
        self.prefix = prefix
        self.middlewares = _check_middlewares(given)

    def router(
        self, prefix: str = "", *middlewares: Step[ResponseT, RequestT] | Iterable[Step[ResponseT, RequestT]]
    ) -> DecoratorRouter:
        """A router below this one: its prefix after this one's, its middlewares after this one's.

        Raises:
            TypeError: The prefix is not a str, or a middleware cannot be called.
        """
        below = DecoratorRouter(self.app, prefix, *middlewares)
        return DecoratorRouter(
            self.app, _join(self.prefix, below.prefix), *self.middlewares, *below.middlewares
        )

    def ws(self, path: str, behavior: WebSocketBehavior | Mapping[str, Any]) -> Self:
        """Serves WebSockets at ``path`` after the router's prefix.

        The middlewares run when a client asks for a socket, before the ``upgrade`` listener, which gets what the last one
        returned as a fourth argument: ``(res, req, context, data)``. Without that listener the socket is accepted, and what
        the last one returned is its user data. Where one stops the chain there is no socket, and it has to answer.

        Args:
            path: See :meth:`App.ws`.
            behavior: See :meth:`App.ws`.

        Returns:
            The router.

        Raises:
            TypeError: The path is not a str, the behaviour no dict, or a value of it of the wrong type.
            ValueError: A key is unknown, a number is out of range, or the pattern is malformed.
        """
        _check_path(path, "ws")
        behind = _behind(self.middlewares, behavior) if self.middlewares else behavior
        self.app.ws(_join(self.prefix, path), behind)
        return self

    def _route(self, method: str, path: str, max_body_size: int | None) -> Callable[[_F], _F]:
        _check_path(path, method)
        register = getattr(self.app, method)

        def decorate(handler: _F) -> _F:
            _check_handler(handler, method, path)
            chain = middleware(*self.middlewares, handler) if self.middlewares else handler
            whole = _join(self.prefix, path)
            register(whole, chain, max_body_size=max_body_size)
            cover(self.app, whole, self.middlewares)
            return handler

        return decorate

    def get(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of GET requests of ``path``.

        Args:
            path: Put after the router's prefix; see :meth:`App.get`.
            max_body_size: Bytes of request body this route takes, in place of the application's limit.

        Returns:
            What registers a function, and gives it back.

        Raises:
            TypeError: The path is not a str, or what is decorated cannot be called.
            ValueError: The pattern is malformed.
        """
        return self._route("get", path, max_body_size)

    def post(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of POST requests of ``path``; see :meth:`get`."""
        return self._route("post", path, max_body_size)

    def options(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of OPTIONS requests of ``path``; see :meth:`get`."""
        return self._route("options", path, max_body_size)

    def delete(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of DELETE requests of ``path``; see :meth:`get`."""
        return self._route("delete", path, max_body_size)

    def patch(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of PATCH requests of ``path``; see :meth:`get`."""
        return self._route("patch", path, max_body_size)

    def put(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of PUT requests of ``path``; see :meth:`get`."""
        return self._route("put", path, max_body_size)

    def head(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of HEAD requests of ``path``; see :meth:`get`."""
        return self._route("head", path, max_body_size)

    def connect(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of CONNECT requests of ``path``; see :meth:`get`."""
        return self._route("connect", path, max_body_size)

    def trace(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of TRACE requests of ``path``; see :meth:`get`."""
        return self._route("trace", path, max_body_size)

    def any(self, path: str, *, max_body_size: int | None = None) -> Callable[[_F], _F]:
        """Decorates the handler of requests of every method of ``path``, after those of one method; see :meth:`get`."""
        return self._route("any", path, max_body_size)


class MiddlewareRouter:
    """Registers routes whose handlers run at the end of a common chain of middlewares.

    Handlers are called as ``(res, req, data)``, also when there are no middlewares.

    Args:
        app: The application, or the domain, that the routes are for.
        middlewares: Run before each handler.

    Raises:
        TypeError: A middleware cannot be called.
    """

    def __init__(self, app: Routes, *middlewares: Step[ResponseT, RequestT]) -> None:
        self.app = app
        self.middlewares = _check_middlewares(middlewares)

    def ws(self, path: str, behavior: WebSocketBehavior | Mapping[str, Any]) -> Self:
        """Serves WebSockets at ``path``; see :meth:`DecoratorRouter.ws` for what the middlewares do there.

        The ``upgrade`` listener takes four arguments, also when there are no middlewares.
        """
        _check_path(path, "ws")
        self.app.ws(path, _behind(self.middlewares, behavior))
        return self

    def _route(
        self, method: str, path: str, handler: Step[ResponseT, RequestT], max_body_size: int | None
    ) -> Self:
        _check_path(path, method)
        _check_handler(handler, method, path)
        getattr(self.app, method)(path, middleware(*self.middlewares, handler), max_body_size=max_body_size)
        cover(self.app, path, self.middlewares)
        return self

    def get(self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None) -> Self:
        """Routes GET requests of ``path``.

        Args:
            path: See :meth:`App.get`.
            handler: Called as ``(res, req, data)`` with what the last middleware returned; ``def`` or ``async def``.
            max_body_size: Bytes of request body this route takes, in place of the application's limit.

        Returns:
            The router.

        Raises:
            TypeError: The path is not a str, or the handler cannot be called.
            ValueError: The pattern is malformed.
        """
        return self._route("get", path, handler, max_body_size)

    def post(
        self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes POST requests of ``path``; see :meth:`get`."""
        return self._route("post", path, handler, max_body_size)

    def options(
        self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes OPTIONS requests of ``path``; see :meth:`get`."""
        return self._route("options", path, handler, max_body_size)

    def delete(
        self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes DELETE requests of ``path``; see :meth:`get`."""
        return self._route("delete", path, handler, max_body_size)

    def patch(
        self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes PATCH requests of ``path``; see :meth:`get`."""
        return self._route("patch", path, handler, max_body_size)

    def put(self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None) -> Self:
        """Routes PUT requests of ``path``; see :meth:`get`."""
        return self._route("put", path, handler, max_body_size)

    def head(
        self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes HEAD requests of ``path``; see :meth:`get`."""
        return self._route("head", path, handler, max_body_size)

    def connect(
        self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes CONNECT requests of ``path``; see :meth:`get`."""
        return self._route("connect", path, handler, max_body_size)

    def trace(
        self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes TRACE requests of ``path``; see :meth:`get`."""
        return self._route("trace", path, handler, max_body_size)

    def any(self, path: str, handler: Step[ResponseT, RequestT], *, max_body_size: int | None = None) -> Self:
        """Routes requests of every method of ``path``, after those of one method; see :meth:`get`."""
        return self._route("any", path, handler, max_body_size)


def _check_path(path: object, method: str) -> None:
    if callable(path):
        raise TypeError(f"{method}() takes the path first: {path!r} is a handler")
    if not isinstance(path, str):
        raise TypeError(f"{method}() takes the path as a str, not {path!r}")


def _check_handler(handler: object, method: str, path: str) -> None:
    if not callable(handler):
        raise TypeError(f"{method}({path!r}): the handler must be callable, which {handler!r} is not")


def _check_middlewares(functions: Iterable[Any]) -> tuple[Middleware, ...]:
    checked = tuple(functions)
    # An error where the router is made says more than one where its first route is.
    middleware(*checked)
    return checked


def _iterable(given: Any) -> Iterable[Any]:
    return given if isinstance(given, Iterable) else (given,)


def _join(prefix: str, path: str) -> str:
    """Paths are put together as they are (B-RT-22); what that makes of two slashes is rarely meant."""
    if prefix.endswith("/") and path.startswith("/"):
        logger.warning(
            "the prefix %r and the path %r make %r, which has an empty segment", prefix, path, prefix + path
        )
    return prefix + path


def _behind(
    middlewares: tuple[Middleware, ...], behavior: WebSocketBehavior | Mapping[str, Any]
) -> WebSocketBehavior | Mapping[str, Any]:
    """A behaviour whose sockets are opened at the end of a chain."""
    # What is wrong with the behaviour is said where it is read.
    if not isinstance(behavior, Mapping):
        return behavior
    own: Any = behavior.get("upgrade")
    if (own is None and not middlewares) or (own is not None and not callable(own)):
        return behavior
    guarded: dict[str, Any] = dict(behavior)

    if own is None:
        last: Middleware = _accept
    elif is_async(own):

        async def last(res: Response, req: Request, data: Any) -> Any:
            return await own(res, req, guarded, data)

    else:

        def last(res: Response, req: Request, data: Any) -> Any:
            return own(res, req, guarded, data)

    chain = middleware(*middlewares, last)

    def upgrade(res: Response, req: Request, context: object) -> Any:
        return chain(res, req)

    async def upgrade_async(res: Response, req: Request, context: object) -> Any:
        return await chain(res, req)

    guarded["upgrade"] = upgrade_async if is_async(chain) else upgrade
    return guarded


def _accept(res: Response, req: Request, data: Any) -> None:
    res.upgrade(
        req.get_header("sec-websocket-key"),
        req.get_header("sec-websocket-protocol"),
        req.get_header("sec-websocket-extensions"),
        None,
        data,
    )
