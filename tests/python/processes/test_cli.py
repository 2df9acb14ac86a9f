"""The command line of native applications (api.md F): options, loading, and one process that serves."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from socketify import App, AppListenOptions, __version__, cli
from socketify.processes import command_line, console, worker
from socketify.processes.invocation import Invocation
from support import until
from support.certificates import Authority
from support.client import Client
from support.command import APPLICATION, Project
from support.ws_client import BINARY, TEXT, connect

#: Its arguments are `serve(settings, where, ...)`'s.
Served = tuple[Invocation, Any]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Served]:
    """The command line's application, not served."""
    calls: list[Served] = []

    def serve(settings: Invocation, where: Any, ready: object) -> int:
        calls.append((settings, where))
        return 0

    monkeypatch.setattr(command_line, "serve", serve)
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    return calls


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message for a wrong command line; its status is 2 (F-24)."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


#: Every option of section F, and those of our own.
OPTIONS = [
    *["--help", "--version", "-v", "--host", "-h", "--port", "-p", "--workers", "-w", "--uds", "--lifespan"],
    *["--interface", "--disable-listen-log", "--ws", "--ws-max-size", "--ws-auto-ping", "--ws-idle-timeout"],
    *["--ws-reset-idle-on-send", "--ws-per-message-deflate", "--ws-max-lifetime", "--ws-max-backpressure"],
    *["--max-backpressure", "--ws-close-on-backpressure-limit", "--ssl-keyfile", "--ssl-certfile"],
    *["--ssl-keyfile-password", "--ssl-ca-certs", "--ssl-ciphers", "--ssl-cert-reqs", "--ssl-min-version"],
    *["--req-res-factory-maxitems"],
    *["--ws-factory-maxitems", "--task-factory-maxitems"],
    *["--reload", "--reload-dir", "--reload-include", "--reload-exclude"],
]


# ---- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("arguments", [[], ["--help"], ["main:run", "--port", "1", "--help"]])
def test_help(project: Project, script: bool, arguments: list[str]) -> None:
    """F-01, F-L-12: anywhere, and without arguments; -m and the script."""
    status, out, err = project.run(*arguments, script=script)
    assert (status, err) == (0, "")
    name = "socketify" if script else "python -m socketify"
    assert out.startswith(f"usage: {name} MODULE:ATTRIBUTE [OPTIONS]\n")
    for option in OPTIONS:
        assert re.search(rf"(?<!\S){option}\b", out), option


@pytest.mark.parametrize("option", ["--version", "-v"])
def test_version(capsys: pytest.CaptureFixture[str], option: str) -> None:
    """F-02."""
    with pytest.raises(SystemExit) as caught:
        cli.main([option])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(
        rf"Running socketify {re.escape(__version__)} with CPython 3\.\S+ on Linux\n", printed
    )


