"""How a loop ends that is ours: tasks, asynchronous generators and the threads of its executor, as ``asyncio.run`` has it.

Each is given a while, and does not keep the process. The loop itself goes on to exist: an application may run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core import Server

__all__ = ["complete", "end_executor", "end_generators", "end_tasks", "interrupt"]

logger = logging.getLogger("socketify")

_Loop = asyncio.AbstractEventLoop


def complete(loop: _Loop, work: Awaitable[Any]) -> None:
    """Runs a loop until ``work`` is done. A request to stop the loop does not end that: it was meant for the run before.

    Args:
        loop: The loop, which does not run.
        work: What is waited for. What it raises is raised here.
    """
    future = asyncio.ensure_future(work, loop=loop)
    while True:
        try:
            loop.run_until_complete(future)
            return
        except RuntimeError:
            # asyncio raises it when the loop was stopped, and also when the loop cannot run: it is closed, or it runs
            # already, or another one runs on this thread.
            if (
                future.done()
                or loop.is_closed()
                or loop.is_running()
                or asyncio._get_running_loop() is not None
            ):
                raise


def end_tasks(loop: _Loop, patience: float) -> None:
    """Cancels all tasks that are left, those of user code too, and lets them clean up.

    Args:
        loop: The loop, which does not run.
        patience: How many seconds they have.
    """
    if tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        complete(loop, asyncio.wait(tasks, timeout=patience))


def end_generators(loop: _Loop, patience: float) -> None:
    """Closes asynchronous generators that have begun and not ended, so that their ``finally`` runs.

    Args:
        loop: The loop, which does not run.
        patience: How many seconds they have.
    """
    with contextlib.suppress(asyncio.TimeoutError):
        complete(loop, asyncio.wait_for(loop.shutdown_asyncgens(), patience))
    if hasattr(loop, "_asyncgens_shutdown_called"):
        # Else those of the next run would be warned of.
        loop._asyncgens_shutdown_called = False


def end_executor(loop: _Loop, patience: float) -> None:
    """Waits for what ``asyncio.to_thread`` and the like have begun, with the loop running, which it may need.

    Args:
        loop: The loop, which does not run.
        patience: How many seconds that may take; what is left then is waited for by the interpreter at its end.
    """
    # `loop.shutdown_default_executor` would have the next run without one. Other loops do not show theirs.
    executor: Any = getattr(loop, "_default_executor", None)
    if executor is None:
        return
    loop._default_executor = None  # type: ignore[attr-defined]
    ended = asyncio.Event()

    def wait() -> None:
        executor.shutdown(wait=True)
        with contextlib.suppress(RuntimeError):
            # The loop is closed: nothing waits any more.
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, name="socketify-executor", daemon=True).start()

    async def hear() -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), patience)

    complete(loop, hear())


def interrupt(server: Server, patience: float) -> None:
    """Raises SystemExit in a ``def`` handler that does not return. Python code ends by that, and its traceback says where it
    was; a call that blocks outside Python does not, and its thread is left behind.

    Args:
        server: The core.
        patience: How many seconds it has to end.
    """
    # Imported only where there is such a handler.
    import ctypes

    for ident in server.threads():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))
    deadline = time.monotonic() + patience
    while server.threads():
        if time.monotonic() > deadline:
            logger.warning("a handler has not returned: its thread is abandoned")
            return
        time.sleep(0.005)
