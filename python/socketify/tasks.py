"""Tasks under the names of the API: asyncio tasks whose first step runs at once where that is possible."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["RequestTask", "TaskFactory", "create_task"]

_T = TypeVar("_T")

#: What tasks are called that were given no name.
_NAME = "socketify.py-request-task"


def _is_current(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this thread is the one that runs the loop."""
    try:
        if asyncio.get_running_loop() is not loop:
            return False
    except RuntimeError:
        return False
    # An I/O thread of an application sees the application's loop as the running one too, but its owner is
    # another.
    owner = getattr(loop, "_owner", None)
    return owner is None or owner == threading.get_ident()


class RequestTask(asyncio.Task[_T]):
    """An asyncio task that can start at once.

    On Python 3.12 and later, made on the thread that runs the loop, it runs to its first suspension before
    the constructor returns. Everywhere else it starts on the next turn of the loop. In everything else it is
    an ``asyncio.Task``.

    Args:
        coro: The coroutine to run.
        loop: The loop to run it on; None, the default, means the current one.
        default_done_callback: Called with the task when it is done.
        no_register: Accepted for compatibility; every task is known to ``asyncio.all_tasks()``.
        context: The context to run in. By default a copy of the current one; on Python 3.10 always a copy.
        name: The task's name; ``socketify.py-request-task`` by default.
        eager_start: Whether to start at once where that is possible.

    Raises:
        TypeError: ``coro`` is not a coroutine.
    """

    def __init__(
        self,
        coro: Coroutine[Any, Any, _T],
        loop: asyncio.AbstractEventLoop | None = None,
        default_done_callback: Callable[[asyncio.Task[_T]], object] | None = None,
        no_register: bool = False,
        context: contextvars.Context | None = None,
        *,
        name: str | None = None,
        eager_start: bool | None = True,
    ) -> None:
        if loop is None:
            loop = asyncio.get_event_loop()
        name = name or _NAME
        if sys.version_info >= (3, 12):
            eager = bool(eager_start) and _is_current(loop)
            super().__init__(coro, loop=loop, name=name, context=context, eager_start=eager)
        elif sys.version_info >= (3, 11):
            self._context_of_request = context = contextvars.copy_context() if context is None else context
            super().__init__(coro, loop=loop, name=name, context=context)
        else:
            self._context_of_request = context = contextvars.copy_context() if context is None else context
            context.run(super().__init__, coro, loop=loop, name=name)
        if default_done_callback is not None:
            self.add_done_callback(default_done_callback)

    if sys.version_info < (3, 12):

        def get_context(self) -> contextvars.Context:
            """The context the task runs in; on Python 3.10 the one that was copied for it."""
            return self._context_of_request


def create_task(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, _T],
    default_done_callback: Callable[[asyncio.Task[_T]], object] | None = None,
    context: contextvars.Context | None = None,
) -> RequestTask[_T]:
    """Makes a :class:`RequestTask`, which starts at once where that is possible.

    Args:
        loop: The asyncio loop to run it on.
        coro: The coroutine to run.
        default_done_callback: Called with the task when it is done.
        context: The context to run in; a copy of the current one by default.

    Returns:
        The task. asyncio keeps only a weak reference to it, so keep it until it is done.
    """
    return RequestTask(coro, loop, default_done_callback, context=context)


class TaskFactory:
    """Makes a :class:`RequestTask` when called; fit for ``loop.set_task_factory``.

    Args:
        task_factory_max_items: Accepted for compatibility; tasks are not recycled, so each may be awaited.
    """

    def __init__(self, task_factory_max_items: int = 100_000) -> None:
        self.task_factory_max_items = task_factory_max_items

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, _T],
        default_done_callback: Callable[[asyncio.Task[_T]], object] | None = None,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        eager_start: bool | None = True,
    ) -> RequestTask[_T]:
        """Makes a task; the arguments are those of :class:`RequestTask`."""
        return RequestTask(
            coro, loop, default_done_callback, context=context, name=name, eager_start=eager_start
        )