def test_the_defaults(served: list[Served]) -> None:
    """F-03 to F-20."""
    assert cli.main(["main:run"]) == 0
    [(settings, where)] = served
    assert settings == Invocation("main:run")
    # One process does not share its port.
    assert where == [AppListenOptions(host="127.0.0.1", port=8000, options=1)]
    assert settings.lifespan == "auto"
    assert settings.listen_log
    assert settings.tls is None
    assert settings.websocket is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-h", "0.0.0.0"], {"host": "0.0.0.0"}),
        (["--host", "localhost"], {"host": "localhost"}),
        (["--host", ""], {"host": ""}),
        (["-p", "3000"], {"port": 3000}),
        (["--port=0"], {"port": 0}),
        (["--uds", "/tmp/a.sock"], {"uds": "/tmp/a.sock"}),
        (["--lifespan", "off"], {"lifespan": "off"}),
        (["--lifespan", "ON"], {"lifespan": "on"}),
        (["--lifespan", "auto"], {"lifespan": "auto"}),
        (["--interface", "Socketify"], {"interface": "socketify"}),
        (["--ws", "auto"], {"websocket": None}),
        (["--ws", "None"], {"websocket": None}),
        (["--ws", "Main:Ws"], {"websocket": "Main:Ws"}),
        (["--disable-listen-log", "false"], {"listen_log": True}),
        (["--disable-listen-log", "true"], {"listen_log": False}),
        (["--disable-listen-log"], {"listen_log": False}),
        (
            ["--req-res-factory-maxitems", "1", "--ws-factory-maxitems", "2", "--task-factory-maxitems", "3"],
            {
                "app_options": {
                    "request_response_factory_max_items": 1,
                    "websocket_factory_max_items": 2,
                    "task_factory_max_items": 3,
                }
            },
        ),
    ],
)
def test_an_option(served: list[Served], arguments: list[str], expected: dict[str, object]) -> None:
    """F-03, F-04, F-06, F-07, F-16 to F-18, F-20, I-D-04; before the application and behind it."""
    assert cli.main(["main:run", *arguments]) == 0
    assert cli.main([*arguments, "main:run"]) == 0
    for settings, _ in served:
        assert {name: getattr(settings, name) for name in expected} == expected
        assert settings.target == "main:run"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ws-max-size", "1"], {"max_payload_length": 1}),
        (["--ws-auto-ping", "no"], {"send_pings_automatically": False}),
        (["--ws-idle-timeout", "5"], {"idle_timeout": 5}),
        (["--ws-reset-idle-on-send", "off"], {"reset_idle_timeout_on_send": False}),
        (["--ws-per-message-deflate", "False"], {"compression": 0}),
        (["--ws-per-message-deflate", "1"], {"compression": 1}),
        (["--ws-per-message-deflate"], {"compression": 1}),
        (["--ws-max-lifetime", "7"], {"max_lifetime": 7}),
        (["--ws-max-backpressure", "8"], {"max_backpressure": 8}),
        (["--max-backpressure", "8"], {"max_backpressure": 8}),
        (["--ws-close-on-backpressure-limit", "YES"], {"close_on_backpressure_limit": True}),
    ],
)
def test_an_option_of_websockets(
    served: list[Served], arguments: list[str], expected: dict[str, object]
) -> None:
    """F-08 to F-15, I-D-03, I-D-04."""
    assert cli.main(["main:run", "--ws", "main:ws", *arguments]) == 0
    assert served[0][0].websocket_options == expected


