"""RSGI 1.6: applications that take ``(scope, protocol)``, in place of messages.

The names are those of the specification, for type checks and ``except``. They stand on the calls of ASGI: there is one way
to receive and to respond, so all rules of framing, lengths and headers are the same.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .asgi_calls import mount
from .exceptions import ClientDisconnected
from .fronts import Front, check_websocket_options, websocket_options
from .settings import FRONT_SETTINGS
from .websocket import SOCKET_LIMITS

if TYPE_CHECKING:
    from os import PathLike

    from .app import App
    from .asgi_calls import Receive, Send
    from .asgi_calls import Scope as AsgiScope
    from .options import AppOptions

__all__ = [
    "RSGI",
    "HTTPProtocol",
    "HTTPStreamTransport",
    "Headers",
    "RSGIProtocolClosed",
    "RSGIProtocolError",
    "Scope",
    "WebsocketMessage",
    "WebsocketMessageType",
    "WebsocketProtocol",
    "WebsocketTransport",
]

_Application = Callable[["Scope", Any], Awaitable[Any]]
_Pairs = Iterable[tuple[str, str]]

#: Bytes of a file that are read at a time where only a part of it is sent.
_BLOCK = 64 * 1024


class RSGIProtocolError(RuntimeError):
    """The application has used its protocol in an order that it does not allow."""


class RSGIProtocolClosed(RSGIProtocolError, ClientDisconnected):
    """The client of the request or of the WebSocket has left."""


class Headers(Mapping[str, str]):
    """The headers of a request: text by name in lower case. Bytes above 127 are taken as latin-1.

    Args:
        pairs: Names in lower case, and values.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_all(self, name: str) -> list[str]:
        """All values of a header, in their order; none if it is missing."""
        return list(self._values.get(name, ()))


class Scope:
    """What a request is. Each attribute is made when it is read.

    Attributes:
        proto: ``"http"`` or ``"ws"``.
        rsgi_version: ``"1.6"``.
        method: In upper case; ``"GET"`` for a WebSocket.
    """

    rsgi_version = "1.6"

    def __init__(self, scope: AsgiScope) -> None:
        self._scope = scope
        self.proto: str = "ws" if scope["type"] == "websocket" else "http"
        self.method: str = scope.get("method", "GET")

    @property
    def http_version(self) -> str:
        """``"1"`` for HTTP/1.0, ``"1.1"`` or ``"2"``."""
        version: str = self._scope["http_version"]
        return "1" if version == "1.0" else version

    @property
    def server(self) -> str:
        """Where the connection was accepted, ``address:port``."""
        return _address(self._scope["server"])

    @property
    def client(self) -> str:
        """The client, ``address:port``; empty for a Unix socket."""
        return _address(self._scope["client"])

    @property
    def scheme(self) -> str:
        """``"http"`` or ``"https"``, also of a WebSocket."""
        return "https" if self._scope["scheme"] in ("https", "wss") else "http"

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        path: str = self._scope["path"]
        return path

    @property
    def query_string(self) -> str:
        """The query as received, empty without one."""
        query: bytes = self._scope["query_string"]
        return query.decode("latin-1")

    @cached_property
    def headers(self) -> Headers:
        """The headers."""
        return Headers(self._scope["headers"])

    @property
    def authority(self) -> str | None:
        """The authority of a request over HTTP/2, None over HTTP/1."""
        return self.headers.get("host") if self._scope["http_version"] == "2" else None


def _address(pair: tuple[str, int | None] | None) -> str:
    if pair is None:
        return ""
    host, port = pair
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _head(status: int, headers: _Pairs) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


class HTTPStreamTransport:
    """The body of a response that goes in pieces. It ends when the application returns."""

    def __init__(self, protocol: HTTPProtocol) -> None:
        self._protocol = protocol

    async def send_bytes(self, data: bytes) -> None:
        """Sends a piece, and waits while too much waits for the client.

        Raises:
            RSGIProtocolClosed: The client has left.
        """
        await self._protocol._send_piece(data)

    async def send_str(self, data: str) -> None:
        """Sends text as UTF-8; see :meth:`send_bytes`."""
        await self._protocol._send_piece(data.encode())


