"""An application of Flask, as its users write one."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import (
    Flask,
    Response,
    abort,
    g,
    jsonify,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)

app = Flask(__name__)
app.secret_key = "secret"

diary: list[str] = []
busy = 0
most = 0
lock = threading.Lock()
gate = threading.Event()


@app.get("/diary")
def read_diary() -> Response:
    return jsonify(diary)


@app.before_request
def before() -> None:
    g.began = time.monotonic()


@app.after_request
def after(response: Response) -> Response:
    response.headers["x-took"] = str(time.monotonic() - g.began)
    return response


@app.route("/echo/<path:rest>", methods=["GET", "POST", "PUT"])
def echo(rest: str) -> dict[str, Any]:
    return {
        "method": request.method,
        "rest": rest,
        "query": request.args.to_dict(flat=False),
        "form": request.form.to_dict(),
        "cookies": request.cookies,
        "address": request.remote_addr,
        "scheme": request.scheme,
        "header": request.headers.get("X-Test"),
        "root": request.script_root,
        "here": url_for("echo", rest="x"),
    }


@app.post("/json")
def read_json() -> dict[str, Any]:
    return {"got": request.get_json()}


@app.post("/upload")
def upload() -> dict[str, Any]:
    if request.files:
        file = request.files["file"]
        return {"name": file.filename, "size": len(file.read())}
    return {"length": request.content_length, "size": len(request.get_data())}


@app.post("/lines")
def lines() -> list[str]:
    """Reads the body as a file."""
    return [line.decode().rstrip("\n") for line in request.stream]


@app.get("/asyncio")
def run_asyncio() -> str:
    """A plain view that runs a loop of its own."""

    async def work() -> str:
        await asyncio.sleep(0)
        return "ran"

    return asyncio.run(work())


@app.get("/async")
async def async_view() -> str:
    await asyncio.sleep(0)
    return "async"


@app.get("/stream")
def stream() -> Response:
    @stream_with_context
    def generate() -> Iterator[str]:
        for number in range(3):
            gate.clear()
            yield f"{request.args['word']} {number}\n"
            gate.wait(20)

    return Response(generate(), mimetype="text/plain")


@app.get("/quick")
def quick() -> str:
    return "quick"


@app.post("/go-on")
def go_on() -> str:
    gate.set()
    return "gone on"


@app.get("/endless")
def endless() -> Response:
    def generate() -> Iterator[bytes]:
        try:
            while True:
                yield b"more\n" * 2000
                time.sleep(0.01)
        finally:
            diary.append("generator closed")

    response = Response(generate())
    response.call_on_close(lambda: diary.append("response closed"))
    return response


@app.get("/work")
def work() -> dict[str, int]:
    """How many requests are in application code at once."""
    global busy, most
    with lock:
        busy += 1
        most = max(most, busy)
    time.sleep(0.01)
    with lock:
        busy -= 1
    return {"most": most, "threads": threading.active_count()}


@app.get("/file")
def file() -> Response:
    return send_file(Path(__file__), as_attachment=True, download_name="site.py", conditional=True)


@app.get("/memory-file")
def memory_file() -> Response:
    return send_file(io.BytesIO(b"0123456789"), mimetype="application/x-test")


@app.get("/visits")
def visits() -> str:
    session["visits"] = session.get("visits", 0) + 1
    return str(session["visits"])


@app.get("/away")
def away() -> Any:
    return redirect(url_for("quick", _external=True))


@app.get("/fails")
def fails() -> None:
    raise LookupError("a fault of the view")


@app.get("/teapot")
def teapot() -> None:
    abort(418)


@app.get("/nothing")
def nothing() -> tuple[str, int]:
    return "", 204


@app.get("/process")
def process() -> str:
    return str(os.getpid())


@app.get("/environ")
def environ() -> Response:
    shown = {name: value for name, value in request.environ.items() if isinstance(value, str | bool)}
    return Response(json.dumps(shown), mimetype="application/json")
