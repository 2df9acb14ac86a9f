"""``socketify.run`` and ``socketify.serve``: the command line, for programs."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from .asgi_lifespan import StartupFailure
from .fronts import Front
from .processes.command_line import announce, launch
from .processes.flags import Given, Parser, parse_words, parser
from .processes.importer import LoadError
from .processes.invocation import Invocation, assemble
from .processes.peers import ALIASES
from .processes.worker import Refusal, prepare, serve_files

if TYPE_CHECKING:
    from .app import App
    from .options import AppListenOptions

__all__ = ["run", "serve"]

#: Options that programs may give objects for, which are no words of a command line.
_OBJECTS = ("ws", "compression", "access_log", "log_config", "bind")
#: Options that have the process end, or are nothing for a program.
_NOT_HERE = ("help", "version", "check_config", "env_file", "env")


class _Strict(Parser):
    """Raises what the command line prints."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def run(app: Any, **options: Any) -> None:
    """Serves an application until a signal, as the command line does::

        socketify.run("main:app", port=8080, workers=4)

    Args:
        app: ``"module:attribute"``, as on the command line, or the application itself: an ASGI or WSGI application, a
            function ``run(app)``, or an :class:`App`. Workers are forks of this process, so they have it too; with
            ``reload=True`` it has to be text.
        options: Options of the command line, with underscores: ``host``, ``port``, ``workers``, ``reload``, ``log_level``
            and so on. Numbers, bools and lists may be given as such. None leaves an option out. Of environment variables,
            only ``WEB_CONCURRENCY`` and ``FORWARDED_ALLOW_IPS`` are read.

    Raises:
        TypeError: An option is unknown.
        ValueError: An option has a wrong value, or two do not go together.
        RuntimeError: A loop runs on this thread already.
        SystemExit: A signal has ended it, or, with another status than 0, the application cannot be loaded or started. What
            is wrong has been said on standard error.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            "a loop runs on this thread already: use await socketify.serve(...) in place of run()"
        )
    reader = parser("socketify.run", _Strict)
    given = _read(reader, app, options)
    if given.get("reload"):
        _start_anew(app, options)
    status = launch(reader, given)
    if status:
        raise SystemExit(status)


async def serve(app: Any, **options: Any) -> None:
    """Serves an application in the event loop that runs, until a signal, :meth:`App.close`, or until this is cancelled.

    SIGINT and SIGTERM end it as they end :func:`run`, where it is called on the main thread, and this returns then.

    Args:
        app: As for :func:`run`. An :class:`App` has to be made in this loop.
        options: As for :func:`run`, but for those of several processes.

    Raises:
        TypeError: An option is unknown.
        ValueError: An option has a wrong value, or is one of several processes.
        RuntimeError: The application cannot be loaded or started, or a socket cannot be bound.
        CancelledError: It was cancelled. The application has ended.
    """
    reader = parser("socketify.serve", _Strict)
    given = _read(reader, app, options)
    if given.get("reload") or int(str(given.get("workers", 1))) > 1:
        raise ValueError(
            "workers and reload take several processes, and a loop that runs is in one: use socketify.run(...)"
        )
    asked = assemble(reader, given)
    if isinstance(app, Front) and not app._app.loop.is_foreign:
        # It was made outside of this loop, and has not begun.
        app._renew()
    try:
        inner = prepare(asked)
    except (LoadError, Refusal) as error:
        raise RuntimeError(str(error)) from error.__cause__
    if not inner.loop.is_foreign or inner.loop.loop is not asyncio.get_running_loop():
        raise RuntimeError(f"{asked.name} was not made in this event loop: make the App inside of it")
    serve_files(asked, inner)
    await _serve(asked, inner)


async def _serve(asked: Invocation, app: App) -> None:
    life = app._lifecycle
    configs: list[AppListenOptions] = []
    life.signals.hear(life.loop.loop)
    try:
        if not await life.start_here():
            return
        for where in asked.places(exclusive=True):
            app.listen(where, configs.append)
        announce(asked, configs, app.is_ssl, asked.kind)
        await asyncio.shield(life.stay.over if life.stay is not None else asyncio.sleep(0))
    except StartupFailure as failure:
        raise RuntimeError(failure.message) from failure.error
    except asyncio.CancelledError:
        app.close()
        raise
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await life.end_here()
        life.signals.unhear()


def _read(reader: Parser, app: Any, options: Mapping[str, Any]) -> Given:
    """What a program says, as if a command line had said it."""
    words: list[str] = []
    objects: dict[str, Any] = {}
    known = {action.dest: action for action in reader._actions if action.dest not in _NOT_HERE}
    for name, value in options.items():
        if value is None:
            continue
        flag = "--" + name.replace("_", "-")
        if flag in ALIASES:
            words += [flag, _word(value)]
            continue
        if name not in known or name == "target":
            close = difflib.get_close_matches(name, known, 1)
            raise TypeError(f"unknown option {name!r}" + (f": did you mean {close[0]!r}?" if close else ""))
        if name in _OBJECTS and not isinstance(value, (str, bool, list, tuple, os.PathLike)):
            objects[name] = value
        else:
            words += [f"{flag}={word}" for word in _words(name, value)]
    given = Given(parse_words(reader, words))
    given.update(objects)
    given["target"] = app
    for variable, option in (("FORWARDED_ALLOW_IPS", "trusted_proxies"),):
        if (text := os.environ.get(variable)) and option not in given:
            given[option] = [each.strip() for each in text.split(",")]
            given.variables[option] = variable
    return given


#: What separates the parts of a pair, for options that may be repeated and take one.
_PAIRS = {"header": ":", "static": "="}
#: Options that may be repeated.
_REPEATED = ("bind", "reload_dir", "reload_include", "reload_exclude", *_PAIRS)
#: Words for bools, where an option takes words.
_WORDS = {"ws": ("none", "auto"), "lifespan": ("off", "auto"), "proxy_protocol": ("off", "required")}


def _words(name: str, value: Any) -> list[str]:
    """What a command line would say behind an option, once or several times."""
    if isinstance(value, bool) and name in _WORDS:
        return [_WORDS[name][value]]
    if name == "uds_mode" and isinstance(value, int):
        return [f"{value:o}"]
    if name in _PAIRS:
        value = list(value.items()) if isinstance(value, Mapping) else value
        several = [value] if isinstance(value, str) else value
        return [each if isinstance(each, str) else _PAIRS[name].join(map(_word, each)) for each in several]
    if name in _REPEATED and isinstance(value, (list, tuple)):
        return [_word(each) for each in value]
    return [_word(value)]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    if isinstance(value, int):
        # Members of enumerations too.
        return str(int(value))
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _start_anew(app: Any, options: Mapping[str, Any]) -> NoReturn:
    """Replaces this process by a command line: what a program has imported would be old in each process that it forks."""
    if not isinstance(app, str):
        raise ValueError(
            f"reload=True loads the application anew: give it as text, such as 'main:app', and not as {app!r}"
        )
    words = [sys.executable, "-m", "socketify", app]
    for name, value in options.items():
        if value is None:
            continue
        if name in _OBJECTS and not isinstance(value, (str, bool, list, tuple, os.PathLike)):
            raise ValueError(f"{name}={value!r}: with reload=True, expected text as on the command line")
        words += [f"--{name.replace('_', '-')}={word}" for word in _words(name, value)]
    if sys.path[0] and not any(word.startswith("--pythonpath=") for word in words):
        # Where a script lies is on the path of that script alone.
        words.append(f"--pythonpath={sys.path[0]}")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, words)
