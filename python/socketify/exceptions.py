"""Exceptions that a handler may raise, or let through, to answer with an error status."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .error_log import logger
from .status_codes import status_codes

if TYPE_CHECKING:
    from ._core import Response
    from .handlers import Field, Payload

__all__ = [
    "BadRequest",
    "ClientDisconnected",
    "ContentTooLarge",
    "HTTPError",
    "UnsupportedMediaType",
    "answer_failed",
    "meant",
]


class HTTPError(Exception):
    """Answers a request with an error status, unless the application has an error handler: then that one decides.

    Args:
        status: From 400 to 599.
        detail: The answer's body, as ``text/plain``; by default the status' phrase, such as ``"Not Found"``.
        headers: Further headers of the answer, ``(name, value)`` pairs.

    Raises:
        ValueError: The status is no error status.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        headers: Iterable[tuple[Field, Payload]] | None = None,
    ) -> None:
        if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"the status of an HTTPError must be from 400 to 599, not {status!r}")
        self.status = int(status)
        self.detail = _phrase(self.status) if detail is None else detail
        self.headers = tuple(headers or ())
        super().__init__(self.detail)


class BadRequest(HTTPError):
    """What the client sent cannot be understood: 400 (RFC 9110 section 15.5.1)."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(400, detail)


class ContentTooLarge(HTTPError):
    """What the client sent goes beyond a limit: 413 (RFC 9110 section 15.5.14)."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(413, detail)


class UnsupportedMediaType(HTTPError):
    """What the client sent is of a type that is not served: 415 (RFC 9110 section 15.5.16)."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(415, detail)


class ClientDisconnected(ConnectionError):
    """The body of a request cannot become complete: the client has left, or was refused for what it sent.

    There is no client left, so without an error handler it is only logged at DEBUG level.
    """


def answer_failed(error: HTTPError, response: Response) -> None:
    """Gives the answer that an error stands for. One of the server's own is logged.

    Args:
        error: The error.
        response: Its head has been reset.
    """
    status: int | str = error.status if error.status in status_codes else f"{error.status} Error"
    response.send(error.detail, "text/plain; charset=utf-8", status, error.headers)
    if error.status >= 500:
        logger.error("a handler answered with %s: %s", error.status, error, exc_info=error)


def meant(error: BaseException) -> BaseException:
    """What a failure stands for: a task group wraps what its task has raised, and the client is to get the same answer.

    Args:
        error: Anything that was raised.

    Returns:
        The :class:`HTTPError` or :class:`ClientDisconnected` that is alone in a group, or in a group in it; else ``error``.
    """
    inner = error
    while isinstance(inner, _groups()) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner if isinstance(inner, (HTTPError, ClientDisconnected)) else error


def _groups() -> Any:
    """The class of exception groups, or nothing that anything is an instance of."""
    # Before Python 3.11 libraries take theirs from this package; without that package no error is a group.
    before = getattr(sys.modules.get("exceptiongroup"), "BaseExceptionGroup", ())
    return getattr(builtins, "BaseExceptionGroup", before)


def _phrase(status: int) -> str:
    return status_codes.get(status, b"000 Error").partition(b" ")[2].decode()
