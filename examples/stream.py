"""A response that is sent while it is made. A slow client slows the handler down, and memory stays flat.

Try it with:

    curl -N localhost:3000/countdown
    curl localhost:3000/table > table.csv
"""

import asyncio

from socketify import App, Request, Response


async def countdown(res: Response, req: Request) -> None:
    for number in range(10, 0, -1):
        res.write(f"{number}\n")  # leaves at once, as a chunk
        await asyncio.sleep(1)
    res.end("Lift-off!\n")


async def table(res: Response, req: Request) -> None:
    res.write_header("Content-Type", "text/csv")
    for row in range(1_000_000):
        res.write(f"{row},{row * row}\n")
        if row % 1000 == 0:
            await res.drain()  # waits while too much output is buffered
            if res.aborted:
                return
    res.end("")


app = App()
app.get("/countdown", countdown)
app.get("/table", table)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/countdown"))
app.run()
