"""The end of a request does not depend on its route: the body of one is never taken for the next request.

Each request here carries a whole request for ``/admin`` as its body. With any refusal or response, that body
is consumed, or the connection closes: there are never more answers than requests, and a neighbour never gets
another's answer.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import tool, until
from support.client import Answer, Client
from support.h2_client import H2Client
from support.running import Running
from support.tls_client import Certificates, TlsClient

Serve = Callable[..., Running]

INNER = b"GET /admin HTTP/1.1\r\nHost: test\r\n\r\n"
VICTIM = b"GET /victim HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade")

METHODS = ("GET", "HEAD", "POST", "OPTIONS", "DELETE", "BREW")
FRAMINGS = {
    "none": b"\r\n",
    "length": b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER,
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
    "trailers": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(INNER) + INNER + b"\r\n0\r\nx: y\r\n\r\n",
}
#: The further features of a request, which select its refusal.
KINDS: dict[str, tuple[str, ...]] = {
    "request": (),
    "expectation": ("Expect: 100-continue",),
    "preflight": ("Origin: https://example.org", "Access-Control-Request-Method: GET"),
    "handshake": (*UPGRADE, "Sec-WebSocket-Version: 13", KEY),
    "handshake of another version": (*UPGRADE, "Sec-WebSocket-Version: 12", KEY),
    "handshake without a version": (*UPGRADE, KEY),
    "handshake with a bad key": (*UPGRADE, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: bad"),
    "handshake without a key": (*UPGRADE, "Sec-WebSocket-Version: 13"),
    "another protocol": ("Upgrade: h2c", "Connection: Upgrade"),
}
PATHS = (
    "/plain", "/coroutine", "/late", "/small", "/yields", "/constant", "/files/small", "/files/folder", "/files/nothing",
    "/redirect", "/raises", "/nothing", "/socket", "/page", "/answers", "/refuses", "/passes",
)  # fmt: skip


def configure(folder: Path) -> Callable[[Any], None]:
    (folder / "folder").mkdir()
    (folder / "small").write_text("small")

    def routes(app: Any) -> None:
        def answer(text: str) -> Callable[[Any, Any], None]:
            return lambda res, req: res.end(text)

        async def coroutine(res: Any, req: Any) -> None:
            res.end("coroutine")

        async def late(res: Any, req: Any) -> None:
            await res.get_data()
            res.end("late")

        def raises(res: Any, req: Any) -> None:
            raise ValueError("on purpose")

        async def refuses(res: Any, req: Any, context: Any) -> None:
            res.write_status(403).end("no")

        app.get("/victim", answer("victim"))
        app.any("/admin", answer("smuggled"))
        app.any("/plain", answer("plain"))
        app.any("/coroutine", coroutine)
        app.any("/late", late)
        app.post("/small", answer("small"), max_body_size=4)
        app.any("/yields", lambda res, req: req.set_yield(True))
        app.constant("/constant", "constant", method=None)
        app.static("/files", folder)
        app.any("/redirect", lambda res, req: res.redirect("/plain"))
        app.any("/raises", raises)
        app.ws("/socket", {"message": lambda ws, message, opcode: None})
        app.ws("/page", {"message": lambda ws, message, opcode: None})
        app.any("/page", answer("page"))
        app.ws("/answers", {"upgrade": lambda res, req, context: res.end("answers")})
        app.ws("/refuses", {"upgrade": refuses})
        app.ws("/passes", {"upgrade": lambda res, req, context: req.set_yield(True)})
        app.any("/passes", answer("passes"))
        app.cors("https://example.org", path="/*")
        app.set_error_handler(lambda error, res, req: res.write_status(500).end("error"))

    return routes


def request(method: str, path: str, lines: tuple[str, ...], framing: bytes) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *lines, ""]).encode() + framing


def last_of(client: Client, method: str) -> Answer:
    """The final response after interim ones."""
    while (answer := client.answer(method)).status == 100:
        pass
    return answer


def judge(client: Client, method: str, name: str) -> None:
    """Reads the responses to a request of `method` and to the victim's after it on one connection."""
    answer = last_of(client, method)
    assert answer.body != b"smuggled", name
    if answer.status == 101:
        # Bytes after a handshake are frames.
        client.rest()
    elif answer.header("connection") == "close":
        assert client.is_closed(), name
    else:
        assert client.answer().body == b"victim", name
        assert client.is_closed(), name


each_framing = pytest.mark.parametrize("framing", FRAMINGS.values(), ids=list(FRAMINGS))
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_framing
@each_kind
def test_a_pipeline(serve: Serve, tmp_path: Path, kind: str, framing: bytes) -> None:
    running = serve(configure(tmp_path))
    for method, path in itertools.product(METHODS, PATHS):
        with running.client() as client:
            client.send(request(method, path, KINDS[kind], framing) + VICTIM)
            judge(client, method, f"{method} {path}")


@each_kind
def test_a_body_that_comes_later(serve: Serve, tmp_path: Path, kind: str) -> None:
    """The answer is there before the first byte of the body."""
    running = serve(configure(tmp_path))
    # There the body turns out to be too large after the response: the connection closes, and could not
    # announce it.
    paths = [path for path in PATHS if path != "/small"]
    for framing, path in itertools.product(("length", "chunked"), paths):
        whole = request("POST", path, KINDS[kind], FRAMINGS[framing])
        head, _, body = whole.partition(b"\r\n\r\n")
        with running.client() as client:
            client.send(head + b"\r\n\r\n")
            if path != "/late":
                client.pending = client.receive()
            client.send(body + VICTIM)
            judge(client, "POST", f"{framing} {path}")


