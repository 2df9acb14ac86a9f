"""Topics: the receivers of messages, and their order, for any publisher on any thread.

Rows: C-P-01..12, A-WS-13..18, A-APP-25, A-APP-26, I-S-40, I-S-41, A-CALL-16, C-C-09, C-K-16, DEC-1, I-A-08, I-A-10, I-A-27;
issues J#401, J#422, J#499, J#539, G#862.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from socketify import App, CompressOptions, OpCode
from support import shown, until
from support.lanes import LOOP, TASK, THREAD, each_lane, on, options
from support.ws_client import BINARY, CLOSE, PONG, TEXT, Frame, WebSocketClient, connect
from support.ws_server import OFFER, Deflate, Held

Serve = Callable[..., Any]
Changes = list[tuple[Any, ...]]

SHARED = int(CompressOptions.SHARED_COMPRESSOR)
DEDICATED = int(CompressOptions.DEDICATED_COMPRESSOR)


def is_silent(client: WebSocketClient) -> bool:
    """Whether nothing more has come: the pong comes after all earlier messages."""
    return client.ping(b"anything?").recv_frame() == Frame(True, False, PONG, b"anything?")


@contextlib.contextmanager
def audience(held: Held, count: int, topic: str = "topic", **others: Any) -> Iterator[list[WebSocketClient]]:
    """So many clients whose sockets are subscribed."""
    both = [held.connect(**others) for _ in range(count)]
    for _, ws in both:
        assert ws.subscribe(topic)
    try:
        yield [client for client, _ in both]
    finally:
        for client, _ in both:
            client.close()


# ---- topics ---------------------------------------------------------------------------------------------------------

NAMES: list[str | bytes] = [
    "",
    "a",
    "A",
    "a ",
    "a/b",
    "a/+",
    "a/#",
    "#",
    "+",
    "*",
    "/",
    "\0",
    "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "cafe\N{COMBINING ACUTE ACCENT}",
    "\N{GRINNING FACE}",
    b"\xff\xfe",
    b"a\xff",
    "x" * 100_000,
]


def test_names_are_equal_or_they_are_not(serve: Serve) -> None:
    """C-P-01, C-P-10, C-P-12: no wildcards, no normal form, no limit; any bytes will do."""
    held = Held(serve)
    pairs = [held.connect() for _ in NAMES]
    for (_, ws), name in zip(pairs, NAMES, strict=True):
        assert ws.subscribe(name) is True
    for number, name in enumerate(NAMES):
        assert held.app.num_subscribers(name) == 1
        assert held.app.publish(name, str(number), OpCode.TEXT) is True
    for number, (client, ws) in enumerate(pairs):
        assert client.recv_message() == str(number)
        assert is_silent(client)
        assert [ws.is_subscribed(name) for name in NAMES] == [other == number for other in range(len(NAMES))]
        client.close()


def test_text_and_its_bytes_are_one_topic(serve: Serve) -> None:
    """C-P-10, A-WS-13..15: ``str`` and every bytes-like type, for all that takes a topic."""
    text = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    forms = [text, text.encode(), bytearray(text.encode()), memoryview(text.encode())]
    held = Held(serve)
    client, ws = held.connect()
    with client:
        for first in forms:
            for second in forms:
                assert ws.subscribe(first) is True
                assert ws.subscribe(second) is True
                assert ws.is_subscribed(second) is True
                assert held.app.num_subscribers(second) == 1
                assert ws.get_topics() == [text]
                assert ws.publish(second, "a", OpCode.TEXT) is True
                assert held.app.publish(second, "b", OpCode.TEXT) is True
                assert [client.recv_message(), client.recv_message()] == ["a", "b"]
                assert ws.unsubscribe(second) is True
                assert ws.unsubscribe(first) is False
                assert held.app.num_subscribers(first) == 0


def test_topics_that_are_no_text(serve: Serve) -> None:
    """C-P-10, A-WS-17, A-WS-18: they are bytes in all results, and the results name them again."""
    changes: Changes = []
    held = Held(serve, subscription=lambda ws, *change: changes.append(change))
    client, ws = held.connect()
    seen: list[str | bytes] = []
    with client:
        for name in (b"\xff", b"text", ""):
            assert ws.subscribe(name)
        assert sorted(ws.get_topics(), key=repr) == ["", "text", b"\xff"]
        ws.for_each_topic(seen.append)
        assert sorted(seen, key=repr) == ["", "text", b"\xff"]
        assert [held.app.num_subscribers(topic) for topic in seen] == [1, 1, 1]
        assert ws.publish(b"\xff", b"binary")
        assert client.recv_message() == b"binary"
        assert ws.unsubscribe(b"\xff")
        until(lambda: len(changes) == 4, "four changes")
        client.finish()
    until(lambda: len(changes) == 6, "the rest at the end")
    assert [change[0] for change in changes[:4]] == [b"\xff", "text", "", b"\xff"]
    assert {change[0] for change in changes[4:]} == {"text", ""}
    assert [change[1:] for change in changes] == [(1, 0), (1, 0), (1, 0), (0, 1), (0, 1), (0, 1)]


@pytest.mark.parametrize("topic", [7, None, 1.5, ["a"], object()], ids=shown)
def test_what_is_no_topic(serve: Serve, topic: Any) -> None:
    """A-WS-13..16, A-APP-25, A-APP-26: no socket can subscribe to it; counting is an error."""
    held = Held(serve)
    client, ws = held.connect()
    with client:
        ws.subscribe("7")
        for method in (ws.subscribe, ws.unsubscribe, ws.is_subscribed):
            assert method(topic) is False
        assert ws.publish(topic, "a") is False
        assert held.app.publish(topic, "a") is False
        with pytest.raises(RuntimeError, match="topic"):
            held.app.num_subscribers(topic)
        assert is_silent(client)


def test_bad_messages(serve: Serve) -> None:
    """A-APP-26: they raise, with or without subscribers, and no message is sent."""
    held = Held(serve)
    with audience(held, 2) as clients:
        for publish in (held.app.publish, held.sockets[0].publish):
            for topic in ("topic", "nobody"):
                for message in (object(), {"a": object()}, {1j: 1}):
                    with pytest.raises(TypeError):
                        publish(topic, message)
                with pytest.raises(ValueError, match="UTF-8"):
                    publish(topic, b"\xff", OpCode.TEXT)
                with pytest.raises(ValueError, match="surrogates"):
                    publish(topic, "\ud800")
                for opcode in (OpCode.CONTINUATION, OpCode.CLOSE, OpCode.PING, OpCode.PONG, 3, 99, "TEXT"):
                    with pytest.raises(ValueError):  # noqa: PT011 - two texts, both right
                        publish(topic, "a", opcode)
        with pytest.raises(TypeError):
            held.app.publish("topic")
        assert all(is_silent(client) for client in clients)


def test_messages_of_every_type(serve: Serve) -> None:
    """A-APP-26, A-WS-16: as for send; BINARY by default; None is an empty one."""
    held = Held(serve)
    cases: list[tuple[Any, bytes]] = [
        ("text", b"text"),
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"v-i-e-w-")[::2], b"view"),
        (None, b""),
        ("", b""),
        ({"a": [1, {2}]}, b'{"a":[1,[2]]}'),
        (7, b"7"),
    ]
    with audience(held, 2) as clients:
        for message, expected in cases:
            assert held.app.publish("topic", message)
            assert held.sockets[1].publish(topic="topic", message=message, opcode=OpCode.TEXT, compress=False)
            for client in clients:
                for opcode in (BINARY, TEXT):
                    found, payload = client.recv_data()
                    assert (found, payload.replace(b" ", b"")) == (opcode, expected)


# ---- where an application ends --------------------------------------------------------------------------------------


def test_before_any_route() -> None:
    """I-A-08: there are no subscribers."""
    app = App()
    try:
        assert app.publish("topic", "message") is False
        assert app.num_subscribers("topic") == 0
        app.ws("/", {})
        assert app.publish("topic", "message", OpCode.TEXT, True) is False
        assert app.num_subscribers(b"topic") == 0
        with pytest.raises(RuntimeError):
            app.num_subscribers(7)  # type: ignore[arg-type]
    finally:
        app.dispose()
    assert app.publish("topic", "message") is False
    assert app.num_subscribers("topic") == 0


def test_one_space_for_all_routes(serve: Serve) -> None:
    """C-P-02: of one application; another one has its own."""
    sockets: list[Any] = []

    def opened(ws: Any) -> None:
        ws.subscribe("topic")
        sockets.append(ws)

    def configure(app: App) -> None:
        for path in ("/a", "/b", "/c/:d"):
            app.ws(path, {"open": opened})

    first, second = serve(configure), serve(configure)
    with contextlib.ExitStack() as stack:
        a, b, c = (stack.enter_context(first.websocket(path)) for path in ("/a", "/b", "/c/1"))
        with second.websocket("/a") as other:
            until(lambda: len(sockets) == 4, "four sockets")
            assert first.app.num_subscribers("topic") == 3
            assert second.app.num_subscribers("topic") == 1
            assert first.app.publish("topic", "from the application", OpCode.TEXT)
            assert sockets[0].publish("topic", "from a socket", OpCode.TEXT)
            for client in (a, b, c):
                assert client.recv_message() == "from the application"
                assert client.recv_message() == "from a socket"
            assert is_silent(other)


@pytest.mark.parametrize("use_uvloop", [False, True])
@pytest.mark.parametrize("lane", [THREAD, LOOP, TASK])
def test_publishing_to_another_application(serve: Serve, lane: str, use_uvloop: bool) -> None:
    """C-P-02, A-CALL-16: from its callbacks and timers: messages to the other's sockets leave as well."""
    if use_uvloop:
        pytest.importorskip("uvloop")
    held = Held(serve)

    def speak(word: str) -> None:
        assert held.app.publish("topic", f"published {word}", OpCode.TEXT)
        held.sockets[0].send(f"sent {word}", OpCode.TEXT)

    def answer(res: Any, req: Any) -> None:
        speak("at once")
        res.end("")

    def configure(app: App) -> None:
        app.get("/", on(lane, answer))

    other = serve(configure, use_uvloop=use_uvloop, **options(lane))
    with audience(held, 1) as (client,), other.client() as http:
        http.get()
        assert [client.recv_message(), client.recv_message()] == ["published at once", "sent at once"]
        loop = other.app.loop.loop
        loop.call_soon_threadsafe(loop.call_later, 0.001, speak, "later")
        assert [client.recv_message(), client.recv_message()] == ["published later", "sent later"]


