"""The scope of an HTTP request (S-ASGI-01 to S-ASGI-17)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from socketify import AppListenOptions
from support.asgi import Receive, Scope, Send, answer, hello, serving
from support.client import Client
from support.running import Running
from support.tls_client import Certificates, TlsClient

Serve = Callable[..., Running]


class Seen:
    """An application that keeps the scopes of its requests."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await answer(send, b"seen")

    @property
    def last(self) -> Any:
        return self.scopes[-1]


@pytest.fixture
def seen() -> Seen:
    return Seen()


def ask(running: Running, head: bytes) -> None:
    with running.client() as client:
        assert client.send(head + b"\r\n\r\n").answer().body == b"seen"


def test_all_keys_are_there_in_a_plain_dict(serve: Serve, seen: Seen) -> None:
    """S-ASGI-01, S-ASGI-02, S-ASGI-03, S-ASGI-12, S-ASGI-13."""
    running = serve(serving(seen))
    with running.client() as client:
        client.send(b"GET /a?b=c HTTP/1.1\r\nHost: test\r\n\r\n").answer()
        address = client.socket.getsockname()
    scope = seen.last
    assert type(scope) is dict
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"b=c",
        "root_path": "",
        "headers": [(b"host", b"test")],
        "client": address,
        "server": ("127.0.0.1", running.port),
        "state": {},
        "extensions": scope["extensions"],
    }
    assert isinstance(scope["client"][1], int)


def test_nothing_of_a_scope_is_shared(serve: Serve) -> None:
    """S-ASGI-01, S-REG-07: an application may change all of it."""
    seen: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(json.dumps(scope, default=repr, sort_keys=True))
        for part in ("asgi", "extensions", "state"):
            scope[part]["changed"] = True
            for inner in scope[part].values():
                if isinstance(inner, dict):
                    inner["changed"] = True
        scope["headers"].append((b"changed", b"yes"))
        scope["changed"] = True
        await answer(send, b"ok")

    running = serve(serving(application))
    with running.client() as client:
        for _ in range(3):
            assert client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").answer().body == b"ok"
    assert seen[0] == seen[1] == seen[2]
    assert "changed" not in seen[0]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_version_of_http(serve: Serve, seen: Seen, version: str) -> None:
    """S-ASGI-04."""
    ask(serve(serving(seen)), b"GET / HTTP/%s\r\nHost: test" % version.encode())
    assert seen.last["http_version"] == version


@pytest.mark.parametrize("method", ["GET", "HEAD", "PROPFIND", "PURGE", "OPTIONS", "M-SEARCH"])
def test_any_method_passes(serve: Serve, seen: Seen, method: str) -> None:
    """S-ASGI-05."""
    running = serve(serving(seen))
    with running.client() as client:
        client.send(f"{method} / HTTP/1.1\r\nHost: test\r\n\r\n".encode()).answer(method)
    assert seen.last["method"] == method


@pytest.mark.parametrize(
    ("target", "path", "raw"),
    [
        (b"/", "/", b"/"),
        (b"/a%20b", "/a b", b"/a%20b"),
        (b"/%C3%BC", "/ü", b"/%C3%BC"),
        (b"/%ff", "/�", b"/%ff"),
        (b"/a%2Fb", "/a/b", b"/a%2Fb"),
        (b"//a/../b", "//a/../b", b"//a/../b"),
        (b"/a?b%20c", "/a", b"/a"),
        (b"/%zz%4", "/%zz%4", b"/%zz%4"),
    ],
)
def test_paths(serve: Serve, seen: Seen, target: bytes, path: str, raw: bytes) -> None:
    """S-ASGI-07, S-ASGI-08."""
    ask(serve(serving(seen)), b"GET %s HTTP/1.1\r\nHost: test" % target)
    assert (seen.last["path"], seen.last["raw_path"]) == (path, raw)


def test_a_query_stays_as_it_came(serve: Serve, seen: Seen) -> None:
    """S-ASGI-09."""
    running = serve(serving(seen))
    ask(running, b"GET /?a=%20+%zz&&=;/?x HTTP/1.1\r\nHost: test")
    assert seen.last["query_string"] == b"a=%20+%zz&&=;/?x"
    ask(running, b"GET /? HTTP/1.1\r\nHost: test")
    assert seen.last["query_string"] == b""


def test_an_absolute_target_names_the_host(serve: Serve, seen: Seen) -> None:
    """S-ASGI-08 (RFC 9112 section 3.2.2)."""
    ask(serve(serving(seen)), b"GET http://other:8080/p?q HTTP/1.1\r\nHost: test\r\nAccept: */*")
    assert (seen.last["path"], seen.last["raw_path"], seen.last["query_string"]) == ("/p", b"/p", b"q")
    assert seen.last["headers"] == [(b"host", b"other:8080"), (b"accept", b"*/*")]


