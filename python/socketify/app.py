"""``App``: routes, listening sockets, life cycle, and what happens to errors."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import inspect
import logging
import os
import signal
import sys
import threading
import time
import weakref
from asyncio import Task, current_task
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from . import json_default
from ._core import Server
from .extensions import AppExtension
from .handlers import is_async
from .loop import Loop
from .options import AppListenOptions, AppOptions, OpCode, listen_options
from .routers import DecoratorRouter
from .static import static_route
from .websocket import WebSocketBehavior, parse_behavior

if TYPE_CHECKING:
    from ._core import Request, Response, WebSocket
    from .handlers import AsyncHandler, ErrorHandler, Handler, Hook

__all__ = ["App"]

logger = logging.getLogger("socketify")

_H = TypeVar("_H", bound=Callable[..., Any])

#: Tasks cannot run their first step at once, so each is kept from its start.
_LATE_START = sys.version_info < (3, 12)

#: Seconds that a ``def`` handler has to return after the last deadline, before its thread is left behind.
_PATIENCE = 1.0

#: Applications whose threads run. They must end before the interpreter does.
_running: weakref.WeakSet[App] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for app in list(_running):
        app._server.close(0)
        app.loop.stop()
        # A daemon thread may be running it, and can finish for as long as the interpreter waits here.
        app._ended.wait(_PATIENCE)
        app.dispose()


async def _serve(app: App, handler: AsyncHandler, response: Response, request: Request) -> None:
    """The task of one request."""
    try:
        await handler(response, request)
        if request.get_yield():
            request._go_on(response)
    except Exception as error:
        app.trigger_error(error, response, None)
    except BaseException:
        # Cancelled: whoever waits for the answer must not wait for ever.
        response._fail()
        raise
    finally:
        if _LATE_START:
            # Cheaper than a callback of the task, which would cost a turn of the loop.
            app._tasks.discard(current_task())


async def _upgrade(handler: Callable[..., Any], context: Any, response: Response, request: Request) -> None:
    """An upgrade handler as one that takes two arguments."""
    await handler(response, request, context)


async def _tell(
    app: App,
    callback: Callable[..., Awaitable[Any]],
    arguments: tuple[Any, ...],
    socket: WebSocket,
    weight: int,
) -> None:
    """The task of one event of a socket."""
    try:
        await callback(*arguments)
    except Exception as error:
        app.trigger_error(error, None, None)
    finally:
        socket._done(weight)
        if _LATE_START:
            app._tasks.discard(current_task())


def _raise(error: BaseException) -> None:
    raise error


class App:
    """An HTTP server and its routes.

    ``def`` handlers run on the core's I/O threads, one at a time; ``async def`` handlers are asyncio tasks on the loop that
    :meth:`run` runs. Every method may be called from any thread.

    Args:
        options: TLS settings. Not served by this version: anything but None is an error.
        request_response_factory_max_items: Accepted for compatibility; without effect.
        websocket_factory_max_items: Accepted for compatibility; without effect.
        task_factory_max_items: Accepted for compatibility; without effect.
        lifespan: Whether ``on_start`` and ``on_shutdown`` hooks run.
        idle_relaxation_time: Accepted for compatibility; an idle server blocks in the operating system.
        sync_handlers: ``"io"`` runs ``def`` handlers on the I/O threads; ``"loop"`` on the loop's thread, for code that must
            be there.
        use_uvloop: True runs on uvloop, which has to be installed; False, the default, on asyncio's own loop, which takes
            its requests without a wake-up from the operating system.
        shutdown_timeout: Seconds that requests in progress have after :meth:`close` or a signal.
        io_threads: Threads that drive sockets. Default: half the cores, from 1 to 4.
        max_connections: Sockets open at a time; further clients wait. Default 65 536.
        max_header_bytes: Bytes of a request head; beyond them 431. Default 65 536.
        max_headers: Header lines of a request; beyond them 431. Default 100, at most 256.
        max_body_size: Bytes of a request body, counted as they arrive; beyond them 413. Default 100 MiB. A route may
            have its own.
        body_buffer: Bytes of a body held for a handler that has not asked for them; then the client has to wait.
            Default 65 536.
        header_timeout: Seconds for a request head to arrive; then 408. Default 10.
        keep_alive_timeout: Seconds a connection may be silent between requests. Default 75.
        body_timeout: Seconds a client may send nothing of a body that is waited for; then 408. Default 30.
        write_timeout: Seconds a client may take nothing of an answer; then it is cut off. Default 30.
        server_name: Value of the ``Server`` header; empty for none. Default ``"socketify"``.
        proxy_protocol: Whether a PROXY protocol v2 preface is understood. Default True; whoever reaches the port can
            then claim any address, so switch it off without a proxy in front if addresses matter.

    Raises:
        ValueError: A limit is out of range; the message names it.
    """

    def __init__(
        self,
        options: AppOptions | None = None,
        request_response_factory_max_items: int = 0,
        websocket_factory_max_items: int = 0,
        task_factory_max_items: int = 100_000,
        lifespan: bool = True,
        idle_relaxation_time: float = 0.01,
        *,
        sync_handlers: Literal["io", "loop"] = "io",
        use_uvloop: bool = False,
        shutdown_timeout: float = 5.0,
        io_threads: int | None = None,
        max_connections: int | None = None,
        max_header_bytes: int | None = None,
        max_headers: int | None = None,
        max_body_size: int | None = None,
        body_buffer: int | None = None,
        header_timeout: float | None = None,
        keep_alive_timeout: float | None = None,
        body_timeout: float | None = None,
        write_timeout: float | None = None,
        server_name: str | None = None,
        proxy_protocol: bool | None = None,
    ) -> None:
        if options is not None:
            raise NotImplementedError(
                "TLS is not served by this version: App(options=None) serves plain HTTP"
            )
        if sync_handlers not in ("io", "loop"):
            raise ValueError(f"sync_handlers must be 'io' or 'loop', not {sync_handlers!r}")
        if not shutdown_timeout >= 0:
            raise ValueError(f"shutdown_timeout must be a number of seconds from 0, not {shutdown_timeout!r}")
        self.is_ssl = False
        self.lifespan = lifespan
        self.shutdown_timeout = shutdown_timeout
        self.error_handler: ErrorHandler | None = None
        self._json_serializer: Any = json_default
        self._template: Any = None
        self._start_hook: Hook | None = None
        self._shutdown_hook: Hook | None = None
        self._started = False
        self._tasks: set[asyncio.Task[Any]] = set()
        # Those of close listeners, which the end waits for.
        self._last_words: set[asyncio.Task[Any]] = set()
        # Signals received in this run.
        self._signals = 0
        # The loop runs for the sake of requests, and not of a hook.
        self._serving = False
        self._hook_task: asyncio.Task[None] | None = None
        #: Set while `run` does not run.
        self._ended = threading.Event()
        self._ended.set()
        self._request_extension = AppExtension()
        self._response_extension = AppExtension()
        self._websocket_extension = AppExtension()
        try:
            asyncio.get_running_loop()
            # A loop that is not ours cannot be used from I/O threads, so its handlers stay on its own.
            inside = True
        except RuntimeError:
            inside = False
        limits = {
            "io_threads": io_threads,
            "max_connections": max_connections,
            "max_header_bytes": max_header_bytes,
            "max_headers": max_headers,
            "max_body_size": max_body_size,
            "body_buffer": body_buffer,
            "header_timeout": header_timeout,
            "keep_alive_timeout": keep_alive_timeout,
            "body_timeout": body_timeout,
            "write_timeout": write_timeout,
            "server_name": server_name,
            "proxy_protocol": proxy_protocol,
        }
        self._server = Server(self, self._json_serializer, sync_handlers == "loop" or inside, limits)
        self.loop = Loop(
            lambda _loop, error, response: self.trigger_error(error, response, None),
            task_factory_max_items,
            idle_relaxation_time,
            server=self._server,
            use_uvloop=use_uvloop,
        )
        self._server.set_event_loop(self.loop.loop)

    # ---- routes -----------------------------------------------------------------------------------------------------

    def _route(
        self, method: str | None, path: str, handler: Handler | None, max_body_size: int | None = None
    ) -> App:
        if not callable(handler):
            raise TypeError(f"the handler of {path!r} must be callable, not {handler!r}")
        if not self._server.add_route(method, path, handler, is_async(handler), max_body_size):
            logger.warning("route %r: nothing after a '*' is ever matched", path)
        return self

    def get(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes GET requests of ``path`` to ``handler(res, req)``; HEAD too, where no other route answers it.

        Args:
            path: Segments are literal, ``:name`` (one segment, a parameter) or ``*`` (the rest). Literal goes before
                parameter before ``*``, whatever the order of registration. A handler registered again replaces the earlier.
            handler: Called as ``(res, req)``; ``def`` or ``async def``.
            max_body_size: Bytes of request body this route takes, in place of the application's limit.

        Returns:
            The application.

        Raises:
            ValueError: The pattern is malformed; the message names it.
            TypeError: The handler cannot be called.
        """
        return self._route("GET", path, handler, max_body_size)

    def post(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes POST requests; see :meth:`get`."""
        return self._route("POST", path, handler, max_body_size)

    def options(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes OPTIONS requests; see :meth:`get`."""
        return self._route("OPTIONS", path, handler, max_body_size)

    def delete(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes DELETE requests; see :meth:`get`."""
        return self._route("DELETE", path, handler, max_body_size)

    def patch(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes PATCH requests; see :meth:`get`."""
        return self._route("PATCH", path, handler, max_body_size)

    def put(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes PUT requests; see :meth:`get`."""
        return self._route("PUT", path, handler, max_body_size)

    def head(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes HEAD requests; see :meth:`get`."""
        return self._route("HEAD", path, handler, max_body_size)

    def connect(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes CONNECT requests; see :meth:`get`."""
        return self._route("CONNECT", path, handler, max_body_size)

    def trace(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes TRACE requests; see :meth:`get`."""
        return self._route("TRACE", path, handler, max_body_size)

    def any(self, path: str, handler: Handler, *, max_body_size: int | None = None) -> App:
        """Routes requests of every method, after handlers of the same pattern for one method; see :meth:`get`."""
        return self._route(None, path, handler, max_body_size)

    def ws(self, path: str, behavior: WebSocketBehavior | Mapping[str, Any]) -> App:
        """Serves WebSockets at ``path``. Requests there that are no handshake go to the HTTP routes.

        Args:
            path: As for :meth:`get`; parameters are read in the ``upgrade`` listener.
            behavior: Limits and listeners, a dict with any of the keys of :class:`WebSocketBehavior`.

        Returns:
            The application.

        Raises:
            TypeError: The behaviour is no dict, or a value is of the wrong type; the message names the key.
            ValueError: A key is unknown, a number is out of range, or the pattern is malformed.
        """
        limits, listeners = parse_behavior(path, behavior)
        if not self._server.add_websocket(path, limits, listeners, behavior):
            logger.warning("route %r: nothing after a '*' is ever matched", path)
        return self

    def publish(
        self, topic: str | bytes, message: Any, opcode: OpCode | int = OpCode.BINARY, compress: bool = False
    ) -> bool:
        """Sends a message to every WebSocket that is subscribed to a topic. It is encoded, and compressed, once.

        Args:
            topic: The topic; text and its UTF-8 bytes are the same, and nothing in it is a wildcard.
            message: ``str``, bytes-like, None for an empty message; anything else goes through the JSON serializer.
            opcode: ``OpCode.BINARY`` or ``OpCode.TEXT``.
            compress: Whether to compress it for the sockets that agreed to compression.

        Returns:
            Whether anybody is subscribed. A subscriber for whom too much waits already does not get the message.

        Raises:
            ValueError: The opcode is neither, or a TEXT message is not UTF-8.
        """
        return self._server.publish(topic, message, opcode, compress)

    def num_subscribers(self, topic: str | bytes) -> int:
        """How many WebSockets are subscribed to exactly this topic.

        Raises:
            RuntimeError: The topic is neither ``str`` nor bytes.
        """
        return self._server.num_subscribers(topic)

    def constant(
        self,
        path: str,
        message: Any,
        content_type: str | bytes | None = None,
        status: int = 200,
        headers: Iterable[tuple[str | bytes, str | bytes | int]] | None = None,
        *,
        method: str | None = "GET",
    ) -> App:
        """An answer that never changes, given by the core without running Python: a health check, a robots.txt.

        Args:
            path: As for :meth:`get`.
            message: ``str``, bytes-like, or anything the JSON serializer takes, converted now.
            content_type: Default ``text/plain``, or ``application/json`` for what went through the serializer.
            status: From 200 to 599.
            headers: Further headers.
            method: The method, or None for every method.

        Returns:
            The application.
        """
        plain = isinstance(message, (str, bytes, bytearray, memoryview))
        given = content_type or ("text/plain" if plain else "application/json")
        pairs = [("Content-Type", given), *(headers or ())]
        self._server.add_constant(method, path, status, pairs, message)
        return self

    def static(self, route: str, directory: str | os.PathLike[str]) -> App:
        """Serves the files of ``directory`` below ``route``."""
        static_route(self, route, os.fspath(directory))
        return self

    def router(self, prefix: str = "", *middlewares: Callable[..., Any]) -> DecoratorRouter:
        """Decorators that register routes: ``@router.get("/")``."""
        return DecoratorRouter(self, prefix, *middlewares)

    def register(self, extension: Callable[[AppExtension, AppExtension, AppExtension], object]) -> App:
        """Adds methods and properties to requests, responses and WebSockets, those of routes already registered as well.

        Args:
            extension: Called once as ``extension(request, response, websocket)``; each is an :class:`AppExtension`. May be
                called for several extensions, whose additions add up.

        Returns:
            The application.
        """
        extension(self._request_extension, self._response_extension, self._websocket_extension)
        if not (self._request_extension.empty and self._response_extension.empty):
            self._server.set_extender(self._extend)
        if not self._websocket_extension.empty:
            self._server.set_socket_extender(self._extend_socket)
        return self

    def _extend_socket(self, socket: WebSocket) -> None:
        self._websocket_extension.set_properties(socket)
        self._websocket_extension.bind_methods(socket)

    def _extend(self, response: Response, request: Request) -> None:
        for additions, instance in ((self._request_extension, request), (self._response_extension, response)):
            additions.set_properties(instance)
            additions.bind_methods(instance)

    # ---- settings ---------------------------------------------------------------------------------------------------

    def json_serializer(self, module: Any) -> App:
        """Uses ``module.dumps`` and ``module.loads`` wherever JSON is made or read.

        Raises:
            TypeError: It has not both.
        """
        for name in ("dumps", "loads"):
            if not callable(getattr(module, name, None)):
                raise TypeError(f"a JSON serializer needs dumps and loads; {module!r} has no {name}")
        self._json_serializer = module
        self._server.set_serializer(module)
        return self

    def template(self, engine: Any) -> App:
        """Uses ``engine.render(*args, **kwargs)`` for ``res.render``.

        Raises:
            TypeError: It has no ``render``.
        """
        if not callable(getattr(engine, "render", None)):
            raise TypeError(f"a template engine needs render; {engine!r} has none")
        self._template = engine
        return self

    def _render(self, *args: Any, **kwargs: Any) -> Any:
        if self._template is None:
            raise RuntimeError("No registered templated engine")
        return self._template.render(*args, **kwargs)

    def on_start(self, method: _H) -> _H:
        """Registers the hook that runs once, before the first socket is bound: ``def`` or ``async def``, without
        arguments. The last one registered counts. An exception is reported and serving goes on; ``sys.exit(1)`` ends
        the process."""
        self._start_hook = method
        return method

    def on_shutdown(self, method: _H) -> _H:
        """Registers the hook that runs after the last request, before :meth:`run` returns; see :meth:`on_start`."""
        self._shutdown_hook = method
        return method

    def on_error(self, handler: _H) -> _H:
        """:meth:`set_error_handler` as a decorator."""
        self.set_error_handler(handler)
        return handler

    def set_error_handler(self, handler: ErrorHandler | None) -> App:
        """Has ``handler(error, res, req)`` called when a handler fails: ``def`` or ``async def``.

        ``req`` is None when the error came from a coroutine, and ``res`` too when no response belongs to it. Without a
        handler (or with something that cannot be called) errors are logged and answered with 500.
        """
        self.error_handler = handler if callable(handler) else None
        return self

    # ---- errors -----------------------------------------------------------------------------------------------------

    def trigger_error(self, error: BaseException, response: Response | None, request: Request | None) -> None:
        """Reports an error as if a handler had raised it."""
        if response is not None:
            response._reset()
        self._handler_failed(error, response, request)

    def _handler_failed(
        self, error: BaseException, response: Response | None, request: Request | None
    ) -> None:
        handler = self.error_handler
        # SystemExit and the like are no failure that a handler could explain; on this thread they can only be told.
        if handler is None or not isinstance(error, Exception):
            logger.error("Uncaught Exception: %s", error, exc_info=error)
            if response is not None:
                response._fail()
            return
        try:
            result = handler(error, response, request)
        except Exception as second:
            self._error_handler_failed(second, response)
            return
        if inspect.isawaitable(result):
            self._on_loop(lambda: self._keep(self.loop.loop.create_task(self._report(result, response))))

    async def _report(self, result: Awaitable[Any], response: Response | None) -> None:
        try:
            await result
        except Exception as error:
            self._error_handler_failed(error, response)

    @staticmethod
    def _error_handler_failed(error: BaseException, response: Response | None) -> None:
        logger.error("The error handler failed: %s", error, exc_info=error)
        if response is not None:
            response._fail()

    # ---- tasks ------------------------------------------------------------------------------------------------------

    def run_async(self, task: Coroutine[Any, Any, Any], response: Response | None = None) -> None:
        """Runs a coroutine as a task of the application's loop, from any thread.

        Its failure goes to the error handler, with ``response`` if one is given. Before :meth:`run` it waits for the loop.
        """
        self._spawn(task, response)

    def _spawn(self, task: Awaitable[Any], response: Response | None) -> None:
        self._on_loop(lambda: self._keep(self.loop.loop.create_task(self._guard_awaitable(task, response))))

    def _on_loop(self, act: Callable[[], None]) -> None:
        loop = self.loop.loop
        if asyncio._get_running_loop() is loop and not self._is_elsewhere():
            act()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(act)

    def _is_elsewhere(self) -> bool:
        owner = getattr(self.loop.loop, "_owner", None)
        return owner is not None and owner != threading.get_ident()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        # asyncio itself keeps only weak references to tasks.
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _guard_awaitable(self, task: Awaitable[Any], response: Response | None) -> None:
        try:
            await task
        except Exception as error:
            self.trigger_error(error, response, None)
        except BaseException:
            if response is not None:
                response._fail()
            raise

    if sys.version_info >= (3, 12):

        def _start_handler(
            self, handler: AsyncHandler, response: Response, request: Request, *context: Any
        ) -> None:
            if context:
                handler = functools.partial(_upgrade, handler, context[0])
            # Its first step runs here and now, so what answers without waiting costs no turn of the loop.
            try:
                task = Task(_serve(self, handler, response, request), loop=self.loop.loop, eager_start=True)
            except (SystemExit, KeyboardInterrupt) as error:
                # The request has had its answer. As from any later step of a task, this ends the loop.
                self.loop.loop.call_soon(_raise, error)
            else:
                self._keep(task)

        def _start_event(
            self,
            callback: Callable[..., Awaitable[Any]],
            arguments: tuple[Any, ...],
            socket: WebSocket,
            weight: int,
            last: bool,
        ) -> None:
            coroutine = _tell(self, callback, arguments, socket, weight)
            try:
                task = Task(coroutine, loop=self.loop.loop, eager_start=True)
            except (SystemExit, KeyboardInterrupt) as error:
                self.loop.loop.call_soon(_raise, error)
                return
            self._keep(task)
            if last and not task.done():
                self._remember(task)

    else:

        def _start_handler(
            self, handler: AsyncHandler, response: Response, request: Request, *context: Any
        ) -> None:
            if context:
                handler = functools.partial(_upgrade, handler, context[0])
            self._tasks.add(Task(_serve(self, handler, response, request), loop=self.loop.loop))

        def _start_event(
            self,
            callback: Callable[..., Awaitable[Any]],
            arguments: tuple[Any, ...],
            socket: WebSocket,
            weight: int,
            last: bool,
        ) -> None:
            task = Task(_tell(self, callback, arguments, socket, weight), loop=self.loop.loop)
            self._tasks.add(task)
            if last:
                self._remember(task)

    def _remember(self, task: asyncio.Task[Any]) -> None:
        self._last_words.add(task)
        task.add_done_callback(self._last_words.discard)

    def _feed(
        self, handler: Callable[..., Awaitable[Any]], response: Response, chunk: bytes, is_end: bool
    ) -> None:
        async def feed() -> None:
            try:
                await self._guard_awaitable(handler(response, chunk, is_end), response)
            finally:
                response._resume_body()

        self._keep(self.loop.loop.create_task(feed()))

    _is_coroutine = staticmethod(is_async)

    # ---- life -------------------------------------------------------------------------------------------------------

    def listen(
        self,
        port_or_options: int | Mapping[str, Any] | AppListenOptions | Any | None = None,
        handler: Callable[[AppListenOptions], object] | None = None,
    ) -> App:
        """Binds a listening socket; :meth:`run` serves it. May be called several times.

        Args:
            port_or_options: A port (0 or None: any free one) on every interface, a dict with ``port``, ``host`` and
                ``options``, an :class:`AppListenOptions`, or any object with its attributes. ``options=1`` refuses to share
                the port. ``domain`` is the path of a Unix socket; a stale file there is replaced.
            handler: Called with the :class:`AppListenOptions` in effect: its ``port`` is the real one.

        Returns:
            The application.

        Raises:
            RuntimeError: The socket cannot be bound; the message names host, port and reason.
        """
        options = listen_options(port_or_options)
        if not self._started:
            self._started = True
            self._run_hook(self._start_hook)
        try:
            port = self._server.bind(options.host, options.port, bool(options.options & 1), options.domain)
        except OSError as error:
            where = f"domain {options.domain}" if options.domain else f"port {options.port}"
            host = "" if options.domain else f" of host {options.host or 'any'}"
            reason = error.strerror or str(error).partition(" (os error ")[0]
            raise RuntimeError(f"Failed to listen on {where}{host}: {reason}") from error
        options.port = port
        if self.loop.is_foreign and not self._server.is_running():
            self._begin()
        if handler is not None:
            handler(options)
        return self

    def run(self) -> App:
        """Serves until :meth:`close` or a signal, then runs the shutdown hook.

        SIGINT and SIGTERM (when called on the main thread) close the application and raise ``SystemExit(0)`` out of here
        once it has closed; a second signal ends what is in flight at once.

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
        restore = self._install_signals()
        try:
            self._begin()
            self._serving = True
            try:
                self.loop.run()
            finally:
                self._serving = False
                self._server.close(0)
                self._finish()
        finally:
            restore()
            self._ended.set()
        if self._signals:
            raise SystemExit(0)
        return self

    def close(self) -> App:
        """Stops accepting, lets requests in progress finish for up to ``shutdown_timeout`` seconds, then stops.

        Returns at once, from any thread or handler. Calling it again does nothing.
        """
        self._server.close(self.shutdown_timeout)
        return self

    def dispose(self) -> None:
        """Closes the application and frees its loop. Calling it again does nothing."""
        self._server.close(0)
        if not self.loop.loop.is_running():
            self._end_threads()
            self.loop.dispose()

    def __del__(self) -> None:
        # Made and never disposed of: the threads are ended already, or the core would hold this object.
        with contextlib.suppress(Exception):
            self.dispose()

    def _begin(self) -> None:
        self._server.start(self.loop.loop)
        _running.add(self)

    def _drained(self) -> None:
        """The core has finished its last request."""
        if self._last_words and self._signals < 2:
            # Every socket has been told of its end: those who act on it have the same time to finish as requests had.
            self._spawn(self._hear_out(), None)
            return
        self._stop_serving()

    async def _hear_out(self) -> None:
        # Some may have ended between the two turns of the loop, and to wait for none is an error.
        if tasks := set(self._last_words):
            await asyncio.wait(tasks, timeout=self.shutdown_timeout)
        self._last_words.clear()
        self._stop_serving()

    def _stop_serving(self) -> None:
        if self.loop.is_foreign:
            self._run_hook(self._shutdown_hook)
            self._end_threads()
        elif self._serving:
            # Else a second signal was faster, and the loop runs the shutdown hook.
            self.loop.loop.stop()

    def _finish(self) -> None:
        try:
            self._run_hook(self._shutdown_hook)
        finally:
            self._end_threads()
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            # A task may refuse to be cancelled; it does not keep the process.
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1))

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
            self.loop.run_until_complete(self._hook_task)
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

    def _install_signals(self) -> Callable[[], None]:
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        loop = self.loop.loop
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in previous:
            loop.add_signal_handler(number, self._on_signal)

        def restore() -> None:
            for number, handler in previous.items():
                loop.remove_signal_handler(number)
                if handler is not None:
                    signal.signal(number, handler)

        return restore

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self.close()
        # Asked twice: whoever asks does not want to wait.
        elif self._serving:
            self.loop.loop.stop()
        elif self._hook_task is not None:
            self._hook_task.cancel()

    # ---- others -----------------------------------------------------------------------------------------------------

    def get_native_handle(self) -> int:
        """A number that names the application within the process. There is no pointer behind it."""
        return id(self)
