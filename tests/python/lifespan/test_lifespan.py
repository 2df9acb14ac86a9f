"""The lifespan of an ASGI application that is served: before the first client, and on every way out (S-LIFE)."""

from __future__ import annotations

import re
import signal
import socket

import pytest

from support import Program, until
from support.client import Client
from support.command import Command, Project, children

#: Says what it hears; each path is a way to end or to wait.
APPLICATION = """\
import asyncio, os, signal, sys

def say(word):
    os.write(1, f"{word}\\n".encode())

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    else:
        await respond(scope, receive, send)

async def lifespan(scope, receive, send):
    say((await receive())["type"])
    scope["state"]["loop"] = id(asyncio.get_running_loop())
    scope["state"]["list"] = []
    beside = asyncio.create_task(tell_of_the_end())
    await starting()
    await send({"type": "lifespan.startup.complete"})
    say((await receive())["type"])
    say("beside " + ("ended" if beside.done() else "lives"))
    await ending()
    await send({"type": "lifespan.shutdown.complete"})

async def tell_of_the_end():
    await asyncio.sleep(1000)

async def starting(): pass

async def ending(): pass

async def respond(scope, receive, send):
    body = b"ok"
    if scope["path"] == "/close":
        server.close()
    elif scope["path"] == "/stop":
        asyncio.get_running_loop().stop()
    elif scope["path"] == "/state":
        same = scope["state"]["loop"] == id(asyncio.get_running_loop())
        scope["state"]["list"].append(1)
        scope["state"]["more"] = len(scope["state"])
        body = repr((same, scope["state"]["list"], scope["state"]["more"])).encode()
    elif scope["path"] == "/slow":
        say("slow")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            say("cancelled")
            raise
    elif scope["path"] == "/later":
        say("begun")
        await asyncio.sleep(0.3)
        say("later")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""

RUN = """
from socketify import ASGI
server = ASGI(application, **options)
server.listen({"host": "127.0.0.1", "port": 0}, ready)
server.run()
say("after run")
"""


def program(changes: str = "", options: str = "{}") -> Program:
    return Program(f"{APPLICATION}\n{changes}\noptions = {options}\n{RUN}")


def words(out: str) -> list[str]:
    return out.split("\n")[:-1]


ENDED = ["lifespan.shutdown", "beside lives"]


def test_start_comes_before_the_socket() -> None:
    """S-LIFE-01, S-LIFE-02: nobody can connect before the application is ready."""
    with socket.socket() as held:
        # A port that is free, and that nobody else takes meanwhile.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        source = f"""
        {APPLICATION!r}
        exec({APPLICATION!r})
        import socket
        async def starting():
            await asyncio.sleep(0.2)
            try:
                socket.create_connection(("127.0.0.1", {port}), 1).close()
                say("connected")
            except ConnectionRefusedError:
                say("refused")
        from socketify import ASGI
        server = ASGI(application)
        server.listen({{"host": "127.0.0.1", "port": {port}, "reuse_port": True}}, ready).run()
        """
        with Program(source) as running:
            assert [running.word(), running.word()] == ["lifespan.startup", "refused"]
            with running.listening().client() as client:
                assert client.get("/").body == b"ok"
            running.signal(signal.SIGTERM)
            assert running.finish()[0] == 0


def test_the_state_of_requests() -> None:
    """S-LIFE-13, S-ASGI-14: each gets a shallow copy; the loop is the same everywhere."""
    with program().listening() as running, running.client() as client:
        assert client.get("/state").body == b"(True, [1], 2)"
        assert client.get("/state").body == b"(True, [1, 1], 2)"
        running.signal(signal.SIGTERM)
        assert running.finish()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal(number: int) -> None:
    """S-LIFE-07, S-LIFE-11: the last request ends first, and tasks of the application live until after the end."""
    with program().listening() as running, running.client() as client:
        client.send(b"GET /later HTTP/1.1\r\nHost: test\r\n\r\n")
        assert running.word() == "begun"
        running.signal(number)
        assert client.answer().body == b"ok"
        status, out, err = running.finish()
        assert (status, err) == (0, "")
        assert words(out) == ["later", *ENDED]


@pytest.mark.parametrize("path", ["/close", "/stop"])
def test_ends_without_a_signal(path: str) -> None:
    """S-LIFE-07: by close(), and when the loop stops."""
    with program().listening() as running, running.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        status, out, err = running.finish()
        assert (status, err) == (0, "")
        assert words(out) == [*ENDED, "after run"]


def test_a_second_signal_while_a_request_runs() -> None:
    """S-LIFE-07: the request is cancelled, and the application hears of the end."""
    with program().listening() as running, running.client() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        assert running.word() == "slow"
        running.signal(signal.SIGTERM)
        with pytest.raises(OSError):  # noqa: PT011 - until it accepts no more
            until(lambda: Client(running.port).close(), "the end of accepting", 5)
        running.signal(signal.SIGTERM)
        status, out, err = running.finish()
        assert (status, err) == (0, "")
        assert words(out) == ["cancelled", *ENDED]


def test_a_request_that_the_grace_ends() -> None:
    """S-LIFE-07, S-CLI-24: cut, cancelled a second later, and then the application ends."""
    with program(options="{'shutdown_timeout': 0.1}").listening() as running, running.client() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        assert running.word() == "slow"
        running.signal(signal.SIGTERM)
        status, out, err = running.finish()
        assert (status, err) == (0, "")
        assert words(out) == ["cancelled", *ENDED]


def test_a_port_that_cannot_be_bound() -> None:
    """S-LIFE-07: the application has started, so it ends; the error is that of the port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run = RUN.replace('"port": 0', f'"port": {port}')
        with Program(f"{APPLICATION}\noptions = {{}}\n{run}") as running:
            status, out, err = running.finish()
    assert status == 1
    assert words(out) == ["lifespan.startup", *ENDED]
    assert f"RuntimeError: Failed to listen on port {port} of host 127.0.0.1: " in err
    assert "Task was destroyed" not in err


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("raise RuntimeError('cannot flush')", "RuntimeError: cannot flush"),
        ("await asyncio.sleep(1000)", "has not shut down within 5 seconds"),
    ],
)
def test_an_end_that_fails(ending: str, said: str) -> None:
    """S-LIFE-07: it is logged, and the status is 1."""
    changes = f"async def ending():\n    {ending}"
    with program(changes, "{'shutdown_timeout': 0.1}").listening() as running:
        running.signal(signal.SIGTERM)
        status, out, err = running.finish()
    assert status == 1
    assert words(out) == ENDED
    assert said in err


