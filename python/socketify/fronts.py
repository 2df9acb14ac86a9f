"""What the servers of foreign interfaces have in common: an :class:`App` whose requests all go to one application.

The App is made where it serves. Several processes are those of the command line: a supervisor, and workers that it forks,
each with an App of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .app import App
from .options import AppListenOptions, AppOptions, CompressOptions, listen_options
from .settings import BY_NAME
from .websocket import parse_behavior

if TYPE_CHECKING:
    from typing_extensions import Self

    from .processes.ports import Claims

__all__ = ["Front", "check_websocket_options", "websocket_options"]

Announce = Callable[[AppListenOptions], object]


def websocket_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Keys of a behaviour as a program gives them, without those that are None; ``compression`` becomes a number.

    Raises:
        TypeError: They are no dict.
    """
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"websocket_options must be a dict or None, not {options!r}")
    given = {key: value for key, value in (options or {}).items() if value is not None}
    if isinstance(given.get("compression"), bool):
        kind = CompressOptions.SHARED_COMPRESSOR if given["compression"] else CompressOptions.DISABLED
        given["compression"] = int(kind)
    return given


def check_websocket_options(options: Mapping[str, Any]) -> None:
    """Checks limits of WebSockets, as :func:`websocket_options` gives them.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A key is unknown, or a number out of range. The message names it.
    """
    _, listeners = parse_behavior("websocket_options", options)
    if listeners:
        raise ValueError(
            f"websocket_options has the listener {next(iter(listeners))!r}: expected limits alone, since the application "
            "listens itself"
        )


