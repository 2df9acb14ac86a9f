"""Watching files for ``--reload``, in a process of its own: watchfiles has threads, which the supervisor must not have."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import os
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .console import complain
from .link import end_with, flush

if TYPE_CHECKING:
    from watchfiles import Change

__all__ = ["Watcher", "available", "wanted"]

#: Names of files that are reported in one message.
_NAMED = 3


def available() -> bool:
    """Whether watchfiles is installed."""
    return importlib.util.find_spec("watchfiles") is not None


def wanted(path: str, directories: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a change of a file is to restart the worker.

    Args:
        path: Absolute path of the file.
        directories: Absolute paths of the directories that are watched.
        include: Patterns as of :mod:`fnmatch`, one of which its name has to match, or its path in a watched directory.
        exclude: Patterns that neither of them may match.
    """
    names = [os.path.basename(path)]
    names += [os.path.relpath(path, top) for top in directories if path.startswith(os.path.join(top, ""))]

    def match(patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return match(include) and not match(exclude)


class Watcher:
    """A process that tells of changed files. It watches from the moment that this is made.

    Args:
        directories: What to watch, with all that is below, but for what tools make there (``.git``, ``__pycache__``, virtual
            environments and the like).
        include: Patterns of files that count; see :func:`wanted`.
        exclude: Patterns of files that do not.

    Attributes:
        pid: Its process id; 0 once it has ended.
        descriptor: Can be read when there is something to hear.

    Raises:
        RuntimeError: It cannot watch, and has said why.
    """

    def __init__(self, directories: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> None:
        self.descriptor, report = os.pipe()
        self._heard = b""
        parent = os.getpid()
        flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self.descriptor)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                end_with(parent, signal.SIGKILL)
                _watch([os.path.realpath(each) for each in directories], include, exclude, report)
            except Exception as error:
                complain(f"cannot watch {', '.join(directories)}: {error}")
            finally:
                # Nothing of the supervisor's, such as what runs at its exit, is to run here.
                os._exit(status)
        os.close(report)
        if os.read(self.descriptor, 1) != b"\n":
            os.waitpid(self.pid, 0)
            raise RuntimeError("the process that watches the files did not start")
        os.set_blocking(self.descriptor, False)

    def changed(self) -> str:
        """The files that have changed since this was asked last, in words; empty if there are none."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.descriptor, 65536):
                self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        here = os.path.realpath(os.getcwd())
        names = sorted({_short(os.fsdecode(line), here) for line in lines})
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return ", ".join(names[:_NAMED]) + more

    def end(self) -> None:
        """Ends the process."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = 0


def _short(path: str, here: str) -> str:
    return os.path.relpath(path, here) if path.startswith(os.path.join(here, "")) else path


class _Begun:
    """What watchfiles asks, between two looks, whether to stop. The first time says that it watches."""

    def __init__(self, begin: Callable[[], object]) -> None:
        self._begin: Callable[[], object] | None = begin

    def is_set(self) -> bool:
        if self._begin is not None:
            self._begin()
            self._begin = None
        return False


def _watch(directories: Sequence[str], include: Sequence[str], exclude: Sequence[str], report: int) -> None:
    from watchfiles import DefaultFilter, watch

    class Filter(DefaultFilter):
        """Only the files that are asked for, and nothing that tools write."""

        def __call__(self, change: Change, path: str) -> bool:
            return super().__call__(change, path) and wanted(path, directories, include, exclude)

    begun: Any = _Begun(lambda: os.write(report, b"\n"))
    for changes in watch(*directories, watch_filter=Filter(), stop_event=begun):
        # A name may contain anything but NUL and a slash; a line break in it only splits a message in two.
        os.write(report, b"".join(os.fsencode(path) + b"\n" for _, path in sorted(changes)))