STARTING = """
async def starting():
    say("starting")
    try:
        await asyncio.sleep(1000)
    finally:
        say("cleaned up")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start(number: int) -> None:
    """S-LIFE-08, S-REG-15: the start is cancelled, with its clean-up."""
    with program(STARTING) as running:
        assert [running.word(), running.word()] == ["lifespan.startup", "starting"]
        running.signal(number)
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert words(out) == ["cleaned up"]


def test_a_start_that_does_not_hear_of_the_signal() -> None:
    """S-LIFE-08: it may go on for the grace. If it completes, the application ends as usual, and nobody is served."""
    changes = """
async def starting():
    say("starting")
    try:
        await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)
"""
    with program(changes) as running:
        assert [running.word(), running.word()] == ["lifespan.startup", "starting"]
        running.signal(signal.SIGTERM)
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert words(out) == ENDED


def test_two_signals_during_the_start() -> None:
    """S-LIFE-08: the second one does not wait."""
    changes = """
async def starting():
    say("starting")
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            say("no")
"""
    with program(changes) as running:
        assert [running.word(), running.word()] == ["lifespan.startup", "starting"]
        running.signal(signal.SIGTERM)
        assert running.word() == "no"
        running.signal(signal.SIGTERM)
        status, _, _ = running.finish()
    assert status == 0


@pytest.mark.parametrize("options", ["{}", "{'lifespan': 'on'}"])
def test_a_start_that_fails(options: str) -> None:
    """S-LIFE-05: its message is on standard error, and the status is 1."""
    changes = """
