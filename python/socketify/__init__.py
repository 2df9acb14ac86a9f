"""HTTP, WebSocket and pub/sub server for Python with a Rust core.

An application is an :class:`App` with routes::

    from socketify import App

    app = App()
    app.get("/", lambda res, req: res.end("Hello World!"))
    app.listen(3000, lambda config: print(f"Listening on port {config.port}"))
    app.run()
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import door as _door  # noqa: F401 - binds what the core calls
from ._core import Request, Response, WebSocket, __version__
from .app import App
from .compression import Compression
from .cors import CORS
from .domains import Domain
from .exceptions import BadRequest, ClientDisconnected, ContentTooLarge, HTTPError, UnsupportedMediaType
from .extensions import AppExtension
from .loop import Loop
from .middleware import middleware
from .options import AppListenOptions, AppOptions, CompressOptions, OpCode, SendStatus
from .routers import DecoratorRouter, MiddlewareRouter
from .static import sendfile
from .tasks import RequestTask, TaskFactory, create_task
from .websocket import WebSocketBehavior

if TYPE_CHECKING:
    from . import socketify as socketify
    from .asgi import ASGI
    from .events import EventStream, ServerSentEvent
    from .forms import Form, FormReader, MultiMapping, UploadedFile
    from .multipart import Multipart, Part
    from .processes.activation import systemd_sockets
    from .request_ids import RequestIdFilter, get_request_id, request_id
    from .rsgi import RSGI
    from .running import run, serve
    from .ssgi import SSGI
    from .wsgi import WSGI

AppRequest = Request
AppResponse = Response

__all__ = [
    "ASGI",
    "CORS",
    "RSGI",
    "SSGI",
    "WSGI",
    "App",
    "AppExtension",
    "AppListenOptions",
    "AppOptions",
    "AppRequest",
    "AppResponse",
    "BadRequest",
    "ClientDisconnected",
    "CompressOptions",
    "Compression",
    "ContentTooLarge",
    "DecoratorRouter",
    "Domain",
    "EventStream",
    "Form",
    "FormReader",
    "HTTPError",
    "Loop",
    "MiddlewareRouter",
    "MultiMapping",
    "Multipart",
    "OpCode",
    "Part",
    "Request",
    "RequestIdFilter",
    "RequestTask",
    "Response",
    "SendStatus",
    "ServerSentEvent",
    "TaskFactory",
    "UnsupportedMediaType",
    "UploadedFile",
    "WebSocket",
    "WebSocketBehavior",
    "__version__",
    "asyncio",
    "create_task",
    "get_request_id",
    "middleware",
    "request_id",
    "run",
    "sendfile",
    "serve",
    "systemd_sockets",
]

#: Names of what not every program needs, and the modules that have them: they are imported on first use.
_LATE = {
    "ASGI": "asgi",
    "EventStream": "events",
    "Form": "forms",
    "FormReader": "forms",
    "MultiMapping": "forms",
    "Multipart": "multipart",
    "Part": "multipart",
    "RequestIdFilter": "request_ids",
    "RSGI": "rsgi",
    "SSGI": "ssgi",
    "ServerSentEvent": "events",
    "UploadedFile": "forms",
    "WSGI": "wsgi",
    "get_request_id": "request_ids",
    "request_id": "request_ids",
    "run": "running",
    "serve": "running",
    "systemd_sockets": "processes.activation",
}


if not TYPE_CHECKING:
    # Type checkers would take every name for one that is there.

    def __getattr__(name: str) -> Any:
        if name in ("asgi", "rsgi", "socketify", "ssgi", "wsgi"):
            # Programs name these modules without importing them.
            return import_module(f".{name}", __name__)
        module = _LATE.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
        return value
