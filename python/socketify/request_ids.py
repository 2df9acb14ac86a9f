"""An id for each request: on the request, in the log, and in the answer."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core import Request, Response

__all__ = ["RequestIdFilter", "get_request_id", "request_id"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Headers that the server writes itself, which an id would break.
_TAKEN = frozenset(
    {"connection", "content-length", "content-type", "date", "server", "transfer-encoding", "upgrade"}
)
#: What is taken from a client: nothing that could mean something to a log, a shell or a page.
_ID = re.compile(r"[0-9A-Za-z._:+/=@-]{1,128}")

_current: ContextVar[str | None] = ContextVar("socketify.request_id", default=None)


def get_request_id() -> str | None:
    """Gives the id of the request in whose handler, or in a task of whose handler, the caller runs.

    Returns:
        The id; None outside of requests that :func:`request_id` has seen.
    """
    return _current.get()


class RequestIdFilter(logging.Filter):
    """Gives log records an attribute ``request_id``, for ``%(request_id)s`` in a format. Add it to a handler.

    Args:
        default: Its value outside of requests.
    """

    def __init__(self, default: str = "-") -> None:
        super().__init__()
        self.default = default

    def filter(self, record: logging.LogRecord) -> bool:
        """Adds the attribute, and lets every record through."""
        if not hasattr(record, "request_id"):
            record.request_id = _current.get() or self.default
        return True


def request_id(
    header: str = "X-Request-ID", *, trust: bool = False, generate: Callable[[], str] | None = None
) -> Callable[..., Any]:
    """Makes a middleware that gives each request an id.

    The id is ``request.request_id``, what :func:`get_request_id` gives, and a header of the answer.

    Args:
        header: Name of the header.
        trust: Whether a client, or the proxy that passes its requests on, may choose the id with that header: up to 128
            letters, digits and characters of ``._:+/=@-``. Anything else is replaced. Default False.
        generate: Makes a new id; by default 32 hexadecimal digits at random.

    Returns:
        A middleware.

    Raises:
        ValueError: The header has no name that a header may have, or one whose value is the server's to write.
        TypeError: ``generate`` cannot be called.
    """
    if not isinstance(header, str) or not _TOKEN.fullmatch(header):
        raise ValueError(f"header must be the name of a header, not {header!r}")
    if header.lower() in _TAKEN:
        raise ValueError(
            f"header must be one for an id, such as 'X-Request-ID', not {header!r}, which the server writes itself"
        )
    if generate is not None and not callable(generate):
        raise TypeError(f"generate must be a function without arguments, not {generate!r}")
    make = generate or _random
    name = header.lower()

    def give_id(res: Response, req: Request, data: Any = None) -> Any:
        given = req.get_header(name) if trust else None
        chosen = given if given is not None and _ID.fullmatch(given) else make()
        res._keep_header(header, chosen)
        req.request_id = chosen
        _current.set(chosen)
        return data or chosen

    return give_id


def _random() -> str:
    return os.urandom(16).hex()