def test_publishing_does_not_take_a_subscription(serve: Serve) -> None:
    """DEC-1, C-P-04: a socket that is not subscribed may publish, and does not get the message; an ended one
    may, too."""
    held = Held(serve)
    (one, speaker), (two, listener) = held.connect(), held.connect()
    with one, two:
        listener.subscribe("topic")
        assert speaker.publish("topic", "a", OpCode.TEXT)
        assert two.recv_message() == "a"
        assert is_silent(one)
        one.abort()
        until(lambda: speaker.closed, "its end")
        speaker.publish("topic", "b", OpCode.TEXT)
        held.app.publish("topic", "c", OpCode.TEXT)
        assert two.recv_message() in ("b", "c"), "no crash, and no harm to others"


# ---- subscriptions --------------------------------------------------------------------------------------------------


@each_lane
def test_subscription_counts(serve: Serve, lane: str) -> None:
    """C-K-16, C-P-09, C-C-09: each change once, with the counts before and after it, in the order of the changes."""
    changes: Changes = []

    def changed(ws: Any, topic: str, count: int, before: int) -> None:
        changes.append((ws.get_user_data(), topic, count, before))

    def upgrade(res: Any, req: Any, context: Any) -> None:
        res.upgrade(req.get_header("sec-websocket-key"), None, None, context, req.get_query("name"))

    def message(ws: Any, message: Any, opcode: Any) -> None:
        sign, topic = message[0], message[1:]
        result = ws.subscribe(topic) if sign == "+" else ws.unsubscribe(topic)
        ws.send(json.dumps(result), OpCode.TEXT)

    behavior = {"upgrade": upgrade, "message": on(lane, message), "subscription": on(lane, changed)}
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    with running.websocket("/?name=a") as a, running.websocket("/?name=b") as b:

        def say(client: WebSocketClient, text: str) -> bool:
            result: bool = json.loads(client.send_text(text).recv_message())
            return result

        assert [say(a, "+t"), say(b, "+t"), say(b, "+t"), say(a, "+u")] == [True] * 4
        assert [say(a, "-t"), say(a, "-t"), say(a, "-v"), say(a, "+t")] == [True, False, False, True]
        until(lambda: len(changes) == 5, "five changes")
        b.finish()
        until(lambda: len(changes) == 6, "the end of b")
        a.abort()
    until(lambda: len(changes) == 8, "the end of a")
    assert changes[:5] == [
        ("a", "t", 1, 0),
        ("b", "t", 2, 1),
        ("a", "u", 1, 0),
        ("a", "t", 1, 2),
        ("a", "t", 2, 1),
    ]
    assert changes[5] == ("b", "t", 1, 2)
    assert sorted(changes[6:]) == [("a", "t", 0, 1), ("a", "u", 0, 1)]


