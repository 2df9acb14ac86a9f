"""The core of socketify, in Rust. Use the classes of the package :mod:`socketify` instead."""

from asyncio import AbstractEventLoop, Future
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping
from http.cookies import SimpleCookie
from io import BytesIO
from os import PathLike
from types import ModuleType
from typing import Any, Final, TypeAlias, TypedDict, final, overload, type_check_only
from uuid import UUID

from typing_extensions import Self, Unpack, disjoint_base

from .app import App
from .asgi_calls import Application, Scope
from .calls import Hooks
from .events import EventStream
from .forms import FormReader
from .handlers import AbortedHandler, DataHandler, Field, HeaderHandler, Payload, WritableHandler
from .multipart import Multipart
from .options import AppOptions, OpCode, SendStatus

__all__ = [
    "DEFAULTS",
    "Body",
    "CorsPolicy",
    "Done",
    "FileWrapper",
    "FormParser",
    "Gateway",
    "HttpCall",
    "Pending",
    "Request",
    "Response",
    "Server",
    "SocketCall",
    "WebSocket",
    "__version__",
    "bind_door",
    "parse_cookies",
]

__version__: Final[str]
"""Version of the core, which is that of the package."""

DEFAULTS: Final[dict[str, Any]]
"""Options of the server and what each is by default; None for those that follow from others or from the machine."""

def parse_cookies(header: str, /) -> dict[str, str]:
    """Gives the cookies of a ``Cookie`` header as they stand, quotes included; of several with one name the last."""

def bind_door(functions: ModuleType, late: bool = False) -> None:
    """Binds the functions of this package that the core calls.

    Args:
        functions: What has them by the names that the core knows: :mod:`socketify.door`.
        late: Whether to bind those as well whose modules are imported late.

    Raises:
        ImportError: One of them is missing.
    """

@final
class Body:
    """The body of a request. Internal: :class:`socketify.Request` and :class:`socketify.Response` are what users have."""

    def take(self) -> bytes | None:
        """The whole body if it has arrived, else None."""

    def whole(self) -> bytes | None:
        """The whole body if it has arrived and will not be cut short; raises where it was read in pieces."""

    def arrival(self) -> Future[BytesIO]:
        """A future of the whole body, or of what had arrived when the client left."""

    def piece(self) -> tuple[bytes, bool] | Future[None] | None:
        """The next piece of the body and whether it is the last; None when there will be none; a future after which to ask
        again.
        """

    def resume(self) -> None:
        """Says that a piece of the body that was handed to a callback has been dealt with."""

    def is_answered(self) -> bool:
        """Whether there is no body any more because the request has been answered."""

@disjoint_base
class FileWrapper:
    """A file as the result of a WSGI application: ``wsgi.file_wrapper``.

    Returned as it is, a real file is sent by the server from its position on; else it is read in blocks.

    Args:
        filelike: Something with ``read(size)``; its ``close()`` is called at the end if it has one.
        block_size: Bytes of a block.
    """

    def __new__(cls, filelike: Any, block_size: int = 8192) -> Self: ...
    @property
    def filelike(self) -> Any:
        """The file."""

    @property
    def block_size(self) -> int:
        """Bytes of a block."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def close(self) -> None:
        """Closes the file, if it can be closed."""

@final
class Gateway:
    """A mounted WSGI application. Internal."""

    def _work(self, number: int) -> None:
        """The life of a thread of the application."""

@final
class Done(Coroutine[Any, Any, None]):
    """What a call of ``send`` returns that has nothing to wait for. Internal."""

    def __await__(self) -> Generator[Any, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any: ...
    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> Any: ...
    def close(self) -> None: ...
    cr_running: Final[bool]
    cr_suspended: Final[bool]
    cr_frame: Final[None]
    cr_await: Final[None]
    cr_code: Final[None]

@final
class Pending(Coroutine[Any, Any, Any]):
    """What a call of ``receive``, or of ``send``, returns that may have to wait. Internal."""

    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any, /) -> Any: ...
    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> Any: ...
    def close(self) -> None: ...
    @property
    def cr_suspended(self) -> bool: ...

    cr_running: Final[bool]
    cr_frame: Final[None]
    cr_await: Final[None]
    cr_code: Final[None]

@final
class HttpCall:
    """A request as an ASGI application receives it and responds to it. Internal."""

    def receive(self) -> Pending:
        """The next message for the application."""

    def send(self, event: Any) -> Done | Pending:
        """Takes a message of the application. What it says is done when this returns."""

    def is_gone(self) -> bool:
        """Whether a message has found that the client has gone."""

    def departure(self) -> Pending:
        """Waits for the client's leaving, or the end of the response."""

    def finish(self, failed: bool) -> str | None:
        """Ends the application's part. None if the response is complete; ``"gone"`` if its client has left before that;
        ``"unanswered"`` if the client got a 500 instead, ``"cut"`` if the response was cut, ``"untrailed"`` if trailers that
        were announced are missing."""

@final
class SocketCall:
    """A WebSocket as an ASGI application receives from it and sends to it. Internal."""

    def receive(self) -> Pending:
        """The next message for the application."""

    def send(self, event: Any) -> Done | Pending:
        """Takes a message of the application. What it says is done when this returns, unless there has to be room first."""

    def finish(self, failed: bool) -> str | None:
        """Ends the application's part; see :meth:`HttpCall.finish`."""

@final
class FormParser:
    """Takes a form of the type ``application/x-www-form-urlencoded`` apart, in steps.

    Args:
        max_fields: How many fields it may have.
        max_field_size: Bytes that a name, and a value, may have without percent escapes.
    """

    def __new__(cls, max_fields: int, max_field_size: int) -> Self: ...
    def measure(self, body: bytes, budget: int, /) -> bool:
        """Looks at the next ``budget`` bytes of the form; says whether they were the last.

        Raises:
            ValueError: The form goes beyond a limit.
        """

    def take(self, body: bytes, budget: int, /) -> list[tuple[bytes, bytes]]:
        """Gives the fields that are in the next ``budget`` bytes, or the next one, without percent escapes."""

    def is_done(self, body: bytes, /) -> bool:
        """Says whether all fields have been taken."""

