"""``module:attribute``: its forms, its detection, and the messages for anything else (api.md F-L)."""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from socketify import App
from socketify.processes.importer import LoadError, Mismatch, application, load, required_parameters


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory; its imports are undone with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def app() -> Iterator[App]:
    made = App()
    yield made
    made.dispose()


@pytest.mark.parametrize("spec", ["Main:Run", "pkg.sub.Mod:Holder.inner.Run"])
def test_case_and_dots_are_kept(directory: Path, spec: str) -> None:
    """F-L-01, I-D-01."""
    (directory / "Main.py").write_text("Run = 'found'")
    (directory / "pkg" / "sub").mkdir(parents=True)
    (directory / "pkg" / "sub" / "Mod.py").write_text("class Holder:\n class inner:\n  Run = 'found'\n")
    assert load(spec) == "found"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("main:", "'main:' names no application: expected MODULE:ATTRIBUTE, as in main:app"),
        (":run", "expected MODULE:ATTRIBUTE, as in main:app"),
        ("main:a:b", "expected MODULE:ATTRIBUTE, as in main:app"),
        ("main.py", "Cannot load main.py: there is no file "),
        ("src/app.py:start", "there is no file "),
        ("main:make()", "'main:make()' is a call: name the factory and say so, as in main:make --factory"),
        ("main:make(debug=True)", "as in main:make --factory"),
    ],
)
def test_a_malformed_name(spec: str, message: str) -> None:
    """F-L-01: and the expected form."""
    with pytest.raises(LoadError) as caught:
        load(spec)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["app", "application"])
def test_a_module_alone(directory: Path, name: str) -> None:
    """S-CLI-01: the two names that frameworks use are tried."""
    (directory / "site_of_mine.py").write_text(f"{name} = 'found'\nother = 1")
    assert load("site_of_mine") == "found"


def test_a_module_alone_without_the_usual_names(directory: Path) -> None:
    """S-CLI-01."""
    (directory / "native.py").write_text("def run(app): ...")
    with pytest.raises(LoadError, match=r"it has no attribute app or application: .* as in native:run"):
        load("native")


@pytest.mark.parametrize(
    "spec", ["src/first.py:found", "src/first:found", "./src/first.py:found", "src/first.py"]
)
def test_the_path_of_a_file(directory: Path, spec: str) -> None:
    """S-CLI-01: its directory is searched, so that it imports what lies beside it."""
    (directory / "src").mkdir()
    (directory / "src" / "beside.py").write_text("value = 'found'")
    (directory / "src" / "first.py").write_text("from beside import value\nfound = app = value")
    assert load(spec) == "found"


@pytest.mark.parametrize("spec", ["top/shop/web.py:app", "top/shop/web.py", "top/shop"])
def test_the_path_of_a_file_in_a_package(directory: Path, spec: str) -> None:
    """S-CLI-01: the module is that of the package, so relative imports work."""
    (directory / "top" / "shop").mkdir(parents=True)
    (directory / "top" / "shop" / "__init__.py").write_text("app = 'shop.web'")
    (directory / "top" / "shop" / "web.py").write_text("from . import app as other\napp = __name__")
    assert load(spec) == "shop.web"


def test_no_such_module(directory: Path) -> None:
    """F-L-03: a similar name is suggested, and there is no traceback: no user code has run."""
    (directory / "application.py").write_text("")
    with pytest.raises(
        LoadError, match=r"Cannot load module aplication: .* did you mean application\?"
    ) as caught:
        load("aplication:run")
    assert str(directory) in str(caught.value)
    assert caught.value.report == ""


def test_no_such_submodule(directory: Path) -> None:
    """F-L-03."""
    (directory / "pkg").mkdir()
    (directory / "pkg" / "__init__.py").write_text("")
    (directory / "pkg" / "views.py").write_text("")
    with pytest.raises(LoadError, match=r"there is no pkg.vews in .* did you mean views\?"):
        load("pkg.vews:run")
    with pytest.raises(LoadError, match=r"there is no nothing in"):
        load("nothing.views:run")
    (directory / "plain.py").write_text("")
    with pytest.raises(
        LoadError, match=r"Cannot load module plain\.views: plain is a module, and no package"
    ):
        load("plain.views:run")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("from os import no_such_name", "ImportError: cannot import name 'no_such_name'"),
        ("def run(app:", "SyntaxError"),
        ("def inner():\n    1 / 0\ninner()", "ZeroDivisionError"),
    ],
)
def test_a_module_that_fails(directory: Path, source: str, error: str) -> None:
    """F-L-03, S-CLI-02: the traceback is the module's own, without ours before it."""
    (directory / "broken.py").write_text(source)
    with pytest.raises(LoadError, match=r"^Cannot load module broken$") as caught:
        load("broken:run")
    assert error in caught.value.report
    assert "broken.py" in caught.value.report
    assert "importer.py" not in caught.value.report
    assert "importlib" not in caught.value.report


def test_a_module_that_exits_exits(directory: Path) -> None:
    (directory / "leaving.py").write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit) as caught:
        load("leaving:run")
    assert caught.value.code == 3


