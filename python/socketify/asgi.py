"""``ASGI``: a server for one ASGI application, HTTP and WebSockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .asgi_calls import mount
from .asgi_lifespan import AsgiLifespan, StartupFailure, lifespan_mode
from .fronts import Front, check_websocket_options, websocket_options
from .settings import FRONT_SETTINGS
from .websocket import SOCKET_LIMITS

if TYPE_CHECKING:
    from .app import App
    from .options import AppOptions

__all__ = ["ASGI", "add_lifespan"]

logger = logging.getLogger("socketify")

_Application = Callable[..., Awaitable[object]]

#: Seconds that the application has for its shutdown, however long requests have taken.
_LEAST_SHUTDOWN = 5.0
#: Seconds that the task of a request has for its clean-up, once its client has been cut off and once it is cancelled.
_LEAST_FOR_REQUESTS = 1.0


class ASGI(Front):
    """A server for an application of ASGI 3::

        ASGI(app).listen(8000).run()

    Args:
        app: The application, ``async def app(scope, receive, send)``.
        options: TLS settings, as of :class:`App`. None, the default, serves plain HTTP.
        websocket: True, the default: the application serves WebSockets. A dict is a behaviour as :meth:`App.ws` takes it,
            for WebSockets of every path. An ASGI application serves them in place of ``app``. False, None: they are refused.
        websocket_options: Limits of WebSockets that differ from the defaults: keys of a behaviour, and ``compression`` may
            be True. Defaults: ``max_payload_length`` and ``max_backpressure`` 16 MiB, ``idle_timeout`` 20 seconds, pings, no
            compression.
        task_factory_max_items: Accepted for compatibility; without effect.
        lifespan: True or ``"auto"``, the default: an application that does not speak the lifespan protocol is served all the
            same. ``"on"``: that ends the program. False or ``"off"``: the application hears nothing of start and end.
        root_path: Path under which proxies show the application, such as ``"/api"``. Default ``""``.
        startup_timeout: Seconds that the application may take to start; then the program ends. None, the default, for as
            long as it takes.
        settings: Options of :class:`App`, such as ``max_body_size`` or ``shutdown_timeout``.

    Raises:
        TypeError: An argument is unknown, or of a type that it does not take.
        ValueError: An argument is out of range. The message names it, its value and what it takes.
        RuntimeError: TLS cannot be set up; the message names the file and the reason.
    """

    interface = "asgi"

    def __init__(
        self,
        app: _Application,
        options: AppOptions | None = None,
        websocket: bool | Mapping[str, Any] | _Application | None = True,
        websocket_options: Mapping[str, Any] | None = None,
        task_factory_max_items: int = 100_000,
        lifespan: bool | Literal["auto", "on", "off"] = True,
        *,
        root_path: str = "",
        startup_timeout: float | None = None,
        **settings: Any,
    ) -> None:
        if not callable(app):
            raise TypeError(
                f"app must be an ASGI application, a callable with scope, receive and send, not {app!r}"
            )
        if not (websocket is None or isinstance(websocket, (bool, Mapping)) or callable(websocket)):
            raise TypeError(
                "websocket must be True, False, None, a behaviour as App.ws takes it, or an ASGI application, "
                f"not {websocket!r}"
            )
        self._application = app
        self._websocket = websocket
        self._websocket_options = websocket_options
        self._mode = lifespan_mode(lifespan)
        self._root_path = FRONT_SETTINGS["root_path"].check(root_path)
        self._startup_timeout = FRONT_SETTINGS["startup_timeout"].check(startup_timeout)
        super().__init__(options, True, task_factory_max_items, settings)

    def _mount(self, app: App) -> None:
        options = websocket_options(self._websocket_options)
        # Checked also where nothing is served by them.
        check_websocket_options(options)
        application, limits = self._application, None
        if isinstance(self._websocket, Mapping):
            app.ws("/*", {**SOCKET_LIMITS, **self._websocket, **options})
        elif self._websocket:
            limits = options
            if callable(self._websocket):
                application = _divided(application, self._websocket)
        mount(app, application, self._root_path, limits)
        if self._mode != "off":
            add_lifespan(app, self._application, self._mode, self._startup_timeout)
        else:
            life = app._lifecycle
            # Requests have their time all the same.
            app.on_shutdown(lambda: _end_requests(app._calls.tasks, life.time_left(_LEAST_FOR_REQUESTS)))


def add_lifespan(
    app: App, application: _Application, mode: Literal["auto", "on", "off"], startup_timeout: float | None
) -> None:
    """Has an ASGI application hear of the start and the end of the App that serves it.

    Args:
        app: What listens and runs.
        application: The ASGI application.
        mode: What becomes of an application that does not speak the protocol.
        startup_timeout: Seconds that it may take to start; None for as long as it takes.
    """
    life = app._lifecycle
    protocol = AsgiLifespan(application, mode, startup_timeout, app._server.set_asgi_state)

    async def start() -> None:
        try:
            await protocol.start(life.shutdown_timeout)
        except StartupFailure as failure:
            if not life.loop.is_foreign:
                failure.tell()
            raise

    async def stop() -> None:
        try:
            await _end_requests(app._calls.tasks, life.time_left(_LEAST_FOR_REQUESTS))
        except asyncio.CancelledError:
            # Another signal: nobody waits for requests any more, and the application hears of the end all the same.
            logger.debug("requests are not waited for: a second signal has come")
        await protocol.stop(life.time_left(_LEAST_SHUTDOWN))
        if protocol.failed and not life.loop.is_foreign:
            raise SystemExit(1)

    app.on_start(start)
    app.on_shutdown(stop)
    life.interruptible = True


async def _end_requests(tasks: Iterable[asyncio.Task[Any]], patience: float) -> None:
    """Waits for the tasks of requests, whose clients have their responses or were cut off; then cancels what is left."""
    left = {task for task in tasks if task is not asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=patience)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_LEAST_FOR_REQUESTS)


def _divided(application: _Application, websocket: _Application) -> _Application:
    """One application for HTTP and another for WebSockets."""

    def divide(scope: Mapping[str, Any], receive: Any, send: Any) -> Awaitable[object]:
        return (websocket if scope["type"] == "websocket" else application)(scope, receive, send)

    return divide
