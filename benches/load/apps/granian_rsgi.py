"""The routes of the comparison as an RSGI application, granian's own interface."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from granian.rsgi import ProtocolClosed

PIECE = b"0123456789abcdef" * 4096
PIECES = 1600
TEXT = [("content-type", "text/plain")]
JSON = [("content-type", "application/json")]
BINARY = [("content-type", "application/octet-stream"), ("content-length", str(len(PIECE) * PIECES))]


subscribers: set[Any] = set()


async def app(scope: Any, protocol: Any) -> None:
    """Answers one request, or serves one WebSocket."""
    path: str = scope.path
    if scope.proto == "ws":
        await websocket(path, protocol)
    elif scope.method == "POST":
        await post(path, protocol)
    elif path in ("/", "/async"):
        protocol.response_str(200, TEXT, "Hello, World!")
    elif path.startswith("/user/"):
        protocol.response_str(200, TEXT, path[6:])
    elif path == "/json":
        protocol.response_str(200, JSON, json.dumps({"message": "Hello, World!"}))
    elif path == "/sleep0":
        await asyncio.sleep(0)
        protocol.response_str(200, TEXT, "Hello, World!")
    elif path == "/download":
        transport = protocol.response_stream(200, BINARY)
        for _ in range(PIECES):
            await transport.send_bytes(PIECE)
    else:
        protocol.response_empty(404, [])


async def post(path: str, protocol: Any) -> None:
    """Answers a request that has a body."""
    if path == "/json":
        body = json.loads(await protocol())
        protocol.response_str(200, JSON, json.dumps({"id": body["id"], "items": len(body["items"])}))
    elif path == "/upload":
        total = 0
        async for chunk in protocol:
            total += len(chunk)
        protocol.response_str(200, TEXT, str(total))
    else:
        protocol.response_empty(404, [])


async def websocket(path: str, protocol: Any) -> None:
    """Echoes on one path and publishes on the other, until the client goes."""
    if path not in ("/echo", "/async", "/topic"):
        protocol.close(404)
        return
    transport = await protocol.accept()
    with contextlib.suppress(ProtocolClosed):
        if path == "/topic":
            await topic(transport)
        else:
            while (message := await transport.receive()).kind:
                await send(transport, message)
    protocol.close()


async def topic(transport: Any) -> None:
    """Sends each message to all clients."""
    subscribers.add(transport)
    try:
        while (message := await transport.receive()).kind:
            for subscriber in list(subscribers):
                with contextlib.suppress(ProtocolClosed):
                    await send(subscriber, message)
    finally:
        subscribers.discard(transport)


async def send(transport: Any, message: Any) -> None:
    """Sends a message with its own kind: 1 is bytes, 2 is text, 0 is the end."""
    if message.kind == 1:
        await transport.send_bytes(message.data)
    else:
        await transport.send_str(message.data)
