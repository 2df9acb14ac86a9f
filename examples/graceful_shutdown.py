"""An end that cuts nobody off: new clients are refused, requests in progress are answered, sockets are told.

Try it with:

    curl localhost:3000/slow & curl localhost:3000/shutdown
"""

import asyncio

from socketify import App, Request, Response

# Who is not done within ten seconds is cut off.
app = App(shutdown_timeout=10)


async def slow(res: Response, req: Request) -> None:
    await asyncio.sleep(0.5)
    res.end("Done, in spite of the shutdown\n")


def shutdown(res: Response, req: Request) -> None:
    res.end("Goodbye\n")
    app.close()  # returns at once; run() returns when all is over


@app.on_shutdown
def cleaned_up() -> None:
    print("The last request has been answered", flush=True)


app.get("/slow", slow)
app.get("/shutdown", shutdown)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/shutdown"))
app.run()
print("Closed")
