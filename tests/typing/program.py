"""A program that uses everything, to be checked by mypy and pyright, both in their strict modes; test_typing.py runs it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from socketify import (
    CORS,
    App,
    AppExtension,
    AppListenOptions,
    AppOptions,
    Compression,
    CompressOptions,
    Domain,
    HTTPError,
    MiddlewareRouter,
    OpCode,
    Request,
    Response,
    SendStatus,
    ServerSentEvent,
    UploadedFile,
    WebSocket,
    WebSocketBehavior,
    get_request_id,
    middleware,
    request_id,
    sendfile,
    systemd_sockets,
)
from socketify.templates import Jinja2Template
from socketify.testing import TestServer

if TYPE_CHECKING:
    # The additions of `extend`, for type checkers.
    class ShopRequest(Request):
        cart: list[str]

        async def user(self) -> str: ...

    class ShopResponse(Response):
        def problem(self, status: int, title: str) -> None: ...

    class ShopSocket(WebSocket):
        def say(self, text: str) -> SendStatus: ...


def extend(request: AppExtension, response: AppExtension, websocket: AppExtension) -> None:
    request.property("cart", list[str]())

    @request.method
    async def user(self: Request) -> str:
        await asyncio.sleep(0)
        return self.get_header("x-user") or "nobody"

    @response.method
    def problem(self: Response, status: int, title: str) -> None:
        self.write_status(status).write_header("Content-Type", "application/problem+json")
        self.end(json.dumps({"title": title}))

    @websocket.method
    def say(self: WebSocket, text: str) -> SendStatus:
        return self.send({"said": text}, OpCode.TEXT)

    methods: tuple[object, ...] = (user, problem, say)
    assert all(map(callable, methods))


def authenticate(res: ShopResponse, req: Request, data: object) -> dict[str, str] | None:
    if name := req.get_header("x-user"):
        return {"name": name}
    res.problem(403, "not authorized")
    return None


async def delay(res: Response, req: Request, data: dict[str, str]) -> dict[str, str]:
    await asyncio.sleep(0)
    return {**data, "path": req.get_url()}


async def profile(res: Response, req: ShopRequest, data: dict[str, str]) -> None:
    req.cart.append(await req.user())
    res.set_cookie("seen", "yes", {"max-age": timedelta(hours=1).seconds}).end({**data, "cart": req.cart})


async def upload(res: Response, req: Request) -> None:
    body: object = await res.get_json()
    res.write_status(201).cork_end(body)


async def order(res: Response, req: Request) -> None:
    async with req.form(max_fields=10) as form:
        name: str = form["name"]
        photo: UploadedFile | None = form.files.get("photo")
        size = 0 if photo is None else len(await photo.read())
    if not name:
        raise HTTPError(400, "no name", [("X-Why", "empty")])
    res.end({"name": name, "size": size, "id": get_request_id()})


async def parts(res: Response, req: Request) -> None:
    total = 0
    async for part in req.multipart(max_files=2):
        async for chunk in part:
            total += len(chunk)
    text: str = await req.text() if not total else ""
    res.end(f"{total} {text}")


async def feed(res: Response, req: Request) -> None:
    async with res.events(keep_alive=5) as events:
        await events.send({"last": events.last_event_id}, event="start", id="1")
        await events.send(ServerSentEvent("end"))


async def numbers() -> AsyncIterator[str]:
    for number in range(3):
        yield f"{number}\n"


async def count(res: Response, req: Request) -> None:
    complete: bool = await res.stream(numbers(), "text/plain", headers=[("X-Kind", "numbers")])
    print(complete)


def page(res: Response, req: Request) -> None:
    res.render("page.html", title="Page")


def stream(res: Response, req: Request) -> None:
    def aborted(res: Response) -> None:
        print("gone", res.aborted)

    res.on_aborted(aborted)
    res.write("a")
    res.end("b")


def upgrade(res: Response, req: Request, context: object, data: dict[str, str]) -> None:
    key, extensions = req.get_header("sec-websocket-key"), req.get_header("sec-websocket-extensions")
    res.upgrade(key, req.get_header("sec-websocket-protocol"), extensions, context, data["name"])


async def message(ws: ShopSocket, message: str | bytes, opcode: OpCode) -> None:
    if ws.send(message, opcode) is SendStatus.BACKPRESSURE:
        await ws.drain()
    ws.say(str(ws.get_user_data()))


def closed(ws: WebSocket, code: int, reason: bytes | None) -> None:
    print(ws.closed, code, reason)


def whoami(res: Response, req: Request) -> None:
    subject: str | None = req.get_peer_subject()
    certificate: bytes | None = req.get_peer_certificate()
    agreed: tuple[bool, str | None, str | None] = req.is_secure(), req.get_tls_version(), req.get_tls_cipher()
    res.end({"subject": subject, "bytes": len(certificate or b""), "agreed": agreed})


def missing(name: str) -> None:
    app.add_server_name(
        name, AppOptions("key.pem", "cert.pem", ca_file_name="ca.pem", client_cert="required")
    )


def failed(error: Exception, res: Response | None, req: Request | None) -> None:
    if res is not None:
        res.write_status(500).end(f"{error} {req and req.get_url()}")


app = App(
    max_body_size=1 << 20,
    proxy_protocol="optional",
    trusted_proxies=["10.0.0.0/8", "unix"],
    compression=Compression(minimum_size=512),
    access_log="shop.access",
)
app.register(extend).json_serializer(json).template(Jinja2Template("/nowhere"))
app.cors(["https://shop.example"], credentials=True).static("/files", "/nowhere", index="index.html")
app.post("/order", order).post("/parts", parts).get("/feed", feed).get("/count", count).get("/page", page)
app.set_error_handler(failed)
app.get("/", lambda res, req: res.end(f"Hello {req.get_query('name')}")).post("/", upload, max_body_size=1024)
app.get("/stream", stream).any("/*", lambda res, _: res.write_status(404).end("no"))
app.get("/profile", middleware(authenticate, delay, profile)).constant("/health", {"status": "ok"})
echo: WebSocketBehavior = {
    "close": closed,
    "compression": CompressOptions.SHARED_COMPRESSOR,
    "idle_timeout": 60,
}
app.ws("/echo", echo)

app.get("/whoami", whoami).add_server_name("shop.example").remove_server_name(
    "shop.example"
).reload_certificates()
app.missing_server_name(missing)

api = app.router("/api", CORS("*", methods=["GET"]), request_id(trust=True), authenticate)
shop: Domain = (
    app.domain("*.shop.example").static("/assets", "/nowhere").get("/", lambda res, req: res.end("shop"))
)
MiddlewareRouter(shop, authenticate).get("/cart", profile).ws("/live", {**echo, "upgrade": upgrade})


@api.get("/users/:id")
@api.router("/v2", delay).get("/users/:id")
async def user(res: ShopResponse, req: ShopRequest, data: dict[str, str]) -> None:
    user_id: str | None = req.get_parameter("id")
    client: str | None = req.get_client_address()
    origin: tuple[str, str | None] = (req.get_client_scheme(), req.get_client_host())
    print(client, origin)
    if user_id == "0":
        res.problem(404, f"{await req.user()} looks for nobody")
        return
    res.end({"id": user_id, **data})


@app.router().get("/source")
async def source(res: Response, req: Request) -> None:
    await sendfile(res, req, __file__)


api.ws("/echo", {"upgrade": upgrade, "message": message})


@app.on_start
async def started() -> None:
    app.run_async(asyncio.sleep(0))


@app.on_shutdown
def stopped() -> None:
    print("stopped", app.num_subscribers("news"), app.publish("news", "bye", OpCode.TEXT))


@app.on_error
def told(error: Exception, res: Response | None, req: Request | None) -> Any:
    failed(error, res, req)


def listening(config: AppListenOptions) -> None:
    print(f"http://localhost:{config.port}")


def check() -> None:
    with TestServer(app) as server:
        assert server.get("/health").json() == {"status": "ok"}
        with server.websocket("/echo") as socket:
            socket.send("hello")


if __name__ == "__main__":
    app.listen(AppListenOptions(port=3000, host="127.0.0.1"), listening)
    app.listen(AppListenOptions(domain="@shop", backlog=64), listening)
    for each in systemd_sockets("web"):
        app.listen(each)
    app.run()
