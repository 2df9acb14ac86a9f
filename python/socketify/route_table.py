"""The routes of an application as the core has them: those of one host, or of all hosts that have none of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .handlers import is_async, warn_if_swapped
from .websocket import parse_behavior

if TYPE_CHECKING:
    from os import PathLike

    from ._core import CorsPolicy, Server
    from .static import Types
    from .websocket import WebSocketBehavior

__all__ = ["RouteTable"]

logger = logging.getLogger("socketify")


class RouteTable:
    """Checks routes, and puts them into the core.

    Args:
        server: The core.
        domain: The host that the routes are for; None, the default, for all that have no routes of their own.
    """

    def __init__(self, server: Server, domain: str | None = None) -> None:
        self._server = server
        self._domain = domain

    def add(self, method: str, path: str, handler: Callable[..., object], max_body_size: int | None) -> None:
        """Adds a handler; ``method`` is ``"get"`` and so on, or ``"any"``. See :meth:`Routes.get`."""
        _check(method, path, handler)
        warn_if_swapped(handler, f"the handler of {path!r}")
        verb = None if method == "any" else method.upper()
        reachable = self._server.add_route(
            verb, path, handler, is_async(handler), max_body_size, self._domain
        )
        _warn_unless(reachable, path)

    def add_websocket(self, path: str, behavior: WebSocketBehavior | Mapping[str, Any]) -> None:
        """Adds sockets; see :meth:`Routes.ws`."""
        if not isinstance(path, str):
            raise TypeError(f"ws() takes the path as a str and then the behavior, not {path!r}")
        limits, listeners = parse_behavior(path, behavior)
        reachable = self._server.add_websocket(path, limits, listeners, behavior, self._domain)
        _warn_unless(reachable, path)

    def add_constant(
        self, method: str | None, path: str, status: int, headers: list[tuple[Any, Any]], message: Any
    ) -> None:
        """Adds an answer that never changes; see :meth:`Routes.constant`."""
        self._server.add_constant(method, path, status, headers, message, self._domain)

    def add_files(
        self,
        path: str,
        directory: str | PathLike[str],
        depth: int,
        index: str | None,
        cache_control: str | None,
        precompressed: bool,
        dotfiles: bool,
        types: Types,
    ) -> None:
        """Adds a directory, whose names begin behind ``depth`` segments of a path; see :meth:`Routes.static`."""
        self._server.add_files(
            path, directory, depth, index, cache_control, precompressed, dotfiles, types, self._domain
        )

    def add_cors(self, path: str, policy: CorsPolicy) -> None:
        """Adds a policy for pages of other origins; it goes for every host. See :meth:`App.cors`."""
        self._server.add_cors(path, policy)


def _check(method: str, path: object, handler: object) -> None:
    """Refuses what cannot be a route.

    Raises:
        TypeError: The path or the handler is not what it should be; the message says what was given.
    """
    if not isinstance(path, str):
        swapped = ": they are swapped" if callable(path) and isinstance(handler, str) else ""
        raise TypeError(
            f"{method}() takes the path as a str and then the handler, not {path!r} first{swapped}"
        )
    if not callable(handler):
        raise TypeError(f"the handler of {path!r} must be callable as (res, req), which {handler!r} is not")


def _warn_unless(reachable: bool, path: str) -> None:
    if not reachable:
        logger.warning("route %r: nothing after a '*' is ever matched", path)
