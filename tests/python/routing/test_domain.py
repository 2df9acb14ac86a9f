"""``app.domain``: routers by host (A-APP-20, DEC-13, I-B-01, I-E-05, B-TL-08, B-TL-11)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import App, Domain, MiddlewareRouter, OpCode, Request, Response
from support import until
from support.client import Answer, Client
from support.lanes import each_lane, on, options
from support.ws_client import WebSocketClient, handshake

Serve = Callable[..., Any]

METHODS = ["get", "post", "options", "delete", "patch", "put", "head", "trace", "any"]


def text(what: str) -> Callable[[Response, Request], Response]:
    return lambda res, req: res.end(what)


def ask(
    client: Client, host: str | None, target: str = "/", method: str = "GET", version: str = "1.1"
) -> Answer:
    lines = [f"{method} {target} HTTP/{version}", *([] if host is None else [f"Host: {host}"])]
    if version == "1.0":
        lines.append("Connection: keep-alive")
    return client.send("\r\n".join([*lines, "", ""]).encode("latin-1")).answer(method)


def hosts(app: App) -> None:
    app.get("/", text("default"))
    for name in ("example.com", "*.example.com", "api.example.com", "192.0.2.1", "::1", "localhost"):
        app.domain(name).get("/", text(name))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.com", "example.com"),
        ("example.com:8080", "example.com"),
        ("example.com:", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("example.com.:80", "example.com"),
        ("www.example.com", "*.example.com"),
        ("WWW.EXAMPLE.COM:1", "*.example.com"),
        ("api.example.com", "api.example.com"),
        ("a.b.example.com", "default"),
        (".example.com", "default"),
        ("example.com..", "default"),
        ("xexample.com", "default"),
        ("example.org", "default"),
        ("192.0.2.1:3000", "192.0.2.1"),
        ("192.0.2.2", "default"),
        ("[::1]", "::1"),
        ("[::1]:3000", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::2]", "default"),
        ("localhost", "localhost"),
        ("", "default"),
        ("a" * 300, "default"),
        (".".join("a" * 400), "default"),
    ],
)
def test_the_host_chooses_the_router(serve: Serve, host: str, expected: str) -> None:
    """DEC-13: without the port, in any case, with a dot at the end or not."""
    with serve(hosts).client() as client:
        for _ in range(2):
            assert ask(client, host).body.decode() == expected


def test_the_target_goes_before_the_header(serve: Serve) -> None:
    """RFC 9112 section 3.2.2: with an absolute-form target the Host header counts for nothing."""
    with serve(hosts).client() as client:
        assert ask(client, "example.org", "http://example.com/").body == b"example.com"
        assert ask(client, "example.com", "http://example.org:80?x=/").body == b"default"
        assert ask(client, "example.com", "HTTPS://API.example.com:443").body == b"api.example.com"


def test_a_request_without_a_host_is_for_the_default_router(serve: Serve) -> None:
    """HTTP/1.0 knows requests without Host (B-HT-05)."""
    with serve(hosts).client() as client:
        assert ask(client, None, version="1.0").body == b"default"
        assert ask(client, "example.com", version="1.0").body == b"example.com"


def test_connect_names_its_host_in_the_target(serve: Serve) -> None:
    """RFC 9112 section 3.2.3."""

    def configure(app: App) -> None:
        app.connect("/*", text("default"))
        app.domain("example.com").connect("/*", text("example.com"))

    running = serve(configure)
    with running.client() as client:
        assert ask(client, "x", "example.com:443", "CONNECT").body == b"example.com"
    with running.client() as client:
        assert ask(client, "example.com", "example.org:443", "CONNECT").body == b"default"


def test_nothing_falls_back_to_the_default_router(serve: Serve) -> None:
    """B-TL-08: a path without a route of the domain is a 404, also for the methods of a path that it has."""

    def configure(app: App) -> None:
        app.any("/*", text("default"))
        app.ws("/socket", {})
        app.domain("example.com").get("/here", text("here")).constant("/fixed", "fixed")

    running = serve(configure)
    with running.client() as client:
        assert ask(client, "example.com", "/here").body == b"here"
        assert ask(client, "example.com", "/fixed").body == b"fixed"
        assert ask(client, "example.com", "/there").status == 404
        assert ask(client, "example.com", "/here", "POST").status == 404
        assert ask(client, "other.example", "/here").body == b"default"
        assert ask(client, "other.example", "/fixed").body == b"default"
        lines = (
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
        )
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        assert ask(client, f"example.com\r\n{lines}{key}", "/socket").status == 404


def test_a_domain_that_has_no_route_is_no_domain(serve: Serve) -> None:
    """Its name alone takes no request from the default router."""

    def configure(app: App) -> None:
        app.get("/", text("default"))
        app.domain("example.com")

    with serve(configure).client() as client:
        assert ask(client, "example.com").body == b"default"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_an_application_that_registers(serve: Serve, method: str) -> None:
    """DEC-13: it gives the domain back, as an application's gives the application."""

    def configure(app: App) -> None:
        domain = app.domain("example.com")
        assert getattr(domain, method)("/", text(method)) is domain

    with serve(configure).client() as client:
        answer = ask(client, "example.com", method="PROPFIND" if method == "any" else method.upper())
        assert (answer.status, answer.header("content-length")) == (200, str(len(method)))
        assert ask(client, "example.org", method=method.upper()).status == 404


