"""Workers that are replaced though they serve, and how many there are (S-CLI-22, S-CLI-27 to S-CLI-29)."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time

import pytest

from socketify.processes.recycling import Recycling, memory_of
from support import until
from support.client import Client
from support.command import Command, Project, children, gone

NATIVE = """\
import os
held = []

def run(app):
    app.get("/", lambda res, req: res.end(str(os.getpid())))
    app.get("/grow", lambda res, req: (held.append(b"x" * (64 << 20)), res.end("grown")))
"""

ASGI = """\
import os

async def run(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""


def start(project: Project, source: str, *arguments: str) -> Command:
    project.write("main.py", source)
    return project.start("main:run", "--port", "0", *arguments)


@pytest.mark.parametrize("source", [NATIVE, ASGI], ids=["native", "ASGI"])
def test_a_number_of_requests(project: Project, source: str) -> None:
    """S-CLI-28, S-REG-17: the new worker serves before the old one ends, and nobody is lost."""
    command = start(project, source, "--workers", "2", "--max-requests", "50", "--max-requests-jitter", "10")
    first = command.workers(2)
    lost: list[str] = []
    seen: set[int] = set()

    def ask() -> None:
        for _ in range(60):
            try:
                with Client(command.port) as client:
                    seen.add(int(client.get("/").body))
            except (OSError, EOFError, AssertionError, ValueError) as error:
                lost.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert lost == []
    command.said("has served its requests: replacing it")
    until(lambda: any(pid not in children(command.pid) for pid in first), "an old one has gone")
    until(lambda: len(children(command.pid)) == 2, "two workers again", 30)
    assert command.stop()[0] == 0


def test_old_workers_are_replaced_one_by_one(project: Project) -> None:
    """S-CLI-28: never two at once, and at most one a second."""
    command = start(project, NATIVE, "--workers", "3", "--workers-lifetime", "1")
    first = set(command.workers(3))
    most = 0
    ends: list[float] = []
    left = set(first)
    deadline = time.monotonic() + 30
    while left and time.monotonic() < deadline:
        now = set(children(command.pid))
        most = max(most, len(now))
        ends += [time.monotonic()] * len(left - now)
        left &= now
        time.sleep(0.005)
    assert not left
    assert most <= 4
    assert all(later - earlier > 0.7 for earlier, later in itertools.pairwise(ends)), ends
    assert command.err.count("has served for 1 seconds: replacing it") >= 3
    assert command.stop()[0] == 0


def test_memory(project: Project) -> None:
    """S-CLI-28, S-CLI-29: the supervisor looks at it."""
    options = ["--workers-max-rss", "150", "--rss-sample-interval", "1", "--workers", "2"]
    command = start(project, NATIVE, *options)
    first = command.workers(2)
    with Client(command.port) as client:
        for _ in range(3):
            assert client.get("/grow").body == b"grown"
    command.said(" MiB of memory: replacing it")
    until(lambda: sum(pid not in children(command.pid) for pid in first) == 1, "the large one has gone")
    assert command.err.count("replacing it") == 1
    assert command.stop()[0] == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--max-requests", "3"], "has served its requests"),
        (["--limit-max-requests", "3"], "has served its requests"),
        (["--workers-lifetime", "1"], "has served for 1 seconds"),
        (["--workers-max-rss", "1", "--rss-sample-interval", "1"], " MiB of memory"),
    ],
)
def test_one_process(project: Project, options: list[str], why: str) -> None:
    """S-CLI-28: it ends, since nobody replaces it."""
    command = start(project, NATIVE, *options)
    with Client(command.port) as client:
        for _ in range(3):
            client.get("/")
    status, _, err = command.finish()
    assert status == 0
    assert f"{why}: it ends, and nobody here replaces it\n" in err
    assert err.count("\n") == 1


def test_a_replacement_that_cannot_start(project: Project) -> None:
    """S-CLI-28: the old one goes on serving, and it is tried again."""
    command = start(project, NATIVE, "--workers", "2", "--max-requests", "20")
    first = command.workers(2)
    project.write("main.py", "1 / 0\n")
    until(lambda: command.ask() and "the other workers stay as they are" in command.err, "a failure")
    assert set(children(command.pid)) >= set(first)
    project.write("main.py", NATIVE)
    until(lambda: not set(first) <= set(children(command.pid)), "the second try", 40)
    assert command.stop()[0] == 0


def test_one_more_and_one_less(project: Project) -> None:
    """S-CLI-22: by SIGTTIN and SIGTTOU; the last one stays."""
    command = start(project, NATIVE, "--workers", "1")
    alone = start(project, NATIVE, "--workers", "2")
    assert command.port
    assert command.stop()[0] == 0
    first = alone.workers(2)
    alone.signal(signal.SIGTTIN)
    third = [pid for pid in alone.workers(3) if pid not in first]
    for count in (2, 1, 1):
        alone.signal(signal.SIGTTOU)
        until(lambda: len(children(alone.pid)) == count, f"{count} workers")  # noqa: B023 - called here
    gone(*third)
    assert alone.err.count("SIGTTOU") == 2
    assert "SIGTTIN: there are to be 3 workers" in alone.err
    assert alone.ask()
    assert alone.stop()[0] == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_delay_of_the_end(project: Project, workers: str) -> None:
    """S-CLI-27: clients are accepted meanwhile, and told that the connection closes."""
    command = start(project, ASGI, "--shutdown-delay", "1", "--workers", workers)
    kept = Client(command.port)
    assert kept.get("/").status == 200
    if workers == "2":
        command.workers(2)
    begun = time.monotonic()
    command.signal(signal.SIGTERM)

    def is_told() -> bool:
        with Client(command.port) as client:
            return client.get("/").header("Connection") == "close"

    until(is_told, "a response that says so")
    if workers == "1":
        assert kept.get("/").header("Connection") == "close"
    kept.close()
    status, _, err = command.finish()
    assert (status, err) == (0, "")
    assert time.monotonic() - begun >= 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", command.port), 5)


def test_a_second_signal_ends_the_delay(project: Project) -> None:
    """S-CLI-23, S-CLI-27."""
    command = start(project, ASGI, "--shutdown-delay", "100")
    assert command.port
    command.signal(signal.SIGTERM)

    def is_told() -> bool:
        with Client(command.port) as client:
            return client.get("/").header("Connection") == "close"

    until(is_told, "a response that says so")
    command.signal(signal.SIGTERM)
    assert command.finish()[0] == 0


def test_the_limits_of_one_worker() -> None:
    """S-CLI-28: the jitter."""
    assert not Recycling().is_wanted
    assert Recycling().quota() is None
    quotas = {Recycling(requests=10, jitter=5).quota() for _ in range(200)}
    assert quotas == set(range(10, 16))
    spans = [Recycling(lifetime=100).span() for _ in range(50)]
    assert all(span is not None and 100 <= span <= 110 for span in spans)
    assert memory_of(os.getpid()) > 1 << 20
    assert memory_of(2**22 + 1) == 0