@each_framing
@each_kind
def test_tls(start_tls: Serve, certificates: Certificates, tmp_path: Path, kind: str, framing: bytes) -> None:
    running = start_tls(configure(tmp_path))
    context = certificates.context()
    for method, path in itertools.product(("GET", "POST"), PATHS):
        with TlsClient(running.port, context) as client:
            client.send(request(method, path, KINDS[kind], framing) + VICTIM)
            judge(client, method, f"{method} {path}")


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("path", ["/socket", "/answers", "/refuses"])
def test_a_handshake_with_a_body_closes(serve: Serve, tmp_path: Path, path: str, framing: str) -> None:
    """No client sends one, and bytes after a handshake would be read as frames: nothing more is read from
    it."""
    running = serve(configure(tmp_path))
    with running.client() as client:
        client.send(request("GET", path, KINDS["handshake"], FRAMINGS[framing]) + VICTIM)
        answer = client.answer()
        assert (answer.status, answer.header("connection")) == (400, "close")
        assert client.is_closed()


def test_a_refused_handshake_without_a_body_goes_on(serve: Serve, tmp_path: Path) -> None:
    running = serve(configure(tmp_path))
    with running.client() as client:
        client.send(request("GET", "/socket", KINDS["handshake of another version"], b"\r\n") + VICTIM)
        assert client.answer().status == 426
        assert client.answer().body == b"victim"


@pytest.mark.parametrize("framing", ["none", "length"])
def test_what_follows_a_connect_is_not_read(serve: Serve, tmp_path: Path, framing: str) -> None:
    """It may be meant for the other end of a tunnel."""
    running = serve(configure(tmp_path))
    with running.client() as client:
        client.send(request("CONNECT", "test:443", (), FRAMINGS[framing]) + VICTIM)
        assert client.answer().header("connection") == "close"
        assert client.is_closed()


# ---- HTTP/2 -------------------------------------------------------------------------------------------------------------


def test_streams(serve: Serve, tmp_path: Path) -> None:
    running = serve(configure(tmp_path))
    with H2Client(running.port) as client:
        for method, path, body in itertools.product(METHODS, PATHS, (None, INNER)):
            number = client.request(path, method, body=body)
            victim = client.request("/victim")
            answer = client.answer(number)
            assert answer.status >= 200, f"{method} {path}"
            assert answer.body != b"smuggled", f"{method} {path}"
            assert client.answer(victim).body == b"victim"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("version", ["13", "12"])
def test_extended_connect(serve: Serve, tmp_path: Path, path: str, version: str) -> None:
    """Frames or nothing follow it, with any refusal."""
    running = serve(configure(tmp_path))
    with H2Client(running.port) as client:
        client.until(lambda: client.settings)
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path)]
        pseudo.append((":authority", "test"))
        number = client.request(pseudo=pseudo, headers=[("sec-websocket-version", version)], end=False)
        client.until(lambda: client.streams[number].status)
        answer = client.streams[number]
        if answer.status != 200:
            client.answer(number)
        assert b"smuggled" not in answer.body
        assert client.get("/victim").body == b"victim"


# ---- behind proxies that keep their connections ---------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nginx(folder: Path, port: int, own: int) -> list[str]:
    settings = folder / "nginx.conf"
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    settings.write_text(
        f"pid {folder}/pid;\nerror_log stderr;\ndaemon off;\nworker_processes 1;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}"
        f"upstream back {{ server 127.0.0.1:{port}; keepalive 1; }}\n"
        f"server {{ listen 127.0.0.1:{own}; location /admin {{ return 403; }}\n"
        "location / { proxy_pass http://back; proxy_http_version 1.1; proxy_request_buffering off;\n"
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; } } }\n"
    )
    return [tool("nginx"), "-p", str(folder), "-c", str(settings), "-e", "stderr"]


def haproxy(folder: Path, port: int, own: int) -> list[str]:
    settings = folder / "haproxy.cfg"
    settings.write_text(
        "global\n  nbthread 1\ndefaults\n  mode http\n  http-reuse always\n"
        "  timeout connect 20s\n  timeout client 20s\n  timeout server 20s\n"
        f"listen front\n  bind 127.0.0.1:{own}\n  http-request deny if {{ path /admin }}\n  server back 127.0.0.1:{port}\n"
    )
    return [tool("haproxy"), "-db", "-f", str(settings)]


@pytest.fixture(params=[nginx, haproxy], ids=["nginx", "haproxy"])
def front(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[int], int]]:
    """Starts a proxy before a port, which reuses its connections for all of its clients and answers /admin itself."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> int:
        own = free_port()
        folder = tmp_path / "front"
        folder.mkdir()
        process = subprocess.Popen(request.param(folder, port, own), stderr=subprocess.PIPE)
        started.append(process)

        def serves() -> bool:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            try:
                socket.create_connection(("127.0.0.1", own)).close()
            except OSError:
                return False
            return True

        until(serves, "the proxy's port")
        return own

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


@each_kind
def test_a_neighbour_behind_a_proxy(
    serve: Serve, front: Callable[[int], int], tmp_path: Path, kind: str
) -> None:
    """Only the proxy decides about /admin, and the next client on its connection gets its own response."""
    (tmp_path / "files").mkdir()
    served: list[str] = []

    def routes(app: Any) -> None:
        configure(tmp_path / "files")(app)
        app.any("/admin", lambda res, req: served.append("admin") or res.end("smuggled"))

    port = front(serve(routes).port)
    with Client(port) as victim:
        for framing, method, path in itertools.product(FRAMINGS, METHODS, PATHS):
            name = f"{framing} {method} {path}"
            with Client(port) as client:
                client.send(request(method, path, KINDS[kind], FRAMINGS[framing]))
                answer = last_of(client, method)
                assert answer.body != b"smuggled", name
                assert victim.get("/victim").body == b"victim", name
    assert served == []
