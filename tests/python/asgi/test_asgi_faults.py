"""Faults that a close reading of the ASGI front has found, each by the interleaving that showed it."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import ASGI, App, ClientDisconnected
from socketify import serve as serve_here
from support import until
from support.asgi import Receive, Scope, Send, answer, serving
from support.h2_client import H2Client
from support.running import Running
from support.ws_client import BINARY, PONG, frame

Serve = Callable[..., Running]

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
START = {"type": "http.response.start", "status": 200}


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if record.name == "socketify"]


@pytest.mark.parametrize("how", ["return", "raise", "close", "send only"])
def test_a_socket_leaves_its_topics_at_its_end(serve: Serve, how: str) -> None:
    """S-WS-26: also if its application does not receive any more; and its place is free for others."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.subscribe", "topic": "room"})
        await send({"type": "websocket.send", "text": "ready"})
        if how == "raise":
            raise LookupError("as planned")
        if how == "close":
            await send({"type": "websocket.close"})
        while how == "send only":
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0.001)

    running = serve(serving(application), max_connections=4)
    for _ in range(12):
        with running.websocket() as client:
            assert client.recv_message() == "ready"
            client.abort()
    until(lambda: running.app.num_subscribers("room") == 0, "the end of all subscriptions")


def test_no_invitation_in_the_middle_of_a_response(serve: Serve) -> None:
    """S-ASGI-23: what has not been asked for before the response is not asked for in it."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(part(b"first", True))
        await receive()
        await send(part(b"last"))

    head = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    with serve(serving(application)).client() as client:
        got = client.send(head).until(b"first\r\n")
        got += client.send(b"body").rest()
    assert b"100 Continue" not in got
    assert got.endswith(b"\r\n\r\n5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n")


@pytest.mark.parametrize("where", ["background", "websocket"])
def test_an_error_of_the_system_is_an_error(
    serve: Serve, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S-WS-13, S-ASGI-60: only one that comes of a client's leaving is none."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if where == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await answer(send, b"ok")
        raise FileNotFoundError("as planned")

    running = serve(serving(application))
    if where == "websocket":
        with running.websocket() as client:
            assert client.expect_close_frame()[0] == 1011
    else:
        with running.client() as client:
            client.get()
    until(lambda: "ERROR" in levels(caplog), "an error in the log")


@pytest.mark.parametrize("path", ["/stream", "/nothing"])
def test_a_client_that_closes_an_idle_stream_is_no_error(
    serve: Serve, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S-ASGI-33, S-REG-04: an application that hears of it and returns has done nothing wrong."""
    caplog.set_level(logging.DEBUG, logger="socketify")
    begun, ended = threading.Event(), threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/stream":
            await send(START)
            await send(part(b"x", True))
        begun.set()
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    with serve(serving(application)).client() as client:
        client.send(REQUEST.replace(b"GET /", b"GET " + path.encode()))
        assert begun.wait(20)
    assert ended.wait(20)
    until(lambda: levels(caplog), "a line in the log")
    assert set(levels(caplog)) == {"DEBUG"}


def test_a_group_of_departures_is_a_departure(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """S-WS-27: as a TaskGroup raises it."""
    caplog.set_level(logging.DEBUG, logger="socketify")

    class Group(Exception):
        exceptions = (ClientDisconnected("one"), ClientDisconnected("two"))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise Group

    with serve(serving(application)).websocket() as client:
        client.expect_close_frame()
    until(lambda: levels(caplog), "a line in the log")
    assert set(levels(caplog)) == {"DEBUG"}


def test_a_task_that_is_cancelled_before_it_begins(serve: Serve) -> None:
    """S-ASGI-59: its client gets a response, and its work ends."""
    blocking, released = threading.Event(), threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/block":
            blocking.set()
            # The loop stands still, so the tasks of the others have not begun.
            released.wait(20)
        elif scope["path"] == "/kill":
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()
        await answer(send, b"ok")

    running = serve(serving(application))
    clients = [running.client() for _ in range(5)]
    clients[0].send(REQUEST.replace(b"GET /", b"GET /block"))
    assert blocking.wait(20)
    clients[1].send(REQUEST.replace(b"GET /", b"GET /kill"))
    for client in clients[2:]:
        client.send(REQUEST)
    # They have to be queued before the loop goes on: there is no way to see that from outside.
    time.sleep(0.2)
    released.set()
    for client in clients:
        assert client.answer().status in (200, 500)
        client.close()
    until(lambda: not running.app._calls.tasks, "the end of all tasks")


def test_the_shutdown_hook_runs_once_where_a_loop_runs_already() -> None:
    """S-CLI-10."""
    told: list[str] = []

    async def main() -> None:
        app = App()
        app.on_start(lambda: told.append("start"))
        app.on_shutdown(lambda: told.append("shutdown"))
        task = asyncio.create_task(serve_here(app, port=0))
        while not told:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        app.close()
        await asyncio.wait_for(task, 20)

    asyncio.run(main())
    assert told == ["start", "shutdown"]


@pytest.mark.parametrize("direction", ["send", "receive"])
def test_a_busy_websocket_gives_the_loop_its_turns(serve: Serve, direction: str) -> None:
    """S-ASGI-48, S-REG-19: one client does not hold up the others."""
    longest = 0.0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send, b"ok")
            return
        nonlocal longest
        stop = asyncio.Event()

        async def watch() -> None:
            nonlocal longest
            while not stop.is_set():
                before = time.thread_time()
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - before)

        await send({"type": "websocket.accept"})
        await receive()
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        if direction == "send":
            for _ in range(20_000):
                await send({"type": "websocket.send", "bytes": b"x" * 100})
        else:
            for _ in range(20_000):
                await receive()
        stop.set()
        await watching

    with serve(serving(application)).websocket() as client:
        if direction == "send":
            for _ in range(20_000):
                client.recv_message()
        else:
            client.flood(frame(BINARY, b"x" * 100) * 20_000)
        client.expect_close_frame()
    # CPU of this thread between two of its turns: a bound for hangs, hundreds of times what it takes.
    assert 0 < longest < 1


