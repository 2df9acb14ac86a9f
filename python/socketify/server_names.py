"""TLS of an application that runs: names with certificates of their own, and certificates that are read anew."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .domains import host_name
from .handlers import is_async
from .options import AppOptions

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._core import Server

__all__ = ["ServerNames", "check_options"]

logger = logging.getLogger("socketify")

_MissingHandler = TypeVar("_MissingHandler", bound="Callable[[str], object] | None")


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
    """The part of :class:`~socketify.App` that knows of TLS server names (RFC 6066 section 3)."""

    _server: Server
    is_ssl: bool

    def add_server_name(self, hostname: str | bytes, options: AppOptions | None = None) -> Self:
        """Serves a name with a certificate, and with routes, of its own.

        A connection whose client asks for the name in its TLS handshake gets this certificate, and its requests go to the
        routes of ``app.domain(hostname)`` alone, whatever their ``Host`` says: with none registered, to a 404. It may be
        called before and while the application runs. Without effect in an application without TLS, and for a name that is
        registered already.

        Args:
            hostname: ``"example.com"``, or ``"*.example.com"``, where ``*`` is exactly one label. Case does not count, and
                an exact name goes before one with ``*``.
            options: TLS settings of the name: all of :class:`AppOptions`. Without a key and a certificate in them, those of
                the application serve, and without ``ca_file_name`` and ``client_cert`` clients show what they show to the
                application: ``client_cert="none"`` asks them for nothing. None, the default, has all of its settings.

        Returns:
            The application.

        Raises:
            RuntimeError: ``hostname`` is neither str nor bytes, ``options`` is no :class:`AppOptions`, or the settings are
                wrong: the message names the file and the reason.
            ValueError: It is no host name; the message names it.
            RuntimeWarning: A certificate has expired, or the like, and warnings are errors. Whatever is raised, nothing is
                registered.
        """
        name = _name(hostname, "add_server_name")
        if options is not None and not isinstance(options, AppOptions):
            raise RuntimeError(f"add_server_name takes AppOptions or None, not {options!r}")
        self._server.add_server_name(name, options)
        return self

    def remove_server_name(self, hostname: str | bytes) -> Self:
        """Forgets a name, its certificate and its routes. Connections that it has opened get 421 from now on.

        Args:
            hostname: As it was registered. What was not registered is left alone.

        Returns:
            The application.

        Raises:
            RuntimeError: ``hostname`` is neither str nor bytes.
            ValueError: It is no host name; the message names it.
        """
        self._server.remove_server_name(_name(hostname, "remove_server_name"))
        return self

    def missing_server_name(self, handler: _MissingHandler) -> _MissingHandler:
        """Has ``handler(name)`` called when a client asks for a name that is not registered.

        A plain function may call :meth:`add_server_name`: the name is then looked for once more, before the handshake goes
        on. A coroutine function runs as a task and comes too late for this handshake. With the name still not there, the
        client gets the application's own certificate and routes. What the handler raises is logged. Nobody is asked for
        clients that ask for no name.

        Anybody may ask for any name, as often as they like: what the handler does and keeps for each needs a bound.

        Args:
            handler: Called with the name, a ``str`` in lower case; None for no handler any more.

        Returns:
            The handler, so that this serves as a decorator.

        Raises:
            RuntimeError: It is neither callable nor None.
        """
        if handler is not None and not callable(handler):
            raise RuntimeError(f"missing_server_name takes a function of the name or None, not {handler!r}")
        self._server.set_missing_server_name(handler, handler is not None and is_async(handler))
        return handler

    def reload_certificates(self) -> Self:
        """Reads the files of all certificates anew, those of names too. SIGHUP does the same while :meth:`App.run` runs.

        New connections get what is in them; those that are open go on. When one file is wrong, everything stays as it was.
        Without effect in an application without TLS.

        It returns when all files have been read: call it in a thread from a coroutine, where keys are many or encrypted. A
        certificate that has expired, and the like, is a ``RuntimeWarning``. Where warnings are errors it is logged, and not
        raised, since the certificates have been read all the same.

        Returns:
            The application.

        Raises:
            RuntimeError: A file is wrong; the message names it and the reason.
        """
        for text in self._server.reload_certificates():
            _remark(text)
        return self


def _remark(text: str) -> None:
    """Warns the caller of a public method of something that has no bearing on what it has done."""
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=3)
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
