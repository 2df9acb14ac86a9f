"""Socket.IO: as an application of ASGI, and behind Flask by WSGI, where it only has polling."""

from __future__ import annotations

from typing import Any

import socketio
from flask import Flask
from flask_socketio import SocketIO

server = socketio.AsyncServer(async_mode="asgi")
asgi = socketio.ASGIApp(server)


@server.event
async def connect(sid: str, environ: dict[str, Any]) -> None:
    await server.enter_room(sid, "all")


@server.event
async def say(sid: str, text: str) -> str:
    await server.emit("said", text, room="all")
    return "heard"


wsgi = Flask(__name__)
behind = SocketIO(wsgi, async_mode="threading")


@behind.event
def shout(text: str) -> str:
    return text.upper()
