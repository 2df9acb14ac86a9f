"""``send`` of HTTP responses (S-ASGI-32 to S-ASGI-48), and what becomes of errors (S-ASGI-55 to S-ASGI-64)."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from support import until
from support.asgi import Receive, Scope, Send, answer, hello, read, serving
from support.client import Client
from support.running import Running

Serve = Callable[..., Running]

REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
START = {"type": "http.response.start", "status": 200}


def part(body: Any = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def sending(*messages: Any) -> Any:
    """An application that sends these."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return application


def refused(*messages: Any, error: type[BaseException], match: str) -> Any:
    """An application whose last message must be refused, and that responds all the same if it can."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages[:-1]:
            await send(message)
        with pytest.raises(error, match=match):
            await send(messages[-1])
        if not any(message["type"] == "http.response.start" for message in messages[:-1]):
            await send(START)
        if not any(message["type"] == "http.response.body" for message in messages[:-1]):
            await send(part(b"fine"))

    return application


def ask(running: Running, request: bytes = REQUEST, method: str = "GET") -> Any:
    with running.client() as client:
        return client.send(request).answer(method)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        [(b"x-a", b"1"), (b"x-a", b"2")],
        ((b"x-a", b"1"), [b"x-a", b"2"]),
        {b"x-a": b"1"}.items(),
        (pair for pair in [(b"x-a", b"1")]),
        [("x-a", "1")],
        [(b"X-A", b"\xe4")],
    ],
    ids=["none", "empty", "list", "tuple", "items", "generator", "text", "bytes"],
)
def test_headers_of_any_shape(serve: Serve, headers: Any) -> None:
    """S-ASGI-32."""
    copy = list(headers) if headers is not None and not isinstance(headers, (list, tuple)) else headers
    given = iter(copy) if isinstance(copy, list) and headers is not copy else headers
    got = ask(serve(serving(sending({**START, "headers": given}, part(b"ok")))))
    values = [value if isinstance(value, str) else value.decode("latin-1") for _, value in copy or ()]
    assert got.headers.get("x-a", []) == values
    assert got.body == b"ok"


def test_headers_may_be_missing(serve: Serve) -> None:
    """S-ASGI-32, S-REG-25."""
    assert ask(serve(serving(sending(START, part(b"ok"))))).body == b"ok"


@pytest.mark.parametrize("status", [200, 299, 418, 599, 999])
def test_any_status(serve: Serve, status: int) -> None:
    """S-ASGI-32."""
    assert ask(serve(serving(sending({**START, "status": status}, part(b"ok"))))).status == status


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"status": 99}, ValueError, "99 is not the status"),
        ({"status": 103}, ValueError, "103 is not the status"),
        ({"status": 1000}, ValueError, "1000 is not the status"),
        ({"status": "200"}, TypeError, "is an int, not str"),
        ({"status": True}, TypeError, "is an int, not bool"),
        ({"headers": [(b"x", b"a\r\nb: c")]}, ValueError, "a carriage return"),
        ({"headers": [(b"x", b"a\nb")]}, ValueError, "a line feed"),
        ({"headers": [(b"x", b"a\0")]}, ValueError, "a NUL byte"),
        ({"headers": [(b"x y", b"a")]}, ValueError, "not a valid header name"),
        ({"headers": [(b"", b"a")]}, ValueError, "not a valid header name"),
        ({"headers": [(b"x", 1)]}, TypeError, "the value of a header is bytes, not int"),
        ({"headers": [(None, b"x")]}, TypeError, "the name of a header is bytes, not NoneType"),
        ({"headers": [(b"x",)]}, ValueError, "is not a header"),
        ({"headers": [("x", "\u20ac")]}, ValueError, "beyond latin-1"),
        ({"headers": 5}, TypeError, "int"),
        ({"headers": [(b"content-length", b"x")]}, ValueError, "not a decimal number"),
        ({"headers": [(b"content-length", b"1"), (b"content-length", b"2")]}, ValueError, "given after"),
    ],
)
def test_a_start_that_is_wrong_sends_nothing(
    serve: Serve, change: dict[str, Any], error: type[BaseException], match: str
) -> None:
    """S-ASGI-32, S-ASGI-35."""
    assert ask(serve(serving(refused({**START, **change}, error=error, match=match)))).body == b"fine"


@pytest.mark.parametrize(
    ("messages", "error", "match"),
    [
        ([part(b"x")], RuntimeError, "'http.response.body': expected 'http.response.start' first"),
        ([START, START], RuntimeError, "'http.response.start': the response has been started"),
        ([START, part(b"a"), part(b"b")], RuntimeError, "the response is complete"),
        ([START, part(b"a"), START], RuntimeError, "the response is complete"),
        ([{"type": "http.nonsense"}], ValueError, "http.nonsense"),
        ([{"type": "websocket.send"}], ValueError, "websocket.send"),
        ([{"type": None}], TypeError, "NoneType"),
        ([{"no": "type"}], KeyError, "type"),
        ([{"type": "http.response.start"}], KeyError, "status"),
    ],
)
def test_messages_that_are_wrong(serve: Serve, messages: Any, error: type[BaseException], match: str) -> None:
    """S-ASGI-43, S-ASGI-44, S-ASGI-45."""
    messages = [dict(message) for message in messages]
    for message in messages:
        message.setdefault("type", message.get("type"))
    if "no" in messages[0]:
        del messages[0]["type"]

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages[:-1]:
            await send(message)
        with pytest.raises(error, match=match):
            await send(messages[-1])
        if len(messages) == 1:
            await send(START)
        if len(messages) < 3:
            await send(part(b"a"))

    running = serve(serving(application))
    with running.client() as client:
        for _ in range(2):
            assert client.send(REQUEST).answer().body == b"a"


def test_what_is_no_dict_is_no_message(serve: Serve) -> None:
    """S-ASGI-45."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for wrong in (None, [], "http.response.start", 5):
            with pytest.raises(TypeError, match="is a dict"):
                await send(wrong)  # type: ignore[arg-type]
        assert await send({**START, "unknown": object()}) is None
        assert await send({**part(b"ok"), "unknown": object()}) is None

    assert ask(serve(serving(application))).body == b"ok"


