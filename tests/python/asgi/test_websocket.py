"""WebSockets of ASGI applications (S-WS-01 to S-WS-31)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from socketify import ClientDisconnected
from support import until
from support.asgi import Receive, Scope, Send, serving
from support.running import Running
from support.ws_client import BINARY, TEXT, WebSocketClient, frame

Serve = Callable[..., Running]

HANDSHAKE = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


class Told:
    """What an application heard, for a test that waits for it."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.done = threading.Event()

    def wait(self) -> list[Any]:
        assert self.done.wait(20), self.messages
        return self.messages


@pytest.fixture
def told() -> Told:
    return Told()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def test_the_scope(serve: Serve) -> None:
    """S-WS-01, S-ASGI-03."""
    scopes: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send({"type": "websocket.accept"})

    running = serve(serving(application))
    with running.client() as client:
        client.send(HANDSHAKE + b"Sec-WebSocket-Protocol: a, b ,c\r\n\r\n").until(b"\r\n\r\n")
        address = client.socket.getsockname()
    (scope,) = scopes
    headers = dict(scope.pop("headers"))
    assert headers[b"sec-websocket-protocol"] == b"a, b ,c"
    assert set(scope.pop("extensions")) == {
        "websocket.http.response",
        "websocket.publish",
        "websocket.subscribe",
        "websocket.unsubscribe",
    }
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/chat",
        "raw_path": b"/chat",
        "query_string": b"room=1",
        "root_path": "",
        "client": address,
        "server": ("127.0.0.1", running.port),
        "subprotocols": ["a", "b", "c"],
        "state": {},
    }


def test_echo(serve: Serve) -> None:
    """S-WS-02, S-WS-10, S-WS-11: text and bytes, empty ones too."""
    with serve(serving(echo)).websocket() as client:
        for sent in ("text", b"bytes", "", b"", "\u20ac", b"\x00" * 70_000):
            client.send_text(sent) if isinstance(sent, str) else client.send_binary(sent)
            assert client.recv_message() == sent
        client.finish()


def test_a_message_has_text_or_bytes(serve: Serve, told: Told) -> None:
    """S-WS-10: the other key is absent."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        for _ in range(3):
            told.messages.append(await receive())
        told.done.set()

    with serve(serving(application)).websocket() as client:
        client.send_text("a").send_binary(b"b")
        assert told.wait() == [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "a"},
            {"type": "websocket.receive", "bytes": b"b"},
        ]


def test_accept_with_subprotocol_and_headers(serve: Serve) -> None:
    """S-WS-03: and what is sent next leaves in the same write."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": "b",
                "headers": [(b"x-a", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")],
            }
        )
        await send({"type": "websocket.send", "text": "at once"})
        await receive()
        await receive()

    with serve(serving(application)).client() as client:
        data = client.send(HANDSHAKE + b"Sec-WebSocket-Protocol: a, b\r\n\r\n").receive()
        head, _, rest = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nSec-WebSocket-Protocol: b" in head
        assert head.count(b"set-cookie: ") == 2
        assert b"x-a: 1" in head
        assert rest == b"\x81\x07at once"


@pytest.mark.parametrize("subprotocol", [None, "missing"])
def test_no_subprotocol_is_chosen_unasked(serve: Serve, subprotocol: str | None) -> None:
    """S-WS-03."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        message: dict[str, Any] = {"type": "websocket.accept"}
        await send(message if subprotocol else {**message, "subprotocol": None})
        await receive()
        await receive()

    with serve(serving(application)).client() as client:
        head = client.send(HANDSHAKE + b"Sec-WebSocket-Protocol: a\r\n\r\n").until(b"\r\n\r\n")
        assert b"101" in head
        assert b"protocol" not in head.lower().replace(b"switching protocols", b"")


@pytest.mark.parametrize(
    "change",
    [
        {"headers": [(b"sec-websocket-protocol", b"a")]},
        {"headers": [(b"Sec-WebSocket-Accept", b"a")]},
        {"headers": [(b"connection", b"close")]},
        {"headers": [(b"x", b"a\r\nb")]},
        {"subprotocol": "two words"},
        {"subprotocol": b"bytes"},
    ],
)
def test_an_accept_that_is_wrong(serve: Serve, change: dict[str, Any]) -> None:
    """S-WS-03, S-WS-12: 500 before the handshake."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", **change})

    with serve(serving(application)).client() as client:
        assert client.send(HANDSHAKE + b"\r\n").answer().status == 500


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400),
        (b"Version: 13", b"Version: 12", 426),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short", 400),
    ],
)
def test_bad_handshakes_never_reach_the_application(
    serve: Serve, old: bytes, new: bytes, status: int
) -> None:
    """S-WS-04."""
    called: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope)

    with serve(serving(application)).client() as client:
        assert client.send(HANDSHAKE.replace(old, new) + b"\r\n").answer().status == status
    assert not called


