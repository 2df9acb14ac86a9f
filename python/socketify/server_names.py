"""TLS of an application that runs: names with certificates of their own, and certificates that are read anew."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .domains import host_name
from .handlers import is_async
from .options import AppOptions

if TYPE_CHECKING:
    from ._core import Server
    from .calls import Calls

__all__ = ["ServerNames", "check_options"]

logger = logging.getLogger("socketify")


def _name(hostname: object, method: str) -> str:
    if isinstance(hostname, bytes):
        try:
            hostname = hostname.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{method}: {hostname!r} is no host name: it is not UTF-8") from None
    if not isinstance(hostname, str):
        raise RuntimeError(f"{method} takes a host name as str or bytes, not {hostname!r}")
    return host_name(hostname)


class ServerNames:
    """The names and the certificates of an application.

    Args:
        server: The core.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        # The task that reads certificates anew, and whether it is to do so once more.
        self._reloading: asyncio.Task[None] | None = None
        self._again = False

    def add(self, hostname: str | bytes, options: AppOptions | None) -> None:
        """See :meth:`App.add_server_name`."""
        name = _name(hostname, "add_server_name")
        if options is not None and not isinstance(options, AppOptions):
            raise RuntimeError(f"add_server_name takes AppOptions or None, not {options!r}")
        self._server.add_server_name(name, options)

    def remove(self, hostname: str | bytes) -> None:
        """See :meth:`App.remove_server_name`."""
        self._server.remove_server_name(_name(hostname, "remove_server_name"))

    def ask(self, handler: Callable[[str], object] | None) -> None:
        """Has a function called for names that are missing; see :meth:`App.missing_server_name`."""
        if handler is not None and not callable(handler):
            raise RuntimeError(f"missing_server_name takes a function of the name or None, not {handler!r}")
        self._server.set_missing_server_name(handler, handler is not None and is_async(handler))

    def reload(self) -> None:
        """See :meth:`App.reload_certificates`."""
        for text in self._server.reload_certificates():
            _remark(text)

    def reload_soon(self, calls: Calls) -> None:
        """Reads certificates anew in a thread, since disks may be slow and keys hard to decrypt. On the loop's thread."""
        self._again = True
        if self._reloading is None or self._reloading.done():
            self._reloading = calls.loop.loop.create_task(self._reload())
            calls.keep(self._reloading)

    async def _reload(self) -> None:
        # As often as it was asked for meanwhile.
        while self._again:
            self._again = False
            try:
                remarks = await asyncio.to_thread(self._server.reload_certificates)
            except Exception as error:
                logger.error("SIGHUP: %s", error)
            else:
                for text in remarks:
                    logger.warning("SIGHUP: %s", text)
                logger.info("SIGHUP: the certificates have been read anew")


def _remark(text: str) -> None:
    """Warns the caller of a method of ``App`` of something that has no bearing on what it has done."""
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=4)
    except RuntimeWarning:
        logger.warning("%s", text)


def check_options(options: Any) -> AppOptions | None:
    """What ``App(options)`` takes.

    Raises:
        RuntimeError: It is something else.
    """
    if options is None or isinstance(options, AppOptions):
        return options
    raise RuntimeError(f"App takes AppOptions, or None for plain HTTP, not {options!r}")
