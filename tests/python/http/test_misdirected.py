"""Requests on a connection that was opened for another server name: 421 (RFC 9110 section 15.5.20)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from socketify import App, AppOptions
from socketify.testing import TestServer
from support.certificates import Authority
from support.h2_client import H2Client

NAMES = ("one.test", "two.test", "*.wild.test", "guarded.test", "localhost")


def say(text: str) -> Any:
    return lambda res, req: res.end(text)


@pytest.fixture
def options(authority: Authority) -> AppOptions:
    """One certificate for all names, as a browser needs it to use a connection for several."""
    return authority.options("localhost", *NAMES[:-1], "default.test")


@pytest.fixture
def server(authority: Authority, options: AppOptions) -> Iterator[TestServer]:
    def routes(app: App) -> None:
        app.get("/", say("default"))
        app.domain("plain.test").get("/", say("plain"))
        for name in NAMES[:-1]:
            required = {"ca_file_name": authority.file, "client_cert": "required"}
            own = AppOptions(**required) if name == "guarded.test" else None  # type: ignore[arg-type]
            app.add_server_name(name, own)
            app.domain(name).get("/", say(name))
            app.domain(name).ws("/ws", {})

    with TestServer(routes, options=options) as running:
        yield running


@contextmanager
def h2(server: TestServer, context: ssl.SSLContext, name: str) -> Iterator[Callable[..., tuple[int, str]]]:
    """Asks for authorities over one connection of HTTP/2, which was opened for ``name``."""
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    raw = socket.create_connection((server.host, server.port), 20)
    secure = context.wrap_socket(raw, server_hostname=name)
    with H2Client(server.port, sock=secure) as client:

        def get(authority: str | None, **more: Any) -> tuple[int, str]:
            answer = client.get("/", scheme="https", authority=authority, **more)
            assert answer.ended
            return answer.status, bytes(answer.body).decode()

        yield get
        # None of it was a fault of the connection.
        assert client.goaway is None
        assert get(name) == (200, name if name in NAMES[:-1] else "default")


def test_a_stream_for_another_name(authority: Authority, server: TestServer) -> None:
    """Browsers use a connection for every host that its certificate covers (RFC 9113 9.1.1): they are to open another."""
    with h2(server, authority.context(), "one.test") as get:
        assert get("one.test") == (200, "one.test")
        assert get(f"ONE.test.:{server.port}") == (200, "one.test")
        assert get("two.test")[0] == 421
        assert get("guarded.test:443")[0] == 421
        # Whose own connection would have come to the default, or to a domain without a certificate.
        assert get("default.test")[0] == 421
        assert get("plain.test")[0] == 421
        # No handshake names an address: a client with an address has no other `Host`.
        assert get(f"127.0.0.1:{server.port}") == (200, "one.test")
        assert get("[::1]") == (200, "one.test")
        assert get(None, headers=[("host", "two.test")])[0] == 421


def test_a_stream_for_the_same_pattern(authority: Authority, server: TestServer) -> None:
    """The names of one registration are one site."""
    with h2(server, authority.context(), "localhost") as get:
        assert get("a.wild.test")[0] == 421
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    raw = socket.create_connection((server.host, server.port), 20)
    secure = context.wrap_socket(raw, server_hostname="a.wild.test")
    with H2Client(server.port, sock=secure) as client:
        for name in ("a.wild.test", "b.wild.test"):
            answer = client.get("/", scheme="https", authority=name)
            assert bytes(answer.body) == b"*.wild.test"


def test_a_stream_of_the_default_for_a_name(authority: Authority, server: TestServer) -> None:
    """Nor do clients that were not asked for a certificate get to where they would have been."""
    with h2(server, authority.context(), "localhost") as get:
        assert get("localhost") == (200, "default")
        assert get("guarded.test")[0] == 421
        assert get("one.test")[0] == 421
        assert get("default.test") == (200, "default")
        assert get("plain.test") == (200, "plain")
        assert get("127.0.0.1") == (200, "default")


def test_http1_goes_by_the_handshake(authority: Authority, server: TestServer) -> None:
    """B-TL-08: such clients share no connection between hosts, and the ``Host`` does not count."""
    context = authority.context()
    context.check_hostname = False
    with server.connect(ssl_context=context, server_name="one.test") as connection:
        for host in ("one.test", "two.test", "default.test"):
            assert connection.request("GET", headers={"Host": host}).text == "one.test"


def test_a_name_that_was_registered_anew(authority: Authority, options: AppOptions) -> None:
    """A-APP-22: who came in when it asked for no certificate has no access to what asks for one now."""

    def routes(app: App) -> None:
        app.add_server_name("one.test")
        app.domain("one.test").get("/", say("for all"))

    with TestServer(routes, options=options) as server:
        app = server.app
        with server.connect(ssl_context=authority.context(), server_name="one.test") as before:
            assert before.request("GET").text == "for all"
            # Neither of these makes it another registration.
            app.add_server_name("one.test")
            app.reload_certificates()
            assert before.request("GET").text == "for all"
            app.remove_server_name("one.test")
            app.add_server_name("one.test", AppOptions(ca_file_name=authority.file, client_cert="required"))
            app.domain("one.test").get("/", say("secret"))
            assert before.request("GET").status == 421
        with server.connect(ssl_context=authority.context("alice"), server_name="one.test") as after:
            assert after.request("GET").text == "secret"
