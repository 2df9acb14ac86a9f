"""The requests to the server under test, and their expected results. Clients and server share this file, and
nothing else: a body is known to both by its name, so neither has to tell the other the expected bytes."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Static files by number, and how many bytes each has.
FILES = (0, 1, 1000, 16_384, 70_000, 400_000)
#: The body of ``/core/constant``.
CONSTANT = b"the same for everybody\n" * 20
#: Bytes of a body beyond which ``/core/large`` sends 413.
LARGE = 2000

#: Plain handlers, and whether each reads the body of its request.
PLAIN = {
    "end": False,
    "send": False,
    "write": False,
    "cork": False,
    "slow": False,
    "thread": False,
    "callback": False,
    "timer": False,
    "yields": False,
    "error": False,
    "tried": False,
    "publish": False,
    "file": False,
    "changing": False,
    "data": True,
    "early": False,
}
#: Coroutines.
ASYNC = {
    "end": False,
    "sleep": False,
    "late": False,
    "worker": False,
    "offload": False,
    "yields": False,
    "error": False,
    "chunks": False,
    "iterable": False,
    "drain": False,
    "publish": False,
    "file": False,
    "changing": False,
    "data": True,
    "text": True,
    "body": True,
    "stream": True,
    "pieces": True,
}
#: Responses without Python.
CORE = ("constant", "missing", "static", "range", "added", "domain")
#: Handlers that treat a client which shuts its sending side as gone, as documented.
LEAVE = ("iterable",)
#: Both kinds have handlers that end the connection, or their part of the response; no request can follow
#: them.
FINAL = ("closing", "broken", "cut")
#: Refusals of the core that end the connection.
REFUSED = ("bad", "version", "large")


def content(name: str, size: int) -> bytes:
    """The bytes that everybody means by a name."""
    return random.Random(name).randbytes(size)


def told(body: bytes) -> str:
    """A handler's summary of a body that it has read."""
    return f"{len(body)} {zlib.crc32(body)}"


def answered(name: str, method: str, padding: int, read: str, size: int) -> bytes:
    """The whole body of a response.

    Args:
        name: The id of the request.
        method: How it was asked.
        padding: Length of the header ``X-Pad``.
        read: The result of :func:`told` for the body, ``-`` if it was not read.
        size: How many bytes follow.
    """
    return f"{name} {method} {padding} {read}\n".encode() + content(name, size)


@dataclass(frozen=True)
class Expected:
    """The expected result."""

    status: int
    #: The body of the response, None if any is right.
    body: bytes | None
    #: ``X-Id`` of the response; None for responses without Python, which have no ids.
    id: str | None
    #: ``whole``; ``part`` where the response breaks off; ``none`` where the connection, or the stream, ends without one.
    extent: str = "whole"
    #: Whether the connection of HTTP/1.1 ends behind it.
    closes: bool = False


