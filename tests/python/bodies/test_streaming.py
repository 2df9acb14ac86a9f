"""Responses and bodies in many pieces: no byte is lost, no wait is endless, and memory stays flat.

Rows: A-RES-08, A-RES-11, A-RES-12, A-RES-14, A-RES-22, A-RES-27, A-RES-29, B-HT-15, B-HT-26, B-HT-27, I-A-03, I-A-26,
I-C-22; `drain` and `get_buffered_amount` are extensions.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from socketify import App
from support import until
from support.client import Client

MEBI = 1 << 20
#: Bytes with a recognizable order: no two blocks are equal.
PATTERN = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(5 * MEBI // 32))


def read_slowly(client: Client, *, pause: float = 0.002, every: int = 500_000) -> bytes:
    """The body of one response, read with pauses."""
    head = client.until(b"\r\n\r\n").decode("latin-1").lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    body = b""
    while len(body) < length:
        body += client.exactly(min(every, length - len(body)))
        time.sleep(pause)
    return body


# ---- write --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["io", "loop"])
def test_write_is_chunked(serve: Any, lane: str) -> None:
    """A-RES-22: every piece, in order; empty ones do not end the body; then the connection serves on."""

    def handler(res: Any, req: Any) -> None:
        res.write(b"").write("one ").write(b"").write(bytearray(b"two ")).write(memoryview(b"three ")).write(
            {"four": 4}
        )
        res.end(" five")

    with serve(lambda app: app.get("/", handler), sync_handlers=lane).client() as client:
        for _ in range(2):
            answer = client.get()
            assert answer.header("Transfer-Encoding") == "chunked"
            assert answer.header("Content-Length") is None
            assert answer.body.replace(b": ", b":") == b'one two three {"four":4} five'


@pytest.mark.parametrize("last", ["end", "end_without_body", "empty end"])
def test_the_end_of_a_chunked_answer(serve: Any, last: str) -> None:
    """A-RES-15, A-RES-25: it ends once, however it ends."""

    def handler(res: Any, req: Any) -> None:
        res.write("body")
        {
            "end": lambda: res.end(None),
            "end_without_body": res.end_without_body,
            "empty end": lambda: res.end(b""),
        }[last]()
        res.end("again").write("again")

    with serve(lambda app: app.get("/", handler)).client() as client:
        assert client.get().body == b"body"
        assert client.get().body == b"body"


def test_written_to_http10_ends_with_the_connection(serve: Any) -> None:
    """A-RES-22, RFC 9112 6.1: an old client knows no chunks."""

    def handler(res: Any, req: Any) -> None:
        res.write("one ")
        res.end("two")

    with serve(lambda app: app.get("/", handler)).client() as client:
        answer = client.request("GET", "/", "Connection: keep-alive", version="1.0").answer()
        assert (answer.header("Transfer-Encoding"), answer.header("Connection")) == (None, "close")
        assert answer.body == b"one two"


def test_pieces_leave_as_they_are_written(serve: Any) -> None:
    """A-CALL-03, A-RES-22: output before an await reaches the client during it."""
    step = threading.Event()

    async def handler(res: Any, req: Any) -> None:
        for number in range(3):
            res.write(f"piece {number}")
            await asyncio.to_thread(step.wait, 20)
            step.clear()
        res.end("")

    with serve(lambda app: app.get("/", handler)).client() as client:
        client.request()
        for number in range(3):
            client.until(b"piece %d\r\n" % number)
            step.set()
        client.until(b"0\r\n\r\n")


def test_write_with_a_declared_length(serve: Any) -> None:
    """A-RES-21: with a Content-Length of the user's there are no chunks; what exceeds it stays here."""

    def handler(res: Any, req: Any) -> None:
        res.write_header("Content-Length", 6).write("abc").write("defghi").end("jkl")

    with serve(lambda app: app.get("/", handler)).client() as client:
        for _ in range(2):
            answer = client.get()
            assert (answer.header("Content-Length"), answer.body) == ("6", b"abcdef")


def test_less_than_the_declared_length_is_cut(serve: Any) -> None:
    """RFC 9112 6.3: the client sees that something is missing."""
    running = serve(
        lambda app: app.get("/", lambda res, req: res.write_header("Content-Length", 6).write("abc").end(""))
    )
    with running.client() as client:
        client.request()
        assert client.rest().endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 65_536, 300_000, 5 * MEBI])