def test_closed_before_it_is_accepted(serve: Serve, told: Told) -> None:
    """S-WS-05."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close"})
        told.messages.append(await receive())
        told.done.set()

    with serve(serving(application)).client() as client:
        got = client.send(HANDSHAKE + b"\r\n").answer()
        assert (got.status, got.body) == (403, b"")
        assert told.wait() == [{"type": "websocket.disconnect", "code": 1006, "reason": "", "message": ""}]


def test_a_denial_response(serve: Serve, told: Told) -> None:
    """S-WS-06."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(
            {"type": "websocket.http.response.start", "status": 429, "headers": [(b"retry-after", b"5")]}
        )
        await send({"type": "websocket.http.response.body", "body": b"too ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"many"})
        told.messages.append((await receive())["code"])
        told.done.set()

    with serve(serving(application)).client() as client:
        got = client.send(HANDSHAKE + b"\r\n").until(b"0\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 5" in got
        assert got.endswith(b"4\r\ntoo \r\n4\r\nmany\r\n0\r\n\r\n")
        assert told.wait() == [1006]


def test_a_denial_response_without_a_body(serve: Serve) -> None:
    """S-WS-07."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 404})

    with serve(serving(application)).client() as client:
        got = client.send(HANDSHAKE + b"\r\n").answer()
        assert (got.status, got.body) == (404, b"")


@pytest.mark.parametrize("how", ["raise", "return", "status"])
def test_no_answer_to_a_handshake(serve: Serve, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """S-WS-07, S-WS-08."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if how == "raise":
            raise LookupError("as planned")
        if how == "status":
            await send({"type": "websocket.http.response.start", "status": 99})

    with serve(serving(application)).client() as client:
        assert client.send(HANDSHAKE + b"\r\n").answer().status == 500
    until(
        lambda: [record for record in caplog.records if record.levelno == logging.ERROR],
        "an error in the log",
    )


def test_a_client_that_leaves_before_it_is_accepted(serve: Serve, told: Told) -> None:
    """S-WS-09, S-REG-10."""
    begun = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        begun.set()
        told.messages.append((await receive())["code"])
        with pytest.raises(ClientDisconnected) as left:
            await send({"type": "websocket.accept"})
        told.messages.append(isinstance(left.value, OSError))
        told.done.set()

    with serve(serving(application)).client() as client:
        client.send(HANDSHAKE + b"\r\n")
        assert begun.wait(20)
        client.reset()
        assert told.wait() == [1006, True]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "websocket.send", "text": None, "bytes": None}, ValueError),
        ({"type": "websocket.send"}, ValueError),
        ({"type": "websocket.send", "text": b"bytes"}, TypeError),
        ({"type": "websocket.send", "bytes": 5}, TypeError),
        ({"type": "websocket.accept"}, RuntimeError),
        ({"type": "websocket.http.response.start", "status": 200}, RuntimeError),
        ({"type": "websocket.close", "code": 1005}, ValueError),
        ({"type": "websocket.close", "code": 999}, ValueError),
        ({"type": "websocket.close", "code": 5000}, ValueError),
        ({"type": "websocket.nonsense"}, ValueError),
        ({"type": "http.response.start", "status": 200}, ValueError),
        ({"type": "websocket.subscribe"}, KeyError),
    ],
)
def test_messages_that_are_wrong(serve: Serve, message: dict[str, Any], error: type[Exception]) -> None:
    """S-WS-11, S-WS-12, S-WS-15: the socket goes on."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        with pytest.raises(error):
            await send(message)
        await send({"type": "websocket.send", "text": "fine"})
        await receive()
        await receive()

    with serve(serving(application)).websocket() as client:
        assert client.recv_message() == "fine"


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send", "text": "early"},
        {"type": "websocket.subscribe", "topic": "early"},
        {"type": "websocket.http.response.body", "body": b"early"},
    ],
)
def test_messages_before_the_accept(serve: Serve, message: dict[str, Any]) -> None:
    """S-WS-12, S-WS-26."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(RuntimeError, match=r"expected 'websocket\.accept' first"):
            await send(message)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "fine"})

    with serve(serving(application)).websocket() as client:
        assert client.recv_message() == "fine"