@pytest.mark.parametrize("lane", [THREAD, TASK])
def test_subscription_is_told_within_the_call_where_it_can_be(serve: Serve, lane: str) -> None:
    """C-P-09: a ``def`` callback is called before ``subscribe`` returns in its lane, and from elsewhere soon
    after."""
    order: list[Any] = []

    def message(ws: Any, message: Any, opcode: Any) -> None:
        ws.subscribe("inside")
        order.append("returned")
        ws.unsubscribe("inside")
        order.append("returned")

    held = Held(serve, message=message, subscription=on(lane, lambda ws, *change: order.append(change)))
    client, ws = held.connect()
    with client:
        client.send_text("go")
        until(lambda: len(order) == 4, "both changes")
        if lane == THREAD:
            assert order == [("inside", 1, 0), "returned", ("inside", 0, 1), "returned"]
        assert [item for item in order if item != "returned"] == [("inside", 1, 0), ("inside", 0, 1)]
        ws.subscribe("outside")
        until(lambda: len(order) == 5, "the one from elsewhere")
        assert order[-1] == ("outside", 1, 0)


def test_changing_topics_in_the_subscription_callback(serve: Serve) -> None:
    """I-A-10: its own changes are reported as well; at the end nothing can be joined any more."""
    changes: Changes = []
    refused: list[bool] = []

    def changed(ws: Any, topic: str, count: int, before: int) -> None:
        changes.append((topic, count, before))
        if topic == "a" and count == 1:
            ws.subscribe("b")
            ws.unsubscribe("a")
        elif ws.closed:
            refused.append(ws.subscribe("c"))

    held = Held(serve, subscription=changed)
    client, ws = held.connect()
    with client:
        ws.subscribe("a")
        until(lambda: len(changes) == 3, "three changes")
        assert ws.get_topics() == ["b"]
        client.finish()
    until(lambda: len(changes) == 4, "the end")
    assert changes == [("a", 1, 0), ("b", 1, 0), ("a", 0, 1), ("b", 0, 1)]
    assert refused == [False]
    assert held.app.num_subscribers("c") == 0


