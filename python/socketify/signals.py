"""The signals of a process that serves: SIGINT and SIGTERM end it, SIGHUP has certificates read anew."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any

from .terminal import has_terminal, is_foreground, quiet

__all__ = ["Signals", "expect", "expect_no_more"]


def _leave(_number: int, _frame: object) -> None:
    """Answers a SIGTERM that comes after a run which a signal has ended, with the status of the first one."""
    os._exit(0)


#: Who has told others that it is there, and neither runs nor has been closed.
_expecting: weakref.WeakSet[object] = weakref.WeakSet()


class _Early:
    """Answers a SIGTERM between ``listen``, which tells others that the application is there, and ``run``.

    Args:
        is_running: Whether an application runs on another thread, which leaves signals alone.
    """

    def __init__(self, is_running: Callable[[], object]) -> None:
        self._is_running = is_running
        self._process = os.getpid()

    def __call__(self, number: int, _frame: object) -> None:
        # A forked child inherits the handler, and has told nobody that it is there.
        if not _expecting or self._is_running() or self._process != os.getpid():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        else:
            raise SystemExit(0)


def expect(owner: object, is_running: Callable[[], object]) -> None:
    """Has SIGTERM end the program with status 0 before the run too, unless the program has a handler of its own.

    Args:
        owner: Who listens, and will run.
        is_running: Whether an application runs on another thread. Then the signal has its usual effect.
    """
    _expecting.add(owner)
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _Early(is_running))


def expect_no_more(owner: object) -> None:
    """Gives SIGTERM its usual effect back, unless another one listens: there will be no run of this one, or it begins."""
    _expecting.discard(owner)
    if (
        not _expecting
        and threading.current_thread() is threading.main_thread()
        and isinstance(signal.getsignal(signal.SIGTERM), _Early)
    ):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Signals:
    """The handlers of signals that an application has while it runs.

    Args:
        stop: Called for each signal that asks the application to end.
        renew: Called for SIGHUP; None leaves that to the program.

    Attributes:
        count: How many have asked it to end in this run.
        ending: Those that ask it. The worker of a supervisor leaves Ctrl+C, which the terminal sends to both, to it.
    """

    def __init__(self, stop: Callable[[], None], renew: Callable[[], None] | None) -> None:
        self.count = 0
        self.ending: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
        self._stop = stop
        self._renew = renew
        # The handlers that are given back at the end.
        self._previous: dict[signal.Signals, Any] = {}
        # Gives them back, where signals are heard before the run begins.
        self._restore: Callable[[], None] | None = None
        # Whether a terminal had this process in its foreground when the run began: then its end is a SIGHUP too.
        self._terminal = False

    def hear(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keeps signals that come before the run for it: a program that says that it is ready may be sent one at once."""
        if self._restore is None:
            self.count = 0
            self._restore = self._install(loop)

    @property
    def are_early(self) -> bool:
        """Whether one has come before the run."""
        return self._restore is not None and self.count > 0

    def unhear(self) -> None:
        """Gives the handlers back: there will be no run."""
        if self._restore is not None:
            self._restore()
            self._restore = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Installs the handlers for a run, and gives the function that takes them back."""
        self.count = 0
        restore, self._restore = self._restore or self._install(loop), None
        return restore

    def abandon(self) -> None:
        """Takes them back in a process that was forked from the one that serves: what they wake is the parent's loop."""
        if self._previous:
            signal.set_wakeup_fd(-1)
            for number, handler in self._previous.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _install(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        previous = {number: signal.getsignal(number) for number in self.ending}
        if isinstance(previous.get(signal.SIGTERM), _Early):
            previous[signal.SIGTERM] = signal.SIG_DFL
        # What a program in the background was told to ignore stays ignored: Ctrl+C there is for another.
        if previous.get(signal.SIGINT) is signal.SIG_IGN:
            del previous[signal.SIGINT]
        for number in previous:
            loop.add_signal_handler(number, self._on_signal)
        hangup = signal.getsignal(signal.SIGHUP)
        # A program that has a handler of its own, or ignores it as `nohup` has it do, keeps that.
        if self._renew is not None and hangup in (signal.SIG_DFL, quiet):
            previous[signal.SIGHUP] = hangup
            self._terminal = is_foreground()
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

        self._previous = previous

        def restore() -> None:
            self._previous = {}
            # In between the system's own would be in place, which ends the process: a signal that comes now waits.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, previous)
            try:
                for number, handler in previous.items():
                    loop.remove_signal_handler(number)
                    if number == signal.SIGTERM and handler is signal.SIG_DFL and self.count:
                        # One more ends the process at once as before, and with the status of the first.
                        handler = _leave
                    if handler is not None:
                        signal.signal(number, handler)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

        return restore

    def _on_signal(self) -> None:
        self.count += 1
        self._stop()

    def _on_hangup(self) -> None:
        if self._terminal and not has_terminal():
            self._on_signal()
        elif self._renew is not None:
            self._renew()
