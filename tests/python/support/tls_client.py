"""TLS for tests: certificates, a client over OpenSSL, and a client of raw records that breaks rules.

``TlsClient`` is the client of this suite over Python's ``ssl``. ``Wire`` shakes hands with it too, then takes the keys and
writes records itself, by RFC 8446 and with the cryptography of another author, so that it can send what OpenSSL never would.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import ssl
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from socketify import AppOptions
from support.certificates import Authority
from support.client import Client

#: Types of records (RFC 8446 B.1).
CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
#: Descriptions of alerts (RFC 8446 B.2).
CLOSE_NOTIFY, UNEXPECTED_MESSAGE, BAD_RECORD_MAC = 0, 10, 20
HANDSHAKE_FAILURE, PROTOCOL_VERSION, USER_CANCELED = 40, 70, 90
WARNING, FATAL = 1, 2
#: Whole messages of the handshake that come after it (RFC 8446 4.6.3).
KEY_UPDATE, KEY_UPDATE_AND_ASK = b"\x18\0\0\1\0", b"\x18\0\0\1\1"


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, and of the one server that it vouches for."""

    ca: Path
    certificate: Path
    key: Path

    def options(self, **more: Any) -> AppOptions:
        """An alert to the server."""
        return AppOptions(key_file_name=str(self.key), cert_file_name=str(self.certificate), **more)

    def context(
        self, version: ssl.TLSVersion | None = None, protocols: tuple[str, ...] = ()
    ) -> ssl.SSLContext:
        """The context of a client that trusts the server; only this version, if one is given."""
        context = ssl.create_default_context(cafile=self.ca)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


def make_certificates(folder: Path) -> Certificates:
    """Makes an authority, and a server that it knows as localhost and as 127.0.0.1."""
    authority = Authority(folder)
    made = authority.options("localhost", "127.0.0.1")
    assert made.cert_file_name is not None
    assert made.key_file_name is not None
    return Certificates(Path(authority.file), Path(made.cert_file_name), Path(made.key_file_name))


