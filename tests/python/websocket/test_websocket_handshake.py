"""How an HTTP request becomes a WebSocket, or does not: C-H-*, C-K-09, A-RES-30, H-29, H-30, I-A-21, I-A-29, I-C-29."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App, CompressOptions, OpCode
from support import until
from support.client import Client
from support.lanes import LOOP, THREAD, each_lane, on, options
from support.ws_client import (
    BINARY,
    PING,
    PONG,
    SAMPLE_ACCEPT,
    SAMPLE_KEY,
    TEXT,
    Frame,
    WebSocketClient,
    frame,
    handshake,
)

Serve = Callable[..., Any]


def echo(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode)


def named(name: str) -> dict[str, Any]:
    """A behaviour that sends its name first."""
    return {"open": lambda ws: ws.send(name, OpCode.TEXT), "message": echo}


def accept(res: Any, req: Any, context: Any, user_data: Any = None) -> bool:
    """What most upgrade callbacks do."""
    accepted: bool = res.upgrade(
        req.get_header("sec-websocket-key"),
        req.get_header("sec-websocket-protocol"),
        req.get_header("sec-websocket-extensions"),
        context,
        user_data,
    )
    return accepted


def ask(client: Client, head: bytes) -> Any:
    """The response to a handshake, of any kind."""
    client.send(head)
    return client.answer()


# ---- the 101 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["without a callback", "with one"])
def test_the_answer(serve: Serve, kind: str) -> None:
    """C-H-03: the headers of a 101, and none for a body; the key of RFC 6455 1.3."""
    behavior = {"message": echo} | ({"upgrade": accept} if kind == "with one" else {})
    with serve(lambda app: app.ws("/", behavior)).websocket("/", key=SAMPLE_KEY) as client:
        answer = client.response
        assert answer.status_line == "HTTP/1.1 101 Switching Protocols"
        assert answer.header("sec-websocket-accept") == SAMPLE_ACCEPT
        assert answer.header("server") == "socketify"
        assert answer.header("date") is not None
        assert answer.header("sec-websocket-protocol") is None
        assert answer.header("sec-websocket-extensions") is None
        assert client.send_text("hello").recv_message() == "hello"


@pytest.mark.parametrize(
    "fields",
    [
        {"upgrade": "WebSocket"},
        {"upgrade": "WEBSOCKET", "connection": "UPGRADE"},
        {"connection": "keep-alive, Upgrade"},
        {"connection": "Upgrade, keep-alive"},
        {"headers": ["Content-Length: 0"]},
        {"headers": ["Origin: http://elsewhere"]},
    ],
    ids=str,
)
def test_handshakes_as_they_come(serve: Serve, fields: dict[str, Any]) -> None:
    """C-H-01, RFC 6455 4.2.1: names of protocols know no case, and Connection is a list (Firefox sends one)."""
    with WebSocketClient(serve(lambda app: app.ws("/", {"message": echo})).port) as client:
        client.send(handshake(**fields))
        assert client.opened().send_text("hello").recv_message() == "hello"


BROKEN = {
    "no version": {"version": None},
    "an old version": {"version": "8"},
    "a version to come": {"version": "14"},
    "no key": {"key": None},
    "an empty key": {"key": ""},
    "a short key": {"key": "dGhlIHNhbXBsZQ=="},
    "a long key": {"key": SAMPLE_KEY + "AAAA"},
    "no Connection": {"connection": None},
    "Connection says something else": {"connection": "keep-alive"},
    "HTTP/1.0": {"http": "1.0"},
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_handshake_is_refused(serve: Serve, name: str) -> None:
    """C-H-01, I-A-21: without a route that would have it, 400 or 426, and no callback. A 426 has the
    supported version."""
    called: list[str] = []
    behavior = {
        "upgrade": lambda res, req, context: (called.append("upgrade"), accept(res, req, context)),
        "open": lambda ws: called.append("open"),
        "close": lambda ws, code, message: called.append("close"),
    }
    with serve(lambda app: app.ws("/", behavior)).client() as client:
        answer = ask(client, handshake(**BROKEN[name]))
    # A request without an upgrade (RFC 9110 7.8) is an ordinary one, for which there is no route here.
    asks = name not in ("no Connection", "Connection says something else", "HTTP/1.0")
    assert answer.status in ((400, 426) if asks else (404,))
    if answer.status == 426:
        assert answer.header("sec-websocket-version") == "13"
        assert (answer.header("upgrade") or "").lower() == "websocket"
    assert called == []


@pytest.mark.parametrize("version", ["8", "14"])
def test_another_version_is_426(serve: Serve, version: str) -> None:
    """C-H-01, RFC 6455 4.2.2: the response names the supported version."""
    with serve(lambda app: app.ws("/", {"message": echo})).client() as client:
        answer = ask(client, handshake(version=version))
    assert (answer.status, answer.header("sec-websocket-version")) == (426, "13")


# ---- other routes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["ws first", "ws last"])
@pytest.mark.parametrize("method", ["get", "any"])
def test_a_request_that_is_no_upgrade_goes_on(serve: Serve, order: str, method: str) -> None:
    """C-H-02: a page and its socket may have the same path, in any order of registration."""

    def configure(app: App) -> None:
        if order == "ws first":
            app.ws("/here", named("socket"))
        getattr(app, method)("/here", lambda res, req: res.end("page"))
        if order == "ws last":
            app.ws("/here", named("socket"))

    running = serve(configure)
    with running.client() as client:
        for _ in range(2):
            assert client.get("/here").body == b"page"
        # And the same connection can become a WebSocket.
        client.send(handshake("/here"))
        client.until(b"\r\n\r\n")
        assert client.exactly(8) == frame(TEXT, b"socket", masked=False)
    with running.websocket("/here") as websocket:
        assert websocket.recv_message() == "socket"


def test_without_a_page_a_plain_request_is_refused(serve: Serve) -> None:
    """C-H-01, C-H-02: nothing else has this path, and the connection lives on."""
    with serve(lambda app: app.ws("/here", named("socket"))).client() as client:
        for _ in range(2):
            assert client.get("/here").status in (400, 404, 426)


def test_other_methods_are_http(serve: Serve) -> None:
    """C-H-01: an upgrade is a GET."""

    def configure(app: App) -> None:
        app.ws("/", named("socket")).post("/", lambda res, req: res.end("posted"))

    with serve(configure).client() as client:
        client.send(handshake(method="POST", headers=["Content-Length: 0"]))
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"posted")


def test_no_route_no_websocket(serve: Serve) -> None:
    """A handshake for a path that no WebSocket has is an ordinary request."""

    def configure(app: App) -> None:
        app.ws("/here", named("socket")).get("/page", lambda res, req: res.end("page"))

    with serve(configure).client() as client:
        assert ask(client, handshake("/nowhere")).status == 404
        assert ask(client, handshake("/page")).body == b"page"


def test_several_routes(serve: Serve) -> None:
    """C-H-10: the most specific route wins, as for HTTP; each has a behaviour of its own."""

    def configure(app: App) -> None:
        app.ws("/*", named("anything"))
        app.ws("/room/:name", named("a room"))
        app.ws("/room/lobby", named("the lobby"))
        app.get("/room/lobby", lambda res, req: res.end("the lobby's page"))
        app.any("/*", lambda res, req: res.end("any page"))

    running = serve(configure)
    for path, expected in {
        "/room/lobby": "the lobby",
        "/room/lobby?x=1": "the lobby",
        "/room/attic": "a room",
        "/room/attic/stairs": "anything",
        "/": "anything",
    }.items():
        with running.websocket(path) as client:
            assert client.recv_message() == expected, path
    with running.client() as client:
        assert client.get("/room/lobby").body == b"the lobby's page"
        assert client.get("/room/attic").body == b"any page"


def test_a_route_is_chosen_before_its_pattern_is_less_exact_http(serve: Serve) -> None:
    """C-H-10: an HTTP route that fits everything does not take a handshake from a WebSocket's own route."""

    def configure(app: App) -> None:
        app.any("/*", lambda res, req: res.end("any page"))
        app.ws("/socket", named("socket"))

    with serve(configure).websocket("/socket") as client:
        assert client.recv_message() == "socket"


