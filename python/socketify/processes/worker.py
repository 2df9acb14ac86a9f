"""What a process of the command line does: it loads the application, listens and serves."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..app import App
from ..asgi_lifespan import StartupFailure
from ..fronts import Front
from ..options import AppListenOptions
from ..settings import SETTINGS
from ..websocket import SOCKET_LIMITS
from . import importer
from .console import FAILURE, USAGE, complain
from .flags import said
from .logs import LogError, configure
from .surroundings import enter

if TYPE_CHECKING:
    import socket

    from .invocation import Invocation

__all__ = ["Refusal", "prepare", "serve", "serve_app", "serve_files"]

#: Seconds that requests in progress have at the end of a command that serves a foreign interface, as with gunicorn.
_FOREIGN_GRACE = 30.0
#: Under --reload, where somebody waits.
_RELOAD_GRACE = 1.0


class Refusal(Exception):
    """The command line asks for what there is not."""


def prepare(invocation: Invocation) -> App:
    """Loads what the command line names, and makes an application of it that is ready to listen.

    Raises:
        LoadError: It cannot be loaded, or is nothing that can be served.
        Refusal: It is of an interface that is not served, or options do not go with it.
    """
    target = invocation.target
    found = importer.load(target) if isinstance(target, str) else target
    kind, found = importer.application(found, invocation.interface, factory=invocation.factory)
    invocation.kind = kind
    if isinstance(found, App):
        app = _ready_made(invocation, found)
    elif isinstance(found, Front):
        app = _ready_made(invocation, found._app)
    elif kind == importer.NATIVE:
        app = _fresh(invocation)
        _call(found, app, invocation.name)
    else:
        return _foreign(invocation, kind, found)
    if kind == importer.NATIVE:
        _without_effect(invocation, invocation.front_options, "it is for applications of ASGI and WSGI")
    if invocation.websocket is not None:
        _mount(invocation, app, _behavior(invocation, invocation.websocket))
    elif invocation.websocket_options:
        complain("the --ws-... options do not apply to app.ws(...): they need --ws MODULE:DICT")
    return app


def _without_effect(invocation: Invocation, names: Iterable[str], why: str) -> None:
    for name in names:
        complain(f"{said(name, invocation.variables)} has no effect: {why}")


def _mount(invocation: Invocation, app: App, behavior: Mapping[str, Any]) -> None:
    own = {key: value for key, value in behavior.items() if value is not None}
    try:
        app.ws("/*", {**SOCKET_LIMITS, **own, **invocation.websocket_options})
    except (TypeError, ValueError) as error:
        raise importer.LoadError(f"{_said_ws(invocation)}: {error}") from error


def _foreign(invocation: Invocation, kind: str, found: Any) -> App:
    """The inner application of a server for a foreign interface."""
    options = {**invocation.app_options, **invocation.front_options, "lifespan": invocation.lifespan}
    options.setdefault("shutdown_timeout", _RELOAD_GRACE if invocation.reload else _FOREIGN_GRACE)
    options.pop("request_response_factory_max_items", None)
    options.pop("websocket_factory_max_items", None)
    if kind == "asgi":
        threads = [name for name in ("threads", "threads_idle_timeout") if name in options]
        _without_effect(invocation, threads, "it is for applications of WSGI")
        for name in threads:
            del options[name]
    # A WSGI application serves none itself.
    websocket: Any = invocation.websockets and kind != "wsgi"
    if invocation.websocket is not None:
        websocket = invocation.websocket
        if isinstance(websocket, str):
            websocket = importer.load(websocket)
        if not (isinstance(websocket, Mapping) or callable(websocket)):
            raise importer.LoadError(
                f"{_said_ws(invocation)} must be a behaviour, a dict as App.ws takes, or an ASGI application, "
                f"not {websocket!r}"
            )
    if kind == "wsgi":
        # What hears of start and end there is an ASGI application for WebSockets.
        options["lifespan"] = callable(websocket) and invocation.lifespan != "off"
    try:
        made: Front = _server(kind, invocation)(
            found, invocation.tls, websocket, invocation.websocket_options, **options
        )
        return made._app
    except NotImplementedError as error:
        raise Refusal(str(error)) from error
    except RuntimeError as error:
        # A file or an option of TLS is wrong: it says which.
        raise importer.LoadError(str(error)) from error
    except (TypeError, ValueError) as error:
        raise Refusal(str(error)) from error


def _fresh(invocation: Invocation) -> App:
    try:
        options = dict(invocation.app_options)
        if invocation.reload:
            options.setdefault("shutdown_timeout", _RELOAD_GRACE)
        return App(invocation.tls, lifespan=invocation.lifespan != "off", **options)
    except RuntimeError as error:
        # A file or an option of TLS is wrong: it says which.
        raise importer.LoadError(str(error)) from error
    except ValueError as error:
        raise Refusal(str(error)) from error


def _ready_made(invocation: Invocation, app: App) -> App:
    """An application that the module has made: what can only be said when it is made is an error here."""
    if app._lifecycle.has_listened:
        raise importer.LoadError(
            f"{invocation.name} listens already: leave listen() and run() to the command line, "
            'or put them under if __name__ == "__main__"'
        )
    late = [("ssl_keyfile", "AppOptions")] if invocation.tls is not None else []
    late += [(setting.option, setting.name) for setting in SETTINGS if setting.name in invocation.app_options]
    late += [(name, name) for name in invocation.front_options]
    for option, argument in late:
        raise Refusal(
            f"{invocation.name} is an App that has been made already, so {said(option, invocation.variables)} "
            f"comes too late: pass {argument} to App(...), or name a function run(app)"
        )
    app.lifespan = app.lifespan and invocation.lifespan != "off"
    if invocation.reload:
        app.shutdown_timeout = min(app.shutdown_timeout, _RELOAD_GRACE)
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


def _server(kind: str, invocation: Invocation) -> Callable[..., Any]:
    """The class of servers for an interface. They take the same arguments."""
    if kind == "asgi":
        from ..asgi import ASGI

        return ASGI
    if kind == "wsgi":
        from ..wsgi import WSGI

        return WSGI
    if kind == "rsgi":
        from ..rsgi import RSGI

        return RSGI
    raise Refusal(
        f"{invocation.name} is an application of the interface {kind.upper()}, which this version does not serve yet: "
        "it serves ASGI, WSGI, RSGI, def run(app), an App, or a factory of one of them"
    )


def _said_ws(invocation: Invocation) -> str:
    named = said("ws", invocation.variables)
    return f"{named} {invocation.websocket}" if isinstance(invocation.websocket, str) else named


def _behavior(invocation: Invocation, spec: Any) -> Mapping[str, Any]:
    found = importer.load(spec) if isinstance(spec, str) else spec
    if isinstance(found, Mapping):
        return found
    if callable(found):
        raise Refusal(
            f"{_said_ws(invocation)} is no dict but an application: WebSockets of ASGI are not served beside socketify's "
            "routes"
        )
    raise importer.LoadError(
        f"{_said_ws(invocation)} must be a behaviour, a dict as App.ws takes, not {found!r}"
    )


def serve_files(invocation: Invocation, app: App) -> None:
    """Has an application serve the directories of ``--static``."""
    options = invocation.static_options
    for route, directory in invocation.static:
        app.static(route, directory, index=options.get("index"), cache_control=options.get("cache_control"))


def serve_app(
    app: App,
    where: Sequence[AppListenOptions | socket.socket],
    ready: Callable[[list[AppListenOptions]], object],
    *,
    opening: Callable[[], object] | None = None,
    interrupt: bool = True,
) -> None:
    """Listens and serves until a signal or :meth:`App.close`.

    Args:
        app: The application.
        where: Where to listen. Sockets are closed when the application has them.
        ready: Called with where it listens, just before it serves.
        opening: Called when the application has started, for sockets that do not listen yet.
        interrupt: Whether SIGINT ends it. A supervisor hears Ctrl+C too, and passes it on in its own way.

    Raises:
        RuntimeError: It cannot listen.
        SystemExit: The application, or a signal, wants the process to end.
    """
    configs: list[AppListenOptions] = []

    def announce(config: AppListenOptions) -> None:
        configs.append(config)
        if len(configs) < len(where):
            return
        app._lifecycle.signals.hear(app.loop.loop)
        try:
            ready(configs)
        except BaseException:
            app._lifecycle.signals.unhear()
            raise

    if not interrupt:
        app._lifecycle.signals.ending = (signal.SIGTERM,)
    app._lifecycle.opening = opening
    for each in where:
        app.listen(each, announce)
    for each in where:
        if not isinstance(each, AppListenOptions):
            # Else clients would not be refused when the application accepts no more.
            each.close()
    app.run()


def check(invocation: Invocation, count: int) -> int:
    """Loads an application, and says what would be served.

    Args:
        invocation: What to serve.
        count: How many processes are to serve it.

    Returns:
        The status to exit with. What is wrong has been said.
    """

    def show(app: App) -> None:
        places = [
            where.domain
            or (f"descriptor {where.fd}" if where.fd is not None else f"{where.host or '*'}:{where.port}")
            if isinstance(where, AppListenOptions)
            else str(where)
            for where in invocation.places(exclusive=False)
        ]
        processes = f"{count} processes" if count > 1 else "one process"
        tls = "with TLS" if app.is_ssl else "without TLS"
        print(
            f"{invocation.name} ({invocation.kind}) would be served at {', '.join(places)} by {processes}, {tls}"
        )

    return _loaded(invocation, show)


def serve(
    invocation: Invocation,
    where: Sequence[AppListenOptions | socket.socket],
    ready: Callable[[App, list[AppListenOptions]], object],
    *,
    opening: Callable[[], object] | None = None,
    interrupt: bool = True,
) -> int:
    """Loads an application, and serves it; see :func:`serve_app`.

    Args:
        invocation: What to serve.
        where: Where to listen.
        ready: Called with the application and where it listens, just before it serves.
        opening: Called when the application has started, for sockets that do not listen yet.
        interrupt: Whether SIGINT ends it.

    Returns:
        The status to exit with. What is wrong has been said.

    Raises:
        SystemExit: The application, or a signal, wants the process to end.
    """

    def act(app: App) -> None:
        app._lifecycle.shutdown_delay = invocation.shutdown_delay
        serve_app(app, where, lambda configs: ready(app, configs), opening=opening, interrupt=interrupt)

    return _loaded(invocation, act)


def _loaded(invocation: Invocation, act: Callable[[App], object]) -> int:
    """Loads an application, and does something with it. Gives the status to exit with; what is wrong has been said."""
    try:
        enter(invocation.app_dir, invocation.pythonpath)
        configure(invocation.log_level, invocation.log_config, silent=not invocation.log)
        app = prepare(invocation)
        serve_files(invocation, app)
        try:
            act(app)
        except StartupFailure:
            return FAILURE
        except RuntimeError as error:
            # An error of an `on_start` hook goes to the error handler: this one is of the socket.
            complain(str(error))
            return FAILURE
    except LogError as error:
        complain(f"{said('log_config', invocation.variables)}: {error}")
        return USAGE
    except importer.Mismatch as error:
        complain(str(error))
        return USAGE
    except importer.LoadError as error:
        complain(str(error), error.report)
        return FAILURE
    except Refusal as error:
        complain(str(error))
        return USAGE
    return 0
