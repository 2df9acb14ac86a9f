"""Tests of applications: a server on a free port, in a thread of its own, and a small client to talk to it.

    from socketify import App
    from socketify.testing import TestServer

    def routes(app: App) -> None:
        app.get("/", lambda res, req: res.end("Hello"))

    def test_home() -> None:
        with TestServer(routes) as server:
            assert server.get("/").text == "Hello"

What is tested is the real server over real sockets; nothing is simulated. :class:`AsyncTestServer` is the same for tests
that are coroutines. Any other client can be pointed at ``server.url``.
"""

from __future__ import annotations

from .aio import AsyncConnection, AsyncWebSocketSession
from .client import Connection, WebSocketSession
from .frames import HandshakeRefused, WebSocketClosed
from .messages import Answer
from .server import AsyncTestServer, TestServer

__all__ = [
    "Answer",
    "AsyncConnection",
    "AsyncTestServer",
    "AsyncWebSocketSession",
    "Connection",
    "HandshakeRefused",
    "TestServer",
    "WebSocketClosed",
    "WebSocketSession",
]
