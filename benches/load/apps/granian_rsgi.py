"""The routes of the comparison as an RSGI application, granian's own interface."""

from __future__ import annotations

import asyncio
import json
from typing import Any

PIECE = b"0123456789abcdef" * 4096
PIECES = 1600
TEXT = [("content-type", "text/plain")]
JSON = [("content-type", "application/json")]
BINARY = [("content-type", "application/octet-stream"), ("content-length", str(len(PIECE) * PIECES))]


async def app(scope: Any, protocol: Any) -> None:
    """Answers one request."""
    path: str = scope.path
    if scope.method == "POST":
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
