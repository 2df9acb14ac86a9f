"""Cross-origin resource sharing: the server's part of the Fetch standard (CORS protocol).

Rows: B-HT-02 (nothing of it without being asked for), S#171 of users.md.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from socketify import CORS, App, MiddlewareRouter, middleware
from support.client import Answer, Client

Serve = Callable[..., Any]

SHOP = "Origin: https://shop.example"
EVIL = "Origin: https://evil.example"

CORS_HEADERS = (
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-allow-private-network",
)


def said(answer: Answer) -> dict[str, str]:
    """The CORS headers of a response; each at most once."""
    found = {name.removeprefix("access-control-"): answer.header(name) for name in CORS_HEADERS}
    return {name: value for name, value in found.items() if value is not None}


def preflight(client: Client, path: str, *lines: str, method: str = "PUT") -> Answer:
    return client.request("OPTIONS", path, *lines, f"Access-Control-Request-Method: {method}").answer()


def site(**options: Any) -> Callable[[App], object]:
    def configure(app: App) -> None:
        async def coroutine(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            res.end("coroutine")

        def broken(res: Any, req: Any) -> None:
            res.write_header("X-Lost", "1")
            raise RuntimeError("broken")

        async def stream(res: Any, req: Any) -> None:
            await res.stream(["a", "b"])

        app.get("/plain", lambda res, req: res.end("plain"))
        app.get("/coroutine", coroutine)
        app.get("/broken", broken)
        app.get("/stream", stream)
        app.constant("/constant", "constant")
        app.options("/plain", lambda res, req: res.end("asked"))
        app.post("/limited", lambda res, req: res.end(""), max_body_size=1)
        app.static("/files", os.path.dirname(__file__))
        if options:
            app.cors(**options)

    return configure


PATHS = {
    "/plain": 200,
    "/coroutine": 200,
    "/stream": 200,
    "/constant": 200,
    "/broken": 500,
    "/missing": 404,
    "/files/test_cors.py": 200,
    "/files/missing": 404,
}


@pytest.mark.parametrize("path", PATHS)
def test_every_answer(serve: Serve, path: str) -> None:
    """For every source: a handler, the core, a file, an error. Scripts can read errors only if they have the
    headers too."""
    with serve(site(origins="https://shop.example")).client() as client:
        answer = client.get(path, SHOP)
        assert answer.status == PATHS[path]
        assert said(answer) == {"allow-origin": "https://shop.example"}
        assert answer.header("vary") == "Origin"
        for lines in ((EVIL,), (), ("Origin: https://shop.example.evil",), ("Origin: null",)):
            answer = client.get(path, *lines)
            assert answer.status == PATHS[path]
            assert said(answer) == {}
            assert answer.header("vary") == "Origin", (
                "a cache would give it to those who may not read it, or the reverse"
            )


def test_refused_body(serve: Serve) -> None:
    with serve(site(origins="*")).client() as client:
        answer = client.request("POST", "/limited", SHOP, body=b"long").answer()
        assert (answer.status, said(answer)) == (413, {"allow-origin": "*"})


@pytest.mark.parametrize("path", PATHS)
def test_without_it(serve: Serve, path: str) -> None:
    """B-HT-02: nothing is automatic."""
    with serve(site()).client() as client:
        answer = client.get(path, SHOP)
        assert said(answer) == {}
        assert answer.header("vary") is None
        expected = 200 if path == "/plain" else 404
        assert preflight(client, path, SHOP).status == expected


def test_preflight(serve: Serve) -> None:
    """204, without running a handler, and for unknown paths as well: the request itself then fails."""
    with serve(site(origins=["https://a.example", "https://shop.example"])).client() as client:
        for path in (*PATHS, "/"):
            answer = preflight(client, path, SHOP, "Access-Control-Request-Headers: x-one, Content-Type")
            assert answer.status_line == "HTTP/1.1 204 No Content"
            assert answer.header("content-length") is None
            assert said(answer) == {
                "allow-origin": "https://shop.example",
                "allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
                "allow-headers": "x-one, Content-Type",
                "max-age": "600",
            }
            assert "Origin" in (answer.header("vary") or "")


def test_preflight_with_a_body(serve: Serve) -> None:
    """No client sends one; the next request still begins after it."""
    with serve(site(origins="*")).client() as client:
        client.request("OPTIONS", "/plain", SHOP, "Access-Control-Request-Method: PUT", body=bytes(100_000))
        assert client.answer().status == 204
        assert client.get("/plain").body == b"plain"


def test_preflight_of_others(serve: Serve) -> None:
    with serve(site(origins="https://shop.example")).client() as client:
        for origin in (EVIL, "Origin: null", "Origin: "):
            answer = preflight(client, "/plain", origin)
            assert (answer.status, said(answer)) == (403, {})


def test_options_that_is_no_preflight(serve: Serve) -> None:
    """It is the route's, with the headers."""
    with serve(site(origins="*")).client() as client:
        for lines in ((SHOP,), ("Access-Control-Request-Method: PUT",)):
            answer = client.request("OPTIONS", "/plain", *lines).answer()
            assert (answer.status, answer.body, said(answer)) == (200, b"asked", {"allow-origin": "*"})


