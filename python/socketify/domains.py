"""``Domain``: the routes of one host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._core import Server
from .route_table import RouteTable
from .routes import Routes

if TYPE_CHECKING:
    from .app import App

__all__ = ["Domain", "host_name"]


class Domain(Routes):
    """The routes of an application for one host or family of hosts. ``App.domain`` gives it.

    Args:
        app: The application.
        name: The host, as for :meth:`App.domain`.

    Attributes:
        app: The application.
        name: The host in the form that requests are compared with: in lower case, without a dot at the end.

    Raises:
        TypeError: The name is not a str.
        ValueError: It is no host name; the message names it.
    """

    def __init__(self, app: App, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a domain is named by a str such as 'example.com', not {name!r}")
        self.app = app
        self.name = host_name(name)
        self._table = RouteTable(app._server, self.name)

    def __repr__(self) -> str:
        return f"<Domain {self.name}>"


def host_name(name: str) -> str:
    """Gives a name in the form that requests and handshakes are compared with.

    Raises:
        ValueError: It is no host name; the message names it.
    """
    return Server.domain_name(name if name.isascii() else _idna(name))


def _idna(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"domain {name!r} has no IDNA form: {error}") from error
