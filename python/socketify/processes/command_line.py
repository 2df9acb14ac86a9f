"""``python -m socketify MODULE:ATTRIBUTE [OPTIONS]``, or the script ``socketify``: it starts the processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..options import AppListenOptions
from ..terminal import quiet
from .activation import notify_ready, systemd_sockets
from .console import FAILURE, USAGE, complain, listen_line, summary
from .flags import Given, Parser, parse, parser
from .invocation import Invocation, assemble, worker_count
from .link import Link
from .ports import Claims, claim_all
from .recycling import watch_alone
from .surroundings import PidFileError, is_main_thread, name_process, pid_file
from .worker import check, serve

if TYPE_CHECKING:
    from ..app import App
    from .reloader import Watcher

__all__ = ["announce", "launch", "main"]


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
    reader = parser(program)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words and not os.environ.get("SOCKETIFY_APP"):
        reader.print_help()
        return 0
    return launch(reader, parse(reader, words))


def launch(reader: Parser, given: Given) -> int:
    """Serves what has been read.

    Args:
        reader: The parser, which says what is wrong.
        given: What was said.

    Returns:
        The status to exit with. What is wrong has been said.

    Raises:
        SystemExit: As the application or the parser wants.
    """
    asked = assemble(reader, given)
    try:
        if not any(name in given for name in ("host", "port", "uds", "fd", "bind")):
            asked.inherited = systemd_sockets()
    except RuntimeError as error:
        complain(str(error))
        return FAILURE
    if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL and is_main_thread():
        # It asks other servers to open their logs anew (S-CLI-22).
        signal.signal(signal.SIGUSR1, quiet)
    if "process_name" in given:
        name_process(str(given["process_name"]))
    _find_files(reader, asked, given)
    try:
        with pid_file(str(given["pid_file"]) if "pid_file" in given else None):
            if given.get("check_config"):
                return check(asked, worker_count(reader, given))
            if given.get("reload"):
                return _reload(reader, asked, given)
            count = worker_count(reader, given)
            # Somebody has to watch it.
            alone = count == 1 and not asked.worker_timeout
            return _alone(asked) if alone else _together(asked, count)
    except PidFileError as error:
        complain(str(error))
        return FAILURE
    except KeyboardInterrupt:
        # Before the application has its own way to hear of Ctrl+C.
        return 130


def _find_files(reader: Parser, asked: Invocation, given: Given) -> None:
    """Checks directories and files that the command line names. Paths are from where it was given."""
    if asked.app_dir is not None and not os.path.isdir(asked.app_dir):
        reader.error(f"argument {given.said('app_dir')}: there is no directory {asked.app_dir!r}")
    if isinstance(asked.log_config, str):
        if not os.path.isfile(asked.log_config):
            reader.error(f"argument {given.said('log_config')}: there is no file {asked.log_config!r}")
        asked.log_config = os.path.abspath(asked.log_config)
    if asked.app_dir is None:
        return
    asked.app_dir = os.path.abspath(asked.app_dir)
    if asked.uds is not None and not asked.uds.startswith("@"):
        asked.uds = os.path.abspath(asked.uds)
    if asked.tls is not None:
        for name in ("key_file_name", "cert_file_name", "ca_file_name"):
            if (path := getattr(asked.tls, name)) is not None:
                setattr(asked.tls, name, os.path.abspath(path))


def announce(
    asked: Invocation, configs: Sequence[AppListenOptions], secure: bool, kind: str = "", count: int = 1
) -> None:
    """Says where the server listens, to who reads and to a service manager."""
    if asked.listen_log:
        lines = [listen_line(config, secure) for config in configs]
        # A reader that has gone, such as `head`, ends nothing.
        with contextlib.suppress(OSError):
            print("\n".join(lines) + "\n", flush=True)
            if sys.stdout.isatty():
                http2 = bool(asked.app_options.get("http2", True))
                print(
                    summary(asked.name, kind, count, secure=secure, http2=http2, reload=asked.reload) + "\n",
                    flush=True,
                )
    notify_ready()


def _alone(asked: Invocation) -> int:
    """Serves in this process."""

    def ready(app: App, configs: Sequence[AppListenOptions]) -> None:
        announce(asked, configs, app.is_ssl, asked.kind)
        if asked.recycling.is_wanted:
            watch_alone(app, asked.recycling)

    return serve(asked, asked.places(exclusive=True), ready)


def _together(asked: Invocation, count: int) -> int:
    """Serves in several processes, which this one looks after."""
    try:
        claimed = claim_all(asked.places(exclusive=False), shared=True)
    except RuntimeError as error:
        complain(str(error))
        return FAILURE
    with claimed:
        return _supervise(asked, claimed, count)


def _reload(parser: Parser, asked: Invocation, given: Given) -> int:
    """Serves in one process after the other, whenever files change."""
    from . import reloader

    if not reloader.available():
        complain("--reload needs watchfiles, which is not installed: pip install socketify[reload]")
        return USAGE
    if int(str(given.get("workers", 1))) > 1:
        complain(f"--reload runs one worker: {given.said('workers')} is ignored")

    def several(name: str) -> list[str]:
        found = given.get(name)
        return [str(each) for each in found] if isinstance(found, list) else []

    directories = several("reload_dir") or [os.getcwd()]
    for directory in directories:
        if not os.path.isdir(directory):
            parser.error(f"argument {given.said('reload_dir')}: there is no directory {directory!r}")
    try:
        claimed = claim_all(asked.places(exclusive=False), shared=False)
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
        return _supervise(asked, claimed, 1, watcher)


def _supervise(asked: Invocation, claimed: Claims, count: int, watcher: Watcher | None = None) -> int:
    from .supervisor import Supervisor

    recycling = asked.recycling if watcher is None else None
    outcome = Supervisor(
        count,
        lambda secure, kind: announce(asked, claimed.configs, secure, kind, count),
        claimed,
        watcher,
        recycling=recycling,
        timeout=asked.worker_timeout if watcher is None else 0.0,
    ).run()
    if not isinstance(outcome, Link):
        return outcome
    # From here on this is a worker.
    link = outcome

    def ready(app: App, _configs: Sequence[AppListenOptions]) -> None:
        if recycling is not None and (quota := recycling.quota()) is not None:
            app._server.count_requests(quota, link.report)
        if link.heart is not None:
            link.heart.watch(app)
        link.ready(app.shutdown_timeout + asked.shutdown_delay, app.is_ssl, asked.kind)

    status = serve(
        asked,
        claimed.where,
        ready,
        opening=claimed.listen,
        interrupt=False,
    )
    if status:
        link.told()
    return status
