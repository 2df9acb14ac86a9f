"""A TLS port under hostile input, which neither delays, fills nor ends the server.

Rows: B.3, D.2. The records are written by hand, or by OpenSSL. For any input, the connection is closed,
nothing is printed, and a good client is served as before.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

import pytest

from support import reset, until
from support.memory import resident
from support.tls_client import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLOSE_NOTIFY,
    FATAL,
    HANDSHAKE,
    HANDSHAKE_FAILURE,
    PROTOCOL_VERSION,
    client_hello,
    ends,
    genuine_hello,
    pour,
    record,
)
from support.tls_target import REQUEST, Target

# ---- before a handshake ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        REQUEST,
        b"HEAD / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
        b"G",
    ],
    ids=["GET", "HEAD", "POST of a megabyte", "HTTP/2", "one letter"],
)
def test_http_on_the_port_of_tls(target: Target, sent: bytes) -> None:
    """A client that forgets the s of https gets a message in HTTP, and the connection ends."""
    with target.client() as client:
        client.flood(sent)
        answer = client.half_close().answer()
        assert answer.status_line == "HTTP/1.1 400 Bad Request"
        assert answer.header("Connection") == "close"
        assert answer.header("Content-Type") == "text/plain"
        assert b"HTTPS" in answer.body
        assert client.is_closed()


def test_http_is_refused_without_waiting_for_more(target: Target) -> None:
    """The client keeps its side open: it is the server that closes, at once."""
    with target.client() as client:
        assert client.send(REQUEST).answer().status == 400
        assert client.is_closed()


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kept", [0, 1, 3, 5, 6, 9, 11, 43, 44, 100, -1])
def test_a_hello_that_stops(target: Target, kept: int, end: str) -> None:
    """Within the head of the record, of the message, the version, the random, the lists, and before the last byte."""
    hello = genuine_hello(target.context)
    client = target.client().send(hello[:kept])
    if end == "close":
        assert client.half_close().rest() == b""
        client.close()
    else:
        reset(client)


@pytest.mark.parametrize("kept", [0, 1, 5, 43])
def test_a_hello_that_stalls(start: Callable[..., Target], kept: int) -> None:
    """A client that goes silent is let go after `handshake_timeout`, and no sooner."""
    target = start(handshake_timeout=0.5)
    with target.client() as client:
        begin = time.monotonic()
        client.send(genuine_hello(target.context)[:kept])
        assert ends(client.socket) == b""
        assert time.monotonic() - begin > 0.4
    target.serves()


def test_a_finished_that_never_comes(start: Callable[..., Target]) -> None:
    """A client that reads the server's part of the handshake and sends no more, or does not even read it."""
    target = start(handshake_timeout=0.5)
    for read in (True, False):
        with target.client(receive_buffer=None if read else 1024) as client:
            client.send(genuine_hello(target.context))
            if read:
                assert client.exactly(1) == bytes([HANDSHAKE])
                client.pending = b""
            # Closed, without losing earlier bytes.
            assert client.rest() == b"" if read else client.rest()[0] == HANDSHAKE
    target.serves()


def test_stalled_handshakes_delay_nobody(target: Target) -> None:
    """200 clients in the middle of their handshakes: each good one is served meanwhile, and they are closed with it."""
    hello = genuine_hello(target.context)
    stalled = [target.client().send(hello[: number % len(hello)]) for number in range(200)]
    for _ in range(20):
        target.serves()
    for client in stalled:
        client.close()


def test_the_server_stops_in_the_middle_of_handshakes(start: Callable[..., Target]) -> None:
    """The server does not wait for clients that have only begun."""
    target = start()
    stalled = [target.client().send(genuine_hello(target.context)[:50]) for _ in range(10)]
    target.serves()
    begin = time.monotonic()
    target.running.stop()
    # Far below the timeout of a handshake, 10 s.
    assert time.monotonic() - begin < 8
    for client in stalled:
        assert ends(client.socket) == b""
        client.close()


def test_a_hello_byte_by_byte(target: Target) -> None:
    """The slowest client is a good one, as long as it is in time."""
    with target.client() as client:
        client.send_slowly(genuine_hello(target.context))
        assert client.exactly(1) == bytes([HANDSHAKE])


#: ECDSA with SHA-256 alone (RFC 8446 4.2.3).
SIGNATURE_ALGORITHMS = b"\0\x0d\0\4\0\2\4\3"
SSL2 = bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0") + bytes(range(16))


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302])
@pytest.mark.parametrize("of_record", [0x0300, 0x0301])
@pytest.mark.parametrize(
    ("extensions", "description"),
    [(SIGNATURE_ALGORITHMS, PROTOCOL_VERSION), (b"", HANDSHAKE_FAILURE)],
    ids=["signature algorithms", "none"],
)
def test_old_versions(
    target: Target, version: int, of_record: int, extensions: bytes, description: int
) -> None:
    """SSL 3.0, TLS 1.0 and 1.1 are refused with an alert: by the version, or by what those versions lack (RFC 8446 D.5)."""
    hello = client_hello(version=version, extensions=extensions)
    with target.client() as client:
        told = ends(client.send(record(HANDSHAKE, hello, version=of_record)).socket)
        assert told == record(ALERT, bytes([FATAL, description]))


