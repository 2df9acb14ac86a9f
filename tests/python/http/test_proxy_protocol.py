"""The PROXY protocol (A-RES-34, A-RES-35, B-HT-25, I-S-38): trusted peers, valid prefaces, and real
proxies."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import Gate, missing, tool, until
from support.certificates import Authority
from support.client import Client
from support.proxies import REQUEST, Front, free_port, through
from support.running import Running
from support.ws_client import handshake

Serve = Callable[..., Running]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
SOURCE, DESTINATION = "192.0.2.7", "198.51.100.1"
SOURCE6, DESTINATION6 = "2001:db8::7", "2001:db8::1"
LONG6 = "2001:0db8:0000:0000:0000:0000:0000:0007"


def version2(command: int, family: int, data: bytes = b"") -> bytes:
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack(">H", len(data)) + data


def crc32c(data: bytes) -> int:
    """CRC-32C by table, another way than the server's."""
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    value = 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


PORTS = struct.pack(">HH", 4711, 443)
IPV4 = socket.inet_aton(SOURCE) + socket.inet_aton(DESTINATION) + PORTS
IPV6 = socket.inet_pton(socket.AF_INET6, SOURCE6) + socket.inet_pton(socket.AF_INET6, DESTINATION6) + PORTS


def summed() -> bytes:
    """IPv4 with the checksum among the TLVs."""
    blank = version2(1, 0x11, IPV4 + b"\x03\0\4" + bytes(4) + b"\xee\0\2ok")
    at = len(SIGNATURE) + 4 + len(IPV4) + 3
    return blank[:at] + struct.pack(">I", crc32c(blank)) + blank[at + 4 :]


PREFACES = {
    "v2 IPv4": (version2(1, 0x11, IPV4), SOURCE),
    "v2 IPv6": (version2(1, 0x21, IPV6), LONG6),
    "v2 with TLVs": (version2(1, 0x11, IPV4 + b"\x01\0\2h2\x04\0\0"), SOURCE),
    "v2 with a checksum": (summed(), SOURCE),
    "v2 UNIX": (version2(1, 0x31, bytes(216)), None),
    "v2 UNSPEC": (version2(1, 0, b"whatever"), None),
    "v2 LOCAL": (version2(0, 0), None),
    "v2 LOCAL with addresses": (version2(0, 0x11, IPV4), None),
    "v1 TCP4": (f"PROXY TCP4 {SOURCE} {DESTINATION} 4711 443\r\n".encode(), SOURCE),
    "v1 TCP6": (f"PROXY TCP6 {SOURCE6} {DESTINATION6} 4711 443\r\n".encode(), LONG6),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
}
each_preface = pytest.mark.parametrize(("preface", "source"), PREFACES.values(), ids=list(PREFACES))

BAD = {
    "v2 version": SIGNATURE + b"\x11\x11" + struct.pack(">H", 12) + IPV4,
    "v2 command": version2(2, 0x11, IPV4),
    "v2 family": version2(1, 0x41, IPV4),
    "v2 transport": version2(1, 0x13, IPV4),
    "v2 short IPv4": version2(1, 0x11, IPV4[:-1]),
    "v2 short IPv6": version2(1, 0x21, IPV4),
    "v2 oversize": SIGNATURE + b"\x21\x11\x10\x01" + bytes(4097),
    "v2 signature": SIGNATURE[:-1] + b"X" + bytes(20),
    "v2 TLV beyond the end": version2(1, 0x11, IPV4 + b"\x01\0\5h2"),
    "v2 checksum": summed()[:-1] + b"!",
    "v1 words": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
    "v1 family": b"PROXY TCP5 192.0.2.7 198.51.100.1 4711 443\r\n",
    "v1 other family": b"PROXY TCP6 192.0.2.7 198.51.100.1 4711 443\r\n",
    "v1 port": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n",
    "v1 blanks": b"PROXY  TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    "v1 bare newline": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n",
    "v1 without an end": b"PROXY UNKNOWN " + b"x" * 93,
}


