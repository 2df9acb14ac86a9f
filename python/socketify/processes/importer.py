"""``module:attribute``: what a command line names, loaded and told apart. Each error says what to do about it."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from ..app import App
from ..fronts import Front
from ..handlers import is_async

__all__ = ["NATIVE", "LoadError", "Mismatch", "application", "load", "report", "required_parameters"]

#: The interface of ``def run(app)`` and of an :class:`App`.
NATIVE = "socketify"

#: Names that are tried where only a module is named.
_USUAL = ("app", "application")
#: Other names of interfaces; ``asginl`` is ASGI without lifespan.
_SAME = {"asgi3": "asgi", "asginl": "asgi"}
#: Files whose frames stand before those of user code.
_CALLERS = (__file__, os.path.join(os.path.dirname(__file__), "worker.py"), importlib.__file__)
_FORMS = (
    "expected an application of ASGI or WSGI, def run(app), an App, or a factory without parameters that returns one "
    "of them"
)


class LoadError(Exception):
    """What a command line names cannot be loaded, or is nothing that can be served.

    Args:
        message: What is wrong, and what to do.
        report: The traceback of user code that failed, if that is why.
    """

    def __init__(self, message: str, report: str = "") -> None:
        super().__init__(message)
        self.report = report


class Mismatch(LoadError):
    """The command line asks for another interface than the application has."""


def load(spec: str) -> Any:
    """Imports what ``spec`` names. The current directory is searched first, as ``python -m`` does.

    Args:
        spec: ``MODULE:ATTRIBUTE``, either with dots if need be. Case matters (F-L-01). The module may be the path of a file,
            ``dir/file.py``, and without an attribute ``app`` and ``application`` are tried (S-CLI-01).

    Returns:
        The object.

    Raises:
        LoadError: It is not of that form, there is no such module or attribute, or the module fails.
    """
    module_name, colon, path = spec.partition(":")
    if path.endswith(")") and "(" in path:
        name = path.partition("(")[0]
        raise LoadError(
            f"{spec!r} is a call: name the factory and say so, as in {module_name}:{name} --factory"
        )
    if not module_name or (colon and not path) or ":" in path:
        module = module_name or "main"
        raise LoadError(f"{spec!r} names no application: expected MODULE:ATTRIBUTE, as in {module}:app")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    if module_name.endswith(".py") or os.sep in module_name:
        module_name = _module_of_file(module_name)
    found: Any = _import(module_name)
    walked = module_name
    if not path:
        return _usual(found, module_name)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise LoadError(_no_attribute(spec, walked, found, name)) from None
        walked += f".{name}"
    return found


def _module_of_file(path: str) -> str:
    """The module of a file, whose directory is searched first from now on; that of its outermost package, if it is in one.

    Raises:
        LoadError: There is no such file.
    """
    file = os.path.abspath(path)
    if not file.endswith(".py"):
        file = os.path.join(file, "__init__.py") if os.path.isdir(file) else f"{file}.py"
    if not os.path.isfile(file):
        raise LoadError(f"Cannot load {path}: there is no file {file}")
    directory, name = os.path.split(file)
    parts = [] if name == "__init__.py" else [name.removesuffix(".py")]
    while os.path.isfile(os.path.join(directory, "__init__.py")):
        directory, name = os.path.split(directory)
        parts.insert(0, name)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return ".".join(parts)


def _usual(module: Any, name: str) -> Any:
    for attribute in _USUAL:
        if hasattr(module, attribute):
            return getattr(module, attribute)
    hint = f", as in {name}:run" if hasattr(module, "run") else ""
    raise LoadError(
        f"Cannot load {name}: it has no attribute {' or '.join(_USUAL)}: name the application as MODULE:ATTRIBUTE{hint}"
    )


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # One that the module itself imports is a failure inside it.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(_no_module(name, error.name)) from None
        raise LoadError(f"Cannot load module {name}", report(error)) from error
    except Exception as error:
        raise LoadError(f"Cannot load module {name}", report(error)) from error


def report(error: BaseException) -> str:
    """The traceback of an error, without the frames that called user code."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename not in _CALLERS and not code.co_filename.startswith("<frozen"):
            break
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _close(word: str, words: list[str]) -> str:
    """``; did you mean ...?``, or nothing. A name that differs in its case only is as close as can be."""
    same = [other for other in words if other.lower() == word.lower()]
    matches = same or difflib.get_close_matches(word, words, 3)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""


def _no_module(name: str, missing: str) -> str:
    parent, _, last = name.rpartition(".")
    if parent in sys.modules and not hasattr(sys.modules[parent], "__path__"):
        return f"Cannot load module {name}: {parent} is a module, and no package"
    directory = os.path.join(os.getcwd(), *parent.split(".")) if parent else os.getcwd()
    try:
        entries = sorted(os.listdir(directory))
    except OSError:
        entries = []
    here = [entry.removesuffix(".py") for entry in entries if entry.endswith(".py")]
    here += [entry for entry in entries if os.path.isfile(os.path.join(directory, entry, "__init__.py"))]
    hint = _close(last, here)
    return f"Cannot load module {name}: there is no {missing} in {os.getcwd()} or on sys.path{hint}"


