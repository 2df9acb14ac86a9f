"""Programs of the command line, run as users run them: in a directory of their own, by `python -m socketify`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

from support import until
from support.client import Client

LISTENING = re.compile(r"Listening on https?://(?:\[.*\]|[^:]*):(\d+) now")

#: Sends its process id.
APPLICATION = """\
import os

def run(app):
    app.get("/", lambda res, req: res.end(str(os.getpid())))
"""


def children(pid: int) -> list[int]:
    """The processes that a process has started and not waited for."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def state(pid: int) -> str:
    """The letter of a process's state, such as Z for a zombie; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_stopped(pid: int) -> bool:
    """Whether every thread stands still: the signal takes a moment, in which one may still take a connection."""
    states = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state.rpartition(")")[2].split()[0] == "T" for state in states)


def gone(*pids: int) -> None:
    """Waits until processes have ended, and their parent has reaped them."""
    until(lambda: not any(map(state, pids)), f"the end of {pids}")


def orphans_gone(*pids: int, timeout: float = 20) -> None:
    """Waits until processes have ended. Their new parent may be slow to reap them."""
    until(lambda: all(state(pid) in ("", "Z") for pid in pids), f"the end of {pids}", timeout)


class Command:
    """A command line that runs. Its output is read as it comes, so that a test can wait for a line."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        script: bool = False,
        program: list[str] | None = None,
        stdin: int = subprocess.DEVNULL,
        output: int = subprocess.PIPE,
        **environment: str,
    ) -> None:
        if program is None:
            program = [sys.executable, "-W", "error", "-m", "socketify"]
            if script:
                program = [str(Path(sys.executable).with_name("socketify"))]
        inherited = {name: value for name, value in os.environ.items() if name != "WEB_CONCURRENCY"}
        self.process = subprocess.Popen(
            [*program, *arguments],
            cwd=directory,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env={**inherited, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
        )
        self.out, self.err = "", ""
        self._readers = [threading.Thread(target=self._read, args=(name,)) for name in ("out", "err")]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        stream = self.process.stdout if name == "out" else self.process.stderr
        for line in stream or ():
            setattr(self, name, getattr(self, name) + line.decode())

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        """The port, once the command prints it."""
        until(lambda: LISTENING.search(self.out) or self.process.poll() is not None, "listening")
        found = LISTENING.search(self.out)
        assert found is not None, f"it ended: {self.finish()}"
        return int(found[1])

    def workers(self, count: int = 1) -> list[int]:
        """The processes that serve, once so many of them respond."""
        seen: set[int] = set()

        def all_answer() -> bool:
            seen.add(self.ask())
            seen.intersection_update(children(self.pid))
            return len(seen) >= count

        until(all_answer, f"{count} processes that answer")
        return sorted(seen)

    def ask(self) -> int:
        """The responding process; 0 if it has just ended."""
        try:
            with Client(self.port) as client:
                return int(client.get("/").body)
        except (OSError, EOFError, AssertionError):
            return 0

    def said(self, text: str, times: int = 1) -> None:
        """Waits until standard error has a text."""
        until(lambda: self.err.count(text) >= times, f"{text!r} in {self.err!r}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self, timeout: float = 40) -> tuple[int, str, str]:
        """Waits for the end; returns the exit status, and the output."""
        self.process.wait(timeout)
        for reader in self._readers:
            reader.join(timeout)
            assert not reader.is_alive(), "somebody holds the output"
        return self.process.returncode, self.out, self.err

    def stop(self) -> tuple[int, str, str]:
        """Asks it to end, as a service manager does."""
        self.signal(signal.SIGTERM)
        return self.finish()

    def kill(self) -> None:
        """Ends all of its processes, in any state."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for reader in self._readers:
            reader.join(20)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Project:
    """A directory with modules, and the commands that were run in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._commands: list[Command] = []

    def write(self, name: str, source: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return path

    def socket(self) -> str:
        """The path for a Unix socket, which has 107 bytes at most: pytest's own directories may use them up."""
        return f"/tmp/socketify-{os.getpid()}-{self.directory.name[-40:]}.sock"

    def start(self, *arguments: str, **options: Any) -> Command:
        """Starts a command; options are those of :class:`Command`."""
        self._commands.append(Command(self.directory, *arguments, **options))
        return self._commands[-1]

    def run(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Runs a command that ends by itself."""
        return self.start(*arguments, **options).finish()

    def end(self) -> None:
        for command in self._commands:
            command.kill()
        Path(self.socket()).unlink(missing_ok=True)
