"""A client of HTTP/2 that is driven event by event, over the ``h2`` package: what no usual client would do, it does."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings

Headers = list[tuple[str, str]]


@dataclass
class Stream:
    """The received part of one stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    #: Statuses of interim answers.
    interim: list[int] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] = field(default_factory=dict)
    #: The server has ended it in order.
    ended: bool = False
    #: The code of RST_STREAM.
    reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class H2Client:
    """One connection, over TCP in plain text with prior knowledge unless it is given a socket."""

    def __init__(
        self,
        port: int,
        *,
        window: int | None = None,
        settings: dict[int, int] | None = None,
        acknowledge: bool = True,
        sock: socket.socket | None = None,
    ) -> None:
        self.socket = sock or socket.create_connection(("127.0.0.1", port), timeout=20)
        # The frames may break rules: the server has to notice.
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        if settings:
            self.h2.update_settings(settings)
        #: Whether received data returns the server's window.
        self.acknowledge = acknowledge
        self.streams: dict[int, Stream] = {}
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.settings: dict[int, int] = {}
        self.closed = False
        self.flush()

    def __enter__(self) -> H2Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def request(
        self,
        path: str = "/",
        method: str = "GET",
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        end: bool | None = None,
        authority: str | None = "example.org",
        scheme: str = "http",
        flush: bool = True,
        pseudo: Headers | None = None,
    ) -> int:
        """Begins a stream; gives its number. Without ``end`` it ends with its body, or at once."""
        number = self.h2.get_next_available_stream_id()
        if pseudo is None:
            pseudo = [(":method", method), (":scheme", scheme), (":path", path)]
            if authority is not None:
                pseudo.append((":authority", authority))
        done = body is None if end is None else end and body is None
        self.h2.send_headers(number, [*pseudo, *headers], end_stream=done)
        self.streams[number] = Stream()
        if flush:
            self.flush()
        if body is not None:
            self.send(number, body, end=end is not False)
        return number

    def send(self, number: int, body: bytes, end: bool = False) -> None:
        """Sends data, as fast as the server's window allows."""
        rest = memoryview(body)
        while True:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            piece = rest[:room]
            if len(piece) == len(rest):
                self.h2.send_data(number, bytes(piece), end_stream=end)
                self.flush()
                return
            if piece:
                self.h2.send_data(number, bytes(piece))
                rest = rest[len(piece) :]
                self.flush()
            else:
                self.receive()
                assert not self.streams[number].over, f"stream {number} ended: {self.streams[number]}"

    def receive(self) -> list[Any]:
        """Waits for bytes, and gives the events in them; none when the server has closed."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return []
        events = list(self.h2.receive_data(data))
        for event in events:
            self._note(event)
        if not self.goaway:
            # A server that has closed is seen by the next reading.
            with contextlib.suppress(ConnectionError):
                self.flush()
        return events

    def _note(self, event: Any) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
            return
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settings |= {int(code): change.new_value for code, change in event.changed_settings.items()}
            return
        stream = self.streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        if isinstance(event, h2.events.InformationalResponseReceived):
            stream.interim.append(int(dict(event.headers)[":status"]))
        elif isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
            stream.status = int(stream.headers.pop(":status"))
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            if self.acknowledge and event.flow_controlled_length and not self.goaway:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)

    def until(self, condition: Any) -> None:
        """Receives until ``condition()`` holds."""
        while not condition():
            if not self.receive():
                assert not self.closed or condition(), f"closed first: {self.streams}, {self.goaway}"

    def answer(self, number: int) -> Stream:
        """Waits for the end of a stream."""
        stream = self.streams[number]
        self.until(lambda: stream.over)
        return stream

    def get(self, path: str = "/", **options: Any) -> Stream:
        return self.answer(self.request(path, **options))

    def until_closed(self) -> None:
        """Receives until the server closes the connection."""
        while not self.closed:
            self.receive()
