"""Files as answers: one file with :func:`sendfile`, a directory with :func:`static_route`.

Looking up, opening and reading happen in threads of the loop's executor, since a disk may take its time.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
import stat
from dataclasses import dataclass, field
from datetime import timezone
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from ._core import Request, Response
    from .routes import Routes

__all__ = ["in_directory", "sendfile", "static_route"]

#: Bytes read and handed to the connection at a time.
_CHUNK = 256 * 1024

# More digits than the size of any file; Python refuses to convert very long ones.
_RANGE = re.compile(
    r"bytes[ \t]*=[ \t]*([0-9]{0,19})[ \t]*-[ \t]*([0-9]{0,19})[ \t]*", re.ASCII | re.IGNORECASE
)


async def sendfile(res: Response, req: Request, filename: str | os.PathLike[str]) -> None:
    """Answers with a file.

    Conditional requests (``If-None-Match``, ``If-Modified-Since``) and single ranges (``Range``,
    ``If-Range``) are honoured. A missing file, a directory and anything else that is not a regular file is a
    404, one that may not be read a 403. Other headers, written before, go out with it. If the file turns out
    shorter than it was, the connection is closed.

    Args:
        res: The response.
        req: The request.
        filename: Path of the file. Anything is served that the process can read: see :func:`in_directory`.
    """
    asked = _Asked(
        method=req.get_method(),
        none_match=req.get_header("if-none-match"),
        modified_since=req.get_header("if-modified-since"),
        range=req.get_header("range"),
        if_range=req.get_header("if-range"),
    )
    try:
        # Small files are read whole here: one trip to another thread instead of two.
        file, answer, chunk = await asyncio.to_thread(_open, filename, asked)
    except PermissionError:
        res.write_status(403).end(b"Forbidden")
        return
    except (OSError, ValueError):
        # ValueError: the name has a NUL.
        res.write_status(404).end(b"Not Found")
        return
    res.write_status(answer.status)
    res.write_headers(answer.headers)
    if answer.status == 416:
        res.end(b"Range Not Satisfiable")
    elif answer.status == 304:
        res.end_without_body()
    elif asked.method == "HEAD":
        res.write_header("Content-Length", answer.length).end_without_body()
    elif answer.length == 0:
        res.end(b"")
    else:
        await _send(res, file, answer, chunk)


async def _send(res: Response, file: _File, answer: _Answer, chunk: bytes) -> None:
    sent = 0
    while chunk:
        _, done = await res.send_chunk(chunk, answer.length)
        sent += len(chunk)
        if done:
            return
        chunk = await asyncio.to_thread(file.read, answer.start + sent, min(_CHUNK, answer.length - sent))
    # Fewer bytes than were promised: only the end of the connection can say so.
    res.close()


def static_route(app: Routes, route: str, directory: str | os.PathLike[str]) -> Routes:
    """Serves the files below a directory to GET and HEAD requests below a route.

    What the URL names is percent-decoded once. Names that lead outside the directory, also through symbolic
    links, are a 404; so is the directory itself, as no index is looked for.

    Args:
        app: The application.
        route: Path below which the files appear; a slash at its end does not count.
        directory: The directory. Files that appear in it later are served too.

    Returns:
        The application.
    """
    route = route.rstrip("/")
    root = os.path.realpath(directory)
    depth = len(route.lstrip("/").split("/")) + 1 if route else 1

    async def serve(res: Response, req: Request) -> None:
        below = "/".join(req.get_url().split("/")[depth:])
        path = await asyncio.to_thread(_locate, root, below)
        if path is None:
            res.write_status(404).end_without_body()
        else:
            await sendfile(res, req, path)

    app.get(f"{route}/*", serve)
    app.head(f"{route}/*", serve)
    return app


def in_directory(file: str | os.PathLike[str], directory: str | os.PathLike[str]) -> bool:
    """Tells whether a path leads below a directory, after following ``..`` and symbolic links.

    Args:
        file: The path; it need not exist.
        directory: The directory.

    Returns:
        False for the directory itself and for everything outside it.
    """
    root = os.path.join(os.path.realpath(directory), "")
    return os.path.realpath(file).startswith(root)


def _locate(root: str, below: str) -> str | None:
    """The file that the rest of a URL names; None when it leads elsewhere."""
    # The file system's own encoding of bytes that are not text, so that such names are found.
    name = unquote(below, errors="surrogateescape").strip("/")
    if "\0" in name:
        return None
    path = os.path.join(root, name)
    try:
        return path if in_directory(path, root) and not os.path.isdir(path) else None
    except (OSError, ValueError):
        return None


class _File:
    """An open regular file, read at any offset from any thread.

    It is closed when the last user is gone: a task that is cancelled while a thread reads must not close the
    descriptor under that thread, where its number may already stand for another file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Without O_NONBLOCK, opening a named pipe waits for a writer.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.stat = os.fstat(self._descriptor)
        if not stat.S_ISREG(self.stat.st_mode):
            raise IsADirectoryError(f"{os.fspath(path)} is not a regular file")

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def __del__(self) -> None:
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)


