"""The public classes under the module they have always been in (A-EXP-22, A-EXP-23)."""

from __future__ import annotations

import asyncio

from ._core import Request as AppRequest
from ._core import Response as AppResponse
from ._core import WebSocket
from .app import App
from .asgi import ASGI
from .compression import Compression
from .domains import Domain
from .extensions import AppExtension
from .loop import Loop
from .middleware import middleware
from .options import AppListenOptions, AppOptions, CompressOptions, OpCode, SendStatus
from .routers import DecoratorRouter, MiddlewareRouter
from .ssgi import SSGI
from .static import sendfile
from .tasks import RequestTask, TaskFactory, create_task
from .websocket import WebSocketBehavior
from .wsgi import WSGI

__all__ = [
    "ASGI",
    "SSGI",
    "WSGI",
    "App",
    "AppExtension",
    "AppListenOptions",
    "AppOptions",
    "AppRequest",
    "AppResponse",
    "CompressOptions",
    "Compression",
    "DecoratorRouter",
    "Domain",
    "Loop",
    "MiddlewareRouter",
    "OpCode",
    "Request",
    "RequestTask",
    "Response",
    "SendStatus",
    "TaskFactory",
    "WebSocket",
    "WebSocketBehavior",
    "asyncio",
    "create_task",
    "middleware",
    "sendfile",
]

Request = AppRequest
Response = AppResponse
