"""The TLS options of an application: A-APP-01, A-APP-33, A-DC-02, B-TL-01 to B-TL-06, I-A-04."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from socketify import App, AppOptions
from socketify.testing import TestServer
from support import tool
from support.certificates import Authority, openssl, resumed


def routes(app: App) -> None:
    def about(res: Any, req: Any) -> None:
        res.end({"secure": req.is_secure(), "version": req.get_tls_version(), "cipher": req.get_tls_cipher()})

    app.get("/", about)


# ---- the options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("client_cert", "maybe", "'none', 'optional', 'required' or None, not 'maybe'"),
        ("client_cert", "", "'none', 'optional', 'required' or None, not ''"),
        ("client_cert", 1, "must be a str or None, not 1"),
        ("min_version", "1.1", "'1.2', '1.3', 'TLSv1.2', 'TLSv1.3' or None, not '1.1'"),
        ("min_version", 1.3, "must be a str or None, not 1.3"),
    ],
)
def test_new_fields_are_checked(field: str, value: Any, expected: str) -> None:
    """A-DC-02: beyond the original."""
    with pytest.raises(RuntimeError) as raised:
        AppOptions(**{field: value})
    assert str(raised.value).startswith(field)
    assert expected in str(raised.value)


def test_the_passphrase_is_not_shown() -> None:
    """A-DC-02: it counts in a comparison, and stands in no text."""
    options = AppOptions(passphrase="hunter2")
    assert "hunter2" not in repr(options)
    assert options != AppOptions(passphrase="hunter3")
    with pytest.raises(RuntimeError, match="passphrase must be a str or None, not a bytes") as raised:
        AppOptions(passphrase=b"hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in str(raised.value)


def test_what_is_no_options() -> None:
    """A-APP-01."""
    for wrong in ({"key_file_name": "x"}, True, "key.pem"):
        with pytest.raises(RuntimeError, match="AppOptions, or None for plain HTTP, not"):
            App(wrong)  # type: ignore[arg-type]


def test_is_ssl(authority: Authority) -> None:
    """A-APP-33."""
    assert App().is_ssl is False
    assert App(authority.options("localhost")).is_ssl is True
    assert App(AppOptions()).is_ssl is True


# ---- wrong options ----------------------------------------------------------------------------------------------------


def refused(options: AppOptions, *words: str) -> None:
    """`App` refuses them, with all of ``words`` in the message."""
    with pytest.raises(RuntimeError) as raised:
        App(options)
    text = str(raised.value)
    assert text.startswith("Failed to create connection: ")
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("field", ["key_file_name", "cert_file_name", "ca_file_name", "dh_params_file_name"])
def test_files_that_are_wrong(authority: Authority, tmp_path: Path, field: str) -> None:
    """A-APP-01: the file and the reason, for each file."""
    options = authority.options("localhost")
    missing, text = str(tmp_path / "missing"), str(tmp_path / "text")
    Path(text).write_text("no PEM")
    setattr(options, field, missing)
    refused(options, field, missing, "No such file or directory")
    setattr(options, field, str(tmp_path))
    refused(options, field, str(tmp_path), "Is a directory")
    setattr(options, field, text)
    refused(options, field, text, "no PEM section")


def test_key_and_certificate_go_together(authority: Authority) -> None:
    """A-APP-01."""
    one, other = authority.options("one.test"), authority.options("other.test")
    assert one.key_file_name
    assert one.cert_file_name
    assert other.key_file_name
    refused(AppOptions(key_file_name=one.key_file_name), one.key_file_name, "without cert_file_name")
    refused(AppOptions(cert_file_name=one.cert_file_name), one.cert_file_name, "without key_file_name")
    one.key_file_name = other.key_file_name
    refused(one, "does not match", other.key_file_name, one.cert_file_name)


def test_authorities_are_needed(authority: Authority) -> None:
    """A-APP-01."""
    refused(authority.options("localhost", client_cert="required"), "required", "needs ca_file_name")


@pytest.mark.parametrize(
    ("ciphers", "words"),
    [
        ("NONSENSE", ['no cipher "NONSENSE"', "ECDHE-RSA-AES128-GCM-SHA256"]),
        ("ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA", ['"AES256-SHA" is not supported']),
        ("HIGH:!HIGH", ["leaves no cipher"]),
    ],
)
def test_ciphers_that_are_none(authority: Authority, ciphers: str, words: list[str]) -> None:
    """A-APP-01, B-TL-05."""
    refused(authority.options("localhost", ssl_ciphers=ciphers), "ssl_ciphers", *words)


def test_ciphers_of_a_name_count(authority: Authority) -> None:
    """I-A-04: those of a server name are looked at as well."""
    app = App(authority.options("localhost"))
    with pytest.raises(RuntimeError, match=r"one\.test.*no cipher \"NONSENSE\""):
        app.add_server_name("one.test", authority.options("one.test", ssl_ciphers="NONSENSE"))


def test_dh_parameters_are_not_used(authority: Authority, tmp_path: Path) -> None:
    """B-TL-04: accepted, with a warning."""
    (tmp_path / "dh.pem").write_text(openssl("dhparam", "-dsaparam", "1024", cwd=tmp_path))
    options = authority.options("localhost", dh_params_file_name=str(tmp_path / "dh.pem"))
    with pytest.warns(RuntimeWarning, match=r"dh_params_file_name .*dh\.pem.* is not used"):
        assert App(options).is_ssl


def test_an_expired_certificate_is_said(tmp_path: Path) -> None:
    """It can be served, and no client accepts it."""
    authority = Authority(tmp_path)
    issued = authority.ca.issue_cert(
        "x.test", not_after=datetime.datetime(2002, 3, 4, tzinfo=datetime.timezone.utc)
    )
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "x.pem"))
    options = AppOptions(str(tmp_path / "x.pem"), str(tmp_path / "x.pem"))
    with pytest.warns(RuntimeWarning, match=r"x\.pem.* has expired on 2002-03-04"):
        App(options)


# ---- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        ["pkcs8", "-topk8", "-nocrypt"],
        ["pkcs8", "-topk8", "-passout", "pass:1234"],
        ["ec", "-aes256", "-passout", "pass:1234"],
        ["ec"],
    ],
    ids=["pkcs8", "encrypted pkcs8", "encrypted sec1", "sec1"],
)
def test_forms_of_keys(authority: Authority, tmp_path: Path, form: list[str]) -> None:
    """B-TL-02, H-07: with the passphrase it is served, with another one it is an error."""
    options = authority.options("localhost", passphrase="1234")
    openssl(*form, "-in", str(options.key_file_name), "-out", "form.key", cwd=tmp_path)
    options.key_file_name = str(tmp_path / "form.key")
    with TestServer(routes, options=options, ssl_context=authority.context()) as server:
        assert server.get().json()["secure"] is True
    if "-passout" in form:
        options.passphrase = "12345"
        refused(options, "form.key", "the passphrase is wrong")
        options.passphrase = None
        refused(options, "form.key", "a passphrase is needed")


# ---- negotiation -------------------------------------------------------------------------------------------------------


def test_plain_requests_are_not_secure() -> None:
    """Nothing was agreed on."""
    with TestServer(routes) as server:
        assert server.url.startswith("http://")
        assert server.get().json() == {"secure": False, "version": None, "cipher": None}


def test_a_request_knows_its_session(authority: Authority) -> None:
    """B-TL-01: both versions, newest first."""
    with TestServer(
        routes, options=authority.options("localhost"), ssl_context=authority.context()
    ) as server:
        assert server.url.startswith("https://")
        newest = server.get().json()
        assert (newest["secure"], newest["version"]) == (True, "TLSv1.3")
        assert newest["cipher"].startswith("TLS_")
        context = authority.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with server.connect(ssl_context=context) as connection:
            agreed = connection.socket.cipher()  # type: ignore[attr-defined]
            assert connection.request("GET").json() == {
                "secure": True,
                "version": "TLSv1.2",
                "cipher": agreed[0],
            }


def test_min_version(authority: Authority) -> None:
    """B-TL-01: an older version is refused in the handshake."""
    options = authority.options("localhost", min_version="1.3")
    with TestServer(routes, options=options, ssl_context=authority.context()) as server:
        assert server.get().json()["version"] == "TLSv1.3"
        context = authority.context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match=r"(?i)alert|protocol"):
            server.connect(ssl_context=context)
        assert server.get().status == 200


@pytest.mark.parametrize(
    "ciphers",
    [
        "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE+CHACHA20:AES128:!RSA",
    ],
)
def test_ciphers_in_their_order(authority: Authority, ciphers: str) -> None:
    """B-TL-05: the server's order counts, and ciphers outside the list are refused; TLS 1.3 stays
    unchanged."""
    options = authority.options("localhost", ssl_ciphers=ciphers)
    with TestServer(routes, options=options, ssl_context=authority.context()) as server:

        def offer(names: str) -> Any:
            context = authority.context()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(names)
            with server.connect(ssl_context=context) as connection:
                return connection.request("GET").json()["cipher"]

        both = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305"
        assert offer(both) == "ECDHE-ECDSA-CHACHA20-POLY1305"
        assert offer("ECDHE-ECDSA-AES128-GCM-SHA256") == "ECDHE-ECDSA-AES128-GCM-SHA256"
        with pytest.raises(ssl.SSLError):
            offer("ECDHE-ECDSA-AES256-GCM-SHA384")
        assert server.get().json()["version"] == "TLSv1.3"


def test_http_1_1_is_agreed_on(authority: Authority) -> None:
    """B-TL-01: ALPN (RFC 7301)."""
    with TestServer(routes, options=authority.options("localhost")) as server:
        context = authority.context()
        context.set_alpn_protocols(["http/1.1"])
        with server.connect(ssl_context=context) as connection:
            assert connection.socket.selected_alpn_protocol() == "http/1.1"  # type: ignore[attr-defined]
            assert connection.request("GET").status == 200


@pytest.mark.parametrize("low_memory", [0, 1])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(authority: Authority, version: ssl.TLSVersion, low_memory: int) -> None:
    """B-TL-06: by tickets, also where the server remembers nothing."""
    options = authority.options("localhost", ssl_prefer_low_memory_usage=low_memory)
    with TestServer(routes, options=options) as server:
        context = authority.context()
        context.minimum_version = context.maximum_version = version
        with server.connect(ssl_context=context) as connection:
            assert connection.request("GET").status == 200
            assert connection.socket.session_reused is False  # type: ignore[attr-defined]
            session = connection.socket.session  # type: ignore[attr-defined]
        with resumed(server, context, session) as again:
            assert again.session_reused is True


def test_curl_verifies(authority: Authority) -> None:
    """Another client, with a library of its own to verify with."""
    curl = tool("curl")
    with TestServer(routes, options=authority.options("localhost")) as server:
        arguments = ["--resolve", f"localhost:{server.port}:127.0.0.1", "--cacert", authority.file]
        done = subprocess.run(
            [curl, "-sS", "--http1.1", *arguments, f"https://localhost:{server.port}/"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert '"secure"' in done.stdout


def test_the_handshake_has_a_timeout(authority: Authority) -> None:
    """The server does not wait for a silent client."""
    with TestServer(routes, options=authority.options("localhost"), handshake_timeout=0.2) as server:
        with socket.create_connection((server.host, server.port), 20) as silent:
            assert silent.recv(1) == b""
        assert server.get().status == 200


# ---- the test server ----------------------------------------------------------------------------------------------------


def test_the_test_server_verifies_with_a_context(authority: Authority, tmp_path: Path) -> None:
    """With one it verifies, without one it does not."""
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    options = authority.options("localhost")
    with TestServer(routes, options=options) as server:
        assert server.get().status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            server.connect(ssl_context=stranger.context())
        with pytest.raises(ssl.SSLCertVerificationError):
            server.connect(ssl_context=authority.context(), server_name="other.test")
    with (
        TestServer(routes, options=options, ssl_context=stranger.context()) as server,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        server.get()
