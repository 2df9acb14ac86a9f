"""An application inside a foreign event loop, and how it ends: by ``close()``, or with that loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable
from typing import TYPE_CHECKING, Any

from .handlers import is_async

if TYPE_CHECKING:
    from .calls import Calls
    from .lifecycle import Lifecycle

__all__ = ["Stay"]

logger = logging.getLogger("socketify")


def _step(awaitable: Awaitable[Any]) -> None:
    """Runs what does not wait for anything, here and now."""
    with contextlib.suppress(StopIteration, StopAsyncIteration):
        awaitable.__await__().send(None)


class Stay:
    """From ``listen()`` in a foreign event loop to the end.

    ``asyncio.run``, and other code that ends a loop with care, cancels all tasks and then closes asynchronous generators:
    one that is begun here hears of it while the loop still runs. Code that just closes the loop lets go of what it watches.

    Args:
        life: The life cycle of the application.
        calls: Calls user code.

    Attributes:
        over: Done when it has ended.
    """

    def __init__(self, life: Lifecycle, calls: Calls) -> None:
        self._life = life
        self._calls = calls
        self._loop = life.loop.loop
        self.over: asyncio.Future[None] = self._loop.create_future()
        #: The task of the end.
        self._ending: asyncio.Task[None] | None = None
        self._ends_with_loop = False
        # The loop knows those that are begun on its thread, and does not hold them.
        self._generator = self._until_the_loop_ends()
        life.loop._when_closed(self._let_go)

    def begin(self) -> None:
        """Has the loop know of it. Called on the loop's thread."""
        if self._life.stay is self:
            _step(self._generator.__anext__())

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if self._life.stay is self:
                self._ends_with_loop = True
                self._close()
                await self.over

    def _close(self, unheard: str = "") -> None:
        if not self._life.closing:
            self._life.closing = True
            logger.warning("the event loop ends without close(): the application has been closed%s", unheard)
            self._life.server.close(0)

    def drained(self) -> None:
        """The core has finished its last request. Called on the loop's thread."""
        self._ending = self._loop.create_task(self._end())
        # The shutdown hook is to be awaited, also where all tasks are cancelled since the loop ends.
        asyncio._unregister_task(self._ending)

    async def _end(self) -> None:
        life = self._life
        try:
            await life.hear_out()
            hook = life.lifespan.shutdown_hook
            if hook is not None and (result := life.lifespan.call(hook)) is not None:
                await self._calls.guard(result, None)
        finally:
            self._leave()
            if not self._ends_with_loop:
                _step(self._generator.aclose())

    def _leave(self) -> None:
        life = self._life
        life.loop._when_closed(None)
        life.stay = None
        life.has_ended_here = True
        life.end_threads()
        if not self.over.done() and not self._loop.is_closed():
            self.over.set_result(None)

    def _let_go(self) -> None:
        # The loop does not watch the application any more: another does, or it is closed.
        if self._loop.is_closed():
            self.loop_ended()

    def loop_ended(self) -> None:
        """The loop has been closed, or the interpreter ends: nothing can be awaited any more."""
        life = self._life
        if life.stay is not self:
            return
        hook = life.lifespan.shutdown_hook if self._ending is None else None
        unheard = hook is not None and is_async(hook)
        self._close(", and its asynchronous shutdown hook cannot run" if unheard else "")
        life.server.close(0)
        try:
            if hook is not None and not unheard:
                life.lifespan.call(hook)
        finally:
            self._leave()
