"""The ids of behaviours: each that is used is defined in docs/behaviour.md, and each defined there is used."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "behaviour.md"
ID = re.compile(r"\b(?:[A-IS]-(?:[A-Z]{1,4}-)?[0-9]{2}|DEC-[0-9]{1,2})\b")
DEFINITION = re.compile(rf"^\| ({ID.pattern}) \| (.+) \|$", re.MULTILINE)
FOLDERS = ["benches", "examples", "fuzz/fuzz_targets", "fuzz/python", "fuzz/src", "python", "src", "tests"]


def defined() -> list[tuple[str, str]]:
    """Ids and their sentences."""
    return DEFINITION.findall(PAGE.read_text())


def used() -> dict[str, str]:
    """Ids and a file that each stands in."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            hidden = any(
                part.startswith((".", "target", "__pycache__")) for part in path.relative_to(ROOT).parts
            )
            if path.suffix in (".py", ".pyi", ".rs") and not hidden:
                for name in ID.findall(path.read_text(errors="replace")):
                    found.setdefault(name, str(path.relative_to(ROOT)))
    for path in ROOT.glob("*.md"):
        for name in ID.findall(path.read_text()):
            found.setdefault(name, path.name)
    return found


def test_each_id_that_is_used_is_defined() -> None:
    names = {name for name, _ in defined()}
    missing = {name: where for name, where in used().items() if name not in names}
    assert not missing, f"docs/behaviour.md does not say what these mean: {missing}"


def test_each_id_that_is_defined_is_used() -> None:
    assert not {name for name, _ in defined()} - used().keys()


def test_each_id_is_defined_once_in_one_sentence() -> None:
    counts = Counter(name for name, _ in defined())
    assert [name for name, count in counts.items() if count > 1] == []
    assert set(ID.findall(PAGE.read_text())) == counts.keys(), "a row of the table is malformed"
    assert [name for name, sentence in defined() if not re.fullmatch(r"[^.].*\.", sentence)] == []
