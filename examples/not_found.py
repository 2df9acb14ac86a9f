"""Handlers that pass a request to the next route, and a page for the rest.

Try it with:

    curl -i localhost:3000/user/1
    curl -i localhost:3000/user/2
    curl -i localhost:3000/user/ada
"""

from socketify import App, Request, Response

names = {1: "Ada"}


def user(res: Response, req: Request) -> None:
    try:
        # The exception for "ada" goes to the error handler, despite the yield below.
        number = int(req.get_parameter("id") or "")
        if number in names:
            res.end(f"Hello {names[number]}!\n")
    finally:
        # No effect after a response; other requests go on to the next route.
        req.set_yield(True)


def not_found(res: Response, req: Request) -> None:
    res.write_status(404).end(f"There is nothing at {req.get_url()}\n")


def failed(error: Exception, res: Response | None, req: Request | None) -> None:
    if res is not None:
        res.write_status(500).end(f"That did not work: {error}\n")


app = App()
app.get("/user/:id", user)
app.any("/*", not_found)
app.set_error_handler(failed)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