@pytest.mark.parametrize(
    "body",
    [b"body", bytearray(b"body"), memoryview(b"body"), memoryview(b"b-o-d-y-")[::2], "body"],
    ids=["bytes", "bytearray", "memoryview", "strided", "text"],
)
def test_bodies(serve: Serve, body: Any) -> None:
    """S-ASGI-37, S-REG-25."""
    assert ask(serve(serving(sending(START, part(body))))).body == b"body"


def test_a_body_may_be_missing_or_none(serve: Serve) -> None:
    """S-ASGI-37, S-ASGI-38."""
    for message in ({"type": "http.response.body"}, part(None)):
        got = ask(serve(serving(sending(START, message))))
        assert (got.body, got.header("content-length")) == (b"", "0")


def test_a_body_is_taken_at_the_call(serve: Serve) -> None:
    """S-ASGI-37."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray(b"before")
        await send(START)
        await send(part(body, True))
        body[:] = b"behind"
        await send(part(b""))

    with serve(serving(application)).client() as client:
        assert b"before" in client.send(REQUEST).until(b"0\r\n\r\n")


def test_a_response_in_pieces(serve: Serve) -> None:
    """S-ASGI-39: empty pieces send nothing."""
    running = serve(serving(sending(START, part(b"", True), part(b"ab", True), part(b"", True), part(b"c"))))
    with running.client() as client:
        got = client.send(REQUEST).until(b"0\r\n\r\n")
        assert b"transfer-encoding: chunked" in got.lower()
        assert got.endswith(b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
        assert client.send(REQUEST).until(b"0\r\n\r\n")
    with running.client() as client:
        got = client.send(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").rest()
        assert got.endswith(b"\r\n\r\nabc")


def test_each_piece_leaves_by_itself(serve: Serve) -> None:
    """S-ASGI-39."""
    read_by_client = threading.Semaphore(0)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for letter in (b"a", b"b", b"c"):
            await send(part(letter, True))
            await asyncio.to_thread(read_by_client.acquire, timeout=20)
        await send(part())

    with serve(serving(application)).client() as client:
        client.send(REQUEST)
        for letter in (b"a", b"b", b"c"):
            client.until(b"\n%s\r\n" % letter)
            read_by_client.release()
        client.until(b"0\r\n\r\n")


@pytest.mark.parametrize("kind", [b"text/plain", b"text/event-stream; charset=utf-8"])
def test_a_head_leaves_before_the_body(serve: Serve, kind: bytes) -> None:
    """S-ASGI-34."""
    seen = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-type", kind)]})
        await asyncio.to_thread(seen.wait, 20)
        assert seen.is_set()
        await send(part(b"late"))

    with serve(serving(application)).client() as client:
        head = client.send(REQUEST).until(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        seen.set()
        assert client.until(b"0\r\n\r\n") == b"4\r\nlate\r\n0\r\n\r\n"


def test_a_head_of_a_busy_loop_leaves_in_time(serve: Serve) -> None:
    """S-ASGI-34: a loop that never sleeps does not keep it."""
    seen = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        deadline = time.monotonic() + 20
        while not seen.is_set() and time.monotonic() < deadline:
            await asyncio.sleep(0)
        await send(part(b"late"))

    with serve(serving(application)).client() as client:
        client.send(REQUEST).until(b"\r\n\r\n")
        seen.set()
        assert client.until(b"0\r\n\r\n")


def test_a_length_of_the_application(serve: Serve) -> None:
    """S-ASGI-35."""
    length = {**START, "headers": [(b"Content-Length", b"4")]}
    for body in ([part(b"body")], [part(b"bo", True), part(b"dy")], [part(b"body", True), part()]):
        got = ask(serve(serving(sending(length, *body))))
        assert (got.body, got.header("content-length"), got.header("transfer-encoding")) == (
            b"body",
            "4",
            None,
        )


def test_a_body_beyond_its_length(serve: Serve) -> None:
    """S-ASGI-35: nothing of it is sent."""
    length = {**START, "headers": [(b"content-length", b"2")]}
    running = serve(
        serving(refused(length, part(b"abc"), error=RuntimeError, match="longer than its Content-Length"))
    )
    # It has been started, and nothing has left: a 500 is possible.
    assert ask(running).status == 500

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(length)
        await send(part(b"a", True))
        with pytest.raises(RuntimeError, match="1 bytes are left of it, and 2 come"):
            await send(part(b"bc", True))
        await send(part(b"b"))

    assert ask(serve(serving(application))).body == b"ab"


def test_a_body_that_is_too_short(serve: Serve) -> None:
    """S-ASGI-35: the connection is cut, so that the client does not take it for the whole."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"5")]})
        await send(part(b"ab", True))
        with pytest.raises(RuntimeError, match="3 bytes are missing"):
            await send(part(b""))

    with serve(serving(application)).client() as client:
        assert client.send(REQUEST).rest().endswith(b"\r\n\r\nab")


