"""HTML forms, read whole: ``Request.form``."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from .content_type import known_charset, media_type, named_charset
from .exceptions import BadRequest, UnsupportedMediaType
from .form_limits import Limits
from .multipart import Multipart, Part
from .strict_bodies import read_body
from .urlencoded import STEP, decode_fields

if TYPE_CHECKING:
    from types import TracebackType

    from ._core import Body, Request

__all__ = ["Form", "FormReader", "MultiMapping", "UploadedFile"]

#: Bytes of a file that stay in memory; larger ones are on disk.
_IN_MEMORY = 256 * 1024

_V = TypeVar("_V")


class MultiMapping(Mapping[str, _V]):
    """A read-only mapping whose keys may have several values. As a mapping it has the last of each.

    Args:
        pairs: Keys and values in their order.
    """

    def __init__(self, pairs: Iterable[tuple[str, _V]]) -> None:
        self._pairs = tuple(pairs)
        self._last = dict(self._pairs)

    def __getitem__(self, key: str) -> _V:
        return self._last[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self._pairs)!r}>"

    def get_list(self, key: str) -> list[_V]:
        """Gives all values of a key in their order; an empty list if there are none."""
        return [value for name, value in self._pairs if name == key]

    def multi_items(self) -> list[tuple[str, _V]]:
        """Gives all pairs in their order."""
        return list(self._pairs)


class UploadedFile:
    """A file of a form. What is larger than 256 KiB is on disk, in a file without a name.

    Attributes:
        name: Name of the field.
        filename: Name of the file, safe to use in a folder of yours; see :class:`~socketify.multipart.Part`.
        raw_filename: The name as the client sent it.
        content_type: The type that the client claims, in lower case without parameters; ``""`` for none.
        headers: The part's headers by lower case name.
        size: Bytes of the file.
        file: The file itself, opened for reading and writing. Its methods block where it is on disk.
    """

    def __init__(self, part: Part) -> None:
        self.name = part.name
        self.filename = part.filename or ""
        self.raw_filename = part.raw_filename or ""
        self.content_type = part.content_type
        self.headers = part.headers
        self.size = 0
        self._writing: asyncio.Future[int] | None = None
        self.file = cast("IO[bytes]", SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115 - it is closed with this

    async def read(self, size: int = -1) -> bytes:
        """Reads on from where the last call ended.

        Args:
            size: How many bytes at most; negative for all that are left.

        Returns:
            The bytes; ``b""`` at the end.
        """
        data: bytes = await self._call(self.file.read, size)
        return data

    async def seek(self, offset: int) -> None:
        """Has the next :meth:`read` begin at this byte."""
        await self._call(self.file.seek, offset)

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the whole file to a path, in a thread of the loop's executor.

        Args:
            path: Where to; a file that is there is replaced.

        Raises:
            OSError: It cannot be written.
        """

        def copy() -> None:
            self.file.seek(0)
            with open(path, "wb") as target:
                shutil.copyfileobj(self.file, target, 256 * 1024)

        await asyncio.to_thread(copy)

    def close(self) -> None:
        """Gives the memory or the disk back. Dropping the object does so too."""
        self.file.close()

    def __del__(self) -> None:
        # Not left to the file, which would complain of not having been closed.
        if (file := getattr(self, "file", None)) is not None:
            file.close()

    def __repr__(self) -> str:
        return f"<UploadedFile {self.name!r} {self.filename!r} {self.size} bytes>"

    def _write(self, chunk: bytes) -> None:
        """Begins to write; :meth:`_written` has to be awaited before the next."""
        self.size += len(chunk)
        if self.size <= _IN_MEMORY:
            self.file.write(chunk)
        else:
            self._writing = asyncio.get_running_loop().run_in_executor(None, self.file.write, chunk)

    async def _written(self) -> None:
        """Waits for what is being written. Where that is cancelled, writing goes on, and can be waited for again."""
        if self._writing is not None:
            await asyncio.shield(self._writing)
            self._writing = None

    async def _call(self, method: Any, argument: Any) -> Any:
        if self.size <= _IN_MEMORY:
            return method(argument)
        return await asyncio.to_thread(method, argument)


