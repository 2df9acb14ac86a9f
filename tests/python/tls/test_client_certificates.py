"""Certificates of clients (mutual TLS): whom the server asks for one, whom it lets in, and what handlers learn."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from socketify import App, AppOptions
from socketify.testing import TestServer
from support.certificates import Authority, openssl, resumed


def routes(app: App) -> None:
    def who(res: Any, req: Any) -> None:
        certificate = req.get_peer_certificate()
        res.end({"subject": req.get_peer_subject(), "certificate": certificate and certificate.hex()})

    app.get("/", who)
    app.ws("/ws", {"message": lambda ws, message, opcode: ws.send({"subject": ws.get_peer_subject()}, 1)})


def attempt(server: TestServer, context: ssl.SSLContext) -> Any:
    """A client's response. With TLS 1.3 it notices only then that it was refused."""
    with server.connect(ssl_context=context) as connection:
        return connection.request("GET").json()


def refused(server: TestServer, context: ssl.SSLContext) -> None:
    """The handshake fails: the server sends an alert, or has closed the connection after it."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        attempt(server, context)


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    """Who signs the certificates of clients."""
    return Authority(tmp_path, "clients")


def identified(authority: Authority, clients: Authority, name: str = "alice") -> ssl.SSLContext:
    context = authority.context()
    clients.show(context, name)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_required(authority: Authority, clients: Authority, tmp_path: Path, version: ssl.TLSVersion) -> None:
    """EXT: a client without a certificate, or with an unknown one, is refused."""
    (tmp_path / "other").mkdir()
    options = authority.options("localhost", ca_file_name=clients.file, client_cert="required")
    with TestServer(routes, options=options) as server:
        contexts = identified(authority, clients), authority.context(), authority.context()
        for context in contexts:
            context.minimum_version = context.maximum_version = version
        good, none, unknown = contexts
        Authority(tmp_path / "other").show(unknown, "alice")
        answer = attempt(server, good)
        assert "CN=alice" in answer["subject"]
        refused(server, none)
        refused(server, unknown)
        assert attempt(server, good)["subject"] == answer["subject"]


@pytest.mark.parametrize("wanted", [None, "optional"])
def test_optional(authority: Authority, clients: Authority, tmp_path: Path, wanted: str | None) -> None:
    """B-TL-03: the default where there are authorities; a shown certificate is still verified."""
    (tmp_path / "other").mkdir()
    options = authority.options("localhost", ca_file_name=clients.file, client_cert=wanted)
    with TestServer(routes, options=options) as server:
        assert attempt(server, authority.context()) == {"subject": None, "certificate": None}
        assert "CN=alice" in attempt(server, identified(authority, clients))["subject"]
        unknown = authority.context()
        Authority(tmp_path / "other").show(unknown, "alice")
        refused(server, unknown)


def test_none(authority: Authority, clients: Authority) -> None:
    """EXT: no client is asked, so no client shows one."""
    options = authority.options("localhost", ca_file_name=clients.file, client_cert="none")
    with TestServer(routes, options=options) as server:
        assert attempt(server, identified(authority, clients)) == {"subject": None, "certificate": None}


def test_plain_requests_have_none() -> None:
    """EXT."""
    with TestServer(routes) as server:
        assert server.get().json() == {"subject": None, "certificate": None}


def test_the_subject_is_openssl_s(authority: Authority, clients: Authority, tmp_path: Path) -> None:
    """RFC 4514, compared with another implementation; the certificate is the one that was shown."""
    options = authority.options("localhost", ca_file_name=clients.file, client_cert="required")
    with TestServer(routes, options=options) as server:
        answer = attempt(server, identified(authority, clients))
        (tmp_path / "shown.der").write_bytes(bytes.fromhex(answer["certificate"]))
        arguments = [
            "x509",
            "-inform",
            "der",
            "-in",
            "shown.der",
            "-noout",
            "-subject",
            "-nameopt",
            "RFC2253",
        ]
        assert openssl(*arguments, cwd=tmp_path).strip() == f"subject={answer['subject']}"
        assert r"O=Clients\, Inc." in answer["subject"]


def test_sockets_know_it_too(authority: Authority, clients: Authority) -> None:
    """EXT: also after the handshake of the WebSocket."""
    options = authority.options("localhost", ca_file_name=clients.file, client_cert="required")
    context = identified(authority, clients)
    with TestServer(routes, options=options, ssl_context=context) as server, server.websocket("/ws") as ws:
        ws.send("who am I?")
        assert "CN=alice" in ws.receive_json()["subject"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_is_still_the_client_s(
    authority: Authority, clients: Authority, version: ssl.TLSVersion
) -> None:
    """EXT: the certificate is not shown again, and still known."""
    options = authority.options("localhost", ca_file_name=clients.file, client_cert="required")
    with TestServer(routes, options=options) as server:
        context = identified(authority, clients)
        context.minimum_version = context.maximum_version = version
        with server.connect(ssl_context=context) as connection:
            first = connection.request("GET").json()
            session = connection.socket.session  # type: ignore[attr-defined]
        with resumed(server, context, session) as again:
            assert again.session_reused is True
            again.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = b""
            while piece := again.recv(65536):
                received += piece
        assert first["certificate"].encode() in received


def offer(server: TestServer, context: ssl.SSLContext, session: ssl.SSLSession) -> None:
    """Asks under a session of another connection."""
    with resumed(server, context, session) as again:
        again.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        if not again.recv(65536):
            raise ConnectionError("closed without an answer")


def test_a_session_is_worth_nothing_under_another_policy(
    authority: Authority, clients: Authority, tmp_path: Path
) -> None:
    """EXT: a client that was let in by an authority which is trusted no more is not let in by its ticket."""
    options = authority.options("localhost", ca_file_name=clients.file, client_cert="required")
    with TestServer(routes, options=options) as server:
        context = identified(authority, clients)
        with server.connect(ssl_context=context) as connection:
            assert connection.request("GET").status == 200
            session = connection.socket.session  # type: ignore[attr-defined]
        (tmp_path / "next").mkdir()
        Path(clients.file).write_bytes(Path(Authority(tmp_path / "next").file).read_bytes())
        server.app.reload_certificates()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            offer(server, context, session)


def test_a_name_may_be_stricter_than_the_rest(authority: Authority, clients: Authority) -> None:
    """EXT: and no other way leads to its routes: not its host, and not a session of the application."""

    def both(app: App) -> None:
        app.get("/", lambda res, req: res.end({"at": "default"}))
        strict = AppOptions(ca_file_name=clients.file, client_cert="required")
        app.add_server_name("admin.test", strict)
        app.domain("admin.test").get(
            "/", lambda res, req: res.end({"at": "admin", "who": req.get_peer_subject()})
        )

    with TestServer(both, options=authority.options("localhost", "admin.test")) as server:

        def ask(context: ssl.SSLContext, name: str, host: str) -> Any:
            with server.connect(ssl_context=context, server_name=name) as connection:
                return connection.request("GET", headers={"Host": host}).json()

        anybody = authority.context()
        assert ask(anybody, "localhost", "localhost") == {"at": "default"}
        for host in ("admin.test", "ADMIN.test", "admin.test.", "admin.test:443"):
            assert ask(anybody, "localhost", host) == {"at": "default"}
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(anybody, "admin.test", "admin.test")
        answer = ask(identified(authority, clients), "admin.test", "admin.test")
        assert (answer["at"], "CN=alice" in answer["who"]) == ("admin", True)
