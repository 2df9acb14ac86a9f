"""Files as answers: one file with :func:`sendfile`, a directory with :func:`static_route`.

The core opens and sends them. What is here is what only Python knows: where things are, and what their names tell.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ._core import Request, Response
    from .routes import Routes

_R = TypeVar("_R", bound="Routes")

__all__ = ["in_directory", "sendfile", "static_route"]

#: Media types by extension, suffixes that stand for others, and encodings.
Types = tuple[dict[str, str], dict[str, str], dict[str, str]]


async def sendfile(res: Response, req: Request, filename: str | os.PathLike[str]) -> None:
    """Answers with a file: :meth:`Response.send_file`, as a coroutine.

    Args:
        res: The response.
        req: The request.
        filename: Path of the file. Anything is served that the process can read: see :func:`in_directory`.

    Raises:
        RuntimeError: The answer has begun already.
    """
    await res.send_file(filename)


def static_route(
    app: _R,
    route: str,
    directory: str | os.PathLike[str],
    *,
    index: str | None = None,
    cache_control: str | None = None,
    precompressed: bool = False,
    dotfiles: bool = False,
) -> _R:
    """Serves the files below a directory; :meth:`App.static` tells how.

    Returns:
        What it was called on.

    Raises:
        TypeError: The route is not ``str``, or the directory no path.
        ValueError: The index or the ``Cache-Control`` cannot be what they are given for; the message names it.
    """
    if not isinstance(route, str):
        raise TypeError(f"the route of static() must be str, not {route!r}")
    if index is not None and (not index or "/" in index or "\0" in index):
        raise ValueError(f"the index must be the name of a file, such as 'index.html', not {index!r}")
    if cache_control is not None and not (cache_control.isascii() and cache_control.isprintable()):
        raise ValueError(
            f"cache_control must be the value of a header, such as 'max-age=3600', not {cache_control!r}"
        )
    route = "/" + route.strip("/") if route.strip("/") else ""
    # The directory itself without its slash is there to be redirected.
    patterns = [f"{route}/*"] if index is None or not route else [f"{route}/*", route]
    for pattern in patterns:
        app._table.add_files(
            pattern,
            os.fsdecode(directory),
            route.count("/"),
            index,
            cache_control,
            precompressed,
            dotfiles,
            _types(),
        )
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


def media_type(path: str | os.PathLike[str]) -> tuple[str | None, str | None]:
    """The media type that the name of a file tells, and the encoding that it is in; None for what it tells not."""
    # Reads the system's tables at its first use, which takes some milliseconds.
    import mimetypes

    return mimetypes.guess_type(os.path.basename(path))


def _types() -> Types:
    """What ``mimetypes`` knows now, for the core to look up without Python."""
    import mimetypes

    if not mimetypes.inited:
        mimetypes.init()
    return dict(mimetypes.types_map), dict(mimetypes.suffix_map), dict(mimetypes.encodings_map)
