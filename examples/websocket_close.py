"""Two ways to end a WebSocket: with a code and a reason, or without a close frame.

Try it with:

    pip install websockets
    websockets ws://localhost:3000/       # and say: end, or close
"""

from socketify import App, OpCode, WebSocket


def said(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    if message == "end":
        ws.end(4000, "you asked for it")  # the client gets the code and the reason
    elif message == "close":
        ws.close()  # the connection is cut: the client sees 1006
    else:
        ws.send(message, opcode)


def closed(ws: WebSocket, code: int, message: bytes | None) -> None:
    print(f"closed with {code}", flush=True)


app = App()
app.ws("/*", {"message": said, "close": closed})
app.listen(3000, lambda config: print(f"Listening on ws://localhost:{config.port}"))
app.run()
