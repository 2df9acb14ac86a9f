"""An application that serves, for a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketify import App
from socketify.testing import TestServer
from support.client import Client
from support.ws_client import WebSocketClient, connect

Configure = Callable[[App], object]


class Running:
    """An application that serves, with the clients of this suite, which speak in bytes and break rules."""

    def __init__(self, configure: Configure, listen: Any = None, **options: Any) -> None:
        # Tests ask what clients see of an error, so it is not raised here.
        self.server = TestServer(configure, listen=listen, timeout=20, raise_errors=False, **options)
        self.server.start()

    @property
    def app(self) -> App:
        return self.server.app

    @property
    def port(self) -> int:
        return self.server.port

    def client(self, **options: Any) -> Client:
        """A connection of raw bytes."""
        return Client(self.port, **options)

    def websocket(self, path: str = "/", **options: Any) -> WebSocketClient:
        """An open WebSocket of raw frames."""
        return connect(self.port, path, **options)

    def stop(self, timeout: float = 20) -> None:
        """Closes the application and waits for its thread."""
        self.server.stop(timeout)

    def join(self, timeout: float = 20) -> None:
        """Waits for the application to end by itself."""
        self.server.join(timeout)
