"""The command line: ``python -m socketify MODULE:ATTRIBUTE [OPTIONS]``, or the script ``socketify``."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__
from .activation import notify_ready, systemd_sockets
from .link import Link
from .options import CLIENT_CERT, AppListenOptions, AppOptions, CompressOptions
from .ports import Claim, claim, inherit
from .settings import SETTINGS, Setting
from .worker import FAILURE, USAGE, Settings, complain, listen_line, serve

if TYPE_CHECKING:
    import socket

    from .reloader import Watcher

__all__ = ["main"]

_YES = ("true", "1", "yes", "on")
_NO = ("false", "0", "no", "off")
#: More processes than any machine has use for: a number with a digit too many.
_MOST_WORKERS = 1024
_INTERFACES = ("auto", "asgi", "asgi3", "wsgi", "ssgi", "socketify")


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and where there is more to read."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message} (see {self.prog} --help)")
        raise SystemExit(USAGE)


def _flag(text: str) -> bool:
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, not {text!r}")


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


def _workers(text: str) -> int:
    # F-05: fewer than one are one.
    return max(1, _number(-(2**31), _MOST_WORKERS)(text))


def _parser(program: str) -> _Parser:
    parser = _Parser(
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
    boolean: dict[str, Any] = {"type": _flag, "metavar": "BOOL"}
    parser.add_argument("target", metavar="MODULE:ATTRIBUTE", nargs="?", help="such as main:run")

    group = parser.add_argument_group("general")
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
        "--backlog", type=_number(0, 2**31 - 1), metavar="N", help="connections that may wait (default 4096)"
    )
    group.add_argument(
        "-w", "--workers", type=_workers, metavar="N", help="processes (default $WEB_CONCURRENCY, else 1)"
    )
    group.add_argument(
        "--interface", type=str.lower, choices=_INTERFACES, metavar="NAME",
        help="what the application has to be: auto (default) or socketify; asgi, asgi3, wsgi, ssgi are not served yet",
    )  # fmt: skip
    group.add_argument(
        "--lifespan", type=str.lower, choices=("auto", "on", "off"), metavar="auto|on|off",
        help="off: on_start and on_shutdown do not run",
    )  # fmt: skip
    group.add_argument("--disable-listen-log", **boolean, help="do not print the address (default false)")

    _add_settings(parser)

    group = parser.add_argument_group("development")
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
        help="files that count beside *.py, repeatable",
    )
    group.add_argument(
        "--reload-exclude", action="append", metavar="PATTERN", help="files that do not count, repeatable"
    )

    group = parser.add_argument_group(
        "WebSockets of --ws", "Each of them goes before what the dict says; the defaults go after it."
    )
    group.add_argument(
        "--ws", metavar="auto|none|MODULE:DICT", help="a behaviour for every path; auto, none: no more"
    )
    whole: dict[str, Any] = {"type": _number(0), "metavar": "N"}
    group.add_argument("--ws-max-size", **whole, help="bytes of a message (default 16777216)")
    group.add_argument("--ws-auto-ping", **boolean, help="ping silent clients (default true)")
    group.add_argument("--ws-idle-timeout", **whole, help="seconds of silence (default 20)")
    group.add_argument("--ws-reset-idle-on-send", **boolean, help="sending ends silence too (default true)")
    group.add_argument("--ws-per-message-deflate", **boolean, help="offer compression (default false)")
    group.add_argument("--ws-max-lifetime", **whole, help="minutes; 0: no limit (default 0)")
    group.add_argument(
        "--ws-max-backpressure", "--max-backpressure", **whole,
        help="bytes that may wait for a client (default 16777216)",
    )  # fmt: skip
    group.add_argument(
        "--ws-close-on-backpressure-limit", **boolean, help="close when more would wait (default false)"
    )

    group = parser.add_argument_group("TLS")
    group.add_argument("--ssl-keyfile", metavar="PATH", help="private key; with it, TLS is served")
    group.add_argument("--ssl-certfile", metavar="PATH", help="certificate and its chain")
    group.add_argument("--ssl-keyfile-password", metavar="TEXT", help="passphrase of the private key")
    group.add_argument("--ssl-ca-certs", metavar="PATH", help="authorities of clients' certificates")
    group.add_argument(
        "--ssl-cert-reqs", choices=CLIENT_CERT, metavar="none|optional|required",
        help="certificates of clients (default optional with --ssl-ca-certs, else none)",
    )  # fmt: skip
    group.add_argument(
        "--ssl-ciphers", metavar="TEXT", help="ciphers, as OpenSSL lists them or by IANA's names"
    )
    group.add_argument(
        "--ssl-min-version", choices=("1.2", "1.3"), metavar="1.2|1.3", help="oldest version (default 1.2)"
    )

    group = parser.add_argument_group("accepted for compatibility, without effect")
    for name in ("--req-res-factory-maxitems", "--ws-factory-maxitems", "--task-factory-maxitems"):
        group.add_argument(name, **whole)
    return parser


def _add_settings(parser: _Parser) -> None:
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
                    setting.flag, *setting.aliases, type=_reader(setting), metavar=metavar.get(setting.kind, "N"),
                    help=setting.help + default,
                )  # fmt: skip


def _reader(setting: Setting) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return setting.parse(text)
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


def _parse(parser: _Parser, arguments: Sequence[str]) -> argparse.Namespace:
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


def _take_environment(parser: _Parser, given: dict[str, object]) -> None:
    """Adds what the environment says of options that the command line does not: ``SOCKETIFY_`` and the option's name."""
    # Where to listen is said once: whoever says it on the command line means nothing of the environment's.
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


