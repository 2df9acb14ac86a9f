"""Tests with real frameworks, served by the command line. They have an environment of their own: ``make test-frameworks``.

A test module names its program, ``APPLICATION = "fastapi_site:app"``. The program starts once for the module, and
its tests talk to it; ``start`` starts one for a test alone, which may end it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from serving import Served, clean

Start = Callable[..., Served]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--peers", action="store_true", help="serve by uvicorn, hypercorn and gunicorn")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ours(reason): other servers do otherwise, so --peers leaves it out")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--peers"):
        for item in items:
            if marker := item.get_closest_marker("ours"):
                item.add_marker(pytest.mark.skip(reason=f"other servers: {marker.args[0]}"))


def server(config: pytest.Config, interface: str, peer: str | None = None) -> str:
    if config.getoption("--peers"):
        return peer or {"asgi": "uvicorn", "wsgi": "gunicorn"}[interface]
    return "socketify"


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The program of this module. It must end with 0; errors in its log have to be ``expected`` by the module."""
    module = request.module
    interface = getattr(request, "param", None) or getattr(module, "INTERFACE", "asgi")
    application = module.APPLICATION
    if isinstance(application, dict):
        application = application[interface]
    served = Served(
        server(request.config, interface, getattr(module, "PEER", None)),
        interface,
        application,
        tmp_path_factory.mktemp("site"),
        getattr(module, "OPTIONS", ()),
    )
    try:
        yield served
        ended = served.end()
    finally:
        served.kill()
    if served.is_ours:
        clean(ended, getattr(module, "expected", lambda _: False))


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Serves a program for one test: ``start("module:app", "--root-path", "/api")``."""
    started: list[Served] = []

    def begin(target: str, *options: str, interface: str = "asgi", **environment: str) -> Served:
        name = server(request.config, interface, getattr(request.module, "PEER", None))
        started.append(Served(name, interface, target, tmp_path, options, environment))
        return started[-1]

    yield begin
    for served in started:
        served.kill()