def test_headers_of_the_connection_are_the_servers(serve: Serve) -> None:
    """S-ASGI-36."""
    headers = [
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"keep-alive, upgrade"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Connection", b"close"),
    ]
    got = ask(serve(serving(sending({**START, "headers": headers}, part(b"ok")))))
    assert set(got.headers) == {"date", "server", "content-length"}
    with serve(
        serving(sending({**START, "headers": [(b"connection", b"Close")]}, part(b"ok")))
    ).client() as client:
        assert client.send(REQUEST).answer().header("connection") == "close"
        assert client.is_closed()


def test_head_requests(serve: Serve) -> None:
    """S-ASGI-40."""
    request = b"HEAD %s HTTP/1.1\r\nHost: test\r\n\r\n"

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/sized":
            await send({**START, "headers": [(b"content-length", b"1000")]})
            await send(part(b""))
        elif scope["path"] == "/whole":
            await send(START)
            await send(part(b"whole"))
        else:
            await send(START)
            await send(part(b"a", True))
            await send(part(b"b"))

    with serve(serving(application)).client() as client:
        assert client.send(request % b"/sized").answer("HEAD").header("content-length") == "1000"
        assert client.send(request % b"/whole").answer("HEAD").header("content-length") == "5"
        assert client.send(request % b"/pieces").answer("HEAD").status == 200
        assert client.send(request.replace(b"HEAD", b"GET") % b"/whole").answer().body == b"whole"


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_a_body(serve: Serve, status: int) -> None:
    """S-ASGI-41."""
    for body in ([part(b"dropped")], [part(b"dropped", True), part(b"too")]):
        running = serve(serving(sending({**START, "status": status}, *body)))
        with running.client() as client:
            for _ in range(2):
                head = client.send(REQUEST).until(b"\r\n\r\n").lower()
                assert b"transfer-encoding" not in head
                assert b"content-length" not in head or status == 304


