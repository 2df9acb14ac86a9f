"""Sockets that listen: where they do, and why they cannot."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from .options import AppListenOptions

if TYPE_CHECKING:
    from ._core import Server

__all__ = ["address_of", "bind", "reason"]


def address_of(given: socket.socket) -> AppListenOptions:
    """The options that describe a socket. What it cannot be is for the core to say.

    Raises:
        RuntimeError: It has no address.
    """
    try:
        address = given.getsockname()
    except OSError as error:
        raise RuntimeError(f"Failed to listen on {given!r}: {error.strerror}") from error
    if given.family == socket.AF_UNIX:
        return AppListenOptions(domain=os.fsdecode(address))
    return AppListenOptions(host=str(address[0]), port=int(address[1]))


def reason(error: OSError) -> str:
    """What is wrong, without the number of the error."""
    # `strerror` is None in errors that have none of the system's.
    return error.strerror or str(error).partition(" (os error ")[0]


def bind(
    server: Server,
    given: socket.socket | None,
    options: AppListenOptions,
    opening: Callable[[], object] | None,
) -> AppListenOptions:
    """Binds a socket, or takes one that listens already.

    Args:
        server: The core, which serves it.
        given: The socket that listens already; None where ``options`` say where to listen.
        options: Where to listen.
        opening: Called first for a socket that is given, which may not listen yet.

    Returns:
        Where it listens: ``options`` with the real port, or those of the descriptor that they name.

    Raises:
        RuntimeError: It cannot be; the message names host, port and reason.
    """
    try:
        if given is not None:
            if opening is not None:
                opening()
            port = server.adopt(os.dup(given.fileno()))
        elif options.fd is not None:
            port = server.adopt(os.dup(options.fd))
        elif options.domain:
            port = server.bind_unix(options.domain, options.mode, options.backlog)
        else:
            sharing = "none" if options.options & 1 else "all" if options.reuse_port else "group"
            port = server.bind_tcp(options.host, options.port, sharing, options.backlog)
    except OSError as error:
        if options.fd is not None:
            where = f"descriptor {options.fd}"
        elif options.domain:
            where = f"domain {options.domain}"
        else:
            where = f"port {options.port} of host {options.host or 'any'}"
        raise RuntimeError(f"Failed to listen on {where}: {reason(error)}") from error
    if options.fd is not None:
        with socket.socket(fileno=os.dup(options.fd)) as inherited:
            options = address_of(inherited)
    options.port = port
    return options
