"""Sites: WSGI applications that are served, with clients that are closed when the test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.client import Client
from support.running import Running
from support.wsgi import Application, Site, mount


@pytest.fixture
def site(serve: Callable[..., Running]) -> Iterator[Callable[..., Site]]:
    """Serves applications: ``site(application, **options)``, those of ``mount`` and of ``App``."""
    clients: list[Client] = []

    def start(application: Application, **options: Any) -> Site:
        own = {
            name: options.pop(name)
            for name in ("root_path", "threads", "idle", "inherit", "valid")
            if name in options
        }
        return Site(serve(mount(application, **own), **options), clients)

    yield start
    for client in clients:
        client.close()
