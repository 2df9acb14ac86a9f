"""Quart."""

from __future__ import annotations

from pathlib import Path

from serving import PROGRAMS, Served

from conftest import Start
from support import reset, until

APPLICATION = "quart_site:app"
SOURCE = Path(PROGRAMS / "quart_site.py").read_bytes()


def expected(line: str) -> bool:
    """The error that the program raises on purpose; Quart logs it itself."""
    return "Traceback" in line or "/fails" in line


def test_requests(site: Served) -> None:
    """S-ASGI-21: Quart asserts that nothing comes after the body."""
    assert site.http.post("/json?a=b", json={"a": [1]}).json() == {"got": {"a": [1]}, "query": {"a": "b"}}
    files = {"file": ("f", b"x" * 300_000)}
    assert site.http.post("/form", data={"a": "ä"}, files=files).json() == {"a": "ä", "file": 300_000}
    for content in (b"x" * 200_000, iter([b"x" * 100_000] * 2)):
        assert site.http.post("/pieces", content=content).json() == {"size": 200_000}
    assert site.http.get("/plain").text == "plain"
    assert site.http.get("/none").status_code == 404
    assert site.http.get("/fails").status_code == 500
    until(lambda: "LookupError: a fault of the view" in site.log(), "the error in the log")


def test_file(site: Served) -> None:
    answer = site.http.get("/file")
    assert answer.content == SOURCE
    assert site.http.get("/file", headers={"range": "bytes=5-9"}).content == SOURCE[5:10]
    assert site.http.get("/file", headers={"if-none-match": answer.headers["etag"]}).status_code == 304


def test_leaving_a_stream(site: Served) -> None:
    """S-REG-01: Quart listens for the disconnect and cancels the response."""
    client = site.raw()
    client.request("GET", "/stream").until(b"data: first\n\n")
    reset(client)
    site.noted("stream closed", timeout=5)


def test_websocket(site: Served) -> None:
    before = site.diary().count("echo cancelled")
    with site.websocket("/echo/blue") as socket:
        for text in ("one", "two"):
            socket.send(text)
            assert socket.recv(20) == f"blue: {text}"
    site.noted("echo cancelled", before + 1)


def test_lifespan(start: Start) -> None:
    """S-LIFE-07."""
    site = start(APPLICATION)
    assert site.diary() == ["start-up"]
    assert "shut down" in site.end()[1]