def test_after_a_close_nothing_may_be_sent(serve: Serve, told: Told) -> None:
    """S-WS-12, S-WS-16."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        told.messages.append(await receive())
        await send({"type": "websocket.close", "code": 3001, "reason": "enough"})
        for message in ({"type": "websocket.send", "text": "late"}, {"type": "websocket.close"}):
            with pytest.raises(RuntimeError, match="has been closed"):
                await send(message)
        for _ in range(2):
            told.messages.append(await receive())
        told.done.set()

    end = {"type": "websocket.disconnect", "code": 3001, "reason": "enough", "message": "enough"}
    with serve(serving(application)).websocket() as client:
        client.send_text("go").send_text("unheard")
        assert client.expect_close_frame() == (3001, b"enough")
        assert told.wait() == [{"type": "websocket.receive", "text": "go"}, end, end]


@pytest.mark.parametrize(("how", "code"), [("raise", 1011), ("return", 1000)])
def test_the_end_of_the_application(serve: Serve, how: str, code: int) -> None:
    """S-WS-13, S-WS-14."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        if how == "raise":
            raise LookupError("as planned")

    with serve(serving(application)).websocket() as client:
        assert client.expect_close_frame()[0] == code


def test_a_long_reason_is_cut_at_a_character(serve: Serve) -> None:
    """S-WS-15."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "reason": "\u00fc" * 80})

    with serve(serving(application)).websocket() as client:
        assert client.expect_close_frame() == (1000, ("\u00fc" * 61).encode())


@pytest.mark.parametrize(
    ("code", "reason", "told_code", "told_reason"),
    [(1000, "bye", 1000, "bye"), (4000, "", 4000, ""), (None, "", 1005, "")],
)
def test_the_clients_close(
    serve: Serve, told: Told, code: int | None, reason: str, told_code: int, told_reason: str
) -> None:
    """S-WS-17, S-WS-19: the messages before it come first, and it is told as often as it is asked for."""
    go_on = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await asyncio.to_thread(go_on.wait, 20)
        for _ in range(4):
            told.messages.append(await receive())
        told.done.set()

    with serve(serving(application)).websocket() as client:
        client.send_text("a").send_text("b").send_close(code, reason)
        go_on.set()
        messages = told.wait()
    end = {"type": "websocket.disconnect", "code": told_code, "reason": told_reason, "message": told_reason}
    assert [message.get("text") for message in messages[:2]] == ["a", "b"]
    assert messages[2:] == [end, end]


def leave_abruptly(client: WebSocketClient) -> None:
    client.abort()


def break_a_rule(client: WebSocketClient) -> None:
    client.send_frame(3)


def send_too_much(client: WebSocketClient) -> None:
    client.send_binary(b"x" * 2000)


def send_bad_text(client: WebSocketClient) -> None:
    client.send_text(b"\xff")


@pytest.mark.parametrize(
    ("act", "code"),
    [(leave_abruptly, 1006), (break_a_rule, 1002), (send_too_much, 1009), (send_bad_text, 1007)],
)
def test_other_ends(serve: Serve, told: Told, act: Callable[[WebSocketClient], None], code: int) -> None:
    """S-WS-10, S-WS-17, S-WS-18: the code is the one that was sent."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        told.messages.append((await receive())["code"])
        told.done.set()

    with serve(serving(application, websocket={"max_payload_length": 1000})).websocket() as client:
        act(client)
        assert told.wait() == [code]


