"""What a process of the command line does: it loads the application, listens and serves."""

from __future__ import annotations

import contextlib
import inspect
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import importer
from .app import App
from .options import AppListenOptions, AppOptions
from .settings import SETTINGS

if TYPE_CHECKING:
    import socket

__all__ = ["FAILURE", "USAGE", "Settings", "complain", "listen_line", "prepare", "serve"]

#: Exit status when the application cannot be loaded or started (F-24).
FAILURE = 1
#: Exit status when the command line is wrong, or asks for what there is not.
USAGE = 2

#: Behaviour of ``--ws MODULE:DICT`` where neither the command line nor the dict says otherwise (F-08 to F-15).
_WS_DEFAULTS: dict[str, Any] = {
    "max_payload_length": 16 * 1024 * 1024,
    "idle_timeout": 20,
    "send_pings_automatically": True,
    "reset_idle_timeout_on_send": True,
    "max_lifetime": 0,
    "max_backpressure": 16 * 1024 * 1024,
    "close_on_backpressure_limit": False,
    "compression": 0,
}


@dataclass
class Settings:
    """What the command line says.

    Attributes:
        target: ``MODULE:ATTRIBUTE`` of the application.
        host: Host name or address; empty for every interface.
        port: TCP port; 0 for any free one.
        uds: Path of a Unix socket, in place of host and port.
        uds_mode: Its permissions; None for those of ``App.listen``.
        fd: A descriptor that listens already, in place of all of these.
        backlog: Connections that the system keeps until they are accepted.
        inherited: Sockets of a service manager, in place of all of these.
        interface: ``auto`` or the interface that the application has to have.
        websocket: ``MODULE:ATTRIBUTE`` of a behaviour for every path, if there is one.
        websocket_options: Keys of a behaviour that were given on the command line.
        app_options: Arguments of :class:`App` that were given on the command line.
        lifespan: Whether the application's hooks run.
        listen_log: Whether the address is printed.
        tls: TLS settings, if the server is to serve TLS.
    """

    target: str
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    uds_mode: int | None = None
    fd: int | None = None
    backlog: int = 4096
    inherited: list[socket.socket] = field(default_factory=list)
    interface: str = "auto"
    websocket: str | None = None
    websocket_options: dict[str, Any] = field(default_factory=dict)
    app_options: dict[str, Any] = field(default_factory=dict)
    lifespan: bool = True
    listen_log: bool = True
    tls: AppOptions | None = None


def complain(message: str, report: str = "") -> None:
    """Says on standard error what is wrong."""
    # Nobody may listen any more, which is no reason to fail.
    with contextlib.suppress(OSError):
        print(f"{report}socketify: {message}", file=sys.stderr, flush=True)


class _Refusal(Exception):
    """The command line asks for what there is not."""


def listen_line(settings: Settings, config: AppListenOptions, secure: bool) -> str:
    """The line that says where the server listens, and whether it speaks TLS there (F-L-10). An empty one follows."""
    scheme = "https" if secure else "http"
    if config.domain is not None:
        name = config.domain.replace("\0", "@", 1) if config.domain.startswith("\0") else config.domain
        return f"Listening on {name} {scheme}://localhost now\n"
    given = (config.host or "") if settings.inherited or settings.fd is not None else settings.host
    host = given if len(given) > 1 else "127.0.0.1"
    return f"Listening on {scheme}://{f'[{host}]' if ':' in host else host}:{config.port} now\n"


def prepare(settings: Settings) -> App:
    """Loads what the command line names, and makes an application of it that is ready to listen.

    Raises:
        LoadError: It cannot be loaded, or is nothing that can be served.
        _Refusal: It is of an interface that is not served.
    """
    kind, target = importer.application(importer.load(settings.target), settings.interface)
    if kind != importer.NATIVE:
        raise _Refusal(
            f"{settings.target} is an application of the interface {kind.upper()}, which this version does not serve "
            "yet: it serves def run(app), an App, or a factory of one of them"
        )
    behavior = None if settings.websocket is None else _behavior(settings.websocket)
    if isinstance(target, App):
        app = _ready_made(settings, target)
    else:
        app = _fresh(settings)
        _call(target, app, settings.target)
    if behavior is not None:
        own = {key: value for key, value in behavior.items() if value is not None}
        try:
            app.ws("/*", {**_WS_DEFAULTS, **own, **settings.websocket_options})
        except (TypeError, ValueError) as error:
            raise importer.LoadError(f"--ws {settings.websocket}: {error}") from error
    return app


