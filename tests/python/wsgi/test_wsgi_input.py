"""``wsgi.input``: S-WSGI-13 to S-WSGI-18, G-W-05, S-REG-23, S-REG-25."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import Gate, reset, until
from support.wsgi import OK, TEXT, Environ, Site

Start = Callable[..., Site]

BODY = b"one\ntwo\r\n\nlast without an end"
LARGE = 300_000


def calling(act: Callable[[Any], object], seen: list[Any] | None = None) -> Any:
    """An application that answers with what ``act`` makes of its input."""

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        found = act(environ["wsgi.input"])
        if seen is not None:
            seen.append(found)
        start_response(OK, TEXT)
        return [repr(found).encode()]

    return application


CALLS: list[tuple[Callable[[Any], object], object]] = [
    (lambda stream: stream.read(), BODY),
    (lambda stream: stream.read(-1), BODY),
    (lambda stream: stream.read(None), BODY),
    (lambda stream: stream.read(10**30), BODY),
    (
        lambda stream: [stream.read(4), stream.read(0), stream.read(100), stream.read(1), stream.read()],
        [BODY[:4], b"", BODY[4:], b"", b""],
    ),
    (
        lambda stream: [
            stream.readline(),
            stream.readline(),
            stream.readline(),
            stream.readline(),
            stream.readline(),
        ],
        [b"one\n", b"two\r\n", b"\n", b"last without an end", b""],
    ),
    (
        lambda stream: [
            stream.readline(2),
            stream.readline(2),
            stream.readline(-1),
            stream.readline(None),
            stream.readline(4),
        ],
        [b"on", b"e\n", b"two\r\n", b"\n", b"last"],
    ),
    (lambda stream: [stream.readline(0), stream.readline(10**30)], [b"", b"one\n"]),
    (lambda stream: stream.readlines(), BODY.splitlines(keepends=True)),
    (lambda stream: stream.readlines(-1), BODY.splitlines(keepends=True)),
    (lambda stream: stream.readlines(None), BODY.splitlines(keepends=True)),
    (lambda stream: [stream.readlines(5), stream.read()], [[b"one\n", b"two\r\n"], BODY[9:]]),
    (list, BODY.splitlines(keepends=True)),
    (
        lambda stream: [next(stream, b""), iter(stream) is stream, stream.read(3), list(stream)],
        [b"one\n", True, b"two", [b"\r\n", b"\n", b"last without an end"]],
    ),
]


@pytest.mark.parametrize("framing", ["length", "chunked", "pieces"])
@pytest.mark.parametrize("number", range(len(CALLS)))
def test_reading(site: Start, number: int, framing: str) -> None:
    """S-WSGI-13, S-REG-25: as a file of bytes, which ends for ever."""
    act, expected = CALLS[number]
    # With a small buffer the body is longer, and is read as it comes.
    client = site(calling(act), body_buffer=4 if framing == "pieces" else 65536).client()
    if framing == "chunked":
        client.request("POST", "/", "Transfer-Encoding: chunked")
        client.send(
            b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (BODY[:5], BODY[5:])) + b"0\r\n\r\n"
        )
    else:
        client.request("POST", "/", f"Content-Length: {len(BODY)}")
        client.send_slowly(BODY)
    client.request("GET", "/next")
    assert client.answer().body == repr(expected).encode()
    # Never more than the body: the next request is not part of it.
    assert client.answer().status == 200


def test_a_size_that_is_no_number(site: Start) -> None:
    """S-WSGI-13."""

    def act(stream: Any) -> object:
        with pytest.raises(TypeError):
            stream.read("4")
        with pytest.raises(TypeError):
            stream.readline(1.5)
        return stream.read()

    assert site(calling(act)).ask(method="POST", body=b"abc").body == b"b'abc'"


def test_the_validator_accepts_it(site: Start) -> None:
    """S-WSGI-13: it takes sizes alone."""

    def act(stream: Any) -> object:
        return [stream.read(2), stream.readline(), stream.readlines(), list(stream)]

    answer = site(calling(act), valid=True).ask(method="POST", body=BODY)
    assert answer.body == repr([b"on", b"e\n", BODY.splitlines(keepends=True)[1:], []]).encode()


def test_a_short_body_is_there_before_the_call(site: Start) -> None:
    """S-WSGI-14: the application is not called before, and others are served meanwhile."""
    called = threading.Event()

    def act(stream: Any) -> object:
        called.set()
        return stream.read()

    started = site(calling(act))
    client = started.client().request("POST", "/", "Content-Length: 10").send(b"01234")
    assert started.ask().body == b"b''"
    called.clear()
    assert not called.wait(0.2)
    client.send(b"56789")
    assert client.answer().body == b"b'0123456789'"
    assert called.is_set()


def test_a_long_body_is_read_as_it_comes(site: Start) -> None:
    """S-WSGI-14, G-W-05: the application is called at once, and the GIL is free while it waits."""
    pieces: list[bytes] = []
    waiting = threading.Event()

    def act(stream: Any) -> object:
        pieces.append(stream.read(1000))
        waiting.set()
        return len(stream.read())

    client = site(calling(act)).client()
    client.request("POST", "/", f"Content-Length: {LARGE}").send(b"a" * 1000)
    assert waiting.wait(20)
    assert pieces == [b"a" * 1000]
    # The handler waits in read(): this thread still runs.
    assert sum(range(1_000_000)) == 499_999_500_000
    client.send(b"b" * (LARGE - 1000))
    assert client.answer().body == b"%d" % (LARGE - 1000)


def test_sockets_are_driven_while_a_read_waits(site: Start) -> None:
    """S-WSGI-14: what the core answers needs no application."""
    entered = threading.Event()

    def act(stream: Any) -> object:
        entered.set()
        return len(stream.read())

    started = site(calling(act), io_threads=1)
    started.running.app._server.add_constant("GET", "/static", 200, [], b"static")
    client = started.client().request("POST", "/", f"Content-Length: {LARGE}")
    assert entered.wait(20)
    assert started.ask("/static").body == b"static"
    client.send(b"x" * LARGE)
    assert client.answer().body == b"%d" % LARGE


def test_an_unread_body_slows_its_client_down(site: Start) -> None:
    """S-WSGI-14: memory does not grow with what has not been asked for."""
    gate = Gate()

    def act(stream: Any) -> object:
        gate.pass_through()
        return len(stream.read())

    total = 64 << 20
    client = site(calling(act), body_buffer=65536).client()
    client.request("POST", "/", f"Content-Length: {total}")
    gate.arrived()
    sent = client.flood(b"x" * total)
    assert sent < total
    gate.open()
    client.send(b"x" * (total - sent))
    assert client.answer().body == b"%d" % total


def test_limits_hold(site: Start) -> None:
    """S-WSGI-14, S-WSGI-17: 413 for what is too large, 408 for what is too slow; the application sees an OSError."""
    failed: list[BaseException] = []

    def act(stream: Any) -> object:
        try:
            return stream.read()
        except OSError as error:
            failed.append(error)
            raise

    started = site(calling(act), max_body_size=100_000, body_timeout=0.3)
    assert started.ask(method="POST", body=b"x" * 100_001).status == 413
    assert failed == []
    client = started.client().request("POST", "/", "Transfer-Encoding: chunked")
    client.send(b"186a1\r\n" + b"x" * 100_001)
    assert client.answer().status == 413
    assert failed == []
    client = started.client().request("POST", "/", "Content-Length: 90000").send(b"x" * 70_000)
    assert client.answer().status == 408
    until(lambda: failed, "read() fails")
    client = started.client().request("POST", "/", "Content-Length: 10").send(b"x")
    assert client.answer().status == 408
    client = started.client().request("POST", "/", "Transfer-Encoding: chunked").send(b"zz\r\n")
    assert client.answer().status == 400
    assert len(failed) == 1


def test_a_client_that_leaves_in_its_body(site: Start, caplog: pytest.LogCaptureFixture) -> None:
    """S-WSGI-17: OSError out of each later read, and nothing is logged when the application lets it go."""
    failed: list[str] = []
    entered = threading.Event()

    def act(stream: Any) -> object:
        entered.set()
        for _ in range(2):
            try:
                stream.read()
            except OSError as error:
                failed.append(str(error))
        raise OSError("as a framework does")

    started = site(calling(act))
    client = started.client().request("POST", "/", f"Content-Length: {LARGE}").send(b"x" * 1000)
    assert entered.wait(20)
    reset(client)
    until(lambda: len(failed) == 2, "both reads fail")
    assert started.ask().status == 500
    assert len(set(failed)) == 1
    assert "as a framework does" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 1


def test_a_client_that_leaves_before_the_call(site: Start) -> None:
    """S-WSGI-14: the application is not called for nobody."""
    called: list[Any] = []
    started = site(calling(lambda stream: called.append(stream)))
    for lines in (("Content-Length: 10",), ("Transfer-Encoding: chunked",)):
        client = started.client().request("POST", "/", *lines).send(b"1\r\nx\r\n")
        reset(client)
    assert started.ask().status == 200
    until(lambda: started.running.app._server.request_count() == 0, "nothing is in progress")
    assert len(called) == 1


def test_a_body_without_a_length_is_read_whole(site: Start) -> None:
    """S-WSGI-15, S-REG-23: then CONTENT_LENGTH is known."""
    seen: list[str] = []

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(environ["CONTENT_LENGTH"])
        start_response(OK, TEXT)
        return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]

    client = site(application).client().request("POST", "/", "Transfer-Encoding: chunked")
    client.send(b"3\r\nabc\r\n")
    client.send(b"4\r\ndefg\r\n0\r\n\r\n")
    assert client.answer().body == b"abcdefg"
    client.request("POST", "/", "Transfer-Encoding: chunked").send(b"0\r\n\r\n")
    assert client.answer().body == b""
    assert seen == ["7", "0"]


def test_a_large_body_without_a_length_is_in_a_file(
    site: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-WSGI-15: a file without a name, where temporary files are."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    open_files: list[list[str]] = []

    def act(stream: Any) -> object:
        links = []
        for number in os.listdir("/proc/self/fd"):
            # That of the listing itself is closed again.
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/self/fd/{number}"))
        open_files.append([link for link in links if link.startswith(str(tmp_path))])
        lines = [stream.readline(), stream.read(3)]
        return [*lines, len(stream.read())]

    total = 5 << 20
    body = b"line\n" + b"x" * (total - 5)
    client = site(calling(act)).client().request("POST", "/", "Transfer-Encoding: chunked")
    for at in range(0, total, 1 << 18):
        piece = body[at : at + (1 << 18)]
        client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    client.send(b"0\r\n\r\n")
    assert client.answer().body == repr([b"line\n", b"xxx", total - 8]).encode()
    assert len(open_files[0]) == 1
    assert "deleted" in open_files[0][0]
    assert os.listdir(tmp_path) == []


def test_a_body_that_cannot_be_stored(site: Start, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """S-WSGI-15: 500, and the reason is logged."""
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
    started = site(calling(lambda stream: stream.read()))
    client = started.client().request("POST", "/", "Transfer-Encoding: chunked")
    client.send(b"200000\r\n" + b"x" * 0x200000 + b"\r\n0\r\n\r\n")
    assert client.answer().status == 500
    until(lambda: caplog.records, "it is logged")
    assert started.ask().status == 200


@pytest.mark.parametrize("lines", [("Content-Length: 5",), ("Transfer-Encoding: chunked",)])
def test_an_invitation_before_reading_whole(site: Start, lines: tuple[str, ...]) -> None:
    """S-WSGI-16."""
    client = site(calling(lambda stream: stream.read())).client()
    client.request("POST", "/", "Expect: 100-continue", *lines)
    assert client.answer().status == 100
    client.send(b"hello" if "Length" in lines[0] else b"5\r\nhello\r\n0\r\n\r\n")
    assert client.answer().body == b"b'hello'"


def test_an_invitation_at_the_first_read(site: Start) -> None:
    """S-WSGI-16: of a body that is read as it comes; without a read there is none, and the connection ends."""
    gate = Gate()

    def application(environ: Environ, start_response: Any) -> list[bytes]:
        gate.pass_through()
        start_response(OK, TEXT)
        return [b"unread" if environ["PATH_INFO"] == "/unread" else b"%d" % len(environ["wsgi.input"].read())]

    started = site(application)
    client = started.client().request("POST", "/", "Expect: 100-continue", f"Content-Length: {LARGE}")
    gate.arrived()
    client.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.receive()
    client.socket.settimeout(20)
    gate.open()
    assert client.answer().status == 100
    client.send(b"x" * LARGE)
    assert client.answer().body == b"%d" % LARGE
    client = started.client().request("POST", "/unread", "Expect: 100-continue", f"Content-Length: {LARGE}")
    answer = client.answer()
    assert (answer.status, answer.body, answer.header("connection")) == (200, b"unread", "close")
    assert client.receive() == b""


def test_no_more_memory_than_the_body(site: Start) -> None:
    """S-WSGI-14: a long body that is read in pieces is not kept."""

    def act(stream: Any) -> object:
        total = 0
        while piece := stream.read(65536):
            total += len(piece)
        return total

    started = site(calling(act), max_body_size=1 << 30)
    client = started.client()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = 200 << 20
    client.request("POST", "/", f"Content-Length: {total}")
    piece = b"x" * (1 << 20)
    for _ in range(200):
        client.send(piece)
    assert client.answer().body == b"%d" % total
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_reading_on_other_threads(site: Start) -> None:
    """S-WSGI-14: one that waits holds nobody else up, and each byte is read once."""

    def act(stream: Any) -> object:
        parts: list[bytes] = []
        threads = [threading.Thread(target=lambda: parts.append(stream.read(LARGE // 4))) for _ in range(4)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        for thread in threads:
            thread.join(20)
        assert time.monotonic() - began < 20
        return sum(len(part) for part in parts)

    client = site(calling(act)).client().request("POST", "/", f"Content-Length: {LARGE}")
    client.send_slowly(b"x" * 20)
    client.send(b"x" * (LARGE - 20))
    assert client.answer().body == b"%d" % LARGE
