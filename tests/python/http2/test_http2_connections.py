"""How streams and connections of HTTP/2 end, over TLS too, and foreign clients.

Rows: I-S-38, I-S-42..44, A-CALL-04; RFC 9113 5.4, 6.8.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App
from support import tool, until
from support.certificates import Authority
from support.h2_client import H2Client

Serve = Callable[..., Any]
MEBI = 1 << 20
NO_ERROR, INTERNAL_ERROR, CANCEL = 0, 2, 8


def h2(running: Any, **options: Any) -> H2Client:
    return H2Client(running.port, **options)


# ---- ends of streams and of connections --------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["def", "async def"])
def test_a_stream_that_its_client_resets_is_aborted_alone(serve: Serve, handler: str) -> None:
    """I-S-42..44: on_aborted once, the flag is set, and the connection goes on."""
    aborted: list[Any] = []
    entered = threading.Event()

    def begin(res: Any) -> None:
        res.on_aborted(lambda res: aborted.append(res.aborted))
        entered.set()

    async def wait(res: Any, req: Any) -> None:
        begin(res)
        while not res.aborted:
            await asyncio.sleep(0.001)

    def configure(app: App) -> None:
        app.get("/wait", wait if handler == "async def" else lambda res, req: begin(res))
        app.get("/", lambda res, req: res.end("ok"))

    running = serve(configure)
    with h2(running) as client:
        other = client.request("/wait")
        assert entered.wait(20)
        entered.clear()
        number = client.request("/wait")
        assert entered.wait(20)
        client.h2.reset_stream(number, CANCEL)
        client.flush()
        until(lambda: aborted, "the abort")
        assert bytes(client.get("/").body) == b"ok"
        assert aborted == [True]
        assert not client.streams[other].over


def test_the_end_of_a_connection_aborts_all_of_its_streams(serve: Serve) -> None:
    aborted: list[int] = []
    begun: list[int] = []

    def handler(res: Any, req: Any) -> None:
        res.on_aborted(lambda res: aborted.append(1))
        begun.append(1)

    running = serve(lambda app: app.get("/", handler))
    with h2(running) as client:
        for _ in range(20):
            client.request("/")
        until(lambda: len(begun) == 20, "20 handlers")
    until(lambda: len(aborted) == 20, "20 aborts")


def test_close_and_failures_end_one_stream(serve: Serve) -> None:
    """res.close() and a handler that fails within its response: RST_STREAM, since the response is not whole."""

    def fails(res: Any, req: Any) -> None:
        res.write("part")
        raise RuntimeError("on purpose")

    def short(res: Any, req: Any) -> None:
        res.write_header("Content-Length", "10").end("short")

    def configure(app: App) -> None:
        app.get("/close", lambda res, req: res.close())
        app.get("/fails", fails)
        app.get("/", lambda res, req: res.end("ok"))
        app.get("/end", lambda res, req: res.end("ended", True))

    running = serve(configure)
    with h2(running) as client:
        assert client.get("/close").reset == CANCEL
        assert client.get("/fails").reset == INTERNAL_ERROR
        assert bytes(client.get("/end").body) == b"ended"
        assert bytes(client.get("/").body) == b"ok"


def test_closing_answers_what_is_open(serve: Serve) -> None:
    """GOAWAY first, then the responses, then the end (RFC 9113 6.8)."""
    entered = threading.Event()
    release = threading.Event()

    async def slow(res: Any, req: Any) -> None:
        entered.set()
        while not release.is_set():
            await asyncio.sleep(0.001)
        res.end("answered")

    running = serve(lambda app: app.get("/", slow))
    with h2(running) as client:
        number = client.request("/")
        assert entered.wait(20)
        running.app.close()
        # The client library ends all of it with GOAWAY: the frames are read here.
        data = b""
        while b"\x07\0\0\0\0\0" not in data:
            data += client.socket.recv(65536)
        assert b"answered" not in data
        assert number == 1
        release.set()
        while piece := client.socket.recv(65536):
            data += piece
        assert b"answered" in data
        # The last frame is GOAWAY too: the last stream was the first, and all is well.
        assert data.endswith(b"\0\0\x08\x07\0\0\0\0\0" + b"\0\0\0\x01" + b"\0\0\0\0")
    running.join()


def test_an_idle_connection_is_closed_in_time(serve: Serve) -> None:
    running = serve(
        lambda app: app.get("/", lambda res, req: res.end("ok")), keep_alive_timeout=0.3, header_timeout=0.3
    )
    with h2(running) as client:
        client.until_closed()
        assert client.goaway is not None
        assert client.goaway.error_code == NO_ERROR
    with h2(running) as client:
        assert client.get("/").status == 200
        client.until_closed()
        assert client.goaway is not None
        assert client.goaway.last_stream_id == 1


def test_closing_waits_for_no_preface(serve: Serve, authority: Authority) -> None:
    """A client that has chosen HTTP/2 in its handshake and sent nothing since has no request."""
    running = serve(
        lambda app: None, options=authority.options("localhost"), header_timeout=600, shutdown_timeout=600
    )
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    raw = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    with context.wrap_socket(raw, server_hostname="localhost") as secure:
        assert secure.recv(65536)
        running.app.close()
        while secure.recv(65536):
            pass
    running.join()


# ---- foreign clients ------------------------------------------------------------------------------------------------------


def test_curl_speaks_it(serve: Serve) -> None:
    curl = tool("curl")

    async def echo(res: Any, req: Any) -> None:
        res.end((await res.get_data()).getvalue())

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.end("Hello"))
        app.post("/", echo)

    running = serve(configure)
    url = f"http://127.0.0.1:{running.port}/"
    command = [curl, "--http2-prior-knowledge", "-sS", "-w", "|%{http_version}|%{http_code}", url]
    got = subprocess.run(command, capture_output=True, timeout=30, check=True).stdout
    assert got == b"Hello|2|200"
    body = b"b" * (2 * MEBI)
    got = subprocess.run(
        [*command, "--data-binary", "@-"], input=body, capture_output=True, timeout=30, check=True
    ).stdout
    assert got == body + b"|2|200"


def test_nghttp_speaks_it(serve: Serve) -> None:
    nghttp, h2load = tool("nghttp"), tool("h2load")
    running = serve(lambda app: app.get("/", lambda res, req: res.end("Hello")))
    url = f"http://127.0.0.1:{running.port}/"
    assert subprocess.run([nghttp, url], capture_output=True, timeout=30, check=True).stdout == b"Hello"
    load = [h2load, "-n", "5000", "-c", "10", "-m", "50", url]
    told = subprocess.run(load, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "5000 succeeded, 0 failed" in told


def test_httpx_speaks_it(serve: Serve) -> None:
    httpx = pytest.importorskip("httpx")
    running = serve(lambda app: app.get("/", lambda res, req: res.end("Hello")))
    with httpx.Client(http1=False, http2=True) as client:
        for _ in range(3):
            answer = client.get(f"http://127.0.0.1:{running.port}/")
            assert (answer.http_version, answer.status_code, answer.text) == ("HTTP/2", 200, "Hello")


def test_over_tls_it_is_chosen_in_the_handshake(serve: Serve, authority: Authority) -> None:
    """ALPN (RFC 7301): those that offer h2 get it, bodies larger than any record included; the others get HTTP/1.1."""

    async def echo(res: Any, req: Any) -> None:
        res.end((await res.get_data()).getvalue())

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.end("Hello"))
        app.post("/", echo)

    running = serve(configure, options=authority.options("localhost"))
    context = authority.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    body = bytes(range(256)) * (3 * MEBI // 256)
    raw = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    with context.wrap_socket(raw, server_hostname="localhost") as secure:
        assert secure.selected_alpn_protocol() == "h2"
        with H2Client(running.port, sock=secure) as client:
            assert bytes(client.get("/", scheme="https").body) == b"Hello"
            answer = client.answer(client.request("/", "POST", scheme="https", body=body))
            assert bytes(answer.body) == body


def test_over_tls_only_the_handshake_begins_it(serve: Serve, authority: Authority) -> None:
    """RFC 9113 3.3: a client that has negotiated HTTP/1.1, or nothing, speaks that, with any first bytes."""
    running = serve(lambda app: None, options=authority.options("localhost"))
    for protocols in (["http/1.1"], []):
        context = authority.context()
        if protocols:
            context.set_alpn_protocols(protocols)
        raw = socket.create_connection(("127.0.0.1", running.port), timeout=20)
        with context.wrap_socket(raw, server_hostname="localhost") as secure:
            secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            assert secure.recv(65536).startswith(b"HTTP/1.1 ")


def test_over_tls_it_can_be_switched_off(serve: Serve, authority: Authority) -> None:
    running = serve(lambda app: None, options=authority.options("localhost"), http2=False)
    context = authority.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    with context.wrap_socket(raw, server_hostname="localhost") as secure:
        assert isinstance(secure, ssl.SSLSocket)
        assert secure.selected_alpn_protocol() == "http/1.1"


def test_the_access_log_tells_the_version(serve: Serve) -> None:
    """One entry a stream, with the status and the bytes that went over it."""
    told: list[Any] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append((record.http_version, record.status))  # type: ignore[attr-defined]

    logger = logging.Logger("http2")
    logger.addHandler(Keep())
    running = serve(lambda app: app.get("/", lambda res, req: res.end("Hello")), access_log=logger)
    with h2(running) as client:
        client.get("/")
        client.get("/none")
    until(lambda: len(told) == 2, "both entries")
    assert told == [("2", 200), ("2", 404)]