def _settings(parser: _Parser, given: dict[str, object]) -> Settings:
    """What is to be served; what was not given is left out of ``given``."""
    target = given.get("target")
    if not isinstance(target, str):
        parser.error("which application? expected MODULE:ATTRIBUTE, such as main:run")
    settings = Settings(target)
    for name in ("host", "port", "uds", "uds_mode", "fd", "backlog", "interface"):
        if name in given:
            setattr(settings, name, given[name])
    if settings.uds == "":
        parser.error("argument --uds: expected a path, not ''")
    if settings.uds_mode is not None and (settings.uds is None or settings.uds.startswith("@")):
        parser.error("argument --uds-mode: these are permissions of a file, which --uds has to name")
    if settings.fd is not None and any(name in given for name in ("host", "port", "uds", "backlog")):
        parser.error("argument --fd: it listens already, so --host, --port, --uds and --backlog say nothing")
    settings.lifespan = given.get("lifespan") != "off"
    settings.listen_log = not given.get("disable_listen_log", False)
    for option, argument in (
        ("req_res_factory_maxitems", "request_response_factory_max_items"),
        ("ws_factory_maxitems", "websocket_factory_max_items"),
        ("task_factory_maxitems", "task_factory_max_items"),
        *((setting.name, setting.name) for setting in SETTINGS),
    ):
        if option in given:
            settings.app_options[argument] = given[option]
    _websocket(settings, given)
    _tls(parser, settings, given)
    return settings


def _websocket(settings: Settings, given: dict[str, object]) -> None:
    spec = given.get("ws", "auto")
    if isinstance(spec, str) and spec.lower() not in ("auto", "none"):
        settings.websocket = spec
    for option, key in (
        ("ws_max_size", "max_payload_length"),
        ("ws_auto_ping", "send_pings_automatically"),
        ("ws_idle_timeout", "idle_timeout"),
        ("ws_reset_idle_on_send", "reset_idle_timeout_on_send"),
        ("ws_max_lifetime", "max_lifetime"),
        ("ws_max_backpressure", "max_backpressure"),
        ("ws_close_on_backpressure_limit", "close_on_backpressure_limit"),
    ):
        if option in given:
            settings.websocket_options[key] = given[option]
    if "ws_per_message_deflate" in given:
        chosen = given["ws_per_message_deflate"]
        compression = CompressOptions.SHARED_COMPRESSOR if chosen else CompressOptions.DISABLED
        settings.websocket_options["compression"] = int(compression)
    if settings.websocket_options and settings.websocket is None:
        complain("the --ws-... options say nothing about app.ws(...): they are for --ws MODULE:DICT")


def _tls(parser: _Parser, settings: Settings, given: dict[str, object]) -> None:
    names = {
        "ssl_keyfile": "key_file_name",
        "ssl_certfile": "cert_file_name",
        "ssl_keyfile_password": "passphrase",
        "ssl_ca_certs": "ca_file_name",
        "ssl_cert_reqs": "client_cert",
        "ssl_ciphers": "ssl_ciphers",
        "ssl_min_version": "min_version",
    }
    found = {field: str(given[option]) for option, field in names.items() if option in given}
    if not found:
        return
    if "key_file_name" not in found:
        option = next(option for option in names if option in given)
        parser.error(
            f"--{option.replace('_', '-')} needs --ssl-keyfile: without a private key there is no TLS"
        )
    settings.tls = AppOptions(**found)  # type: ignore[arg-type]  # every one of these fields is text


def _count(parser: _Parser, given: dict[str, object]) -> int:
    if "workers" in given:
        return int(str(given["workers"]))
    text = os.environ.get("WEB_CONCURRENCY", "").strip()
    if not text:
        return 1
    try:
        return _workers(text)
    except argparse.ArgumentTypeError as error:
        parser.error(f"environment variable WEB_CONCURRENCY: {error}")


