"""HTTP, WebSocket and pub/sub server for Python with a Rust core.

An application is an :class:`App` with routes::

    from socketify import App

    app = App()
    app.get("/", lambda res, req: res.end("Hello World!"))
    app.listen(3000, lambda config: print(f"Listening on port {config.port}"))
    app.run()
"""

from __future__ import annotations

from ._core import __version__
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
    "__version__",
    "asyncio",
    "create_task",
    "middleware",
    "sendfile",
]
