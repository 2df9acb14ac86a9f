"""The body of a request, with None where it cannot be had: ``Response.get_text``, ``get_json`` and ``get_form_urlencoded``.

``strict_bodies`` has the methods of ``Request``, which raise instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .exceptions import ContentTooLarge
from .form_limits import Limits
from .strict_bodies import MAX_JSON_SIZE, check_size, decode, json_text
from .urlencoded import decode_fields, is_text

if TYPE_CHECKING:
    from ._core import Body
    from .handlers import JsonSerializer

__all__ = ["get_form_urlencoded", "get_json", "get_text"]


async def get_text(body: Body, encoding: str) -> str | None:
    """Reads the whole body as text.

    Args:
        body: The body of the request.
        encoding: Name of the encoding, as ``bytes.decode`` takes it.

    Returns:
        The text; None when the body is not in that encoding or Python has no such encoding.
    """
    data = await _whole(body)
    try:
        return await decode(data, encoding)
    except (ValueError, LookupError):
        # Often the encoding is the one the client claims, so one that does not exist is no reason to fail
        # either.
        return None


async def get_json(body: Body, serializer: JsonSerializer, *, max_size: int | None = MAX_JSON_SIZE) -> Any:
    """Reads the whole body as JSON.

    Args:
        body: The body of the request.
        serializer: Its ``loads`` gets the body as ``str``, without a byte order mark.
        max_size: Bytes of it; None for no limit but that of the body.

    Returns:
        What ``loads`` gives; None when the body is larger or not UTF-8, or ``loads`` fails in any way, as it does
        for an empty body.
    """
    check_size(max_size)
    data = await _whole(body)
    if max_size is not None and len(data) > max_size:
        return None
    try:
        return serializer.loads(json_text(data))
    except Exception:
        # Serializers share no exception class, and a body that is not JSON is the client's mistake, not a
        # failure.
        return None


async def get_form_urlencoded(
    body: Body,
    encoding: str,
    *,
    max_fields: int = Limits.max_fields,
    max_field_size: int = Limits.max_field_size,
) -> dict[str, str] | None:
    """Reads the whole body as an HTML form (``application/x-www-form-urlencoded``).

    Args:
        body: The body of the request.
        encoding: Encoding of the body and of its percent escapes.
        max_fields: How many fields there may be.
        max_field_size: Bytes that a name, and a value, may have without percent escapes.

    Returns:
        The fields by name; the last value wins and blank values are dropped. None when there are none, when they go
        beyond a limit, and when the body is not in that encoding or Python has no such encoding. Percent escapes
        that are not in it become U+FFFD.

    Raises:
        ValueError: A limit is no whole number from 0.
    """
    limits = Limits(max_fields=max_fields, max_field_size=max_field_size)
    data = await _whole(body)
    if not await is_text(data, encoding):
        return None
    try:
        pairs = await decode_fields(data, encoding, limits)
    except ContentTooLarge:
        return None
    return {name: value for name, value in pairs if value} or None


async def _whole(body: Body) -> bytes:
    data = body.take()
    # Most bodies have arrived when they are asked for: then there is no need to go through a future.
    return (await body.arrival()).getvalue() if data is None else data
