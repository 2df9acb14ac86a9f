"""`--reload`: the worker is replaced when files change, in any state."""

from __future__ import annotations

import os
import re
import signal

import pytest

from socketify import cli
from socketify.processes import command_line, reloader
from support import until
from support.client import Client
from support.command import APPLICATION, Command, Project, children, gone, orphans_gone

pytest.importorskip("watchfiles")

VERSION = """\
import os

def run(app):
    app.get("/", lambda res, req: res.end(f"{os.getpid()} %s"))
    app.on_shutdown(lambda: os.write(1, b"stopped\\n"))
"""


def start(project: Project, *arguments: str) -> Command:
    project.write("main.py", VERSION % "first")
    return project.start("main:run", "--port", "0", "--reload", *arguments)


def answer(command: Command) -> tuple[int, str]:
    """The responding process, and its response. The socket listens all the time, so this waits and is never
    refused."""
    with Client(command.port) as client:
        pid, _, version = client.get("/").body.decode().partition(" ")
        return int(pid), version


def test_a_change_restarts_the_worker(project: Project) -> None:
    """F-22: in a new process, with the new code, on the same port; the old one ends in order, and no client
    is refused."""
    command = start(project)
    first, version = answer(command)
    assert version == "first"
    assert first != command.pid
    project.write("main.py", VERSION % "second")
    gone(first)
    second, version = answer(command)
    assert version == "second"
    assert second != first
    status, out, err = command.stop()
    assert status == 0
    assert err == "socketify: main.py changed: restarting\n"
    assert out.count("stopped") == 2
    assert out.count("Listening") == 1
    gone(second)


def test_a_module_that_is_imported(project: Project) -> None:
    """And one that is new, in a directory below."""
    project.write("package/__init__.py", "")
    command = start(project)
    first, _ = answer(command)
    project.write("package/views.py", "WORD = 'third'")
    gone(first)
    second, _ = answer(command)
    project.write("main.py", "from package.views import WORD\n" + VERSION.replace("%s", "{WORD}"))
    gone(second)
    third, version = answer(command)
    assert version == "third"
    project.write("package/views.py", "WORD = 'fourth'")
    gone(third)
    assert answer(command)[1] == "fourth"
    assert command.stop()[0] == 0


@pytest.mark.parametrize(
    ("source", "shown", "status"),
    [
        ("def run(app:\n", "SyntaxError", 1),
        ("import no_such_library\n", "ModuleNotFoundError", 1),
        ("", "no attribute run", 1),
        ("class Made:\n    def get_supported(self, asked): ...\n\nrun = Made()\n", "interface SSGI", 2),
    ],
)
def test_code_that_does_not_load(project: Project, source: str, shown: str, status: int) -> None:
    """It is shown, and the next change is waited for."""
    command = start(project)
    first, _ = answer(command)
    project.write("main.py", source)
    gone(first)
    command.said(f"ended with status {status} before it served: waiting for a change\n")
    assert shown in command.err
    assert command.process.poll() is None
    project.write("main.py", VERSION % "mended")
    second, version = answer(command)
    assert version == "mended"
    assert command.stop()[0] == 0
    gone(second)


def test_code_that_does_not_load_at_first(project: Project) -> None:
    project.write("main.py", "1 / 0")
    command = project.start("main:run", "--port", "0", "--reload")
    command.said("waiting for a change")
    project.write("main.py", VERSION % "mended")
    assert answer(command)[1] == "mended"
    assert command.stop()[0] == 0


def test_a_worker_that_ends_waits_for_a_change(project: Project) -> None:
    command = start(project)
    first, _ = answer(command)
    os.kill(first, signal.SIGKILL)
    command.said(f"worker {first} was killed by SIGKILL: waiting for a change")
    project.write("main.py", VERSION % "second")
    assert answer(command)[1] == "second"
    assert command.stop()[0] == 0


