"""Millions of mixed requests, and hundreds of starts and stops: memory stays where it was and every end comes in time.

    python tests/soak.py --requests 10_000_000 --cycles 200      (also: make soak ARGS="--requests 200_000")

Part one serves, in a process of its own with the garbage collector switched off, what a real application would see at
once: plain and coroutine handlers, JSON, errors, uploads, missing routes, connections that close, clients that vanish in
the middle. wrk makes most of the load; a thread here aborts and uploads. The resident memory after a warm-up is compared
with that at the end.

Part two starts and stops: `run()` and `close()` again and again within one process, and processes that get SIGTERM, both
under load. Each end must come within the deadline and a second, with status 0 and nothing on standard error.

With --websocket, part one talks over WebSockets instead (soak_websocket.py), and there is no part two:

    python tests/soak.py --websocket --messages 50_000_000
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import soak_websocket

#: Growth of the resident memory after the warm-up that is still called flat.
ALLOWED_GROWTH = 5 << 20
#: Seconds that requests in progress have when a server has to stop.
GRACE = 1.0
#: Descriptors of a server without clients: three standard ones, the listener, wake-ups and pollers.
DESCRIPTORS = 24
#: Connections of the load generator.
CONNECTIONS = 64

#: Each thread of wrk goes round these; the weights are rough numbers of a busy service.
LUA = """
local kinds = {
  wrk.format("GET", "/"),
  wrk.format("GET", "/user/42?q=a%20b&z=1", {["Cookie"] = "session=abc; theme=dark", ["X-Forwarded-For"] = "10.0.0.1"}),
  wrk.format("GET", "/async"),
  wrk.format("GET", "/json"),
  wrk.format("POST", "/echo", {["Content-Type"] = "application/json"}, '{"numbers": [1, 2, 3], "name": "value"}'),
  wrk.format("GET", "/missing/page"),
  wrk.format("GET", "/sleep"),
  wrk.format("POST", "/pieces", nil, string.rep("x", 3000)),
  wrk.format("GET", "/written"),
  wrk.format("GET", "/constant"),
  wrk.format("GET", "/error"),
  wrk.format("GET", "/async-error"),
  wrk.format("HEAD", "/"),
  wrk.format("GET", "/yield"),
  wrk.format("GET", "/large"),
  wrk.format("POST", "/unread", nil, string.rep("y", 2000)),
  wrk.format("GET", "/close"),
}
local n = 0
request = function()
  n = n + 1
  return kinds[n % #kinds + 1]
end
"""


# ---- the server -----------------------------------------------------------------------------------------------------


def serve() -> None:
    """The process under test: prints its port, then the state of each cycle if it runs several."""
    import asyncio

    from socketify import App

    gc.disable()
    logging.disable(logging.CRITICAL)
    cycles = int(os.environ.get("SOAK_CYCLES", "1"))
    app = App(shutdown_timeout=GRACE)
    block = b"z" * 50_000

    async def echo(res, req):
        res.end(await res.get_json())

    async def asynchronous(res, req):
        res.cork_end("async")

    async def sleep(res, req):
        await asyncio.sleep(0.001)
        res.set_cookie("seen", "yes", {"path": "/", "httponly": True})
        res.send({"slept": True}, headers=(("X-Soak", "1"),))

    async def async_error(res, req):
        await asyncio.sleep(0)
        raise RuntimeError("async")

    def error(res, req):
        raise RuntimeError("sync")

    def user(res, req):
        res.write_header("X-Forwarded", req.get_header("x-forwarded-for") or "none")
        res.end({"id": req.get_parameter(0), "q": req.get_queries(), "theme": req.get_cookie("theme")})

    def pieces(res, req):
        size = 0

        def piece(res, chunk, is_end):
            nonlocal size
            size += len(chunk)
            if is_end:
                res.end(str(size))

        res.on_aborted(lambda res: None)
        res.on_data(piece)

    async def upload(res, req):
        size = 0

        async def piece(res, chunk, is_end):
            nonlocal size
            size += len(chunk)
            if is_end:
                res.end(str(size))

        res.on_data(piece)

    async def download(res, req):
        res.on_aborted(lambda res: None)
        ok, done = True, False
        while ok and not done:
            ok, done = await res.send_chunk(block, 20_000_000)

    def tried(res, req):
        body = block * 100
        res.on_writable(lambda res, offset: res.try_end(body[offset:], len(body))[0])
        res.try_end(body, len(body))

    async def never(res, req):
        # Its client goes away; there is never a response.
        gone = asyncio.get_running_loop().create_future()
        res.on_aborted(lambda res: gone.get_loop().call_soon_threadsafe(gone.set_result, None))
        # Earlier aborts are not reported.
        if not res.aborted:
            await gone

    def silent(res, req):
        res.on_aborted(lambda res: None)

    app.get("/", lambda res, req: res.end("Hello, World!"))
    app.get("/user/:id", user)
    app.get("/async", asynchronous)
    app.get("/json", lambda res, req: res.send({"numbers": list(range(20)), "text": "value"}))
    app.post("/echo", echo)
    app.get("/sleep", sleep)
    app.post("/pieces", pieces)
    app.post("/upload", upload)
    app.get("/written", lambda res, req: res.write("one ").write("two ").end("three"))
    app.constant("/constant", "constant")
    app.get("/error", error)
    app.get("/async-error", async_error)
    app.get("/yield", lambda res, req: req.set_yield(True))
    app.any("/*", lambda res, req: res.send("Not Found", status=404))
    app.get("/large", lambda res, req: res.end(block))
    app.post("/unread", lambda res, req: res.end("unread"))
    app.get("/close", lambda res, req: res.end("bye", end_connection=True))
    app.get("/download", download)
    app.get("/tried", tried)
    app.get("/never", never)
    app.get("/silent", silent)

    for _ in range(cycles):
        app.listen({"host": "127.0.0.1"}, lambda config: print(config.port, flush=True))
        if cycles > 1:
            # A line of input stops it, from another thread.
            threading.Thread(target=lambda: (sys.stdin.readline(), app.close())).start()
        app.run()
        print("stopped", flush=True)


class Server:
    """The process under test, from outside."""

    def __init__(self, cycles: int = 1, *options: str) -> None:
        environment = {**os.environ, "SOAK_CYCLES": str(cycles), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", __file__, "--serve", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.port = self.read_port()

    def read_port(self) -> int:
        line = self.line()
        if not line.isdigit():
            sys.exit(f"the server did not start: {line!r} {self.process.stderr.read()}")
        return int(line)

    def line(self) -> str:
        return self.process.stdout.readline().strip()

    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def terminate(self) -> float:
        """SIGTERM; gives the seconds until the end, having checked that it was a clean one."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.wait(begun)

    def wait(self, begun: float) -> float:
        try:
            _, errors = self.process.communicate(timeout=GRACE + 1 + 5)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            _, errors = self.process.communicate()
            sys.exit(f"the server did not stop; it was here:\n{errors}")
        took = time.monotonic() - begun
        if self.process.returncode != 0 or errors:
            sys.exit(f"the server ended with {self.process.returncode} and said:\n{errors}")
        return took


# ---- the load -------------------------------------------------------------------------------------------------------


class Nuisance:
    """Clients that vanish at every stage, and those that upload, from one thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopping = threading.Event()
        self.requests = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        rng = random.Random(1)
        acts = [self._vanish, self._vanish_early, self._upload, self._vanish_in_upload, self._garbage]
        while not self._stopping.is_set():
            try:
                rng.choice(acts)(rng)
                self.requests += 1
            except OSError:
                # The server is stopping, which is what part two is about.
                self._stopping.wait(0.01)
            # A spice, not the dish: wrk needs the processor as well.
            self._stopping.wait(0.002)

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=5)

    @staticmethod
    def _reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def _vanish(self, rng: random.Random) -> None:
        target = rng.choice(["/download", "/tried", "/large"])
        with self._connect() as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            connection.recv(rng.choice([1, 1000, 100_000]))
            self._reset(connection)

    def _vanish_early(self, rng: random.Random) -> None:
        target = rng.choice(["/never", "/silent", "/sleep", "/async", "/"])
        with self._connect() as connection:
            data = f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
            connection.sendall(data[: rng.choice([len(data), rng.randrange(len(data))])])
            if rng.random() < 0.5:
                self._reset(connection)

    def _upload(self, rng: random.Random) -> None:
        target = rng.choice(["/upload", "/pieces", "/unread", "/missing"])
        body = b"u" * rng.choice([10, 70_000, 300_000])
        with self._connect() as connection:
            connection.sendall(f"POST {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n".encode())
            if rng.random() < 0.5:
                connection.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            else:
                connection.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
                connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            while connection.recv(65_536):
                pass

    def _vanish_in_upload(self, rng: random.Random) -> None:
        target = rng.choice(["/upload", "/pieces", "/unread", "/echo"])
        with self._connect() as connection:
            connection.sendall(
                f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n".encode()
            )
            connection.sendall(b"u" * rng.choice([0, 1, 100_000]))
            if rng.random() < 0.5:
                self._reset(connection)

    def _garbage(self, rng: random.Random) -> None:
        with self._connect() as connection:
            connection.sendall(
                rng.choice([b"\0\0", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n\0"])
            )
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass


class Load:
    """wrk, which goes round the kinds of requests."""

    def __init__(self, port: int, seconds: float, connections: int = CONNECTIONS) -> None:
        self._script = tempfile.NamedTemporaryFile("w", suffix=".lua")  # noqa: SIM115 - wrk reads it later
        self._script.write(LUA)
        self._script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", self._script.name]
        self._process = subprocess.Popen(
            [*command, f"http://127.0.0.1:{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> int:
        """The number of responses."""
        output, _ = self._process.communicate()
        self._script.close()
        found = re.search(r"(\d+) requests in", output)
        if found is None:
            sys.exit(f"wrk failed: {output}")
        return int(found[1])

    def stop(self) -> None:
        self._process.kill()
        self.finish_quietly()

    def finish_quietly(self) -> None:
        self._process.communicate()
        self._script.close()


# ---- part one -------------------------------------------------------------------------------------------------------


def soak(requests: int, limit: float) -> dict[str, float]:
    """Mixed load until so many responses, or the time is over."""
    server = Server()
    return watch(
        server, lambda seconds: Load(server.port, seconds).finish(), Nuisance(server.port), requests, limit
    )


def soak_sockets(messages: int, limit: float) -> dict[str, float]:
    """Messages of every kind until so many have come back, or the time is over, beside sockets that come and go."""
    server = Server(1, "--websocket")
    talk = soak_websocket.Talk(server.port)
    return watch(server, talk.run, soak_websocket.Visitors(server.port), messages, limit, talk.close)


def watch(
    server: Server,
    load: Callable[[float], int],
    nuisance: Nuisance | soak_websocket.Visitors,
    amount: int,
    limit: float,
    leave: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Loads the server step by step, and looks at its memory in between.

    Args:
        server: The process under test.
        load: Loads it for so many seconds; returns the number of responses.
        nuisance: Clients that misbehave all the while.
        amount: The required number of responses.
        limit: Seconds after which that has failed.
        leave: Has the clients of the load go away.
    """
    begun = time.monotonic()
    done, warm, base = 0, 0, 0
    # One-time allocations (arenas, buffers, caches) are done after a twentieth of it, or a fifth of a
    # million.
    warm_up = min(amount // 4, max(200_000, amount // 20))
    step = 5.0 if amount <= 1_000_000 else 20.0
    print(
        f"{'answered':>12} {'seconds':>8} {'RSS MiB':>8} {'growth MiB':>10} {'fds':>5} {'threads':>7}",
        flush=True,
    )
    try:
        while done < amount and time.monotonic() - begun < limit:
            done += load(step if warm else min(step, 5.0))
            resident = server.memory()
            if not warm and done >= warm_up:
                warm, base = done, resident
            growth = (resident - base) / (1 << 20) if warm else 0.0
            print(
                f"{done:>12,} {time.monotonic() - begun:>8.0f} {resident / (1 << 20):>8.1f} {growth:>10.2f} "
                f"{server.descriptors():>5} {server.threads():>7}",
                flush=True,
            )
    finally:
        nuisance.stop()
    growth = server.memory() - base
    leave()
    left = settled(server)
    took = server.terminate()
    result = {
        "answered": done,
        "nuisances": nuisance.requests,
        "seconds": round(time.monotonic() - begun),
        "warm_up": warm,
        "rss_after_warm_up_mib": round(base / (1 << 20), 2),
        "growth_mib": round(growth / (1 << 20), 2),
        "descriptors_left": left,
        "stopped_after_seconds": round(took, 2),
    }
    print(json.dumps(result), flush=True)
    if done < amount:
        sys.exit(f"only {done:,} of {amount:,} were answered in {limit:.0f} s")
    if growth > ALLOWED_GROWTH:
        sys.exit(f"memory grew by {growth / (1 << 20):.1f} MiB after the warm-up")
    if left > DESCRIPTORS:
        sys.exit(f"{left} descriptors are open without a client")
    if took > GRACE + 1:
        sys.exit(f"the server took {took:.1f} s to stop")
    return result


def settled(server: Server) -> int:
    """Descriptors that are open once every client has gone, and the last half-closed connection has been given up."""
    deadline = time.monotonic() + 15
    while server.descriptors() > DESCRIPTORS and time.monotonic() < deadline:
        time.sleep(0.1)
    return server.descriptors()


# ---- part two -------------------------------------------------------------------------------------------------------


def cycle(count: int) -> dict[str, float]:
    """Half of the cycles within one process, half with SIGTERM."""
    inside, outside = count - count // 2, count // 2
    slowest = 0.0
    server = Server(cycles=inside) if inside else None
    for number in range(inside):
        if number:
            server.port = server.read_port()
        slowest = max(slowest, _under_load(server, number, last=number == inside - 1))
        print(f"\rrun() and close(): {number + 1}/{inside}, slowest {slowest:.2f} s", end="", flush=True)
    print()
    for number in range(outside):
        server = Server()
        slowest = max(slowest, _under_load(server, number, last=True, by_signal=True))
        print(f"\rSIGTERM: {number + 1}/{outside}, slowest {slowest:.2f} s", end="", flush=True)
    print()
    result = {"cycles": count, "slowest_stop_seconds": round(slowest, 2), "allowed_seconds": GRACE + 1}
    print(json.dumps(result), flush=True)
    if slowest > GRACE + 1:
        sys.exit(f"a stop took {slowest:.2f} s")
    return result


def _under_load(server: Server, number: int, *, last: bool, by_signal: bool = False) -> float:
    """Loads the server, stops it in the middle, and gives the seconds that took."""
    rng = random.Random(number)
    load = Load(server.port, 30, connections=16)
    nuisance = Nuisance(server.port)
    time.sleep(rng.uniform(0.02, 0.2))
    held = []
    if number % 4 == 0:
        # Requests that are never answered: they are cut when their time is over.
        for target in ("/never", "/silent", "/download", "/upload"):
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            method = "POST" if target == "/upload" else "GET"
            held[-1].sendall(f"{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n".encode())
    begun = time.monotonic()
    if by_signal:
        took = server.terminate()
    else:
        server.process.stdin.write("stop\n")
        server.process.stdin.flush()
        answer = server.line()
        took = time.monotonic() - begun
        if answer != "stopped":
            sys.exit(f"the server said {answer!r}: {server.process.stderr.read()}")
        if last:
            server.wait(begun)
    nuisance.stop()
    load.stop()
    for connection in held:
        connection.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--requests", type=int, default=10_000_000, help="of part one; 0 leaves it out")
    parser.add_argument("--cycles", type=int, default=200, help="of part two; 0 leaves it out")
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which part one gives up")
    parser.add_argument("--websocket", action="store_true", help="part one over WebSockets, and nothing else")
    parser.add_argument("--messages", type=int, default=20_000_000, help="of --websocket")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        soak_websocket.serve(GRACE) if arguments.websocket else serve()
        return
    if arguments.websocket:
        soak_sockets(arguments.messages, arguments.limit)
        print("soak: all of it passed")
        return
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed (Debian: apt install wrk)")
    if arguments.requests:
        soak(arguments.requests, arguments.limit)
    if arguments.cycles:
        cycle(arguments.cycles)
    print("soak: all of it passed")


if __name__ == "__main__":
    main()
