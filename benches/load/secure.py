"""The works over TLS and over HTTP/2."""

from __future__ import annotations

import re
import subprocess

import generator
import process
import servers
import works
from servers import Running
from works import Conditions, Measure, Metric, Sample, Work

import client

HANDSHAKES = 10_000
# h2load's own list begins with this; it is fixed here so that it stays the same.
CIPHER = "TLS_AES_128_GCM_SHA256"
REQUESTS = re.compile(
    r"^requests: (\d+) total, \d+ started, (\d+) done, \d+ succeeded, "
    r"(\d+) failed, (\d+) errored, (\d+) timeout",
    re.MULTILINE,
)
STATUS = re.compile(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", re.MULTILINE)
RATE = re.compile(r"^finished in [\d.]+\w+, ([\d.]+) req/s", re.MULTILINE)
# Least, most, mean.
TIMES = re.compile(r"^time for request: +\S+ +\S+ +([\d.]+)(us|ms|s) ", re.MULTILINE)
PROTOCOL = re.compile(r"^Application protocol: (\S+)", re.MULTILINE)
MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}


def h2load(
    server: Running, path: str, connections: int, streams: int, seconds: int, *options: str
) -> dict[str, float]:
    """Runs the load generator of HTTP/2 once."""
    url = f"{server.transport.scheme}://{client.HOST}:{server.port}{path}"
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", *options]
    if server.transport.tls:
        command.append(f"--tls13-ciphers={CIPHER}")
    done = subprocess.run([*command, url], capture_output=True, text=True, check=False)
    text = done.stdout
    protocol, rate, requests = PROTOCOL.search(text), RATE.search(text), REQUESTS.search(text)
    status, times = STATUS.search(text), TIMES.search(text)
    if done.returncode != 0 or not (rate and requests and status):
        said = (done.stderr or text).strip().splitlines() or ["nothing"]
        raise client.WrongAnswer(f"h2load ended with code {done.returncode}: {said[-1]}")
    if protocol is None or protocol[1] not in ("h2", "h2c"):
        raise client.WrongAnswer("the server does not agree to HTTP/2")
    names = ("requests", "done", "failed", "errored", "late")
    figures = {name: float(value) for name, value in zip(names, requests.groups(), strict=True)}
    figures["wrong"] = float(sum(map(int, status.groups()[1:])))
    figures["requests_per_second"] = float(rate[1])
    figures["mean_us"] = float(times[1]) * MICROSECONDS[times[2]] if times else 0.0
    return figures


HTTP2_METRICS = (
    Metric("requests_per_second", "requests/s", digits=0, more_is_better=True),
    Metric("cpu_us", "CPU µs/request", digits=2),
    Metric("mean_us", "mean µs", digits=0),
    Metric("rss_mb", "RSS MB"),
)


def load(path: str, connections: int, streams: int, *options: str) -> Measure:
    """Makes a work of h2load: one thread, so many connections with so many streams on each at any time."""

    def measure(server: Running, conditions: Conditions) -> Sample:
        h2load(server, path, connections, streams, conditions.warm_up_seconds, *options)
        with works.measured(server, conditions) as span:
            figures = h2load(server, path, connections, streams, conditions.seconds, *options)
        requests = figures["done"]
        if figures["wrong"]:
            raise client.WrongAnswer(f"{figures['wrong']:.0f} of {requests:.0f} answers had another status")
        if not requests:
            raise client.WrongAnswer("no request was answered")
        notes = span.notes()
        broken = {name: figures[name] for name in ("failed", "errored", "late") if figures[name]}
        if broken:
            notes.append("errors: " + ", ".join(f"{count:.0f} {name}" for name, count in broken.items()))
        values = {
            "requests_per_second": figures["requests_per_second"],
            "cpu_us": span.server_cpu / requests * 1e6,
            "mean_us": figures["mean_us"],
            "rss_mb": process.resident_bytes(server.processes()) / 1e6,
        }
        return Sample(values | span.shares(), notes)

    return measure


