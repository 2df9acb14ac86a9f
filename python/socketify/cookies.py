"""Cookies: the ``Cookie`` header of requests and the ``Set-Cookie`` header of responses (RFC 6265).

``Request.get_cookie``, ``Request.get_cookies`` and ``Response.set_cookie`` end up here. Reading is lenient,
since what comes was written by others; writing is strict, since a cookie that browsers drop in silence is a
bug nobody sees.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import format_datetime, formatdate
from http.cookies import CookieError, Morsel, SimpleCookie
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote

from ._core import parse_cookies

if TYPE_CHECKING:
    from ._core import Request

__all__ = ["format_cookie", "get_cookie", "get_cookies"]

#: Cookies of which objects are made. Browsers send at most some hundreds; each object costs microseconds.
_MOST = 1000
_ESCAPE = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~:]+")

# Lower case name of an option -> how it is written. The order is the order on the wire.
_OPTIONS = {
    "comment": "Comment",
    "domain": "Domain",
    "expires": "expires",
    "httponly": "HttpOnly",
    "max-age": "Max-Age",
    "path": "Path",
    "samesite": "SameSite",
    "secure": "Secure",
    "version": "Version",
}
_FLAGS = frozenset({"httponly", "secure"})


def get_cookies(request: Request) -> SimpleCookie | None:
    """Gives all cookies of a request.

    The header is parsed once and the result kept on the request. A pair that cannot be understood is left out
    and the others stay; of several pairs with one name the last wins. Quoted values are unquoted; percent
    escapes are left as they are. What is beyond a thousand names is left out as well.

    Args:
        request: The request.

    Returns:
        The cookies by name, each with its text in ``.value``; None when the request has no ``Cookie`` header.
    """
    cached = getattr(request, "_cookies", None)
    if isinstance(cached, SimpleCookie):
        return cached
    values = _values(request)
    if values is None:
        return None
    jar: SimpleCookie = SimpleCookie()
    for name, value in islice(values.items(), _MOST):
        if (morsel := _morsel(name, value)) is not None:
            dict.__setitem__(jar, name, morsel)
    request._cookies = jar
    return jar


def get_cookie(request: Request, name: str | bytes) -> str | None:
    """Gives the value of one cookie.

    Args:
        request: The request.
        name: The cookie's name; upper and lower case differ.

    Returns:
        The value, unquoted but not percent-decoded; None when there is no such cookie.
    """
    values = _values(request)
    if values is None:
        return None
    key = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    coded = values.get(key)
    morsel = None if coded is None else _morsel(key, coded)
    return None if morsel is None else morsel.value


def format_cookie(name: str | bytes, value: object, options: Mapping[str, object] | None = None) -> str:
    """Gives the value of a ``Set-Cookie`` header.

    Args:
        name: The cookie's name: letters, digits and ``!#$%&'*+-.^_`|~:``.
        value: ``str``, ``bytes``, ``int`` or ``float``; it is percent-encoded as UTF-8, a space as ``%20``,
            so that both ``urllib.parse.unquote`` and ``unquote_plus`` give it back.
        options: Attributes by name, in any case: ``comment``, ``domain``, ``expires``, ``httponly``,
            ``max-age``, ``path``, ``samesite``, ``secure``, ``version``. ``expires`` is a ``datetime`` (a
            naive one is taken as GMT), a number of seconds from now, or text used as it is. ``secure`` and
            ``httponly`` are on when true. The value None, and an empty text, leave an option out.

    Returns:
        The header's value, such as ``a=1; Path=/; Secure``.

    Raises:
        CookieError: The name is not valid, an option is unknown, or an option has a control character or
            semicolon.
        TypeError: The value, the name or an option is of a type that cannot be written.
    """
    text = _name(name)
    parts = [f"{text}={_value(text, value)}"]
    given = _given(options)
    for key, label in _OPTIONS.items():
        setting = given.get(key)
        if setting is None or setting == "":
            continue
        if key in _FLAGS:
            if setting:
                parts.append(label)
        else:
            parts.append(f"{label}={_option(key, setting)}")
    return "; ".join(parts)


def _values(request: Request) -> dict[str, str] | None:
    """The cookies as they stand in the header, kept on the request; None without a header."""
    cached: dict[str, str] | None = getattr(request, "_cookie_values", None)
    if cached is None and (header := request.get_header("cookie")) is not None:
        cached = request._cookie_values = parse_cookies(header)
    return cached


def _morsel(name: str, value: str) -> Morsel[str] | None:
    morsel: Morsel[str] = Morsel()
    try:
        # Not `jar[name] = value`: that refuses names which browsers do send, such as `path` or `a[0]`.
        morsel.__setstate__({"key": name, "value": _unquote(value), "coded_value": value})  # type: ignore[attr-defined]
    except CookieError:
        # Newer versions of Python refuse values with escaped control characters.
        return None
    return morsel


def _unquote(value: str) -> str:
    """Undoes the quoting of ``http.cookies``; older standard libraries take quadratic time for that."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)) if found[1] else found[2], value[1:-1])


def _name(name: object) -> str:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str):
        raise TypeError(f"a cookie's name must be str or bytes, not {type(name).__name__}")
    if not _NAME.fullmatch(name):
        raise CookieError(f"{name!r} is not a valid cookie name: use letters, digits and !#$%&'*+-.^_`|~:")
    return name


def _value(name: str, value: object) -> str:
    if isinstance(value, (int, float)):
        value = str(value)
    if not isinstance(value, (str, bytes)):
        kind = "None" if value is None else type(value).__name__
        raise TypeError(f"the value of cookie {name!r} must be str, bytes, int or float, not {kind}")
    return quote(value, safe="")


def _given(options: Mapping[str, object] | None) -> dict[str, object]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"a cookie's options must be a mapping or None, not {type(options).__name__}")
    given: dict[str, object] = {}
    for key, setting in options.items():
        lower = key.lower() if isinstance(key, str) else None
        if lower not in _OPTIONS:
            raise CookieError(f"unknown cookie option {key!r}: expected one of {', '.join(sorted(_OPTIONS))}")
        given[lower] = setting
    return given


def _option(key: str, setting: object) -> str:
    if key == "expires":
        if isinstance(setting, datetime):
            aware = setting if setting.tzinfo else setting.replace(tzinfo=timezone.utc)
            return format_datetime(aware.astimezone(timezone.utc), usegmt=True)
        if isinstance(setting, (int, float)):
            return formatdate(time.time() + setting, usegmt=True)
    elif isinstance(setting, (int, float)):
        return str(int(setting))
    if isinstance(setting, bytes):
        setting = setting.decode("utf-8")
    if not isinstance(setting, str):
        raise TypeError(f"the cookie option {key!r} cannot be a {type(setting).__name__}")
    if ";" in setting or _CONTROL.search(setting):
        raise CookieError(f"the cookie option {key!r} must not have ';' or control characters: {setting!r}")
    return setting
