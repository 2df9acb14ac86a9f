"""The counts of the server under test, and its forbidden observations."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any


class Counts:
    """All of it behind one lock: handlers run on several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The failures, in words.
        self.faults: list[str] = []
        #: Handlers that have been called and have not come to their end.
        self.running: Counter[str] = Counter()
        self.requests = 0
        self.aborted = 0
        #: Sockets that were opened and not closed, and the expected arguments of their close listener.
        self.open: dict[str, str] = {}
        self.opened = self.closed = 0
        #: Subscriptions, from their listeners.
        self.subscribed: Counter[str] = Counter()
        #: Handlers that were registered to be replaced, and how many of them are gone.
        self.registered = 0
        self._gone: list[None] = []
        #: The server has been told to stop, so sockets may end at any time.
        self.stopping = False
        #: The number of the last message that each publisher has begun to publish to a topic, and has published.
        self.begun: dict[tuple[str, str], int] = {}
        self.published: dict[tuple[str, str], int] = {}

    def fault(self, text: str) -> None:
        with self._lock:
            if len(self.faults) < 100:
                self.faults.append(text)

    # ---- requests -------------------------------------------------------------------------------------------------------

    def entered(self, url: str) -> None:
        with self._lock:
            self.running[url] += 1
            self.requests += 1

    def left(self, url: str) -> None:
        with self._lock:
            self.running[url] -= 1
            if not self.running[url]:
                del self.running[url]

    def watched(self, name: str) -> Callable[[Any], None]:
        """A listener for ``on_aborted`` that may be called once."""
        calls = 0

        def aborted(_: Any) -> None:
            nonlocal calls
            calls += 1
            with self._lock:
                self.aborted += 1
            if calls > 1:
                self.fault(f"on_aborted of {name}: expected once; got {calls} calls")

        return aborted

    # ---- sockets --------------------------------------------------------------------------------------------------------

    def socket_opened(self, name: str, expected: str) -> None:
        with self._lock:
            twice = name in self.open
            self.open[name] = expected
            self.opened += 1
        if twice:
            self.fault(f"open of {name}: expected once; got it again")

    def socket_closed(self, name: str, how: str) -> None:
        with self._lock:
            expected = self.open.pop(name, None)
            self.closed += 1
        if expected is None:
            self.fault(f"close of {name}: expected once, after open; got it with {how}")
        elif how not in expected.split("|") and not self.stopping:
            self.fault(f"close of {name}: expected {expected}; got {how}")

    def subscription(self, topic: str, count: int, before: int) -> None:
        with self._lock:
            self.subscribed[topic] += count - before
        if abs(count - before) != 1 or count < 0:
            self.fault(f"subscription to {topic}: expected one more or less; got {count} after {before}")

    # ---- publishers -----------------------------------------------------------------------------------------------------

    def begin(self, publisher: str, topic: str, number: int) -> None:
        with self._lock:
            self.begun[publisher, topic] = number

    def done(self, publisher: str, topic: str, number: int) -> None:
        with self._lock:
            self.published[publisher, topic] = number

    def forget(self, publisher: str) -> None:
        with self._lock:
            for table in (self.begun, self.published):
                for key in [key for key in table if key[0] == publisher]:
                    del table[key]

    def numbers(self, table: dict[tuple[str, str], int], topic: str) -> dict[str, int]:
        """For each publisher to a topic, the number in a table."""
        with self._lock:
            return {publisher: number for (publisher, to), number in table.items() if to == topic}

    # ---- handlers -------------------------------------------------------------------------------------------------------

    def registering(self, handler: Any) -> Any:
        """Counts a handler until its last reference is gone."""
        with self._lock:
            self.registered += 1
        # It may be called in the middle of a collection, by a thread that has the lock: an append needs none.
        weakref.finalize(handler, self._gone.append, None).atexit = False
        return handler

    @property
    def handlers(self) -> int:
        """Handlers that were registered to be replaced, and that are still referenced."""
        return self.registered - len(self._gone)
