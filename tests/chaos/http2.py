"""Clients of HTTP/2, over the ``h2`` package: many streams at a time, in both directions, some of which are given up."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from asks import REFUSED, Ask, Expected, final_ask, handled_ask, random_ask
from session import Session
from wire import Ended, Gone, Hang, Wire, Wrong, random_pace


@dataclass
class Stream:
    """A request and the received part of its response."""

    ask: Ask
    expected: Expected
    #: What of the body has not been sent.
    rest: bytes
    #: Bytes received after which the client resets it.
    give_up: int | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    #: Bytes that the server may not count on yet.
    held: int = 0
    over: bool = False


class Connection:
    """One connection, and the requests that are to go over it."""

    def __init__(self, session: Session, wire: Wire, asks: list[Ask]) -> None:
        self.rng = session.rng
        self.wire = wire
        self.waiting = asks
        self.streams: dict[int, Stream] = {}
        self.stopped = session.stopping
        self.most = self.rng.choice([1, 3, 30])
        self.secure = wire.secure
        #: Bytes of a window that are kept back before the server gets them again.
        self.thrift = self.rng.choice([0, 0, 10_000])
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self.h2.initiate_connection()
        if self.rng.random() < 0.3:
            # Every answer in some hundred pieces at most, also that of a file.
            least = max(10, max(len(ask.expected.body or b"") for ask in asks) // 300)
            window = self.rng.choice([self.thrift + least, self.thrift + 1000 + least, 1 << 20])
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.wire.on_data = self._feed
        self.pings = 0

    def advance(self) -> bool:
        """Opens streams, sends bodies as far as windows allow; returns whether everything is over."""
        going = [stream for stream in self.streams.values() if not stream.over]
        while self.waiting and len(going) < self.most:
            going.append(self._begin(self.waiting.pop(0)))
        for number, stream in self.streams.items():
            if stream.rest and not stream.over:
                self._send(number, stream)
        data = self.h2.data_to_send()
        if data:
            self.wire.say(data)
        return not going and not self.waiting and not self.pings

    def _begin(self, ask: Ask) -> Stream:
        number = self.h2.get_next_available_stream_id()
        headers = [
            (":method", ask.method),
            (":scheme", "https" if self.secure else "http"),
            (":path", ask.target),
            (":authority", ask.headers.get("Host", "chaos")),
        ]
        headers += [(name.lower(), value) for name, value in ask.headers.items() if name != "Host"]
        if ask.padding:
            headers.append(("x-pad", "p" * ask.padding))
        body = ask.body
        if body and self.rng.random() < 0.5:
            headers.append(("content-length", str(len(body))))
        self.h2.send_headers(number, headers, end_stream=not body)
        stream = Stream(ask, ask.expected, body or b"")
        if ask.way == "never" or self.rng.random() < 0.08:
            stream.give_up = 0 if ask.way == "never" else self.rng.randrange(ask.size + 100)
        self.streams[number] = stream
        if self.rng.random() < 0.1:
            self.pings += 1
            self.h2.ping(self.rng.randbytes(8))
        if stream.give_up == 0 or (stream.give_up is not None and self.rng.random() < 0.3):
            self._reset(number, stream)
        return stream

    def _send(self, number: int, stream: Stream) -> None:
        room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
        size = min(room, len(stream.rest), self.rng.choice([300, 5000, 1 << 20]))
        if size <= 0:
            return
        piece, stream.rest = stream.rest[:size], stream.rest[size:]
        self.h2.send_data(number, piece, end_stream=not stream.rest)

    def _reset(self, number: int, stream: Stream) -> None:
        stream.over = True
        stream.rest = b""
        self._acknowledge(number, stream, 0)
        # Its end may have come in the same segment.
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            self.h2.reset_stream(number, self.rng.choice([0, 8]))

    # ---- received frames ------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            if self.stopped.is_set():
                # The package accepts nothing more after GOAWAY, not even in the same segment.
                raise Ended("GOAWAY") from error
            raise Wrong("frames by RFC 9113", repr(error)) from error
        for event in events:
            self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            if event.error_code or not self.stopped.is_set():
                raise Wrong("no end of the connection", repr(event))
            raise Ended("GOAWAY")
        if isinstance(event, h2.events.PingAckReceived):
            self.pings -= 1
        number = getattr(event, "stream_id", None)
        if not number or number not in self.streams:
            return
        stream = self.streams[number]
        if isinstance(event, h2.events.DataReceived):
            # Also for streams that were given up: the connection's window is everybody's.
            self._acknowledge(number, stream, event.flow_controlled_length)
        if stream.over:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = {str(name): str(value) for name, value in event.headers}
            stream.status = int(stream.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
        elif isinstance(event, h2.events.StreamEnded):
            stream.over = True
            # Held-back credit would be missing in the connection's window.
            self._acknowledge(number, stream, 0)
            self._check(number, stream)
        elif isinstance(event, h2.events.StreamReset):
            self._was_reset(number, stream, int(event.error_code))
        if stream.give_up is not None and not stream.over and len(stream.body) >= stream.give_up > 0:
            self._reset(number, stream)

    def _acknowledge(self, number: int, stream: Stream, count: int) -> None:
        stream.held += count
        if stream.held > self.thrift or (stream.over and stream.held):
            self.h2.acknowledge_received_data(stream.held, number)
            stream.held = 0

    def _was_reset(self, number: int, stream: Stream, code: int) -> None:
        stream.rest = b""
        stream.over = True
        if stream.expected.extent == "whole" and not (code == 0 and stream.status):
            raise Wrong(f"an answer to {self._where(number, stream)}", f"RST_STREAM with {code}")

    def state(self) -> str:
        """The missing parts."""
        going = [
            f"{self._where(number, stream)} ({stream.status}, {len(stream.body)} bytes came, {len(stream.rest)} not sent, "
            f"{stream.held} of its window kept back)"
            for number, stream in self.streams.items()
            if not stream.over
        ]
        windows = (
            f"{self.h2.outbound_flow_control_window} and {self.h2.inbound_flow_control_window} in the windows"
        )
        return f"open: {going}, waiting: {len(self.waiting)}, pings: {self.pings}, {windows}"

    def _where(self, number: int, stream: Stream) -> str:
        return f"stream {number}, {stream.ask.method} {stream.ask.target}"

    def _check(self, number: int, stream: Stream) -> None:
        expected, where = stream.expected, self._where(number, stream)
        if expected.extent != "whole":
            raise Wrong(f"a reset of {where}", f"a whole answer, {stream.status}")
        if stream.status != expected.status:
            raise Wrong(
                f"{expected.status} to {where}", f"{stream.status} {stream.headers} {stream.body[:300]!r}"
            )
        if stream.headers.get("x-id") != expected.id:
            raise Wrong(f"x-id: {expected.id} to {where}", str(stream.headers))
        body = b"" if stream.ask.method == "HEAD" else expected.body
        if body is not None and bytes(stream.body) != body:
            raise Wrong(
                f"{len(body)} bytes to {where}: {body[:200]!r}", f"{len(stream.body)}: {stream.body[:200]!r}"
            )


def run(session: Session) -> None:
    """One connection from its beginning to its end."""
    rng = session.rng
    asks = [_ask(rng, session.name(index)) for index in range(rng.choice([1, 3, rng.randrange(1, 40)]))]
    pace = random_pace(rng, sum(ask.length or 0 for ask in asks) + 1000, sum(ask.size for ask in asks))
    with session.connect(pace, "h2") as wire:
        if rng.random() < 0.2:
            wire.leave_after = rng.randrange(50_000)
        connection = Connection(session, wire, asks)
        try:
            wire.pump(connection.advance, what="all streams")
            _goodbye(session, wire, connection)
        except Hang as hang:
            raise Hang("an answer on each stream", f"{hang.got}; {connection.state()}") from None
        except Gone:
            if rng.random() < 0.6:
                wire.reset()
            return
        except Ended as ended:
            going = {number for number, stream in connection.streams.items() if not stream.over}
            raise Wrong(f"answers on {going}", f"the end of the connection: {ended}") from ended


def _goodbye(session: Session, wire: Wire, connection: Connection) -> None:
    """Sends GOAWAY, sometimes, and reads the end of the connection."""
    if session.rng.random() < 0.5:
        connection.h2.close_connection()
        wire.say(connection.h2.data_to_send())
        wire.on_data = lambda data: None
        wire.pump(lambda: wire.end is not None, what="the end of the connection after GOAWAY")


def _ask(rng: random.Random, name: str) -> Ask:
    kind = rng.random()
    if kind < 0.05:
        ask = final_ask(rng, name)
        # There is no syntax to offend, and a stream that ends is no connection that does.
        return ask if ask.way not in REFUSED else random_ask(rng, name)
    if kind < 0.1:
        return handled_ask(rng, name, rng.choice(["plain", "async"]), "never")
    return random_ask(rng, name)
