"""Handlers that wait: coroutines, and a plain handler that starts a coroutine.

Try it with:

    curl 'localhost:3000/?delay=0.5'
    curl localhost:3000/slow
"""

import asyncio

from socketify import App, Request, Response


async def answer_later(res: Response, delay: float) -> None:
    await asyncio.sleep(delay)
    res.end("Sorry for the delay\n")  # nothing happens if the client has left meanwhile


def home(res: Response, req: Request) -> None:
    # Only a request with a delay costs a task.
    delay = float(req.get_query("delay") or 0)
    if delay:
        res.run_async(answer_later(res, delay))
    else:
        res.end("At once\n")


async def slow(res: Response, req: Request) -> None:
    await asyncio.sleep(0.2)
    # The request stays valid after an await.
    res.end({"waited": True, "user-agent": req.get_header("user-agent")})


def not_found(res: Response, req: Request) -> None:
    res.write_status(404).end("Nothing here\n")


app = App()
app.get("/", home)
app.get("/slow", slow)
app.any("/*", not_found)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
