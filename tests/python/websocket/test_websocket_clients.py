"""A foreign client: the ``websockets`` package, which checks a server strictly.

Rows: C-F-01, C-F-05, C-F-10, C-F-13, C-H-03, C-H-04, C-N-01..07, C-C-01, C-C-02, C-C-05, C-C-08, C-C-12; G#645, G#815.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_sync
from websockets.typing import Subprotocol

from socketify import App, CompressOptions, OpCode
from support import until
from support.lanes import each_lane, on, options

Serve = Callable[..., Any]
MEBI = 1 << 20


class Echo:
    """An echo server; a text that begins with "!" is an order."""

    def __init__(self, serve: Serve, lane: str, **behavior: Any) -> None:
        self.told: list[tuple[int, bytes | None]] = []
        self.pongs: list[bytes] = []
        self.behavior = {
            "max_payload_length": 4 * MEBI,
            "max_backpressure": 0,
            "message": on(lane, self._message),
            "pong": on(lane, lambda ws, payload: self.pongs.append(payload)),
            "close": on(lane, lambda ws, code, message: self.told.append((code, message))),
        } | behavior
        self.running = serve(lambda app: app.ws("/", self.behavior), **options(lane))

    @staticmethod
    def _message(ws: Any, message: Any, opcode: Any) -> None:
        if message == "!ping":
            ws.send(b"server", OpCode.PING)
        elif message == "!fragments":
            ws.send_first_fragment("one ", OpCode.TEXT)
            ws.send_fragment("two ")
            ws.send_last_fragment("three")
        elif isinstance(message, str) and message.startswith("!end"):
            code, _, reason = message[4:].partition(" ")
            ws.end(int(code or 0), reason or None)
        elif message == "!close":
            ws.close()
        else:
            ws.send(message, opcode, compress=True)

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.running.port}/"

    def connect(self, **arguments: Any) -> ClientConnection:
        arguments = {"compression": None, "max_size": 8 * MEBI, "proxy": None} | arguments
        return connect_sync(self.address, **arguments)


MESSAGES: list[str | bytes] = [
    "text",
    b"bytes",
    "",
    b"",
    "\N{SNOWMAN} and \N{PILE OF POO}",
    "x" * 125,
    "x" * 126,
    b"x" * 65535,
    b"x" * 65536,
    os.urandom(MEBI),
    "\N{SNOWMAN}" * (MEBI // 3),
]


@each_lane
def test_messages(serve: Serve, lane: str) -> None:
    """C-F-01, C-F-13: of every kind and size, whole and in pieces, both ways."""
    with Echo(serve, lane).connect() as client:
        for message in MESSAGES:
            client.send(message)
            assert client.recv(timeout=20) == message
        client.send(["in ", "three ", "pieces"])
        assert client.recv(timeout=20) == "in three pieces"
        client.send("!fragments")
        assert list(client.recv_streaming()) == ["one ", "two ", "three"]


OFFERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no server context": {"server_no_context_takeover": True},
    "no client context": {"client_no_context_takeover": True},
    "no context": {"server_no_context_takeover": True, "client_no_context_takeover": True},
    "server window": {"server_max_window_bits": 10},
    "client window": {"client_max_window_bits": 10},
    "client window, any": {"client_max_window_bits": True},
    "small windows": {"server_max_window_bits": 9, "client_max_window_bits": 9},
    "large windows": {"server_max_window_bits": 15, "client_max_window_bits": 15},
    "everything": {
        "server_no_context_takeover": True,
        "client_no_context_takeover": True,
        "server_max_window_bits": 12,
        "client_max_window_bits": 11,
    },
}
COMPRESSIONS = {
    "shared": CompressOptions.SHARED_COMPRESSOR,
    "shared both": CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR,
    "dedicated 4 KB": CompressOptions.DEDICATED_COMPRESSOR_4KB | CompressOptions.DEDICATED_DECOMPRESSOR_4KB,
    "dedicated 256 KB": CompressOptions.DEDICATED_COMPRESSOR_256KB
    | CompressOptions.DEDICATED_DECOMPRESSOR_32KB,
    "dedicated compressor": CompressOptions.DEDICATED_COMPRESSOR,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compression(serve: Serve, compression: str) -> None:
    """C-N-01..05: for any offer, the response is one that it accepts, and both sides understand each
    other."""
    echo = Echo(serve, "def", compression=COMPRESSIONS[compression])
    words = [os.urandom(3).hex() for _ in range(50)]
    agreed = 0
    for offer in OFFERS.values():
        with echo.connect(extensions=[ClientPerMessageDeflateFactory(**offer)]) as client:
            agreed += len(client.protocol.extensions)
            for number in range(20):
                # It repeats itself, so that a context that one side drops and the other keeps is found out.
                text = " ".join(words[number % 7 :] * 20)
                client.send(text)
                assert client.recv(timeout=20) == text, offer
            for message in MESSAGES:
                client.send(message)
                assert client.recv(timeout=20) == message, offer
    # A server that refuses every offer would pass all of the above.
    assert agreed >= len(OFFERS) - 2


def test_no_compression_unless_asked_for(serve: Serve) -> None:
    """C-N-07."""
    with Echo(serve, "def").connect(compression="deflate") as client:
        assert client.protocol.extensions == []
        client.send("text")
        assert client.recv(timeout=20) == "text"


@each_lane
def test_pings(serve: Serve, lane: str) -> None:
    """C-F-05: with a latency, while messages come and go; and those of the server are answered."""
    echo = Echo(serve, lane)
    with echo.connect(ping_interval=0.05) as client:
        for number in range(10):
            answered = client.ping(b"%d" % number)
            client.send("between")
            assert answered.wait(20)
        for _ in range(10):
            assert client.recv(timeout=20) == "between"
        client.send("!ping")
        until(lambda: b"server" in echo.pongs, "the pong")
        until(lambda: client.latency > 0, "a ping of the client's own")
        assert client.latency < 5


CLOSES = [(1000, ""), (1000, "bye"), (1001, ""), (1008, "policy"), (3000, "x" * 123), (4999, "\N{SNOWMAN}")]


@each_lane
def test_closed_by_the_client(serve: Serve, lane: str) -> None:
    """C-C-01: code and reason arrive, and come back."""
    echo = Echo(serve, lane)
    for code, reason in CLOSES:
        client = echo.connect()
        client.close(code, reason)
        assert (client.close_code, client.close_reason) == (code, reason)
    until(lambda: len(echo.told) == len(CLOSES), "close callbacks")
    assert echo.told == [(code, reason.encode()) for code, reason in CLOSES]


@each_lane
def test_closed_by_the_server(serve: Serve, lane: str) -> None:
    """C-C-05, G#645: the client gets the code and the reason."""
    echo = Echo(serve, lane)
    for code, reason in CLOSES:
        with echo.connect() as client:
            client.send(f"!end{code} {reason}")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=20)
            assert isinstance(
                closed.value, ConnectionClosedOK if code in (1000, 1001) else ConnectionClosedError
            )
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
            assert (client.close_code, client.close_reason) == (code, reason)
    with echo.connect() as client:
        client.send("!end")
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=20)
        assert client.close_code == 1005
    with echo.connect() as client:
        client.send("!close")
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=20)
        assert client.close_code == 1006