@dataclass
class _Asked:
    """What of a request decides how a file is answered."""

    method: str = "GET"
    none_match: str | None = None
    modified_since: str | None = None
    range: str | None = None
    if_range: str | None = None


@dataclass
class _Answer:
    """How a file is answered; the body is ``length`` bytes from ``start`` on."""

    status: int
    start: int = 0
    length: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)


def _open(filename: str | os.PathLike[str], asked: _Asked) -> tuple[_File, _Answer, bytes]:
    """The file, what to say of it, and the first bytes to send."""
    file = _File(filename)
    # The encoding that goes with a type is no part of it: the file is sent as it is.
    kind, _ = mimetypes.guess_type(os.path.basename(filename))
    answer = _decide(asked, file.stat.st_size, file.stat.st_mtime_ns, kind)
    wanted = asked.method != "HEAD" and answer.status in (200, 206) and answer.length > 0
    return file, answer, file.read(answer.start, min(_CHUNK, answer.length)) if wanted else b""


def _decide(asked: _Asked, size: int, modified_ns: int, kind: str | None) -> _Answer:
    # Not at the top: a third of the time that importing the package takes, for those who serve no files too.
    from email.utils import formatdate

    modified = modified_ns // 1_000_000_000
    last_modified = formatdate(modified, usegmt=True)
    etag = f'"{size:x}-{modified_ns:x}"'
    answer = _Answer(200, 0, size, [("Last-Modified", last_modified), ("ETag", etag)])
    if _is_unchanged(asked, etag, modified):
        answer.status, answer.length = 304, 0
        return answer
    # RFC 9110 section 14.2: a Range means something for GET only.
    if asked.method == "GET" and asked.range is not None and asked.if_range in (None, etag, last_modified):
        _take_range(answer, asked.range, size)
    if kind is not None and answer.status != 416:
        answer.headers.append(("Content-Type", kind))
    answer.headers.append(("Accept-Ranges", "bytes"))
    if answer.status == 206:
        last = answer.start + answer.length - 1
        answer.headers.append(("Content-Range", f"bytes {answer.start}-{last}/{size}"))
    elif answer.status == 416:
        answer.headers.append(("Content-Range", f"bytes */{size}"))
    return answer


def _is_unchanged(asked: _Asked, etag: str, modified: int) -> bool:
    if asked.method not in ("GET", "HEAD"):
        return False
    # RFC 9110 section 13.2.2: If-Modified-Since counts only without If-None-Match.
    if asked.none_match is not None:
        tags = [tag.strip(" \t").removeprefix("W/") for tag in asked.none_match.split(",")]
        return etag in tags or tags == ["*"]
    if asked.modified_since is None:
        return False
    from email.utils import parsedate_to_datetime

    try:
        since = parsedate_to_datetime(asked.modified_since)
        aware = since if since.tzinfo else since.replace(tzinfo=timezone.utc)
        return aware.timestamp() >= modified
    except (ValueError, TypeError, IndexError, OverflowError):
        # RFC 9110 section 13.1.3: what is no date is ignored.
        return False


def _take_range(answer: _Answer, text: str, size: int) -> None:
    """Narrows an answer to a single range; several, or what is none, leave it whole (RFC 9110 14.2)."""
    found = _RANGE.fullmatch(text.strip(" \t"))
    if found is None or found.groups() == ("", ""):
        return
    if found[1]:
        start = int(found[1])
        end = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return
    else:
        start, end = max(size - int(found[2]), 0), size
    if start >= end:
        answer.status, answer.start, answer.length = 416, 0, 0
    else:
        answer.status, answer.start, answer.length = 206, start, end - start
