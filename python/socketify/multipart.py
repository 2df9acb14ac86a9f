"""The parts of a ``multipart/form-data`` body (RFC 7578), one after the other as they arrive.

The bytes are taken apart by ``multipart``, a push parser that does no input of its own: it has limits for all that a client
chooses, is tested with what browsers send, and is one module of pure Python. It is looked for when the first such
body comes, so other programs do not need it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

from .content_type import charset, media_type
from .exceptions import BadRequest, ContentTooLarge, UnsupportedMediaType
from .form_limits import Limits
from .strict_bodies import BodyReader
from .urlencoded import STEP

if TYPE_CHECKING:
    from ._core import Body, Request

__all__ = ["Multipart", "Part", "multipart", "safe_filename"]

#: Header lines of a part. RFC 7578 section 4.8 knows three; clients add a few of their own.
_MAX_HEADERS = 16
#: RFC 2046 section 5.1.1 allows 70 characters; not every client counts.
_BOUNDARY = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")
#: One that is not closed reaches to the end: were it none, the search would begin anew at each quote in it.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)', re.S)
_EXTENDED = re.compile(
    r";[ \t]*filename\*[ \t]*=[ \t]*(utf-8|iso-8859-1)'[^']*'([!#$&+.^_`|~0-9A-Za-z%-]*)", re.I
)
#: Control characters, and what separates folders anywhere.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


def multipart(request: Request, body: Body, **limits: Any) -> Multipart:
    """Gives the parts of a request's body. Where some have been asked for before, the others, within the limits of then.

    Args:
        request: The request.
        body: Its body.
        limits: As for :class:`~socketify.form_limits.Limits`.

    Raises:
        ValueError: A limit is no whole number from 0. Others as for :class:`Multipart`.
    """
    begun: Multipart | None = getattr(request, "_multipart", None)
    if begun is not None and begun.is_under_way:
        Limits(**limits)
        return begun
    source = Multipart(request, body, **limits)
    request._multipart = source
    return source


class Multipart(AsyncIterator["Part"]):
    """The parts of a multipart body, in their order: what ``Request.multipart`` gives.

    A part's bytes are read from the client when they are asked for. Asking for the next part skips what is left
    of this one.

    Args:
        request: The request.
        body: Its body.
        limits: As for :class:`~socketify.form_limits.Limits`.

    Raises:
        UnsupportedMediaType: The body is of another type.
        BadRequest: The type has no boundary, or one that is none.
        RuntimeError: The package ``multipart`` is not installed.
    """

    def __init__(self, request: Request, body: Body, **limits: Any) -> None:
        self.limits = Limits(**limits)
        kind, parameters = media_type(request.get_header("content-type"))
        if kind != "multipart/form-data":
            raise UnsupportedMediaType(
                f"the body must be multipart/form-data, not {kind[:40] or 'of no type'}"
            )
        boundary = parameters.get("boundary", "")
        if not _BOUNDARY.fullmatch(boundary):
            raise BadRequest(
                "the Content-Type of a multipart body needs a boundary of 1 to 256 visible characters"
            )
        self._library = _library()
        self._parser = self._library.PushMultipartParser(
            boundary,
            max_header_size=self.limits.max_header_bytes,
            max_header_count=_MAX_HEADERS,
            max_segment_count=self.limits.max_fields + self.limits.max_files,
        )
        self._reader = BodyReader(body, from_start=True)
        #: Bytes of the body that the parser has not been given, from this place on.
        self._bytes, self._place = b"", 0
        self._events: Iterator[Any] = iter(())
        self._fields = self._files = 0
        #: The number of the part whose bytes come next, and whether there are more of them.
        self._number = 0
        self._open = False
        self._begun = self._ended = self._over = False
        self._name = ""
        self._limit: int | None = None
        self._received = 0
        #: What went wrong. Nothing that follows means anything, so every further call raises it again.
        self._failure: tuple[type[BadRequest] | type[ContentTooLarge], str] | None = None

    def __aiter__(self) -> Multipart:
        return self

    @property
    def is_under_way(self) -> bool:
        """Whether it has begun and not ended."""
        return self._begun and not self._over

    async def __anext__(self) -> Part:
        """Gives the next part.

        Raises:
            BadRequest: The body is not well-formed.
            ContentTooLarge: There are too many parts, or one is too large.
            ClientDisconnected: The body cannot become complete.
        """
        while self._open:
            await self._chunk()
        segment = await self._event()
        if segment is None:
            self._over = True
            raise StopAsyncIteration
        self._number += 1
        self._open = True
        part = Part(self, self._number, segment)
        if part.is_file:
            self._files += 1
            if self._files > self.limits.max_files:
                self._fail(ContentTooLarge, f"the form has more than {self.limits.max_files} files")
        else:
            self._fields += 1
            if self._fields > self.limits.max_fields:
                self._fail(ContentTooLarge, f"the form has more than {self.limits.max_fields} fields")
        self._limit = self.limits.max_file_size if part.is_file else self.limits.max_field_size
        self._received = 0
        self._name = part.name
        return part

    async def _chunk(self) -> bytes | None:
        """The next bytes of the part that is open; None at its end."""
        chunk: bytes | None = await self._event()
        if chunk is None:
            self._open = False
            return None
        self._received += len(chunk)
        if self._limit is not None and self._received > self._limit:
            self._fail(ContentTooLarge, f"the part {self._name[:40]!r} has more than {self._limit} bytes")
        return chunk

    async def _event(self) -> Any:
        """What the parser says next: a part's head, its bytes, None for its end. None again at the end of all."""
        if self._failure is not None:
            self._fail(*self._failure)
        try:
            while True:
                for event in self._events:
                    return event
                if self._ended:
                    return None
                step = await self._step()
                self._ended = not step
                # Nothing means the end, which the parser refuses in the middle of a part.
                self._events = self._parser.parse(step)
        except self._library.MultipartError as error:
            limit, reason = isinstance(error, self._library.ParserLimitReached), str(error)
            # The parser keeps it, and its traceback would keep the parser.
            error.with_traceback(None)
        if limit:
            return self._fail(ContentTooLarge, f"the multipart body exceeds a limit: {reason}")
        return self._fail(BadRequest, f"the multipart body is not well-formed: {reason}")

    async def _step(self) -> bytes:
        """The next bytes for the parser, nothing at the end. Others on the loop have their turn between two steps."""
        if self._place < len(self._bytes):
            await asyncio.sleep(0)
        else:
            self._begun = True
            self._bytes, self._place = await self._reader.read(), 0
        step = self._bytes[self._place : self._place + STEP]
        self._place += len(step)
        return step

    def _fail(self, kind: type[BadRequest] | type[ContentTooLarge], detail: str) -> NoReturn:
        self._failure = kind, detail
        raise kind(detail)


