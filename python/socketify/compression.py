"""Settings of response compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Compression"]

#: Level by encoding: the range, and the default of :class:`Compression`.
_LEVELS = {"br": range(12), "zstd": range(1, 20), "gzip": range(1, 10)}

#: What is text, or much like it. Images, sound, video, archives and web fonts (WOFF) are compressed already.
_TYPES = (
    "text/*",
    "*+json",
    "*+xml",
    "*+text",
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/ecmascript",
    "application/xml",
    "application/xml-dtd",
    "application/x-ndjson",
    "application/jsonl",
    "application/json-seq",
    "application/graphql",
    "application/yaml",
    "application/toml",
    "application/rtf",
    "application/sql",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "font/collection",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
)


@dataclass(frozen=True)
class Compression:
    """How answers are compressed (RFC 9110 section 8.4); see ``App(compression=...)``.

    Attributes:
        encodings: What is offered, of ``"br"``, ``"zstd"`` and ``"gzip"``. A client gets what it weighs most in
            ``Accept-Encoding``, and the first of these that it weighs alike.
        br_level: From 0 (fast) to 11 (small). Default 4. From 5 a body takes tens of MB while it is compressed; one that is
            written in pieces has at most 3.
        zstd_level: From 1 (fast) to 19 (small). Default 3.
        gzip_level: From 1 (fast) to 9 (small). Default 4.
        minimum_size: Bytes of a whole body from which it is compressed. Default 1024: what is smaller fits one packet
            anyway, and arrives no sooner.
        types: Media types that are compressed, in place of the default ones, each a name such as ``"application/json"``
            or with one ``*`` that stands for anything: ``"text/*"``, ``"*+xml"``. ``text/event-stream`` is compressed only
            if it is named in full.

    Raises:
        ValueError: An encoding or media type is none, or a number is out of range; the message names it.
        TypeError: A value is of the wrong type.
    """

    encodings: Sequence[str] = ("zstd", "br", "gzip")
    br_level: int = 4
    zstd_level: int = 3
    gzip_level: int = 4
    minimum_size: int = 1024
    types: Sequence[str] = _TYPES

    def __post_init__(self) -> None:
        for name in ("encodings", "types"):
            value = getattr(self, name)
            if isinstance(value, (str, bytes)) or not all(isinstance(item, str) for item in value):
                raise TypeError(f"compression: {name} must be a sequence of str, not {value!r}")
            if not value:
                raise ValueError(f"compression: {name} must name at least one")
            object.__setattr__(self, name, tuple(value))
        for name in self.encodings:
            if name not in _LEVELS:
                raise ValueError(
                    f"compression: {name!r} is no encoding: expected some of {', '.join(map(repr, _LEVELS))}"
                )
        if len(set(self.encodings)) < len(self.encodings):
            raise ValueError(f"compression: an encoding is named twice in {self.encodings!r}")
        for name, levels in _LEVELS.items():
            _check_int(f"{name}_level", getattr(self, f"{name}_level"), levels)
        _check_int("minimum_size", self.minimum_size, range(1 << 62))

    def _for_core(self) -> tuple[list[tuple[str, int]], int, list[str]]:
        encodings = [(name, int(getattr(self, f"{name}_level"))) for name in self.encodings]
        return encodings, self.minimum_size, list(self.types)


def _check_int(name: str, value: object, allowed: range) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"compression: {name} must be an int, not {value!r}")
    if value not in allowed:
        top = "" if allowed.stop == 1 << 62 else f" to {allowed.stop - 1}"
        raise ValueError(
            f"compression: {name} must be a whole number from {allowed.start}{top}, not {value!r}"
        )


def compression_settings(given: bool | Compression | Mapping[str, Any] | None) -> Any:
    """What the core takes for ``App(compression=given)``; None for no compression.

    Raises:
        ValueError: A key or value is unknown.
        TypeError: It is none of these types.
    """
    if given is None or given is False:
        return None
    if given is True:
        given = Compression()
    elif isinstance(given, Mapping):
        known = [item.name for item in fields(Compression)]
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(f"compression: unknown key {unknown[0]!r}: expected some of {', '.join(known)}")
        given = Compression(**given)
    if not isinstance(given, Compression):
        raise TypeError(f"compression must be a bool, a Compression or a dict of its fields, not {given!r}")
    return given._for_core()
