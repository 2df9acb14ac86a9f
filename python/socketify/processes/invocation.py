"""What a command line asks for: flags and environment variables, checked and put together."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..options import AppOptions, CompressOptions
from ..settings import SETTINGS
from .console import complain
from .flags import Given, Parser, workers

if TYPE_CHECKING:
    import socket

__all__ = ["Invocation", "assemble", "worker_count"]


@dataclass
class Invocation:
    """What the command line says.

    Attributes:
        target: ``MODULE:ATTRIBUTE`` of the application.
        host: Host name or address; empty for every interface.
        port: TCP port; 0 for any free one.
        uds: Path of a Unix socket, in place of host and port.
        uds_mode: Its permissions; None for those of ``App.listen``.
        fd: A descriptor that listens already, in place of all of these.
        backlog: Connections that the system keeps until they are accepted.
        inherited: Sockets of a service manager, in place of all of these.
        interface: ``auto`` or the interface that the application has to have.
        websocket: ``MODULE:ATTRIBUTE`` of a behaviour for every path, if there is one.
        websocket_options: Keys of a behaviour that were given on the command line.
        app_options: Arguments of :class:`App` that were given on the command line.
        lifespan: Whether the application's hooks run.
        listen_log: Whether the address is printed.
        tls: TLS settings, if the server is to serve TLS.
        variables: The environment variables that options come from, by option.
    """

    target: str
    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    uds_mode: int | None = None
    fd: int | None = None
    backlog: int = 4096
    inherited: list[socket.socket] = field(default_factory=list)
    interface: str = "auto"
    websocket: str | None = None
    websocket_options: dict[str, Any] = field(default_factory=dict)
    app_options: dict[str, Any] = field(default_factory=dict)
    lifespan: bool = True
    listen_log: bool = True
    tls: AppOptions | None = None
    variables: Mapping[str, str] = field(default_factory=dict, compare=False)


def assemble(parser: Parser, given: Given) -> Invocation:
    """Checks what was given, and puts it together.

    Args:
        parser: The parser of the command line.
        given: What was said.

    Raises:
        SystemExit: Two options do not go together, or one is missing; it has been said.
    """
    target = given.get("target")
    if not isinstance(target, str):
        parser.error("which application? expected MODULE:ATTRIBUTE, such as main:run")
    made = Invocation(target, variables=given.variables)
    for name in ("host", "port", "uds", "uds_mode", "fd", "backlog", "interface"):
        if name in given:
            setattr(made, name, given[name])
    if made.uds == "":
        parser.error("argument --uds: expected a path, not ''")
    if made.uds_mode is not None and (made.uds is None or made.uds.startswith("@")):
        parser.error(
            f"argument {given.said('uds_mode')}: these are permissions of a file, which --uds has to name"
        )
    if made.fd is not None and any(name in given for name in ("host", "port", "uds", "backlog")):
        parser.error(
            f"argument {given.said('fd')}: it listens already, so --host, --port, --uds and --backlog have no effect"
        )
    made.lifespan = given.get("lifespan") != "off"
    made.listen_log = not given.get("disable_listen_log", False)
    for option, argument in (
        ("req_res_factory_maxitems", "request_response_factory_max_items"),
        ("ws_factory_maxitems", "websocket_factory_max_items"),
        ("task_factory_maxitems", "task_factory_max_items"),
        *((setting.name, setting.name) for setting in SETTINGS),
    ):
        if option in given:
            made.app_options[argument] = given[option]
    _websocket(made, given)
    _tls(parser, made, given)
    return made


def _websocket(made: Invocation, given: Given) -> None:
    spec = given.get("ws", "auto")
    if isinstance(spec, str) and spec.lower() not in ("auto", "none"):
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
    if made.websocket_options and made.websocket is None:
        complain("the --ws-... options do not apply to app.ws(...): they need --ws MODULE:DICT")


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
    if "key_file_name" not in found:
        option = next(option for option in names if option in given)
        parser.error(f"{given.said(option)} needs --ssl-keyfile: without a private key there is no TLS")
    made.tls = AppOptions(**found)  # type: ignore[arg-type]  # every one of these fields is text


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
