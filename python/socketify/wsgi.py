"""``WSGI``: a server for one WSGI application (PEP 3333)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .asgi_lifespan import lifespan_mode
from .fronts import Front, check_websocket_options, websocket_options
from .settings import FRONT_SETTINGS
from .websocket import SOCKET_LIMITS
from .wsgi_environ import base_environ

if TYPE_CHECKING:
    from .app import App
    from .options import AppOptions

__all__ = ["WSGI"]

_Application = Callable[..., Iterable[bytes]]


class WSGI(Front):
    """A server for an application of WSGI::

        WSGI(app).listen(8000).run()

    With one thread, the default, the application runs where the requests come in, one request at a time and on one thread.

    Args:
        app: The application, ``def app(environ, start_response)``.
        options: TLS settings, as of :class:`App`. None, the default, serves plain HTTP.
        websocket: A behaviour as :meth:`App.ws` takes it, for WebSockets of every path, or an ASGI application, which serves
            them on the event loop beside. None, the default: handshakes are requests like any other.
        websocket_options: Limits of WebSockets that differ from the defaults, which are those of :class:`ASGI`.
        task_factory_max_items: Accepted for compatibility; without effect.
        lifespan: Whether the ASGI application of ``websocket`` hears of start and end, as for :class:`ASGI`. Default False.
            A WSGI application hears nothing of them.
        root_path: Path under which proxies show the application, such as ``"/api"``: it is ``SCRIPT_NAME``, and cut off from
            paths that begin with it. Default ``""``.
        startup_timeout: Seconds that the ASGI application of ``websocket`` may take to start. None, the default, for as long
            as it takes.
        threads: How many requests may be in the application at a time. Default 1. With more, the application has threads of
            its own: as few as do, and never more than this.
        threads_idle_timeout: Seconds without work after which one of several threads ends. Default 30.
        environ: Whether ``environ`` has the variables of the process too, without those that could pass for the request's.
            Default True. False keeps secrets among them out of the error pages of frameworks.
        settings: Options of :class:`App`, such as ``max_body_size`` or ``shutdown_timeout``. ``io_threads`` is 1 by default.

    Raises:
        TypeError: An argument is unknown, or of a type that it does not take.
        ValueError: An argument is out of range. The message names it, its value and what it takes.
        RuntimeError: TLS cannot be set up; the message names the file and the reason.
    """

    interface = "wsgi"

    def __init__(
        self,
        app: _Application,
        options: AppOptions | None = None,
        websocket: Mapping[str, Any] | Callable[..., Awaitable[object]] | None = None,
        websocket_options: Mapping[str, Any] | None = None,
        task_factory_max_items: int = 100_000,
        lifespan: bool | Literal["auto", "on", "off"] = False,
        *,
        root_path: str = "",
        startup_timeout: float | None = None,
        threads: int = 1,
        threads_idle_timeout: float = 30.0,
        environ: bool = True,
        **settings: Any,
    ) -> None:
        if not callable(app):
            raise TypeError(
                f"app must be a WSGI application, a callable with environ and start_response, not {app!r}"
            )
        if websocket and not (isinstance(websocket, Mapping) or callable(websocket)):
            raise TypeError(
                f"websocket must be None, a behaviour as App.ws takes it, or an ASGI application, not {websocket!r}"
            )
        self._application = app
        self._websocket = websocket or None
        self._mode = lifespan_mode(lifespan) if callable(websocket) else "off"
        self._websocket_options = websocket_options
        self._root_path = FRONT_SETTINGS["root_path"].check(root_path)
        self._threads = FRONT_SETTINGS["threads"].check(threads) or 1
        idle = FRONT_SETTINGS["threads_idle_timeout"]
        self._idle = idle.default if threads_idle_timeout is None else idle.check(threads_idle_timeout)
        self._environ = environ
        self._startup_timeout = FRONT_SETTINGS["startup_timeout"].check(startup_timeout)
        settings.setdefault("io_threads", 1)
        super().__init__(options, self._mode != "off", task_factory_max_items, settings)

    def _mount(self, app: App) -> None:
        from .processes import link

        options = websocket_options(self._websocket_options)
        # Checked also where nothing is served by them.
        check_websocket_options(options)
        if isinstance(self._websocket, Mapping):
            app.ws("/*", {**SOCKET_LIMITS, **self._websocket, **options})
        elif self._websocket is not None:
            from .asgi import add_lifespan
            from .asgi_calls import mount

            # Its routes of HTTP are replaced below.
            mount(app, self._websocket, self._root_path, options)
            if self._mode != "off":
                add_lifespan(app, self._websocket, self._mode, self._startup_timeout)
        environ = base_environ(inherit=self._environ, threads=self._threads, multiprocess=link.several)
        app._server.mount_wsgi(self._application, self._root_path, environ, self._threads, self._idle)