def test_options_of_websockets_without_any(project: Project) -> None:
    """They would have been without effect in silence."""
    project.write("main.py", APPLICATION)
    command = project.start("main:run", "--port", "0", "--ws-max-size", "1")
    command.said("they need --ws MODULE:DICT")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "8000"], "which application? expected MODULE:ATTRIBUTE, such as main:app"),
        (["main:run", "--prot", "1"], "unknown option --prot; did you mean --port?"),
        (["main:run", "--ws-max-payload=1"], "unknown option --ws-max-payload"),
        (["main:run", "--ws-max-siz", "1"], "unknown option --ws-max-siz; did you mean --ws-max-size?"),
        (["main:run", "-x"], "unknown option -x"),
        (["main:run", "extra"], "unexpected argument 'extra': there is one MODULE:ATTRIBUTE"),
        (["main:run", "--port"], "argument -p/--port: expected one argument"),
        (
            ["main:run", "--port", "http"],
            "argument -p/--port: expected a whole number from 0 to 65535, not 'http'",
        ),
        (["main:run", "--port", "65536"], "expected a whole number from 0 to 65535, not 65536"),
        (["main:run", "--port", "-1"], "expected a whole number from 0 to 65535, not -1"),
        (["main:run", "--workers", "two"], "argument -w/--workers: expected a whole number"),
        (["main:run", "--workers", "99999"], "from -2147483648 to 1024, not 99999"),
        (["main:run", "--ws-auto-ping", "maybe"], "--ws-auto-ping: expected true or false, not 'maybe'"),
        (["main:run", "--ws-max-size", "-5"], "--ws-max-size: expected a whole number from 0, not -5"),
        (["main:run", "--interface", "rack"], "argument --interface: invalid choice: 'rack'"),
        (["main:run", "--lifespan", "maybe"], "argument --lifespan: invalid choice: 'maybe'"),
        (["main:run", "--uds", ""], "argument --uds: expected a path"),
        (["main:run", "--ssl-certfile", "c.pem"], "--ssl-certfile needs --ssl-keyfile"),
        (["main:run", "--reload", "--reload-dir", "/no/such"], "there is no directory '/no/such'"),
    ],
)
def test_a_command_line_that_is_wrong(
    served: list[Served], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """F-23, F-24: the fault is named, in one line, and nothing is served."""
    said = refused(capsys, *arguments)
    assert message in said
    assert said.startswith("socketify: ")
    assert said.endswith("(see socketify --help)\n")
    assert said.count("\n") == 1
    assert served == []


def test_a_flag_without_a_value_takes_nothing(served: list[Served]) -> None:
    """F-23, I-D-05: neither the application nor the next option."""
    assert cli.main(["--disable-listen-log", "main:run", "--ws-auto-ping", "--port", "1"]) == 0
    [(settings, _)] = served
    assert settings.target == "main:run"
    assert settings.port == 1
    assert not settings.listen_log
    assert settings.websocket_options == {"send_pings_automatically": True}


@pytest.mark.parametrize(
    ("arguments", "environment", "count"),
    [
        ([], None, 1),
        ([], "3", 3),
        ([], "0", 1),
        ([], "", 1),
        (["-w", "2"], "3", 2),
        (["--workers", "0"], None, 1),
        (["--workers", "-4"], None, 1),
        (["--workers", "1"], "8", 1),
    ],
)
def test_how_many_workers(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: str | None, count: int
) -> None:
    """F-05: the option, else WEB_CONCURRENCY, else one."""
    monkeypatch.setattr(command_line, "_alone", lambda settings: 101)
    monkeypatch.setattr(command_line, "_together", lambda settings, count: 100 + count)
    if environment is None:
        monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    else:
        monkeypatch.setenv("WEB_CONCURRENCY", environment)
    assert cli.main(["main:run", *arguments]) == 100 + count


def test_a_wrong_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """F-05: its name is printed, since it is not on the command line."""
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    assert "WEB_CONCURRENCY: expected a whole number" in refused(capsys, "main:run")


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("asgi", "asgi"),
        ("asgi3", "asgi3"),
        ("asginl", "asgi"),
        ("WSGI", "wsgi"),
        ("rsgi", "rsgi"),
        ("ssgi", "ssgi"),
    ],
)
def test_an_interface_that_the_application_does_not_have(project: Project, name: str, other: str) -> None:
    """F-17, F-L-05, S-CLI-05: the message has both names."""
    project.write("main.py", "def run(app): ...")
    status, out, err = project.run("main:run", "--interface", name)
    assert (status, out) == (2, "")
    assert f"run() is an application of the interface socketify, and not of {other}: leave --interface" in err


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("class Made:\n    def get_supported(self, asked): ...\nrun = Made()", "SSGI"),
    ],
)
def test_interfaces_that_are_not_served(project: Project, source: str, name: str) -> None:
    """S-CLI-03: they are recognized."""
    project.write("main.py", source)
    status, out, err = project.run("main:run")
    assert (status, out) == (2, "")
    assert f"main:run is an application of the interface {name}, which this version does not serve yet" in err


@pytest.mark.parametrize(
    ("source", "reload", "grace"),
    [
        ("async def app(scope, receive, send): ...", False, 30.0),
        ("async def app(scope, receive, send): ...", True, 1.0),
        ("def app(environ, start_response): ...", False, 30.0),
        ("def app(native): ...", False, 5.0),
        ("def app(native): ...", True, 1.0),
        ("from socketify import App\napp = App()", False, 5.0),
        ("from socketify import App\napp = App(shutdown_timeout=9)", True, 1.0),
        ("from socketify import ASGI\nasync def f(scope, receive, send): ...\napp = ASGI(f)", False, 5.0),
    ],
)
def test_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reload: bool, grace: float
) -> None:
    """S-CLI-25: of requests in progress, where nothing else is said."""
    monkeypatch.chdir(tmp_path)
    name = f"grace_{abs(hash((source, reload)))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    app = worker.prepare(Invocation(f"{name}:app", reload=reload))
    assert app.shutdown_timeout == grace
    app.dispose()


