"""One message to everybody: from a socket, from a plain HTTP request, from a timer.

Try it with:

    pip install websockets
    websockets ws://localhost:3000/news        # in two terminals
    curl -d 'It rains' localhost:3000/news
"""

import asyncio
from datetime import datetime

from socketify import App, OpCode, Request, Response, WebSocket

app = App()


def opened(ws: WebSocket) -> None:
    ws.subscribe("news")


def said(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    ws.publish("news", message, opcode)


def present(ws: WebSocket, topic: str, count: int, before: int) -> None:
    app.publish(topic, f"{count} here", OpCode.TEXT)


async def post(res: Response, req: Request) -> None:
    app.publish("news", await res.get_text() or "", OpCode.TEXT)
    res.end(f"sent to {app.num_subscribers('news')}\n")


async def tell_time() -> None:
    while True:
        await asyncio.sleep(10)
        app.publish("news", f"It is {datetime.now():%H:%M:%S}", OpCode.TEXT)


@app.on_start
def start() -> None:
    app.run_async(tell_time())


app.ws("/news", {"open": opened, "message": said, "subscription": present, "send_pings_automatically": True})
app.post("/news", post)
app.listen(3000, lambda config: print(f"Listening on ws://localhost:{config.port}/news"))
app.run()
