"""One place for errors: it logs them, and sends the application's own response.

Try it with:

    curl -i localhost:3000/sync
    curl -i localhost:3000/async
"""

import logging

from socketify import App, Request, Response

app = App()


@app.on_error
def failed(error: Exception, res: Response | None, req: Request | None) -> None:
    # There is a request only if a plain function failed, and a response if the error belongs to one.
    where = req.get_url() if req else "a coroutine"
    logging.error("%s failed: %s", where, error, exc_info=error)
    if res:
        res.send({"error": type(error).__name__}, status=500)


def plain(res: Response, req: Request) -> None:
    raise ValueError("raised by a plain function")


async def coroutine(res: Response, req: Request) -> None:
    raise LookupError("raised by a coroutine")


app.get("/sync", plain)
app.get("/async", coroutine)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}/sync"))
app.run()
