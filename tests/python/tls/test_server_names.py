"""TLS server names with certificates and routes of their own: A-APP-21 to A-APP-23, B-TL-07 to B-TL-11."""

from __future__ import annotations

import asyncio
import gc
import ssl
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any

import pytest

from socketify import App, AppOptions
from socketify.testing import Answer, TestServer, WebSocketSession
from support import until
from support.certificates import Authority, expired, names_of


def say(text: str) -> Any:
    return lambda res, req: res.end(text)


class Site:
    """A server whose default certificate is for localhost, and clients that verify certificates."""

    def __init__(self, authority: Authority, server: TestServer) -> None:
        self.context = authority.context()
        self.server = server

    def get(self, name: str | None, shows: str, host: str | None = None) -> Answer:
        """Asks for ``name`` and gets the certificate for ``shows``."""
        context = self.context
        if name != shows:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(cadata=self._roots())
        with self.server.connect(ssl_context=context, server_name=name) as connection:
            assert names_of(connection) == [shows]
            return connection.request("GET", headers={"Host": host} if host else {})

    def _roots(self) -> bytes:
        return b"".join(self.context.get_ca_certs(binary_form=True))


@pytest.fixture
def default(authority: Authority) -> AppOptions:
    return authority.options("localhost")


# ---- registration ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, 1, ["one.test"]])
def test_names_of_a_wrong_type(default: AppOptions, wrong: Any) -> None:
    """A-APP-21, A-APP-22: also on an application without TLS."""
    for app in (App(default), App()):
        with pytest.raises(RuntimeError, match="add_server_name takes a host name as str or bytes, not"):
            app.add_server_name(wrong)
        with pytest.raises(RuntimeError, match="remove_server_name takes a host name as str or bytes, not"):
            app.remove_server_name(wrong)


def test_options_of_a_wrong_type(default: AppOptions) -> None:
    """A-APP-21."""
    with pytest.raises(RuntimeError, match=r"add_server_name takes AppOptions or None, not \{\}"):
        App(default).add_server_name("one.test", {})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["", "a..b", "https://one.test", "one.test:443", "a*.test", b"\xff"])
def test_what_is_no_name(default: AppOptions, wrong: str | bytes) -> None:
    """A-APP-21."""
    with pytest.raises(ValueError, match=r"(?i)domain|host name"):
        App(default).add_server_name(wrong)


def test_a_plain_application_has_no_names() -> None:
    """B-TL-11: no effect, and the routes of `domain` are found by the request's host as before."""

    def routes(app: App) -> None:
        assert app.add_server_name("one.test", AppOptions("missing", "missing")) is app
        assert app.remove_server_name("one.test") is app
        assert app.reload_certificates() is app
        app.get("/", say("default"))
        app.domain("one.test").get("/", say("one"))

    with TestServer(routes) as server:
        assert server.get("/").text == "default"
        assert server.get("/", headers={"Host": "one.test"}).text == "one"


def test_the_wrong_file_is_named(default: AppOptions) -> None:
    """A-APP-21."""
    app = App(default)
    with pytest.raises(RuntimeError, match=r"one\.test.*cert_file_name.*missing.*No such file"):
        app.add_server_name("one.test", AppOptions("missing", "missing"))


# ---- selection -----------------------------------------------------------------------------------------------------------


def test_each_name_has_its_certificate_and_its_routes(authority: Authority, default: AppOptions) -> None:
    """B-TL-07, B-TL-08: the exact name before the pattern, one label for ``*``, in any case."""

    def routes(app: App) -> None:
        app.get("/", say("default"))
        for name in ("one.test", "*.one.test", "www.one.test"):
            app.add_server_name(name, authority.options(name))
            app.domain(name).get("/", say(name))

    with TestServer(routes, options=default) as server:
        site = Site(authority, server)
        assert site.get("one.test", "one.test").text == "one.test"
        assert site.get("ONE.test", "one.test").text == "one.test"
        assert site.get("www.one.test", "www.one.test").text == "www.one.test"
        assert site.get("api.one.test", "*.one.test").text == "*.one.test"
        # B-TL-09, B-TL-10: an unregistered name, and no name.
        assert site.get("a.b.one.test", "localhost").text == "default"
        assert site.get("two.test", "localhost").text == "default"
        assert site.get("127.0.0.1", "localhost").text == "default"


