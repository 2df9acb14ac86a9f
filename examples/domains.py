"""Several sites on one port, selected by the host of a request.

Try it with:

    curl localhost:3000
    curl -H 'Host: api.localhost' localhost:3000/users/7
    curl -H 'Host: ada.localhost' localhost:3000

A browser finds http://api.localhost:3000/users/7 without configuration: names below localhost are this
machine.
"""

from socketify import App, Request, Response


def blog(res: Response, req: Request) -> None:
    host = req.get_header("host") or ""
    res.end(f"The blog of {host.partition('.')[0]}\n")


app = App()
app.get("/", lambda res, req: res.end("The front page\n"))

api = app.domain("api.localhost")
users = api.router("/users")


@users.get("/:id")
async def user(res: Response, req: Request) -> None:
    res.end({"id": req.get_parameter("id")})


# Every other name below localhost. A domain has its own routes alone: any other path is a 404.
app.domain("*.localhost").get("/", blog).constant("/robots.txt", "User-agent: *\nDisallow:\n")

app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
