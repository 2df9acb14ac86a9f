"""Applications of Falcon, ``wsgi`` and ``asgi``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import falcon
import falcon.asgi
import falcon.media

diary: list[str] = []


class Diary:
    def on_get(self, req: Any, resp: Any) -> None:
        resp.media = diary


class AsyncDiary:
    async def on_get(self, req: Any, resp: Any) -> None:
        resp.media = diary


class Things:
    def on_get(self, req: Any, resp: Any, name: str) -> None:
        resp.media = {"name": name, "query": req.params, "address": req.remote_addr, "url": req.url}

    def on_post(self, req: Any, resp: Any, name: str) -> None:
        resp.status = falcon.HTTP_201
        resp.media = {"got": req.media}


class AsyncThings:
    async def on_get(self, req: Any, resp: Any, name: str) -> None:
        resp.media = {"name": name, "query": req.params, "address": req.remote_addr, "url": req.url}

    async def on_post(self, req: Any, resp: Any, name: str) -> None:
        resp.status = falcon.HTTP_201
        resp.media = {"got": await req.get_media()}


class Upload:
    def on_put(self, req: Any, resp: Any) -> None:
        size = 0
        while piece := req.bounded_stream.read(65536):
            size += len(piece)
        resp.media = {"size": size}


class AsyncUpload:
    async def on_put(self, req: Any, resp: Any) -> None:
        resp.media = {"size": sum([len(piece) async for piece in req.stream])}


class File:
    def on_get(self, req: Any, resp: Any) -> None:
        path = Path(__file__)
        resp.set_stream(path.open("rb"), path.stat().st_size)


class AsyncFile:
    async def on_get(self, req: Any, resp: Any) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for line in Path(__file__).read_bytes().splitlines(keepends=True):
                yield line

        resp.stream = pieces()


class Fails:
    def on_get(self, req: Any, resp: Any) -> None:
        raise falcon.HTTPUnprocessableEntity(title="Not this one")


class AsyncFails:
    async def on_get(self, req: Any, resp: Any) -> None:
        raise falcon.HTTPUnprocessableEntity(title="Not this one")


class Events:
    async def on_get(self, req: Any, resp: Any) -> None:
        async def emit() -> AsyncIterator[falcon.asgi.SSEvent]:
            try:
                yield falcon.asgi.SSEvent(json={"first": True})
                while True:
                    await asyncio.sleep(0.05)
                    yield falcon.asgi.SSEvent(comment="still here")
            finally:
                diary.append("events closed")

        resp.sse = emit()


class Echo:
    async def on_websocket(self, req: Any, ws: Any) -> None:
        if req.get_param("refuse"):
            await ws.close()
            return
        await ws.accept()
        try:
            while True:
                await ws.send_text((await ws.receive_text()).upper())
        except falcon.WebSocketDisconnected as left:
            diary.append(f"left with {left.code}")


class Lifespan:
    async def process_startup(self, scope: Any, event: Any) -> None:
        diary.append("start-up")

    async def process_shutdown(self, scope: Any, event: Any) -> None:
        print("shut down", flush=True)


wsgi = falcon.App()
wsgi.add_route("/diary", Diary())
wsgi.add_route("/things/{name}", Things())
wsgi.add_route("/upload", Upload())
wsgi.add_route("/file", File())
wsgi.add_route("/fails", Fails())

asgi = falcon.asgi.App(middleware=[Lifespan()])
asgi.add_route("/diary", AsyncDiary())
asgi.add_route("/things/{name}", AsyncThings())
asgi.add_route("/upload", AsyncUpload())
asgi.add_route("/file", AsyncFile())
asgi.add_route("/fails", AsyncFails())
asgi.add_route("/events", Events())
asgi.add_route("/echo", Echo())
