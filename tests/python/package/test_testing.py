"""``socketify.testing``: the server that tests of applications start, and its clients."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from socketify import App, AppListenOptions, OpCode
from socketify.testing import (
    AsyncTestServer,
    Connection,
    HandshakeRefused,
    TestServer,
    WebSocketClosed,
    WebSocketSession,
)
from support import shown
from support.client import Client
from support.ws_client import accept_for


def routes(app: App) -> None:
    """What most tests here talk to."""

    def show(res: Any, req: Any) -> None:
        res.write_header("X-Twice", "one").write_header("X-Twice", "two").set_cookie("a", "b c").set_cookie(
            "d", "e"
        )
        headers = {name: req.get_header(name) for name in ("content-type", "cookie", "x-more", "host")}
        res.end({"method": req.get_method(), "target": req.get_full_url(), **headers})

    async def echo(res: Any, req: Any) -> None:
        res.write_header("Content-Type", req.get_header("content-type") or "application/octet-stream")
        res.end((await res.get_data()).getvalue())

    async def pieces(res: Any, req: Any) -> None:
        for number in range(3):
            res.write(f"line {number}\r\nand ")
            await asyncio.sleep(0)
        res.end("the end")

    app.any("/show", show)
    app.any("/show/*", show)
    app.any("/echo", echo)
    app.get("/pieces", pieces)
    app.get("/empty", lambda res, req: res.write_status(204).end_without_body())
    app.get("/moved", lambda res, req: res.redirect("/show"))
    app.get(
        "/latin",
        lambda res, req: res.write_header("Content-Type", "text/plain; charset=latin-1").end(b"\xe9"),
    )
    app.get("/silent", lambda res, req: res.on_aborted(lambda res: None))
    app.get("/fails", fails)
    app.get("/fails-later", fails_later)
    app.ws(
        "/ws",
        {
            "upgrade": upgrade,
            "open": lambda ws: ws.send("hello", OpCode.TEXT),
            "message": message,
            "max_payload_length": 1 << 20,
            "max_backpressure": 1 << 20,
        },
    )


def fails(res: Any, req: Any) -> None:
    raise LookupError("from a plain handler")


async def fails_later(res: Any, req: Any) -> None:
    await asyncio.sleep(0)
    raise LookupError("from a coroutine")


def upgrade(res: Any, req: Any, context: Any) -> None:
    if req.get_query("who") == "nobody":
        res.write_status(403).end("not you")
        return
    protocol = (req.get_header("sec-websocket-protocol") or "").split(",")[0] or None
    res.upgrade(req.get_header("sec-websocket-key"), protocol, "", context)


def message(ws: Any, data: Any, opcode: Any) -> None:
    if data == "bye":
        ws.end(4001, "as you say")
    elif data == "vanish":
        ws.close()
    elif data == "fail":
        raise LookupError("from a listener")
    else:
        ws.send(data, opcode)


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with TestServer(routes) as server:
        yield server


@pytest.fixture
def quiet() -> Iterator[TestServer]:
    """One that sends errors as in production."""
    with TestServer(routes, raise_errors=False) as server:
        yield server


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 30))


# ---- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods(server: TestServer, method: str) -> None:
    answer = getattr(server, method.lower())("/show?a=1", params={"b": ["x y", "é"]})
    assert (answer.status, answer.reason) == (200, "OK")
    assert answer.json()["method"] == method
    assert answer.json()["target"] == "/show?a=1&b=x+y&b=%C3%A9"
    assert answer.json()["host"] == f"127.0.0.1:{server.port}"
    assert answer.headers["CONTENT-TYPE"] == "application/json"
    assert answer.headers.get_all("x-twice") == ["one", "two"]
    assert answer.cookies == {"a": "b%20c", "d": "e"}


def test_head_has_no_body(server: TestServer) -> None:
    answer = server.head("/show")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_no_content(server: TestServer) -> None:
    assert (server.get("/empty").status, server.get("/empty").body) == (204, b"")


def test_redirects_are_not_followed(server: TestServer) -> None:
    answer = server.get("/moved")
    assert (answer.status, answer.headers["location"]) == (302, "/show")


def test_text_has_the_charset_of_its_header(server: TestServer) -> None:
    assert server.get("/latin").text == "é"


def test_headers_and_cookies(server: TestServer) -> None:
    got = server.get("/show", headers={"X-More": "yes", "host": "other"}, cookies={"a": "1", "b": "2"}).json()
    assert (got["x-more"], got["host"], got["cookie"]) == ("yes", "other", "a=1; b=2")


def test_paths_beyond_ascii(server: TestServer) -> None:
    assert server.get("/show/é%20/a b?é").json()["target"] == "/show/%C3%A9%20/a%20b?%C3%A9"


@pytest.mark.parametrize(
    ("options", "body", "kind"),
    [
        ({"body": "é"}, "é".encode(), "application/octet-stream"),
        ({"body": b"\0\1"}, b"\0\1", "application/octet-stream"),
        ({"body": bytearray(b"ab")}, b"ab", "application/octet-stream"),
        ({"json": {"a": [1, None]}}, b'{"a": [1, null]}', "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"form": {"a": "x&y", "b": ["1", "2"]}}, b"a=x%26y&b=1&b=2", "application/x-www-form-urlencoded"),
        ({"body": iter([b"in ", b"", b"pieces"])}, b"in pieces", "application/octet-stream"),
        ({"json": 1, "headers": {"content-type": "a/b"}}, b"1", "a/b"),
        ({"body": b"x" * 3_000_000}, b"x" * 3_000_000, "application/octet-stream"),
    ],
    ids=lambda value: shown(value)[:40],
)
def test_bodies(server: TestServer, options: Any, body: bytes, kind: str) -> None:
    answer = server.post("/echo", **options)
    assert (answer.body, answer.headers["content-type"]) == (body, kind)


@pytest.mark.parametrize(
    ("path", "options", "error", "text"),
    [
        ("show", {}, ValueError, "'show' does not"),
        ("/show", {"body": "a", "json": 1}, ValueError, "one body, not body, json"),
        ("/show", {"headers": {"X": "a\r\nY: b"}}, ValueError, "line break"),
        ("/show", {"data": "a"}, TypeError, "no data: it takes params, headers"),
    ],
)
def test_requests_that_are_none(
    server: TestServer, path: str, options: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        server.get(path, **options)


def test_a_handler_that_does_not_answer_is_a_timeout(server: TestServer) -> None:
    with pytest.raises(TimeoutError):
        server.get("/silent", timeout=0.05)


# ---- connections ------------------------------------------------------------------------------------------------------


def test_one_connection(server: TestServer) -> None:
    """Requests one after the other, ahead of their responses, and as raw bytes, with a continue before the last."""
    with server.connect() as connection:
        local = connection.socket.getsockname()
        assert connection.request("GET", "/show").status == 200
        connection.send_request("POST", "/echo", body="1").send_request("HEAD", "/show")
        connection.send_request("POST", "/echo", body="2")
        assert [connection.answer().body for _ in range(3)] == [b"1", b"", b"2"]
        head = b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        connection.send(head)
        assert connection.receive().startswith(b"HTTP/1.1 100")
        connection.send(b"!")
        assert connection.answer().body == b"!"
        assert connection.pending == b""
        assert connection.socket.getsockname() == local


def test_interim_answers(server: TestServer) -> None:
    with server.connect() as connection:
        answer = connection.request("POST", "/echo", headers={"Expect": "100-continue"}, body="later")
        assert (answer.interim, answer.body) in (([100], b"later"), ([], b"later"))


def test_a_connection_that_is_closed(server: TestServer) -> None:
    with server.connect() as connection:
        answer = connection.send(b"nonsense\r\n\r\n").answer()
        assert answer.status == 400
        assert connection.receive() == b""
        with pytest.raises(ConnectionError):
            connection.answer()


def pieces_of(answer: Any) -> tuple[int, bytes]:
    return answer.status, b"".join(answer)


def test_streams(server: TestServer) -> None:
    with server.stream("GET", "/pieces") as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert pieces_of(answer) == (200, b"line 0\r\nand line 1\r\nand line 2\r\nand the end")
    with server.stream("GET", "/pieces") as answer:
        assert list(answer.lines()) == ["line 0", "and line 1", "and line 2", "and the end"]


def test_a_stream_comes_while_the_handler_goes_on() -> None:
    """And the handler sees its end."""
    left = threading.Event()
    stop = threading.Event()

    async def endless(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: left.set())
        while not res.aborted and not stop.is_set():
            res.write("data: tick\n\n")
            await asyncio.sleep(0.001)

    with TestServer(lambda app: app.get("/", endless)) as server:
        with server.stream("GET", "/") as answer:
            lines = answer.lines()
            assert [next(lines) for _ in range(4)] == ["data: tick", "", "data: tick", ""]
        assert left.wait(20)
        stop.set()


# ---- parsing what this server does not send ---------------------------------------------------------------------------


def answered_with(sent: bytes, method: str = "GET") -> Any:
    """The client's parsing of a response; this needs no other server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1 << 16)
                for byte in sent:
                    peer.sendall(bytes([byte]))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with Connection(listener.getsockname(), 20) as connection:
                return connection.request(method, "/")
        finally:
            thread.join(20)


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nabc", b"ab"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
            b"ab0123456789",
        ),
        (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
def test_framings(sent: bytes, body: bytes) -> None:
    """RFC 9112 section 6.3, byte for byte."""
    answer = answered_with(sent)
    assert (answer.status, answer.body) == (200, body)
    assert answer.interim == ([103] if b"103" in sent else [])


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        b"SMTP ready\r\n\r\n",
    ],
)
def test_answers_that_are_none(sent: bytes) -> None:
    with pytest.raises(ConnectionError):
        answered_with(sent)


