"""An application of Bottle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bottle import Bottle, HTTPResponse, request, response, static_file

app = Bottle()


@app.get("/hello/<name>")
def hello(name: str) -> dict[str, Any]:
    response.set_header("x-name", "yes")
    return {"hello": name, "query": dict(request.query.decode())}


@app.post("/form")
def form() -> dict[str, Any]:
    file = request.files.get("file")
    return {"a": request.forms.getunicode("a"), "size": len(file.file.read()) if file else None}


@app.post("/json")
def read_json() -> dict[str, Any]:
    return {"got": request.json}


@app.post("/body")
def body() -> dict[str, int]:
    return {"size": len(request.body.read())}


@app.get("/file")
def file() -> Any:
    return static_file(Path(__file__).name, root=Path(__file__).parent, mimetype="text/x-python")


@app.get("/stream")
def stream() -> Iterator[bytes]:
    """The head depends on what the generator does before its first block."""
    response.status = 202
    response.content_type = "text/plain"
    yield b"one\n"
    yield b"two\n"


@app.get("/fails")
def fails() -> None:
    raise LookupError("a fault of the handler")


@app.get("/away")
def away() -> None:
    raise HTTPResponse(status=303, headers={"location": "/hello/you"})
