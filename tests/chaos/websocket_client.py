"""A client of WebSockets that sends raw frames in every shape, and checks all that comes, messages to topics included."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import random
import struct
import zlib
from dataclasses import dataclass, field

from asks import content
from session import Session
from wire import Wire, Wrong

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_TOPICS = ("news", "weather", "sport")
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(rng: random.Random, opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """The bytes of one frame of a client."""
    size = len(payload)
    head = bytes([fin << 7 | rsv1 << 6 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += struct.pack("!BH", 0xFE, size)
    else:
        head += struct.pack("!BQ", 0xFF, size)
    mask = rng.randbytes(4)
    stream = (mask * (size // 4 + 1))[:size]
    return (
        head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
    )


@dataclass
class Subscription:
    """The facts about one topic since the socket has joined it."""

    #: By publisher: the number it had begun with when we had joined.
    before: dict[str, int]
    #: By publisher: the numbers that have come.
    came: dict[str, list[int]] = field(default_factory=dict)


class Socket:
    """A WebSocket on a connection: it sends words and checks all that comes."""

    def __init__(self, session: Session, wire: Wire, *, compressed: bool = False) -> None:
        self.wire = wire
        self.rng = session.rng
        self.name = session.name(0)
        self.stopping = session.stopping
        self.compressed = compressed
        #: Why it has ended: the payload of the server's close frame.
        self.closing: bytes | None = None
        self.status = 0
        #: Messages that have to come in this order.
        self.ordered: list[bytes] = []
        #: Messages that have to come.
        self.unordered: list[bytes] = []
        self.pongs: list[bytes] = []
        self.threads: list[int] = []
        self.topics: dict[str, Subscription] = {}
        self.leaving: set[str] = set()
        self.joining: set[str] = set()
        #: Messages that the server reports as dropped, and their number.
        self.dropped = 0
        self.lossy = False
        self.numbers = dict.fromkeys(_TOPICS, 0)
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._opcode = 0
        self._deflated = False

    # ---- the handshake --------------------------------------------------------------------------------------------------

    def open(self, path: str, expected: str) -> None:
        """Asks for the socket, sometimes with first messages behind the request."""
        key = base64.b64encode(self.rng.randbytes(16)).decode()
        lines = [
            f"GET {path}?id={self.name}&close={expected} HTTP/1.1",
            "Host: chaos",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        if self.compressed:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate")
        self._accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
        self.wire.on_data = self._head
        self.wire.say("\r\n".join([*lines, "", ""]).encode())
        if self.rng.random() < 0.3:
            self.echo()
        self.wire.pump(lambda: bool(self.status), what="an answer to a handshake")

    def _head(self, data: bytes) -> None:
        self._buffer += data
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0:
            return
        head = bytes(self._buffer[:at]).decode()
        del self._buffer[: at + 4]
        if (
            not head.startswith("HTTP/1.1 101 ")
            or f"sec-websocket-accept: {self._accept}".lower() not in head.lower()
        ):
            raise Wrong("101 with the accept key", head)
        if f"X-Id: {self.name}" not in head:
            raise Wrong(f"X-Id: {self.name} in the 101", head)
        self.compressed = "permessage-deflate" in head
        self.status = 101
        self.wire.on_data = self._feed
        self._feed(b"")

    # ---- sending --------------------------------------------------------------------------------------------------------

    def send(self, text: str | bytes) -> None:
        """Sends a message, in one frame or in several, with pings between them."""
        opcode, payload = (TEXT, text.encode()) if isinstance(text, str) else (BINARY, text)
        # Frames that are sent with the handshake come before the negotiation of compression.
        deflated = self.compressed and bool(self.status) and bool(payload) and self.rng.random() < 0.5
        if deflated:
            packer = zlib.compressobj(wbits=-15)
            payload = (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        cuts = sorted(self.rng.randrange(len(payload) + 1) for _ in range(self.rng.choice([0, 0, 0, 1, 3])))
        edges = [0, *cuts, len(payload)]
        for index, (first, last) in enumerate(itertools.pairwise(edges)):
            self.wire.say(
                frame(
                    self.rng,
                    opcode if index == 0 else CONTINUATION,
                    payload[first:last],
                    fin=index == len(edges) - 2,
                    rsv1=deflated and index == 0,
                )
            )
            if self.rng.random() < 0.1:
                self.ping()

    def ping(self) -> None:
        payload = self.rng.randbytes(self.rng.randrange(126))
        self.pongs.append(payload)
        self.wire.say(frame(self.rng, PING, payload))

    def echo(self) -> None:
        size = self.rng.choice([0, 10, self.rng.randrange(300), self.rng.randrange(70_000)])
        number = f"{self.name} {len(self.ordered)} {self.rng.random()}"
        message: str | bytes = b"echo " + content(number, size)
        if self.rng.random() < 0.5:
            message = f"echo é {number} " + "ü" * (size // 3)
        self.ordered.append(message if isinstance(message, bytes) else message.encode())
        self.send(message)

    def big(self) -> None:
        name, size = f"big-{self.rng.random()}", self.rng.randrange(300_000)
        self.ordered.append(content(name, size))
        self.send(f"big {name} {size}")

    def later(self) -> None:
        message = f"later {self.name} {self.rng.random()}"
        self.unordered.append(message.encode())
        self.send(message)

    def thread(self) -> None:
        if not self.threads:
            count = self.rng.randrange(1, 30)
            self.threads = list(range(count))
            self.send(f"threads {count}")

    def publish(self) -> None:
        topic = self.rng.choice(_TOPICS)
        self.numbers[topic] += 1
        self.send(f"publish {topic} {self.numbers[topic]}")

    def join(self) -> None:
        topic = self.rng.choice(_TOPICS)
        if topic not in self.topics and topic not in self.joining:
            self.joining.add(topic)
            self.send(f"join {topic}")

    def leave(self) -> None:
        if self.topics and (topic := self.rng.choice(list(self.topics))) not in self.leaving:
            self.leaving.add(topic)
            self.send(f"leave {topic}")

    # ---- receiving ------------------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether all has come that has to."""
        return not (
            self.ordered or self.unordered or self.pongs or self.threads or self.leaving or self.joining
        )

    def _feed(self, data: bytes) -> None:
        self._buffer += data
        while (found := self._frame()) is not None:
            self._take(*found)

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, size, at = buffer[0], buffer[1], 2
        if size == 126:
            size, at = int.from_bytes(buffer[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(buffer[2:10], "big"), 10
        elif size > 127:
            raise Wrong("a frame without a mask", repr(bytes(buffer[:20])))
        if len(buffer) < at + size:
            return None
        payload = bytes(buffer[at : at + size])
        del buffer[: at + size]
        if first & 0x30 or (first & 0x40 and not self.compressed):
            raise Wrong("no reserved bits", f"{first:08b}")
        return first, payload

    def _take(self, first: int, payload: bytes) -> None:
        opcode = first & 15
        if self.closing is not None:
            raise Wrong("nothing behind the close frame", f"{opcode} {payload[:200]!r}")
        if opcode == CLOSE:
            self.closing = payload
        elif opcode == PONG:
            if not self.pongs or self.pongs.pop(0) != payload:
                raise Wrong("the pong of each ping, in order", repr(payload))
        elif opcode == PING:
            raise Wrong("no ping", repr(payload))
        elif (opcode == CONTINUATION) != bool(self._parts):
            raise Wrong("messages one behind the other", f"opcode {opcode}")
        else:
            if opcode != CONTINUATION:
                self._opcode, self._deflated = opcode, bool(first & 0x40)
            self._parts.append(payload)
            if first & 0x80:
                self._message(self._opcode, self._whole())

    def _whole(self) -> bytes:
        message = b"".join(self._parts)
        self._parts = []
        if self._deflated:
            message = zlib.decompressobj(wbits=-15).decompress(message + b"\0\0\xff\xff")
        return message

    def _message(self, opcode: int, message: bytes) -> None:
        words = message[:200].split(b" ") if opcode == TEXT else []
        match words:
            case [b"news", publisher, topic, number]:
                self._news(publisher.decode(), topic.decode(), int(number))
            case [b"thread", number] if self.threads:
                if int(number) != self.threads.pop(0):
                    raise Wrong("the messages of a thread in order", message.decode())
            case [b"later", _, _]:
                if message not in self.unordered:
                    raise Wrong(f"one of {self.unordered}", repr(message))
                self.unordered.remove(message)
            case [b"joined" | b"left", topic, *_]:
                word, _, dropped, table = message.decode().split(" ", 3)
                self._told(word, topic.decode(), int(dropped), json.loads(table))
            case _:
                self._in_order(message)

    def _in_order(self, message: bytes) -> None:
        if message in self.ordered and (self.lossy or self.ordered[0] == message):
            del self.ordered[: self.ordered.index(message) + 1]
            return
        expected = _short(self.ordered[0]) if self.ordered else "no further message"
        raise Wrong(expected, _short(message))

    # ---- topics ---------------------------------------------------------------------------------------------------------

    def _news(self, publisher: str, topic: str, number: int) -> None:
        subscription = self.topics.get(topic)
        if subscription is None:
            if topic in self.joining or self.lossy:
                # Subscribed, and not confirmed yet.
                self.topics[topic] = subscription = Subscription({})
            else:
                raise Wrong(f"nothing of {topic}, which {self.name} has left", f"{publisher} {number}")
        came = subscription.came.setdefault(publisher, [])
        if came and number != came[-1] + 1 and not (self.lossy and number > came[-1]):
            raise Wrong(f"{came[-1] + 1} of {publisher} to {topic}", f"{number}, after {came[-5:]}")
        came.append(number)

    def _told(self, word: str, topic: str, dropped: int, numbers: dict[str, int]) -> None:
        if word == "joined":
            self.joining.discard(topic)
            self.topics.setdefault(topic, Subscription({})).before = numbers
            return
        self.leaving.discard(topic)
        subscription = self.topics.pop(topic, None) or Subscription({})
        lost = []
        for publisher, last in numbers.items():
            # What handlers publish leaves when their batch has run, and a socket may leave in between.
            if not publisher.startswith("thread"):
                continue
            came = set(subscription.came.get(publisher, []))
            wanted = range(subscription.before.get(publisher, 0) + 1, last + 1)
            lost += [f"{publisher} {number}" for number in wanted if number not in came]
        if lost and not self.lossy:
            raise Wrong(
                f"all messages to {topic} until it was left", f"all but {lost[:20]} of {subscription}"
            )
        if dropped and not self.lossy:
            raise Wrong("no message dropped", f"{dropped} dropped")
        self.dropped = dropped


def _short(message: bytes) -> str:
    return repr(message) if len(message) < 300 else f"{message[:150]!r} ... ({len(message)} bytes)"
