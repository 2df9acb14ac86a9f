"""I-S-04: a response on the wire of TLS. One record, and one system call, for corked output."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.lanes import each_lane, on, options
from support.running import Running
from support.tls_client import APPLICATION_DATA, Certificates, TlsClient, Wire

PATTERN = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(2048))

SMALL: dict[str, Any] = {
    "send": lambda res, req: res.send("small"),
    "end": lambda res, req: res.end("small"),
    "cork": lambda res, req: res.cork(lambda res: res.write_header("A", "b").end("small")),
    "pieces": lambda res, req: res.cork(lambda res: res.write("sm").write("al").end("l")),
    "cork_end": lambda res, req: res.cork_end("small"),
}


@each_lane
@pytest.mark.parametrize("kind", SMALL)
def test_a_corked_answer_is_one_record(serve: Any, certificates: Certificates, kind: str, lane: str) -> None:
    """I-S-04: one record of application data holds the whole response."""
    running = serve(
        lambda app: app.get("/", on(lane, SMALL[kind])), options=certificates.options(), **options(lane)
    )
    with Wire(running.port, certificates) as wire:
        for _ in range(5):
            wire.send((APPLICATION_DATA, b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"))
            answer = wire.receive_of(APPLICATION_DATA)
            assert answer is not None
            head, _, body = answer.payload.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert body == (b"2\r\nsm\r\n2\r\nal\r\n1\r\nl\r\n0\r\n\r\n" if kind == "pieces" else b"small")
            assert wire.client.pending == b""


@pytest.mark.needs("strace")
def test_a_corked_answer_is_one_write(certificates: Certificates, tmp_path: Path) -> None:
    """I-S-04: and one system call sends it."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, threading\n"
        "from socketify import App, AppOptions\n"
        "app = App(AppOptions(key_file_name=sys.argv[1], cert_file_name=sys.argv[2]))\n"
        "app.get('/', lambda res, req: res.cork(lambda res: res.write_header('A', 'b').end('x' * 5000)))\n"
        "app.listen({'host': '127.0.0.1', 'port': 0}, lambda config: print(config.port, flush=True))\n"
        # It ends with its input, and so does strace, which has no other way to end it.
        "threading.Thread(target=lambda: (sys.stdin.read(), app.close()), daemon=True).start()\n"
        "app.run()\n"
    )
    trace = tmp_path / "trace"
    calls = "trace=sendto,sendmsg,write,writev,sendfile"
    with subprocess.Popen(
        [
            *("strace", "-f", "-qq", "-yy", "-e", calls, "-o", str(trace)),
            *(sys.executable, str(program), str(certificates.key), str(certificates.certificate)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        with TlsClient(int(process.stdout.readline()), certificates.context()) as client:
            for _ in range(20):
                assert len(client.get().body) == 5000
    # A call that another thread's comes in between of is in two lines.
    halves = re.compile(
        r"^(\d+)( .*) <unfinished \.\.\.>$((?:\n.*)*?)\n\1 +<\.\.\. \w+ resumed>(.*)$", re.MULTILINE
    )
    text = halves.sub(r"\1\2\4\3", trace.read_text())
    calls_made = [line for line in text.splitlines() if "<TCP" in line and "= -1" not in line]
    sizes = [int(line.rpartition("= ")[2]) for line in calls_made]
    answers = [size for size in sizes if size > 5000]
    assert len(answers) == 20
    # The server's part of the handshake, its tickets, its goodbye.
    assert len(sizes) - len(answers) <= 4


def test_large_answers_are_full_records(
    start_tls: Callable[..., Running], certificates: Certificates
) -> None:
    """A record has 16 KiB of text at most (RFC 8446 5.1), and only the last of a write may have less."""
    running = start_tls(lambda app: app.get("/", lambda res, req: res.end(PATTERN[: 60 * 1024])))
    with Wire(running.port, certificates) as wire:
        wire.send((APPLICATION_DATA, b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"))
        text, sizes = b"", []
        while not text.endswith(PATTERN[60 * 1024 - 100 : 60 * 1024]):
            found = wire.receive_of(APPLICATION_DATA)
            assert found is not None
            text += found.payload
            sizes.append(len(found.payload))
        assert text.endswith(PATTERN[: 60 * 1024])
        assert max(sizes) <= 16 * 1024
        assert len(sizes) <= 6