def test_loading_is_interrupted(project: Project) -> None:
    """The newest version counts, even while an older one is still being loaded."""
    command = start(project)
    first, _ = answer(command)
    project.write("main.py", "import os, time\nos.write(1, b'loading\\n')\ntime.sleep(1000)\n")
    gone(first)
    until(lambda: "loading" in command.out, "loading")
    project.write("main.py", VERSION % "third")
    assert answer(command)[1] == "third"
    assert command.stop()[0] == 0


def test_what_is_watched(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`--reload-dir`, `--reload-include`, `--reload-exclude`: other files change nothing."""
    other = tmp_path_factory.mktemp("other")
    # The kernel reports the contents of a new directory only some time after its creation.
    for directory in ("generated", "templates", ".git"):
        (project.directory / directory).mkdir()
    command = start(
        project,
        *["--reload-dir", str(other), "--reload-dir", "."],
        *["--reload-include", "*.html", "--reload-exclude", "generated/*"],
    )
    first, _ = answer(command)
    # Changes are reported together or in their order, so the last report shows that the others were ignored.
    (other / "notes.txt").write_text("")
    project.write("generated/parser.py", "")
    project.write(".git/hook.py", "")
    (other / "page.html").write_text("")
    gone(first)
    second, _ = answer(command)
    project.write("templates/page.html", "")
    gone(second)
    third, _ = answer(command)
    assert answer(command)[0] == third
    status, _, err = command.stop()
    assert status == 0
    assert err == (
        f"socketify: {other}/page.html changed: restarting\n"
        "socketify: templates/page.html changed: restarting\n"
    )


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("/top/main.py", True),
        ("/top/a/b/main.py", True),
        ("/top/page.html", True),
        ("/top/page.htm", False),
        ("/top/out/main.py", False),
        ("/other/out/main.py", True),
        ("/top/test_main.py", False),
    ],
)
def test_patterns(path: str, result: bool) -> None:
    found = reloader.wanted(path, ["/top"], ["*.py", "*.html"], ["out/*", "test_*"])
    assert found is result


def test_there_is_one_worker(project: Project) -> None:
    """F-22; and the process that watches ends with the others."""
    command = start(project, "--workers", "4")
    worker, _ = answer(command)
    started = children(command.pid)
    assert len(started) == 2
    assert worker in started
    status, _, err = command.stop()
    assert status == 0
    assert err == "socketify: --reload runs one worker: --workers is ignored\n"
    gone(*started)


def test_no_orphans(project: Project) -> None:
    command = start(project)
    answer(command)
    started = children(command.pid)
    assert len(started) == 2
    command.signal(signal.SIGKILL)
    orphans_gone(*started)


def test_interrupt_of_all(project: Project) -> None:
    """Ctrl+C reaches each of the processes; it ends them once, and in order."""
    command = start(project)
    answer(command)
    os.killpg(command.pid, signal.SIGINT)
    status, out, err = command.finish()
    assert (status, err) == (0, "")
    assert out.count("stopped") == 1


def test_a_unix_socket(project: Project) -> None:
    """F-06: it listens from one worker to the next."""
    project.write("main.py", APPLICATION)
    path = project.socket()
    command = project.start("main:run", "--uds", path, "--reload")
    until(lambda: "see --uds-mode)\n\n" in command.out, "listening")

    def ask() -> int:
        with Client(path=path) as client:
            return int(client.get("/").body)

    first = ask()
    project.write("main.py", APPLICATION + "\n")
    gone(first)
    assert ask() != first
    assert command.stop()[0] == 0


def test_without_watchfiles(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the package."""
    monkeypatch.setattr(reloader, "available", lambda: False)
    assert cli.main(["main:run", "--reload"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"socketify: --reload needs watchfiles.*: pip install socketify\[reload\]\n", said)


def test_reload_false(monkeypatch: pytest.MonkeyPatch) -> None:
    """F-22: it is a flag like the others."""
    monkeypatch.setattr(command_line, "_alone", lambda settings: 42)
    assert cli.main(["main:run", "--reload", "false", "--workers", "1"]) == 42
