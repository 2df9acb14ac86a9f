"""Sockets that a service manager has opened, and telling it that the service is ready (systemd's protocols)."""

from __future__ import annotations

import contextlib
import os
import socket

__all__ = ["notify_ready", "systemd_sockets"]

#: The first descriptor that is passed on (sd_listen_fds(3)).
_FIRST = 3


def systemd_sockets(name: str | None = None) -> list[socket.socket]:
    """The sockets that systemd has opened for this process, for :meth:`App.listen`.

    They come from ``.socket`` units: systemd listens before the program runs, also on ports below 1024, and goes on
    listening while it restarts. Descriptors are named in ``LISTEN_FDS``, for the process of ``LISTEN_PID``
    (sd_listen_fds(3)). Each call gives new objects; what systemd has passed stays open.

    Args:
        name: Only those of this ``FileDescriptorName=``, which is the unit's name by default; None for all.

    Returns:
        The sockets in systemd's order; none when this process was not started for a socket.

    Raises:
        RuntimeError: The environment says something else than it should, or a descriptor is no socket.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    text = os.environ.get("LISTEN_FDS", "")
    # More than a program can have open is no count.
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise RuntimeError(f"LISTEN_FDS must be a number of descriptors, not {text!r}")
    count = int(text)
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for descriptor in range(_FIRST, _FIRST + count):
        place = descriptor - _FIRST
        if name is not None and (place >= len(names) or names[place] != name):
            continue
        try:
            # Programs that this one starts have no use for it.
            os.set_inheritable(descriptor, False)
            found.append(socket.socket(fileno=os.dup(descriptor)))
        except OSError as error:
            for opened in found:
                opened.close()
            raise RuntimeError(
                f"descriptor {descriptor} of LISTEN_FDS={text} is no socket: {error.strerror}"
            ) from error
    return found


def notify_ready() -> None:
    """Tells a service manager that the service serves: ``READY=1`` to ``NOTIFY_SOCKET`` (sd_notify(3)), if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    # A manager that does not listen any more is no reason to fail.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", address)