def test_many_topics_of_one_socket(serve: Serve) -> None:
    """A-WS-17, C-C-09: ten thousand, and none is left of them."""
    held = Held(serve)
    client, ws = held.connect()
    names = [f"topic {number}" for number in range(10_000)]
    with client:
        for name in names:
            assert ws.subscribe(name)
        assert sorted(ws.get_topics()) == sorted(names)
        assert held.app.publish(names[-1], "a", OpCode.TEXT)
        assert client.recv_message() == "a"
        client.abort()
    until(lambda: not any(held.app.num_subscribers(name) for name in names), "none is left")
    assert ws.get_topics() == []


@pytest.mark.parametrize("leave", ["abort", "finish", "close", "server end", "server close"])
@pytest.mark.parametrize("told", ["nothing", "close", "subscription"])
def test_nobody_is_left(serve: Serve, leave: str, told: str) -> None:
    """C-P-12, C-C-09: the count goes back to 0 for every end of a client, and any listeners."""
    behavior: dict[str, Any] = {} if told == "nothing" else {told: lambda *arguments: None}
    held = Held(serve, **behavior)
    with audience(held, 20) as clients:
        assert held.app.num_subscribers("topic") == 20
        for client, ws in zip(clients, held.sockets, strict=True):
            if leave.startswith("server"):
                getattr(ws, leave.split()[1])()
            else:
                getattr(client, leave)()
        until(lambda: held.app.num_subscribers("topic") == 0, "nobody")
        assert held.app.publish("topic", "a") is False


# ---- order ----------------------------------------------------------------------------------------------------------


@each_lane
def test_send_and_publish_keep_their_order(serve: Serve, lane: str) -> None:
    """C-P-06, J#422: on each socket sent and published messages keep their order, small or large."""

    def message(ws: Any, message: Any, opcode: Any) -> None:
        for number in range(200):
            text = f"{number} " + "x" * (40_000 if number % 50 == 7 else 5)
            [ws.send, ws.cork_send, sending(ws.publish), sending(ws.app.publish)][number % 4](
                text, OpCode.TEXT
            )

    def sending(publish: Any) -> Any:
        return lambda text, opcode: publish("topic", text, opcode)

    behavior = {
        "open": lambda ws: ws.subscribe("topic"),
        "message": on(lane, message),
        "max_backpressure": 0,
    }
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    with running.websocket() as client, running.websocket() as listener:
        until(lambda: running.app.num_subscribers("topic") == 2, "two")
        client.send_text("go")
        assert [int(client.recv_message().split()[0]) for _ in range(200)] == list(range(200))
        published = [number for number in range(200) if number % 4 > 1]
        assert [int(listener.recv_message().split()[0]) for _ in published] == published


