"""The client of a request behind a proxy: the address in the PROXY preface, and the connected peer.

Try it with:

    curl localhost:3000
    curl --haproxy-protocol localhost:3000
    curl -H "X-Forwarded-For: 192.0.2.7" localhost:3000/address
"""

from socketify import App, Request, Response


def home(res: Response, req: Request) -> None:
    # None without a preface. Only trusted proxies may send one, by default those on this machine.
    client = res.get_proxied_remote_address() or "unknown"
    res.end(f"client: {client}\nconnected: {res.get_remote_address()}\n")


def address(res: Response, req: Request) -> None:
    # A proxy's headers count as well.
    res.end(f"{req.get_client_address()}\n")


app = App()
app.get("/address", address)
app.get("/*", home)
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
