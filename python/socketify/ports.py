"""The address that several processes share: claimed once, by the process that starts the others."""

from __future__ import annotations

import errno
import os
import socket

from ._core import Server
from .options import AppListenOptions

__all__ = ["Claim", "claim"]

#: As the core's own; the system cuts it to its `somaxconn`.
_BACKLOG = 4096


class Claim:
    """An address that nobody else can take while this lives.

    Attributes:
        where: What a worker passes to ``App.listen``.
        config: The address itself, with the real port.
    """

    def __init__(
        self,
        held: list[socket.socket],
        where: AppListenOptions | list[socket.socket],
        config: AppListenOptions,
    ) -> None:
        self._held = held
        self.where = where
        self.config = config

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        """This process lets go of it; those that were forked have it still."""
        for held in self._held:
            held.close()


def reason(error: OSError) -> str:
    """What is wrong, without the number of the error."""
    # `strerror` is None in errors that have none of the system's.
    return error.strerror or str(error).partition(" (os error ")[0]


def inherit(sockets: list[socket.socket], descriptor: int | None) -> Claim:
    """Takes sockets that listen already: these, or else a descriptor.

    Raises:
        RuntimeError: The descriptor is no socket.
    """
    if not sockets:
        try:
            sockets = [socket.socket(fileno=os.dup(-1 if descriptor is None else descriptor))]
        except OSError as error:
            raise RuntimeError(f"Failed to listen on descriptor {descriptor}: {error.strerror}") from error
    return Claim(sockets, sockets, _described(sockets[-1]))


def _described(held: socket.socket) -> AppListenOptions:
    address = held.getsockname()
    if held.family == socket.AF_UNIX:
        return AppListenOptions(domain=os.fsdecode(address))
    return AppListenOptions(host=str(address[0]), port=int(address[1]))


def claim(
    host: str, port: int, path: str | None, *, shared: bool, mode: int | None = None, backlog: int = _BACKLOG
) -> Claim:
    """Claims an address.

    Args:
        host: Name or address; empty for every interface.
        port: 0 for any free one.
        path: Path of a Unix socket, in place of both. A stale file there is replaced.
        shared: True for several workers: each opens a socket of its own on the port, and the system divides the connections
            among them. False for one worker after the other: they take one socket that listens meanwhile, so that nobody is
            refused between two of them. A Unix socket cannot be opened twice, so it is always one that all of them take.
        mode: Permissions of a Unix socket; None for 0700.
        backlog: Connections that the system keeps until they are accepted.

    Returns:
        The claim.

    Raises:
        RuntimeError: The address cannot be had; the message is that of ``App.listen``.
    """
    try:
        if path is not None:
            held = _unix(path, 0o700 if mode is None else mode, backlog)
            return Claim([held], [held], AppListenOptions(domain=path))
        held = _tcp(host, port, shared, backlog)
    except OSError as error:
        where = f"domain {path}" if path is not None else f"port {port} of host {host or 'any'}"
        raise RuntimeError(f"Failed to listen on {where}: {reason(error)}") from error
    address = held.getsockname()
    if shared:
        # The address and not the name, which may have another one by the time a worker looks it up.
        where_each = AppListenOptions(host=_any_or(address[0], host), port=address[1], backlog=backlog)
        return Claim([held], where_each, AppListenOptions(host=host, port=address[1]))
    return Claim([held], [held], AppListenOptions(host=host, port=address[1]))


def _any_or(address: str, host: str) -> str:
    """An empty host stays empty: the core listens on both families for it."""
    return address if host else ""


def _tcp(host: str, port: int, shared: bool, backlog: int) -> socket.socket:
    candidates: list[tuple[socket.AddressFamily, str]]
    if host:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        candidates = [(family, str(address[0])) for family, _, _, _, address in found]
    else:
        candidates = [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]
    failure: OSError | None = None
    for family, address in candidates:
        try:
            first = _bind(family, address, port, share=False)
            if not shared:
                first.listen(backlog)
                return first
            # Bound without sharing, the port was free or this had failed; but only sockets that all share it can be several.
            # This one never listens, so no connection is ever given to it.
            chosen = first.getsockname()[1]
            first.close()
            return _bind(family, address, chosen, share=True)
        except OSError as error:
            failure = error
            if error.errno == errno.EADDRINUSE:  # says more than what the next family has to say
                break
    assert failure is not None
    raise failure


def _bind(family: socket.AddressFamily, address: str, port: int, *, share: bool) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind((address, port))
    except BaseException:
        opened.close()
        raise
    return opened


def _unix(path: str, mode: int, backlog: int) -> socket.socket:
    return socket.socket(fileno=Server.open_unix(path, mode, backlog))
