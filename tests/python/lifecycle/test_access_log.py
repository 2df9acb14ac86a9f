"""The access log: one record of ``logging`` for each response and for each WebSocket that opens and closes."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from socketify import App
from support import Program, until
from support.lanes import each_lane, on, options
from support.running import Running

Serve = Callable[..., Running]


class Records(logging.Handler):
    """Keeps log records."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)

    def wait(self, count: int) -> list[Any]:
        until(lambda: len(self.all) >= count, f"{count} records")
        assert len(self.all) == count, self.all
        return self.all


@pytest.fixture
def records() -> Iterator[Records]:
    handler = Records()
    target = logging.getLogger("socketify.access")
    target.addHandler(handler)
    yield handler
    target.removeHandler(handler)


# ---- answers --------------------------------------------------------------------------------------------------------


@each_lane
def test_an_answer(serve: Serve, records: Records, lane: str) -> None:
    def handler(res: Any, req: Any) -> None:
        res.write_status(201).end("created")

    app = serve(lambda app: app.post("/things/:id", on(lane, handler)), access_log=True, **options(lane))
    started = time.time()
    with app.client() as client:
        lines = ("User-Agent: tester/1.0", "Referer: http://example.org/")
        client.request("POST", "/things/7?x=1&y", *lines, body=b"12345").answer()
        (record,) = records.wait(1)
    assert (record.name, record.levelno) == ("socketify.access", logging.INFO)
    assert (record.event, record.method, record.path) == ("request", "POST", "/things/7?x=1&y")
    assert (record.status, record.bytes, record.aborted) == (201, 7, False)
    assert (record.remote_address, record.http_version) == ("127.0.0.1", "1.1")
    assert (record.user_agent, record.referer) == ("tester/1.0", "http://example.org/")
    assert record.close_code is record.messages_received is record.bytes_sent is None
    assert 0 < record.duration < 20
    assert started <= record.created <= time.time()
    assert record.msecs == int(record.created % 1 * 1000)
    expected = r'127\.0\.0\.1 - - "POST /things/7\?x=1&y HTTP/1\.1" 201 7 "http://example\.org/" "tester/1\.0" \d+\.\d{6}'
    assert re.fullmatch(expected, record.getMessage())


