"""A browser as the client: what Chromium does with a WebSocket, and the chat of the examples in it.

Rows: A-WS-01, A-WS-06, C-F-10, C-N-01..05, C-C-01, C-C-02, C-C-05, C-C-06, H-28, H-31, H-32, H-35.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from socketify import App, CompressOptions, OpCode
from support import until

CHAT = Path(__file__).resolve().parents[3] / "examples" / "chat"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (Debian: apt install chromium)"),
    pytest.mark.timeout(120),
]

#: Collects the events of one WebSocket of the page, as `told`, and promises to wait for.
SCRIPT = """
window.connect = (path, protocols) => {
  const socket = window.socket = new WebSocket(new URL(path, location.href.replace("http", "ws")), protocols ?? []);
  socket.binaryType = "arraybuffer";
  const waiting = [], told = [];
  const tell = (event) => { const next = waiting.shift(); if (next) next(event); else told.push(event); };
  socket.next = () => told.length ? Promise.resolve(told.shift()) : new Promise((done) => waiting.push(done));
  socket.onopen = () => tell({ type: "open", protocol: socket.protocol, extensions: socket.extensions });
  socket.onmessage = ({ data }) => tell(typeof data === "string"
    ? { type: "text", data } : { type: "binary", data: [...new Uint8Array(data)] });
  socket.onclose = ({ code, reason, wasClean }) => tell({ type: "close", code, reason, wasClean });
  return socket.next();
};
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # The sandbox needs rights that a container seldom gives.
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"], env=dict(os.environ)
        )
        yield browser
        browser.close()


Visit = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, serve: Any) -> Iterator[Visit]:
    """``visit(behavior)``: an empty page of a server that has this behaviour at /ws, with ``connect`` in it."""
    contexts = []

    def start(behavior: dict[str, Any], path: str = "/") -> Any:
        def configure(app: App) -> None:
            app.get(
                "/", lambda res, req: res.write_header("Content-Type", "text/html").end("<!doctype html>")
            )
            app.ws("/ws", behavior)

        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.goto(f"http://127.0.0.1:{serve(configure).port}{path}")
        page.evaluate(SCRIPT)
        return page

    yield start
    for context in contexts:
        context.close()


def echo(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode, compress=True)


def test_text_and_binary(visit: Visit) -> None:
    """A-WS-01, C-K-11: messages come back, with their type."""
    page = visit({"message": echo, "max_payload_length": 1 << 20})
    assert page.evaluate("connect('/ws')")["type"] == "open"
    for text in ("", "Hello", "\N{SNOWMAN} and \N{GRINNING FACE}", "x" * 200_000):
        assert page.evaluate("text => (socket.send(text), socket.next())", text) == {
            "type": "text",
            "data": text,
        }
    for data in ([], [0, 255, 10], list(range(256)) * 10):
        sent = page.evaluate("data => (socket.send(new Uint8Array(data)), socket.next())", data)
        assert sent == {"type": "binary", "data": data}


@pytest.mark.parametrize(
    ("compression", "agreed"),
    [
        (CompressOptions.DISABLED, ""),
        (CompressOptions.SHARED_COMPRESSOR, "permessage-deflate"),
        (
            CompressOptions.DEDICATED_COMPRESSOR_256KB | CompressOptions.DEDICATED_DECOMPRESSOR_32KB,
            "permessage-deflate",
        ),
        (
            CompressOptions.DEDICATED_COMPRESSOR_3KB | CompressOptions.DEDICATED_DECOMPRESSOR_1KB,
            "permessage-deflate",
        ),
    ],
)
def test_compression(visit: Visit, compression: int, agreed: str) -> None:
    """C-N-01..07, C-F-10: Chromium offers permessage-deflate; it is used where it was switched on, in both directions."""
    page = visit({"message": echo, "compression": compression, "max_payload_length": 1 << 20})
    assert page.evaluate("connect('/ws')")["extensions"].split(";")[0] == agreed
    text = json.dumps([{"id": number, "name": f"name {number % 7}"} for number in range(3000)])
    for message in ("short", "again, short", text, text, "", text[:1000]):
        assert page.evaluate("text => (socket.send(text), socket.next())", message)["data"] == message
    # Noise cannot be compressed.
    assert page.evaluate(
        """async () => {
            const noise = crypto.getRandomValues(new Uint8Array(60000));
            socket.send(noise);
            const back = (await socket.next()).data;
            return back.length === noise.length && back.every((byte, at) => byte === noise[at]);
        }"""
    )