def test_a_pattern_registered_twice(serve: Serve) -> None:
    """DEC-8: the later one."""
    with serve(lambda app: app.ws("/", named("first")).ws("/", named("second"))).websocket() as client:
        assert client.recv_message() == "second"


# ---- the upgrade callback -------------------------------------------------------------------------------------------


@each_lane
def test_the_request_in_the_upgrade(serve: Serve, lane: str) -> None:
    """C-H-10, C-H-06, A-CALL-09: all data of the request, before an await and after it."""
    seen: list[dict[str, Any]] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        seen.append(
            {
                "method": req.get_method(),
                "url": req.get_url(),
                "full": req.get_full_url(),
                "parameters": req.get_parameters(),
                "named": req.get_parameter(1),
                "query": req.get_query("token"),
                "queries": req.get_queries(),
                "header": req.get_header("x-own"),
                "cookie": req.get_cookie("session"),
                "address": res.get_remote_address(),
            }
        )
        accept(res, req, context)

    running = serve(
        lambda app: app.ws("/room/:room/:seat/*", {"upgrade": on(lane, upgrade)}), **options(lane)
    )
    with running.websocket(
        "/room/a/7/rest?token=x%20y&b=2", headers=["X-Own: own", "Cookie: session=abc; b=c"]
    ):
        pass
    assert seen == [
        {
            "method": "GET",
            "url": "/room/a/7/rest",
            "full": "/room/a/7/rest?token=x%20y&b=2",
            "parameters": ["a", "7"],
            "named": "7",
            "query": "x y",
            "queries": {"token": ["x y"], "b": ["2"]},
            "header": "own",
            "cookie": "abc",
            "address": "127.0.0.1",
        }
    ]


