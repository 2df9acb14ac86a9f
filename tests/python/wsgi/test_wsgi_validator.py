"""Both sides of the interface, watched by ``wsgiref.validate`` (PEP 3333): HTTP/1.0, HTTP/1.1, HTTP/2 and TLS, one thread
and several."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.h2_client import H2Client
from support.tls_client import Certificates, TlsClient
from support.wsgi import OK, TEXT, Environ, Site

Start = Callable[..., Site]

BODY = b"first line\nsecond line\n" * 2000


def listed(environ: Environ, start_response: Any) -> Any:
    start_response(OK, TEXT)
    return [b"one ", b"two"]


def generated(environ: Environ, start_response: Any) -> Any:
    start_response(OK, TEXT)

    def blocks() -> Iterator[bytes]:
        yield b"one "
        yield b""
        yield b"two"

    return blocks()


def written(environ: Environ, start_response: Any) -> Any:
    write = start_response(OK, [*TEXT, ("Content-Length", "7")])
    write(b"one ")
    return [b"two"]


def echoed(environ: Environ, start_response: Any) -> Any:
    stream = environ["wsgi.input"]
    parts = [stream.read(5), stream.readline(), *stream.readlines(100), *stream]
    start_response(OK, [*TEXT, ("Content-Length", str(sum(len(part) for part in parts)))])
    return parts


def counted(environ: Environ, start_response: Any) -> Any:
    stream, length = environ["wsgi.input"], int(environ["CONTENT_LENGTH"])
    body = b"".join(iter(lambda: stream.read(4096), b""))
    start_response(OK, TEXT)
    return [b"%d %d" % (length, len(body))]


def filed(environ: Environ, start_response: Any) -> Any:
    start_response(OK, TEXT)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"one two"))


def replaced(environ: Environ, start_response: Any) -> Any:
    start_response(OK, TEXT)
    try:
        raise LookupError
    except LookupError:
        import sys

        start_response("404 Not Found", TEXT, sys.exc_info())
    return [b"one two"]


def told(environ: Environ, start_response: Any) -> Any:
    environ["wsgi.errors"].write("one\n")
    environ["wsgi.errors"].writelines(["two\n"])
    environ["wsgi.errors"].flush()
    start_response(OK, TEXT)
    return [b"one two"]


RESPONSES = {
    listed: (200, b"one two"),
    generated: (200, b"one two"),
    written: (200, b"one two"),
    echoed: (200, BODY),
    counted: (200, b"%d %d" % (len(BODY), len(BODY))),
    filed: (200, b"one two"),
    replaced: (404, b"one two"),
    told: (200, b"one two"),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("application", RESPONSES, ids=lambda application: application.__name__)
def test_http_1(site: Start, application: Any, threads: int, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-10, S-WSGI-13, S-WSGI-19, S-WSGI-28: nothing that either side does is wrong."""
    started = site(application, valid=True, threads=threads)
    client = started.client()
    for lines, sent in (
        ((f"Content-Length: {len(BODY)}",), BODY),
        (("Transfer-Encoding: chunked",), b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    ):
        answer = client.request("POST", "/path?query", "Content-Type: a/b", *lines).send(sent).answer()
        assert (answer.status, answer.body) == RESPONSES[application]
    if application not in (echoed, counted):
        for version in ("1.0", "1.1"):
            answer = started.ask(version=version)
            assert (answer.status, answer.body) == RESPONSES[application]
        assert client.request("HEAD").answer("HEAD").status == RESPONSES[application][0]
    assert caplog.text == ""


@pytest.mark.parametrize("application", RESPONSES, ids=lambda application: application.__name__)
def test_http_2_over_tls(
    site: Start, certificates: Certificates, application: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """S-WSGI-36."""
    port = site(application, valid=True, options=certificates.options()).port
    secure = TlsClient(port, certificates.context(protocols=("h2",)))
    with H2Client(port, sock=secure.socket) as client:
        for headers in ([("content-length", str(len(BODY)))], []):
            stream = client.answer(client.request("/path?query", "POST", headers=headers, body=BODY))
            assert (stream.status, stream.body) == RESPONSES[application]
    assert caplog.text == ""
