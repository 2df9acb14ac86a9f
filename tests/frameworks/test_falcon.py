"""Falcon, by WSGI and by ASGI."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import PROGRAMS, Served
from websockets.exceptions import InvalidStatus

from conftest import Start
from support import reset

APPLICATION = {"wsgi": "falcon_site:wsgi", "asgi": "falcon_site:asgi"}
SOURCE = Path(PROGRAMS / "falcon_site.py").read_bytes()

both = pytest.mark.parametrize("site", ["wsgi", "asgi"], indirect=True, scope="module")
asgi = pytest.mark.parametrize("site", ["asgi"], indirect=True, scope="module")


@both
def test_requests(site: Served) -> None:
    assert site.http.get("/things/a%20b?q=1&q=2").json() == {
        "name": "a b",
        "query": {"q": ["1", "2"]},
        "address": "127.0.0.1",
        "url": f"{site.url}/things/a b?q=1&q=2",
    }
    answer = site.http.post("/things/x", json={"a": [1]})
    assert (answer.status_code, answer.json()) == (201, {"got": {"a": [1]}})
    assert site.http.get("/fails").json() == {"title": "Not this one"}
    assert site.http.get("/none").status_code == 404


@both
def test_uploads(site: Served) -> None:
    """S-REG-23, S-ASGI-19: with a length, in chunks, and none."""
    for content, size in ((b"x" * 1_000_000, 1_000_000), (iter([b"x" * 500_000] * 2), 1_000_000), (b"", 0)):
        if not site.is_ours and site.interface == "wsgi" and not isinstance(content, bytes):
            continue  # gunicorn gives no length
        assert site.http.put("/upload", content=content).json() == {"size": size}


@both
def test_file(site: Served) -> None:
    """S-WSGI-32: through wsgi.file_wrapper, or in many small pieces."""
    assert site.http.get("/file").content == SOURCE


@asgi
def test_events(site: Served) -> None:
    """S-REG-01: Falcon looks for the disconnect after each event."""
    client = site.raw()
    client.request("GET", "/events").until(b'data: {"first": true}\n\n')
    reset(client)
    site.noted("events closed", timeout=5)


@asgi
def test_websocket(site: Served) -> None:
    with site.websocket("/echo") as socket:
        for text in ("one", "zwölf"):
            socket.send(text)
            assert socket.recv(20) == text.upper()
        socket.close(4005)
    site.noted("left with 4005")
    with pytest.raises(InvalidStatus) as refused:
        site.websocket("/echo?refuse=true")
    assert refused.value.response.status_code == 403


def test_lifespan(start: Start) -> None:
    """S-LIFE-07."""
    site = start(APPLICATION["asgi"])
    assert site.diary() == ["start-up"]
    assert "shut down" in site.end()[1]