def test_order_behind_a_full_buffer(serve: Serve) -> None:
    """C-P-06, I-A-28: frames that are copied, shared and held stand in one queue, wherever the kernel stopped."""
    held = Held(serve, max_backpressure=0)
    client, ws = held.slow()
    sizes = [10, 3000, 5, 40_000, 1, 2040, 300_000, 126, 20_000]
    count = 0

    def payload(number: int) -> bytes:
        return number.to_bytes(4, "big") * (1 + sizes[number % len(sizes)] // 4)

    with client:
        ws.subscribe("topic")
        while count < 600:
            if count % 31 == 7:
                ws.send_first_fragment(payload(count)[:100])
                rest = payload(count)[100:]
                for number in (count + 1, count + 2):
                    held.app.publish("topic", payload(number))
                ws.send_last_fragment(rest)
                count += 3
            elif count % 2:
                held.app.publish("topic", payload(count))
                count += 1
            else:
                ws.send(payload(count))
                count += 1
        assert ws.get_buffered_amount() > 1_000_000
        for number in range(count):
            assert client.recv_data() == (BINARY, payload(number))


@each_lane
def test_leaving_in_the_turn_of_a_publish(serve: Serve, lane: str) -> None:
    """C-P-11, I-A-27: messages published before the last topic was left arrive, later ones do not."""

    def message(ws: Any, message: Any, opcode: Any) -> None:
        for _ in range(50):
            assert ws.subscribe("topic")
            assert ws.publish("topic", "before", OpCode.TEXT) is True
            assert ws.unsubscribe("topic")
            assert ws.publish("topic", "after", OpCode.TEXT) is False
        ws.send("done", OpCode.TEXT)

    running = serve(lambda app: app.ws("/", {"message": on(lane, message)}), **options(lane))
    with running.websocket() as client:
        client.send_text("go")
        assert [client.recv_message() for _ in range(51)] == ["before"] * 50 + ["done"]


@each_lane
def test_ending_in_the_turn_of_a_publish(serve: Serve, lane: str) -> None:
    """C-P-05, C-P-06: messages published before ``end`` go before the close frame."""

    def message(ws: Any, message: Any, opcode: Any) -> None:
        for number in range(100):
            ws.publish("topic", str(number), OpCode.TEXT)
        ws.end(4000, "done")
        ws.publish("topic", "too late", OpCode.TEXT)

    behavior = {"open": lambda ws: ws.subscribe("topic"), "message": on(lane, message)}
    with serve(lambda app: app.ws("/", behavior), **options(lane)).websocket() as client:
        client.send_text("go")
        assert [client.recv_message() for _ in range(100)] == [str(number) for number in range(100)]
        assert client.expect_close_frame() == (4000, b"done")


@pytest.mark.parametrize("where", ["http", "async http", "timer", "task", "thread", "on_start", "close"])
def test_publishing_from_anywhere(serve: Serve, where: str) -> None:
    """C-P-03, A-CALL-16, #137: wherever the application's code runs; small ones leave without a further turn."""
    done = threading.Event()
    published: list[bool] = []

    def publish() -> None:
        for number in range(3):
            published.append(held.app.publish("topic", str(number), OpCode.TEXT))

    async def later() -> None:
        await asyncio.sleep(0)
        publish()

    def answer_at_once(res: Any, req: Any) -> None:
        publish()
        res.end("done")

    def configure(app: App) -> None:
        async def answer(res: Any, req: Any) -> None:
            await later()
            res.end("done")

        async def started() -> None:
            async def wait() -> None:
                while not done.is_set():
                    await asyncio.sleep(0.001)
                publish()

            app.background = asyncio.ensure_future(wait())  # type: ignore[attr-defined]

        app.get("/http", answer_at_once)
        app.get("/async", answer)
        if where == "on_start":
            app.on_start(started)

    held = Held(
        serve,
        configure=configure,
        close=lambda ws, *end: publish() if where == "close" and not published else None,
    )
    with audience(held, 2) as clients:
        if where in ("http", "async http"):
            with held.running.client() as http:
                assert http.get(f"/{where.split()[0]}").body == b"done"
        elif where == "timer":
            held.app.loop.loop.call_soon_threadsafe(held.app.loop.loop.call_later, 0.001, publish)
        elif where == "task":
            asyncio.run_coroutine_threadsafe(later(), held.app.loop.loop).result(20)
        elif where == "thread":
            publish()
        elif where == "close":
            leaving, _ = held.connect()
            with leaving:
                leaving.send_close()
        done.set()
        for client in clients:
            assert [client.recv_message() for _ in range(3)] == ["0", "1", "2"]
    assert published == [True] * 3


def test_ten_threads_publish_while_clients_come_and_go(serve: Serve) -> None:
    """A-CALL-16, C-P-06, J#539: who stays gets every message of each thread in its order, and none twice."""
    threads, count = 10, 1000
    held = Held(
        serve,
        max_backpressure=0,
        open=lambda ws: (ws.send("welcome", OpCode.TEXT), ws.subscribe("topic")),
    )
    stop = threading.Event()
    errors: list[BaseException] = []
    seen: list[dict[int, int]] = []

    def publish(number: int) -> None:
        try:
            for at in range(count):
                assert held.app.publish("topic", b"%d %d" % (number, at))
        except BaseException as error:
            errors.append(error)

    def come_and_go(leave: str) -> None:
        try:
            while not stop.is_set():
                with held.running.websocket() as client:
                    assert client.recv_message() == "welcome"
                    getattr(client, leave)()
        except BaseException as error:
            errors.append(error)

    def listen(client: WebSocketClient) -> None:
        try:
            next_of = dict.fromkeys(range(threads), 0)
            assert client.recv_message() == "welcome"
            for _ in range(threads * count):
                number, at = map(int, client.recv_data()[1].split())
                assert at == next_of[number], "in order, nothing lost, nothing twice"
                next_of[number] += 1
            seen.append(next_of)
        except BaseException as error:
            errors.append(error)

    with contextlib.ExitStack() as stack:
        staying = [stack.enter_context(held.running.websocket()) for _ in range(3)]
        until(lambda: held.app.num_subscribers("topic") == 3, "those who stay")
        runs = [threading.Thread(target=publish, args=(number,)) for number in range(threads)]
        runs += [threading.Thread(target=listen, args=(client,)) for client in staying]
        others = [threading.Thread(target=come_and_go, args=(leave,)) for leave in ("abort", "close")]
        for thread in runs + others:
            thread.start()
        for thread in runs:
            thread.join(60)
        stop.set()
        for thread in others:
            thread.join(60)
        assert errors == []
        assert seen == [dict.fromkeys(range(threads), count)] * 3
        until(lambda: held.app.num_subscribers("topic") == 3, "only those who stay")


def test_subscribing_and_publishing_at_once(serve: Serve) -> None:
    """A-CALL-16, C-P-12: each subscriber at the start of a publish gets it; counts add up in the end."""
    changes: Changes = []
    held = Held(serve, max_backpressure=0, subscription=lambda ws, *change: changes.append(change))
    both = [held.connect() for _ in range(4)]
    stop = threading.Event()
    errors: list[BaseException] = []

    def change(ws: Any) -> None:
        try:
            for number in range(300):
                assert ws.subscribe("topic")
                assert ws.publish("topic", f"{ws.ws} {number}", OpCode.TEXT) is True
                assert ws.unsubscribe("topic")
        except BaseException as error:
            errors.append(error)

    def count() -> None:
        while not stop.is_set():
            if not 0 <= held.app.num_subscribers("topic") <= 4:
                errors.append(AssertionError("a count that cannot be"))

    counter = threading.Thread(target=count)
    threads = [threading.Thread(target=change, args=(ws,)) for _, ws in both]
    for thread in (counter, *threads):
        thread.start()
    for thread in threads:
        thread.join(60)
    stop.set()
    counter.join(20)
    assert errors == []
    assert held.app.num_subscribers("topic") == 0
    for client, ws in both:
        ws.send("done", OpCode.TEXT)
        own = []
        while (message := client.recv_message()) != "done":
            number, at = map(int, message.split())
            if number == ws.ws:
                own.append(at)
        assert own == list(range(300))
        client.close()
    until(lambda: len(changes) == 2400, "each change")
    assert sum(after - before for _, after, before in changes) == 0
    assert {abs(after - before) for _, after, before in changes} == {1}


# ---- much -----------------------------------------------------------------------------------------------------------


def test_a_large_message_to_many(serve: Serve) -> None:
    """C-P-05, C-P-07, G#862: 1 MB to 50 sockets; one of them does not read, and the others do not notice."""
    held = Held(serve, max_backpressure=3_000_000)
    payload = os.urandom(1 << 20)
    slow, lazy = held.slow()
    with slow, audience(held, 50) as clients:
        lazy.subscribe("topic")
        errors: list[BaseException] = []

        def listen(client: WebSocketClient) -> None:
            try:
                for number in range(3):
                    assert client.recv_data() == (BINARY, payload[number:])
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=listen, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for number in range(3):
            assert held.app.publish("topic", payload[number:])
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert [ws.dropped for ws in held.sockets] == [0] * 51
        lost = [held.app.publish("topic", payload), held.app.publish("topic", payload)]
        assert lost == [True, True]
        for client in clients:
            for _ in range(2):
                assert client.recv_data() == (BINARY, payload)
        until(lambda: lazy.dropped > 0 or lazy.get_buffered_amount() > 2_000_000, "the slow one to be felt")
        for number in [*range(3), *[0] * (2 - lazy.dropped)]:
            assert slow.recv_data() == (BINARY, payload[number:])
        assert held.app.publish("topic", "still there", OpCode.TEXT)
        assert slow.recv_message() == "still there"


@pytest.mark.parametrize("compression", [SHARED, DEDICATED])
def test_a_compressed_message_to_a_mix(serve: Serve, compression: int) -> None:
    """C-P-08, C-F-10: each as it agreed: not at all, each message alone, with all that came before, a small window."""
    held = Held(serve, compression=compression)
    offers = [
        [],
        [OFFER],
        [OFFER],
        [f"{OFFER}; server_no_context_takeover"],
        [f"{OFFER}; server_max_window_bits=9"],
        [f"{OFFER}; server_max_window_bits=9; server_no_context_takeover"],
        [f"{OFFER}; client_max_window_bits"],
    ]
    both = [held.connect(headers=offer) for offer in offers]
    messages = [json.dumps([number, *range(number, number + 3000)]) for number in range(5)]
    codecs = [Deflate(client) if client.extensions else None for client, _ in both]
    assert codecs[0] is None
    for _, ws in both:
        ws.subscribe("topic")
    for message in messages:
        assert held.app.publish("topic", message, OpCode.TEXT, True)
        assert held.app.publish("topic", message, OpCode.TEXT)
        assert held.app.publish("topic", "", OpCode.TEXT, True)
        for _, ws in both:
            ws.send(message, OpCode.TEXT, True)
    for (client, _), codec in zip(both, codecs, strict=True):
        for message in messages:
            for expected, compressed in ((message, True), (message, False), ("", False), (message, True)):
                found = client.recv_frame()
                assert found.rsv1 == (compressed and codec is not None)
                payload = codec.inflate(found.payload) if codec and found.rsv1 else found.payload
                assert payload == expected.encode()
        client.close()


def test_a_compressed_message_to_one_that_dropped_some(serve: Serve) -> None:
    """C-P-07, C-P-08: a dedicated window has the delivered messages, not the published ones."""
    held = Held(serve, compression=DEDICATED, max_backpressure=30_000)
    client, ws = held.connect(receive_buffer=4096, headers=[OFFER])
    with client:
        ws.subscribe("topic")
        codec = Deflate(client)
        sent = 0
        while ws.dropped < 5:
            held.app.publish("topic", sent.to_bytes(4, "big") + os.urandom(8000), compress=True)
            sent += 1
        for number in range(sent - 5):
            message = codec.message()
            assert isinstance(message, bytes)
            assert message[:4] == number.to_bytes(4, "big")
        until(lambda: ws.get_buffered_amount() == 0, "room")
        held.app.publish("topic", b"after" * 1000, compress=True)
        assert codec.message() == b"after" * 1000


def test_sockets_that_end_while_others_publish(serve: Serve) -> None:
    """C-P-03, J#539, S#197: each way to end, in the midst of it; the others get all of it."""
    held = Held(serve, max_backpressure=0, compression=SHARED)
    errors: list[BaseException] = []
    count = 3000

    def publish() -> None:
        try:
            for number in range(count):
                assert held.app.publish("topic", b"%d" % number, OpCode.BINARY, number % 2 == 0)
        except BaseException as error:
            errors.append(error)

    with audience(held, 16) as leaving, audience(held, 2) as staying:
        leaving_sockets = held.sockets[:16]
        thread = threading.Thread(target=publish)
        thread.start()
        for number, (client, ws) in enumerate(zip(leaving, leaving_sockets, strict=True)):
            client.recv_frame()
            [client.abort, client.close, ws.end, ws.close][number % 4]()
        for client in staying:
            for number in range(count):
                assert client.recv_data() == (BINARY, b"%d" % number)
        thread.join(60)
        assert errors == []
        until(lambda: held.app.num_subscribers("topic") == 2, "only those who stay")
        # Nothing follows a close frame.
        for client in leaving[2::4]:
            while client.recv_frame().opcode != CLOSE:
                pass
            client.send_close()
            assert client.is_closed()


def test_publishing_in_every_callback(serve: Serve) -> None:
    """C-P-03, C-C-09: also in ``close``, where the socket itself is no subscriber any more."""
    results: dict[str, bool] = {}

    def saying(slot: str) -> Callable[..., None]:
        def say(ws: Any, *arguments: Any) -> None:
            results[slot] = ws.publish("topic", slot, OpCode.TEXT)

        return say

    slots = ("open", "message", "ping", "pong", "subscription", "close")
    running = serve(
        lambda app: (
            app.ws("/listen", {"open": lambda ws: ws.subscribe("topic")})
            and app.ws("/", {slot: saying(slot) for slot in slots})
            and app.ws(
                "/join", {"open": lambda ws: ws.subscribe("other"), "subscription": saying("subscription")}
            )
        )
    )
    with running.websocket("/listen") as listener, running.websocket() as client:
        assert listener.recv_message() == "open"
        client.send_text("a")
        assert listener.recv_message() == "message"
        client.ping()
        assert listener.recv_message() == "ping"
        client.pong()
        assert listener.recv_message() == "pong"
        client.recv_frame()
        client.finish()
        assert listener.recv_message() == "close"
        with running.websocket("/join"):
            assert listener.recv_message() == "subscription"
        assert listener.recv_message() == "subscription"
        until(lambda: len(results) == 6, "all of them to end")
    assert results == dict.fromkeys(slots, True)


def test_before_the_last_thread_has_been_made() -> None:
    """A client that connects between `listen` and `run` is served by threads that run before the others: the
    messages of its listener publishes reaches everybody already. As many applications as it takes for the two
    to meet."""

    def opened(ws: Any) -> None:
        ws.subscribe("topic")
        ws.send(str(ws.app.num_subscribers("topic")), OpCode.TEXT)
        ws.publish("topic", "published", OpCode.TEXT)

    for _ in range(100):
        app = App()
        app.ws("/", {"open": opened})
        ports: list[int] = []
        app.listen({"host": "127.0.0.1", "port": 0}, lambda config, ports=ports: ports.append(config.port))
        heard: list[Any] = []

        def visit(app: App = app, port: int = ports[0], heard: list[Any] = heard) -> None:
            with connect(port) as client:
                heard.extend(client.recv_message() for _ in range(2))
            app.close()

        visitor = threading.Thread(target=visit)
        visitor.start()
        app.run()
        visitor.join()
        app.dispose()
        assert heard == ["1", "published"]


# ---- leaving while others publish -----------------------------------------------------------------------------------


def test_nothing_of_a_topic_comes_after_who_has_left_it(serve: Serve) -> None:
    """Publishers on other threads may be in the middle of a message to many; a message sent after
    `unsubscribe` comes last."""
    held = Held(serve)
    ended = threading.Event()
    published = [0, 0, 0]

    def publish(place: int) -> None:
        while not ended.is_set():
            held.app.publish("topic", "published", OpCode.TEXT)
            published[place] += 1

    def read(clients: list[WebSocketClient]) -> None:
        """Those who do not read are soon passed over, which takes no time."""
        with selectors.DefaultSelector() as selector:
            for client in clients:
                selector.register(client.socket, selectors.EVENT_READ)
            while not ended.is_set():
                for key, _ in selector.select(0.1):
                    key.fileobj.recv(1 << 16)  # type: ignore[union-attr]

    late = []
    with audience(held, 150) as others:
        client, ws = held.connect()
        threads = [threading.Thread(target=publish, args=(place,)) for place in range(3)]
        threads.append(threading.Thread(target=read, args=(others,)))
        for thread in threads:
            thread.start()
        try:
            with client:
                for number in range(60):
                    assert ws.subscribe("topic")
                    seen = sum(published)
                    until(lambda seen=seen: sum(published) > seen, "a message")
                    assert ws.unsubscribe("topic")
                    ws.send(f"left {number}", OpCode.TEXT)
                    before = list(published)
                    # All publishes in progress are over.
                    until(
                        lambda before=before: all(
                            now > then + 1 for now, then in zip(published, before, strict=True)
                        ),
                        "the next messages",
                    )
                    ws.send("next", OpCode.TEXT)
                    while client.recv_message() != f"left {number}":
                        pass
                    while (message := client.recv_message()) != "next":
                        late.append((number, message))
        finally:
            ended.set()
            for thread in threads:
                thread.join(20)
    assert late == []
