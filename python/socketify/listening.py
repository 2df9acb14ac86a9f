"""Sockets that listen: where they do, and why they cannot."""

from __future__ import annotations

import os
import socket

from .options import AppListenOptions

__all__ = ["address_of", "reason"]


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