def test_too_much_is_1009(serve: Serve) -> None:
    """C-K-01: the client learns why."""
    echo = Echo(serve, "def", max_payload_length=1000)
    with echo.connect() as client:
        client.send("x" * 1000)
        assert client.recv(timeout=20) == "x" * 1000
        client.send("x" * 1001)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=20)
        assert client.close_code == 1009
    until(lambda: echo.told, "close")
    assert echo.told == [(1006, b"Received too big message")]


def test_the_application_closes(serve: Serve) -> None:
    """C-C-12: every client gets 1001, those in other threads too."""
    echo = Echo(serve, "def")
    clients = [echo.connect() for _ in range(20)]
    echo.running.stop()
    for client in clients:
        with pytest.raises(ConnectionClosedOK):
            client.recv(timeout=20)
        assert client.close_code == 1001
    assert echo.told == [(1001, None)] * 20


def test_subprotocols(serve: Serve) -> None:
    """C-H-04, G#815: chosen by the application from a list, the first without one, none at all."""

    def upgrade(res: Any, req: Any, context: Any) -> None:
        offered = [each.strip() for each in (req.get_header("sec-websocket-protocol") or "").split(",")]
        chosen = "chat" if "chat" in offered else None
        res.upgrade(req.get_header("sec-websocket-key"), chosen, None, context)

    chosen, first = Echo(serve, "def", upgrade=upgrade), Echo(serve, "def")
    offered = [Subprotocol("superchat"), Subprotocol("chat")]
    with chosen.connect(subprotocols=offered) as client:
        assert client.subprotocol == "chat"
    with chosen.connect(subprotocols=[Subprotocol("other")]) as client:
        assert client.subprotocol is None
    with first.connect(subprotocols=offered) as client:
        assert client.subprotocol == "superchat"
    with first.connect() as client:
        assert client.subprotocol is None


