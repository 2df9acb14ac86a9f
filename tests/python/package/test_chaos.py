"""`make chaos` finds its faults: it reports each fault that is injected into its server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "chaos" / "run.py"

#: A fault, and its expected report: one of several if it depends on the first client that meets it.
FAULTS: dict[str, str | tuple[str, ...]] = {
    # As HTTP/1.1 has it, or HTTP/2: who meets it first depends on the machine.
    "wrong-id": ("got:      X-Id: of-another", "'x-id': 'of-another'"),
    "wrong-byte": ("expected: b'", " bytes to stream "),
    "lost-answer": "nothing for 4.0 s",
    "second-answer": "204",
    "leaked-connection": "descriptors {",
    "leaked-memory": "MiB more than",
    "leaked-response": "objects: ",
    "word-on-stderr": "got:      Exception ignored in a test",
    "failed-start": "got:      'no port' and ",
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
        "--calm",
        "4",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.slow
def test_a_fault_of_the_server_is_found(fault: str) -> None:
    """It prints the seed, the expected and the received bytes, and the status is 1."""
    # Where nothing is to hang, a busy machine is not to be taken for a server that does.
    done = chaos("--mutation", fault, "--hang", "4" if fault == "lost-answer" else "30")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "of seed 0: " in done.stderr
    assert "again: make chaos SEED=0" in done.stderr
    # A conversation can be repeated by its name. A failure of the whole round has none.
    where = re.search(r"^FAILED in (.+) of seed 0: ", done.stderr, re.MULTILINE)
    assert where is not None, done.stderr
    named = f"ARGS='--only {where[1]}'" in done.stderr
    assert named == bool(re.fullmatch(r"\w+-\d+/\d+", where[1])), done.stderr
    assert named == ("--only" in done.stderr), done.stderr
    words = FAULTS[fault]
    assert any(word in done.stderr for word in ([words] if isinstance(words, str) else words)), done.stderr


def servers(seed: int) -> list[int]:
    """Processes of servers under test that were started with a seed."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                command = (each / "cmdline").read_bytes()
            except OSError:
                continue
            if b"chaos/server.py" in command and b'"seed": %d,' % seed in command:
                found.append(int(each.name))
    return found


def test_a_server_that_does_not_start_is_ended() -> None:
    """It prints something else than its port, and would go on to serve."""
    seed = 1_000_000 + os.getpid()
    done = chaos("--mutation", "failed-start", "--seed", str(seed))
    assert (done.returncode, servers(seed)) == (1, [])
    assert f"FAILED in the round of seed {seed}" in done.stderr
    assert "Traceback" not in done.stderr
