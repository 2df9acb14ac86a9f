"""The class ``WSGI``: G-W-01 to G-W-03, S-WSGI-36, S-WSGI-42."""

from __future__ import annotations

import ast
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from socketify import WSGI, AppListenOptions
from support import Program, until
from support.client import Client
from support.command import Project
from support.tls_client import Certificates, TlsClient
from support.wsgi import OK, TEXT, Environ, answering, dump, read


@contextlib.contextmanager
def served(server: WSGI) -> Iterator[int]:
    """Serves on a thread; gives the port."""
    configs: list[AppListenOptions] = []
    server.listen(0, configs.append)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: configs, "it listens")
        yield configs[0].port
    finally:
        server.close()
        thread.join(20)
        assert not thread.is_alive()


def ask(port: int, path: str = "/") -> Any:
    client = Client(port)
    try:
        return client.request("GET", path).answer()
    finally:
        client.close()


def test_serving() -> None:
    """G-W-01: listen, run and close."""
    with served(WSGI(answering(b"hello"))) as port:
        assert ask(port).body == b"hello"


def test_serving_again() -> None:
    """G-W-01."""
    server = WSGI(answering(b"hello"), threads=2)
    for _ in range(2):
        with served(server) as port:
            assert ask(port).body == b"hello"


def test_environ_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """G-W-03, S-WSGI-02, S-WSGI-10."""
    monkeypatch.setenv("A_SECRET", "in an error page")
    with served(WSGI(dump, root_path="/api/")) as port:
        environ = read(ask(port, "/api/x").body)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/api", "/x")
    assert environ["A_SECRET"] == "in an error page"
    assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"]) == (False, False)
    with served(WSGI(dump, environ=False, threads=2)) as port:
        environ = read(ask(port).body)
    assert "A_SECRET" not in environ
    assert environ["wsgi.multithread"] is True


def test_one_thread_by_default() -> None:
    """S-WSGI-42, S-WSGI-47, S-REG-20."""
    threads: set[int] = set()

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        threads.add(threading.get_ident())
        start_response(OK, TEXT)
        return [b"x"]

    with served(WSGI(application)) as port:
        clients = [Client(port) for _ in range(64)]
        for client in clients:
            client.request()
        for client in clients:
            assert client.answer().body == b"x"
            client.close()
    assert len(threads) == 1


def test_several_processes() -> None:
    """G-W-01, S-WSGI-10: each of them knows that there are others."""
    source = """
        from socketify import WSGI

        def application(environ, start_response):
            start_response("200 OK", [])
            return [repr((os.getpid(), environ["wsgi.multiprocess"])).encode()]

        WSGI(application).listen(0, ready).run(workers=2)
    """
    with Program(source) as program:
        program.listening()
        seen: dict[int, bool] = {}

        def look() -> bool:
            pid, several = eval(ask(program.port).body)
            seen[pid] = several
            return len(seen) == 2

        until(look, "both serve")
        assert set(seen.values()) == {True}
        program.signal(15)
        code, _, err = program.finish()
        assert code == 0, err


def test_websockets_of_a_behaviour() -> None:
    """G-W-02: beside the application."""
    from support.ws_client import connect

    messages: list[Any] = []

    def message(ws: Any, data: Any, opcode: Any) -> None:
        messages.append(data)
        ws.send(data, opcode)

    with served(WSGI(answering(b"http"), websocket={"message": message})) as port:
        socket = connect(port, "/any/path")
        socket.send_text("hello")
        assert socket.recv_message() == "hello"
        socket.close()
        assert ask(port).body == b"http"


def test_websockets_of_an_asgi_application() -> None:
    """G-W-02, S-WSGI-36, S-LIFE-14: its loop runs beside, and only HTTP is the WSGI application's."""
    from support.ws_client import connect

    heard: list[str] = []

    async def sockets(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope["type"])
        if scope["type"] == "lifespan":
            for word in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{word}"
                await send({"type": f"lifespan.{word}.complete"})
            return
        assert scope["path"] == "/any/path"
        await receive()
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"].upper()})

    for lifespan in (False, True):
        heard.clear()
        with served(WSGI(answering(b"http"), websocket=sockets, lifespan=lifespan)) as port:
            socket = connect(port, "/any/path")
            socket.send_text("hello")
            assert socket.recv_message() == "HELLO"
            socket.close()
            assert ask(port).body == b"http"
        assert heard == (["lifespan", "websocket"] if lifespan else ["websocket"])


