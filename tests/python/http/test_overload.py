"""More requests than capacity: clients that have gone cost no work, queues are bounded, others are served."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import App
from support import Gate, Program, reset, until
from support.client import Client
from support.h2_client import H2Client
from support.tls_client import Certificates, TlsClient, genuine_hello

pytestmark = pytest.mark.alone

Serve = Callable[..., Any]

#: A head of 60 KB.
PAD = "X-Pad: " + "a" * 60_000
#: Seconds in which an honest client gets a response, despite the others. Far more than needed: longer is a
#: hang.
PROMPT = 5.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(path: bytes, extra: bytes = b"") -> bytes:
    """A GET in HPACK, without Huffman codes."""
    return b"\x82\x86\x04" + bytes([len(path)]) + path + b"\x01\x01x" + extra


#: A field of 4000 bytes that goes into the table of HPACK, and the byte that stands for it from then on.
LARGE_FIELD = b"\x40\x03pad\x7f\xa1\x1e" + b"a" * 4000
AGAIN = b"\xbe"


def memory(pid: int | None = None) -> int:
    """Bytes that a process has in memory."""
    with open(f"/proc/{pid or os.getpid()}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def requests(running: Any) -> int:
    return int(running.app._server.request_count())


class Blocked:
    """An application whose first plain handler, or the loop, stands until the gate opens."""

    def __init__(self, serve: Serve, **options: Any) -> None:
        self.gate = Gate()
        self.ran: list[str] = []
        self.running = serve(self.routes, **options)
        self.blocker = self.running.client()

    def routes(self, app: App) -> None:
        def block(res: Any, req: Any) -> None:
            self.gate.pass_through()
            res.end("blocked")

        async def block_loop(res: Any, req: Any) -> None:
            block(res, req)

        def plain(res: Any, req: Any) -> None:
            self.ran.append(req.get_url())
            res.end("plain")

        async def coroutine(res: Any, req: Any) -> None:
            plain(res, req)

        app.get("/block", block).get("/block-loop", block_loop)
        app.get("/def", plain).get("/async", coroutine)

    def begin(self, kind: str) -> None:
        self.blocker.request("GET", "/block" if kind == "def" else "/block-loop")
        self.gate.arrived()

    def end(self) -> None:
        self.gate.open()
        assert self.blocker.answer().body == b"blocked"
        self.blocker.close()


@pytest.mark.parametrize("kind", ["def", "async"])
def test_what_clients_left_behind_is_never_run(serve: Serve, kind: str) -> None:
    """Requests that wait for their handler go with their clients, and so does their memory."""
    blocked = Blocked(serve)
    blocked.begin(kind)
    before = memory()
    for _ in range(20):
        clients = [blocked.running.client() for _ in range(100)]
        for client in clients:
            client.request("GET", "/" + kind, PAD)
        until(lambda: requests(blocked.running) >= 100, "all wait")
        for client in clients:
            client.reset()
        until(lambda: requests(blocked.running) == 1, "they count no more")
    # 2000 heads of 60 KB are 120 MB.
    assert memory() - before < 40 << 20
    with blocked.running.client() as honest:
        honest.request("GET", "/" + kind)
        until(lambda: requests(blocked.running) == 2, "the honest one waits")
        began = time.monotonic()
        blocked.end()
        assert honest.answer().body == b"plain"
        assert time.monotonic() - began < PROMPT
    assert blocked.ran == ["/" + kind]


@pytest.mark.parametrize("kind", ["def", "async"])
@pytest.mark.parametrize("how", ["streams", "connections"])
def test_what_streams_left_behind_is_never_run(serve: Serve, kind: str, how: str) -> None:
    """The same over HTTP/2, where a head of 60 KB costs its client 30 bytes."""
    blocked = Blocked(serve)
    blocked.begin(kind)
    path = b"/" + kind.encode()
    before = memory()
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", blocked.running.port), 20) as sock:
            sock.sendall(PREFACE + frame(4) + frame(1, 5, 1, block(path, LARGE_FIELD)))
            numbers = range(3, 201, 2)
            for number in numbers:
                sock.sendall(frame(1, 5, number, block(path, AGAIN * 15)))
            until(lambda: requests(blocked.running) == 101, "all wait")
            if how == "streams":
                for number in (1, *numbers):
                    sock.sendall(frame(3, 0, number, struct.pack(">I", 8)))
                until(lambda: requests(blocked.running) == 1, "they count no more")
        until(lambda: requests(blocked.running) == 1, "they count no more")
    assert memory() - before < 20 << 20
    with H2Client(blocked.running.port) as honest:
        number = honest.request(path.decode())
        until(lambda: requests(blocked.running) == 2, "the honest one waits")
        blocked.end()
        assert honest.answer(number).status == 200
    assert blocked.ran == [path.decode()]


def test_requests_in_progress_are_bounded(serve: Serve) -> None:
    """One more gets 503, with `Retry-After`; waiting requests are served."""
    blocked = Blocked(serve, max_requests=3)
    blocked.begin("def")
    with blocked.running.client() as first, blocked.running.client() as second:
        first.request("GET", "/def")
        second.request("GET", "/async")
        # The loop is free: it has been answered, and counts no more.
        assert second.answer().body == b"plain"
        second.request("GET", "/def")
        until(lambda: requests(blocked.running) == 3, "all places are taken")
        for target in ("/def", "/async"):
            with blocked.running.client() as third:
                answer = third.get(target)
                assert (answer.status, answer.header("Retry-After"), answer.header("Connection")) == (
                    503,
                    "1",
                    "close",
                )
                assert third.rest() == b""
        with H2Client(blocked.running.port) as multiplexed:
            stream = multiplexed.get("/def")
            assert stream.status == 503
            # A request without a handler has its response.
            assert multiplexed.get("/nothing").status == 404
        blocked.end()
        assert first.answer().body == second.answer().body == b"plain"
    until(lambda: requests(blocked.running) == 0, "nothing is in progress")


HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def test_a_websocket_that_is_one_too_many_is_refused_by_its_handshake(serve: Serve) -> None:
    """503 before it is open; one that is open, or whose handshake was let in, is not closed for what others ask."""
    gate = Gate()
    closed: list[int] = []

    def configure(app: App) -> None:
        async def upgrade(res: Any, req: Any, context: Any) -> None:
            key, protocol, extensions = (
                req.get_header(f"sec-websocket-{name}") for name in ("key", "protocol", "extensions")
            )
            gate.entered.set()
            await asyncio.to_thread(gate.pass_through)
            res.upgrade(key, protocol, extensions, context)

        behavior = {
            "message": lambda ws, message, opcode: ws.send(message, opcode),
            "close": lambda ws, code, reason: closed.append(code),
        }
        app.ws("/late", {"upgrade": upgrade, **behavior}).ws("/ws", behavior)

    running = serve(configure, max_requests=1)
    first = running.websocket("/ws")
    with running.client() as waits:
        waits.request("GET", "/late", *HANDSHAKE)
        gate.arrived()
        with running.client() as refused:
            answer = refused.get("/late", *HANDSHAKE)
            assert (answer.status, answer.header("Retry-After")) == (503, "1")
        with H2Client(running.port) as multiplexed:
            pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http")]
            pseudo += [(":path", "/late"), (":authority", "x")]
            number = multiplexed.request(pseudo=pseudo, headers=[("sec-websocket-version", "13")], end=False)
            assert multiplexed.answer(number).status == 503
        # Nobody has to decide on this one.
        second = running.websocket("/ws")
        second.finish()
        second.close()
        first.send_text("still here")
        assert first.recv_message() == "still here"
        gate.open()
        assert waits.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        waits.send(b"\x81\x82\0\0\0\0ok")
        assert waits.exactly(4) == b"\x81\x02ok"
        first.send_text("and now")
        assert first.recv_message() == "and now"
    assert 1013 not in closed
    first.close()


def test_heads_of_requests_in_progress_are_bounded(serve: Serve) -> None:
    """However many there may be, their heads take only so much."""
    blocked = Blocked(serve, max_header_memory=150_000)
    blocked.begin("def")
    inside = [blocked.running.client().request("GET", "/def", PAD) for _ in range(2)]
    until(lambda: requests(blocked.running) == 3, "two large heads wait")
    with blocked.running.client() as third:
        assert third.get("/def", PAD).status == 503
    with blocked.running.client() as small:
        small.request("GET", "/def")
        until(lambda: requests(blocked.running) == 4, "a small one still has room")
        blocked.end()
        assert small.answer().body == b"plain"
    for client in inside:
        assert client.answer().body == b"plain"
        client.close()


@pytest.mark.parametrize("how", ["coroutine", "returned", "run_async"])
def test_coroutines_of_clients_that_have_gone_keep_their_place(serve: Serve, how: str) -> None:
    """They run on, as `on_aborted` has it; but no client can have more of them by leaving than by staying."""
    running_now = 0
    most = 0
    gates: list[asyncio.Event] = []

    async def wait() -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await gates[0].wait()
        running_now -= 1

    def configure(app: App) -> None:
        async def coroutine(res: Any, req: Any) -> None:
            await wait()

        def returned(res: Any, req: Any) -> Any:
            return wait()

        def spawned(res: Any, req: Any) -> None:
            res.run_async(wait())

        app.on_start(lambda: gates.append(asyncio.Event()))
        app.get("/", {"coroutine": coroutine, "returned": returned, "run_async": spawned}[how])
        app.get("/fine", lambda res, req: res.end("fine"))

    running = serve(configure, max_connections=10)
    for _ in range(10):
        client = running.client()
        reached = running_now + 1
        client.request()
        until(lambda reached=reached: running_now == reached, "it runs")
        client.reset()
    with running.client() as honest:
        honest.request("GET", "/fine")
        honest.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            honest.receive()
        honest.socket.settimeout(20)
        running.app.loop.loop.call_soon_threadsafe(gates[0].set)
        assert honest.answer().body == b"fine"
    assert most == 10
    until(lambda: running_now == 0, "all have ended")


def test_streams_that_were_given_up_are_bounded_while_their_handlers_run(serve: Serve) -> None:
    """A connection has as many of them as it may have open; then the next gets `Retry-After`."""
    entered = 0
    gates: list[asyncio.Event] = []

    def configure(app: App) -> None:
        async def wait(res: Any, req: Any) -> None:
            nonlocal entered
            entered += 1
            await gates[0].wait()
            res.end("late")

        app.on_start(lambda: gates.append(asyncio.Event()))
        app.get("/", wait)

    running = serve(configure, max_concurrent_streams=4)
    with H2Client(running.port) as client:
        for turn in range(4):
            number = client.request("/")
            until(lambda turn=turn: entered == turn + 1, "the handler runs")
            client.h2.reset_stream(number, 8)
            # The second response comes after the reset has been handled.
            assert client.get("/none").status == client.get("/none").status == 404
        assert requests(running) == 4
        assert client.get("/").status == 503
        running.app.loop.loop.call_soon_threadsafe(gates[0].set)
        until(lambda: requests(running) == 0, "all have ended")
        assert client.get("/").status == 200
    assert entered == 5


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_large_file_that_a_handler_passed_on_to_holds_no_place(
    serve: Serve, tmp_path: Path, kind: str
) -> None:
    """The client goes while the file leaves: the request ends without it, and its place is free."""
    (tmp_path / "large").write_bytes(bytes(16 << 20))

    def passes(res: Any, req: Any) -> None:
        req.set_yield(True)

    async def passes_later(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        req.set_yield(True)

    def configure(app: App) -> None:
        app.get("/:name", passes if kind == "def" else passes_later).static("/", tmp_path)

    running = serve(configure, max_connections=4, max_requests=4)
    for _ in range(12):
        with running.client(receive_buffer=4096) as client:
            client.request("GET", "/large")
            client.exactly(1000)
            reset(client)
    until(lambda: requests(running) == 0, "their places are free")
    with running.client() as client:
        assert client.get("/absent").status == 404


def test_objects_that_are_kept_hold_no_place(serve: Serve) -> None:
    """A kept response whose client has gone, without running code, takes no place."""
    kept: list[Any] = []

    def configure(app: App) -> None:
        async def coroutine(res: Any, req: Any) -> None:
            kept.append(res)

        async def failing(res: Any, req: Any) -> None:
            kept.append(res)
            res.write("begun")
            raise ValueError("as planned")

        app.get("/def", lambda res, req: kept.append(res)).get("/async", coroutine).get("/failing", failing)
        app.get("/fine", lambda res, req: res.end("fine"))
        app.set_error_handler(lambda error, res, req: None)

    running = serve(configure, max_connections=2, max_requests=2)
    for turn, target in enumerate(["/def", "/async", "/failing"] * 3):
        client = running.client()
        client.request("GET", target)
        until(lambda turn=turn: len(kept) == turn + 1, "the handler has run")
        client.reset()
        with running.client() as honest:
            assert honest.get("/fine").body == b"fine"
    assert requests(running) == 0


def test_sockets_that_have_gone_keep_their_place_until_all_is_told(serve: Serve) -> None:
    """The last messages of a client that resets are dropped; its close listener runs, and it counts until
    then."""
    gate = Gate()
    heard: list[str] = []

    def configure(app: App) -> None:
        def message(ws: Any, message: Any, opcode: Any) -> None:
            heard.append(message)
            if message == "first":
                gate.pass_through()

        app.ws("/ws", {"message": message, "close": lambda ws, code, reason: heard.append("close")})
        app.get("/", lambda res, req: res.end("fine"))

    running = serve(configure, max_connections=3)
    stays = running.websocket("/ws")
    stays.send_text("first")
    gate.arrived()
    gone = []
    for _ in range(2):
        client = running.client()
        client.send(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        client.until(b"\r\n\r\n")
        client.send(b"\x81\x84\0\0\0\0lost" * 100)
        gone.append(client)
    until(lambda: running.app._server.connection_count() == 3, "all are in")
    time.sleep(0.05)
    for client in gone:
        client.reset()
    until(lambda: running.app._server.connection_count() == 1, "they are gone")
    with running.client() as honest:
        honest.request("GET", "/")
        honest.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            honest.receive()
        honest.socket.settimeout(20)
        gate.open()
        assert honest.answer().body == b"fine"
    until(lambda: heard.count("close") == 2, "their ends are told")
    assert "lost" not in heard
    stays.close()


def test_questions_of_clients_that_have_gone_are_not_asked(serve: Serve, certificates: Certificates) -> None:
    """User code is asked for the server names of clients that still wait."""
    gate = Gate()
    asked: list[str] = []

    def configure(app: App) -> None:
        app.missing_server_name(asked.append)

        def block(res: Any, req: Any) -> None:
            gate.pass_through()
            res.end("blocked")

        app.get("/block", block).get("/", lambda res, req: res.end("fine"))

    running = serve(configure, options=certificates.options())
    context = certificates.context()
    with TlsClient(running.port, context) as blocker:
        del asked[:]
        blocker.request("GET", "/block")
        gate.arrived()
        hello = genuine_hello(context)
        for _ in range(50):
            client = running.client()
            client.send(hello)
            client.reset()
        gate.open()
        assert blocker.answer().body == b"blocked"
    assert len(asked) <= 1


# ---- hostile loads --------------------------------------------------------------------------------------------------------

SITE = """
from socketify import AppOptions