_Status: TypeAlias = int | str | bytes
_Headers: TypeAlias = Iterable[tuple[Field, Payload]]

@type_check_only
class _PartLimits(TypedDict, total=False):
    max_fields: int
    max_files: int
    max_field_size: int
    max_file_size: int | None
    max_header_bytes: int

@type_check_only
class _FormLimits(_PartLimits, total=False):
    encoding: str

@type_check_only
class _JsonLimit(TypedDict, total=False):
    max_size: int | None

@type_check_only
class _UrlencodedLimits(TypedDict, total=False):
    max_fields: int
    max_field_size: int

@disjoint_base
class Request:
    """One HTTP request.

    Its data is its own, so every method works for as long as the object is kept: after an ``await``
    and after the answer too. It takes attributes of any name, for what middlewares hand on.

    Text from the wire is UTF-8 where it is valid UTF-8 and ISO 8859-1 where it is not.
    """

    def __new__(cls) -> Self:
        """The server makes them.

        Raises:
            TypeError: Always.
        """

    @property
    def app(self) -> App:
        """The application that serves the request."""

    def get_method(self) -> str:
        """Gives the method as it was sent, normally in upper case."""

    def get_url(self) -> str:
        """Gives the path without the query, not percent-decoded."""

    def get_full_url(self) -> str:
        """Gives the path with the query, as they were sent: without scheme and host."""

    def get_header(self, lower_case_header: str | bytes) -> str | None:
        """Gives the value of a header.

        Args:
            lower_case_header: The header's name, in any case.

        Returns:
            The value without blanks around it, ``""`` if it is empty, None without such a header. The values
            of a repeated header are joined with ``", "``, those of ``cookie`` with ``"; "``.
        """

    def get_headers(self) -> dict[str, str]:
        """Gives all headers: lower case name to value, each as :meth:`get_header` gives it."""

    def for_each_header(self, handler: HeaderHandler) -> Self:
        """Calls a function for each header line, repeats included, in the order they came.

        Args:
            handler: A plain function ``(lower_case_name, value)``. What it raises is logged, and the next
                line follows.

        Returns:
            The request.
        """

    def get_query(self, key: str | bytes, /) -> str | None:
        """Gives the first value of a key in the query.

        Args:
            key: The key, decoded.

        Returns:
            The value, ``+`` and percent escapes decoded as UTF-8; ``""`` for ``key=``; None when there is no
            such key, or only one without ``=``.
        """

    def get_queries(self) -> dict[str, list[str]]:
        """Gives the whole query, decoded: key to values in their order. Blank values are left out."""

    @overload
    def get_parameters(self, index: None = None) -> list[str]:
        """Gives the values of all ``:name`` segments of the route in their order, not percent-decoded."""

    @overload
    def get_parameters(self, index: int | str) -> str | None:
        """Gives one of them; see :meth:`get_parameter`."""

    def get_parameter(self, index: int | str) -> str | None:
        """Gives the value of one ``:name`` segment of the route.

        Args:
            index: Its place, from 0, or its name without the colon.

        Returns:
            The value, not percent-decoded; None when there is none at that place or of that name.
        """

    def get_cookie(self, name: str | bytes) -> str | None:
        """Gives the value of a cookie.

        Args:
            name: The cookie's name; upper and lower case differ.

        Returns:
            The value, unquoted but not percent-decoded; None without such a cookie. Of several with one name,
            the last.
        """

    def get_cookies(self) -> SimpleCookie | None:
        """Gives all cookies by name, each with its text in ``.value``; None without a ``Cookie`` header."""

    def body(self) -> Coroutine[Any, Any, bytes]:
        """Reads the whole body. It is kept: reading again, in any form, reads the same.

        Returns:
            The bytes; ``b""`` without a body.

        Raises:
            ClientDisconnected: The body cannot become complete.
            RuntimeError: It has been read in pieces, or the request has been answered.
        """

    def text(self, encoding: str | None = None) -> Coroutine[Any, Any, str]:
        """Reads the whole body as text.

        Args:
            encoding: Name of the encoding; None, the default, for the ``charset`` of the ``Content-Type``, and
                UTF-8 without one.

        Returns:
            The text.

        Raises:
            BadRequest: The body is not in that encoding.
            UnsupportedMediaType: The ``charset`` is none.
            ClientDisconnected: The body cannot become complete.
        """

    def json(self, **limits: Unpack[_JsonLimit]) -> Coroutine[Any, Any, Any]:
        """Reads the whole body as JSON in UTF-8, through the application's serializer. A byte order mark is skipped.

        Args:
            limits: ``max_size`` in bytes (default 8 MiB); None for no limit but ``max_body_size``. Parsing holds up the
                loop, and what it makes takes a multiple of the body's memory.

        Returns:
            What the serializer's ``loads`` gives.

        Raises:
            ValueError: ``max_size`` is no whole number from 0.
            BadRequest: The body is not JSON; an empty one is not.
            ContentTooLarge: It is larger than ``max_size``.
            ClientDisconnected: The body cannot become complete.
        """

    def stream(self) -> AsyncIterator[bytes]:
        """Reads the body in pieces, each when it is asked for: meanwhile the client has to wait.

        A wait for a piece may be cancelled, such as by a timeout: the same iterator goes on, and so does another of the
        same request, where the one before stood. A body that was read whole before is one piece, for each iterator.

        Returns:
            An asynchronous iterator of pieces, none of them empty.

        Raises:
            ClientDisconnected: The body cannot become complete; raised by the iterator.
            RuntimeError: Another task waits for the body; raised by the iterator.
        """

    def form(self, **limits: Unpack[_FormLimits]) -> FormReader:
        """Reads the whole body as a form, ``application/x-www-form-urlencoded`` or ``multipart/form-data``.

        Files of up to 256 KiB are in memory, larger ones on disk. Reading again gives the same form.

        Args:
            limits: ``max_fields`` (default 1000) and ``max_files`` (100) of a form; ``max_field_size`` (1 MiB) and
                ``max_file_size`` (no limit but ``max_body_size``) in bytes; ``max_header_bytes`` (4096) of a header
                line of a part; ``encoding`` of an urlencoded form, and of parts for which the client names none
                (UTF-8).

        Returns:
            What to await for a :class:`~socketify.Form`, or to use as ``async with request.form() as form``, which
            closes the files at its end.

        Raises:
            ValueError: A limit is no whole number from 0. What else goes wrong is raised where it is awaited:
            UnsupportedMediaType: The body is no form.
            BadRequest: The body is not well-formed.
            ContentTooLarge: The form goes beyond a limit.
            ClientDisconnected: The body cannot become complete.
        """

    def multipart(self, **limits: Unpack[_PartLimits]) -> Multipart:
        """Reads a ``multipart/form-data`` body part by part, in constant memory.

        Where parts were asked for before, it goes on with the next of them, within the limits of then.

        Args:
            limits: As for :meth:`form`, without ``encoding``.

        Returns:
            An asynchronous iterator of :class:`~socketify.Part` objects, each of which is one of bytes.

        Raises:
            ValueError: A limit is no whole number from 0.
            UnsupportedMediaType: The body is of another type.
            BadRequest: The type has no boundary. The iterators raise what :meth:`form` does.
        """

    def preserve(self) -> Self:
        """Gives the request. Its data is valid for as long as it is kept, with this call or without."""

    def set_yield(self, has_yield: object) -> Self:
        """Says whether the next matching route shall have the request once this handler has returned.

        It has no effect once the answer is complete. A coroutine has returned when it has ended.

        Args:
            has_yield: Whether to go on; its truth counts.

        Returns:
            The request.
        """

    def get_yield(self) -> bool:
        """Tells what :meth:`set_yield` said last to this handler; False at its start."""

    def get_client_address(self) -> str | None:
        """Gives the address of the client, as trusted proxies have it.

        Of a connection from a proxy in ``App(trusted_proxies=...)``, or with a PROXY preface of one that speaks for
        another, ``Forwarded`` (RFC 7239) or ``X-Forwarded-For`` is read from the right, past trusted addresses: the
        first other one is the client. What a client writes there itself stands to the left of it and does not count.
        Of a request with both headers they have to agree.

        Returns:
            The address in its short form, IPv4 as such; that of the connection where no header says another. None when
            a trusted proxy does not name its client, as with ``for=unknown``, or names something that is no address, and
            on a UNIX socket without a header.
        """

    def get_client_scheme(self) -> str:
        """Gives the scheme that the client used: ``"http"`` or ``"https"``.

        It is the one that ``proto`` of ``Forwarded``, or ``X-Forwarded-Proto``, says in lower case, under the conditions
        of :meth:`get_client_address`; else that of the connection.
        """

    def get_client_host(self) -> str | None:
        """Gives the host that the client asked, with its port if it has one; None when the request names none.

        It is the one that ``host`` of ``Forwarded``, or ``X-Forwarded-Host``, says, under the conditions of
        :meth:`get_client_address`; else that of the request's target or ``Host`` header.
        """

    def is_secure(self) -> bool:
        """Tells whether the request came over TLS to this server. What a proxy in front speaks is not known here."""

    def get_tls_version(self) -> str | None:
        """Gives ``"TLSv1.2"`` or ``"TLSv1.3"``; None without TLS."""

    def get_tls_cipher(self) -> str | None:
        """Gives the cipher suite by OpenSSL's name, such as ``"TLS_AES_256_GCM_SHA384"``; None without TLS."""

    def get_peer_certificate(self) -> bytes | None:
        """Gives the certificate that the client has shown, in DER; verified with ``ca_file_name``. None without one."""

    def get_peer_subject(self) -> str | None:
        """Gives the subject of the client's certificate as text (RFC 4514), such as ``"CN=alice,O=Example"``; None without
        one. What is special in a value is escaped, so that none can pass for another."""

    def is_ancient(self) -> bool:
        """Tells whether the request is HTTP/1.0."""

    def _hand_over(self) -> None:
        """Says that a task takes over from the handler that runs."""

    def _end(self) -> bool:
        """Says that the coroutine that served this request has ended. True when it yielded: then :meth:`_go_on` follows."""

    def _end_failed(self) -> None:
        """Says that the coroutine that served this request has failed."""

    def _go_on(self, response: Response) -> None:
        """Calls the next handler, since this one, a coroutine that has ended, yielded."""

    @type_check_only
    def __getattr__(self, name: str) -> Any: ...
    @type_check_only
    def __setattr__(self, name: str, value: Any, /) -> None: ...