def test_without_websockets() -> None:
    """G-W-02: a handshake is a request like any other."""
    with served(WSGI(answering(b"http"))) as port:
        client = Client(port)
        client.request(
            "GET", "/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )  # fmt: skip
        assert client.answer().body == b"http"
        client.close()


def test_tls(certificates: Certificates) -> None:
    """S-WSGI-36, S-WSGI-07."""
    with served(WSGI(dump, certificates.options())) as port:
        client = TlsClient(port, certificates.context())
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        environ = read(client.answer().body)
        client.close()
    assert (environ["wsgi.url_scheme"], environ["HTTPS"]) == ("https", "on")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"app": "module:app"}, TypeError, "'module:app'"),
        ({"root_path": "api"}, ValueError, "'api'"),
        ({"threads": 0}, ValueError, "threads must be a whole number from 1, not 0"),
        ({"threads": "4"}, ValueError, "threads must be a whole number from 1, not '4'"),
        ({"threads_idle_timeout": -1}, ValueError, "threads_idle_timeout"),
        ({"websocket": 5}, TypeError, "websocket must be"),
        ({"websocket_options": {"no_such_key": 1}}, ValueError, "no_such_key"),
        ({"max_body_siez": 5}, TypeError, "max_body_siez"),
        ({"max_body_size": -1}, ValueError, "max_body_size"),
    ],
)
def test_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    """G-W-01: each is checked, and the message says what was expected."""
    given: dict[str, Any] = {"app": answering(b""), **arguments}
    with pytest.raises(error, match=text):
        WSGI(**given)


def test_options_of_app() -> None:
    """G-W-01: those of the inner application count."""
    server = WSGI(answering(b"x"), max_body_size=10, server_header="mine")
    with served(server) as port:
        client = Client(port)
        client.request("POST", body=b"x" * 11)
        answer = client.answer()
        client.close()
    assert (answer.status, answer.header("server")) == (413, "mine")


def test_the_command_line(project: Project) -> None:
    """G-W-01, S-WSGI-42: the application is recognized, and ``--threads`` has its other servers' name too."""
    project.write(
        "site_app.py",
        """
        import threading

        def app(environ, start_response):
            start_response("200 OK", [])
            return [repr((threading.current_thread().name, environ["wsgi.multithread"])).encode()]
        """,
    )
    for arguments, expected in (
        (("--threads", "3"), ("socketify-wsgi-1", True)),
        (("--blocking-threads", "2", "--blocking-threads-idle-timeout", "5s"), ("socketify-wsgi-1", True)),
    ):
        command = project.start("site_app:app", "--port", "0", *arguments)
        assert ast.literal_eval(ask(command.port).body.decode()) == expected
        command.stop()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("end", ["os._exit(3)", "sys.exit(3)", "raise RuntimeError", "pass"])
def test_an_application_that_forks(threads: int, end: str) -> None:
    """G-W-01: the child ends with the call, and does nothing to its parent's clients."""
    source = f"""
        import warnings
        from socketify import WSGI

        warnings.simplefilter("ignore", DeprecationWarning)

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/":
                start_response("200 OK", [])
                return [b"still here"]
            pid = os.fork()
            if pid == 0:
                start_response("200 OK", [])(b"from the child")
                {end}
                return [b"from the child"]
            _, status = os.waitpid(pid, 0)
            start_response("200 OK", [])
            return [b"%d" % os.waitstatus_to_exitcode(status)]

        WSGI(application, threads={threads}).listen(0, ready).run()
    """
    with Program(source) as program:
        program.listening()
        expected = {"raise RuntimeError": b"1", "pass": b"0"}.get(end, b"3")
        assert ask(program.port, "/fork").body == expected
        assert ask(program.port).body == b"still here"
        program.signal(15)
        assert program.finish()[0] == 0