def who(res: Any, req: Any) -> None:
    res.end({"proxied": res.get_proxied_remote_address(), "client": req.get_client_address()})


def site(app: Any) -> None:
    app.get("/who", who)


def asked(client: Client) -> Any:
    return json.loads(client.get("/who").body)


@each_preface
@pytest.mark.parametrize("mode", ["optional", "required", True, None])
def test_prefaces(serve: Serve, preface: bytes, source: str | None, mode: Any) -> None:
    """A-RES-34, I-S-38: it holds for every request of the connection."""
    with serve(site, proxy_protocol=mode).client() as client:
        client.send(preface + REQUEST * 2)
        for answer in (client.answer(), client.answer(), client.get("/who")):
            assert json.loads(answer.body)["proxied"] == source


@each_preface
def test_split_at_every_byte(serve: Serve, preface: bytes, source: str | None) -> None:
    """Others are served meanwhile."""
    running = serve(site, proxy_protocol="optional")
    whole = preface + REQUEST
    with running.client() as other:
        for cut in range(1, len(preface) + 2, 1 if len(preface) < 100 else 17):
            with running.client() as client:
                client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.send(whole[:cut])
                assert asked(other)["proxied"] is None
                client.send(whole[cut:])
                assert json.loads(client.answer().body)["proxied"] == source, cut


def test_byte_by_byte(serve: Serve) -> None:
    running = serve(site, proxy_protocol="required")
    for preface, source in PREFACES.values():
        if len(preface) < 100:
            with running.client() as client:
                client.send_slowly(preface + REQUEST)
                assert json.loads(client.answer().body)["proxied"] == source


@pytest.mark.parametrize("preface", BAD.values(), ids=list(BAD))
@pytest.mark.parametrize("mode", ["optional", "required"])
def test_a_malformed_preface_closes(serve: Serve, preface: bytes, mode: str) -> None:
    """Without a response: the peer's protocol is unknown."""
    running = serve(site, proxy_protocol=mode)
    with running.client() as client:
        assert client.send(preface).is_closed()
    with running.client() as client:
        client.send(PREFACES["v2 IPv4"][0])
        assert asked(client)["proxied"] == SOURCE


@pytest.mark.parametrize(
    "start", [REQUEST, b"\r\n\r\n" + REQUEST, b"PROXY / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", b"x"]
)
def test_a_missing_preface_closes_where_it_is_required(serve: Serve, start: bytes) -> None:
    with serve(site, proxy_protocol="required").client() as client:
        assert client.send(start).is_closed()


def test_requests_without_one_where_it_is_optional(serve: Serve) -> None:
    """Also one that begins like a preface: with blank lines, or with a method of that name."""
    running = serve(lambda app: app.any("/who", who), proxy_protocol="optional")
    for start in (
        REQUEST,
        b"\r\n" + REQUEST,
        REQUEST.replace(b"GET", b"PROXY"),
        REQUEST.replace(b"GET", b"POST"),
    ):
        with running.client() as client:
            client.send_slowly(start)
            assert json.loads(client.answer().body) == {"proxied": None, "client": "127.0.0.1"}


def test_one_preface_a_connection(serve: Serve) -> None:
    """Behind a proxy that passes bytes on, a second one comes from the client, which may not claim an
    address."""
    running = serve(site, proxy_protocol="required")
    first, second = PREFACES["v2 IPv4"][0], PREFACES["v1 TCP6"][0]
    for again in (second, PREFACES["v2 IPv6"][0], first):
        with running.client() as client:
            assert client.send(first + again + REQUEST).answer().status == 400
        with running.client() as client:
            client.send(first + REQUEST)
            assert json.loads(client.answer().body)["proxied"] == SOURCE
            assert client.send(again + REQUEST).answer().status == 400