# ---- WebSockets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 300_000])
def test_messages(server: TestServer, size: int) -> None:
    with server.websocket("/ws") as ws:
        assert ws.receive() == "hello"
        for data in ("é" * size, b"\x80" * size):
            if size < 60_000 or isinstance(data, bytes):
                ws.send(data)
                assert ws.receive() == data
        assert not ws.closed
    assert ws.closed


def test_json_and_pings(server: TestServer) -> None:
    with server.websocket("/ws") as ws:
        assert ws.receive() == "hello"
        ws.send_json({"a": [1]})
        assert ws.receive_json() == {"a": [1]}
        ws.ping(b"are you there")


def test_the_server_closes(server: TestServer) -> None:
    with server.websocket("/ws") as ws:
        ws.send("bye")
        assert list(ws) == ["hello"]
        with pytest.raises(WebSocketClosed, match="closed with 4001: as you say") as raised:
            ws.receive()
        assert (raised.value.code, raised.value.reason) == (4001, "as you say")
        with pytest.raises(WebSocketClosed):
            ws.send("too late")
        assert ws.close().code == 4001


def test_the_server_vanishes(server: TestServer) -> None:
    with server.websocket("/ws") as ws:
        ws.send("vanish")
        assert ws.wait_closed().code == 1006


def test_the_client_closes(server: TestServer) -> None:
    with server.websocket("/ws") as ws:
        closed = ws.close(4000, "enough")
        assert (closed.code, closed.reason) == (4000, "enough")


