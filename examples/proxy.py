"""Whose request it is when a proxy stands in front: what its PROXY preface says, and who has connected.

Try it with:

    curl localhost:3000
    curl --haproxy-protocol localhost:3000
    curl -H "X-Forwarded-For: 192.0.2.7" localhost:3000/address
"""

from socketify import App, Request, Response


def home(res: Response, req: Request) -> None:
    # None without a preface. It is of a proxy that is trusted, as those on this machine are by default.
    client = res.get_proxied_remote_address() or "unknown"
    res.end(f"client: {client}\nconnected: {res.get_remote_address()}\n")


def address(res: Response, req: Request) -> None:
    # What a proxy says in a header counts as well.
    res.end(f"{req.get_client_address()}\n")


app = App()
app.get("/address", address)
app.get("/*", home)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
