"""Workers whose event loop hangs are replaced, and no others (S-CLI-33)."""

from __future__ import annotations

import os
import signal
import time

import pytest

from socketify.processes.heartbeat import Heartbeat
from support import until
from support.client import Client
from support.command import Command, Project, children

APPLICATION = """\
import asyncio, os, time

if os.path.exists("slow to import"):
    time.sleep(2.5)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/stuck":
        stuck()
    elif scope["path"] == "/busy":
        until = time.monotonic() + 1
        while time.monotonic() < until:
            pass
    elif scope["path"] == "/waits":
        await asyncio.sleep(3)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

def stuck():
    time.sleep(1000)
"""


def start(project: Project, *arguments: str) -> Command:
    project.write("main.py", APPLICATION)
    return project.start("main", "--port", "0", *arguments)


@pytest.mark.parametrize("option", ["--worker-timeout", "--timeout", "-t"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_loop_that_hangs(project: Project, option: str, workers: str) -> None:
    """S-CLI-33: the stacks are written, and another worker starts. One worker is watched, too."""
    command = start(project, option, "1", "--workers", workers)
    first = command.workers(int(workers))
    with Client(command.port) as client:
        client.send(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        command.said("its loop has not turned for 1 seconds: ending it")
        command.said("was killed by SIGABRT: starting another")
    assert "Fatal Python error: Aborted" in command.err
    assert "in stuck" in command.err
    until(lambda: len(children(command.pid)) == int(workers), "the workers")
    assert len(set(first) - set(children(command.pid))) == 1
    until(lambda: command.ask(), "an answer")
    assert command.stop()[0] == 0


def test_loops_that_do_not_hang(project: Project) -> None:
    """S-CLI-33, S-REG-16: one that sleeps, waits, computes for less than that, or takes its time to start."""
    project.write("slow to import", "")
    command = start(project, "--worker-timeout", "2", "--workers", "1")
    first = command.workers(1)
    with Client(command.port) as client:
        assert client.get("/waits").status == 200
        assert client.get("/busy").status == 200
    time.sleep(2.5)
    assert children(command.pid) == first
    assert command.ask() == first[0]
    assert command.stop() == (0, command.out, "")


def test_a_command_that_stood_still(project: Project) -> None:
    """S-CLI-33: what nobody could look at is no proof."""
    command = start(project, "--worker-timeout", "2", "--workers", "1")
    first = command.workers(1)
    os.killpg(command.pid, signal.SIGSTOP)
    time.sleep(3)
    os.killpg(command.pid, signal.SIGCONT)
    for _ in range(3):
        assert command.ask() == first[0]
        time.sleep(0.2)
    assert command.stop() == (0, command.out, "")


def test_no_time_is_no_limit(project: Project) -> None:
    """S-CLI-33: the default."""
    command = start(project, "--workers", "2")
    first = command.workers(2)
    with Client(command.port) as client:
        assert client.get("/busy").status == 200
    assert sorted(children(command.pid)) == first
    assert command.stop()[0] == 0


def test_what_a_loop_tells() -> None:
    """S-CLI-33: only one that is awake and does not turn is late."""
    heart = Heartbeat()
    heart.begin(10.0)
    assert heart.late(20.0) == 0
    heart._told[0], heart._told[1] = 1, 5
    assert heart.late(21.0) == 0
    assert heart.late(23.0) == 2
    heart._told[1] = 6
    assert heart.late(24.0) == 0
    heart._told[0] = 2
    assert heart.late(30.0) == 0
    assert heart.late(40.0) == 0
    heart.close()
