"""What several test files need besides a server: programs of their own process, and waiting for something to be so."""

from __future__ import annotations

import gc
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from support.client import Client

#: What every program begins with: ``ready(config)`` prints its port, ``say(word)`` sends a word to the test.
PRELUDE = """\
import asyncio, os, signal, sys, threading, time
from socketify import App

def say(word):
    os.write(1, f"{word}\\n".encode())

def ready(config):
    say(f"port {config.port}")
"""


def until(condition: Callable[[], object], what: str, timeout: float = 20) -> None:
    """Waits for ``condition`` to hold; the test fails with ``what`` when it never does."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.002)


def tool(name: str) -> str:
    """The path of a program that a test runs. Without it the test is skipped, or fails where SOCKETIFY_TESTS_REQUIRE_TOOLS
    says that all of them are there, so that no test is lost without a word."""
    # Where Debian has servers, which not every user has on the PATH.
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    if path is None:
        missing(f"{name} is not installed")
    return path


def shown(value: object) -> str:
    """Names a parameter of a test. Addresses are left out: every process that collects the tests has to name them alike."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def missing(what: str) -> NoReturn:
    """Skips a test for lack of something, or fails it; see :func:`tool`."""
    if os.environ.get("SOCKETIFY_TESTS_REQUIRE_TOOLS"):
        pytest.fail(f"{what}, and SOCKETIFY_TESTS_REQUIRE_TOOLS is set")
    pytest.skip(what)


def reset(client: Client) -> None:
    """Closes with RST, as a client that was killed, or whose network was."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Program:
    """A Python program in a process of its own, which ends with the ``with`` block."""

    def __init__(self, source: str, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(source), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        self.port = 0

    def word(self) -> str:
        """The next line the program says; empty when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().rstrip("\n")

    def listening(self) -> Program:
        """Reads up to the line with the port."""
        while not (word := self.word()).startswith("port "):
            assert word, f"the program ended: {self.finish()}"
        self.port = int(word.split()[1])
        return self

    def client(self) -> Client:
        return Client(self.port)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self, timeout: float = 30) -> tuple[int, str, str]:
        """Waits for the end; returns the exit code and the rest of stdout and stderr."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out.decode(), err.decode()

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Gate:
    """A barrier between a handler and its test: the handler reports its arrival, the test lets it go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def arrived(self) -> None:
        assert self.entered.wait(20), "the handler was not called"

    def pass_through(self) -> None:
        """For the handler: arrives, and blocks until the test opens the gate."""
        self.entered.set()
        assert self._open.wait(20), "the test did not open the gate"


def garbage(visit: Callable[[], object]) -> int:
    """How many objects only the collector could free, after 200 visits."""
    for _ in range(10):
        visit()
    gc.collect()
    gc.disable()
    try:
        for _ in range(200):
            visit()
        return gc.collect()
    finally:
        gc.enable()
