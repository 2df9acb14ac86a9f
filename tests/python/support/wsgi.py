"""WSGI applications for tests, and what mounts them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any
from wsgiref.validate import validator

from socketify import App
from socketify.wsgi_environ import base_environ
from support.client import Answer, Client
from support.running import Running

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Any]

OK = "200 OK"
TEXT = [("Content-Type", "text/plain")]


def mount(
    application: Application,
    *,
    root_path: str = "",
    threads: int = 1,
    idle: float = 30,
    inherit: bool = False,
    valid: bool = False,
) -> Callable[[App], None]:
    """Has an App serve the application; ``valid`` has wsgiref look at both sides."""
    application = validator(application) if valid else application

    def configure(app: App) -> None:
        environ = base_environ(inherit=inherit, threads=threads)
        app._server.mount_wsgi(application, root_path, environ, threads, idle)

    return configure


def answering(*blocks: bytes, status: str = OK, headers: Iterable[tuple[str, str]] = TEXT) -> Application:
    """An application that always gives the same."""

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        start_response(status, list(headers))
        return list(blocks)

    return application


def dump(environ: Environ, start_response: Any) -> list[bytes]:
    """Answers with ``environ``, as far as it is text, numbers and tuples."""
    start_response(OK, TEXT)
    plain = {key: value for key, value in environ.items() if isinstance(value, (str, bool, int, tuple))}
    return [repr(plain).encode()]


def read(body: bytes) -> Environ:
    """What :func:`dump` has answered."""
    found = ast.literal_eval(body.decode())
    assert isinstance(found, dict)
    return found


class Blocks:
    """An iterable with a ``close`` that is counted."""

    def __init__(self, blocks: Iterable[Any]) -> None:
        self.blocks = iter(blocks)
        self.asked = 0
        self.closed = 0

    def __iter__(self) -> Blocks:
        return self

    def __next__(self) -> Any:
        self.asked += 1
        return next(self.blocks)

    def close(self) -> None:
        self.closed += 1


ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


def exc_info() -> Any:
    """What ``sys.exc_info()`` gives in an ``except``."""
    return sys.exc_info()


class Site:
    """An application that is served."""

    def __init__(self, running: Running, clients: list[Client]) -> None:
        self.running = running
        self.clients = clients

    @property
    def port(self) -> int:
        return self.running.port

    def client(self, **options: Any) -> Client:
        """A connection, which is closed when the test ends."""
        client = self.running.client(**options)
        self.clients.append(client)
        return client

    def ask(
        self,
        target: str = "/",
        *lines: str,
        method: str = "GET",
        body: bytes | None = None,
        version: str = "1.1",
    ) -> Answer:
        """The answer to one request, on a connection of its own."""
        return self.client().request(method, target, *lines, body=body, version=version).answer(method)