@each_lane
def test_upgrade_says_that_it_worked(serve: Serve, lane: str) -> None:
    """A-RES-30, A-RES-26: True, and the response is over; later calls do nothing."""
    seen: list[Any] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        seen.append(res.has_responded())
        seen.append(accept(res, req, context))
        seen.append(res.has_responded())
        res.write_status(500).write_header("X-Late", "1").write("late").end("late")
        seen.append(accept(res, req, context))

    running = serve(lambda app: app.ws("/", {"upgrade": on(lane, upgrade), "message": echo}), **options(lane))
    with running.websocket() as client:
        assert client.send_text("a").recv_message() == "a"
    until(lambda: len(seen) == 4, "the callback to end")
    assert seen == [False, True, True, False]


@each_lane
def test_the_user_data(serve: Serve, lane: str) -> None:
    """A-WS-10: the very object."""
    user, seen = object(), []

    def configure(app: App) -> None:
        app.ws(
            "/",
            {
                "upgrade": on(lane, lambda res, req, context: accept(res, req, context, user)),
                "open": on(lane, lambda ws: seen.append(ws.get_user_data())),
                "message": on(lane, lambda ws, message, opcode: seen.append(ws.get_user_data())),
                "close": on(lane, lambda ws, code, message: seen.append(ws.get_user_data())),
            },
        )

    with serve(configure, **options(lane)).websocket() as client:
        client.send_text("a").finish()
    until(lambda: len(seen) == 3, "three callbacks")
    assert all(data is user for data in seen)


def test_no_user_data(serve: Serve) -> None:
    """A-WS-10, C-K-09: None, with a callback that gives none and without a callback."""
    seen: list[Any] = []

    def configure(app: App) -> None:
        app.ws("/with", {"upgrade": accept, "open": lambda ws: seen.append(ws.get_user_data())})
        app.ws("/without", {"open": lambda ws: seen.append(ws.get_user_data())})

    running = serve(configure)
    for path in ("/with", "/without"):
        running.websocket(path).close()
    until(lambda: len(seen) == 2, "two openings")
    assert seen == [None, None]


