"""Bottle."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import PROGRAMS, Served

APPLICATION = "bottle_site:app"
INTERFACE = "wsgi"
SOURCE = Path(PROGRAMS / "bottle_site.py").read_bytes()


def expected(line: str) -> bool:
    """The error that the program raises on purpose."""
    return "Traceback" in line


def test_requests(site: Served) -> None:
    answer = site.http.get("/hello/K%C3%A4the?q=%C3%A4")
    assert answer.json() == {"hello": "Käthe", "query": {"q": "ä"}}
    assert answer.headers["x-name"] == "yes"
    assert site.http.post("/json", json={"a": 1}).json() == {"got": {"a": 1}}
    files = {"file": ("f", b"12345")}
    assert site.http.post("/form", data={"a": "ä"}, files=files).json() == {"a": "ä", "size": 5}
    assert site.http.get("/away").headers["location"] == "/hello/you"


@pytest.mark.ours("gunicorn leaves Transfer-Encoding in the environ, and Bottle decodes once more")
def test_bodies(site: Served) -> None:
    """S-REG-23, S-WSGI-08: Bottle decodes chunks itself, if it sees that header."""
    for content in (b"x" * 200_000, iter([b"x" * 100_000] * 2)):
        assert site.http.post("/body", content=content).json() == {"size": 200_000}


def test_responses(site: Served) -> None:
    """S-REG-24, S-WSGI-19, S-WSGI-32: a generator says its status with its first block."""
    answer = site.http.get("/stream")
    assert (answer.status_code, answer.text) == (202, "one\ntwo\n")
    assert site.http.get("/file").content == SOURCE
    assert site.http.get("/file", headers={"range": "bytes=5-9"}).content == SOURCE[5:10]
    assert site.http.get("/fails").status_code == 500
    assert site.http.get("/none").status_code == 404
    assert site.http.head("/file").headers["content-length"] == str(len(SOURCE))
