"""The echo server that the Autobahn test suite examines: each message goes back, with its type.

``python server.py [COMPRESSION]``: names of ``CompressOptions``, joined by ``|``; without, no compression. It prints
``port N`` when it listens, on a port that was free.
"""

from __future__ import annotations

import sys
from typing import Any

from socketify import App, AppListenOptions, CompressOptions, OpCode, WebSocket


def echo(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
    # Compressed if the client has agreed to it, else not.
    ws.send(message, opcode, compress=True)


def behavior(compression: str) -> dict[str, Any]:
    chosen = 0
    for name in filter(None, compression.split("|")):
        chosen |= CompressOptions[name]
    return {
        "compression": chosen,
        # The largest message of the suite is 16 MiB, sent by a client that reads only when it has sent it.
        "max_payload_length": 17 << 20,
        "max_backpressure": 0,
        "idle_timeout": 300,
        "message": echo,
    }


def listening(config: AppListenOptions) -> None:
    print(f"port {config.port}", flush=True)


def main() -> None:
    app = App()
    app.ws("/*", behavior(sys.argv[1] if len(sys.argv) > 1 else ""))
    app.listen({"host": "127.0.0.1", "port": 0}, listening)
    app.run()


if __name__ == "__main__":
    main()
