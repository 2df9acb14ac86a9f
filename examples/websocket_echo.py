"""A WebSocket that echoes each message.

Try it with:

    pip install websockets
    websockets ws://localhost:3000/echo
"""

from socketify import App, CompressOptions, OpCode, WebSocket


def opened(ws: WebSocket) -> None:
    print("hello", ws.get_remote_address())


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    # Compressed only if that pays, and if the client supports it.
    ws.send(message, opcode, compress=len(message) > 1000)


def closed(ws: WebSocket, code: int, message: bytes | None) -> None:
    print("bye", code, message)


app = App()
app.ws(
    "/echo",
    {
        "open": opened,
        "message": echo,
        "close": closed,
        "max_payload_length": 1024**2,
        "compression": CompressOptions.SHARED_COMPRESSOR,
        # A client that only listens stays; a vanished one is noticed.
        "send_pings_automatically": True,
    },
)
app.listen(3000, lambda config: print(f"Listening on ws://localhost:{config.port}/echo"))
app.run()
