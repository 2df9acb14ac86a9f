"""An application of FastAPI, as its users write one."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import (
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Query,
    Request,
    Response,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

diary: list[str] = []
visitor = contextvars.ContextVar("visitor", default="nobody")
go_on = asyncio.Event()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    diary.append("start-up")
    yield {"database": ["open"]}
    print("shut down", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/diary")
async def read_diary() -> list[str]:
    return diary


# ---- JSON, validation, errors ----------------------------------------------------------------------------------------


class Item(BaseModel):
    name: str
    price: float = Field(gt=0)
    tags: list[str] = []


@app.post("/items/{number}", status_code=201)
async def create(number: int, item: Item, q: Annotated[list[str] | None, Query()] = None) -> dict[str, Any]:
    return {"number": number, "item": item, "q": q}


@app.get("/plain")
def plain() -> dict[str, str]:
    """FastAPI calls it on a thread."""
    return {"visitor": visitor.get()}


@app.get("/missing")
async def missing() -> None:
    raise HTTPException(404, "no such thing", headers={"x-reason": "none"})


@app.get("/fails")
async def fails() -> None:
    raise LookupError("a fault of the application")


@app.get("/state")
async def state(request: Request) -> dict[str, Any]:
    request.state.database.append("used")
    request.state.mine = getattr(request.state, "mine", 0) + 1
    return {"database": request.state.database, "mine": request.state.mine}


@app.get("/context/{name}")
async def context(name: str) -> dict[str, str]:
    before = visitor.get()
    visitor.set(name)
    await asyncio.sleep(0)
    return {"before": before, "after": visitor.get()}


@app.get("/scope")
async def spoil(request: Request) -> dict[str, Any]:
    scope = request.scope
    before = {
        "asgi": dict(scope["asgi"]),
        "extensions": sorted(scope["extensions"]) if "extensions" in scope else [],
        "headers": [name.decode() for name, _ in scope["headers"]],
    }
    scope["asgi"]["spoilt"] = True
    scope.setdefault("extensions", {})["spoilt"] = {}
    scope["headers"].append((b"x-spoilt", b"yes"))
    return before


# ---- dependencies, streams, clients that leave -------------------------------------------------------------------------


async def connection() -> AsyncIterator[str]:
    diary.append("connected")
    try:
        yield "connection"
    finally:
        diary.append("released")


@app.get("/dependency")
async def dependency(used: Annotated[str, Depends(connection)]) -> dict[str, str]:
    return {"used": used}


@app.get("/events")
async def events(used: Annotated[str, Depends(connection)]) -> StreamingResponse:
    """An event, and then nothing for a minute."""

    async def generate() -> AsyncIterator[str]:
        try:
            yield "data: first\n\n"
            await asyncio.sleep(60)
            yield "data: too late\n\n"
        finally:
            diary.append("closed")

    return StreamingResponse(generate(), media_type="text/event-stream")


@app.get("/steps")
async def steps() -> StreamingResponse:
    """Each piece waits for the word that the client has got the one before."""

    async def generate() -> AsyncIterator[str]:
        for number in range(3):
            go_on.clear()
            yield f"step {number}\n"
            await go_on.wait()

    return StreamingResponse(generate(), media_type="text/plain")


@app.post("/go-on")
async def let_go_on() -> None:
    go_on.set()


class Flood(Response):
    """Many pieces, whether or not somebody listens."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(self.count):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body"})
        diary.append("flood over")


@app.get("/flood")
async def flood(count: int) -> Response:
    return Flood(count)


@app.get("/generator")
async def generator() -> StreamingResponse:
    async def generate() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    return StreamingResponse(generate())


@app.get("/download")
async def download() -> StreamingResponse:
    async def generate() -> AsyncIterator[bytes]:
        for _ in range(15):
            yield b"x" * 1000
            await asyncio.sleep(0.1)

    return StreamingResponse(generate(), headers={"content-length": "15000"})


@app.get("/query")
async def query() -> None:
    """A query of a database, which must not be cancelled in the middle."""
    diary.append("query begun")
    try:
        await asyncio.sleep(0.3)
        diary.append("query done")
    except asyncio.CancelledError:
        diary.append("query cancelled")
        raise


@app.get("/tasks")
async def tasks() -> int:
    return len(asyncio.all_tasks())


# ---- uploads and background tasks --------------------------------------------------------------------------------------


@app.post("/upload")
async def upload(file: UploadFile, title: str = "") -> dict[str, Any]:
    size = 0
    while piece := await file.read(1 << 20):
        size += len(piece)
    return {"name": file.filename, "type": file.content_type, "size": size}


async def later(word: str) -> None:
    await go_on.wait()
    diary.append(word)


@app.post("/background/{word}")
async def background(word: str, tasks: BackgroundTasks) -> dict[str, str]:
    go_on.clear()
    tasks.add_task(later, word)
    return {"accepted": word}


# ---- WebSockets ------------------------------------------------------------------------------------------------------


@app.websocket("/rooms/{room}")
async def talk(
    socket: WebSocket, room: str, used: Annotated[str, Depends(connection)], token: str = ""
) -> None:
    if token != "secret":
        await socket.close(1008)
        return
    await socket.accept("chat" if "chat" in socket.scope["subprotocols"] else None)
    try:
        while True:
            received = await socket.receive()
            if received["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(received["code"], received.get("reason"))
            if (text := received.get("text")) is not None:
                if text == "end":
                    await socket.close(4001, "as you wish")
                    return
                if text == "fail":
                    raise LookupError("a fault of the WebSocket")
                await socket.send_json({"room": room, "said": text, "used": used})
            else:
                await socket.send_bytes(received["bytes"][::-1])
    except WebSocketDisconnect as left:
        diary.append(f"left with {left.code}")


@app.websocket("/flood")
async def flood_socket(socket: WebSocket) -> None:
    await socket.accept()
    sent = 0
    try:
        while sent < 400:
            await socket.send_bytes(bytes(1 << 20))
            sent += 1
    finally:
        diary.append(f"sent {json.dumps(sent)}")
