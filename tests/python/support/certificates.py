"""Certificates for tests, made while they run, and the clients' view of a server's certificates."""

from __future__ import annotations

import datetime
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme

from socketify import AppOptions
from socketify.testing import TestServer

# Quick to make, and what most servers have.
_KEY = trustme.KeyType.ECDSA


def openssl(*arguments: str, cwd: Path) -> str:
    """Runs the ``openssl`` tool; returns its output."""
    done = subprocess.run(["openssl", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Authority:
    """Who signs certificates, with the files of them in a directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self.directory = directory
        self.ca = trustme.CA(key_type=_KEY)
        self.file = str(directory / f"{name}.pem")
        self.ca.cert_pem.write_to_path(self.file)

    def options(self, *names: str, **fields: Any) -> AppOptions:
        """A key and a certificate for these names; files that were there for the first of them are replaced."""
        issued = self.ca.issue_cert(*names, key_type=_KEY)
        key, certificate = (
            str(self.directory / f"{names[0].replace('*', 'any')}.{kind}") for kind in ("key", "crt")
        )
        issued.private_key_pem.write_to_path(key)
        Path(certificate).write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        return AppOptions(key_file_name=key, cert_file_name=certificate, **fields)

    def context(self, client: str | None = None) -> ssl.SSLContext:
        """The context of a client that trusts this authority; ``client``: the name in its own certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ca.configure_trust(context)
        if client is not None:
            self.show(context, client)
        return context

    def show(self, context: ssl.SSLContext, client: str) -> None:
        """Has a client show a certificate of this authority."""
        issued = self.ca.issue_cert(
            f"{client}@example.test", common_name=client, organization_name="Clients, Inc.", key_type=_KEY
        )
        issued.configure_cert(context)


def expired(directory: Path, name: str) -> AppOptions:
    """A key and a certificate for ``name`` that was valid once."""
    then = datetime.datetime(2002, 3, 4, tzinfo=datetime.timezone.utc)
    issued = trustme.CA(key_type=_KEY).issue_cert(name, not_after=then, key_type=_KEY)
    path = directory / "expired.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return AppOptions(str(path), str(path))


@contextmanager
def resumed(server: TestServer, context: ssl.SSLContext, session: ssl.SSLSession) -> Iterator[ssl.SSLSocket]:
    """A connection that offers a session of another one."""
    with (
        socket.create_connection((server.host, server.port), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
    ):
        yield secure


def names_of(connection: Any) -> list[str]:
    """The names in the certificate that a server has shown, to a client that has verified it."""
    certificate = connection.socket.getpeercert()
    return [value for kind, value in certificate["subjectAltName"] if kind == "DNS"]