class HTTPProtocol:
    """The body of a request, and its response. ``await protocol()`` gives the whole body, ``async for`` its pieces."""

    __slots__ = ("_begun", "_call", "_read", "_receive", "_send", "_streams")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        # The call that these are methods of.
        self._call: Any = receive.__self__  # type: ignore[attr-defined]
        self._begun = self._read = self._streams = False

    # ---- the request ------------------------------------------------------------------------------------------------

    async def __call__(self) -> bytes:
        self._begin_to_read()
        pieces = [piece async for piece in self._pieces()]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._begin_to_read()
        return self._pieces()

    def _begin_to_read(self) -> None:
        if self._read:
            raise RSGIProtocolError("the body of the request has been read already")
        self._read = True

    async def _pieces(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise RSGIProtocolClosed("the client has left before its request was complete")
            more = message["more_body"]
            if message["body"]:
                yield message["body"]

    async def client_disconnect(self) -> None:
        """Ends when the client of this request has left, or the response is complete. May be cancelled and called again."""
        await self._call.departure()

    # ---- the response -----------------------------------------------------------------------------------------------

    def _begin(self, status: int, headers: _Pairs) -> None:
        if self._begun:
            raise RSGIProtocolError("the request has been answered already")
        self._send(_head(status, headers))
        self._begun = True

    def response_empty(self, status: int, headers: _Pairs = ()) -> None:
        """Responds without a body.

        Raises:
            RSGIProtocolError: There is a response already.
            TypeError: A status or header is of the wrong type.
            ValueError: A status or header cannot be sent.
        """
        self._begin(status, headers)
        self._send({"type": "http.response.body"})

    def response_str(self, status: int, headers: _Pairs = (), body: str = "") -> None:
        """Responds with text, as UTF-8; see :meth:`response_empty`."""
        self.response_bytes(status, headers, body.encode())

    def response_bytes(self, status: int, headers: _Pairs = (), body: bytes = b"") -> None:
        """Responds with bytes; see :meth:`response_empty`."""
        self._begin(status, headers)
        self._send({"type": "http.response.body", "body": body})

    def response_file(self, status: int, headers: _Pairs, file: str | PathLike[str]) -> None:
        """Responds with a file, whose absolute path is given; 404 without a body if it cannot be opened."""
        if self._begun:
            raise RSGIProtocolError("the request has been answered already")
        try:
            with open(file, "rb"):
                pass
        except OSError:
            self.response_empty(404)
            return
        self._begin(status, headers)
        self._send({"type": "http.response.pathsend", "path": str(file)})

    def response_file_range(
        self, status: int, headers: _Pairs, file: str | PathLike[str], start: int, end: int
    ) -> None:
        """Responds with the bytes of a file from ``start`` to before ``end``, or as many of them as there are.

        Raises:
            ValueError: ``start`` is negative, or not before ``end``.
        """
        if not 0 <= start < end:
            raise ValueError(f"the range of a file must not be empty: start {start!r}, end {end!r}")
        if self._begun:
            raise RSGIProtocolError("the request has been answered already")
        try:
            with open(file, "rb") as opened:
                opened.seek(start)
                body = opened.read(end - start)
        except OSError:
            self.response_empty(404)
            return
        self.response_bytes(status, headers, body)

    def response_stream(self, status: int, headers: _Pairs = ()) -> HTTPStreamTransport:
        """Begins a response whose body goes in pieces; see :meth:`response_empty`."""
        self._begin(status, headers)
        self._streams = True
        return HTTPStreamTransport(self)

    async def _send_piece(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        if self._call.is_gone():
            raise RSGIProtocolClosed("the client has left before its response was complete")

    def _end(self) -> None:
        """The application has returned."""
        if self._streams:
            self._send({"type": "http.response.body"})


class WebsocketMessageType(IntEnum):
    """What a message of a WebSocket is."""

    close = 0
    bytes = 1
    string = 2


class WebsocketMessage:
    """A message of a WebSocket.

    Attributes:
        kind: What it is.
        data: Its content; None for a close.
    """

    __slots__ = ("data", "kind")

    def __init__(self, kind: WebsocketMessageType, data: bytes | str | None) -> None:
        self.kind = kind
        self.data = data


class WebsocketTransport:
    """An open WebSocket."""

    __slots__ = ("_receive", "_send")

    #: After the end it is given again.
    _CLOSE: ClassVar[WebsocketMessage] = WebsocketMessage(WebsocketMessageType.close, None)

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send

    async def receive(self) -> WebsocketMessage:
        """The next message; one of the kind ``close`` at the end, however often."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            return self._CLOSE
        if "text" in message:
            return WebsocketMessage(WebsocketMessageType.string, message["text"])
        return WebsocketMessage(WebsocketMessageType.bytes, message["bytes"])

    async def send_bytes(self, data: bytes) -> None:
        """Sends a binary message, and waits while too much waits for the client.

        Raises:
            RSGIProtocolClosed: The client has left.
        """
        await self._send_message({"type": "websocket.send", "bytes": data})

    async def send_str(self, data: str) -> None:
        """Sends a text message; see :meth:`send_bytes`."""
        await self._send_message({"type": "websocket.send", "text": data})

    async def _send_message(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except ClientDisconnected as error:
            raise RSGIProtocolClosed(str(error)) from error


class WebsocketProtocol:
    """A handshake, which the application accepts or closes. No subprotocol is chosen: RSGI 1.6 has none."""

    __slots__ = ("_accepted", "_closed", "_receive", "_send")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._accepted = self._closed = False

    async def accept(self) -> WebsocketTransport:
        """Accepts the handshake.

        Raises:
            RSGIProtocolError: It has been accepted or closed before.
            RSGIProtocolClosed: The client has left.
        """
        if self._accepted or self._closed:
            raise RSGIProtocolError("the handshake has been answered already")
        try:
            await self._receive()
            await self._send({"type": "websocket.accept"})
        except ClientDisconnected as error:
            raise RSGIProtocolClosed(str(error)) from error
        self._accepted = True
        return WebsocketTransport(self._receive, self._send)

    def close(self, status: int | None = None) -> None:
        """Closes the WebSocket. Before :meth:`accept` that is the HTTP status ``status``, 403 by default; after it, a close
        frame. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._accepted:
            self._send({"type": "websocket.close"})
            return
        self._send({"type": "websocket.http.response.start", "status": 403 if status is None else status})
        self._send({"type": "websocket.http.response.body"})


class RSGI(Front):
    """A server for an application of RSGI::

        RSGI(app).listen(8000).run()

    Args:
        app: An object with ``__rsgi__(scope, protocol)``, or a callable with these arguments whose result can be awaited.
            Its ``__rsgi_init__(loop)`` and ``__rsgi_del__(loop)``, if it has them, are called before it serves and at the
            end.
        options: TLS settings, as of :class:`App`. None, the default, serves plain HTTP.
        websocket: True, the default: the application serves WebSockets. A dict is a behaviour as :meth:`App.ws` takes it,
            for WebSockets of every path. False, None: they are refused.
        websocket_options: Limits of WebSockets that differ from the defaults, which are those of :class:`ASGI`.
        task_factory_max_items: Accepted for compatibility; without effect.
        lifespan: Whether ``__rsgi_init__`` and ``__rsgi_del__`` are called. Default True.
        root_path: Path under which proxies show the application; each path begins with it. Default ``""``.
        settings: Options of :class:`App`, such as ``max_body_size`` or ``shutdown_timeout``.

    Raises:
        TypeError: An argument is unknown, or of a type that it does not take.
        ValueError: An argument is out of range. The message names it, its value and what it takes.
        RuntimeError: TLS cannot be set up; the message names the file and the reason.
    """

    interface = "rsgi"

    def __init__(
        self,
        app: Any,
        options: AppOptions | None = None,
        websocket: bool | Mapping[str, Any] | None = True,
        websocket_options: Mapping[str, Any] | None = None,
        task_factory_max_items: int = 100_000,
        lifespan: bool | Literal["auto", "on", "off"] = True,
        *,
        root_path: str = "",
        startup_timeout: float | None = None,
        **settings: Any,
    ) -> None:
        handler = getattr(app, "__rsgi__", app)
        if not callable(handler):
            raise TypeError(
                "app must be an RSGI application, an object with __rsgi__ or a callable with scope and protocol, "
                f"not {app!r}"
            )
        if not (websocket is None or isinstance(websocket, (bool, Mapping))):
            raise TypeError(
                f"websocket must be True, False, None or a behaviour as App.ws takes it, not {websocket!r}"
            )
        # Nothing of RSGI may take long to start; the option is that of all servers.
        FRONT_SETTINGS["startup_timeout"].check(startup_timeout)
        self._application = app
        self._handler: _Application = handler
        self._websocket = websocket
        self._websocket_options = websocket_options
        self._root_path = FRONT_SETTINGS["root_path"].check(root_path)
        super().__init__(options, lifespan not in (False, "off"), task_factory_max_items, settings)

    def _mount(self, app: App) -> None:
        options = websocket_options(self._websocket_options)
        # Checked also where nothing is served by them.
        check_websocket_options(options)
        if isinstance(self._websocket, Mapping):
            app.ws("/*", {**SOCKET_LIMITS, **self._websocket, **options})
        mount(app, _over(self._handler), self._root_path, options if self._websocket is True else None)
        app._lifecycle.lifespan.outside = (
            self._caller(app, "__rsgi_init__"),
            self._caller(app, "__rsgi_del__"),
        )

    def _caller(self, app: App, name: str) -> Callable[[], None]:
        """What calls a method of the application with the event loop, if there is one."""
        hook: Callable[[Any], object] | None = getattr(self._application, name, None)

        def call() -> None:
            if hook is not None and inspect.iscoroutine(result := hook(app.loop.loop)):
                result.close()
                raise TypeError(f"{name} is called while the event loop does not run: it must not be async")

        return call


def _over(application: _Application) -> Callable[[AsgiScope, Receive, Send], Awaitable[Any]]:
    """An RSGI application as one of ASGI."""

    async def serve(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _serve_socket(application, scope, receive, send)
            return
        protocol = HTTPProtocol(receive, send)
        await application(Scope(scope), protocol)
        protocol._end()

    return serve


async def _serve_socket(application: _Application, scope: AsgiScope, receive: Receive, send: Send) -> None:
    protocol = WebsocketProtocol(receive, send)
    await application(Scope(scope), protocol)
    if not protocol._accepted:
        protocol.close()
