"""Bodies in both directions over HTTP/2: windows, pauses, limits, the frames that end a stream.

Rows: I-S-04, A-RES-27; RFC 9113 5.2, 8.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App
from support import until
from support.h2_client import H2Client
from support.lanes import each_lane, on, options

Serve = Callable[..., Any]
MEBI = 1 << 20
NO_ERROR, CANCEL = 0, 8


def h2(running: Any, **options: Any) -> H2Client:
    return H2Client(running.port, **options)


# ---- bodies ---------------------------------------------------------------------------------------------------------


@each_lane
def test_bodies_of_every_size(serve: Serve, lane: str) -> None:
    """Larger than any window, in order and whole; with and without a length."""

    async def echo(res: Any, req: Any) -> None:
        res.end((await res.get_data()).getvalue())

    running = serve(lambda app: app.post("/", echo), **options(lane))
    body = bytes(range(256)) * (3 * MEBI // 256)
    with h2(running) as client:
        for size in (0, 1, 16384, 65536, len(body)):
            headers = [("content-length", str(size))] if size % 2 == 0 else []
            answer = client.answer(client.request("/", "POST", headers=headers, body=body[:size]))
            assert answer.status == 200
            assert bytes(answer.body) == body[:size]


def test_on_data_gets_pieces_and_the_end(serve: Serve) -> None:
    """A-RES: a body in pieces; END_STREAM may come alone."""

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            got: list[bytes] = []

            def data(res: Any, chunk: bytes, last: bool) -> None:
                got.append(bytes(chunk))
                if last:
                    res.end(b"".join(got))

            res.on_data(data)

        app.post("/", handler)

    running = serve(configure)
    with h2(running) as client:
        number = client.request("/", "POST", body=b"one ", end=False)
        client.send(number, b"two")
        client.send(number, b"", end=True)
        assert bytes(client.answer(number).body) == b"one two"


def test_a_body_that_is_too_large_is_refused(serve: Serve) -> None:
    """413, and the stream is given up with NO_ERROR (RFC 9113 8.1): by its length before a byte, or by its bytes."""

    async def read(res: Any, req: Any) -> None:
        await res.get_data()
        res.end("whole")

    running = serve(lambda app: app.post("/", read), max_body_size=1000)
    with h2(running) as client:
        declared = client.answer(client.request("/", "POST", headers=[("content-length", "1001")], end=False))
        assert declared.status == 413
        number = client.request("/", "POST", body=b"x" * 1001, end=False)
        assert client.answer(number).status == 413
        client.until(lambda: client.streams[number].reset is not None)
        assert client.streams[number].reset == NO_ERROR
        assert bytes(client.answer(client.request("/", "POST", body=b"x" * 1000)).body) == b"whole"


def test_an_answer_before_the_body_gives_the_body_up(serve: Serve) -> None:
    """RFC 9113 8.1: RST_STREAM with NO_ERROR after the response."""
    running = serve(lambda app: app.post("/", lambda res, req: res.end("early")))
    with h2(running) as client:
        number = client.request("/", "POST", body=b"x", end=False)
        client.until(lambda: client.streams[number].reset is not None)
        stream = client.streams[number]
        assert (stream.status, bytes(stream.body), stream.ended, stream.reset) == (
            200,
            b"early",
            True,
            NO_ERROR,
        )


def flood(client: H2Client, number: int) -> int:
    """Sends until the window is used up and the server has given nothing back for a whole round trip; returns
    how much."""
    sent = 0
    while True:
        room = min(client.h2.local_flow_control_window(number), 16384)
        if room:
            client.h2.send_data(number, b"x" * room)
            client.flush()
            sent += room
            continue
        assert bytes(client.get("/").body) == b"other"
        if client.h2.local_flow_control_window(number) == 0:
            return sent


def test_pause_holds_the_client_up(serve: Serve) -> None:
    """An unread body is bounded by body_buffer and the window of its stream; other streams go on."""
    responses: list[Any] = []

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            total = [0]

            def data(res: Any, chunk: bytes, last: bool) -> None:
                total[0] += len(chunk)
                if last:
                    res.end(str(total[0]))

            res.on_data(data)
            res.pause()
            responses.append(res)

        app.post("/", handler)
        app.get("/", lambda res, req: res.end("other"))

    running = serve(configure, body_buffer=16384)
    with h2(running) as client:
        number = client.request("/", "POST", end=False)
        until(lambda: responses, "the handler")
        sent = flood(client, number)
        assert sent <= 256 * 1024 + 4 * 16384
        responses[0].resume()
        client.send(number, b"y" * MEBI, end=True)
        assert client.answer(number).body == str(sent + MEBI).encode()


@pytest.mark.parametrize("way", ["get_data", "body", "stream"])
def test_a_reader_that_gave_up_holds_the_client_up(serve: Serve, way: str) -> None:
    """Without a reader the window is returned up to body_buffer, no timeout runs, and the next reader goes
    on."""
    gave_up = threading.Event()
    go_on = asyncio.Event()
    ways = {
        "get_data": lambda res, req: res.get_data(),
        "body": lambda res, req: req.body(),
        "stream": lambda res, req: req.stream().__anext__(),
    }

    async def give_up(res: Any, req: Any) -> None:
        await ways[way](res, req)

    async def handler(res: Any, req: Any) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(give_up(res, req), 0.02)
        gave_up.set()
        await go_on.wait()
        total = 0
        async for piece in req.stream():
            total += len(piece)
        res.end(f"{total}")

    def configure(app: App) -> None:
        app.post("/", handler)
        app.get("/", lambda res, req: res.end("other"))

    running = serve(configure, body_buffer=16384, body_timeout=1.5)
    with h2(running) as client:
        number = client.request("/", "POST", end=False)
        assert gave_up.wait(20)
        sent = flood(client, number)
        assert sent <= 256 * 1024 + 4 * 16384
        # Longer than the timeout, during which the client is not late.
        client.socket.settimeout(2)
        with pytest.raises(TimeoutError):
            client.receive()
        client.socket.settimeout(20)
        running.app.loop.loop.call_soon_threadsafe(go_on.set)
        client.send(number, b"y" * MEBI, end=True)
        assert client.answer(number).body == str(sent + MEBI).encode()


def test_expect_continue_is_answered(serve: Serve) -> None:
    """RFC 9110 10.1.1."""

    async def read(res: Any, req: Any) -> None:
        res.end((await res.get_data()).getvalue())

    running = serve(lambda app: app.post("/", read))
    with h2(running) as client:
        number = client.request("/", "POST", headers=[("expect", "100-continue")], end=False)
        client.until(lambda: client.streams[number].interim == [100])
        client.send(number, b"now", end=True)
        assert bytes(client.answer(number).body) == b"now"


# ---- flow control of responses ----------------------------------------------------------------------------------------


def test_try_end_takes_what_the_window_gives(serve: Serve) -> None:
    """A-RES-27: on_writable comes when the client has given room; nothing is lost or repeated."""
    body = bytes(range(256)) * 4096
    takes: list[int] = []

    def handler(res: Any, req: Any) -> None:
        def more(res: Any, offset: int) -> bool:
            offset = res.get_write_offset()
            taken, _ = res.try_end(body[offset:], len(body))
            takes.append(res.get_write_offset() - offset)
            return bool(taken)

        taken, _ = res.try_end(body, len(body))
        if not taken:
            res.on_writable(more)

    running = serve(lambda app: app.get("/", handler))
    with h2(running, window=1000, acknowledge=False) as client:
        number = client.request("/")
        stream = client.streams[number]
        client.until(lambda: len(stream.body) == 1000)
        client.h2.increment_flow_control_window(len(body))
        client.h2.increment_flow_control_window(len(body), number)
        client.flush()
        assert bytes(client.answer(number).body) == body
        assert takes


def test_a_client_that_reads_one_answer_only_gets_it(serve: Serve) -> None:
    """A stream without a window holds up no other; when it has one, it goes on."""
    running = serve(lambda app: app.get("/:n", lambda res, req: res.end(b"x" * 50_000)))
    with h2(running, window=0, acknowledge=False) as client:
        first, second = client.request("/1"), client.request("/2")
        client.h2.increment_flow_control_window(50_000, second)
        client.flush()
        assert len(client.answer(second).body) == 50_000
        assert len(client.streams[first].body) == 0
        client.h2.increment_flow_control_window(50_000)
        client.h2.increment_flow_control_window(50_000, first)
        client.flush()
        assert len(client.answer(first).body) == 50_000


@each_lane
def test_a_stream_that_is_not_read_is_reset_in_time(serve: Serve, lane: str) -> None:
    """write_timeout is a stream's own; the connection and its other streams live on. Nothing else wakes the sweeper."""
    aborted = threading.Event()

    def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: aborted.set())
        res.write(b"x" * 100_000)

    def configure(app: App) -> None:
        app.get("/stuck", on(lane, handler))
        app.get("/waits", lambda res, req: res.on_aborted(lambda res: None))
        app.get("/", lambda res, req: res.end("ok"))

    running = serve(configure, write_timeout=0.5, **options(lane))
    with h2(running, window=10, acknowledge=False) as client:
        client.request("/waits")
        assert bytes(client.get("/").body) == b"ok"
        assert client.get("/stuck").reset == CANCEL
        assert aborted.wait(20)
        client.h2.increment_flow_control_window(100)
        assert bytes(client.get("/").body) == b"ok"


