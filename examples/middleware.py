"""A chain of functions in front of a handler: one refuses strangers, one looks data up, one sends the
response.

Try it with:

    curl -i localhost:3000
    curl -i localhost:3000/orders
    curl -i -H 'Authorization: Bearer ada' localhost:3000/orders
"""

import asyncio

from socketify import App, Request, Response, middleware

orders = {"ada": ["engine", "punch cards"], "grace": ["compiler"]}


def authenticate(res: Response, req: Request, data: object) -> str | None:
    """Returns the user. A false value, such as None, ends the chain: then it has to send the response
    itself."""
    scheme, _, user = (req.get_header("authorization") or "").partition(" ")
    if scheme == "Bearer" and user in orders:
        return user
    res.write_status(401).write_header("WWW-Authenticate", "Bearer").end("Who are you?\n")
    return None


async def load_orders(res: Response, req: Request, user: str) -> dict[str, object]:
    """Gets the return value of the previous function, and may wait."""
    await asyncio.sleep(0.01)  # as a database would
    return {"user": user, "orders": orders[user]}


def show_orders(res: Response, req: Request, found: dict[str, object]) -> None:
    res.end(found)


app = App()
app.get("/", lambda res, req: res.end("Everybody may read this. Your orders are at /orders\n"))
app.get("/orders", middleware(authenticate, load_orders, show_orders))
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
