"""The program that type checkers are shown (``make lint``) also works."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import socketify
from socketify import App, handlers

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(90)
def test_the_program_runs() -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests/python/support/run_program.py"),
            str(ROOT / "tests/typing/program.py"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Uncaught Exception" not in done.stderr, done.stderr
    words = done.stdout.splitlines()
    assert "status 200" in words
    assert "socket /echo 101" in words
    # Without a user, the router's middleware refuses the socket.
    assert "socket /api/echo 403" in words
    assert "stopped 0 False" in words


def test_the_package_says_that_it_is_typed() -> None:
    """PEP 561."""
    assert (Path(socketify.__file__).parent / "py.typed").is_file()


def surface() -> dict[str, set[str]]:
    """The names that programs may import, by module."""
    source = ast.parse((ROOT / "tests/typing/surface.py").read_text())
    imports = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
    return {
        node.module: {name.name for name in node.names}
        for node in imports
        if node.module is not None and node.module != "__future__"
    }


def test_every_public_name_can_be_imported() -> None:
    listed = surface()
    assert len(listed) == 25
    for module, names in listed.items():
        found = importlib.import_module(module)
        assert [name for name in sorted(names) if not hasattr(found, name)] == [], module
    assert listed["socketify"] == set(socketify.__all__)


@pytest.mark.parametrize("module", ["asgi", "socketify", "ssgi", "wsgi"])
def test_modules_of_the_original_are_there_without_an_import_of_their_own(module: str) -> None:
    """A-EXP-22, A-EXP-23: programs say ``socketify.socketify.App`` after ``import socketify``."""
    program = f"import socketify, sys; print(socketify.{module} is sys.modules['socketify.{module}'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_types_for_handlers_of_ones_own() -> None:
    """The vocabulary that the documentation names is there at run time too."""
    for name in ("Handler", "Middleware", "ErrorHandler", "Hook", "RouteHandler", "Step", "Chain"):
        assert name in handlers.__all__
        assert hasattr(handlers, name)


def test_subclasses_for_type_checkers_are_never_needed_at_run_time() -> None:
    """A handler that names one in its annotations is a handler like any other."""
    app = App()

    def handler(res: Shop, req: object) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert app.get("/", handler) is app
    app.dispose()