def _no_attribute(spec: str, walked: str, holder: Any, name: str) -> str:
    names = [other for other in dir(holder) if not other.startswith("_")]
    hint = _close(name, names)
    if not hint and (own := [other for other in names if isinstance(getattr(holder, other, None), App)]):
        hint = f"; it has {' and '.join(own)}"
    return f"Cannot load {spec}: {walked} has no attribute {name}{hint}"


def required_parameters(target: Callable[..., Any]) -> int | None:
    """How many positional arguments a call needs; None where the signature does not tell, as with ``*args`` alone.

    Raises:
        LoadError: There is no signature, or it needs arguments by keyword.
    """
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    count = 0
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            if not count:
                return None
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            if parameter.kind is parameter.KEYWORD_ONLY:
                raise LoadError(
                    f"{_name(target)} needs the keyword argument {parameter.name!r}: {_FORMS}, "
                    "or bind it with functools.partial"
                )
            count += 1
    return count


def _name(target: Any) -> str:
    name = getattr(target, "__qualname__", None)
    return f"{name}()" if name and inspect.isroutine(target) else repr(target)


def application(target: Any, interface: str = "auto", *, factory: bool = False) -> tuple[str, Any]:
    """Tells what ``target`` is, and calls it if it is a factory (F-L-02, F-L-04, S-CLI-03).

    Args:
        target: What :func:`load` found.
        interface: What it has to be: ``auto`` for whatever it is, else an interface.
        factory: Whether it has to be a factory.

    Returns:
        The interface, one of ``socketify``, ``asgi``, ``wsgi``, ``rsgi`` and ``ssgi``; and the application: an :class:`App`,
        a server such as :class:`ASGI`, or a callable.

    Raises:
        Mismatch: It is of another interface than asked for.
        LoadError: It is none that can be served.
    """
    if factory and not _is_factory(target):
        raise LoadError(f"--factory: {_name(target)} is no function that can be called without arguments")
    if _is_factory(target):
        maker, target = target, _make(target)
        if _is_factory(target):
            raise LoadError(f"the factory {_name(maker)} returned another factory, {_name(target)}: {_FORMS}")
        if not (isinstance(target, (App, Front)) or callable(target)):
            raise LoadError(f"the factory {_name(maker)} returned {target!r}: {_FORMS}")
    asked = _SAME.get(interface, interface)
    kind = _interface(target, asked)
    if asked not in ("auto", kind):
        raise Mismatch(
            f"{_name(target)} is an application of the interface {kind}, and not of {interface}: "
            "leave --interface out, or name another application"
        )
    if kind == NATIVE and is_async(target):
        raise LoadError(
            f"{_name(target)} is async, and routes are registered before the event loop runs: "
            "make it def, and put what has to be awaited into an async function under @app.on_start"
        )
    return kind, target


def _is_factory(target: Any) -> bool:
    return (
        not isinstance(target, (App, Front))
        and callable(target)
        and _marked(target) is None
        and required_parameters(target) == 0
    )


def _make(factory: Callable[[], Any]) -> Any:
    if is_async(factory):
        raise LoadError(f"the factory {_name(factory)} is async: make it def")
    try:
        return factory()
    except Exception as error:
        raise LoadError(f"the factory {_name(factory)} failed", report(error)) from error


def _marked(target: Any) -> str | None:
    """The interface that an object says it has, whatever it is called with."""
    if hasattr(target, "__rsgi__"):
        return "rsgi"
    return "ssgi" if hasattr(target, "get_supported") else None


def _interface(target: Any, asked: str) -> str:
    if isinstance(target, App):
        return NATIVE
    if isinstance(target, Front):
        return target.interface
    marked = _marked(target)
    if marked is not None and asked in ("auto", marked):
        return marked
    if not callable(target):
        raise LoadError(f"{target!r} is no application: {_FORMS}")
    count = required_parameters(target)
    if count is None:
        if asked != "auto":
            return asked
        raise LoadError(
            f"{_name(target)} takes any arguments, so its kind is unknown: use functools.wraps in its wrapper, "
            "or set --interface asgi, wsgi or socketify"
        )
    if inspect.isclass(target) and count == 1 and "__call__" in vars(target):
        raise LoadError(
            f"{target!r} looks like an application of ASGI 2, which is not supported: wrap it in "
            "asgiref.compatibility.guarantee_single_callable"
        )
    if count == 3:
        return "asgi"
    if count == 2:
        return "rsgi" if is_async(target) or asked == "rsgi" else "wsgi"
    if count == 1:
        return NATIVE
    raise LoadError(f"{_name(target)} needs {count} arguments: {_FORMS}")
