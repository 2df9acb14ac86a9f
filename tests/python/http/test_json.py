"""``app.json_serializer``: each place of JSON, with each serializer that people use (A-APP-15, I-S-47)."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from socketify import App, OpCode
from socketify.testing import TestServer

VALUE = {"Hello": "Wörld!", "numbers": [1, 2.5, None, True], "empty": {}}

#: orjson and msgspec give bytes; msgspec has other names for the two functions.
SERIALIZERS: dict[str, Any] = {
    "none": None,
    "json": json,
    "ujson": importlib.import_module("ujson"),
    "orjson": importlib.import_module("orjson"),
    "msgspec": SimpleNamespace(dumps=msgspec.json.encode, loads=msgspec.json.decode),
}


class Recorder:
    """A serializer that records its values."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner or json
        self.made: list[Any] = []
        self.read: list[Any] = []

    def dumps(self, value: Any) -> str | bytes:
        self.made.append(value)
        result: str | bytes = self._inner.dumps(value)
        return result

    def loads(self, text: Any) -> Any:
        value = self._inner.loads(text)
        self.read.append(value)
        return value


HTTP = {
    "end": lambda res: res.end(VALUE),
    "cork_end": lambda res: res.cork_end(VALUE),
    "cork": lambda res: res.cork(lambda res: res.end(VALUE)),
    "send": lambda res: res.send(VALUE),
    "cork_send": lambda res: res.cork_send(VALUE),
    "write": lambda res: res.write(VALUE).end(""),
    "end after write": lambda res: res.write(" ").end(VALUE),
    "with a set": lambda res: res.end({**VALUE, "empty": {1}}),
    "a list": lambda res: res.end([VALUE]),
}
WITH_TYPE = set(HTTP) - {"write", "end after write"}


async def read(res: Any, req: Any) -> None:
    res.end(repr(await res.get_json()))


async def read_or_raise(res: Any, req: Any) -> None:
    res.end(repr(await req.json()))


def configure(app: App, serializer: Any) -> None:
    if serializer is not None:
        app.json_serializer(serializer)
    for name, answer in HTTP.items():
        app.get(f"/{name.replace(' ', '-')}", lambda res, req, answer=answer: answer(res))
    app.get("/header", lambda res, req: res.write_header("X-Value", {"a": 1}).end(""))
    app.get("/cookie", lambda res, req: res.set_cookie("a", "1").end(str(req.get_cookie("b"))))
    app.constant("/constant", VALUE)
    app.post("/read", read)
    app.post("/read-or-raise", read_or_raise)
    app.post("/read-by-def", lambda res, req: res.run_async(read(res, req)))

    def opened(ws: Any) -> None:
        ws.subscribe("topic")
        ws.send(VALUE, OpCode.TEXT)

    def asked(ws: Any, message: Any, opcode: Any) -> None:
        if message == "publish":
            ws.publish("topic", VALUE, OpCode.TEXT)
        elif message == "app":
            app.publish("topic", VALUE, OpCode.TEXT)
        elif message == "binary":
            ws.send(VALUE)
        elif message == "end":
            ws.end(4000, "text")

    app.ws("/ws", {"open": opened, "message": asked})


@pytest.fixture(scope="module", params=SERIALIZERS)
def server(request: pytest.FixtureRequest) -> Iterator[TestServer]:
    with TestServer(lambda app: configure(app, SERIALIZERS[request.param])) as server:
        yield server


@pytest.mark.parametrize("way", HTTP)
def test_answers(server: TestServer, way: str) -> None:
    answer = server.get(f"/{way.replace(' ', '-')}")
    expected: Any = {"with a set": {**VALUE, "empty": [1]}, "a list": [VALUE]}.get(way, VALUE)
    assert answer.json() == expected
    assert (answer.headers["content-type"] == "application/json") == (way in WITH_TYPE)


def test_constants_and_headers(server: TestServer) -> None:
    assert server.get("/constant").json() == VALUE
    assert server.get("/constant").headers["content-type"] == "application/json"
    assert json.loads(server.get("/header").headers["x-value"]) == {"a": 1}


def test_sockets(server: TestServer) -> None:
    """``ws.send``, ``ws.publish`` and ``app.publish``; text stays text with any serializer."""
    with server.websocket("/ws") as ws:
        assert ws.receive_json() == VALUE
        for word in ("publish", "app"):
            ws.send(word)
            message = ws.receive()
            assert (type(message), json.loads(message)) == (str, VALUE)
        ws.send("binary")
        message = ws.receive()
        assert (type(message), json.loads(message)) == (bytes, VALUE)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, "\xc3\xa9"]}', {"a": [1, "é"]}),
        (b"[]", []),
        (b"{", None),
        (b"", None),
        (b"\xff", None),
        (b"null", None),
        # A byte order mark is no part of the text (RFC 8259 section 8.1); a second one is no JSON.
        (b"\xef\xbb\xbf[1]", [1]),
        (b"\xef\xbb\xbf", None),
        (b"\xef\xbb\xbf\xef\xbb\xbf[1]", None),
    ],
)
def test_bodies(server: TestServer, body: bytes, value: Any) -> None:
    """A-RES: None for invalid JSON, for any exception of the serializer."""
    assert server.post("/read", body=body).text == repr(value)
    answer = server.post("/read-or-raise", body=body)
    if value is None and body != b"null":
        assert answer.status == 400
    else:
        assert answer.text == repr(value)
    assert server.post("/read-by-def", body=body).text == repr(value)


@pytest.mark.parametrize("name", ["json", "orjson"])
def test_what_goes_through_it_and_what_does_not(name: str) -> None:
    """Cookies and text do not; everything else once."""
    recorder = Recorder(SERIALIZERS[name])
    with TestServer(lambda app: configure(app, recorder)) as server:
        assert recorder.made == [VALUE]  # the constant
        server.get("/cookie", cookies={"b": '{"not": "json"}'})
        server.get("/constant")
        assert len(recorder.made) == 1
        for way in ("end", "send", "write", "header"):
            server.get(f"/{way}")
        assert recorder.made[1:] == [VALUE, VALUE, VALUE, {"a": 1}]
        server.post("/read", body=b"[1]")
        assert recorder.read == [[1]]
        with server.websocket("/ws") as ws:
            ws.receive()
            ws.send("publish")
            ws.receive()
        assert recorder.made[5:] == [VALUE, VALUE]


@pytest.mark.parametrize("serializer", [None, 5, SimpleNamespace(dumps=str), SimpleNamespace(loads=str)])
def test_what_is_no_serializer(serializer: Any) -> None:
    app = App()
    with pytest.raises(TypeError, match="dumps and loads"):
        app.json_serializer(serializer)
    app.dispose()
