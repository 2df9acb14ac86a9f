"""The examples work: each is run as it stands, on a free port, and asked what its row of api.md H demands.

An example without a test of its own here is visited at least: its front page, and its WebSockets.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from socketify.testing import Answer, Connection, HandshakeRefused, WebSocketClosed, WebSocketSession
from support import Program, until

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
RUNNER = ROOT / "tests/python/support/run_program.py"

#: Listens on the test's port, prints it, and changes nothing else.
RUN = """
import runpy
listen = App.listen
def elsewhere(self, where=None, handler=None):
    if getattr(where, "domain", None):
        where.domain = os.environ["EXAMPLE_SOCKET"]
    elif isinstance(where, int) and where:
        where = {"host": "127.0.0.1", "port": int(os.environ.get("EXAMPLE_PORT", 0))}
    elif where:
        where.port = 0
    def listening(config):
        if handler is not None:
            handler(config)
        # Readiness is the loop's first turn: from then on everything works.
        self.loop.loop.call_soon(ready, config)
    return listen(self, where, listening)
App.listen = elsewhere
os.chdir(os.path.dirname(sys.argv[1]))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


class Example:
    """An example that runs in a process of its own."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.heard: list[str] = []
        self.port = 0

    def hear(self, expected: str) -> re.Match[str]:
        """Reads the output of the example up to a line with ``expected``."""
        while True:
            line = self.program.word()
            assert line, f"never: {expected}; only {self.heard}, {self.program.finish()}"
            self.heard.append(line)
            if found := re.search(expected, line):
                return found

    def connect(self) -> Connection:
        return Connection(("127.0.0.1", self.port), 20)

    def ask(self, method: str, path: str = "/", **options: Any) -> Answer:
        with self.connect() as connection:
            return connection.request(method, path, **options)

    def get(self, path: str = "/", **options: Any) -> Answer:
        return self.ask("GET", path, **options)

    def websocket(self, path: str = "/", protocols: tuple[str, ...] = (), **options: Any) -> WebSocketSession:
        return WebSocketSession(self.connect(), path, protocols, options)  # type: ignore[arg-type]

    def end(self) -> tuple[str, str]:
        """Stops it, as Ctrl+C does; returns the rest of its output."""
        self.program.signal(signal.SIGINT)
        code, out, err = self.program.finish()
        assert code == 0, err
        assert "Traceback" not in err, err
        return out, err


@contextmanager
def example(name: str, ready: str = "^port ([0-9]+)$", **environment: str) -> Iterator[Example]:
    """Runs one; it is stopped at the end of the block, unless it has ended, and must not have failed."""
    with Program(RUN, str(EXAMPLES / name), **environment) as program:
        running = Example(program)
        running.port = int(running.hear(ready)[1])
        yield running
        if program.process.poll() is None:
            running.end()


def test_hello_world() -> None:
    """H-01, H-41."""
    with example("hello_world.py") as app:
        assert (app.get().status, app.get().text) == (200, "Hello, World!\n")


def test_automatic_port() -> None:
    """H-02: the printed port is the real one."""
    with example("automatic_port.py", r"http://localhost:(\d+)") as app:
        assert app.port > 1024
        assert app.get().text == "Here I am\n"


def test_listen_options() -> None:
    """H-03: host and port in the callback."""
    with example("listen_options.py") as app:
        assert app.heard[0] == f"Listening on http://127.0.0.1:{app.port}"
        assert app.get().status == 200


def test_unix_socket(tmp_path: Path) -> None:
    """H-04, also where a stale file is."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    for _ in range(2):
        with example("unix_socket.py", EXAMPLE_SOCKET=path) as app:
            assert app.heard[0] == f"Listening on {path}"
            with Connection(path, 20) as connection:
                assert connection.request("GET").text == "Hello over a Unix socket\n"


def https(directory: Path, passphrase: str) -> str:
    """A copy of the example, beside a key and a certificate made as it describes."""
    (directory / "misc").mkdir()
    made = (
        (EXAMPLES / "https.py")
        .read_text()
        .split("mkdir -p misc\n")[1]
        .split("Try it")[0]
        .replace("\\\\", "\\")
    )
    subprocess.run(
        made.replace("pass:1234", f"pass:{passphrase}"),
        shell=True,
        cwd=directory,
        check=True,
        capture_output=True,
    )
    return str(shutil.copy(EXAMPLES / "https.py", directory))


