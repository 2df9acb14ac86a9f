"""Clients that go away: A-CALL-04, A-CALL-10, A-RES-13/27/37, I-S-42..44, users.md 6 (S#141, S#197)."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from socketify import App
from support import reset, until
from support.client import Client

Serve = Callable[..., Any]


def leave(client: Client, how: str) -> None:
    if how == "RST":
        reset(client)
    elif how == "FIN":
        client.close()
    else:
        # Both directions, while the socket stays open.
        client.socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("how", ["RST", "FIN", "shutdown"])
@pytest.mark.parametrize("callback", ["def", "async def"])
@pytest.mark.parametrize("handler", ["def", "async def"])
def test_on_aborted_is_called_once(serve: Serve, handler: str, callback: str, how: str) -> None:
    """I-S-42, I-S-43: with the response, whose flag is set by then."""
    calls: list[Any] = []
    flags: list[bool] = []
    entered = threading.Event()

    def configure(app: App) -> None:
        def aborted(res: Any) -> None:
            res.aborted = True
            calls.append((res is app.response, res.aborted))  # type: ignore[attr-defined]

        async def async_aborted(res: Any) -> None:
            await asyncio.sleep(0)
            aborted(res)

        def begin(res: Any) -> None:
            app.response = res  # type: ignore[attr-defined]
            flags.append(res.aborted)
            assert res.on_aborted(aborted if callback == "def" else async_aborted) is res
            entered.set()

        async def wait(res: Any, req: Any) -> None:
            begin(res)
            while not res.aborted:
                await asyncio.sleep(0.002)

        app.get("/", wait if handler == "async def" else lambda res, req: begin(res))

    running = serve(configure)
    client = running.client()
    client.request()
    assert entered.wait(20)
    leave(client, how)
    until(lambda: calls, "the abort handler runs")
    client.close()
    running.stop()
    assert calls == [(True, True)]
    assert flags == [False]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_flag_without_any_handler(serve: Serve, kind: str) -> None:
    """A-CALL-04, I-S-44: aborts are always tracked."""
    kept: list[Any] = []

    def configure(app: App) -> None:
        async def wait(res: Any, req: Any) -> None:
            kept.append(res)
            await asyncio.sleep(0)
            while not res.aborted:
                await asyncio.sleep(0.002)
            kept.append("seen")

        app.get("/", wait if kind == "async def" else lambda res, req: kept.append(res))

    with serve(configure).client() as client:
        client.request()
        until(lambda: kept, "the handler runs")
        assert kept[0].aborted is False
        reset(client)
        until(lambda: kept[0].aborted, "the flag is set")
        if kind == "async def":
            until(lambda: kept[-1] == "seen", "the coroutine sees it")
        assert kept[0].has_responded() is False


def test_the_last_registration_wins(serve: Serve) -> None:
    """A-RES-27; a value that is not callable is ignored."""
    calls: list[str] = []
    entered = threading.Event()

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            res.on_aborted(lambda res: calls.append("first"))
            res.on_aborted(lambda res: calls.append("second"))
            res.on_aborted(None)
            res.on_aborted("nothing")
            entered.set()

        app.get("/", handler)

    running = serve(configure)
    with running.client() as client:
        client.request()
        assert entered.wait(20)
    until(lambda: calls, "the abort handler runs")
    running.stop()
    assert calls == ["second"]


@pytest.mark.parametrize("when", ["answered", "registered late", "kept alive"])
def test_on_aborted_is_not_called(serve: Serve, when: str) -> None:
    """A-RES-27: not after a complete response, nor if registered after the abort; nor by a later request."""
    calls: list[str] = []
    kept: list[Any] = []

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            if when == "registered late":
                kept.append(res)
                return
            res.on_aborted(lambda res: calls.append("called"))
            res.end("")
            kept.append(res)

        app.get("/", handler).get("/other", lambda res, req: res.end(""))

    running = serve(configure)
    with running.client() as client:
        client.request()
        if when != "registered late":
            assert client.answer().status == 200
        until(lambda: kept, "the handler has run")
        if when == "kept alive":
            client.get("/other")
        reset(client)
    if when == "registered late":
        until(lambda: kept[0].aborted, "the abort is seen")
        kept[0].on_aborted(lambda res: calls.append("called"))
    until(lambda: running.app._server.connection_count() == 0, "the connection is gone")
    running.stop()
    assert calls == []
    assert kept[0].aborted is (when == "registered late")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_close_of_a_response_is_an_abort(serve: Serve, kind: str) -> None:
    """A-RES-13: the connection is cut, the abort handler is called; a second close does nothing."""
    calls: list[bool] = []

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            res.on_aborted(lambda res: calls.append(res.aborted))
            res.write("half")
            assert res.close() is res
            assert res.close() is res
            res.end("late")

        async def async_handler(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            handler(res, req)

        app.get("/", handler if kind == "def" else async_handler)

    with serve(configure).client() as client:
        assert not client.request().rest().endswith(b"0\r\n\r\n")
    until(lambda: calls == [True], "the abort handler runs")


def test_waiters_are_released_by_an_abort(serve: Serve) -> None:
    """A wait for the body, the rest of it, or room to write ends (A-RES-04, A-RES-08)."""
    results: list[Any] = []
    entered = threading.Event()

    def configure(app: App) -> None:
        async def body(res: Any, req: Any) -> None:
            entered.set()
            results.append((await res.get_data()).getvalue())
            results.append(res.aborted)

        async def chunk(res: Any, req: Any) -> None:
            total = 50_000_000
            while True:
                ok, done = await res.send_chunk(b"x" * 1_000_000, total)
                entered.set()
                if done:
                    break
            results.append((ok, done, res.aborted))

        app.post("/body", body).get("/chunk", chunk)

    running = serve(configure)
    with running.client() as client:
        client.send(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfour")
        assert entered.wait(20)
        reset(client)
    until(lambda: len(results) == 2, "get_data is released")
    assert results == [b"four", True]
    entered.clear()
    results.clear()
    with running.client() as client:
        client.request(target="/chunk")
        assert entered.wait(20)
        reset(client)
    until(lambda: results, "send_chunk is released")
    assert results == [(False, True, True)]


def test_a_client_that_shuts_its_side_still_gets_its_answer(serve: Serve) -> None:
    """B-HT-20. It looks like a client that is gone, so the flag is set; a response is still sent."""
    entered = threading.Event()
    flags: list[bool] = []

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            entered.set()
            await asyncio.sleep(0.1)
            flags.append(res.aborted)
            res.end("all the same")

        app.get("/", handler)

    with serve(configure).client() as client:
        client.request()
        assert entered.wait(20)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answer().body == b"all the same"
        assert client.is_closed()
    assert flags == [True]


@pytest.mark.parametrize("kind", ["def", "async"])
def test_pipelined_requests_before_the_client_shuts_its_side(serve: Serve, kind: str) -> None:
    """B-HT-20: as ``printf ... | nc -N`` sends them; each whole request is answered."""

    def configure(app: App) -> None:
        async def later(res: Any, req: Any) -> None:
            await asyncio.sleep(0.01)
            res.end(req.get_url())

        def plain(res: Any, req: Any) -> None:
            time.sleep(0.01)
            res.end(req.get_url())

        app.get("/*", later if kind == "async" else plain)

    with serve(configure).client() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(5)))
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.answer().body for _ in range(5)] == [b"/%d" % number for number in range(5)]
        assert client.is_closed()


# ---- nothing leaks --------------------------------------------------------------------------------------------------


class Canary:
    """Something that a handler holds."""


def gone(canaries: list[Any]) -> bool:
    return all(canary() is None for canary in canaries)


@pytest.mark.parametrize(
    "kind", ["silent", "on_aborted", "async on_aborted", "on_data", "closure", "waits", "get_data"]
)
@pytest.mark.parametrize("how", ["RST", "FIN"])
def test_a_handler_that_never_answers_leaks_nothing(serve: Serve, kind: str, how: str) -> None:
    """After the abort its response, request and callbacks are gone, without the collector."""
    canaries: list[Any] = []
    count = [0]

    def configure(app: App) -> None:
        def watch(res: Any, req: Any) -> Canary:
            canary = Canary()
            canaries.extend([weakref.ref(canary), weakref.ref(res), weakref.ref(req)])
            count[0] += 1
            return canary

        def handler(res: Any, req: Any) -> None:
            canary = watch(res, req)

            async def async_aborted(res: Any) -> None:
                await asyncio.sleep(0)
                assert canary

            if kind == "on_aborted":
                res.on_aborted(lambda res: canary)
            elif kind == "async on_aborted":
                res.on_aborted(async_aborted)
            elif kind == "on_data":
                res.on_data(lambda *_: canary)
            elif kind == "closure":
                # Over the response itself: the circle that listeners.rs cuts.
                res.on_aborted(lambda _: (res, req, canary))

        async def async_handler(res: Any, req: Any) -> None:
            canary = watch(res, req)
            if kind == "get_data":
                await res.get_data()
            while not res.aborted:
                await asyncio.sleep(0.002)
            assert canary

        app.post("/", async_handler if kind in ("waits", "get_data") else handler)

    running = serve(configure)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            client = running.client()
            seen = count[0]
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfour")
            until(lambda seen=seen: count[0] > seen, "the handler runs")
            leave(client, how)
        until(lambda: gone(canaries), "everything the handlers held is gone")
    finally:
        gc.enable()
    until(lambda: running.app._server.connection_count() == 0, "the connections are gone")
    assert count == [20]


def test_a_thousand_clients_killed_while_handlers_await(serve: Serve) -> None:
    """users.md 6: they then answer, write, cork, send and close; nothing crashes, and nothing is left."""
    entered: list[Any] = []
    finished = [0]

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            entered.append(weakref.ref(res))
            await app.gate.wait()  # type: ignore[attr-defined]
            way = finished[0] % 8
            if way == 0:
                res.end("answer")
            elif way == 1:
                res.cork_end({"a": 1})
            elif way == 2:
                res.cork(lambda res: res.write("x").end("y"))
            elif way == 3:
                res.write("x")
                await asyncio.sleep(0)
                res.write("y").end("")
            elif way == 4:
                assert await res.send_chunk(b"x", 10) == (False, True)
            elif way == 5:
                assert res.try_end(b"x", 10) == (False, True)
            elif way == 6:
                res.close()
            else:
                res.write_status(200).write_header("a", "b").send("x", headers=[("c", "d")])
            assert res.aborted
            assert (await res.get_data()).getvalue() == b""
            finished[0] += 1

        def prepare() -> None:
            app.gate = asyncio.Event()  # type: ignore[attr-defined]

        app.on_start(prepare)
        app.get("/", handler).get("/fine", lambda res, req: res.end("fine"))

    running = serve(configure, max_connections=2000)
    clients = []
    try:
        for _ in range(1000):
            clients.append(running.client())
            clients[-1].request()
        until(lambda: len(entered) == 1000, "all handlers have begun")
        for number, client in enumerate(clients):
            leave(client, "RST" if number % 2 else "FIN")
        clients.clear()
        until(lambda: all(res().aborted for res in entered), "all aborts are seen")
        running.app.loop.loop.call_soon_threadsafe(running.app.gate.set)
        until(lambda: finished[0] == 1000, "all handlers have ended")
        with running.client() as client:
            assert client.get("/fine").body == b"fine"
        until(lambda: gone(entered), "all responses are gone")
    finally:
        for client in clients:
            client.close()


def test_clients_that_leave_at_any_moment(serve: Serve) -> None:
    """Requests of all kinds and clients that reset while they are read, run, answered or written."""
    canaries: weakref.WeakSet[Any] = weakref.WeakSet()

    def configure(app: App) -> None:
        def plain(res: Any, req: Any) -> None:
            canaries.add(res)
            res.on_aborted(lambda _: res)
            res.end("x" * 100_000)

        async def later(res: Any, req: Any) -> None:
            canaries.add(res)
            res.write("x" * 10_000)
            await asyncio.sleep(0.001)
            res.end("y" * 10_000)

        def data(res: Any, req: Any) -> None:
            canaries.add(res)
            res.on_data(lambda res, chunk, last: last and res.end("body"))

        def thread(res: Any, req: Any) -> None:
            canaries.add(res)
            threading.Thread(target=res.end, args=("thread",)).start()

        app.get("/plain", plain).get("/later", later).post("/data", data).get("/thread", thread)

    running = serve(configure)

    def load(number: int) -> None:
        for turn in range(50):
            with running.client() as client:
                kind = (number + turn) % 4
                if kind == 2:
                    client.request("POST", "/data", body=b"x" * 200_000)
                else:
                    target = ("/plain", "/later", "", "/thread")[kind]
                    client.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 3)
                if turn % 3 == 0:
                    client.receive()
                elif turn % 3 == 1:
                    time.sleep(0.0005 * (turn % 5))
                leave(client, "RST" if turn % 2 else "FIN")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(load, range(8)))
    with running.client() as client:
        assert client.get("/later").status == 200
    until(lambda: running.app._server.connection_count() == 0, "the connections are gone", 30)
    until(lambda: not canaries, "all responses are gone")
