"""The terminal of this process, if there is one, and the signals that it sends.

A terminal that closes sends SIGHUP, which also asks for files to be read anew. Ctrl+C sends SIGINT to a supervisor and its
workers.
"""

from __future__ import annotations

import os

__all__ = ["has_terminal", "is_foreground", "quiet"]


def has_terminal() -> bool:
    """Tells whether this process belongs to a terminal that is open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def is_foreground() -> bool:
    """Tells whether this process belongs to a terminal that is open, and is one of those that it has in its foreground.

    Those are what a terminal ends when it closes. A process in the background may outlive it by years.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def quiet(number: int, frame: object) -> None:
    """A signal handler that does nothing. Unlike an ignored signal, programs that this process starts do not inherit it."""
