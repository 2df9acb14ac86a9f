"""What surrounds the processes of a command: directories, their names, and the file with the process id."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

__all__ = ["PidFileError", "enter", "is_main_thread", "name_process", "pid_file"]

#: `PR_SET_NAME` of prctl(2).
_SET_NAME = 15


class PidFileError(Exception):
    """The file cannot be written, or belongs to a process that runs; the message says so."""


def enter(directory: str | None, path: str | None) -> None:
    """Goes to a directory, and has imports look there and in others (S-CLI-06).

    Args:
        directory: Where to go; None to stay.
        path: Directories with commas between them that imports look in as well; None for none.

    Raises:
        OSError: There is no such directory.
    """
    others = [os.path.abspath(each.strip()) for each in (path or "").split(",") if each.strip()]
    if directory is not None:
        os.chdir(directory)
        others.insert(0, os.getcwd())
    for each in reversed(others):
        if each not in sys.path:
            sys.path.insert(0, each)


@contextlib.contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Has a file name this process while it runs (S-CLI-35).

    Args:
        path: The file; None for none. One that a process has left that runs no more is replaced.

    Raises:
        PidFileError: It cannot be written, or its process runs.
    """
    if path is None:
        yield
        return
    path = os.path.abspath(path)
    pid = os.getpid()
    try:
        if (other := _read(path)) is not None and other != pid and _runs(other):
            raise PidFileError(f"{path} is of process {other}, which runs")
        with open(path, "w") as file:
            file.write(f"{pid}\n")
    except OSError as error:
        raise PidFileError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield
    finally:
        # Workers are forks of this process, and leave the file to it.
        if os.getpid() == pid and _read(path) == pid:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _read(path: str) -> int | None:
    try:
        with open(path) as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def is_main_thread() -> bool:
    """Whether this is the thread that may install handlers of signals."""
    return threading.current_thread() is threading.main_thread()


def name_process(name: str) -> None:
    """Gives this process a name for tools such as ``top``. The system keeps 15 bytes of it."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_SET_NAME, name.encode()[:15] + b"\0", 0, 0, 0)
