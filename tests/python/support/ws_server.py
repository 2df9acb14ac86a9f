"""Sockets whose server side the test holds, and a client's half of permessage-deflate, written down with zlib."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any

from socketify import App, SendStatus
from support import until
from support.ws_client import CONTINUATION, TEXT, Frame, WebSocketClient

#: What RFC 7692 7.2.1 has removed from the end of each message.
TAIL = b"\x00\x00\xff\xff"
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"


class Held:
    """A route whose sockets the test calls itself: from its own thread, which is none of the application's."""

    def __init__(
        self,
        serve: Callable[..., Any],
        *,
        configure: Callable[[App], object] | None = None,
        app: dict[str, Any] | None = None,
        **behavior: Any,
    ) -> None:
        self.sockets: list[Any] = []
        self._opened = behavior.pop("open", None)

        def setup(application: App) -> None:
            if configure is not None:
                configure(application)
            application.ws("/", behavior | {"open": self._open})

        self.running = serve(setup, **(app or {}))

    def _open(self, ws: Any) -> None:
        if self._opened is not None:
            self._opened(ws)
        self.sockets.append(ws)

    @property
    def app(self) -> Any:
        return self.running.app

    def connect(self, **options: Any) -> tuple[WebSocketClient, Any]:
        """Both sides of a new socket."""
        before = len(self.sockets)
        client = self.running.websocket(**options)
        until(lambda: len(self.sockets) > before, "open")
        return client, self.sockets[before]

    def slow(self) -> tuple[WebSocketClient, Any]:
        """Both sides of a socket whose client is soon felt when it does not read."""
        return self.connect(receive_buffer=4096)


def fill(ws: Any, payload: bytes = b"x" * 16_384) -> int:
    """Sends until a message is dropped; returns how many were not."""
    for count in range(10_000):
        if ws.send(payload) == SendStatus.DROPPED:
            return count
    raise AssertionError("nothing is ever dropped")


def settle(ws: Any) -> int:
    """Waits until the kernel takes no more; returns the number of remaining bytes."""
    seen = [-1] * 20

    def steady() -> bool:
        seen.append(ws.get_buffered_amount())
        return len(set(seen[-20:])) == 1

    until(steady, "the kernel to be full")
    return seen[-1]


class Deflate:
    """A client with permessage-deflate, as strict as its windows allow."""

    def __init__(self, client: WebSocketClient) -> None:
        self.client = client
        name, *rest = [part.strip() for part in (client.extensions or "").split(";")]
        assert name == "permessage-deflate", f"not agreed: {client.extensions}"
        self.parameters = {key: value for key, _, value in (part.partition("=") for part in rest)}
        self.server_bits = int(self.parameters.get("server_max_window_bits", 15))
        self.client_bits = int(self.parameters.get("client_max_window_bits", 15))
        self.server_remembers = "server_no_context_takeover" not in self.parameters
        self.client_remembers = "client_no_context_takeover" not in self.parameters
        self._inflate = zlib.decompressobj(-self.server_bits)
        self._deflate = self._compressor()

    def _compressor(self) -> Any:
        return zlib.compressobj(9, zlib.DEFLATED, -self.client_bits)

    def inflate(self, payload: bytes) -> bytes:
        """A message; without takeover each one stands alone. zlib refuses what reaches beyond the window."""
        if not self.server_remembers:
            self._inflate = zlib.decompressobj(-self.server_bits)
        found = self._inflate.decompress(payload + TAIL)
        assert not self._inflate.unconsumed_tail
        assert not self._inflate.unused_data
        return found

    def deflate(self, payload: bytes) -> bytes:
        if not self.client_remembers:
            self._deflate = self._compressor()
        found: bytes = self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        assert found.endswith(TAIL)
        return found[: -len(TAIL)]

    def send(self, opcode: int, payload: bytes) -> None:
        self.client.send_frame(opcode, self.deflate(payload), rsv=4)

    def receive(self) -> tuple[bool, int, bytes]:
        """The next whole frame: whether it was compressed, its opcode, and its payload."""
        frame = self.client.recv_frame()
        assert frame.fin
        return frame.rsv1, frame.opcode, self.inflate(frame.payload) if frame.rsv1 else frame.payload

    def message(self) -> str | bytes:
        """The next message, compressed or not."""
        _, opcode, payload = self.receive()
        return payload.decode() if opcode == TEXT else payload


def parts(frames: Iterable[Frame]) -> bytes:
    """A fragmented message, which must be all there is."""
    first, *rest = frames
    assert not first.fin
    assert [frame.opcode for frame in rest] == [CONTINUATION] * len(rest)
    assert [frame.fin for frame in rest] == [False] * (len(rest) - 1) + [True]
    return b"".join(frame.payload for frame in (first, *rest))
