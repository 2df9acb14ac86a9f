"""Handlers of both kinds, each of which responds in its own way. ``asks`` has their expected results."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from asks import ASYNC, FINAL, PLAIN, answered, told
from counts import Counts
from socketify import App, OpCode, Request, Response, sendfile
from socketify.exceptions import ClientDisconnected

#: Threads that respond for handlers.
ANSWERERS = 3


class Failure(Exception):
    """A deliberate exception of a handler. It carries the response for the error handler."""

    def __init__(self, name: str, body: bytes) -> None:
        super().__init__(name)
        self.name = name
        self.body = body


class Job:
    """The facts of a request, read at once, since the request may be over at the response."""

    def __init__(self, res: Response, req: Request) -> None:
        self.res = res
        self.req = req
        self.name = req.get_parameter("id") or ""
        self.size, self.pieces, self.number = (
            int(req.get_query(key) or 0) for key in ("size", "pieces", "number")
        )
        self.wait = float(req.get_query("wait") or 0) / 1000
        self.method = req.get_method()
        self.padding = len(req.get_header("x-pad") or "")

    def body(self, read: str = "-") -> bytes:
        return answered(self.name, self.method, self.padding, read, self.size)

    def head(self) -> Response:
        return self.res.write_header("X-Id", self.name)

    def answer(self, read: str = "-") -> None:
        self.head().end(self.body(read))

    def split(self, body: bytes) -> Iterator[bytes]:
        step = max(1, -(-len(body) // self.pieces))
        for at in range(0, len(body), step):
            yield body[at : at + step]


Way = Callable[[Job], Any]


class Handlers:
    """All ways of both kinds."""

    def __init__(self, app: App, counts: Counts, folder: Path) -> None:
        self.app = app
        self.counts = counts
        self.folder = folder
        self._answers: queue.SimpleQueue[tuple[float, Callable[[], None]]] = queue.SimpleQueue()
        for _ in range(ANSWERERS):
            threading.Thread(target=self._answer_for_others, daemon=True).start()

    def register(self) -> None:
        self.app.set_error_handler(self._failed)
        for kind, names, wrap in (("plain", PLAIN, self.plain), ("async", ASYNC, self.asynchronous)):
            for name in (*names, *FINAL, "never"):
                if name != "changing":
                    self.app.any(f"/{kind}/{name}/:id", wrap(getattr(self, f"{kind}_{name}")))
            for name in ("yields",):
                self.app.any(f"/{kind}/{name}/*", wrap(getattr(self, f"{kind}_yielded")))

    def plain(self, way: Way) -> Callable[[Response, Request], None]:
        def handler(res: Response, req: Request) -> None:
            url = req.get_url()
            self.counts.entered(url)
            try:
                job = Job(res, req)
                self._watch(job)
                way(job)
            finally:
                self.counts.left(url)

        return handler

    def asynchronous(self, way: Way) -> Callable[[Response, Request], Any]:
        async def handler(res: Response, req: Request) -> None:
            url = req.get_url()
            self.counts.entered(url)
            try:
                job = Job(res, req)
                self._watch(job)
                await way(job)
            finally:
                self.counts.left(url)

        return handler

    def _watch(self, job: Job) -> None:
        # About half of them.
        if len(job.name) % 2:
            job.res.on_aborted(self.counts.watched(job.name))

    def _failed(self, error: BaseException, res: Response | None, req: Request | None) -> None:
        if isinstance(error, Failure) and res is not None:
            res.write_header("X-Id", error.name).send(error.body, status=500)
        elif not isinstance(error, (ClientDisconnected, Failure)):
            self.counts.fault(f"an error: expected none; got {error!r} for {res} and {req}")

    def _answer_for_others(self) -> None:
        while True:
            wait, answer = self._answers.get()
            time.sleep(wait)
            answer()
            del answer

    def _by_thread(self, job: Job) -> None:
        self._answers.put((job.wait, job.answer))

    # ---- plain ones -----------------------------------------------------------------------------------------------------

    def plain_end(self, job: Job) -> None:
        job.answer()

    def plain_send(self, job: Job) -> None:
        job.res.send(job.body(), content_type=b"application/x-chaos", headers=(("X-Id", job.name),))

    def plain_write(self, job: Job) -> None:
        job.head()
        for piece in job.split(job.body()):
            job.res.write(piece)
        job.res.end(b"")

    def plain_cork(self, job: Job) -> None:
        def answer(res: Response) -> None:
            body = job.body()
            job.head().write(body[:1])
            res.end(body[1:])

        job.res.cork(answer)

    def plain_slow(self, job: Job) -> None:
        time.sleep(job.wait)
        job.answer()

    def plain_thread(self, job: Job) -> None:
        self._by_thread(job)

    def plain_callback(self, job: Job) -> None:
        asyncio.get_running_loop().call_soon(job.answer)

    def plain_timer(self, job: Job) -> None:
        asyncio.get_running_loop().call_later(job.wait, job.answer)

    def plain_yields(self, job: Job) -> None:
        job.req.set_yield(True)

    def plain_yielded(self, job: Job) -> None:
        job.name = job.req.get_url().rpartition("/")[2]
        job.answer()

    def plain_error(self, job: Job) -> None:
        job.res.write_header("X-Forgotten", "yes")
        raise Failure(job.name, job.body())

    def plain_tried(self, job: Job) -> None:
        body = job.body()
        job.head()
        job.res.on_writable(lambda res, offset: res.try_end(body[offset:], len(body))[0])
        job.res.try_end(body, len(body))

    def plain_publish(self, job: Job) -> None:
        self.counts.begin(job.name, "news", 1)
        self.app.publish("news", f"news {job.name} news 1", OpCode.TEXT)
        self.counts.done(job.name, "news", 1)
        self.counts.forget(job.name)
        job.answer()

    def plain_file(self, job: Job) -> None:
        job.head().send_file(self.folder / f"file{job.number}")

    def plain_data(self, job: Job) -> None:
        parts: list[bytes] = []

        def piece(_: Response, chunk: bytes, is_end: bool) -> None:
            parts.append(chunk)
            if is_end:
                job.answer(told(b"".join(parts)))

        job.res.on_data(piece)

    def plain_early(self, job: Job) -> None:
        calls = 0

        def piece(_: Response, chunk: bytes, is_end: bool) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                job.answer()

        job.res.on_data(piece)

    def plain_closing(self, job: Job) -> None:
        job.head().end(job.body(), end_connection=True)

    def plain_broken(self, job: Job) -> None:
        body = job.body()
        job.head().write(body[: len(body) // 2])
        raise Failure(job.name, b"too late")

    def plain_cut(self, job: Job) -> None:
        job.res.close()

    def plain_never(self, job: Job) -> None:
        """Its client goes away."""
        job.res.on_aborted(self.counts.watched(job.name))

    # ---- coroutines -----------------------------------------------------------------------------------------------------

    async def async_end(self, job: Job) -> None:
        job.answer()

    async def async_sleep(self, job: Job) -> None:
        await asyncio.sleep(job.wait)
        job.answer()

    async def async_late(self, job: Job) -> None:
        job.res.run_async(self.async_sleep(job))

    async def async_worker(self, job: Job) -> None:
        self._by_thread(job)

    async def async_offload(self, job: Job) -> None:
        await asyncio.to_thread(time.sleep, job.wait)
        job.answer()

    async def async_yields(self, job: Job) -> None:
        await asyncio.sleep(job.wait)
        job.req.set_yield(True)

    async def async_yielded(self, job: Job) -> None:
        self.plain_yielded(job)

    async def async_error(self, job: Job) -> None:
        await asyncio.sleep(job.wait)
        raise Failure(job.name, job.body())

    async def async_chunks(self, job: Job) -> None:
        body = job.body()
        job.head()
        for piece in job.split(body):
            going_on, done = await job.res.send_chunk(piece, len(body))
            if done or not going_on:
                return

    async def async_iterable(self, job: Job) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for piece in job.split(job.body()):
                yield piece
                await asyncio.sleep(0)

        job.head()
        await job.res.stream(pieces() if job.wait else job.split(job.body()))

    async def async_drain(self, job: Job) -> None:
        job.head()
        for piece in job.split(job.body()):
            job.res.write(piece)
            await job.res.drain()
        job.res.end(b"")

    async def async_publish(self, job: Job) -> None:
        self.plain_publish(job)

    async def async_file(self, job: Job) -> None:
        job.head()
        await sendfile(job.res, job.req, self.folder / f"file{job.number}")

    async def async_data(self, job: Job) -> None:
        await asyncio.sleep(job.wait)
        body = (await job.res.get_data()).getvalue()
        job.answer(told(body))

    async def async_text(self, job: Job) -> None:
        text = await job.res.get_text("latin-1")
        job.answer(told((text or "").encode("latin-1")))

    async def async_body(self, job: Job) -> None:
        await asyncio.sleep(job.wait)
        job.answer(told(await job.req.body()))

    async def async_stream(self, job: Job) -> None:
        parts = []
        async for piece in job.req.stream():
            parts.append(piece)
            if job.wait and len(parts) < 10:
                await asyncio.sleep(0.001)
        job.answer(told(b"".join(parts)))

    async def async_pieces(self, job: Job) -> None:
        parts: list[bytes] = []

        async def piece(_: Response, chunk: bytes, is_end: bool) -> None:
            parts.append(chunk)
            if job.wait and len(parts) < 10:
                await asyncio.sleep(0.001)
            if is_end:
                job.answer(told(b"".join(parts)))

        job.res.on_data(piece)

    async def async_closing(self, job: Job) -> None:
        await asyncio.sleep(job.wait)
        self.plain_closing(job)

    async def async_broken(self, job: Job) -> None:
        body = job.body()
        job.head().write(body[: len(body) // 2])
        await asyncio.sleep(job.wait)
        raise Failure(job.name, b"too late")

    async def async_cut(self, job: Job) -> None:
        await asyncio.sleep(job.wait)
        job.res.close()

    async def async_never(self, job: Job) -> None:
        """Its client goes away, which ends the coroutine."""
        await job.res._ended()