def test_the_servers_close_code(visit: Visit) -> None:
    """A-WS-06, C-C-05: a code and a reason arrive unchanged; without them, the browser reports 1005."""
    endings = {"whole": (4001, "enough \N{SNOWMAN}"), "bare": (), "code": (1000,)}
    page = visit({"message": lambda ws, message, opcode: ws.end(*endings[message])})
    for name, expected in (
        ("whole", (4001, endings["whole"][1])),
        ("bare", (1005, "")),
        ("code", (1000, "")),
    ):
        page.evaluate("connect('/ws')")
        closed = page.evaluate("name => (socket.send(name), socket.next())", name)
        assert closed == {"type": "close", "code": expected[0], "reason": expected[1], "wasClean": True}


def test_the_server_hangs_up(visit: Visit) -> None:
    """C-C-06, H-31: a connection dropped without a close frame is 1006."""
    page = visit({"message": lambda ws, message, opcode: ws.close()})
    page.evaluate("connect('/ws')")
    closed = page.evaluate("socket.send('close'), socket.next()")
    assert (closed["type"], closed["code"], closed["wasClean"]) == ("close", 1006, False)


def test_the_browsers_close_code(visit: Visit) -> None:
    """C-C-01, C-C-02: a page's close, one without a code, and a page that goes away."""
    closed: list[tuple[int, bytes | None]] = []
    page = visit({"close": lambda ws, code, message: closed.append((code, message))})
    page.evaluate("connect('/ws')")
    answer = page.evaluate("socket.close(3001, 'that is all'), socket.next()")
    assert answer == {"type": "close", "code": 3001, "reason": "that is all", "wasClean": True}
    page.evaluate("connect('/ws')")
    assert page.evaluate("socket.close(), socket.next()")["code"] == 1005
    page.evaluate("connect('/ws')")
    page.goto("about:blank")
    until(lambda: len(closed) == 3, "three close callbacks")
    assert closed[:2] == [(3001, b"that is all"), (1005, None)]
    assert closed[2][0] in (1001, 1006), "a page that goes away"


def test_connecting_again(visit: Visit) -> None:
    """C-C-11: one after the other and several at a time; each is opened and closed once."""
    events: list[str] = []
    page = visit(
        {
            "open": lambda ws: (events.append("open"), ws.send("welcome", OpCode.TEXT)),
            "message": echo,
            "close": lambda ws, code, message: events.append("close"),
        }
    )
    for number in range(5):
        page.evaluate("connect('/ws')")
        assert page.evaluate("socket.next()")["data"] == "welcome"
        assert page.evaluate("number => (socket.send(`${number}`), socket.next())", number)["data"] == str(
            number
        )
        assert page.evaluate("socket.close(1000), socket.next()")["code"] == 1000
    until(lambda: len(events) == 10, "five openings and closings")
    assert events.count("open") == 5
    page.evaluate("window.kept = []")
    for _ in range(3):
        page.evaluate("connect('/ws').then(() => { kept.push(socket); })")
    for number in range(3):
        heard = page.evaluate(
            """async (at) => {
                const socket = kept[at];
                await socket.next();
                socket.send("to " + at);
                return (await socket.next()).data;
            }""",
            number,
        )
        assert heard == f"to {number}"