def test_handshakes(server: TestServer) -> None:
    with server.websocket("/ws", protocols=["chat", "news"], params={"who": "me"}) as ws:
        assert (ws.protocol, ws.answer.status) == ("chat", 101)
    with pytest.raises(HandshakeRefused) as raised:
        server.websocket("/ws?who=nobody")
    assert (raised.value.answer.status, raised.value.answer.text) == (403, "not you")


def test_no_message_is_a_timeout(server: TestServer) -> None:
    with server.websocket("/ws") as ws:
        ws.receive()
        with pytest.raises(TimeoutError):
            ws.receive(timeout=0.01)
        ws.send("still there")
        assert ws.receive() == "still there"


def test_half_a_message_at_a_timeout_is_not_lost() -> None:
    go_on = threading.Event()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            asked = peer.recv(1 << 16).decode()
            key = asked.split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
            fields = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_for(key)}"
            peer.sendall(
                f"HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n\r\n".encode() + b"\x01\x02ha\x80\x02l"
            )
            assert go_on.wait(20)
            peer.sendall(b"f" + b"\x88\x02\x03\xe8")
            peer.recv(1 << 16)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with WebSocketSession(Connection(listener.getsockname(), 20), "/", (), {}) as ws:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    ws.receive(timeout=0.01)
            go_on.set()
            assert ws.receive() == "half"
            assert ws.wait_closed().code == 1000
        thread.join(20)


