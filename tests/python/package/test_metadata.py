"""The metadata of the package agrees with the tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def versions(text: str) -> list[str]:
    return re.findall(r"\b3\.[0-9]+\b", text)


def test_each_version_of_python_that_is_promised_is_one_that_has_to_pass() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    promised = re.findall(r"Python :: (3\.[0-9]+)", project)
    [required] = re.findall(
        r"^ +python: (\[.*\])$", (ROOT / ".github/workflows/ci.yml").read_text(), re.MULTILINE
    )
    assert versions(required) == promised
    [oldest] = re.findall(r'^requires-python = ">=(.*)"$', project, re.MULTILINE)
    assert promised[0] == oldest
