"""The routes of the comparison on robyn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

# The default limit, 1 MB, is below the upload of the comparison.
os.environ["ROBYN_MAX_PAYLOAD_SIZE"] = str(64 * 1024 * 1024)

from robyn import Headers, Request, Robyn, StreamingResponse

PIECE = b"0123456789abcdef" * 4096
PIECES = 1600

app = Robyn(__file__)


@app.get("/")
def hello(request: Request) -> str:
    """Responds from a plain function."""
    return "Hello, World!"


@app.get("/async")
async def async_hello(request: Request) -> str:
    """Responds from a coroutine that never waits."""
    return "Hello, World!"


@app.get("/sleep0")
async def sleep0(request: Request) -> str:
    """Responds after one iteration of the event loop."""
    await asyncio.sleep(0)
    return "Hello, World!"


@app.get("/user/:id")
def user(request: Request) -> Any:
    """Sends the parameter of the route."""
    return request.path_params["id"]


@app.get("/json")
def get_json(request: Request) -> dict[str, str]:
    """Sends an object that the server turns into JSON."""
    return {"message": "Hello, World!"}


@app.post("/json")
async def post_json(request: Request) -> dict[str, Any]:
    """Reads a JSON body, and shows with two of its values that it was parsed."""
    body: Any = request.json()
    return {"id": body["id"], "items": len(body["items"])}


@app.post("/upload")
def upload(request: Request) -> str:
    """Counts the body, which robyn reads whole before it calls."""
    return str(len(request.body))


@app.get("/download")
def download(request: Request) -> StreamingResponse:
    """Streams 100 MiB in pieces of 64 KiB."""

    def pieces() -> Iterator[bytes]:
        for _ in range(PIECES):
            yield PIECE

    return StreamingResponse(
        pieces(),
        headers=Headers({"Content-Type": "application/octet-stream"}),
        media_type="application/octet-stream",
    )


if __name__ == "__main__":
    # ROBYN_HOST and ROBYN_PORT set the address.
    app.start()
