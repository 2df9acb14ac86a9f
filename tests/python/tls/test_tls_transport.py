"""Everything that works in the clear, over TLS: B.3, D.2, users.md 1 (19, 20), with foreign clients.

What bad clients do is in ``test_tls_hostile.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from socketify import App
from support import reset, until
from support.client import Client
from support.lanes import each_lane, on, options
from support.running import Running
from support.tls_client import HANDSHAKE, Certificates, TlsClient

MEBI = 1 << 20
#: Bytes with a recognizable order: no two blocks are equal.
PATTERN = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(5 * MEBI // 32))
#: A body that no buffer takes whole: 50 MiB.
PIECES = 10
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
Start = Callable[..., Running]


@pytest.fixture
def hello(start_tls: Start) -> Running:
    return start_tls(lambda app: app.get("/", lambda res, req: res.end("hello")))


# ---- requests and responses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_keep_alive_and_pipelining(
    hello: Running, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    """B-HT-18, B-HT-19: 1000 requests, one at a time and 100 at a time."""
    with TlsClient(hello.port, certificates.context(version)) as client:
        for _ in range(500):
            assert client.get().body == b"hello"
        for _ in range(5):
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 100)
            assert [client.answer().body for _ in range(100)] == [b"hello"] * 100


@pytest.mark.needs("curl")
@pytest.mark.parametrize("arguments", [[], ["--tls-max", "1.2"], ["--tlsv1.3"]])
def test_curl(hello: Running, certificates: Certificates, arguments: list[str]) -> None:
    """It believes the certificate by its name and by its address."""
    for host in ("localhost", "127.0.0.1"):
        done = subprocess.run(
            [
                *(
                    "curl",
                    "--silent",
                    "--show-error",
                    "--http1.1",
                    "--cacert",
                    str(certificates.ca),
                    *arguments,
                ),
                *("--resolve", f"localhost:{hello.port}:127.0.0.1"),
                *("--write-out", " %{http_code} %{scheme}", f"https://{host}:{hello.port}/"),
            ],
            capture_output=True,
            check=True,
        )
        assert done.stdout.lower() == b"hello 200 https"


def file_pieces() -> Iterator[bytes]:
    for _ in range(PIECES):
        yield PATTERN


@pytest.mark.parametrize("version", VERSIONS)
def test_fifty_megabytes_up_and_down(
    start_tls: Start, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    """httpx streams both ways; every byte arrives, in order."""

    def configure(app: App) -> None:
        def upload(res: Any, req: Any) -> None:
            digest = hashlib.sha256()

            def piece(res: Any, chunk: bytes, is_end: bool) -> None:
                digest.update(chunk)
                if is_end:
                    res.end(digest.hexdigest())

            res.on_data(piece)

        async def download(res: Any, req: Any) -> None:
            for _ in range(PIECES):
                res.write(PATTERN)
                await res.drain()
            res.end(b"")

        app.post("/", upload)
        app.get("/", download)

    running = start_tls(configure)
    due = hashlib.sha256(PATTERN * PIECES).hexdigest()
    url = f"https://localhost:{running.port}/"
    with httpx.Client(verify=certificates.context(version), timeout=50, trust_env=False) as client:
        assert client.post(url, content=file_pieces()).text == due
        digest = hashlib.sha256()
        with client.stream("GET", url) as answer:
            for chunk in answer.iter_raw():
                digest.update(chunk)
        assert digest.hexdigest() == due


def test_many_clients_at_once(hello: Running, certificates: Certificates) -> None:
    """200 connections of one asyncio program, ten requests on each."""

    async def visit(context: ssl.SSLContext) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", hello.port, ssl=context)
        for _ in range(10):
            writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK")
        writer.close()
        await writer.wait_closed()
        return 10

    async def main() -> int:
        context = certificates.context()
        return sum(await asyncio.gather(*(visit(context) for _ in range(200))))

    assert asyncio.run(main()) == 2000


def test_a_body_that_waits_for_permission(start_tls: Start, certificates: Certificates) -> None:
    """I-S-09, B-HT-14: 100 Continue, and a chunked body in the smallest records."""

    async def handler(res: Any, req: Any) -> None:
        res.end((await res.get_data()).getvalue())

    running = start_tls(lambda app: app.post("/", handler))
    with TlsClient(running.port, certificates.context()) as client:
        client.request("POST", "/", "Expect: 100-continue", "Transfer-Encoding: chunked")
        assert client.answer().status == 100
        client.send_slowly(b"5\r\nhello\r\n0\r\n\r\n")
        assert client.answer().body == b"hello"


# ---- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_files_and_ranges(
    start_tls: Start, certificates: Certificates, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """E.1: whole, in part, in several parts; the bytes of 5 MiB are those on the disk."""
    (tmp_path / "large.bin").write_bytes(PATTERN)
    (tmp_path / "small.txt").write_bytes(b"0123456789")
    (tmp_path / "empty.txt").write_bytes(b"")
    running = start_tls(lambda app: app.static("/files", tmp_path))
    with TlsClient(running.port, certificates.context(version)) as client:
        for _ in range(3):
            assert client.get("/files/large.bin").body == PATTERN
            assert client.get("/files/small.txt").body == b"0123456789"
            assert client.get("/files/empty.txt").body == b""
        part = client.get("/files/large.bin", "Range: bytes=1000000-3999999")
        assert (part.status, part.body) == (206, PATTERN[1_000_000:4_000_000])
        assert client.get("/files/small.txt", "Range: bytes=-3").body == b"789"
        several = client.get("/files/large.bin", "Range: bytes=0-9,20-29")
        assert several.status == 206
        assert PATTERN[:10] in several.body
        assert PATTERN[20:30] in several.body
        assert client.get("/files/small.txt", "Range: bytes=10-").status == 416


def test_a_file_to_a_slow_client(start_tls: Start, certificates: Certificates, tmp_path: Path) -> None:
    """Bytes that the kernel refuses wait, and none is lost or doubled."""
    (tmp_path / "large.bin").write_bytes(PATTERN)
    running = start_tls(lambda app: app.static("/files", tmp_path))
    with TlsClient(running.port, certificates.context(), receive_buffer=16_384) as client:
        client.request("GET", "/files/large.bin")
        assert read_slowly(client) == PATTERN


# ---- flow --------------------------------------------------------------------------------------------------------------


def read_slowly(client: Client) -> bytes:
    """The body of one response, read with pauses."""
    head = client.until(b"\r\n\r\n").decode("latin-1").lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    body = b""
    while len(body) < length:
        body += client.exactly(min(500_000, length - len(body)))
        time.sleep(0.005)
    return body


@each_lane
@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
def test_try_end_with_on_writable(serve: Any, certificates: Certificates, lane: str, slow: bool) -> None:
    """A-RES-14, A-RES-29, B-HT-27: from the offset that was reached, however slow the client is."""
    offsets: list[int] = []

    def handler(res: Any, req: Any) -> None:
        offsets.clear()

        def writable(res: Any, offset: int) -> bool:
            assert offset == res.get_write_offset()
            offsets.append(offset)
            ok, _ = res.try_end(PATTERN[offset:], len(PATTERN))
            return bool(ok)

        if not res.try_end(PATTERN, len(PATTERN))[1]:
            res.on_writable(writable)

    running = serve(
        lambda app: app.get("/", on(lane, handler)), options=certificates.options(), **options(lane)
    )
    receive = 65_536 if slow else None
    with TlsClient(running.port, certificates.context(), receive_buffer=receive) as client:
        for _ in range(3):
            client.request()
            assert read_slowly(client) == PATTERN
            assert offsets == sorted(set(offsets))
        if slow:
            assert offsets, "the client was not slow enough to prove anything"


def test_a_paused_body_waits_in_the_client(start_tls: Start, certificates: Certificates) -> None:
    """A-RES-09 and `body_buffer`: unread bytes stay with the client, under TLS too."""
    kept: list[Any] = []

    def handler(res: Any, req: Any) -> None:
        res.pause()
        received: list[bytes] = []

        def piece(res: Any, chunk: bytes, is_end: bool) -> None:
            received.append(bytes(chunk))
            if is_end:
                res.end(hashlib.sha256(b"".join(received)).hexdigest())

        res.on_data(piece)
        kept.append(res)

    running = start_tls(lambda app: app.post("/", handler), body_timeout=60)
    with TlsClient(running.port, certificates.context()) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(PATTERN))
        until(lambda: kept, "the handler runs")
        went = client.flood(PATTERN)
        assert went < len(PATTERN), "nothing held the client back"
        kept[0].resume()
        client.send(PATTERN[went:])
        assert client.answer().body.decode() == hashlib.sha256(PATTERN).hexdigest()


@pytest.mark.parametrize("how", ["RST", "FIN", "close_notify"])
def test_aborts(start_tls: Start, certificates: Certificates, how: str) -> None:
    """I-S-42, I-S-43, A-CALL-04: a client that leaves is reported once."""
    calls: list[bool] = []
    entered = threading.Event()

    def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: calls.append(res.aborted))
        entered.set()

    running = start_tls(lambda app: app.get("/", handler))
    client = TlsClient(running.port, certificates.context())
    client.request()
    assert entered.wait(20)
    if how == "RST":
        reset(client)
    elif how == "FIN":
        client.close()
    else:
        client.secure.settimeout(0.2)
        with pytest.raises((TimeoutError, OSError)):
            # Sends close_notify, and waits in vain for the server's.
            client.secure.unwrap()
    until(lambda: calls, "the abort handler runs")
    client.close()
    running.stop()
    assert len(calls) == 1


def test_a_client_that_takes_nothing_is_cut_off(start_tls: Start, certificates: Certificates) -> None:
    """`write_timeout` holds for records as for bytes, and aborts the response."""
    aborted: queue.Queue[bool] = queue.Queue()

    def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: aborted.put(True))
        res.try_end(PATTERN, len(PATTERN))

    running = start_tls(lambda app: app.get("/", handler), write_timeout=0.5)
    with TlsClient(running.port, certificates.context(), receive_buffer=4096) as client:
        client.request()
        assert aborted.get(timeout=20)


def test_timeouts_of_requests(start_tls: Start, certificates: Certificates) -> None:
    """`header_timeout` begins when the handshake is over: half a head is answered 408, silence is closed."""
    running = start_tls(
        lambda app: app.get("/", lambda res, req: res.end("hello")),
        header_timeout=0.5,
        keep_alive_timeout=0.5,
    )
    with TlsClient(running.port, certificates.context()) as client:
        client.send(b"GET / HTTP/1.1\r\n")
        assert client.answer().status == 408
        assert client.is_closed()
    with TlsClient(running.port, certificates.context()) as client:
        assert client.get().body == b"hello"
        assert client.is_closed()


def test_stopping_with_connections_open(start_tls: Start, certificates: Certificates) -> None:
    """Idle ones are closed with close_notify; a response in progress is finished first."""
    entered = threading.Event()

    async def slow(res: Any, req: Any) -> None:
        entered.set()
        await asyncio.sleep(0.3)
        res.end("late")

    running = start_tls(lambda app: app.get("/slow", slow).get("/", lambda res, req: res.end("hello")))
    with (
        TlsClient(running.port, certificates.context()) as idle,
        TlsClient(running.port, certificates.context()) as busy,
    ):
        idle.get()
        busy.request("GET", "/slow")
        assert entered.wait(20)
        running.stop()
        assert busy.answer().body == b"late"
        assert busy.is_closed()
        assert idle.is_closed()


# ---- the first request -------------------------------------------------------------------------------------------------


def test_what_comes_with_the_last_flight(hello: Running, certificates: Certificates) -> None:
    """A client may send its request together with its Finished: it is read though nothing follows it."""
    with Client(hello.port) as client:
        context = certificates.context()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.send(outgoing.read())
                data = client.receive()
                assert data[0] == HANDSHAKE or struct.unpack("!B", data[:1])[0] in range(20, 24)
                incoming.write(data)
        session.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        client.send(outgoing.read())
        text = b""
        while not text.endswith(b"hello"):
            incoming.write(client.receive())
            try:
                text += session.read()
            except ssl.SSLWantReadError:
                continue
        assert text.startswith(b"HTTP/1.1 200 OK")
