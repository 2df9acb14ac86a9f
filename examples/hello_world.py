"""Hello, world: one route, one port."""

from socketify import App, Request, Response


def home(res: Response, req: Request) -> None:
    res.end("Hello, World!\n")


app = App()
app.get("/", home)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
