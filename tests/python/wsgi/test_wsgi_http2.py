"""The same over HTTP/2 and TLS: S-WSGI-36."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import until
from support.h2_client import H2Client
from support.tls_client import Certificates, TlsClient
from support.wsgi import OK, TEXT, Blocks, Environ, Site, answering, dump, read

Start = Callable[..., Site]


@pytest.fixture(params=["plain", "tls"])
def connect(
    request: pytest.FixtureRequest, site: Start, certificates: Certificates
) -> Iterator[Callable[..., H2Client]]:
    """Serves an application, and speaks HTTP/2 with it."""
    clients: list[H2Client] = []

    def start(application: Any, **options: Any) -> H2Client:
        if request.param == "plain":
            clients.append(H2Client(site(application, **options).port))
        else:
            port = site(application, options=certificates.options(), **options).port
            secure = TlsClient(port, certificates.context(protocols=("h2",)))
            clients.append(H2Client(port, sock=secure.socket))
        return clients[-1]

    yield start
    for client in clients:
        client.socket.close()


def test_environ(connect: Any) -> None:
    """S-WSGI-36, S-WSGI-04, S-WSGI-08."""
    client = connect(dump)
    stream = client.get(
        "/a%20b?q", headers=[("cookie", "a=1"), ("cookie", "b=2"), ("x-y", "z")], authority="h:1"
    )
    environ = read(bytes(stream.body))
    assert environ["SERVER_PROTOCOL"] == "HTTP/2"
    assert environ["HTTP_HOST"] == "h:1"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_Y"] == "z"
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["REQUEST_URI"]) == (
        "/a b",
        "q",
        "/a%20b?q",
    )
    assert not [key for key in environ if ":" in key]
    assert environ["CONTENT_LENGTH"] == "0"


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("size", [5, 300_000, 2_000_000])
def test_bodies(connect: Any, declared: bool, size: int) -> None:
    """S-WSGI-36, S-WSGI-14, S-WSGI-15: with a length and without."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        return [environ["CONTENT_LENGTH"].encode(), b" %d" % len(environ["wsgi.input"].read())]

    client = connect(application)
    headers = [("content-length", str(size))] if declared else []
    number = client.request("/", "POST", headers=headers, body=b"x" * size)
    assert client.answer(number).body == b"%d %d" % (size, size)


def test_a_declared_body_of_which_nothing_comes(connect: Any) -> None:
    """S-WSGI-36, S-WSGI-16: the invitation leaves although the application waits."""

    def application(environ: Environ, start_response: Any) -> Any:
        body = environ["wsgi.input"].read()
        start_response(OK, TEXT)
        return [b"%d" % len(body)]

    client = connect(application)
    headers = [("content-length", "100000"), ("expect", "100-continue")]
    number = client.request("/", "POST", headers=headers, end=False)
    client.until(lambda: client.streams[number].interim == [100])
    client.send(number, b"x" * 100_000, end=True)
    assert client.answer(number).body == b"100000"


@pytest.mark.parametrize(
    ("result", "length"),
    [
        (lambda: [b"hello"], "5"),
        (lambda: [b"hel", b"lo"], "5"),
        (list, "0"),
        (lambda: iter([b"hel", b"lo"]), None),
    ],
)
def test_results(connect: Any, result: Any, length: str | None) -> None:
    """S-WSGI-36, S-WSGI-24, S-WSGI-31."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response("299 Odd", [*TEXT, ("Connection", "close"), ("X-Upper", "1")])
        return result()

    client = connect(application)
    for _ in range(2):
        stream = client.get()
        assert (stream.status, stream.body) == (299, b"hello" if length != "0" else b"")
        assert stream.headers.get("content-length") == length
        assert "connection" not in stream.headers
        head = client.answer(client.request("/", "HEAD"))
        assert (head.status, head.body) == (299, b"")


def test_each_block_is_on_its_way(connect: Any) -> None:
    """S-WSGI-36, S-WSGI-25."""
    gates = [threading.Event() for _ in range(3)]

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        for gate in gates:
            yield b"block"
            assert gate.wait(20)

    client = connect(application)
    number = client.request()
    for count, gate in enumerate(gates):
        client.until(lambda count=count: len(client.streams[number].body) == 5 * (count + 1))
        gate.set()
    assert client.answer(number).ended


def test_a_stream_that_is_reset(connect: Any) -> None:
    """S-WSGI-36, S-WSGI-27: while its connection lives on."""
    blocks = Blocks(iter(lambda: b"x" * 65536, b""))

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        return [b"other"] if environ["PATH_INFO"] == "/other" else blocks

    client = connect(application)
    number = client.request()
    client.until(lambda: client.streams[number].body)
    client.h2.reset_stream(number)
    client.flush()
    until(lambda: blocks.closed == 1, "it is closed")
    assert client.get("/other").body == b"other"


def test_an_error_after_the_head(connect: Any) -> None:
    """S-WSGI-36, S-WSGI-33: the stream is reset, and nothing else."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        yield b"begun"
        if environ["PATH_INFO"] != "/other":
            raise RuntimeError("oops")

    client = connect(application)
    number = client.request()
    assert client.answer(number).reset == 2
    assert client.get("/other").body == b"begun"


def test_errors(connect: Any) -> None:
    """S-WSGI-36, S-WSGI-33."""
    client = connect(lambda environ, start_response: [b"x"])
    stream = client.get()
    assert (stream.status, stream.body) == (500, b"Internal Server Error")


def test_early_hints(connect: Any) -> None:
    """S-WSGI-36, S-WSGI-10."""

    def application(environ: Environ, start_response: Any) -> Any:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        return answering(b"done")(environ, start_response)

    stream = connect(application).get()
    assert (stream.interim, stream.body) == ([103], b"done")


@pytest.mark.parametrize("threads", [1, 3])
def test_streams_side_by_side(connect: Any, threads: int) -> None:
    """S-WSGI-36."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        return [environ["PATH_INFO"].encode()]

    client = connect(application, threads=threads)
    numbers = [client.request(f"/{number}") for number in range(50)]
    for at, number in enumerate(numbers):
        assert client.answer(number).body == b"/%d" % at


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_files(connect: Any, tmp_path: Path, size: int) -> None:
    """S-WSGI-36, S-WSGI-32."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * size)

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        return environ["wsgi.file_wrapper"](path.open("rb"))

    stream = connect(application).get()
    assert (stream.headers["content-length"], len(stream.body)) == (str(size), size)


def test_tls_http_1(site: Start, certificates: Certificates, tmp_path: Path) -> None:
    """S-WSGI-36: HTTP/1.1 over TLS."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 1_000_000)

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        if environ["PATH_INFO"] == "/file":
            return environ["wsgi.file_wrapper"](path.open("rb"))
        if environ["PATH_INFO"] == "/blocks":
            return iter([b"a", b"b"])
        return [environ["wsgi.url_scheme"].encode(), environ["wsgi.input"].read()]

    started = site(application, options=certificates.options())
    client = TlsClient(started.port, certificates.context())
    started.clients.append(client)
    assert client.request("POST", "/", body=b"body").answer().body == b"httpsbody"
    assert client.request("GET", "/blocks").answer().body == b"ab"
    assert len(client.request("GET", "/file").answer().body) == 1_000_000
    assert len(client.request("POST", "/", body=b"y" * 500_000).answer().body) == 500_005
