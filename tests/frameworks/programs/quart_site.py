"""An application of Quart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from quart import Quart, Response, jsonify, request, send_file, websocket

app = Quart(__name__)
diary: list[str] = []


@app.before_serving
async def before() -> None:
    diary.append("start-up")


@app.after_serving
async def after() -> None:
    print("shut down", flush=True)


@app.get("/diary")
async def read_diary() -> Response:
    return jsonify(diary)


@app.post("/json")
async def read_json() -> dict[str, Any]:
    return {"got": await request.get_json(), "query": request.args.to_dict()}


@app.post("/form")
async def form() -> dict[str, Any]:
    fields, files = await request.form, await request.files
    return {"a": fields["a"], "file": len(files["file"].read())}


@app.post("/pieces")
async def pieces() -> dict[str, int]:
    return {"size": sum([len(piece) async for piece in request.body])}


@app.get("/plain")
def plain() -> str:
    """Quart calls it on a thread."""
    return "plain"


@app.get("/stream")
async def stream() -> Response:
    async def generate() -> AsyncIterator[bytes]:
        try:
            yield b"data: first\n\n"
            await asyncio.sleep(60)
        finally:
            diary.append("stream closed")

    response = Response(generate(), mimetype="text/event-stream")
    response.timeout = None
    return response


@app.get("/file")
async def file() -> Response:
    return await send_file(Path(__file__), conditional=True)


@app.get("/fails")
async def fails() -> None:
    raise LookupError("a fault of the view")


@app.websocket("/echo/<room>")
async def echo(room: str) -> None:
    if room == "closed":
        await websocket.close(4000) if websocket.args.get("accept") else None
        return
    try:
        while True:
            await websocket.send(f"{room}: {await websocket.receive()}")
    except asyncio.CancelledError:
        diary.append("echo cancelled")
        raise
