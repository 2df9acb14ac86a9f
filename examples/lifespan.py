"""Resources that an application opens before its first request and closes after its last.

Try it with:

    curl localhost:3000
"""

import asyncio
import sqlite3

from socketify import App, Request, Response

app = App()
database: sqlite3.Connection
cleaner: asyncio.Task[None]


async def clean() -> None:
    while True:
        await asyncio.sleep(60)
        database.execute("DELETE FROM visits WHERE at < datetime('now', '-1 day')")


@app.on_start
async def start() -> None:
    global database, cleaner
    # Plain handlers run on other threads than the loop, though never two at a time.
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE visits (at TEXT DEFAULT CURRENT_TIMESTAMP)")
    cleaner = asyncio.create_task(clean())
    print("The database is open")


@app.on_shutdown
async def stop() -> None:
    cleaner.cancel()
    database.close()
    print("The database is closed")


async def visit(res: Response, req: Request) -> None:
    database.execute("INSERT INTO visits DEFAULT VALUES")
    (count,) = database.execute("SELECT count(*) FROM visits").fetchone()
    res.end(f"You are visitor {count}\n")


app.get("/", visit)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
