"""Whose request it is when a proxy stands in front: what its PROXY preface says, and who has connected.

Try it with:

    curl localhost:3000
    curl --haproxy-protocol localhost:3000     # version 1 of the preface: not understood, and refused
"""

from socketify import App, Request, Response


def home(res: Response, req: Request) -> None:
    # Empty without a preface. It can be believed where only the proxy reaches this port.
    client = res.get_proxied_remote_address() or "unknown"
    res.end(f"client: {client}\nconnected: {res.get_remote_address()}\n")


app = App()
app.get("/*", home)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
