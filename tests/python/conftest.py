"""Servers for tests: a real application on a free port, on a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import tool, until
from support.certificates import Authority
from support.command import Project
from support.running import Configure, Running
from support.tls_client import Certificates, make_certificates
from support.tls_target import Target, descriptors, routes


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "needs(program): runs a program that may not be installed; see support.tool"
    )
    config.addinivalue_line(
        "markers", "alone: measures memory, descriptors or processor time, so nothing runs beside it"
    )
    config.addinivalue_line("markers", "slow: takes minutes; `make test-slow` runs these")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        tool(marker.args[0])


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Starts applications: ``serve(configure, **App options)``. They are stopped when the test ends."""
    running: list[Running] = []

    def start(configure: Configure, **options: Any) -> Running:
        running.append(Running(configure, **options))
        return running[-1]

    yield start
    for application in running:
        application.stop()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of certificates, with its files in a directory of the test."""
    return Authority(tmp_path)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, and a server that it knows as localhost and 127.0.0.1: made for this run."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def start_tls(serve: Callable[..., Running], certificates: Certificates) -> Callable[..., Running]:
    """Starts applications that serve TLS: ``start_tls(configure, **App options)``."""
    return lambda configure, **options: serve(configure, options=certificates.options(), **options)


@pytest.fixture
def start(start_tls: Callable[..., Running], certificates: Certificates) -> Callable[..., Target]:
    """Starts a server of TLS, with options of App."""
    return lambda **options: Target(start_tls(routes, **options), certificates)


@pytest.fixture
def target(
    start: Callable[..., Target], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[Target]:
    """A server that must be unchanged at the end of the test: it serves, holds no more, and has printed
    nothing."""
    found = start()
    found.serves()
    before = descriptors()
    with caplog.at_level(logging.DEBUG):
        yield found
        found.serves()
        until(lambda: descriptors() <= before, "the sockets are given back")
    assert [line for line in caplog.records if line.levelno > logging.DEBUG] == []
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """An empty directory for a program of the command line; its processes end with the test."""
    made = Project(tmp_path)
    yield made
    made.end()
