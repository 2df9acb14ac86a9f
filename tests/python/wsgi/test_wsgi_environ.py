"""``environ`` of WSGI applications: S-WSGI-01 to S-WSGI-12, G-W-03, G-W-04."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import socketify
from socketify.wsgi_environ import Errors
from support.client import Client
from support.wsgi import OK, TEXT, Environ, Site, answering, dump, read

Start = Callable[..., Site]


def ask(client: Client, target: str = "/", *lines: str, method: str = "GET", version: str = "1.1") -> Environ:
    client.request(method, target, *lines, version=version)
    answer = client.answer()
    assert answer.status == 200
    return read(answer.body)


def test_each_request_has_a_dict_of_its_own(site: Start) -> None:
    """S-WSGI-01: a real dict, which the application may change."""
    seen: list[Environ] = []

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        assert type(environ) is dict
        assert "mine" not in environ
        environ["mine"] = environ["wsgi.version"] = 1
        seen.append(environ)
        start_response(OK, TEXT)
        return []

    client = site(application).client()
    for _ in range(2):
        assert client.request().answer().status == 200
    assert seen[0] is not seen[1]


def test_variables_of_the_process(site: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """S-WSGI-02, G-W-03: they are there, but for those that could pass for the request's."""
    for name in ("HTTP_PROXY", "CONTENT_TYPE", "PATH_INFO", "QUERY_STRING", "REMOTE_USER", "SCRIPT_NAME"):
        monkeypatch.setenv(name, "of the shell")
    monkeypatch.setenv("SOME_SETTING", "väl\udcff")
    environ = ask(site(dump, inherit=True).client())
    assert environ["SOME_SETTING"] == os.fsencode("väl\udcff").decode("latin-1")
    assert environ["PATH"] == os.environ["PATH"]
    assert "of the shell" not in environ.values()
    assert "PATH" not in ask(site(dump).client())


def test_values_are_bytes_as_text(site: Start) -> None:
    """S-WSGI-03: each byte is a code point."""
    client = site(dump).client()
    client.send(b"GET /?a=\xc3\xa9 HTTP/1.1\r\nHost: x\r\nX-Name: caf\xc3\xa9 \xff\r\n\r\n")
    answer = client.answer()
    if answer.status == 200:
        environ = read(answer.body)
        assert environ["QUERY_STRING"] == "a=Ã©"
    else:
        # The core refuses such a target.
        assert answer.status == 400
        client = site(dump).client()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Name: caf\xc3\xa9 \xff\r\n\r\n")
        environ = read(client.answer().body)
    assert environ["HTTP_X_NAME"] == "cafÃ© ÿ"


def test_the_request_line(site: Start) -> None:
    """S-WSGI-04."""
    client = site(dump).client()
    environ = ask(client, "/a%20b?x=1&y=%20", method="PURGE")
    assert environ["REQUEST_METHOD"] == "PURGE"
    assert environ["QUERY_STRING"] == "x=1&y=%20"
    assert environ["REQUEST_URI"] == environ["RAW_URI"] == "/a%20b?x=1&y=%20"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["GATEWAY_INTERFACE"] == "CGI/1.1"
    assert environ["SERVER_SOFTWARE"] == f"socketify/{socketify.__version__}"
    assert ask(client)["QUERY_STRING"] == ""
    assert ask(client, version="1.0")["SERVER_PROTOCOL"] == "HTTP/1.0"


@pytest.mark.parametrize(
    ("root", "target", "script", "path"),
    [
        ("", "/", "", "/"),
        ("", "/a/b", "", "/a/b"),
        ("", "/a%2Fb%20c", "", "/a/b c"),
        ("", "/%C3%A9/%FF", "", "/Ã©/ÿ"),
        ("", "//a/../b", "", "//a/../b"),
        ("", "/100%", "", "/100%"),
        ("/api", "/api/x", "/api", "/x"),
        ("/api", "/api/", "/api", "/"),
        ("/api", "/api", "/api", ""),
        ("/api", "/apix", "/api", "/apix"),
        ("/api", "/x", "/api", "/x"),
        ("/api", "/%61pi/x", "/api", "/x"),
        ("/é", "/%C3%A9/x", "/Ã©", "/x"),
    ],
)
def test_root_path(site: Start, root: str, target: str, script: str, path: str) -> None:
    """S-WSGI-05, G-W-04: cut off where the path has it."""
    environ = ask(site(dump, root_path=root, valid=True).client(), target)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, path)


def test_the_asterisk_form(site: Start) -> None:
    """S-WSGI-05."""
    environ = ask(site(dump).client(), "*", method="OPTIONS")
    assert environ["PATH_INFO"] == environ["REQUEST_URI"] == "*"


def test_the_absolute_form(site: Start) -> None:
    """S-WSGI-04: the target's authority is the host (RFC 9112 section 3.2.2)."""
    environ = ask(site(dump).client(), "http://other.example:81/p?q")
    assert environ["PATH_INFO"] == "/p"
    assert environ["HTTP_HOST"] == "other.example:81"
    assert environ["REQUEST_URI"] == "http://other.example:81/p?q"


