"""Threads of WSGI applications: S-WSGI-40 to S-WSGI-47, G-W-14, S-REG-18, S-REG-19, S-REG-20, S-REG-22."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from socketify import App
from support import Gate, Program, reset, until
from support.wsgi import OK, TEXT, Blocks, Environ, Site

Start = Callable[..., Site]

THREADS = [1, 3]


def names() -> list[str]:
    """Threads of applications that Python knows of."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("socketify-wsgi"))


@pytest.mark.parametrize("threads", THREADS)
def test_no_loop_is_running(site: Start, threads: int) -> None:
    """S-WSGI-40, S-REG-22: in the call, in the iteration, and in close()."""
    seen: list[str] = []

    def look() -> None:
        try:
            seen.append(repr(asyncio.get_running_loop()))
        except RuntimeError:
            seen.append("none")

    async def value() -> str:
        await asyncio.sleep(0)
        return "by asyncio.run"

    class Looking(Blocks):
        def close(self) -> None:
            look()

    def application(environ: Environ, start_response: Any) -> Any:
        look()
        start_response(OK, TEXT)
        body = asyncio.run(value()).encode()

        def blocks() -> Any:
            look()
            yield body

        return Looking(blocks())

    client = site(application, threads=threads).client()
    for _ in range(2):
        assert client.request().answer().body == b"by asyncio.run"
    until(lambda: len(seen) == 6, "all are closed")
    assert set(seen) == {"none"}


def test_native_handlers_still_have_their_loop(site: Start) -> None:
    """S-WSGI-40: on the same threads."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        return [b"wsgi"]

    started = site(application, io_threads=1)
    loops: list[Any] = []
    app: App = started.running.app
    app.get("/native", lambda res, req: (loops.append(asyncio.get_running_loop()), res.end("native")))
    for _ in range(3):
        assert started.ask("/native").body == b"native"
        assert started.ask().body == b"wsgi"
    assert loops == [app.loop.loop] * 3


@pytest.mark.parametrize("threads", THREADS)
def test_no_context_of_its_own(site: Start, threads: int) -> None:
    """S-WSGI-41: what a framework keeps for the thread is there in the next request."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    local = threading.local()

    def application(environ: Environ, start_response: Any) -> Any:
        found = (threading.get_ident(), variable.get(), getattr(local, "count", 0))
        variable.set(variable.get() + 1)
        local.count = getattr(local, "count", 0) + 1
        start_response(OK, TEXT)
        return [repr(found).encode()]

    client = site(application, threads=threads, io_threads=1).client()
    counts: Counter[int] = Counter()
    for _ in range(12):
        thread, *found = ast.literal_eval(client.request().answer().body.decode())
        assert found == [counts[thread]] * 2
        counts[thread] += 1
    assert len(counts) <= threads


class Counting:
    """An application that counts how many requests are in it."""

    def __init__(self, pause: float = 0.01) -> None:
        self.now = self.most = 0
        self.pause = pause
        self.threads: set[int] = set()
        self.lock = threading.Lock()

    def __call__(self, environ: Environ, start_response: Any) -> Any:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.get_ident())
        time.sleep(self.pause)
        start_response(OK, TEXT)
        return self.blocks()

    def blocks(self) -> Any:
        try:
            yield b"x"
            time.sleep(self.pause)
        finally:
            with self.lock:
                self.now -= 1


@pytest.mark.parametrize("threads", THREADS)
def test_at_most_so_many_at_once(site: Start, threads: int) -> None:
    """S-WSGI-42, S-REG-20, G-W-14: one by default, with any number of clients."""
    application = Counting()
    started = site(application, threads=threads)
    clients = [started.client().request() for _ in range(30)]
    for client in clients:
        assert client.answer().body == b"x"
    assert application.most == threads
    until(lambda: application.now == 0, "all have ended")


