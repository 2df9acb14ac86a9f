"""The functions of the package that the core calls: they are bound when the package is imported, and are all there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import socketify
from socketify import door
from socketify._core import bind_door

HERE = Path(socketify.__file__).parent


def test_all_is_there() -> None:
    """What is imported late as well."""
    bind_door(door, late=True)


@pytest.mark.parametrize("name", door.__all__)
def test_what_is_missing_is_named(name: str) -> None:
    """The door has nothing that the core does not ask for."""
    less = ModuleType("less")
    vars(less).update({other: getattr(door, other) for other in door.__all__ if other != name})
    with pytest.raises(ImportError, match=f"the core needs what the package has not.*{name}"):
        bind_door(less)


@pytest.mark.parametrize(
    ("module", "name"), [("error_log", "log_event"), ("forks", "leave"), ("options", "SendStatus")]
)
def test_a_function_that_was_renamed_fails_the_import(tmp_path: Path, module: str, name: str) -> None:
    copy = shutil.copytree(HERE, tmp_path / "socketify", ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / f"{module}.py"
    source.write_text(source.read_text().replace(name, f"renamed_{name}"))
    done = subprocess.run(
        [sys.executable, "-c", "import socketify"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert name in done.stderr


def test_a_module_that_has_lost_a_function() -> None:
    """It is named when the module is needed for the first time."""
    less = ModuleType("less")
    vars(less).update({name: getattr(door, name) for name in door.__all__})
    less.cookies = lambda: ModuleType("cookies")  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="format_cookie"):
        bind_door(less, late=True)
