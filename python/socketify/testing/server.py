"""The server of a test: an application in a thread of its own, and requests to it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..app import App
from ..options import AppListenOptions
from .aio import AsyncConnection, AsyncStream, AsyncWebSocketSession
from .client import Connection, Stream, WebSocketSession
from .messages import Answer, RequestOptions
from .session import Address

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Self, Unpack

__all__ = ["AsyncTestServer", "Serving", "TestServer"]

logger = logging.getLogger("socketify")

#: Where a client can reach a server that listens on every interface.
_LOCAL = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class _Failures(logging.Handler):
    """Collects the exceptions that one application reports because nothing has handled them.

    They are told in the log on the thread that met them, and before the client gets its 500.
    """

    def __init__(self, serving: Serving) -> None:
        super().__init__(logging.ERROR)
        self._serving = serving

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and self._serving._is_ours(record.thread):
            self._serving.errors.append(error)


class Serving:
    """An application that serves in a thread of its own, with its own event loop. See :class:`TestServer`."""

    #: pytest takes classes whose name begins with Test for tests.
    __test__ = False

    app: App

    def __init__(
        self,
        target: App | Callable[[App], object],
        *,
        listen: int | Mapping[str, Any] | AppListenOptions | None = None,
        timeout: float = 10.0,
        raise_errors: bool = True,
        ssl_context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(target, App) and not callable(target):
            raise TypeError(f"a server needs an App or a function that takes one, not {target!r}")
        if isinstance(target, App):
            if options:
                raise TypeError(
                    f"the App is made already: {', '.join(options)} can only be given to a new one"
                )
            if target.loop.is_foreign:
                raise RuntimeError(
                    "the App was made inside a running event loop, where listen() serves without a thread: give a "
                    "function that takes the App, or make the App outside"
                )
            self.app = target
        self._target = target
        self._options = options
        self._ssl_context = ssl_context
        self._listen = {"host": "127.0.0.1", "port": 0} if listen is None else listen
        self._failures = _Failures(self) if raise_errors else None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._fatal: BaseException | None = None
        self.timeout = timeout
        self.errors: list[BaseException] = []
        self.config = AppListenOptions()

    @property
    def host(self) -> str:
        """The address to connect to."""
        return _LOCAL.get(self.config.host or "", self.config.host or "")

    @property
    def port(self) -> int:
        """The port, a free one unless ``listen`` has said which."""
        return self.config.port

    @property
    def url(self) -> str:
        """``http://``, or ``https://``, with host and port, without a slash at the end: what other clients need."""
        scheme = "https" if hasattr(self, "app") and self.app.is_ssl else "http"
        if self.config.domain:
            return f"{scheme}://localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the application's thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Self:
        """Starts the application, and returns when it serves.

        Raises:
            BaseException: What the application raised before that.
            RuntimeError: It runs already, or did not start within ``timeout``.
        """
        if self.running:
            raise RuntimeError("the server runs already")
        self._ready.clear()
        self._fatal = None
        self.errors.clear()
        if self._failures is not None:
            logger.addHandler(self._failures)
        # A test run ends, even when an application does not.
        self._thread = threading.Thread(target=self._run, name="socketify-test-server", daemon=True)
        self._thread.start()
        if not self._ready.wait(self.timeout):
            raise RuntimeError(f"the application did not start within {self.timeout} s")
        if self._fatal is not None or self.errors:
            self.stop()
        return self

    def stop(self, timeout: float = 20.0) -> None:
        """Closes the application and waits for its end. Stopping again does nothing.

        Args:
            timeout: Seconds to wait. Requests in progress have the application's ``shutdown_timeout``.

        Raises:
            BaseException: What the application raised and has not been raised yet.
            RuntimeError: It has not ended.
        """
        if hasattr(self, "app"):
            self.app.close()
        self.join(timeout)

    def join(self, timeout: float = 20.0) -> None:
        """Waits for the application to end by itself; see :meth:`stop`."""
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise RuntimeError(f"the application did not stop within {timeout} s")
        if self._failures is not None:
            logger.removeHandler(self._failures)
        if self._fatal is not None:
            fatal, self._fatal = self._fatal, None
            raise fatal
        self.check()

    def check(self) -> None:
        """Raises the first exception that the application has reported, if there is one: no error handler took it."""
        if self.errors:
            error = self.errors[0]
            self.errors.clear()
            raise error

    @property
    def _address(self) -> Address:
        return self.config.domain or (self.host, self.port)

    def _context(self, given: ssl.SSLContext | None) -> ssl.SSLContext | None:
        """What a client of this server speaks TLS with; None for plain HTTP."""
        if not self.app.is_ssl:
            return None
        if (context := given or self._ssl_context) is not None:
            return context
        # Only those that test TLS pay for the import.
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The certificate is that of the test, and the server is the one that was started here.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def _run(self) -> None:
        made = not isinstance(self._target, App)
        try:
            if not isinstance(self._target, App):
                self.app = App(**self._options)
                self._target(self.app)
            self.app.listen(self._listen, self._listening)
            # Readiness is the loop's first turn: from then on everything works.
            self.app.loop.loop.call_soon(self._ready.set)
            self.app.run()
        except BaseException as error:
            self._fatal = error
        finally:
            self._ready.set()
            if made and hasattr(self, "app"):
                self.app.dispose()

    def _listening(self, config: AppListenOptions) -> None:
        self.config = config

    def _is_ours(self, thread: int | None) -> bool:
        """Whether a thread is the application's: its loop's, or one that drives its sockets."""
        if self._thread is not None and thread == self._thread.ident:
            return True
        return hasattr(self, "app") and thread in self.app._server.threads()

    def _leave(self, error: BaseException | None) -> None:
        """The end of a ``with`` block: what failed in it goes before what the application reports."""
        try:
            self.stop()
        except BaseException:
            if error is None:
                raise


