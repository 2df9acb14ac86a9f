"""Litestar."""

from __future__ import annotations

from pathlib import Path

from serving import PROGRAMS, Served

from conftest import Start
from support import reset

APPLICATION = "litestar_site:app"
SOURCE = Path(PROGRAMS / "litestar_site.py").read_bytes()


def test_requests(site: Served) -> None:
    answer = site.http.post("/points", json={"x": 1})
    assert (answer.status_code, answer.json()) == (201, {"x": 2, "y": 1})
    assert site.http.post("/points", json={"x": "one"}).status_code == 400
    assert [site.http.get(path).text for path in ("/plain", "/dependency", "/state")] == [
        "plain",
        "connection",
        "opened",
    ]
    assert site.http.get("/missing").json()["detail"] == "no such thing"
    assert "/points" in site.http.get("/schema/openapi.json").json()["paths"]


def test_bodies(site: Served) -> None:
    files = {"data": ("a.bin", b"x" * 300_000)}
    assert site.http.post("/upload", files=files).json() == {"name": "a.bin", "size": 300_000}
    for content in (b"x" * 200_000, iter([b"x" * 100_000] * 2)):
        assert site.http.post("/pieces", content=content).text == "200000"


def test_responses(site: Served) -> None:
    assert site.http.get("/file").content == SOURCE
    assert "data: 2" in site.http.get("/events").text
    assert site.http.get("/background").text == "now"
    site.noted("later")


def test_leaving_a_stream(site: Served) -> None:
    """S-REG-01."""
    client = site.raw()
    client.request("GET", "/stream").until(b"first\n")
    reset(client)
    site.noted("stream closed", timeout=5)


def test_websocket(site: Served) -> None:
    with site.websocket("/echo") as socket:
        socket.send('{"a": 1}')
        assert socket.recv(20) == '{"heard":{"a":1}}'


def test_lifespan(start: Start) -> None:
    """S-LIFE-07."""
    site = start(APPLICATION)
    assert site.http.get("/state").text == "opened"
    assert "shut down" in site.end()[1]