def test_options_without_effect(project: Project) -> None:
    """S-CLI-08: they are not for this kind of application."""
    project.write("main.py", APPLICATION + "\nasync def app(scope, receive, send): ...\n")
    command = project.start("main:run", "--port", "0", "--root-path", "/api")
    command.said("--root-path has no effect: it is for applications of ASGI and WSGI")
    command = project.start("main:app", "--port", "0", "--threads", "4", SOCKETIFY_THREADS_IDLE_TIMEOUT="5")
    command.said("--threads has no effect: it is for applications of WSGI")
    command.said("(environment variable SOCKETIFY_THREADS_IDLE_TIMEOUT) has no effect")
    assert command.port


# ---- served applications --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("localhost", "localhost"),
        ("", "127.0.0.1"),
        ("0", "127.0.0.1"),
        ("::1", "[::1]"),
    ],
)
def test_the_listen_line(host: str, shown: str) -> None:
    """F-L-10."""
    line = console.listen_line(AppListenOptions(host=host, port=3000), False)
    assert line == f"Listening on http://{shown}:3000 now"


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_process(project: Project, script: bool, number: int) -> None:
    """F-04, F-05, F-L-06, F-L-10, F-L-12: it serves, prints its address, and ends with 0 after a signal; its
    hooks run."""
    project.write(
        "Main.py",
        """
        import os

        def Run(app):
            app.on_start(lambda: print("started", flush=True))
            app.on_shutdown(lambda: print("stopped", flush=True))
            app.get("/", lambda res, req: res.end(str(os.getpid())))
            return "ignored"
        """,
    )
    command = project.start("Main:Run", "--port", "0", script=script)
    assert command.ask() == command.pid
    command.signal(number)
    status, out, err = command.finish()
    assert (status, err) == (0, "")
    assert out == f"started\nListening on http://127.0.0.1:{command.port} now\n\nstopped\n"


def test_without_hooks_and_without_a_word(project: Project) -> None:
    """F-06, F-16, F-18: on a Unix socket, which finds a server that does not print its address."""
    project.write(
        "main.py",
        """
        def run(app):
            app.on_start(lambda: print("started"))
            app.get("/", lambda res, req: res.end("here"))
        """,
    )
    path = Path(project.socket())
    command = project.start("main:run", "--uds", str(path), "--lifespan", "off", "--disable-listen-log")
    until(path.exists, "a socket")
    with Client(path=str(path)) as client:
        assert client.get("/").body == b"here"
    assert command.stop() == (0, "", "")


def test_a_unix_socket(project: Project) -> None:
    """F-06, F-L-10: it goes before host and port."""
    project.write("main.py", APPLICATION)
    path = project.socket()
    command = project.start("main:run", "--uds", path, "--port", "1")
    until(lambda: command.out.endswith("see --uds-mode)\n\n"), "listening")
    assert command.out == f"Listening on {path} http://localhost now (mode 700, see --uds-mode)\n\n"
    with Client(path=path) as client:
        assert int(client.get("/").body) == command.pid
    assert command.stop()[0] == 0


@pytest.mark.parametrize("options", [["--uds", "{}"], ["--bind", "unix:{}"]])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("given", "mode"), [([], 0o700), (["--uds-mode", "660"], 0o660)])
def test_the_permissions_of_a_unix_socket(
    project: Project, options: list[str], workers: str, given: list[str], mode: int
) -> None:
    """S-CLI-12, S-REG-28: the line says them; a file that is there keeps nothing."""
    project.write("main.py", APPLICATION)
    path = project.socket()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    os.chmod(path, 0o777)
    words = [option.format(path) for option in options]
    command = project.start("main:run", *words, *given, "--workers", workers)
    line = f"Listening on {path} http://localhost now (mode {mode:o}, see --uds-mode)\n\n"
    until(lambda: command.out == line, "listening")
    assert os.stat(path).st_mode & 0o777 == mode
    assert command.stop()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_right_after_the_line(project: Project, number: int) -> None:
    """Who reads it may send one at once: it ends the process as at any later time, hooks and all."""
    project.write(
        "main.py",
        f"""
        import os
        from socketify import App

        class Slow(App):
            def run(self):
                os.kill(os.getpid(), {int(number)})
                return super().run()

        run = Slow()
        run.on_shutdown(lambda: print("shut down", flush=True))
        """,
    )
    status, out, err = project.run("main:run", "--port", "0")
    assert (status, err) == (0, "")
    assert out.startswith("Listening on ")
    assert out.endswith("shut down\n")