@pytest.mark.parametrize(
    ("source", "spec", "message"),
    [
        ("def run(app): ...", "main:Run", "main has no attribute Run; did you mean run?"),
        ("def start(app): ...", "main:strat", "main has no attribute strat; did you mean start?"),
        ("class A: b = 1", "main:A.c.d", "main.A has no attribute c"),
        (
            "from socketify import App\nserver = App()",
            "main:run",
            "main has no attribute run; it has server",
        ),
    ],
)
def test_no_such_attribute(directory: Path, source: str, spec: str, message: str) -> None:
    (directory / "main.py").write_text(source)
    with pytest.raises(LoadError) as caught:
        load(spec)
    assert str(caught.value) == f"Cannot load {spec}: {message}"


# ---- kinds of applications ------------------------------------------------------------------------------------------


def run(app: Any) -> None: ...


def run_with_an_option(app: Any, debug: bool = False) -> None: ...


def wsgi(environ: Any, start_response: Any) -> None: ...


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


class Framework:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Registrar:
    def __call__(self, app: Any) -> None: ...

    def method(self, app: Any) -> None: ...


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (run, "socketify"),
        (run_with_an_option, "socketify"),
        (lambda app: None, "socketify"),
        (decorated(run), "socketify"),
        (functools.partial(wsgi, {}), "socketify"),
        (functools.partial(run_with_an_option, debug=True), "socketify"),
        (Registrar(), "socketify"),
        (Registrar().method, "socketify"),
        (wsgi, "wsgi"),
        (asgi, "asgi"),
        (Framework(), "asgi"),
        (functools.partial(asgi), "asgi"),
    ],
)
def test_detection(target: Any, kind: str) -> None:
    """F-L-04: by how many arguments a call needs."""
    assert application(target) == (kind, target)
    assert application(target, kind) == (kind, target)


@pytest.mark.parametrize(
    "make", [lambda: run, functools.partial(lambda what: what, run), decorated(lambda: run)]
)
def test_a_factory(make: Any) -> None:
    """F-L-02, I-D-02: a callable without parameters is called for the application."""
    assert application(make) == ("socketify", run)


def test_a_class_without_parameters_is_a_factory() -> None:
    """F-L-02: of its instances."""
    kind, made = application(Framework)
    assert kind == "asgi"
    assert isinstance(made, Framework)


class Rsgi:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def __rsgi__(self, scope: Any, protocol: Any) -> None: ...


class Ssgi:
    def get_supported(self, offered: Any) -> Any: ...


async def rsgi(scope: Any, protocol: Any) -> None: ...


@pytest.mark.parametrize(("target", "kind"), [(Rsgi(), "rsgi"), (rsgi, "rsgi"), (Ssgi(), "ssgi")])
def test_the_order_of_detection(target: Any, kind: str) -> None:
    """S-CLI-03: what an object says of itself goes before its parameters."""
    assert application(target) == (kind, target)


def test_an_object_of_two_interfaces() -> None:
    """S-CLI-03, S-CLI-05: it is served as the one that is asked for."""
    target = Rsgi()
    assert application(target, "asgi") == ("asgi", target)
    assert application(target, "rsgi") == ("rsgi", target)


def test_a_factory_that_has_to_be_one() -> None:
    """S-CLI-04."""
    assert application(lambda: run, factory=True) == ("socketify", run)
    with pytest.raises(LoadError, match=r"--factory: run\(\) is no function that can be called without"):
        application(run, factory=True)


def test_an_app_is_one_already(app: App) -> None:
    assert application(app) == ("socketify", app)
    assert application(lambda: app) == ("socketify", app)


def unwrapped(*args: Any) -> None: ...


def needs_a_keyword(app: Any, *, debug: bool) -> None: ...


async def async_run(app: Any) -> None: ...


async def async_factory() -> None: ...


def failing_factory() -> None:
    raise ValueError("no database")


class Asgi2:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "{} is no application: expected an application of ASGI or WSGI, def run(app), an App"),
        (unwrapped, "unwrapped() takes any arguments, so its kind is unknown"),
        (needs_a_keyword, "needs_a_keyword() needs the keyword argument 'debug'"),
        (
            async_run,
            "async_run() is async, and routes are registered before the event loop runs: make it def",
        ),
        (async_factory, "the factory async_factory() is async"),
        (failing_factory, "the factory failing_factory() failed"),
        (lambda: None, "returned None: expected an application of ASGI or WSGI"),
        (lambda: lambda: run, "returned another factory"),
        (lambda a, b, c, d: None, "needs 4 arguments"),
        (Asgi2, "looks like an application of ASGI 2"),
    ],
)
def test_what_is_no_application(target: Any, message: str) -> None:
    """F-L-04."""
    with pytest.raises(LoadError) as caught:
        application(target)
    assert message in str(caught.value)
    if target is failing_factory:
        assert caught.value.report.endswith("ValueError: no database\n")


@pytest.mark.parametrize(
    ("target", "asked"), [(run, "wsgi"), (wsgi, "socketify"), (asgi, "wsgi"), (run, "asgi3")]
)
def test_another_interface_than_asked_for(target: Any, asked: str) -> None:
    """F-L-05."""
    with pytest.raises(Mismatch, match=f"and not of {asked}: leave --interface out"):
        application(target, asked)


def test_any_arguments_are_what_one_says_they_are() -> None:
    assert application(unwrapped, "socketify") == ("socketify", unwrapped)
    assert application(asgi, "asgi3") == ("asgi", asgi)


def test_required_parameters() -> None:
    assert required_parameters(lambda a, b=1, *c, d=2, **e: None) == 1
    assert required_parameters(lambda *a: None) is None
    assert required_parameters(asyncio.run) == 1