class Part(AsyncIterator[bytes]):
    """One part of a multipart body; iterating gives its bytes as they arrive.

    Attributes:
        name: Name of the field, ``""`` if it has none.
        filename: Name of the file, safe to use in a folder of yours: without folders, control characters and
            leading or trailing blanks; ``""`` where nothing is left. None for a field that is no file.
        raw_filename: The name as the client sent it.
        content_type: The part's type in lower case without its parameters; ``""`` if it has none.
        headers: The part's headers by lower case name.
        size: Bytes that have been read so far.
    """

    def __init__(self, source: Multipart, number: int, segment: Any) -> None:
        self._source = source
        self._number = number
        self._over = False
        #: Bytes of a read that was cancelled.
        self._kept: deque[bytes] = deque()
        self._is_cut = False
        self.headers: dict[str, str] = {name.lower(): value for name, value in segment.headerlist}
        self.name: str = segment.name
        self.raw_filename: str | None = segment.filename
        if self.raw_filename is None:
            self.raw_filename = _extended_filename(self.headers.get("content-disposition", ""))
        self.filename = None if self.raw_filename is None else safe_filename(self.raw_filename)
        self.content_type: str = media_type(self.headers.get("content-type"))[0]
        self.size = 0

    @property
    def is_file(self) -> bool:
        """Whether the part has a file name, which is what makes it a file."""
        return self.raw_filename is not None

    def __aiter__(self) -> Part:
        return self

    async def __anext__(self) -> bytes:
        """Gives the next bytes, at least one.

        Raises:
            RuntimeError: The next part has been asked for, which has skipped these.
            BadRequest: The body is not well-formed.
            ContentTooLarge: The part is too large.
            ClientDisconnected: The body cannot become complete.
        """
        if self._kept:
            return self._kept.popleft()
        if self._over:
            raise StopAsyncIteration
        if self._number != self._source._number:
            raise RuntimeError(f"the part {self.name!r} was skipped when the next one was asked for")
        chunk = await self._source._chunk()
        if chunk is None:
            self._over = True
            raise StopAsyncIteration
        self.size += len(chunk)
        return chunk

    async def read(self) -> bytes:
        """Reads what is left of the part into memory; see ``max_field_size`` and ``max_file_size``.

        Where it is cancelled, the next read gets all the same.
        """
        chunks: list[bytes] = []
        try:
            async for chunk in self:
                chunks.append(chunk)
        except BaseException:
            self._kept.extendleft(reversed(chunks))
            raise
        return b"".join(chunks)

    async def text(self, encoding: str | None = None) -> str:
        """Reads what is left of the part as text.

        Args:
            encoding: Name of the encoding; None for what the part says, and UTF-8 if it says nothing.

        Raises:
            BadRequest: It is not in that encoding.
        """
        encoding = encoding or charset(self.headers.get("content-type"))
        data = await self.read()
        try:
            return data.decode(encoding)
        except ValueError as error:
            raise BadRequest(f"the field {self.name[:40]!r} is not valid {encoding}") from error

    async def save(self, path: str | os.PathLike[str]) -> int:
        """Writes what is left of the part to a file, in threads of the loop's executor.

        Args:
            path: Where to; a file that is there is replaced. Never what the client chose: :attr:`filename` is safe
                within a folder, but may be the name of any file there.

        Returns:
            How many bytes were written.

        Raises:
            OSError: The file cannot be written.
            RuntimeError: Saving it was interrupted before, so that a part of it is in the file of then.
        """
        if self._is_cut:
            raise RuntimeError(
                f"saving the part {self.name!r} was interrupted: its first bytes are in the file of the first call"
            )
        file = await asyncio.to_thread(open, path, "wb")
        size = 0
        try:
            async for chunk in self:
                await asyncio.to_thread(file.write, chunk)
                size += len(chunk)
        except BaseException:
            self._is_cut = True
            raise
        finally:
            await asyncio.to_thread(file.close)
        return size


def safe_filename(name: str) -> str:
    """Makes a file name from what a client sent as one (RFC 7578 section 4.2: without a path).

    Args:
        name: What was sent.

    Returns:
        The last segment, whatever separates segments where the client runs; ``""`` for none and for ``.`` and ``..``.
    """
    last = re.split(r"[/\\]", _UNSAFE.sub("", name))[-1].strip()
    return "" if last in (".", "..") else last


def _extended_filename(disposition: str) -> str | None:
    """The value of ``filename*`` (RFC 8187). RFC 7578 has no use for it, but there are clients that send nothing else."""
    found = _EXTENDED.search(_QUOTED.sub('""', disposition))
    return unquote(found[2], encoding=found[1], errors="replace") if found else None


def _library() -> Any:
    try:
        # By name, since it comes without types.
        library = import_module("multipart")
    except ImportError as error:
        raise RuntimeError(
            "multipart forms need the package 'multipart': pip install 'socketify[multipart]'"
        ) from error
    if not hasattr(library, "PushMultipartParser"):
        raise RuntimeError(
            "multipart forms need the package 'multipart' 2 or newer; another package of this name is installed"
        )
    return library
