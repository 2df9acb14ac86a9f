"""The WebSocket routes of the comparison on picows. It has neither coroutines for messages nor compression."""

from __future__ import annotations

import sys

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

subscribers: set[WSTransport] = set()


class Listener(WSListener):
    """The common part of every connection: answers a close frame with a close frame."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Takes a frame."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type in (WSMsgType.BINARY, WSMsgType.TEXT):
            self.on_message(transport, frame)

    def on_message(self, transport: WSTransport, frame: WSFrame) -> None:
        """Takes a message."""
        raise NotImplementedError


class Echo(Listener):
    """Echoes each message."""

    def on_message(self, transport: WSTransport, frame: WSFrame) -> None:
        """Sends it from the receive buffer."""
        transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Topic(Listener):
    """Sends each message to all clients."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Subscribes."""
        subscribers.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Unsubscribes."""
        subscribers.discard(transport)

    def on_message(self, transport: WSTransport, frame: WSFrame) -> None:
        """Publishes."""
        message = frame.get_payload_as_bytes()
        for subscriber in subscribers:
            subscriber.send(frame.msg_type, message)


ROUTES = {b"/echo": Echo, b"/topic": Topic}


def listener(request: WSUpgradeRequest) -> WSListener | None:
    """Picks the listener of a connection; other paths get a 404."""
    route = ROUTES.get(request.path.encode() if isinstance(request.path, str) else request.path)
    return route() if route else None


async def main(host: str, port: int) -> None:
    """Serves until the process is killed."""
    server = await ws_create_server(listener, host, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
