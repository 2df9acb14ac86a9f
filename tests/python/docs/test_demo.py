"""The demo that ``make run`` serves, and the chat in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.ws_client import WebSocketClient, connect, frame, handshake

DEMO = Path(__file__).resolve().parents[3] / "examples" / "demo" / "app.py"


@pytest.fixture
def address() -> object:
    with subprocess.Popen(
        [sys.executable, "-u", str(DEMO)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PORT": "0", "PATH": "/usr/bin:/bin"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "http://" in line:
                yield line[line.index("http://") :].split()[0].rstrip("/")
                break
        process.terminate()
        assert process.wait(20) == 0


def test_the_page_and_what_it_calls(address: str) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=address, timeout=20) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        for path in ("/style.css", "/demo.js"):
            assert client.get(path).status_code == 200, path
        assert client.get("/no/such/page").status_code == 404


def enter(address: str, name: str, room: str = "lobby") -> WebSocketClient:
    return connect(int(address.rpartition(":")[2]), f"/chat/rooms/{room}?name={name}")


def event(client: WebSocketClient) -> dict[str, object]:
    message = client.recv_message()
    assert isinstance(message, str)
    found: dict[str, object] = json.loads(message)
    found.pop("at", None)
    return found


def presence(name: str, came: bool, *present: str) -> dict[str, object]:
    return {"type": "presence", "name": name, "came": came, "present": list(present)}


def test_the_chat(address: str) -> None:
    """H-35: history, presence by subscriptions, and a message reaches all members of the room, including its
    sender."""
    httpx = pytest.importorskip("httpx")
    page = httpx.get(f"{address}/chat/", timeout=20)
    assert page.headers["content-type"].startswith("text/html")
    assert "chat/" in httpx.get(address, timeout=20).text
    said = {"type": "message", "name": "Ada", "text": "Is anybody there?"}
    with enter(address, "Ada") as ada, enter(address, "Eve", "elsewhere") as eve:
        assert event(ada) == {"type": "history", "messages": []}
        assert event(ada) == presence("Ada", True, "Ada")
        ada.send_text("  Is anybody there?  ")
        assert event(ada) == said
        with enter(address, "Bob") as bob:
            history = event(bob)["messages"]
            assert [message["text"] for message in history] == ["Is anybody there?"]  # type: ignore[attr-defined]
            for client in (bob, ada):
                assert event(client) == presence("Bob", True, "Ada", "Bob")
            bob.send_text("Yes").send_text("   ")
            for client in (bob, ada):
                assert event(client) == {"type": "message", "name": "Bob", "text": "Yes"}
            bob.abort()
        assert event(ada) == presence("Bob", False, "Ada")
        ada.send_text("x" * 2001)
        code, reason = ada.expect_close_frame()
        assert code == 1008
        assert b"2000" in reason
        assert event(eve) == {"type": "history", "messages": []}
        assert event(eve) == presence("Eve", True, "Eve")
        assert eve.ping(b"nothing else").recv_frame().payload == b"nothing else"


@pytest.mark.parametrize(
    "path", ["lobby", "lobby?name=", "lobby?name=%20", f"lobby?name={'x' * 25}", f"{'x' * 25}?name=a"]
)
def test_the_chat_wants_a_name(address: str, path: str) -> None:
    """C-H-05."""
    with WebSocketClient(int(address.rpartition(":")[2])) as client:
        client.send(handshake(f"/chat/rooms/{path}") + frame(1, b"not let in"))
        assert client.answer().status == 400
