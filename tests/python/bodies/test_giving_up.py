"""Handlers that give up waiting for a body, and then read on or never: no byte is lost or held, and no
timeout meets the client.

``asyncio.wait_for`` and ``asyncio.timeout`` cancel the wait. Rows: A-RES-04 to A-RES-07, A-RES-31.
"""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from socketify import App
from socketify.strict_bodies import BodyReader
from socketify.testing import AsyncTestServer, TestServer
from support.client import Client

Serve = Callable[..., Any]

FORM = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = "Content-Type: multipart/form-data; boundary=b"

#: Everything that waits for a body to be whole.
WHOLE: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
    "get_data": lambda res, req: res.get_data(),
    "get_text": lambda res, req: res.get_text(),
    "get_json": lambda res, req: res.get_json(),
    "get_form_urlencoded": lambda res, req: res.get_form_urlencoded(),
    "body": lambda res, req: req.body(),
    "text": lambda res, req: req.text(),
    "json": lambda res, req: req.json(),
    "form": lambda res, req: req.form(),
    "stream": lambda res, req: req.stream().__anext__(),
}


async def give_up(waiting: Awaitable[Any]) -> None:
    """Waits as long as it takes to see that there is nothing, and not longer."""

    async def wait() -> Any:
        return await waiting

    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(wait(), 0.02)


def begin(client: Client, length: int, *lines: str, sent: bytes = b"") -> Client:
    more = "".join(f"{line}\r\n" for line in lines)
    return client.send(
        f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n{more}\r\n".encode() + sent
    )


class Steps:
    """A handler's signals to its test, and from it."""

    def __init__(self) -> None:
        self.said: queue.Queue[str] = queue.Queue()
        self._go_on = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def say_and_wait(self, word: str) -> None:
        self._loop = asyncio.get_running_loop()
        self.said.put(word)
        await self._go_on.wait()
        self._go_on.clear()

    def heard(self) -> str:
        return self.said.get(timeout=20)

    def go_on(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._go_on.set)


# ---- no reader: nothing is held, and no timeout runs ----------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_nobody_asks_any_more(serve: Serve, name: str) -> None:
    """Beyond ``body_buffer`` the client has to wait."""
    steps = Steps()
    size = 48 * 1024 * 1024

    async def handler(res: Any, req: Any) -> None:
        await give_up(WHOLE[name](res, req))
        await steps.say_and_wait("gave up")
        total = 0
        async for piece in req.stream():
            total += len(piece)
        res.end(f"{total}")

    running = serve(lambda app: app.post("/", handler), body_buffer=65_536)
    with running.client() as client:
        begin(client, size, FORM)
        assert steps.heard() == "gave up"
        taken = client.flood(bytes(size))
        assert taken < 24 * 1024 * 1024, "the body was taken while nobody asked"
        steps.go_on()
        client.send(bytes(size - taken))
        assert client.answer().body == b"%d" % size


@pytest.mark.parametrize("name", ["get_data", "stream"])
def test_no_timeout_for_a_body_that_nobody_reads(serve: Serve, name: str) -> None:
    """``body_timeout`` is for clients that are late, and this one is not."""
    steps = Steps()

    async def handler(res: Any, req: Any) -> None:
        await give_up(WHOLE[name](res, req))
        await asyncio.sleep(2.5)
        steps.said.put("asks again")
        res.end(b"".join([piece async for piece in req.stream()]))

    running = serve(lambda app: app.post("/", handler), body_timeout=1.5)
    with running.client() as client:
        begin(client, 5)
        assert steps.heard() == "asks again"
        assert client.send(b"hello").answer().body == b"hello"


def test_one_of_two_gives_up(serve: Serve) -> None:
    """The other still asks."""
    steps = Steps()

    async def handler(res: Any, req: Any) -> None:
        patient = asyncio.ensure_future(req.body())
        await give_up(res.get_data())
        steps.said.put("gave up")
        res.end(await patient)

    body = bytes(range(256)) * 4000
    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, len(body))
        assert steps.heard() == "gave up"
        assert client.send(body).answer().body == body


def test_client_is_late_for_those_who_wait_alone(serve: Serve) -> None:
    """``body_timeout`` begins with the next call."""

    async def handler(res: Any, req: Any) -> None:
        await give_up(req.body())
        await asyncio.sleep(0.4)
        await req.body()

    running = serve(lambda app: app.post("/", handler), body_timeout=0.2)
    with running.client() as client:
        assert begin(client, 5, sent=b"x").answer().status == 408