def test_the_host(project: Project) -> None:
    """F-03: -h is the host."""
    project.write("main.py", APPLICATION)
    command = project.start("main:run", "-h", "localhost", "-p", "0")
    port = command.port
    # The empty line behind it may come a little later.
    until(lambda: f"Listening on http://localhost:{port} now\n\n" in command.out, "the whole announcement")
    with socket.create_connection(("localhost", port), 20):
        pass
    assert command.stop()[0] == 0


@pytest.mark.parametrize(
    "source",
    [
        "from socketify import App\nrun = App()\nrun.get('/', lambda res, req: res.end('0'))",
        "def run():\n    return start\ndef start(app):\n    app.get('/', lambda res, req: res.end('0'))",
        "from socketify import App\ndef run():\n    app = App(max_body_size=5)\n"
        "    app.get('/', lambda res, req: res.end('0'))\n    return app",
    ],
    ids=["an App", "a factory", "a factory of an App"],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_forms_of_an_application(project: Project, source: str, workers: str) -> None:
    """F-L-02, I-D-02."""
    project.write("main.py", source)
    command = project.start("main:run", "--port", "0", "--workers", workers)
    with Client(command.port) as client:
        assert client.get("/").body == b"0"
    assert command.stop()[0] == 0


def test_the_seeds_application(project: Project) -> None:
    """I-S-55: decorators and a router; its hook forgets an import, which is reported and stops nothing."""
    project.write(
        "main.py",
        """
        from socketify import App

        def run(app: App):
            @app.on_start
            async def on_start():
                print("wait...")
                await asyncio.sleep(1)

            @app.on_shutdown
            async def on_shutdown():
                print("shutdown!")

            router = app.router()

            @router.get("/")
            def home(res, req):
                res.send("Hello, World!")
        """,
    )
    command = project.start("main:run", "--port", "0")
    with Client(command.port) as client:
        assert client.get("/").body == b"Hello, World!"
    status, out, err = command.stop()
    assert status == 0
    assert out.startswith("wait...\n")
    assert out.endswith("shutdown!\n")
    assert "NameError: name 'asyncio' is not defined" in err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_exit_in_on_start(project: Project, workers: str) -> None:
    """I-S-54: its status is that of the command."""
    project.write("main.py", "import sys\ndef run(app):\n    app.on_start(lambda: sys.exit(3))\n")
    status, out, err = project.run("main:run", "--port", "0", "--workers", workers)
    assert (status, out) == (3, "")
    assert err == "" or re.fullmatch(
        r"socketify: worker \d+ ended with status 3 before it served: giving up\n", err
    )


def test_close_ends_the_command(project: Project) -> None:
    """I-B-24: with 0, and nothing is served a second time."""
    project.write(
        "main.py",
        """
        def run(app):
            def end(res, req):
                res.end("bye")
                app.close()
            app.get("/", end)
        """,
    )
    command = project.start("main:run", "--port", "0")
    with Client(command.port) as client:
        assert client.get("/").body == b"bye"
    status, out, err = command.finish()
    assert (status, err) == (0, "")
    assert out.count("Listening") == 1


# ---- refused applications -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize(
    ("source", "spec", "status", "message"),
    [
        ("", "mian:run", 1, "socketify: Cannot load module mian: there is no mian in {} or on sys.path; did you mean main?"),
        ("", "main:run", 1, "socketify: Cannot load main:run: main has no attribute run"),
        ("", "main", 1, "socketify: Cannot load main: it has no attribute app or application: name the application"),
        ("", "mian.py", 1, "socketify: Cannot load mian.py: there is no file {}/mian.py"),
        ("", "main:make()", 1, "socketify: 'main:make()' is a call: name the factory and say so, as in main:make --factory"),
        ("1 / 0", "main:run", 1, "ZeroDivisionError: division by zero\nsocketify: Cannot load module main"),
        (
            "def run(app):\n    app.get('/')",
            "main:run",
            1,
            "missing 1 required positional argument: 'handler'\nsocketify: main:run failed",
        ),
        ("async def run(app): ...", "main:run", 1, "socketify: run() is async, and routes are registered before"),
        (
            "async def routes(app): ...\nrun = lambda app: routes(app)",
            "main:run",
            1,
            "socketify: main:run returned a coroutine, which is never awaited: make it a plain function",
        ),
        (
            "class Made:\n    def get_supported(self, asked): ...\nrun = Made()",
            "main:run",
            2,
            "of the interface SSGI, which this version",
        ),
        (
            "from socketify import App\nrun = App()\nrun.listen({'host': '127.0.0.1', 'port': 0})",
            "main:run",
            1,
            "socketify: main:run listens already: leave listen() and run() to the command line",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded(
    project: Project, source: str, spec: str, status: int, message: str, workers: str
) -> None:
    """F-L-03, F-L-05, F-24: it is reported once, for any number of workers, which are not started for
    ever."""
    project.write("main.py", source)
    ended, out, err = project.run(spec, "--port", "0", "--workers", workers)
    assert (ended, out) == (status, "")
    assert message.format(project.directory) in err
    assert err.count("socketify: ") == 1
    assert err.count("Traceback") == (1 if "Error" in message or "missing" in message else 0)
    for ours in ("importlib", "socketify/processes", "socketify/cli.py"):
        assert ours not in err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tls_that_cannot_be_set_up(project: Project, workers: str) -> None:
    """F-19, F-24: the file and the reason, and never plain HTTP in its place."""
    project.write("main.py", APPLICATION)
    arguments = ["--ssl-keyfile", "k.pem", "--ssl-certfile", "c.pem", "--ssl-keyfile-password", "x"]
    ended, out, err = project.run("main:run", "--port", "0", "--workers", workers, *arguments)
    assert (ended, out) == (1, "")
    assert err.startswith(
        'socketify: Failed to create connection: cert_file_name "c.pem": it cannot be read: No such'
    )
    assert err.count("\n") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_app_that_speaks_tls_itself(project: Project, authority: Authority, workers: str) -> None:
    """F-L-10: the line shows it."""
    options = authority.options("localhost")
    project.write(
        "main.py",
        f"""
        from socketify import App, AppOptions
        app = App(AppOptions({options.key_file_name!r}, {options.cert_file_name!r}))
        app.get("/", lambda res, req: res.end("hello"))
        """,
    )
    command = project.start("main:app", "--port", "0", "--workers", workers)
    assert f"Listening on https://127.0.0.1:{command.port} now" in command.out
    with (
        socket.create_connection(("127.0.0.1", command.port), 20) as plain,
        authority.context().wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert secure.recv(12) == b"HTTP/1.1 200"
    assert command.stop()[0] == 0


def test_the_options_of_tls(served: list[Served]) -> None:
    """F-19."""
    options = {
        "--ssl-keyfile": "k",
        "--ssl-certfile": "c",
        "--ssl-keyfile-password": "p",
        "--ssl-ca-certs": "a",
        "--ssl-ciphers": "s",
        "--ssl-cert-reqs": "required",
        "--ssl-min-version": "1.3",
    }
    assert cli.main(["main:run", *[word for pair in options.items() for word in pair]]) == 0
    tls = served[0][0].tls
    assert tls is not None
    assert (tls.key_file_name, tls.cert_file_name, tls.passphrase) == ("k", "c", "p")
    assert (tls.ca_file_name, tls.ssl_ciphers) == ("a", "s")
    assert (tls.client_cert, tls.min_version) == ("required", "1.3")
    line = console.listen_line(AppListenOptions(port=1), True)
    assert line == "Listening on https://127.0.0.1:1 now"


@pytest.mark.parametrize("options", [[], ["--workers", "2"], ["--reload"]], ids=["one", "two", "reload"])
def test_a_port_in_use(project: Project, options: list[str]) -> None:
    """F-24: also one that its owner would share, as a second start by mistake would find it."""
    project.write("main.py", APPLICATION)
    with socket.socket() as owner:
        owner.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = owner.getsockname()[1]
        status, out, err = project.run("main:run", "--port", str(port), *options)
    assert (status, out) == (1, "")
    assert err == f"socketify: Failed to listen on port {port} of host 127.0.0.1: Address already in use\n"


# ---- WebSockets -----------------------------------------------------------------------------------------------------

ECHO = """
def open(ws):
    ws.send("Hello World!", OpCode.TEXT)

ws = {"open": open, "message": lambda ws, message, opcode: ws.send(message, opcode), "max_payload_length": 5}

def run(app):
    app.get("/", lambda res, req: res.end("over HTTP"))
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_behaviour(project: Project, workers: str) -> None:
    """F-07, F-L-07, H-06: on every path, beside the routes; the dict overrides the defaults."""
    project.write("main.py", "from socketify import OpCode\n" + ECHO)
    command = project.start("main:run", "--ws", "main:ws", "--port", "0", "--workers", workers)
    with Client(command.port) as client:
        assert client.get("/").body == b"over HTTP"
    for path in ("/", "/any/where"):
        with connect(command.port, path) as client:
            assert client.recv_message() == "Hello World!"
            client.send_text("text").send_binary(b"bytes")
            assert client.recv_frame()[2:] == (TEXT, b"text")
            assert client.recv_frame()[2:] == (BINARY, b"bytes")
            client.send_text("longer than five")
            assert client.expect_close_frame()[0] == 1009
    assert command.stop()[0] == 0


def test_options_of_the_command_line_go_before_the_dict(project: Project) -> None:
    """F-L-07, I-D-06."""
    project.write("main.py", "from socketify import OpCode\n" + ECHO)
    command = project.start("main:run", "--ws", "main:ws", "--ws-max-size", "6", "--port", "0")
    with connect(command.port) as client:
        assert client.recv_message() == "Hello World!"
        client.send_text("sixsix")
        assert client.recv_message() == "sixsix"
        client.send_text("sevense")
        assert client.expect_close_frame()[0] == 1009
    assert command.stop()[0] == 0


def test_the_behaviour_that_is_mounted(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-08 to F-15, F-L-07: the defaults, then the dict, then the command line; the dict itself stays
    unchanged."""
    project.write(
        "behaviour.py",
        "ws = {'idle_timeout': 7, 'max_lifetime': None, 'max_payload_length': 1}\ndef run(app): ...",
    )
    monkeypatch.chdir(project.directory)
    mounted: list[tuple[str, Any]] = []
    monkeypatch.setattr(App, "ws", lambda self, path, behavior: mounted.append((path, dict(behavior))))
    settings = Invocation(
        "behaviour:run", websocket="behaviour:ws", websocket_options={"max_payload_length": 2}
    )
    worker.prepare(settings).dispose()
    assert mounted == [
        (
            "/*",
            {
                "max_payload_length": 2,
                "idle_timeout": 7,
                "send_pings_automatically": True,
                "reset_idle_timeout_on_send": True,
                "max_lifetime": 0,
                "max_backpressure": 16777216,
                "close_on_backpressure_limit": False,
                "compression": 0,
            },
        )
    ]


@pytest.mark.parametrize(
    ("source", "status", "message"),
    [
        ("async def ws(scope, receive, send): ...", 2, "--ws main:ws is no dict but an application"),
        ("ws = 5", 1, "--ws main:ws must be a behaviour, a dict as App.ws takes, not 5"),
        ("ws = {'opne': 1}", 1, "--ws main:ws: the behavior of '/*' has an unknown key 'opne'"),
        ("", 1, "Cannot load main:ws: main has no attribute ws"),
    ],
)
def test_a_behaviour_that_is_none(project: Project, source: str, status: int, message: str) -> None:
    """F-L-08."""
    project.write("main.py", f"def run(app): ...\n{source}")
    ended, out, err = project.run("main:run", "--ws", "main:ws", "--port", "0")
    assert (ended, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nobody_listens_to_what_it_says(project: Project, workers: str) -> None:
    """A reader that has gone, such as `head`, ends nothing; a failure still has its status."""
    project.write("main.py", APPLICATION)
    path = project.socket()
    reader, writer = os.pipe()
    os.close(reader)
    command = project.start("main:run", "--uds", path, "--workers", workers, output=writer)
    failing = project.start("nothing:run", "--uds", f"{path}2", "--workers", workers, output=writer)
    os.close(writer)
    until(lambda: Path(path).exists(), "a socket")
    with Client(path=path) as client:
        assert int(client.get("/").body)
    command.signal(signal.SIGTERM)
    # Python itself reports unwritten output at its end, with 120.
    assert command.process.wait(40) in (0, 120)
    assert failing.process.wait(40) in (1, 120)