def test_the_asterisk_form(serve: Serve, seen: Seen) -> None:
    """S-ASGI-08."""
    ask(serve(serving(seen)), b"OPTIONS * HTTP/1.1\r\nHost: test")
    assert (seen.last["path"], seen.last["raw_path"]) == ("*", b"*")


@pytest.mark.parametrize(
    ("target", "path", "raw"),
    [
        (b"/x", "/api/x", b"/api/x"),
        (b"/", "/api/", b"/api/"),
        (b"/api", "/api", b"/api"),
        (b"/api/x", "/api/x", b"/api/x"),
        (b"/apix%20", "/api/apix ", b"/api/apix%20"),
    ],
)
@pytest.mark.parametrize("root", ["/api", "/api/"])
def test_a_root_path_is_put_before_a_path_once(
    serve: Serve, seen: Seen, target: bytes, path: str, raw: bytes, root: str
) -> None:
    """S-ASGI-10, S-REG-26: for proxies that strip it, and for those that do not."""
    ask(serve(serving(seen, root)), b"GET %s HTTP/1.1\r\nHost: test" % target)
    assert (seen.last["root_path"], seen.last["path"], seen.last["raw_path"]) == ("/api", path, raw)


def test_a_root_path_that_is_a_slash_counts_as_none(serve: Serve, seen: Seen) -> None:
    """S-ASGI-10."""
    ask(serve(serving(seen, "/")), b"GET /x HTTP/1.1\r\nHost: test")
    assert (seen.last["root_path"], seen.last["path"]) == ("", "/x")


def test_headers_keep_order_repetitions_and_bytes(serve: Serve, seen: Seen) -> None:
    """S-ASGI-11, S-REG-25."""
    running = serve(serving(seen))
    head = b"GET / HTTP/1.1\r\nHost: test\r\nX-B: 1\r\nx-a:  2 \t\r\nX-B: 3\r\nCookie: a=1\r\nX-Bytes: \xe4\xff\r\nX-Empty:"
    expected = [
        (b"host", b"test"),
        (b"x-b", b"1"),
        (b"x-a", b"2"),
        (b"x-b", b"3"),
        (b"cookie", b"a=1"),
        (b"x-bytes", b"\xe4\xff"),
        (b"x-empty", b""),
    ]
    for _ in range(2):
        ask(running, head)
        assert seen.last["headers"] == expected
        assert all(type(pair) is tuple for pair in seen.last["headers"])


def test_the_names_and_values_of_other_requests_are_not_mixed_up(serve: Serve, seen: Seen) -> None:
    """S-ASGI-11: tuples of lines that come often are kept."""
    running = serve(serving(seen))
    with running.client() as client:
        for number in range(2000):
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\nX-%d: %d\r\n\r\n" % (number % 700, number)).answer()
            assert seen.last["headers"][1] == (b"x-%d" % (number % 700), b"%d" % number)


def test_a_unix_socket_has_no_client(serve: Serve, seen: Seen, tmp_path: Path) -> None:
    """S-ASGI-12, S-ASGI-13."""
    path = str(tmp_path / "socket")
    serve(serving(seen), listen=AppListenOptions(domain=path))
    with Client(path=path) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").answer()
    assert (seen.last["client"], seen.last["server"]) == (None, (path, None))


def test_a_trusted_proxy_names_client_and_scheme(serve: Serve, seen: Seen) -> None:
    """S-ASGI-06, S-ASGI-17, S-REG-27."""
    running = serve(serving(seen))
    ask(
        running,
        b"GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https",
    )
    assert (seen.last["client"], seen.last["scheme"]) == (("203.0.113.7", 0), "https")
    assert (b"host", b"test") in seen.last["headers"]


@pytest.mark.parametrize("value", [b"\xff\xfe", b"not an address", b"", b",,,"])
def test_garbage_of_a_proxy_is_ignored(serve: Serve, seen: Seen, value: bytes) -> None:
    """S-ASGI-17, S-REG-37: nothing is raised."""
    running = serve(serving(seen))
    ask(
        running,
        b"GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: %s\r\nX-Forwarded-Proto: %s" % (value, value),
    )
    assert seen.last["scheme"] == "http"


def test_others_than_proxies_are_not_believed(serve: Serve, seen: Seen) -> None:
    """S-ASGI-17."""
    running = serve(serving(seen), trusted_proxies="10.0.0.0/8")
    ask(
        running,
        b"GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https",
    )
    assert (seen.last["client"][0], seen.last["scheme"]) == ("127.0.0.1", "http")


def test_the_scheme_over_tls(serve: Serve, seen: Seen, certificates: Certificates) -> None:
    """S-ASGI-06."""
    running = serve(serving(seen), options=certificates.options())
    with TlsClient(running.port, certificates.context()) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").answer()
    assert seen.last["scheme"] == "https"


def test_the_smallest_application(serve: Serve) -> None:
    """S-ASGI-38: head and body in one response with a length."""
    running = serve(serving(hello))
    with running.client() as client:
        got = client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").answer()
    assert (got.status, got.body, got.header("content-length")) == (200, b"hello", "5")