def test_answers_without_python_and_in_order(serve: Serve, records: Records) -> None:
    def configure(app: App) -> None:
        app.constant("/constant", "always")
        app.get("/", lambda res, req: res.end("hello"))
        app.post("/small", lambda res, req: res.end("ok"), max_body_size=3)

    app = serve(configure, access_log=True)
    with app.client() as client:
        # Pipelined: one read, several responses.
        client.send(
            b"GET /constant HTTP/1.1\r\nHost: a\r\n\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        for method in ("GET", "GET", "HEAD", "GET"):
            client.answer(method)
        client.request("POST", "/small", body=b"12345").answer()
        found = [(record.method, record.path, record.status, record.bytes) for record in records.wait(5)]
    assert found == [
        ("GET", "/constant", 200, 6),
        ("GET", "/nothing", 404, 9),
        ("HEAD", "/", 200, 0),
        ("GET", "/", 200, 5),
        ("POST", "/small", 413, 17),
    ]


def test_what_is_no_request(serve: Serve, records: Records) -> None:
    app = serve(lambda app: None, access_log=True, header_timeout=0.2)
    with app.client() as client:
        client.send(b"GARBAGE\r\n\r\n")
        assert client.answer().status == 400
        (record,) = records.wait(1)
    assert (record.status, record.method, record.path, record.user_agent) == (400, None, None, None)
    assert '"- - HTTP/1.1" 400 11 "-" "-"' in record.getMessage()
    with app.client() as client:
        client.send(b"GET / HTT")
        assert client.answer().status == 408
        assert records.wait(2)[1].status == 408


def test_a_body_in_pieces_counts_as_sent(serve: Serve, records: Records) -> None:
    def configure(app: App) -> None:
        app.get("/pieces", lambda res, req: res.write("x" * 1000).write("y" * 24).end("z"))
        app.get("/large", lambda res, req: res.end(b"x" * 300_000))
        app.get("/try", lambda res, req: res.try_end(b"x" * 10, 10))
        app.get("/coded", lambda res, req: res.end("x" * 5000))

    app = serve(configure, access_log=True, compression=True)
    with app.client() as client:
        client.get("/pieces")
        client.get("/large")
        client.get("/try")
        coded = client.get("/coded", "Accept-Encoding: gzip")
        sizes = [record.bytes for record in records.wait(4)]
    assert sizes == [1025, 300_000, 10, len(coded.body)]
    assert len(coded.body) < 100


def test_a_slow_client_is_logged_when_it_has_all(serve: Serve, records: Records) -> None:
    """Not before the kernel has taken the last byte."""
    size = 20_000_000
    app = serve(lambda app: app.get("/", lambda res, req: res.end(b"x" * size)), access_log=True)
    with app.client(receive_buffer=4096) as client:
        client.request("GET", "/").until(b"\r\n\r\n")
        with app.client() as other:
            other.get("/nothing")
        assert [record.path for record in records.wait(1)] == ["/nothing"]
        client.exactly(size)
        record = records.wait(2)[1]
        assert (record.path, record.bytes, record.aborted) == ("/", size, False)


def test_files(serve: Serve, records: Records, tmp_path: Path) -> None:
    """Bytes that the kernel sends from its own memory are counted as they leave."""
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    (tmp_path / "endless").write_bytes(b"")
    os.truncate(tmp_path / "endless", 64 * 1024 * 1024)

    async def one(res: Any, req: Any) -> None:
        await res.send_file(tmp_path / "large")

    def configure(app: App) -> None:
        app.static("/s", tmp_path)
        app.get("/one", one)

    app = serve(configure, access_log=True)
    with app.client() as client:
        for path in ("/s/small", "/s/large", "/one", "/s/none"):
            client.get(path)
        client.get("/s/large", "Range: bytes=0-99999")
        client.request("HEAD", "/s/large").answer("HEAD")
    found = [(record.path, record.status, record.bytes, record.aborted) for record in records.wait(6)]
    assert found == [
        ("/s/small", 200, 5, False),
        ("/s/large", 200, 3_000_000, False),
        ("/one", 200, 3_000_000, False),
        ("/s/none", 404, 9, False),
        ("/s/large", 206, 100_000, False),
        ("/s/large", 200, 0, False),
    ]
    client = app.client(receive_buffer=4096)
    client.request("GET", "/s/endless").until(b"\r\n\r\n")
    client.reset()
    record = records.wait(7)[-1]
    assert (record.path, record.status, record.aborted) == ("/s/endless", 200, True)
    assert 0 < record.bytes < 64 * 1024 * 1024


def test_a_client_that_leaves(serve: Serve, records: Records) -> None:
    called = threading.Event()

    async def silent(res: Any, req: Any) -> None:
        called.set()
        await asyncio.Event().wait()

    def configure(app: App) -> None:
        app.get("/silent", silent)
        app.get(
            "/half",
            lambda res, req: (res.write_status(203).write("half"), res.on_aborted(lambda res: None))[0],
        )
        app.get("/failing", failing)
        app.on_error(lambda error, res, req: None)

    def failing(res: Any, req: Any) -> None:
        res.write("begun")
        res.close()

    app = serve(configure, access_log=True)
    client = app.client()
    client.request("GET", "/silent")
    assert called.wait(20)
    client.reset()
    (record,) = records.wait(1)
    # 499: there was no response, and no client.
    assert (record.path, record.status, record.bytes, record.aborted) == ("/silent", 499, 0, True)
    client = app.client()
    client.request("GET", "/half").until(b"half")
    client.reset()
    record = records.wait(2)[1]
    assert (record.path, record.status, record.bytes, record.aborted) == ("/half", 203, 4, True)
    with app.client() as client:
        client.request("GET", "/failing").rest()
        record = records.wait(3)[2]
        assert (record.path, record.status, record.aborted) == ("/failing", 200, True)


def test_nothing_of_a_client_begins_a_line(serve: Serve, records: Records) -> None:
    app = serve(lambda app: None, access_log=True)
    with app.client() as client:
        client.send(b'GET /a"\\b%0a\xc3\xa9 HTTP/1.1\r\nHost: a\r\nUser-Agent: x\ty"\xff\\\r\n\r\n')
        answer = client.answer()
        (record,) = records.wait(1)
    assert answer.status in (400, 404)
    for text in (record.getMessage(), record.path or "", record.user_agent or ""):
        assert all(" " <= character <= "~" for character in text)
    if answer.status == 404:
        assert record.path == "/a\\x22\\x5cb%0a\\xc3\\xa9"
        assert record.user_agent == "x\\x09y\\x22\\xff\\x5c"


def test_a_proxy_names_the_client(serve: Serve, records: Records) -> None:
    app = serve(lambda app: None, access_log=True)
    preface = (
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
        + bytes([203, 0, 113, 9, 127, 0, 0, 1])
        + b"\x10\x00\x20\x00"
    )
    with app.client() as client:
        client.send(preface + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").answer()
        assert records.wait(1)[0].remote_address == "203.0.113.9"


def test_no_log_unless_asked(serve: Serve, records: Records) -> None:
    app = serve(lambda app: app.get("/", lambda res, req: res.end("x")))
    with app.client() as client:
        client.get("/")
    app.stop()
    assert records.all == []
    assert not any(thread.name == "socketify-access-log" for thread in threading.enumerate())


# ---- WebSockets -----------------------------------------------------------------------------------------------------


def test_a_websocket(serve: Serve, records: Records) -> None:
    def message(ws: Any, text: Any, opcode: Any) -> None:
        ws.send(text)
        ws.publish("topic", "to all")

    behavior = {"open": lambda ws: ws.subscribe("topic"), "message": message}
    app = serve(lambda app: app.ws("/chat", behavior), access_log=True)
    with app.websocket("/chat?room=1") as socket:
        opened = records.wait(1)[0]
        assert (opened.event, opened.method, opened.path, opened.status) == (
            "websocket_open", "GET", "/chat?room=1", 101,
        )  # fmt: skip
        assert opened.close_code is None
        for text in ("one", "three"):
            socket.send_text(text)
            socket.recv_frame()
            socket.recv_frame()
        socket.send_close(4001)
        closed = records.wait(2)[1]
    assert (closed.event, closed.path, closed.close_code) == ("websocket_close", "/chat?room=1", 4001)
    assert (closed.messages_received, closed.bytes_received) == (2, 8)
    assert (closed.messages_sent, closed.bytes_sent) == (4, 8 + 12)
    assert "close 4001, in 2 messages 8 bytes, out 4 messages 20 bytes" in closed.getMessage()


def test_a_websocket_that_vanishes_and_one_that_is_refused(serve: Serve, records: Records) -> None:
    app = serve(lambda app: app.ws("/chat", {"message": lambda ws, text, opcode: None}), access_log=True)
    socket = app.websocket("/chat")
    records.wait(1)
    socket.reset()
    closed = records.wait(2)[1]
    assert (closed.event, closed.close_code) == ("websocket_close", 1006)
    with app.client() as client:
        lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 12")
        client.request("GET", "/chat", *lines).answer()
        refused = records.wait(3)[2]
        assert (refused.event, refused.status) == ("request", 426)


# ---- loggers --------------------------------------------------------------------------------------------------------


def test_a_logger_and_a_name(serve: Serve) -> None:
    handler = Records()
    logger = logging.getLogger("test.access")
    logger.addHandler(handler)
    logger.propagate = False
    for given in (logger, "test.access"):
        logger.setLevel(logging.INFO)
        app = serve(lambda app: None, access_log=given)
        with app.client() as client:
            client.get("/")
        app.stop()
    # One that wants less gets less.
    logger.setLevel(logging.WARNING)
    app = serve(lambda app: None, access_log=logger)
    with app.client() as client:
        client.get("/")
    app.stop()
    assert [record.name for record in handler.all] == ["test.access"] * 2


@pytest.mark.parametrize("given", [1, 2.5, b"name", object()])
def test_what_is_no_logger(given: Any) -> None:
    with pytest.raises(TypeError, match="access_log must be a bool, a logger or the name of one, not"):
        App(access_log=given)


def test_a_handler_that_fails_hurts_nobody(serve: Serve, records: Records, monkeypatch: Any) -> None:
    class Failing(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("no disk")

    seen: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda hook: seen.append(hook.exc_value))
    target = logging.getLogger("socketify.access")
    failing = Failing()
    app = serve(lambda app: None, access_log=True)
    with app.client() as client:
        target.addHandler(failing)
        try:
            client.get("/one")
            until(lambda: seen, "the failure is told")
        finally:
            target.removeHandler(failing)
        client.get("/two")
        until(lambda: records.all and records.all[-1].path == "/two", "the log goes on")
    assert [str(error) for error in seen] == ["no disk"]


def test_without_any_logging_it_goes_to_stderr() -> None:
    program = """
        app = App(access_log=True)
        app.get("/", lambda res, req: res.end("hello"))
        app.listen({"port": 0, "host": "127.0.0.1"}, ready)
        app.run()
    """
    with Program(program).listening() as running:
        with running.client() as client:
            client.get("/")
        running.signal(15)
        code, _, err = running.finish()
    assert code == 0
    assert re.fullmatch(r'\S+ \S+ 127\.0\.0\.1 - - "GET / HTTP/1\.1" 200 5 "-" "-" \d\.\d+\n', err)


# ---- the thread -----------------------------------------------------------------------------------------------------


def test_nothing_is_lost_when_it_ends(serve: Serve, records: Records) -> None:
    """All responses are logged when run() returns, also by a slow handler."""
    app = serve(lambda app: app.get("/", lambda res, req: res.end("x")), access_log=True)
    with app.client() as client:
        for _ in range(500):
            client.get("/")
    app.stop()
    assert len(records.all) == 500
    assert not any(thread.name == "socketify-access-log" for thread in threading.enumerate())


LOAD = """
    import logging
    written = 0
    class Count(logging.Handler):
        def emit(self, record):
            global written
            written += 1
    logging.getLogger("socketify.access").addHandler(Count())
    answered = 0
    def handler(res, req):
        global answered
        answered += 1
        res.end("x")
    def serve():
        app = App(access_log=True)
        app.get("/", handler)
        app.listen({"port": 0, "host": "127.0.0.1"}, ready)
        try:
            app.run()
        finally:
            say(f"{answered} answered {written} written")
"""


@pytest.mark.parametrize("forked", [False, True])
def test_sigterm_under_load_loses_no_record(forked: bool) -> None:
    """In a process that was forked before it serves as well: the thread starts with the server."""
    fork = """
    child = os.fork()
    if child:
        signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
        os.waitpid(child, 0)
        os._exit(0)
    serve()
    """
    with Program(LOAD + (fork if forked else "\n    serve()\n")).listening() as running:
        enough = threading.Event()

        def load() -> None:
            done = 0
            with running.client() as client:
                try:
                    while True:
                        client.get("/")
                        done += 1
                        if done == 200:
                            enough.set()
                except (AssertionError, OSError):
                    enough.set()

        clients = [threading.Thread(target=load) for _ in range(3)]
        for client in clients:
            client.start()
        assert enough.wait(30)
        running.signal(15)
        for client in clients:
            client.join(30)
        code, out, err = running.finish()
    assert (code, err) == (0, "")
    answered, _, written, _ = out.split()
    assert int(answered) >= 200
    assert answered == written


def test_what_cannot_be_written_in_time_is_counted(serve: Serve, records: Records, caplog: Any) -> None:
    """A handler that blocks: entries wait up to the bound, then they are dropped, and requests go on."""
    gate, entered = threading.Event(), threading.Event()

    class Blocking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            entered.set()
            assert gate.wait(30)

    target = logging.getLogger("socketify.access")
    blocking = Blocking()
    target.addHandler(blocking)
    try:
        app = serve(lambda app: app.constant("/*", "x"), access_log=True, max_header_bytes=65536)
        with app.client() as client:
            client.get("/")
            assert entered.wait(20)
            # 16 MiB are kept: 700 of these are more.
            path = "/" + "p" * 60_000
            for _ in range(400):
                assert client.get(path).status == 200
        gate.set()
        app.stop()
    finally:
        gate.set()
        target.removeHandler(blocking)
    warnings = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    (found,) = [re.search(r"access log: (\d+) records were dropped", text) for text in warnings]
    assert found is not None
    assert len(records.all) + int(found[1]) == 401
    assert int(found[1]) > 50


def test_an_application_that_logs_can_be_collected() -> None:
    class Log(logging.Logger):
        pass

    def make() -> weakref.ref[App]:
        app = App(access_log=Log("own", logging.INFO))
        app.get("/", lambda res, req: app)
        app.dispose()
        return weakref.ref(app)

    gone = make()
    gc.collect()
    assert gone() is None


def test_it_runs_again(serve: Serve, records: Records) -> None:
    app = App(access_log=True)
    app.get("/", lambda res, req: res.end("x"))
    for turn in (1, 2):
        ports: list[int] = []
        app.listen({"port": 0, "host": "127.0.0.1"}, lambda config, ports=ports: ports.append(config.port))

        def visit(ports: list[int] = ports) -> None:
            from support.client import Client

            with Client(ports[0]) as client:
                client.get("/")
            app.close()

        visitor = threading.Thread(target=visit)
        visitor.start()
        app.run()
        visitor.join()
        assert len(records.all) == turn
    app.dispose()


def test_a_filter_that_raises_loses_its_own_record_only(
    serve: Serve, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other responses are logged, and the fault is reported."""
    told: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda fault: told.append(str(fault.exc_value)))

    def judge(record: Any) -> bool:
        if record.path == "/bad":
            raise ValueError("a filter of the application")
        return True

    target = logging.getLogger("socketify.access")
    target.addFilter(judge)
    try:
        app = serve(lambda app: app.get("/*", lambda res, req: res.end("")), access_log=True)
        with app.client() as client:
            for path in ("/first", "/bad", "/last"):
                client.get(path)
            assert [record.path for record in records.wait(2)] == ["/first", "/last"]
        until(lambda: told, "the fault is told")
        app.stop()
    finally:
        target.removeFilter(judge)
    assert told == ["a filter of the application"]
