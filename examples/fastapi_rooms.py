"""Rooms of a chat with FastAPI: the server's topics send each message to all members of a room.

A server usually knows nothing of rooms, so that the application keeps lists of sockets and sends to one after
the other. Here each socket subscribes to the topic of its room, and one message to the server reaches all of
them. Topics end at the process: with several workers use a broker, as before.

Try it with:

    pip install fastapi websockets
    python -m socketify fastapi_rooms:app
    websockets ws://localhost:8000/rooms/blue?name=Ada        # in two terminals
    curl localhost:8000/rooms/blue
"""

from typing import Any

from fastapi import FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send


class Topics:
    """Keeps the server's own ``send`` in the scope: that of FastAPI's WebSocket takes only the messages that it knows."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            if "websocket.publish" not in scope["extensions"]:
                raise RuntimeError("this application needs the topics of socketify")
            scope["server_send"] = send
        await self.app(scope, receive, send)


app = FastAPI()
app.add_middleware(Topics)
names: dict[str, list[str]] = {}


async def tell(websocket: WebSocket, kind: str, room: str, **message: Any) -> None:
    """Sends one of the server's own messages: websocket.subscribe, websocket.unsubscribe or websocket.publish."""
    await websocket.scope["server_send"]({"type": f"websocket.{kind}", "topic": room, **message})


@app.get("/rooms/{room}")
async def members(room: str) -> list[str]:
    if room not in names:
        raise HTTPException(404, "nobody is there")
    return names[room]


@app.websocket("/rooms/{room}")
async def talk(websocket: WebSocket, room: str, name: str) -> None:
    await websocket.accept()
    await tell(websocket, "subscribe", room)
    names.setdefault(room, []).append(name)
    await tell(websocket, "publish", room, text=f"{name} is here")
    try:
        while True:
            text = await websocket.receive_text()
            await tell(websocket, "publish", room, text=f"{name}: {text}")
    except WebSocketDisconnect:
        # The socket has left its topics by itself.
        names[room].remove(name)
        await tell(websocket, "publish", room, text=f"{name} has left")
        if not names[room]:
            del names[room]
