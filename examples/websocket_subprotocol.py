"""The handshake by hand: choosing one of the client's protocols, and refusing a client.

Try it with:

    new WebSocket("ws://localhost:3000/", ["v2.chat", "v1.chat"])      // in the console of a browser
"""

from socketify import App, OpCode, Request, Response, WebSocket

KNOWN = ("v2.chat", "v1.chat")


def upgrade(res: Response, req: Request, context: object) -> None:
    offered = [name.strip() for name in (req.get_header("sec-websocket-protocol") or "").split(",")]
    protocol = next((name for name in KNOWN if name in offered), None)
    if protocol is None:
        res.write_status(400).end(f"One of {', '.join(KNOWN)} is needed\n")
        return
    key, extensions = req.get_header("sec-websocket-key"), req.get_header("sec-websocket-extensions")
    res.upgrade(key, protocol, extensions, context, {"protocol": protocol})


def opened(ws: WebSocket) -> None:
    ws.send(f"We speak {ws.get_user_data()['protocol']}", OpCode.TEXT)


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    ws.send(message, opcode)


app = App()
app.ws("/*", {"upgrade": upgrade, "open": opened, "message": echo})
app.any("/", lambda res, req: res.end("A WebSocket is here\n"))
app.listen(3000, lambda config: print(f"Listening on ws://localhost:{config.port}"))
app.run()