def test_server_and_client_over_tcp(site: Start) -> None:
    """S-WSGI-06, S-WSGI-07: text, those of the connection."""
    running = site(dump)
    client = running.client()
    environ = ask(client)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", str(running.port))
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == (
        "127.0.0.1",
        str(client.socket.getsockname()[1]),
    )
    assert environ["wsgi.url_scheme"] == "http"
    assert "HTTPS" not in environ


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("example.org:8080", "example.org", "8080"),
        ("example.org", "example.org", "80"),
        ("[::1]:81", "[::1]", "81"),
        ("[::1]", "[::1]", "80"),
        ("", "localhost", "80"),
    ],
)
def test_server_and_client_over_a_unix_socket(
    site: Start, tmp_path: Path, host: str, name: str, port: str
) -> None:
    """S-WSGI-06, S-WSGI-07."""
    path = str(tmp_path / "s")
    site(dump, listen={"domain": path})
    client = Client(path=path)
    client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    environ = read(client.answer().body)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("127.0.0.1", "0")
    client.close()


def test_trusted_proxies(site: Start) -> None:
    """S-WSGI-07: they say who the client is, and what it speaks."""
    lines = ("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example")
    environ = ask(site(dump).client(), "/", *lines)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("203.0.113.7", "0")
    assert (environ["wsgi.url_scheme"], environ["HTTPS"]) == ("https", "on")
    assert environ["HTTP_HOST"] == "test"
    environ = ask(site(dump, trusted_proxies=[]).client(), "/", *lines)
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("127.0.0.1", "http")
    assert environ["HTTP_X_FORWARDED_FOR"] == "203.0.113.7"


def test_a_hidden_client_is_not_this_machine(site: Start) -> None:
    """S-WSGI-07: frameworks give this machine more rights."""
    environ = ask(site(dump).client(), "/", "Forwarded: for=unknown")
    assert environ["REMOTE_ADDR"] == ""


def test_headers(site: Start) -> None:
    """S-WSGI-08, S-REG-25."""
    environ = ask(
        site(dump, valid=True).client(),
        "/",
        "Accept: text/html",
        "Accept: */*",
        "x-UNKNOWN-thing: 1",
        "Cookie: a=1",
        "Cookie: b=2",
        "X_Real_IP: 6.6.6.6",
        "X-Empty:",
        "Content-Type: text/x",
    )
    assert environ["HTTP_HOST"] == "test"
    assert environ["HTTP_ACCEPT"] == "text/html,*/*"
    assert environ["HTTP_X_UNKNOWN_THING"] == "1"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert "HTTP_X_REAL_IP" not in environ
    assert environ["HTTP_X_EMPTY"] == ""
    assert environ["CONTENT_TYPE"] == "text/x"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()


def test_type_and_length_of_a_body(site: Start) -> None:
    """S-WSGI-09: always there."""
    client = site(dump, valid=True).client()
    environ = ask(client)
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("", "0")
    client.request("POST", "/", "Content-Type: a/b", body=b"xyz")
    environ = read(client.answer().body)
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("a/b", "3")
    client.request("POST", "/", "Transfer-Encoding: chunked").send(b"3\r\nxyz\r\n0\r\n\r\n")
    environ = read(client.answer().body)
    assert environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_TRANSFER_ENCODING" not in environ


def test_the_keys_of_wsgi(site: Start) -> None:
    """S-WSGI-10."""
    kept: list[Environ] = []

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        kept.append(environ)
        return dump(environ, start_response)

    environ = ask(site(application, valid=True).client())
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.multithread"] is False
    assert environ["wsgi.multiprocess"] is False
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True
    assert isinstance(kept[0]["wsgi.file_wrapper"], type)
    assert ask(site(application, threads=2).client())["wsgi.multithread"] is True


def test_early_hints(site: Start) -> None:
    """S-WSGI-10: an interim response, for clients that know of them."""

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")])
        with pytest.raises(ValueError, match="carriage return"):
            environ["wsgi.early_hints"]([("Link", "a\r\nSet-Cookie: b")])
        start_response(OK, TEXT)
        return [b"done"]

    running = site(application)
    client = running.client().request()
    interim = client.answer()
    assert interim.status_line == "HTTP/1.1 103 Early Hints"
    assert interim.lines == ["Link: </a.css>; rel=preload", "Link: </b.js>; rel=preload"]
    assert client.answer().body == b"done"
    assert running.client().request(version="1.0").answer().status == 200


def test_early_hints_come_before_the_response_alone(site: Start) -> None:
    """S-WSGI-10: once it has begun, they are too late."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        yield b"a"
        environ["wsgi.early_hints"]([("Link", "</a.css>")])
        yield b"b"

    assert site(application).client().request().answer().body == b"ab"


def test_errors_go_to_standard_error_of_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """S-WSGI-11."""
    errors = Errors()
    for _ in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        assert errors.write("one\n") == 4
        errors.writelines(["two\n", "three\n"])
        errors.flush()
        assert stream.getvalue() == "one\ntwo\nthree\n"
    with pytest.raises(TypeError, match="bytes"):
        errors.write(b"x")  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stderr", None)
    errors.write("nobody reads this")
    errors.flush()


def test_writes_of_threads_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """S-WSGI-11."""
    parts: list[str] = []

    class Slow:
        def write(self, text: str) -> None:
            for letter in text:
                parts.append(letter)

    monkeypatch.setattr(sys, "stderr", Slow())
    errors = Errors()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        texts = [str(number) * 500 for number in range(4)]
        threads = [threading.Thread(target=errors.write, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    written = "".join(parts)
    assert sorted(written[at : at + 500] for at in range(0, 2000, 500)) == texts


def test_no_raw_socket(site: Start) -> None:
    """S-WSGI-12, S-REG-32: libraries that ask for one find none, and say so."""
    kept: list[Environ] = []

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        kept.append(environ)
        return answering(b"")(environ, start_response)  # type: ignore[no-any-return]

    site(application).client().request().answer()
    assert not [key for key in kept[0] if key.endswith(".socket")]
