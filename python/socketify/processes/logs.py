"""Logging of the command line: levels of our own loggers, and a configuration that a file or a program gives."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["LogError", "configure"]

#: Levels of other servers that logging does not have.
_LEVELS = {"trace": "DEBUG"}
#: Above all levels.
_SILENT = logging.CRITICAL + 1


class LogError(Exception):
    """The configuration cannot be used; the message says why."""


def configure(level: str | None, config: object, *, silent: bool = False) -> None:
    """Sets up logging, before the application is imported. What the application sets up then goes before it.

    No handler is added: where the application adds none either, messages go to standard error by way of
    :data:`logging.lastResort`. So each is printed once (S-CLI-16).

    Args:
        level: The lowest level that the loggers of the server let through; None for that of the configuration, or else info.
        config: Path of a file, or a dict as :func:`logging.config.dictConfig` takes it; None for none.
        silent: Whether nothing is logged at all.

    Raises:
        LogError: The configuration cannot be read, or is wrong.
    """
    if config is not None:
        _apply(config)
    ours = logging.getLogger("socketify")
    if level is None and (config is None or ours.level == logging.NOTSET):
        level = "info"
    if level is not None:
        ours.setLevel(_LEVELS.get(level, level.upper()))
        if logging.lastResort is not None:
            logging.lastResort.setLevel(min(ours.level, logging.WARNING))
    if silent:
        for name in ("socketify", "socketify.access"):
            logging.getLogger(name).setLevel(_SILENT)


def _apply(config: object) -> None:
    try:
        if isinstance(config, Mapping):
            logging.config.dictConfig({"disable_existing_loggers": False, **config})
            return
        path = str(config)
        if not Path(path).is_file():
            raise LogError(f"there is no file {path!r}")
        suffix = Path(path).suffix.lower()
        if suffix in (".json", ".yaml", ".yml", ".toml"):
            logging.config.dictConfig({"disable_existing_loggers": False, **_read(path, suffix)})
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except LogError:
        raise
    except Exception as error:
        raise LogError(f"{config if not isinstance(config, Mapping) else 'the dict'}: {error}") from error


def _read(path: str, suffix: str) -> Mapping[str, Any]:
    text = Path(path).read_text()
    found: Any
    if suffix == ".json":
        found = json.loads(text)
    elif suffix == ".toml":
        if sys.version_info < (3, 11):
            raise LogError(f"{path}: reading .toml needs Python 3.11; .json is read by all")
        import tomllib

        found = tomllib.loads(text)
    else:
        try:
            import yaml  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            raise LogError(
                f"{path}: reading .yaml needs PyYAML, which is not installed: pip install pyyaml"
            ) from None
        found = yaml.safe_load(text)
    if not isinstance(found, Mapping):
        raise LogError(f"{path}: expected a table of keys, not {found!r}")
    return found