def test_sizes_of_pieces(serve: Any, size: int) -> None:
    """A-RES-22, B-HT-26: small pieces are gathered, large ones go from where they lie; the client sees the same."""

    def handler(res: Any, req: Any) -> None:
        for at in range(0, len(PATTERN), size):
            res.write(PATTERN[at : at + size])
            if size == 1 and at == 5000:
                break
        res.end("!")

    with serve(lambda app: app.get("/", handler)).client(receive_buffer=65_536) as client:
        expected = PATTERN[:5001] if size == 1 else PATTERN
        assert client.get().body == expected + b"!"


def test_head_has_no_body_however_it_is_written(serve: Any) -> None:
    """B-HT-01."""

    async def chunks(res: Any, req: Any) -> None:
        assert await res.send_chunk(b"abc", 6) == (True, False)
        assert await res.send_chunk(b"def", 6) == (True, True)

    def configure(app: App) -> None:
        app.get("/write", lambda res, req: res.write("abc").end("def"))
        app.get("/try_end", lambda res, req: res.try_end("abcdef", 6))
        app.get("/send_chunk", chunks)

    with serve(configure).client() as client:
        for target in ("/write", "/try_end", "/send_chunk"):
            answer = client.request("HEAD", target).answer("HEAD")
            assert answer.status == 200
            assert answer.header("Content-Length") == (None if target == "/write" else "6")
            assert client.get(target).body == b"abcdef"


def test_failing_half_way_cuts_the_answer(serve: Any, caplog: Any) -> None:
    """A response half sent is never completed as if it were whole."""

    def at_once(res: Any, req: Any) -> None:
        res.write(PATTERN[:100_000])
        raise RuntimeError("half way")

    async def later(res: Any, req: Any) -> None:
        res.write(PATTERN[:100_000])
        await asyncio.sleep(0)
        raise RuntimeError("half way")

    running = serve(lambda app: app.get("/def", at_once).get("/async", later))
    for target in ("/def", "/async"):
        with running.client() as client:
            rest = client.request("GET", target).rest()
            assert rest.startswith(b"HTTP/1.1 200 OK")
            assert not rest.endswith(b"0\r\n\r\n")
            assert b"Internal Error" not in rest
    # The log may come a moment after the cut.
    until(lambda: caplog.text.count("Uncaught Exception: half way") == 2, "both errors to be logged")


# ---- try_end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["io", "loop"])
@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_try_end_with_on_writable(serve: Any, lane: str, slow: bool) -> None:
    """A-RES-14, A-RES-29, B-HT-27: byte for byte, from the offset that was reached, however slow the client is."""
    offsets: list[int] = []

    def handler(res: Any, req: Any) -> None:
        offsets.clear()

        def writable(res: Any, offset: int) -> bool:
            assert offset == res.get_write_offset()
            offsets.append(offset)
            ok, _ = res.try_end(PATTERN[offset:], len(PATTERN))
            return bool(ok)

        ok, done = res.try_end(PATTERN, len(PATTERN))
        assert done == (res.get_write_offset() == 0 and ok)
        if not done:
            res.on_writable(writable)

    running = serve(lambda app: app.get("/", handler), sync_handlers=lane)
    with running.client(receive_buffer=65_536 if slow else None) as client:
        for _ in range(3):
            client.request()
            assert read_slowly(client, pause=0.005 if slow else 0) == PATTERN
            assert offsets == sorted(set(offsets))
        if slow:
            assert offsets, "the client was not slow enough to prove anything"


def test_try_end_from_a_window(serve: Any) -> None:
    """A-RES-11, A-RES-12: `write_offset` moves the count, so that a large body may be offered window by window."""

    def handler(res: Any, req: Any) -> None:
        first = 1_000_000
        window, start = PATTERN[first : first + 2_000_000], first
        assert res.write_offset(first) is res
        assert res.get_write_offset() == first

        def offer(res: Any, offset: int) -> bool:
            ok, _ = res.try_end(window[offset - start :], start + len(window))
            return bool(ok)

        if not offer(res, first):
            res.on_writable(offer)

    with serve(lambda app: app.get("/", handler)).client(receive_buffer=65_536) as client:
        client.request()
        head = client.until(b"\r\n\r\n")
        # The length that was declared is the whole; the sent bytes begin at the offset.
        assert b"Content-Length: 3000000\r\n" in head
        assert client.exactly(2_000_000) == PATTERN[1_000_000:3_000_000]


