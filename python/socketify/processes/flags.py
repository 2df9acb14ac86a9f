"""The flags of the command line, and the environment variables that stand for them."""

from __future__ import annotations

import argparse
import difflib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from .. import __version__
from ..options import CLIENT_CERT
from ..settings import SETTINGS, read_flag
from .console import USAGE, complain

__all__ = ["Given", "Parser", "parse", "parser", "said", "workers"]

#: More processes than any machine has use for: a number with a digit too many.
_MOST_WORKERS = 1024
_INTERFACES = ("auto", "asgi", "asgi3", "wsgi", "ssgi", "socketify")


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and where there is more to read."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message} (see {self.prog} --help)")
        raise SystemExit(USAGE)


def _number(least: int, most: int | None = None) -> Callable[[str], int]:
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


def workers(text: str) -> int:
    """Reads a number of processes; fewer than one are one (F-05).

    Raises:
        ArgumentTypeError: It is no number of processes.
    """
    return max(1, _number(-(2**31), _MOST_WORKERS)(text))


def parser(program: str) -> Parser:
    """Gives the parser of the command line.

    Args:
        program: How the program calls itself.
    """
    made = Parser(
        prog=program,
        usage="%(prog)s MODULE:ATTRIBUTE [OPTIONS]",
        description="Serves an application: a function def run(app) that registers routes, an App, or a factory, a "
        "function without parameters that returns one of them.",
        epilog="BOOL is true, 1, yes or on; false, 0, no or off; a flag without a value is true.",
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=36, width=110),
    )
    boolean: dict[str, Any] = {"type": _reader(read_flag), "metavar": "BOOL"}
    made.add_argument("target", metavar="MODULE:ATTRIBUTE", nargs="?", help="such as main:run")

    group = made.add_argument_group("general")
    group.add_argument("--help", action="help", help="print this and exit")
    group.add_argument(
        "-v", "--version", action="version", version=_version(), help="print the version and exit"
    )
    group.add_argument(
        "-h", "--host", metavar="HOST", help="name or address to listen on; empty: all (default 127.0.0.1)"
    )
    group.add_argument(
        "-p", "--port", type=_number(0, 65535), metavar="N", help="0: a free one (default 8000)"
    )
    group.add_argument("--uds", metavar="PATH", help="Unix socket to listen on, in place of host and port")
    group.add_argument("--uds-mode", type=_mode, metavar="OCTAL", help="its permissions (default 700)")
    group.add_argument(
        "--fd",
        type=_number(0),
        metavar="N",
        help="file descriptor that listens already, in place of host and port",
    )
    group.add_argument(
        "--backlog",
        type=_number(0, 2**31 - 1),
        metavar="N",
        help="connections in the listen backlog (default 4096)",
    )
    group.add_argument(
        "-w", "--workers", type=workers, metavar="N", help="processes (default $WEB_CONCURRENCY, else 1)"
    )
    group.add_argument(
        "--interface", type=str.lower, choices=_INTERFACES, metavar="NAME",
        help="kind of application: auto (default) or socketify; asgi, asgi3, wsgi, ssgi are not served yet",
    )  # fmt: skip
    group.add_argument(
        "--lifespan", type=str.lower, choices=("auto", "on", "off"), metavar="auto|on|off",
        help="off: on_start and on_shutdown do not run",
    )  # fmt: skip
    group.add_argument("--disable-listen-log", **boolean, help="do not print the address (default false)")

    _add_settings(made)

    group = made.add_argument_group("development")
    group.add_argument("--reload", **boolean, help="start again when files change; needs socketify[reload]")
    group.add_argument(
        "--reload-dir",
        action="append",
        metavar="DIR",
        help="directory to watch, repeatable (default: the current one)",
    )
    group.add_argument(
        "--reload-include",
        action="append",
        metavar="PATTERN",
        help="files to watch beside *.py, repeatable",
    )
    group.add_argument(
        "--reload-exclude", action="append", metavar="PATTERN", help="files to ignore, repeatable"
    )

    group = made.add_argument_group(
        "WebSockets of --ws", "A given option overrides the dict; the defaults fill in missing keys."
    )
    group.add_argument(
        "--ws", metavar="auto|none|MODULE:DICT", help="a behaviour for every path; auto, none: no such route"
    )
    whole: dict[str, Any] = {"type": _number(0), "metavar": "N"}
    group.add_argument("--ws-max-size", **whole, help="bytes of a message (default 16777216)")
    group.add_argument("--ws-auto-ping", **boolean, help="ping silent clients (default true)")
    group.add_argument("--ws-idle-timeout", **whole, help="seconds of silence (default 20)")
    group.add_argument(
        "--ws-reset-idle-on-send", **boolean, help="sending resets the idle timeout (default true)"
    )
    group.add_argument("--ws-per-message-deflate", **boolean, help="offer compression (default false)")
    group.add_argument("--ws-max-lifetime", **whole, help="minutes; 0: no limit (default 0)")
    group.add_argument(
        "--ws-max-backpressure", "--max-backpressure", **whole,
        help="bytes of buffered output (default 16777216)",
    )  # fmt: skip
    group.add_argument(
        "--ws-close-on-backpressure-limit", **boolean, help="close when a message is dropped (default false)"
    )

    group = made.add_argument_group("TLS")
    group.add_argument("--ssl-keyfile", metavar="PATH", help="private key; with it, TLS is served")
    group.add_argument("--ssl-certfile", metavar="PATH", help="certificate and its chain")
    group.add_argument("--ssl-keyfile-password", metavar="TEXT", help="passphrase of the private key")
    group.add_argument("--ssl-ca-certs", metavar="PATH", help="authorities of client certificates")
    group.add_argument(
        "--ssl-cert-reqs", choices=CLIENT_CERT, metavar="none|optional|required",
        help="client certificates (default optional with --ssl-ca-certs, else none)",
    )  # fmt: skip
    group.add_argument(
        "--ssl-ciphers", metavar="TEXT", help="ciphers, in OpenSSL's syntax or by IANA's names"
    )
    group.add_argument(
        "--ssl-min-version", choices=("1.2", "1.3"), metavar="1.2|1.3", help="oldest version (default 1.2)"
    )

    group = made.add_argument_group("accepted for compatibility, without effect")
    for name in ("--req-res-factory-maxitems", "--ws-factory-maxitems", "--task-factory-maxitems"):
        group.add_argument(name, **whole)
    return made


