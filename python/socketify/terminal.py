"""Whether there is a terminal. One that closes sends SIGHUP, and so does whoever asks for files to be read anew."""

from __future__ import annotations

import os

__all__ = ["has_terminal", "is_foreground"]


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
