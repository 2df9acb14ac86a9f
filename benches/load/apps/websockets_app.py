"""The WebSocket routes of the comparison on websockets, its asyncio server."""

from __future__ import annotations

import contextlib
import sys
from http import HTTPStatus

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

ECHO = ("/echo", "/async", "/deflate")
MAX_SIZE = 16 * 1024 * 1024

subscribers: set[ServerConnection] = set()


def route(connection: ServerConnection, request: Request) -> Response | None:
    """Refuses unknown paths."""
    if request.path in (*ECHO, "/topic"):
        return None
    return connection.respond(HTTPStatus.NOT_FOUND, "")


async def serve_connection(connection: ServerConnection) -> None:
    """Serves one client until it leaves, with a close frame or without."""
    request = connection.request
    with contextlib.suppress(ConnectionClosed):
        if request is not None and request.path == "/topic":
            await topic(connection)
        else:
            async for message in connection:
                await connection.send(message)


async def topic(connection: ServerConnection) -> None:
    """Sends each message to all clients."""
    subscribers.add(connection)
    try:
        async for message in connection:
            broadcast(subscribers, message)
    finally:
        subscribers.discard(connection)


async def main(host: str, port: int) -> None:
    """Serves until the process is killed. Compresses only if the client has asked for it, as on /deflate."""
    async with serve(
        serve_connection,
        host,
        port,
        process_request=route,
        compression="deflate",
        ping_interval=None,
        max_size=MAX_SIZE,
        backlog=4096,
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