def test_a_slow_client_slows_its_application(serve: Serve) -> None:
    """S-ASGI-42, S-REG-36: at most the high-water mark and one message wait for it."""
    sent = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        for _ in range(4000):
            await send(part(b"x" * 16384, True))
            sent += 16384
        await send(part())

    running = serve(serving(application))
    with running.client(receive_buffer=4096) as client:
        client.send(REQUEST).until(b"\r\n\r\n")
        before = -1
        while before != sent:
            before = sent
            time.sleep(0.3)
        assert sent < 24 * 1024 * 1024
        total = 0
        while total < 4000 * 16384:
            total += len(client.receive())


@pytest.mark.parametrize("leave", ["reset", "close"])
def test_send_after_the_client_has_left(serve: Serve, leave: str, caplog: pytest.LogCaptureFixture) -> None:
    """S-ASGI-33, S-REG-03, S-REG-04: nothing is raised or logged, and the listener of the stream hears of it."""
    caplog.set_level(logging.INFO, logger="socketify")
    done = threading.Event()
    streamed = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        gone = asyncio.create_task(receive())
        await send(START)
        while not gone.done():
            assert await send(part(b"x" * 1000, True)) is None
            streamed.set()
        for _ in range(10_000):
            await send(part(b"x", True))
        await send(part())
        done.set()

    with serve(serving(application)).client() as client:
        client.send(REQUEST)
        assert streamed.wait(20)
        client.reset() if leave == "reset" else client.close()
        assert done.wait(20)
    assert not caplog.records


def test_a_task_that_never_suspends_lets_others_run(serve: Serve) -> None:
    """S-ASGI-48."""
    stop = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/stop":
            stop.set()
            await answer(send, b"stopped")
            return
        await send(START)
        while not stop.is_set():
            # Nothing to wait for: the client reads all of it.
            await send(part(b"", True))
        await send(part(b"end"))

    running = serve(serving(application))
    with running.client() as client, running.client() as other:
        client.send(REQUEST)
        assert other.send(b"GET /stop HTTP/1.1\r\nHost: test\r\n\r\n").answer().body == b"stopped"
        assert b"end" in client.until(b"end")


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


# ---- tasks, context, errors -------------------------------------------------------------------------------------------


