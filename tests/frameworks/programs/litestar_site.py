"""An application of Litestar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from litestar import Litestar, Request, get, post, websocket_listener
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import State, UploadFile
from litestar.di import Provide
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotFoundException
from litestar.params import Body
from litestar.response import File, Response, ServerSentEvent, Stream

diary: list[str] = []


@dataclass
class Point:
    x: int
    y: int = 0


async def connection() -> AsyncIterator[str]:
    diary.append("connected")
    try:
        yield "connection"
    finally:
        diary.append("released")


@get("/diary")
async def read_diary() -> list[str]:
    return diary


@post("/points")
async def create(data: Point) -> Point:
    return Point(data.x + 1, data.y + 1)


@get("/plain", sync_to_thread=True)
def plain() -> str:
    return "plain"


@get("/dependency", dependencies={"used": Provide(connection)})
async def dependency(used: str) -> str:
    return used


@get("/missing")
async def missing() -> None:
    raise NotFoundException("no such thing")


@get("/state")
async def state(state: State) -> str:
    return str(state["opened"])


@post("/upload")
async def upload(
    data: Annotated[UploadFile, Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    return {"name": data.filename, "size": len(await data.read())}


@post("/pieces")
async def pieces(request: Request[Any, Any, Any]) -> int:
    return sum([len(piece) async for piece in request.stream()])


@get("/stream")
async def stream() -> Stream:
    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"first\n"
            await asyncio.sleep(60)
        finally:
            diary.append("stream closed")

    return Stream(generate())


@get("/events")
async def events() -> ServerSentEvent:
    async def generate() -> AsyncIterator[str]:
        for number in range(3):
            yield str(number)

    return ServerSentEvent(generate())


@get("/file")
async def file() -> File:
    return File(Path(__file__), filename="site.py")


@get("/background")
async def background() -> Response[str]:
    async def later() -> None:
        diary.append("later")

    return Response("now", background=BackgroundTask(later))


@websocket_listener("/echo")
async def echo(data: dict[str, Any]) -> dict[str, Any]:
    return {"heard": data}


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    app.state["opened"] = "opened"
    yield
    print("shut down", flush=True)


app = Litestar(
    [
        read_diary,
        create,
        plain,
        dependency,
        missing,
        state,
        upload,
        pieces,
        stream,
        events,
        file,
        background,
        echo,
    ],
    lifespan=[lifespan],
)