class Form(MultiMapping[str]):
    """A form: its fields as text, and its files.

    Leaving ``with form`` or ``async with request.form() as form`` closes the files; so does dropping the form.

    Attributes:
        files: The files by field, in a mapping of the same kind.
    """

    def __init__(
        self, fields: Iterable[tuple[str, str]], files: Iterable[tuple[str, UploadedFile]] = ()
    ) -> None:
        super().__init__(fields)
        self.files: MultiMapping[UploadedFile] = MultiMapping(files)

    def close(self) -> None:
        """Closes the files."""
        for _, file in self.files.multi_items():
            file.close()

    def __enter__(self) -> Form:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FormReader:
    """What ``Request.form`` gives: ``form = await request.form()``, or ``async with request.form() as form``.

    Args:
        request: The request.
        body: Its body.
        encoding: Encoding of fields for which the client names none. Default UTF-8.
        limits: As for :class:`~socketify.form_limits.Limits`.
    """

    def __init__(self, request: Request, body: Body, *, encoding: str = "utf-8", **limits: Any) -> None:
        self._request = request
        self._body = body
        self._encoding = encoding
        self._given = limits
        self._limits = Limits(**limits)
        self._form: Form | None = None

    def __await__(self) -> Generator[Any, None, Form]:
        return self._read().__await__()

    async def __aenter__(self) -> Form:
        self._form = await self._read()
        return self._form

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._form is not None:
            self._form.close()

    async def _read(self) -> Form:
        """Reads the form; each call on a request gives the same form.

        Raises:
            UnsupportedMediaType: The body is no form.
            BadRequest: It is not well-formed.
            ContentTooLarge: It goes beyond a limit.
            ClientDisconnected: It cannot become complete.
        """
        known: Form | None = getattr(self._request, "_form", None)
        if known is not None:
            return known
        kind, _ = media_type(self._request.get_header("content-type"))
        if kind == "application/x-www-form-urlencoded":
            # In this type text is UTF-8, whatever its parameters say (URL Standard, section 5.1).
            body = await read_body(self._body)
            form = Form(await decode_fields(body, self._encoding, self._limits))
        elif kind == "multipart/form-data":
            form = await self._parts()
        else:
            raise UnsupportedMediaType(
                "a form must be application/x-www-form-urlencoded or multipart/form-data, "
                f"not {kind[:40] or 'of no type'}"
            )
        # Another task may have waited for it too.
        known = cast("Form | None", getattr(self._request, "_form", None))
        if known is not None:
            return known
        self._request._form = form
        return form

    async def _parts(self) -> Form:
        reading: _Reading | None = getattr(self._request, "_form_reading", None)
        if reading is None:
            reading = _Reading(Multipart(self._request, self._body, **self._given), self._encoding)
            self._request._form_reading = reading
        return await reading.form()


class _Reading:
    """A multipart form that is being read. A task that waits for it may give up, and the next one goes on."""

    def __init__(self, source: Multipart, encoding: str) -> None:
        self._source = source
        self._encoding = encoding
        self._one_at_a_time = asyncio.Lock()
        #: Name, value, and the charset that the part names.
        self._fields: list[tuple[str, bytes, str | None]] = []
        self._files: list[tuple[str, UploadedFile]] = []
        #: What has begun and is not there whole.
        self._part: Part | None = None
        self._file: UploadedFile | None = None
        self._form: Form | None = None

    async def form(self) -> Form:
        """Reads what is left of it."""
        async with self._one_at_a_time:
            try:
                while self._form is None:
                    if self._part is not None or await self._next():
                        await self._finish(cast("Part", self._part))
                    else:
                        self._form = Form(await self._texts(), self._files)
            except asyncio.CancelledError:
                raise
            except BaseException:
                # The traceback would keep them for as long as it lives.
                for _, file in self._files:
                    file.close()
                raise
            return self._form

    async def _next(self) -> bool:
        try:
            self._part = await self._source.__anext__()
        except StopAsyncIteration:
            return False
        if self._part.is_file:
            self._file = UploadedFile(self._part)
            self._files.append((self._part.name, self._file))
        return True

    async def _finish(self, part: Part) -> None:
        """Reads what is left of a part."""
        if (file := self._file) is None:
            self._fields.append(
                (part.name, await part.read(), named_charset(part.headers.get("content-type")))
            )
        else:
            await file._written()
            async for chunk in part:
                file._write(chunk)
                await file._written()
            await file.seek(0)
            if not file.raw_filename and not file.size:
                # What a browser sends for a file input in which nothing was chosen.
                self._files.pop()
        self._part = self._file = None

    async def _texts(self) -> list[tuple[str, str]]:
        # RFC 7578 section 4.6: the charset of fields that name none themselves.
        told = [value for name, value, _ in self._fields if name == "_charset_" and value]
        usual = known_charset(told[-1][:100].decode("latin-1").strip()) if told else self._encoding
        texts, since = [], 0
        for name, value, named in self._fields:
            encoding = known_charset(named) if named else usual
            try:
                texts.append((name, value.decode(encoding)))
            except ValueError as error:
                raise BadRequest(f"the field {name[:40]!r} is not valid {encoding}") from error
            since += len(value)
            if since > STEP:
                since = 0
                await asyncio.sleep(0)
        return texts
