"""That `make chaos` finds what it looks for: each fault that is put into its server on purpose is told of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "chaos" / "run.py"

#: A fault, and what has to be said of it.
FAULTS = {
    "wrong-id": "got:      X-Id: of-another",
    "wrong-byte": "expected: b'",
    "lost-answer": "nothing for 4.0 s",
    "second-answer": "204",
    "leaked-connection": "descriptors {",
    "leaked-memory": "MiB more than",
    "leaked-response": "objects: ",
    "word-on-stderr": "got:      Exception ignored in a test",
    "failed-exit": "expected: exit status 0 after SIGTERM",
    "close-twice": "expected once, after open",
    "lost-close": "open: ",
    "lost-message": " of thread",
    "swapped-messages": " to ",
}


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A short run, with limits that suit it."""
    command = [
        sys.executable,
        str(RUN),
        "--seconds",
        "3",
        "--seed",
        "0",
        "--hang",
        "4",
        "--calm",
        "4",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_a_fault_of_the_server_is_found(fault: str) -> None:
    """The seed, what was expected and what came are printed, and the status is 1."""
    done = chaos("--mutation", fault)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "of seed 0: " in done.stderr
    assert "again: make chaos SEED=0" in done.stderr
    assert FAULTS[fault] in done.stderr, done.stderr
