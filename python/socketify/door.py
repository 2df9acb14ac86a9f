"""The door to the core: what it calls of this package, by the names of ``src/py/door.rs``. Importing this module binds them.

A name of a module stands for a function that imports it: the core calls that when it needs the module for the first time.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ._core import bind_door
from .error_log import (
    log_async_refused,
    log_callback,
    log_event,
    log_length,
    log_silent,
    log_unwritten,
    logged,
)
from .exceptions import ClientDisconnected
from .forks import leave
from .json_sets import without_sets
from .options import OpCode, SendStatus
from .static import media_type

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "ClientDisconnected",
    "OpCode",
    "SendStatus",
    "cookies",
    "events",
    "files_of_wsgi",
    "forms",
    "leave",
    "lenient_bodies",
    "log_async_refused",
    "log_callback",
    "log_event",
    "log_length",
    "log_silent",
    "log_unwritten",
    "logged",
    "media_type",
    "multipart",
    "streams",
    "strict_bodies",
    "threads_of_wsgi",
    "without_sets",
]


def cookies() -> ModuleType:
    """Gives the module ``cookies``."""
    from . import cookies

    return cookies


def events() -> ModuleType:
    """Gives the module ``events``."""
    from . import events

    return events


def files_of_wsgi() -> ModuleType:
    """Gives the module ``wsgi_environ``."""
    from . import wsgi_environ

    return wsgi_environ


def forms() -> ModuleType:
    """Gives the module ``forms``."""
    from . import forms

    return forms


def lenient_bodies() -> ModuleType:
    """Gives the module ``lenient_bodies``."""
    from . import lenient_bodies

    return lenient_bodies


def multipart() -> ModuleType:
    """Gives the module ``multipart``."""
    from . import multipart

    return multipart


def streams() -> ModuleType:
    """Gives the module ``streams``."""
    from . import streams

    return streams


def strict_bodies() -> ModuleType:
    """Gives the module ``strict_bodies``."""
    from . import strict_bodies

    return strict_bodies


def threads_of_wsgi() -> ModuleType:
    """Gives the module ``wsgi_threads``."""
    from . import wsgi_threads

    return wsgi_threads


bind_door(sys.modules[__name__])
