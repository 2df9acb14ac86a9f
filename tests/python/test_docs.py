"""What the documentation shows works: every whole program in README and docs, and every example, is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNNER = Path(__file__).with_name("run_program.py")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def programs() -> list[tuple[str, str]]:
    """The code blocks that are whole programs, with where they stand."""
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            if re.search(r"^app\.run\(\)", match[1], re.MULTILINE):
                line = text.count("\n", 0, match.start()) + 2
                found.append((f"{page.relative_to(ROOT)}:{line}", match[1]))
    return found


def check(program: Path, directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(program)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Uncaught Exception" not in done.stderr, done.stderr
    assert re.search(r"^status \d+$", done.stdout, re.MULTILINE), done.stdout


def test_the_documentation_has_programs() -> None:
    assert len(programs()) >= 5


@pytest.mark.parametrize(("where", "code"), [pytest.param(*found, id=found[0]) for found in programs()])
def test_program_of_the_documentation(tmp_path: Path, where: str, code: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(code)
    check(program, tmp_path)


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_example(name: str) -> None:
    check(ROOT / "examples" / name, ROOT / "examples")
