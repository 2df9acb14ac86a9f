"""From ``listen`` to the end: hooks, signals, and threads that end before the interpreter does."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import inspect
import logging
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from .calls import Calls
from .endings import complete, end_executor, end_generators, end_tasks
from .foreign import Stay
from .forks import leave_loop
from .listening import address_of, reason
from .options import AppListenOptions, listen_options
from .terminal import has_terminal, is_foreground, quiet

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._core import Server
    from .access_log import AccessLog
    from .events import EventStream
    from .handlers import Hook

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
        for app in list(_running):
            ends.callback(_stop, app)


def _abandon_all() -> None:
    for app in list(_running):
        app._abandon()


os.register_at_fork(after_in_child=_abandon_all)


def _stop(app: Lifecycle) -> None:
    if app._stay is not None and not app.loop.loop.is_running():
        app._stay.loop_ended()
        return
    app._server.close(0)
    app.loop.stop()
    # A daemon thread may be running it, and can finish for as long as the interpreter waits here.
    app._ended.wait(_PATIENCE)
    app.dispose()


def _leave(_number: int, _frame: object) -> None:
    """Hears SIGTERM after a run that a signal has ended: who asked twice gets the answer of who asked once."""
    os._exit(0)


class Lifecycle(Calls):
    """The part of :class:`~socketify.App` that starts and ends it."""

    _server: Server
    is_ssl: bool

    def __init__(self, lifespan: bool, shutdown_timeout: float) -> None:
        super().__init__()
        self.lifespan = lifespan
        self.shutdown_timeout = shutdown_timeout
        self._start_hook: Hook | None = None
        self._shutdown_hook: Hook | None = None
        self._started = False
        # Has sockets listen that the command line passes on: not before the hook has run.
        self._opening: Callable[[], object] | None = None
        # Signals received in this run.
        self._signals = 0
        # The handlers that are given back at the end.
        self._previous_signals: dict[signal.Signals, Any] = {}
        # Those that end a run. The worker of a supervisor leaves Ctrl+C, which the terminal sends to both, to it.
        self._stop_signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM)
        # Gives back the handlers of signals, if they are heard before `run` is called.
        self._restore_signals: Callable[[], None] | None = None
        # Whether a terminal had this process in its foreground when the run began: then its end is a SIGHUP too.
        self._terminal = False
        # The task that reads certificates anew, and whether it is to do so once more.
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        # The loop runs for the sake of requests, and not of a hook.
        self._serving = False
        self._hook_task: asyncio.Task[None] | None = None
        self._access_log: AccessLog | None = None
        #: Streams of events, which end when the application closes: they would go on for ever. The loop's thread changes it.
        self._event_streams: set[EventStream] = set()
        self._closing = False
        #: While the application serves in a loop that somebody else runs.
        self._stay: Stay | None = None
        #: This process was forked from the one that serves.
        self._abandoned = False
        #: Set while `run` does not run.
        self._ended = threading.Event()
        self._ended.set()

    def listen(
        self,
        port_or_options: int | Mapping[str, Any] | AppListenOptions | socket.socket | Any | None = None,
        handler: Callable[[AppListenOptions], object] | None = None,
    ) -> Self:
        """Binds a listening socket; :meth:`run` serves it. May be called several times.

        Args:
            port_or_options: A port (0 or None: any free one) on every interface, a dict with fields of
                :class:`AppListenOptions`, one of these, or any object with its attributes. ``options=1`` refuses to share
                the port. ``domain`` is the path of a Unix socket; a stale file there is replaced. A :class:`socket.socket`
                that listens already, inherited from a parent process perhaps, is served as it is; the caller keeps it. It
                does not block any more, for all who share it: a parent's own ``accept()`` raises :exc:`BlockingIOError`.
                :func:`systemd_sockets` gives those of a service manager.
            handler: Called with the :class:`AppListenOptions` in effect: its ``port`` is the real one.

        Returns:
            The application.

        Raises:
            RuntimeError: The socket cannot be bound; the message names host, port and reason.
        """
        given = port_or_options if isinstance(port_or_options, socket.socket) else None
        options = listen_options(port_or_options) if given is None else address_of(given)
        if not self._started:
            self._started = True
            self._run_hook(self._start_hook)
        try:
            if given is not None:
                if self._opening is not None:
                    self._opening()
                port = self._server.adopt(os.dup(given.fileno()))
            elif options.fd is not None:
                port = self._server.adopt(os.dup(options.fd))
            elif options.domain:
                port = self._server.bind_unix(options.domain, options.mode, options.backlog)
            else:
                sharing = "none" if options.options & 1 else "all" if options.reuse_port else "group"
                port = self._server.bind_tcp(options.host, options.port, sharing, options.backlog)
        except OSError as error:
            if options.fd is not None:
                where = f"descriptor {options.fd}"
            elif options.domain:
                where = f"domain {options.domain}"
            else:
                where = f"port {options.port} of host {options.host or 'any'}"
            raise RuntimeError(f"Failed to listen on {where}: {reason(error)}") from error
        if options.fd is not None:
            with socket.socket(fileno=os.dup(options.fd)) as inherited:
                options = address_of(inherited)
        options.port = port
        if self.loop.is_foreign and not self._server.is_running():
            self._begin()
        if handler is not None:
            handler(options)
        return self

    def run(self) -> Self:
        """Serves until :meth:`close` or a signal, then runs the shutdown hook.

        SIGINT and SIGTERM (when called on the main thread) close the application and raise ``SystemExit(0)`` out of here
        once it has closed; a second signal ends what is in flight at once. An application with TLS reads its certificates
        anew at SIGHUP, unless the program has a handler of its own for it.

        Returns:
            The application, after :meth:`close`. It can listen and run again.

        Raises:
            RuntimeError: A loop is running on this thread already, or the application runs elsewhere.
        """
        if self.loop.is_foreign:
            raise RuntimeError(
                "the application was made inside a running loop: listen() serves there, without run()"
            )
        self._signals = 0
        self._ended.clear()
        restore, self._restore_signals = self._restore_signals or self._install_signals(), None
        try:
            self._begin()
            self._serving = True
            try:
                self.loop.run()
            finally:
                self._serving = False
                if not self._abandoned:
                    self._server.close(0)
                    self._finish()
        finally:
            if not self._abandoned:
                restore()
            self._ended.set()
        if self._abandoned:
            # A coroutine that has forked returned in the child, or failed.
            raise SystemExit(self._status)
        if self._signals:
            raise SystemExit(0)
        return self

    def close(self) -> Self:
        """Stops accepting, lets requests in progress finish for up to ``shutdown_timeout`` seconds, then stops.

        Streams of events end at once. Returns at once, from any thread or handler. Calling it again does nothing.
        """
        self._closing = True
        self._server.close(self.shutdown_timeout)
        if self._event_streams:
            self._on_loop(self._end_event_streams)
        return self

    def _end_event_streams(self) -> None:
        for stream in list(self._event_streams):
            stream.close()

    def dispose(self) -> None:
        """Closes the application and frees its loop. Calling it again does nothing."""
        self._closing = True
        self._server.close(0)
        if not self.loop.loop.is_running():
            self._end_threads()
            self.loop.dispose()

    def __del__(self) -> None:
        # Made and never disposed of: the threads are ended already, or the core would hold this object.
        with contextlib.suppress(Exception):
            self.dispose()

    def _begin(self) -> None:
        self._closing = False
        if self._access_log is not None:
            self._access_log.begin()
        # Before the first thread may run a handler, which may fork.
        _running.add(self)
        try:
            self._server.start(self.loop.loop, logger.isEnabledFor(logging.DEBUG))
        except BaseException:
            if not self._server.is_running():
                _running.discard(self)
            raise
        if self.loop.is_foreign:
            self._stay = stay = Stay(self)
            self._on_loop(stay.begin)

    def _abandon(self) -> None:
        self._server.abandon()
        self._abandoned, self._status, self._stay = True, 0, None
        _running.discard(self)
        leave_loop(self.loop.loop)
        # What signals wake is the parent's loop.
        if self._previous_signals:
            signal.set_wakeup_fd(-1)
            for number, handler in self._previous_signals.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    @staticmethod
    def _note(text: str) -> bool:
        """Something went wrong on a connection, before there was a request. Whether anybody reads that now."""
        logger.debug("%s", text)
        return logger.isEnabledFor(logging.DEBUG)

    def _drained(self) -> None:
        """The core has finished its last request."""
        if self._stay is not None:
            self._stay.drained()
        elif self._last_words and self._signals < 2:
            self._spawn(self._stop_serving(), None)
        elif self._serving:
            # Else a second signal was faster, and the loop runs the shutdown hook.
            self.loop.loop.stop()

    async def _stop_serving(self) -> None:
        await self._hear_out()
        if self._serving:
            self.loop.loop.stop()

    async def _hear_out(self) -> None:
        """Every socket has been told of its end: those who act on it have the same time to finish as requests had."""
        # Some may have ended between the two turns of the loop, and to wait for none is an error.
        if tasks := set(self._last_words):
            await asyncio.wait(tasks, timeout=self.shutdown_timeout)
        self._last_words.clear()

    def _finish(self) -> None:
        # Each of them whatever the others raise; the last one here comes first.
        with contextlib.ExitStack() as ends:
            for end in (end_executor, end_generators, end_tasks):
                ends.callback(end, self.loop.loop, _PATIENCE)
            ends.callback(self._end_threads)
            ends.callback(self._run_hook, self._shutdown_hook)

    def _end_threads(self) -> None:
        if not self._server.join(_PATIENCE):
            self._interrupt()
        _running.discard(self)

    def _interrupt(self) -> None:
        """Raises SystemExit in a ``def`` handler that does not return. Python code ends by that, and its traceback says
        where it was; a call that blocks outside Python does not, and its thread is left behind."""
        # Only who has such a handler pays for the import.
        import ctypes

        for ident in self._server.threads():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))
        deadline = time.monotonic() + _PATIENCE
        while self._server.threads():
            if time.monotonic() > deadline:
                logger.warning("a handler has not returned: its thread is left behind")
                return
            time.sleep(0.005)

    def _run_hook(self, hook: Hook | None) -> None:
        if hook is None or not self.lifespan:
            return

        if self.loop.is_foreign:
            # That loop runs already: a plain hook is over when this returns, a coroutine goes on beside the caller.
            if (result := self._call_hook(hook)) is not None:
                self._spawn(result, None)
            return

        async def call() -> None:
            if (result := self._call_hook(hook)) is not None:
                await self._guard_awaitable(result, None)

        self._hook_task = self.loop.loop.create_task(call())
        try:
            complete(self.loop.loop, self._hook_task)
        except asyncio.CancelledError:
            if self._signals < 2:
                raise
        finally:
            self._hook_task = None

    def _call_hook(self, hook: Hook) -> Awaitable[Any] | None:
        try:
            result = hook()
        except Exception as error:
            self.trigger_error(error, None, None)
            return None
        return result if inspect.isawaitable(result) else None

    def _hear_signals(self) -> None:
        """Keeps the signals that come before :meth:`run` for it: whoever says that the application is ready may be taken at
        his word, and send one."""
        if self._restore_signals is None:
            self._restore_signals = self._install_signals()

    def _unhear_signals(self) -> None:
        if self._restore_signals is not None:
            self._restore_signals()
            self._restore_signals = None

    def _install_signals(self) -> Callable[[], None]:
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        loop = self.loop.loop
        previous = {number: signal.getsignal(number) for number in self._stop_signals}
        # What a program in the background was told to ignore stays ignored: Ctrl+C there is for another.
        if previous.get(signal.SIGINT) is signal.SIG_IGN:
            del previous[signal.SIGINT]
        for number in previous:
            loop.add_signal_handler(number, self._on_signal)
        hangup = signal.getsignal(signal.SIGHUP)
        # Whoever has a handler of his own, or ignores it as `nohup` does, has the say.
        if self.is_ssl and hangup in (signal.SIG_DFL, quiet):
            previous[signal.SIGHUP] = hangup
            self._terminal = is_foreground()
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

        self._previous_signals = previous

        def restore() -> None:
            self._previous_signals = {}
            # In between the system's own would be in place, which ends the process: a signal that comes now waits.
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, previous)
            try:
                for number, handler in previous.items():
                    loop.remove_signal_handler(number)
                    if number == signal.SIGTERM and handler is signal.SIG_DFL and self._signals:
                        # One more ends the process at once as before, and with the status of the first.
                        handler = _leave
                    if handler is not None:
                        signal.signal(number, handler)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

        return restore

    def _on_hangup(self) -> None:
        if self._terminal and not has_terminal():
            self._on_signal()
            return
        self._reload_again = True
        if self._reloading is None or self._reloading.done():
            self._reloading = self.loop.loop.create_task(self._reload())
            self._keep(self._reloading)

    async def _reload(self) -> None:
        """Reads certificates anew in a thread, as often as it was asked to: disks may be slow, and keys hard to decrypt."""
        while self._reload_again:
            self._reload_again = False
            try:
                remarks = await asyncio.to_thread(self._server.reload_certificates)
            except Exception as error:
                logger.error("SIGHUP: %s", error)
            else:
                for text in remarks:
                    logger.warning("SIGHUP: %s", text)
                logger.info("SIGHUP: the certificates have been read anew")

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self.close()
        # Asked twice: whoever asks does not want to wait.
        elif self._serving:
            self.loop.loop.stop()
        elif self._hook_task is not None:
            self._hook_task.cancel()