@pytest.mark.parametrize(
    ("options", "lines", "expected"),
    [
        ({"origins": "*"}, (), {"allow-origin": "*", "allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE"}),
        ({"methods": ["GET", "PURGE"]}, (), {"allow-methods": "GET, PURGE"}),
        ({"methods": "*"}, (), {"allow-methods": "PUT"}),
        (
            {"headers": ["X-One", "X-Two"]},
            ("Access-Control-Request-Headers: x-three",),
            {"allow-headers": "X-One, X-Two"},
        ),
        ({"headers": []}, ("Access-Control-Request-Headers: x-three",), {"allow-headers": None}),
        ({}, ("Access-Control-Request-Headers: x(three)",), {"allow-headers": None}),
        ({"credentials": True}, (), {"allow-credentials": "true", "allow-origin": "https://shop.example"}),
        ({"max_age": 0}, (), {"max-age": "0"}),
        (
            {"private_network": True},
            ("Access-Control-Request-Private-Network: true",),
            {"allow-private-network": "true"},
        ),
        ({"private_network": True}, (), {"allow-private-network": None}),
        ({}, ("Access-Control-Request-Private-Network: true",), {"allow-private-network": None}),
        # For the response itself, not for the preflight.
        ({"expose": ["X-One"]}, (), {"expose-headers": None}),
    ],
)
def test_options_of_preflights(
    serve: Serve, options: Any, lines: tuple[str, ...], expected: dict[str, str | None]
) -> None:
    with serve(site(**{"origins": "https://shop.example", **options})).client() as client:
        found = said(preflight(client, "/plain", SHOP, *lines))
        assert {name: found.get(name) for name in expected} == expected


def test_options_of_answers(serve: Serve) -> None:
    with serve(
        site(origins="https://shop.example", credentials=True, expose=["X-One", "ETag"])
    ).client() as client:
        assert said(client.get("/plain", SHOP)) == {
            "allow-origin": "https://shop.example",
            "allow-credentials": "true",
            "expose-headers": "X-One, ETag",
        }
        assert said(client.get("/plain", EVIL)) == {}


def test_all_origins_vary_by_nothing(serve: Serve) -> None:
    with serve(site(origins="*")).client() as client:
        answer = client.get("/plain")
        assert said(answer) == {"allow-origin": "*"}
        assert answer.header("vary") is None


@pytest.mark.parametrize(
    ("pattern", "origin", "allowed"),
    [
        ("https://*.shop.example", "https://a.shop.example", True),
        ("https://*.shop.example", "https://a.b.shop.example", True),
        ("https://*.shop.example", "https://shop.example", False),
        ("https://*.shop.example", "https://evilshop.example", False),
        ("https://*.shop.example", "https://evil.example/.shop.example", False),
        ("https://*.shop.example", "http://a.shop.example", False),
        ("http://localhost:*", "http://localhost:3000", True),
        ("http://localhost:*", "http://localhost", False),
        ("http://localhost:*", "http://localhost.evil.example:3000", False),
        ("http://[::1]:3000", "http://[::1]:3000", True),
        ("null", "null", True),
        ("https://shop.example:8443", "https://shop.example:8443", True),
        ("https://shop.example:8443", "https://shop.example", False),
    ],
)
def test_origins(serve: Serve, pattern: str, origin: str, allowed: bool) -> None:
    with serve(site(origins=[pattern])).client() as client:
        assert said(client.get("/plain", f"Origin: {origin}")) == (
            {"allow-origin": origin} if allowed else {}
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"origins": "*", "credentials": True}, "does not go with credentials"),
        ({"origins": []}, "at least"),
        ({"origins": ["*", "https://a.example"]}, "is not an origin"),
        ({"origins": "https://a.example/"}, "is not an origin"),
        ({"origins": "https://a.example/path"}, "is not an origin"),
        ({"origins": "a.example"}, "is not an origin"),
        ({"origins": "https://A.example"}, "lower case"),
        ({"origins": "https://*"}, "is not an origin"),
        ({"origins": "https://*.*.example"}, "is not an origin"),
        ({"origins": "https://a*.example"}, "is not an origin"),
        ({"origins": "https://a.example:443"}, "browsers leave out: expected 'https://a.example'"),
        ({"origins": "https://a.example\r\nX: y"}, "is not an origin"),
        ({"origins": [5]}, "must be a str"),
        ({"origins": "*", "methods": ["GET POST"]}, "methods must be names"),
        ({"origins": "*", "headers": ["X\r\nY: z"]}, "headers must be names"),
        ({"origins": "*", "expose": ["X: 1"]}, "expose must be names"),
        ({"origins": "*", "max_age": -1}, "max_age must be"),
        ({"origins": "*", "max_age": 86_401}, "max_age must be"),
        ({"origins": "*", "max_age": 1.5}, "max_age must be"),
        ({"origins": "*", "path": "/a/:"}, "/a/:"),
    ],
)
def test_errors_at_registration(options: dict[str, Any], message: str) -> None:
    """A policy that a browser would refuse, or that makes no sense, is refused before it serves."""
    app = App()
    try:
        with pytest.raises(ValueError, match=message):
            app.cors(**options)
    finally:
        app.dispose()


