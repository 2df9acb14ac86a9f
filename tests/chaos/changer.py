"""Routes that are replaced while they are asked for."""

from __future__ import annotations

import asyncio
import functools
import random
import threading
from collections.abc import Callable
from typing import Any

from asks import content
from handlers import Handlers, Job
from socketify import App, Request, Response


class Changer:
    """A thread that registers routes again and again, each time with another handler."""

    def __init__(self, handlers: Handlers, rng: random.Random) -> None:
        self._handlers = handlers
        self._rng = rng
        self._stopping = threading.Event()
        self._generation = 0
        #: How many handlers there are once all of them have been replaced.
        self.distinct = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Registers each route once, and then goes on on a thread of its own."""
        for change in self._changes():
            before = self._handlers.counts.registered
            change()
            self.distinct += self._handlers.counts.registered - before
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        changes = self._changes()
        while not self._stopping.wait(self._rng.uniform(0.005, 0.1)):
            self._rng.choice(changes)()

    def _changes(self) -> list[Callable[[], None]]:
        app = self._handlers.app
        single = [self._plain, self._async, self._middle, self._domain, self._socket]
        added = [functools.partial(self._added, app, number) for number in range(2, 6)]
        return [*single, *added]

    def _plain(self) -> None:
        self._generation += 1
        generation = str(self._generation)

        def changing(job: Job) -> None:
            job.head().end(generation)

        handler = self._handlers.plain(changing)
        self._handlers.app.any("/plain/changing/:id", self._handlers.counts.registering(handler))

    def _async(self) -> None:
        self._generation += 1
        generation = str(self._generation)

        async def changing(job: Job) -> None:
            await asyncio.sleep(job.wait)
            job.head().end(generation)

        handler = self._handlers.asynchronous(changing)
        self._handlers.app.any("/async/changing/:id", self._handlers.counts.registering(handler))

    def _middle(self) -> None:
        def guard(res: Response, req: Request, data: object = None) -> object:
            return data or True

        def guarded(res: Response, req: Request, data: object = None) -> None:
            res.end("guarded")

        guard = self._handlers.counts.registering(guard)
        self._handlers.app.router("/guarded", guard).get("/page")(self._handlers.counts.registering(guarded))

    def _domain(self) -> None:
        def page(res: Response, req: Request) -> None:
            res.end("a domain")

        self._handlers.app.domain("chaos.example").any("/domain", self._handlers.counts.registering(page))

    def _socket(self) -> None:
        def message(ws: Any, message: Any, opcode: Any) -> None:
            ws.send(message, opcode)

        self._handlers.app.ws("/ws/changing", {"message": self._handlers.counts.registering(message)})

    def _added(self, app: App, number: int) -> None:
        app.constant(f"/added/{number}", content("added", self._rng.randrange(100)), method=None)