def test_the_name_of_the_handshake_has_the_say(authority: Authority, default: AppOptions) -> None:
    """B-TL-08: for any request, and nothing falls back to the default routes."""

    def routes(app: App) -> None:
        app.any("/*", say("default"))
        for name in ("one.test", "two.test"):
            app.add_server_name(name, authority.options(name))
            app.domain(name).get("/", say(name))

    with TestServer(routes, options=default) as server:
        site = Site(authority, server)
        assert site.get("one.test", "one.test", host="two.test").text == "one.test"
        assert site.get("one.test", "one.test", host="localhost").text == "one.test"
        # Nor does a host reach a name that the handshake has not asked for.
        assert site.get("localhost", "localhost", host="one.test").text == "default"
        assert site.get("127.0.0.1", "localhost", host="one.test:443").text == "default"
        with server.connect(ssl_context=authority.context(), server_name="one.test") as connection:
            assert connection.request("GET", "/nothing").status == 404


def test_domains_without_a_certificate(authority: Authority, default: AppOptions) -> None:
    """EXT: a domain that is no server name is found by the request's host, as without TLS."""

    def routes(app: App) -> None:
        app.get("/", say("default"))
        app.domain("two.test").get("/", say("two"))

    with TestServer(routes, options=default) as server:
        site = Site(authority, server)
        assert site.get("localhost", "localhost", host="two.test").text == "two"


def test_a_name_without_options(authority: Authority, default: AppOptions) -> None:
    """A-APP-21: its own routes, and the application's certificate."""

    def routes(app: App) -> None:
        app.get("/", say("default"))
        app.add_server_name(b"one.test")
        app.domain("one.test").get("/", say("one"))

    with TestServer(routes, options=default) as server:
        site = Site(authority, server)
        assert site.get("one.test", "localhost").text == "one"
        assert site.get("localhost", "localhost").text == "default"


def test_a_name_that_is_there_is_left_alone(authority: Authority, default: AppOptions) -> None:
    """A-APP-21."""

    def routes(app: App) -> None:
        app.add_server_name("one.test", authority.options("one.test"))
        app.domain("one.test").get("/", say("first"))
        app.add_server_name("ONE.test.", authority.options("second.test"))

    with TestServer(routes, options=default) as server:
        assert Site(authority, server).get("one.test", "one.test").text == "first"


def test_names_come_and_go_while_it_runs(authority: Authority, default: AppOptions) -> None:
    """A-APP-21, A-APP-22: the routes go with the name, and connections that it has opened are sent away."""
    with TestServer(lambda app: app.get("/", say("default")), options=default) as server:
        site, app = Site(authority, server), server.app
        assert site.get("one.test", "localhost").text == "default"
        app.add_server_name("one.test", authority.options("one.test"))
        assert site.get("one.test", "one.test").status == 404
        app.domain("one.test").get("/", say("one"))
        with server.connect(ssl_context=site.context, server_name="one.test") as connection:
            assert connection.request("GET").text == "one"
            assert app.remove_server_name(b"One.Test") is app
            app.remove_server_name("never.test")
            assert connection.request("GET").status == 421
        assert site.get("one.test", "localhost").text == "default"
        app.add_server_name("one.test", authority.options("one.test"))
        assert site.get("one.test", "one.test").status == 404


def test_an_application_of_names_alone(authority: Authority) -> None:
    """A-APP-01: without a certificate of its own it serves those names, and no other client."""

    def routes(app: App) -> None:
        app.add_server_name("one.test", authority.options("one.test"))
        app.domain("one.test").get("/", say("one"))

    with TestServer(routes, options=AppOptions()) as server:
        assert Site(authority, server).get("one.test", "one.test").text == "one"
        with pytest.raises(ssl.SSLError):
            server.connect(server_name="two.test")


