"""Runs a program of the documentation as it stands, on a free port, asks it for its front page, and closes it.

``python run_program.py FILE``: prints the status of the answer. What the program prints goes to standard output too.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from client import Client
from socketify import App, AppListenOptions

_listen, _run = App.listen, App.run


def listen(self: App, options: Any = None, handler: Any = None) -> App:
    """Listens on a free port, whatever the program says; a Unix socket gets a path of its own."""
    domain = getattr(options, "domain", None)
    if domain:
        options = AppListenOptions(domain=str(Path(tempfile.mkdtemp()) / "socket"))
    else:
        options = {"host": "127.0.0.1", "port": 0}

    def listening(config: AppListenOptions) -> None:
        where.update(port=config.port, path=config.domain)
        if handler is not None:
            handler(config)

    return _listen(self, options, listening)


def run(self: App) -> App:
    """Serves until the front page has been answered."""

    def visit() -> None:
        try:
            with Client(where["port"], path=where["path"]) as client:
                print("status", client.get("/").status, flush=True)
        finally:
            self.close()

    self.loop.loop.call_soon(lambda: threading.Thread(target=visit).start())
    return _run(self)


where: dict[str, Any] = {}
App.listen, App.run = listen, run  # type: ignore[method-assign]

if __name__ == "__main__":
    program = Path(sys.argv[1])
    # `run(app)` modules are what a command line would load.
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(program)}
    exec(compile(program.read_text(), str(program), "exec"), namespace)
