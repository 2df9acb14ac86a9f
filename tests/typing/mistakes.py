"""What type checkers have to object to. It is never run: an objection that is missing makes its comment superfluous, which
is an error of its own."""

from __future__ import annotations

from socketify import App, MiddlewareRouter, Request, Response, WebSocket, WebSocketBehavior, middleware


def right(res: Response, req: Request) -> None: ...


def swapped(req: Request, res: Response) -> None: ...


def short(res: Response) -> None: ...


def member(res: Response, req: Request, data: object) -> object: ...


def opened(ws: Response) -> None: ...


app = App()
app.get(right, "/path")  # type: ignore
app.get("/path", swapped)  # type: ignore
app.post("/path", short)  # type: ignore
app.put("/path", member)  # type: ignore
app.put("/path", 7)  # type: ignore
app.put("/path", right, max_body_size="1")  # type: ignore
app.domain(b"example.com")  # type: ignore
app.domain("example.com").get("/path", swapped)  # type: ignore
app.router(member, "/prefix")  # type: ignore
app.router("/prefix", right)  # type: ignore
app.router("/prefix").get(right)  # type: ignore
middleware(member, "/path")  # type: ignore
middleware(right)  # type: ignore
MiddlewareRouter(app, member).get("/path", right)  # type: ignore
behavior: WebSocketBehavior = {"opened": opened}  # type: ignore
listener: WebSocketBehavior = {"open": opened}  # type: ignore
app.on_error(right)  # type: ignore
kept: str = app.router().get("/kept")(right)  # type: ignore


def told(ws: WebSocket) -> None:
    ws.end("1000")  # type: ignore


def misspelled() -> None:
    import socketify

    socketify.Aplication()  # type: ignore
