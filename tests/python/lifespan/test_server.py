"""``ASGI(app)``: its arguments, where it listens, and its processes (api.md G.1)."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from socketify import ASGI, App, AppListenOptions, AppOptions
from support import Program, until
from support.client import Client
from support.command import gone, orphans_gone
from support.ws_client import TEXT, connect

PID = """\
import asyncio, os, signal, sys
from socketify import ASGI

async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""

HOST = '{"host": "127.0.0.1", "port": 0}'


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi"})


def ask(port: int) -> int:
    with Client(port) as client:
        return int(client.get("/").body)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"app": None}, TypeError, "app must be an ASGI application, a callable with scope, receive and send, not None"),
        ({"app": "main:app"}, TypeError, "not 'main:app'"),
        ({"websocket": "auto"}, TypeError, "websocket must be True, False, None, a behaviour as App.ws takes it, or an"),
        ({"websocket": 1}, TypeError, "not 1"),
        ({"websocket": {"mesage": print}}, ValueError, "unknown key 'mesage'"),
        ({"websocket_options": []}, TypeError, "websocket_options must be a dict or None, not []"),
        ({"websocket_options": {"idle": 1}}, ValueError, "unknown key 'idle'"),
        ({"websocket_options": {"idle_timeout": "20"}}, TypeError, "must be a number, not '20'"),
        ({"websocket_options": {"message": print}}, ValueError, "websocket_options has the listener 'message'"),
        ({"lifespan": "never"}, ValueError, "lifespan must be True, False, 'auto', 'on' or 'off', not 'never'"),
        ({"root_path": "api"}, ValueError, "root_path must be empty or begin with /, not 'api'"),
        ({"root_path": b"/api"}, TypeError, "root_path must be a str, not b'/api'"),
        ({"startup_timeout": "60"}, ValueError, "startup_timeout must be a number of seconds from 0, not '60'"),
        ({"startup_timeout": -1}, ValueError, "startup_timeout must be a number of seconds from 0, not -1"),
        ({"max_body_size": -1}, ValueError, "max_body_size must be a whole number from 0, not -1"),
        ({"port": 8000}, TypeError, "ASGI() got an unexpected keyword argument 'port': expected an option of App"),
        ({"options": {}}, RuntimeError, "{}"),
    ],
)  # fmt: skip
def test_arguments_that_are_wrong(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """G-A-04, G-A-05: the error names the value, and what was expected."""
    given = {"app": application, **arguments}
    with pytest.raises(error, match=re.escape(message)):
        ASGI(**given)


def test_options_of_app_go_to_the_inner_app() -> None:
    server = ASGI(
        application, shutdown_timeout=7, max_body_size=10, server_name="x", task_factory_max_items=5
    )
    assert isinstance(server._app, App)
    assert server._app.shutdown_timeout == 7
    server.close()


def test_tls_that_cannot_be_set_up() -> None:
    with pytest.raises(RuntimeError, match="Failed to create connection: "):
        ASGI(application, AppOptions(key_file_name="/no/such", cert_file_name="/no/such"))


@pytest.mark.parametrize("where", ["3000", {"prt": 1}, 70000, object()])
def test_places_that_are_none(where: Any) -> None:
    """G-A-01: listen() says at once what it does not take."""
    with pytest.raises(RuntimeError):
        ASGI(application).listen(where)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True, 100_000])
def test_numbers_of_workers_that_are_none(workers: Any) -> None:
    """G-A-02."""
    with pytest.raises(ValueError, match="workers must be a whole number from 1 to 1024, not ") as raised:
        ASGI(application).listen(0).run(workers=workers)
    assert repr(workers) in str(raised.value)


def test_running_without_a_place() -> None:
    """G-A-02."""
    with pytest.raises(RuntimeError, match=r"call listen\(\.\.\.\) first"):
        ASGI(application).run()


def test_several_places() -> None:
    """G-A-01, D-L-11: a port, a dict, an object of options, a Unix socket and a socket that listens."""
    path = f"/tmp/socketify-asgi-{os.getpid()}.sock"
    source = f"""
    {PID!r}
    exec({PID!r})
    import socket
    from socketify import AppListenOptions
    own = socket.create_server(("127.0.0.1", 0))
    server = ASGI(application)
    server.listen(0, ready).listen({HOST}, ready).listen(AppListenOptions(host="127.0.0.1"), ready)
    server.listen({{"domain": {path!r}}}, lambda config: say("at " + config.domain)).listen(own, ready)
    server.run()
    """
    with Program(source) as running:
        ports = [running.listening().port for _ in range(3)]
        assert running.word() == f"at {path}"
        ports.append(running.listening().port)
        assert [ask(port) for port in ports] == [running.process.pid] * 4
        with Client(path=path) as client:
            assert int(client.get("/").body) == running.process.pid
        running.signal(signal.SIGTERM)
        assert running.finish()[0] == 0
    Path(path).unlink(missing_ok=True)


def test_closing_from_another_thread() -> None:
    """G-A-03."""
    ports: list[int] = []
    server = ASGI(application)
    server.listen({"host": "127.0.0.1", "port": 0}, lambda config: ports.append(config.port))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: ports, "listening")
    with Client(ports[0]) as client:
        assert client.get("/").body == b"asgi"
    assert server.close() is server
    thread.join(20)
    assert not thread.is_alive()
    server.close()


