"""The ``Content-Type`` header (RFC 9110 section 8.3): the media type and the charset that a client names."""

from __future__ import annotations

import codecs
import re

from .exceptions import UnsupportedMediaType

__all__ = ["charset", "known_charset", "media_type", "named_charset"]

#: No client sends a longer Content-Type, which would take long to parse.
_LONGEST_TYPE = 1024
_PARAMETER = re.compile(r';[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^\s;"]*)')
#: Python's names of the encodings that the WHATWG Encoding Standard has; others would let a client run codecs that
#: nobody sends text in, some of which take quadratic time.
_ENCODINGS = re.compile(
    r"ascii|utf-8|utf-8-sig|utf-16(-[bl]e)?|iso8859-\d+|cp125\d|cp866|cp874|koi8-[ru]|mac-(roman|cyrillic)|gbk|gb2312"
    r"|gb18030|big5|euc_jp|iso2022_jp|shift_jis|euc_kr"
)


def media_type(value: str | None) -> tuple[str, dict[str, str]]:
    """Takes a ``Content-Type`` apart (RFC 9110 section 8.3.1).

    Args:
        value: The header's value, if there is one.

    Returns:
        The type in lower case, ``""`` for what is none; and its parameters by lower case name.
    """
    if value is None or len(value) > _LONGEST_TYPE:
        return "", {}
    name, _, _ = value.partition(";")
    found: dict[str, str] = {}
    for key, text in _PARAMETER.findall(value, len(name)):
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        found.setdefault(key.lower(), text)
    return name.strip().lower(), found


def charset(content_type: str | None) -> str:
    """Gives the encoding that a ``Content-Type`` names, UTF-8 where it names none.

    Raises:
        UnsupportedMediaType: It is no encoding that text on the web is in.
    """
    return known_charset(named_charset(content_type) or "utf-8")


def named_charset(content_type: str | None) -> str | None:
    """Gives the ``charset`` of a ``Content-Type`` as it is; None where it names none."""
    return media_type(content_type)[1].get("charset") or None


def known_charset(named: str) -> str:
    """Gives Python's name of a charset.

    Raises:
        UnsupportedMediaType: It is no encoding that text on the web is in.
    """
    try:
        known = codecs.lookup(named).name
    except (LookupError, ValueError):
        known = ""
    if not _ENCODINGS.fullmatch(known):
        raise UnsupportedMediaType(f"{named[:40]!r} is not a known charset")
    return known
