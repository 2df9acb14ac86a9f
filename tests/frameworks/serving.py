"""Programs of ``programs/``, served in a process of their own by the command line, as users serve them.

With ``--peers`` another server serves them: uvicorn, hypercorn or gunicorn. A test that fails with one of those too asks for
something that applications do not get elsewhere.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from support import until
from support.client import Client
from support.command import Command
from support.h2_client import H2Client

PROGRAMS = Path(__file__).parent / "programs"

#: The options of this server that tests use, as other servers spell them. None: the default of that server is fine.
SPELLINGS: dict[str, dict[str, str | None]] = {
    "uvicorn": {
        "--shutdown-timeout": "--timeout-graceful-shutdown",
        "--root-path": "--root-path",
        "--lifespan": "--lifespan",
        "--threads": None,
    },
    "hypercorn": {
        "--shutdown-timeout": "--graceful-timeout",
        "--root-path": "--root-path",
        "--lifespan": None,
        "--threads": None,
    },
    "gunicorn": {
        "--shutdown-timeout": "--graceful-timeout",
        "--threads": "--threads",
        "--root-path": None,
        "--lifespan": None,
    },
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class Served:
    """A program that is served, and clients to ask it."""

    def __init__(
        self,
        server: str,
        interface: str,
        target: str,
        directory: Path,
        options: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.server, self.interface = server, interface
        self.is_ours = server == "socketify"
        port = 0 if self.is_ours else free_port()
        self.command = Command(
            directory,
            *arguments(server, target, port, options),
            program=[sys.executable, "-m", server],
            **{"PYTHONPATH": str(PROGRAMS), **(environment or {})},
        )
        try:
            self.port = self.command.port if self.is_ours else port
            if not self.is_ours:
                until(self._responds, "listening")
        except BaseException:
            self.command.kill()
            raise
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = self.client()

    def _responds(self) -> bool:
        assert self.command.process.poll() is None, f"it ended: {self.command.finish()}"
        try:
            Client(self.port).close()
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        """The process that runs the application."""
        if self.server in ("gunicorn", "hypercorn"):
            process = self.command.pid
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            return int(children[-1])
        return self.command.pid

    def client(self, **options: Any) -> httpx.Client:
        """A client with connections of its own."""
        return httpx.Client(base_url=self.url, timeout=20, trust_env=False, **options)

    def raw(self, **options: Any) -> Client:
        """A connection of raw bytes."""
        return Client(self.port, **options)

    def h2(self) -> H2Client:
        """A connection of HTTP/2, frame by frame."""
        return H2Client(self.port)

    def websocket(self, path: str, **options: Any) -> ClientConnection:
        """An open WebSocket."""
        options = {"proxy": None, "compression": None, "open_timeout": 20, **options}
        return connect(f"ws://127.0.0.1:{self.port}{path}", **options)

    def diary(self) -> list[str]:
        """What the program has noted so far."""
        with self.client() as client:
            noted: list[str] = client.get("/diary").json()
            return noted

    def noted(self, word: str, times: int = 1, timeout: float = 20) -> None:
        """Waits until the program has noted a word."""
        until(lambda: self.diary().count(word) >= times, f"{word!r} in the diary", timeout)

    def log(self) -> str:
        return self.command.out + self.command.err

    def resident(self) -> int:
        """Bytes of memory that the process of the application has."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def end(self) -> tuple[int, str, str]:
        """Asks it to end, as a service manager does; gives exit status and output."""
        self.http.close()
        return self.command.stop()

    def kill(self) -> None:
        self.http.close()
        self.command.kill()


def arguments(server: str, target: str, port: int, options: tuple[str, ...]) -> list[str]:
    if server == "socketify":
        return [target, "--host", "127.0.0.1", "--port", str(port), *options]
    spelled = []
    for name, value in zip(options[::2], options[1::2], strict=True):
        other = SPELLINGS[server][name]
        if other is not None:
            spelled += [other, value]
    if server == "uvicorn":
        return [target, "--host", "127.0.0.1", "--port", str(port), "--no-access-log", *spelled]
    if server == "gunicorn" and "--threads" not in spelled:
        spelled += ["--worker-class", "gthread"]  # the other one keeps no connection
    return [target, "--bind", f"127.0.0.1:{port}", *spelled]


def clean(ended: tuple[int, str, str], expected: Callable[[str], object] = lambda _: False) -> None:
    """A program that has served without a fault ends with 0 and has logged no error but those ``expected``."""
    status, out, err = ended
    faults = [
        line for line in (out + err).splitlines() if re.search("Traceback|ERROR|CRITICAL|Uncaught", line)
    ]
    assert [line for line in faults if not expected(line)] == [], err
    assert status == 0, err
