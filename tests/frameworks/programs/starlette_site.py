"""An application of Starlette with its middlewares, files and event streams."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

diary: list[str] = []
sent: list[str] = []

directory = Path(tempfile.mkdtemp(dir=os.getcwd()))
(directory / "page.html").write_text("<h1>page</h1>")
(directory / "large.bin").write_bytes(bytes(range(256)) * 4096)


async def read_diary(request: Request) -> Response:
    return JSONResponse(diary)


async def home(request: Request) -> Response:
    return PlainTextResponse("home")


async def large(request: Request) -> Response:
    return PlainTextResponse("line\n" * 100_000)


async def echo(request: Request) -> Response:
    body = await request.body()
    return JSONResponse(
        {
            "method": request.method,
            "path": request.url.path,
            "query": str(request.query_params),
            "body": body.decode(),
            "cookies": request.cookies,
            "client": request.client and [request.client.host, request.client.port],
            "scheme": request.url.scheme,
            "url": str(request.url),
        }
    )


async def pieces(request: Request) -> Response:
    """How the body arrives."""
    sizes = [len(piece) async for piece in request.stream()]
    return JSONResponse({"size": sum(sizes), "largest": max(sizes), "ends_empty": sizes[-1] == 0})


async def form(request: Request) -> Response:
    async with request.form() as fields:
        seen = {
            name: value if isinstance(value, str) else [value.filename, value.size]
            for name, value in fields.items()
        }
    return JSONResponse(seen)


async def slash(request: Request) -> Response:
    return PlainTextResponse("slash")


async def file(request: Request) -> Response:
    return FileResponse(
        directory / request.path_params["name"], background=BackgroundTask(diary.append, "file sent")
    )


async def no_file(request: Request) -> Response:
    return FileResponse(directory / "nothing")


async def session(request: Request) -> Response:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return PlainTextResponse(str(request.session["visits"]))


async def refuse(request: Request) -> Response:
    raise HTTPException(418)


async def events(request: Request) -> Response:
    async def generate() -> AsyncIterator[dict[str, str]]:
        try:
            for number in range(3):
                yield {"event": "count", "data": str(number)}
            await asyncio.sleep(60)
        finally:
            diary.append("events closed")

    return EventSourceResponse(generate())


async def head_first(request: Request) -> Response:
    """An event stream whose first event is a minute away."""

    async def generate() -> AsyncIterator[str]:
        await asyncio.sleep(60)
        yield "data: late\n\n"

    return StreamingResponse(generate(), media_type="text/event-stream")


async def watch(request: Request) -> Response:
    """Looks whether the client is there, as long as it is."""
    diary.append("watching")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    diary.append("gone")
    return PlainTextResponse("too late")


async def wait(request: Request) -> Response:
    """A clean-up that waits, as of a pool of connections."""
    diary.append("waiting")
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.2)
    except TimeoutError:
        diary.append("timed out")
    return PlainTextResponse("waited")


async def chat(socket: WebSocket) -> None:
    await socket.accept(headers=[(b"x-room", b"blue")])
    async for text in socket.iter_text():
        await socket.send_text(text.upper())
    diary.append("chat over")


async def denied(socket: WebSocket) -> None:
    await socket.send_denial_response(JSONResponse({"reason": "not here"}, 402))


class Timing(BaseHTTPMiddleware):
    """What nearly every application has: a middleware that wraps requests and responses."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-timing"] = "measured"
        return response


class Watching:
    """Notes which messages the application sends."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            sent.append(message["type"])
            await send(message)

        sent.clear()
        await self.app(scope, receive, noting)


async def messages(request: Request) -> Response:
    return JSONResponse(sent)


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    ticking = asyncio.create_task(asyncio.sleep(3600))
    yield
    # A task of the start-up lives until here.
    print("ticking" if not ticking.done() else "ended early", flush=True)
    ticking.cancel()


plain = [
    Route("/diary", read_diary),
    Route("/", home),
    Route("/large", large),
    Route("/echo/{rest:path}", echo, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    Route("/pieces", pieces, methods=["POST"]),
    Route("/form", form, methods=["POST"]),
    Route("/slash/", slash),
    Route("/session", session),
    Route("/refuse", refuse),
    Route("/events", events),
    Route("/head-first", head_first),
    Route("/watch", watch),
    Route("/wait", wait),
    Route("/no-file", no_file),
    WebSocketRoute("/chat", chat),
    WebSocketRoute("/denied", denied),
    Mount("/static", StaticFiles(directory=directory, html=True)),
]
wrapped = Starlette(
    routes=plain,
    middleware=[
        Middleware(CORSMiddleware, allow_origins=["https://page.example"], allow_methods=["*"]),
        Middleware(SessionMiddleware, secret_key="secret"),
        Middleware(GZipMiddleware, minimum_size=100),
        Middleware(Timing),
    ],
)
app = Starlette(
    routes=[
        Mount("/wrapped", wrapped),
        Route("/messages", messages),
        Mount("/files", Router([Route("/{name}", file)], middleware=[Middleware(Watching)])),
        *plain,
    ],
    middleware=[Middleware(SessionMiddleware, secret_key="secret")],
    lifespan=lifespan,
)


@asynccontextmanager
async def failing_lifespan(app: Any) -> AsyncIterator[None]:
    raise RuntimeError("the database is not there")
    yield


failing = Starlette(lifespan=failing_lifespan)


def redirect(request: Request) -> Response:
    return RedirectResponse("/elsewhere")
