"""The same echo server as an ASGI application.

``python asgi_server.py [COMPRESSION]``: as for ``server.py``.
"""

from __future__ import annotations

import sys
from typing import Any

from server import behavior, listening
from socketify import ASGI


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        raise ValueError(f"this serves WebSockets, and not {scope['type']}")
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def main() -> None:
    limits = behavior(sys.argv[1] if len(sys.argv) > 1 else "")
    del limits["message"]
    ASGI(echo, websocket_options=limits).listen({"host": "127.0.0.1", "port": 0}, listening).run()


if __name__ == "__main__":
    main()
