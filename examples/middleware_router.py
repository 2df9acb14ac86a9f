"""The same middlewares for many routes, including sockets: a router below a prefix, one nested in it, and one
for chained calls.

Try it with:

    curl -i localhost:3000/api/me
    curl -i -H 'X-User: ada' localhost:3000/api/me
    curl -i -H 'X-User: ada' localhost:3000/api/admin/users
    curl -i -H 'X-User: grace' localhost:3000/api/admin/users
"""

from socketify import App, MiddlewareRouter, OpCode, Request, Response, WebSocket, middleware


def authenticate(res: Response, req: Request, data: object) -> str | None:
    user = req.get_header("x-user")
    if not user:
        res.write_status(401).end("Who are you?\n")
    return user


def only_grace(res: Response, req: Request, user: str) -> str | None:
    if user == "grace":
        return user
    res.write_status(403).end(f"Sorry, {user}\n")
    return None


async def shout(res: Response, req: Request, user: str) -> str:
    return user.upper()


def greet(res: Response, req: Request, user: str) -> None:
    res.end(f"Hello {user}\n")


def welcome(ws: WebSocket) -> None:
    # The return value of the last middleware.
    ws.send(f"Hello {ws.get_user_data()}", OpCode.TEXT)


app = App()
app.get("/", lambda res, req: res.end("Log in with an X-User header, and ask for /api/me\n"))

api = app.router("/api", authenticate)
api.ws("/live", {"open": welcome})


@api.get("/me")
@api.get("/users/me")
def me(res: Response, req: Request, user: str) -> None:
    res.end({"user": user})


admin = api.router("/admin", only_grace)


@admin.get("/users")
async def users(res: Response, req: Request, user: str) -> None:
    res.end(["ada", "grace"])


MiddlewareRouter(app, authenticate).get("/hello", greet).get("/HELLO", middleware(shout, greet))

app.listen(3000, lambda config: print(f"Listening on http://localhost:{config.port}"))
app.run()
