"""A list of things to do with Litestar: typed data, a database that the lifespan opens, an event stream of changes.

Try it with:

    pip install litestar
    python -m socketify litestar_todo:app
    curl -N localhost:8000/changes                                       # in another terminal
    curl -H 'content-type: application/json' -d '{"title": "Sleep"}' localhost:8000/
    curl localhost:8000/
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from litestar import Litestar, get, post
from litestar.datastructures import State
from litestar.response import ServerSentEvent


@dataclass
class Todo:
    title: str
    done: bool = False


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    app.state.database = sqlite3.connect(":memory:")
    app.state.database.execute("CREATE TABLE todos (title TEXT, done INT)")
    app.state.watchers = set()
    yield
    app.state.database.close()


@get("/")
async def todos(state: State) -> list[Todo]:
    return [
        Todo(title, bool(done)) for title, done in state.database.execute("SELECT title, done FROM todos")
    ]


@post("/")
async def add(data: Todo, state: State) -> Todo:
    state.database.execute("INSERT INTO todos VALUES (?, ?)", [data.title, data.done])
    for watcher in state.watchers:
        watcher.put_nowait(data.title)
    return data


@get("/changes")
async def changes(state: State) -> ServerSentEvent:
    async def watch() -> AsyncIterator[str]:
        watcher: asyncio.Queue[str] = asyncio.Queue()
        state.watchers.add(watcher)
        try:
            while True:
                yield await watcher.get()
        finally:
            # The client has left.
            state.watchers.remove(watcher)

    return ServerSentEvent(watch())


app = Litestar([todos, add, changes], lifespan=[lifespan])