def test_paths(serve: Serve) -> None:
    """Each part of an application may have its own; the most exact pattern counts."""

    def configure(app: App) -> None:
        app.any("/*", lambda res, req: res.end("x"))
        app.cors("*", path="/public/*")
        app.cors("https://shop.example", path="/public/but/*")

    with serve(configure).client() as client:
        assert said(client.get("/public/x", SHOP)) == {"allow-origin": "*"}
        assert said(client.get("/public/but/x", SHOP)) == {"allow-origin": "https://shop.example"}
        assert said(client.get("/public/but/x", EVIL)) == {}
        assert said(client.get("/private", SHOP)) == {}


def test_handler_has_the_say(serve: Serve) -> None:
    """Two such headers would be none to a browser."""

    def configure(app: App) -> None:
        app.get(
            "/",
            lambda res, req: res.write_header("Access-Control-Allow-Origin", "https://own.example").end(""),
        )
        app.cors("*")

    with serve(configure).client() as client:
        assert said(client.get("/", SHOP)) == {"allow-origin": "https://own.example"}


@pytest.mark.parametrize("kind", ["decorators", "middleware router"])
def test_router(serve: Serve, kind: str) -> None:
    """A middleware of a router goes for its routes: for their preflights and their errors too, and for no others."""
    cors = CORS("https://shop.example", credentials=True)

    def handler(res: Any, req: Any, data: Any) -> None:
        assert data is True
        if req.get_query("fail") == "":
            raise RuntimeError("broken")
        res.end("x")

    def configure(app: App) -> None:
        if kind == "decorators":
            app.router("/api", cors).get("/users/:id")(handler)
        else:
            MiddlewareRouter(app, cors).get("/api/users/:id", handler)
        app.get("/other", lambda res, req: res.end("x"))

    with serve(configure).client() as client:
        allowed = {"allow-origin": "https://shop.example", "allow-credentials": "true"}
        for path, status in (("/api/users/7", 200), ("/api/users/7?fail=", 500)):
            answer = client.get(path, SHOP)
            assert (answer.status, said(answer), answer.headers["vary"]) == (status, allowed, ["Origin"])
        answer = preflight(client, "/api/users/7", SHOP)
        assert answer.status == 204
        assert said(answer)["allow-origin"] == "https://shop.example"
        assert said(client.get("/other", SHOP)) == {}
        assert preflight(client, "/other", SHOP).status == 404


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_chain(serve: Serve, kind: str) -> None:
    """In a chain without a router it adds the headers; data goes through."""

    def first(res: Any, req: Any, data: Any) -> str:
        return "data"

    def plain(res: Any, req: Any, data: Any) -> None:
        res.end(data)

    async def coroutine(res: Any, req: Any, data: Any) -> None:
        res.end(data)

    chain = middleware(first, CORS("https://shop.example"), plain if kind == "def" else coroutine)
    with serve(lambda app: app.get("/", chain)).client() as client:
        answer = client.get("/", SHOP)
        assert (answer.body, said(answer)) == (b"data", {"allow-origin": "https://shop.example"})
        assert said(client.get("/", EVIL)) == {}


def test_while_it_serves(serve: Serve) -> None:
    running = serve(site())
    with running.client() as client:
        assert said(client.get("/plain", SHOP)) == {}
        running.app.cors("*")
        assert said(client.get("/plain", SHOP)) == {"allow-origin": "*"}


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

FETCH = """
async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return [answer.status, await answer.text(), answer.headers.get("x-own")];
  } catch { return "refused"; }
}
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH (Debian: apt install chromium)")
@pytest.mark.timeout(120)
def test_browser(serve: Serve) -> None:
    """A browser's view: another port is another origin."""
    playwright = pytest.importorskip("playwright.sync_api")
    page_of = serve(
        lambda app: app.any("/*", lambda res, req: res.write_header("Content-Type", "text/html").end(""))
    )

    def configure(app: App) -> None:
        app.put("/", lambda res, req: res.write_header("X-Own", "1").end(f"cookie {req.get_cookie('a')}"))
        app.put("/closed", lambda res, req: res.end("secret"))
        app.cors([f"http://127.0.0.1:{page_of.port}"], path="/", credentials=True, expose=["X-Own"])
        app.cors(["http://127.0.0.1:1"], path="/closed")

    url = f"http://127.0.0.1:{serve(configure).port}"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"], env=dict(os.environ)
        )
        context = browser.new_context()
        context.add_cookies([{"name": "a", "value": "b", "url": url}])
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{page_of.port}/")
        options = {"method": "PUT", "headers": {"X-Asked": "1"}, "credentials": "include"}
        assert page.evaluate(FETCH, [f"{url}/", options]) == [200, "cookie b", "1"]
        assert page.evaluate(FETCH, [f"{url}/closed", options]) == "refused"
        browser.close()
