"""The context of every client: the server's address, a random generator of its own, and its reports."""

from __future__ import annotations

import random
import ssl
import threading
from dataclasses import dataclass, field

from wire import Pace, Wire


@dataclass
class Session:
    """One conversation, which another run repeats from the same seed."""

    seed: int
    worker: str
    number: int
    port: int
    #: How the server is trusted; None without TLS.
    contexts: dict[str, ssl.SSLContext]
    #: Set when the server has to stop: then connections end.
    stopping: threading.Event
    wires: list[Wire] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed}/{self.worker}/{self.number}")

    def __str__(self) -> str:
        return f"{self.worker}/{self.number}"

    def name(self, index: int) -> str:
        """The id of a request of this session."""
        return f"{self.worker}.{self.number}.{index}"

    @property
    def context(self) -> ssl.SSLContext | None:
        return self.contexts.get("http/1.1")

    def connect(self, pace: Pace | None = None, protocol: str = "http/1.1") -> Wire:
        wire = Wire(self.port, self.contexts.get(protocol), pace or Pace(), protocol)
        self.wires.append(wire)
        return wire