def test_a_native_behaviour() -> None:
    """G-A-04, G-A-05: sockets of every path; options go before the dict, and the defaults behind it."""
    seen: list[Any] = []

    def echo(ws: Any, message: Any, opcode: Any) -> None:
        seen.append(message)
        ws.send(message, opcode)

    behavior = {"message": echo, "max_payload_length": 1}
    ports: list[int] = []
    server = ASGI(application, websocket=behavior, websocket_options={"max_payload_length": 100})
    server.listen({"host": "127.0.0.1", "port": 0}, lambda config: ports.append(config.port))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: ports, "listening")
        with connect(ports[0], "/any/path") as ws:
            ws.send_text("hello")
            assert ws.recv_frame()[2:] == (TEXT, b"hello")
        with Client(ports[0]) as client:
            assert client.get("/any/path").body == b"asgi"
    finally:
        server.close()
        thread.join(20)
    assert seen == ["hello"]


def test_headers_of_the_server() -> None:
    """S-ASGI-47: those of the application go before ours."""

    async def framed(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"x-frame-options", b"SAMEORIGIN")] if scope["path"] == "/own" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    ports: list[int] = []
    server = ASGI(
        framed, server_header="", date_header=False, headers={"X-Frame-Options": "DENY", "X-B": "1"}
    )
    server.listen({"host": "127.0.0.1", "port": 0}, lambda config: ports.append(config.port))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: ports, "listening")
        with Client(ports[0]) as client:
            answer = client.get("/")
            assert [answer.header(name) for name in ("Date", "Server", "X-B")] == [None, None, "1"]
            assert answer.header("X-Frame-Options") == "DENY"
            assert client.get("/own").header("X-Frame-Options") == "SAMEORIGIN"
    finally:
        server.close()
        thread.join(20)


# ---- several processes ----------------------------------------------------------------------------------------------


def workers(source: str) -> Program:
    return Program(f"exec({PID!r})\n{source}")


def seen_processes(port: int, count: int) -> set[int]:
    found: set[int] = set()
    until(lambda: found.add(ask(port)) or len(found) == count, f"{count} processes")
    return found


def test_several_workers() -> None:
    """G-A-02: the program looks after them; its port is one, and the handler hears of it once."""
    with workers(f"ASGI(application).listen({HOST}, ready).run(workers=2)\nsay('after run')") as running:
        port = running.listening().port
        pids = seen_processes(port, 2)
        assert running.process.pid not in pids
        os.kill(min(pids), signal.SIGKILL)
        until(lambda: len(seen_processes(port, 2) - pids) == 1, "another worker")
        running.signal(signal.SIGTERM)
        status, out, err = running.finish()
        assert (status, out) == (0, "")
        assert "was killed by SIGKILL: starting another" in err


def test_close_of_several_workers() -> None:
    """G-A-03: run() returns then."""
    source = f"""
server = ASGI(application).listen({HOST}, ready)
signal.signal(signal.SIGUSR1, lambda *_: server.close())
server.run(workers=2)
say("after run")
"""
    with workers(source) as running:
        pids = seen_processes(running.listening().port, 2)
        running.signal(signal.SIGUSR1)
        status, out, err = running.finish()
        assert (status, out, err) == (0, "after run\n", "")
        gone(*pids)


def test_workers_beside_the_program() -> None:
    """G-A-02, G-A-03: run() returns, and close() ends them."""
    source = f"""
server = ASGI(application).listen({HOST}, ready)
server.run(workers=2, block=False)
say("goes on")
signal.sigwait([signal.SIGUSR1])
server.close()
say("closed")
"""
    with workers("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n" + source) as running:
        lines = [running.word(), running.word()]
        assert "goes on" in lines
        [port] = [int(line.split()[1]) for line in lines if line.startswith("port")]
        pids = seen_processes(port, 2)
        running.signal(signal.SIGUSR1)
        assert running.word() == "closed"
        orphans_gone(*pids)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
        status, out, err = running.finish()
        assert (status, out, err) == (0, "", "")


@pytest.mark.parametrize("number", [0, signal.SIGKILL])
def test_workers_end_with_the_program(number: int) -> None:
    """G-A-02: however it ends."""
    source = f"""
server = ASGI(application).listen({HOST}, ready)
server.run(workers=1, block=False)
say("goes on")
if {number}:
    signal.pause()
else:
    sys.stdin.readline()
    time.sleep(0.5)
"""
    with workers(source) as running:
        lines = [running.word(), running.word()]
        [port] = [int(line.split()[1]) for line in lines if line.startswith("port")]
        pid = ask(port)
        if number:
            running.signal(number)
        running.process.wait(20)
        orphans_gone(pid)


def test_a_port_in_use() -> None:
    """D-L-08: it is run() that says it, before there is a process."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for options in ({}, {"workers": 2}, {"block": False}):
            server = ASGI(application).listen(AppListenOptions(host="127.0.0.1", port=port))
            with pytest.raises(RuntimeError, match=f"Failed to listen on port {port} of host 127.0.0.1: "):
                server.run(**options)
