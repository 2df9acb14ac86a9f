"""Cross-origin resource sharing (Fetch standard, section 3.3): which pages of other origins may read answers.

The core adds the headers, to whatever the answer is, and answers preflights without running Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ._core import CorsPolicy

if TYPE_CHECKING:
    from ._core import Request, Response
    from .routes import Routes

__all__ = ["CORS", "cover"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Scheme, host and port as browsers write them; one `*` for the first labels of the host, or for the port.
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://((?:\*\.)?[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}|\*))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
#: Seconds: no browser remembers a preflight for longer than a day.
_LONGEST = 86_400


class CORS:
    """A middleware that lets pages of other origins read what its routes answer.

    In a router it goes for all of the router's routes: preflights are answered, and the headers are on errors as
    well. ``App.cors`` does that for a whole application. In a chain of :func:`~socketify.middleware` it adds the
    headers alone, from there on.

    Args:
        origins: ``"*"`` for all; or one or several origins, such as ``"https://shop.example"``, with ``*`` for
            subdomains (``"https://*.shop.example"``) or any port (``"http://localhost:*"``).
        methods: Methods that a preflight allows, or ``"*"``. Default GET, HEAD, POST, PUT, PATCH and DELETE.
        headers: Request headers that a preflight allows; None, the default, for those that it asks for.
        expose: Response headers that scripts may read beyond the usual ones.
        credentials: Whether requests may carry cookies, certificates and ``Authorization``. Default False.
        max_age: Seconds for which a browser may remember a preflight, up to 86 400. Default 600.
        private_network: Whether pages of public sites may reach a server in a private network
            (Private Network Access). Default False.

    Raises:
        ValueError: Something is not valid; or credentials are to go to all origins, which browsers refuse.
    """

    def __init__(
        self,
        origins: str | Iterable[str],
        *,
        methods: str | Iterable[str] = _METHODS,
        headers: Iterable[str] | None = None,
        expose: Iterable[str] = (),
        credentials: bool = False,
        max_age: int = 600,
        private_network: bool = False,
    ) -> None:
        listed = _listed(origins)
        every = listed == ["*"]
        if every and credentials:
            raise ValueError(
                "origins='*' does not go with credentials=True, which browsers refuse: name the origins "
                "that may send cookies"
            )
        if not listed:
            raise ValueError("origins must name one origin at least, or be '*'")
        for origin in listed:
            if not every and origin != "null":
                _check_origin(origin)
        if isinstance(max_age, bool) or not isinstance(max_age, int) or not 0 <= max_age <= _LONGEST:
            raise ValueError(f"max_age must be a number of seconds from 0 to {_LONGEST}, not {max_age!r}")
        exact = [] if every else [origin for origin in listed if "*" not in origin]
        stars = [] if every else [origin.partition("*") for origin in listed if "*" in origin]
        allowed = _tokens("methods", methods)
        self._policy = CorsPolicy(
            {
                "any": every,
                "origins": exact,
                "wildcards": [(before, after) for before, _, after in stars],
                "methods": [] if allowed == ["*"] else allowed,
                "headers": None if headers is None else ", ".join(_tokens("headers", headers)),
                "expose": ", ".join(_tokens("expose", expose)),
                "credentials": bool(credentials),
                "max_age": max_age,
                "private_network": bool(private_network),
            }
        )

    def __call__(self, res: Response, req: Request, data: Any = None) -> Any:
        """Adds the headers, and goes on with the chain."""
        res._apply_cors(self._policy)
        return data or True

    def add_to(self, app: Routes, path: str) -> None:
        """Has the core see to all requests of a path.

        Args:
            app: The application.
            path: A pattern, as of a route.

        Raises:
            ValueError: The pattern is malformed.
        """
        app._table.add_cors(path, self._policy)


def cover(app: Routes, path: str, middlewares: Iterable[Any]) -> None:
    """Has the core see to the requests of a route that has a :class:`CORS` among its middlewares."""
    for member in middlewares:
        if isinstance(member, CORS):
            member.add_to(app, path)


def _listed(given: str | Iterable[str]) -> list[str]:
    values = [given] if isinstance(given, str) else list(given)
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} must be a str")
    return values


def _check_origin(origin: str) -> None:
    found = _ORIGIN.fullmatch(origin)
    if found is None or origin.count("*") > 1:
        raise ValueError(
            f"{origin!r} is not an origin: expected scheme, host and port alone, in lower case and without a slash at "
            "the end, such as 'https://shop.example', 'https://*.shop.example' or 'http://localhost:*'"
        )
    if found[3] is not None and _DEFAULT_PORTS.get(found[1]) == found[3]:
        raise ValueError(
            f"{origin!r} has the port that browsers leave out: expected {origin.rpartition(':')[0]!r}"
        )


def _tokens(what: str, given: str | Iterable[str]) -> list[str]:
    values = _listed(given)
    for value in values:
        if not _TOKEN.fullmatch(value):
            raise ValueError(f"{what} must be names, not {value!r}")
    return values