def test_routers_static_files_and_body_limits_of_a_domain(serve: Serve, tmp_path: Path) -> None:
    """DEC-13: a domain has the methods of an application."""
    (tmp_path / "file.txt").write_text("content")

    async def post(res: Any, req: Any) -> None:
        res.end(str(len((await res.get_data()).getvalue())))

    def configure(app: App) -> None:
        domain = app.domain("example.com")
        domain.static("/files", tmp_path).post("/", post, max_body_size=3)
        api = domain.router("/api", lambda res, req, data: "data")

        @api.get("/x")
        def handler(res: Any, req: Any, data: str) -> None:
            res.end(data)

        MiddlewareRouter(domain, lambda res, req, data: "more").get(
            "/y", lambda res, req, data: res.end(data)
        )

    with serve(configure).client() as client:
        assert ask(client, "example.com", "/files/file.txt").body == b"content"
        assert ask(client, "example.com", "/api/x").body == b"data"
        assert ask(client, "example.com", "/y").body == b"more"
        for path in ("/files/file.txt", "/api/x", "/y"):
            assert ask(client, "example.org", path).status == 404
        assert ask(client, "example.com\r\nContent-Length: 4", "/", "POST").status == 413


@each_lane
def test_passing_on_stays_in_the_domain(serve: Serve, lane: str) -> None:
    """B-RT-14, DEC-13: the next route is one of the domain, or there is none."""

    def pass_on(res: Any, req: Any) -> None:
        req.set_yield(True)

    def configure(app: App) -> None:
        app.get("/a", text("default a")).get("/b", text("default b")).any("/*", text("default"))
        domain = app.domain("example.com")
        domain.get("/a", on(lane, pass_on)).get("/b", on(lane, pass_on)).get("/:any", on(lane, pass_on))
        domain.get("/a/*", text("no"))
        app.domain("www.example.com").get("/a", on(lane, pass_on)).get("/*", text("domain"))

    with serve(configure, **options(lane)).client() as client:
        assert ask(client, "example.com", "/a").status == 404
        assert ask(client, "www.example.com", "/a").body == b"domain"


def test_sockets_of_a_domain(serve: Serve) -> None:
    """DEC-13: each domain has its own at the same path, and parameters; an upgrade handler passes on within it."""

    def say(what: str) -> dict[str, Any]:
        return {"open": lambda ws: ws.send(what, OpCode.TEXT)}

    def pass_on(res: Any, req: Any, context: object) -> None:
        req.set_yield(True)

    def configure(app: App) -> None:
        app.ws("/chat", say("default"))
        domain = app.domain("*.example.com")
        assert domain.ws("/chat", {"upgrade": pass_on}) is domain
        domain.ws("/:room", say("domain")).get("/chat", text("page"))

    running = serve(configure)
    for host, expected in (("a.example.com", "domain"), ("example.com", "default")):
        with WebSocketClient(running.port) as socket:
            socket.send(handshake("/chat", host=host))
            socket.opened()
            assert socket.recv_message() == expected
            socket.finish()
    with running.client() as client:
        assert ask(client, "a.example.com", "/chat").body == b"page"


