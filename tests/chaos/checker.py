"""The process under test from outside: its counts, descriptors, memory, output and end."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from wire import Wrong

#: Default seconds after the load within which everything has to be as before.
CALM = 30.0
#: Seconds that the server may take to its end beyond what requests in progress have.
GRACE, MARGIN = 2.0, 10.0
#: Pollers and wake-ups of a server: of its I/O threads, the standby, and the loop.
WAITS = 12
#: Growth of the resident memory from the first third of a round, when all caches are warm, to its end. It is what fragments
#: of the allocators take, whatever the length of the round: a leak of one kilobyte a request is ten times as much.
ALLOWED_GROWTH = 48 << 20


class Server:
    """A server that a round of chaos talks to."""

    def __init__(self, settings: dict[str, Any], calm: float) -> None:
        self._calm = calm
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        environment = os.environ | {
            "PYTHONMALLOC": "debug",
            "PYTHONFAULTHANDLER": "1",
            "PYTHONUNBUFFERED": "1",
            # As PYTHONDEVMODE has it, but for the debug mode of asyncio, which reports slow callbacks.
            "PYTHONWARNINGS": "default",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("server.py")), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        try:
            line = self._line()
            if not line.isdigit():
                raise Wrong("a server that starts", f"{line!r} and {self.errors()}")
        except Wrong:
            self.kill()
            raise
        self.port = int(line)
        self.baseline = self.descriptors()
        self.warm = 0
        #: The core opens the served files at the first request.
        self.folders = (re.sub(r"\d+", "n", settings["folder"]),)

    # ---- its own counts -------------------------------------------------------------------------------------------------

    def ask(self, command: str) -> dict[str, Any]:
        """Requests its counts; a forbidden observation is a failure."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Wrong("a server that lives", f"one that has ended with {self.process.wait(10)}") from None
        line = self._line()
        if not line:
            raise Wrong("a server that lives", f"one that has ended with {self.process.wait(10)}")
        state: dict[str, Any] = json.loads(line)
        if state["faults"]:
            raise Wrong("no faults seen by the server", "\n".join(state["faults"]))
        return state

    def _line(self) -> str:
        assert self.process.stdout is not None
        # The answer to a command is one line, so the buffer holds no part of another.
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        if not ready:
            raise Wrong("a word of the server within 60 s", "none")
        return self.process.stdout.readline().decode().strip()

    def errors(self) -> str:
        """All its output on standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def where(self) -> None:
        """Makes it print the line of each thread on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)

    # ---- observations of the kernel -------------------------------------------------------------------------------------

    def descriptors(self) -> dict[str, int]:
        """Open descriptors by their kind."""
        found: dict[str, int] = {}
        folder = Path(f"/proc/{self.process.pid}/fd")
        for each in folder.iterdir():
            try:
                kind = re.sub(r"\d+", "n", os.readlink(each))
            except FileNotFoundError:
                continue
            found[kind] = found.get(kind, 0) + 1
        return found

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) * 1024 if found else 0

    # ---- the end ----------------------------------------------------------------------------------------------------------

    def check_calm(self) -> dict[str, Any]:
        """All clients have gone: within a while nothing of them may be left."""
        self.ask("calm")
        limit = time.monotonic() + self._calm
        while left := self._left():
            if time.monotonic() > limit:
                raise Wrong(f"nothing left {self._calm:.0f} s after the load", ", ".join(left))
            time.sleep(0.2)
        growth = self.memory() - self.warm
        if self.warm and growth > ALLOWED_GROWTH:
            raise Wrong(
                f"at most {ALLOWED_GROWTH >> 20} MiB more memory than after the first third",
                f"{growth / 2**20:.0f} MiB more than {self.warm / 2**20:.0f} MiB",
            )
        return self.ask("state")

    def _left(self) -> list[str]:
        state = self.ask("count")
        names = ["running", "open", "subscribed", "subscribers", "replaced handlers", "objects"]
        left = [f"{name}: {state[name]}" for name in names if state[name] != 0]
        left += [
            f"{name}: {state[name]}"
            for name in ("open names", "running names", "tasks")
            if left and state[name]
        ]
        now = self.descriptors()
        # Threads make their waiting objects on first use; everything else has to be as before.
        waits = {kind: count for kind, count in now.items() if kind.startswith("anon_inode:")}
        kinds = {*now, *self.baseline} - {*waits, *self.folders}
        if sum(waits.values()) > WAITS or any(now.get(kind) != self.baseline.get(kind) for kind in kinds):
            left.append(f"descriptors {now}, of which there were {self.baseline}")
        return left

    def stop(self) -> float:
        """SIGTERM: an end in time, with status 0 and without a word. Gives the seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(GRACE + MARGIN)
        except subprocess.TimeoutExpired:
            self.where()
            raise Wrong(f"an end within {GRACE + MARGIN} s of SIGTERM", "none") from None
        if status != 0:
            raise Wrong("exit status 0 after SIGTERM", str(status))
        if errors := self.errors():
            raise Wrong("nothing on standard error", errors)
        return time.monotonic() - begun

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
