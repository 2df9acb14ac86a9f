"""The responses of the examples of routing: api.md H-09, H-15, H-18 and H-43, in our own words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import Program
from support.client import Client
from support.ws_client import connect

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

#: Serves an example on a free port, instead of its own.
SERVE = """
import runpy
listen = App.listen
App.listen = lambda self, options, handler=None: listen(self, {"host": "127.0.0.1", "port": 0}, ready)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@contextmanager
def serving(name: str) -> Iterator[tuple[int, Client]]:
    with Program(SERVE, str(EXAMPLES / name)) as program, program.listening().client() as client:
        yield program.port, client


def text(client: Client, target: str, *lines: str) -> tuple[int, str]:
    answer = client.get(target, *lines)
    return answer.status, answer.body.decode().rstrip("\n")


def test_not_found() -> None:
    """H-09: one response each, on one connection, though the handler yields in all cases."""
    with serving("not_found.py") as (_, client):
        for _ in range(2):
            assert text(client, "/user/1") == (200, "Hello Ada!")
            assert text(client, "/user/2") == (404, "There is nothing at /user/2")
            status, body = text(client, "/user/ada")
            assert (status, body[:14]) == (500, "That did not w")
            assert text(client, "/") == (404, "There is nothing at /")


def test_middleware() -> None:
    """H-15."""
    with serving("middleware.py") as (_, client):
        assert client.get("/").status == 200
        assert text(client, "/orders") == (401, "Who are you?")
        assert text(client, "/orders", "Authorization: Bearer eve") == (401, "Who are you?")
        status, body = text(client, "/orders", "Authorization: Bearer grace")
        assert (status, json.loads(body)) == (200, {"user": "grace", "orders": ["compiler"]})


def test_middleware_router() -> None:
    """H-18, A-APP-12."""
    with serving("middleware_router.py") as (port, client):
        for path in ("/api/me", "/api/users/me", "/api/admin/users", "/hello", "/HELLO"):
            assert text(client, path) == (401, "Who are you?")
        assert text(client, "/api/me", "X-User: ada") == (200, '{"user": "ada"}')
        assert text(client, "/api/admin/users", "X-User: ada") == (403, "Sorry, ada")
        assert text(client, "/api/admin/users", "X-User: grace") == (200, '["ada", "grace"]')
        assert text(client, "/hello", "X-User: ada") == (200, "Hello ada")
        assert text(client, "/HELLO", "X-User: ada") == (200, "Hello ADA")
        with connect(port, "/api/live", headers=["X-User: ada"]) as socket:
            assert socket.recv_message() == "Hello ada"
            socket.finish()


def test_extensions() -> None:
    """H-43, A-EXT-01 to A-EXT-05."""
    with serving("extensions.py") as (port, client):
        for _ in range(2):
            answer = client.get("/greet?name=Ada")
            notes: list[Any] = json.loads(answer.body)["notes"]
            assert [note[9:] for note in notes] == ["greeted Ada"]
            assert answer.header("x-served-by") == "extensions.py"
        missing = client.get("/greet")
        assert (missing.status, missing.header("content-type")) == (400, "application/problem+json")
        assert json.loads(client.get("/nothing").body) == {"status": 404, "title": "Nothing here"}
        with connect(port, "/count") as socket:
            assert socket.send_text("a").recv_message() == "1: 'a'"
            assert socket.send_binary(b"b").recv_message() == "2: b'b'"
            socket.finish()


def test_domains() -> None:
    """H-43, DEC-13, I-E-05."""
    with serving("domains.py") as (port, client):

        def get(host: str, target: str) -> tuple[int, str]:
            answer = client.send(f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()).answer()
            return answer.status, answer.body.decode().rstrip("\n")

        assert get("localhost", "/") == (200, "The front page")
        assert get("api.localhost", "/users/7") == (200, '{"id": "7"}')
        assert get("api.localhost", "/") == (404, "Not Found")
        assert get("ada.localhost", "/") == (200, "The blog of ada")
        assert get("ada.localhost", "/robots.txt")[0] == 200
        assert get("localhost", "/robots.txt")[0] == 404