# With so little room the kernel may deliver earlier bytes a few at a time.
@pytest.mark.timeout(240)
def test_answers_that_wait_for_a_window_have_a_time(serve: Serve) -> None:
    """All is answered, and then the client shuts its windows: the rest waits for write_timeout and no
    longer."""
    count = 120
    answered: list[int] = []

    def handler(res: Any, req: Any) -> None:
        res.end(b"x" * 30_000)
        answered.append(1)

    running = serve(
        lambda app: app.get("/", handler), write_timeout=1, header_timeout=600, keep_alive_timeout=600
    )
    raw = socket.socket()
    # So little that most of it stays with the server.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(20)
    raw.connect(("127.0.0.1", running.port))
    with h2(running, window=1 << 30, acknowledge=False, sock=raw) as client:
        client.h2.increment_flow_control_window(1 << 30)
        client.until(lambda: client.settings)
        for _ in range(count):
            client.request("/", flush=False)
        client.flush()
        until(lambda: len(answered) == count, "the answers")
        client.h2.update_settings({4: 0})
        client.flush()
        got = 0
        # Pings do not keep it.
        with contextlib.suppress(ConnectionError):
            while piece := raw.recv(1 << 20):
                got += len(piece)
                client.h2.ping(b"12345678")
                client.flush()
        assert got < count * 30_000
    until(lambda: running.app._server.connection_count() == 0, "the connection has gone")


