"""HTML forms, read whole: ``Request.form``."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import parse_qsl

from .exceptions import ContentTooLarge, UnsupportedMediaType
from .parts import Limits, Multipart, Part
from .reading import charset, media_type, read_body

if TYPE_CHECKING:
    from types import TracebackType

    from ._core import Request, Response

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
        filename: Name of the file, safe to use in a folder of yours; see :class:`~socketify.parts.Part`.
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

    async def _write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        await self._call(self.file.write, chunk)

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
        response: Its response.
        encoding: Encoding of fields for which the client names none. Default UTF-8.
        limits: As for :class:`~socketify.parts.Limits`.
    """

    def __init__(
        self, request: Request, response: Response, *, encoding: str = "utf-8", **limits: Any
    ) -> None:
        self._request = request
        self._response = response
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
        """Reads the form; whoever asked for it before on this request gets the same again.

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
            form = Form(self._pairs(await read_body(self._response)))
        elif kind == "multipart/form-data":
            form = await self._parts()
        else:
            raise UnsupportedMediaType(
                "a form must be application/x-www-form-urlencoded or multipart/form-data, "
                f"not {kind[:40] or 'of no type'}"
            )
        self._request._form = form
        return form

    def _pairs(self, body: bytes) -> list[tuple[str, str]]:
        limits = self._limits
        if body.count(b"&") >= limits.max_fields and body:
            raise ContentTooLarge(f"the form has more than {limits.max_fields} fields")
        # Bytes that are not of the encoding become U+FFFD, as the URL standard has it.
        text = body.decode(self._encoding, "replace")
        pairs = parse_qsl(text, keep_blank_values=True, encoding=self._encoding, errors="replace")
        for key, value in pairs:
            if len(value) > limits.max_field_size or len(key) > limits.max_field_size:
                raise ContentTooLarge(f"the field {key[:40]!r} has more than {limits.max_field_size} bytes")
        return pairs

    async def _parts(self) -> Form:
        fields: list[tuple[str, str]] = []
        files: list[tuple[str, UploadedFile]] = []
        try:
            async for part in Multipart(self._request, self._response, **self._given):
                if not part.is_file:
                    kind = part.headers.get("content-type")
                    fields.append((part.name, await part.text(charset(kind) if kind else self._encoding)))
                    continue
                file = UploadedFile(part)
                files.append((part.name, file))
                async for chunk in part:
                    await file._write(chunk)
                await file.seek(0)
                if not file.raw_filename and not file.size:
                    # What a browser sends for a file input in which nothing was chosen.
                    files.pop()
        except BaseException:
            # The traceback would keep them for as long as anybody has it.
            for _, file in files:
                file.close()
            raise
        return Form(fields, files)