def test_a_small_backpressure_limit_drops_nothing(serve: Serve) -> None:
    """S-WS-22."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for number in range(400):
            await send({"type": "websocket.send", "bytes": number.to_bytes(2, "big") * 5000})

    limits = {"max_backpressure": 20_000}
    with serve(serving(application, websocket=limits)).websocket(receive_buffer=4096) as client:
        for number in range(400):
            assert client.recv_message()[:2] == number.to_bytes(2, "big")


def test_pings_are_answered_behind_a_large_message(serve: Serve) -> None:
    """S-WS-20, S-WS-21: a message is paid for when the application has it."""
    got, go_on = threading.Event(), threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await receive()
        got.set()
        await asyncio.to_thread(go_on.wait, 20)

    limits = {"inbound_buffer": 65_536}
    with serve(serving(application, websocket=limits)).websocket() as client:
        client.send_binary(b"x" * 100_000)
        assert got.wait(20)
        assert client.ping(b"still there").recv_frame() == (True, False, PONG, b"still there")
        go_on.set()


def test_two_servers_in_one_loop() -> None:
    """S-ASGI-34: the head of the one leaves, though the other has the loop's last word."""

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.2)
        await send({**START, "headers": [(b"content-type", b"text/event-stream")]})
        await receive()
        await receive()

    async def quick(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"ok")

    heads: list[bytes] = []

    async def main() -> None:
        servers = [ASGI(slow, lifespan=False), ASGI(quick, lifespan=False)]
        ports: list[int] = []
        for server in servers:
            server._app.listen({"host": "127.0.0.1", "port": 0}, lambda config: ports.append(config.port))

        async def ask(port: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            writer.close()
            return head

        first = asyncio.create_task(ask(ports[0]))
        await asyncio.sleep(0.1)
        heads.append(await ask(ports[1]))
        heads.append(await first)
        for server in servers:
            server.close()
        await asyncio.sleep(0.2)

    asyncio.run(main())
    assert all(head.startswith(b"HTTP/1.1 200") for head in heads)


def test_without_lifespan_sockets_have_their_time(serve: Serve) -> None:
    """S-ASGI-63, S-WS-31: nothing is cancelled at once."""
    told: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "ready"})
        try:
            await receive()
            await asyncio.sleep(0.2)
            told.append("ended")
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    def configure(app: App) -> None:
        ASGI(application, lifespan=False)._mount(app)

    running = serve(configure)
    with running.websocket() as client:
        assert client.recv_message() == "ready"
        running.app.close()
        assert client.expect_close_frame()[0] == 1012
    running.stop()
    assert told == ["ended"]


@pytest.mark.parametrize("accept", [b"", b"Accept-Encoding: gzip\r\n"])
def test_the_length_of_a_head_response_with_compression(serve: Serve, accept: bytes) -> None:
    """S-ASGI-40."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"1000")]
        await send({**START, "headers": headers})
        await send(part(b""))

    with serve(serving(application), compression=True).client() as client:
        head = b"HEAD / HTTP/1.1\r\nHost: test\r\n%s\r\n" % accept
        assert client.send(head).answer("HEAD").header("content-length") == "1000"


def test_a_pipe_in_place_of_a_file(serve: Serve, tmp_path: Path) -> None:
    """S-ASGI-50: it is refused, and holds up nobody."""
    os.mkfifo(tmp_path / "pipe")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        with pytest.raises(OSError, match="not a regular file"):
            await send({"type": "http.response.pathsend", "path": str(tmp_path / "pipe")})
        await send(part(b"fine"))

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).answer().body == b"fine"


def test_a_denial_that_was_refused_may_be_given_again(serve: Serve) -> None:
    """S-WS-06."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ValueError, match="99"):
            await send({"type": "websocket.http.response.start", "status": 99})
        await send({"type": "websocket.http.response.start", "status": 404})
        await send({"type": "websocket.http.response.body", "body": b"gone"})

    with serve(serving(application)).client() as client:
        got = client.send(HANDSHAKE).answer()
        assert (got.status, got.body) == (404, b"gone")


@pytest.mark.parametrize("status", [204, 304])
def test_no_trailers_without_a_body(serve: Serve, status: int) -> None:
    """S-ASGI-41, S-ASGI-53 (RFC 9110 sections 15.3.5 and 15.4.5)."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "status": status, "trailers": True})
        await send(part(b""))
        await send({"type": "http.response.trailers", "headers": [(b"x-a", b"1")]})

    running = serve(serving(application))
    with H2Client(running.port) as client:
        for _ in range(2):
            stream = client.get("/", headers=[("te", "trailers")])
            assert (stream.status, stream.trailers, stream.ended) == (status, {}, True)


def test_a_path_is_no_line_of_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """S-ASGI-55: a client cannot forge one."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert "\n" in scope["path"]

    with serve(serving(application)).client() as client:
        client.send(b"GET /a%0AERROR%20forged HTTP/1.1\r\nHost: test\r\n\r\n").answer()
    until(lambda: levels(caplog), "a line in the log")
    assert "\n" not in caplog.records[-1].getMessage()
