"""The client of a request behind HTTP proxies: `get_client_address`, `get_client_scheme`, `get_client_host`.
The form of a list of hops is tested with the parser; here it is the trusted peers, and the handlers' view."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import tool
from support.client import Client
from support.proxies import Front, free_port, through
from support.running import Running

Serve = Callable[..., Running]

TRUSTED = ["127.0.0.1", "10.0.0.0/8", "unix"]


def who(res: Any, req: Any) -> None:
    res.end([req.get_client_address(), req.get_client_scheme(), req.get_client_host()])


def site(app: Any) -> None:
    app.get("/who", who)


def ask(client: Client, *lines: str) -> Any:
    return json.loads(client.get("/who", *lines).body)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ["127.0.0.1", "http", "test"]),
        (["Forwarded: for=192.0.2.7"], ["192.0.2.7", "http", "test"]),
        (["Forwarded: for=9.9.9.9, for=192.0.2.7;proto=https;host=a.example, for=10.1.1.1"],
         ["192.0.2.7", "https", "a.example"]),
        (['Forwarded: for="[2001:db8::7]:4711";proto=HTTPS'], ["2001:db8::7", "https", "test"]),
        (["Forwarded: for=unknown;proto=https"], [None, "https", "test"]),
        (["Forwarded: for=_secret"], [None, "http", "test"]),
        (["X-Forwarded-For: 9.9.9.9, 192.0.2.7, 10.1.1.1"], ["192.0.2.7", "http", "test"]),
        (["X-Forwarded-For: 9.9.9.9", "X-Forwarded-For: 192.0.2.7"], ["192.0.2.7", "http", "test"]),
        (["X-Forwarded-For: ::ffff:192.0.2.7"], ["192.0.2.7", "http", "test"]),
        (["X-Forwarded-For: 192.0.2.7, x"], [None, "http", "test"]),
        (["X-Forwarded-Proto: https", "X-Forwarded-Host: a.example:8443"], ["127.0.0.1", "https", "a.example:8443"]),
        (["X-Forwarded-Host: a/../b", "X-Forwarded-Proto: <script>"], ["127.0.0.1", "http", "test"]),
        (["Forwarded: for=192.0.2.7;proto=https", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https"],
         ["192.0.2.7", "https", "test"]),
        (["Forwarded: for=9.9.9.9;proto=https;host=evil", "X-Forwarded-For: 192.0.2.7"], [None, "http", "test"]),
        (["Forwarded: for=192.0.2.7;proto=https;host=evil", "X-Forwarded-For: 192.0.2.7"], ["192.0.2.7", "http", "test"]),
        (["X-Forwarded-Host: evil", "Forwarded: for=192.0.2.7;proto=https"], ["192.0.2.7", "https", "test"]),
        (["X-Forwarded-Proto: http", "Forwarded: for=192.0.2.7;proto=https"], ["192.0.2.7", "http", "test"]),
    ],
)  # fmt: skip
def test_what_trusted_proxies_say(serve: Serve, lines: list[str], expected: list[Any]) -> None:
    with serve(site, trusted_proxies=TRUSTED).client() as client:
        assert ask(client, *lines) == expected


def test_others_are_not_asked(serve: Serve) -> None:
    lines = ["Forwarded: for=9.9.9.9;proto=https;host=evil"]
    more = ["X-Forwarded-For: 9.9.9.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil"]
    for trusted in ([], ["10.0.0.0/8"], ["unix"], ["::1"]):
        with serve(site, trusted_proxies=trusted).client() as client:
            assert ask(client, *lines) == ["127.0.0.1", "http", "test"]
            assert ask(client, *more) == ["127.0.0.1", "http", "test"]


def test_behind_a_preface(serve: Serve) -> None:
    """The sender decides: a client's own headers, or those of a trusted proxy."""
    running = serve(site, trusted_proxies=TRUSTED)
    for preface, expected in (
        (b"PROXY TCP4 192.0.2.99 10.0.0.1 1 2\r\n", ["192.0.2.99", "http", "test"]),
        (b"PROXY TCP4 10.7.7.7 10.0.0.1 1 2\r\n", ["192.0.2.7", "https", "test"]),
        (b"PROXY UNKNOWN\r\n", [None, "http", "test"]),
    ):
        with running.client() as client:
            client.send(preface)
            assert ask(client, "Forwarded: for=192.0.2.7;proto=https") == expected


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    running = Running(site, listen={"domain": path})
    try:
        with Client(path=path) as client:
            assert ask(client) == [None, "http", "test"]
            assert ask(client, "X-Forwarded-For: 192.0.2.7") == ["192.0.2.7", "http", "test"]
    finally:
        running.stop()


def test_a_host_without_headers(serve: Serve) -> None:
    """It is that of the target before that of `Host`, and None without either."""
    with serve(site).client() as client:
        assert json.loads(client.get("http://a.example:80/who").body)[2] == "a.example:80"
        client.send(b"GET /who HTTP/1.0\r\n\r\n")
        assert json.loads(client.answer().body)[2] is None


def test_behind_nginx(serve: Serve, tmp_path: Path) -> None:
    """The usual four lines: a client's own values do not count."""
    program = tool("nginx")
    running = serve(site)
    port = free_port()
    settings = tmp_path / "nginx.conf"
    settings.write_text(
        f"pid {tmp_path}/pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\nhttp {{ access_log off;\n"
        + "".join(
            f"{name}_temp_path {tmp_path}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{running.port};\n"
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\nproxy_set_header X-Forwarded-Proto $scheme;\n"
        'proxy_set_header X-Forwarded-Host $http_host;\nproxy_set_header Forwarded "";\n} } }\n'
    )
    with Front([program, "-p", str(tmp_path), "-c", str(settings), "-e", "stderr"], port) as front:
        # All of loopback is trusted, so this client is the last of trusted hops, and no further one is named.
        assert through(front, "127.0.0.9") == ["127.0.0.9", "http", "test"]
        answered = subprocess.run(
            ["curl", "-sS", "-H", "Forwarded: for=9.9.9.9", "-H", "X-Forwarded-Proto: https", "-H", "Host: a.example",
             f"http://127.0.0.1:{port}/who"],
            capture_output=True, timeout=30, check=True,
        )  # fmt: skip
        assert json.loads(answered.stdout) == ["127.0.0.1", "http", "a.example"]
