"""``receive`` of HTTP requests (S-ASGI-18 to S-ASGI-31)."""

from __future__ import annotations

import asyncio
import collections.abc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support.asgi import Receive, Scope, Send, answer, read, serving
from support.running import Running

Serve = Callable[..., Running]

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
DISCONNECT = {"type": "http.disconnect"}


def post(body: bytes, length: int | None = None) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body) if length is None else length,
        body,
    )


class Told:
    """What an application heard, for a test that waits for it."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.done = threading.Event()

    def wait(self) -> list[Any]:
        assert self.done.wait(20), self.messages
        return self.messages


def test_a_request_without_a_body(serve: Serve) -> None:
    """S-ASGI-18: one empty message, and then the client's leaving is waited for."""
    told = Told()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        told.messages.append(await receive())
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        told.messages.append(await receive())
        told.done.set()

    running = serve(serving(application))
    with running.client() as client:
        client.send(REQUEST).until(b"x")
        assert len(told.messages) == 1
    assert told.wait() == [{"type": "http.request", "body": b"", "more_body": False}, DISCONNECT]


def test_a_body_that_is_there(serve: Serve) -> None:
    """S-ASGI-19: every message has all keys, and the last one says so."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert message == {"type": "http.request", "body": b"abc", "more_body": False}
        await answer(send, message["body"])

    with serve(serving(application)).client() as client:
        assert client.send(post(b"abc")).answer().body == b"abc"


def test_pieces_come_as_they_arrive(serve: Serve) -> None:
    """S-ASGI-19."""
    pieces: list[bytes] = []
    more = threading.Semaphore(0)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            pieces.append(message["body"])
            more.release()
            if not message["more_body"]:
                break
        await answer(send, b"|".join(pieces))

    with serve(serving(application)).client() as client:
        client.send(post(b"", 6))
        for part in (b"ab", b"cd", b"ef"):
            client.send(part)
            assert more.acquire(timeout=20)
        got = client.answer().body
    assert b"".join(pieces) == b"abcdef"
    assert got.startswith((b"ab|cd|ef", b"|ab|cd|ef"))


def test_a_chunked_body_is_decoded(serve: Serve) -> None:
    """S-ASGI-22, S-REG-23: its trailers are dropped."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, await read(receive))

    head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serve(serving(application)).client() as client:
        assert client.send(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n").answer().body == b"abcde"


def test_a_large_body_is_bounded_on_its_way(serve: Serve) -> None:
    """S-ASGI-20: an application that does not read has its client wait; pieces have at most 256 KiB."""
    go_on = threading.Event()
    largest = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal largest
        await asyncio.to_thread(go_on.wait, 20)
        total = 0
        while True:
            message = await receive()
            largest = max(largest, len(message["body"]))
            total += len(message["body"])
            if not message["more_body"]:
                break
        await answer(send, str(total).encode())

    size = 32 * 1024 * 1024
    with serve(serving(application)).client() as client:
        client.send(post(b"", size))
        sent = client.flood(b"x" * size)
        assert sent < size
        go_on.set()
        client.send(b"x" * (size - sent))
        assert client.answer().body == str(size).encode()
    assert largest <= 256 * 1024


def test_100_continue_is_sent_for_a_reader(serve: Serve) -> None:
    """S-ASGI-23."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, await read(receive) if scope["path"] == "/read" else b"unread")

    running = serve(serving(application))
    head = b"POST %s HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with running.client() as client:
        client.send(head % b"/read").until(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert client.send(b"abc").answer().body == b"abc"
    with running.client() as client:
        assert client.send(head % b"/").answer().body == b"unread"
        assert client.is_closed()


def test_after_the_response_the_client_counts_as_gone(serve: Serve) -> None:
    """S-ASGI-24: at once, however often."""
    told = Told()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"ok")
        for _ in range(3):
            told.messages.append(await asyncio.wait_for(receive(), 10))
        told.done.set()

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).answer().body == b"ok"
        assert told.wait() == [DISCONNECT] * 3


def test_a_receiver_hears_of_the_end_of_the_response(serve: Serve) -> None:
    """S-ASGI-24: also one that waits already."""
    told = Told()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await answer(send, b"ok")
        told.messages.append(await asyncio.wait_for(waiting, 10))
        told.done.set()

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).answer().body == b"ok"
        assert told.wait() == [DISCONNECT]


@pytest.mark.parametrize("leave", ["close", "reset", "half close"])
def test_every_receiver_hears_of_a_client_that_leaves(serve: Serve, leave: str) -> None:
    """S-ASGI-25, S-ASGI-26, S-ASGI-28, S-REG-01."""
    told, waiting = Told(), threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        tasks = [asyncio.create_task(receive()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting.set()
        told.messages += await asyncio.gather(*tasks)
        told.messages.append(await receive())
        await answer(send, b"late")
        told.done.set()

    with serve(serving(application)).client() as client:
        client.send(REQUEST)
        assert waiting.wait(20)
        {"close": client.close, "reset": client.reset, "half close": client.half_close}[leave]()
        assert told.wait() == [DISCONNECT] * 4
        if leave == "half close":
            assert client.answer().body == b"late"


def test_a_body_that_ends_early(serve: Serve) -> None:
    """S-ASGI-27: no exception out of receive."""
    told, begun = Told(), threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        while (message := await receive())["type"] == "http.request":
            told.messages.append(message)
        told.messages.append(message)
        await answer(send, b"nobody hears this")
        told.done.set()

    with serve(serving(application)).client() as client:
        client.send(post(b"ab", 5))
        assert begun.wait(20)
        client.close()
    assert told.wait()[-1] == DISCONNECT
    assert all(message["more_body"] for message in told.messages[:-1])


def test_a_body_that_is_too_large(serve: Serve) -> None:
    """S-ASGI-27: the client gets 413, whatever the application sends."""
    told, begun = Told(), threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            begun.set()
        told.messages.append(message)
        for _ in range(3):
            await answer(send, b"mine")
        told.done.set()

    running = serve(serving(application), max_body_size=10)
    with running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
        assert begun.wait(20)
        assert client.send(b"8\r\nabcdefgh\r\n").answer().status == 413
    assert told.wait() == [DISCONNECT]


def test_pieces_go_to_receivers_in_the_order_of_their_calls(serve: Serve) -> None:
    """S-ASGI-28."""
    taken = threading.Semaphore(0)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        bodies: list[tuple[int, bytes]] = []

        async def one(number: int) -> None:
            bodies.append((number, (await receive())["body"]))
            taken.release()

        tasks = [asyncio.create_task(one(number)) for number in range(3)]
        await asyncio.sleep(0)
        taken.release()
        await asyncio.gather(*tasks)
        assert bodies == [(0, b"a"), (1, b"b"), (2, b"c")]
        await answer(send, b"ok")

    with serve(serving(application)).client() as client:
        client.send(post(b"", 3))
        for letter in (b"a", b"b", b"c"):
            assert taken.acquire(timeout=20)
            client.send(letter)
        assert client.answer().body == b"ok"


def test_a_cancelled_receiver_loses_nothing(serve: Serve) -> None:
    """S-ASGI-28, S-REG-08."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        cancelled = 0
        body = b""
        more = True
        while more:
            unbegun = asyncio.create_task(receive())
            unbegun.cancel()
            try:
                message = await asyncio.wait_for(receive(), 0.001)
            except asyncio.TimeoutError:
                cancelled += 1
                if cancelled == 200:
                    await send({"type": "http.response.start", "status": 200})
                    await send({"type": "http.response.body", "body": b"now", "more_body": True})
                continue
            body += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.body", "body": body})

    with serve(serving(application)).client() as client:
        client.send(post(b"abc", 6)).until(b"now")
        client.send(b"def")
        assert b"abcdef" in client.until(b"0\r\n\r\n")


def test_a_known_departure_is_told_without_a_suspension(serve: Serve) -> None:
    """S-ASGI-28: how ``Request.is_disconnected`` of Starlette asks."""
    told, begun = Told(), threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        begun.set()
        while True:
            try:
                receive().send(None)
            except StopIteration as ready:
                told.messages.append(ready.value)
                break
            await asyncio.sleep(0.001)
        told.done.set()

    with serve(serving(application)).client() as client:
        client.send(REQUEST)
        assert begun.wait(20)
        assert not told.messages
    assert told.wait() == [DISCONNECT]


def test_what_is_returned_passes_for_a_coroutine(serve: Serve) -> None:
    """S-ASGI-29, S-REG-08."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for made in (receive(), send({"type": "http.response.start", "status": 200})):
            assert asyncio.iscoroutine(made)
            assert isinstance(made, collections.abc.Coroutine)
            await asyncio.wait_for(made, 10)
        tasks = [
            asyncio.create_task(send({"type": "http.response.body", "body": letter, "more_body": True}))
            for letter in (b"a", b"b", b"c")
        ]
        await asyncio.gather(*tasks)
        await asyncio.ensure_future(send({"type": "http.response.body", "body": b"d"}))

    with serve(serving(application)).client() as client:
        got = client.send(REQUEST).until(b"0\r\n\r\n")
    assert [got.index(letter) for letter in (b"\na\r", b"\nb\r", b"\nc\r", b"\nd\r")] == sorted(
        got.index(letter) for letter in (b"\na\r", b"\nb\r", b"\nc\r", b"\nd\r")
    )


def test_the_client_of_an_unread_body_gets_its_response(serve: Serve) -> None:
    """S-ASGI-30."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"ok")

    with serve(serving(application)).client() as client:
        assert client.send(post(b"x" * 1000)).answer().body == b"ok"
        assert client.send(REQUEST).answer().body == b"ok"
        assert client.send(post(b"", 100_000)).answer().body == b"ok"
        assert client.send(b"x" * 100_000 + REQUEST).answer().body == b"ok"


def test_receive_and_send_outlive_the_request(serve: Serve) -> None:
    """S-ASGI-31, S-REG-33: they never touch another request of the connection."""
    kept: list[tuple[Receive, Send]] = []
    told = Told()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if kept:
            old_receive, old_send = kept[0]
            told.messages.append(await old_receive())
            with pytest.raises(RuntimeError, match="complete"):
                await old_send({"type": "http.response.body", "body": b"stray"})
            told.done.set()
        kept.append((receive, send))
        await answer(send, b"ok")

    with serve(serving(application)).client() as client:
        for _ in range(2):
            assert client.send(post(b"abc")).answer().body == b"ok"
    assert told.wait() == [DISCONNECT]
