"""Requests and answers as bytes (RFC 9112), without sockets: what both clients have in common.

Parsing is written as generators that yield when they need more bytes and are sent what has come, ``b""`` at the end of the
input. So one parser serves a blocking socket and an asyncio stream.
"""

from __future__ import annotations

import http.client
import inspect
import io
import json as json_module
from collections import deque
from collections.abc import AsyncIterable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote, urlencode

__all__ = [
    "LAST_CHUNK",
    "Answer",
    "Body",
    "Buffer",
    "Lines",
    "RequestOptions",
    "Steps",
    "encode_chunk",
    "encode_request",
    "read_head",
]

_T = TypeVar("_T")

#: A piece of a conversation: yields bytes to send, or None for more bytes; returns its result.
Steps: TypeAlias = Generator[bytes | None, bytes, _T]

#: Bytes of an answer's head; an answer with a larger one is a broken one.
_MAX_HEAD = 1 << 20

#: What may stand in a request target as it is: everything but blanks, controls and what is not ASCII.
_TARGET = "!#$%&'()*+,-./:;=?@[]_~|\"<>\\^`{}"

Values: TypeAlias = "Mapping[str, Any] | Sequence[tuple[str, Any]]"


class RequestOptions(TypedDict, total=False):
    """What a request may have besides its method and its target.

    Attributes:
        params: Parameters of the query, added to those in the target.
        headers: Further header fields; one of the same name takes the place of one that would be added.
        cookies: Names and values of a ``Cookie`` field.
        body: The body: ``str``, bytes, or pieces of bytes, which are sent as chunks.
        json: A value to send as JSON.
        form: Fields to send as ``application/x-www-form-urlencoded``.
        timeout: Seconds for the whole exchange, in place of the server's ``timeout``.
    """

    params: Values
    headers: Mapping[str, str] | Sequence[tuple[str, str]]
    cookies: Mapping[str, str]
    body: str | bytes | bytearray | Iterable[bytes] | AsyncIterable[bytes]
    json: Any
    form: Values
    timeout: float


@dataclass
class Answer:
    """One response. Redirects are not followed and bodies are not decompressed: it is what the server has sent.

    Attributes:
        status: The status code.
        reason: The text behind it.
        headers: The header fields: ``headers["content-type"]`` in any case, None where there is none;
            ``headers.get_all("set-cookie")`` for all of one name.
        body: The body, without its framing.
        interim: The status codes of interim responses that came before, such as 100.
    """

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes = b""
    interim: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The body as text, in the charset that its ``Content-Type`` names, or else UTF-8.

        Raises:
            UnicodeDecodeError: It is not.
        """
        return self.body.decode(self.headers.get_content_charset("utf-8"))

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: It is not.
        """
        return json_module.loads(self.body)

    @property
    def cookies(self) -> dict[str, str]:
        """Names and values of the cookies that this response sets."""
        cookies: SimpleCookie = SimpleCookie()
        for line in self.headers.get_all("set-cookie", []):
            cookies.load(line)
        return {name: morsel.value for name, morsel in cookies.items()}


class Buffer:
    """Bytes that have come and have not been read."""

    def __init__(self) -> None:
        self.pending = bytearray()

    def until(self, end: bytes, limit: int) -> Steps[bytes]:
        """Reads up to and including ``end``, which must come within ``limit`` bytes."""
        start = 0
        while (at := self.pending.find(end, start)) < 0:
            if len(self.pending) > limit:
                raise ConnectionError(f"no {end!r} in {limit} bytes: {bytes(self.pending[:100])!r}...")
            start = max(0, len(self.pending) - len(end) + 1)
            yield from self._more(f"before {end!r}")
        return self._take(at + len(end))

    def exactly(self, count: int) -> Steps[bytes]:
        while len(self.pending) < count:
            yield from self._more(f"after {len(self.pending)} of {count} bytes")
        return self._take(count)

    def some(self, limit: int) -> Steps[bytes]:
        """What is there, at least a byte and at most ``limit``."""
        if not self.pending:
            yield from self._more(f"with {limit} bytes to come")
        return self._take(min(limit, len(self.pending)))

    def any(self) -> Steps[bytes]:
        """What is there, or comes next; nothing at the end of the input."""
        if not self.pending:
            return (yield None)
        return self._take(len(self.pending))

    def _more(self, where: str) -> Steps[None]:
        data = yield None
        if not data:
            raise ConnectionError(f"the server closed the connection {where}")
        self.pending += data

    def _take(self, count: int) -> bytes:
        taken = bytes(self.pending[:count])
        del self.pending[:count]
        return taken


def read_head(buffer: Buffer) -> Steps[Answer]:
    """Reads the head of the next final response, or of a 101."""
    interim: list[int] = []
    while True:
        head = yield from buffer.until(b"\r\n\r\n", _MAX_HEAD)
        status_line, _, fields = head.partition(b"\r\n")
        version, _, rest = status_line.decode("latin-1").partition(" ")
        code, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not (len(code) == 3 and code.isdecimal()):
            raise ConnectionError(f"{status_line!r} is no status line")
        status = int(code)
        if status >= 200 or status == 101:
            headers = http.client.parse_headers(io.BytesIO(fields))
            return Answer(status, reason, headers, interim=interim)
        interim.append(status)