def test_https(tmp_path: Path) -> None:
    """H-07: the encrypted key with its passphrase, and a client that verifies."""
    path = https(tmp_path, "1234")
    context = ssl.create_default_context(cafile=str(tmp_path / "misc" / "cert.pem"))
    with example(path) as app, Connection(("127.0.0.1", app.port), 20, context) as client:
        assert client.request("GET").text == "Hello over TLSv1.3\n"


def test_https_with_another_passphrase(tmp_path: Path) -> None:
    """H-07: RuntimeError."""
    with Program(RUN, https(tmp_path, "12345")) as program:
        code, _, err = program.finish()
    assert code == 1
    assert "RuntimeError: Failed to create connection: key_file_name" in err
    assert "the passphrase is wrong" in err


def test_async_handlers() -> None:
    """H-08: both ways to wait, the 404, and a client that leaves during the delay."""
    with example("async_handlers.py") as app:
        with app.connect() as leaving:
            leaving.send_request("GET", "/?delay=0.2")
        assert app.get("/?delay=0.3").text == "Sorry for the delay\n"
        assert app.get("/").text == "At once\n"
        assert app.get("/slow", headers={"User-Agent": "me"}).json() == {"waited": True, "user-agent": "me"}
        assert app.get("/none").status == 404


def test_basics() -> None:
    """H-10: one assertion for each route."""
    with example("basics.py") as app, app.connect() as client:

        def get(path: str, **options: Any) -> Answer:
            return client.request("GET", path, **options)

        assert get("/").text == "Welcome\n"
        assert client.request("PUT", "/method?a=1", body="").text == "PUT /method?a=1\n"
        assert get("/user/7").text == "User number 7\n"
        assert get("/user/agent", headers={"User-Agent": "me"}).text == "You use me\n"
        assert get("/user/nobody").status == 404
        assert get("/query?q=rust&q=python").json() == {"first": "rust", "all": {"q": ["rust", "python"]}}
        assert "x-mine: yes\n" in get("/headers", headers={"X-Mine": "yes"}).text
        answer = get("/json")
        assert answer.headers["content-type"] == "application/json"
        assert sorted(answer.json()["a set"]) == ["as", "well"]
        assert get("/download").headers["content-disposition"] == 'attachment; filename="note.txt"'
        answer = get("/cookie", cookies={"seen": "before"})
        assert answer.text == "Last time: before\n"
        assert answer.cookies == {"seen": "just%20now"}
        attributes = answer.headers["set-cookie"].lower()
        for attribute in ("path=/", "httponly", "samesite=none", "secure", "expires="):
            assert attribute in attributes
        assert get("/parts").text == "An answer in several parts\n"
        answer = get("/send")
        assert (answer.status, answer.headers["x-rate-limit-remaining"]) == (201, "9")
        assert (get("/empty").status, get("/empty").body) == (204, b"")
        assert (get("/old").status, get("/old").headers["location"]) == (301, "/")
        assert get("/none").status == 404


def test_error_handler() -> None:
    """H-11: for plain handlers with the request, for coroutines without."""
    with example("error_handler.py") as app:
        assert (app.get("/sync").status, app.get("/sync").json()) == (500, {"error": "ValueError"})
        assert (app.get("/async").status, app.get("/async").json()) == (500, {"error": "LookupError"})
        app.program.signal(signal.SIGINT)
        _, _, err = app.program.finish()
        assert "/sync failed: raised by a plain function" in err
        assert "a coroutine failed: raised by a coroutine" in err


def test_graceful_shutdown() -> None:
    """H-12: requests in progress are answered, and the program goes on after ``run``."""
    with example("graceful_shutdown.py") as app, app.connect() as slow:
        slow.send_request("GET", "/slow")
        # Answered by the same thread, so the request before is in progress.
        assert app.get("/shutdown").text == "Goodbye\n"
        assert slow.answer().text == "Done, in spite of the shutdown\n"
        code, out, err = app.program.finish()
        assert (code, err) == (0, "")
        assert out.splitlines() == ["The last request has been answered", "Closed"]


