"""`openssl s_client` against the port of TLS: versions, ciphers, groups, ALPN, resumption. B.3, users.md 1 (19)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from socketify import App
from support.running import Running
from support.tls_client import Certificates, TlsClient

pytestmark = pytest.mark.needs("openssl")


@pytest.fixture
def hello(start_tls: Callable[..., Running]) -> Running:
    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.end("hello"))

    return start_tls(configure)


def s_client(running: Running, certificates: Certificates, *arguments: str) -> tuple[int, str]:
    """Runs `openssl s_client` with one request; returns its exit code and all its output."""
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", "-verify_return_error"),
            *("-CAfile", str(certificates.ca), "-servername", "localhost", "-ign_eof", *arguments),
        ],
        input=b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=50,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize(
    ("arguments", "agreed"),
    [
        (["-tls1_3"], "TLSv1.3"),
        (["-tls1_2"], "TLSv1.2"),
        (["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], "TLS_CHACHA20_POLY1305_SHA256"),
        (["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], "TLS_AES_128_GCM_SHA256"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"], "ECDHE-ECDSA-AES256-GCM-SHA384"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "ECDHE-ECDSA-CHACHA20-POLY1305"),
        (["-groups", "P-256"], "P-256"),
        (["-groups", "P-384"], "secp384r1"),
        (["-groups", "X25519"], "X25519"),
        (["-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        ([], "No ALPN negotiated"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_openssl(hello: Running, certificates: Certificates, arguments: list[str], agreed: str) -> None:
    """B.3: versions, ciphers, groups and ALPN; the certificate is trusted, and the response is complete."""
    code, said = s_client(hello, certificates, *arguments)
    assert code == 0, said
    assert "Verification: OK" in said
    assert said.count("HTTP/1.1 200 OK") == 1
    assert "\r\n\r\nhello" in said
    assert agreed in said or (agreed == "P-256" and "prime256v1" in said), said


@pytest.mark.parametrize(
    "arguments",
    [
        ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
        ["-tls1", "-cipher", "DEFAULT@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
        ["-tls1_2", "-cipher", "AES128-SHA"],
        ["-alpn", "gopher"],
        ["-groups", "X448"],
    ],
    ids=" ".join,
)
def test_openssl_is_refused(hello: Running, certificates: Certificates, arguments: list[str]) -> None:
    """Old versions, ciphers without forward secrecy or of old modes, and unknown ones: they get an alert."""
    code, said = s_client(hello, certificates, *arguments)
    assert code != 0
    assert "alert" in said, said
    assert "hello\n" not in said
    with TlsClient(hello.port, certificates.context()) as client:
        assert client.get().body == b"hello"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes(hello: Running, certificates: Certificates, version: str, tmp_path: Path) -> None:
    """A session is taken up again, by ticket, as often as a client likes."""
    kept = str(tmp_path / "session")
    code, said = s_client(hello, certificates, version, "-sess_out", kept)
    assert code == 0
    assert "New, TLSv1" in said
    for _ in range(3):
        code, said = s_client(hello, certificates, version, "-sess_in", kept, "-sess_out", kept)
        assert code == 0, said
        assert "Reused, TLSv1" in said
        assert "\r\n\r\nhello" in said


def test_openssl_early_data_is_not_taken(hello: Running, certificates: Certificates, tmp_path: Path) -> None:
    """RFC 8446 8: 0-RTT, which can be replayed, is never offered."""
    kept = str(tmp_path / "session")
    _, said = s_client(hello, certificates, "-tls1_3", "-sess_out", kept)
    assert "Max Early Data: 0" in said