def test_letters_beyond_ascii(authority: Authority, default: AppOptions) -> None:
    """EXT: in IDNA form, as clients ask for it."""

    def routes(app: App) -> None:
        app.add_server_name("bücher.test", authority.options("xn--bcher-kva.test"))
        app.domain("bücher.test").get("/", say("books"))

    with TestServer(routes, options=default) as server:
        assert Site(authority, server).get("xn--bcher-kva.test", "xn--bcher-kva.test").text == "books"


# ---- lifetime of a name ---------------------------------------------------------------------------------------------------


class Named:
    """A handler whose end can be seen."""

    def __call__(self, *arguments: Any) -> None:
        arguments[0].end("called")


def test_handlers_go_with_their_name(authority: Authority, default: AppOptions) -> None:
    """A-APP-22: so names may come and go for as long as the application runs."""
    alive: weakref.WeakSet[Named] = weakref.WeakSet()

    def made() -> Named:
        handler = Named()
        alive.add(handler)
        return handler

    with TestServer(lambda app: app.get("/", say("default")), options=default) as server:
        app = server.app
        for _ in range(50):
            app.add_server_name("one.test")
            app.domain("one.test").get("/", made())
            app.domain("one.test").ws("/ws", {"open": made(), "message": made(), "upgrade": made()})
            app.remove_server_name("one.test")
        gc.collect()
        assert len(alive) == 0
        assert Site(authority, server).get("localhost", "localhost").text == "default"


