"""Any free port: the callback of ``listen`` gets its number.

Try it with the address that it prints.
"""

from socketify import App, Request, Response


def home(res: Response, req: Request) -> None:
    res.end("Here I am\n")


app = App()
app.get("/", home)
app.listen(0, lambda config: print(f"Listening on http://localhost:{config.port}", flush=True))
app.run()