def test_unread_uploads_hold_up_no_other(serve: Serve) -> None:
    """Many streams with unread bodies fill their own windows; another body still comes through."""
    waiting: list[Any] = []

    def stuck(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: None)
        res.on_data(lambda res, chunk, last: None)
        res.pause()
        waiting.append(res)

    async def read(res: Any, req: Any) -> None:
        res.end(str(len((await res.get_data()).getvalue())))

    def configure(app: App) -> None:
        app.post("/stuck", stuck)
        app.post("/", read)

    running = serve(configure, body_buffer=16384)
    with h2(running) as client:
        client.until(lambda: 4 in client.settings)
        window = client.settings[4]
        for _ in range(20):
            number = client.request("/stuck", "POST", end=False)
            client.send(number, b"x" * window)
        until(lambda: len(waiting) == 20, "the handlers")
        assert client.answer(client.request("/", "POST", body=b"y" * MEBI)).body == str(MEBI).encode()


def test_end_stream_goes_with_the_last_data(serve: Serve) -> None:
    """I-S-04: one HEADERS and one DATA frame for a response, or one HEADERS frame where there is no body."""

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.end("Hello"))
        app.get("/sized", lambda res, req: res.try_end(b"Hello", 5))
        app.get("/none", lambda res, req: res.write_status(204).end_without_body())

    running = serve(configure)
    for path, kinds in (("/", [1, 0]), ("/sized", [1, 0]), ("/none", [1])):
        with h2(running) as client:
            client.until(lambda client=client: client.settings)
            number = client.request(path)
            data = b""
            frames: list[tuple[int, int]] = []
            while not frames or not frames[-1][1] & 1:
                data += client.socket.recv(65536)
                while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                    if int.from_bytes(data[5:9], "big") == number:
                        frames.append((data[3], data[4]))
                    data = data[9 + int.from_bytes(data[:3], "big") :]
            assert [kind for kind, _ in frames] == kinds, path
