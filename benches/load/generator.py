"""The interface to this project's load generators."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import servers

import client


@dataclass
class Generator:
    """A running generator."""

    program: str
    started: subprocess.Popen[str]
    errors: IO[bytes]

    def wait_until_measuring(self) -> None:
        """Waits until its measurement begins: all connections are open and warm."""
        if self._line() != "MEASURING":
            raise self._failure()

    def figures(self) -> dict[str, float]:
        """Waits for its figures. Its connections stay open."""
        line = self._line()
        if not line.startswith("{"):
            raise self._failure()
        figures: dict[str, float] = json.loads(line)
        return figures

    def let_go(self) -> None:
        """Tells it that its connections are no longer needed."""
        if self.started.stdin is not None:
            self.started.stdin.close()

    def _line(self) -> str:
        return self.started.stdout.readline().strip() if self.started.stdout is not None else ""

    def _failure(self) -> client.WrongAnswer:
        self.let_go()
        code = self.started.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip()
        return client.WrongAnswer(said or f"{self.program} ended with code {code}")


@contextlib.contextmanager
def running(program: str, port: int, mode: str, *options: str) -> Iterator[Generator]:
    """Starts a generator, and ends it if it still runs."""
    command = [servers.executable(program), mode, "--host", client.HOST, "--port", str(port), *options]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as started,
    ):
        try:
            yield Generator(program, started, errors)
        finally:
            started.kill()
