"""A chat: rooms, their members, and the latest messages. Every room is a topic.

Run it, and open http://localhost:3000 in two windows. The demo of `make run` has it too, at /chat/.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from socketify import App, CompressOptions, OpCode, Request, Response, WebSocket, sendfile

PAGE = Path(__file__).with_name("index.html")
LONGEST_NAME, LONGEST_TEXT, KEPT = 24, 2000, 50


@dataclass
class Room:
    """The names of those present, once for each connection, and the latest messages."""

    present: list[str] = field(default_factory=list)
    said: deque[dict[str, object]] = field(default_factory=lambda: deque(maxlen=KEPT))


@dataclass(frozen=True)
class Member:
    name: str
    room: str

    @property
    def topic(self) -> str:
        return f"chat/{self.room}"


rooms: dict[str, Room] = {}


def upgrade(res: Response, req: Request, socket_context: object) -> None:
    """Admits clients with a name. The member is the connection's user data."""
    name = (req.get_query("name") or "").strip()
    room = unquote(req.get_parameter(0) or "").strip()
    if not 0 < len(name) <= LONGEST_NAME or not 0 < len(room) <= LONGEST_NAME:
        res.write_status(400).end(f"A name and a room have 1 to {LONGEST_NAME} characters")
        return
    res.upgrade(
        req.get_header("sec-websocket-key"),
        req.get_header("sec-websocket-protocol"),
        req.get_header("sec-websocket-extensions"),
        socket_context,
        Member(name, room),
    )


def enter(ws: WebSocket) -> None:
    member: Member = ws.get_user_data()
    room = rooms.setdefault(member.room, Room())
    ws.send({"type": "history", "messages": list(room.said)}, OpCode.TEXT)
    ws.subscribe(member.topic)


def presence(ws: WebSocket, topic: str, count: int, before: int) -> None:
    """A member has joined the room or left it, on purpose or because the connection was lost."""
    member: Member = ws.get_user_data()
    room = rooms[member.room]
    came = count > before
    if came:
        room.present.append(member.name)
    else:
        room.present.remove(member.name)
    change = {"type": "presence", "name": member.name, "came": came, "present": sorted(room.present)}
    ws.app.publish(topic, change, OpCode.TEXT)
    if not room.present:
        del rooms[member.room]


def say(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    member: Member = ws.get_user_data()
    if not isinstance(message, str) or len(message) > LONGEST_TEXT:
        ws.end(1008, f"A message is text of up to {LONGEST_TEXT} characters")
        return
    if text := message.strip():
        said = {"type": "message", "name": member.name, "text": text, "at": time.time()}
        rooms[member.room].said.append(said)
        ws.app.publish(member.topic, said, OpCode.TEXT, True)


async def page(res: Response, req: Request) -> None:
    await sendfile(res, req, PAGE)


def routes(app: App, path: str = "/") -> None:
    """The page at ``path``, which ends with a slash, and the rooms below it."""
    app.get(path, page)
    app.ws(
        f"{path}rooms/:room",
        {
            "compression": CompressOptions.SHARED_COMPRESSOR,
            "max_payload_length": 16 * 1024,
            "idle_timeout": 60,
            "send_pings_automatically": True,
            "upgrade": upgrade,
            "open": enter,
            "message": say,
            "subscription": presence,
        },
    )


if __name__ == "__main__":
    app = App()
    routes(app)
    app.listen(3000, lambda config: print(f"The chat is at http://localhost:{config.port}"))
    app.run()