class Front:
    """A server for applications of a foreign interface.

    Args:
        options: TLS settings; None for plain HTTP.
        lifespan: Whether the application hears of the server's start and end.
        task_factory_max_items: Accepted for compatibility; without effect.
        settings: Options of :class:`App`.

    Raises:
        TypeError: An option is unknown, or of a type that it does not take.
        ValueError: An option is out of range; the message names it.
        RuntimeError: TLS cannot be set up; the message names the file and the reason.
    """

    #: The interface, as the command line calls it.
    interface = ""

    def __init__(
        self,
        options: AppOptions | None,
        lifespan: bool,
        task_factory_max_items: int,
        settings: Mapping[str, Any],
    ) -> None:
        for name in settings:
            if name not in BY_NAME and name != "server_name":
                raise TypeError(
                    f"{type(self).__name__}() got an unexpected keyword argument {name!r}: expected an option of App"
                )
        self._arguments: dict[str, Any] = {
            "options": options,
            "lifespan": lifespan,
            "task_factory_max_items": task_factory_max_items,
            **settings,
        }
        #: Where to listen, and who hears of it.
        self._places: list[tuple[AppListenOptions | socket.socket, Announce | None]] = []
        # The process that looks after workers beside this one, and the one that has started it; 0 for none.
        self._supervisor = self._starter = 0
        # This process does that itself.
        self._supervising = False
        self._closed = False
        self._app = self._make()

    def _make(self) -> App:
        """A new App, of this process and of the loop that runs now, if one does."""
        app = App(**self._arguments)
        self._mount(app)
        return app

    def _mount(self, app: App) -> None:
        """Has an App pass its requests to the application."""
        raise NotImplementedError

    def _renew(self) -> App:
        """Replaces the App by one of this process and loop."""
        self._app.dispose()
        self._app = self._make()
        return self._app

    # ---- what programs call -----------------------------------------------------------------------------------------

    def listen(self, port_or_options: Any = None, handler: Announce | None = None) -> Self:
        """Says where :meth:`run` is to listen. May be called several times.

        Args:
            port_or_options: Whatever :meth:`App.listen` takes: a port (0 or None: any free one), a dict with fields of
                :class:`AppListenOptions`, one of these, any object with its attributes, or a :class:`socket.socket` that
                listens already.
            handler: Called with the :class:`AppListenOptions` in effect, once the application has started and the server
                listens.

        Returns:
            The server.

        Raises:
            RuntimeError: It is none of these, or a value is out of range.
        """
        if isinstance(port_or_options, socket.socket):
            self._places.append((port_or_options, handler))
        else:
            self._places.append((listen_options(port_or_options), handler))
        return self

    def run(self, workers: int = 1, block: bool = True) -> Self:
        """Serves until :meth:`close` or a signal, in this process or in several.

        SIGINT and SIGTERM close the server and raise ``SystemExit(0)`` out of here, as they do with :meth:`App.run`.

        Args:
            workers: How many processes serve. With more than one, this process looks after them: it replaces those that
                end, and all of them at SIGHUP.
            block: False returns at once, and ``workers`` processes serve beside this one until :meth:`close`, or until this
                process ends.

        Returns:
            The server, after :meth:`close`. It can listen and run again.

        Raises:
            RuntimeError: A socket cannot be bound, nothing says where to listen, or a loop runs on this thread already.
            ValueError: ``workers`` is no number of processes.
            SystemExit: A signal has come; or, with status 1, the application cannot start or has failed to shut down.
        """
        if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 1024:
            raise ValueError(f"workers must be a whole number from 1 to 1024, not {workers!r}")
        if not self._places:
            raise RuntimeError("run() serves where listen() says: call listen(...) first")
        if self._app.loop.is_foreign:
            raise RuntimeError(
                "the server was made inside a running loop: there, use await socketify.serve(...) in place of run()"
            )
        self._closed = False
        if workers > 1 or not block:
            self._run_several(workers, block)
            return self
        places, self._places = self._places, []
        if self._app.loop.loop.is_closed():
            self._renew()
        for where, handler in places:
            self._app.listen(where, handler)
        self._app.run()
        return self

    def close(self) -> Self:
        """Stops accepting, lets requests in progress finish for up to ``shutdown_timeout`` seconds, and ends the application
        and all processes that :meth:`run` has started. Calling it again does nothing.

        Without other processes it returns at once, from any thread. With ``run(block=False)`` it waits for their end.

        Returns:
            The server.
        """
        self._closed = True
        if self._supervising:
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._supervisor:
            self._end_supervisor()
        else:
            self._app.close()
        return self

    # ---- several processes ------------------------------------------------------------------------------------------

    def _run_several(self, workers: int, block: bool) -> None:
        from .processes.link import end_with, flush
        from .processes.ports import claim_all

        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("run() with several workers handles signals: call it on the main thread")
        places, self._places = self._places, []
        # Sockets of the program stay its own.
        wanted = [where.dup() if isinstance(where, socket.socket) else where for where, _ in places]
        with claim_all(wanted, shared=workers > 1) as claimed:
            self._app.dispose()
            handlers = [handler for _, handler in places]
            if block:
                status = self._supervise(claimed, workers, handlers)
                if status or not self._closed:
                    raise SystemExit(status)
                return
            flush()
            parent = os.getpid()
            self._supervisor = os.fork()
            if self._supervisor:
                self._starter = parent
                atexit.register(self._end_supervisor)
                return
            end_with(parent, signal.SIGTERM)
            status = 1
            try:
                status = self._supervise(claimed, workers, handlers)
            except SystemExit:
                # A worker, which ends as a program does.
                raise
            except BaseException:
                import traceback

                traceback.print_exc()
            flush()
            os._exit(status)

    def _supervise(self, claimed: Claims, workers: int, handlers: list[Announce | None]) -> int:
        """Looks after workers.

        Returns:
            The status to exit with.

        Raises:
            SystemExit: In each worker, at its end.
        """
        from .processes.link import Link
        from .processes.supervisor import HANDLED, Supervisor
        from .processes.worker import serve_app

        def announce(_secure: bool, _kind: str) -> None:
            for handler, config in zip(handlers, claimed.configs, strict=True):
                if handler is not None:
                    handler(config)

        self._supervising = True
        own = {number: signal.getsignal(number) for number in HANDLED}
        outcome = Supervisor(workers, announce, claimed).run()
        self._supervising = False
        if not isinstance(outcome, Link):
            for number, handler in own.items():
                if handler is not None:
                    signal.signal(number, handler)
            return outcome
        link = outcome
        app = self._app = self._make()
        serve_app(
            app,
            list(claimed.where),
            lambda _configs: link.ready(app.shutdown_timeout, app.is_ssl),
            opening=claimed.listen,
            interrupt=False,
        )
        raise SystemExit(0)

    def _end_supervisor(self) -> None:
        pid, self._supervisor = self._supervisor, 0
        if pid and self._starter == os.getpid():
            atexit.unregister(self._end_supervisor)
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)