@pytest.mark.parametrize("lane", [THREAD, LOOP])
def test_open_runs_inside_upgrade(serve: Serve, lane: str) -> None:
    """A-RES-30, C-K-10: with plain functions, and its messages come after the 101."""
    order: list[str] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        order.append("before")
        accept(res, req, context)
        order.append("after")

    behavior = {"upgrade": upgrade, "open": lambda ws: (order.append("open"), ws.send("hello", OpCode.TEXT))}
    with serve(lambda app: app.ws("/", behavior), **options(lane)).websocket() as client:
        assert client.recv_message() == "hello"
    until(lambda: len(order) == 3, "upgrade to return")
    assert order == ["before", "open", "after"]


@each_lane
def test_headers_and_cookies_of_the_101(serve: Serve, lane: str) -> None:
    """A-RES-30: earlier headers go into it, with and without a status."""

    def upgrade(res: Any, req: Any, context: Any) -> None:
        if req.get_query("status"):
            res.write_status("101 Switching Protocols")
        res.write_header("X-Own", "own").write_header("X-Number", 7)
        res.set_cookie("session", "a b", {"path": "/", "httponly": True}).set_cookie("second", "2", {})
        accept(res, req, context)

    running = serve(lambda app: app.ws("/", {"upgrade": on(lane, upgrade), "message": echo}), **options(lane))
    for path in ("/", "/?status=1"):
        with running.websocket(path) as client:
            answer = client.response
            assert (answer.header("x-own"), answer.header("x-number")) == ("own", "7")
            first, second = answer.headers["set-cookie"]
            assert first.startswith("session=a%20b;")
            assert second.startswith("second=2")
            assert client.send_text("a").recv_message() == "a"


@each_lane
def test_rejecting(serve: Serve, lane: str) -> None:
    """C-H-05: an ordinary answer; the connection can ask again, and no other callback is called."""
    called: list[str] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        if req.get_query("token") == "right":
            accept(res, req, context)
        else:
            res.write_status(403).write_header("X-Why", "token").end("no")

    behavior = {
        "upgrade": on(lane, upgrade),
        "open": lambda ws: called.append("open"),
        "message": echo,
        "close": lambda ws, code, message: called.append("close"),
    }
    with WebSocketClient(serve(lambda app: app.ws("/", behavior), **options(lane)).port) as client:
        for _ in range(2):
            answer = ask(client, handshake("/?token=wrong"))
            assert (answer.status, answer.header("x-why"), answer.body) == (403, "token", b"no")
        assert called == []
        client.open("/?token=right")
        assert client.send_text("a").recv_message() == "a"
    until(lambda: called == ["open", "close"], "one opening and one closing")


@each_lane
def test_an_upgrade_that_fails(serve: Serve, lane: str) -> None:
    """C-H-07, A-CALL-06, A-CALL-07: the error handler answers, as for any handler; the request is known to plain ones."""
    seen: list[Any] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        raise ValueError("not today")

    def failed(error: Any, res: Any, req: Any) -> None:
        seen.append((type(error), req is not None))
        res.write_status(503).end("failed")

    def configure(app: App) -> None:
        app.set_error_handler(failed)
        app.ws("/", {"upgrade": on(lane, upgrade), "open": lambda ws: seen.append("open")})

    with serve(configure, **options(lane)).client() as client:
        for _ in range(2):
            answer = ask(client, handshake())
            assert (answer.status, answer.body) == (503, b"failed")
    assert seen == [(ValueError, lane in (THREAD, LOOP))] * 2