def test_json_serializer() -> None:
    """H-13: values beyond the standard library, both ways."""
    with example("json_serializer.py") as app:
        answer = app.get()
        assert (answer.body, answer.headers["content-type"]) == (
            b'{"name":"Ada","born":"1815-12-10"}',
            "application/json",
        )
        assert app.ask("POST", json={"name": "Ada"}).body == b'{"hello":"Ada"}'
        assert app.ask("POST", body="{").body == b'{"hello":"stranger"}'


def test_better_logging() -> None:
    """H-14: method, URL and a header in the log."""
    with example("better_logging.py") as app:
        assert app.get("/?a=1", headers={"User-Agent": "me"}).status == 200
        _, err = app.end()
        assert re.search(r"INFO GET /\?a=1 by me: \d+ µs$", err, re.MULTILINE), err


def test_proxy() -> None:
    """H-19: the address of a PROXY v2 preface, and none without."""
    with example("proxy.py") as app:
        assert app.get("/").text == "client: unknown\nconnected: 127.0.0.1\n"
        addresses = (
            socket.inet_aton("192.0.2.7") + socket.inet_aton("127.0.0.1") + struct.pack("!HH", 1234, 80)
        )
        preface = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(addresses)) + addresses
        with app.connect() as client:
            assert (
                client.send(preface).request("GET", "/any").text
                == "client: 192.0.2.7\nconnected: 127.0.0.1\n"
            )
        assert app.get("/address", headers={"X-Forwarded-For": "192.0.2.7"}).text == "192.0.2.7\n"


def test_static_files() -> None:
    """H-20: a directory with types, ranges and conditions; one file; missing files; nothing from outside."""
    content = (EXAMPLES / "static_files.py").read_bytes()
    with example("static_files.py") as app:
        answer = app.get("/files/static_files.py")
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["content-type"] == "text/x-python"
        assert app.get("/files/chat/index.html").headers["content-type"] == "text/html"
        ranged = app.get("/files/static_files.py", headers={"Range": "bytes=3-9"})
        assert (ranged.status, ranged.body) == (206, content[3:10])
        unchanged = {"If-Modified-Since": answer.headers["last-modified"]}
        assert app.get("/files/static_files.py", headers=unchanged).status == 304
        assert app.get("/download").headers["content-disposition"] == 'attachment; filename="program.py"'
        assert (app.get("/files/nothing").status, app.get("/files/nothing").text) == (
            404,
            "There is no /files/nothing.\n",
        )
        assert app.get("/files/%2e%2e/README.md").status == 404


def test_file_stream() -> None:
    """H-21: whole and in part, exact to the byte."""
    content = (EXAMPLES / "file_stream.py").read_bytes().upper()
    with example("file_stream.py") as app:
        assert app.get().body == content
        part = app.get(headers={"Range": "bytes=10-99"})
        assert (part.status, part.body) == (206, content[10:100])
        assert part.headers["content-range"] == f"bytes 10-99/{len(content)}"


@pytest.mark.parametrize("engine", ["jinja2", "mako"])
def test_templates(engine: str) -> None:
    """H-23, H-24, H-40: a page in a page, as HTML, with a visitor's text escaped."""
    with example(f"template_{engine}.py") as app:
        answer = app.get("/", params={"name": "<b>Ada</b>"})
        assert answer.headers["content-type"] == "text/html"
        assert "<title>Hello</title>" in answer.text
        assert "<h1>Hello, &lt;b&gt;Ada&lt;/b&gt;</h1>" in answer.text
        assert "<li>pears</li>" in answer.text


def test_graphql() -> None:
    """H-25, H-26, H-37: data by POST, errors as data, a page by GET."""
    with example("graphql_api.py") as app:
        query = {"query": "query Find($id: Int!) { user(id: $id) { name } }", "variables": {"id": 2}}
        assert app.ask("POST", json=query).json() == {"data": {"user": {"name": "Grace"}}}
        assert app.ask("POST", json={"query": "{ user(id: 9) { name } }"}).json() == {"data": {"user": None}}
        assert "errors" in app.ask("POST", json={"query": "{ nobody }"}).json()
        assert app.ask("POST", body="{").status == 400
        assert app.get().headers["content-type"] == "text/html"


