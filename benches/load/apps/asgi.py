"""The routes of the comparison as a raw ASGI application, for uvicorn and for granian."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

PIECE = b"0123456789abcdef" * 4096
PIECES = 1600
TEXT = b"text/plain"
JSON = b"application/json"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answers one request."""
    path: str = scope["path"]
    if scope["method"] == "POST":
        await post(path, receive, send)
    elif path in ("/", "/async"):
        await answer(send, TEXT, b"Hello, World!")
    elif path.startswith("/user/"):
        await answer(send, TEXT, path[6:].encode())
    elif path == "/json":
        await answer(send, JSON, json.dumps({"message": "Hello, World!"}).encode())
    elif path == "/sleep0":
        await asyncio.sleep(0)
        await answer(send, TEXT, b"Hello, World!")
    elif path == "/download":
        await download(send)
    else:
        await answer(send, TEXT, b"", status=404)


async def answer(send: Send, content_type: bytes, body: bytes, status: int = 200) -> None:
    """Sends a whole response."""
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive: Receive) -> bytes:
    """Reads a whole body."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message["more_body"]:
            return body


async def post(path: str, receive: Receive, send: Send) -> None:
    """Answers a request that has a body."""
    if path == "/json":
        body = json.loads(await read(receive))
        await answer(send, JSON, json.dumps({"id": body["id"], "items": len(body["items"])}).encode())
    elif path == "/upload":
        total = 0
        more = True
        while more:
            message = await receive()
            total += len(message["body"])
            more = message["more_body"]
        await answer(send, TEXT, str(total).encode())
    else:
        await answer(send, TEXT, b"", status=404)


async def download(send: Send) -> None:
    """Streams 100 MiB in pieces of 64 KiB."""
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % (len(PIECE) * PIECES)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for left in range(PIECES - 1, -1, -1):
        await send({"type": "http.response.body", "body": PIECE, "more_body": left > 0})