def test_an_upgrade_that_fails_is_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """C-H-07 without an error handler."""

    def upgrade(res: Any, req: Any, context: Any) -> None:
        raise ValueError("not today")

    with serve(lambda app: app.ws("/", {"upgrade": upgrade})).client() as client:
        assert ask(client, handshake()).status == 500
    until(lambda: "not today" in caplog.text, "the error is logged")


@pytest.mark.parametrize("key", [None, "", b"", "short", 7])
def test_upgrade_without_a_key(serve: Serve, key: Any) -> None:
    """A-RES-30, I-C-29: refused with False, and the callback can still answer; if it does not, that is a 400."""
    results: list[bool] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        results.append(res.upgrade(key, None, None, context))
        if not res.has_responded():
            res.write_status(400).end("no key")

    behavior = {"upgrade": upgrade, "open": lambda ws: results.append(True)}
    with serve(lambda app: app.ws("/", behavior)).client() as client:
        assert ask(client, handshake()).status == 400
        # The answer leaves before the call returns.
        until(lambda: results, "the call has returned")
    assert results == [False]


def test_arguments_of_upgrade_may_be_bytes(serve: Serve) -> None:
    """A-RES-30: str or bytes; anything else counts as empty."""

    def upgrade(res: Any, req: Any, context: Any) -> None:
        key = req.get_header("sec-websocket-key").encode()
        res.upgrade(key, b"two, one" if req.get_query("bytes") else 7, 7, context)

    running = serve(lambda app: app.ws("/", {"upgrade": upgrade, "message": echo}))
    for path, protocol in (("/?bytes=1", "two"), ("/", None)):
        with running.websocket(path, headers=["Sec-WebSocket-Protocol: one, two"]) as client:
            assert client.protocol == protocol
            assert client.send_text("a").recv_message() == "a"


# ---- an upgrade that waits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["read before", "read after"])
def test_an_upgrade_after_an_await(serve: Serve, when: str) -> None:
    """C-H-06, H-30: values of the request may be read at any time; frames that came meanwhile are not lost."""
    entered, release = threading.Event(), threading.Event()

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        key = req.get_header("sec-websocket-key") if when == "read before" else None
        entered.set()
        while not release.is_set():
            await asyncio.sleep(0.001)
        res.upgrade(key or req.get_header("sec-websocket-key"), None, None, context, req.get_query("name"))

    behavior = {
        "upgrade": upgrade,
        "message": lambda ws, message, opcode: ws.send(f"{ws.get_user_data()}: {message}", opcode),
    }
    with WebSocketClient(serve(lambda app: app.ws("/", behavior)).port) as client:
        client.send(handshake("/?name=Ada") + frame(TEXT, b"early"))
        assert entered.wait(20)
        client.send_text("later")
        release.set()
        client.opened()
        assert [client.recv_message(), client.recv_message()] == ["Ada: early", "Ada: later"]


@pytest.mark.parametrize("leave", ["reset", "close"])
def test_the_client_is_gone_before_the_upgrade(serve: Serve, leave: str) -> None:
    """C-H-06, C-C-11, A-RES-30, H-30: upgrade returns False, nothing is opened, so nothing is closed."""
    entered, done = threading.Event(), threading.Event()
    seen: list[Any] = []

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        entered.set()
        while not res.aborted:
            await asyncio.sleep(0.001)
        seen.append(accept(res, req, context, "data"))
        done.set()

    behavior = {
        "upgrade": upgrade,
        "open": lambda ws: seen.append("open"),
        "message": lambda ws, message, opcode: seen.append("message"),
        "close": lambda ws, code, message: seen.append("close"),
    }
    running = serve(lambda app: app.ws("/", behavior).get("/page", lambda res, req: res.end("page")))
    client = running.client()
    client.send(handshake() + frame(TEXT, b"early"))
    assert entered.wait(20)
    getattr(client, leave)()
    assert done.wait(20)
    with running.client() as another:
        assert another.get("/page").body == b"page"
    assert seen == [False]