def test_several_receivers(serve: Serve, told: Told) -> None:
    """S-WS-19: messages go to them in order, the end to all; a cancelled one loses nothing."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        for _ in range(50):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.0001)
        tasks = [asyncio.create_task(receive()) for _ in range(4)]
        await asyncio.sleep(0)
        await send({"type": "websocket.send", "text": "go"})
        told.messages += await asyncio.gather(*tasks)
        told.done.set()

    with serve(serving(application)).websocket() as client:
        assert client.recv_message() == "go"
        client.send_text("a").send_text("b").send_close(1000)
        assert [message.get("text", message["type"]) for message in told.wait()] == [
            "a",
            "b",
            "websocket.disconnect",
            "websocket.disconnect",
        ]


def test_what_nobody_receives_is_not_read(serve: Serve, told: Told) -> None:
    """S-WS-20: the client has to wait, and nothing is lost."""
    go_on = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await asyncio.to_thread(go_on.wait, 20)
        total = 0
        while (message := await receive())["type"] == "websocket.receive":
            total += len(message["bytes"])
        told.messages.append(total)
        told.done.set()

    with serve(serving(application, websocket={"inbound_buffer": 65536})).websocket() as client:
        one = frame(BINARY, b"x" * 60_000)
        data = one * 400
        sent = client.flood(data)
        assert sent < len(data)
        go_on.set()
        client.send(data[sent:])
        client.send_close(1000)
        assert told.wait() == [400 * 60_000]


def test_pings_are_answered_while_the_application_is_busy(serve: Serve, told: Told) -> None:
    """S-WS-21, S-REG-09: and a pong that was not asked for is ignored."""
    go_on = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        await asyncio.to_thread(go_on.wait, 20)
        told.messages.append(await receive())
        told.done.set()

    with serve(serving(application)).websocket() as client:
        client.pong(b"unasked").ping(b"are you there")
        assert client.recv_frame().payload == b"are you there"
        client.pong(b"again").send_text("fine")
        go_on.set()
        assert told.wait() == [{"type": "websocket.receive", "text": "fine"}]


def test_a_slow_client_slows_its_application(serve: Serve) -> None:
    """S-WS-22, S-REG-11: nothing is dropped, and little waits."""
    sent = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "websocket.accept"})
        for _ in range(3000):
            await send({"type": "websocket.send", "bytes": b"x" * 16384})
            sent += 1

    with serve(serving(application)).websocket(receive_buffer=4096) as client:
        before = -1
        while before != sent:
            before = sent
            threading.Event().wait(0.3)
        assert sent < 2000
        for _ in range(3000):
            assert len(client.recv_message()) == 16384


def test_parallel_senders_wait_for_room(serve: Serve) -> None:
    """S-WS-22: also beyond the limit of what may wait, in the order of their calls."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await asyncio.gather(
            *(send({"type": "websocket.send", "bytes": bytes([number]) * 100_000}) for number in range(200))
        )

    limits = {"max_backpressure": 200_000}
    with serve(serving(application, websocket=limits)).websocket(receive_buffer=4096) as client:
        assert sorted(client.recv_message()[0] for _ in range(200)) == list(range(200))


def test_without_websockets(serve: Serve) -> None:
    """S-WS-25: an upgrade request is an ordinary one."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"plain"})

    with serve(serving(application, websocket=None)).client() as client:
        assert client.send(HANDSHAKE + b"\r\n").answer().body == b"plain"


def test_topics(serve: Serve) -> None:
    """S-WS-26: the sender gets what it publishes, too."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        assert await send({"type": "websocket.subscribe", "topic": "room"}) is True
        await receive()
        await send({"type": "websocket.send", "text": "ready"})
        while (message := await receive())["type"] == "websocket.receive":
            if "text" in message:
                await send({"type": "websocket.publish", "topic": "room", "text": message["text"]})
            else:
                assert await send({"type": "websocket.unsubscribe", "topic": "room"}) is True
                assert await send({"type": "websocket.unsubscribe", "topic": "room"}) is False
                await send({"type": "websocket.publish", "topic": "room", "bytes": message["bytes"]})

    running = serve(serving(application))
    with running.websocket() as one, running.websocket() as two:
        assert one.recv_message() == two.recv_message() == "ready"
        one.send_text("hello")
        assert one.recv_data() == two.recv_data() == (TEXT, b"hello")
        two.send_binary(b"bye")
        assert one.recv_data() == (BINARY, b"bye")


def test_send_after_the_client_has_left(serve: Serve, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """S-WS-27: an error that is no error in the log; a close does nothing."""
    caplog.set_level(logging.INFO, logger="socketify")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        assert (await receive())["type"] == "websocket.disconnect"
        for _ in range(3):
            with pytest.raises(ClientDisconnected):
                await send({"type": "websocket.send", "text": "unheard"})
        await send({"type": "websocket.close"})
        told.done.set()
        raise ClientDisconnected("passed on")

    with serve(serving(application)).websocket() as client:
        client.abort()
        told.wait()
    assert not caplog.records


def test_the_end_of_the_server(serve: Serve, told: Told) -> None:
    """S-WS-31: 1012 at once, and the application has the grace to end."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await receive()
        told.messages.append((await receive())["code"])
        await asyncio.sleep(0.2)
        told.done.set()

    running = serve(serving(application))
    with running.websocket() as client:
        running.app.close()
        assert client.expect_close_frame()[0] == 1012
        running.stop()
    assert told.wait() == [1012]
