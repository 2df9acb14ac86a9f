"""Runs a program of the documentation unchanged, on a free port, asks it for its front page, says hello on
each of its WebSockets, and closes it.

``python run_program.py FILE [CLIENT]``: prints the status of the response. The program's output goes to
standard output. CLIENT is a program that talks to it, at ``localhost:3000`` as it believes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client import Client
from socketify import App, AppListenOptions

_listen, _run, _ws = App.listen, App.run, App.ws

HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
#: A text message, and a close frame with 1000.
HELLO = b"\x81\x85\0\0\0\0hello\x88\x82\0\0\0\0\x03\xe8"


def ws(self: App, path: str, behavior: Any) -> App:
    """Notes the path, with something for each parameter."""
    sockets.append(re.sub(":[^/]+", "x", path))
    return _ws(self, path, behavior)


def listen(self: App, options: Any = None, handler: Any = None) -> App:
    """Listens on a free port, instead of the program's own; a Unix socket gets a path of its own."""
    domain = getattr(options, "domain", None)
    if domain:
        options = AppListenOptions(domain=str(Path(tempfile.mkdtemp()) / "socket"))
    else:
        options = {"host": "127.0.0.1", "port": 0}

    def listening(config: AppListenOptions) -> None:
        where.update(port=config.port, path=config.domain, secure=self.is_ssl)
        if handler is not None:
            handler(config)
        if self.loop.is_foreign:
            # It serves from now on, in a coroutine that waits for ever.
            task = asyncio.current_task()
            assert task is not None
            end = functools.partial(self.loop.loop.call_soon_threadsafe, task.cancel)
            threading.Thread(target=visit, args=[end]).start()

    return _listen(self, options, listening)


def run(self: App) -> App:
    """Serves until the front page has been answered, and the WebSockets have."""

    self.loop.loop.call_soon(lambda: threading.Thread(target=visit, args=[self.close]).start())
    return _run(self)


def connect() -> Client:
    """A client in plain text, or with TLS where that is spoken; the program's certificate is its own affair."""
    client = Client(where["port"], path=where["path"])
    if where["secure"]:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        client.socket = context.wrap_socket(client.socket)
    return client


def visit(end: Callable[[], object]) -> None:
    try:
        with connect() as client:
            print(f"status {client.get('/').status}\n", end="", flush=True)
        for socket in sockets:
            converse(socket)
        for program in clients:
            exec(
                compile(program.replace("localhost:3000", f"localhost:{where['port']}"), "client", "exec"), {}
            )
            print("client done", flush=True)
    finally:
        end()


def converse(socket: str) -> None:
    """Says hello and goodbye on a WebSocket, if the program accepts it, and reads the messages."""
    with connect() as client:
        answer = client.get(socket, *HANDSHAKE)
        print("socket", socket, answer.status, flush=True)
        if answer.status == 101:
            client.send(HELLO).rest()


where: dict[str, Any] = {}
sockets: list[str] = []
clients: list[str] = [Path(name).read_text() for name in sys.argv[2:]]
App.listen, App.run, App.ws = listen, run, ws  # type: ignore[method-assign]

if __name__ == "__main__":
    program = Path(sys.argv[1])
    # `run(app)` modules are loaded like the command line does.
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(program)}
    with contextlib.suppress(asyncio.CancelledError):
        exec(compile(program.read_text(), str(program), "exec"), namespace)
