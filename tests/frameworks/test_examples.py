"""The examples with frameworks work: each is served by the command that it names, and asked what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serving import Served

from conftest import Start
from support import until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def serve(start: Start, example: str, named: str, **environment: str) -> Served:
    """Serves an example by the command in its docstring, but for the port."""
    command = re.search(
        rf"^    python -m socketify ({named}.*?)(?: +#.*)?$", (EXAMPLES / example).read_text(), re.M
    )
    assert command is not None, f"{example} does not say how to serve {named}"
    target, *options = command[1].split()
    directory = EXAMPLES if "/" not in example else EXAMPLES / example.split("/")[0]
    interface = "wsgi" if "--threads" in options else "asgi"
    return start(target, *options, interface=interface, PYTHONPATH=str(directory), **environment)


@pytest.mark.ours("it uses topics")
def test_fastapi_rooms(start: Start) -> None:
    """S-WS-26: who is in a room hears what is said there, and who is in another one does not."""
    site = serve(start, "fastapi_rooms.py", "fastapi_rooms:app")
    with site.websocket("/rooms/blue?name=Ada") as ada:
        assert ada.recv(20) == "Ada is here"
        with site.websocket("/rooms/red?name=Eve") as eve, site.websocket("/rooms/blue?name=Bob") as bob:
            assert [ada.recv(20), bob.recv(20), eve.recv(20)] == ["Bob is here", "Bob is here", "Eve is here"]
            assert site.http.get("/rooms/blue").json() == ["Ada", "Bob"]
            bob.send("hello")
            eve.send("only red")
            assert [ada.recv(20), bob.recv(20), eve.recv(20)] == ["Bob: hello", "Bob: hello", "Eve: only red"]
        assert ada.recv(20) == "Bob has left"
    until(lambda: site.http.get("/rooms/blue").status_code == 404, "the end of the room")


def test_flask_links(start: Start, tmp_path: Path) -> None:
    site = serve(start, "flask_links.py", "flask_links:app", FLASK_DATABASE=str(tmp_path / "links.sqlite"))
    created = site.http.post("/", data={"url": "https://example.org"})
    assert (created.status_code, created.text) == (201, "/1\n")
    followed = site.http.get("/1")
    assert (followed.status_code, followed.headers["location"]) == (302, "https://example.org")
    assert site.http.get("/2").status_code == 404
    assert site.http.get("/").json() == [{"path": "/1", "url": "https://example.org", "clicks": 1}]


def test_falcon_files(start: Start) -> None:
    site = serve(start, "falcon_files.py", "falcon_files:app")
    content = os.urandom(1_000_000)
    assert site.http.put("/files/a.bin", content=content).json() == {"name": "a.bin", "size": len(content)}
    assert site.http.get("/files/a.bin").content == content
    assert site.http.get("/files/b.bin").status_code == 404


def test_litestar_todo(start: Start) -> None:
    site = serve(start, "litestar_todo.py", "litestar_todo:app")
    with site.raw() as watching:
        watching.request("GET", "/changes").until(b"\r\n\r\n")

        def added() -> Any:
            return site.http.post("/", json={"title": "Sleep"}).json()

        assert added()["title"] == "Sleep"
        # Whether the stream watches already, nobody says.
        watching.socket.settimeout(0.5)
        while True:
            try:
                watching.until(b"data: Sleep\r\n")
                break
            except TimeoutError:
                added()
    assert site.http.get("/").json()[0]["title"] == "Sleep"


def test_quart_clock(start: Start) -> None:
    site = serve(start, "quart_clock.py", "quart_clock:app")
    assert "<title>Clock</title>" in site.http.get("/").text
    with site.websocket("/time") as socket:
        assert re.fullmatch(r"\d\d:\d\d:\d\d", str(socket.recv(20)))


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_django_site(start: Start, tmp_path: Path, interface: str) -> None:
    """A form with its protection, an entry, and a page that hears of it."""
    environment = {"DATABASE": str(tmp_path / "site.sqlite")}
    directory = EXAMPLES / "django_site"
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity=0"],
        cwd=directory,
        env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
    )
    named = f"guestbook.{interface}:application"
    site = serve(start, "django_site/guestbook/__init__.py", named, **environment)

    def write(text: str) -> str:
        with site.client() as client:
            client.get("/")
            form = {"name": "Ada", "text": text, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
            assert client.post("/", data=form).status_code == 302
            return client.get("/").text

    assert "<li>Ada: hello</li>" in write("hello")
    if interface == "asgi":
        with site.websocket("/live", origin=site.url) as socket:
            assert "<li>Ada: hello again</li>" in write("hello again")
            assert socket.recv(20) == "Ada: hello again"
    assert site.http.post("/", data={"name": "Eve", "text": "no token"}).status_code == 403


def test_each_example_is_served() -> None:
    """An example with a framework is tested here; tests/python/docs has the others."""
    named = set(
        re.findall(r"python -m socketify (\w+):app", "".join(p.read_text() for p in EXAMPLES.glob("*.py")))
    )
    assert {f"{name}.py" for name in named} <= set(
        re.findall(r'start, "(\w+\.py)"', Path(__file__).read_text())
    )