async def lifespan(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""
    with program(changes, options) as running:
        status, out, err = running.finish()
    assert (status, out) == (1, "")
    assert err == "socketify: the application failed to start: no database\n"


def test_sys_exit_in_the_start() -> None:
    """The application says the status, as in a hook."""
    with program("async def starting():\n    sys.exit(3)") as running:
        status, out, err = running.finish()
    assert (status, err) == (3, "")
    assert words(out) == ["lifespan.startup"]


def test_the_limit_of_the_start() -> None:
    """S-LIFE-10."""
    with program(STARTING, "{'startup_timeout': 0.1}") as running:
        status, out, err = running.finish()
    assert status == 1
    assert words(out) == ["lifespan.startup", "starting", "cleaned up"]
    assert err == "socketify: the application has not started within 0.1 seconds (startup_timeout)\n"


@pytest.mark.parametrize(
    ("options", "status", "out"),
    [
        ("{'lifespan': False}", 0, []),
        ("{'lifespan': True}", 0, ["lifespan.startup", *ENDED]),
    ],
)
def test_modes(options: str, status: int, out: list[str]) -> None:
    """S-LIFE-04, S-LIFE-14."""
    with program(options=options) as running:
        said = [] if not out else [running.word()]
        running.listening().signal(signal.SIGTERM)
        ended, rest, err = running.finish()
    assert (ended, err) == (status, "")
    assert said + words(rest) == out


def test_a_server_that_runs_twice() -> None:
    """S-LIFE-01: each run has its own start and end."""
    changes = "run = 0"
    again = """
server.listen({"host": "127.0.0.1", "port": 0}, ready).run()
say("after both")
"""
    with Program(f"{APPLICATION}\n{changes}\noptions = {{}}\n{RUN}{again}") as running:
        for expected in ([*ENDED, "after run"], None):
            assert running.word() == "lifespan.startup"
            with running.listening().client() as client:
                client.send(b"GET /close HTTP/1.1\r\nHost: test\r\n\r\n")
                if expected is not None:
                    assert [running.word() for _ in expected] == expected
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert words(out) == [*ENDED, "after both"]


# ---- several processes ----------------------------------------------------------------------------------------------


def start(project: Project, source: str = "", *arguments: str) -> Command:
    project.write("main.py", APPLICATION + source)
    return project.start("main:application", "--port", "0", *arguments)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_command_line(project: Project, workers: str) -> None:
    """S-LIFE-01, S-LIFE-07, S-CLI-20, S-CLI-21: each worker has a lifespan."""
    command = start(project, "", "--workers", workers)
    with Client(command.port) as client:
        assert client.get("/").body == b"ok"
    count = int(workers)
    until(lambda: command.out.count("lifespan.startup") == count, "all starts")
    if count > 1:
        until(lambda: len(children(command.pid)) == count, "the workers")
    status, out, err = command.stop()
    assert (status, err) == (0, "")
    assert out.count("lifespan.shutdown") == out.count("lifespan.startup")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_start_that_fails_ends_the_command(project: Project, workers: str) -> None:
    """S-LIFE-05, S-CLI-20: with workers too, and it is said once."""
    changes = """
async def lifespan(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""
    status, out, err = start(project, changes, "--workers", workers).finish()
    assert (status, out) == (1, "")
    assert err == "socketify: the application failed to start: no database\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_end_that_fails_is_the_commands_status(project: Project, workers: str) -> None:
    """S-LIFE-07."""
    changes = "\nasync def ending():\n    raise RuntimeError('cannot flush')\n"
    command = start(project, changes, "--workers", workers)
    assert command.port
    status, _, err = command.stop()
    assert status == 1
    assert "RuntimeError: cannot flush" in err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_during_the_start_of_workers(project: Project, workers: str) -> None:
    """S-LIFE-08."""
    command = start(project, STARTING, "--workers", workers)
    until(lambda: "starting" in command.out, "the start")
    status, out, err = command.stop()
    assert (status, err) == (0, "")
    assert out.count("cleaned up") == out.count("starting")


def test_lifespan_of_the_command_line(project: Project) -> None:
    """S-LIFE-04, S-CLI-05: on, off and asginl."""
    project.write("main.py", "async def app(scope, receive, send):\n    raise ValueError(scope['type'])")
    status, _, err = project.run("main", "--port", "0", "--lifespan", "on")
    assert status == 1
    assert "socketify: the application does not speak lifespan: ValueError: lifespan\n" in err
    for options in (["--lifespan", "off"], ["--interface", "asginl"], []):
        command = project.start("main", "--port", "0", *options)
        assert command.port
        status, _, err = command.stop()
        assert (status, err) == (0, "")


def test_a_reload_ends_open_streams(project: Project) -> None:
    """S-CLI-36, S-REG-14: in a second, and not after the grace."""
    pytest.importorskip("watchfiles")
    source = """
async def respond(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    try:
        while True:
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(0.05)
    finally:
        say("stream ended")
"""
    command = start(project, source, "--reload")
    with Client(command.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        until(lambda: b"tick" in client.socket.recv(4096), "the stream")
        project.write("main.py", APPLICATION + source + "\n# changed\n")
        until(lambda: command.out.count("lifespan.startup") == 2, "the second start", 15)
    assert re.search("stream ended\nlifespan.shutdown", command.out), command.out
    assert command.stop()[0] == 0
