"""The hooks of an application: what runs before its first socket is bound, and after its last request."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .endings import complete

if TYPE_CHECKING:
    from .calls import Calls
    from .handlers import Hook

__all__ = ["Lifespan"]


class Lifespan:
    """Runs the hooks.

    Args:
        calls: Calls user code.
        enabled: Whether they run.

    Attributes:
        enabled: Whether they run.
        on_start: The start hook; None for none.
        on_shutdown: The shutdown hook; None for none.
    """

    def __init__(self, calls: Calls, enabled: bool) -> None:
        self.enabled = enabled
        self.on_start: Hook | None = None
        self.on_shutdown: Hook | None = None
        #: Called before the start hook and after the shutdown hook while the loop does not run, in place of it: in a foreign
        #: loop it runs all the same. What they raise leaves the caller.
        self.outside: tuple[Callable[[], object], Callable[[], object]] | None = None
        self._calls = calls
        # The task that the hook runs in, and whether that was cancelled for its sake.
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    @property
    def shutdown_hook(self) -> Hook | None:
        """The shutdown hook, if it is to run."""
        return self.on_shutdown if self.enabled else None

    def run_start(self) -> None:
        """Runs the start hook to its end. See :meth:`run_shutdown`."""
        if self.outside is not None and self.enabled:
            self.outside[0]()
        self._run(self.on_start)

    async def start_here(self) -> None:
        """Runs the start hook to its end in the loop that runs.

        Raises:
            CancelledError: :meth:`cancel` was called meanwhile, or the caller was cancelled.
        """
        hook = self.on_start
        if hook is None or not self.enabled or (result := self.call(hook)) is None:
            return
        # No task of its own: SystemExit would leave it by way of the loop.
        self._task = task = asyncio.current_task()
        self._cancelled = False
        try:
            await self._calls.guard(result, None)
        except asyncio.CancelledError:
            if self._cancelled and task is not None and sys.version_info >= (3, 11):
                # It was the hook that was cancelled, and not the caller.
                task.uncancel()
            raise
        finally:
            self._task = None

    def run_shutdown(self) -> None:
        """Runs the shutdown hook to its end. In a foreign event loop it goes on beside the caller.

        Raises:
            CancelledError: :meth:`cancel` was called meanwhile.
        """
        try:
            self._run(self.on_shutdown)
        finally:
            if self.outside is not None and self.enabled:
                self.outside[1]()

    def cancel(self) -> None:
        """Cancels the hook that runs, if one does."""
        if self._task is not None:
            self._cancelled = True
            self._task.cancel()

    def call(self, hook: Hook) -> Awaitable[Any] | None:
        """Calls a hook, and reports what it raises.

        Returns:
            What is to be awaited, if it gave such a thing.
        """
        try:
            result = hook()
        except Exception as error:
            self._calls.trigger_error(error, None, None)
            return None
        return result if inspect.isawaitable(result) else None

    def _run(self, hook: Hook | None) -> None:
        if hook is None or not self.enabled:
            return
        loop = self._calls.loop
        if loop.is_foreign:
            # That loop runs already: a plain hook is over when this returns, a coroutine goes on beside the caller.
            if (result := self.call(hook)) is not None:
                self._calls.spawn(result, None)
            return

        async def call() -> None:
            if (result := self.call(hook)) is not None:
                await self._calls.guard(result, None)

        self._task = loop.loop.create_task(call())
        try:
            complete(loop.loop, self._task)
        finally:
            self._task = None