# ---- the next reader continues --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["stream", "body", "get_data", "on_data"])
@pytest.mark.parametrize("first", ["get_data", "get_text", "get_json", "body", "json", "form", "stream"])
def test_reading_on(serve: Serve, first: str, then: str) -> None:
    """No byte is lost, for any cancelled wait and any next call."""
    steps = Steps()

    async def handler(res: Any, req: Any) -> None:
        reader = req.stream()
        await give_up(reader.__anext__() if first == "stream" else WHOLE[first](res, req))
        if then == "on_data":
            got: list[bytes] = []

            def on_data(res: Any, chunk: bytes, last: bool) -> None:
                got.append(chunk)
                if last:
                    res.end(b"".join(got))

            res.on_data(on_data)
            steps.said.put("gave up")
            return
        steps.said.put("gave up")
        if then == "stream":
            res.end(b"".join([piece async for piece in reader]))
        elif then == "body":
            res.end(await req.body())
        else:
            res.end((await res.get_data()).getvalue())

    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, 10, FORM, sent=b"" if first == "stream" else b"hello")
        assert steps.heard() == "gave up"
        client.send(b"helloworld" if first == "stream" else b"world")
        if first == "stream" and then == "body":
            # Pieces were asked for, so they may have been taken.
            assert client.answer().status == 500
        else:
            assert client.answer().body == b"helloworld"


def test_cancelled_without_a_turn_of_the_loop(serve: Serve) -> None:
    """A wait that was cancelled this very moment reads nothing either."""

    async def handler(res: Any, req: Any) -> None:
        for _ in range(3):
            res.get_data().cancel()
            waiting = req.stream()._body.piece()
            if not isinstance(waiting, tuple):
                waiting.cancel()
        res.end(b"".join([piece async for piece in req.stream()]))

    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, 10)
        assert client.send(b"helloworld").answer().body == b"helloworld"


def test_cancellation_with_the_piece() -> None:
    """A task that is cancelled in the moment in which its piece is there leaves it to the next."""

    class Core:
        """The part of a body that is used, under the test's control."""

        def __init__(self) -> None:
            self.next: tuple[bytes, bool] | None = None

        def piece(self) -> Any:
            if self.next is None:
                self.signal = asyncio.get_running_loop().create_future()
                return self.signal
            piece, self.next = self.next, None
            return piece

    async def main() -> None:
        core: Any = Core()
        reader = BodyReader(core)
        waiting = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        core.next = (b"hello", True)
        core.signal.set_result(None)
        # The task has been woken and has not run.
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [piece async for piece in BodyReader(core)] == [b"hello"]

    asyncio.run(main())


def test_timeout_for_each_piece(serve: Serve) -> None:
    """The same iterator, until it ends: only the end of the body is its end."""
    steps = Steps()

    async def handler(res: Any, req: Any) -> None:
        pieces, got, late = req.stream(), b"", 0
        while True:
            try:
                got += await asyncio.wait_for(pieces.__anext__(), 0.02)
            except asyncio.TimeoutError:
                late += 1
                if late == 1:
                    steps.said.put("late")
                continue
            except StopAsyncIteration:
                break
        with pytest.raises(StopAsyncIteration):
            await pieces.__anext__()
        res.end(got)

    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, 10, sent=b"hello")
        assert steps.heard() == "late"
        assert client.send(b"world").answer().body == b"helloworld"


@pytest.mark.parametrize("sent", [(b"hello", b"world"), (b"helloworld",)])
def test_second_iterator(serve: Serve, sent: tuple[bytes, ...]) -> None:
    """It goes on where the one before was left, however the body has come."""
    steps = Steps()

    async def handler(res: Any, req: Any) -> None:
        got = b""
        async for piece in req.stream():
            got += piece
            break
        steps.said.put("left")
        async for piece in req.stream():
            got += piece
        assert [piece async for piece in req.stream()] == []
        with pytest.raises(RuntimeError, match="read in pieces"):
            await req.body()
        res.end(got)

    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, 10, sent=sent[0])
        assert steps.heard() == "left"
        for piece in sent[1:]:
            client.send(piece)
        assert client.answer().body == b"helloworld"


def test_iterators_of_a_body_that_was_read_whole(serve: Serve) -> None:
    """A body that a middleware has read whole is available to all."""

    async def handler(res: Any, req: Any) -> None:
        body = await req.body()
        for _ in range(2):
            assert [piece async for piece in req.stream()] == [body]
        res.end(body)

    with serve(lambda app: app.post("/", handler)).client() as client:
        assert begin(client, 5, sent=b"hello").answer().body == b"hello"