def test_ssl2(target: Target) -> None:
    """Its hello has another form; the server refuses it."""
    with target.client() as client:
        client.send(SSL2)
        assert ends(client.socket) == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 1000,
        b"\xff" * 1000,
        b"\x16" * 1000,
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        record(HANDSHAKE, b"\x01\0\xff\xff" + b"\0" * 100),
        record(HANDSHAKE, b"\x02\0\0\4abcd"),
        record(HANDSHAKE, b"", length=0xFFFF) + b"\0" * 70_000,
        record(HANDSHAKE, client_hello(ciphers=b"")),
        record(HANDSHAKE, client_hello(ciphers=b"\0\xff")),
        record(HANDSHAKE, client_hello(extensions=b"\0\x2b\0\x03\x02\x7f\x7f")),
        record(HANDSHAKE, client_hello()[:-1]),
        record(APPLICATION_DATA, REQUEST),
        record(ALERT, bytes([FATAL, CLOSE_NOTIFY])),
        record(CHANGE_CIPHER_SPEC, b"\1") * 1000,
    ],
    ids=lambda value: f"{len(value)}-{value[:8].hex()}",
)
def test_garbage(target: Target, garbage: bytes) -> None:
    """No hello, half a hello, something else: an alert at most."""
    with target.client() as client:
        told = pour(client, garbage)
    assert told == b"" or told[0] == ALERT or told.startswith(b"HTTP/1.1 400 "), told


def test_random_bytes(target: Target) -> None:
    """Bytes of every length, with the first byte of a handshake and without."""
    seed = random.randrange(1 << 32)
    source = random.Random(seed)
    for number in range(200):
        data = source.randbytes(source.randrange(1, 2000))
        if number % 2:
            data = record(HANDSHAKE, b"\1" + data)
        with target.client() as client:
            client.send(data).half_close()
            told = ends(client.socket)
        assert told == b"" or told[0] == ALERT or told.startswith(b"HTTP/1.1 400 "), (seed, number, told)


def test_changed_hellos(target: Target) -> None:
    """A good hello with one byte changed, each in turn: a response or an alert, and never silence for ever."""
    hello = genuine_hello(target.context)
    for place in range(len(hello)):
        with target.client() as client:
            client.send(hello[:place] + bytes([hello[place] ^ 0xFF]) + hello[place + 1 :]).half_close()
            ends(client.socket)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"\0",
        b"a" * 253,
        b"a" * 300,
        b"\xff\xfe",
        b"127.0.0.1",
        b"*",
        b".." * 20,
        b"local\0host",
        b"a" * 60_000,
    ],
    ids=lambda name: f"{len(name)}-{name[:4].hex()}",
)
def test_odd_server_names(target: Target, name: bytes) -> None:
    """RFC 6066 3: a name that is none, or one of 60 000 bytes, in as many records as it takes."""
    hello = client_hello(name=name)
    pieces = [hello[at : at + 16_000] for at in range(0, len(hello), 16_000)]
    with target.client() as client:
        told = pour(client, b"".join(record(HANDSHAKE, piece) for piece in pieces))
    assert told == b"" or told[0] in (ALERT, HANDSHAKE)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_hello_in_many_records(target: Target, size: int) -> None:
    """RFC 8446 5.1: a message may be cut anywhere. It gets a response, or is refused, and delays nobody."""
    hello = genuine_hello(target.context)[5:]
    pieces = [hello[at : at + size] for at in range(0, len(hello), size)]
    with target.client() as client:
        client.send(b"".join(record(HANDSHAKE, piece) for piece in pieces))
        assert client.exactly(1)[0] in (HANDSHAKE, ALERT)


@pytest.mark.parametrize("kind", [HANDSHAKE, CHANGE_CIPHER_SPEC, ALERT])
def test_empty_records(target: Target, kind: int) -> None:
    """A megabyte of records that hold nothing never becomes a hello."""
    with target.client() as client:
        told = pour(client, record(kind, b"") * 200_000)
    assert told == b"" or told[0] == ALERT


@pytest.mark.alone
def test_a_hello_without_end(target: Target) -> None:
    """A message with an announced 16 MB: the server takes what a hello may have and no more."""
    before = resident()
    with target.client() as client:
        data = b"\1\xff\xff\xff" + b"\0" * 15_000
        pour(client, record(HANDSHAKE, data) * 4000)
    # 60 MB were offered.
    assert resident() - before < 16_000_000


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (REQUEST, "plain text"),
        (b"\0" * 10, "byte 0"),
        (record(HANDSHAKE, client_hello(version=0x0301)), "incompatible"),
        (record(HANDSHAKE, client_hello(ciphers=b"\0\xff")), ""),
        (record(HANDSHAKE, client_hello())[:20], "gone"),
        (b"", "gone"),
    ],
    ids=["HTTP", "zeros", "TLS 1.0", "no cipher", "half a hello", "nothing"],
)
def test_one_line_in_the_log(
    start: Callable[..., Target], caplog: pytest.LogCaptureFixture, sent: bytes, reason: str
) -> None:
    """The log has one line with the cause and the client's address at debug level, and none at other
    levels."""
    caplog.set_level(logging.DEBUG, "socketify")
    target = start()
    with target.client() as client:
        pour(client, sent)
    until(lambda: [line for line in caplog.records if "TLS" in line.message], "the line is written")
    target.serves()
    (line,) = [line for line in caplog.records if "TLS" in line.message]
    assert (line.name, line.levelno) == ("socketify", logging.DEBUG)
    assert "127.0.0.1" in line.message
    assert reason in line.message