def test_one_thread_for_one_application(site: Start) -> None:
    """S-WSGI-47, S-REG-20: with one I/O thread, what is kept for each thread is kept once, however slow the requests are."""
    application = Counting()
    started = site(application, io_threads=1)
    for _ in range(3):
        clients = [started.client().request() for _ in range(8)]
        for client in clients:
            assert client.answer().body == b"x"
        time.sleep(0.02)
    assert len(application.threads) == 1


def test_as_few_threads_as_do(site: Start) -> None:
    """S-WSGI-43: one more is begun only when all are busy."""
    application = Counting(0)
    started = site(application, threads=8)
    assert names() == []
    client = started.client()
    for _ in range(20):
        assert client.request().answer().body == b"x"
    # One may still be at the end of its request when the next one comes.
    assert len(names()) <= 2


def test_idle_threads_end(site: Start) -> None:
    """S-WSGI-43: but for one."""
    gate = Gate()
    entered: list[int] = []

    def application(environ: Environ, start_response: Any) -> Any:
        entered.append(1)
        gate.pass_through()
        start_response(OK, TEXT)
        return [threading.current_thread().name.encode()]

    started = site(application, threads=4, idle=0.2)
    clients = [started.client().request() for _ in range(4)]
    until(lambda: len(entered) == 4, "all are busy")
    assert len(names()) == 4
    gate.open()
    answered = sorted(client.answer().body for client in clients)
    assert answered == [b"socketify-wsgi-%d" % number for number in (1, 2, 3, 4)]
    until(lambda: len(names()) == 1, "three have ended")
    time.sleep(0.5)
    assert len(names()) == 1
    assert started.ask().status == 200
    # Their numbers are given again.
    assert len(names()) == 1


def test_a_stream_starves_nobody(site: Start) -> None:
    """S-WSGI-43, S-REG-19: a request never waits while fewer than all threads are busy."""
    gate = threading.Event()

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        if environ["PATH_INFO"] != "/stream":
            return [b"short"]

        def blocks() -> Any:
            yield b"begun"
            assert gate.wait(20)

        return blocks()

    started = site(application, threads=2)
    stream = started.client().request("GET", "/stream")
    assert stream.until(b"begun")
    client = started.client()
    for _ in range(50):
        assert client.request().answer().body == b"short"
    gate.set()
    assert stream.until(b"0\r\n\r\n")


def test_a_request_stays_on_its_thread(site: Start) -> None:
    """S-WSGI-44: from the call to close()."""
    seen: list[set[int]] = []

    def application(environ: Environ, start_response: Any) -> Any:
        mine = {threading.get_ident()}
        seen.append(mine)
        start_response(OK, TEXT)

        class Seeing(Blocks):
            def close(self) -> None:
                mine.add(threading.get_ident())

        def blocks() -> Any:
            for _ in range(3):
                time.sleep(0.005)
                mine.add(threading.get_ident())
                yield b"x"

        return Seeing(blocks())

    started = site(application, threads=3)
    clients = [started.client().request() for _ in range(12)]
    for client in clients:
        assert client.answer().body == b"xxx"
    until(lambda: len(seen) == 12, "all have run")
    assert {len(mine) for mine in seen} == {1}


@pytest.mark.parametrize("threads", THREADS)
def test_requests_wait_in_order(site: Start, threads: int) -> None:
    """S-WSGI-45, S-REG-18: meanwhile the core answers by itself, and those who leave are dropped before they are begun."""
    gate = Gate()
    begun: list[str] = []

    def application(environ: Environ, start_response: Any) -> Any:
        begun.append(environ["PATH_INFO"])
        gate.pass_through()
        start_response(OK, TEXT)
        return [environ["PATH_INFO"].encode()]

    started = site(application, threads=threads)
    started.running.app._server.add_constant("GET", "/static", 200, [], b"static")
    busy = [started.client().request("GET", "/busy") for _ in range(threads)]
    until(lambda: len(begun) == threads, "all are busy")
    waiting = []
    for number in range(6):
        waiting.append(started.client().request("GET", f"/{number}"))
        until(
            lambda: started.running.app._server.request_count() == threads + len(waiting), "it is in progress"
        )
    reset(waiting[1])
    reset(waiting[4])
    until(lambda: started.running.app._server.request_count() == threads + 4, "two are dropped")
    for _ in range(3):
        assert started.ask("/static").body == b"static"
    gate.open()
    for client in busy:
        assert client.answer().body == b"/busy"
    for number in (0, 2, 3, 5):
        assert waiting[number].answer().body == b"/%d" % number
    later = begun[threads:]
    assert sorted(later) == ["/0", "/2", "/3", "/5"]
    if threads == 1:
        assert later == ["/0", "/2", "/3", "/5"]


