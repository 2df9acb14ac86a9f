"""Clients of HTTP/1.1: pipelines whose requests are framed in every way, and a reader of responses that
trusts nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Generator
from dataclasses import replace

from asks import LEAVE, Ask, Expected, final_ask, handled_ask, random_ask
from session import Session
from wire import Ended, Gone, Hang, Pace, Wire, Wrong, random_pace

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]*")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([^\r\n\0]*)")

# ---- requests -------------------------------------------------------------------------------------------------------


def rendered(
    rng: random.Random, ask: Ask, *, last: bool = False, expect: bool = False
) -> tuple[bytes, bytes]:
    """The head and the body of a request, framed in one way or another."""
    host = ask.headers.get("Host", "chaos")
    target = f"http://{host}{ask.target}" if rng.random() < 0.05 else ask.target
    version = "HTTP/9.9" if ask.way == "version" else "HTTP/1.1"
    lines = [f"{ask.method} {target} {version}", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in ask.headers.items() if name != "Host"]
    if ask.padding:
        lines.append(f"X-Pad: {'p' * ask.padding}")
    if last:
        lines.append(rng.choice(["Connection: close", "connection: keep-alive, CLOSE"]))
    if expect:
        lines.append("Expect: 100-continue")
    if ask.way == "bad":
        lines.append("X-Bad : blank before the colon")
    body = ask.body
    framed = b""
    if body is None:
        if rng.random() < 0.1:
            lines.append("Content-Length: 0")
    elif rng.random() < 0.5 or ask.way == "large":
        # A body in chunks may turn out to be too large after the response.
        lines.append(f"Content-Length: {len(body)}")
        framed = body
    else:
        lines.append(rng.choice(["Transfer-Encoding: chunked", "transfer-encoding: Chunked"]))
        framed = _chunks(rng, body)
    rng.shuffle(lines[1:])
    return "\r\n".join([*lines, "", ""]).encode(), framed


def _chunks(rng: random.Random, body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        size = min(len(body) - at, rng.choice([1, rng.randrange(1, 100), rng.randrange(1, 30_000)]))
        if len(parts) > 200:
            size = len(body) - at
        number = f"{size:x}" if rng.random() < 0.5 else f"{size:04X}"
        extension = rng.choice(["", "", "", ";name=value", ';name="va lue"'])
        parts.append(f"{number}{extension}\r\n".encode() + body[at : at + size] + b"\r\n")
        at += size
    trailers = rng.choice([b"", b"", b"X-Trailer: 1\r\n"])
    return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


# ---- answers --------------------------------------------------------------------------------------------------------


class Reader:
    """Parses a stream into responses and compares each with the expected one."""

    def __init__(self, asks: list[Ask], ends: bool) -> None:
        """``ends``: whether the server has to end the connection after the last response."""
        self.asks = asks
        self.ends = ends
        self.answers = 0
        self.interim = 0
        self.done = False
        #: The highest generation that each of the routes that change has shown.
        self.generations: dict[str, int] = {}
        self._buffer = bytearray()
        self._steps = self._read()
        next(self._steps)

    def feed(self, data: bytes) -> None:
        self._buffer += data
        self._step(None)

    def finish(self, how: str) -> None:
        """The server has ended the connection."""
        self._step(Ended(how))

    def _step(self, ended: Ended | None) -> None:
        try:
            if ended is None:
                self._steps.send(None)
            else:
                self._steps.throw(ended)
        except StopIteration:
            self.done = True

    def _read(self) -> Generator[None, None, None]:
        for ask in self.asks:
            expected = ask.expected
            try:
                yield from self._answer(ask, expected)
            except Ended as ended:
                if expected.extent == "whole":
                    what = f"an answer to each of {len(self.asks)} requests"
                    raise Wrong(
                        f"{what}, next to {ask.method} {ask.target}",
                        f"the end ({ended}) after {self.answers} answers and {bytes(self._buffer[:500])!r}",
                    ) from ended
                return
            if expected.extent != "whole":
                raise Wrong(f"an answer without an end to {ask.target}", "a whole one")
            self.answers += 1
        try:
            while self.ends and not self._buffer:
                yield
        except Ended as ended:
            if str(ended) != "eof":
                raise Wrong("the end of the connection", str(ended)) from ended
        if self._buffer:
            raise Wrong("nothing behind the last answer", repr(bytes(self._buffer[:1000])))

    def _answer(self, ask: Ask, expected: Expected) -> Generator[None, None, None]:
        status, fields = yield from self._head()
        while status == 100:
            self.interim += 1
            status, fields = yield from self._head()
        where = f"{ask.method} {ask.target}"
        if status != expected.status:
            raise Wrong(f"{expected.status} to {where}", f"{status} {fields} {bytes(self._buffer[:300])!r}")
        if fields.get("x-id") != expected.id:
            raise Wrong(f"X-Id: {expected.id} to {where}", f"X-Id: {fields.get('x-id')}")
        for name in ("date", "server"):
            if name not in fields:
                raise Wrong(f"{name} in the answer to {where}", str(fields))
        if expected.closes and expected.extent == "whole" and fields.get("connection", "").lower() != "close":
            raise Wrong(f"Connection: close to {where}", str(fields))
        body = yield from self._body(ask, expected, fields, where)
        if expected.body is not None and ask.method != "HEAD" and body != expected.body:
            raise Wrong(f"{_short(expected.body)} to {where}", _short(body))
        if ask.way == "changing" and body:
            self._check_generation(ask.kind, int(body), where)

    def _check_generation(self, kind: str, generation: int, where: str) -> None:
        """Of the handlers that replace each other, no older one responds after a younger one."""
        before = self.generations.get(kind, 0)
        if generation < before:
            raise Wrong(f"generation {before} or later to {where}", str(generation))
        self.generations[kind] = generation

    def _head(self) -> Generator[None, None, tuple[int, dict[str, str]]]:
        head = yield from self._until(b"\r\n\r\n")
        line, *rest = head.split(b"\r\n")
        status = _STATUS.fullmatch(line)
        if status is None:
            raise Wrong("a status line", repr(line))
        fields: dict[str, str] = {}
        for each in rest:
            found = _FIELD.fullmatch(each)
            if found is None:
                raise Wrong("a header line", repr(each))
            name = found[1].decode().lower()
            if name in fields:
                raise Wrong(f"{name} once", repr(head))
            fields[name] = found[2].decode("latin-1")
        return int(status[1]), fields

    def _body(
        self, ask: Ask, expected: Expected, fields: dict[str, str], where: str
    ) -> Generator[None, None, bytes]:
        length = fields.get("content-length")
        chunked = fields.get("transfer-encoding")
        if length is not None and chunked is not None:
            raise Wrong(f"one framing in the answer to {where}", str(fields))
        if ask.method == "HEAD":
            if length is not None and expected.body is not None and int(length) != len(expected.body):
                raise Wrong(f"the length of GET, {len(expected.body)}, to {where}", length)
            return b""
        if length is not None:
            return (yield from self._exactly(int(length)))
        if chunked != "chunked":
            raise Wrong(f"a framing in the answer to {where}", str(fields))
        body = bytearray()
        while size := int((yield from self._until(b"\r\n")), 16):
            body += yield from self._exactly(size)
            if (yield from self._exactly(2)) != b"\r\n":
                raise Wrong(f"the end of a chunk of {size} bytes to {where}", "something else")
        if (yield from self._exactly(2)) != b"\r\n":
            raise Wrong(f"the end of the chunks to {where}", "something else")
        return bytes(body)

    def _until(self, end: bytes) -> Generator[None, None, bytes]:
        while (at := self._buffer.find(end)) < 0:
            yield
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return found

    def _exactly(self, count: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < count:
            yield
        found = bytes(self._buffer[:count])
        del self._buffer[:count]
        return found


def _short(body: bytes) -> str:
    return repr(body) if len(body) < 400 else f"{body[:200]!r} ... {body[-100:]!r} ({len(body)} bytes)"


# ---- sessions -------------------------------------------------------------------------------------------------------


def run(session: Session) -> None:
    """One connection from its beginning to its end."""
    rng = session.rng
    deed = rng.choices(["whole", "half close", "vanish", "lone"], [8, 2, 3, 2])[0]
    if deed == "half close" and session.context is not None:
        deed = "whole"
    if deed == "lone":
        _lone(session)
    else:
        _pipeline(session, deed)


def _pipeline(session: Session, deed: str) -> None:
    rng = session.rng
    asks = [random_ask(rng, session.name(i)) for i in range(rng.choice([1, 2, 3, rng.randrange(1, 15)]))]
    if deed == "half close":
        asks = [ask for ask in asks if ask.way not in LEAVE] or [
            handled_ask(rng, session.name(0), "plain", "end")
        ]
    final = deed == "whole" and rng.random() < 0.4
    if final:
        asks.append(final_ask(rng, session.name(len(asks))))
    unread = False
    if deed == "vanish" and rng.random() < 0.3:
        kind = rng.choice(["plain", "async"])
        asks.append(handled_ask(rng, session.name(len(asks)), kind, "never"))
        if unread := rng.random() < 0.3:
            # It leaves behind a whole body, of which the server reads a part and the kernel takes the rest.
            asks[-1] = replace(asks[-1], length=rng.randrange(70_000, 100_000))
    last = deed == "whole" and not final and rng.random() < 0.5
    data = bytearray()
    for ask in asks:
        data += b"".join(rendered(rng, ask, last=last and ask is asks[-1]))
    reader = Reader(asks, last or final or deed == "half close")
    answers = sum(len(ask.expected.body or b"") for ask in asks)
    with session.connect(random_pace(rng, len(data), answers)) as wire:
        wire.on_data = reader.feed
        if deed == "vanish" and not unread:
            wire.leave_after = rng.randrange(len(data) + rng.choice([1, answers + 1]))
        wire.say(bytes(data))
        try:
            if deed == "half close":
                wire.pump(lambda: wire.idle)
                wire.half_close()
            if asks[-1].way == "never":
                wire.pump(
                    lambda: reader.done or (reader.answers == len(asks) - 1 and (wire.idle or not unread))
                )
                raise Gone
            _finish(wire, reader, deed)
        except Gone:
            _leave(wire, rng)
        if deed == "whole" and not reader.ends:
            _again(session, wire, reader)


def _finish(wire: Wire, reader: Reader, deed: str) -> None:
    try:
        wire.pump(lambda: reader.done)
    except Hang as hang:
        asks = [f"{ask.method} {ask.target}" for ask in reader.asks]
        raise Hang(f"an answer to each of {asks}", f"{reader.answers} answers, then {hang.got}") from None
    except Ended as ended:
        reader.finish(str(ended))
        if not reader.done:
            raise
    if deed == "vanish":
        raise Gone


def _again(session: Session, wire: Wire, reader: Reader) -> None:
    """As many responses as requests: extra bytes would look like the response to this one."""
    ask = handled_ask(session.rng, session.name(len(reader.asks)), "plain", "end")
    after = Reader([ask], False)
    wire.on_data = after.feed
    # The pace was one for what there was to send before.
    wire.pace = Pace()
    wire.say(b"".join(rendered(session.rng, ask)))
    _finish(wire, after, "whole")


def _leave(wire: Wire, rng: random.Random) -> None:
    if rng.random() < 0.6:
        wire.reset()
    elif not wire.secure and rng.random() < 0.3:
        wire.half_close()


def _lone(session: Session) -> None:
    """Requests one by one, some of which ask whether they may go on."""
    rng = session.rng
    with session.connect(random_pace(rng, 20_000, 500_000)) as wire:
        generations: dict[str, int] = {}
        for index in range(rng.randrange(1, 6)):
            ask = random_ask(rng, session.name(index))
            expect = ask.kind != "core" and bool(ask.length) and rng.random() < 0.5
            reader = Reader([ask], False)
            reader.generations = generations
            wire.on_data = reader.feed
            head, body = rendered(rng, ask, expect=expect)
            wire.say(head)
            if expect:
                _ask_first(wire, reader)
            wire.say(body)
            _finish(wire, reader, "whole")
            wire.hold(rng.choice([0, 0, 0.01]))


def _ask_first(wire: Wire, reader: Reader) -> None:
    """Waits for `100 Continue`, or for a response without it; then the body may still follow."""
    wire.pump(lambda: bool(reader.interim) or reader.done, what="100 Continue")


__all__ = ["Pace", "Reader", "rendered", "run"]