def _fresh(settings: Settings) -> App:
    try:
        return App(settings.tls, lifespan=settings.lifespan, **settings.app_options)
    except RuntimeError as error:
        # A file or an option of TLS is wrong: it says which.
        raise importer.LoadError(str(error)) from error
    except ValueError as error:
        raise _Refusal(str(error)) from error


def _ready_made(settings: Settings, app: App) -> App:
    """An application that the module has made: what can only be said when it is made is an error here."""
    if app._started:
        raise importer.LoadError(
            f"{settings.target} listens already: leave listen() and run() to the command line, "
            'or put them under if __name__ == "__main__"'
        )
    if settings.tls is not None:
        raise _Refusal(
            f"{settings.target} is an App that has been made already, so --ssl-keyfile comes too late: "
            "pass AppOptions to App(...), or name a function run(app)"
        )
    for setting in SETTINGS:
        if setting.name in settings.app_options:
            raise _Refusal(
                f"{settings.target} is an App that has been made already, so {setting.flag} comes too "
                f"late: pass {setting.name} to App(...), or name a function run(app)"
            )
    app.lifespan = app.lifespan and settings.lifespan
    return app


def _call(run: Callable[[App], object], app: App, name: str) -> None:
    """Registers the routes (F-L-06)."""
    try:
        result = run(app)
    except Exception as error:
        raise importer.LoadError(f"{name} failed", importer.report(error)) from error
    if inspect.iscoroutine(result):
        result.close()
        raise importer.LoadError(
            f"{name} returned a coroutine, which nobody awaits: make it a plain function"
        )


def _behavior(spec: str) -> Mapping[str, Any]:
    found = importer.load(spec)
    if isinstance(found, Mapping):
        return found
    if callable(found):
        raise _Refusal(
            f"--ws {spec} is no dict but an application: WebSockets of ASGI are not served beside socketify's routes"
        )
    raise importer.LoadError(f"--ws {spec} must be a behaviour, a dict as App.ws takes, not {found!r}")


def serve(
    settings: Settings,
    where: AppListenOptions | list[socket.socket],
    ready: Callable[[App, AppListenOptions], object],
    *,
    opening: Callable[[], object] | None = None,
    interrupt: bool = True,
) -> int:
    """Serves until a signal or :meth:`App.close`.

    Args:
        settings: What to serve.
        where: Where to listen; of several sockets, on each. They are closed when the application has them.
        ready: Called with the application and where it listens, just before it serves.
        opening: Called when the application has started, for sockets that do not listen yet.
        interrupt: Whether SIGINT ends it. A supervisor hears Ctrl+C too, and passes it on in its own way.

    Returns:
        The status to exit with. What is wrong has been said.

    Raises:
        SystemExit: The application, or a signal, wants the process to end.
    """

    def announce(config: AppListenOptions) -> None:
        app._hear_signals()
        try:
            ready(app, config)
        except BaseException:
            app._unhear_signals()
            raise

    try:
        app = prepare(settings)
        if not interrupt:
            app._stop_signals = (signal.SIGTERM,)
        app._opening = opening
        try:
            *others, last = where if isinstance(where, list) else [where]
            for other in others:
                app.listen(other)
            app.listen(last, announce)
            if isinstance(where, list):
                # Else nobody would be refused when the application accepts no more.
                for opened in where:
                    opened.close()
        except RuntimeError as error:
            # An error of an `on_start` hook goes to the error handler: this one is of the socket.
            complain(str(error))
            return FAILURE
        app.run()
    except importer.LoadError as error:
        complain(str(error), error.report)
        return FAILURE
    except _Refusal as error:
        complain(str(error))
        return USAGE
    return 0