@disjoint_base
class Response:
    """The answer to one HTTP request.

    Every method may be called from any thread at any time. Once the answer is complete, or the client is
    gone, they do nothing and give what they give when there is nothing: themselves, False, 0 or None.

    A head is sent with the first bytes of the body, so the order of status and headers does not matter
    before.

    A *message* is text, sent as UTF-8; bytes, ``bytearray`` or ``memoryview``, sent as they are; or anything
    else, sent as JSON through the application's serializer. A set becomes an array.
    """

    aborted: bool
    """Whether the client left before the answer was complete. May be set, which changes nothing else."""

    def __new__(cls) -> Self:
        """The server makes them.

        Raises:
            TypeError: Always.
        """

    @property
    def app(self) -> App:
        """The application that answers."""

    def write_status(self, status_or_status_text: _Status) -> Self:
        """Sets the status. The first one set counts.

        Args:
            status_or_status_text: A number of ``socketify.status_codes`` from 200, or a status line's text
                such as ``"404 Not Found"`` or ``"299 Custom"``.

        Returns:
            The response.

        Raises:
            RuntimeError: It is not a status.
        """

    def write_header(self, key: Field, value: Payload) -> Self:
        """Adds a header; a name may be added several times.

        ``Content-Length`` is heeded rather than copied, so there is never a second one; ``Transfer-Encoding``
        is left to the core.

        Args:
            key: The name, sent as it is written here.
            value: ``str`` or bytes; an int is sent in decimal, anything else as JSON.

        Returns:
            The response.

        Raises:
            ValueError: The name is no header name, or the value has a line break or NUL.
        """

    def write_headers(self, headers: _Headers) -> Self:
        """Adds several headers.

        Args:
            headers: Any iterable of ``(name, value)`` pairs, each as for :meth:`write_header`.

        Returns:
            The response.

        Raises:
            ValueError: An item is not a pair, or a name or value is not valid.
        """

    def set_cookie(
        self, name: str | bytes, value: str | bytes | float, options: Mapping[str, object] | None = None
    ) -> Self:
        """Adds a ``Set-Cookie`` header.

        Args:
            name: The cookie's name.
            value: Its value, sent percent-encoded with ``%20`` for a space.
            options: Attributes by name, in any case: ``expires`` (a ``datetime``, naive taken as GMT; seconds
                from now; or text), ``path``, ``comment``, ``domain``, ``max-age`` (seconds), ``secure``,
                ``httponly``, ``version``, ``samesite``.

        Returns:
            The response.

        Raises:
            http.cookies.CookieError: The name or an option is not valid.
            TypeError: The value is None or of another type that cannot be written.
        """

    def write_continue(self) -> Self:
        """Sends an interim ``100 Continue``. A request that expects one gets it without this call."""

    def end(self, message: Payload | None, end_connection: object = False) -> Self:
        """Completes the answer.

        Args:
            message: The (rest of the) body; None for nothing. JSON sets ``Content-Type`` unless it was
                written.
            end_connection: Whether to close the connection afterwards; its truth counts, here and below.

        Returns:
            The response.

        Raises:
            TypeError: The serializer takes no such message. Nothing was sent then.
        """

    def cork_end(self, message: Payload | None, end_connection: object = False) -> Self:
        """The same as :meth:`end`: an answer always leaves in one piece."""

    def send(
        self,
        message: Payload | None = None,
        content_type: Field | None = None,
        status: _Status | None = None,
        headers: _Headers | None = None,
        end_connection: object = False,
    ) -> Self:
        """Gives the whole answer in one call.

        Args:
            message: The body; None, the default, for none.
            content_type: ``text/plain`` by default; JSON is always ``application/json``. Without effect where
                ``Content-Type`` has been written.
            status: As for :meth:`write_status`; 200 by default.
            headers: As for :meth:`write_headers`.
            end_connection: Whether to close the connection afterwards.

        Returns:
            The response.

        Raises:
            RuntimeError: The status is not one.
            ValueError: A header is not valid.
            TypeError: The serializer takes no such message.
        """

    def cork_send(
        self,
        message: Payload | None,
        content_type: Field | None = None,
        status: _Status | None = None,
        headers: _Headers | None = None,
        end_connection: object = False,
    ) -> Self:
        """The same as :meth:`send`: an answer always leaves in one piece."""

    def end_without_body(self, end_connection: object = False) -> Self:
        """Completes the answer without a body, with ``Content-Length: 0`` where the status allows one.

        For HEAD, a ``Content-Length`` written before is sent.
        """

    def redirect(self, location: Field, status_code: _Status | None = None) -> Self:
        """Completes the answer with a redirection.

        Args:
            location: Where to: a URL, or a path. What a URI has no place for, such as blanks and characters beyond ASCII, is
                percent-encoded as UTF-8; what is encoded already stays (RFC 9110 section 10.2.2).
            status_code: 302 by default.

        Returns:
            The response.

        Raises:
            RuntimeError: The status is not one.
            ValueError: The location has a line break or NUL.
        """

    def render(self, *args: Any, **kwargs: Any) -> Self:
        """Completes the answer, as ``text/html``, with what the application's template engine renders.

        Raises:
            RuntimeError: No engine is registered.
        """

    def write(self, message: Payload) -> Self:
        """Sends a piece of the body and leaves the answer open.

        The body goes out in chunks, or as it is where a ``Content-Length`` was written before.

        What the socket does not take is kept, without limit: see :meth:`drain` and :meth:`send_chunk`.
        """

    def try_end(self, message: Field, total_size: int, end_connection: object = False) -> tuple[bool, bool]:
        """Sends as much of a body as the socket takes, without keeping the rest.

        Args:
            message: The body from :meth:`get_write_offset` on.
            total_size: Bytes of the whole body; 0 means those of ``message``.
            end_connection: Whether to close the connection after the last byte.

        Returns:
            Whether all of ``message`` was taken, and whether the answer is over: complete or aborted. When
            not all was taken, go on in :meth:`on_writable`. ``(False, True)`` for what is neither text nor
            bytes.
        """

    def send_chunk(self, buffer: Field, total_size: int) -> Future[tuple[bool, bool]]:
        """Sends a piece of a body of known size, at the pace of the client. One call at a time.

        Args:
            buffer: The piece.
            total_size: Bytes of the whole body.

        Returns:
            A future: ``(True, False)`` when the piece was taken, ``(True, True)`` when with it the answer is
            complete, ``(False, True)`` when the client has gone.

        Raises:
            TypeError: The piece is neither text nor bytes.
        """

    def drain(self) -> Future[None]:
        """Gives a future that is done when there is room to write, or the answer is over."""

    def send_file(self, path: str | PathLike[str], content_type: str | None = None) -> Future[None]:
        """Answers with a file, which the system sends from its own memory; it is not copied through Python.

        Conditional requests and ranges are honoured (RFC 9110 sections 13 and 14), unless another status than
        200 was written before. What is missing and what is no regular file is a 404, what may not be read a
        403. Headers that were written before go out with it. If the file turns out shorter than it was, the
        connection is cut.

        Args:
            path: Anything is sent that the process can read: see :func:`socketify.helpers.in_directory`.
            content_type: Media type. Default None: what ``mimetypes`` makes of the name, unless a
                ``Content-Type`` was written.

        Returns:
            A future that is done when the file has left, or the client.

        Raises:
            RuntimeError: The answer has begun already.
        """

    def stream(
        self,
        iterable: AsyncIterable[Field] | Iterable[Field],
        content_type: str | bytes | None = None,
        status: _Status | None = None,
        headers: _Headers | None = None,
    ) -> Coroutine[Any, Any, bool]:
        """Gives an answer that is made while it is sent, at the pace of the client.

        When the client leaves, what makes the answer is cancelled where it waits, and closed. What it raises comes
        out of here; where a part of the answer has left already, the connection is cut.

        Args:
            iterable: Gives ``str`` or bytes; asynchronous, or plain: then it runs on the loop's thread and must not
                block.
            content_type: ``text/plain; charset=utf-8`` or ``application/octet-stream`` by default, as the first
                piece is text or bytes. Without effect where ``Content-Type`` has been written.
            status: As for :meth:`write_status`.
            headers: As for :meth:`write_headers`.

        Returns:
            Whether the client got all of it; False when it left before.

        Raises:
            TypeError: The iterable is none, or gives something else.
            RuntimeError: The status is not one.
            ValueError: A header is not valid.
        """

    def events(self, keep_alive: float = 15.0, headers: _Headers | None = None) -> EventStream:
        """Gives an answer of server-sent events (WHATWG HTML section 9.2).

        Args:
            keep_alive: Seconds without an event after which a comment is sent; 0 for none.
            headers: Further headers.

        Returns:
            A stream to use as ``async with response.events() as events``.

        Raises:
            ValueError: ``keep_alive`` is no number of seconds.
        """

    def send_events(
        self,
        iterable: AsyncIterable[Any] | Iterable[Any],
        keep_alive: float = 15.0,
        headers: _Headers | None = None,
    ) -> Coroutine[Any, Any, None]:
        """Sends what an iterable gives as server-sent events, until it ends or the client goes.

        Args:
            iterable: Gives :class:`~socketify.ServerSentEvent` objects, or the data of events.
            keep_alive: As for :meth:`events`.
            headers: Further headers.

        Raises:
            ValueError: ``keep_alive`` is no number of seconds, or an event is not valid.
            TypeError: The serializer takes no such message.
        """

    def get_write_offset(self) -> int:
        """Gives the number of body bytes taken so far."""

    def write_offset(self, offset: int) -> Self:
        """Sets what :meth:`get_write_offset` gives, and from where :meth:`try_end` counts."""

    def get_buffered_amount(self) -> int:
        """Gives the number of bytes that were written and that the socket has not taken yet."""

    def cork(self, callback: Callable[[Response], object]) -> Self:
        """Runs a function and sends all it writes in one piece.

        Args:
            callback: A plain function, called with the response at once, unless the answer is over. A
                coroutine function is refused, which is logged. What it raises comes out of here.

        Returns:
            The response.
        """

    def upgrade(
        self,
        sec_web_socket_key: Field | None,
        sec_web_socket_protocol: Field | None,
        sec_web_socket_extensions: Field | None,
        socket_context: object,
        user_data: object = None,
    ) -> bool:
        """Accepts a WebSocket handshake (RFC 6455 section 4.2.2). For the ``upgrade`` listener of ``App.ws``.

        Headers and cookies that were written before go into the 101. The ``open`` listener runs inside this
        call where it is of the caller's kind, plain or ``async``. The response is complete afterwards.

        Args:
            sec_web_socket_key: The header of that name.
            sec_web_socket_protocol: The header of that name, or one subprotocol of your choice: the first of
                the list is answered. None for no subprotocol.
            sec_web_socket_extensions: The header of that name: compression is agreed on from it, if the
                behaviour allows some. None for no compression.
            socket_context: What the listener got as its third argument.
            user_data: Any object; :meth:`WebSocket.get_user_data` gives it, and it is kept until the ``close``
                listener has run.

        Returns:
            Whether there is a socket now. False when the client has gone or has been answered, and when the key
            is not 16 bytes in base64 (RFC 6455 section 4.1), which is answered with 400.

        Raises:
            RuntimeError: The request is not one that an ``upgrade`` listener got.
        """

    def has_responded(self) -> bool:
        """Tells whether the answer is complete. It is not when the client left before."""

    def close(self) -> Self:
        """Cuts the connection at once. An answer that was not complete is aborted."""

    def grab_aborted_handler(self) -> Self:
        """Gives the response. Whether it was aborted is always known, with this call or without."""

    def on_aborted(self, handler: AbortedHandler) -> Self:
        """Has a function called when the client leaves before the answer is complete.

        Args:
            handler: ``(res)``, ``async`` or not; the last one registered counts, what cannot be called is
                ignored. What it raises is logged.

        Returns:
            The response.
        """

    def on_data(self, handler: DataHandler) -> Self:
        """Has a function called with each piece of the request's body.

        Args:
            handler: ``(res, chunk, is_end)``, ``async`` or not; the next piece waits for it. ``is_end`` is
                True exactly once, for the last piece, which may be empty.

        Returns:
            The response.
        """

    def on_writable(self, handler: WritableHandler) -> Self:
        """Has a function called when there is room to write again.

        Args:
            handler: A plain function ``(res, offset) -> bool``: from where to go on, and whether all it
                offered was taken. A coroutine function is refused, which is logged.

        Returns:
            The response.
        """

    def pause(self) -> Self:
        """Stops reading the request's body, so that the client has to wait, for as long as it takes."""

    def resume(self) -> Self:
        """Goes on reading after :meth:`pause`."""

    def get_data(self) -> Future[BytesIO]:
        """Gives a future of the whole body of the request.

        It may be asked for at any time before the answer is complete, and again. Empty without a body; what
        had arrived when the client left; what is left, where pieces were read before. When all such futures were
        cancelled nothing is asked for: the client has to wait, and the next task to ask goes on.
        """

    def get_text(self, encoding: str = "utf-8") -> Coroutine[Any, Any, str | None]:
        """Reads the whole body of the request as text; None when it is not in that encoding."""

    def get_json(self, **limits: Unpack[_JsonLimit]) -> Coroutine[Any, Any, Any]:
        """Reads the whole body of the request as JSON in UTF-8; None when it is none. A byte order mark is skipped.

        Args:
            limits: ``max_size`` in bytes (default 8 MiB), beyond which it is None too; None for no limit but
                ``max_body_size``.
        """

    def get_form_urlencoded(
        self, encoding: str = "utf-8", **limits: Unpack[_UrlencodedLimits]
    ) -> Coroutine[Any, Any, dict[str, str] | None]:
        """Reads the whole body of the request as an HTML form: the last value of each field.

        Blank values are left out. None when there are no fields, the body is not in that encoding, or the form goes
        beyond a limit.

        Args:
            encoding: Encoding of the body and of its percent escapes.
            limits: ``max_fields`` (default 1000); ``max_field_size`` (1 MiB), bytes of a name, and of a value.
        """

    def run_async(self, task: Coroutine[Any, Any, Any]) -> Self:
        """Runs a coroutine on the loop; the error handler gets what it raises, and this response."""

    def get_remote_address(self) -> str | None:
        """Gives the client's address, IPv6 as eight groups of four digits; None on a UNIX socket."""

    def get_remote_address_bytes(self) -> bytes:
        """Gives the client's address as 4 or 16 bytes in network order; ``b""`` on a UNIX socket."""

    def get_proxied_remote_address(self) -> str | None:
        """Gives the address that a trusted proxy told in a PROXY preface; None without one."""

    def get_proxied_remote_address_bytes(self) -> bytes | None:
        """Gives the address that a proxy told as 4 or 16 bytes in network order; None without one."""

    def get_native_handle(self) -> int:
        """Gives the socket's file descriptor. It stays the core's: do not read, write or close it."""

    def _ended(self) -> Future[None]:
        """A future that is done when the answer is complete or the client has gone."""

    def _begin_stream(
        self, content_type: str | None, status: _Status | None, headers: _Headers | None
    ) -> None:
        """Sets what the head of a stream says; None leaves the type open."""

    def _end_stream_unseen(self) -> None:
        """Completes the answer to ``HEAD`` where ``GET`` would get a stream."""

    def _apply_cors(self, policy: CorsPolicy) -> None:
        """Has the answer say which pages of other origins may read it."""

    def _keep_header(self, key: Field, value: Payload) -> None:
        """Sets a header that goes with whatever the answer is, an error included."""

    def _begin_work(self) -> None:
        """Says that something works on the answer that runs on when the handler has returned."""

    def _end_work(self) -> None:
        """Says that it has ended."""

    def _fail(self) -> None:
        """A 500 in place of what was not said yet; cuts an answer that has begun."""

    def _reset(self) -> None:
        """Forgets the head that was not sent yet; cuts an answer that has begun."""

    @type_check_only
    def __getattr__(self, name: str) -> Any: ...
    @type_check_only
    def __setattr__(self, name: str, value: Any, /) -> None: ...