tls = AppOptions(key_file_name=sys.argv[1], cert_file_name=sys.argv[2]) if len(sys.argv) > 1 else None
app = App(tls, max_header_memory=32 << 20)
app.get("/", lambda res, req: res.end("fine"))
app.get("/large", lambda res, req: res.end(b"x" * 250_000))

async def length(res, req):
    res.end(str(len((await res.get_data()).getvalue())))

async def slow(res, req):
    await asyncio.sleep(0.1)
    res.end("slow")

app.get("/slow", slow).post("/length", length)
app.ws("/ws", {"message": lambda ws, message, opcode: ws.send(message, opcode)})
app.listen(0, ready)
app.run()
"""
#: Seconds that a load lasts.
LOAD = 3.0
#: Bytes that the server may grow by meanwhile. The heads of requests in progress may take 32 MiB of it
#: (`max_header_memory`), and each of 80 connections has a response and a body; what is freed meanwhile does not go
#: back to the kernel at once.
GROWTH = 256 << 20
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def hostile_http1(sock: socket.socket, turn: int) -> None:
    """Unread pipelines, large heads, stalled bodies, unread responses."""
    plain = b"GET /slow HTTP/1.1\r\nHost: x\r\n"
    if turn % 4 == 0:
        sock.sendall((plain + b"\r\n") * 1000)
    elif turn % 4 == 1:
        sock.sendall(plain + PAD.encode() + b"\r\n\r\n")
    elif turn % 4 == 2:
        sock.sendall(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 200_000)
    else:
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 20)


def hostile_http2(sock: socket.socket, turn: int) -> None:
    """Cancelled streams, heads that expand, control frames, unread bodies."""
    sock.sendall(PREFACE + frame(4) + frame(1, 5, 1, block(b"/slow", LARGE_FIELD)))
    if turn % 3 == 0:
        for number in range(3, 2003, 2):
            sock.sendall(frame(1, 5, number, block(b"/slow")) + frame(3, 0, number, struct.pack(">I", 8)))
    elif turn % 3 == 1:
        sock.sendall(
            b"".join(frame(1, 5, number, block(b"/slow", AGAIN * 15)) for number in range(3, 203, 2))
        )
    else:
        for _ in range(20):
            sock.sendall(frame(6, 0, 0, b"12345678") * 1000)


def hostile_websocket(sock: socket.socket, turn: int) -> None:
    """Messages without end, whose echoes are not taken; pings; handshakes that are left."""
    sock.sendall(UPGRADE)
    if turn % 3:
        message = b"\x82\xfe\x20\0\0\0\0\0" + b"x" * 8192 if turn % 3 == 1 else b"\x89\x80\0\0\0\0" * 1000
        for _ in range(100):
            sock.sendall(message)


def load(port: int, act: Callable[[socket.socket, int], None], until_then: float, keep: int = 20) -> None:
    """One hostile client: so many of its connections stay, the oldest is reset."""
    held: list[socket.socket] = []
    turn = 0
    while time.monotonic() < until_then:
        turn += 1
        with contextlib.suppress(OSError):
            sock = socket.create_connection(("127.0.0.1", port), timeout=0.2)
            held.append(sock)
            act(sock, turn)
        if len(held) > keep:
            oldest = held.pop(0)
            oldest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            oldest.close()
    for sock in held:
        sock.close()


@pytest.mark.parametrize("protocol", ["http1", "http2", "websocket", "tls"])
def test_a_hostile_load_keeps_nobody_out(protocol: str, certificates: Certificates) -> None:
    """An honest client is served meanwhile, memory stays within bounds, and all is given back."""
    secured = protocol == "tls"
    context = certificates.context()
    hello = genuine_hello(context)

    def hostile_tls(sock: socket.socket, turn: int) -> None:
        """Handshakes that are begun, and left or broken."""
        sock.sendall(hello + (b"\x16\x03\x03\x40\0" + b"x" * 16384 if turn % 2 else b""))

    kinds = {
        "http1": hostile_http1,
        "http2": hostile_http2,
        "websocket": hostile_websocket,
        "tls": hostile_tls,
    }
    arguments = (str(certificates.key), str(certificates.certificate)) if secured else ()

    def honest(port: int) -> bytes:
        if secured:
            with TlsClient(port, context) as client:
                return bytes(client.get("/").body)
        with Client(port) as client:
            return bytes(client.get("/").body)

    with Program(SITE, *arguments).listening() as server:
        assert honest(server.port) == b"fine"
        before = most = memory(server.process.pid)
        until_then = time.monotonic() + LOAD
        threads = [
            threading.Thread(target=load, args=(server.port, kinds[protocol], until_then)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        longest = 0.0
        served = 0
        while time.monotonic() < until_then:
            began = time.monotonic()
            assert honest(server.port) == b"fine"
            longest = max(longest, time.monotonic() - began)
            most = max(most, memory(server.process.pid))
            served += 1
        for thread in threads:
            thread.join()
        assert honest(server.port) == b"fine"
        assert longest < 3 * PROMPT, f"{served} were served"
        assert most - before < GROWTH
        server.signal(signal.SIGTERM)
        code, _, err = server.finish()
        assert (code, err) == (0, "")
