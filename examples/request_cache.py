"""Expensive responses, cached for a while in two places: this process, and a store that processes share.

The store here is a dictionary; a connection to Redis would have the same two methods. A request for a key
that is being fetched waits for that fetch, so a burst of requests fetches once.

Try it with:

    curl localhost:3000/7
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from socketify import App, Request, Response


class Store:
    """Values that are kept until they expire."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[float, bytes]] = {}

    def get(self, key: str) -> bytes | None:
        until, value = self._items.get(key, (0.0, b""))
        return value if time.monotonic() < until else None

    def set(self, key: str, value: bytes, seconds: float) -> None:
        self._items[key] = (time.monotonic() + seconds, value)


class TwoLevels:
    """A small cache in front of a large one, and one fetch at a time for each key."""

    def __init__(self, near: Store, far: Store) -> None:
        self._near, self._far = near, far
        self._fetching: dict[str, asyncio.Future[bytes]] = {}

    def get(self, key: str) -> bytes | None:
        value = self._near.get(key)
        if value is None and (value := self._far.get(key)) is not None:
            self._near.set(key, value, 3)
        return value

    async def fetch(self, key: str, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        if key not in self._fetching:
            self._fetching[key] = asyncio.ensure_future(self._fetch(key, fetch))
        return await asyncio.shield(self._fetching[key])

    async def _fetch(self, key: str, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            value = await fetch()
            self._far.set(key, value, 60)
            self._near.set(key, value, 3)
            return value
        finally:
            del self._fetching[key]


cache = TwoLevels(Store(), Store())
fetched = 0


async def square(number: int) -> bytes:
    """Simulates a request to a slow service."""
    global fetched
    fetched += 1
    await asyncio.sleep(0.2)
    return f"{number} squared is {number * number}, which took {fetched} fetches\n".encode()


def show(res: Response, req: Request) -> None:
    number = req.get_parameter("number") or ""
    if not number.isdecimal():
        req.set_yield(1)
        return
    if (value := cache.get(number)) is not None:
        res.end(value)  # most requests need no task
        return

    async def fetch() -> None:
        res.end(await cache.fetch(number, lambda: square(int(number))))

    res.run_async(fetch())


app = App()
app.get("/:number", show)
app.any("/*", lambda res, req: res.write_status(404).end("A number is needed\n"))
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/7"))
app.run()