def test_who_is_not_trusted(serve: Serve) -> None:
    """A preface of one is no more than a malformed request; where one is required, all other peers are
    refused."""
    preface = PREFACES["v2 IPv4"][0]
    with serve(site, proxy_protocol="optional", trusted_proxies=["192.0.2.0/24", "unix"]).client() as client:
        assert client.send(preface + REQUEST).answer().status == 400
    with serve(site, proxy_protocol="optional", trusted_proxies=[]).client() as client:
        assert asked(client) == {"proxied": None, "client": "127.0.0.1"}
    running = serve(site, proxy_protocol="required", trusted_proxies="192.0.2.0/24, unix")
    for start in (preface + REQUEST, REQUEST, b""):
        # The server may be faster, and then it is a reset that the client sends into.
        with running.client() as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            assert client.send(start).is_closed()


@pytest.mark.parametrize("mode", ["off", False])
def test_switched_off(serve: Serve, mode: Any) -> None:
    running = serve(site, proxy_protocol=mode)
    for preface, _ in PREFACES.values():
        with running.client() as client:
            assert client.send(preface + REQUEST).answer().status == 400


@pytest.mark.parametrize("trusted", ["127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.1", "*"])
def test_ipv4_on_a_socket_of_both_families(trusted: str) -> None:
    """There an IPv4 peer has an IPv6 address."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    running = Running(site, listen=0, proxy_protocol="required", trusted_proxies=[trusted])
    try:
        with running.client() as client:
            client.send(PREFACES["v1 TCP4"][0])
            assert asked(client) == {"proxied": SOURCE, "client": SOURCE}
    finally:
        running.stop()


def test_a_unix_socket(tmp_path: Path) -> None:
    """A peer on one is trusted as `unix`."""
    path = str(tmp_path / "socket")
    for trusted, proxied in ((None, SOURCE), (["unix"], SOURCE), (["127.0.0.1"], None)):
        running = Running(site, listen={"domain": path}, proxy_protocol="optional", trusted_proxies=trusted)
        try:
            with Client(path=path) as client:
                client.send(PREFACES["v1 TCP4"][0] if proxied else b"")
                assert asked(client) == {"proxied": proxied, "client": proxied}
        finally:
            running.stop()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("proxy_protocol", "on", "'off', 'optional' or 'required'.* not 'on'"),
        ("proxy_protocol", 1, "not 1"),
        ("trusted_proxies", ["10.0.0.0/33"], 'trusted_proxies: "10.0.0.0/33" is no network: expected'),
        ("trusted_proxies", "::1,proxy.example", '"proxy.example" is no network: expected'),
    ],
)
def test_options_that_are_none(serve: Serve, name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        serve(site, **{name: value})


def test_a_preface_has_the_time_of_a_request_head(serve: Serve) -> None:
    running = serve(site, proxy_protocol="optional", header_timeout=0.3)
    for start in (b"", SIGNATURE, b"PROXY TCP4 192"):
        with running.client() as client:
            assert client.send(start).is_closed()


def test_close_does_not_wait_for_prefaces(serve: Serve) -> None:
    running = serve(site, proxy_protocol="required", header_timeout=600, shutdown_timeout=600)
    with running.client() as client:
        client.send(SIGNATURE)
        with running.client() as other:
            other.send(PREFACES["v2 LOCAL"][0])
            asked(other)
        running.stop()
        assert client.is_closed()


def test_connections_count_while_their_preface_is_read(serve: Serve) -> None:
    """`max_connections` counts sockets in every state."""
    running = serve(site, proxy_protocol="required", max_connections=1)
    with running.client() as first, running.client() as second:
        first.send(SIGNATURE[:5])
        second.send(PREFACES["v2 IPv4"][0] + REQUEST)
        second.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            second.receive()
        second.socket.settimeout(20)
        first.close()
        assert json.loads(second.answer().body)["proxied"] == SOURCE


def test_websockets(serve: Serve) -> None:
    """The address is that of the socket, too."""
    opened: list[Any] = []
    done = threading.Event()

    def heard(ws: Any, message: Any, opcode: Any) -> None:
        opened.append(
            (ws.get_proxied_remote_address(), ws.get_proxied_remote_address_bytes(), ws.get_remote_address())
        )
        done.set()

    running = serve(lambda app: app.ws("/", {"message": heard}), proxy_protocol="required")
    with running.client() as client:
        client.send(PREFACES["v2 IPv4"][0] + handshake("/"))
        assert client.answer().status == 101
        client.send(b"\x81\x80\0\0\0\0")
        assert done.wait(20)
    assert opened == [(SOURCE, socket.inet_aton(SOURCE), "127.0.0.1")]


# ---- clients and proxies of others ------------------------------------------------------------------------------------


def test_curl(serve: Serve) -> None:
    """`--haproxy-protocol` sends version 1."""
    tool("curl")
    running = serve(site, proxy_protocol="required")
    url = f"http://127.0.0.1:{running.port}/who"
    answered = subprocess.run(
        ["curl", "-sS", "--haproxy-protocol", url, url], capture_output=True, timeout=30, check=True
    )
    assert answered.stdout == json.dumps({"proxied": "127.0.0.1", "client": "127.0.0.1"}).encode() * 2
    assert subprocess.run(["curl", "-sS", url], capture_output=True, timeout=30).returncode != 0


@pytest.fixture
def haproxy(tmp_path: Path) -> Callable[[int, str], Front]:
    """Starts HAProxy before a port, with words for its `server` line."""
    program = tool("haproxy")

    def start(port: int, words: str) -> Front:
        own = free_port()
        settings = tmp_path / "haproxy.cfg"
        settings.write_text(
            "defaults\n  mode tcp\n  timeout connect 20s\n  timeout client 20s\n  timeout server 20s\n"
            f"listen front\n  bind 127.0.0.1:{own}\n  server back 127.0.0.1:{port} {words}\n"
        )
        return Front([program, "-db", "-f", str(settings)], own)

    return start


@pytest.mark.parametrize(
    "words", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
)
def test_haproxy(serve: Serve, haproxy: Callable[[int, str], Front], words: str) -> None:
    running = serve(site, proxy_protocol="required", trusted_proxies=["127.0.0.1"])
    with haproxy(running.port, words) as front:
        assert through(front, "127.0.0.9") == {"proxied": "127.0.0.9", "client": "127.0.0.9"}
        with Client(front.port) as client:
            assert [asked(client)["proxied"] for _ in range(3)] == ["127.0.0.1"] * 3


def test_health_checks_of_haproxy(serve: Serve, haproxy: Callable[[int, str], Front]) -> None:
    """They are LOCAL prefaces; a server that closed on them would get no traffic."""
    running = serve(site, proxy_protocol="required", trusted_proxies=["127.0.0.1"])
    with haproxy(running.port, "send-proxy-v2 check check-send-proxy inter 50ms fall 1 rise 1") as front:
        for _ in range(20):
            assert through(front, "127.0.0.9")["proxied"] == "127.0.0.9"


def test_nginx(serve: Serve, tmp_path: Path) -> None:
    """Its stream module sends version 1."""
    program = tool("nginx")
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    if not module.exists():
        missing(f"{module} is not installed")
    running = serve(site, proxy_protocol="required", trusted_proxies=["127.0.0.1"])
    port = free_port()
    settings = tmp_path / "nginx.conf"
    settings.write_text(
        f"load_module {module};\npid {tmp_path}/pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\n"
        f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{running.port}; proxy_protocol on; }} }}\n"
    )
    with Front([program, "-p", str(tmp_path), "-c", str(settings), "-e", "stderr"], port) as front:
        assert through(front, "127.0.0.9") == {"proxied": "127.0.0.9", "client": "127.0.0.9"}


@pytest.mark.parametrize("words", ["send-proxy", "send-proxy-v2"])
def test_haproxy_before_tls(
    serve: Serve, haproxy: Callable[[int, str], Front], authority: Authority, words: str
) -> None:
    """It passes the handshake on behind the preface, which is why it cannot add a header."""
    scheme: list[str] = []

    def secure(app: Any) -> None:
        site(app)
        app.get("/scheme", lambda res, req: res.end(scheme.append(req.get_client_scheme()) or "x"))

    running = serve(secure, options=authority.options("localhost"), proxy_protocol="required")
    with (
        haproxy(running.port, words) as front,
        socket.create_connection(("127.0.0.1", front.port), 20, ("127.0.0.9", 0)) as plain,
        authority.context().wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /scheme HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        connection.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"proxied": "127.0.0.9", "client": "127.0.0.9"}
    assert scheme == ["https"]
    # Without the preface there is no handshake.
    with (
        socket.create_connection(("127.0.0.1", running.port), 20) as plain,
        pytest.raises(OSError, match=r"."),
    ):
        authority.context().wrap_socket(plain, server_hostname="localhost")


# ---- the log of refused peers -------------------------------------------------------------------------------------------


def sent(running: Running, data: bytes) -> None:
    """Sends what closes the connection, and waits for that."""
    with running.client() as client, contextlib.suppress(OSError):
        client.send(data)
        client.rest()


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line.message for line in caplog.records if line.message.startswith("connection of ")]


@pytest.mark.parametrize(
    ("options", "data", "reason"),
    [
        ({"proxy_protocol": "optional"}, BAD["v1 port"], "its PROXY preface is malformed"),
        ({"proxy_protocol": "required"}, BAD["v2 version"], "its PROXY preface is malformed"),
        ({"proxy_protocol": "required"}, REQUEST, "it has sent no PROXY preface, which is required"),
        ({"proxy_protocol": "required", "header_timeout": 0.1}, b"PROXY TCP4",
         "its PROXY preface was not whole within header_timeout"),
        ({"proxy_protocol": "required", "trusted_proxies": ["10.0.0.0/8"]}, REQUEST,
         "it is not in trusted_proxies, and a PROXY preface is required"),
    ],
)  # fmt: skip
def test_one_line_in_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture, options: dict[str, Any], data: bytes, reason: str
) -> None:
    """The log has one line with the cause, at debug level."""
    caplog.set_level("DEBUG", "socketify")
    sent(serve(site, **options), data)
    until(lambda: notes(caplog), "the line is written")
    assert notes(caplog) == [f"connection of 127.0.0.1 closed: {reason}"]


def test_who_says_nothing_is_not_told_of(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A health check that connects and leaves did nothing wrong, where no preface has to be."""
    caplog.set_level("DEBUG", "socketify")
    running = serve(site)
    running.client().close()
    sent(running, BAD["v1 port"])
    until(lambda: notes(caplog), "the line is written")
    assert notes(caplog) == ["connection of 127.0.0.1 closed: its PROXY preface is malformed"]


def test_the_level_may_change_while_it_runs(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "socketify")
    running = serve(site)
    sent(running, BAD["v1 port"])
    caplog.set_level("DEBUG", "socketify")

    def told() -> bool:
        sent(running, BAD["v1 port"])
        return bool(notes(caplog))

    until(told, "the level is seen")


def test_a_flood_is_told_of_in_part(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """While a handler blocks, only so many lines wait; the next one gives the number of dropped ones."""
    caplog.set_level("DEBUG", "socketify")
    gate = Gate()

    def configure(app: Any) -> None:
        site(app)

        def block(res: Any, req: Any) -> None:
            gate.pass_through()
            res.end("")

        app.get("/block", block)

    running = serve(configure)
    with running.client() as client:
        client.send(b"GET /block HTTP/1.1\r\nHost: test\r\n\r\n")
        gate.arrived()
        for _ in range(300):
            sent(running, BAD["v1 port"])
        gate.open()
        client.answer()
    until(lambda: len(notes(caplog)) >= 256, "those that waited are told")
    sent(running, BAD["v1 port"])
    until(lambda: len(notes(caplog)) > 256, "the next one is told")
    assert notes(caplog)[-1].endswith("(44 more before this one were too many to be told)")
    assert len(notes(caplog)) == 257
