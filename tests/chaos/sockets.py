"""WebSocket listeners of both kinds, and threads that publish to topics all the time.

A message is words: ``echo TEXT`` comes back unchanged; ``later NUMBER`` comes back after a while; ``join
TOPIC`` and ``leave TOPIC`` get the publishers' present numbers; ``publish TOPIC NUMBER`` is published;
``threads COUNT`` is echoed from a thread; ``big NAME SIZE`` gets that content; ``end CODE REASON`` ends the
socket, ``close`` cuts it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import threading
from collections.abc import Callable
from typing import Any

from asks import content
from counts import Counts
from socketify import App, CompressOptions, OpCode, Request, Response, WebSocket

#: The topics of the publishing threads.
TOPICS = ("news", "weather", "sport")
#: Threads that publish.
PUBLISHERS = 3


class Sockets:
    """The WebSocket routes: listeners that are plain, that are coroutines, and of both kinds."""

    def __init__(self, app: App, counts: Counts) -> None:
        self.app = app
        self.counts = counts

    def register(self) -> None:
        plain = {
            "upgrade": self._upgrade,
            "open": self._opened,
            "message": self._message,
            "close": self._closed,
            "subscription": self._subscription,
            "ping": lambda ws, payload: None,
            "pong": lambda ws, payload: None,
            "drain": lambda ws: None,
        }
        coroutines = {
            "upgrade": self._upgrade_late,
            "open": _coroutine(self._opened),
            "message": self._message_late,
            "close": _coroutine(self._closed),
            "subscription": _coroutine(self._subscription),
        }
        limits = {
            "max_backpressure": 0,
            "max_payload_length": 1 << 20,
            "idle_timeout": 100,
            "compression": CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR,
        }
        self.app.ws("/ws/plain", plain | limits)
        self.app.ws("/ws/async", coroutines | limits)
        self.app.ws(
            "/ws/mixed", plain | limits | {"message": self._message_late, "upgrade": self._upgrade_late}
        )
        self.app.ws("/ws/limited", plain | limits | {"max_backpressure": 20_000})

    # ---- listeners ------------------------------------------------------------------------------------------------------

    def _upgrade(self, res: Response, req: Request, context: object) -> None:
        data = {"name": req.get_query("id") or "", "close": req.get_query("close") or ""}
        key, extensions = req.get_header("sec-websocket-key"), req.get_header("sec-websocket-extensions")
        res.write_header("X-Id", data["name"])
        res.upgrade(key, None, extensions, context, data)

    async def _upgrade_late(self, res: Response, req: Request, context: object) -> None:
        await asyncio.sleep(0.001 * (len(req.get_query("id") or "") % 3))
        self._upgrade(res, req, context)

    def _opened(self, ws: WebSocket) -> None:
        data = ws.get_user_data()
        self.counts.socket_opened(data["name"], data["close"])

    def _closed(self, ws: WebSocket, code: int, message: bytes | None) -> None:
        name = ws.get_user_data()["name"]
        how = f"{code} {None if message is None else message.decode()}"
        self.counts.socket_closed(name, how)
        self.counts.forget(name)
        if topics := ws.get_topics():
            self.counts.fault(f"topics of {name} in its close listener: expected none; got {topics}")

    def _subscription(self, ws: WebSocket, topic: str, count: int, before: int) -> None:
        self.counts.subscription(topic, count, before)

    async def _message_late(self, ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
        if isinstance(message, str) and message.startswith("later "):
            await asyncio.sleep(0.001 * (len(message) % 7))
            ws.send(message, opcode)
            return
        self._message(ws, message, opcode)

    def _message(self, ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
        words = (message if isinstance(message, str) else message[:200].decode("latin-1")).split(" ")
        compress = len(message) % 2 == 0
        match words:
            case ["join", topic]:
                ws.subscribe(topic)
                self._tell(ws, "joined", topic, self.counts.begun)
            case ["leave", topic]:
                published = self.counts.numbers(self.counts.published, topic)
                ws.unsubscribe(topic)
                ws.send(f"left {topic} {ws.dropped} {json.dumps(published)}", OpCode.TEXT)
            case ["publish", topic, number]:
                self._publish(ws, topic, int(number), opcode)
            case ["threads", count]:
                threading.Thread(target=self._threads, args=[ws, int(count)]).start()
            case ["big", name, size]:
                ws.send(content(name, int(size)), OpCode.BINARY, compress)
            case ["end", code, reason]:
                ws.end(int(code), reason)
            case ["close"]:
                ws.close()
            case _:
                ws.send(message, opcode, compress)

    def _tell(self, ws: WebSocket, word: str, topic: str, table: dict[tuple[str, str], int]) -> None:
        ws.send(f"{word} {topic} {ws.dropped} {json.dumps(self.counts.numbers(table, topic))}", OpCode.TEXT)

    def _publish(self, ws: WebSocket, topic: str, number: int, opcode: OpCode) -> None:
        name = ws.get_user_data()["name"]
        self.counts.begin(name, topic, number)
        ws.publish(topic, news(topic, name, number), opcode)
        self.counts.done(name, topic, number)

    @staticmethod
    def _threads(ws: WebSocket, count: int) -> None:
        for number in range(count):
            ws.send(f"thread {number}", OpCode.TEXT)


def news(topic: str, publisher: str, number: int) -> str:
    """A message to a topic."""
    return f"news {publisher} {topic} {number}"


def _coroutine(listener: Callable[..., None]) -> Callable[..., Any]:
    @functools.wraps(listener)
    async def late(*arguments: Any) -> None:
        listener(*arguments)

    return late


class Publishers:
    """Threads that publish to all topics; each counts its messages."""

    def __init__(self, app: App, counts: Counts, seed: int) -> None:
        self._app = app
        self._counts = counts
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=[f"thread{n}", random.Random(f"{seed}/publisher/{n}")], daemon=True
            )
            for n in range(PUBLISHERS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str, rng: random.Random) -> None:
        numbers = dict.fromkeys(TOPICS, 0)
        while not self._stopping.wait(rng.choice([0.001, 0.005, 0.02])):
            for _ in range(rng.choice([1, 1, 5])):
                topic = rng.choice(TOPICS)
                numbers[topic] += 1
                self.publish(name, topic, numbers[topic])

    def publish(self, name: str, topic: str, number: int) -> None:
        self._counts.begin(name, topic, number)
        self.send(topic, news(topic, name, number))
        self._counts.done(name, topic, number)

    def send(self, topic: str, message: str) -> None:
        self._app.publish(topic, message, OpCode.TEXT)