def test_whole_beside_pieces(serve: Serve) -> None:
    """Who waits for a piece gets what another has read whole meanwhile, as one piece."""
    steps = Steps()

    async def handler(res: Any, req: Any) -> None:
        waiting = asyncio.ensure_future(req.stream().__anext__())
        await asyncio.sleep(0)
        rest = asyncio.ensure_future(res.get_data())
        await asyncio.sleep(0)
        steps.said.put("waiting")
        res.end(await waiting + (await rest).getvalue())

    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, 10)
        assert steps.heard() == "waiting"
        assert client.send(b"hello").send(b"world").answer().body == b"helloworldhelloworld"


def test_one_waits_for_a_piece_at_a_time(serve: Serve) -> None:
    """A second one gets an error, and the first still gets its piece."""
    steps = Steps()

    async def handler(res: Any, req: Any) -> None:
        reader = req.stream()
        waiting = asyncio.ensure_future(reader.__anext__())
        await asyncio.sleep(0)
        for another in (reader, req.stream()):
            with pytest.raises(RuntimeError, match="one at a time"):
                await another.__anext__()
        steps.said.put("told")
        res.end(await waiting)

    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, 5)
        assert steps.heard() == "told"
        assert client.send(b"hello").answer().body == b"hello"


def test_error_is_told_again(serve: Serve) -> None:
    """An iterator whose client has left does not end as if the body were whole."""
    seen: queue.Queue[list[str]] = queue.Queue()
    steps = Steps()

    async def handler(res: Any, req: Any) -> None:
        pieces = req.stream()
        await pieces.__anext__()
        steps.said.put("reading")
        kinds = []
        for _ in range(3):
            try:
                await pieces.__anext__()
            except Exception as error:
                kinds.append(type(error).__name__)
        seen.put(kinds)

    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, 10, sent=b"hello")
        assert steps.heard() == "reading"
        client.reset()
    assert seen.get(timeout=20) == ["ClientDisconnected"] * 3


# ---- forms ----------------------------------------------------------------------------------------------------------------


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


FILE = bytes(range(256)) * 2400
PARTS = part("a", b"first") + part("f", FILE, '; filename="x"') + part("z", b"last" * 1000) + b"--b--\r\n"


def test_form_that_is_waited_for_again(serve: Serve) -> None:
    """Fields and files that have come are kept, wherever the body was interrupted; files on disk too."""
    pytest.importorskip("multipart")
    steps = Steps()

    async def handler(res: Any, req: Any) -> None:
        form, tries = None, 0
        while form is None:
            try:
                form = await asyncio.wait_for(read(req), 0.02)
            except asyncio.TimeoutError:
                tries += 1
                steps.said.put("late")
        assert tries
        file = form.files["f"]
        res.end(json.dumps([form["a"], len(form["z"]), file.size, await file.read() == FILE]))

    async def read(req: Any) -> Any:
        return await req.form()

    def late() -> None:
        while not steps.said.empty():
            steps.said.get()
        assert steps.heard() == "late"

    with serve(lambda app: app.post("/", handler)).client() as client:
        for cuts in ((40, 70, 95), (80, 200_000, 500_000, len(PARTS) - 3000)):
            begin(client, len(PARTS), MULTIPART)
            for start, end in zip((0, *cuts), (*cuts, len(PARTS)), strict=True):
                late()
                client.send(PARTS[start:end])
            assert json.loads(client.answer().body) == ["first", 4000, len(FILE), True]


def test_two_wait_for_one_form(serve: Serve) -> None:
    pytest.importorskip("multipart")

    async def handler(res: Any, req: Any) -> None:
        first, second = await asyncio.gather(*[read(req) for _ in range(2)])
        assert first is second
        res.end(first["a"])

    async def read(req: Any) -> Any:
        return await req.form()

    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, len(PARTS), MULTIPART, sent=PARTS[:50])
        assert client.send(PARTS[50:]).answer().body == b"first"