def test_requests_outlive_their_name(authority: Authority, default: AppOptions) -> None:
    """A-APP-22: a running request is finished by its own handlers, despite new registrations."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Listener:
        def __init__(self, text: str) -> None:
            self.text = text
            alive.add(self)

    class Answers(Listener):
        def __call__(self, res: Any, req: Any) -> None:
            res.end(self.text)

    class Echoes(Listener):
        def __call__(self, ws: Any, message: Any, opcode: int) -> None:
            ws.send(f"{self.text} {message}", 1)

    def routes(app: App) -> None:
        app.add_server_name("one.test", authority.options("one.test"))
        app.domain("one.test").get("/", Answers("first"))
        app.domain("one.test").ws("/ws", {"message": Echoes("first")})

    context = authority.context()
    with TestServer(routes, options=default) as server:
        app = server.app
        connection = server.connect(ssl_context=context, server_name="one.test")
        with WebSocketSession(connection, "/ws", (), {}) as ws:
            app.remove_server_name("one.test")
            # These would take the freed numbers.
            app.add_server_name("two.test", authority.options("two.test"))
            for place in range(4):
                app.domain("two.test").get(f"/{place}", Answers("second"))
                app.domain("two.test").ws(f"/ws/{place}", {"message": Echoes("second")})
            gc.collect()
            assert sorted(each.text for each in alive) == ["first"] + 8 * ["second"]
            ws.send("hello")
            assert ws.receive() == "first hello"
        until(lambda: _swept(app) and all(each.text == "second" for each in alive), "the end of the last one")


def _swept(app: App) -> bool:
    """Drops the returned numbers, as each registration does."""
    app.remove_server_name("never.test")
    gc.collect()
    return True


def test_a_warning_that_is_an_error_registers_nothing(tmp_path: Path, default: AppOptions) -> None:
    """A-APP-21: all or nothing, also with ``-W error``."""
    options = expired(tmp_path, "one.test")
    app = App(default)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            # The second call gives the same error: the first has left nothing.
            with pytest.raises(RuntimeWarning, match="has expired"):
                app.add_server_name("one.test", options)
    with pytest.warns(RuntimeWarning, match="has expired"):
        app.add_server_name("one.test", options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        app.add_server_name("one.test", options)


def test_a_name_asks_clients_for_what_the_application_does(authority: Authority) -> None:
    """A-APP-21: a certificate of its own admits no refused client; options for it do."""
    default = authority.options("localhost", ca_file_name=authority.file, client_cert="required")

    def routes(app: App) -> None:
        for name, wanted in {"same.test": None, "none.test": "none", "optional.test": "optional"}.items():
            own = authority.options(name, client_cert=wanted)
            if wanted == "optional":
                own.ca_file_name = authority.file
            app.add_server_name(name, own)
            app.domain(name).get("/", say(name))

    def get(name: str, client: str | None = None) -> str:
        with server.connect(ssl_context=authority.context(client), server_name=name) as connection:
            return connection.request("GET").text

    with TestServer(routes, options=default) as server:
        assert get("same.test", "alice") == "same.test"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            get("same.test")
        assert get("none.test") == "none.test"
        assert get("optional.test") == "optional.test"


# ---- names that are missing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["io", "loop"])
def test_a_missing_name_may_be_added(authority: Authority, default: AppOptions, lane: str) -> None:
    """A-APP-23, B-TL-09: while the handshake waits, and once for each name."""
    asked: list[str] = []

    def routes(app: App) -> None:
        app.get("/", say("default"))

        @app.missing_server_name
        def missing(name: str) -> None:
            asked.append(name)
            if name.endswith(".test"):
                app.add_server_name(name, authority.options(name))
                app.domain(name).get("/", say(f"made for {name}"))

    with TestServer(routes, options=default, sync_handlers=lane) as server:
        site = Site(authority, server)
        assert site.get("One.test", "one.test").text == "made for one.test"
        assert site.get("one.test", "one.test").text == "made for one.test"
        assert site.get("one.example", "localhost").text == "default"
        # B-TL-10: the callback is not called without a name.
        assert site.get("127.0.0.1", "localhost").text == "default"
    assert asked == ["one.test", "one.example"]


def test_a_coroutine_comes_too_late(authority: Authority, default: AppOptions) -> None:
    """A-APP-23: this handshake goes on without it, the next one has the name."""
    done = threading.Event()

    def routes(app: App) -> None:
        app.get("/", say("default"))

        async def missing(name: str) -> None:
            await asyncio.sleep(0.05)
            app.add_server_name(name, authority.options(name))
            app.domain(name).get("/", say("late"))
            done.set()

        app.missing_server_name(missing)

    with TestServer(routes, options=default) as server:
        site = Site(authority, server)
        assert site.get("one.test", "localhost").text == "default"
        assert done.wait(20)
        assert site.get("one.test", "one.test").text == "late"


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_what_a_handler_raises_is_logged(
    authority: Authority, default: AppOptions, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """A-APP-23: and the client gets the default."""

    def plain(name: str) -> None:
        raise LookupError(f"no {name}")

    async def coroutine(name: str) -> None:
        raise LookupError(f"no {name}")

    def routes(app: App) -> None:
        app.get("/", say("default"))
        app.missing_server_name(plain if kind == "plain" else coroutine)

    with TestServer(routes, options=default, raise_errors=False) as server:
        assert Site(authority, server).get("one.test", "localhost").text == "default"
        until(lambda: "missing_server_name" in caplog.text, "a line in the log")
        assert "no one.test" in caplog.text


def test_nobody_is_asked_any_more(authority: Authority, default: AppOptions) -> None:
    """A-APP-23: None takes the handler away."""
    asked: list[str] = []

    def routes(app: App) -> None:
        app.get("/", say("default"))
        assert app.missing_server_name(asked.append) == asked.append
        assert app.missing_server_name(None) is None

    with TestServer(routes, options=default) as server:
        assert Site(authority, server).get("one.test", "localhost").text == "default"
    assert asked == []


def test_a_handler_keeps_no_application(default: AppOptions) -> None:
    """A circle of an application that has ended and its handler is garbage like any other."""

    class Kept:
        pass

    app, kept = App(default), Kept()
    app.missing_server_name(lambda name, app=app, kept=kept: app.add_server_name(name))
    gone = weakref.ref(kept)
    app.dispose()
    del app, kept
    gc.collect()
    assert gone() is None


def test_a_handler_must_be_callable(default: AppOptions) -> None:
    """A-APP-23."""
    with pytest.raises(RuntimeError, match="a function of the name or None, not 'x'"):
        App(default).missing_server_name("x")  # type: ignore[type-var]