def test_a_server_that_breaks_the_rules_is_found_out() -> None:
    """RFC 6455 5.1: a server's frame has no mask."""
    with (
        TestServer(lambda app: app.get("/", lambda res, req: None)) as server,
        server.connect() as connection,
    ):
        from socketify.testing.frames import Protocol

        connection._session.buffer.pending += Protocol.frame(1, b"masked")
        with pytest.raises(ConnectionError, match="mask"):
            connection._run(Protocol(connection._session.buffer).event())


# ---- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/fails", "/fails-later"])
def test_what_a_handler_raises_is_raised_by_its_request(server: TestServer, path: str) -> None:
    with pytest.raises(LookupError, match="from a"):
        server.get(path)
    assert server.get("/show").status == 200


@pytest.mark.parametrize("path", ["/fails", "/fails-later"])
def test_or_answered_as_for_everybody(quiet: TestServer, path: str) -> None:
    assert (quiet.get(path).status, quiet.get(path).text) == (500, "Internal Error")
    assert quiet.errors == []


def test_what_an_error_handler_takes_is_not_raised() -> None:
    def configure(app: App) -> None:
        routes(app)
        app.set_error_handler(lambda error, res, req: res.send(str(error), status=418))

    with TestServer(configure) as server:
        assert server.get("/fails").status == 418


def test_what_a_listener_raises_is_raised_at_the_end() -> None:
    """A-CALL-12: the socket stays open."""

    def talk() -> None:
        with TestServer(routes) as server, server.websocket("/ws") as ws:
            ws.receive()
            ws.send("fail")
            ws.send("go on")
            assert ws.receive() == "go on"

    with pytest.raises(LookupError, match="from a listener"):
        talk()


def test_what_fails_in_the_block_goes_first() -> None:
    def check() -> None:
        with TestServer(routes) as server, server.websocket("/ws") as ws:
            ws.send("fail")
            raise KeyError("the test's own")

    with pytest.raises(KeyError, match="the test's own"):
        check()


def test_each_server_has_its_own_errors(server: TestServer) -> None:
    with TestServer(routes) as other:
        with pytest.raises(LookupError):
            other.get("/fails")
        assert server.errors == other.errors == []


def broken(app: App) -> None:
    raise LookupError("in configure")


def exits(app: App) -> None:
    @app.on_start
    def start() -> None:
        raise SystemExit(3)


def fails_to_start(app: App) -> None:
    @app.on_start
    async def start() -> None:
        raise LookupError("in on_start")


@pytest.mark.parametrize(
    ("configure", "error"), [(broken, LookupError), (exits, SystemExit), (fails_to_start, LookupError)]
)
def test_what_fails_at_the_start(configure: Any, error: type[BaseException]) -> None:
    server = TestServer(configure)
    with pytest.raises(error):
        server.start()
    assert not server.running


def test_a_port_that_is_taken(server: TestServer) -> None:
    taken = {"host": "127.0.0.1", "port": server.port, "options": 1}
    with pytest.raises(RuntimeError, match=f"Failed to listen on port {server.port}"):
        TestServer(routes, listen=taken).start()


# ---- the server -------------------------------------------------------------------------------------------------------


def test_url(server: TestServer) -> None:
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert server.config.host == "127.0.0.1"


def test_an_application_that_is_there_serves_again_and_again() -> None:
    app = App()
    app.get("/", lambda res, req: res.end("it works"))
    server = TestServer(app)
    for _ in range(2):
        with server:
            assert server.running
            assert server.get().text == "it works"
        assert not server.running
        with pytest.raises(ConnectionRefusedError):
            Client(server.port)
    server.stop()
    app.dispose()


def test_an_application_that_closes_itself() -> None:
    def configure(app: App) -> None:
        app.get("/", lambda res, req: (res.end("bye"), app.close()))

    with TestServer(configure) as server:
        assert server.get().text == "bye"
        server.join()
        assert not server.running


def test_options_and_unix_sockets(tmp_path: Any) -> None:
    listen = AppListenOptions(domain=str(tmp_path / "socket"))
    with TestServer(routes, listen=listen, server_name="ours") as server:
        assert server.get("/show").headers["server"] == "ours"
        assert server.url == "http://localhost"
        with server.websocket("/ws") as ws:
            assert ws.receive() == "hello"


def test_everywhere_is_reached_here() -> None:
    with TestServer(routes, listen=0) as server:
        assert server.get("/show").status == 200


