"""Socket.IO, whose packets are text: 4 is a message of Engine.IO, 0 in it opens, 2 is an event, 3 its acknowledgement."""

from __future__ import annotations

import json

import pytest
from serving import Served

from conftest import Start
from support import until

APPLICATION = "socketio_sites:asgi"
POLLING = "/socket.io/?EIO=4&transport=polling"


def opened(site: Served) -> str:
    """A session by polling."""
    answer = site.http.get(POLLING)
    assert answer.text[0] == "0"
    session: str = json.loads(answer.text[1:])["sid"]
    return f"{POLLING}&sid={session}"


def test_websocket(site: Served) -> None:
    """S-REG-35: an event, its acknowledgement, and a message to a room."""
    with site.websocket("/socket.io/?EIO=4&transport=websocket") as socket:
        assert json.loads(str(socket.recv(20))[1:])["maxPayload"] > 0
        socket.send("40")
        assert str(socket.recv(20)).startswith("40{")
        socket.send('421["say","hello"]')
        assert {socket.recv(20), socket.recv(20)} == {'42["said","hello"]', '431["heard"]'}


def test_polling(site: Served) -> None:
    """S-REG-35: a request waits until there is something to say."""
    session = opened(site)
    assert site.http.post(session, content="40").text == "OK"
    assert site.http.get(session).text.startswith("40{")
    assert site.http.post(session, content='421["say","hello"]').text == "OK"
    heard = ""
    while '431["heard"]' not in heard:
        heard += site.http.get(session).text
    assert '42["said","hello"]' in heard


def test_polling_by_wsgi(start: Start) -> None:
    """S-REG-32: polling works, with threads for the requests that wait."""
    site = start("socketio_sites:wsgi", "--threads", "8", interface="wsgi")
    session = opened(site)
    assert site.http.post(session, content="40").text == "OK"
    assert site.http.get(session).text.startswith("40{")
    assert site.http.post(session, content='421["shout","hello"]').text == "OK"
    assert site.http.get(session).text == '431["HELLO"]'


@pytest.mark.ours("gunicorn hands out its socket")
def test_websocket_by_wsgi(start: Start) -> None:
    """S-REG-32, S-WSGI-12: there is none by WSGI, and the error says so."""
    site = start("socketio_sites:wsgi", "--threads", "8", interface="wsgi")
    with site.raw() as client:
        answer = client.get(
            "/socket.io/?EIO=4&transport=websocket",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )
    assert answer.status >= 400
    until(lambda: opened(site), "polling, as before")
