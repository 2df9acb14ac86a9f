"""Forms of the type ``application/x-www-form-urlencoded``, taken apart within limits and without holding up the loop."""

from __future__ import annotations

import asyncio
import codecs
import sys
from typing import TYPE_CHECKING

from ._core import FormParser
from .exceptions import ContentTooLarge

if TYPE_CHECKING:
    from .form_limits import Limits

__all__ = ["STEP", "decode_fields", "is_text"]

#: Bytes of a body after which others on the loop have their turn.
STEP = 64 * 1024

#: What gives a form its shape. An encoding that has other bytes for it is none that a form can be in.
_SHAPE = "&=%+"


async def decode_fields(body: bytes, encoding: str, limits: Limits) -> list[tuple[str, str]]:
    """Gives the names and values of a form in their order.

    The limits are looked at before anything is decoded. Bytes that are not of the encoding become U+FFFD, as the URL
    standard has it.

    Args:
        body: The form.
        encoding: Encoding of the body and of its percent escapes. Of a body in one that is not a superset of ASCII, such
            as UTF-16, the escapes are of UTF-8.
        limits: How many fields there may be, and how many bytes a name, and a value, may have without percent escapes.

    Raises:
        ContentTooLarge: The form goes beyond a limit.
        LookupError: Python has no such encoding.
    """
    if _SHAPE.encode(encoding) != _SHAPE.encode():
        body, encoding = body.decode(encoding, "replace").encode("utf-8", "replace"), "utf-8"
    parser = FormParser(min(limits.max_fields, sys.maxsize), min(limits.max_field_size, sys.maxsize))
    try:
        for _ in range(0, max(len(body), 1), STEP):
            if not parser.measure(body, STEP):
                await asyncio.sleep(0)
    except ValueError as error:
        raise ContentTooLarge(str(error)) from None
    pairs = []
    while True:
        for name, value in parser.take(body, STEP):
            pairs.append((name.decode(encoding, "replace"), value.decode(encoding, "replace")))
        if parser.is_done(body):
            return pairs
        await asyncio.sleep(0)


async def is_text(body: bytes, encoding: str) -> bool:
    """Says whether a body is in an encoding, which need not be one that Python has."""
    if body.isascii() and encoding.lower() in ("utf-8", "utf8"):
        return True
    try:
        # It raises for codecs that are not for text.
        "".encode(encoding)
        decoder = codecs.getincrementaldecoder(encoding)()
        for start in range(0, len(body), STEP):
            decoder.decode(body[start : start + STEP], start + STEP >= len(body))
            if start:
                await asyncio.sleep(0)
    except (ValueError, LookupError):
        return False
    return True
