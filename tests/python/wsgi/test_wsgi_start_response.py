"""``start_response`` and ``write``: S-WSGI-19 to S-WSGI-23, S-WSGI-30, G-W-06, G-W-09, G-W-10, G-W-13, S-REG-24."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support import until
from support.wsgi import OK, TEXT, Environ, Site, answering, exc_info

Start = Callable[..., Site]


def failing(act: Callable[[Any], object]) -> Any:
    """An application that calls ``act(start_response)`` first."""

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        act(start_response)
        return [b"body"]

    return application


def by_name(environ: Environ, start_response: Any) -> list[bytes]:
    start_response(exc_info=None, headers=[("X-A", "1")], status="202 By Name")
    return [b"x"]


def by_position(environ: Environ, start_response: Any) -> list[bytes]:
    assert callable(start_response("202 By Position", [("X-A", "1")], None))
    return [b"x"]


@pytest.mark.parametrize("application", [by_name, by_position])
def test_arguments(site: Start, application: Any) -> None:
    """S-WSGI-19."""
    answer = site(application).ask()
    assert answer.status_line.startswith("HTTP/1.1 202 By ")
    assert answer.header("x-a") == "1"


def late(environ: Environ, start_response: Any) -> Any:
    start_response("202 Accepted", TEXT)
    yield b"late"


def test_a_generator_may_call_late(site: Start) -> None:
    """S-WSGI-19, S-REG-24: in its first step, before the first block."""
    answer = site(late, valid=True).ask()
    assert (answer.status, answer.body) == (202, b"late")


@pytest.mark.parametrize("result", [[b"x"], (), iter([b"x"]), iter([b""]), [], iter([])])
def test_never_called(site: Start, result: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-19: 500, not 200."""
    started = site(lambda environ, start_response: result)
    assert started.ask().status == 500
    assert "start_response() was not called" in caplog.text


@pytest.mark.parametrize(
    "status", ["299 Odd Enough", "404 Not Found", "200 ", "599 Ünüsual", b"201 As Bytes"]
)
def test_the_status_goes_out_as_given(site: Start, status: Any) -> None:
    """S-WSGI-20, G-W-13."""
    expected = status if isinstance(status, bytes) else status.encode("latin-1")
    client = site(answering(b"x", status=status)).client().request()
    assert client.until(b"\r\n") == b"HTTP/1.1 " + expected + b"\r\n"


