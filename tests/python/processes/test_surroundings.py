"""Directories, environment, logging and the file with the process id, as a command line says them (S-CLI)."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from support import until
from support.client import Client
from support.command import APPLICATION, Command, Project

SHOW = """\
import os, sys

async def app(scope, receive, send):
    body = repr((os.getcwd(), os.environ.get("A"), os.environ.get("B"), sys.path[:2])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def shown(command: Command) -> tuple[str, str | None, str | None, list[str]]:
    with Client(command.port) as client:
        value: tuple[str, str | None, str | None, list[str]] = eval(client.get("/").body)
    return value


@pytest.mark.parametrize("option", ["--app-dir", "--chdir", "--working-dir"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_directory(project: Project, option: str, workers: str) -> None:
    """S-CLI-06: the import looks there, and the application is there."""
    project.write("src/main.py", SHOW)
    command = project.start("main", "--port", "0", option, "src", "--workers", workers)
    directory, _, _, path = shown(command)
    assert directory == str(project.directory / "src")
    assert directory in path
    assert command.stop()[0] == 0


def test_paths_are_from_where_the_command_was_given(project: Project) -> None:
    """S-CLI-06, S-CLI-35."""
    project.write("src/main.py", SHOW)
    (project.directory / "logging.json").write_text(json.dumps({"version": 1}))
    options = ["--log-config", "logging.json", "--pid-file", "run.pid"]
    command = project.start("main", "--port", "0", "--app-dir", "src", *options)
    assert shown(command)[0] == str(project.directory / "src")
    assert (project.directory / "run.pid").read_text() == f"{command.pid}\n"
    assert command.stop()[0] == 0
    assert not (project.directory / "run.pid").exists()


def test_where_imports_look(project: Project) -> None:
    """S-CLI-06: --pythonpath leaves the directory alone."""
    project.write("lib/main.py", SHOW)
    command = project.start("main", "--port", "0", "--pythonpath", "lib,other")
    directory, _, _, path = shown(command)
    assert directory == str(project.directory)
    assert path == [str(project.directory / "lib"), str(project.directory / "other")]
    assert command.stop()[0] == 0


def test_a_directory_that_is_not_there(project: Project) -> None:
    """S-CLI-06."""
    status, _, err = project.run("main", "--app-dir", "nowhere")
    assert status == 2
    assert "argument --app-dir: there is no directory 'nowhere'" in err


def test_variables_of_the_command_line(project: Project) -> None:
    """S-CLI-07: they are there before the import, and before options' own variables are read."""
    project.write("main.py", SHOW)
    command = project.start("main", "-e", "A=1=2", "--env", "SOCKETIFY_PORT=0", A="0", B="there")
    assert shown(command)[1:3] == ("1=2", "there")
    assert command.stop()[0] == 0
    status, _, err = project.run("main", "-e", "A")
    assert status == 2
    assert "argument -e/--env: expected NAME=VALUE, not 'A'" in err


def test_a_file_of_variables(project: Project) -> None:
    """S-CLI-07: what is there goes before it; a later file goes behind an earlier one."""
    pytest.importorskip("dotenv")
    project.write("main.py", SHOW)
    project.write("first.env", "A=first\nB=first\nSOCKETIFY_PORT=0\n")
    project.write("second.env", "B=second\n")
    command = project.start("main", "--env-file", "first.env", "--env-file=second.env", A="mine")
    assert shown(command)[1:3] == ("mine", "first")
    assert command.stop()[0] == 0


def test_a_file_of_variables_without_python_dotenv(project: Project) -> None:
    """S-CLI-07: one sentence says what to install."""
    project.write("main.py", SHOW)
    project.write("some.env", "A=1\n")
    project.write("dotenv.py", "raise ImportError('not here')")
    status, out, err = project.run("main", "--env-file", "some.env", PYTHONPATH=str(project.directory))
    assert (status, out) == (2, "")
    assert "--env-file needs python-dotenv, which is not installed: pip install python-dotenv" in err
    assert err.count("\n") == 1


# ---- logging --------------------------------------------------------------------------------------------------------

LOGS = """\
import logging

def run(app):
    def home(res, req):
        logging.getLogger("socketify").info("told by socketify")
        logging.getLogger("socketify").debug("whispered by socketify")
        logging.getLogger("other").info("told by another")
        res.end("ok")
    app.get("/", home)
"""


def logged(project: Project, *options: str, before: str = "") -> str:
    project.write("main.py", before + LOGS)
    command = project.start("main:run", "--port", "0", *options)
    with Client(command.port) as client:
        assert client.get("/").body == b"ok"
    status, _, err = command.stop()
    assert status == 0
    return err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["told by socketify"]),
        (["--log-level", "debug"], ["told by socketify", "whispered by socketify"]),
        (["--log-level", "TRACE"], ["told by socketify", "whispered by socketify"]),
        (["--log-level", "warning"], []),
    ],
)
def test_levels(project: Project, options: list[str], expected: list[str]) -> None:
    """S-CLI-16: only our loggers, without a handler of ours."""
    lines = logged(project, *options).splitlines()
    assert [line for line in lines if "socketify" in line and "by" in line] == expected
    assert "told by another" not in lines


