"""Starlette: its middlewares, files, forms, event streams, WebSockets, lifespan; and clients that leave."""

from __future__ import annotations

import gzip
import signal
import time

import pytest
from serving import Served
from websockets.exceptions import InvalidStatus

from conftest import Start
from support import reset, until

APPLICATION = "starlette_site:app"
LARGE = bytes(range(256)) * 4096


def expected(line: str) -> bool:
    """The file that is not there."""
    return (
        "Traceback" in line or "/no-file" in line or "Exception in ASGI" in line or "does not exist" in line
    )


def test_request(site: Served) -> None:
    """S-ASGI-02, S-ASGI-07 to 12: what Starlette makes of the scope."""
    answer = site.http.put("/echo/a%20b/%C3%A4?q=%2F&r=1", content=b"body", headers={"cookie": "a=1; b=2"})
    seen = answer.json()
    assert seen["client"][0] == "127.0.0.1"
    assert isinstance(seen["client"][1], int)
    del seen["client"]
    assert seen == {
        "method": "PUT",
        "path": "/echo/a b/ä",
        "query": "q=%2F&r=1",
        "body": "body",
        "cookies": {"a": "1", "b": "2"},
        "scheme": "http",
        "url": f"{site.url}/echo/a b/ä?q=%2F&r=1",
    }


def test_methods_and_errors(site: Served) -> None:
    assert site.http.post("/").status_code == 405
    assert site.http.get("/refuse").status_code == 418
    assert site.http.get("/none").status_code == 404
    head = site.http.head("/")
    assert (head.headers["content-length"], head.content) == ("4", b"")


def test_bodies(site: Served) -> None:
    """S-ASGI-19, S-ASGI-20: in pieces of a bounded size, with a length and without."""
    size = 3_000_000
    for content in (b"x" * size, iter([b"x" * 1_000_000] * 3)):
        seen = site.http.post("/pieces", content=content).json()
        assert seen["size"] == size
        assert seen["largest"] <= 256 << 10
    assert site.http.post("/pieces", content=b"").json() == {"size": 0, "largest": 0, "ends_empty": True}


def test_form(site: Served) -> None:
    files = {"file": ("f.txt", b"content")}
    assert site.http.post("/form", data={"a": "ä"}, files=files).json() == {"a": "ä", "file": ["f.txt", 7]}
    assert site.http.post("/form", data={"a": "1", "b": "2"}).json() == {"a": "1", "b": "2"}


