"""The kernel's facts about a process and its descendants."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Lists the direct children, started by any thread."""
    found: list[int] = []
    # A process that has ended meanwhile has none.
    with contextlib.suppress(OSError):
        for thread in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found.extend(int(child) for child in (thread / "children").read_text().split())
    return found


def tree(pid: int) -> list[int]:
    """Lists a process and all its descendants."""
    found = [pid]
    for process in found:
        found.extend(children(process))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Adds up user and system time, to the nanosecond, whereas /proc/PID/stat counts in ticks of 10 ms."""
    total = 0.0
    for pid in pids:
        # The kernel's encoding of "the CPU clock of that process" (clock_getcpuclockid).
        with contextlib.suppress(OSError):
            total += time.clock_gettime(~pid << 3 | 2)
    return total


def resident_bytes(pids: Iterable[int]) -> int:
    """Adds up the resident memory. A page that two processes share counts twice."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
    return total


def wake_ups(pids: Iterable[int]) -> int:
    """Counts voluntary context switches of all threads, which equals their wake-ups."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for status in (PROC / str(pid) / "task").glob("*/status"):
                with contextlib.suppress(OSError):
                    lines = status.read_text().splitlines()
                    total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))
    return total


def busy_seconds(cores: Iterable[int]) -> float:
    """Adds up the time that these cores have spent, or that the host has taken away."""
    names = {f"cpu{core}" for core in cores}
    total = 0
    for line in (PROC / "stat").read_text().splitlines():
        name, *fields = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
            total += user + nice + system + irq + softirq + steal
    return total / TICK


def kill_tree(pid: int) -> None:
    """Ends a process and all its descendants, at once."""
    # Stopped first, so that no supervisor starts a new worker while its workers are being ended.
    for process in (members := tree(pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
    for process in {*members, *tree(pid)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@contextlib.contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Runs this process on these cores for a while; processes started meanwhile stay there for life."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def core_pair() -> tuple[int, int]:
    """Picks a core for the server and one for the client, not two threads of one core if possible."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        return cores[0], cores[0]

    def physical(core: int) -> str:
        topology = Path(f"/sys/devices/system/cpu/cpu{core}/topology")
        try:
            package = (topology / "physical_package_id").read_text()
            return package + (topology / "core_id").read_text()
        except OSError:
            return str(core)

    server = cores[0]
    others = [core for core in cores[1:] if physical(core) != physical(server)]
    return server, (others or cores[1:])[0]
