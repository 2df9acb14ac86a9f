"""A WebSocket on every path, from a dict that the command line mounts, beside the routes of the same module.

Try it with:

    python -m socketify hello_world_cli_ws:run --ws hello_world_cli_ws:websocket --port 8080
    pip install websockets
    websockets ws://localhost:8080/
"""

from socketify import App, CompressOptions, OpCode, Request, Response, WebSocket, WebSocketBehavior


def greet(ws: WebSocket) -> None:
    ws.send("Hello World!", OpCode.TEXT)


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    ws.send(message, opcode)


# Options of the command line, such as --ws-idle-timeout 30, override these values.
websocket: WebSocketBehavior = {
    "open": greet,
    "message": echo,
    "compression": CompressOptions.SHARED_COMPRESSOR,
    "max_payload_length": 1024 * 1024,
}


def home(res: Response, req: Request) -> None:
    res.end("Hello, World!\n")


def run(app: App) -> None:
    app.get("/", home)
