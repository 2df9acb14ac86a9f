"""Clients of HTTP/2 that mean harm: each is bounded, and the server goes on for all others.

CVE-2023-44487 (rapid reset), CVE-2025-8671 (MadeYouReset), CVE-2024-27316 (CONTINUATION), CVE-2019-9512 (ping), 9515
(settings), 9517 (windows that stay shut), 9518 (empty frames).
"""

from __future__ import annotations

import contextlib
import gc
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App
from support import until
from support.h2_client import H2Client

Serve = Callable[..., Any]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CALM = 11
#: A request for "/" of example.org, without Huffman codes and the dynamic table (RFC 7541 C).
REQUEST = b"\x82\x86\x84\x01\x0bexample.org"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class Raw:
    """Raw frames."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.sendall(PREFACE + frame(4))

    def goaway(self) -> int | None:
        """Reads until the end; gives the code of GOAWAY if it came through."""
        data = b""
        code = None
        while True:
            try:
                piece = self.socket.recv(1 << 20)
            except ConnectionError:
                piece = b""
            data += piece
            while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                length = int.from_bytes(data[:3], "big")
                if data[3] == 7:
                    code = int.from_bytes(data[13:17], "big")
                data = data[9 + length :]
            if not piece:
                self.socket.close()
                return code

    def flood(self, make: Callable[[int], bytes], times: int) -> int | None:
        """Sends until the server has enough; None when it never does, or its word was lost to a reset."""
        taken = threading.Event()
        code: list[int | None] = []
        reader = threading.Thread(target=lambda: (code.append(self.goaway()), taken.set()))
        reader.start()
        try:
            for turn in range(times):
                self.socket.sendall(make(turn))
        except OSError:
            pass
        ended = taken.wait(10)
        if not ended:
            self.socket.shutdown(socket.SHUT_RDWR)
        reader.join()
        assert ended, "the server takes all of it"
        return code[0]


def hello(app: App) -> None:
    app.get("/", lambda res, req: res.end("Hello"))


FLOODS: dict[str, Callable[[int], bytes]] = {
    # A request and its reset, again and again.
    "rapid reset": lambda turn: b"".join(
        frame(1, 5, 2 * (64 * turn + n) + 1, REQUEST)
        + frame(3, 0, 2 * (64 * turn + n) + 1, struct.pack("!I", 8))
        for n in range(64)
    ),
    # A request and a frame that has us reset it: a window that grows beyond what there is.
    "made you reset": lambda turn: b"".join(
        frame(1, 5, 2 * (64 * turn + n) + 1, REQUEST)
        + frame(8, 0, 2 * (64 * turn + n) + 1, b"\x7f\xff\xff\xff")
        for n in range(64)
    ),
    # A header block without an end.
    "continuation": lambda turn: (
        (frame(1, 1, 1, REQUEST) if turn == 0 else b"")
        + frame(9, 0, 1, b"\x40\x01a\x7f\x80\x01" + b"x" * 255) * 64
    ),
    "empty data": lambda turn: (frame(1, 4, 1, REQUEST) if turn == 0 else b"") + frame(0, 0, 1) * 1000,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_its_connection(serve: Serve, flood: str) -> None:
    """GOAWAY and the end; others are served meanwhile."""

    async def never(res: Any, req: Any) -> None:
        await res.get_data()

    running = serve(
        lambda app: (hello(app), app.post("/", never)), header_timeout=600, keep_alive_timeout=600
    )
    assert Raw(running.port).flood(FLOODS[flood], 2000) == CALM
    with H2Client(running.port) as client:
        assert client.get("/").status == 200


def test_streams_that_are_given_up_after_they_began_are_counted(serve: Serve) -> None:
    """A handler has run for each by then: more than a thousand in half a minute are too many."""
    begun: list[int] = []

    def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: None)
        begun.append(1)

    running = serve(lambda app: app.get("/", handler), header_timeout=600, keep_alive_timeout=600)
    with H2Client(running.port) as client:
        for _ in range(1100):
            before = len(begun)
            try:
                number = client.request("/")
                until(lambda before=before: len(begun) > before, "the handler")
                client.h2.reset_stream(number, 8)
                client.flush()
            except (OSError, AssertionError):
                break
            client.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.receive()
            client.socket.settimeout(20)
            if client.goaway or client.closed:
                break
        while not client.goaway and not client.closed:
            client.receive()
        assert 1000 < len(begun) < 1100
        assert client.goaway
        assert client.goaway.error_code == CALM


def test_a_shared_connection_may_give_streams_up(serve: Serve) -> None:
    """A reverse proxy's: of thousands of requests more than a thousand are cancelled, and most get
    responses."""
    begun: list[int] = []

    def waits(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: None)
        begun.append(1)

    running = serve(lambda app: (hello(app), app.get("/waits", waits)))
    with H2Client(running.port) as client:
        client.until(lambda: client.settings)
        for turn in range(24):
            numbers = [client.request("/waits", flush=False) for _ in range(50)]
            client.flush()
            until(lambda turn=turn: len(begun) == 50 * (turn + 1), "the handlers")
            for number in numbers:
                client.h2.reset_stream(number, 8)
            answers = [client.request("/", flush=False) for _ in range(60)]
            client.flush()
            for number in answers:
                assert client.answer(number).status == 200
        assert client.goaway is None


@pytest.mark.parametrize("kind", ["ping", "settings"])
def test_answers_that_are_not_taken_do_not_pile_up(serve: Serve, kind: str) -> None:
    """Pings and settings require replies: a client that reads none is cut off, by the budget of such frames
    if not before."""
    running = serve(hello, write_timeout=0.5)
    made = frame(6, 0, 0, b"12345678") if kind == "ping" else frame(4)
    flood = made * 10_000
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as raw:
        raw.sendall(PREFACE + frame(4))
        cut = False
        # Bytes after GOAWAY are discarded for a while, as fast as they arrive.
        until_then = time.monotonic() + 20
        while time.monotonic() < until_then:
            try:
                raw.sendall(flood)
            except ConnectionError:
                cut = True
                break
        assert cut
    with H2Client(running.port) as client:
        assert client.get("/").status == 200


def test_a_client_that_reads_nothing_is_cut_off(serve: Serve) -> None:
    """All windows open, and nothing taken from the socket."""
    aborted = threading.Event()

    def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: aborted.set())
        res.write(b"x" * (64 << 20))

    running = serve(lambda app: app.get("/", handler), write_timeout=0.5)
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as raw:
        settings = struct.pack("!HI", 4, 0x7FFFFFFF)
        raw.sendall(
            PREFACE + frame(4, 0, 0, settings) + frame(8, 0, 0, struct.pack("!I", 0x7FFF0000 - 65535))
        )
        raw.sendall(frame(1, 5, 1, REQUEST))
        assert aborted.wait(20)


def test_a_preface_that_goes_no_further_has_a_time(serve: Serve) -> None:
    running = serve(hello, header_timeout=0.3)
    for start in (
        PREFACE[:20],
        PREFACE,
        PREFACE + frame(4)[:5],
        PREFACE + frame(4) + frame(1, 0, 1, REQUEST),
    ):
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as raw:
            raw.sendall(start)
            while raw.recv(65536):
                pass


def test_garbage_behind_the_preface_ends_the_connection(serve: Serve) -> None:
    running = serve(hello)
    for garbage in (
        b"\xff" * 100,
        frame(0, 0, 0, b"x"),
        frame(1, 5, 2, REQUEST),
        frame(4, 0, 0, b"12345"),
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        raw = Raw.__new__(Raw)
        raw.socket = socket.create_connection(("127.0.0.1", running.port), timeout=20)
        raw.socket.sendall(PREFACE + frame(4) + garbage)
        assert raw.goaway() != 0


def test_streams_leave_nothing_behind(serve: Serve) -> None:
    """Requests and responses of streams are freed, whether they were answered, reset or lost."""
    kept: list[weakref.ref[Any]] = []

    def answered(res: Any, req: Any) -> None:
        kept.append(weakref.ref(res))
        res.end("ok")

    def waits(res: Any, req: Any) -> None:
        kept.append(weakref.ref(res))
        res.on_aborted(lambda res: None)

    def configure(app: App) -> None:
        app.get("/", answered)
        app.get("/waits", waits)

    running = serve(configure)
    with H2Client(running.port) as client:
        for _ in range(50):
            client.get("/")
        numbers = [client.request("/waits") for _ in range(50)]
        until(lambda: len(kept) == 100, "the handlers")
        for number in numbers[:25]:
            client.h2.reset_stream(number, 8)
        client.flush()

    def freed() -> bool:
        gc.collect()
        return all(ref() is None for ref in kept)

    until(freed, "all of them freed")


def test_streams_are_no_connections_and_all_of_them_go(serve: Serve) -> None:
    """A thousand streams, answered, given up and reset: the server's own counts go back to what they were."""

    def waits(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: None)

    async def later(res: Any, req: Any) -> None:
        res.end((await res.get_data()).getvalue())

    def configure(app: App) -> None:
        hello(app)
        app.get("/waits", waits)
        app.get("/close", lambda res, req: res.close())
        app.post("/", later)

    running = serve(configure)
    core = running.app._server
    with H2Client(running.port) as client:
        client.until(lambda: client.settings)
        for _ in range(10):
            waiting = [client.request("/waits", flush=False) for _ in range(40)]
            client.flush()
            assert client.get("/").status == 200
            until(lambda: core.stream_count() == 40, "the streams")
            assert core.connection_count() == 1
            for number in waiting:
                client.h2.reset_stream(number, 8)
            client.flush()
            for _ in range(20):
                assert client.get("/").status == 200
                assert client.get("/close").reset is not None
                assert client.answer(client.request("/", "POST", body=b"b" * 1000)).status == 200
            until(lambda: core.stream_count() == 0, "no stream is left")
        for _ in range(40):
            client.request("/waits", flush=False)
        client.flush()
        assert client.get("/").status == 200
        until(lambda: core.stream_count() == 40, "the streams")
    until(lambda: core.stream_count() == 0 and core.connection_count() == 0, "nothing is left")


