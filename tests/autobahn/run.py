"""Runs the Autobahn test suite against the echo server beside this file, and compares every case with expected.json.

``python tests/autobahn/run.py``             all sections with a shared compressor; 12 and 13 with a dedicated one, too; and
                                             those that an interface could change against an ASGI application
``python tests/autobahn/run.py 1 2 7.1``     these sections only
``... --server "python another_server.py"``  any other echo server that prints ``port N``; compression is added to it

The suite needs Python 2.7 ($PYTHON27, python2.7, or one of pyenv's). Its environment is made on first need, in
.venv-autobahn. The reports of the last run stay there too, with every frame of every case: .venv-autobahn/reports.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = HERE.parents[1] / ".venv-autobahn"
SUITE = HOME / "python2.7"
REPORTS = HOME / "reports"

#: Installed in this order: later ones need the earlier ones for their build.
RECIPE = (["setuptools==44.0.0", "incremental==16.10.1"], ["autobahntestsuite==25.10.1"])
#: The last virtualenv that makes environments for Python 2.7 is 20.21.
MAKER = "virtualenv<20.22"

SHARED = "SHARED_COMPRESSOR|SHARED_DECOMPRESSOR"
DEDICATED = "DEDICATED_COMPRESSOR_256KB|DEDICATED_DECOMPRESSOR_32KB"
#: The sections of permessage-deflate; the others offer no compression.
COMPRESSED = ("12", "13")
#: Those that an ASGI application is examined with: what the interface could change.
OF_ASGI = ("1", "2", "3", "4", "5", "6", "7", "10", "12.1", "13.1")


class Trouble(Exception):
    """Why the suite did not run."""


def python27() -> str | None:
    """A Python 2.7 that runs, if there is one."""
    candidates = [os.environ.get("PYTHON27"), "python2.7"]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += sorted(map(str, root.glob("versions/2.7.*/bin/python2.7")), reverse=True)
    for candidate in candidates:
        # pyenv puts a python2.7 on the PATH that only prints where it would be.
        if candidate and (found := shutil.which(candidate)) and runs(found):
            return found
    return None


def runs(python: str) -> bool:
    probe = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    return subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0


def install() -> Path:
    """The suite's command; installs it when it is not there."""
    command = SUITE / "bin" / "wstest"
    stamp = SUITE / ".recipe"
    if stamp.is_file() and stamp.read_text() == repr(RECIPE):
        return command
    python = python27()
    if python is None:
        raise Trouble("the Autobahn test suite needs Python 2.7: set PYTHON27, or run pyenv install 2.7.18")
    print(f"installing the Autobahn test suite for {python}", flush=True)
    shutil.rmtree(HOME, ignore_errors=True)
    quiet = ["--quiet", "--disable-pip-version-check"]
    call(sys.executable, "-m", "venv", str(HOME / "maker"))
    call(str(HOME / "maker/bin/python"), "-m", "pip", "install", *quiet, MAKER)
    call(str(HOME / "maker/bin/virtualenv"), "--quiet", "--python", python, str(SUITE))
    for packages in RECIPE:
        call(str(SUITE / "bin/python"), "-m", "pip", "install", *quiet, *packages)
    stamp.write_text(repr(RECIPE))
    return command


def call(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Trouble(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}")


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[int]:
    """A server of its own process; its port."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            word, _, port = process.stdout.readline().partition(" ")
            if word != "port":
                raise Trouble(f"{shlex.join(command)} did not say on which port it listens")
            yield int(port)
            if process.poll() is not None:
                raise Trouble(f"{shlex.join(command)} ended with {process.returncode} before the suite did")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise Trouble(f"{shlex.join(command)} did not end") from None


def cases_of(sections: list[str]) -> dict[str, str]:
    """The expected results of some sections: ``7`` and ``7.1`` and ``7.1.6`` all name some."""
    expected: dict[str, str] = json.loads((HERE / "expected.json").read_text())
    chosen = {
        case: result
        for case, result in expected.items()
        if any(f"{case}.".startswith(f"{section}.") for section in sections)
    }
    if not chosen:
        raise Trouble(f"no case is in {' '.join(sections)}")
    return chosen


def examine(name: str, server: list[str], sections: list[str], timeout: float = 3600) -> list[str]:
    """Runs some sections against a server; one line for each case that did not end as expected."""
    suite, expected, reports = install(), cases_of(sections), REPORTS / name
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    with serving(server) as port:
        spec = {
            "outdir": str(reports),
            "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"}],
            "cases": list(expected),
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (reports / "spec.json").write_text(json.dumps(spec))
        with (reports / "log.txt").open("w") as log:
            command = [str(suite), "--mode", "fuzzingclient", "--spec", str(reports / "spec.json")]
            try:
                code = subprocess.run(
                    command, stdout=log, stderr=subprocess.STDOUT, timeout=timeout, cwd=reports, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                raise Trouble(f"the suite did not end in {timeout} s; see {log.name}") from None
        if code:
            raise Trouble(f"the suite ended with {code}; see {reports}/log.txt")
    return compare(expected, json.loads((reports / "index.json").read_text()).get(name, {}), reports)


def compare(expected: dict[str, str], found: dict[str, dict[str, str]], reports: Path) -> list[str]:
    """The failures: the behaviour has to match exactly; the suite may not care how a case closed."""
    wrong = [f"{case}: not expected at all" for case in found if case not in expected]
    for case, wanted in expected.items():
        result = found.get(case)
        if result is None:
            wrong.append(f"{case}: {wanted} expected, and it did not run")
            continue
        behavior, close = result["behavior"], result["behaviorClose"]
        if behavior != wanted:
            wrong.append(
                f"{case}: {wanted} expected, and it was {behavior} ({reports / result['reportfile']})"
            )
        elif close not in ("OK", "INFORMATIONAL"):
            wrong.append(f"{case}: closing it was {close} ({reports / result['reportfile']})")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the Autobahn test suite.")
    parser.add_argument("sections", nargs="*", help="such as 7 or 7.1; all of them without")
    parser.add_argument("--server", help="the command of another echo server")
    parser.add_argument(
        "--compression", help="for all of the sections: names of CompressOptions, joined by |"
    )
    options = parser.parse_args()
    server = shlex.split(options.server) if options.server else [sys.executable, str(HERE / "server.py")]
    everything = sorted(
        {case.split(".")[0] for case in json.loads((HERE / "expected.json").read_text())}, key=int
    )
    sections = options.sections or everything
    rounds = [("shared", server, SHARED, sections)]
    if options.compression is not None:
        rounds = [("chosen", server, options.compression, sections)]
    elif dedicated := [section for section in sections if section.split(".")[0] in COMPRESSED]:
        rounds.append(("dedicated", server, DEDICATED, dedicated))
    if not options.sections and not options.server:
        rounds.append(("asgi", [sys.executable, str(HERE / "asgi_server.py")], SHARED, list(OF_ASGI)))
    failed = False
    try:
        install()
        for name, command, compression, chosen in rounds:
            began = time.monotonic()
            wrong = examine(name, [*command, compression], chosen)
            took = time.monotonic() - began
            print(
                f"{name}: {len(cases_of(chosen)) - len(wrong)} of {len(cases_of(chosen))} cases, {took:.0f} s"
            )
            for line in wrong:
                print(f"  {line}")
            failed = failed or bool(wrong)
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 2
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