def test_no_log_at_all(project: Project) -> None:
    """S-CLI-16: neither lines of the logger nor the address."""
    project.write("main.py", LOGS)
    path = project.socket()
    command = project.start("main:run", "--uds", path, "--no-log", "--access-log")
    until(lambda: os.path.exists(path), "listening")
    with Client(path=path) as client:
        assert client.get("/").body == b"ok"
    assert command.stop() == (0, "", "")


@pytest.mark.parametrize(
    "before",
    [
        "import logging\nlogging.basicConfig(level='INFO', format='%(name)s|%(message)s')\n",
        "import logging.config\nlogging.config.dictConfig({'version': 1, 'disable_existing_loggers': False, "
        "'formatters': {'f': {'format': '%(name)s|%(message)s'}}, 'handlers': {'h': {'class': 'logging.StreamHandler', "
        "'formatter': 'f'}}, 'root': {'level': 'INFO', 'handlers': ['h']}})\n",
    ],
    ids=["basicConfig", "dictConfig"],
)
def test_an_application_with_logging_of_its_own(project: Project, before: str) -> None:
    """S-CLI-16, S-REG-29: each line once, in its form."""
    lines = logged(project, before=before).splitlines()
    assert [line for line in lines if "told" in line] == [
        "socketify|told by socketify",
        "other|told by another",
    ]


CONFIG = {
    "version": 1,
    "formatters": {"short": {"format": "<%(message)s>"}},
    "handlers": {"all": {"class": "logging.StreamHandler", "formatter": "short"}},
    "root": {"level": "INFO", "handlers": ["all"]},
}

INI = """\
[loggers]
keys=root
[handlers]
keys=all
[formatters]
keys=short
[logger_root]
level=INFO
handlers=all
[handler_all]
class=StreamHandler
formatter=short
args=(sys.stderr,)
[formatter_short]
format=<%(message)s>
"""

TOML = """\
version = 1
[formatters.short]
format = "<%(message)s>"
[handlers.all]
class = "logging.StreamHandler"
formatter = "short"
[root]
level = "INFO"
handlers = ["all"]
"""

