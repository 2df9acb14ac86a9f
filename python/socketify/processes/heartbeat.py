"""Whether the event loop of a worker turns, as its supervisor sees it in memory that both have (S-CLI-33)."""

from __future__ import annotations

import faulthandler
import mmap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Heartbeat"]

#: States of a loop.
_UNKNOWN, _AWAKE, _ASLEEP = range(3)


class Heartbeat:
    """What a loop tells of itself: how often it has turned, and whether it sleeps.

    The supervisor makes it before the fork. Nothing wakes a loop for its sake, and no thread is there that a busy GIL could
    starve. A loop that is not ours tells nothing, and is never late.
    """

    def __init__(self) -> None:
        # Two numbers, shared between the processes.
        self._memory = mmap.mmap(-1, 16)
        self._told = memoryview(self._memory).cast("Q")
        # What was seen last, and since when.
        self._seen = (_UNKNOWN, 0)
        self._since = 0.0

    def watch(self, app: App) -> None:
        """In the worker: tells of the loop of an application, and has stacks written when the process is aborted."""
        faulthandler.enable()
        selector: Any = getattr(app.loop.loop, "_selector", None)
        if not hasattr(selector, "block"):
            return
        told, select, block = self._told, selector.select, selector.block
        turns = 0

        def turn(timeout: float | None = None) -> Any:
            nonlocal turns
            turns += 1
            told[1] = turns
            told[0] = _AWAKE
            return select(timeout)

        def sleep(timeout: float | None) -> Any:
            told[0] = _ASLEEP
            try:
                return block(timeout)
            finally:
                told[0] = _AWAKE

        selector.select, selector.block = turn, sleep

    def begin(self, now: float) -> None:
        """In the supervisor: what has been until now does not count."""
        self._since = now

    def late(self, now: float) -> float:
        """In the supervisor: how many seconds the loop has been busy with one turn, as far as looks tell."""
        seen = (self._told[0], self._told[1])
        if seen != self._seen or seen[0] != _AWAKE:
            self._seen = seen
            self._since = now
        return now - self._since

    def close(self) -> None:
        """Lets go of the memory."""
        self._told.release()
        self._memory.close()