class Body:
    """The body that follows a head (RFC 9112 section 6.3)."""

    def __init__(self, buffer: Buffer, method: str, answer: Answer) -> None:
        self._buffer = buffer
        length = answer.headers.get("content-length")
        if (
            method == "HEAD"
            or answer.status in (101, 204, 304)
            or (method == "CONNECT" and answer.status < 300)
        ):
            self._kind, self._left = "length", 0
        elif (answer.headers.get("transfer-encoding") or "").lower() == "chunked":
            self._kind, self._left = "chunks", 0
        elif length is not None:
            self._kind, self._left = "length", int(length)
        else:
            self._kind, self._left = "rest", 0
        self._ended = False
        self._begun = False
        self._steps: Steps[bytes] | None = None

    def piece(self) -> Steps[bytes]:
        """The next bytes as they come; nothing at the end."""
        if self._ended:
            return b""
        if self._kind == "rest":
            data = yield from self._buffer.any()
            self._ended = not data
            return data
        if self._kind == "chunks" and not self._left and not (yield from self._next_chunk()):
            self._ended = True
            return b""
        if not self._left:
            self._ended = True
            return b""
        data = yield from self._buffer.some(self._left)
        self._left -= len(data)
        return data

    def next_piece(self) -> Steps[bytes]:
        """The steps of the next piece: those of the last call, where a timeout or a cancellation has left them half done."""
        if self._steps is None or inspect.getgeneratorstate(self._steps) == inspect.GEN_CLOSED:
            self._steps = self.piece()
        return self._steps

    def whole(self) -> Steps[bytes]:
        parts = []
        while part := (yield from self.piece()):
            parts.append(part)
        return b"".join(parts)

    def _next_chunk(self) -> Steps[bool]:
        if self._begun and (yield from self._buffer.exactly(2)) != b"\r\n":
            raise ConnectionError("a chunk is longer than its size")
        self._begun = True
        line = yield from self._buffer.until(b"\r\n", 1024)
        self._left = int(line.split(b";")[0], 16)
        if not self._left:
            # Trailer fields, if any, up to an empty line.
            while (yield from self._buffer.until(b"\r\n", _MAX_HEAD)) != b"\r\n":
                pass
        return bool(self._left)


def encode_request(
    method: str, target: str, host: str, options: RequestOptions
) -> tuple[bytes, Iterable[bytes] | AsyncIterable[bytes] | None]:
    """Gives a request's bytes, and the pieces that are to follow it as chunks, if its body comes in pieces.

    Raises:
        ValueError: The target does not begin with a slash, a field has a line break in it, or there is more than one body.
        TypeError: An option is unknown.
    """
    if unknown := options.keys() - RequestOptions.__annotations__.keys():
        raise TypeError(
            f"a request has no {', '.join(sorted(unknown))}: it takes {', '.join(RequestOptions.__annotations__)}"
        )
    body, added, pieces = _encode_body(options)
    fields = {"host": ("Host", host), **{name.lower(): (name, value) for name, value in added.items()}}
    if cookies := options.get("cookies"):
        fields["cookie"] = ("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
    given = _pairs(options.get("headers", ()))
    for name, _ in given:
        fields.pop(name.lower(), None)
    lines = [f"{method} {_target(target, options)} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in [*fields.values(), *given]]
    for line in lines:
        if "\r" in line or "\n" in line:
            raise ValueError(f"a line break in {line!r}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body, pieces


def _encode_body(
    options: RequestOptions,
) -> tuple[bytes, dict[str, str], Iterable[bytes] | AsyncIterable[bytes] | None]:
    if len(given := options.keys() & {"body", "json", "form"}) > 1:
        raise ValueError(f"a request has one body, not {', '.join(sorted(given))}")
    headers: dict[str, str] = {}
    body: Any = options.get("body")
    if "json" in options:
        body = json_module.dumps(options["json"])
        headers["Content-Type"] = "application/json"
    elif "form" in options:
        body = urlencode(options["form"], doseq=True)
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if body is None:
        return b"", headers, None
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        headers["Content-Length"] = str(len(body))
        return bytes(body), headers, None
    headers["Transfer-Encoding"] = "chunked"
    return b"", headers, body


def _target(target: str, options: RequestOptions) -> str:
    if not target.startswith("/") and target != "*":
        raise ValueError(f"a path begins with a slash; {target!r} does not")
    target = quote(target, safe=_TARGET)
    if params := options.get("params"):
        target += ("&" if "?" in target else "?") + urlencode(params, doseq=True)
    return target


def _pairs(values: Mapping[str, str] | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(values.items()) if isinstance(values, Mapping) else list(values)


def encode_chunk(data: bytes) -> bytes:
    """One chunk of a request; nothing for no bytes, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


#: What ends a body in chunks.
LAST_CHUNK = b"0\r\n\r\n"


class Lines:
    """Lines of text in the pieces of a body, without their ends. What is no whole line yet stays for the next piece."""

    def __init__(self) -> None:
        self._rest = b""
        self._ready: deque[str] = deque()
        self._ended = False

    def feed(self, piece: bytes) -> None:
        """Takes the next piece; nothing is the end."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._ready.extend(line.removesuffix(b"\r").decode() for line in lines)
        if not piece:
            self._ended = True
            if self._rest:
                self._ready.append(self._rest.decode())
                self._rest = b""

    def next(self) -> str | None:
        """The next line; None where a piece is needed first, and at the end."""
        return self._ready.popleft() if self._ready else None

    @property
    def ended(self) -> bool:
        """Whether the end was fed."""
        return self._ended
