"""What a process of the command line does: it loads the application, listens and serves."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..app import App
from ..options import AppListenOptions
from ..settings import SETTINGS
from . import importer
from .console import FAILURE, USAGE, complain
from .flags import said

if TYPE_CHECKING:
    import socket

    from .invocation import Invocation

__all__ = ["prepare", "serve"]

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


class _Refusal(Exception):
    """The command line asks for what there is not."""


def prepare(invocation: Invocation) -> App:
    """Loads what the command line names, and makes an application of it that is ready to listen.

    Raises:
        LoadError: It cannot be loaded, or is nothing that can be served.
        _Refusal: It is of an interface that is not served.
    """
    kind, target = importer.application(importer.load(invocation.target), invocation.interface)
    if kind != importer.NATIVE:
        raise _Refusal(
            f"{invocation.target} is an application of the interface {kind.upper()}, which this version does not serve "
            "yet: it serves def run(app), an App, or a factory of one of them"
        )
    behavior = None if invocation.websocket is None else _behavior(invocation, invocation.websocket)
    if isinstance(target, App):
        app = _ready_made(invocation, target)
    else:
        app = _fresh(invocation)
        _call(target, app, invocation.target)
    if behavior is not None:
        own = {key: value for key, value in behavior.items() if value is not None}
        try:
            app.ws("/*", {**_WS_DEFAULTS, **own, **invocation.websocket_options})
        except (TypeError, ValueError) as error:
            named = said("ws", invocation.variables)
            raise importer.LoadError(f"{named} {invocation.websocket}: {error}") from error
    return app


def _fresh(invocation: Invocation) -> App:
    try:
        return App(invocation.tls, lifespan=invocation.lifespan, **invocation.app_options)
    except RuntimeError as error:
        # A file or an option of TLS is wrong: it says which.
        raise importer.LoadError(str(error)) from error
    except ValueError as error:
        raise _Refusal(str(error)) from error


def _ready_made(invocation: Invocation, app: App) -> App:
    """An application that the module has made: what can only be said when it is made is an error here."""
    if app._lifecycle.has_listened:
        raise importer.LoadError(
            f"{invocation.target} listens already: leave listen() and run() to the command line, "
            'or put them under if __name__ == "__main__"'
        )
    late = [("ssl_keyfile", "AppOptions")] if invocation.tls is not None else []
    late += [(setting.name, setting.name) for setting in SETTINGS if setting.name in invocation.app_options]
    for option, argument in late:
        raise _Refusal(
            f"{invocation.target} is an App that has been made already, so {said(option, invocation.variables)} "
            f"comes too late: pass {argument} to App(...), or name a function run(app)"
        )
    app.lifespan = app.lifespan and invocation.lifespan
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
            f"{name} returned a coroutine, which is never awaited: make it a plain function"
        )


def _behavior(invocation: Invocation, spec: str) -> Mapping[str, Any]:
    found = importer.load(spec)
    if isinstance(found, Mapping):
        return found
    named = said("ws", invocation.variables)
    if callable(found):
        raise _Refusal(
            f"{named} {spec} is no dict but an application: WebSockets of ASGI are not served beside socketify's routes"
        )
    raise importer.LoadError(f"{named} {spec} must be a behaviour, a dict as App.ws takes, not {found!r}")


def serve(
    invocation: Invocation,
    where: AppListenOptions | list[socket.socket],
    ready: Callable[[App, AppListenOptions], object],
    *,
    opening: Callable[[], object] | None = None,
    interrupt: bool = True,
) -> int:
    """Serves until a signal or :meth:`App.close`.

    Args:
        invocation: What to serve.
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
        app._lifecycle.signals.hear(app.loop.loop)
        try:
            ready(app, config)
        except BaseException:
            app._lifecycle.signals.unhear()
            raise

    try:
        app = prepare(invocation)
        if not interrupt:
            app._lifecycle.signals.ending = (signal.SIGTERM,)
        app._lifecycle.opening = opening
        try:
            *others, last = where if isinstance(where, list) else [where]
            for other in others:
                app.listen(other)
            app.listen(last, announce)
            if isinstance(where, list):
                # Else clients would not be refused when the application accepts no more.
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