def test_refused(serve: Serve) -> None:
    """C-H-05: an answer like any other."""

    def configure(app: App) -> None:
        app.ws("/", {"upgrade": lambda res, req, context: res.write_status(403).end("not you")})

    running = serve(configure)
    with pytest.raises(InvalidStatus) as refused:
        connect_sync(f"ws://127.0.0.1:{running.port}/", proxy=None)
    assert refused.value.response.status_code == 403
    assert refused.value.response.body == b"not you"


@each_lane
def test_a_hundred_at_once(serve: Serve, lane: str) -> None:
    """A chat: every client sends ten messages, and every client gets all of them, in each sender's order."""

    def said(ws: Any, message: Any, opcode: Any) -> None:
        ws.publish("room", message, opcode, compress=True)

    behavior = {"open": on(lane, lambda ws: ws.subscribe("room")), "message": on(lane, said)}
    echo = Echo(serve, lane, compression=CompressOptions.SHARED_COMPRESSOR, **behavior)
    count, each = 100, 3

    async def chat() -> None:
        async def one(number: int) -> None:
            extension = {"compression": "deflate" if number % 2 else None}
            async with connect_async(echo.address, proxy=None, **extension) as client:
                members.release()
                await everybody.wait()
                for at in range(each):
                    await client.send(f"{number} {at}")
                heard: dict[int, list[int]] = {}
                for _ in range(count * each):
                    who, at = (await asyncio.wait_for(client.recv(), 20)).split()
                    heard.setdefault(int(who), []).append(int(at))
                assert heard == {who: list(range(each)) for who in range(count)}

        members, everybody = asyncio.Semaphore(0), asyncio.Event()
        tasks = [asyncio.create_task(one(number)) for number in range(count)]
        for _ in range(count):
            await members.acquire()
        while echo.running.app.num_subscribers("room") < count:
            await asyncio.sleep(0.002)
        everybody.set()
        await asyncio.gather(*tasks)

    asyncio.run(chat())
    until(lambda: len(echo.told) == count, "close callbacks")
    assert echo.told == [(1000, b"")] * count


def test_clients_in_threads_that_send_and_receive_at_once(serve: Serve) -> None:
    """C-F-01: full duplex, with more on the way than any buffer holds."""
    echo = Echo(serve, "def")
    block = os.urandom(100_000)

    def one() -> None:
        with echo.connect() as client:
            sender = threading.Thread(target=lambda: [client.send(block) for _ in range(40)])
            sender.start()
            for _ in range(40):
                assert client.recv(timeout=20) == block
            sender.join(20)
            good.append(True)

    good: list[bool] = []
    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(good) == 4