HANDSHAKE_METRICS = (
    Metric("handshakes_per_second", "handshakes/s", digits=0, more_is_better=True),
    Metric("cpu_us", "CPU µs/handshake", digits=1),
    Metric("p50_us", "p50 µs", digits=0),
    Metric("p99_us", "p99 µs", digits=0),
    Metric("rss_mb", "RSS MB"),
    Metric("gained_mb", "RSS MB gained", digits=2, compared=False),
    Metric("resumed_percent", "resumed %", digits=0, compared=False),
)


def handshakes(*options: str) -> Measure:
    """Makes a work of connections that are opened, used once and closed."""

    def measure(server: Running, conditions: Conditions) -> Sample:
        pids = server.processes()
        before = process.resident_bytes(pids)
        with generator.running(
            "tls-load", server.port, "handshake", "--count", str(HANDSHAKES), *options
        ) as load:
            load.wait_until_measuring()
            with works.measured(server, conditions, [load.started.pid]) as span:
                figures = load.figures()
        resident = process.resident_bytes(pids)
        values = {
            "handshakes_per_second": figures["handshakes_per_second"],
            "cpu_us": span.server_cpu / figures["handshakes"] * 1e6,
            "p50_us": figures["p50_us"],
            "p99_us": figures["p99_us"],
            "rss_mb": resident / 1e6,
            "gained_mb": (resident - before) / 1e6,
            "resumed_percent": figures["resumed"] / figures["handshakes"] * 100,
        }
        return Sample(values | span.shares(), span.notes())

    return measure


def idle(server: Running, conditions: Conditions) -> Sample:
    """Opens connections over TLS, sends one request on each, and watches the idle server."""
    return works.watched(server, conditions, "tls-load", "--count")


POST = ("-d", str(client.BODY), "-H", "content-type: application/json")

# In the order of the tables.
ALL = (
    Work(
        "tls-hello",
        "def hello over TLS 1.3, 64 connections",
        works.HTTP_METRICS,
        works.HELLO,
        works.load("/", 64),
        servers.TLS,
    ),
    Work(
        "tls-hello-1",
        "def hello over TLS 1.3, 1 connection",
        works.HTTP_METRICS,
        works.HELLO,
        works.load("/", 1),
        servers.TLS,
    ),
    Work(
        "tls-handshake",
        f"{HANDSHAKES} full handshakes of TLS 1.3, one request each, 16 at once",
        HANDSHAKE_METRICS,
        works.HELLO,
        handshakes(),
        servers.TLS,
    ),
    Work(
        "tls-resume",
        f"{HANDSHAKES} resumed handshakes of TLS 1.3, one request each, 16 at once",
        HANDSHAKE_METRICS,
        works.HELLO,
        handshakes("--resume"),
        servers.TLS,
    ),
    Work(
        "tls-idle",
        f"{works.IDLE_SOCKETS} idle connections over TLS 1.3",
        works.IDLE_SOCKET_METRICS,
        works.HELLO,
        idle,
        servers.TLS,
    ),
    Work(
        "h2-hello",
        "def hello over HTTP/2 in the clear, 8 connections with 32 streams each",
        HTTP2_METRICS,
        works.HELLO,
        load("/", 8, 32),
        servers.HTTP2,
    ),
    Work(
        "h2-hello-1",
        "def hello over HTTP/2 in the clear, 1 connection with 1 stream",
        HTTP2_METRICS,
        works.HELLO,
        load("/", 1, 1),
        servers.HTTP2,
    ),
    Work(
        "h2-post",
        "POST 1 KB read as JSON over HTTP/2 in the clear, 8 connections with 32 streams each",
        HTTP2_METRICS,
        works.check_post_json,
        load("/json", 8, 32, *POST),
        servers.HTTP2,
    ),
    Work(
        "h2-tls-hello",
        "def hello over HTTP/2 and TLS 1.3, 8 connections with 32 streams each",
        HTTP2_METRICS,
        works.HELLO,
        load("/", 8, 32),
        servers.HTTP2_TLS,
    ),
)
