"""The works of the comparison: their requests, their checks, and their figures."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import generator
import process
import servers
from servers import Running

import client
import ws_client

WRK_SCRIPTS = Path(__file__).parent / "wrk"
IDLE_CONNECTIONS = 1000
IDLE_SOCKETS = 10_000
MANY_TOPICS = 100_000
# The number of topics to subscribe to, and to publish to, with one message to the server.
SUBSCRIBED_AT_ONCE = 10_000
PUBLISHED_AT_ONCE = 500
# Above this, other processes on these cores have influenced the figures.
DISTURBED = 0.10


@dataclass(frozen=True)
class Metric:
    """One figure of a work."""

    key: str
    title: str
    digits: int = 1
    more_is_better: bool = False
    # Whether a ratio of it has a meaning.
    compared: bool = True


@dataclass
class Sample:
    """The figures of one run."""

    values: dict[str, float]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Conditions:
    """The conditions of every run."""

    seconds: int
    warm_up_seconds: int
    idle_seconds: float
    server_cores: frozenset[int]
    client_cores: frozenset[int]


Check = Callable[[client.Client], None]
Measure = Callable[[Running, Conditions], Sample]


@dataclass(frozen=True)
class Work:
    """A task for every server."""

    name: str
    title: str
    metrics: tuple[Metric, ...]
    check: Check
    measure: Measure
    needs: str = servers.HTTP

    @property
    def transport(self) -> client.Transport:
        """The protocol."""
        return servers.TRANSPORTS.get(self.needs, client.PLAIN)

    @property
    def floors(self) -> tuple[str, ...]:
        """The first reference of its figures."""
        if self.needs == servers.FILES:
            return (servers.NGINX,)
        if self.needs == servers.HTTP or self.needs in servers.TRANSPORTS:
            return (servers.FLOOR,)
        return (servers.EPOLL_FLOOR, servers.TOKIO_FLOOR)


def client_cpu() -> float:
    """CPU time of this process and of its finished load generators."""
    spent = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        spent += usage.ru_utime + usage.ru_stime
    return spent


@dataclass
class Span:
    """The CPU time during a measurement."""

    seconds: float = 0.0
    server_cpu: float = 0.0
    client_cpu: float = 0.0
    others_cpu: float = 0.0

    def shares(self) -> dict[str, float]:
        """The share of a core that each side used."""
        return {
            "server_share": self.server_cpu / self.seconds,
            "client_share": self.client_cpu / self.seconds,
            "others_share": self.others_cpu / self.seconds,
        }

    def notes(self) -> list[str]:
        """Reports other busy processes."""
        share = self.others_cpu / self.seconds
        return [f"disturbed: others took {share:.0%} of a core"] if share > DISTURBED else []


@contextlib.contextmanager
def measured(server: Running, conditions: Conditions, generators: Sequence[int] = ()) -> Iterator[Span]:
    """Measures the CPU time of each side inside the block. Generators are those that run before and after
    it."""
    span = Span()
    pids = server.processes()
    cores = conditions.server_cores | conditions.client_cores

    def client_side() -> float:
        return client_cpu() + process.cpu_seconds(generators)

    busy, ours, theirs = process.busy_seconds(cores), client_side(), process.cpu_seconds(pids)
    begin = time.perf_counter()
    yield span
    span.seconds = time.perf_counter() - begin
    span.server_cpu = process.cpu_seconds(pids) - theirs
    span.client_cpu = client_side() - ours
    span.others_cpu = max(0.0, process.busy_seconds(cores) - busy - span.server_cpu - span.client_cpu)


def wrk(server: Running, path: str, connections: int, seconds: int, script: str) -> dict[str, int]:
    """Runs the load generator once."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    url = f"{server.transport.scheme}://{client.HOST}:{server.port}{path}"
    settings = {"BENCH_BODY": str(client.BODY), "BENCH_DONE": str(WRK_SCRIPTS / "done.lua")}
    done = subprocess.run(
        [*command, "-s", str(WRK_SCRIPTS / script), url],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines or not lines[-1].startswith("{"):
        raise client.WrongAnswer(f"wrk ended with code {done.returncode}: {done.stderr.strip()}")
    figures: dict[str, int] = json.loads(lines[-1])
    return figures


HTTP_METRICS = (
    Metric("requests_per_second", "requests/s", digits=0, more_is_better=True),
    Metric("cpu_us", "CPU µs/request", digits=2),
    Metric("p50_us", "p50 µs", digits=0),
    Metric("p99_us", "p99 µs", digits=0),
    Metric("rss_mb", "RSS MB"),
)


def load(path: str, connections: int, script: str = "done.lua") -> Measure:
    """Makes a work of wrk: one thread, this many keep-alive connections."""

    def measure(server: Running, conditions: Conditions) -> Sample:
        wrk(server, path, connections, conditions.warm_up_seconds, script)
        with measured(server, conditions) as span:
            figures = wrk(server, path, connections, conditions.seconds, script)
        requests = figures["requests"]
        if figures["wrong"]:
            raise client.WrongAnswer(f"{figures['wrong']} of {requests} answers had a status above 399")
        if not requests:
            raise client.WrongAnswer("no request was answered")
        notes = span.notes()
        broken = {name: figures[name] for name in ("refused", "unread", "unwritten", "late") if figures[name]}
        if broken:
            notes.append("errors: " + ", ".join(f"{count} {name}" for name, count in broken.items()))
        values = {
            "requests_per_second": requests / figures["duration"] * 1e6,
            "cpu_us": span.server_cpu / requests * 1e6,
            "p50_us": figures["p50"],
            "p99_us": figures["p99"],
            "rss_mb": process.resident_bytes(server.processes()) / 1e6,
        }
        return Sample(values | span.shares(), notes)

    return measure


TRANSFER_METRICS = (
    Metric("mb_per_second", "MB/s", digits=0, more_is_better=True),
    Metric("cpu_ms", "CPU ms/transfer", digits=2),
    Metric("rss_mb", "RSS MB"),
)


def transfers(size: int, transfer: Callable[[client.Client], None]) -> Measure:
    """Makes a work of large bodies: one connection, one after the other, during a run."""

    def measure(server: Running, conditions: Conditions) -> Sample:
        seconds: list[float] = []
        with contextlib.closing(client.Client(server.port)) as connection:
            transfer(connection)
            with measured(server, conditions) as span:
                end = time.perf_counter() + conditions.seconds
                while (begin := time.perf_counter()) < end:
                    transfer(connection)
                    seconds.append(time.perf_counter() - begin)
        values = {
            "mb_per_second": size / statistics.median(seconds) / 1e6,
            "cpu_ms": span.server_cpu / len(seconds) * 1e3,
            "rss_mb": process.resident_bytes(server.processes()) / 1e6,
            "transfers": float(len(seconds)),
        }
        return Sample(values | span.shares(), span.notes())

    return measure


STARTUP_METRICS = (
    Metric("startup_ms", "ms to first answer"),
    Metric("startup_cpu_ms", "CPU ms"),
    Metric("rss_mb", "RSS MB"),
)


def startup(server: Running, conditions: Conditions) -> Sample:
    """Measures the start that has just happened."""
    pids = server.processes()
    return Sample(
        {
            "startup_ms": server.seconds_to_answer * 1e3,
            "startup_cpu_ms": process.cpu_seconds(pids) * 1e3,
            "rss_mb": process.resident_bytes(pids) / 1e6,
        }
    )


IDLE_METRICS = (
    Metric("idle_cpu_percent", "CPU % of a core", digits=3, compared=False),
    Metric("wake_ups_per_second", "wake-ups/s", compared=False),
    Metric("kb_per_connection", "RSS KB/connection", digits=2),
    Metric("rss_mb", "RSS MB"),
    Metric("still_open", "still open", digits=0, compared=False),
)


def idle(server: Running, conditions: Conditions) -> Sample:
    """Opens connections, sends one request on each, and watches the idle server."""
    pids = server.processes()
    before = process.resident_bytes(pids)
    connections = client.open_idle(server.port, IDLE_CONNECTIONS)
    try:
        time.sleep(1)
        woken = process.wake_ups(pids)
        with measured(server, conditions) as span:
            time.sleep(conditions.idle_seconds)
        woken = process.wake_ups(pids) - woken
        resident = process.resident_bytes(pids)
        values = {
            "idle_cpu_percent": span.server_cpu / span.seconds * 100,
            "wake_ups_per_second": woken / span.seconds,
            "kb_per_connection": (resident - before) / IDLE_CONNECTIONS / 1e3,
            "rss_mb": resident / 1e6,
            "still_open": float(client.still_open(connections)),
        }
    finally:
        client.close_all(connections)
    return Sample(values, span.notes())


def ws_metrics(many: str, one: str) -> tuple[Metric, ...]:
    """The figures of a work that counts this unit."""
    return (
        Metric("messages_per_second", f"{many}/s", digits=0, more_is_better=True),
        Metric("cpu_us", f"CPU µs/{one}", digits=2),
        Metric("p50_us", "p50 µs", digits=0),
        Metric("p99_us", "p99 µs", digits=0),
        Metric("rss_mb", "RSS MB"),
    )


ECHO_METRICS = ws_metrics("messages", "message")
FAN_OUT_METRICS = ws_metrics("deliveries", "delivery")
CHURN_METRICS = ws_metrics("cycles", "cycle")


def ws_load(mode: str, connections: int, *options: str) -> Measure:
    """Makes a work of the WebSocket generator."""

    def measure(server: Running, conditions: Conditions) -> Sample:
        length = ("--seconds", str(conditions.seconds), "--warm-up", str(conditions.warm_up_seconds))
        check_file_limit(connections)
        with generator.running(
            "ws-load", server.port, mode, "--connections", str(connections), *length, *options
        ) as load:
            load.wait_until_measuring()
            with measured(server, conditions, [load.started.pid]) as span:
                figures = load.figures()
            resident = process.resident_bytes(server.processes())
        messages = figures["messages"]
        if not messages:
            raise client.WrongAnswer("nothing has come back")
        notes = span.notes()
        if figures.get("left_open"):
            notes.append(f"errors: {figures['left_open']:.0f} not closed after the close handshake")
        values = {
            "messages_per_second": figures["messages_per_second"],
            "cpu_us": span.server_cpu / messages * 1e6,
            "p50_us": figures["p50_us"],
            "p99_us": figures["p99_us"],
            "rss_mb": resident / 1e6,
        }
        return Sample(values | span.shares(), notes)

    return measure


def check_file_limit(connections: int) -> None:
    """Raises an error at once if the process cannot open so many connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < connections + 100:
        raise client.WrongAnswer(f"{connections} connections need more than the {most} open files allowed")


IDLE_SOCKET_METRICS = (
    Metric("bytes_per_socket", "RSS bytes/socket", digits=0),
    Metric("wake_ups_per_second", "wake-ups/s", compared=False),
    Metric("idle_cpu_percent", "CPU % of a core", digits=3, compared=False),
    Metric("rss_mb", "RSS MB"),
    Metric("still_open", "still open", digits=0, compared=False),
)


def idle_sockets(server: Running, conditions: Conditions) -> Sample:
    """Opens WebSockets, has one message echoed on each, and watches the idle server."""
    return watched(server, conditions, "ws-load", "--connections")


def watched(server: Running, conditions: Conditions, program: str, number: str) -> Sample:
    """Lets a generator open idle sockets, with their number in the option `number`, and watches the
    server."""
    check_file_limit(IDLE_SOCKETS)
    pids = server.processes()
    before = process.resident_bytes(pids)
    with generator.running(program, server.port, "idle", number, str(IDLE_SOCKETS)) as load:
        load.wait_until_measuring()
        time.sleep(1)
        woken = process.wake_ups(pids)
        with measured(server, conditions, [load.started.pid]) as span:
            time.sleep(conditions.idle_seconds)
        woken = process.wake_ups(pids) - woken
        resident = process.resident_bytes(pids)
        load.let_go()
        figures = load.figures()
    values = {
        "bytes_per_socket": (resident - before) / IDLE_SOCKETS,
        "wake_ups_per_second": woken / span.seconds,
        "idle_cpu_percent": span.server_cpu / span.seconds * 100,
        "rss_mb": resident / 1e6,
        "still_open": figures["open"],
        "seconds_to_open": figures["seconds_to_open"],
    }
    return Sample(values, span.notes())


TOPICS_METRICS = (
    Metric("subscribe_us", "CPU µs/subscribe", digits=2),
    Metric("publish_us", "CPU µs/publish", digits=2),
    Metric("bytes_per_topic", "RSS bytes/topic", digits=0),
    Metric("rss_mb", "RSS MB"),
)


def many_topics(server: Running, conditions: Conditions) -> Sample:
    """Subscribes one socket to many topics, then publishes to each of them."""
    pids = server.processes()
    before = process.resident_bytes(pids)
    with contextlib.closing(ws_client.WebSocket(server.port, "/topics")) as ws:
        with measured(server, conditions) as subscribing:
            for first in range(0, MANY_TOPICS, SUBSCRIBED_AT_ONCE):
                ws_client.command(ws, "subscribe", first, first + SUBSCRIBED_AT_ONCE)
        resident = process.resident_bytes(pids)
        with measured(server, conditions) as publishing:
            for first in range(0, MANY_TOPICS, PUBLISHED_AT_ONCE):
                ws_client.receive_published(ws, first, first + PUBLISHED_AT_ONCE, PUBLISHED_AT_ONCE)
    values = {
        "subscribe_us": subscribing.server_cpu / MANY_TOPICS * 1e6,
        "publish_us": publishing.server_cpu / MANY_TOPICS * 1e6,
        "bytes_per_topic": (resident - before) / MANY_TOPICS,
        "rss_mb": resident / 1e6,
    }
    return Sample(values, publishing.notes())


def on_port(check: Callable[[int, str], None], path: str) -> Check:
    """Makes a check from one that opens its own connections."""
    return lambda connection: check(connection.port, path)


def says_hello(path: str) -> Check:
    """Makes a check for a route that sends the greeting."""
    return lambda connection: connection.get(path).expect(client.HELLO)


def check_param(connection: client.Client) -> None:
    """The parameter comes back, and is read anew for each request."""
    for user in (b"12345", b"7"):
        connection.get(f"/user/{user.decode()}").expect(user)


def check_json(connection: client.Client) -> None:
    """The object comes as JSON."""
    connection.get("/json").expect_json({"message": "Hello, World!"})


def check_post_json(connection: client.Client) -> None:
    """The body was parsed."""
    body = client.BODY.read_bytes()
    sent = json.loads(body)
    due = {"id": sent["id"], "items": len(sent["items"])}
    connection.post("/json", body, "application/json").expect_json(due)


UPLOAD = bytes(client.UPLOAD_BYTES)


def upload(connection: client.Client) -> None:
    """Sends 10 MiB."""
    connection.upload(UPLOAD)


def download(connection: client.Client) -> None:
    """Receives 100 MiB."""
    connection.download()


def check_download(connection: client.Client) -> None:
    """Receives 100 MiB and compares every byte."""
    connection.download(compare=True)


HELLO = says_hello("/")

# In the order of the tables.
HTTP_WORKS = (
    Work("hello", "def hello, 64 connections", HTTP_METRICS, HELLO, load("/", 64)),
    Work("hello-1", "def hello, 1 connection", HTTP_METRICS, HELLO, load("/", 1)),
    Work("hello-512", "def hello, 512 connections", HTTP_METRICS, HELLO, load("/", 512)),
    Work("param", "def parameter route, 64 connections", HTTP_METRICS, check_param, load("/user/12345", 64)),
    Work("json", "def JSON answer, 64 connections", HTTP_METRICS, check_json, load("/json", 64)),
    Work("async", "async def hello, 64 connections", HTTP_METRICS, says_hello("/async"), load("/async", 64)),
    Work(
        "sleep0",
        "async def hello after one turn of the loop, 64 connections",
        HTTP_METRICS,
        says_hello("/sleep0"),
        load("/sleep0", 64),
    ),
    Work(
        "post-json",
        "POST 1 KB read as JSON, 64 connections",
        HTTP_METRICS,
        check_post_json,
        load("/json", 64, "post.lua"),
    ),
    Work("upload", "upload of 10 MiB", TRANSFER_METRICS, upload, transfers(client.UPLOAD_BYTES, upload)),
    Work(
        "download",
        "streamed download of 100 MiB",
        TRANSFER_METRICS,
        check_download,
        transfers(client.DOWNLOAD_BYTES, download),
    ),
    Work("startup", "start-up to first answer", STARTUP_METRICS, HELLO, startup),
    Work("idle", f"{IDLE_CONNECTIONS} idle connections", IDLE_METRICS, HELLO, idle),
)


def gives_file(size: int) -> Check:
    """Makes a check of a file, byte for byte."""

    def check(connection: client.Client) -> None:
        content = servers.static_file(size).read_bytes()
        connection.get(f"/files/{size}.bin").expect(content)

    return check


FILE_WORKS = tuple(
    Work(
        f"static-{title}",
        f"static file of {title}, 64 connections",
        HTTP_METRICS,
        gives_file(size),
        load(f"/files/{size}.bin", 64),
        servers.FILES,
    )
    for title, size in (("4KiB", 4 * 1024), ("1MiB", 1024 * 1024))
)

ECHO = on_port(ws_client.check_echo, "/echo")
TOPIC = on_port(ws_client.check_topic, "/topic")

WEBSOCKET_WORKS = (
    Work(
        "ws-echo-32-1",
        "WebSocket echo of 32 bytes, 64 sockets, 1 in flight",
        ECHO_METRICS,
        ECHO,
        ws_load("echo", 64),
        servers.WEBSOCKET,
    ),
    Work(
        "ws-echo-32-16",
        "WebSocket echo of 32 bytes, 64 sockets, 16 in flight",
        ECHO_METRICS,
        ECHO,
        ws_load("echo", 64, "--in-flight", "16"),
        servers.WEBSOCKET,
    ),
    Work(
        "ws-echo-64k",
        "WebSocket echo of 64 KiB, 8 sockets, 1 in flight",
        ECHO_METRICS,
        ECHO,
        ws_load("echo", 8, "--size", "65536"),
        servers.WEBSOCKET,
    ),
    Work(
        "ws-deflate",
        "WebSocket echo of 1 KB of JSON with permessage-deflate, 64 sockets, 1 in flight",
        ECHO_METRICS,
        on_port(ws_client.check_deflate, "/deflate"),
        ws_load("echo", 64, "--deflate"),
        servers.DEFLATE,
    ),
    Work(
        "ws-async",
        "async def WebSocket echo of 32 bytes, 64 sockets, 1 in flight",
        ECHO_METRICS,
        on_port(ws_client.check_echo, "/async"),
        ws_load("echo", 64, "--path", "/async"),
        servers.ASYNC,
    ),
    Work(
        "ws-publish-500",
        "publish of 128 bytes to 500 sockets, 4 in flight",
        FAN_OUT_METRICS,
        TOPIC,
        ws_load("fanout", 500, "--in-flight", "4"),
        servers.WEBSOCKET,
    ),
    Work(
        "ws-publish-1000",
        "publish of 128 bytes to 1000 sockets, 1 in flight",
        FAN_OUT_METRICS,
        TOPIC,
        ws_load("fanout", 1000),
        servers.WEBSOCKET,
    ),
    Work(
        "ws-publish-10000",
        "publish of 128 bytes to 10 000 sockets, 1 in flight",
        FAN_OUT_METRICS,
        TOPIC,
        ws_load("fanout", 10_000),
        servers.WEBSOCKET,
    ),
    Work(
        "ws-topics",
        f"{MANY_TOPICS} topics with one subscriber each",
        TOPICS_METRICS,
        on_port(ws_client.check_topics, "/topics"),
        many_topics,
        servers.TOPICS,
    ),
    Work(
        "ws-churn",
        "connect, upgrade, one message, close; 16 sockets at once",
        CHURN_METRICS,
        ECHO,
        ws_load("churn", 16),
        servers.WEBSOCKET,
    ),
    Work(
        "ws-idle",
        f"{IDLE_SOCKETS} idle WebSockets",
        IDLE_SOCKET_METRICS,
        ECHO,
        idle_sockets,
        servers.WEBSOCKET,
    ),
)

ALL = (*HTTP_WORKS, *FILE_WORKS, *WEBSOCKET_WORKS)