def test_many_upgrades_wait_together(serve: Serve) -> None:
    """C-H-06: no client waits for another's upgrade, and each gets its own user data."""
    barrier: list[int] = []

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        number = req.get_query("number")
        barrier.append(number)
        while len(barrier) < 20:
            await asyncio.sleep(0.001)
        accept(res, req, context, number)

    behavior = {"upgrade": upgrade, "open": lambda ws: ws.send(ws.get_user_data(), OpCode.TEXT)}
    port = serve(lambda app: app.ws("/", behavior)).port
    clients = [WebSocketClient(port) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(handshake(f"/?number={number}"))
    for number, client in enumerate(clients):
        assert client.opened().recv_message() == str(number)
        client.close()


# ---- subprotocols ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["without a callback", "with one"])
@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (["one"], "one"),
        (["one, two"], "one"),
        (["one,two"], "one"),
        (["  one  , two"], "one"),
        (["one", "two"], "one"),
        (["v1.example.com+json , two"], "v1.example.com+json"),
        ([], None),
    ],
    ids=str,
)
def test_the_first_subprotocol(serve: Serve, kind: str, offered: list[str], expected: str | None) -> None:
    """C-H-04, C-K-09: one token, without blanks; a client drops an answer that it did not offer."""
    behavior = {"message": echo} | ({"upgrade": accept} if kind == "with one" else {})
    lines = [f"Sec-WebSocket-Protocol: {line}" for line in offered]
    with serve(lambda app: app.ws("/", behavior)).websocket(headers=lines) as client:
        assert client.protocol == expected


@pytest.mark.parametrize(("chosen", "expected"), [("two", "two"), ("", None), (None, None), (7, None)])
def test_choosing_a_subprotocol(serve: Serve, chosen: Any, expected: str | None) -> None:
    """C-H-04: the callback's choice is used."""

    def upgrade(res: Any, req: Any, context: Any) -> None:
        assert [token.strip() for token in req.get_header("sec-websocket-protocol").split(",")] == [
            "one",
            "two",
        ]
        res.upgrade(req.get_header("sec-websocket-key"), chosen, None, context)

    running = serve(lambda app: app.ws("/", {"upgrade": upgrade}))
    with running.websocket(headers=["Sec-WebSocket-Protocol: one, two"]) as client:
        assert client.protocol == expected


# ---- extensions -----------------------------------------------------------------------------------------------------

OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
SAFARI = (
    "User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
)


@pytest.mark.parametrize("kind", ["without a callback", "with one"])
@pytest.mark.parametrize(
    ("compression", "lines", "agreed"),
    [
        (CompressOptions.SHARED_COMPRESSOR, [OFFER], True),
        (CompressOptions.SHARED_COMPRESSOR, [], False),
        (CompressOptions.SHARED_COMPRESSOR, ["Sec-WebSocket-Extensions: something-else"], False),
        (CompressOptions.DISABLED, [OFFER], False),
        (CompressOptions.SHARED_COMPRESSOR, [OFFER, f"{SAFARI} Version/15.0 Safari/605.1.15"], False),
        (CompressOptions.SHARED_COMPRESSOR, [OFFER, f"{SAFARI} Version/15.3 Safari/605.1.15"], False),
        (CompressOptions.SHARED_COMPRESSOR, [OFFER, f"{SAFARI} Version/15.4 Safari/605.1.15"], True),
    ],
)
def test_compression_is_agreed_to(
    serve: Serve, kind: str, compression: int, lines: list[str], agreed: bool
) -> None:
    """C-N-02, C-N-07, C-H-09: where it is switched on and offered, but not to a Safari that gets it wrong."""
    behavior = {"message": echo, "compression": compression}
    if kind == "with one":
        behavior["upgrade"] = accept
    with serve(lambda app: app.ws("/", behavior)).websocket(headers=lines) as client:
        extensions = client.extensions
        assert client.send_text("a").recv_message() == "a"
    if agreed:
        assert extensions is not None
        assert extensions.split(";")[0].strip() == "permessage-deflate"
        assert "server_no_context_takeover" in extensions
    else:
        assert extensions is None