@pytest.mark.parametrize("target", [None, 5, "app"])
def test_targets_that_are_none(target: Any) -> None:
    with pytest.raises(TypeError, match="an App or a function"):
        TestServer(target)


def test_options_need_a_new_application() -> None:
    app = App()
    with pytest.raises(TypeError, match="lifespan can only be given to a new one"):
        TestServer(app, lifespan=False)
    app.dispose()


def test_an_application_of_a_running_loop() -> None:
    async def make() -> None:
        app = App()
        with pytest.raises(RuntimeError, match="inside a running event loop"):
            TestServer(app)
        app.dispose()

    run(make())


def test_it_cannot_be_started_twice(server: TestServer) -> None:
    with pytest.raises(RuntimeError, match="runs already"):
        server.start()


# ---- coroutines -------------------------------------------------------------------------------------------------------


def test_requests_of_coroutines() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"from "
        await asyncio.sleep(0)
        yield b"a generator"

    async def test() -> None:
        async with AsyncTestServer(routes) as server:
            answers = await asyncio.gather(*(server.get("/show", params={"n": n}) for n in range(20)))
            assert [answer.json()["target"] for answer in answers] == [f"/show?n={n}" for n in range(20)]
            for method in (server.post, server.put, server.patch, server.delete, server.options):
                answer = await method("/show", json={})
                assert answer.json()["method"] == method.__name__.upper()
            assert (await server.head("/show")).body == b""
            assert (await server.post("/echo", body=pieces())).body == b"from a generator"
            assert (await server.post("/echo", body=[b"a", b"list"])).body == b"alist"
            with pytest.raises(LookupError):
                await server.get("/fails")
            with pytest.raises(TimeoutError):
                await server.get("/silent", timeout=0.05)

    run(test())


def test_connections_and_streams_of_coroutines() -> None:
    async def test() -> None:
        async with AsyncTestServer(routes) as server:
            async with server.connect() as connection:
                await connection.send_request("POST", "/echo", body="1")
                await connection.send_request("HEAD", "/show")
                await connection.send(b"GET /empty HTTP/1.1\r\nHost: a\r\n\r\n")
                assert [(await connection.answer()).body for _ in range(3)] == [b"1", b"", b""]
                await connection.send(b"nonsense\r\n\r\n")
                assert (await connection.answer()).status == 400
                assert (await connection.receive(), connection.pending) == (b"", b"")
            async with server.stream("GET", "/pieces") as answer:
                assert answer.status == 200
                assert [line async for line in answer.lines()][1] == "and line 1"
            async with server.stream("GET", "/pieces") as answer:
                assert b"".join([piece async for piece in answer]).endswith(b"the end")

    run(test())


def test_websockets_of_coroutines() -> None:
    async def test() -> None:
        async with AsyncTestServer(routes) as server:
            async with server.websocket("/ws", protocols=["chat"]) as ws:
                assert (ws.protocol, await ws.receive()) == ("chat", "hello")
                await ws.send_json([1])
                assert await ws.receive_json() == [1]
                await ws.send(b"\0" * 70_000)
                assert await ws.receive() == b"\0" * 70_000
                await ws.ping(b"!")
                with pytest.raises(TimeoutError):
                    await ws.receive(timeout=0.01)
                await ws.send("bye")
                assert [message async for message in ws] == []
                with pytest.raises(WebSocketClosed) as raised:
                    await ws.receive()
                assert (raised.value.code, ws.closed) == (4001, True)
            # Many that wait delay none that sends.
            sockets = [await server.websocket("/ws").open() for _ in range(40)]
            assert await asyncio.gather(*(ws.receive() for ws in sockets)) == ["hello"] * 40
            waiting = asyncio.gather(*(ws.receive() for ws in sockets))
            for ws in sockets:
                await ws.send("now")
            assert await waiting == ["now"] * 40
            assert {(await ws.close()).code for ws in sockets} == {1000}
            with pytest.raises(HandshakeRefused):
                await server.websocket("/ws?who=nobody").open()

    run(test())


def test_errors_of_coroutines_are_raised_at_the_end() -> None:
    async def test() -> None:
        async with AsyncTestServer(routes) as server, server.websocket("/ws") as ws:
            await ws.receive()
            await ws.send("fail")
            await ws.send("go on")
            await ws.receive()

    with pytest.raises(LookupError):
        run(test())
