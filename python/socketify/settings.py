"""The options of :class:`App`: what each takes, its unit, and how the command line spells it.

This table is the one definition. ``App`` checks its arguments with it and gives the core the result. The command line makes
its flags, and the names of their environment variables, from it. The defaults are the core's. The signature and docstring of
``App`` and the tables of docs/limits.md are written out for their readers, and a test compares each with this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ._core import DEFAULTS

__all__ = ["BY_NAME", "SETTINGS", "Kind", "Setting", "check", "read_flag"]

#: What an option takes: a whole number, seconds, True or False, one of several words, a text, a path
#: of a URL, a list of texts, or names and values of headers.
Kind = Literal["count", "seconds", "flag", "choice", "text", "path", "list", "headers"]

_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off")
#: Seconds of the units that follow a number on the command line.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Setting:
    """One option of :class:`App`.

    Attributes:
        name: The name of the argument.
        kind: What it takes.
        default: What None stands for.
        help: What it does, in the words of ``--help``.
        group: Where ``--help`` lists it.
        unit: The unit of a number.
        least: The smallest number.
        most: The largest number that counts: larger ones mean this one. None for whatever 63 bits can hold.
        choices: The words of a choice.
        core: Whether the core has it, and not Python alone.
        aliases: Other spellings on the command line.
        spelling: Its name on the command line, where that is another; the environment variable follows it.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    group: str
    unit: str = ""
    least: int = 0
    most: int | None = None
    choices: tuple[str, ...] = ()
    core: bool = True
    aliases: tuple[str, ...] = ()
    spelling: str = ""

    @property
    def option(self) -> str:
        """Its name on the command line, with underscores."""
        return self.spelling or self.name

    @property
    def flag(self) -> str:
        """The option of the command line."""
        return "--" + self.option.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable that stands for the option of the command line."""
        return "SOCKETIFY_" + self.option.upper()

    def check(self, value: Any) -> Any:
        """The value as the core takes it; None stays None.

        Raises:
            TypeError: It is of a type that the option does not take.
            ValueError: It is out of range, or none of the choices.
        """
        if value is None:
            return None
        if self.kind == "count":
            return self._count(value)
        if self.kind == "seconds":
            return self._seconds(value)
        if self.kind == "choice":
            return self._choice(value)
        if self.kind == "list":
            return self._list(value)
        if self.kind in ("text", "path") and not isinstance(value, str):
            raise TypeError(f"{self.name} must be a str, not {value!r}")
        if self.kind == "path":
            return self._path(value)
        if self.kind == "headers":
            return self._headers(value)
        if self.kind == "flag":
            return bool(value)
        return value

    def parse(self, text: str) -> Any:
        """The value that a command line or an environment variable means.

        Raises:
            ValueError: It is not what the option takes.
        """
        if self.kind == "flag":
            return read_flag(text)
        if self.kind == "choice":
            return self._choice(text.lower())
        if self.kind == "headers":
            # One of them: the option is repeated.
            name, colon, value = text.partition(":")
            if not colon or not name.strip():
                raise ValueError(f"expected NAME:VALUE, not {text!r}")
            return name.strip(), value.strip()
        if self.kind in ("text", "path", "list"):
            return self.check(text)
        try:
            number = int(text) if self.kind == "count" else read_seconds(text)
        except ValueError:
            raise ValueError(f"expected {self._expected()}, not {text!r}") from None
        if not self._is_in_range(number):
            raise ValueError(f"expected {self._expected()}, not {text}")
        return self.check(number)

    def _count(self, value: Any) -> int:
        # An int alone: 1.5 connections are a mistake, and so is "10".
        if not isinstance(value, int) or not self._is_in_range(value):
            raise ValueError(f"{self.name} must be {self._expected()}, not {value!r}")
        return int(value) if self.most is None else min(value, self.most)

    def _seconds(self, value: Any) -> float:
        if isinstance(value, str) or not self._is_in_range(value):
            raise ValueError(f"{self.name} must be {self._expected()}, not {value!r}")
        return float(value)

    def _choice(self, value: Any) -> Any:
        # PROXY prefaces are off or required too by False and True, as they were once.
        if value in self.choices or (isinstance(value, bool) and "off" in self.choices):
            return value
        words = " or ".join(filter(None, [", ".join(map(repr, self.choices[:-1])), repr(self.choices[-1])]))
        raise ValueError(f"{self.name} must be {words}, not {value!r}")

    def _path(self, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError(f"{self.name} must be empty or begin with /, not {value!r}")
        return value.rstrip("/")

    def _headers(self, value: Any) -> list[tuple[str, str]]:
        pairs = value.items() if isinstance(value, Mapping) else value
        try:
            made = [(name, text) for name, text in pairs]
        except (TypeError, ValueError):
            raise TypeError(
                f"{self.name} must be a dict, or pairs of a name and a value, not {value!r}"
            ) from None
        for pair in made:
            if not all(isinstance(part, str) for part in pair):
                raise TypeError(f"{self.name}: a name and its value must be str, not {pair!r}")
        return made

    def _list(self, value: Any) -> list[str]:
        if isinstance(value, str):
            return [entry.strip() for entry in value.split(",")]
        if not isinstance(value, Iterable):
            raise TypeError(f"{self.name} must be a str or several, not {value!r}")
        return [str(entry) for entry in value]

    def _is_in_range(self, number: Any) -> bool:
        try:
            return bool(self.least <= number < 2**63)
        except TypeError:
            return False

    def _expected(self) -> str:
        what = "a whole number" if self.kind == "count" else "a number of seconds"
        return f"{what} from {self.least}"


def _sized(
    name: str, unit: str, purpose: str, *, least: int = 1, most: int | None = None, spelling: str = ""
) -> Setting:
    default = DEFAULTS[name]
    return Setting(name, "count", default, purpose, "sizes and counts", unit, least, most, spelling=spelling)


def _timed(name: str, purpose: str, default: float | None = None) -> Setting:
    known = DEFAULTS[name] if default is None else default
    return Setting(name, "seconds", known, purpose, "times", "seconds", core=default is None)


#: Every option that has a flag of its own, in the order of ``--help``. TLS and the options without effect have others.
SETTINGS = (
    _sized("max_connections", "sockets", "sockets open at a time; further clients wait"),
    _sized(
        "max_requests",
        "requests",
        "requests in progress; further ones get 503 (default 65536, or --max-connections)",
        # On the command lines of others, --max-requests is after how many a worker is replaced.
        spelling="limit_concurrency",
    ),
    _sized("max_header_memory", "bytes", "bytes of the heads of these together; further ones get 503"),
    _sized("max_header_bytes", "bytes", "bytes of a request head; beyond them 431"),
    _sized("max_headers", "lines", "header lines of a request; beyond them 431", most=256),
    _sized("max_body_size", "bytes", "bytes of a request body; beyond them 413", least=0),
    _sized("body_buffer", "bytes", "bytes of a body held until its handler asks for them"),
    _sized("max_concurrent_streams", "streams", "streams that a connection of HTTP/2 may have open"),
    _timed("header_timeout", "seconds for a request head to arrive; then 408"),
    _timed("handshake_timeout", "seconds for a TLS handshake; then the connection is closed"),
    _timed("keep_alive_timeout", "seconds of silence between two requests"),
    _timed("body_timeout", "seconds of silence while a handler waits for a body; then 408"),
    _timed("write_timeout", "seconds in which a client reads nothing of a response; then it is cut off"),
    Setting(
        "min_rate",
        "count",
        DEFAULTS["min_rate"],
        "bytes a second that a client has to send or read; 0 disables it",
        "times",
        "bytes",
        most=2**32 - 1,
    ),
    _timed("shutdown_timeout", "seconds that requests in progress have at the end", 5.0),
    Setting(
        "sync_handlers",
        "choice",
        "io",
        "where plain handlers run: on the I/O threads or on the event loop's",
        "threads and behaviour",
        choices=("io", "loop"),
        core=False,
    ),
    Setting(
        "io_threads",
        "count",
        None,
        "threads that drive sockets (default half the cores, 1 to 4)",
        "threads and behaviour",
        "threads",
        1,
        256,
    ),
    Setting(
        "use_uvloop",
        "flag",
        False,
        "run on uvloop, which has to be installed",
        "threads and behaviour",
        core=False,
    ),
    Setting("http2", "flag", DEFAULTS["http2"], "let clients speak HTTP/2", "threads and behaviour"),
    Setting(
        "server_header",
        "text",
        DEFAULTS["server_header"],
        "value of the Server header; an empty one is not sent",
        "threads and behaviour",
        aliases=("--server-name",),
    ),
    Setting(
        "date_header",
        "flag",
        DEFAULTS["date_header"],
        "send the Date header",
        "threads and behaviour",
    ),
    Setting(
        "headers",
        "headers",
        None,
        "header for every response, repeatable, unless the application sends one of that name",
        "threads and behaviour",
        spelling="header",
    ),
    Setting("compression", "flag", False, "compress responses", "threads and behaviour", core=False),
    Setting("access_log", "flag", False, "log each response", "threads and behaviour", core=False),
    Setting(
        "proxy_protocol",
        "choice",
        "optional",
        "PROXY prefaces of trusted proxies: off, optional or required",
        "behind proxies",
        choices=("off", "optional", "required"),
    ),
    Setting(
        "trusted_proxies",
        "list",
        ["127.0.0.0/8", "::1", "unix"],
        "trusted peers: networks, addresses and unix, with commas, or *",
        "behind proxies",
        aliases=("--forwarded-allow-ips",),
    ),
)
#: What applications of foreign interfaces have beside these. ``ASGI`` and ``WSGI`` take them, and the command line for them.
FRONT_SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting(
            "root_path",
            "path",
            "",
            "path under which proxies show the application, such as /api",
            "applications of ASGI and WSGI",
            core=False,
        ),
        Setting(
            "startup_timeout",
            "seconds",
            None,
            "seconds that the application may take to start (default: as long as it takes)",
            "applications of ASGI and WSGI",
            "seconds",
            core=False,
        ),
        Setting(
            "threads",
            "count",
            1,
            "requests that may be in a WSGI application at a time",
            "applications of ASGI and WSGI",
            "threads",
            1,
            4096,
            core=False,
        ),
        Setting(
            "threads_idle_timeout",
            "seconds",
            30.0,
            "seconds without work after which one of several threads of a WSGI application ends",
            "applications of ASGI and WSGI",
            "seconds",
            core=False,
            aliases=("--blocking-threads-idle-timeout",),
        ),
    )
}
BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}


def read_seconds(text: str) -> float:
    """Reads a number of seconds as the command line spells it: ``30``, ``2.5``, or with a unit, as ``30s``, ``5m``, ``2h``
    and ``1d``.

    Raises:
        ValueError: It is none.
    """
    unit = _UNITS.get(text[-1:].lower())
    return float(text) if unit is None else float(text[:-1]) * unit


def read_flag(text: str) -> bool:
    """Reads True or False as the command line spells them.

    Raises:
        ValueError: It is neither.
    """
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"expected true or false, not {text!r}")


def check(**given: Any) -> dict[str, Any]:
    """What the core is given of these options.

    Raises:
        TypeError: One is of a type that it does not take.
        ValueError: One is out of range; the message names it, its value and what it takes.
    """
    checked = {name: BY_NAME[name].check(value) for name, value in given.items()}
    return {name: value for name, value in checked.items() if BY_NAME[name].core}