class TlsClient(Client):
    """One connection over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext, *, receive_buffer: int | None = None) -> None:
        super().__init__(port, receive_buffer=receive_buffer)
        try:
            # A connection that ends without close_notify is an error: SSLEOFError.
            self.secure = context.wrap_socket(
                self.socket, server_hostname="localhost", suppress_ragged_eofs=False
            )
        except BaseException:
            self.socket.close()
            raise
        self.socket = self.secure


class Record(NamedTuple):
    """A received record; ``payload`` is the decrypted content, if it was protected."""

    kind: int
    payload: bytes


def record(kind: int, payload: bytes, *, version: int = 0x0303, length: int | None = None) -> bytes:
    """The bytes of a record that is not protected, with another length if one is given."""
    return struct.pack("!BHH", kind, version, len(payload) if length is None else length) + payload


def client_hello(
    *,
    version: int = 0x0303,
    name: bytes | None = b"localhost",
    ciphers: bytes = b"\x13\x01\x13\x02\xc0\x2b\xc0\x2f",
    extensions: bytes = b"",
) -> bytes:
    """A ClientHello up to TLS 1.2 (RFC 5246 7.4.1.2), as a message without a record around it."""
    if name is not None:
        entry = b"\0" + struct.pack("!H", len(name)) + name
        extensions += b"\0\0" + struct.pack("!HH", len(entry) + 2, len(entry)) + entry
    body = struct.pack("!H", version) + bytes(range(32)) + b"\0"
    body += struct.pack("!H", len(ciphers)) + ciphers + b"\1\0"
    if extensions:
        body += struct.pack("!H", len(extensions)) + extensions
    return b"\1" + len(body).to_bytes(3, "big") + body


def genuine_hello(context: ssl.SSLContext) -> bytes:
    """What OpenSSL sends first, record and all."""
    outgoing = ssl.MemoryBIO()
    hello = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody")


class Keys:
    """One direction of a session of TLS 1.3 (RFC 8446 7.1 to 7.3 and 5.2)."""

    def __init__(self, secret: bytes, cipher: str) -> None:
        self._hash = "sha384" if cipher.endswith("SHA384") else "sha256"
        assert cipher in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"), cipher
        self._length = 32 if "256_GCM" in cipher else 16
        self._install(secret)

    def _expand(self, label: str, length: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = struct.pack("!HB", length, len(name)) + name + b"\0\1"
        made = hmac.new(self._secret, info, self._hash).digest()
        assert length <= len(made) == hashlib.new(self._hash).digest_size
        return made[:length]

    def _install(self, secret: bytes) -> None:
        self._secret = secret
        self._aead = AESGCM(self._expand("key", self._length))
        self._iv = int.from_bytes(self._expand("iv", 12), "big")
        self._sequence = 0

    def update(self) -> None:
        """Goes on to the next generation (RFC 8446 7.2)."""
        self._install(self._expand("traffic upd", hashlib.new(self._hash).digest_size))

    def _nonce(self) -> bytes:
        self._sequence += 1
        return (self._iv ^ (self._sequence - 1)).to_bytes(12, "big")

    def seal(self, kind: int, payload: bytes) -> bytes:
        """The bytes of a protected record."""
        head = struct.pack("!BHH", APPLICATION_DATA, 0x0303, len(payload) + 17)
        return head + self._aead.encrypt(self._nonce(), payload + bytes([kind]), head)

    def open(self, head: bytes, sealed: bytes) -> Record:
        """The content of a protected record."""
        inner = self._aead.decrypt(self._nonce(), sealed, head).rstrip(b"\0")
        return Record(inner[-1], inner[:-1])


class Wire:
    """A connection of TLS 1.3 whose records are written and read one by one."""

    def __init__(self, port: int, certificates: Certificates, *, receive_buffer: int | None = None) -> None:
        self.client = Client(port, receive_buffer=receive_buffer)
        context = certificates.context(ssl.TLSVersion.TLSv1_3, ("http/1.1",))
        with tempfile.NamedTemporaryFile() as log:
            context.keylog_filename = log.name
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    session.do_handshake()
                except ssl.SSLWantReadError:
                    self.client.send(outgoing.read())
                    data = self.client.receive()
                    assert data, "closed in the middle of a good handshake"
                    incoming.write(data)
                else:
                    break
            self.client.send(outgoing.read())
            lines = Path(log.name).read_text().splitlines()
            secrets = dict(line.split()[::2] for line in lines if not line.startswith("#"))
        # Nothing protected with the keys of the application comes before the server has seen the client's last word.
        assert incoming.pending == 0
        agreed = session.cipher()
        assert agreed is not None
        self.sending = Keys(bytes.fromhex(secrets["CLIENT_TRAFFIC_SECRET_0"]), agreed[0])
        self.receiving = Keys(bytes.fromhex(secrets["SERVER_TRAFFIC_SECRET_0"]), agreed[0])

    def send(self, *records: tuple[int, bytes]) -> Wire:
        """Sends protected records, in one piece."""
        self.client.send(b"".join(self.sending.seal(kind, payload) for kind, payload in records))
        return self

    def update(self, message: bytes = KEY_UPDATE) -> bytes:
        """A change of the client's keys: the record that announces it, which is not sent yet."""
        announced = self.sending.seal(HANDSHAKE, message)
        self.sending.update()
        return announced

    def receive(self) -> Record | None:
        """The next record; none at the end of the stream. A change of the server's keys is followed."""
        if not self.client.pending:
            self.client.pending = self.client.receive()
        if not self.client.pending:
            return None
        head = self.client.exactly(5)
        kind, _, length = struct.unpack("!BHH", head)
        sealed = self.client.exactly(length)
        if kind != APPLICATION_DATA:
            return Record(kind, sealed)
        found = self.receiving.open(head, sealed)
        if found.kind == HANDSHAKE and found.payload[0] == KEY_UPDATE[0]:
            self.receiving.update()
        return found

    def receive_of(self, kind: int) -> Record | None:
        """The next record of a kind; others, such as tickets, are passed over."""
        while (found := self.receive()) is not None and found.kind != kind:
            pass
        return found

    def close(self) -> None:
        self.client.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ends(connection: socket.socket) -> bytes:
    """What still comes until the server has closed, also with a reset."""
    parts = []
    try:
        while data := connection.recv(1 << 16):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def pour(client: Client, data: bytes) -> bytes:
    """Sends as much as the server takes, then nothing more, and returns its bytes until it has closed."""
    with contextlib.suppress(OSError):
        client.flood(data)
        client.half_close()
    return ends(client.socket)
