"""WebSockets over TLS: the rows of C over another transport, with `websockets` as the client. users.md 1 (20).

Its coroutines, not its threads: before CPython 3.13 one thread that reads and another that writes break a session of
OpenSSL, with any server.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from socketify import CompressOptions, OpCode
from support.lanes import each_lane, on, options
from support.running import Running
from support.tls_client import Certificates

MEBI = 1 << 20
PATTERN = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(8192))


def dial(running: Running, certificates: Certificates, **arguments: Any) -> connect:
    """Connects to that server; awaited, or in an `async with`."""
    url = f"wss://localhost:{running.port}/"
    return connect(url, ssl=certificates.context(), proxy=None, max_size=8 * MEBI, **arguments)


async def receive(client: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(client.recv(), 20)


@each_lane
@pytest.mark.parametrize("compression", ["deflate", None])
def test_echo(serve: Any, certificates: Certificates, lane: str, compression: str | None) -> None:
    """C-F-01, C-F-13, C-N-01, C-C-01: of every size, compressed or not, pings, and the close handshake."""
    closed: queue.Queue[int] = queue.Queue()

    def echo(ws: Any, message: Any, opcode: Any) -> None:
        ws.send(message, opcode, compress=True)

    running = serve(
        lambda app: app.ws(
            "/",
            {
                "compression": CompressOptions.SHARED_COMPRESSOR,
                "max_payload_length": 4 * MEBI,
                "max_backpressure": 0,
                "message": on(lane, echo),
                "close": on(lane, lambda ws, code, message: closed.put(code)),
            },
        ),
        options=certificates.options(),
        **options(lane),
    )

    async def main() -> None:
        async with dial(running, certificates, compression=compression) as client:
            for message in ("text", b"", b"x" * 65_536, os.urandom(MEBI), "\N{SNOWMAN}" * 100_000):
                await client.send(message)
                assert await receive(client) == message
            await asyncio.wait_for(await client.ping(), 20)

    asyncio.run(main())
    assert closed.get(timeout=20) == 1000


def test_publishing(start_tls: Callable[..., Running], certificates: Certificates) -> None:
    """A message for many is encrypted for each of them, and comes to each in order."""

    def opened(ws: Any) -> None:
        ws.subscribe("topic")
        ws.send("in", OpCode.TEXT)

    running = start_tls(lambda app: app.ws("/", {"open": opened, "max_backpressure": 0}))

    async def main() -> None:
        clients = [await dial(running, certificates) for _ in range(50)]
        for client in clients:
            assert await receive(client) == "in"
        for number in range(100):
            running.app.publish("topic", f"{number} " + "x" * number, OpCode.TEXT)
        for client in clients:
            for number in range(100):
                assert await receive(client) == f"{number} " + "x" * number
            await client.close()

    asyncio.run(main())


def test_a_client_that_does_not_read(start_tls: Callable[..., Running], certificates: Certificates) -> None:
    """A-WS-12: `get_buffered_amount` counts the buffered output, and `drain` reports room, as in the
    clear."""
    drained = threading.Event()
    waiting: queue.Queue[int] = queue.Queue()

    def order(ws: Any, message: Any, opcode: Any) -> None:
        for _ in range(80):
            ws.send(PATTERN, OpCode.BINARY)
        waiting.put(ws.get_buffered_amount())

    running = start_tls(
        lambda app: app.ws(
            "/", {"message": order, "drain": lambda ws: drained.set(), "max_backpressure": 64 * MEBI}
        )
    )

    async def main() -> None:
        async with dial(running, certificates, compression=None, max_queue=1) as client:
            await client.send("go")
            # The client reads nothing meanwhile: this blocks its loop.
            assert waiting.get(timeout=20) > MEBI
            for _ in range(80):
                assert await receive(client) == PATTERN

    asyncio.run(main())
    assert drained.wait(20)
