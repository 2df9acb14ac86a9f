"""What requests leave behind, without the cycle collector: S-REG-17, S-REG-18."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import reset, until
from support.client import Client
from support.memory import resident, without_collector
from support.wsgi import OK, TEXT, Environ, Site

Start = Callable[..., Site]

ROUNDS = 6000


def visit(client: Client, kind: str) -> None:
    if kind == "list":
        assert client.request("GET", "/list", "X-A: 1", "X-B: 2").answer().body == b"x" * 1000
    elif kind == "iterator":
        assert client.request("GET", "/iterator").answer().body == b"x" * 3000
    elif kind == "body":
        assert client.request("POST", "/body", body=b"y" * 2000).answer().body == b"y" * 2000
    elif kind == "chunked":
        # In one segment: else each waits for the acknowledgement of the one before.
        head = b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert client.send(head + b"3\r\nabc\r\n0\r\n\r\n").answer().body == b"abc"
    elif kind == "error":
        assert client.request("GET", "/error").answer().status == 500
    else:
        assert len(client.request("GET", "/file").answer().body) == 50_000


@pytest.mark.alone
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["list", "iterator", "body", "chunked", "error", "file"])
def test_requests_leave_nothing(site: Start, tmp_path: Path, kind: str, threads: int) -> None:
    """S-REG-17: no object, no cycle, no memory."""
    path = tmp_path / "f"
    path.write_bytes(b"z" * 50_000)

    def application(environ: Environ, start_response: Any) -> Any:
        path_info = environ["PATH_INFO"]
        if path_info == "/error":
            raise RuntimeError("oops")
        write = start_response(OK, TEXT)
        environ["mine"] = start_response
        if path_info == "/list":
            return [b"x" * 1000]
        if path_info == "/body":
            return [environ["wsgi.input"].read()]
        if path_info == "/file":
            return environ["wsgi.file_wrapper"](path.open("rb"))
        write(b"x" * 1000)
        return (b"x" * 1000 for _ in range(2))

    import logging

    logging.getLogger("socketify").setLevel(logging.CRITICAL)
    try:
        client = site(application, threads=threads).client()
        for _ in range(500):
            visit(client, kind)
        rounds = ROUNDS // 6 if kind in ("error", "file") else ROUNDS
        with without_collector():
            for _ in range(300):
                visit(client, kind)
            objects, memory = len(gc.get_objects()), resident()
            for _ in range(rounds):
                visit(client, kind)
            grown = len(gc.get_objects()) - objects
            larger = resident() - memory
            # The last request may not have ended, and threads are begun late.
            assert grown < 200, f"{grown} objects more after {rounds} requests"
            assert larger < 4 << 20, f"{larger} bytes more after {rounds} requests"
    finally:
        logging.getLogger("socketify").setLevel(logging.NOTSET)


@pytest.mark.alone
@pytest.mark.parametrize("threads", [1, 2])
def test_clients_that_leave_leave_nothing(site: Start, threads: int) -> None:
    """S-REG-18: in the body of the request, and in that of the response."""

    def application(environ: Environ, start_response: Any) -> Any:
        environ["wsgi.input"].read()
        start_response(OK, TEXT)
        return (b"x" * 65536 for _ in range(100))

    started = site(application, threads=threads)

    def leave(number: int) -> None:
        client = Client(started.port)
        if number % 2:
            client.request("POST", "/", "Content-Length: 100000").send(b"y" * 1000)
        else:
            client.request()
        if number % 3:
            client.socket.recv(1) if number % 2 == 0 else None
        reset(client)

    for number in range(200):
        leave(number)
    with without_collector():
        for number in range(100):
            leave(number)
        until(lambda: started.running.app._server.request_count() == 0, "nothing is in progress")
        objects, memory = len(gc.get_objects()), resident()
        for number in range(600):
            leave(number)
        until(lambda: started.running.app._server.request_count() == 0, "nothing is in progress")
        assert len(gc.get_objects()) - objects < 200
        assert resident() - memory < 4 << 20
