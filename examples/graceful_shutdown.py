"""A graceful shutdown: new clients are refused, requests in progress get their response, sockets get a close
frame.

Try it with:

    curl localhost:3000/slow & curl localhost:3000/shutdown
"""

import asyncio

from socketify import App, Request, Response

# A request that takes more than ten seconds is cut off.
app = App(shutdown_timeout=10)


async def slow(res: Response, req: Request) -> None:
    await asyncio.sleep(0.5)
    res.end("Done, in spite of the shutdown\n")


def shutdown(res: Response, req: Request) -> None:
    res.end("Goodbye\n")
    app.close()  # returns at once; run() returns at the end


@app.on_shutdown
def cleaned_up() -> None:
    print("The last request has been answered", flush=True)


app.get("/slow", slow)
app.get("/shutdown", shutdown)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/shutdown"))
app.run()
print("Closed")
