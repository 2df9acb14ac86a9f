"""A session of TLS that is open: a client's abuse of it, and its end. B.3, D.2; see
``test_tls_hostile.py``."""

from __future__ import annotations

import ssl
import subprocess
import threading
from typing import Any

import pytest

from support import Gate
from support.memory import resident
from support.tls_client import (
    ALERT,
    APPLICATION_DATA,
    BAD_RECORD_MAC,
    CHANGE_CIPHER_SPEC,
    CLOSE_NOTIFY,
    FATAL,
    HANDSHAKE,
    KEY_UPDATE_AND_ASK,
    UNEXPECTED_MESSAGE,
    USER_CANCELED,
    WARNING,
    Certificates,
    TlsClient,
    Wire,
    client_hello,
    ends,
    genuine_hello,
    pour,
    record,
)
from support.tls_target import REQUEST, Target, plain

# ---- after it ----------------------------------------------------------------------------------------------------------


def test_the_hand_made_client_is_a_good_one(target: Target) -> None:
    """The checks below could not fail if it were not."""
    with target.wire() as wire:
        for _ in range(3):
            wire.send((APPLICATION_DATA, REQUEST[:10]), (APPLICATION_DATA, REQUEST[10:]))
            answer = wire.receive_of(APPLICATION_DATA)
            assert answer is not None
            assert answer.payload.endswith(b"\r\n\r\nhello")
        wire.send((ALERT, bytes([WARNING, CLOSE_NOTIFY])))
        assert wire.receive_of(ALERT) == (ALERT, bytes([WARNING, CLOSE_NOTIFY]))
        assert wire.receive() is None


def refused(wire: Wire, *descriptions: int) -> None:
    """The server ends it with a fatal alert, one of these if some are given."""
    told = wire.receive_of(ALERT)
    assert told is not None
    assert told.payload[0] == FATAL
    assert not descriptions or told.payload[1] in descriptions
    assert ends(wire.client.socket) == b""


@pytest.mark.parametrize(
    ("sent", "descriptions"),
    [
        (record(APPLICATION_DATA, b"x" * 100), (BAD_RECORD_MAC,)),
        (record(APPLICATION_DATA, b""), ()),
        (record(HANDSHAKE, client_hello()), ()),
        (record(ALERT, bytes([FATAL, UNEXPECTED_MESSAGE])), ()),
        (record(99, b"?"), ()),
        (b"\x17\x03\x03\xff\xff" + b"x" * 100, ()),
        (REQUEST, ()),
    ],
    ids=["unsealed", "empty", "hello", "alert", "unknown type", "too long", "HTTP"],
)
def test_records_without_protection(target: Target, sent: bytes, descriptions: tuple[int, ...]) -> None:
    """RFC 8446 5.2: after the handshake there are none."""
    with target.wire() as wire:
        wire.client.send(sent)
        refused(wire, *descriptions)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (HANDSHAKE, client_hello()),
        (HANDSHAKE, b"\x18\0\0\1\7"),
        (HANDSHAKE, b"\x14\0\0\x20" + b"\0" * 32),
        (HANDSHAKE, b"\x18\0\0\2\0\0"),
        (CHANGE_CIPHER_SPEC, b"\1"),
        (ALERT, b"\1"),
        (APPLICATION_DATA, b"x" * 20_000),
    ],
    ids=[
        "hello",
        "key update 7",
        "finished",
        "long key update",
        "cipher change",
        "half an alert",
        "20 000 bytes",
    ],
)
def test_protected_records_out_of_place(target: Target, kind: int, payload: bytes) -> None:
    """There is no renegotiation in TLS 1.3, no second Finished, and no record above 16 KiB."""
    with target.wire() as wire:
        wire.send((kind, payload))
        refused(wire)


