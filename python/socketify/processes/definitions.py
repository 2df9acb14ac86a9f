"""The options of the command line that are none of :class:`App`: their names, values and help."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..options import CLIENT_CERT, AppListenOptions
from ..settings import FRONT_SETTINGS, SETTINGS, Setting, read_flag

__all__ = ["INTERFACES", "add_options", "number", "place", "workers"]

#: More processes than any machine has use for: a number with a digit too many.
_MOST_WORKERS = 1024
INTERFACES = ("auto", "asgi", "asgi3", "asginl", "wsgi", "rsgi", "ssgi", "socketify")
_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")

#: Words of other servers for an option that has a choice, and what they are here.
_HTTP = {"h11": "auto", "httptools": "auto", "zttp": "auto"}
_WS = {"websockets": "auto", "websockets-sansio": "auto", "wsproto": "auto"}
_CERT_REQS = {
    "0": "none",
    "1": "optional",
    "2": "required",
    "cert_none": "none",
    "cert_optional": "optional",
} | {"cert_required": "required"}
_TLS = {"tls1.2": "1.2", "tls1.3": "1.3", "tlsv1.2": "1.2", "tlsv1.3": "1.3"}


def number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Gives a reader of whole numbers."""

    def parse(text: str) -> int:
        span = f"from {least}" if most is None else f"from {least} to {most}"
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number {span}, not {text!r}") from None
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"expected a whole number {span}, not {text}")
        return value

    return parse


def workers(text: str) -> int:
    """Reads a number of processes; fewer than one are one (F-05).

    Raises:
        ArgumentTypeError: It is no number of processes.
    """
    return max(1, number(-(2**31), _MOST_WORKERS)(text))


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise argparse.ArgumentTypeError(
            f"expected permissions as chmod takes them, such as 660, not {text!r}"
        )
    return mode


def _mebibytes(text: str) -> int:
    return number(1)(text) << 20


def place(text: str) -> AppListenOptions:
    """Reads where to listen: ``HOST:PORT``, ``[ADDRESS]:PORT``, ``HOST``, ``unix:PATH`` or ``fd://N``.

    Raises:
        ArgumentTypeError: It is none of these.
    """
    if text.startswith("unix:") and text != "unix:":
        path = text.removeprefix("unix:")
        return AppListenOptions(domain=path.removeprefix("//") if path.startswith("//") else path)
    if text.startswith("fd://"):
        return AppListenOptions(fd=number(0)(text.removeprefix("fd://")))
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "8000"
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not text or (":" in bare and bare is host):
        raise argparse.ArgumentTypeError(
            f"expected HOST:PORT, [ADDRESS]:PORT, unix:PATH or fd://N, not {text!r}"
        )
    return AppListenOptions(host=bare or None, port=number(0, 65535)(port))


def _word(*choices: str, others: dict[str, str] | None = None) -> Callable[[str], str]:
    """Gives a reader of a word, of ours or of another server."""

    def read(text: str) -> str:
        word = (others or {}).get(text.lower(), text.lower())
        if word not in choices:
            raise argparse.ArgumentTypeError(
                f"expected {', '.join(choices[:-1])} or {choices[-1]}, not {text!r}"
            )
        return word

    return read