YAML = json.dumps(CONFIG)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.json", json.dumps(CONFIG)),
        ("log.ini", INI),
        ("log.conf", INI),
        ("log.toml", TOML),
        ("log.yaml", YAML),
    ],
)
def test_a_configuration(project: Project, name: str, text: str) -> None:
    """S-CLI-16: of each kind; loggers that are there already stay on."""
    if name.endswith(".yaml"):
        pytest.importorskip("yaml")
    if name.endswith(".toml") and sys.version_info < (3, 11):
        pytest.skip("tomllib is new in Python 3.11")
    project.write(name, text)
    lines = logged(project, "--log-config", name, "--access-log").splitlines()
    assert [line for line in lines if "told" in line] == ["<told by socketify>", "<told by another>"]
    assert [line for line in lines if '"GET / HTTP/1.1" 200' in line and line.startswith("<")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("log.json", "{", "--log-config: "),
        ("log.json", "[]", "expected a table of keys, not []"),
        ("log.json", '{"version": 2}', "Unsupported version: 2"),
        ("log.ini", "x", "--log-config: "),
        ("", "", "argument --log-config: there is no file 'log.none'"),
    ],
)
def test_a_configuration_that_is_wrong(project: Project, name: str, text: str, message: str) -> None:
    """S-CLI-16."""
    project.write("main.py", LOGS)
    if name:
        project.write(name, text)
    status, out, err = project.run("main:run", "--port", "0", "--log-config", name or "log.none")
    assert (status, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


# ---- the process ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("option", ["--pid-file", "--pid"])
def test_a_pid_file(project: Project, option: str, workers: str) -> None:
    """S-CLI-35: of the process to signal; it goes with it, and not with a worker."""
    project.write("main.py", APPLICATION)
    path = project.write("run.pid", "999999999\n")
    command = project.start("main:run", "--port", "0", option, "run.pid", "--workers", workers)
    assert command.port
    assert path.read_text() == f"{command.pid}\n"
    if workers == "2":
        os.kill(command.workers(2)[0], signal.SIGTERM)
        command.said("starting another")
    assert path.read_text() == f"{command.pid}\n"
    status, out, err = project.run("main:run", "--port", "0", option, "run.pid")
    assert (status, out) == (1, "")
    assert re.search(rf"run\.pid is of process {command.pid}, which runs\n$", err)
    assert command.stop()[0] == 0
    assert not path.exists()


def test_a_pid_file_that_cannot_be_written(project: Project) -> None:
    """S-CLI-35."""
    project.write("main.py", APPLICATION)
    status, _, err = project.run("main:run", "--port", "0", "--pid-file", "no/such/run.pid")
    assert status == 1
    assert "cannot write " in err


def test_the_name_of_the_processes(project: Project) -> None:
    """S-CLI-35."""
    project.write("main.py", APPLICATION)
    command = project.start("main:run", "--port", "0", "--process-name", "shop", "--workers", "2")
    for pid in [command.pid, *command.workers(2)]:
        assert Path(f"/proc/{pid}/comm").read_text() == "shop\n"
    assert command.stop()[0] == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_that_asks_others_to_open_their_logs(project: Project, workers: str) -> None:
    """S-CLI-22: it is no end."""
    project.write("main.py", APPLICATION)
    command = project.start("main:run", "--port", "0", "--workers", workers)
    assert command.port
    command.signal(signal.SIGUSR1)
    until(lambda: command.ask(), "an answer")
    assert command.stop()[0] == 0


@pytest.mark.parametrize(
    ("source", "arguments", "said"),
    [
        (SHOW, ["main"], "main (asgi) would be served at 127.0.0.1:8000 by one process, without TLS\n"),
        (
            APPLICATION,
            ["main:run", "-b", "0.0.0.0:80", "-b", "unix:/run/x.sock", "-w", "3"],
            "main:run (socketify) would be served at 0.0.0.0:80, /run/x.sock by 3 processes, without TLS\n",
        ),
    ],
)
def test_a_look_at_the_configuration(project: Project, source: str, arguments: list[str], said: str) -> None:
    """S-CLI-08: --check-config loads the application, and serves nothing."""
    project.write("main.py", source)
    assert project.run(*arguments, "--check-config") == (0, said, "")
    status, _, err = project.run("mian:run", "--check-config")
    assert status == 1
    assert "Cannot load module mian" in err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_several_addresses(project: Project, workers: str) -> None:
    """S-CLI-13, S-CLI-14: all of them are served, and each has its line."""
    project.write("main.py", APPLICATION)
    path = project.socket()
    options = ["--bind", "127.0.0.1:0", "-b", f"unix:{path}", "-b", "[::1]:0", "--workers", workers]
    command = project.start("main:run", *options)
    until(lambda: command.out.count("Listening on") == 3, "three lines")
    ports = re.findall(r"Listening on http://(127\.0\.0\.1|\[::1\]):(\d+) now", command.out)
    assert [host for host, _ in ports] == ["127.0.0.1", "[::1]"]
    assert f"Listening on {path} http://localhost now (mode 700, see --uds-mode)\n" in command.out
    with Client(int(ports[0][1])) as client:
        assert int(client.get("/").body)
    with Client(path=path) as client:
        assert int(client.get("/").body)
    assert command.stop()[0] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "main (asgi), 1 process, HTTP/1.1 and HTTP/2, no TLS. Ctrl+C ends it."),
        (["--workers", "2", "--http", "1"], "main (asgi), 2 processes, HTTP/1.1, no TLS. Ctrl+C ends it."),
    ],
)
def test_what_a_terminal_shows(project: Project, options: list[str], said: str) -> None:
    """S-CLI-14: beside the address, what is served and how to end it."""
    project.write("main.py", SHOW)
    terminal, other = os.openpty()
    command = project.start("main", "--port", "0", *options, output=other)
    os.close(other)
    shown = b""
    while b"ends it." not in shown:
        shown += os.read(terminal, 4096)
    assert b"Listening on http://127.0.0.1:" in shown
    assert f"now\r\n\r\n{said}\r\n".encode() in shown
    command.signal(signal.SIGTERM)
    command.process.wait(20)
    os.close(terminal)