def test_no_compression_without_its_header(serve: Serve) -> None:
    """A-RES-30: a callback that passes no extensions agrees to none."""

    def upgrade(res: Any, req: Any, context: Any) -> None:
        res.upgrade(req.get_header("sec-websocket-key"), None, None, context)

    behavior = {"upgrade": upgrade, "compression": CompressOptions.SHARED_COMPRESSOR}
    with serve(lambda app: app.ws("/", behavior)).websocket(headers=[OFFER]) as client:
        assert client.extensions is None


# ---- how bytes arrive -----------------------------------------------------------------------------------------------


@each_lane
def test_frames_in_the_segment_of_the_handshake(serve: Serve, lane: str) -> None:
    """C-H-08, I-A-29: bytes with the request are the first message, and half a frame is the start of one."""
    whole = frame(TEXT, b"one") + frame(PING, b"p") + frame(BINARY, b"two") + frame(TEXT, b"three")
    behavior = {"upgrade": on(lane, accept), "open": on(lane, lambda ws: None), "message": on(lane, echo)}
    running = serve(lambda app: app.ws("/", behavior), **options(lane))
    for cut in (len(whole), len(whole) - 3, 9, 1):
        with running.websocket(first_frames=whole[:cut]) as client:
            client.send(whole[cut:])
            frames = [client.recv_frame() for _ in range(4)]
        data = [found for found in frames if found.opcode != PONG]
        assert [found.payload for found in data] == [b"one", b"two", b"three"], cut
        assert Frame(True, False, PONG, b"p") in frames


def test_frames_follow_the_first_words_of_open(serve: Serve) -> None:
    """C-H-08: open comes first, before any message."""
    with serve(lambda app: app.ws("/", named("welcome"))).websocket(first_frames=frame(TEXT, b"a")) as client:
        assert [client.recv_message(), client.recv_message()] == ["welcome", "a"]


def test_a_handshake_byte_by_byte(serve: Serve) -> None:
    """However it is cut."""
    with WebSocketClient(serve(lambda app: app.ws("/", {"message": echo})).port) as client:
        client.send_slowly(handshake() + frame(TEXT, b"slow") + frame(BINARY, bytes(300)))
        client.opened()
        assert [client.recv_message(), client.recv_message()] == ["slow", bytes(300)]


def test_a_handshake_after_pipelined_requests(serve: Serve) -> None:
    """Answers come in their order, the 101 last of them."""

    async def page(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end(req.get_url())

    running = serve(lambda app: app.ws("/", {"message": echo}).get("/page/*", page))
    with WebSocketClient(running.port) as client:
        requests = b"".join(b"GET /page/%d HTTP/1.1\r\nHost: test\r\n\r\n" % number for number in range(3))
        client.send(requests + handshake() + frame(TEXT, b"a"))
        for number in range(3):
            assert client.answer().body == b"/page/%d" % number
        client.opened()
        assert client.recv_message() == "a"


def test_a_websocket_outlives_the_timeouts_of_http(serve: Serve) -> None:
    """An open connection is not one that keeps alive, nor one that sends no body."""
    running = serve(
        lambda app: app.ws("/", {"message": echo, "idle_timeout": 0}),
        header_timeout=0.2,
        keep_alive_timeout=0.2,
        body_timeout=0.2,
        write_timeout=0.2,
    )
    with running.websocket() as client, running.client() as silent:
        # These timeouts close an idle client: another connection shows that they are over.
        assert silent.rest() is not None
        assert client.send_text("still here").recv_message() == "still here"


def test_websockets_on_an_app_that_has_none(serve: Serve) -> None:
    """I-A-08: a handshake with an application without WebSockets is a request like others."""
    with serve(lambda app: app.get("/", lambda res, req: res.end("page"))).client() as client:
        assert ask(client, handshake()).body == b"page"
        assert ask(client, handshake("/other")).status == 404
