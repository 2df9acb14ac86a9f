"""``App``: what it is made of, and its methods.

``route_table`` has its routes, ``lifecycle`` starts and ends it, ``calls`` runs its handlers, ``server_names`` has its names
and certificates.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from . import json_default
from ._core import Request, Response, Server, WebSocket
from .calls import Calls, Hooks
from .compression import Compression, compression_settings
from .domains import Domain
from .extensions import AppExtension
from .lifecycle import Lifecycle
from .lifespan import Lifespan
from .loop import Loop
from .options import AppListenOptions, AppOptions, OpCode
from .route_table import RouteTable
from .routes import Routes
from .server_names import ServerNames, check_options
from .settings import BY_NAME, check

if TYPE_CHECKING:
    from typing_extensions import Self

    from .access_log import AccessLog
    from .handlers import ErrorHandler

__all__ = ["App"]

logger = logging.getLogger("socketify")

_Hook = TypeVar("_Hook", bound=Callable[[], object])
_MissingHandler = TypeVar("_MissingHandler", bound="Callable[[str], object] | None")
# What is None in which case only those can know who know how their handlers run.
_ErrorHandler = TypeVar("_ErrorHandler", bound=Callable[[Any, Any, Any], object])


class App(Routes):
    """An HTTP server and its routes.

    ``def`` handlers run on the core's I/O threads, one at a time; ``async def`` handlers are asyncio tasks on the loop that
    :meth:`run` runs. Every method may be called from any thread.

    Args:
        options: TLS settings. Any, even :class:`AppOptions` without a field, has the application speak TLS and nothing
            else; then clients whose name has no certificate are refused. None, the default, serves plain HTTP.
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
        max_requests: Requests in progress at a time, those included that wait for their handler; further ones get 503.
            Default 65 536, or ``max_connections`` where that is more.
        max_header_memory: Bytes that the heads of these requests take together; further ones get 503. Default 128 MiB.
        max_header_bytes: Bytes of a request head; beyond them 431. Default 65 536.
        max_headers: Header lines of a request; beyond them 431. Default 100, at most 256.
        max_body_size: Bytes of a request body, counted as they arrive; beyond them 413. Default 100 MiB. A route may
            have its own.
        body_buffer: Bytes of a body held for a handler that has not asked for them; then the client has to wait.
            Default 65 536.
        header_timeout: Seconds for a request head to arrive; then 408. A PROXY preface has as long. Default 10.
        handshake_timeout: Seconds for the TLS handshake, from accepting or, where a PROXY preface is waited for, from the
            end of that, which has ``header_timeout``; then the connection is closed. Default 10.
        keep_alive_timeout: Seconds a connection may be silent between requests. Default 75.
        body_timeout: Seconds a client may send nothing of a body that is waited for; then 408. Default 30.
        write_timeout: Seconds a client may take nothing of an answer; then it is cut off. Default 30.
        min_rate: Bytes a second that a client has to move while a body or an answer waits for it: one that moves less is
            as late after ``body_timeout`` or ``write_timeout`` as if it were silent. 0: a byte is enough. Default 240.
        server_header: Value of the ``Server`` header; empty for none. Default ``"socketify"``.
        date_header: Whether responses without a ``Date`` header get one. Default True.
        headers: Headers for every response that has none of that name: a dict, or pairs of a name and a value. Default None.
        http2: Whether clients may speak HTTP/2 (RFC 9113): over TLS those that choose it, else those that begin with its
            preface. Default True.
        max_concurrent_streams: Streams that a client of HTTP/2 may have open on one connection. Default 128.
        proxy_protocol: Whether connections begin with a PROXY protocol preface, version 1 or 2, which says whom a proxy
            speaks for. ``"optional"``, the default: those of trusted proxies may. ``"required"`` or True: they have to, and
            others are refused. ``"off"`` or False: none does. Say ``"off"`` if something on this machine passes plain TCP
            on without a preface (stunnel, ``ssh -R``, socat, Docker's userland proxy): with ``"optional"`` its remote
            clients, whose bytes come from a trusted address, can send one and claim any address.
        trusted_proxies: Who is believed in that, and in the headers that ``Request.get_client_address`` reads: networks
            such as ``"10.0.0.0/8"``, addresses, ``"unix"`` for Unix sockets, ``"*"`` for everybody; in a list, or in one
            text with commas. Default ``["127.0.0.0/8", "::1", "unix"]``.
        compression: True compresses answers for clients that accept it, in gzip, br or zstd; a :class:`Compression`, or
            a dict of its fields, says how and which. Default False. An answer with ``Content-Encoding`` or
            ``Cache-Control: no-transform`` is left alone.
        access_log: True logs each answered request, and each WebSocket that opens and closes, to the logger
            ``socketify.access``; a name or a :class:`logging.Logger` to that one. Default False.
        server_name: Former name of ``server_header``, which is not to be confused with the names of TLS.

    Attributes:
        is_ssl: Whether it speaks TLS.

    Raises:
        RuntimeError: TLS cannot be set up: ``"Failed to create connection: "`` and the file or option, with the reason.
        ValueError: A limit or setting is out of range; the message names it.
        TypeError: ``compression`` or ``access_log`` is of a type that it does not take.
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
        max_requests: int | None = None,
        max_header_memory: int | None = None,
        max_header_bytes: int | None = None,
        max_headers: int | None = None,
        max_body_size: int | None = None,
        body_buffer: int | None = None,
        header_timeout: float | None = None,
        handshake_timeout: float | None = None,
        keep_alive_timeout: float | None = None,
        body_timeout: float | None = None,
        write_timeout: float | None = None,
        min_rate: int | None = None,
        server_header: str | None = None,
        date_header: bool | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        http2: bool | None = None,
        max_concurrent_streams: int | None = None,
        proxy_protocol: Literal["off", "optional", "required"] | bool | None = None,
        trusted_proxies: str | Iterable[str] | None = None,
        compression: bool | Compression | Mapping[str, Any] | None = None,
        access_log: bool | str | logging.Logger | None = None,
        server_name: str | None = None,
    ) -> None:
        tls = check_options(options)
        given = check(
            max_connections=max_connections,
            max_requests=max_requests,
            max_header_memory=max_header_memory,
            max_header_bytes=max_header_bytes,
            max_headers=max_headers,
            max_body_size=max_body_size,
            body_buffer=body_buffer,
            max_concurrent_streams=max_concurrent_streams,
            header_timeout=header_timeout,
            handshake_timeout=handshake_timeout,
            keep_alive_timeout=keep_alive_timeout,
            body_timeout=body_timeout,
            write_timeout=write_timeout,
            min_rate=min_rate,
            shutdown_timeout=shutdown_timeout,
            sync_handlers=sync_handlers,
            io_threads=io_threads,
            date_header=date_header,
            headers=headers,
            http2=http2,
            server_header=server_header if server_name is None else server_name,
            proxy_protocol=proxy_protocol,
            trusted_proxies=trusted_proxies,
        )
        settings = compression_settings(compression)
        log: AccessLog | None = None
        if access_log is not None and access_log is not False:
            # Imported only where there is a log.
            from .access_log import log_to

            log = log_to(access_log)
        self.is_ssl = tls is not None
        self._json_serializer: Any = json_default
        self._template: Any = None
        try:
            asyncio.get_running_loop()
            # A loop that is not ours cannot be used from I/O threads, so its handlers stay on its own.
            inside = True
        except RuntimeError:
            inside = False
        limits = {**given, "tls": tls, "compression": settings, "access_log": log and log.write}
        self._calls = calls = Calls()
        hooks = Hooks(calls, lambda: self._lifecycle.drained(), self._render)
        self._server = server = Server(
            self, hooks, self._json_serializer, sync_handlers == "loop" or inside, limits
        )
        self._table = RouteTable(server)
        self._server_names = ServerNames(server)
        self._request_extension = AppExtension(Request, server.replace_class)
        self._response_extension = AppExtension(Response, server.replace_class)
        self._websocket_extension = AppExtension(WebSocket, server.replace_class)
        self.loop = calls.loop = Loop(
            lambda _loop, error, response: self.trigger_error(error, response, None),
            task_factory_max_items,
            idle_relaxation_time,
            server=server,
            use_uvloop=use_uvloop,
        )
        server.set_event_loop(self.loop.loop)
        self._lifecycle = Lifecycle(
            server,
            self.loop,
            calls,
            Lifespan(calls, lifespan),
            self._server_names if self.is_ssl else None,
            log,
            BY_NAME["shutdown_timeout"].default if shutdown_timeout is None else shutdown_timeout,
        )

    # ---- life cycle ---------------------------------------------------------------------------------------------------

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
        self._lifecycle.listen(port_or_options, handler)
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
        self._lifecycle.run()
        return self

    def close(self) -> Self:
        """Stops accepting, lets requests in progress finish for up to ``shutdown_timeout`` seconds, then stops.

        Streams of events end at once. Returns at once, from any thread or handler. Calling it again does nothing.
        """
        self._lifecycle.close()
        return self

    def dispose(self) -> None:
        """Closes the application and frees its loop. Calling it again does nothing."""
        self._lifecycle.dispose()

    def __del__(self) -> None:
        # Made and never disposed of: the threads are ended already, or the core would hold this object.
        with contextlib.suppress(Exception):
            self._lifecycle.dispose()

    def run_async(self, task: Coroutine[Any, Any, Any], response: Response | None = None) -> None:
        """Runs a coroutine as a task of the application's loop, from any thread. Before :meth:`run` it waits for the loop.

        Args:
            task: The coroutine.
            response: The response that the error handler gets when the coroutine fails; None, the default, for none.
        """
        self._calls.spawn(task, response)

    @property
    def lifespan(self) -> bool:
        """Whether the hooks run."""
        return self._lifecycle.lifespan.enabled

    @lifespan.setter
    def lifespan(self, enabled: bool) -> None:
        self._lifecycle.lifespan.enabled = enabled

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that requests in progress have after :meth:`close` or a signal."""
        return self._lifecycle.shutdown_timeout

    @shutdown_timeout.setter
    def shutdown_timeout(self, seconds: float) -> None:
        self._lifecycle.shutdown_timeout = seconds

    # ---- topics ------------------------------------------------------------------------------------------------------

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
            Whether there is a subscriber. One for whom too much waits already does not get the message.

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

    # ---- TLS ------------------------------------------------------------------------------------------------------------

    def add_server_name(self, hostname: str | bytes, options: AppOptions | None = None) -> Self:
        """Serves a name with a certificate, and with routes, of its own.

        A connection whose client asks for the name in its TLS handshake gets this certificate, and its requests go to the
        routes of ``app.domain(hostname)`` alone, whatever their ``Host`` says: with none registered, to a 404. It may be
        called before and while the application runs. Without effect in an application without TLS, and for a name that is
        registered already.

        Args:
            hostname: ``"example.com"``, or ``"*.example.com"``, where ``*`` is exactly one label. Case does not count, and
                an exact name goes before one with ``*``.
            options: TLS settings of the name: all of :class:`AppOptions`. Without a key and a certificate in them, those of
                the application serve, and without ``ca_file_name`` and ``client_cert`` clients show what they show to the
                application: ``client_cert="none"`` asks them for nothing. None, the default, has all of its settings.

        Returns:
            The application.

        Raises:
            RuntimeError: ``hostname`` is neither str nor bytes, ``options`` is no :class:`AppOptions`, or the settings are
                wrong: the message names the file and the reason.
            ValueError: It is no host name; the message names it.
            RuntimeWarning: A certificate has expired, or the like, and warnings are errors. Whatever is raised, nothing is
                registered.
        """
        self._server_names.add(hostname, options)
        return self

    def remove_server_name(self, hostname: str | bytes) -> Self:
        """Forgets a name, its certificate and its routes. Connections that it has opened get 421 from now on.

        Args:
            hostname: As it was registered. What was not registered is left alone.

        Returns:
            The application.

        Raises:
            RuntimeError: ``hostname`` is neither str nor bytes.
            ValueError: It is no host name; the message names it.
        """
        self._server_names.remove(hostname)
        return self

    def missing_server_name(self, handler: _MissingHandler) -> _MissingHandler:
        """Has ``handler(name)`` called when a client asks for a name that is not registered.

        A plain function may call :meth:`add_server_name`: the name is then looked for once more, before the handshake goes
        on. A coroutine function runs as a task and comes too late for this handshake. With the name still not there, the
        client gets the application's own certificate and routes. What the handler raises is logged. Nobody is asked for
        clients that ask for no name.

        Anybody may ask for any name, as often as they like: what the handler does and keeps for each needs a bound.

        Args:
            handler: Called with the name, a ``str`` in lower case; None for no handler any more.

        Returns:
            The handler, so that this serves as a decorator.

        Raises:
            RuntimeError: It is neither callable nor None.
        """
        self._server_names.ask(handler)
        return handler

    def reload_certificates(self) -> Self:
        """Reads the files of all certificates anew, those of names too. SIGHUP does the same while :meth:`App.run` runs.

        New connections get what is in them; those that are open go on. When one file is wrong, everything stays as it was.
        Without effect in an application without TLS.

        It returns when all files have been read: call it in a thread from a coroutine, where keys are many or encrypted. A
        certificate that has expired, and the like, is a ``RuntimeWarning``. Where warnings are errors it is logged, and not
        raised, since the certificates have been read all the same.

        Returns:
            The application.

        Raises:
            RuntimeError: A file is wrong; the message names it and the reason.
        """
        self._server_names.reload()
        return self

    # ---- domains and extensions ----------------------------------------------------------------------------------------

    def domain(self, name: str) -> Domain:
        """The routes for one host, or for a family of hosts.

        Requests to a host that has routes of its own are answered by those alone, and with 404 where none of them matches:
        the application's other routes are for all other hosts. The host is what the request's target or ``Host`` header
        says, without its port.

        Args:
            name: ``"example.com"``; ``"*.example.com"``, where ``*`` is exactly one label; or an IP address. Case does not
                count. Letters beyond ASCII are put into IDNA form. An exact name goes before one with ``*``.

        Returns:
            Something with the methods of an application that register routes. Each call with the same name gives the same
            routes.

        Raises:
            TypeError: The name is not a str.
            ValueError: It is no host name; the message names it.
        """
        return Domain(self, name)

    def cors(
        self,
        origins: str | Iterable[str],
        *,
        path: str = "/*",
        methods: str | Iterable[str] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
        headers: Iterable[str] | None = None,
        expose: Iterable[str] = (),
        credentials: bool = False,
        max_age: int = 600,
        private_network: bool = False,
    ) -> App:
        """Lets pages of other origins read what is answered: by handlers, for files, and with errors.

        Preflights are answered by the core. A handler that writes ``Access-Control-Allow-Origin`` itself has the say.

        Args:
            origins: As for :class:`~socketify.CORS`, like the others.
            path: A pattern, as of a route: of several, the most exact one counts.
            methods: Methods that a preflight allows, or ``"*"``.
            headers: Request headers that a preflight allows; None for those that it asks for.
            expose: Response headers that scripts may read.
            credentials: Whether requests may carry cookies.
            max_age: Seconds for which a browser may remember a preflight.
            private_network: Whether pages of public sites may reach a private network.

        Returns:
            The application.

        Raises:
            ValueError: Something is not valid; or credentials are to go to all origins.
        """
        from .cors import CORS

        CORS(
            origins,
            methods=methods,
            headers=headers,
            expose=expose,
            credentials=credentials,
            max_age=max_age,
            private_network=private_network,
        ).add_to(self, path)
        return self

    def register(self, extension: Callable[[AppExtension, AppExtension, AppExtension], object]) -> App:
        """Adds methods and properties to requests, responses and WebSockets, those of routes already registered as well.

        Args:
            extension: Called once as ``extension(request, response, websocket)``; each is an :class:`AppExtension`. May be
                called for several extensions, whose additions add up.

        Returns:
            The application.

        Raises:
            TypeError: The extension cannot be called.
        """
        if not callable(extension):
            raise TypeError(
                f"an extension must be callable as (request, response, websocket), which {extension!r} is not"
            )
        extension(self._request_extension, self._response_extension, self._websocket_extension)
        return self

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

    def on_start(self, method: _Hook) -> _Hook:
        """Registers the hook that runs once, before the first socket is bound: ``def`` or ``async def``, without
        arguments. The last one registered counts. An exception is reported and serving goes on; ``sys.exit(1)`` ends
        the process."""
        self._lifecycle.lifespan.on_start = method
        return method

    def on_shutdown(self, method: _Hook) -> _Hook:
        """Registers the hook that runs after the last request, before :meth:`run` returns; see :meth:`on_start`."""
        self._lifecycle.lifespan.on_shutdown = method
        return method

    def on_error(self, handler: _ErrorHandler) -> _ErrorHandler:
        """:meth:`set_error_handler` as a decorator."""
        self.set_error_handler(handler)
        return handler

    def set_error_handler(self, handler: ErrorHandler | None) -> App:
        """Has ``handler(error, res, req)`` called when a handler fails: ``def`` or ``async def``.

        ``req`` is None when the error came from a coroutine, and ``res`` too when no response belongs to it. Without a
        handler (or with something that cannot be called) errors are logged and answered with 500.
        """
        self._calls.error_handler = handler if callable(handler) else None
        return self

    @property
    def error_handler(self) -> ErrorHandler | None:
        """The error handler; None for none."""
        return self._calls.error_handler

    @error_handler.setter
    def error_handler(self, handler: ErrorHandler | None) -> None:
        self._calls.error_handler = handler

    def trigger_error(self, error: BaseException, response: Response | None, request: Request | None) -> None:
        """Reports an error as if a handler had raised it.

        Args:
            error: What the error handler gets.
            response: The response that it may answer; what has been prepared of another answer is dropped. None where there
                is none: then the error is only told.
            request: The request, or None.
        """
        self._calls.trigger_error(error, response, request)

    # ---- others -----------------------------------------------------------------------------------------------------

    def get_native_handle(self) -> int:
        """A number that names the application within the process. There is no pointer behind it."""
        return id(self)
