"""Workers are replaced, and end, under load: no connected client stays without a response."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
import time

import pytest

from support import Program, until
from support.client import Client
from support.command import Command, Project, children, gone, is_stopped

pytestmark = pytest.mark.alone

APPLICATION = """\
import os, time

def run(app):
    app.get("/", lambda res, req: res.end(str(os.getpid())))
    app.get("/slow", lambda res, req: (time.sleep(0.02), res.end("slow")))
"""

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Load:
    """Clients that send requests all the time, and count missing responses."""

    def __init__(
        self, command: Command, clients: int, *, keep: bool = False, path: str | None = None
    ) -> None:
        self.answered = 0
        self.lost: list[str] = []
        #: The responding processes.
        self.workers: set[bytes] = set()
        if path is not None:
            until(lambda: command.out, "listening")
        self._place: tuple[str, int] | str = ("127.0.0.1", command.port) if path is None else path
        self._keep = keep
        self._ended = False
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while not self._ended:
            count, why = self._converse()
            with self._lock:
                self.answered += count
                self.lost += why

    def _converse(self) -> tuple[int, list[str]]:
        """One connection: the number of responses, and the reason for a missing one."""
        family = socket.AF_UNIX if isinstance(self._place, str) else socket.AF_INET
        count = 0
        with socket.socket(family) as client:
            client.settimeout(20)
            # Each leaves its port at once to the next.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                client.connect(self._place)
                while not self._ended or not count:
                    client.sendall(REQUEST)
                    answer = b""
                    while b"\r\n\r\n" not in answer or answer.endswith(b"\r\n\r\n"):
                        piece = client.recv(4096)
                        if not piece:
                            return count, [f"closed after {count} and {answer!r}"]
                        answer += piece
                    count += 1
                    self.workers.add(answer.rpartition(b"\r\n\r\n")[2])
                    if not self._keep or b"Connection: close" in answer or count == 1000:
                        break
            except OSError as error:
                return count, [f"{error!r} after {count}"]
        return count, []

    def end(self) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join(60)


@contextlib.contextmanager
def load(command: Command, clients: int = 8, **options: bool | str):  # type: ignore[no-untyped-def]
    made = Load(command, clients, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.end()


def start(project: Project, *arguments: str) -> Command:
    project.write("main.py", APPLICATION)
    return project.start("main:run", *(arguments or ("--port", "0")), "--workers", "2")


def renew(command: Command) -> None:
    before = children(command.pid)
    command.signal(signal.SIGHUP)
    gone(*before)
    until(lambda: len(children(command.pid)) == 2, "two new workers")


@pytest.mark.parametrize("keep", [False, True], ids=["a connection each", "kept connections"])
def test_nobody_is_lost_by_a_renewal(project: Project, keep: bool) -> None:
    """Connections that one worker has not accepted are there for the next; a kept connection learns that it
    ends."""
    command = start(project)
    command.workers(2)
    renewals, wanted = 5, 20_000
    with load(command, 4 if keep else 8, keep=keep) as clients:
        for number in range(renewals):
            until(
                lambda number=number: clients.answered >= number * wanted // renewals or clients.lost,
                "answers",
                120,
            )
            renew(command)
        until(lambda: clients.answered >= wanted or clients.lost, "answers", 120)
    assert clients.lost == []
    assert command.stop()[::2] == (0, "")


def test_nobody_is_lost_by_a_renewal_on_a_unix_socket(project: Project) -> None:
    path = project.socket()
    command = start(project, "--uds", path)
    with load(command, path=path) as clients:
        until(lambda: len(clients.workers) == 2, "answers of two workers", 60)
        for number in range(3):
            until(lambda number=number: clients.answered >= number * 1000 or clients.lost, "answers", 120)
            renew(command)
        until(lambda: clients.answered >= 3000 or clients.lost, "answers", 120)
    assert clients.lost == []
    assert command.stop()[::2] == (0, "")


def test_who_waits_for_a_worker_that_is_killed_gets_the_next_one(project: Project) -> None:
    """Connections that it has not accepted are not its own."""
    command = start(project)
    workers = command.workers(2)
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
        until(lambda pid=pid: is_stopped(pid), "a worker stands still")
    # Some are for each of them.
    clients = [Client(command.port) for _ in range(40)]
    for client in clients:
        client.send(REQUEST)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    answers = [int(client.answer().body) for client in clients]
    for client in clients:
        client.close()
    assert set(answers) <= set(children(command.pid))
    assert command.stop()[0] == 0


def test_a_place_that_stays_empty_is_left_to_the_others(project: Project) -> None:
    """No client waits for a worker that cannot start: a refused connection is tried again, and finds another
    worker."""
    project.write(
        "main.py",
        """
        import os, pathlib

        def run(app):
            app.get("/", lambda res, req: res.end(str(os.getpid())))
            if pathlib.Path("broken").exists():
                os._exit(9)
        """,
    )
    command = project.start("main:run", "-p", "0", "-w", "2")
    victim, survivor = command.workers(2)
    (project.directory / "broken").touch()
    os.kill(victim, signal.SIGKILL)
    command.said("before it served: starting another in 1 seconds")
    for _ in range(40):
        with Client(command.port) as client:
            assert int(client.get("/").body) == survivor
    (project.directory / "broken").unlink()
    assert survivor in command.workers(2)
    assert command.stop()[0] == 0


def test_who_waits_is_answered_when_a_process_ends() -> None:
    """To a client whose connection waits in the system it is open, and its request has been sent."""
    source = """
        def slow(res, req):
            say("begun")
            time.sleep(0.5)
            res.end("slow")

        app = App(sync_handlers="loop")
        app.get("/slow", slow)
        app.get("/", lambda res, req: res.end("answered"))
        app.listen({"port": 0, "host": "127.0.0.1"}, ready)
        app.run()
    """
    with Program(source) as program:
        program.listening()
        with program.client() as slow:
            slow.request("GET", "/slow")
            assert program.word() == "begun"
            # Nothing is accepted by a process that stands still.
            program.signal(signal.SIGSTOP)
            waiting = [program.client().send(REQUEST) for _ in range(20)]
            late = program.client()
            program.signal(signal.SIGTERM)
            program.signal(signal.SIGCONT)
            late.send(REQUEST)
            assert slow.answer().body == b"slow"
            for client in [*waiting, late]:
                assert client.answer().body == b"answered"
                assert client.is_closed()
                client.close()
        assert program.finish() == (0, "", "")


def test_a_connection_without_a_request_does_not_hold_up_the_end() -> None:
    """It has a moment for one that is on its way, and no more."""
    source = """
        app = App(shutdown_timeout=20)
        app.get("/", lambda res, req: res.end("answered"))
        app.listen({"port": 0, "host": "127.0.0.1"}, ready)
        app.run()
    """
    with Program(source) as program:
        program.listening()
        with program.client() as silent, program.client() as kept:
            assert kept.get("/").body == b"answered"
            began = time.monotonic()
            program.signal(signal.SIGTERM)
            assert silent.is_closed()
            assert kept.is_closed()
            assert program.finish() == (0, "", "")
            assert time.monotonic() - began < 10