def test_half_a_message_while_an_answer_is_made(serve: Any, certificates: Certificates, caplog: Any) -> None:
    """A message of the handshake goes on in a later record, and the response comes in between: it is sent, or all ends."""
    gate = Gate()

    def handler(res: Any, req: Any) -> None:
        def answer() -> None:
            gate.pass_through()
            res.end("x" * 1000)

        thread = threading.Thread(target=answer)
        threads.append(thread)
        thread.start()

    threads: list[threading.Thread] = []
    running = serve(
        lambda app: app.get("/slow", handler).get("/", plain), options=certificates.options(), io_threads=1
    )
    target = Target(running, certificates)
    with target.wire() as wire:
        wire.send((APPLICATION_DATA, b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n"))
        gate.arrived()
        wire.send((HANDSHAKE, KEY_UPDATE_AND_ASK[:2]))
        # A request there: by the time of its response, the half has been read.
        target.serves()
        gate.open()
        threads[0].join(20)
        assert not threads[0].is_alive()
        answer = wire.receive_of(APPLICATION_DATA)
        assert answer is None or answer.payload.endswith(b"x" * 1000)
    target.serves()
    assert caplog.records == []


@pytest.mark.alone
def test_a_flood_of_key_updates(target: Target) -> None:
    """RFC 8446 4.6.3: each asks for one in return. It ends, one way or the other, and little is held meanwhile."""
    before = resident()
    with target.wire() as wire:
        pour(wire.client, b"".join(wire.update(KEY_UPDATE_AND_ASK) for _ in range(20_000)))
    assert resident() - before < 16_000_000


def test_a_few_key_updates(target: Target) -> None:
    """They get replies, and both sides understand the later bytes."""
    with target.wire() as wire:
        for _ in range(5):
            wire.client.send(wire.update(KEY_UPDATE_AND_ASK) + wire.sending.seal(APPLICATION_DATA, REQUEST))
            answer = wire.receive_of(APPLICATION_DATA)
            assert answer is not None
            assert answer.payload.endswith(b"hello")


@pytest.mark.parametrize("description", [USER_CANCELED, UNEXPECTED_MESSAGE])
def test_a_flood_of_warnings(target: Target, description: int) -> None:
    """Warnings that TLS 1.3 still knows, and others, which count as fatal (RFC 8446 6)."""
    with target.wire() as wire:
        alert = (ALERT, bytes([WARNING, description]))
        pour(wire.client, b"".join(wire.sending.seal(*alert) for _ in range(5_000)))


def test_a_flood_of_nothing(target: Target) -> None:
    """RFC 8446 5.4: records of no text are allowed. 50 000 of them are not, or they are read like any others."""
    with target.wire() as wire:
        nothing = b"".join(wire.sending.seal(APPLICATION_DATA, b"") for _ in range(50_000))
        pour(wire.client, nothing + wire.sending.seal(APPLICATION_DATA, REQUEST))


def test_renegotiation_of_tls_1_2(target: Target) -> None:
    """CVE-2009-3555 and its floods: OpenSSL asks for another handshake, and gets none."""
    with subprocess.Popen(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{target.port}", "-tls1_2"),
            *("-legacy_renegotiation", "-CAfile", str(target.certificates.ca)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as openssl:
        assert openssl.stdin is not None
        assert openssl.stdout is not None
        for line in openssl.stdout:
            if b"Extended master secret" in line:
                break
        openssl.stdin.write(b"R\n")
        openssl.stdin.flush()
        said = openssl.stdout.read()
    assert b"RENEGOTIATING" in said
    assert b"no renegotiation" in said or b"write:errno" in said or b"closed" in said, said


# ---- ends --------------------------------------------------------------------------------------------------------------


def test_the_end_is_said(target: Target) -> None:
    """RFC 8446 6.1: a response that ends with the connection ends with close_notify, or it could have been cut."""
    with TlsClient(target.port, target.context) as client:
        assert client.request("GET", "/", "Connection: close").answer().body == b"hello"
        assert client.is_closed()


@pytest.mark.parametrize("notify", [True, False])
def test_a_client_that_sends_no_more(target: Target, notify: bool) -> None:
    """With close_notify or with a bare end of the stream: the requests before it get their responses."""
    with target.wire() as wire:
        wire.send((APPLICATION_DATA, REQUEST))
        if notify:
            wire.send((ALERT, bytes([WARNING, CLOSE_NOTIFY])))
        wire.client.half_close()
        answer = wire.receive_of(APPLICATION_DATA)
        assert answer is not None
        assert answer.payload.endswith(b"hello")
        assert wire.receive_of(ALERT) == (ALERT, bytes([WARNING, CLOSE_NOTIFY]))
        assert wire.receive() is None


def test_a_request_that_is_cut(target: Target) -> None:
    """Half a request and the end: no response, and no handler."""
    with target.wire() as wire:
        wire.send((APPLICATION_DATA, REQUEST[:20]))
        wire.client.half_close()
        assert wire.receive_of(APPLICATION_DATA) is None


def test_text_behind_the_end(target: Target) -> None:
    """Bytes after close_notify are not read."""
    with target.wire() as wire:
        wire.send((ALERT, bytes([WARNING, CLOSE_NOTIFY])), (APPLICATION_DATA, REQUEST))
        assert wire.receive_of(APPLICATION_DATA) is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.alone
def test_hostile_clients_leave_nothing_behind(target: Target, version: ssl.TLSVersion) -> None:
    """Hundreds of each kind: memory stays where it was after the first hundred."""
    hello = genuine_hello(target.certificates.context(version))

    def visit() -> None:
        for data in (REQUEST, hello[:60], hello, b"\x16\x03\1\0\5garbage", record(APPLICATION_DATA, b"x")):
            with target.client() as client:
                client.send(data).half_close()
                ends(client.socket)
        with target.wire() as wire:
            wire.client.send(record(APPLICATION_DATA, b"x" * 100))
            refused(wire)

    for _ in range(50):
        visit()
    before = resident()
    for _ in range(200):
        visit()
    assert resident() - before < 8_000_000