def test_try_end_at_once(serve: Any) -> None:
    """A-RES-14: what fits is complete; 0 stands for the length; str counts in bytes; the rest is neutral."""
    results: queue.Queue[Any] = queue.Queue()

    def handler(res: Any, req: Any) -> None:
        kind = req.get_query("kind")
        if kind == "zero":
            results.put(res.try_end("grüß", 0))
        elif kind == "close":
            results.put(res.try_end(b"abc", 3, True))
        elif kind == "other":
            results.put(res.try_end({"no": "json"}, 10))
            res.end("after")
        elif kind == "parts":
            results.put([res.try_end(b"abc", 6), res.get_write_offset(), res.try_end(b"defgh", 6)])
        results.put((res.has_responded(), res.try_end(b"x", 1), res.get_write_offset()))

    with serve(lambda app: app.get("/", handler)).client() as client:
        over = (True, (False, True), 0)
        assert client.get("/?kind=zero").body == "grüß".encode()
        assert [results.get(timeout=20), results.get(timeout=20)] == [(True, True), over]
        assert client.get("/?kind=other").body == b"after"
        assert [results.get(timeout=20), results.get(timeout=20)] == [(False, True), over]
        assert client.get("/?kind=parts").body == b"abcdef"
        assert [results.get(timeout=20), results.get(timeout=20)] == [[(True, False), 3, (True, True)], over]
        # I-A-03.
        answer = client.get("/?kind=close")
        assert (answer.header("Connection"), answer.body) == ("close", b"abc")
        assert client.is_closed()


def test_on_writable_that_fails_or_is_async(serve: Any, caplog: Any) -> None:
    """A-RES-29, A-CALL-14: an exception counts as False and is logged; a coroutine function is refused."""
    called = threading.Event()

    async def refused(res: Any, offset: int) -> bool:
        raise AssertionError("never called")

    def handler(res: Any, req: Any) -> None:
        def fails(res: Any, offset: int) -> bool:
            res.on_writable(goes_on)
            raise RuntimeError("not now")

        def goes_on(res: Any, offset: int) -> bool:
            called.set()
            return bool(res.try_end(PATTERN[offset:], len(PATTERN))[0])

        res.on_writable(refused)
        res.try_end(PATTERN, len(PATTERN))
        res.on_writable(fails)

    with serve(lambda app: app.get("/", handler)).client(receive_buffer=65_536) as client:
        client.request()
        assert read_slowly(client) == PATTERN
    assert called.is_set()
    until(lambda: "not now" in caplog.text, "the error is logged")


# ---- send_chunk and drain -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, 16_384, 100_000, 2 * MEBI])
def test_send_chunk(serve: Any, size: int) -> None:
    """A-RES-08: (True, False) for each accepted chunk, (True, True) for the last, byte for byte."""
    results: list[tuple[bool, bool]] = []

    async def handler(res: Any, req: Any) -> None:
        results.clear()
        for at in range(0, len(PATTERN), size):
            results.append(await res.send_chunk(PATTERN[at : at + size], len(PATTERN)))

    with serve(lambda app: app.get("/", handler)).client(receive_buffer=65_536) as client:
        for _ in range(2):
            client.request()
            assert read_slowly(client, pause=0) == PATTERN
            assert client.get("/none").status == 404
            assert results == [(True, False)] * ((len(PATTERN) - 1) // size) + [(True, True)]


def test_send_chunk_is_a_future_also_of_a_def_handler(serve: Any) -> None:
    """A-RES-08: a plain function may start it; `str` counts in bytes; more than the total is not sent."""

    def handler(res: Any, req: Any) -> None:
        future = res.send_chunk("grüß", 8)
        assert asyncio.isfuture(future)
        future.add_done_callback(lambda future: res.send_chunk(b"1234", 8) if future.result()[0] else None)

    with serve(lambda app: app.get("/", handler)).client() as client:
        assert client.get().body == "grüß12".encode()


def test_send_chunk_of_something_else(serve: Any, caplog: Any) -> None:
    """A-RES-08: str or bytes."""

    async def handler(res: Any, req: Any) -> None:
        with pytest.raises(TypeError):
            await res.send_chunk({"a": 1}, 10)
        res.end("refused")

    with serve(lambda app: app.get("/", handler)).client() as client:
        assert client.get().body == b"refused"


def test_send_chunk_after_the_end(serve: Any) -> None:
    """A-RES-08, A-CALL-10: it resolves, and reports that the client has gone."""
    results: queue.Queue[Any] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        res.end("done")
        results.put(await res.send_chunk(b"more", 100))

    with serve(lambda app: app.get("/", handler)).client() as client:
        assert client.get().body == b"done"
        assert results.get(timeout=20)[1] is True


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("kind", ["send_chunk", "drain", "on_writable"])
def test_client_vanishes_during_a_download(serve: Any, kind: str, how: str) -> None:
    """A-RES-08, A-RES-27, I-C-22: a task that waits for room is released, and the user's on_aborted is called
    as well."""
    heard: queue.Queue[Any] = queue.Queue()
    block = bytes(MEBI)

    async def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: heard.put("aborted"))
        if kind == "send_chunk":
            ok, done = True, False
            while ok and not done:
                ok, done = await res.send_chunk(block, 1 << 40)
            heard.put((ok, done))
        elif kind == "drain":
            while not res.aborted:
                res.write(block)
                await res.drain()
            heard.put((False, True))
        else:
            res.on_writable(lambda res, offset: res.try_end(block, 1 << 40)[0])
            while res.try_end(block, 1 << 40)[0]:
                pass
            heard.put((False, True))

    running = serve(lambda app: app.get("/", handler))
    client = running.client()
    client.request().until(b"\r\n\r\n")
    if kind == "on_writable":
        assert heard.get(timeout=20) == (False, True)
    client.exactly(3 * MEBI)
    if how == "reset":
        client.reset()
    else:
        client.close()
    expected = {"aborted"} if kind == "on_writable" else {"aborted", (False, True)}
    assert {heard.get(timeout=20) for _ in expected} == expected
    with running.client() as other:
        assert other.get("/none").status == 404


