"""Whether there is a terminal. One that closes sends SIGHUP, and so does whoever asks for files to be read anew."""

from __future__ import annotations

import os

__all__ = ["has_terminal"]


def has_terminal() -> bool:
    """Tells whether this process belongs to a terminal that is open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
