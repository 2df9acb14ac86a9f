"""A process that user code has forked from the one that serves: neither its sockets nor its loop are the child's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import sys
import threading
import traceback
from typing import NoReturn

__all__ = ["leave", "leave_loop"]

#: Closed, or dropped, they would take what they watch from the parent as well.
_kept: list[object] = []


def leave_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Has a loop that runs end with the present step, and takes from it what it shares with the parent.

    Args:
        loop: The loop.
    """
    if not loop.is_running():
        return
    if isinstance(getattr(loop, "_selector", None), selectors.BaseSelector):
        inherited = loop
        _kept.append(inherited._selector)  # type: ignore[attr-defined]
        inherited._selector = selectors.DefaultSelector()  # type: ignore[attr-defined]
        # Other tasks go on in the parent alone.
        for handle in [*inherited._ready, *inherited._scheduled]:  # type: ignore[attr-defined]
            handle.cancel()
        inherited._signal_handlers.clear()  # type: ignore[attr-defined]
    if getattr(loop, "_thread_id", None) == threading.get_ident():
        # A child is told that no loop runs; the task that has forked is to come to its end.
        asyncio._set_running_loop(loop)
        processes = sys.modules.get("multiprocessing.util")
        if processes is not None:
            # The child of this library runs its target here and now, which may run a loop of its own.
            processes.register_after_fork(loop, lambda _loop: asyncio._set_running_loop(None))
    loop.stop()


def leave(error: BaseException | None) -> NoReturn:
    """Ends the child, as far as a plain handler is all of it: with the status that its end says, and without clean-up.

    Args:
        error: What it has raised; None when it has returned.
    """
    status = 0
    if isinstance(error, SystemExit):
        if isinstance(error.code, int):
            status = error.code
        elif error.code is not None:
            print(error.code, file=sys.stderr)
            status = 1
    elif error is not None:
        traceback.print_exception(error)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status & 0xFF)