def test_at_most_so_many_wait(site: Start) -> None:
    """S-WSGI-45: the others get 503."""
    gate = Gate()

    def application(environ: Environ, start_response: Any) -> Any:
        gate.pass_through()
        start_response(OK, TEXT)
        return [b"x"]

    started = site(application, threads=2, max_requests=5)
    clients = [started.client().request() for _ in range(5)]
    until(lambda: started.running.app._server.request_count() == 5, "all are there")
    assert started.ask().status == 503
    gate.open()
    assert {client.answer().status for client in clients} == {200}


@pytest.mark.parametrize("threads", THREADS)
def test_bodies_for_threads(site: Start, threads: int) -> None:
    """S-WSGI-14, S-WSGI-45: a body that is not there takes no thread."""

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        return [environ["wsgi.input"].read()]

    started = site(application, threads=threads)
    slow = [started.client().request("POST", "/", "Content-Length: 4").send(b"ab") for _ in range(5)]
    chunked = [
        started.client().request("POST", "/", "Transfer-Encoding: chunked").send(b"2\r\nab\r\n")
        for _ in range(5)
    ]
    assert started.ask(method="POST", body=b"quick").body == b"quick"
    for client in slow:
        client.send(b"cd")
    for client in chunked:
        client.send(b"2\r\ncd\r\n0\r\n\r\n")
    for client in [*slow, *chunked]:
        assert client.answer().body == b"abcd"
    large = started.client().request("POST", "/", "Content-Length: 100000").send(b"x" * 100)
    large.send(b"x" * 99_900)
    assert len(large.answer().body) == 100_000


def test_threads_as_python_sees_them(site: Start) -> None:
    """S-WSGI-46."""
    found: list[threading.Thread] = []

    def application(environ: Environ, start_response: Any) -> Any:
        found.append(threading.current_thread())
        start_response(OK, TEXT)
        return [b"x"]

    started = site(application, threads=2)
    started.ask()
    assert found[0] in threading.enumerate()
    assert (found[0].name, found[0].daemon) == ("socketify-wsgi-1", True)
    started.running.stop()
    until(lambda: not found[0].is_alive(), "it has ended")


def test_the_end_waits_for_requests(site: Start) -> None:
    """S-WSGI-46: those in progress are answered, and then their threads end."""
    gate = Gate()

    def application(environ: Environ, start_response: Any) -> Any:
        gate.pass_through()
        start_response(OK, TEXT)
        return [b"done"]

    started = site(application, threads=2)
    client = started.client().request()
    gate.arrived()
    started.running.app.close()
    gate.open()
    answer = client.answer()
    assert (answer.body, answer.header("connection")) == (b"done", "close")
    started.running.join()
    until(lambda: names() == [], "they have ended")


