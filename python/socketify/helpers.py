"""Helpers under the names they have always had: what goes between application and handlers (A-EXP-23)."""

from __future__ import annotations

from .middleware import async_middleware, middleware, sync_middleware
from .routers import DecoratorRouter, MiddlewareRouter
from .static import in_directory, sendfile, static_route

__all__ = [
    "DecoratorRouter",
    "MiddlewareRouter",
    "async_middleware",
    "in_directory",
    "middleware",
    "sendfile",
    "static_route",
    "sync_middleware",
]
