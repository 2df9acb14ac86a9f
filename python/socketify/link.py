"""What ties a worker to its supervisor: it says how it is doing, and does not outlive it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

__all__ = ["Link", "end_with", "quiet"]

#: Seconds that a worker may take to end once its supervisor has gone, beyond those of its application.
_PATIENCE = 10.0
#: `PR_SET_PDEATHSIG` of prctl(2).
_PDEATHSIG = 1


def quiet(number: int, frame: object) -> None:
    """A signal handler that does nothing. Unlike an ignored signal, programs that this process starts do not inherit it."""


def end_with(parent: int, number: int) -> bool:
    """Asks the system to send a signal to this process when its parent ends, however that ends.

    Args:
        parent: The parent's process id. If it has ended already, so does this process.
        number: The signal.

    Returns:
        Whether the system can do that.
    """
    try:
        import ctypes

        asked = bool(ctypes.CDLL(None).prctl(_PDEATHSIG, number, 0, 0, 0) == 0)
    except (ImportError, OSError, AttributeError):
        asked = False
    if os.getppid() != parent:
        os._exit(1)
    return asked


class Link:
    """A worker's end of it.

    Args:
        parent: Process id of the supervisor.
        report: Where to write what the supervisor is told.
        lifeline: A pipe that nobody writes to, and whose other end only the supervisor has.
    """

    def __init__(self, parent: int, report: int, lifeline: int) -> None:
        self._report = report
        self._lifeline = lifeline
        # While the application is loaded, this is all there is: its code may hold the only thread.
        self._signalled = end_with(parent, signal.SIGTERM)

    def ready(self, shutdown_timeout: float) -> None:
        """Tells the supervisor that this process serves, and how long its application may take to stop."""
        self._tell(f"ready {shutdown_timeout:.3f}\n")
        # A worker whose loop is stuck does not act on signals. A thread that begins only now is none that a program has when
        # it forks in `on_start`.
        watch = threading.Thread(target=self._watch, args=(2 * shutdown_timeout + _PATIENCE,), daemon=True)
        watch.name = "socketify-lifeline"
        watch.start()

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
        if not self._signalled:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os.kill(os.getpid(), signal.SIGKILL)
