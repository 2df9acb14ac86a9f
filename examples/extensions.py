"""Your own methods and properties on requests, responses and sockets.

Try it with:

    curl -i localhost:3000
    curl -i 'localhost:3000/greet?name=Ada'
    curl -i localhost:3000/greet
"""

import time

from socketify import App, AppExtension, OpCode, Request, Response, WebSocket


def problems(request: AppExtension, response: AppExtension, websocket: AppExtension) -> None:
    """Errors in one form (RFC 9457)."""

    @response.method
    def problem(res: Response, status: int, title: str) -> None:
        res.write_status(status).write_header("Content-Type", "application/problem+json")
        res.end({"status": status, "title": title})


def notes(request: AppExtension, response: AppExtension, websocket: AppExtension) -> None:
    """A list for each request, and a header that shows it to the client."""
    request.property("notes", [])

    @request.method
    def note(req: Request, text: str) -> None:
        req.notes.append(f"{time.strftime('%H:%M:%S')} {text}")

    # It overrides the method of that name, and calls it.
    @response.method
    def end(res: Response, message: object, end_connection: bool = False) -> Response:
        res.write_header("X-Served-By", "extensions.py")
        return Response.end(res, message, end_connection)


def counting(request: AppExtension, response: AppExtension, websocket: AppExtension) -> None:
    websocket.property("received", 0)

    @websocket.method
    async def reply(ws: WebSocket, message: str | bytes) -> None:
        ws.received += 1
        ws.send(f"{ws.received}: {message!r}", OpCode.TEXT)


def greet(res: Response, req: Request) -> None:
    name = req.get_query("name")
    if name is None:
        res.problem(400, "Say your name, as in /greet?name=Ada")
        return
    req.note(f"greeted {name}")
    res.end({"notes": req.notes})


async def message(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    await ws.reply(message)


app = App()
app.register(problems).register(notes).register(counting)
app.get("/", lambda res, req: res.end("Ask for /greet?name=Ada\n"))
app.get("/greet", greet)
app.any("/*", lambda res, req: res.problem(404, "Nothing here"))
app.ws("/count", {"message": message})
app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