def test_session(site: Served) -> None:
    with site.client() as client:
        assert [client.get("/session").text for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_redirect_behind_a_proxy(site: Served, scheme: str) -> None:
    """S-REG-27, S-ASGI-17: the scheme of a trusted proxy."""
    headers = {"x-forwarded-proto": scheme, "x-forwarded-for": "192.0.2.7", "host": "shop.example"}
    answer = site.http.get("/slash", headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (307, f"{scheme}://shop.example/slash/")
    assert site.http.get("/echo/", headers=headers).json()["client"][0] == "192.0.2.7"


def test_a_malformed_forwarded_header(site: Served) -> None:
    """S-REG-37: it is ignored."""
    with site.raw() as client:
        assert client.get("/echo/", "X-Forwarded-For: \xff\xfe, ,", "X-Forwarded-Proto: \xe4").status == 200


# ---- files -----------------------------------------------------------------------------------------------------------


def test_file(site: Served) -> None:
    """S-ASGI-50: FileResponse, whole, for HEAD, in part and not modified."""
    answer = site.http.get("/files/large.bin")
    assert (answer.content, answer.headers["content-length"]) == (LARGE, str(len(LARGE)))
    site.noted("file sent")
    head = site.http.head("/files/large.bin")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(LARGE)))
    part = site.http.get("/files/large.bin", headers={"range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, LARGE[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(LARGE)}"
    several = site.http.get("/files/large.bin", headers={"range": "bytes=0-9,100-109"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")
    assert LARGE[100:110] in several.content
    assert len(several.content) == int(several.headers["content-length"])
    assert site.http.get("/files/large.bin", headers={"range": "bytes=9999999-"}).status_code == 416
    static = site.http.get("/static/page.html")
    assert static.text == "<h1>page</h1>"
    etag = static.headers["etag"]
    assert site.http.get("/static/page.html", headers={"if-none-match": etag}).status_code == 304
    assert site.http.get("/static/../starlette_site.py").status_code == 404


@pytest.mark.ours("uvicorn has no pathsend")
def test_files_are_sent_by_the_server(site: Served) -> None:
    """S-ASGI-15, S-ASGI-50: Starlette gives the server the path of the file."""
    assert site.http.get("/files/large.bin").content == LARGE
    assert site.http.get("/messages").json() == ["http.response.start", "http.response.pathsend"]


def test_a_file_that_is_not_there(site: Served) -> None:
    assert site.http.get("/static/none").status_code == 404
    with site.client() as client:
        assert client.get("/no-file").status_code == 500


# ---- middlewares -----------------------------------------------------------------------------------------------------


def test_base_http_middleware(site: Served) -> None:
    answer = site.http.get("/wrapped/")
    assert (answer.text, answer.headers["x-timing"]) == ("home", "measured")
    body = b"x" * 300_000
    assert site.http.post("/wrapped/pieces", content=body).json()["size"] == len(body)
    assert (
        site.http.get("/wrapped/static/large.bin", headers={"accept-encoding": "identity"}).content == LARGE
    )


def test_gzip(site: Served) -> None:
    with site.raw() as client:
        answer = client.get("/wrapped/large", "Accept-Encoding: gzip")
        assert answer.header("content-encoding") == "gzip"
        assert gzip.decompress(answer.body) == b"line\n" * 100_000
        assert client.get("/wrapped/large").body == b"line\n" * 100_000
        # A file is sent by its path, which the middleware leaves alone.
        assert client.get("/wrapped/static/large.bin").body == LARGE


def test_cors(site: Served) -> None:
    headers = {"origin": "https://page.example", "access-control-request-method": "PUT"}
    answer = site.http.options("/wrapped/echo/", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert "PUT" in answer.headers["access-control-allow-methods"]
    answer = site.http.get("/wrapped/", headers={"origin": "https://page.example"})
    assert answer.headers["access-control-allow-origin"] == "https://page.example"


# ---- event streams and clients that leave ------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/wrapped"])
def test_event_stream(site: Served, prefix: str) -> None:
    """S-REG-35, S-REG-01: sse-starlette, also behind middlewares."""
    before = site.diary().count("events closed")
    client = site.raw()
    client.request("GET", f"{prefix}/events")
    assert b"content-type: text/event-stream" in client.until(b"\r\n\r\n").lower()
    for number in range(3):
        client.until(f"event: count\r\ndata: {number}\r\n\r\n".encode())
    reset(client)
    left = time.monotonic()
    site.noted("events closed", before + 1, 5)
    assert time.monotonic() - left < 1


def test_the_head_of_an_event_stream(site: Served) -> None:
    """S-ASGI-34: it does not wait for the first event; browsers open an EventSource by it."""
    with site.raw() as client:
        asked = time.monotonic()
        assert b"200 OK" in client.request("GET", "/head-first").until(b"\r\n\r\n")
        assert time.monotonic() - asked < 1


def test_is_disconnected(site: Served) -> None:
    """S-REG-05, S-ASGI-28: polled, it is true as soon as the client has left."""
    client = site.raw()
    client.request("GET", "/watch")
    site.noted("watching")
    assert "gone" not in site.diary()
    reset(client)
    left = time.monotonic()
    site.noted("gone", 1, 5)
    assert time.monotonic() - left < 1


def test_time_limits(site: Served) -> None:
    """S-ASGI-62: asyncio.wait_for works in a request."""
    assert site.http.get("/wait").text == "waited"
    assert "timed out" in site.diary()


# ---- WebSockets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/wrapped"])
def test_websocket(site: Served, prefix: str) -> None:
    before = site.diary().count("chat over")
    with site.websocket(f"{prefix}/chat") as socket:
        assert socket.response is not None
        assert socket.response.headers["x-room"] == "blue"
        for text in ("one", "", "zwölf", "x" * 100_000):
            socket.send(text)
            assert socket.recv(20) == text.upper()
    site.noted("chat over", before + 1)


def test_denial_response(site: Served) -> None:
    """S-WS-06."""
    with pytest.raises(InvalidStatus) as refused:
        site.websocket("/denied")
    response = refused.value.response
    assert (response.status_code, response.body) == (402, b'{"reason":"not here"}')


# ---- the lifespan ----------------------------------------------------------------------------------------------------


def test_lifespan(start: Start) -> None:
    """S-LIFE-07, S-LIFE-11: shutdown runs at the end, and tasks of the start-up live until then."""
    site = start(APPLICATION)
    assert site.http.get("/").text == "home"
    status, out, err = site.end()
    assert "ticking" in out.splitlines(), (out, err)
    assert status == 0 or not site.is_ours


def test_a_start_up_that_fails(start: Start) -> None:
    """S-LIFE-05: the program ends, with the error and a status of its own."""
    with pytest.raises(AssertionError, match="it ended") as failure:
        start("starlette_site:failing")
    assert "the database is not there" in str(failure.value)
    if "socketify" in str(failure.value):
        assert "it ended: (1, " in str(failure.value)


def test_event_streams_and_the_end(start: Start) -> None:
    """S-REG-14: sse-starlette looks for the end of uvicorn; without that the grace ends the stream."""
    site = start(APPLICATION, "--shutdown-timeout", "1")
    with site.raw() as client:
        client.request("GET", "/events").until(b"data: 2\r\n\r\n")
        asked = time.monotonic()
        site.command.signal(signal.SIGTERM)
        _, out, _ = site.command.finish()
    assert time.monotonic() - asked < 4
    assert "ticking" in out
    until(lambda: site.command.process.poll() is not None, "the end")
