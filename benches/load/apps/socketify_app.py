"""The routes of the comparison through socketify's own API, for this package and for the original alike."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from socketify import App, AppListenOptions, AppOptions, CompressOptions, OpCode, Request, Response

PIECE = b"0123456789abcdef" * 4096
PIECES = 1600

# The original crashes when the collector frees a response whose body is still arriving: this keeps it.
uploading: dict[int, Response] = {}


def hello(res: Response, req: Request) -> None:
    """Responds from a plain function."""
    res.send(b"Hello, World!")


async def async_hello(res: Response, req: Request) -> None:
    """Responds from a coroutine that never waits."""
    res.send(b"Hello, World!")


async def sleep0(res: Response, req: Request) -> None:
    """Responds after one iteration of the event loop."""
    await asyncio.sleep(0)
    res.send(b"Hello, World!")


def user(res: Response, req: Request) -> None:
    """Sends the parameter of the route."""
    res.send(req.get_parameter(0))


def get_json(res: Response, req: Request) -> None:
    """Sends an object that the server turns into JSON."""
    res.send({"message": "Hello, World!"})


async def post_json(res: Response, req: Request) -> None:
    """Reads a JSON body, and shows with two of its values that it was parsed."""
    body = await res.get_json()
    res.send({"id": body["id"], "items": len(body["items"])})


def upload(res: Response, req: Request) -> None:
    """Counts the body as it arrives, without keeping it."""
    total = 0

    def on_data(res: Response, chunk: bytes | None, is_end: bool) -> None:
        nonlocal total
        if chunk:
            total += len(chunk)
        if is_end:
            del uploading[id(res)]
            res.send(str(total))

    uploading[id(res)] = res
    res.on_data(on_data)


async def download(res: Response, req: Request) -> None:
    """Streams 100 MiB in pieces of 64 KiB, each when the one before was accepted."""
    total = len(PIECE) * PIECES
    res.write_header("Content-Type", "application/octet-stream")
    for _ in range(PIECES):
        _, done = await res.send_chunk(PIECE, total)
        if done:
            break


def echo(ws: Any, message: str | bytes, opcode: OpCode) -> None:
    """Sends a message back."""
    ws.send(message, opcode)


def deflate_echo(ws: Any, message: str | bytes, opcode: OpCode) -> None:
    """Sends a message back compressed."""
    ws.send(message, opcode, True)


async def async_echo(ws: Any, message: str | bytes, opcode: OpCode) -> None:
    """Sends a message back from a coroutine that never waits."""
    ws.send(message, opcode)


def add_websockets(app: Any) -> None:
    """Adds the WebSocket routes."""
    limits = {
        "max_payload_length": 16 * 1024 * 1024,
        "max_backpressure": 16 * 1024 * 1024,
        "idle_timeout": 120,
    }

    def subscribe(ws: Any) -> None:
        ws.subscribe("topic")

    def publish(ws: Any, message: str | bytes, opcode: OpCode) -> None:
        app.publish("topic", message, opcode)

    def many_topics(ws: Any, message: str, opcode: OpCode) -> None:
        """Runs a command: `subscribe 0 100`, to these topics, or `publish 0 100`, to each of them."""
        command, first, end = message.split()
        for number in range(int(first), int(end)):
            if command == "subscribe":
                ws.subscribe(f"topic/{number}")
            else:
                app.publish(f"topic/{number}", "published", opcode)
        ws.send("done", opcode)

    app.ws("/echo", {**limits, "message": echo})
    app.ws("/async", {**limits, "message": async_echo})
    app.ws("/deflate", {**limits, "compression": CompressOptions.SHARED_COMPRESSOR, "message": deflate_echo})
    app.ws("/topic", {**limits, "open": subscribe, "message": publish})
    app.ws("/topics", {**limits, "message": many_topics})


def main(host: str, port: int, files: str, certificate: str = "", key: str = "") -> None:
    """Serves until the process is killed, over TLS if there is a certificate."""
    app = App(AppOptions(cert_file_name=certificate, key_file_name=key)) if certificate else App()
    app.get("/", hello)
    app.get("/async", async_hello)
    app.get("/sleep0", sleep0)
    app.get("/user/:id", user)
    app.get("/json", get_json)
    app.post("/json", post_json)
    app.post("/upload", upload)
    app.get("/download", download)
    app.static("/files", files)
    # A build without WebSockets takes part in the other works.
    if hasattr(app, "ws"):
        add_websockets(app)
    app.listen(AppListenOptions(port=port, host=host))
    app.run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
