"""From ``listen`` to the end: sockets, the run, and threads that end before the interpreter does."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from .endings import end_executor, end_generators, end_tasks, interrupt
from .foreign import Stay
from .forks import leave_loop
from .listening import address_of, bind
from .options import AppListenOptions, listen_options
from .signals import Signals, expect, expect_no_more

if TYPE_CHECKING:
    from ._core import Server
    from .access_log import AccessLog
    from .calls import Calls
    from .lifespan import Lifespan
    from .loop import Loop
    from .server_names import ServerNames

__all__ = ["Lifecycle"]

logger = logging.getLogger("socketify")

#: Seconds that a ``def`` handler has to return after the last deadline, before its thread is left behind.
_PATIENCE = 1.0

#: Applications whose threads run. They must end before the interpreter does.
_running: weakref.WeakSet[Lifecycle] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    # Each of them whatever the others raise.
    with contextlib.ExitStack() as ends:
        for life in list(_running):
            ends.callback(life.stop)


def _abandon_all() -> None:
    for life in list(_running):
        life.abandon()


os.register_at_fork(after_in_child=_abandon_all)


class Closable(Protocol):
    """What ends with the application."""

    def close(self) -> None: ...


class Lifecycle:
    """Starts an application and ends it.

    Args:
        server: The core.
        loop: The application's loop.
        calls: Calls user code.
        lifespan: Runs the hooks.
        names: Reads certificates anew at SIGHUP; None without TLS.
        access_log: Where answered requests are logged; None for nowhere.
        shutdown_timeout: Seconds that requests in progress have at the end.

    Attributes:
        server: The core.
        loop: The application's loop.
        lifespan: Runs the hooks.
        shutdown_timeout: Seconds that requests in progress have at the end.
        signals: The signals that end it.
        opening: Has sockets listen that the command line passes on: not before the start hook has run.
        interruptible: Whether a signal ends the start hook too, and whatever keeps the application from serving ends it as
            a run ends: with the shutdown hook, and with the tasks that are left. Each run has a start of its own.
        shutdown_delay: Seconds that it goes on accepting after a signal. Responses say meanwhile that they are the last.
        closing: Whether it has been asked to end.
        stay: How the application ends while it serves in a foreign event loop; None otherwise.
    """

    def __init__(
        self,
        server: Server,
        loop: Loop,
        calls: Calls,
        lifespan: Lifespan,
        names: ServerNames | None,
        access_log: AccessLog | None,
        shutdown_timeout: float,
    ) -> None:
        self.server = server
        self.loop = loop
        self.lifespan = lifespan
        self.shutdown_timeout = shutdown_timeout
        renew = None if names is None else partial(names.reload_soon, calls)
        self.signals = Signals(self._on_signal, renew)
        self.opening: Callable[[], object] | None = None
        self.interruptible = False
        self.shutdown_delay = 0.0
        self.closing = False
        self.stay: Stay | None = None
        self._calls = calls
        self._access_log = access_log
        self._started = False
        # The start hook runs.
        self._starting = False
        # When it was asked to end; None before.
        self._closed_at: float | None = None
        # The loop runs for the sake of requests, and not of a hook.
        #: In a loop that ran already it has served to its end, and the shutdown hook has run.
        self.has_ended_here = False
        self._serving = False
        # Streams of events, which would go on for ever. The loop's thread changes it.
        self._streams: set[Closable] = set()
        # This process was forked from the one that serves.
        self._abandoned = False
        # Set while `run` does not run.
        self._ended = threading.Event()
        self._ended.set()

    @property
    def has_listened(self) -> bool:
        """Whether :meth:`listen` has been called."""
        return self._started

    # ---- what an application offers ---------------------------------------------------------------------------------

    def listen(self, where: Any, handler: Callable[[AppListenOptions], object] | None) -> None:
        """See :meth:`App.listen`."""
        given = where if isinstance(where, socket.socket) else None
        options = listen_options(where) if given is None else address_of(given)
        try:
            self._start()
            options = bind(self.server, given, options, self.opening)
        except BaseException as error:
            if self.interruptible and not self.loop.is_foreign:
                self._withdraw(error)
            raise
        if not self.loop.is_foreign:
            expect(self, lambda: _running)
        elif not self.server.is_running():
            self.begin()
        if handler is not None:
            handler(options)

    def _start(self) -> None:
        """Runs the start hook, once.

        Raises:
            SystemExit: A signal has come meanwhile.
        """
        if self._started:
            return
        self._started = self._starting = True
        if self.interruptible and not self.loop.is_foreign:
            self.signals.hear(self.loop.loop)
        try:
            self._run_hook(self.lifespan.run_start)
        except asyncio.CancelledError:
            if not self.signals.are_early:
                raise
        finally:
            self._starting = False
        if self.signals.are_early:
            raise SystemExit(0)

    def _withdraw(self, error: BaseException) -> None:
        """Ends what has been started, since it will not serve."""
        expect_no_more(self)
        self.server.close(0)
        # Where the end fails too, what kept the application from serving is the message, and the status is not 0 anyway.
        with contextlib.suppress(*([] if isinstance(error, SystemExit) else [SystemExit])):
            self._finish()
        self.signals.unhear()

    def run(self) -> None:
        """See :meth:`App.run`."""
        if self.loop.is_foreign:
            raise RuntimeError(
                "the application was made inside a running loop: listen() serves there, without run()"
            )
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "a loop runs on this thread already: make the application inside it, and call listen()"
            )
        self._ended.clear()
        restore = self.signals.begin(self.loop.loop)
        expect_no_more(self)
        try:
            self.begin()
            self._serving = True
            try:
                self.loop.run()
            finally:
                self._serving = False
                if not self._abandoned:
                    self.server.close(0)
                    self._finish()
        finally:
            if not self._abandoned:
                restore()
            self._ended.set()
        if self._abandoned:
            # A coroutine that has forked returned in the child, or failed.
            raise SystemExit(self._calls.status)
        if self.signals.count:
            raise SystemExit(0)

    def close(self) -> None:
        """See :meth:`App.close`."""
        if not self.closing:
            self._closed_at = time.monotonic()
        self.closing = True
        expect_no_more(self)
        self.server.close(self.shutdown_timeout)
        if self._streams:
            self._calls.on_loop(self._end_streams)

    def time_left(self, least: float) -> float:
        """Seconds that are left of ``shutdown_timeout`` since the application was asked to end, and at least ``least``.

        After a second signal it is no more than that.
        """
        if self.signals.count > 1:
            return least
        passed = 0.0 if self._closed_at is None else time.monotonic() - self._closed_at
        return max(least, self.shutdown_timeout - passed)

    def dispose(self) -> None:
        """See :meth:`App.dispose`."""
        self.closing = True
        expect_no_more(self)
        self.server.close(0)
        if not self.loop.loop.is_running():
            self.end_threads()
            self.loop.dispose()

    # ---- in a loop that runs already ---------------------------------------------------------------------------------

    async def start_here(self) -> bool:
        """Runs the start hook in the loop that runs, before :meth:`listen`.

        Returns:
            Whether to serve. If not, a signal has come meanwhile.

        Raises:
            CancelledError: The caller was cancelled.
        """
        self._started = self._starting = True
        self.has_ended_here = False
        try:
            await self.lifespan.start_here()
        except asyncio.CancelledError:
            if not self.signals.are_early:
                raise
        finally:
            self._starting = False
        return not self.signals.are_early

    async def end_here(self) -> None:
        """Ends what :meth:`start_here` has started, where it does not serve; and else waits until it has ended."""
        stay = self.stay
        if stay is not None:
            await asyncio.shield(stay.over)
            return
        hook = self.lifespan.shutdown_hook
        due = self._started and not self.has_ended_here
        if due and hook is not None and (result := self.lifespan.call(hook)) is not None:
            await self._calls.guard(result, None)
        self._started = False
        self.dispose()

    # ---- streams of events ------------------------------------------------------------------------------------------

    def hold(self, stream: Closable) -> bool:
        """Closes a stream when the application closes. On the loop's thread.

        Returns:
            Whether it is open still.
        """
        self._streams.add(stream)
        return not self.closing

    def release(self, stream: Closable) -> None:
        """Forgets a stream that has ended."""
        self._streams.discard(stream)

    def _end_streams(self) -> None:
        for stream in list(self._streams):
            stream.close()

    # ---- the way there ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Has the core serve from now on."""
        self.closing = False
        self._closed_at = None
        if self._access_log is not None:
            self._access_log.begin()
        # Before the first thread may run a handler, which may fork.
        _running.add(self)
        try:
            self.server.start(self.loop.loop, logger.isEnabledFor(logging.DEBUG))
        except BaseException:
            if not self.server.is_running():
                _running.discard(self)
            raise
        if self.loop.is_foreign:
            self.stay = stay = Stay(self, self._calls)
            self._calls.on_loop(stay.begin)

    def abandon(self) -> None:
        """In a process that was forked from the one that serves: leaves all that is the parent's."""
        self.server.abandon()
        self._abandoned, self._calls.status, self.stay = True, 0, None
        _running.discard(self)
        leave_loop(self.loop.loop)
        self.signals.abandon()

    # ---- the end ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ends it since the interpreter ends."""
        if self.stay is not None and not self.loop.loop.is_running():
            self.stay.loop_ended()
            return
        self.server.close(0)
        self.loop.stop()
        # A daemon thread may be running it, and can finish for as long as the interpreter waits here.
        self._ended.wait(_PATIENCE)
        self.dispose()

    def drained(self) -> None:
        """The core has finished its last request."""
        if self.stay is not None:
            self.stay.drained()
        elif self._calls.last_words and self.signals.count < 2:
            self._calls.spawn(self._stop_serving(), None)
        elif self._serving:
            # Else a second signal was faster, and the loop runs the shutdown hook.
            self.loop.loop.stop()

    async def _stop_serving(self) -> None:
        await self.hear_out()
        if self._serving:
            self.loop.loop.stop()

    async def hear_out(self) -> None:
        """Every socket has been told of its end: close listeners have the same time to finish as requests had."""
        # Some may have ended between the two turns of the loop, and to wait for none is an error.
        if tasks := set(self._calls.last_words):
            await asyncio.wait(tasks, timeout=self.shutdown_timeout)
        self._calls.last_words.clear()

    def _finish(self) -> None:
        if self.interruptible:
            self._started = False
        # Each of them whatever the others raise; the last one here comes first.
        with contextlib.ExitStack() as ends:
            for end in (end_executor, end_generators, end_tasks):
                ends.callback(end, self.loop.loop, _PATIENCE)
            ends.callback(self.end_threads)
            ends.callback(self._run_hook, self.lifespan.run_shutdown)

    def _run_hook(self, run: Callable[[], None]) -> None:
        try:
            run()
        except asyncio.CancelledError:
            if self.signals.count < 2:
                raise

    def end_threads(self) -> None:
        """Waits for the core's threads to end. One in a handler that does not return is left behind."""
        if not self.server.join(_PATIENCE):
            interrupt(self.server, _PATIENCE)
        _running.discard(self)

    def _on_signal(self) -> None:
        if self.signals.count == 1 and self._serving and self.shutdown_delay:
            self.server.part()
            self.loop.loop.call_later(self.shutdown_delay, self.close)
        elif self.signals.count == 1:
            self.close()
            if self._starting:
                self.lifespan.cancel()
        # A second signal does not wait.
        elif self._serving:
            self.loop.loop.stop()
        elif self.stay is not None:
            self.server.close(0)
        else:
            self.lifespan.cancel()
