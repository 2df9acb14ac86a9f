"""Strawberry, with subscriptions over WebSockets."""

from __future__ import annotations

import json

import pytest
from serving import Served
from websockets.sync.client import ClientConnection

APPLICATION = "graphql_site:app"


def say(socket: ClientConnection, **message: object) -> None:
    socket.send(json.dumps(message))


def test_query(site: Served) -> None:
    query = {"query": "query($n: String!) { hello(name: $n) }", "variables": {"n": "Ada"}}
    assert site.http.post("/graphql", json=query).json()["data"] == {"hello": "hello Ada"}
    assert "GraphiQL" in site.http.get("/graphql", headers={"accept": "text/html"}).text


@pytest.mark.parametrize("protocol", ["graphql-transport-ws", "graphql-ws"])
def test_subscription(site: Served, protocol: str) -> None:
    """S-REG-35."""
    new = protocol == "graphql-transport-ws"
    with site.websocket("/graphql", subprotocols=[protocol]) as socket:
        assert socket.subprotocol == protocol
        say(socket, type="connection_init")
        assert json.loads(socket.recv(20))["type"] == "connection_ack"
        query = {"query": "subscription { count(target: 3) }"}
        say(socket, id="1", type="subscribe" if new else "start", payload=query)
        for number in range(3):
            assert json.loads(socket.recv(20))["payload"]["data"] == {"count": number}
        assert json.loads(socket.recv(20))["type"] == "complete"


def test_leaving_a_subscription(site: Served) -> None:
    before = site.diary().count("subscription over")
    with site.websocket("/graphql", subprotocols=["graphql-transport-ws"]) as socket:
        say(socket, type="connection_init")
        socket.recv(20)
        say(socket, id="1", type="subscribe", payload={"query": "subscription { count(target: 0) }"})
        say(socket, type="ping")
        assert json.loads(socket.recv(20))["type"] == "pong"
    site.noted("subscription over", before + 1)
