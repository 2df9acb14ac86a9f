"""HTTP, WebSocket and pub/sub server for Python with a Rust core.

An application is an :class:`App` with routes::

    from socketify import App

    app = App()
    app.get("/", lambda res, req: res.end("Hello World!"))
    app.listen(3000, lambda config: print(f"Listening on port {config.port}"))
    app.run()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._core import __version__
from .cors import CORS
from .exceptions import BadRequest, ClientDisconnected, ContentTooLarge, HTTPError, UnsupportedMediaType
from .socketify import (
    ASGI,
    SSGI,
    WSGI,
    App,
    AppExtension,
    AppListenOptions,
    AppOptions,
    AppRequest,
    AppResponse,
    Compression,
    CompressOptions,
    DecoratorRouter,
    Domain,
    Loop,
    MiddlewareRouter,
    OpCode,
    Request,
    RequestTask,
    Response,
    SendStatus,
    TaskFactory,
    WebSocket,
    WebSocketBehavior,
    asyncio,
    create_task,
    middleware,
    sendfile,
)

if TYPE_CHECKING:
    from .activation import systemd_sockets
    from .events import EventStream, ServerSentEvent
    from .forms import Form, FormReader, MultiMapping, UploadedFile
    from .multipart import Multipart, Part
    from .request_ids import RequestIdFilter, get_request_id, request_id

__all__ = [
    "ASGI",
    "CORS",
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
    "sendfile",
    "systemd_sockets",
]

#: Names of what not every program needs, and the modules that have them: they are imported on first use.
_LATE = {
    "EventStream": "events",
    "Form": "forms",
    "FormReader": "forms",
    "MultiMapping": "forms",
    "Multipart": "multipart",
    "Part": "multipart",
    "RequestIdFilter": "request_ids",
    "ServerSentEvent": "events",
    "UploadedFile": "forms",
    "get_request_id": "request_ids",
    "request_id": "request_ids",
    "systemd_sockets": "activation",
}


def __getattr__(name: str) -> Any:
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return value
