"""The body of a request, read to its end and understood.

``Response.get_text``, ``Response.get_json`` and ``Response.get_form_urlencoded`` end up here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from ._core import Response
    from .handlers import JsonSerializer

__all__ = ["get_form_urlencoded", "get_json", "get_text"]


async def get_text(response: Response, encoding: str) -> str | None:
    """Reads the whole body as text.

    Args:
        response: The response of the request that has the body.
        encoding: Name of the encoding, as ``bytes.decode`` takes it.

    Returns:
        The text; None when the body is not in that encoding or Python has no such encoding.
    """
    return _decode(await _whole(response), encoding)


async def get_json(response: Response, serializer: JsonSerializer) -> Any:
    """Reads the whole body as JSON.

    Args:
        response: The response of the request that has the body.
        serializer: Its ``loads`` gets the body as ``str``.

    Returns:
        What ``loads`` gives; None when the body is not UTF-8, or ``loads`` fails in any way, as it does for
        an empty body.
    """
    text = _decode(await _whole(response), "utf-8")
    if text is None:
        return None
    try:
        return serializer.loads(text)
    except Exception:
        # Serializers share no exception class, and a body that is not JSON is the client's mistake, not a
        # failure.
        return None


async def get_form_urlencoded(response: Response, encoding: str) -> dict[str, str] | None:
    """Reads the whole body as an HTML form (``application/x-www-form-urlencoded``).

    Args:
        response: The response of the request that has the body.
        encoding: Encoding of the body and of its percent escapes.

    Returns:
        The fields by name; the last value wins and blank values are dropped. None when there are none, the
        body is not in that encoding or Python has no such encoding. Percent escapes that are not in it become
        U+FFFD.
    """
    text = _decode(await _whole(response), encoding)
    return dict(parse_qsl(text, encoding=encoding)) or None if text else None


async def _whole(response: Response) -> bytes:
    body = response._take_body()
    # Most bodies have arrived when they are asked for: then there is no need to go through a future.
    return (await response.get_data()).getvalue() if body is None else body


def _decode(body: bytes, encoding: str) -> str | None:
    try:
        return body.decode(encoding)
    except (ValueError, LookupError):
        # Often the encoding is the one the client claims, so one that does not exist is no reason to fail
        # either.
        return None
