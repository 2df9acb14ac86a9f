"""Hypercorn with the raw ASGI application, on uvloop."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config

from asgi import app

# By default it closes a connection after fewer requests than a load generator sends.
ENDLESS = 1_000_000_000


def main(host: str, port: str, certificate: str = "", key: str = "") -> None:
    """Serves until the process is killed, over TLS if there is a certificate."""
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = ENDLESS
    config.errorlog = None
    if certificate:
        config.certfile, config.keyfile = certificate, key

    async def forever() -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        await serve(app, config, mode="asgi", shutdown_trigger=forever)

    uvloop.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
