"""Routes in other words: with decorators and a common prefix, or with a common chain of middlewares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from .cross_origin import cover
from .middleware import middleware

if TYPE_CHECKING:
    from .app import App
    from .handlers import Middleware

__all__ = ["DecoratorRouter", "MiddlewareRouter"]

_F = TypeVar("_F", bound=Callable[..., Any])


def _check_path(path: object, method: str) -> None:
    if callable(path):
        raise TypeError(f"{method}() takes the path first: {path!r} is a handler")
    if not isinstance(path, str):
        raise TypeError(f"{method}() takes the path as str, not {path!r}")


def _check_handler(handler: object, method: str, path: str) -> None:
    if not callable(handler):
        raise TypeError(f"{method}({path!r}): the handler must be callable, not {handler!r}")


def _check_middlewares(functions: Iterable[Any]) -> tuple[Middleware, ...]:
    checked = tuple(functions)
    # An error where the router is made says more than one where its first route is.
    middleware(*checked)
    return checked


class DecoratorRouter:
    """Registers routes with decorators: ``@router.get("/users")``.

    Each decorator gives the function back, so several may be stacked on one.

    Args:
        app: The application the routes are for.
        prefix: Put before each path as it is, without a slash between them.
        middlewares: Run before each handler, which then is called as ``(res, req, data)``; without any it is
            called as ``(res, req)``. One iterable of them is taken as well.

    Raises:
        TypeError: The prefix is not a str, or a middleware cannot be called.
    """

    def __init__(self, app: App, prefix: str = "", *middlewares: Middleware | Iterable[Middleware]) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"a router's prefix must be a str, not {prefix!r}: middlewares come after it")
        given: Iterable[Any] = middlewares
        if len(middlewares) == 1 and not callable(middlewares[0]) and isinstance(middlewares[0], Iterable):
            given = middlewares[0]
        self.app = app
        self.prefix = prefix
        self.middlewares = _check_middlewares(given)

    def _route(self, method: str, path: str) -> Callable[[_F], _F]:
        _check_path(path, method)
        register = getattr(self.app, method)

        def decorate(handler: _F) -> _F:
            _check_handler(handler, method, path)
            register(
                self.prefix + path, middleware(*self.middlewares, handler) if self.middlewares else handler
            )
            cover(self.app, self.prefix + path, self.middlewares)
            return handler

        return decorate

    def get(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of GET requests of ``path``."""
        return self._route("get", path)

    def post(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of POST requests of ``path``."""
        return self._route("post", path)

    def options(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of OPTIONS requests of ``path``."""
        return self._route("options", path)

    def delete(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of DELETE requests of ``path``."""
        return self._route("delete", path)

    def patch(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of PATCH requests of ``path``."""
        return self._route("patch", path)

    def put(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of PUT requests of ``path``."""
        return self._route("put", path)

    def head(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of HEAD requests of ``path``."""
        return self._route("head", path)

    def connect(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of CONNECT requests of ``path``."""
        return self._route("connect", path)

    def trace(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of TRACE requests of ``path``."""
        return self._route("trace", path)

    def any(self, path: str) -> Callable[[_F], _F]:
        """Decorates the handler of requests of every method of ``path``, after those of one method."""
        return self._route("any", path)


class MiddlewareRouter:
    """Registers routes whose handlers run at the end of a common chain of middlewares.

    Handlers are called as ``(res, req, data)``, also when there are no middlewares.

    Args:
        app: The application the routes are for.
        middlewares: Run before each handler.

    Raises:
        TypeError: A middleware cannot be called.
    """

    def __init__(self, app: App, *middlewares: Middleware) -> None:
        self.app = app
        self.middlewares = _check_middlewares(middlewares)

    def _route(self, method: str, path: str, handler: Middleware) -> MiddlewareRouter:
        _check_path(path, method)
        _check_handler(handler, method, path)
        getattr(self.app, method)(path, middleware(*self.middlewares, handler))
        cover(self.app, path, self.middlewares)
        return self

    def get(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes GET requests of ``path``; gives the router back."""
        return self._route("get", path, handler)

    def post(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes POST requests of ``path``; gives the router back."""
        return self._route("post", path, handler)

    def options(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes OPTIONS requests of ``path``; gives the router back."""
        return self._route("options", path, handler)

    def delete(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes DELETE requests of ``path``; gives the router back."""
        return self._route("delete", path, handler)

    def patch(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes PATCH requests of ``path``; gives the router back."""
        return self._route("patch", path, handler)

    def put(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes PUT requests of ``path``; gives the router back."""
        return self._route("put", path, handler)

    def head(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes HEAD requests of ``path``; gives the router back."""
        return self._route("head", path, handler)

    def connect(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes CONNECT requests of ``path``; gives the router back."""
        return self._route("connect", path, handler)

    def trace(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes TRACE requests of ``path``; gives the router back."""
        return self._route("trace", path, handler)

    def any(self, path: str, handler: Middleware) -> MiddlewareRouter:
        """Routes requests of every method of ``path``, after those of one method; gives the router back."""
        return self._route("any", path, handler)
