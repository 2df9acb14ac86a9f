"""Two ways to serve a client that is slower than the server: wait for it, or drop outdated messages.

Try it with:

    pip install websockets
    websockets ws://localhost:3000/table
    websockets ws://localhost:3000/price
"""

import asyncio
import random

from socketify import App, OpCode, WebSocket


async def table(ws: WebSocket) -> None:
    for row in range(10_000):
        ws.send(f"{row},{row * row}", OpCode.TEXT)
        if row % 100 == 0:
            # Returns when all buffered output has been sent, or the client has left.
            await ws.drain()
            if ws.closed:
                return
    ws.end(1000, "that was all")


async def price(ws: WebSocket) -> None:
    while not ws.closed:
        # Dropped while more than 4 KiB are buffered: the next price replaces it.
        ws.send(f"{random.uniform(99, 101):.2f}", OpCode.TEXT)
        await asyncio.sleep(0.1)


def closed(ws: WebSocket, code: int, message: bytes | None) -> None:
    print(f"closed with {code}; {ws.dropped} prices were dropped")


app = App()
app.ws("/table", {"open": table})
app.ws("/price", {"open": price, "close": closed, "max_backpressure": 4096})
app.listen(3000, lambda config: print(f"Listening on ws://localhost:{config.port}/price"))
app.run()
