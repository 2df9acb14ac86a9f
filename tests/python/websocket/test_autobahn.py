"""The Autobahn test suite, without the sections that take long: ``make autobahn`` runs all of them.

Rows: C-F-01..05, C-C-01..03, I-A-20, I-A-21, I-A-30. It runs where there is a Python 2.7, which the suite needs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2] / "autobahn"
sys.path.insert(0, str(HERE))
import run  # noqa: E402

SECTIONS = ["1", "2", "3", "4", "5", "6", "7", "10"]


def test_every_case_has_an_expected_result() -> None:
    """All 517 cases of version 25.10.1; nothing is let pass as NON-STRICT or UNIMPLEMENTED."""
    expected = run.cases_of([str(section) for section in range(1, 14)])
    assert len(expected) == 517
    assert {case for case, result in expected.items() if result != "OK"} == {"7.1.6", "7.13.1", "7.13.2"}
    assert set(expected.values()) == {"OK", "INFORMATIONAL"}


def test_sections_are_chosen_whole() -> None:
    assert len(run.cases_of(["10"])) == 1
    assert list(run.cases_of(["1.1.1", "7.13"])) == ["1.1.1", "7.13.1", "7.13.2"]
    assert not any(case.startswith("1.") for case in run.cases_of(["10", "12", "13"]))
    with pytest.raises(run.Trouble):
        run.cases_of(["14"])


def test_what_is_not_as_expected_is_reported(tmp_path: Path) -> None:
    found = {
        case: {"behavior": behavior, "behaviorClose": close, "reportfile": "x.json"}
        for case, behavior, close in [
            ("fine", "OK", "OK"),
            ("told", "INFORMATIONAL", "INFORMATIONAL"),
            ("lax", "NON-STRICT", "OK"),
            ("without", "UNIMPLEMENTED", "OK"),
            ("broken", "FAILED", "OK"),
            ("unclean", "OK", "UNCLEAN"),
            ("stranger", "OK", "OK"),
        ]
    }
    expected = dict.fromkeys(["fine", "lax", "without", "broken", "unclean", "absent"], "OK")
    wrong = run.compare(expected | {"told": "INFORMATIONAL"}, found, tmp_path)
    assert [line.split(":")[0] for line in wrong] == [
        "stranger",
        "lax",
        "without",
        "broken",
        "unclean",
        "absent",
    ]


@pytest.mark.parametrize("server", ["server.py", "asgi_server.py"])
@pytest.mark.timeout(900)
@pytest.mark.slow
def test_the_suite(server: str) -> None:
    """Every case of these sections ends as expected, to the letter; also with an ASGI application (S-WS-30)."""
    if run.python27() is None:
        pytest.skip(
            "no Python 2.7, which the Autobahn test suite needs: set PYTHON27, or run pyenv install 2.7.18"
        )
    try:
        run.install()
    except run.Trouble as trouble:
        if "pip" not in str(trouble):
            raise
        pytest.skip(f"the Autobahn test suite could not be installed: {trouble}")
    wrong = run.examine(
        f"pytest-{server}", [sys.executable, str(HERE / server), run.SHARED], SECTIONS, timeout=600
    )
    assert not wrong, "\n".join(wrong)