@disjoint_base
class WebSocket:
    """One WebSocket, the same object in all its callbacks.

    It may be kept, takes attributes of any name, and is compared and hashed as what it is: this very object.
    Every method may be called from any thread at any time. Once either side has ended the socket they do
    nothing and give what they give when there is nothing: themselves, ``SendStatus.DROPPED``, False, 0, None
    or an empty list.

    A *message* is text, sent as UTF-8; bytes, ``bytearray`` or ``memoryview``, sent as they are; None, an
    empty message; or anything else, sent as JSON through the application's serializer. Whatever it is, it is
    sent as BINARY unless the opcode says TEXT.

    A *topic* is text or bytes; text and its UTF-8 bytes are the same topic.
    """

    def __new__(cls) -> Self:
        """The server makes them.

        Raises:
            TypeError: Always.
        """

    @property
    def app(self) -> App:
        """The application that serves the socket."""

    @property
    def closed(self) -> bool:
        """Whether either side has ended the socket."""

    @property
    def dropped(self) -> int:
        """How many messages were dropped because too much waited for the client, published ones included."""

    def send(
        self,
        message: Payload | None,
        opcode: OpCode | int | None = None,
        compress: object = False,
        fin: object = True,
    ) -> SendStatus:
        """Sends a message, or a ping or pong of up to 125 bytes.

        Args:
            message: The message.
            opcode: ``BINARY`` by default; ``TEXT``, ``PING`` or ``PONG``. ``CONTINUATION`` goes on with a
                message in fragments.
            compress: Whether to compress it, where that was agreed on; its truth counts. Fragments, empty
                messages, pings and pongs never are.
            fin: False begins a message in fragments, as :meth:`send_first_fragment` does; its truth counts.

        Returns:
            ``SUCCESS``: on its way. ``BACKPRESSURE``: queued, behind what the client has not taken yet.
            ``DROPPED``: not sent, since more than ``max_backpressure`` bytes wait already, or the socket has
            ended. Pings and pongs are not counted against that limit.

        Raises:
            ValueError: The opcode is none, or is ``CLOSE``, which :meth:`end` sends; a ping or pong has more
                than 125 bytes or is in fragments (RFC 6455 section 5.5); a TEXT message is not UTF-8
                (section 5.6).
            RuntimeError: A continuation without a beginning, or a beginning within a message in fragments
                (section 5.4).
            TypeError: The serializer takes no such message.
        """

    def cork_send(
        self,
        message: Payload | None,
        opcode: OpCode | int | None = None,
        compress: object = False,
        fin: object = True,
    ) -> Self:
        """The same as :meth:`send`, but gives the socket, so that calls can be chained."""

    def send_first_fragment(
        self, message: Payload | None, opcode: OpCode | int | None = None, compress: object = False
    ) -> SendStatus:
        """Begins a message whose parts are sent one by one (RFC 6455 section 5.4).

        What else is sent or published to the socket waits for its last fragment; pings and pongs do not.

        Args:
            message: The first part. One of a TEXT message may end within a character.
            opcode: ``BINARY`` by default, or ``TEXT``.
            compress: Accepted; fragments are sent as they are.

        Returns:
            As :meth:`send`. When the first part was dropped the others are too. When a later part meets
            ``max_backpressure`` the socket is cut off, since the client could only wait for the rest.

        Raises:
            RuntimeError: Another message in fragments has not been ended.
            ValueError: The opcode is none for a message.
        """

    def send_fragment(self, message: Payload | None, compress: object = False) -> SendStatus:
        """Goes on with a message in fragments; see :meth:`send_first_fragment`.

        Raises:
            RuntimeError: None has been begun.
        """

    def send_last_fragment(self, message: Payload | None, compress: object = False) -> SendStatus:
        """Ends a message in fragments; see :meth:`send_first_fragment`.

        Raises:
            RuntimeError: None has been begun.
        """

    def cork(self, callback: Callable[[WebSocket], object]) -> Self:
        """Runs a function and sends all it sends, to any socket, when it has returned.

        For threads of your own: what listeners send is held back until they return with this call or without.
        At most 16 KiB are held back for a socket.

        Args:
            callback: A plain function, called with the socket at once. A coroutine function is refused, which
                is logged, and so is what it raises.

        Returns:
            The socket.
        """

    def drain(self) -> Future[None]:
        """Gives a future that is done when nothing waits for the client, or the socket has ended."""

    def get_buffered_amount(self) -> int:
        """Gives the number of bytes that wait for the client: sent here and not yet taken by the system."""

    def end(self, code: int = 0, message: Field | None = None) -> Self:
        """Ends the socket with a close frame. The ``close`` listener hears the code and the message.

        It runs inside this call where it is of the caller's kind, plain or ``async``, and nothing happened
        before that it has not heard of. Messages that came and were not handled yet are dropped.

        Args:
            code: 0, the default, or 1000 to 4999 (RFC 6455 section 7.4); 0, 1005 and 1006 send a frame
                without a code and a reason.
            message: The reason; the frame gets as much of it as is UTF-8 and fits 123 bytes.

        Returns:
            The socket.

        Raises:
            RuntimeError: The code is none, or the message is neither text, bytes nor None.
        """

    def cork_end(self, code: int = 0, message: Field | None = None) -> Self:
        """The same as :meth:`end`."""

    def close(self) -> Self:
        """Cuts the connection at once, without a close frame. The ``close`` listener hears 1006 and None."""

    def subscribe(self, topic: Field) -> bool:
        """Subscribes to a topic. No character of it is a wildcard.

        Returns:
            Whether the socket is subscribed, newly or still; False for what is no topic, and after the end.
        """

    def unsubscribe(self, topic: Field) -> bool:
        """Leaves a topic; tells whether the socket was subscribed. At its end it leaves all of them."""

    def is_subscribed(self, topic: Field) -> bool:
        """Tells whether the socket is subscribed to exactly this topic."""

    def publish(
        self,
        topic: Field,
        message: Payload | None,
        opcode: OpCode | int | None = None,
        compress: object = False,
    ) -> bool:
        """The same as ``App.publish``: every subscriber gets the message, this socket too if it is one.

        Args:
            topic: The topic.
            message: The message.
            opcode: ``BINARY`` by default, or ``TEXT``.
            compress: Whether to compress it for the sockets that agreed to that; its truth counts.

        Returns:
            Whether there is a subscriber.

        Raises:
            ValueError: The opcode is neither, or a TEXT message is not UTF-8.
            TypeError: The serializer takes no such message.
        """

    def get_topics(self) -> list[str | Any]:
        """Gives the topics of the socket in no particular order: each as ``str``, or as ``bytes`` where it is not UTF-8."""

    def for_each_topic(self, handler: Callable[[str], object]) -> Self:
        """Calls a function for each topic of the socket, which may subscribe and unsubscribe.

        Args:
            handler: A plain function ``(topic)``. What it raises is logged, and the next topic follows.

        Returns:
            The socket.
        """

    def get_user_data(self) -> Any:
        """Gives the object that :meth:`Response.upgrade` got, also after the end; None if it got none."""

    def get_user_data_uuid(self) -> UUID | None:
        """Gives an id of the socket, made when first asked for."""

    def get_remote_address(self) -> str | None:
        """Gives the client's address, IPv6 as eight groups of four digits; None on a UNIX socket."""

    def get_remote_address_bytes(self) -> bytes | None:
        """Gives the client's address as 4 or 16 bytes in network order; None on a UNIX socket."""

    def get_proxied_remote_address(self) -> str | None:
        """Gives the address that a trusted proxy told in a PROXY preface; None without one."""

    def get_proxied_remote_address_bytes(self) -> bytes | None:
        """Gives the address that a proxy told as 4 or 16 bytes in network order; None without one."""

    def get_peer_certificate(self) -> bytes | None:
        """Gives the certificate that the client has shown, in DER; verified with ``ca_file_name``. None without one."""

    def get_peer_subject(self) -> str | None:
        """Gives the subject of the client's certificate as text (RFC 4514), such as ``"CN=alice,O=Example"``; None without
        one. What is special in a value is escaped, so that none can pass for another."""

    def get_native_handle(self) -> int:
        """Gives the socket's file descriptor, -1 once the connection is gone. It stays the core's: do not read,
        write or close it."""

    def clone(self) -> WebSocket:
        """Gives another object for the same socket, without the attributes that were set on this one."""

    @property
    def socket_data(self) -> Any:
        """What :meth:`get_user_data` gives."""

    @property
    def socket_data_id(self) -> UUID | None:
        """What :meth:`get_user_data_uuid` gives."""

    @property
    def got_socket_data(self) -> bool:
        """Whether there is user data."""

    @property
    def ws(self) -> int:
        """The number of the connection within its server."""

    def _done(self, weight: int) -> None:
        """Says that the task of an event has ended."""

    @type_check_only
    def __getattr__(self, name: str) -> Any: ...
    @type_check_only
    def __setattr__(self, name: str, value: Any, /) -> None: ...

