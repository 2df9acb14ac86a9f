"""A handshake that is decided while the client waits: by a cookie, with data that the socket keeps.

Try it with:

    curl -c cookies 'localhost:3000/login?name=Ada'
    curl -b cookies -iN -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
        -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' localhost:3000/private

In a page, the browser sends the cookie automatically: new WebSocket("ws://localhost:3000/private").
"""

import asyncio
import secrets

from socketify import App, OpCode, Request, Response, WebSocket

names: dict[str, str] = {}


def login(res: Response, req: Request) -> None:
    session = secrets.token_urlsafe()
    names[session] = req.get_query("name") or "stranger"
    res.set_cookie("session", session, {"httponly": True, "samesite": "Strict"}).end("Welcome\n")


async def find_name(session: str | None) -> str | None:
    await asyncio.sleep(0.01)  # as a database would
    return names.get(session or "")


async def upgrade(res: Response, req: Request, context: object) -> None:
    name = await find_name(req.get_cookie("session"))
    if name is None:
        res.write_status(401).end("Log in first\n")
        return
    # Part of the handshake's response, like all earlier headers.
    res.set_cookie("visited", "yes", {"path": "/"})
    res.upgrade(
        req.get_header("sec-websocket-key"),
        req.get_header("sec-websocket-protocol"),
        req.get_header("sec-websocket-extensions"),
        context,
        {"name": name, "messages": 0},
    )


def opened(ws: WebSocket) -> None:
    ws.send(f"Hello {ws.get_user_data()['name']}", OpCode.TEXT)


def count(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    data = ws.get_user_data()
    data["messages"] += 1
    ws.send(f"{data['name']} has said {data['messages']} things", OpCode.TEXT)


app = App()
app.get("/login", login)
app.ws("/private", {"upgrade": upgrade, "open": opened, "message": count})
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/login?name=Ada"))
app.run()