def test_an_error_before_the_head(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """S-ASGI-55: also of a response that was begun and has not left; the connection goes on."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/begun":
            await send({**START, "headers": [(b"x-begun", b"1")]})
        if scope["path"] != "/nothing":
            raise LookupError("as planned")

    running = serve(serving(application))
    with running.client() as client:
        for path in ("/", "/begun", "/nothing"):
            caplog.clear()
            got = client.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode()).answer()
            assert (got.status, got.body) == (500, b"Internal Server Error")
            assert "x-begun" not in got.headers
            # It is logged behind the response.
            until(lambda: errors(caplog), "an error in the log")
            (error,) = errors(caplog)
            assert path in error.getMessage()
            assert bool(error.exc_info) == (path != "/nothing")


@pytest.mark.parametrize("how", ["raise", "return"])
def test_an_error_in_the_body_cuts_it(serve: Serve, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """S-ASGI-56."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(part(b"half", True))
        if how == "raise":
            raise LookupError("as planned")

    with serve(serving(application)).client() as client:
        got = client.send(REQUEST).rest()
        assert got.endswith(b"4\r\nhalf\r\n")
    until(lambda: errors(caplog), "an error in the log")
    assert len(errors(caplog)) == 1


def test_a_value_that_is_returned_is_warned_of(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """S-ASGI-57."""

    async def application(scope: Scope, receive: Receive, send: Send) -> Any:
        await answer(send, b"ok")
        return "something"

    assert ask(serve(serving(application))).body == b"ok"
    until(lambda: caplog.records, "a warning in the log")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_cancelled_by_itself(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """S-ASGI-59."""
    caplog.set_level(logging.INFO, logger="socketify")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    assert ask(serve(serving(application))).status == 500
    assert not caplog.records


def test_context_variables_end_with_their_request(serve: Serve) -> None:
    """S-ASGI-61, S-REG-06: also on a connection that goes on, and in a pipeline."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        found = variable.get()
        variable.set(scope["path"])
        await asyncio.sleep(0)
        await answer(send, f"{found} {variable.get()}".encode())

    with serve(serving(application)).client() as client:
        for _ in range(2):
            client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: test\r\n\r\n" % number for number in range(5)))
            assert [client.answer().body for _ in range(5)] == [b"clean /%d" % number for number in range(5)]


def test_a_request_has_a_task_of_its_own(serve: Serve) -> None:
    """S-ASGI-62."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert isinstance(task, asyncio.Task)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(60), 0.001)
        assert asyncio.current_task() is task
        await answer(send, str(id(task)).encode())

    with serve(serving(application)).client() as client:
        tasks = {client.send(REQUEST).answer().body for _ in range(3)}
        assert all(tasks)


def test_a_client_that_leaves_cancels_nothing(serve: Serve) -> None:
    """S-ASGI-63, S-REG-12."""
    begun, ended = threading.Event(), threading.Event()
    cancelled = False

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal cancelled
        await receive()
        begun.set()
        try:
            assert (await receive())["type"] == "http.disconnect"
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            ended.set()

    with serve(serving(application)).client() as client:
        client.send(REQUEST)
        assert begun.wait(20)
    assert ended.wait(20)
    assert not cancelled


class WithCall:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"ok")


class Awaited:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.send = send

    def __await__(self) -> Iterator[Any]:
        return answer(self.send, b"ok").__await__()


def returns(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    return answer(send, b"ok")


async def four(extra: int, scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"ok")


@pytest.mark.parametrize("application", [WithCall(), Awaited, returns, functools.partial(four, 1)])
def test_applications_of_all_kinds(serve: Serve, application: Any) -> None:
    """S-ASGI-64."""
    assert ask(serve(serving(application))).body == b"ok"


def test_requests_of_a_connection_follow_each_other(serve: Serve) -> None:
    """S-ASGI-66: an application that goes on after its response does not hold the next one back."""
    at_once = 0
    most = 0
    released = threading.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.001)
        at_once -= 1
        await answer(send, scope["path"].encode())
        await asyncio.to_thread(released.wait, 20)

    with serve(serving(application)).client() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: test\r\n\r\n" % number for number in range(4)))
        assert [client.answer().body for _ in range(4)] == [b"/0", b"/1", b"/2", b"/3"]
        released.set()
    assert most == 1


def test_an_upload_is_echoed_in_pieces(serve: Serve) -> None:
    """S-ASGI-19, S-ASGI-39: both directions at the same time."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send(part(message["body"], more))

    body = bytes(range(256)) * 4096
    running = serve(serving(application))
    client: Client
    with running.client() as client:
        sender = threading.Thread(
            target=client.send,
            args=(b"POST / HTTP/1.0\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),),
        )
        sender.start()
        assert client.rest().partition(b"\r\n\r\n")[2] == body
        sender.join()


@pytest.mark.alone
def test_requests_leave_nothing_behind(serve: Serve) -> None:
    """S-ASGI-69: without the garbage collector."""
    collected: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/count":
            await answer(send, str(len(gc.get_objects())).encode())
            return
        if scope["path"] == "/stream":
            await send(START)
            for _ in range(3):
                await send(part(b"x", True))
                await asyncio.sleep(0)
            await send(part())
            return
        if scope["path"] == "/error":
            raise LookupError
        await read(receive)
        await hello(scope, receive, send)

    running = serve(serving(application))
    logging.getLogger("socketify").setLevel(logging.CRITICAL)
    gc.disable()
    try:
        with running.client() as client:

            def count() -> int:
                return int(client.get("/count").body)

            def load() -> None:
                for _ in range(300):
                    client.get("/")
                    client.send(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n").until(b"0\r\n\r\n")
                    client.get("/error")
                    with running.client() as other:
                        other.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nab")
                        other.reset()

            load()
            count()
            before = count()
            load()
            collected.append(count() - before)
    finally:
        gc.enable()
        logging.getLogger("socketify").setLevel(logging.NOTSET)
    assert collected[0] < 300
