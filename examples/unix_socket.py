"""A Unix socket instead of a port, for a proxy on the same machine.

Try it with:

    curl --unix-socket /tmp/socketify.sock http://localhost/
"""

from socketify import App, AppListenOptions, Request, Response


def home(res: Response, req: Request) -> None:
    res.end("Hello over a Unix socket\n")


app = App()
app.get("/", home)
app.listen(
    AppListenOptions(domain="/tmp/socketify.sock"), lambda config: print(f"Listening on {config.domain}")
)
app.run()
