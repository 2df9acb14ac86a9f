"""Clients that send or take a byte now and then: a client that the server waits for has to keep ``min_rate``,
on each protocol.

Each test runs twice: without a rate the client may go on, which proves that nothing else ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from socketify import App
from support import until
from support.h2_client import H2Client
from support.tls_client import Certificates, TlsClient

# Parts of a second separate slow clients from others.
pytestmark = pytest.mark.alone

Serve = Callable[..., Any]

#: Seconds between two bytes, and of patience: so many bytes come in time that silence is never found.
PAUSE = 0.05
PATIENCE = 0.5
#: Bytes a second: twenty times what such a client moves.
RATE = 400
#: Bytes after which the test stops waiting for the cut.
ENOUGH = 40
CANCEL = 8


def read(app: App) -> None:
    async def whole(res: Any, req: Any) -> None:
        res.end(str(len((await res.get_data()).getvalue())))

    def pieces(res: Any, req: Any) -> None:
        res.on_data(lambda res, chunk, is_end: res.end("whole") if is_end else None)

    app.post("/whole", whole).post("/pieces", pieces)
    app.post("/unread", lambda res, req: res.end("unread"))
    app.get("/", lambda res, req: res.end("fine"))


def drip(send: Callable[[bytes], object], count: int = ENOUGH, piece: bytes = b"x") -> threading.Thread:
    """Sends a piece now and then, until that fails."""

    def run() -> None:
        with contextlib.suppress(OSError):
            for _ in range(count):
                send(piece)
                time.sleep(PAUSE)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@contextlib.contextmanager
def connect(running: Any, certificates: Certificates | None) -> Iterator[Any]:
    if certificates is None:
        with running.client() as client:
            yield client
    else:
        with TlsClient(running.port, certificates.context()) as client:
            yield client


@pytest.fixture(params=["plain", "tls"])
def secured(request: pytest.FixtureRequest) -> Certificates | None:
    return request.getfixturevalue("certificates") if request.param == "tls" else None


def over(secured: Certificates | None) -> dict[str, Any]:
    return {"options": secured.options()} if secured else {}


# ---- bytes from a client ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0, RATE])
@pytest.mark.parametrize("target", ["/whole", "/pieces"])
def test_a_body_that_drips(serve: Serve, secured: Certificates | None, target: str, rate: int) -> None:
    running = serve(read, body_timeout=PATIENCE, min_rate=rate, **over(secured))
    with connect(running, secured) as client:
        client.request("POST", target, f"Content-Length: {ENOUGH}")
        thread = drip(client.send)
        if secured:
            # Up to Python 3.12 two threads may not use one TLS session at a time.
            thread.join()
        answer = client.answer()
        if rate:
            assert (answer.status, answer.header("Connection")) == (408, "close")
            assert client.rest() == b""
        else:
            assert answer.body == (b"whole" if target == "/pieces" else str(ENOUGH).encode())
        thread.join()


@pytest.mark.parametrize("rate", [0, RATE])
def test_a_chunked_body_that_drips(serve: Serve, rate: int) -> None:
    running = serve(read, body_timeout=PATIENCE, min_rate=rate)
    with running.client() as client:
        client.request("POST", "/whole", "Transfer-Encoding: chunked")
        drip(client.send, piece=b"1\r\nx\r\n").join()
        if rate == 0:
            client.send(b"0\r\n\r\n")
        assert client.answer().status == (408 if rate else 200)


@pytest.mark.parametrize("rate", [0, RATE])
def test_the_rest_of_an_answered_body_that_drips(serve: Serve, rate: int) -> None:
    """It is discarded; only the server waits for it."""
    running = serve(read, body_timeout=PATIENCE, min_rate=rate)
    with running.client() as client:
        assert client.request("POST", "/unread", f"Content-Length: {ENOUGH}").answer().body == b"unread"
        thread = drip(client.send)
        if rate:
            assert client.rest() == b""
            thread.join()
        else:
            thread.join()
            assert client.get("/").body == b"fine"


def test_a_body_that_keeps_the_rate(serve: Serve, secured: Certificates | None) -> None:
    """However long it takes, and with what there is of a pause before."""
    running = serve(read, body_timeout=PATIENCE, min_rate=RATE, **over(secured))
    with connect(running, secured) as client:
        client.request("POST", "/whole", f"Content-Length: {40 * ENOUGH}")
        time.sleep(PATIENCE / 3)
        drip(client.send, piece=b"x" * 40).join()
        assert client.answer().body == str(40 * ENOUGH).encode()


def test_a_client_pays_for_no_time_of_the_handler(serve: Serve) -> None:
    """Late bytes are measured only while a handler waits for them."""

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            count = 0
            async for piece in req.stream():
                count += len(piece)
                # It could have moved as much meanwhile as it has to.
                await asyncio.sleep(0.1)
            res.end(str(count))

        app.post("/", handler)

    running = serve(configure, body_timeout=0.3, min_rate=1_000_000, body_buffer=1)
    with running.client() as client:
        client.request("POST", "/", "Content-Length: 20")
        thread = drip(client.send, count=20)
        assert client.answer().body == b"20"
        thread.join()


@pytest.mark.parametrize("rate", [0, RATE])
def test_a_stream_whose_body_drips(serve: Serve, rate: int) -> None:
    """The stream gets 408, and its connection goes on."""
    running = serve(read, body_timeout=PATIENCE, min_rate=rate)
    with H2Client(running.port) as client:
        number = client.request("/whole", "POST", end=False)
        stream = client.streams[number]
        client.socket.settimeout(PAUSE)
        for _ in range(ENOUGH):
            if stream.over:
                break
            client.send(number, b"x")
            with contextlib.suppress(TimeoutError):
                client.receive()
        client.socket.settimeout(20)
        if rate == 0:
            client.send(number, b"", end=True)
        assert client.answer(number).status == (408 if rate else 200)
        assert client.get("/").status == 200


def test_streams_of_a_slow_client_share_its_rate(serve: Serve) -> None:
    """One moves enough for both: no stream of a client that does its best is too slow."""
    running = serve(read, body_timeout=PATIENCE, min_rate=RATE)
    with H2Client(running.port) as client:
        slow, fast = (client.request("/whole", "POST", end=False) for _ in range(2))
        for _ in range(ENOUGH):
            client.send(slow, b"x")
            client.send(fast, b"x" * 60)
            time.sleep(PAUSE)
        client.send(slow, b"", end=True)
        client.send(fast, b"", end=True)
        assert bytes(client.answer(slow).body) == str(ENOUGH).encode()
        assert client.answer(fast).status == 200


# ---- bytes to a client --------------------------------------------------------------------------------------------------

LARGE = b"x" * 20_000_000


def give(tmp_path: Path) -> Callable[[App], None]:
    (tmp_path / "large").write_bytes(LARGE)

    def configure(app: App) -> None:
        def write(res: Any, req: Any) -> None:
            res.write(LARGE)
            res.end("")

        app.get("/end", lambda res, req: res.end(LARGE)).get("/write", write)
        app.static("/files", str(tmp_path))

    return configure


def take(sock: socket.socket, pause: float) -> int:
    """Reads in pieces of 64 KiB, with a pause between them; gives how much there was."""
    received = 0
    with contextlib.suppress(OSError):
        while received < len(LARGE):
            for _ in range(4):
                piece = sock.recv(16_384)
                received += len(piece)
                if not piece:
                    return received
            time.sleep(pause)
    return received


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("target", ["/end", "/write", "/files/large"])
def test_an_answer_that_is_taken_slowly(
    serve: Serve, tmp_path: Path, secured: Certificates | None, target: str, keeps: bool
) -> None:
    """The kernel gives room in large pieces, so only an unreachable rate shows the difference."""
    rate = 1000 if keeps else (1 << 32) - 1
    running = serve(give(tmp_path), write_timeout=2, min_rate=rate, **over(secured))
    with connect(running, secured) as client:
        client.request("GET", target)
        assert (take(client.socket, 0.002 if keeps else 0.02) >= len(LARGE)) == keeps
        until(lambda: keeps or running.app._server.connection_count() == 0, "it is cut off")


@pytest.mark.parametrize("rate", [0, RATE])
def test_a_stream_whose_window_drips(serve: Serve, rate: int) -> None:
    """A byte at a time: the stream is reset, its handler sees the abort, and its connection goes on."""
    aborted = threading.Event()

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            res.on_aborted(lambda res: aborted.set())
            res.write(b"x" * 100_000)

        app.get("/large", handler).get("/", lambda res, req: res.end("fine"))

    running = serve(configure, write_timeout=PATIENCE, min_rate=rate)
    with H2Client(running.port, window=10, acknowledge=False) as client:
        number = client.request("/large")
        stream = client.streams[number]
        client.socket.settimeout(PAUSE)
        for _ in range(ENOUGH):
            if stream.over:
                break
            client.h2.increment_flow_control_window(1, number)
            client.flush()
            time.sleep(PAUSE)
            with contextlib.suppress(TimeoutError):
                client.receive()
        client.socket.settimeout(20)
        assert stream.reset == (CANCEL if rate else None)
        assert aborted.is_set() == bool(rate)
        assert bytes(client.get("/").body) == b"fine"


@pytest.mark.parametrize("rate", [0, 100 * RATE])
def test_answered_streams_whose_windows_drip(serve: Serve, rate: int) -> None:
    """They are finished: they are the rest of a connection, and it ends with them."""
    answered: list[int] = []

    def handler(res: Any, req: Any) -> None:
        # All of them together are more than the kernel takes: its buffer grows to 4 MiB.
        res.end(b"x" * 50_000)
        answered.append(1)

    # TCP itself may stand still for a second with so small a window.
    limits = {"write_timeout": 4 * PATIENCE, "header_timeout": 600, "keep_alive_timeout": 600}
    running = serve(lambda app: app.get("/", handler), min_rate=rate, **limits)
    raw = socket.socket()
    # So little that most of it stays with the server.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(20)
    raw.connect(("127.0.0.1", running.port))
    with H2Client(running.port, window=1 << 30, acknowledge=False, sock=raw) as client:
        client.h2.increment_flow_control_window(1 << 30)
        client.until(lambda: client.settings)
        numbers = [client.request("/", flush=False) for _ in range(120)]
        client.flush()
        until(lambda: len(answered) == len(numbers), "the answers")
        client.h2.update_settings({4: 0})
        client.flush()
        ended = threading.Event()

        def drain() -> None:
            with contextlib.suppress(OSError):
                while raw.recv(1 << 20):
                    pass
            ended.set()

        reader = threading.Thread(target=drain)
        reader.start()
        # 300 bytes for the last of them, which none of the bytes that are on their way belongs to.
        one = b"\0\0\4\x08\0" + numbers[-1].to_bytes(4, "big") + b"\0\0\1\x2c"
        drip(raw.sendall, count=2 * ENOUGH, piece=one).join()
        assert ended.wait(20 if rate else 0) == bool(rate)
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)
        reader.join()


@pytest.mark.parametrize("keeps", [True, False])
def test_a_connection_of_streams_that_is_taken_slowly(serve: Serve, tmp_path: Path, keeps: bool) -> None:
    """All windows are open; the socket itself is read slowly."""
    running = serve(give(tmp_path), write_timeout=2, min_rate=1000 if keeps else (1 << 32) - 1)
    with H2Client(running.port, window=1 << 30, acknowledge=False) as client:
        client.h2.increment_flow_control_window(1 << 30)
        client.request("/end")
        assert (take(client.socket, 0.002 if keeps else 0.02) >= len(LARGE)) == keeps


def test_who_sends_pays_for_no_answer(serve: Serve) -> None:
    """A client that sends its body fast and takes nothing is cut off all the same."""

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            res.write(LARGE)
            res.on_data(lambda res, chunk, is_end: None)

        app.post("/", handler)

    running = serve(configure, write_timeout=PATIENCE)
    with running.client(receive_buffer=4096) as client:
        client.request("POST", "/", "Content-Length: 1000000000")
        client.socket.settimeout(0.2)
        with contextlib.suppress(OSError):
            for _ in range(ENOUGH):
                with contextlib.suppress(TimeoutError):
                    client.socket.send(b"x" * 1000)
                time.sleep(PAUSE)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        until(lambda: running.app._server.connection_count() == 0, "it is cut off")


@pytest.mark.parametrize("value", [-1, 1.5, "10", 1 << 70])
def test_a_rate_is_a_count_of_bytes(value: Any) -> None:
    with pytest.raises(ValueError, match=r"min_rate must be a whole number from 0"):
        App(min_rate=value)