#: Frames that bring nothing and cost little to send.
CONTROL: dict[str, bytes] = {
    "settings": frame(4, 0, 0, struct.pack("!HI", 4, 70_000)),
    "ping": frame(6, 0, 0, b"12345678"),
    "acknowledged ping": frame(6, 1, 0, b"12345678"),
    "priority": frame(2, 0, 1, b"\0\0\0\0\x10"),
    "window": frame(8, 0, 0, b"\0\0\0\1"),
    "unknown": frame(0x42, 0, 0, b"what"),
}


@pytest.mark.parametrize("kind", CONTROL)
def test_frames_that_bring_nothing_have_a_budget(serve: Serve, kind: str) -> None:
    """Also where the client takes the responses: it keeps a thread busy, so it gets ENHANCE_YOUR_CALM."""
    running = serve(hello, header_timeout=600, keep_alive_timeout=600, write_timeout=600)
    assert Raw(running.port).flood(lambda turn: CONTROL[kind] * 1000, 5000) == CALM
    with H2Client(running.port) as client:
        assert client.get("/").status == 200


def test_a_flood_that_begins_on_a_stream_ends_it_too(serve: Serve) -> None:
    """A task that waits for the client learns that it has gone."""
    began, aborted = threading.Event(), threading.Event()

    def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: aborted.set())
        began.set()

    running = serve(lambda app: app.get("/", handler))
    raw = Raw(running.port)
    raw.socket.sendall(frame(1, 5, 1, REQUEST))
    # The work of a client that has gone is not begun.
    assert began.wait(20)
    assert raw.flood(lambda turn: CONTROL["ping"] * 1000, 5000) == CALM
    assert aborted.wait(20)


@pytest.mark.parametrize("pieces", [1, 100])
def test_clients_that_give_each_window_back_have_no_bound(serve: Serve, pieces: int) -> None:
    """Two WINDOW_UPDATE and a PING for each frame of data, which is as much as any client sends, for many of them."""

    async def handler(res: Any, req: Any) -> None:
        for _ in range(pieces):
            res.write(b"x" * 20)
        res.end("")

    running = serve(lambda app: app.get("/", handler))
    frames = 0
    with H2Client(running.port) as client:
        while frames < 12_000:
            numbers = [client.request("/", flush=False) for _ in range(100)]
            client.flush()
            while not all(client.streams[number].over for number in numbers):
                for event in client.receive():
                    if hasattr(event, "flow_controlled_length"):
                        frames += 1
                        client.h2.increment_flow_control_window(1)
                        client.h2.ping(b"12345678")
                client.flush()
                assert not client.closed, client.goaway
        assert client.goaway is None
