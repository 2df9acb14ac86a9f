"""What ties a worker to its supervisor: it says how it is doing, and does not outlive it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .heartbeat import Heartbeat

__all__ = ["Link", "end_with", "flush", "several"]

#: Seconds that a worker may take to end once its supervisor has gone, beyond those of its application.
_PATIENCE = 10.0
#: `PR_SET_PDEATHSIG` of prctl(2).
_PDEATHSIG = 1


def flush() -> None:
    """Writes what is buffered. For a process that is about to fork: else both would write it."""
    for stream in (sys.stdout, sys.stderr):
        # They may be closed, or never have been there.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def end_with(parent: int, number: int) -> None:
    """Asks the system to send a signal to this process when its parent ends, however that ends.

    Args:
        parent: The parent's process id. If it has ended already, so does this process.
        number: The signal; 0 for none any more.
    """
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


#: Whether other processes serve the same application beside this one. A supervisor says so in its workers.
several = False


class Link:
    """A worker's end of it.

    Args:
        parent: Process id of the supervisor.
        report: Where to write what the supervisor is told.
        lifeline: A pipe without a writer. Only the supervisor has its other end.
        heart: Where the loop tells that it turns; None if nobody listens.

    Attributes:
        heart: The same.
    """

    def __init__(self, parent: int, report: int, lifeline: int, heart: Heartbeat | None = None) -> None:
        self.heart = heart
        self._parent = parent
        self._report = report
        self._lifeline = lifeline
        # While the application is loaded, this is all there is: its code holds the only thread.
        end_with(parent, signal.SIGTERM)

    def ready(self, shutdown_timeout: float, secure: bool, kind: str = "") -> None:
        """Tells the supervisor that this process serves, how long its application may take to stop, whether it speaks TLS,
        and what interface it has."""
        self._tell(f"{'secure' if secure else 'plain'}\nkind {kind}\nready {shutdown_timeout:.3f}\n")
        # The system's signal is lost when a program changes its user, and a worker whose loop is stuck does not act on it. A
        # thread does; it begins only now, so that a program has none yet when it forks in `on_start`.
        end_with(self._parent, 0)
        watch = threading.Thread(target=self._watch, args=(2 * shutdown_timeout + _PATIENCE,), daemon=True)
        watch.name = "socketify-lifeline"
        watch.start()

    @property
    def report(self) -> int:
        """The descriptor where the supervisor hears of this process."""
        return self._report

    def told(self) -> None:
        """Tells the supervisor that the user has been told what is wrong."""
        self._tell("told\n")

    def _tell(self, line: str) -> None:
        # It may have gone, of which this process hears in another way.
        with contextlib.suppress(OSError):
            os.write(self._report, line.encode())

    def _watch(self, grace: float) -> None:
        with contextlib.suppress(OSError):
            os.read(self._lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os.kill(os.getpid(), signal.SIGKILL)
