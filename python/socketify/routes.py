"""What routes are registered with: the methods that an application and each of its domains have."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .routers import DecoratorRouter
from .static import static_route
from .websocket import WebSocketBehavior

if TYPE_CHECKING:
    from typing_extensions import Self

    from .handlers import RequestT, ResponseT, RouteHandler, Step
    from .route_table import RouteTable

__all__ = ["Routes"]


class Routes:
    """What an :class:`~socketify.App` and each :class:`~socketify.Domain` of it have in common: they register routes."""

    #: Where they go.
    _table: RouteTable

    def _route(
        self, method: str, path: str, handler: RouteHandler[ResponseT, RequestT], max_body_size: int | None
    ) -> Self:
        self._table.add(method, path, handler, max_body_size)
        return self

    def get(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes GET requests of ``path`` to ``handler(res, req)``; HEAD too, where no other route answers it.

        Args:
            path: Segments are literal, ``:name`` (one segment, a parameter) or ``*`` (the rest). Literal goes before
                parameter before ``*``, whatever the order of registration. A handler registered again replaces the earlier.
            handler: Called as ``(res, req)``; ``def`` or ``async def``.
            max_body_size: Bytes of request body this route takes, in place of the application's limit.

        Returns:
            What it was called on.

        Raises:
            ValueError: The pattern is malformed; the message names it.
            TypeError: The handler cannot be called, or stands where the path should; the message says so.
        """
        return self._route("get", path, handler, max_body_size)

    def post(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes POST requests; see :meth:`get`."""
        return self._route("post", path, handler, max_body_size)

    def options(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes OPTIONS requests; see :meth:`get`."""
        return self._route("options", path, handler, max_body_size)

    def delete(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes DELETE requests; see :meth:`get`."""
        return self._route("delete", path, handler, max_body_size)

    def patch(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes PATCH requests; see :meth:`get`."""
        return self._route("patch", path, handler, max_body_size)

    def put(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes PUT requests; see :meth:`get`."""
        return self._route("put", path, handler, max_body_size)

    def head(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes HEAD requests; see :meth:`get`."""
        return self._route("head", path, handler, max_body_size)

    def connect(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes CONNECT requests; see :meth:`get`."""
        return self._route("connect", path, handler, max_body_size)

    def trace(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes TRACE requests; see :meth:`get`."""
        return self._route("trace", path, handler, max_body_size)

    def any(
        self, path: str, handler: RouteHandler[ResponseT, RequestT], *, max_body_size: int | None = None
    ) -> Self:
        """Routes requests of every method, after handlers of the same pattern for one method; see :meth:`get`."""
        return self._route("any", path, handler, max_body_size)

    def ws(self, path: str, behavior: WebSocketBehavior | Mapping[str, Any]) -> Self:
        """Serves WebSockets at ``path``. Requests there that are no handshake go to the HTTP routes.

        Args:
            path: As for :meth:`get`; parameters are read in the ``upgrade`` listener.
            behavior: Limits and listeners, a dict with any of the keys of :class:`WebSocketBehavior`.

        Returns:
            What it was called on.

        Raises:
            TypeError: The behaviour is no dict, or a value is of the wrong type; the message names the key.
            ValueError: A key is unknown, a number is out of range, or the pattern is malformed.
        """
        self._table.add_websocket(path, behavior)
        return self

    def constant(
        self,
        path: str,
        message: Any,
        content_type: str | bytes | None = None,
        status: int = 200,
        headers: Iterable[tuple[str | bytes, str | bytes | int]] | None = None,
        *,
        method: str | None = "GET",
    ) -> Self:
        """An answer that never changes, given by the core without running Python: a health check, a robots.txt.

        Args:
            path: As for :meth:`get`.
            message: ``str``, bytes-like, or anything the JSON serializer takes, converted now.
            content_type: Default ``text/plain``, or ``application/json`` for what went through the serializer.
            status: From 200 to 599.
            headers: Further headers.
            method: The method, or None for every method.

        Returns:
            What it was called on.
        """
        plain = isinstance(message, (str, bytes, bytearray, memoryview))
        given = content_type or ("text/plain" if plain else "application/json")
        pairs = [("Content-Type", given), *(headers or ())]
        self._table.add_constant(method, path, status, pairs, message)
        return self

    def static(
        self,
        route: str,
        directory: str | os.PathLike[str],
        *,
        index: str | None = None,
        cache_control: str | None = None,
        precompressed: bool = False,
        dotfiles: bool = False,
    ) -> Self:
        """Serves the files below ``directory`` to GET and HEAD requests below ``route``, without running Python.

        Ranges, validators and conditional requests are honoured (RFC 9110 sections 8.8, 13 and 14). What a URL names is
        percent-decoded once. A request goes to the next matching route, or is a 404, when there is no such file, when the
        name leads outside the directory, also through symbolic links, and when it is no regular file. Other routes of the
        same path go first where they are more exact, such as ``app.get("/")`` beside ``app.static("/", "public")``.

        Args:
            route: Path below which the files appear; a slash at its end does not count.
            directory: The directory. Files that appear in it later are served too, and so is one that takes its place.
            index: File that stands for a directory, such as ``"index.html"``. Default None: directories are not served.
            cache_control: Value of the ``Cache-Control`` header. Default None: no such header.
            precompressed: Whether ``name.br``, ``name.zst`` or ``name.gz``, when it is there, is sent in place of ``name``
                to clients that accept it. Default False.
            dotfiles: Whether names that begin with a dot are served. ``/.well-known/`` always is (RFC 8615). Default False.

        Returns:
            What it was called on.

        Raises:
            TypeError: The route is not ``str``, or the directory no path.
            ValueError: The index or the ``Cache-Control`` cannot be what they are given for; the message names it.
        """
        return static_route(
            self,
            route,
            directory,
            index=index,
            cache_control=cache_control,
            precompressed=precompressed,
            dotfiles=dotfiles,
        )

    def router(
        self, prefix: str = "", *middlewares: Step[ResponseT, RequestT] | Iterable[Step[ResponseT, RequestT]]
    ) -> DecoratorRouter:
        """Decorators that register routes: ``@router.get("/")``.

        Args:
            prefix: Put before each path as it is, without a slash between them.
            middlewares: Run before each handler, which then is called as ``(res, req, data)``.

        Returns:
            The router, which has routers of its own.

        Raises:
            TypeError: The prefix is not a str, or a middleware cannot be called.
        """
        return DecoratorRouter(self, prefix, *middlewares)