def test_parts_with_a_timeout_for_each(serve: Serve) -> None:
    """Of parts, and of the bytes in them, each goes on; parts that were left go on in another loop."""
    pytest.importorskip("multipart")
    steps = Steps()

    async def patient(make: Callable[[], Awaitable[Any]]) -> Any:
        async def wait() -> Any:
            return await make()

        while True:
            try:
                return await asyncio.wait_for(wait(), 0.02)
            except asyncio.TimeoutError:
                steps.said.put("late")

    async def handler(res: Any, req: Any) -> None:
        got = []
        while True:
            try:
                one = await patient(lambda: req.multipart().__anext__())
            except StopAsyncIteration:
                break
            got.append([one.name, len(await patient(one.read))])
        res.end(json.dumps(got))

    with serve(lambda app: app.post("/", handler)).client() as client:
        begin(client, len(PARTS), MULTIPART)
        for start in range(0, len(PARTS), 100_000):
            while not steps.said.empty():
                steps.said.get()
            assert steps.heard() == "late"
            client.send(PARTS[start : start + 100_000])
        assert json.loads(client.answer().body) == [["a", 5], ["f", len(FILE)], ["z", 4000]]


# ---- room -----------------------------------------------------------------------------------------------------------------


def test_drains_that_are_given_up_are_let_go(serve: Serve) -> None:
    """A handler that tries again and again does not gather futures."""
    import gc

    counts: queue.Queue[int] = queue.Queue()

    async def handler(res: Any, req: Any) -> None:
        res.write(bytes(4 * 1024 * 1024))
        before = sum(isinstance(one, asyncio.Future) for one in gc.get_objects())
        for _ in range(2000):
            res.drain().cancel()
        counts.put(sum(isinstance(one, asyncio.Future) for one in gc.get_objects()) - before)
        await res.drain()
        res.end(b"")

    with serve(lambda app: app.get("/", handler)).client(receive_buffer=4096) as client:
        client.request("GET", "/")
        assert counts.get(timeout=20) < 100
        assert len(client.answer().body) == 4 * 1024 * 1024


def test_drains_of_sockets_that_are_given_up_are_let_go(serve: Serve) -> None:
    import gc

    counts: queue.Queue[int] = queue.Queue()

    async def opened(ws: Any) -> None:
        for _ in range(64):
            ws.send(bytes(65_536))
        before = sum(isinstance(one, asyncio.Future) for one in gc.get_objects())
        for _ in range(2000):
            ws.drain().cancel()
        counts.put(sum(isinstance(one, asyncio.Future) for one in gc.get_objects()) - before)

    behavior = {"open": opened, "max_backpressure": 16 * 1024 * 1024}
    running = serve(lambda app: app.ws("/", behavior))
    with running.websocket("/"):
        assert counts.get(timeout=20) < 100


# ---- clients of tests ----------------------------------------------------------------------------------------------------


def late_site(app: App) -> None:
    async def handler(res: Any, req: Any) -> None:
        res.write("one\ntw")
        await asyncio.sleep(0.15)
        res.write("o\nthree")
        await asyncio.sleep(0.15)
        res.end("")

    async def said(ws: Any, message: str, opcode: Any) -> None:
        ws.send("a")
        await asyncio.sleep(0.15)
        ws.send("b")
        ws.end(1000, "")

    app.get("/", handler)
    app.ws("/ws", {"message": said})


def test_iterators_of_a_test_client_go_on() -> None:
    with TestServer(late_site) as server:
        for lines in (False, True):
            with server.connect() as connection:
                connection.timeout = 0.05
                with connection.stream("GET", "/") as stream:
                    found: Any = iter(stream.lines() if lines else stream)
                    got, late = [], 0
                    while True:
                        try:
                            got.append(next(found))
                        except TimeoutError:
                            late += 1
                        except StopIteration:
                            break
                    assert late
                    if lines:
                        assert got == ["one", "two", "three"]
                    else:
                        assert b"".join(got) == b"one\ntwo\nthree"


def test_iterators_of_an_asynchronous_test_client_go_on() -> None:
    async def patient(found: Any) -> list[Any]:
        got, late = [], 0
        while True:
            try:
                got.append(await asyncio.wait_for(found.__anext__(), 0.05))
            except asyncio.TimeoutError:
                late += 1
            except StopAsyncIteration:
                assert late
                return got

    async def main() -> None:
        async with AsyncTestServer(late_site) as server:
            await read(server)

    async def read(server: AsyncTestServer) -> None:
        for lines in (False, True):
            async with server.stream("GET", "/") as stream:
                got = await patient(stream.lines() if lines else stream.__aiter__())
                assert got == ["one", "two", "three"] if lines else b"".join(got) == b"one\ntwo\nthree"
        async with server.websocket("/ws") as ws:
            await ws.send("go")
            assert await patient(ws.__aiter__()) == [b"a", b"b"]

    asyncio.run(main())
