"""The address that several processes share: claimed once, by the process that starts the others."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence

from .._core import Server
from ..listening import address_of, reason
from ..options import AppListenOptions

__all__ = ["Claim", "Claims", "claim", "claim_all", "inherit"]

#: As the core's own; the system cuts it to its `somaxconn`.
_BACKLOG = 4096


class Claim:
    """An address that no other program can take while this lives, and the sockets that workers serve there.

    Either all workers take the same ones; or each place of a worker has one of its own, among which the system divides the
    connections. A place keeps its socket when its worker changes, and with it the connections that wait to be accepted.

    Args:
        held: Sockets that are open as long as this lives.
        config: The address itself, with the real port.
        backlog: None when ``held`` are what all workers serve. Else they serve sockets of their places, for which the system
            keeps so many connections.

    Attributes:
        config: The address itself, with the real port.
        where: In a worker, what it serves.
    """

    def __init__(
        self, held: list[socket.socket], config: AppListenOptions, backlog: int | None = None
    ) -> None:
        self._held = held
        self._backlog = backlog
        self._places: dict[int, socket.socket] = {}
        self.config = config
        self.where = [] if backlog is not None else held

    def open(self, place: int) -> None:
        """Sees to a socket for a place. It listens when a worker does: no client waits for one that may never serve.

        Raises:
            OSError: There can be none.
        """
        if self._backlog is not None and place not in self._places:
            held = self._held[0]
            address = held.getsockname()
            self._places[place] = _bind(held.family, address[0], address[1], share=True)

    def give_up(self, place: int) -> None:
        """Closes the socket of a place that has no worker for a while: new connections go to the other places."""
        if (opened := self._places.pop(place, None)) is not None:
            opened.close()

    def keep(self, place: int) -> None:
        """In a new worker: keeps the socket of its place, and lets go of the others."""
        if self._backlog is not None:
            self.where = [self._places.pop(place)]
            self._let_go()

    def listen(self) -> None:
        """In a worker that is about to serve: the socket of its place listens from now on, if it has not before."""
        if self._backlog is not None:
            self.where[0].listen(self._backlog)

    def stop(self) -> None:
        """Closes all sockets that listen: no client can connect once the last worker has closed them too."""
        self._let_go()
        if self._backlog is None:
            for held in self._held:
                held.close()

    def _let_go(self) -> None:
        for opened in self._places.values():
            opened.close()
        self._places.clear()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        """This process lets go of it; those that were forked have it still."""
        self._let_go()
        for held in [*self._held, *self.where]:
            held.close()


class Claims:
    """Several addresses that are claimed together.

    Args:
        claims: Them.

    Attributes:
        configs: The addresses, with their real ports.
    """

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._claims = list(claims)
        self.configs = [each.config for each in claims]

    @property
    def where(self) -> list[socket.socket]:
        """In a worker, what it serves."""
        return [opened for each in self._claims for opened in each.where]

    def open(self, place: int) -> None:
        """See :meth:`Claim.open`."""
        for each in self._claims:
            each.open(place)

    def give_up(self, place: int) -> None:
        """See :meth:`Claim.give_up`."""
        for each in self._claims:
            each.give_up(place)

    def keep(self, place: int) -> None:
        """See :meth:`Claim.keep`."""
        for each in self._claims:
            each.keep(place)

    def listen(self) -> None:
        """See :meth:`Claim.listen`."""
        for each in self._claims:
            each.listen()

    def stop(self) -> None:
        """See :meth:`Claim.stop`."""
        for each in self._claims:
            each.stop()

    def __enter__(self) -> Claims:
        return self

    def __exit__(self, *exception: object) -> None:
        for each in self._claims:
            each.__exit__(*exception)


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
    return Claim(sockets, address_of(sockets[-1]))


def claim_all(places: Sequence[AppListenOptions | socket.socket], *, shared: bool) -> Claims:
    """Claims several addresses.

    Args:
        places: Where to listen. Sockets listen already, and are closed with the claim.
        shared: See :func:`claim`.

    Returns:
        The claims.

    Raises:
        RuntimeError: One of them cannot be had; the message is that of ``App.listen``.
    """
    made = []
    with contextlib.ExitStack() as undo:
        for where in places:
            if isinstance(where, socket.socket):
                one = inherit([where], None)
            elif where.fd is not None:
                one = inherit([], where.fd)
            else:
                one = claim(
                    where.host or "", where.port, where.domain or None,
                    shared=shared, mode=where.mode, backlog=where.backlog,
                )  # fmt: skip
            made.append(undo.enter_context(one))
        undo.pop_all()
    return Claims(made)


def claim(
    host: str, port: int, path: str | None, *, shared: bool, mode: int | None = None, backlog: int = _BACKLOG
) -> Claim:
    """Claims an address.

    Args:
        host: Name or address; empty for every interface.
        port: 0 for any free one.
        path: Path of a Unix socket, in place of both. A stale file there is replaced.
        shared: True for several workers: the place of each has a socket of its own on the port, and the system divides the
            connections among them. False for one worker after the other: they take one socket that listens meanwhile, so
            that no client is refused between two of them. A Unix socket cannot be opened twice, so it is always one that all
            of them take.
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
            return Claim([held], AppListenOptions(domain=path, mode=mode))
        held = _tcp(host, port, shared, backlog)
    except OSError as error:
        where = f"domain {path}" if path is not None else f"port {port} of host {host or 'any'}"
        raise RuntimeError(f"Failed to listen on {where}: {reason(error)}") from error
    address = held.getsockname()
    return Claim([held], AppListenOptions(host=host, port=address[1]), backlog if shared else None)


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
