"""What a WSGI application finds in ``environ`` that does not depend on the request, and the files that it returns."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

from ._core import FileWrapper, __version__

__all__ = ["Errors", "base_environ", "real_file"]

#: Variables of CGI and of servers: in the environment of a shell they are about something else than the request.
_OF_THE_REQUEST = frozenset(
    (
        "AUTH_TYPE",
        "GATEWAY_INTERFACE",
        "HTTPS",
        "PATH_INFO",
        "PATH_TRANSLATED",
        "QUERY_STRING",
        "RAW_URI",
        "REMOTE_ADDR",
        "REMOTE_HOST",
        "REMOTE_IDENT",
        "REMOTE_PORT",
        "REMOTE_USER",
        "REQUEST_METHOD",
        "REQUEST_URI",
        "SCRIPT_FILENAME",
        "SCRIPT_NAME",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "SERVER_SOFTWARE",
    )
)


class Errors:
    """``wsgi.errors``: what is written goes to the ``sys.stderr`` of that moment, each write in one piece."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def write(self, text: str, /) -> int:
        """Writes a text.

        Returns:
            The number of its characters.

        Raises:
            TypeError: It is not a str.
        """
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes a str, not {type(text).__name__}")
        stream = sys.stderr
        if stream is not None:
            with self._lock:
                stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:
        """Writes several texts, one behind the other."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Has everything that was written leave the process."""
        stream = sys.stderr
        if stream is not None:
            stream.flush()


def base_environ(*, inherit: bool = True, threads: int = 1, multiprocess: bool = False) -> dict[str, Any]:
    """Makes the part of ``environ`` that all requests share.

    Args:
        inherit: Whether the variables of this process are in it, without those that could pass for the request's.
        threads: How many requests may be in the application at a time.
        multiprocess: Whether other processes may run the application as well.

    Returns:
        A new dict.
    """
    own = {
        name: os.fsencode(value).decode("latin-1")
        for name, value in os.environ.items()
        if name not in _OF_THE_REQUEST and not name.startswith(("HTTP_", "CONTENT_", "wsgi."))
    }
    return {
        **(own if inherit else {}),
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": f"socketify/{__version__}",
        "REMOTE_HOST": "",
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": "0",
        "wsgi.version": (1, 0),
        "wsgi.errors": Errors(),
        "wsgi.multithread": threads > 1,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }


def real_file(file: Any) -> tuple[int, int] | None:
    """Tells where the kernel finds the bytes that reading a file would give.

    Files that translate what is behind their descriptor, such as compressed ones and those of text, are none of these, and
    neither are objects that this module does not know.

    Args:
        file: What was given to ``wsgi.file_wrapper``.

    Returns:
        Descriptor and position; None if the file has to be read.
    """
    for _ in range(2):
        # Their wrappers keep the file itself there.
        if type(file).__module__.partition(".")[0] in ("tempfile", "django"):
            file = getattr(file, "file", file)
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    if type(raw) is not io.FileIO:
        return None
    try:
        # Written bytes may not have left yet.
        if file.writable():
            file.flush()
        return raw.fileno(), file.tell()
    except (OSError, ValueError):
        return None