@final
class CorsPolicy:
    """A policy of cross-origin resource sharing. Internal: :class:`socketify.CORS` is what users have."""

    def __new__(cls, options: dict[str, Any]) -> Self: ...

@final
class Server:
    """The part of an application that is Rust. Internal: :class:`socketify.App` is what users have."""

    def __new__(
        cls, application: App, hooks: Hooks, serializer: Any, handlers_on_loop: bool, options: dict[str, Any]
    ) -> Self: ...
    @staticmethod
    def domain_name(name: str) -> str:
        """Checks the name of a domain; gives it as requests to it are compared with."""

    def add_server_name(self, name: str, options: AppOptions | None = None) -> bool:
        """Registers a TLS server name; False when it was there before, and without TLS. Nothing is registered when a warning
        is an error."""

    def remove_server_name(self, name: str) -> bool:
        """Removes a TLS server name and its routes; whether it was there."""

    def set_missing_server_name(self, handler: Callable[[str], object] | None, coroutine: bool) -> None:
        """Sets the handler of TLS server names that are not known."""

    def reload_certificates(self) -> list[str]:
        """Reads the files of all certificates anew; gives what the administrator should know of them."""

    def add_route(
        self,
        method: str | None,
        pattern: str,
        handler: Callable[..., object],
        coroutine: bool,
        max_body_size: int | None = None,
        domain: str | None = None,
    ) -> bool:
        """Registers a handler; ``method`` None is every method. ``domain`` names the router, None the default one. True when
        the pattern can match."""

    def mount_asgi(
        self,
        application: Application,
        start: Callable[[Application, Scope, Any], None],
        root_path: str,
        websocket: dict[str, Any] | None = None,
    ) -> None:
        """Has an ASGI application serve every path and method. ``start`` starts the task of a call. ``websocket`` has the
        limits of sockets as numbers by key; None refuses handshakes."""

    def mount_wsgi(
        self,
        application: Callable[..., Iterable[bytes]],
        root_path: str,
        environ: dict[str, Any],
        threads: int = 1,
        idle: float = 30.0,
    ) -> None:
        """Has a WSGI application serve every path and method. ``environ`` has what does not depend on the request. At most
        ``threads`` requests are in the application at a time; one of several threads ends after ``idle`` seconds without
        work."""

    def set_asgi_state(self, state: dict[str, Any] | None) -> None:
        """The state of the lifespan, of which each request gets a copy; None for an empty one."""

    def add_constant(
        self,
        method: str | None,
        pattern: str,
        status: int,
        headers: list[tuple[Any, Any]],
        body: Any,
        domain: str | None = None,
    ) -> bool:
        """Registers an answer that never changes, which is given without Python."""

    def add_files(
        self,
        pattern: str,
        directory: str | PathLike[str],
        depth: int,
        index: str | None,
        cache_control: str | None,
        precompressed: bool,
        dotfiles: bool,
        types: tuple[dict[str, str], dict[str, str], dict[str, str]],
        domain: str | None = None,
    ) -> bool:
        """Registers a directory, whose names begin behind ``depth`` segments of a path. ``types`` are media types
        by extension, suffixes that stand for others, and encodings. True when the pattern can match."""

    def add_cors(self, pattern: str, policy: CorsPolicy) -> None:
        """Sets the policy for requests whose path matches a pattern."""

    def add_websocket(
        self,
        pattern: str,
        limits: dict[str, Any],
        listeners: dict[str, tuple[Callable[..., object], bool]],
        context: object,
        domain: str | None = None,
    ) -> bool:
        """Registers a WebSocket route: limits by key, times in seconds; listeners with whether each is a coroutine
        function; ``context`` is the third argument of ``upgrade``. True when the pattern can match."""

    def publish(
        self,
        topic: str | bytes,
        message: Payload | None,
        opcode: OpCode | int | None = None,
        compress: object = False,
    ) -> bool:
        """Publishes a message; returns whether there was a subscriber."""

    def num_subscribers(self, topic: str | bytes) -> int:
        """How many sockets are subscribed to a topic."""

    def bind_tcp(self, host: str | None, port: int, sharing: str, backlog: int) -> int:
        """Binds a TCP port, shared with ``"none"``, with processes of its ``"group"`` or with ``"all"``; gives it."""

    def bind_unix(self, path: str, mode: int | None, backlog: int) -> int:
        """Binds a Unix socket with these permissions; gives 0."""

    @staticmethod
    def open_unix(path: str, mode: int, backlog: int) -> int:
        """Listens on a Unix socket that no server has yet; gives its descriptor, which is the caller's."""

    def adopt(self, descriptor: int) -> int:
        """Takes a listening socket and owns its descriptor from now on, which does not block any more; gives its port."""

    def start(self, event_loop: AbstractEventLoop, notes: bool = False) -> None:
        """Starts the threads; ``async`` handlers run on ``event_loop``. ``notes``: what fails on connections is told."""

    def count_requests(self, requests: int, descriptor: int) -> None:
        """Has ``spent`` and a line feed written to a descriptor, which stays the caller's, once so many requests have been
        admitted. From the next start on."""

    def part(self) -> None:
        """Has responses announce that their connection closes."""

    def close(self, grace: float) -> None:
        """Stops accepting; what is in flight may finish for ``grace`` seconds."""

    def join(self, patience: float) -> bool:
        """Ends the threads. For the loop's thread, once the loop has stopped. False when a ``def`` handler has not
        returned after ``patience`` seconds: then its thread is left behind."""

    def abandon(self) -> None:
        """For a process that was forked from the one that serves: nothing of the server acts here, or waits for anything."""

    def threads(self) -> list[int]:
        """The I/O threads that have not ended, as ``threading.get_ident`` numbers them."""

    def is_running(self) -> bool:
        """Whether the threads run."""

    def connection_count(self) -> int:
        """How many connections are open. A stream of HTTP/2 is none."""

    def stream_count(self) -> int:
        """How many streams of HTTP/2 are open, without those that were answered at once."""

    def request_count(self) -> int:
        """How many requests are in progress, those that wait for their handler included."""

    def set_serializer(self, serializer: Any) -> None:
        """Sets what JSON goes through."""

    def replace_class(self, class_: type[Any]) -> None:
        """Makes requests, responses or sockets of a subclass of theirs from now on. Each can be replaced once."""

    def set_flusher(self, flusher: Callable[[], object] | None) -> None:
        """Sets what has the loop call ``flush`` soon, for a loop that does not poll before it blocks."""

    def flush(self) -> None:
        """Sends what the loop's turn has held back."""

    def leave_loop(self) -> None:
        """Says that the loop has stopped."""

    def set_event_loop(self, event_loop: AbstractEventLoop | None) -> None:
        """Sets the loop that futures belong to, before the server starts."""

    def poll(self) -> bool:
        """Runs what was posted to the loop's thread; True when there was something."""

    def arm(self) -> bool:
        """Announces that the loop will block; False when it must not."""

    def disarm(self) -> None:
        """Says that the loop is awake."""

    def wake_descriptor(self) -> int:
        """File descriptor that becomes readable when the loop has to wake."""

    def clear_wake(self) -> None:
        """Empties what ``wake_descriptor`` gives."""
