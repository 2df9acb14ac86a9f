"""An application inside a loop that somebody else runs, and how it ends: by ``close()``, or with that loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable
from typing import TYPE_CHECKING, Any

from .handlers import is_async

if TYPE_CHECKING:
    from .lifecycle import Lifecycle

__all__ = ["Stay"]

logger = logging.getLogger("socketify")


def _step(awaitable: Awaitable[Any]) -> None:
    """Runs what does not wait for anything, here and now."""
    with contextlib.suppress(StopIteration, StopAsyncIteration):
        awaitable.__await__().send(None)


class Stay:
    """From ``listen()`` in a loop of somebody else to the end.

    ``asyncio.run``, and whoever else ends a loop with care, cancels all tasks and then closes asynchronous generators: one
    that is begun here hears of it while the loop still runs. Whoever just closes the loop lets go of what it watches.
    """

    def __init__(self, app: Lifecycle) -> None:
        self._app = app
        self._loop = app.loop.loop
        self._over: asyncio.Future[None] = self._loop.create_future()
        #: The task of the end.
        self._ending: asyncio.Task[None] | None = None
        self._ends_with_loop = False
        # The loop knows those that are begun on its thread, and does not hold them.
        self._generator = self._until_the_loop_ends()
        app.loop._when_closed(self._let_go)

    def begin(self) -> None:
        """Has the loop know of it. Called on the loop's thread."""
        if self._app._stay is self:
            _step(self._generator.__anext__())

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if self._app._stay is self:
                self._ends_with_loop = True
                self._close()
                await self._over

    def _close(self, unheard: str = "") -> None:
        if not self._app._closing:
            self._app._closing = True
            logger.warning("the event loop ends without close(): the application has been closed%s", unheard)
            self._app._server.close(0)

    def drained(self) -> None:
        """The core has finished its last request. Called on the loop's thread."""
        self._ending = self._loop.create_task(self._end())
        # The shutdown hook is to be awaited, also where all tasks are cancelled since the loop ends.
        asyncio._unregister_task(self._ending)

    async def _end(self) -> None:
        app = self._app
        try:
            await app._hear_out()
            hook = app._shutdown_hook if app.lifespan else None
            if hook is not None and (result := app._call_hook(hook)) is not None:
                await app._guard_awaitable(result, None)
        finally:
            self._leave()
            if not self._ends_with_loop:
                _step(self._generator.aclose())

    def _leave(self) -> None:
        app = self._app
        app.loop._when_closed(None)
        app._stay = None
        app._end_threads()
        if not self._over.done() and not self._loop.is_closed():
            self._over.set_result(None)

    def _let_go(self) -> None:
        # The loop does not watch the application any more: another does, or it is closed.
        if self._loop.is_closed():
            self.loop_ended()

    def loop_ended(self) -> None:
        """The loop has been closed, or the interpreter ends: nothing can be awaited any more."""
        app = self._app
        if app._stay is not self:
            return
        hook = app._shutdown_hook if app.lifespan and self._ending is None else None
        unheard = hook is not None and is_async(hook)
        self._close(", and its asynchronous shutdown hook cannot run" if unheard else "")
        app._server.close(0)
        try:
            if hook is not None and not unheard:
                app._call_hook(hook)
        finally:
            self._leave()
