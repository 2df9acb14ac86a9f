"""As fast as the client reads: send until the output is buffered, and go on when it has been sent.

Try it with:

    pip install websockets
    websockets ws://localhost:3000/
"""

from socketify import App, OpCode, Request, Response, WebSocket

LAST = 50_000


def send_more(ws: WebSocket) -> None:
    data = ws.get_user_data()
    while data["next"] < LAST:
        data["next"] += 1
        ws.send(f"message {data['next']}", OpCode.TEXT)
        if ws.get_buffered_amount():
            return  # drain calls again
    ws.end(1000, "that was all")


def upgrade(res: Response, req: Request, context: object) -> None:
    key, extensions = req.get_header("sec-websocket-key"), req.get_header("sec-websocket-extensions")
    res.upgrade(key, None, extensions, context, {"next": 0})


app = App()
app.ws("/*", {"upgrade": upgrade, "open": send_more, "drain": send_more})
app.listen(3000, lambda config: print(f"Listening on ws://localhost:{config.port}"))
app.run()
