"""The examples with frameworks work: each is served by the command that it names, and asked what it shows."""

from __future__ import annotations

import re
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


def test_each_example_is_served() -> None:
    """An example with a framework is tested here; tests/python/docs has the others."""
    named = set(
        re.findall(r"python -m socketify (\w+):app", "".join(p.read_text() for p in EXAMPLES.glob("*.py")))
    )
    assert {f"{name}.py" for name in named} <= set(
        re.findall(r'start, "(\w+\.py)"', Path(__file__).read_text())
    )
