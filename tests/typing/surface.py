"""Every module that programs import from, and every name of it. Type checkers read it, and test_typing.py runs it.

A name that is here stays, at the place that is named here: what a module is called inside the package is another matter.
"""

# ruff: noqa: F401
# pyright: reportUnusedImport=false

from __future__ import annotations


def socketify() -> None:
    from socketify import (
        ASGI,
        CORS,
        RSGI,
        SSGI,
        WSGI,
        App,
        AppExtension,
        AppListenOptions,
        AppOptions,
        AppRequest,
        AppResponse,
        BadRequest,
        ClientDisconnected,
        Compression,
        CompressOptions,
        ContentTooLarge,
        DecoratorRouter,
        Domain,
        EventStream,
        Form,
        FormReader,
        HTTPError,
        Loop,
        MiddlewareRouter,
        MultiMapping,
        Multipart,
        OpCode,
        Part,
        Request,
        RequestIdFilter,
        RequestTask,
        Response,
        SendStatus,
        ServerSentEvent,
        TaskFactory,
        UnsupportedMediaType,
        UploadedFile,
        WebSocket,
        WebSocketBehavior,
        __version__,
        asyncio,
        create_task,
        get_request_id,
        middleware,
        request_id,
        run,
        sendfile,
        serve,
        systemd_sockets,
    )


def socketify_socketify() -> None:
    from socketify.socketify import (
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


def socketify_helpers() -> None:
    from socketify.helpers import (
        DecoratorRouter,
        MiddlewareRouter,
        async_middleware,
        in_directory,
        middleware,
        sendfile,
        static_route,
        sync_middleware,
    )


def socketify_dataclasses() -> None:
    from socketify.dataclasses import AppListenOptions, AppOptions


def socketify_asgi() -> None:
    from socketify.asgi import ASGI


def socketify_rsgi() -> None:
    from socketify.rsgi import (
        RSGI,
        Headers,
        HTTPProtocol,
        HTTPStreamTransport,
        RSGIProtocolClosed,
        RSGIProtocolError,
        Scope,
        WebsocketMessage,
        WebsocketMessageType,
        WebsocketProtocol,
        WebsocketTransport,
    )


def socketify_cli() -> None:
    from socketify.cli import main


def socketify_exceptions() -> None:
    from socketify.exceptions import (
        BadRequest,
        ClientDisconnected,
        ContentTooLarge,
        HTTPError,
        UnsupportedMediaType,
    )


def socketify_forms() -> None:
    from socketify.forms import Form, FormReader, MultiMapping, UploadedFile


def socketify_handlers() -> None:
    from socketify.handlers import (
        AbortedHandler,
        AnyHandler,
        AsyncHandler,
        AsyncMiddleware,
        Buffer,
        Chain,
        DataHandler,
        ErrorHandler,
        Field,
        Handler,
        HeaderHandler,
        Hook,
        JsonSerializer,
        Middleware,
        Payload,
        RequestT,
        ResponseT,
        RouteHandler,
        Step,
        TemplateEngine,
        WritableHandler,
    )


def socketify_loop() -> None:
    from socketify.loop import Loop, Timer


def socketify_middleware() -> None:
    from socketify.middleware import async_middleware, middleware, sync_middleware


def socketify_options() -> None:
    from socketify.options import AppListenOptions, AppOptions, CompressOptions, OpCode, SendStatus


def socketify_routers() -> None:
    from socketify.routers import DecoratorRouter, MiddlewareRouter


def socketify_ssgi() -> None:
    from socketify.ssgi import SSGI


def socketify_status_codes() -> None:
    from socketify.status_codes import status_codes


def socketify_tasks() -> None:
    from socketify.tasks import RequestTask, TaskFactory, create_task


def socketify_templates() -> None:
    from socketify.templates import Jinja2Template, MakoTemplate


def socketify_websocket() -> None:
    from socketify.websocket import WebSocketBehavior


def socketify_wsgi() -> None:
    from socketify.wsgi import WSGI


def socketify_testing() -> None:
    from socketify.testing import (
        Answer,
        AsyncConnection,
        AsyncTestServer,
        AsyncWebSocketSession,
        Connection,
        HandshakeRefused,
        TestServer,
        WebSocketClosed,
        WebSocketSession,
    )


def socketify_testing_aio() -> None:
    from socketify.testing.aio import AsyncConnection, AsyncStream, AsyncWebSocketSession


def socketify_testing_client() -> None:
    from socketify.testing.client import Connection, Stream, WebSocketSession


def socketify_testing_frames() -> None:
    from socketify.testing.frames import HandshakeRefused, WebSocketClosed


def socketify_testing_messages() -> None:
    from socketify.testing.messages import Answer, RequestOptions
