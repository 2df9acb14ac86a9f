"""The threads of a WSGI application, as Python sees them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._core import Gateway

__all__ = ["begin_thread"]


def begin_thread(gateway: Gateway, number: int) -> None:
    """Begins a thread of an application, which does not keep the process.

    Args:
        gateway: The application.
        number: The thread's number, from 1.

    Raises:
        RuntimeError: No thread can be made.
    """
    name = f"socketify-wsgi-{number}"
    threading.Thread(target=gateway._work, args=(number,), name=name, daemon=True).start()