def test_an_address_beside_a_port(project: Project) -> None:
    """S-CLI-13."""
    project.write("main.py", APPLICATION)
    command = project.start("main:run", "--port", "0", "--bind", "127.0.0.1:0")
    until(lambda: command.out.count("Listening on") == 2, "two lines")
    assert command.stop()[0] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected HOST:PORT, [ADDRESS]:PORT, unix:PATH or fd://N, not ''"),
        ("::1:80", "not '::1:80'"),
        ("localhost:http", "expected a whole number from 0 to 65535, not 'http'"),
        ("fd://x", "expected a whole number from 0, not 'x'"),
    ],
)
def test_addresses_that_are_none(project: Project, text: str, message: str) -> None:
    """S-CLI-13."""
    status, _, err = project.run("main:run", f"--bind={text}")
    assert status == 2
    assert f"argument -b/--bind: {message}" in err or message in err


@pytest.mark.parametrize(
    "options",
    [
        ["--static", "/assets=public", "--static=/more=other"],
        ["--static-path-route", "/assets", "--static-path-mount", "public", "--static-path-expires", "60"],
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_files(project: Project, options: list[str], workers: str) -> None:
    """S-CLI-08: they go before the application, which gets what is not there."""
    project.write("public/page.txt", "a file")
    project.write("other/page.txt", "another")
    project.write("main.py", SHOW)
    command = project.start("main", "--port", "0", *options, "--workers", workers)
    with Client(command.port) as client:
        answer = client.get("/assets/page.txt")
        assert answer.body == b"a file"
        assert answer.header("Cache-Control") == (
            "max-age=60" if "--static-path-expires" in options else None
        )
        assert client.get("/assets/nothing.txt").body.startswith(b"('")
        assert client.get("/").body.startswith(b"('")
        if "--static" in options:
            assert client.get("/more/page.txt").body == b"another"
    assert command.stop()[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--static", "/a"], "argument --static: expected ROUTE=DIR, not '/a'"),
        (["--static", "a=."], "argument --static: a route begins with /, not 'a'"),
        (["--static", "/a=nowhere"], "argument --static: there is no directory 'nowhere'"),
        (["--static-path-route", "/a"], "--static-path-route and --static-path-mount go together"),
    ],
)
def test_files_that_are_none(project: Project, options: list[str], message: str) -> None:
    """S-CLI-08."""
    status, _, err = project.run("main", *options)
    assert status == 2
    assert message in err


def test_the_access_log(project: Project) -> None:
    """S-CLI-15: it is off by default, and one line a response: with the client that a trusted proxy speaks for."""
    project.write("main.py", SHOW)
    request = b"GET /page?x=1 HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
    for options, count in (
        ([], 0),
        (["--access-log"], 1),
        (["--access-logfile", "-"], 1),
        (["--no-access-log"], 0),
    ):
        command = project.start("main", "--port", "0", *options)
        with Client(command.port) as client:
            size = len(client.send(request).answer().body)
        status, _, err = command.stop()
        assert status == 0
        lines = [line for line in err.splitlines() if "/page" in line]
        assert len(lines) == count, err
        for line in lines:
            assert re.search(rf'203\.0\.113\.7 - - "GET /page\?x=1 HTTP/1\.1" 200 {size} ', line), line