@dataclass(frozen=True)
class Ask:
    """One request."""

    id: str
    kind: str
    way: str
    method: str = "GET"
    #: Bytes of the response's content.
    size: int = 0
    #: The number of pieces of the response.
    pieces: int = 1
    #: Milliseconds that a slow handler takes.
    wait: float = 0
    #: Bytes of a header that has no other purpose.
    padding: int = 0
    #: Bytes of the body, None for none.
    length: int | None = None
    #: Number of a file, generation of a route.
    number: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes | None:
        return None if self.length is None else content(f"body of {self.id}", self.length)

    @property
    def target(self) -> str:
        if self.kind == "core":
            return self._core_target()
        query = f"size={self.size}&pieces={self.pieces}&wait={self.wait}&number={self.number}"
        return f"/{self.kind}/{self.way}/{self.id}?{query}"

    def _core_target(self) -> str:
        match self.way:
            case "static" | "range":
                return f"/static/file{self.number}"
            case "added":
                return f"/added/{self.number}"
            case "domain":
                return "/domain"
            case way:
                return f"/core/{way}"

    @property
    def expected(self) -> Expected:
        if self.kind == "core":
            return self._core_expected()
        if self.way == "cut":
            return Expected(200, None, self.id, "none", closes=True)
        if self.way == "file":
            return Expected(200, content(f"file{self.number}", FILES[self.number]), self.id)
        if self.way == "changing":
            # Any of the handlers may respond; the client checks the generation.
            return Expected(200, None, self.id)
        reads = (PLAIN if self.kind == "plain" else ASYNC).get(self.way, False)
        read = told(self.body or b"") if reads else "-"
        body = answered(self.id, self.method, self.padding, read, self.size)
        if self.way == "broken":
            return Expected(200, body, self.id, "part", closes=True)
        return Expected(500 if self.way == "error" else 200, body, self.id, closes=self.way == "closing")

    def _core_expected(self) -> Expected:
        match self.way:
            case "constant":
                return Expected(200, CONSTANT, None)
            case "static":
                return Expected(200, content(f"file{self.number}", FILES[self.number]), None)
            case "range":
                first, last = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
                return Expected(
                    206, content(f"file{self.number}", FILES[self.number])[first : last + 1], None
                )
            case "added" | "domain":
                return Expected(200, None, None)
            case "bad":
                return Expected(400, None, None, closes=True)
            case "version":
                return Expected(505, None, None, closes=True)
            case "large":
                return Expected(413, None, None, closes=True)
            case _:
                return Expected(404, None, None)


def random_ask(rng: random.Random, name: str) -> Ask:
    """Any request that leaves its connection open."""
    kind = rng.choices(["plain", "async", "core"], [5, 5, 2])[0]
    if kind == "core":
        return _core_ask(rng, name)
    way = rng.choice(list(PLAIN if kind == "plain" else ASYNC))
    return handled_ask(rng, name, kind, way)


def handled_ask(rng: random.Random, name: str, kind: str, way: str) -> Ask:
    """A request to one way of a kind, all else being random."""
    length = None
    if rng.random() < 0.5:
        length = rng.choice([0, 1, rng.randrange(100), rng.randrange(5000), rng.randrange(100_000)])
    size = rng.choice([0, rng.randrange(200), rng.randrange(20_000), rng.randrange(20_000)])
    if rng.random() < 0.03:
        size = rng.randrange(1_000_000)
    return Ask(
        id=name,
        kind=kind,
        way=way,
        method=rng.choices(
            ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "PROPFIND"], [8, 8, 3, 2, 2, 1, 1]
        )[0],
        size=size,
        pieces=rng.choice([1, 2, 3, 10]),
        wait=rng.choice([0, 0, 1, 3, rng.randrange(30)]) if kind == "async" else rng.choice([0, 0, 1, 2]),
        padding=rng.choice([0, 0, 10, 3000]),
        length=length,
        number=rng.randrange(len(FILES)),
    )


def final_ask(rng: random.Random, name: str) -> Ask:
    """A request behind which the connection ends."""
    if rng.random() < 0.3:
        way = rng.choice(REFUSED)
        return Ask(id=name, kind="core", way=way, method="POST", length=LARGE * 2 if way == "large" else None)
    ask = handled_ask(rng, name, rng.choice(["plain", "async"]), rng.choice(FINAL))
    return Ask(ask.id, ask.kind, ask.way, "GET", ask.size + 1000, ask.pieces, ask.wait, ask.padding)


def _core_ask(rng: random.Random, name: str) -> Ask:
    way = rng.choice(CORE)
    number = rng.randrange(2, len(FILES))
    headers = {}
    if way == "range":
        first = rng.randrange(FILES[number])
        headers = {"Range": f"bytes={first}-{rng.randrange(first, FILES[number])}"}
    if way == "domain":
        headers = {"Host": "chaos.example"}
    length = rng.choice([None, None, 10, 3000])
    method = "GET" if way == "range" else rng.choice(["GET", "GET", "GET", "HEAD"])
    return Ask(id=name, kind="core", way=way, method=method, length=length, number=number, headers=headers)
