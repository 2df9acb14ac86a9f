"""HEAD and GET agree in their status and headers, from every source (RFC 9110 section 9.3.2)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import CORS, App, HTTPError, request_id, sendfile
from support.h2_client import H2Client

Serve = Callable[..., Any]

TEXT = "a line like all the others\n" * 200
#: Headers that differ between any two responses.
EACH_ITS_OWN = {"date", "x-request-id"}


def site(root: Path) -> Callable[[App], None]:
    """Responses of every kind, each at its own path."""

    def broken(res: Any, req: Any) -> None:
        res.write_header("X-Lost", "1")
        raise RuntimeError("broken")

    async def refused(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        raise HTTPError(403, headers=[("X-Why", "because")])

    def pieces(res: Any, req: Any) -> None:
        res.write_header("Content-Type", "text/css").write(TEXT)
        res.write(TEXT).end(TEXT)

    def declared(res: Any, req: Any) -> None:
        res.write_header("Content-Length", 2 * len(TEXT)).write(TEXT)
        res.end(TEXT)

    async def chunks(res: Any, req: Any) -> None:
        done = False
        while not done:
            _, done = await res.send_chunk(TEXT, 3 * len(TEXT))

    async def stream(res: Any, req: Any) -> None:
        res.write_header("ETag", '"v1"')
        await res.stream([TEXT, TEXT], "text/csv")

    async def events(res: Any, req: Any) -> None:
        async with res.events() as events:
            await events.send("one")

    async def file(res: Any, req: Any) -> None:
        res.set_cookie("a", "b")
        await sendfile(res, req, root / req.get_parameter(0))

    def conditional(res: Any, req: Any) -> None:
        res.write_header("ETag", '"v1"').write_header("Content-Type", "text/css")
        if "v1" in (req.get_header("if-none-match") or ""):
            res.write_status(304).end_without_body()
        else:
            res.end(TEXT)

    def identified(res: Any, req: Any, data: Any) -> None:
        raise HTTPError(409)

    def configure(app: App) -> None:
        # A handler with a wrong length: a GET does not send it either.
        app.get("/wrong", lambda res, req: res.write_header("Content-Length", 999).end("hi"))
        app.get("/wrong-empty", lambda res, req: res.write_header("Content-Length", 999).end(""))
        app.constant("/wrong-constant", "hi", headers=[("Content-Length", "999")])
        app.constant("/wrong-nothing", "", headers=[("Content-Length", "999")])
        app.get("/end", lambda res, req: res.write_header("ETag", '"v1"').end(TEXT))
        app.get("/bytes", lambda res, req: res.end(b"\0" * 2000))
        app.get("/send", lambda res, req: res.send({"text": TEXT}, status=201, headers=[("X-Own", "1")]))
        app.get("/small", lambda res, req: res.send("small"))
        app.get("/empty", lambda res, req: res.end(""))
        app.get("/without", lambda res, req: res.write_status(202).end_without_body())
        app.get("/204", lambda res, req: res.write_status(204).end_without_body())
        app.get("/205", lambda res, req: res.write_status(205).end_without_body())
        app.get("/identity", lambda res, req: res.write_header("Content-Encoding", "identity").send(TEXT))
        app.get("/redirect", lambda res, req: res.redirect("/café", 301))
        app.get("/close", lambda res, req: res.end("last", end_connection=True))
        app.get("/tried", lambda res, req: res.try_end(TEXT, len(TEXT)))
        app.get("/broken", broken)
        app.get("/refused", refused)
        app.get("/pieces", pieces)
        app.get("/declared", declared)
        app.get("/chunks", chunks)
        app.get("/stream", stream)
        app.get("/events", events)
        app.get("/file/:name", file)
        app.get("/conditional", conditional)
        app.constant("/constant", TEXT, headers=[("ETag", '"v1"'), ("Content-Type", "text/plain")])
        app.static("/s", root, index="index.html", cache_control="no-cache", precompressed=True)
        app.router("", CORS("https://shop.example"), request_id()).get("/identified")(identified)

    return configure


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.txt", "a.css", "a.css.gz", "b.json.gz", "c.svgz", "sub/index.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TEXT)
    return tmp_path


PATHS = {
    "/wrong": 200,
    "/wrong-empty": 200,
    "/wrong-constant": 200,
    "/wrong-nothing": 200,
    "/end": 200,
    "/bytes": 200,
    "/send": 201,
    "/small": 200,
    "/empty": 200,
    "/without": 202,
    "/204": 204,
    "/205": 205,
    "/identity": 200,
    "/redirect": 301,
    "/close": 200,
    "/tried": 200,
    "/broken": 500,
    "/refused": 403,
    "/pieces": 200,
    "/declared": 200,
    "/chunks": 200,
    "/stream": 200,
    "/events": 200,
    "/file/a.txt": 200,
    "/file/b.json.gz": 200,
    "/file/c.svgz": 200,
    "/file/missing": 404,
    "/conditional": 304,
    "/constant": 200,
    "/s/a.css": 200,
    "/s/a.css.gz": 200,
    "/s/sub": 301,
    "/s/sub/": 200,
    "/s/missing": 404,
    "/s/a.css/": 404,
    "/identified": 409,
    "/missing": 404,
}
LINES = [
    ("accept-encoding", "gzip"),
    ("if-none-match", 'W/"v1"'),
    ("origin", "https://shop.example"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("http2", [False, True])
def test_head_is_the_head_of_get(serve: Serve, root: Path, path: str, compression: bool, http2: bool) -> None:
    running = serve(site(root), compression=compression)
    heads = []
    for method in ("GET", "HEAD"):
        if http2:
            with H2Client(running.port) as h2:
                stream = h2.get(path, method=method, headers=LINES)
                status, headers = stream.status, {name: [value] for name, value in stream.headers.items()}
                body = bytes(stream.body)
        else:
            with running.client() as client:
                client.request(method, path, *(f"{name}: {value}" for name, value in LINES))
                answer = client.answer(method)
                status, headers, body = answer.status, answer.headers, answer.body
                # Nothing follows a head but the next response.
                if "connection" not in headers:
                    client.request("GET", "/small")
                    assert client.answer().body == b"small"
        assert status == PATHS[path]
        assert method == "GET" or not body
        heads.append({name: value for name, value in headers.items() if name not in EACH_ITS_OWN})
        assert path != "/identified" or re.fullmatch("[0-9a-f]{32}", headers["x-request-id"][0])
    assert heads[0] == heads[1]