def _add_settings(parser: Parser) -> None:
    """Adds a flag for each option of :class:`App`, in the groups of the table."""
    for title in dict.fromkeys(setting.group for setting in SETTINGS):
        group = parser.add_argument_group(title)
        for setting in SETTINGS:
            if setting.group == title:
                metavar = {
                    "flag": "BOOL",
                    "text": "TEXT",
                    "list": "LIST",
                    "choice": "|".join(setting.choices),
                }
                default = "" if setting.default is None else f" (default {_shown(setting.default)})"
                group.add_argument(
                    setting.flag, *setting.aliases, type=_reader(setting.parse), metavar=metavar.get(setting.kind, "N"),
                    help=setting.help + default,
                )  # fmt: skip


def _reader(parse: Callable[[str], object]) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return parse(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, list):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _version() -> str:
    system = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    return f"Running socketify {__version__} with {system}"


def _spell_out(arguments: Sequence[str], flags: set[str]) -> list[str]:
    """Gives each boolean flag its value, so that one without does not take the word behind it (F-23)."""
    given = list(arguments)
    result = []
    while given:
        word = given.pop(0)
        if word in flags:
            following = given[0] if given else "-"
            alone = following.startswith("-") or ":" in following
            word = f"{word}={'true' if alone else given.pop(0)}"
        result.append(word)
    return result


class Given(dict[str, object]):
    """What the command line and the environment say, by option.

    Attributes:
        variables: The environment variables that options come from.
    """

    def __init__(self, parsed: argparse.Namespace) -> None:
        super().__init__(vars(parsed))
        self.variables: dict[str, str] = {}

    def said(self, option: str) -> str:
        """Names an option as the user has said it; see :func:`said`."""
        return said(option, self.variables)


def said(option: str, variables: Mapping[str, str]) -> str:
    """Names an option in messages.

    Args:
        option: Its name, such as ``max_headers``.
        variables: The environment variables that options come from, by option.

    Returns:
        ``--max-headers``, and the environment variable that it comes from, if it comes from one.
    """
    flag = f"--{option.replace('_', '-')}"
    return f"{flag} (environment variable {variables[option]})" if option in variables else flag


def parse(parser: Parser, words: Sequence[str]) -> Given:
    """Reads a command line, and the environment for what it does not say.

    Args:
        parser: The parser.
        words: What follows the program's name.

    Returns:
        What was said; what was not is left out.

    Raises:
        SystemExit: Something is wrong, which has been said; or the help or the version was asked for.
    """
    given = Given(_parse(parser, words))
    _take_environment(parser, given)
    return given


def _parse(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    options = [option for action in parser._actions for option in action.option_strings]
    flags = {o for action in parser._actions if action.metavar == "BOOL" for o in action.option_strings}
    parsed, unknown = parser.parse_known_args(_spell_out(arguments, flags))
    if unknown:
        # What follows an unknown option may be its value.
        first = next((word for word in unknown if word.startswith("-")), unknown[0])
        name = first.partition("=")[0]
        if not name.startswith("-"):
            parser.error(
                f"unexpected argument {name!r}: there is one MODULE:ATTRIBUTE, and options begin with --"
            )
        close = difflib.get_close_matches(name, options, 1)
        parser.error(f"unknown option {name}" + (f"; did you mean {close[0]}?" if close else ""))
    return parsed


def _take_environment(parser: Parser, given: Given) -> None:
    """Adds what the environment says of options that the command line does not: ``SOCKETIFY_`` and the option's name."""
    # Where to listen is said once: the command line replaces everything that the environment says of it.
    places = {"host", "port", "uds", "uds_mode", "fd", "backlog"}
    said = {"fd", "uds"} & given.keys() or {"host", "port"} & given.keys()
    for action in parser._actions:
        if said and action.dest in places:
            continue
        variable = f"SOCKETIFY_{'APP' if action.dest == 'target' else action.dest.upper()}"
        text = os.environ.get(variable, "")
        if text.startswith("tcp://"):
            # Kubernetes gives every pod such a SOCKETIFY_PORT where a service is called socketify.
            continue
        # Empty says nothing, as for other programs. What prints and exits is no setting.
        if not text or action.dest in given or action.dest in ("help", "version"):
            continue
        words = text.split(os.pathsep) if isinstance(action, argparse._AppendAction) else [text]
        try:
            values = [parser._get_value(action, word) for word in words]
            for value in values:
                parser._check_value(action, value)
        except argparse.ArgumentError as error:
            parser.error(f"environment variable {variable}: {error.message}")
        given[action.dest] = values if isinstance(action, argparse._AppendAction) else values[0]
        given.variables[action.dest] = variable
