"""One connection of a client: bytes out at a random pace, bytes in at another, a limit for hangs, and a transcript."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Seconds without a byte in either direction after which a client reports a hang.
HANG = 45.0
#: Bytes of a read or write that a report shows, and how many of these from the beginning and from the end.
SHOWN, PARTS = 1000, 30


class Wrong(Exception):
    """The server has done something that it must not."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}; got {got}")
        self.expected = expected
        self.got = got


class Hang(Wrong):
    """Nothing has come for too long."""


class Ended(Exception):
    """The server has ended the connection; the reader decides whether it may."""


class Gone(Exception):
    """The client has left, as it meant to."""


@dataclass(frozen=True)
class Pace:
    """How a client moves its bytes."""

    #: Most bytes of one write, and seconds to wait before each.
    write: int = 1 << 20
    write_pause: float = 0
    #: Most bytes of one read, and seconds to wait before each.
    read: int = 1 << 16
    read_pause: float = 0
    #: Size of the receive buffer that the system is asked for.
    buffer: int | None = None

    @property
    def slow(self) -> bool:
        return self.buffer is not None


def random_pace(rng: random.Random, sent: int, received: int) -> Pace:
    """Any pace at which so many bytes are sent, and so many received, within some seconds."""
    match rng.randrange(8):
        case 0:
            # Some hundred segments, split at any byte.
            return Pace(write=max(1, sent // rng.randrange(20, 200)), write_pause=rng.choice([0, 0.0005]))
        case 1:
            return Pace(write=max(sent // 20, 1), write_pause=0.01)
        case 2:
            read = max(rng.randrange(2000, 20_000), received // 500)
            return Pace(read=read, read_pause=rng.choice([0.0005, 0.003]), buffer=4096)
        case 3:
            return Pace(read=max(rng.randrange(1, 500), received // 1000))
        case _:
            return Pace()


class Transcript:
    """The bytes of a connection: its beginning, with the requests, and its end, with the failure."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=PARTS)
        self._count = 0

    def note(self, direction: str, data: bytes) -> None:
        shown = repr(data)
        if len(data) > SHOWN:
            shown = f"{data[: SHOWN // 2]!r} [{len(data) - SHOWN} bytes] {data[-SHOWN // 2 :]!r}"
        line = f"    {time.monotonic() - self._begun:8.3f} s {direction} {shown}"
        self._count += 1
        if len(self._first) < PARTS:
            self._first.append(line)
        else:
            self._last.append(line)

    def __str__(self) -> str:
        left_out = self._count - len(self._first) - len(self._last)
        return "\n".join([*self._first, *([f"    [{left_out} more]"] if left_out else []), *self._last])


class Wire:
    """One connection, on which nothing ever blocks beyond the limit for hangs."""

    def __init__(
        self, port: int, context: ssl.SSLContext | None, pace: Pace, protocol: str = "http/1.1"
    ) -> None:
        self.pace = pace
        self.transcript = Transcript()
        self.sent = self.received = 0
        #: Called with received bytes.
        self.on_data: Callable[[bytes], object] = lambda data: None
        #: Why no more bytes come: "eof" or "reset".
        self.end: str | None = None
        #: Where the client goes away: this many bytes sent and received together.
        self.leave_after: int | None = None
        self._outbox = bytearray()
        self._hold_until = 0.0
        self._read_due = self._write_due = 0.0
        self._write_failed = False
        self.socket = socket.socket()
        self.socket.settimeout(HANG)
        if pace.buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, pace.buffer)
        self.secure = context is not None
        try:
            self.socket.connect(("127.0.0.1", port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self._shake_hands(context, protocol)
        except (ConnectionError, ssl.SSLError) as error:
            self.socket.close()
            raise Ended(f"no connection: {error}") from None
        except TimeoutError:
            self.socket.close()
            raise Hang("a connection", f"none for {HANG} s") from None
        except BaseException:
            self.socket.close()
            raise
        self.socket.setblocking(False)

    def _shake_hands(self, context: ssl.SSLContext, protocol: str) -> None:
        secure = context.wrap_socket(self.socket, server_hostname="localhost", suppress_ragged_eofs=False)
        self.socket = secure
        if secure.selected_alpn_protocol() != protocol:
            raise Wrong(f"{protocol} by ALPN", str(secure.selected_alpn_protocol()))

    # ---- conversation ---------------------------------------------------------------------------------------------------

    def say(self, data: bytes) -> None:
        """Queues bytes; :meth:`pump` sends them."""
        if not self._write_failed:
            self._outbox += data

    def hold(self, seconds: float) -> None:
        """Sends nothing for so long."""
        self._hold_until = time.monotonic() + seconds

    @property
    def idle(self) -> bool:
        """Whether all has been sent that was to be."""
        return not self._outbox

    def pump(self, until: Callable[[], bool], what: str = "an answer") -> None:
        """Sends and receives until a condition holds.

        Raises:
            Ended: The server has ended the connection, and the condition does not hold.
            Gone: The client has sent and received as much as it meant to.
            Wrong: Nothing has happened for too long.
        """
        hang = HANG
        limit = time.monotonic() + hang
        while not until():
            if self.end is not None:
                raise Ended(self.end)
            moved = self._step()
            if self.leave_after is not None and self.sent + self.received >= self.leave_after:
                raise Gone
            now = time.monotonic()
            if moved:
                limit = now + hang
            elif now > limit:
                raise Hang(what, f"nothing for {hang} s, with {len(self._outbox)} bytes not taken")

    def _step(self) -> bool:
        now = time.monotonic()
        moved = False
        if now >= self._read_due:
            moved |= self._read(now)
        if self._outbox and self.end is None and now >= max(self._write_due, self._hold_until):
            moved |= self._write(now)
        if not moved:
            self._wait(now)
        return moved

    def _wait(self, now: float) -> None:
        """Waits until something can be done, or is due; a condition may also come true by itself."""
        reading, writing, pause = [], [], 0.05
        if now >= self._read_due:
            reading.append(self.socket)
        else:
            pause = min(pause, self._read_due - now)
        due = max(self._write_due, self._hold_until)
        if self._outbox and now >= due:
            writing.append(self.socket)
        elif self._outbox:
            pause = min(pause, due - now)
        select.select(reading, writing, [], pause)

    def _read(self, now: float) -> bool:
        try:
            data = self.socket.recv(self.pace.read)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            data = b""
        except OSError as error:
            self.end = "reset"
            self.transcript.note("<", f"[{type(error).__name__}: {error}]".encode())
            return True
        if not data:
            self.end = "eof"
            self.transcript.note("<", b"[end]")
            return True
        self.received += len(data)
        self.transcript.note("<", data)
        self._read_due = now + self.pace.read_pause
        self.on_data(data)
        return True

    def _write(self, now: float) -> bool:
        size = self.pace.write
        if self.leave_after is not None:
            size = min(size, max(1, self.leave_after - self.sent - self.received))
        data = bytes(self._outbox[:size])
        try:
            count = self.socket.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            # The next read reports its state.
            self._write_failed = True
            self._outbox.clear()
            return True
        del self._outbox[:count]
        self.sent += count
        self.transcript.note(">", data[:count])
        self._write_due = now + self.pace.write_pause
        return True

    # ---- the end --------------------------------------------------------------------------------------------------------

    def half_close(self) -> None:
        """Shuts the sending side."""
        self.transcript.note(">", b"[end]")
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanishes."""
        self.transcript.note(">", b"[reset]")
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
