"""Servers for tests: a real application on a free port, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client import Client
from command import Project
from socketify import App, AppListenOptions
from ws_client import WebSocketClient, connect

Configure = Callable[[App], object]


class Running:
    """An application that serves, and what a test needs to reach it."""

    def __init__(self, configure: Configure, listen: Any = None, **options: Any) -> None:
        self._ready = threading.Event()
        self._configure = configure
        self._listen = {"host": "127.0.0.1", "port": 0} if listen is None else listen
        self._options = options
        self.app: App
        self.port = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="application")
        self._thread.start()
        assert self._ready.wait(20), "the application did not start"
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self.app = App(**self._options)
            self._configure(self.app)
            self.app.listen(self._listen, self._listening)
            # Readiness is the loop's first turn: from then on everything works.
            self.app.loop.loop.call_soon(self._ready.set)
            self.app.run()
        except BaseException as error:
            self.error = error
        finally:
            self._ready.set()
            if hasattr(self, "app"):
                self.app.dispose()

    def _listening(self, config: AppListenOptions) -> None:
        self.port = config.port

    def client(self, **options: Any) -> Client:
        """A connection of raw bytes."""
        return Client(self.port, **options)

    def websocket(self, path: str = "/", **options: Any) -> WebSocketClient:
        """An open WebSocket of raw frames."""
        return connect(self.port, path, **options)

    def stop(self, timeout: float = 20) -> None:
        """Closes the application and waits for its thread."""
        self.app.close()
        self.join(timeout)

    def join(self, timeout: float = 20) -> None:
        """Waits for the application to end by itself."""
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the application did not stop"


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Starts applications: ``serve(configure, **App options)``. They are stopped when the test ends."""
    running: list[Running] = []

    def start(configure: Configure, **options: Any) -> Running:
        running.append(Running(configure, **options))
        return running[-1]

    yield start
    for application in running:
        application.stop()
        if application.error is not None:
            raise application.error


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty directory for a program of the command line; what is started there ends with the test."""
    made = Project(tmp_path)
    yield made
    made.end()