def test_domains_while_serving(serve: Serve) -> None:
    """B-RT-20: effective at once, and a handler that is registered again replaces the earlier (DEC-8)."""
    running = serve(lambda app: app.get("/", text("default")))
    with running.client() as client:
        assert ask(client, "example.com").body == b"default"
        running.app.domain("example.com").get("/", text("first"))
        assert ask(client, "example.com").body == b"first"
        running.app.domain("EXAMPLE.com.").get("/", text("second"))
        assert ask(client, "example.com").body == b"second"
        assert ask(client, "example.org").body == b"default"


def test_the_more_exact_name_wins(serve: Serve) -> None:
    """B-TL-07: label by label from the left, an exact one before ``*``, which is exactly one label."""

    def configure(app: App) -> None:
        for name in ("*.*.com", "*.b.com", "a.*.com", "a.b.com", "*"):
            app.domain(name).get("/", text(name))

    expected = {
        "a.b.com": "a.b.com",
        "a.x.com": "a.*.com",
        "x.b.com": "*.b.com",
        "x.y.com": "*.*.com",
        "com": "*",
        "anything": "*",
    }
    with serve(configure).client() as client:
        assert {host: ask(client, host).body.decode() for host in expected} == expected
        assert ask(client, "b.com").status == 404
        # An address is no name: no label of it stands for another.
        assert ask(client, "[::1]").status == 404
        assert ask(client, "1").status == 404


@pytest.mark.parametrize(
    ("given", "name", "host"),
    [
        ("Example.COM.", "example.com", "example.com"),
        ("bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example", "x.xn--bcher-kva.example"),
        ("[::1]", "[::1]", "[::1]"),
        ("2001:DB8:0::1", "[2001:db8::1]", "[2001:db8:0:0::1]:80"),
        ("with_underscore", "with_underscore", "with_underscore"),
    ],
)
def test_names(serve: Serve, given: str, name: str, host: str) -> None:
    """Names are compared in one form."""
    domains: list[Domain] = []

    def configure(app: App) -> None:
        domains.append(app.domain(given).get("/", text("found")))
        assert domains[0].app is app

    with serve(configure).client() as client:
        assert ask(client, host).body == b"found"
    assert domains[0].name == name
    assert repr(domains[0]) == f"<Domain {name}>"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "empty label"),
        ("a..b", "empty label"),
        ("example.com:80", "no port"),
        ("[::1]:80", "no port"),
        ("http://example.com", "address of a page"),
        ("example.com/path", "address of a page"),
        ("exa mple.com", "no host name has"),
        ("ex*mple.com", "a whole label"),
        ("a" * 64 + ".com", "longer than 63 bytes"),
        (".".join(["a" * 60] * 5), "longer than 253 bytes"),
        ("\ud800.com", "no IDNA form"),
        ("ü" * 64, "no IDNA form"),
    ],
)
def test_what_is_no_name(name: str, message: str) -> None:
    """The error has the name and its fault."""
    app = App()
    with pytest.raises(ValueError, match=message) as raised:
        app.domain(name)
    assert repr(name)[1:-1] in str(raised.value)
    app.dispose()


@pytest.mark.parametrize("name", [None, b"example.com", 1, ["example.com"]])
def test_a_name_is_text(name: Any) -> None:
    app = App()
    with pytest.raises(TypeError, match=r"named by a str such as 'example.com', not "):
        app.domain(name)
    app.dispose()


def test_an_error_in_a_domain_is_the_applications(serve: Serve) -> None:
    """There is one error handler."""

    def fail(res: Any, req: Any) -> None:
        raise KeyError("domain")

    def failed(error: Exception, res: Any, req: Any) -> None:
        res.write_status(500).end(repr(error))

    def configure(app: App) -> None:
        app.set_error_handler(failed)
        app.domain("example.com").get("/", fail)

    with serve(configure).client() as client:
        assert ask(client, "example.com").body == b"KeyError('domain')"


def test_many_domains(serve: Serve) -> None:
    """A thousand of them, each with its own route."""

    def configure(app: App) -> None:
        for number in range(1000):
            app.domain(f"site{number}.example").get("/", text(str(number)))

    running = serve(configure)
    with running.client() as client:
        for number in range(0, 1000, 111):
            assert ask(client, f"site{number}.example:80").body == str(number).encode()
    until(lambda: running.app._server.connection_count() == 0, "the client has gone")
