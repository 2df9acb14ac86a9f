"""A TLS server that has to stay unchanged under any input."""

from __future__ import annotations

import gc
import os
from typing import Any

from socketify import App
from support.client import Client
from support.tls_client import (
    Certificates,
    TlsClient,
    Wire,
)

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


class Target:
    """A server of TLS, and a good client's view of it."""

    def __init__(self, running: Any, certificates: Certificates) -> None:
        self.running = running
        self.port: int = running.port
        self.certificates = certificates
        self.context = certificates.context()

    def client(self, **options: Any) -> Client:
        """A connection without any bytes sent."""
        return Client(self.port, **options)

    def wire(self, **options: Any) -> Wire:
        return Wire(self.port, self.certificates, **options)

    def serves(self) -> None:
        """A good client is served."""
        with TlsClient(self.port, self.context) as client:
            assert client.get().body == b"hello"


def plain(res: Any, req: Any) -> None:
    res.end("hello")


def routes(app: App) -> None:
    app.get("/", plain)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