class TestServer(Serving):
    """Runs an application for a test, on a free port of 127.0.0.1 and in a thread of its own.

    ``with TestServer(target) as server:`` starts it and stops it; so do :meth:`start` and :meth:`stop`. It can be
    used again. Each of the methods below opens a connection of its own and closes it; :meth:`connect` gives one to keep.

    An exception that no handler of errors has taken is raised here as well: by the request whose handler raised it, or
    when the server stops.

    Args:
        target: An :class:`~socketify.App` that does not run, or a function that takes a new one and adds its routes.
        listen: Where to listen, as in :meth:`App.listen() <socketify.App.listen>`. Default: a free port of 127.0.0.1.
        timeout: Seconds that starting, and each request, may take.
        raise_errors: Whether the application's exceptions are raised in the test. With False they are answered with 500,
            as they are for other clients.
        ssl_context: What clients of an application with TLS verify it with, as ``localhost``. None, the default, verifies
            nothing.
        **options: Options of the new :class:`~socketify.App`.

    Attributes:
        app: The application.
        config: The :class:`~socketify.AppListenOptions` in effect.
        errors: Exceptions that the application has reported and that have not been raised yet.

    Raises:
        TypeError: ``target`` is neither, or options were given for an application that is there already.
        RuntimeError: The application was made inside a running event loop.
    """

    def connect(
        self, *, ssl_context: ssl.SSLContext | None = None, server_name: str | None = None
    ) -> Connection:
        """A connection to keep, for several requests or raw bytes.

        Args:
            ssl_context: In place of the server's, where the application speaks TLS.
            server_name: The host to ask for, in the TLS handshake and in requests. None, the default, asks for ``localhost``
                in the handshake.

        Raises:
            ssl.SSLError: The handshake has failed.
        """
        return Connection(self._address, self.timeout, self._context(ssl_context), server_name)

    def request(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a request and reads its answer; see :meth:`Connection.request`.

        Args:
            method: GET, POST and so on.
            path: Path, and query if any.
            **options: ``params``, ``headers``, ``cookies``, ``body``, ``json``, ``form`` and ``timeout``.

        Returns:
            The answer.

        Raises:
            Exception: What the handler raised.
            TimeoutError: The answer has not come in time.
            ConnectionError: The server has closed the connection without one.
        """
        try:
            with self.connect() as connection:
                return connection.request(method, path, **options)
        finally:
            self.check()

    def get(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a GET request; see :meth:`request`."""
        return self.request("GET", path, **options)

    def head(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a HEAD request; see :meth:`request`."""
        return self.request("HEAD", path, **options)

    def options(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends an OPTIONS request; see :meth:`request`."""
        return self.request("OPTIONS", path, **options)

    def post(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a POST request; see :meth:`request`."""
        return self.request("POST", path, **options)

    def put(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a PUT request; see :meth:`request`."""
        return self.request("PUT", path, **options)

    def patch(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a PATCH request; see :meth:`request`."""
        return self.request("PATCH", path, **options)

    def delete(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a DELETE request; see :meth:`request`."""
        return self.request("DELETE", path, **options)

    def stream(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> Stream:
        """Sends a request and gives its answer before the body: iterate over it, or over its ``lines()``."""
        connection = self.connect()
        try:
            return connection.stream(method, path, **options)
        except BaseException:
            connection.close()
            raise

    def websocket(
        self, path: str = "/", *, protocols: Sequence[str] = (), **options: Unpack[RequestOptions]
    ) -> WebSocketSession:
        """Opens a WebSocket.

        Args:
            path: Path, and query if any.
            protocols: Subprotocols to offer.
            **options: ``params``, ``headers``, ``cookies`` and ``timeout`` of the handshake.

        Raises:
            HandshakeRefused: The server gave another answer than a 101, which is its ``answer``.
        """
        return WebSocketSession(self.connect(), path, protocols, options)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)


class AsyncTestServer(Serving):
    """:class:`TestServer` for tests that are coroutines: ``async with AsyncTestServer(target) as server:``.

    The application runs in a thread and a loop of its own all the same, so a test that waits for it holds up nothing.
    """

    def connect(
        self, *, ssl_context: ssl.SSLContext | None = None, server_name: str | None = None
    ) -> AsyncConnection:
        """A connection to keep: ``async with server.connect() as connection:``; see :meth:`TestServer.connect`."""
        return AsyncConnection(self._address, self.timeout, self._context(ssl_context), server_name)

    async def request(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a request and reads its answer; see :meth:`TestServer.request`."""
        try:
            async with self.connect() as connection:
                return await connection.request(method, path, **options)
        finally:
            self.check()

    async def get(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a GET request; see :meth:`request`."""
        return await self.request("GET", path, **options)

    async def head(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a HEAD request; see :meth:`request`."""
        return await self.request("HEAD", path, **options)

    async def options(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends an OPTIONS request; see :meth:`request`."""
        return await self.request("OPTIONS", path, **options)

    async def post(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a POST request; see :meth:`request`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a PUT request; see :meth:`request`."""
        return await self.request("PUT", path, **options)

    async def patch(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a PATCH request; see :meth:`request`."""
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str = "/", **options: Unpack[RequestOptions]) -> Answer:
        """Sends a DELETE request; see :meth:`request`."""
        return await self.request("DELETE", path, **options)

    def stream(self, method: str, path: str = "/", **options: Unpack[RequestOptions]) -> AsyncStream:
        """Gives an answer whose body is read as it comes: ``async with server.stream(...) as answer:``."""
        return self.connect().stream(method, path, **options)

    def websocket(
        self, path: str = "/", *, protocols: Sequence[str] = (), **options: Unpack[RequestOptions]
    ) -> AsyncWebSocketSession:
        """Gives a WebSocket to open: ``async with server.websocket(...) as ws:``; see :meth:`TestServer.websocket`."""
        return AsyncWebSocketSession(self.connect(), path, protocols, options)

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._leave, error)