def _reader(parse: Callable[[str], object]) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return parse(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _pair(separator: str, form: str) -> Callable[[str], tuple[str, str]]:
    def read(text: str) -> tuple[str, str]:
        name, found, value = text.partition(separator)
        if not found or not name.strip():
            raise argparse.ArgumentTypeError(f"expected {form}, not {text!r}")
        return name.strip(), value.strip()

    return read


_BOOLEAN: dict[str, Any] = {"type": _reader(read_flag), "metavar": "BOOL"}
_WHOLE: dict[str, Any] = {"type": number(0), "metavar": "N"}
_COUNTED: dict[str, Any] = {"type": number(1), "metavar": "N"}


def _seconds(name: str, least: int = 0) -> dict[str, Any]:
    return {
        "type": _reader(Setting(name, "seconds", None, "", "", least=least).parse),
        "metavar": "SECONDS",
    }


def add_options(parser: argparse.ArgumentParser, version: str) -> None:
    """Adds all options, in the groups of ``--help``.

    Args:
        parser: The parser of the command line.
        version: What ``--version`` prints.
    """
    parser.add_argument("target", metavar="MODULE:ATTRIBUTE", nargs="?", help="such as main:app")
    _add_general(parser, version)
    _add_application(parser)
    _add_workers(parser)
    for title in dict.fromkeys(setting.group for setting in SETTINGS):
        _add_settings(parser, title, SETTINGS)
    _add_logging(parser)
    _add_development(parser)
    _add_websockets(parser)
    _add_tls(parser)
    group = parser.add_argument_group("accepted for compatibility, without effect")
    for name in ("--req-res-factory-maxitems", "--ws-factory-maxitems", "--task-factory-maxitems"):
        group.add_argument(name, **_WHOLE)


def _add_general(parser: argparse.ArgumentParser, version: str) -> None:
    group = parser.add_argument_group("general")
    group.add_argument("--help", action="help", help="print this and exit")
    group.add_argument(
        "-v", "--version", action="version", version=version, help="print the version and exit"
    )
    group.add_argument(
        "--check-config", **_BOOLEAN, help="load the application, say what would be served, and exit"
    )
    group.add_argument(
        "-h", "--host", metavar="HOST", help="name or address to listen on; empty: all (default 127.0.0.1)"
    )
    group.add_argument(
        "-p", "--port", type=number(0, 65535), metavar="N", help="0: a free one (default 8000)"
    )
    group.add_argument("--uds", metavar="PATH", help="Unix socket to listen on, in place of host and port")
    group.add_argument("--uds-mode", type=_mode, metavar="OCTAL", help="its permissions (default 700)")
    group.add_argument(
        "--fd", type=number(0), metavar="N", help="file descriptor that listens already, in place of host and port"
    )  # fmt: skip
    group.add_argument(
        "-b", "--bind", type=place, action="append", metavar="PLACE",
        help="where to listen, repeatable: HOST:PORT, [ADDRESS]:PORT, unix:PATH or fd://N",
    )  # fmt: skip
    group.add_argument(
        "--backlog", type=number(0, 2**31 - 1), metavar="N", help="connections in the listen backlog (default 4096)"
    )  # fmt: skip
    group.add_argument("--disable-listen-log", **_BOOLEAN, help="do not print the address (default false)")


def _add_application(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("application")
    group.add_argument(
        "--interface", type=str.lower, choices=INTERFACES, metavar="NAME",
        help="kind of application: auto (default), asgi, asginl (without lifespan), wsgi, rsgi or socketify; ssgi is not "
        "served yet",
    )  # fmt: skip
    group.add_argument(
        "--factory", **_BOOLEAN, help="the attribute is a function that returns the application"
    )
    group.add_argument("--app-dir", metavar="DIR", help="directory to go to and to import from")
    group.add_argument("--pythonpath", metavar="DIR,...", help="directories to import from, with commas")
    group.add_argument(
        "--env-file", action="append", metavar="PATH",
        help="file of environment variables, repeatable; needs python-dotenv",
    )  # fmt: skip
    group.add_argument(
        "-e", "--env", action="append", type=_pair("=", "NAME=VALUE"), metavar="NAME=VALUE",
        help="environment variable of the application, repeatable",
    )  # fmt: skip
    group.add_argument(
        "--static", action="append", type=_pair("=", "ROUTE=DIR"), metavar="ROUTE=DIR",
        help="files of a directory, served without Python, repeatable; what is not there goes to the application",
    )  # fmt: skip
    # granian's, which go together.
    group.add_argument("--static-path-route", action="append", help=argparse.SUPPRESS)
    group.add_argument("--static-path-mount", action="append", help=argparse.SUPPRESS)
    group.add_argument("--static-path-dir-to-file", help=argparse.SUPPRESS)
    group.add_argument("--static-path-expires", **_seconds("static_path_expires"), help=argparse.SUPPRESS)
    group.add_argument(
        "--lifespan", type=str.lower, choices=("auto", "on", "off"), metavar="auto|on|off",
        help="off: hooks do not run, and ASGI applications hear nothing; on: these have to speak lifespan",
    )  # fmt: skip
    group.add_argument(
        "--loop", type=_word("auto", "asyncio", "uvloop"), metavar="auto|asyncio|uvloop",
        help="event loop (default asyncio)",
    )  # fmt: skip
    group.add_argument(
        "--http", type=_word("auto", "1", "2", others=_HTTP), metavar="auto|1|2",
        help="versions of HTTP; 1 leaves HTTP/2 out",
    )  # fmt: skip
    group.add_argument("--proxy-headers", **_BOOLEAN, help="believe trusted proxies (default true)")
    _add_settings(parser, "applications of ASGI and WSGI", tuple(FRONT_SETTINGS.values()))


def _add_workers(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("processes")
    group.add_argument(
        "-w", "--workers", type=workers, metavar="N", help="processes (default $WEB_CONCURRENCY, else 1)"
    )
    group.add_argument("--pid-file", metavar="PATH", help="file for the process id, removed at the end")
    group.add_argument("--process-name", metavar="NAME", help="name of the processes, for top and ps")
    group.add_argument(
        "--shutdown-delay", **_seconds("shutdown_delay"),
        help="seconds to go on accepting after SIGTERM, for load balancers (default 0)",
    )  # fmt: skip
    group.add_argument(
        "--worker-timeout", **_seconds("worker_timeout"),
        help="seconds after which a worker is replaced whose event loop does not turn; 0: never (default 0)",
    )  # fmt: skip
    group.add_argument("--max-requests", **_COUNTED, help="requests after which a worker is replaced")
    group.add_argument("--max-requests-jitter", **_WHOLE, help="up to so many more, at random (default 0)")
    group.add_argument(
        "--workers-lifetime", **_seconds("workers_lifetime", 1),
        help="seconds after which a worker is replaced, and up to a tenth more",
    )  # fmt: skip
    group.add_argument(
        "--workers-max-rss", type=_mebibytes, metavar="MIB", help="memory beyond which a worker is replaced"
    )
    group.add_argument(
        "--rss-sample-interval", **_seconds("rss_sample_interval", 1),
        help="seconds between two looks at that (default 30)",
    )  # fmt: skip
    group.add_argument("--rss-samples", **_COUNTED, help="looks that have to find too much (default 1)")


def _add_logging(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("logging")
    group.add_argument(
        "--log-level", type=_word(*_LEVELS, others={"warn": "warning", "fatal": "critical"}), metavar="LEVEL",
        help=f"{', '.join(_LEVELS)} (default info)",
    )  # fmt: skip
    group.add_argument(
        "--log-config",
        metavar="PATH",
        help="logging configuration: .json, .yaml, .toml, or .ini of logging.config",
    )
    group.add_argument(
        "--log", **_BOOLEAN, help="false: log nothing, and do not print the address (default true)"
    )


def _add_development(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("development")
    group.add_argument("--reload", **_BOOLEAN, help="start again when files change; needs socketify[reload]")
    group.add_argument(
        "--reload-dir", action="append", metavar="DIR",
        help="directory to watch, repeatable (default: the current one)",
    )  # fmt: skip
    group.add_argument(
        "--reload-include", action="append", metavar="PATTERN", help="files to watch beside *.py, repeatable"
    )  # fmt: skip
    group.add_argument(
        "--reload-exclude", action="append", metavar="PATTERN", help="files to ignore, repeatable"
    )


def _add_websockets(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "WebSockets of ASGI applications and of --ws",
        "A given option overrides the dict; the defaults fill in missing keys.",
    )
    group.add_argument(
        "--ws", metavar="auto|none|MODULE:NAME",
        help="auto: ASGI applications serve them; none: nobody does; MODULE:NAME: a behaviour for every path, or an ASGI "
        "application",
    )  # fmt: skip
    group.add_argument("--ws-max-size", **_WHOLE, help="bytes of a message (default 16777216)")
    group.add_argument("--ws-auto-ping", **_BOOLEAN, help="ping silent clients (default true)")
    group.add_argument("--ws-idle-timeout", **_WHOLE, help="seconds of silence (default 20)")
    group.add_argument(
        "--ws-reset-idle-on-send", **_BOOLEAN, help="sending resets the idle timeout (default true)"
    )
    group.add_argument("--ws-per-message-deflate", **_BOOLEAN, help="offer compression (default false)")
    group.add_argument("--ws-max-lifetime", **_WHOLE, help="minutes; 0: no limit (default 0)")
    group.add_argument(
        "--ws-max-backpressure", "--max-backpressure", **_WHOLE,
        help="bytes of buffered output (default 16777216)",
    )  # fmt: skip
    group.add_argument(
        "--ws-close-on-backpressure-limit", **_BOOLEAN, help="close when a message is dropped (default false)"
    )
    for name in ("--ws-ping-interval", "--ws-ping-timeout"):
        group.add_argument(name, **_seconds(name), help=argparse.SUPPRESS)


def _add_tls(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("TLS")
    group.add_argument("--ssl-keyfile", metavar="PATH", help="private key; with it, TLS is served")
    group.add_argument("--ssl-certfile", metavar="PATH", help="certificate and its chain")
    group.add_argument("--ssl-keyfile-password", metavar="TEXT", help="passphrase of the private key")
    group.add_argument("--ssl-ca-certs", metavar="PATH", help="authorities of client certificates")
    group.add_argument(
        "--ssl-cert-reqs", type=_word(*CLIENT_CERT, others=_CERT_REQS), metavar="none|optional|required",
        help="client certificates (default optional with --ssl-ca-certs, else none)",
    )  # fmt: skip
    group.add_argument(
        "--ssl-ciphers", metavar="TEXT", help="ciphers, in OpenSSL's syntax or by IANA's names"
    )
    group.add_argument(
        "--ssl-min-version", type=_word("1.2", "1.3", others=_TLS), metavar="1.2|1.3",
        help="oldest version (default 1.2)",
    )  # fmt: skip


def _add_settings(parser: argparse.ArgumentParser, title: str, settings: tuple[Setting, ...]) -> None:
    """Adds a flag for each option of a group of the table."""
    metavars = {"flag": "BOOL", "text": "TEXT", "path": "PATH", "list": "LIST", "headers": "NAME:VALUE"}
    group = parser.add_argument_group(title)
    for setting in settings:
        if setting.group == title:
            metavar = "|".join(setting.choices) or metavars.get(setting.kind, "N")
            shown = "" if setting.default in (None, "") else f" (default {_shown(setting.default)})"
            group.add_argument(
                setting.flag, *setting.aliases, type=_reader(setting.parse), metavar=metavar, help=setting.help + shown,
                action="append" if setting.kind == "headers" else "store",
            )  # fmt: skip


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, list):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)
