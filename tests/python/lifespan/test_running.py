"""``socketify.run`` and ``socketify.serve`` (S-CLI-10)."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import socketify
from socketify import AppListenOptions
from socketify.processes import command_line
from socketify.processes.invocation import Invocation
from socketify.processes.recycling import Recycling
from support import Program, until
from support.client import Client
from support.command import Project

APPLICATION = """\
import asyncio, os, signal, sys
import socketify

def say(word):
    os.write(1, f"{word}\\n".encode())

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        say((await receive())["type"])
        await starting()
        await send({"type": "lifespan.startup.complete"})
        say((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

async def starting(): pass
"""


def program(rest: str) -> Program:
    return Program(f"exec({APPLICATION!r})\n{rest}")


def listening(running: Program) -> int:
    while not (found := re.search(r"Listening on http://127.0.0.1:(\d+) now", word := running.word())):
        assert word in ("", "lifespan.startup"), word
    return int(found[1])


def ask(port: int) -> int:
    with Client(port) as client:
        return int(client.get("/").body)


def test_an_application() -> None:
    """S-CLI-10: names and defaults are those of the command line."""
    with program("socketify.run(app, port=0, max_body_size=10)\nsay('after')") as running:
        port = listening(running)
        assert ask(port) == running.process.pid
        with Client(port) as client:
            assert (
                client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n").answer().status
                == 413
            )
        running.signal(signal.SIGTERM)
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert out.endswith("lifespan.shutdown\n")


def test_several_workers_of_an_application() -> None:
    """S-CLI-10, S-REG-34: they are forks, so they have it."""
    with program("socketify.run(app, port=0, workers=2, disable_listen_log=False)") as running:
        port = listening(running)
        seen: set[int] = set()
        until(lambda: seen.add(ask(port)) or len(seen) == 2, "two workers")
        assert running.process.pid not in seen
        running.signal(signal.SIGTERM)
        assert running.finish()[0] == 0


def test_an_application_by_its_name(project: Project) -> None:
    """S-CLI-10: text is what the command line takes."""
    project.write("site_of_mine.py", APPLICATION)
    project.write(
        "start.py",
        "import socketify\nif __name__ == '__main__':\n    socketify.run('site_of_mine:app', port=0)\n",
    )
    command = project.start(program=[sys.executable, "start.py"])
    assert ask(command.port) == command.pid
    assert command.stop()[0] == 0


def test_reload_loads_what_the_program_has_imported(project: Project) -> None:
    """S-CLI-10, S-CLI-36: it begins anew, in place of the program."""
    pytest.importorskip("watchfiles")
    project.write("beside.py", "value = 'old'\n")
    project.write(
        "main.py",
        """
        import beside, socketify

        def run(app):
            app.get("/", lambda res, req: res.end(beside.value))

        if __name__ == "__main__":
            socketify.run("main:run", port=0, reload=True, reload_include=["*.txt"])
        """,
    )
    command = project.start(program=[sys.executable, "main.py"])

    def answer() -> bytes:
        with Client(command.port) as client:
            return client.get("/").body

    assert answer() == b"old"
    project.write("beside.py", "value = 'new'\n")
    until(lambda: "changed: restarting" in command.err, "the change")
    until(lambda: answer() == b"new", "the new code")
    assert command.stop()[0] == 0


def test_the_forms_of_options() -> None:
    """S-CLI-10: objects where the command line has words."""
    rest = """
behavior = {"message": lambda ws, message, opcode: ws.send(message, opcode)}
socketify.run(
    app, bind=["127.0.0.1:0"], ws=behavior, compression={"minimum_size": 10}, timeout_keep_alive=5, access_log=False,
    trusted_proxies=["10.0.0.0/8", "unix"], lifespan="off", root_path=None,
)
"""
    with program(rest) as running:
        port = listening(running)
        with Client(port) as client:
            answer = client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").answer()
            assert answer.status == 200
        from support.ws_client import connect

        with connect(port, "/") as ws:
            ws.send_text("hello")
            assert ws.recv_message() == "hello"
        running.signal(signal.SIGTERM)
        assert running.finish()[0] == 0


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ({"ws": False}, "websockets", False),
        ({"ws": True}, "websockets", True),
        ({"lifespan": False}, "lifespan", "off"),
        ({"lifespan": True}, "lifespan", "auto"),
        ({"uds": Path("/tmp/x.sock"), "uds_mode": 0o660}, "uds_mode", 0o660),
        ({"proxy_protocol": True}, "app_options", {"proxy_protocol": "required"}),
        ({"header": {"X-A": "1"}}, "app_options", {"headers": [("X-A", "1")]}),
        ({"header": [("X-A", "1"), "X-B: 2"]}, "app_options", {"headers": [("X-A", "1"), ("X-B", "2")]}),
        ({"header": "X-A: a:b"}, "app_options", {"headers": [("X-A", "a:b")]}),
        ({"compression": True, "http2": False}, "app_options", {"compression": True, "http2": False}),
        ({"timeout_graceful_shutdown": 2.5}, "app_options", {"shutdown_timeout": 2.5}),
        ({"bind": ["unix:/a", "unix:/b"]}, "bind", [AppListenOptions(domain=each) for each in ("/a", "/b")]),
        ({"max_requests": 10}, "recycling", Recycling(requests=10)),
        ({"limit_concurrency": 10}, "app_options", {"max_requests": 10}),
    ],
    ids=repr,
)  # fmt: skip
def test_values_that_are_no_text(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], name: str, expected: object
) -> None:
    """S-CLI-10: bools, numbers, paths, lists and dicts."""
    seen: list[Invocation] = []

    def serve(asked: Invocation, *_: object) -> int:
        seen.append(asked)
        return 0

    monkeypatch.setattr(command_line, "serve", serve)
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    socketify.run(application, **options)
    assert getattr(seen[0], name) == expected
    assert seen[0].target is application


async def application(scope: Any, receive: Any, send: Any) -> None: ...


WRONG = [
    ({"prt": 1}, TypeError, "unknown option 'prt': did you mean 'port'?"),
    ({"target": "x"}, TypeError, "unknown option 'target'"),
    ({"port": "http"}, ValueError, "argument -p/--port: expected a whole number from 0 to 65535, not 'http'"),
    ({"port": 1.5}, ValueError, "expected a whole number from 0 to 65535, not '1.5'"),
    ({"max_headers": 0}, ValueError, "argument --max-headers: expected a whole number from 1, not 0"),
    ({"ssl_certfile": "/no/such"}, ValueError, "--ssl-certfile needs --ssl-keyfile"),
    ({"interface": "rack"}, ValueError, "argument --interface: invalid choice: 'rack'"),
    ({"preload": True}, TypeError, "unknown option 'preload'"),
]


@pytest.mark.parametrize(("options", "error", "message"), WRONG, ids=repr)
def test_options_that_are_wrong(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """S-CLI-10: they are exceptions here."""
    with pytest.raises(error, match=re.escape(message)):
        socketify.run(application, **options)
    with pytest.raises(error, match=re.escape(message)):
        asyncio.run(socketify.serve(application, **options))


def test_reload_of_an_object() -> None:
    """S-CLI-10."""
    with pytest.raises(ValueError, match="reload=True loads the application anew: give it as text"):
        socketify.run(application, reload=True)


@pytest.mark.parametrize("options", [{"workers": 2}, {"reload": True}])
def test_several_processes_inside_a_loop(options: dict[str, Any]) -> None:
    """S-CLI-10."""
    with pytest.raises(ValueError, match="workers and reload take several processes"):
        asyncio.run(socketify.serve(application, **options))


def test_run_inside_a_loop() -> None:
    """S-CLI-10."""

    async def main() -> None:
        socketify.run(application)

    with pytest.raises(RuntimeError, match=r"use await socketify.serve\(\.\.\.\)"):
        asyncio.run(main())


# ---- serve ----------------------------------------------------------------------------------------------------------

SERVE = """
async def main():
    beside = asyncio.create_task(asyncio.sleep(1000))
    await socketify.serve(app, port=0)
    say("served, and beside " + ("ended" if beside.done() else "lives"))

asyncio.run(main())
say("after")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_until_a_signal(number: int) -> None:
    """S-CLI-10, S-LIFE-07: it returns, and the loop goes on."""
    with program(SERVE) as running:
        port = listening(running)
        assert ask(port) == running.process.pid
        running.signal(number)
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert out.strip().split("\n") == ["lifespan.shutdown", "served, and beside lives", "after"]


def test_serve_until_it_is_cancelled() -> None:
    """S-CLI-10: the application ends before the caller goes on."""
    rest = """
async def main():
    serving = asyncio.create_task(socketify.serve(app, port=0))
    await asyncio.sleep(0.3)
    serving.cancel()
    try:
        await serving
    except asyncio.CancelledError:
        say("cancelled")

asyncio.run(main())
"""
    with program(rest) as running:
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert out.split("\n")[-3:] == ["lifespan.shutdown", "cancelled", ""]


def test_serve_a_server_that_was_made_before() -> None:
    """S-CLI-10: it gets an App of this loop."""
    rest = """
server = socketify.ASGI(app)
async def main():
    await socketify.serve(server, port=0)
asyncio.run(main())
"""
    with program(rest) as running:
        assert ask(listening(running)) == running.process.pid
        running.signal(signal.SIGTERM)
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert out.endswith("lifespan.shutdown\n")


def test_two_servers_in_one_loop() -> None:
    """S-CLI-10, S-LIFE-13: one after the other ends by its own close()."""
    rest = """
from socketify import App
async def main():
    native = App()
    native.get("/", lambda res, req: (res.end(str(os.getpid())), native.close()))
    first = asyncio.create_task(socketify.serve(native, port=0))
    second = asyncio.create_task(socketify.serve(app, port=0))
    await first
    say("first ended")
    second.cancel()
    await asyncio.wait([second])

asyncio.run(main())
"""
    with program(rest) as running:
        port = listening(running)
        assert listening(running) != port
        assert ask(port) == running.process.pid
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert "first ended" in out
    assert out.endswith("lifespan.shutdown\n")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("raise SystemExit(0)", None),
        ("await asyncio.sleep(1000)", "the application has not started within 0.2 seconds"),
    ],
)
def test_serve_that_cannot_start(start: str, message: str | None) -> None:
    """S-LIFE-05, S-LIFE-10: it is the caller's exception."""
    rest = f"""
async def starting():
    {start}
async def main():
    try:
        await socketify.serve(app, port=0, startup_timeout=0.2)
    except RuntimeError as error:
        say(str(error))
asyncio.run(main())
"""
    with program(rest) as running:
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert (message is None) or message in out


def test_serve_without_its_port() -> None:
    """S-LIFE-07: the application has started, so it ends."""
    rest = """
import socket
other = socket.create_server(("127.0.0.1", 0))
async def main():
    try:
        await socketify.serve(app, port=other.getsockname()[1])
    except RuntimeError as error:
        say(str(error))
asyncio.run(main())
other.close()
"""
    with program(rest) as running:
        status, out, err = running.finish()
    assert (status, err) == (0, "")
    assert out.startswith("lifespan.startup\nlifespan.shutdown\nFailed to listen on port ")


def test_serve_what_cannot_be_loaded() -> None:
    """S-CLI-10."""
    with pytest.raises(RuntimeError, match="Cannot load module no_such_module"):
        asyncio.run(socketify.serve("no_such_module:app"))
    made = socketify.App()
    with pytest.raises(RuntimeError, match="was not made in this event loop"):
        asyncio.run(socketify.serve(made))
    made.dispose()
