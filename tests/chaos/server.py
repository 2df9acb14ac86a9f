"""The server under test: ``python server.py SETTINGS``, which are JSON.

It prints its port on the first line of standard output. Each line of standard input is a command, and its
reply is a line of JSON with its counts: ``state``; ``calm``, after it has ended the threads of its own;
``count``, with the objects that live, which takes a while; ``stopping``, which announces its end.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import random
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import mutations
from asks import CONSTANT, LARGE
from changer import Changer
from counts import Counts
from handlers import Handlers
from socketify import App, AppOptions, Request, Response, WebSocket
from sockets import TOPICS, Publishers, Sockets

#: Seconds that requests in progress have at the end.
PATIENCE = 120.0
GRACE = 2.0


class Program:
    """An application, its threads, and the reader of commands."""

    def __init__(self, settings: dict[str, Any]) -> None:
        seed = settings["seed"]
        tls = settings["tls"]
        self.counts = Counts()
        self.app = App(
            AppOptions(key_file_name=tls["key"], cert_file_name=tls["certificate"]) if tls else None,
            sync_handlers=settings["sync_handlers"],
            io_threads=settings["io_threads"],
            use_uvloop=settings["use_uvloop"],
            shutdown_timeout=GRACE,
            # A client of a busy machine is slow without meaning it: what times out here is a fault of the server.
            handshake_timeout=PATIENCE,
            header_timeout=PATIENCE,
            keep_alive_timeout=PATIENCE,
            body_timeout=PATIENCE,
            write_timeout=PATIENCE,
            min_rate=0,
        )
        folder = Path(settings["folder"])
        handlers = Handlers(self.app, self.counts, folder)
        self.changer = Changer(handlers, random.Random(f"{seed}/changer"))
        self.publishers = Publishers(self.app, self.counts, seed)
        if settings["mutation"]:
            mutations.apply(settings["mutation"], handlers, self.publishers)
        handlers.register()
        Sockets(self.app, self.counts).register()
        self._core(folder)

    def _core(self, folder: Path) -> None:
        self.app.static("/static", folder)
        self.app.constant("/core/constant", CONSTANT, method=None)
        self.app.post("/core/large", lambda res, req: res.end("never"), max_body_size=LARGE)
        self.app.on_start(self._started)

    def _started(self) -> None:
        self.changer.start()
        self.publishers.start()

    def run(self) -> None:
        # Printed when the loop runs, which has its own descriptors only then.
        say = self.app.loop.loop.call_soon
        self.app.listen({"host": "127.0.0.1"}, lambda config: say(lambda: print(config.port, flush=True)))
        threading.Thread(target=self._obey, daemon=True).start()
        self.app.run()

    # ---- its own counts -------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        for line in sys.stdin:
            match line.strip():
                case "calm":
                    self.changer.stop()
                    self.publishers.stop()
                case "stopping":
                    self.counts.stopping = True
                case _:
                    pass
            print(json.dumps(self._state(line.strip() == "count")), flush=True)

    def _state(self, objects: bool) -> dict[str, Any]:
        counts = self.counts
        faults, counts.faults = counts.faults, []
        return {
            "faults": faults,
            "requests": counts.requests,
            "running": len(counts.running),
            "running names": list(counts.running)[:5],
            "aborted": counts.aborted,
            "opened": counts.opened,
            "open": len(counts.open),
            "open names": list(counts.open)[:5],
            "subscribed": sum(counts.subscribed.values()),
            "subscribers": sum(self.app.num_subscribers(topic) for topic in TOPICS),
            "replaced handlers": counts.handlers - self.changer.distinct,
            "registered": counts.registered,
            "objects": self._objects() if objects else 0,
            "tasks": [str(task) for task in asyncio.all_tasks(self.app.loop.loop)][:5] if objects else [],
        }

    @staticmethod
    def _objects() -> int:
        """Requests, responses and sockets that are still referenced."""
        gc.collect()
        kinds = Counter(type(each) for each in gc.get_objects())
        return sum(kinds[kind] for kind in (Request, Response, WebSocket))


def main() -> None:
    # If a server hangs, this prints its line of Python.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    # A thread may lose the GIL between any two instructions.
    sys.setswitchinterval(1e-6)
    Program(json.loads(sys.argv[1])).run()


if __name__ == "__main__":
    main()