@pytest.mark.parametrize("threads", THREADS)
def test_a_thread_that_does_not_end_is_left_behind(threads: int) -> None:
    """S-WSGI-46: after the grace; the process ends all the same."""
    source = f"""
        from socketify.wsgi_environ import base_environ

        def application(environ, start_response):
            say("called")
            time.sleep(1000)

        app = App(shutdown_timeout=0.3)
        app._server.mount_wsgi(application, "", base_environ(), {threads})
        app.listen(0, ready)
        app.run()
    """
    with Program(source) as program:
        client = program.listening().client().request()
        assert program.word() == "called"
        began = time.monotonic()
        program.signal(15)
        code, _, err = program.finish()
        client.close()
        assert code == 0, err
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("threads", THREADS)
def test_the_interpreter_ends_while_a_thread_works(threads: int) -> None:
    """S-WSGI-46: the process is not aborted when the code comes back to an interpreter that is ending."""
    source = f"""
        from socketify.wsgi_environ import base_environ

        def application(environ, start_response):
            say("called")
            start_response("200 OK", [])
            def blocks():
                while True:
                    time.sleep(0.0001)
                    yield b"x"
            return blocks()

        app = App(shutdown_timeout=0.1)
        app._server.mount_wsgi(application, "", base_environ(), {threads})
        app.listen(0, ready)
        threading.Thread(target=app.run, daemon=True).start()
        sys.stdin.readline()
    """
    for _ in range(3):
        with Program(source.replace("sys.stdin.readline()", "time.sleep(0.8)")) as program:
            client = program.listening().client().request()
            assert program.word() == "called"
            code, _, err = program.finish()
            client.close()
            assert code == 0, (code, err)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("waits", ["read", "room", "write"])
def test_the_end_wakes_what_waits(site: Start, threads: int, waits: str) -> None:
    """S-WSGI-46, S-WSGI-26, S-WSGI-17: a read of a body that does not come, and a block for a client that does not read."""
    events: list[str] = []

    def application(environ: Environ, start_response: Any) -> Any:
        events.append("called")
        if waits == "read":
            try:
                environ["wsgi.input"].read()
            except OSError:
                events.append("ended")
                raise
        write = start_response(OK, TEXT)
        if waits == "write":
            try:
                while True:
                    write(b"x" * 65536)
            except OSError:
                events.append("ended")
                raise

        def blocks() -> Any:
            try:
                while True:
                    yield b"x" * 65536
            finally:
                events.append("ended")

        return blocks()

    started = site(application, threads=threads, shutdown_timeout=0.3)
    client = started.client(receive_buffer=4096).request("POST", "/", "Content-Length: 100000")
    until(lambda: events, "it is called")
    if waits != "read":
        client.until(b"\r\n\r\n")
    began = time.monotonic()
    started.running.stop()
    assert time.monotonic() - began < 10
    until(lambda: events == ["called", "ended"], "it ends")


def test_it_serves_again(site: Start) -> None:
    """S-WSGI-46: after the end, a server that runs again has threads again."""
    source = """
        from socketify.wsgi_environ import base_environ

        def application(environ, start_response):
            start_response("200 OK", [])
            return [threading.current_thread().name.encode()]

        app = App(lifespan=False)
        app._server.mount_wsgi(application, "", base_environ(), 2)
        for _ in range(2):
            app.listen(0, ready)
            threading.Thread(target=lambda: (sys.stdin.readline(), app.close()), daemon=True).start()
            app.run()
    """
    import subprocess

    with Program(source.replace("sys.stdin.readline(), ", "time.sleep(1), ")) as program:
        assert isinstance(program.process, subprocess.Popen)
        for _ in range(2):
            client = program.listening().client().request()
            assert client.answer().body == b"socketify-wsgi-1"
            client.close()
        code, _, err = program.finish()
        assert code == 0, err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("threads", THREADS)
def test_many_clients_that_leave(site: Start, threads: int) -> None:
    """S-REG-18, S-REG-21: nothing of them is left."""
    made: list[Blocks] = []

    def application(environ: Environ, start_response: Any) -> Any:
        start_response(OK, TEXT)
        made.append(Blocks(iter([b"x"] * 3)))
        return made[-1]

    started = site(application, threads=threads)
    for number in range(300):
        client = started.client().request()
        if number % 3:
            reset(client)
        else:
            assert client.answer().body == b"xxx"
            client.close()
    until(lambda: started.running.app._server.request_count() == 0, "nothing is in progress")
    until(lambda: all(blocks.closed == 1 for blocks in made), "all are closed")
    assert len(names()) <= threads
