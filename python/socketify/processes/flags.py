"""The flags of the command line, and the environment variables that stand for them."""

from __future__ import annotations

import argparse
import difflib
import os
import platform
from collections.abc import Mapping, Sequence
from typing import NoReturn

from .. import __version__
from . import peers
from .console import USAGE, complain
from .definitions import add_options

__all__ = ["Given", "Parser", "parse", "parse_words", "parser", "said"]


#: What separates repeated values in an environment variable, where they may have colons themselves.
_SEPARATORS = {"bind": ",", "header": "\n", "static": ","}
#: Flags that switch off what is no flag itself.
_NEGATIVE = {"--no-ws": "--ws=none", "--no-server-header": "--server-header="}


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, and where there is more to read."""

    def error(self, message: str) -> NoReturn:
        complain(f"{message} (see {self.prog} --help)")
        raise SystemExit(USAGE)


def parser(program: str, kind: type[Parser] = Parser) -> Parser:
    """Gives the parser of the command line.

    Args:
        program: How the program calls itself.
        kind: Its class, which says what is wrong.
    """
    made = kind(
        prog=program,
        usage="%(prog)s MODULE:ATTRIBUTE [OPTIONS]",
        description="Serves an application: of ASGI or WSGI, a function def run(app) that registers routes, an App, or a "
        "factory, a function without parameters that returns one of them.",
        epilog="BOOL is true, 1, yes or on; false, 0, no or off; a flag without a value is true, and --no-... is false. "
        "Seconds may have a unit: 30s, 5m, 2h, 1d. Options of uvicorn, gunicorn, granian and hypercorn that mean the same "
        "are accepted.",
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=36, width=110),
    )
    add_options(made, _version())
    return made


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
            alone = following.startswith("-") or _is_target(following)
            word = f"{word}={'true' if alone else given.pop(0)}"
        elif word in _NEGATIVE:
            word = _NEGATIVE[word]
        elif word.startswith("--no-") and f"--{word[5:]}" in flags:
            word = f"--{word[5:]}=false"
        result.append(word)
    return result


def _is_target(word: str) -> bool:
    """Whether a word behind a flag is the application rather than the flag's value."""
    return any(each in word for each in ":./") or os.path.isfile(f"{word}.py") or os.path.isdir(word)


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
    given = Given(parse_words(parser, words))
    _prepare_environment(parser, given)
    _take_environment(parser, given)
    for note in peers.foreign_variables(lambda option: _variable(parser, option)):
        complain(note)
    return given


def _variable(parser: Parser, option: str) -> str | None:
    """Our environment variable for one of our options; None where there is no such option."""
    action = parser._option_string_actions.get(option)
    return None if action is None else f"SOCKETIFY_{action.dest.upper()}"


def _prepare_environment(parser: Parser, given: Given) -> None:
    """Adds to the environment what the command line says of it. What is there goes before a file."""
    files = given.get("env_file") or os.environ.get("SOCKETIFY_ENV_FILE", "").split(os.pathsep)
    for path in filter(None, files if isinstance(files, list) else []):
        try:
            from dotenv import dotenv_values  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            parser.error("--env-file needs python-dotenv, which is not installed: pip install python-dotenv")
        if not os.path.isfile(path):
            parser.error(f"argument --env-file: there is no file {path!r}")
        for name, value in dotenv_values(path).items():
            if value is not None:
                os.environ.setdefault(name, value)
    pairs = given.get("env")
    for name, value in pairs if isinstance(pairs, list) else []:
        os.environ[name] = value


def parse_words(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Reads a command line alone.

    Raises:
        SystemExit: Something is wrong, which the parser has said.
    """
    options = [option for action in parser._actions for option in action.option_strings]
    flags = {o for action in parser._actions if action.metavar == "BOOL" for o in action.option_strings}
    try:
        words, notes = peers.translate(arguments)
    except peers.Refused as error:
        parser.error(str(error))
    parsed, unknown = parser.parse_known_args(_spell_out(words, flags))
    for note in notes:
        complain(note)
    if unknown:
        # What follows an unknown option may be its value.
        first = next((word for word in unknown if word.startswith("-")), unknown[0])
        name = first.partition("=")[0]
        if not name.startswith("-"):
            parser.error(
                f"unexpected argument {name!r}: there is one MODULE:ATTRIBUTE, and options begin with --"
            )
        close = difflib.get_close_matches(name, [*options, *peers.ALIASES], 1)
        parser.error(f"unknown option {name}" + (f"; did you mean {close[0]}?" if close else ""))
    return parsed


def _take_environment(parser: Parser, given: Given) -> None:
    """Adds what the environment says of options that the command line does not: ``SOCKETIFY_`` and the option's name."""
    # Where to listen is said once: the command line replaces everything that the environment says of it.
    places = {"host", "port", "uds", "uds_mode", "fd", "bind", "backlog"}
    said = {"fd", "uds", "bind"} & given.keys() or {"host", "port"} & given.keys()
    for action in parser._actions:
        if said and action.dest in places:
            continue
        variable = f"SOCKETIFY_{'APP' if action.dest == 'target' else action.dest.upper()}"
        text = os.environ.get(variable, "")
        if text.startswith("tcp://"):
            # Kubernetes gives every pod such a SOCKETIFY_PORT where a service is called socketify.
            continue
        if action.dest == "trusted_proxies" and not text:
            variable, text = "FORWARDED_ALLOW_IPS", os.environ.get("FORWARDED_ALLOW_IPS", "")
        # Empty says nothing, as for other programs. What prints and exits is no setting, and some have had their turn.
        if not text or action.dest in given or action.dest in ("help", "version", "env", "env_file"):
            continue
        repeated = isinstance(action, argparse._AppendAction)
        words = text.split(_SEPARATORS.get(action.dest, os.pathsep)) if repeated else [text]
        try:
            values = [parser._get_value(action, word) for word in words]
            for value in values:
                parser._check_value(action, value)
        except argparse.ArgumentError as error:
            parser.error(f"environment variable {variable}: {error.message}")
        given[action.dest] = values if isinstance(action, argparse._AppendAction) else values[0]
        given.variables[action.dest] = variable