def main(arguments: Sequence[str] | None = None, program: str = "socketify") -> int:
    """Runs a command line.

    Args:
        arguments: What follows the program's name; by default, those of this process.
        program: How the program calls itself.

    Returns:
        The status to exit with: 0 after a signal or :meth:`App.close`, 1 if the application cannot be loaded or started,
        2 if the command line is wrong or asks for what there is not.

    Raises:
        SystemExit: As the application or the parser wants.
    """
    parser = _parser(program)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words and not os.environ.get("SOCKETIFY_APP"):
        parser.print_help()
        return 0
    given = vars(_parse(parser, words))
    _take_environment(parser, given)
    settings = _settings(parser, given)
    if settings.interface not in ("auto", "socketify"):
        complain(
            f"--interface {settings.interface}: this interface is not served yet by this version of socketify; "
            "it serves def run(app), an App, or a factory of one of them"
        )
        return USAGE
    try:
        if not any(name in given for name in ("host", "port", "uds", "fd")):
            settings.inherited = systemd_sockets()
    except RuntimeError as error:
        complain(str(error))
        return FAILURE
    try:
        if given.get("reload"):
            return _reload(parser, settings, given)
        count = _count(parser, given)
        return _alone(settings) if count == 1 else _together(settings, count)
    except KeyboardInterrupt:
        # Before the application has its own way to hear of Ctrl+C.
        return 130


def _print_line(settings: Settings, config: AppListenOptions, secure: bool) -> None:
    if settings.listen_log:
        # A reader that has gone, such as `head`, ends nothing.
        with contextlib.suppress(OSError):
            print(listen_line(settings, config, secure), flush=True)
    notify_ready()


def _alone(settings: Settings) -> int:
    """Serves in this process."""
    where: AppListenOptions | list[socket.socket]
    if settings.inherited:
        where = settings.inherited
    elif settings.fd is not None:
        where = AppListenOptions(fd=settings.fd)
    elif settings.uds is not None:
        where = AppListenOptions(domain=settings.uds, mode=settings.uds_mode, backlog=settings.backlog)
    else:
        # One process has no use for sharing its port, and whoever starts a second one by mistake wants to know.
        where = AppListenOptions(host=settings.host, port=settings.port, options=1, backlog=settings.backlog)
    return serve(settings, where, lambda app, config: _print_line(settings, config, app.is_ssl))


def _claim(settings: Settings, *, shared: bool) -> Claim:
    if settings.inherited or settings.fd is not None:
        return inherit(settings.inherited, settings.fd)
    return claim(
        settings.host,
        settings.port,
        settings.uds,
        shared=shared,
        mode=settings.uds_mode,
        backlog=settings.backlog,
    )


def _together(settings: Settings, count: int) -> int:
    """Serves in several processes, which this one looks after."""
    try:
        claimed = _claim(settings, shared=True)
    except RuntimeError as error:
        complain(str(error))
        return FAILURE
    with claimed:
        return _supervise(settings, claimed, count)


def _reload(parser: _Parser, settings: Settings, given: dict[str, object]) -> int:
    """Serves in one process after the other, whenever files change."""
    from . import reloader

    if not reloader.available():
        complain("--reload needs watchfiles, which is not installed: pip install socketify[reload]")
        return USAGE
    if int(str(given.get("workers", 1))) > 1:
        complain("--reload runs one worker: --workers is left aside")

    def several(name: str) -> list[str]:
        found = given.get(name)
        return [str(each) for each in found] if isinstance(found, list) else []

    directories = several("reload_dir") or [os.getcwd()]
    for directory in directories:
        if not os.path.isdir(directory):
            parser.error(f"argument --reload-dir: there is no directory {directory!r}")
    try:
        claimed = _claim(settings, shared=False)
    except RuntimeError as error:
        complain(str(error))
        return FAILURE
    with claimed:
        try:
            patterns = ["*.py", *several("reload_include")], several("reload_exclude")
            watcher = reloader.Watcher(directories, *patterns)
        except RuntimeError:
            # It has said why.
            return FAILURE
        return _supervise(settings, claimed, 1, watcher)


def _supervise(settings: Settings, claimed: Claim, count: int, watcher: Watcher | None = None) -> int:
    from .supervisor import Supervisor

    def announce(secure: bool) -> None:
        _print_line(settings, claimed.config, secure)

    outcome = Supervisor(count, announce, claimed, watcher).run()
    if not isinstance(outcome, Link):
        return outcome
    # From here on this is a worker.
    link = outcome
    status = serve(
        settings,
        claimed.where,
        lambda app, _config: link.ready(app.shutdown_timeout, app.is_ssl),
        opening=claimed.listen,
        interrupt=False,
    )
    if status:
        link.told()
    return status
