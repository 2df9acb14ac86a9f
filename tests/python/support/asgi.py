"""ASGI applications for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketify import App
from socketify.asgi_calls import Application, Receive, Scope, Send, mount


def serving(application: Application, root_path: str = "", websocket: Any = True) -> Callable[[App], None]:
    """Has ``application`` serve every path."""
    limits = ({} if websocket is True else websocket) if websocket else None

    def configure(app: App) -> None:
        mount(app, application, root_path, limits)

    return configure


async def answer(send: Send, body: bytes = b"", status: int = 200, headers: Any = ()) -> None:
    """Sends a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read(receive: Receive) -> bytes:
    """Receives the whole body of a request."""
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        if not message["more_body"]:
            return body


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """The smallest application."""
    await answer(send, b"hello", headers=[(b"content-type", b"text/plain")])