def test_drain_waits_for_room(serve: Any) -> None:
    """Extension: `await drain()` after `write` keeps the unsent part small, and gives None."""
    largest = 0

    async def handler(res: Any, req: Any) -> None:
        nonlocal largest
        assert await res.drain() is None
        for at in range(0, len(PATTERN), 10_000):
            res.write(PATTERN[at : at + 10_000])
            await res.drain()
            largest = max(largest, res.get_buffered_amount())
        res.end("")

    with serve(lambda app: app.get("/", handler)).client(receive_buffer=4096) as client:
        client.request()
        client.until(b"\r\n\r\n")
        time.sleep(0.2)
        assert client.chunks() == PATTERN
    assert largest <= 128 * 1024


def test_drain_after_the_end(serve: Any) -> None:
    """A-CALL-10."""
    drained = threading.Event()

    async def handler(res: Any, req: Any) -> None:
        res.end("x")
        await res.drain()
        drained.set()

    with serve(lambda app: app.get("/", handler)).client() as client:
        client.get()
        assert drained.wait(20)


def test_a_slow_reader_delays_nobody(serve: Any) -> None:
    """design.md 3: a response is never delayed by another connection's slow reader."""
    running = serve(
        lambda app: app.get("/", lambda res, req: res.end("fast")).get(
            "/large", lambda res, req: res.end(PATTERN)
        ),
        io_threads=1,
    )
    stopped = [running.client(receive_buffer=4096).request("GET", "/large") for _ in range(8)]
    for client in stopped:
        client.until(b"\r\n\r\n")
    with running.client() as client:
        started = time.monotonic()
        for _ in range(100):
            assert client.get().body == b"fast"
        assert time.monotonic() - started < 5
    for client in stopped:
        client.reset()


# ---- large bodies, both ways --------------------------------------------------------------------------------------------

SERVER = """
import asyncio, hashlib, sys
from socketify import App

block = hashlib.sha256(b"block").digest() * 2048
total = int(sys.argv[1])

app = App(max_body_size=1 << 40)

def upload(res, req):
    digest, count = hashlib.sha256(), 0
    loop, slow = asyncio.get_running_loop(), req.get_query("slow")

    def piece(res, chunk, is_end):
        nonlocal count
        digest.update(chunk)
        count += len(chunk)
        if is_end:
            res.end([count, digest.hexdigest()])
        elif slow:
            # A reader that takes its time: the client has to wait with it.
            res.pause()
            loop.call_later(0.0005, res.resume)

    res.on_data(piece)

async def whole(res, req):
    body = (await res.get_data()).getbuffer()
    res.end([len(body), hashlib.sha256(body).hexdigest()])

async def download(res, req):
    sent, ok, done = 0, True, False
    while ok and not done:
        ok, done = await res.send_chunk(block, total)
        sent += len(block)

async def written(res, req):
    sent = 0
    while sent < total and not res.aborted:
        res.write(block)
        await res.drain()
        sent += len(block)
    res.end(b"")

def tried(res, req):
    def offer(res, offset):
        while True:
            at = offset % len(block)
            ok, done = res.try_end(block[at:], total)
            if done or not ok:
                return ok
            offset = res.get_write_offset()

    if not offer(res, 0):
        res.on_writable(offer)

app.post("/upload", upload)
app.post("/whole", whole)
app.get("/download", download)
app.get("/written", written)
app.get("/tried", tried)
app.get("/", lambda res, req: res.end("ready"))
app.listen({"host": "127.0.0.1"}, lambda config: print(config.port, flush=True))
app.run()
"""
BLOCK = hashlib.sha256(b"block").digest() * 2048


