"""All options of listening: one interface, one port, and no other process on it.

Try it with:

    curl localhost:3000
"""

from socketify import App, AppListenOptions, Request, Response


def home(res: Response, req: Request) -> None:
    res.end("Hello from this machine\n")


app = App()
app.get("/", home)
# 0.0.0.0 would be every interface; options=1 refuses to share the port with another process.
app.listen(
    AppListenOptions(port=3000, host="127.0.0.1", options=1),
    lambda config: print(f"Listening on http://{config.host}:{config.port}"),
)
app.run()
