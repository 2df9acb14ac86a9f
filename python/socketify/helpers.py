"""Helpers under the names they have always had: what goes between application and handlers (A-EXP-23)."""

from __future__ import annotations

from . import DecoratorRouter, MiddlewareRouter, middleware, sendfile
from .middleware import async_middleware, sync_middleware
from .static import in_directory, static_route

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