def test_request_cache() -> None:
    """H-27, H-38: a burst fetches once, a cached value is not fetched again, and an invalid number is passed
    on."""
    with example("request_cache.py") as app:
        texts: list[str] = []
        threads = [threading.Thread(target=lambda: texts.append(app.get("/7").text)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert texts == ["7 squared is 49, which took 1 fetches\n"] * 5
        assert app.get("/8").text == "8 squared is 64, which took 2 fetches\n"
        assert app.get("/7").text == texts[0]
        assert app.get("/seven").status == 404


def test_websocket_echo() -> None:
    """H-28: text and binary come back with their type."""
    with example("websocket_echo.py") as app, app.websocket("/echo") as ws:
        ws.send("text")
        assert ws.receive() == "text"
        ws.send(b"\0\1")
        assert ws.receive() == b"\0\1"


def test_websocket_subprotocol() -> None:
    """H-29: the handshake by hand, and HTTP beside it."""
    with example("websocket_subprotocol.py") as app:
        with app.websocket("/", ("v1.chat", "v2.chat")) as ws:
            assert (ws.protocol, ws.receive()) == ("v2.chat", "We speak v2.chat")
            ws.send("echo")
            assert ws.receive() == "echo"
        with pytest.raises(HandshakeRefused, match=r"v2\.chat, v1\.chat is needed"):
            app.websocket("/", ("other",))
        assert app.get().text == "A WebSocket is here\n"


def test_websocket_upgrade() -> None:
    """H-30: the handshake ends when the coroutine has decided; a client that leaves before does no harm."""
    with example("websocket_upgrade.py") as app:
        session = app.get("/login?name=Ada").cookies["session"]
        with app.connect() as leaving:
            leaving.send_request("GET", "/private", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        with app.websocket("/private", cookies={"session": session}) as ws:
            assert ws.answer.cookies == {"visited": "yes"}
            assert ws.receive() == "Hello Ada"
            ws.send("a word")
            assert ws.receive() == "Ada has said 1 things"
        with pytest.raises(HandshakeRefused) as refused:
            app.websocket("/private")
        assert refused.value.answer.status == 401


def test_websocket_close() -> None:
    """H-31: with a code, or cut off; the server notices both."""
    with example("websocket_close.py") as app:
        for word, code in (("end", 4000), ("close", 1006)):
            with app.websocket("/") as ws:
                ws.send("still open")
                assert ws.receive() == "still open"
                ws.send(word)
                assert ws.wait_closed().code == code
            app.hear(r"^closed with \d+$")


def test_pubsub() -> None:
    """H-32: all get it, the sender too, and each join and leave."""
    with example("pubsub.py") as app, app.websocket("/news") as first:
        assert first.receive() == "1 here"
        with app.websocket("/news") as second:
            assert [first.receive(), second.receive()] == ["2 here"] * 2
            second.send("news")
            assert [first.receive(), second.receive()] == ["news"] * 2
            assert app.ask("POST", "/news", body="rain").text == "sent to 2\n"
            assert [first.receive(), second.receive()] == ["rain"] * 2
        assert first.receive() == "1 here"


def test_drain() -> None:
    """H-33: a slow reader gets every message in order, so drain is called whenever it has to be."""
    with example("drain.py") as app:
        connection = app.connect()
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with WebSocketSession(connection, "/", (), {}) as ws:
            assert [ws.receive() for _ in range(50_000)] == [f"message {n}" for n in range(1, 50_001)]
            with pytest.raises(WebSocketClosed, match="closed with 1000: that was all"):
                ws.receive()


def test_backpressure() -> None:
    """H-33 with ``await ws.drain()``, and a reader that gets the present value."""
    with example("backpressure.py") as app:
        with app.websocket("/table") as ws:
            assert list(ws) == [f"{row},{row * row}" for row in range(10_000)]
        with app.websocket("/price") as ws:
            assert 99 <= float(ws.receive()) <= 101


def test_forks() -> None:
    """H-34, DEC-5: each process answers on the one port, and a signal to the first ends all of them."""
    with socket.socket() as reserved:
        # Bound and not listening: it keeps the port for those who share it, and takes no connection.
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with example("forks.py", EXAMPLE_PORT=str(port)) as app:
            while (
                len(pids := {int(pid) for line in app.heard for pid in re.findall(r"Process (\d+)", line)})
                < 2
            ):
                app.hear("Process")
            seen: set[int] = set()
            until(
                lambda: seen.add(int(app.get().text.split()[-1])) or len(seen) >= 2,
                "an answer of each process",
            )
            assert seen <= pids or len(seen) > len(pids)
            app.program.signal(signal.SIGTERM)
            code, out, err = app.program.finish()
            assert (code, err) == (0, "")
            # None has begun anew behind run(), and none is left.
            assert not re.search("Process", out) or (os.cpu_count() or 1) > 2
            for pid in pids:
                assert not Path(f"/proc/{pid}").exists(), pid


def test_json_and_parameters() -> None:
    """A-REQ, A-RES: the whole of a small API."""
    with example("json_and_parameters.py") as app:
        assert app.get("/books/1").json()["author"] == "Le Guin"
        assert app.get("/books/x").status == 404
        assert [book["title"] for book in app.get("/books?author=le+guin").json()] == ["The Dispossessed"]
        answer = app.ask("POST", "/books", json={"title": "Dune", "author": "Herbert"})
        assert (answer.status, answer.headers["location"]) == (201, "/books/3")
        assert app.ask("POST", "/books", body="{").status == 400


def test_lifespan() -> None:
    """D, I-S-52: opened before the first request, closed after the last."""
    with example("lifespan.py") as app:
        assert app.heard[0] == "The database is open"
        assert [app.get().text for _ in range(2)] == ["You are visitor 1\n", "You are visitor 2\n"]
        assert app.end()[0] == "The database is closed\n"


def test_stream() -> None:
    """A-RES: pieces as they are made, and a large answer in whole."""
    with example("stream.py") as app:
        connection = app.connect()
        with connection.stream("GET", "/countdown") as answer:
            assert next(answer.lines()) == "10"
        table = app.get("/table")
        assert table.headers["content-type"] == "text/csv"
        assert table.text.endswith("999999,999998000001\n")


def test_upload() -> None:
    """H-22: any size, sized and in chunks."""
    with example("upload.py") as app:
        expected = {"bytes": 3_000_000, "sha256": hashlib.sha256(b"x" * 3_000_000).hexdigest()}
        assert app.ask("POST", "/upload", body=b"x" * 3_000_000).json() == expected
        assert app.ask("POST", "/upload", body=[b"x" * 1_000_000] * 3).json() == expected


def test_chat() -> None:
    """H-35: a room, its history, and messages to all its members; a client without a name is refused."""
    with example("chat/chat.py") as app:
        assert app.get().headers["content-type"].startswith("text/html")
        with pytest.raises(HandshakeRefused, match="1 to 24 characters"):
            app.websocket("/rooms/general")
        with app.websocket("/rooms/general?name=Ada") as ada, app.websocket("/rooms/general?name=Bob") as bob:
            assert ada.receive_json() == {"type": "history", "messages": []}
            assert bob.receive_json()["type"] == "history"
            ada.send("hello")
            for ws in (ada, bob):
                while (said := ws.receive_json())["type"] != "message":
                    assert said["type"] == "presence"
                assert (said["name"], said["text"]) == ("Ada", "hello")
        with app.websocket("/rooms/general?name=Eve") as eve:
            assert eve.receive_json()["type"] == "history"


TESTED = {
    "https.py",
    "unix_socket.py",
    *(f"template_{engine}.py" for engine in ("jinja2", "mako")),
    *re.findall(r'example\("(\w+\.py)"', Path(__file__).read_text()),
}


#: Those with a framework are served in tests/frameworks, which has them installed.
FRAMEWORKS = {
    path.name for path in EXAMPLES.glob("*.py") if f"python -m socketify {path.stem}:" in path.read_text()
}


@pytest.mark.parametrize("name", sorted({path.name for path in EXAMPLES.glob("*.py")} - TESTED - FRAMEWORKS))
def test_others_are_visited(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(EXAMPLES / name)],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Uncaught Exception" not in done.stderr, done.stderr
    assert re.search(r"^status \d+$", done.stdout, re.MULTILINE), done.stdout


def test_examples_say_what_they_show() -> None:
    for path in EXAMPLES.rglob("*.py"):
        assert path.read_text().startswith('"""'), path