def test_subprotocols(visit: Visit) -> None:
    """C-H-04, C-K-09: the first that the page offers is agreed to without an upgrade callback."""
    page = visit({"message": echo})
    opened = page.evaluate("connect('/ws', ['chat.v2', 'chat.v1'])")
    assert (opened["type"], opened["protocol"]) == ("open", "chat.v2")


def test_a_rejected_upgrade(visit: Visit) -> None:
    """C-H-05: to a page it is a connection that never was."""
    page = visit({"upgrade": lambda res, req, context: res.write_status(403).end("no")})
    closed = page.evaluate("connect('/ws')")
    assert (closed["type"], closed["code"]) == ("close", 1006)


# ---- the chat -------------------------------------------------------------------------------------------------------


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(CHAT))
    sys.modules.pop("chat", None)
    import chat

    yield chat
    sys.modules.pop("chat", None)


def press(page: Any, button: str) -> None:
    page.get_by_role("button", name=button).click()


def join(page: Any, address: str, name: str, room: str = "lobby") -> None:
    page.goto(address)
    page.fill("[name=name]", name)
    page.fill("[name=room]", room)
    press(page, "Join")
    page.wait_for_selector("#state[data-state=connected]")


def present(page: Any) -> list[str]:
    names: list[str] = page.locator("#present li").all_inner_texts()
    return names


def said(page: Any) -> list[str]:
    return [text.split("\n")[-1] for text in page.locator("#log .said").all_inner_texts()]


@pytest.mark.parametrize("path", ["/", "/chat/"])
def test_the_chat(browser: Any, serve: Any, chat: Any, path: str) -> None:
    """H-35: two pages talk, see each other come and go, and a later page gets the history."""
    application = serve(lambda app: chat.routes(app, path))
    address = f"http://127.0.0.1:{application.port}{path}"
    troubles: list[str] = []
    contexts = [browser.new_context() for _ in range(3)]
    ada, bob, eve = pages = [context.new_page() for context in contexts]
    for page in pages:
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    join(ada, address, "Ada")
    join(eve, address, "Eve", "elsewhere")
    ada.fill("[name=text]", "Is anybody there?")
    press(ada, "Send")
    ada.wait_for_selector("text=Is anybody there?")
    join(bob, address, "Bob")
    for page in (ada, bob):
        page.wait_for_function("document.querySelectorAll('#present li').length === 2")
        assert present(page) == ["Ada", "Bob"]
    assert said(bob) == ["Is anybody there?"], "the history"
    bob.fill("[name=text]", "<b>I am</b> \N{SNOWMAN}")
    bob.press("[name=text]", "Enter")
    for page in (ada, bob):
        page.wait_for_selector("text=I am")
        assert said(page) == ["Is anybody there?", "<b>I am</b> \N{SNOWMAN}"]
    press(bob, "Leave")
    ada.wait_for_selector("text=Bob has left")
    assert present(ada) == ["Ada"]
    assert (said(eve), present(eve)) == ([], ["Eve"]), "another room hears nothing"
    contexts[0].close()
    until(lambda: "lobby" not in chat.rooms, "an empty room is forgotten")
    for context in contexts[1:]:
        context.close()
    assert troubles == []


def test_the_chat_comes_back(browser: Any, serve: Any, chat: Any) -> None:
    """A page that loses its connection joins its room again by itself."""
    connections: list[Any] = []
    enter = chat.enter

    def remember(ws: Any) -> None:
        connections.append(ws)
        enter(ws)

    chat.enter = remember
    application = serve(chat.routes)
    context = browser.new_context()
    page = context.new_page()
    join(page, f"http://127.0.0.1:{application.port}/", "Ada")
    connections[0].close()
    until(lambda: len(connections) == 2, "a second connection")
    page.wait_for_selector("#state[data-state=connected]")
    page.fill("[name=text]", "back again")
    press(page, "Send")
    page.wait_for_selector("text=back again")
    assert present(page) == ["Ada"]
    context.close()
