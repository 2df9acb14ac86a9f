"""``app.register`` on a server (A-APP-13, A-EXT-01..05)."""

from __future__ import annotations

from typing import Any

import pytest


def extension(request: Any, response: Any, _websocket: Any) -> None:
    @request.method
    async def get_user(self: Any) -> str:
        return "user " + self.get_header("x-token")

    @response.method
    def message(self: Any, status: int, text: str) -> Any:
        return self.write_status(status).end({"message": text, "seen": list(self.seen)})

    response.property("seen", [])


@pytest.mark.parametrize("late", [False, True], ids=["registered first", "routes first"])
def test_methods_and_properties_reach_every_route(serve: Any, late: bool) -> None:
    """A-EXT-01, A-EXT-02, I-B-22 (routes registered before count too), I-B-23 (a default is not shared)."""

    def sync(res: Any, req: Any) -> None:
        res.seen.append("sync")
        res.message(201, "made")

    async def user(res: Any, req: Any) -> None:
        res.end(await req.get_user())

    def configure(app: Any) -> None:
        if not late:
            app.register(extension)
        app.get("/", sync).get("/user", user)
        if late:
            app.register(extension)

    with serve(configure).client() as client:
        for _ in range(2):
            answer = client.get("/")
            assert (answer.status, answer.body) == (201, b'{"message": "made", "seen": ["sync"]}')
        assert client.get("/user", "X-Token: t").body == b"user t"


def test_an_extension_may_replace_a_method_of_the_core(serve: Any) -> None:
    """A-EXT-05: a method with a built-in's name shadows it; several extensions add up."""

    def shadow(_request: Any, response: Any, _websocket: Any) -> None:
        @response.method
        def end(self: Any, message: str) -> Any:
            return self.send(message.upper())

    def configure(app: Any) -> None:
        app.register(extension)
        app.register(shadow)
        app.get("/", lambda res, req: res.end(f"seen {len(res.seen)}"))

    with serve(configure).client() as client:
        assert client.get("/").body == b"SEEN 0"