@pytest.mark.parametrize(
    "status", ["200", "OK", "", "20 OK", "2000 OK", "200OK", "099 X", "200 a\r\nX-B: 1", "200 ☃", 200, None]
)
def test_a_status_that_is_none(site: Start, status: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-20: 500, and nothing of it is sent."""
    answer = site(answering(b"x", status=status)).ask()
    assert answer.status_line == "HTTP/1.1 500 Internal Server Error"
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "headers",
    [
        [("X-A", "1"), ("X-B", "2")],
        (("X-A", "1"), ("X-B", "2")),
        [["X-A", "1"], ["X-B", "2"]],
        iter([("X-A", "1"), ("X-B", "2")]),
        {"X-A": "1", "X-B": "2"}.items(),
        [(b"X-A", b"1"), ("X-B", 2)],
    ],
)
def test_forms_of_headers(site: Start, headers: Any) -> None:
    """S-WSGI-21, G-W-10."""

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        start_response(OK, headers)
        return []

    assert site(application).ask().lines[:2] == ["X-A: 1", "X-B: 2"]


def test_headers_keep_order_case_and_repetitions(site: Start) -> None:
    """S-WSGI-21."""
    headers = [("Set-Cookie", "a=1"), ("x-LOWER", "é"), ("Set-Cookie", "b=2")]
    assert site(answering(b"", headers=headers)).ask().lines[:3] == [
        "Set-Cookie: a=1",
        "x-LOWER: é",
        "Set-Cookie: b=2",
    ]


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([("X-A", "1\r\nX-B: 2")], ValueError),
        ([("X-A", "1\n2")], ValueError),
        ([("X-A", "1\x002")], ValueError),
        ([("X A", "1")], ValueError),
        ([("", "1")], ValueError),
        ([("X-A:", "1")], ValueError),
        ([("X-Ä", "1")], ValueError),
        ([("X-A", "☃")], ValueError),
        ([("X-A", "\udc80")], ValueError),
        ([("Content-Length", "x")], ValueError),
        ([("Content-Length", "1"), ("Content-Length", "2")], ValueError),
        ([("X-A",)], ValueError),
        ([("X-A", "1", "2")], ValueError),
        ([("X-A", None)], TypeError),
        ([("X-A", 1.5)], TypeError),
        ([7], TypeError),
        (None, TypeError),
    ],
)
def test_headers_that_are_none(site: Start, headers: Any, error: type[Exception]) -> None:
    """S-WSGI-21: an error out of the call, and another head is still possible."""
    raised: list[str] = []

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        with pytest.raises(error) as caught:
            start_response(OK, headers)
        raised.append(str(caught.value))
        start_response("201 Created", TEXT)
        return [b"x"]

    assert site(application).ask().status == 201
    assert raised[0]


def test_headers_of_the_connection(site: Start) -> None:
    """S-WSGI-21: close is honoured, and everything else is the server's."""
    dropped = [
        ("Connection", "keep-alive, Upgrade"),
        ("Keep-Alive", "timeout=5"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("TE", "trailers"),
        ("Trailer", "X-Sum"),
        ("Proxy-Connection", "keep-alive"),
    ]
    client = site(answering(b"x", headers=[*dropped, ("Proxy-Authenticate", "Basic")])).client()
    answer = client.request().answer()
    assert not {name.lower() for name, _ in dropped} & answer.headers.keys()
    assert answer.header("proxy-authenticate") == "Basic"
    assert client.request().answer().body == b"x"
    client = site(answering(b"x", headers=[("Connection", "close")])).client()
    assert client.request().answer().header("connection") == "close"
    assert client.receive() == b""


def test_a_second_call(site: Start, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-22, G-W-06: AssertionError, and 500."""
    raised: list[BaseException] = []

    def act(start_response: Any) -> None:
        start_response(OK, TEXT)
        try:
            start_response(OK, TEXT)
        except AssertionError as error:
            raised.append(error)
            raise

    answer = site(failing(act)).ask()
    assert answer.status == 500
    assert "text/plain" in str(answer.header("content-type"))
    assert len(raised) == 1


def test_a_second_call_with_exc_info_replaces_the_head(site: Start) -> None:
    """S-WSGI-22, G-W-06: as long as nothing was sent."""

    def act(start_response: Any) -> None:
        start_response(OK, [("X-Old", "1"), ("Content-Length", "1")])
        try:
            raise KeyError("oops")
        except KeyError:
            start_response("503 Busy", [("X-New", "1")], exc_info())

    answer = site(failing(act), valid=False).ask()
    assert answer.status_line == "HTTP/1.1 503 Busy"
    assert answer.lines[0] == "X-New: 1"
    assert (answer.header("x-old"), answer.body) == (None, b"body")


def test_a_second_call_when_the_head_is_out(site: Start, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-22, G-W-06: that exception is raised, with its traceback, and the response is cut."""
    traced: list[Any] = []

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        yield b"first"
        try:
            raise KeyError("oops")
        except KeyError as error:
            with pytest.raises(KeyError) as raised:
                start_response("500 X", TEXT, exc_info())
            traced.append(raised.value is error)
            entry = raised.value.__traceback__
            while entry is not None:
                traced.append(entry.tb_frame.f_code.co_name)
                entry = entry.tb_next
            raise
        yield b"never"

    started = site(application)
    client = started.client().request()
    head = client.until(b"\r\n\r\n")
    assert b"chunked" in head
    rest = client.pending
    while data := client.receive():
        rest += data
    assert rest == b"5\r\nfirst\r\n"
    assert traced[0] is True
    assert "application" in traced[1:]
    until(lambda: caplog.records, "it is logged")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("value", [1, (1, 2), (None, KeyError("x"))])
def test_exc_info_of_another_form(site: Start, value: Any) -> None:
    """S-WSGI-22."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, [("Content-Length", "1")])
        yield b"x"
        with pytest.raises(TypeError, match="exc_info"):
            start_response(OK, TEXT, value)

    assert site(application).ask().body == b"x"


def test_the_head_waits_for_a_block(site: Start) -> None:
    """S-WSGI-23: until then another response is possible."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        yield b""
        yield b""
        raise RuntimeError("before the first byte")

    assert site(application).ask().status == 500


def writing(*pieces: bytes, result: Any = (), headers: Any = TEXT) -> Any:
    def application(environ: Environ, start_response: Any) -> Any:
        write = start_response(OK, list(headers))
        for piece in pieces:
            assert write(piece) is None
        return result

    return application


def test_write(site: Start) -> None:
    """S-WSGI-30, G-W-09: before the blocks of the iterable."""
    client = site(writing(b"a", b"", b"bc", result=[b"d", b"e"])).client().request()
    assert client.until(b"0\r\n\r\n").split(b"\r\n\r\n", 1)[1] == (
        b"1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n1\r\ne\r\n0\r\n\r\n"
    )
    assert client.request().answer().body == b"abcde"


def test_write_with_a_length(site: Start) -> None:
    """S-WSGI-30."""
    answer = site(
        writing(b"abc", bytearray(b"de"), memoryview(b"f"), headers=[("Content-Length", "6")])
    ).ask()
    assert (answer.header("content-length"), answer.body) == ("6", b"abcdef")


@pytest.mark.parametrize("data", ["text", None, 5])
def test_write_takes_bytes(site: Start, data: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-30."""
    assert site(writing(data)).ask().status == 500
    assert "must be bytes" in caplog.text


def test_each_write_is_on_its_way(site: Start) -> None:
    """S-WSGI-30: it leaves before the application goes on."""
    gate = threading.Event()

    def application(environ: Environ, start_response: Any) -> Any:
        write = start_response(OK, TEXT)
        write(b"first")
        assert gate.wait(20)
        return [b"second"]

    client = site(application).client().request()
    assert client.until(b"5\r\nfirst\r\n")
    gate.set()
    assert client.until(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
