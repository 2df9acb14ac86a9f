"""A tour of requests and responses: one route for each thing.

Try it with:

    curl -i localhost:3000
    curl -i 'localhost:3000/query?q=rust&q=python'
    curl -iL localhost:3000/old
"""

from datetime import datetime, timedelta, timezone

from socketify import App, Request, Response

app = App()
route = app.router()


@route.get("/")
def home(res: Response, req: Request) -> None:
    res.end("Welcome\n")


@route.any("/method")
def method(res: Response, req: Request) -> None:
    res.end(f"{req.get_method()} {req.get_full_url()}\n")


# Literal segments take precedence over parameters, in any order of registration.
@route.get("/user/:id")
def user(res: Response, req: Request) -> None:
    number = req.get_parameter("id") or ""
    if not number.isdecimal():
        req.set_yield(1)  # no response here: the next matching route gets the request
        return
    res.end(f"User number {number}\n")


@route.get("/user/agent")
def agent(res: Response, req: Request) -> None:
    res.end(f"You use {req.get_header('user-agent')}\n")


@route.get("/query")
def query(res: Response, req: Request) -> None:
    res.end({"first": req.get_query("q"), "all": req.get_queries()})


@route.get("/headers")
def headers(res: Response, req: Request) -> None:
    req.for_each_header(lambda name, value: res.write(f"{name}: {value}\n"))
    res.end("")


@route.get("/json")
def json(res: Response, req: Request) -> None:
    res.end({"a dict": "goes out as JSON", "a set": {"as", "well"}})


@route.get("/download")
def download(res: Response, req: Request) -> None:
    res.write_header("Content-Type", "text/plain")
    res.write_header("Content-Disposition", 'attachment; filename="note.txt"')
    res.end("Keep this.\n")


@route.get("/cookie")
def cookie(res: Response, req: Request) -> None:
    res.set_cookie(
        "seen",
        "just now",
        {
            "path": "/",
            "httponly": True,
            "samesite": "None",
            "secure": True,
            "expires": datetime.now(timezone.utc) + timedelta(minutes=30),
        },
    )
    res.end(f"Last time: {req.get_cookie('seen')}\n")


@route.get("/parts")
def parts(res: Response, req: Request) -> None:
    res.write("An answer ")
    res.write(b"in several ")
    res.end("parts\n")


@route.get("/send")
def send(res: Response, req: Request) -> None:
    res.send(
        "All in one call\n", content_type="text/plain", status=201, headers=[("X-Rate-Limit-Remaining", "9")]
    )


@route.get("/empty")
def empty(res: Response, req: Request) -> None:
    res.write_status(204).end_without_body()


@route.get("/old")
def old(res: Response, req: Request) -> None:
    res.redirect("/", 301)


@route.any("/*")
def not_found(res: Response, req: Request) -> None:
    res.write_status(404).end("Nothing here\n")


app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