class Process:
    """A server in a process of its own, so that its memory is its own."""

    def __init__(self, total: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(total)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        with Client(self.port) as client:
            assert client.get().body == b"ready"

    def memory(self, name: str) -> int:
        """Bytes: `VmRSS` now, `VmHWM` at most so far."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(name)

    def stop(self) -> str:
        self._process.terminate()
        _, errors = self._process.communicate(timeout=20)
        assert self._process.returncode == 0
        return errors


@pytest.fixture
def process(request: Any) -> Iterator[Process]:
    server = Process(request.param)
    yield server
    assert server.stop() == ""


def upload(client: Client, target: str, total: int, *, chunked: bool) -> tuple[int, str]:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {total}"
    client.request("POST", target, framing)
    digest = hashlib.sha256()
    chunk = b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK)
    for _ in range(total // len(BLOCK)):
        digest.update(BLOCK)
        client.send(chunk if chunked else BLOCK)
    if chunked:
        client.send(b"0\r\n\r\n")
    return total, digest.hexdigest()


def download(client: Client, target: str, total: int, *, breaks: int = 0) -> tuple[int, str]:
    """Hashes the body as it comes, with so many breaks in the beginning."""
    client.request("GET", target)
    head = client.until(b"\r\n\r\n")
    digest = hashlib.sha256()
    if b"chunked" in head:
        count = 0
        while size := int(client.until(b"\r\n")[:-2], 16):
            digest.update(client.exactly(size + 2)[:-2])
            count += size
        client.until(b"\r\n")
        return count, digest.hexdigest()
    assert f"Content-Length: {total}\r\n".encode() in head
    count = len(client.pending)
    digest.update(client.pending)
    client.pending = b""
    buffer = bytearray(MEBI)
    while count < total:
        size = client.socket.recv_into(buffer)
        assert size, f"closed after {count} bytes"
        digest.update(memoryview(buffer)[:size])
        count += size
        if breaks:
            breaks -= 1
            time.sleep(0.002)
    return count, digest.hexdigest()


def expected(total: int) -> tuple[int, str]:
    digest = hashlib.sha256()
    for _ in range(total // len(BLOCK)):
        digest.update(BLOCK)
    return total, digest.hexdigest()


@pytest.mark.parametrize("process", [64 * MEBI], indirect=True, ids=["64M"])
@pytest.mark.parametrize("target", ["/download", "/written", "/tried"])
def test_large_download(process: Process, target: str) -> None:
    """A-RES-08, A-RES-14, A-RES-22: 64 MB arrive byte for byte, twice over one connection."""
    total = 64 * MEBI
    with Client(process.port) as client:
        for _ in range(2):
            assert download(client, target, total) == expected(total)


@pytest.mark.parametrize("process", [64 * MEBI], indirect=True, ids=["64M"])
@pytest.mark.parametrize("target", ["/upload", "/whole"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_large_upload(process: Process, target: str, chunked: bool) -> None:
    """A-RES-04, A-RES-28: 64 MB arrive byte for byte, twice over one connection."""
    with Client(process.port) as client:
        for _ in range(2):
            count, digest = upload(client, target, 64 * MEBI, chunked=chunked)
            assert client.answer().body.decode().replace('"', "").replace(" ", "") == f"[{count},{digest}]"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("process", [512 * MEBI], indirect=True, ids=["512M"])
@pytest.mark.alone
def test_memory_stays_flat(process: Process) -> None:
    """B-HT-15 and the issue: a slow reader on either side costs no memory, for any size of the body."""
    total = 512 * MEBI
    with Client(process.port) as client:
        # One-time allocations are done.
        upload(client, "/upload", 4 * MEBI, chunked=False)
        client.answer()
        before = process.memory("VmRSS")
        upload(client, "/upload?slow=1", total, chunked=False)
        assert client.answer().status == 200
        after_upload = process.memory("VmHWM") - before
    with Client(process.port, receive_buffer=65_536) as client:
        download(client, "/download", total, breaks=500)
        after_download = process.memory("VmHWM") - before
    with Client(process.port, receive_buffer=65_536) as client:
        download(client, "/tried", total, breaks=500)
        after_try_end = process.memory("VmHWM") - before
    assert max(after_upload, after_download, after_try_end) < 30 * MEBI
