"""When a worker is replaced though it serves: after so many requests, after a time, or with so much memory."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .console import complain

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Recycling", "memory_of", "watch_alone"]

_PAGE = os.sysconf("SC_PAGE_SIZE")


def memory_of(pid: int) -> int:
    """The bytes of memory that a process has in use; 0 if there is no such process."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


@dataclass(frozen=True)
class Recycling:
    """What makes a worker old (S-CLI-28).

    Attributes:
        requests: The number of requests; None for any.
        jitter: How many more, at random, so that workers do not become old together.
        lifetime: Seconds of service, with up to a tenth more at random; None for any.
        memory: Bytes of memory; None for any.
        interval: Seconds between two looks at the memory.
        samples: How many looks one after the other have to find too much.
    """

    requests: int | None = None
    jitter: int = 0
    lifetime: float | None = None
    memory: int | None = None
    interval: float = 30.0
    samples: int = 1

    @property
    def is_wanted(self) -> bool:
        """Whether anything makes a worker old."""
        return self.requests is not None or self.lifetime is not None or self.memory is not None

    def quota(self) -> int | None:
        """After how many requests one worker is old."""
        return None if self.requests is None else self.requests + random.randint(0, self.jitter)

    def span(self) -> float | None:
        """After how many seconds one worker is old."""
        return None if self.lifetime is None else self.lifetime * random.uniform(1.0, 1.1)


def watch_alone(app: App, recycling: Recycling) -> None:
    """Closes an application that serves without a supervisor when it is old: whoever has started it starts it again."""
    loop = app.loop.loop
    ended = False

    def end(why: str) -> None:
        nonlocal ended
        if not ended:
            ended = True
            complain(f"this process {why}: it ends, and nobody here replaces it")
            app.close()

    def look(found: int) -> None:
        used = memory_of(os.getpid())
        found = found + 1 if used > (recycling.memory or 0) else 0
        if found >= recycling.samples:
            end(f"has {used >> 20} MiB of memory")
        else:
            loop.call_later(recycling.interval, look, found)

    if (quota := recycling.quota()) is not None:
        hears, tells = os.pipe()
        os.set_blocking(hears, False)

        def spent() -> None:
            loop.remove_reader(hears)
            os.close(hears)
            end("has served its requests")

        loop.add_reader(hears, spent)
        app._server.count_requests(quota, tells)
        os.close(tells)
    if (span := recycling.span()) is not None:
        loop.call_later(span, end, f"has served for {span:.0f} seconds")
    if recycling.memory is not None:
        loop.call_later(recycling.interval, look, 0)
