"""What a command line asks for: flags and environment variables, checked and put together."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..options import AppListenOptions, AppOptions, CompressOptions
from ..settings import FRONT_SETTINGS, SETTINGS
from .definitions import workers
from .flags import Given, Parser
from .recycling import Recycling

if TYPE_CHECKING:
    import socket

__all__ = ["Invocation", "assemble", "worker_count"]


@dataclass
class Invocation:
    """What the command line says.

    Attributes:
        target: ``MODULE:ATTRIBUTE`` of the application; or the application itself, where a program says it.
        host: Host name or address; empty for every interface.
        port: TCP port; 0 for any free one.
        uds: Path of a Unix socket, in place of host and port.
        uds_mode: Its permissions; None for those of ``App.listen``.
        fd: A descriptor that listens already, in place of all of these.
        bind: Where else to listen; without host, port and path, where to listen at all.
        backlog: Connections that the system keeps until they are accepted.
        inherited: Sockets of a service manager, in place of all of these.
        interface: ``auto`` or the interface that the application has to have.
        factory: Whether the target has to be a factory.
        websocket: ``MODULE:ATTRIBUTE`` of a behaviour for every path or of an ASGI application, or either itself; None for
            none.
        websockets: Whether ASGI applications serve WebSockets.
        websocket_options: Keys of a behaviour that were given on the command line.
        app_options: Arguments of :class:`App` that were given on the command line.
        front_options: Arguments of :class:`ASGI` and :class:`WSGI` beside these that were given.
        lifespan: ``off``: hooks do not run, and ASGI applications hear nothing; ``on``: these have to speak lifespan; else
            ``auto``.
        static: Routes with directories, whose files go before the application.
        static_options: Arguments of :meth:`App.static` for them.
        reload: Whether the application starts again when files change.
        listen_log: Whether the address is printed.
        recycling: What makes a worker old.
        worker_timeout: Seconds that the loop of a worker may be busy with one turn; 0 for any.
        shutdown_delay: Seconds that the application goes on accepting after a signal.
        log_level: The lowest level that is logged; None for that of the configuration.
        log_config: The logging configuration: a path or a dict; None for none.
        log: Whether anything is logged.
        app_dir: Where to go before the application is imported; None to stay.
        pythonpath: Where else imports look, with commas; None for nowhere.
        tls: TLS settings, if the server is to serve TLS.
        only_bind: Whether host, port and path are not given beside ``bind``.
        kind: The interface of the application, once it is loaded.
        variables: The environment variables that options come from, by option.
    """

    target: Any
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    uds_mode: int | None = None
    fd: int | None = None
    bind: list[AppListenOptions] = field(default_factory=list)
    backlog: int = 4096
    inherited: list[socket.socket] = field(default_factory=list)
    interface: str = "auto"
    factory: bool = False
    websocket: Any = None
    websockets: bool = True
    websocket_options: dict[str, Any] = field(default_factory=dict)
    app_options: dict[str, Any] = field(default_factory=dict)
    front_options: dict[str, Any] = field(default_factory=dict)
    lifespan: str = "auto"
    static: list[tuple[str, str]] = field(default_factory=list)
    static_options: dict[str, str] = field(default_factory=dict)
    reload: bool = False
    listen_log: bool = True
    recycling: Recycling = field(default_factory=Recycling)
    worker_timeout: float = 0.0
    shutdown_delay: float = 0.0
    log_level: str | None = None
    log_config: Any = None
    log: bool = True
    app_dir: str | None = None
    pythonpath: str | None = None
    tls: AppOptions | None = None
    only_bind: bool = True
    kind: str = field(default="", compare=False)
    variables: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """What the application is called in messages."""
        if isinstance(self.target, str):
            return self.target
        return str(
            getattr(self.target, "__qualname__", None) or f"an object of {type(self.target).__qualname__}"
        )

    def _mode_of(self, path: str | None) -> int | None:
        """The permissions of a socket; None where there is no file."""
        if path is None or path.startswith(("@", "\0")):
            return None
        return 0o700 if self.uds_mode is None else self.uds_mode

    def places(self, *, exclusive: bool) -> list[AppListenOptions | socket.socket]:
        """Where to listen.

        Args:
            exclusive: Whether ports are taken exclusively. One process does not share its port: a second one, started by
                mistake, fails.
        """
        if self.inherited:
            return list(self.inherited)
        if self.fd is not None:
            return [AppListenOptions(fd=self.fd)]
        bind = [
            replace(each, mode=self._mode_of(each.domain), options=int(exclusive and bool(each.port)))
            for each in self.bind
        ]
        if self.bind and self.only_bind:
            return [*bind]
        if self.uds is not None:
            own = AppListenOptions(domain=self.uds, mode=self._mode_of(self.uds), backlog=self.backlog)
        else:
            own = AppListenOptions(
                host=self.host, port=self.port, options=int(exclusive), backlog=self.backlog
            )
        return [own, *bind]


def assemble(parser: Parser, given: Given) -> Invocation:
    """Checks what was given, and puts it together.

    Args:
        parser: The parser of the command line.
        given: What was said.

    Raises:
        SystemExit: Two options do not go together, or one is missing; it has been said.
    """
    target = given.get("target")
    if target is None:
        parser.error("which application? expected MODULE:ATTRIBUTE, such as main:app")
    made = Invocation(target, variables=given.variables)
    for name in (
        "host",
        "port",
        "uds",
        "uds_mode",
        "fd",
        "bind",
        "backlog",
        "interface",
        "factory",
        "lifespan",
        "reload",
        "worker_timeout",
        "shutdown_delay",
        "log_level",
        "log_config",
        "log",
        "app_dir",
        "pythonpath",
    ):
        if name in given:
            setattr(made, name, given[name])
    if made.uds == "":
        parser.error("argument --uds: expected a path, not ''")
    files = [
        each for each in (made.uds, *(each.domain for each in made.bind)) if each and not each.startswith("@")
    ]
    if made.uds_mode is not None and not files:
        parser.error(
            f"argument {given.said('uds_mode')}: these are permissions of a file, which --uds has to name"
        )
    if made.fd is not None and any(name in given for name in ("host", "port", "uds", "backlog")):
        parser.error(
            f"argument {given.said('fd')}: it listens already, so --host, --port, --uds and --backlog have no effect"
        )
    if made.fd is not None and made.bind:
        parser.error(
            f"argument {given.said('bind')}: the descriptor of --fd goes there too, as fd://{made.fd}"
        )
    made.only_bind = not any(name in given for name in ("host", "port", "uds"))
    made.bind = [replace(each, backlog=made.backlog) for each in made.bind]
    if made.interface == "asginl":
        made.interface, made.lifespan = "asgi", "off"
    made.listen_log = not given.get("disable_listen_log", False) and bool(given.get("log", True))
    for option, argument in (
        ("req_res_factory_maxitems", "request_response_factory_max_items"),
        ("ws_factory_maxitems", "websocket_factory_max_items"),
        ("task_factory_maxitems", "task_factory_max_items"),
        *((setting.option, setting.name) for setting in SETTINGS),
    ):
        if option in given:
            made.app_options[argument] = given[option]
    made.recycling = Recycling(
        **{
            argument: given[option]
            for option, argument in (
                ("max_requests", "requests"),
                ("max_requests_jitter", "jitter"),
                ("workers_lifetime", "lifetime"),
                ("workers_max_rss", "memory"),
                ("rss_sample_interval", "interval"),
                ("rss_samples", "samples"),
            )
            if option in given
        }  # type: ignore[arg-type]  # the parser has made numbers of them
    )
    made.front_options = {name: given[name] for name in FRONT_SETTINGS if name in given}
    _words(parser, made, given)
    _static(parser, made, given)
    _websocket(made, given)
    _tls(parser, made, given)
    return made


def _words(parser: Parser, made: Invocation, given: Given) -> None:
    """Options that say in another way what options of :class:`App` say."""
    for option, name, value, theirs in (
        ("loop", "use_uvloop", given.get("loop") == "uvloop", "use_uvloop"),
        ("http", "http2", given.get("http") != "1", "http2"),
    ):
        if option in given:
            if name in made.app_options and bool(made.app_options[name]) is not value:
                parser.error(
                    f"{given.said(option)} {given[option]} and {given.said(theirs)} contradict each other"
                )
            made.app_options[name] = value
    if given.get("proxy_headers", True) is False:
        if made.app_options.get("proxy_protocol", "off") not in ("off", False):
            parser.error(
                "--no-proxy-headers and --proxy-protocol contradict each other: trusted proxies are believed or not"
            )
        made.app_options["trusted_proxies"] = []


def _static(parser: Parser, made: Invocation, given: Given) -> None:
    """Directories of files: in one option, or in two lists as granian has them."""

    def several(name: str) -> list[Any]:
        found = given.get(name)
        return found if isinstance(found, list) else []

    mounts = several("static_path_mount")
    routes = several("static_path_route") or ["/static"] * len(mounts)
    if len(routes) != len(mounts):
        parser.error(
            "--static-path-route and --static-path-mount go together: give one of each, or use --static ROUTE=DIR"
        )
    made.static = [*several("static"), *zip(routes, mounts, strict=True)]
    for route, directory in made.static:
        if not route.startswith("/"):
            parser.error(f"argument {given.said('static')}: a route begins with /, not {route!r}")
        if not os.path.isdir(directory):
            parser.error(f"argument {given.said('static')}: there is no directory {directory!r}")
    made.static = [(route, os.path.abspath(directory)) for route, directory in made.static]
    if "static_path_dir_to_file" in given:
        made.static_options["index"] = str(given["static_path_dir_to_file"])
    if "static_path_expires" in given:
        made.static_options["cache_control"] = f"max-age={float(str(given['static_path_expires'])):.0f}"


#: Words of other servers for --ws: they name libraries, of which there is none here.
_WS_WORDS = {"auto": True, "none": False, "websockets": True, "websockets-sansio": True, "wsproto": True}


def _websocket(made: Invocation, given: Given) -> None:
    spec = given.get("ws", "auto")
    if not isinstance(spec, str):
        made.websocket = spec
    elif spec.lower() in _WS_WORDS:
        made.websockets = _WS_WORDS[spec.lower()]
    else:
        made.websocket = spec
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
            made.websocket_options[key] = given[option]
    if "ws_per_message_deflate" in given:
        chosen = given["ws_per_message_deflate"]
        compression = CompressOptions.SHARED_COMPRESSOR if chosen else CompressOptions.DISABLED
        made.websocket_options["compression"] = int(compression)
    _pings(made, given)


def _pings(made: Invocation, given: Given) -> None:
    """uvicorn's two options: a ping after so many seconds, and so many for its pong. Here a socket has one time for both."""
    interval, timeout = given.get("ws_ping_interval"), given.get("ws_ping_timeout")
    if interval is None and timeout is None:
        return
    if interval == 0:
        made.websocket_options.setdefault("send_pings_automatically", False)
        made.websocket_options.setdefault("idle_timeout", 0)
        return
    total = sum(20.0 if each is None else float(str(each)) for each in (interval, timeout))
    made.websocket_options.setdefault("send_pings_automatically", True)
    made.websocket_options.setdefault("idle_timeout", total)


def _tls(parser: Parser, made: Invocation, given: Given) -> None:
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
    certificate = found.get("cert_file_name")
    if "key_file_name" not in found and certificate is not None and _has_key(certificate):
        # One file may have both (S-CLI-17).
        found["key_file_name"] = certificate
    if "key_file_name" not in found:
        option = next(option for option in names if option in given)
        parser.error(f"{given.said(option)} needs --ssl-keyfile: without a private key there is no TLS")
    made.tls = AppOptions(**found)  # type: ignore[arg-type]  # every one of these fields is text


def _has_key(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return b"PRIVATE KEY-----" in file.read(1 << 20)
    except OSError:
        return False


def worker_count(parser: Parser, given: Given) -> int:
    """How many processes are to serve.

    Args:
        parser: The parser of the command line.
        given: What was said.

    Raises:
        SystemExit: The environment says what is no number; it has been said.
    """
    if "workers" in given:
        return int(str(given["workers"]))
    text = os.environ.get("WEB_CONCURRENCY", "").strip()
    if not text:
        return 1
    try:
        return workers(text)
    except argparse.ArgumentTypeError as error:
        parser.error(f"environment variable WEB_CONCURRENCY: {error}")
