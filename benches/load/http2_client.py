"""The HTTP/2 client that checks responses: curl, which is independent of the load generator."""

from __future__ import annotations

import subprocess

import certificate

import client


class Client(client.Client):
    """Sends requests over HTTP/2, each on a connection of its own."""

    def get(self, path: str) -> client.Answer:
        """Sends a GET."""
        return self._ask(path)

    def post(self, path: str, body: bytes, content_type: str) -> client.Answer:
        """Sends a POST."""
        return self._ask(path, "--data-binary", "@-", "--header", f"Content-Type: {content_type}", body=body)

    def _ask(self, path: str, *options: str, body: bytes = b"") -> client.Answer:
        url = f"{self.transport.scheme}://{client.HOST}:{self.port}{path}"
        # HTTP/2 alone in the clear, and over TLS the negotiated protocol, which must be HTTP/2 too.
        protocol = "--http2" if self.transport.tls else "--http2-prior-knowledge"
        trust = ("--cacert", str(certificate.files()[0]), "--tlsv1.3") if self.transport.tls else ()
        done = subprocess.run(
            [
                *("curl", "--silent", "--show-error", "--max-time", str(client.TIMEOUT)),
                *(protocol, *trust, *options, "--write-out", "\n%{http_version} %{http_code}", url),
            ],
            input=body,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise client.WrongAnswer(done.stderr.decode(errors="replace").strip())
        answer, _, about = done.stdout.rpartition(b"\n")
        version, status = about.split()
        if version != b"2":
            raise client.WrongAnswer(f"HTTP/{version.decode()} where HTTP/2 was due")
        return client.Answer(int(status), answer)


def connect(port: int, transport: client.Transport) -> client.Client:
    """Makes the client for this protocol."""
    return Client(port, transport) if transport.http2 else client.Client(port, transport)
