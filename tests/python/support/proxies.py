"""Proxies before a server, each a process of its own."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import Any

from support import until

#: What `through` asks for.
REQUEST = b"GET /who HTTP/1.1\r\nHost: test\r\n\r\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Front:
    """A proxy in a process of its own, on a port that it serves when this has been entered."""

    def __init__(self, command: list[str], port: int) -> None:
        self.port = port
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def __enter__(self) -> Front:
        until(self._serves, "the proxy's port")
        return self

    def _serves(self) -> bool:
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read().decode()
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)


def through(front: Front, source: str) -> Any:
    """Asks from an address of one's own: the whole of 127.0.0.0/8 is this machine."""
    with socket.create_connection(("127.0.0.1", front.port), 20, (source, 0)) as connection:
        connection.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return json.loads(answer.partition(b"\r\n\r\n")[2])
