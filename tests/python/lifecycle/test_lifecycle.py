"""From ``listen`` to the end of the process: D, D.2, D.3, A-APP-07/08/27..31, DEC-5, DEC-6, I-S-52..54."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from socketify import App, AppListenOptions
from support import Gate, Program, until
from support.client import Client

Serve = Callable[..., Any]


def hello(res: Any, req: Any) -> None:
    res.end("hello")


def refused(port: int) -> bool:
    """Whether a port of 127.0.0.1 has no listener."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def app() -> Any:
    """An application that is never run."""
    application = App()
    yield application
    application.dispose()


def taken(host: str = "127.0.0.1") -> tuple[socket.socket, int]:
    """A port in use."""
    other = socket.socket()
    other.bind((host, 0))
    other.listen()
    return other, other.getsockname()[1]


# ---- listen ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), (None,), (0,)])
def test_a_random_port_on_all_interfaces(app: App, arguments: tuple[Any, ...]) -> None:
    """D-L-01, D-L-03, D-L-12."""
    seen: list[AppListenOptions] = []
    if arguments:
        assert app.listen(*arguments, seen.append) is app
    else:
        assert app.listen(handler=seen.append) is app
    (config,) = seen
    assert config == AppListenOptions(port=config.port)
    assert config.port > 0
    assert not refused(config.port)


def test_all_interfaces_means_ipv6_too(serve: Serve) -> None:
    """D-L-02: one dual-stack socket, where the system has IPv6."""
    running = serve(lambda app: app.get("/", hello), listen=0)
    with running.client() as client:
        assert client.get("/").body == b"hello"
    try:
        probe = socket.create_connection(("::1", running.port), 5)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with probe:
        probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert probe.recv(100).startswith(b"HTTP/1.1 200")


def test_a_port_number(app: App) -> None:
    """D-L-02."""
    other, port = taken()
    other.close()
    seen: list[AppListenOptions] = []
    app.listen(port, seen.append)
    assert seen == [AppListenOptions(port=port)]


def test_a_dict(app: App) -> None:
    """D-L-04."""
    seen: list[AppListenOptions] = []
    app.listen({"host": "127.0.0.1", "port": 0, "options": 1}, seen.append)
    assert seen == [AppListenOptions(port=seen[0].port, host="127.0.0.1", options=1)]
    assert seen[0].port > 0


def test_the_defaults_of_a_dict(app: App) -> None:
    """D-L-04: port 0, host 0.0.0.0, options 0."""
    seen: list[AppListenOptions] = []
    app.listen({}, seen.append)
    assert seen == [AppListenOptions(port=seen[0].port, host="0.0.0.0", options=0)]


@pytest.mark.parametrize("given", [{"prot": 3000}, {"port": "3000"}, {"host": 1}, "3000", 3.5, object()])
def test_what_cannot_be_listened_on(app: App, given: Any) -> None:
    with pytest.raises(RuntimeError):
        app.listen(given)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_named(app: App, port: int) -> None:
    with pytest.raises(RuntimeError, match=f"port {port}"):
        app.listen(port)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", None])
def test_listen_options(app: App, host: str | None) -> None:
    """D-L-05."""
    seen: list[AppListenOptions] = []
    app.listen(AppListenOptions(host=host), seen.append)
    assert seen == [AppListenOptions(port=seen[0].port, host=host)]
    assert not refused(seen[0].port)


def test_anything_with_the_attributes(app: App) -> None:
    """D-L-13."""
    seen: list[AppListenOptions] = []
    app.listen(SimpleNamespace(port=0, host="127.0.0.1", options=0, domain=None), seen.append)
    assert seen == [AppListenOptions(port=seen[0].port, host="127.0.0.1")]


def test_the_callers_options_stay_as_they_are(app: App) -> None:
    """The callback gets the real port: the object of the caller may serve a second application."""
    options = AppListenOptions(port=0, host="127.0.0.1")
    app.listen(options)
    assert options == AppListenOptions(port=0, host="127.0.0.1")


@pytest.mark.parametrize("form", ["int", "dict", "options"])
def test_a_port_in_use(app: App, form: str) -> None:
    """DEC-6, D-L-08: host, port and reason are named, and the callback is not called."""
    other, port = taken("0.0.0.0" if form == "int" else "127.0.0.1")
    given: Any = {
        "int": port,
        "dict": {"port": port, "host": "127.0.0.1"},
        "options": AppListenOptions(port=port, host="127.0.0.1"),
    }[form]
    seen: list[Any] = []
    with other, pytest.raises(RuntimeError, match=f"Failed to listen on port {port}") as caught:
        app.listen(given, seen.append)
    assert ("any" if form == "int" else "127.0.0.1") in str(caught.value)
    assert "in use" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    assert seen == []


def test_a_host_that_is_not_there(app: App) -> None:
    with pytest.raises(RuntimeError, match=r"nowhere\.invalid"):
        app.listen(AppListenOptions(host="nowhere.invalid"))


def test_two_applications_share_a_port(app: App) -> None:
    """D-L-09: by default as several processes do."""
    other = App()
    try:
        seen: list[AppListenOptions] = []
        probe, port = taken()
        probe.close()
        app.listen(port, seen.append)
        other.listen(port, seen.append)
        assert [config.port for config in seen] == [port, port]
    finally:
        other.dispose()


@pytest.mark.parametrize(("first", "second"), [(1, 0), (0, 1), (1, 1)])
def test_an_exclusive_port_is_not_shared(app: App, first: int, second: int) -> None:
    """D-L-09."""
    other = App()
    try:
        probe, port = taken()
        probe.close()
        app.listen({"port": port, "options": first})
        with pytest.raises(RuntimeError, match="in use"):
            other.listen({"port": port, "options": second})
    finally:
        other.dispose()


def test_a_failed_listen_leaves_the_application_usable(serve: Serve) -> None:
    other, port = taken()

    def configure(app: App) -> None:
        app.get("/", hello)
        with pytest.raises(RuntimeError):
            app.listen({"port": port, "host": "127.0.0.1"})

    with other, serve(configure).client() as client:
        assert client.get("/").body == b"hello"


def test_several_listens_are_all_served(serve: Serve) -> None:
    """D-L-11, also without a callback (D-L-07), and all are closed."""
    ports: list[int] = []

    def configure(app: App) -> None:
        app.get("/", hello)
        app.listen({"host": "127.0.0.1"}, lambda config: ports.append(config.port))
        other, port = taken()
        other.close()
        app.listen({"host": "127.0.0.1", "port": port})
        ports.append(port)

    running = serve(configure)
    ports.append(running.port)
    assert len(set(ports)) == 3
    for port in ports:
        with Client(port) as client:
            assert client.get("/").body == b"hello"
    running.stop()
    assert all(refused(port) for port in ports)


def test_listen_while_it_runs(serve: Serve) -> None:
    running = serve(lambda app: app.get("/", hello))
    seen: list[AppListenOptions] = []
    running.app.listen({"host": "127.0.0.1"}, seen.append)
    with Client(seen[0].port) as client:
        assert client.get("/").body == b"hello"


def test_listen_from_a_handler(serve: Serve) -> None:
    def configure(app: App) -> None:
        def more(res: Any, req: Any) -> None:
            app.listen({"host": "127.0.0.1"}, lambda config: res.end(str(config.port)))

        app.get("/", more)

    with serve(configure).client() as client, Client(int(client.get("/").body)) as second:
        assert second.get("/").status == 200


def test_an_error_of_the_callback_reaches_the_caller(app: App) -> None:
    def fail(config: AppListenOptions) -> None:
        raise LookupError("callback")

    with pytest.raises(LookupError, match="callback"):
        app.listen(0, fail)


def test_a_head_that_has_left_keeps_its_connection(serve: Serve) -> None:
    """A response that has begun before the end cannot say that its connection closes: a request behind it is answered."""
    gate = Gate()

    async def slow(res: Any, req: Any) -> None:
        await res.send_chunk(b"first ", 12)
        await asyncio.get_running_loop().run_in_executor(None, gate.pass_through)
        await res.send_chunk(b"second", 12)

    running = serve(lambda app: (app.get("/slow", slow), app.get("/", hello)))
    with running.client() as client:
        assert b"connection" not in client.request("GET", "/slow").until(b"first ").lower()
        gate.arrived()
        running.app.close()
        until(lambda: refused(running.port), "the end of listening")
        gate.open()
        assert client.exactly(6) == b"second"
        answer = client.get("/")
        assert (answer.body, answer.header("connection")) == (b"hello", "close")
        assert client.is_closed()


# ---- Unix sockets ---------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Any:
    # A Unix socket's path has 107 bytes, which pytest's own directories may use up.
    name = f"/tmp/socketify-{os.getpid()}-{time.monotonic_ns()}.sock"
    yield name
    Path(name).unlink(missing_ok=True)


@pytest.mark.parametrize("form", ["options", "dict", "duck"])
def test_a_unix_socket(serve: Serve, path: str, form: str) -> None:
    """D-L-06."""
    seen: list[AppListenOptions] = []
    given: Any = {
        "options": AppListenOptions(domain=path),
        "dict": {"domain": path},
        "duck": SimpleNamespace(port=0, host=None, options=0, domain=path),
    }[form]

    def configure(app: App) -> None:
        app.get(
            "/", lambda res, req: res.end(repr((res.get_remote_address(), res.get_remote_address_bytes())))
        )
        app.listen(given, seen.append)

    serve(configure)
    assert seen == [AppListenOptions(domain=path)]
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    with Client(path=path) as client:
        assert client.get("/").body == b"(None, b'')"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_a_socket_that_listens_already(serve: Serve, path: str, family: socket.AddressFamily) -> None:
    """One that a process manager has opened: used unchanged, and still the caller's after the end."""
    seen: list[AppListenOptions] = []
    with socket.socket(family) as inherited:
        inherited.bind({socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}.get(family, path))
        inherited.listen()
        if family == socket.AF_UNIX:
            expected = AppListenOptions(domain=path)
        else:
            expected = AppListenOptions(host=inherited.getsockname()[0], port=inherited.getsockname()[1])

        def visit() -> bytes:
            with socket.socket(family) as visitor:
                visitor.settimeout(20)
                visitor.connect(inherited.getsockname())
                visitor.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                return visitor.makefile("rb").read().rpartition(b"\r\n\r\n")[2]

        for _ in range(2):
            running = serve(lambda app: (app.get("/", hello), app.listen(inherited, seen.append)))
            assert visit() == b"hello"
            running.stop()
            assert inherited.fileno() >= 0
    assert seen == [expected] * 2


def test_a_socket_that_is_passed_while_it_runs(serve: Serve) -> None:
    running = serve(lambda app: app.get("/", hello))
    with socket.socket() as inherited:
        inherited.bind(("127.0.0.1", 0))
        inherited.listen()
        running.app.listen(inherited)
        with Client(inherited.getsockname()[1]) as client:
            assert client.get("/").body == b"hello"


@pytest.mark.parametrize("kind", ["closed", "not listening", "datagrams", "a pair"])
@pytest.mark.alone
def test_a_socket_that_cannot_be_listened_on(app: App, kind: str) -> None:
    """It is an error at once, and leaves no descriptor behind."""
    given = socket.socket(type=socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM)
    if kind == "a pair":
        given.close()
        given, other = socket.socketpair()
        other.close()
    elif kind == "closed":
        given.close()
    else:
        given.bind(("127.0.0.1", 0))
    before = set(os.listdir("/proc/self/fd"))
    with given, pytest.raises(RuntimeError, match=r"^Failed to listen on "):
        app.listen(given)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_stale_unix_socket_is_replaced(serve: Serve, path: str) -> None:
    """D-L-06: the file of a server that is gone."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(path)
        gone.listen()
    assert os.path.exists(path)
    serve(lambda app: app.get("/", hello), listen={"domain": path})
    with Client(path=path) as client:
        assert client.get("/").body == b"hello"


def test_a_live_unix_socket_is_refused(app: App, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(path)
        live.listen()
        with pytest.raises(RuntimeError, match=f"Failed to listen on domain {path}: .") as caught:
            app.listen({"domain": path})
        assert "listening" in str(caught.value)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_live_unix_socket_with_a_full_backlog_is_refused(app: App, path: str) -> None:
    """A busy server is a live one: its socket must not be taken from it, and asking must not block."""
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(path)
        live.listen(0)
        waiting = []
        try:
            while True:
                client = socket.socket(socket.AF_UNIX)
                waiting.append(client)
                client.setblocking(False)
                client.connect(path)
        except BlockingIOError:
            pass
        with pytest.raises(RuntimeError, match="Failed to listen on domain"):
            app.listen({"domain": path})
        for client in waiting:
            client.close()


def test_a_file_that_is_no_socket_is_left_alone(app: App, path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(RuntimeError, match=f"domain {path}"):
        app.listen({"domain": path})
    assert Path(path).read_text() == "precious"


def test_a_unix_socket_where_no_directory_is(app: App) -> None:
    with pytest.raises(RuntimeError, match=r"domain /nowhere/at/all: .*[Nn]o such file"):
        app.listen({"domain": "/nowhere/at/all"})


# ---- run and close --------------------------------------------------------------------------------------------------


def run_in_thread(app: App) -> tuple[threading.Thread, list[Any]]:
    """Runs an application on another thread; gives what ``run`` returned or raised."""
    ended: list[Any] = []

    def body() -> None:
        try:
            ended.append(app.run())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, ended


def test_run_returns_the_application_after_close(app: App) -> None:
    """D-R-01, on a thread that is not the main one (A-APP-28)."""
    ports: list[int] = []
    app.get("/", hello).listen({"host": "127.0.0.1"}, lambda config: ports.append(config.port))
    thread, ended = run_in_thread(app)
    with Client(ports[0]) as client:
        assert client.get("/").body == b"hello"
    assert app.close() is app
    thread.join(20)
    assert ended == [app]


@pytest.mark.parametrize("kind", ["def", "async def", "loop", "before the answer"])
def test_close_from_a_handler_flushes_the_answer(serve: Serve, kind: str) -> None:
    """D-R-02."""

    def configure(app: App) -> None:
        def stop(res: Any, req: Any) -> None:
            if kind == "before the answer":
                app.close()
            res.end("the last " + "x" * 3_000_000)
            app.close()

        async def stop_later(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            stop(res, req)

        app.get("/", stop_later if kind == "async def" else stop)

    running = serve(configure, sync_handlers="loop" if kind == "loop" else "io")
    with running.client() as client:
        answer = client.get("/")
        assert answer.body == b"the last " + b"x" * 3_000_000
        if kind == "before the answer":
            assert answer.header("connection") == "close"
        assert client.is_closed()
    running.join()
    assert refused(running.port)


def test_close_answers_a_request_whose_head_is_arriving(serve: Serve) -> None:
    running = serve(lambda app: app.get("/", hello))
    with running.client() as client, running.client() as idle:
        client.get("/")
        idle.get("/")
        client.send(b"GET / HTTP/1.1\r\nHost: te")
        # The answer of a second request on the same shard would not prove that the half head was read; closing the
        # idle connection does not either. The test checks: sent before close(), it gets a response or a
        # close.
        running.app.close()
        assert idle.is_closed()


def test_close_before_run(app: App) -> None:
    """D-R-03: the listening socket is closed; nothing else is."""
    ports: list[int] = []
    app.get("/", hello).listen({"host": "127.0.0.1"}, lambda config: ports.append(config.port))
    assert app.close() is app
    assert refused(ports[0])
    app.listen({"host": "127.0.0.1"}, lambda config: ports.append(config.port))
    thread, ended = run_in_thread(app)
    with Client(ports[1]) as client:
        assert client.get("/").body == b"hello"
    app.close()
    thread.join(20)
    assert ended == [app]


def test_close_twice(serve: Serve) -> None:
    """D-R-04, also from many threads at once."""
    running = serve(lambda app: app.get("/", hello))
    closers = [threading.Thread(target=running.app.close) for _ in range(8)]
    for thread in closers:
        thread.start()
    for thread in closers:
        thread.join(20)
    running.stop()
    running.app.close()
    running.app.close()


def test_run_again_after_close() -> None:
    """Ten lives of one application; on_start runs once (D-01), on_shutdown each time."""
    app = App()
    events: list[str] = []
    app.on_start(lambda: events.append("start"))
    app.on_shutdown(lambda: events.append("shutdown"))
    app.get("/", hello)

    async def later(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end("later")

    app.get("/later", later)
    for _ in range(10):
        ports: list[int] = []
        app.listen({"host": "127.0.0.1"}, lambda config, ports=ports: ports.append(config.port))
        thread, ended = run_in_thread(app)
        with Client(ports[0]) as client:
            assert client.get("/").body == b"hello"
            assert client.get("/later").body == b"later"
            app.close()
            assert client.is_closed()
        thread.join(20)
        assert ended == [app]
        assert refused(ports[0])
    app.dispose()
    assert events == ["start"] + ["shutdown"] * 10


def test_threads_that_cannot_all_be_made() -> None:
    """The start fails, those that were made have ended, and it can be tried again: what was bound is served then."""
    source = """
        import resource

        def tasks():
            return len(os.listdir("/proc/self/task"))

        def taken():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[0]) * resource.getpagesize()

        # Threads have as much stack as the limit says, and there is room for two.
        size = 512 << 20
        resource.setrlimit(resource.RLIMIT_STACK, (size, resource.getrlimit(resource.RLIMIT_STACK)[1]))
        app = App(io_threads=4)
        app.get("/", lambda res, req: res.end("fine"))
        app.listen({"port": 0, "host": "127.0.0.1"}, ready)
        before = tasks()
        for _ in range(3):
            resource.setrlimit(resource.RLIMIT_AS, (taken() + 5 * size // 2, resource.RLIM_INFINITY))
            try:
                app.run()
            except OSError as error:
                say(error)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            say(tasks() - before)
        app.run()
    """
    with Program(source) as program:
        program.listening()
        for _ in range(3):
            assert program.word() == "cannot start the server: Resource temporarily unavailable (os error 11)"
            assert program.word() == "0"
        with program.client() as client:
            assert client.get("/").body == b"fine"
        program.signal(signal.SIGTERM)
        assert program.finish() == (0, "", "")


def test_run_twice_at_once(serve: Serve) -> None:
    """The second run is an error, and does not hurt the first."""
    running = serve(lambda app: app.get("/", hello))
    thread, ended = run_in_thread(running.app)
    thread.join(20)
    assert isinstance(ended[0], RuntimeError)
    with running.client() as client:
        assert client.get("/").body == b"hello"


def test_dispose_twice(app: App) -> None:
    """A-APP-31."""
    app.listen({"host": "127.0.0.1"})
    app.dispose()
    app.dispose()
    app.close()


def test_dispose_of_a_running_application_closes_it(serve: Serve) -> None:
    running = serve(lambda app: app.get("/", hello))
    running.app.dispose()
    running.join()
    assert refused(running.port)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_request_in_progress_finishes_after_close(serve: Serve, kind: str) -> None:
    """D-R-05; no new client is accepted meanwhile, and idle connections end at once."""
    gate = Gate()

    def configure(app: App) -> None:
        def slow(res: Any, req: Any) -> None:
            gate.pass_through()
            res.end("finished")

        async def slow_async(res: Any, req: Any) -> None:
            gate.entered.set()
            while not gate._open.is_set():
                await asyncio.sleep(0.002)
            res.end("finished")

        app.get("/slow", slow if kind == "def" else slow_async)
        app.constant("/", "quick")

    running = serve(configure, shutdown_timeout=20)
    with running.client() as client, running.client() as idle:
        assert idle.get("/").body == b"quick"
        client.request(target="/slow")
        gate.arrived()
        running.app.close()
        assert idle.is_closed()
        until(lambda: refused(running.port), "the port closes while a request is in progress")
        assert running.server.running
        gate.open()
        answer = client.answer()
        assert answer.body == b"finished"
        assert answer.header("connection") == "close"
        assert client.is_closed()
    running.join()


def test_a_pipelined_request_is_not_begun_after_close(serve: Serve) -> None:
    gate = Gate()
    calls: list[str] = []

    def configure(app: App) -> None:
        def slow(res: Any, req: Any) -> None:
            calls.append(req.get_url())
            gate.pass_through()
            res.end("finished")

        app.get("/:any", slow)

    running = serve(configure, shutdown_timeout=20)
    with running.client() as client:
        client.request(target="/1").request(target="/2")
        gate.arrived()
        running.app.close()
        gate.open()
        assert client.answer().header("connection") == "close"
        assert client.is_closed()
    running.join()
    assert calls == ["/1"]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_what_does_not_finish_is_cut(serve: Serve, kind: str) -> None:
    """After ``shutdown_timeout`` the connection ends, the handler sees the abort, and its task is
    cancelled."""
    events: list[str] = []

    def configure(app: App) -> None:
        def silent(res: Any, req: Any) -> None:
            res.on_aborted(lambda res: events.append("aborted"))
            entered.set()

        async def silent_async(res: Any, req: Any) -> None:
            res.on_aborted(lambda res: events.append("aborted"))
            entered.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                events.append("cancelled")
                raise

        app.get("/", silent if kind == "def" else silent_async)

    entered = threading.Event()
    running = serve(configure, shutdown_timeout=0.3)
    with running.client() as client:
        client.request()
        assert entered.wait(20)
        began = time.monotonic()
        running.stop()
        took = time.monotonic() - began
        assert client.is_closed()
    assert 0.25 < took < 3
    assert events == (["aborted"] if kind == "def" else ["aborted", "cancelled"])


def test_queued_requests_are_not_run_after_the_deadline(serve: Serve) -> None:
    """Thirty ``def`` requests wait for their turn; requests that the deadline has cut are not run
    afterwards."""
    calls: list[int] = []

    def configure(app: App) -> None:
        def slow(res: Any, req: Any) -> None:
            calls.append(1)
            entered.set()
            time.sleep(0.25)
            res.end("slow")

        app.get("/", slow)

    entered = threading.Event()
    running = serve(configure, shutdown_timeout=0.4)
    clients = [running.client() for _ in range(30)]
    for client in clients:
        client.request()
    assert entered.wait(20)
    began = time.monotonic()
    running.stop()
    took = time.monotonic() - began
    for client in clients:
        client.close()
    assert took < 3, f"closing took {took:.1f} s, {len(calls)} handlers ran"
    assert len(calls) < 10


def test_a_client_that_closed_its_side_counts_as_gone(serve: Serve) -> None:
    """A pending request of such a client does not hold up the end."""
    entered = threading.Event()

    def configure(app: App) -> None:
        async def silent(res: Any, req: Any) -> None:
            entered.set()
            await asyncio.sleep(3600)

        app.get("/", silent)

    running = serve(configure, shutdown_timeout=20)
    with running.client() as client:
        client.request()
        assert entered.wait(20)
        client.socket.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < 5


def test_a_client_that_closes_its_side_during_the_drain_counts_as_gone(serve: Serve) -> None:
    entered = threading.Event()

    def configure(app: App) -> None:
        async def silent(res: Any, req: Any) -> None:
            entered.set()
            await asyncio.sleep(3600)

        app.get("/", silent)

    running = serve(configure, shutdown_timeout=20)
    with running.client() as client:
        client.request()
        assert entered.wait(20)
        running.app.close()
        until(lambda: refused(running.port), "the port closes")
        began = time.monotonic()
        client.socket.shutdown(socket.SHUT_WR)
        running.join()
        assert time.monotonic() - began < 5


def test_two_hundred_starts_and_stops_under_load() -> None:
    """Issue 2, section 4; each life serves, is closed in the middle of requests, and ends."""
    app = App(shutdown_timeout=2)
    app.get("/", hello)

    async def later(res: Any, req: Any) -> None:
        await asyncio.sleep(0)
        res.end("later")

    app.get("/later", later)
    for life in range(200):
        ports: list[int] = []
        app.listen({"host": "127.0.0.1"}, lambda config, ports=ports: ports.append(config.port))
        thread, ended = run_in_thread(app)
        clients = [Client(ports[0]) for _ in range(4)]
        for client in clients:
            client.request(target="/").request(target="/later")
        if life % 2:
            assert clients[0].answer().body == b"hello"
        else:
            # Its threads may still be in the making.
            until(app._server.is_running, "run() begins")
        app.close()
        for client in clients:
            client.rest()
            client.close()
        thread.join(20)
        assert ended == [app], f"life {life}"
    app.dispose()


# ---- hooks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["def", "async def"])
@pytest.mark.parametrize("shutdown", ["def", "async def"])
def test_hooks(serve: Serve, start: str, shutdown: str) -> None:
    """D-01, D-04, I-S-52: on the serving loop, in order."""
    events: list[Any] = []

    def configure(app: App) -> None:
        def mark(name: str) -> None:
            events.append((name, asyncio.get_running_loop() is app.loop.loop))

        async def mark_later(name: str) -> None:
            await asyncio.sleep(0.01)
            mark(name)

        def hook(name: str, kind: str) -> Callable[[], Any]:
            async def asynchronous() -> None:
                await mark_later(name)

            return asynchronous if kind == "async def" else lambda: mark(name)

        first, last = hook("start", start), hook("shutdown", shutdown)
        assert app.on_start(first) is first
        assert app.on_shutdown(last) is last

        def request(res: Any, req: Any) -> None:
            mark("request")
            res.end("")

        app.get("/", request)
        app.listen({"host": "127.0.0.1"}, lambda config: mark_bound())

    def mark_bound() -> None:
        events.append("bound")

    running = serve(configure)
    with running.client() as client:
        client.get("/")
    running.stop()
    assert events == [("start", True), "bound", ("request", True), ("shutdown", True)]


def test_the_last_hook_counts_and_background_tasks_work(serve: Serve) -> None:
    """A-APP-07; users.md 1.8: a task made in on_start goes on while the application serves."""
    ticks: list[int] = []
    starts: list[str] = []

    def configure(app: App) -> None:
        app.on_start(lambda: starts.append("first"))

        @app.on_start
        async def start() -> None:
            async def tick() -> None:
                while True:
                    ticks.append(1)
                    await asyncio.sleep(0.002)

            starts.append("second")
            app.background = asyncio.create_task(tick())  # type: ignore[attr-defined]

        app.get("/", lambda res, req: res.end(str(len(ticks))))

    running = serve(configure)
    with running.client() as client:
        seen = int(client.get("/").body)
        until(lambda: int(client.get("/").body) > seen + 3, "the background task runs")
    running.app.background.cancel()
    assert starts == ["second"]


@pytest.mark.parametrize("kind", ["def", "async def", "not callable"])
def test_a_failing_start_hook_is_reported_and_serving_goes_on(
    serve: Serve, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """D-02, I-S-53."""

    def configure(app: App) -> None:
        def start() -> None:
            raise LookupError("no database")

        async def start_async() -> None:
            await asyncio.sleep(0)
            raise LookupError("no database")

        app.on_start({"def": start, "async def": start_async, "not callable": 3}[kind])  # type: ignore[type-var]
        app.get("/", hello)

    with serve(configure).client() as client:
        assert client.get("/").body == b"hello"
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert "no database" in caplog.text if kind != "not callable" else "not callable" in caplog.text


@pytest.mark.parametrize("hook", ["on_start", "on_shutdown"])
def test_a_failing_hook_goes_to_the_error_handler(serve: Serve, hook: str) -> None:
    """D-02, D-05."""
    seen: list[Any] = []

    def configure(app: App) -> None:
        @app.on_error
        def failed(error: Any, res: Any, req: Any) -> None:
            seen.append((repr(error), res, req))

        async def fail() -> None:
            raise LookupError("hook")

        getattr(app, hook)(fail)

    serve(configure).stop()
    assert seen == [("LookupError('hook')", None, None)]


def test_no_hooks_without_lifespan(serve: Serve) -> None:
    """D-07, A-APP-04."""
    events: list[str] = []

    def configure(app: App) -> None:
        app.on_start(lambda: events.append("start"))
        app.on_shutdown(lambda: events.append("shutdown"))

    running = serve(configure, lifespan=False)
    assert running.app.lifespan is False
    running.stop()
    assert events == []


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_exit_in_on_start_ends_the_process(kind: str) -> None:
    """D-03, I-S-54."""
    source = f"""
    app = App()
    @app.on_start
    {kind} start():
        sys.exit(1)
    app.listen(0, ready)
    say("listening")
    app.run()
    """
    with Program(source) as program:
        assert program.finish() == (1, "", "")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_exit_in_on_shutdown_gives_its_code(kind: str) -> None:
    source = f"""
    app = App()
    @app.on_shutdown
    {kind} shutdown():
        sys.exit(3)
    app.listen(0, ready)
    app.loop.loop.call_soon(app.close)
    app.run()
    """
    with Program(source) as program:
        code, _, errors = program.listening().finish()
        assert (code, errors) == (3, "")


# ---- signals --------------------------------------------------------------------------------------------------------

SIGNALLED = """
app = App(shutdown_timeout=20)

def slow(res, req):
    say("entered")
    time.sleep(0.4)
    res.end("finished")

async def slow_async(res, req):
    say("entered")
    await asyncio.sleep(0.4)
    res.end("finished")

app.get("/def", slow)
app.get("/async", slow_async)
app.get("/", lambda res, req: res.end("hello"))

@app.on_shutdown
async def shutdown():
    await asyncio.sleep(0)
    say("shutdown")

app.listen({"host": "127.0.0.1"}, ready)
try:
    app.run()
finally:
    say("left run")
say("after run")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("path", ["/def", "/async"])
def test_a_signal_finishes_what_is_in_flight(number: int, path: str) -> None:
    """DEC-5: no new connections, the response, the hook, exit code 0, nothing on stderr, nothing after ``run()``."""
    with Program(SIGNALLED) as program, program.listening().client() as client, program.client() as idle:
        assert idle.get("/").body == b"hello"
        client.request(target=path)
        assert program.word() == "entered"
        program.signal(number)
        assert idle.is_closed()
        answer = client.answer()
        assert answer.body == b"finished"
        assert answer.header("connection") == "close"
        assert program.finish() == (0, "shutdown\nleft run\n", "")
        assert refused(program.port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_an_idle_server(number: int) -> None:
    with Program(SIGNALLED) as program:
        with program.listening().client() as client:
            assert client.get("/").body == b"hello"
        began = time.monotonic()
        program.signal(number)
        assert program.finish() == (0, "shutdown\nleft run\n", "")
        assert time.monotonic() - began < 5


def test_a_signal_before_the_loop_turns_is_not_lost() -> None:
    """Sent by the program itself, between listen() and run() and in the first turn of the loop."""
    source = """
    app = App()
    app.listen({"host": "127.0.0.1"}, ready)
    app.loop.loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)
    app.run()
    """
    with Program(source) as program:
        assert program.listening().finish() == (0, "", "")


@pytest.mark.parametrize("kind", ["async", "silent"])
def test_a_second_signal_ends_at_once(kind: str) -> None:
    """The drain would take an hour."""
    source = """
    app = App(shutdown_timeout=3600)

    async def forever(res, req):
        say("entered")
        await asyncio.sleep(3600)

    def silent(res, req):
        res.on_aborted(lambda res: None)
        say("entered")

    app.get("/async", forever)
    app.get("/silent", silent)
    app.on_shutdown(lambda: say("shutdown"))
    app.listen({"host": "127.0.0.1"}, ready)
    app.run()
    say("after run")
    """
    with Program(source) as program, program.listening().client() as client:
        client.request(target=f"/{kind}")
        assert program.word() == "entered"
        program.signal(signal.SIGINT)
        until(lambda: refused(program.port), "the port closes")
        assert program.process.poll() is None
        program.signal(signal.SIGINT)
        assert program.finish(10) == (0, "shutdown\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_handler_is_stuck(number: int) -> None:
    """The end comes ``shutdown_timeout`` after the signal, even if a ``def`` handler never returns."""
    source = """
    app = App(shutdown_timeout=0.3)

    def stuck(res, req):
        say("entered")
        time.sleep(3600)

    app.get("/", stuck)
    app.on_shutdown(lambda: say("shutdown"))
    app.listen({"host": "127.0.0.1"}, ready)
    app.run()
    """
    with Program(source) as program, program.listening().client() as client:
        client.request()
        assert program.word() == "entered"
        program.signal(number)
        code, out, _ = program.finish(10)
        assert (code, out) == (0, "shutdown\n")
        assert client.is_closed()


def test_a_handler_that_polls_for_ever_is_interrupted() -> None:
    """It would wake in the middle of the interpreter's end otherwise; the log has its position."""
    source = """
    app = App(shutdown_timeout=0.1)

    def stuck(res, req):
        say("entered")
        try:
            while True:
                try:
                    time.sleep(0.001)
                except Exception:
                    pass
        finally:
            say("interrupted")

    app.get("/", stuck)
    app.listen({"host": "127.0.0.1"}, ready)
    app.run()
    """
    with Program(source) as program, program.listening().client() as client:
        client.request()
        assert program.word() == "entered"
        program.signal(signal.SIGTERM)
        code, out, errors = program.finish(10)
        assert (code, out) == (0, "interrupted\n")
        assert "in stuck" in errors


def test_a_ctrl_c_that_was_ignored_stays_ignored() -> None:
    """As for a program in the background of a shell; SIGTERM ends it."""
    source = """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    app = App()
    app.get("/", lambda res, req: res.end("hello"))
    app.listen({"host": "127.0.0.1", "port": 0}, ready)
    app.run()
    """
    with Program(source) as program:
        program.listening().signal(signal.SIGINT)
        with program.client() as client:
            assert client.get("/").body == b"hello"
        program.signal(signal.SIGTERM)
        assert program.finish() == (0, "", "")


def test_the_signal_handlers_of_the_program_come_back() -> None:
    source = """
    app = App()
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    app.listen(0)
    app.loop.loop.call_soon(app.close)
    app.run()
    say((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before)
    signal.set_wakeup_fd(-1)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        say("interrupted")
    """
    with Program(source) as program:
        assert program.finish() == (0, "True\ninterrupted\n", "")


def test_a_signal_between_listen_and_run() -> None:
    """Whoever has been told that the application listens may ask it to end: the status is the one that `run()` gives."""
    source = """
        app = App()
        app.on_shutdown(lambda: say("nothing was served"))
        try:
            app.listen({"port": 0, "host": "127.0.0.1"}, ready)
            time.sleep(60)
        finally:
            say("unwound")
        app.run()
    """
    with Program(source) as program:
        program.listening().signal(signal.SIGTERM)
        assert program.finish() == (0, "unwound\n", "")


def test_a_signal_for_an_application_that_runs_elsewhere() -> None:
    """On another thread `run()` leaves signals alone: they do what they did."""
    source = """
        app = App()
        app.get("/", lambda res, req: res.end("fine"))
        app.listen({"port": 0, "host": "127.0.0.1"}, ready)
        threading.Thread(target=app.run, daemon=True).start()
        time.sleep(60)
    """
    with Program(source) as program:
        with program.listening().client() as client:
            assert client.get("/").body == b"fine"
        program.signal(signal.SIGTERM)
        assert program.finish()[0] == -signal.SIGTERM


def test_a_handler_of_the_program_is_kept_between_listen_and_run() -> None:
    source = """
        signal.signal(signal.SIGTERM, lambda number, frame: say("its own"))
        app = App()
        app.listen({"port": 0, "host": "127.0.0.1"}, ready)
        os.kill(os.getpid(), signal.SIGTERM)
        app.dispose()
        other = App()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        other.listen(0)
        say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        other.dispose()
        say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """
    with Program(source) as program:
        program.listening()
        assert [program.word() for _ in range(3)] == ["its own", "False", "True"]
        assert program.finish() == (0, "", "")


def test_another_application_does_not_take_the_signal_away() -> None:
    """One that has gone without a run leaves the handler of the one that listens."""
    source = """
        app, other, third = App(), App(), App()
        app.listen({"port": 0, "host": "127.0.0.1"}, ready)
        other.listen(0)
        other.close()
        other.dispose()
        third.dispose()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    """
    with Program(source) as program:
        program.listening()
        assert program.finish() == (0, "", "")


@pytest.mark.parametrize(
    "end", ["app.close()", "app.dispose()", "app.loop.loop.call_soon(app.close); app.run()"]
)
def test_an_application_that_has_ended_leaves_the_signal_alone(end: str) -> None:
    source = f"""
        app = App()
        app.listen({{"port": 0, "host": "127.0.0.1"}}, ready)
        {end}
        say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """
    with Program(source) as program:
        assert program.listening().word() == "True"
        assert program.finish() == (0, "", "")


def test_a_child_that_is_forked_before_the_run_has_told_nobody_that_it_listens() -> None:
    source = """
        app = App()
        app.listen({"port": 0, "host": "127.0.0.1"}, ready)
        if not (child := os.fork()):
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(1)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    with Program(source) as program:
        assert program.listening().word() == "-15"
        assert program.finish() == (0, "", "")


@pytest.mark.parametrize("times", [1, 20])
def test_who_asks_again_gets_the_status_of_who_asked_once(times: int) -> None:
    """SIGTERM after `run()` has ended ends the process at once, and not as a crash would."""
    source = """
    app = App()
    app.listen(0)
    app.loop.loop.call_soon(say, "runs")
    try:
        app.run()
    finally:
        say("over")
        time.sleep(60)
    """
    with Program(source) as program:
        assert program.word() == "runs"
        program.signal(signal.SIGTERM)
        assert program.word() == "over"
        for _ in range(times):
            program.signal(signal.SIGTERM)
        assert program.finish() == (0, "", "")


def test_a_run_that_no_signal_has_ended_leaves_signals_as_they_were() -> None:
    source = """
    app = App()
    app.listen(0)
    app.loop.loop.call_soon(app.close)
    app.run()
    say("over")
    time.sleep(60)
    """
    with Program(source) as program:
        assert program.word() == "over"
        program.signal(signal.SIGTERM)
        assert program.finish()[0] == -signal.SIGTERM


@pytest.mark.alone
def test_signal_storm_under_load() -> None:
    """users.md 6: SIGTERM under load ends in time, with nothing on stderr."""
    for _ in range(5):
        with Program(SIGNALLED) as program:
            program.listening()
            stop = threading.Event()
            failures: list[BaseException] = []

            def load(program: Program = program, stop: threading.Event = stop) -> None:
                try:
                    while not stop.is_set():
                        with program.client() as client:
                            for _ in range(20):
                                client.request()
                            client.receive()
                except OSError:
                    pass

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            with program.client() as client:
                for _ in range(50):
                    client.get("/")
            began = time.monotonic()
            program.signal(signal.SIGTERM)
            code, out, errors = program.finish()
            took = time.monotonic() - began
            stop.set()
            for thread in threads:
                thread.join(20)
            assert (code, out, errors) == (0, "shutdown\nleft run\n", "")
            assert took < 10
            assert not failures


# ---- loops and processes --------------------------------------------------------------------------------------------


def test_run_inside_a_running_loop_is_an_error() -> None:
    """D-14."""

    async def main() -> None:
        app = App()
        with pytest.raises(RuntimeError, match="running loop"):
            app.run()
        app.close()

    asyncio.run(main())


@pytest.mark.parametrize("what", ["run", "listen"])
def test_a_loop_of_its_own_inside_a_running_loop_is_an_error(what: str) -> None:
    """D-14: the application was made before the loop that runs now."""
    source = f"""
        app = App()

        @app.on_start
        async def start(): pass

        async def main():
            try:
                app.run() if "{what}" == "run" else app.listen(0)
            except RuntimeError as error:
                say("loop" in str(error))

        asyncio.run(main())
    """
    with Program(source) as program:
        code, out, _ = program.finish()
        assert (code, out) == (0, "True\n")


def test_listen_serves_inside_a_running_loop() -> None:
    """D-14: on that loop, hooks included, until close()."""
    events: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        app = App()
        assert app.loop.loop is loop
        app.on_start(lambda: events.append("start"))

        @app.on_shutdown
        async def shutdown() -> None:
            await asyncio.sleep(0)
            events.append("shutdown")
            ended.set()

        ended = asyncio.Event()
        app.get("/def", lambda res, req: res.end(str(asyncio.get_running_loop() is loop)))

        async def handler(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            res.end(str(asyncio.get_running_loop() is loop))

        app.get("/async", handler)
        ports: list[int] = []
        app.listen({"host": "127.0.0.1"}, lambda config: (events.append("bound"), ports.append(config.port)))

        def client() -> list[bytes]:
            with Client(ports[0]) as client:
                return [client.get("/def").body, client.get("/async").body, client.get("/none").body]

        assert await asyncio.to_thread(client) == [b"True", b"True", b"Not Found"]
        app.close()
        await asyncio.wait_for(ended.wait(), 10)
        assert refused(ports[0])

    asyncio.run(main())
    assert events == ["start", "bound", "shutdown"]


def test_forked_processes_share_a_port() -> None:
    """D-R-07, examples/forks.py: import first, fork, an application in each child."""
    source = """
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            app = App()
            app.get("/", lambda res, req: res.end(str(os.getpid()), True))
            app.on_shutdown(lambda: say("shutdown"))
            app.listen({"host": "127.0.0.1", "port": port}, lambda config: say("child"))
            app.run()
            say("served twice")
        children.append(pid)
    signal.sigwait([signal.SIGUSR1]) if False else None
    say(f"port {port}")
    sys.stdin.read() if False else None
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    say("waiting")
    signal.sigwait([signal.SIGTERM])
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    say(f"codes {codes}")
    """
    with Program(source) as program:
        words = []
        while len([word for word in words if word in ("child", "waiting")]) < 4:
            words.append(program.word())
            assert words[-1], program.finish()
            if words[-1].startswith("port"):
                program.port = int(words[-1].split()[1])
        answered = set()
        deadline = time.monotonic() + 20
        while len(answered) < 3 and time.monotonic() < deadline:
            with program.client() as client:
                answered.add(client.get("/").body)
        assert len(answered) == 3
        program.signal(signal.SIGTERM)
        assert program.finish() == (0, "shutdown\n" * 3 + "codes [0, 0, 0]\n", "")


ENDINGS = {
    "end of main": """
        threading.Thread(target=requests, daemon=True).start()
        busy.wait()
    """,
    "exception": """
        threading.Thread(target=requests, daemon=True).start()
        busy.wait()
        sys.exit(7)
    """,
    "disposed": """
        threading.Thread(target=requests, daemon=True).start()
        busy.wait()
        app.dispose()
    """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_end_of_main_with_threads_alive(ending: str) -> None:
    """users.md 4.8, 6: the interpreter ends while I/O threads serve; twenty times, without a crash or a word."""
    source = """
    app = App()
    busy = threading.Event()
    port = 0

    def hello(res, req):
        busy.set()
        res.end("hello")

    async def later(res, req):
        res.end("later")

    def requests():
        import socket
        try:
            while True:
                with socket.create_connection(("127.0.0.1", port)) as client:
                    asked = [b"GET %s HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" % path for path in (b"/", b"/later")]
                    client.sendall(b"".join(asked) * 20)
                    client.recv(10000)
        except OSError:
            pass

    app.get("/", hello)
    app.get("/later", later)

    def bound(config):
        global port
        port = config.port

    app.listen({"host": "127.0.0.1"}, bound)
    app._lifecycle.begin()
    """
    import textwrap

    source = textwrap.dedent(source) + textwrap.dedent(ENDINGS[ending])
    for _ in range(20):
        with Program(source) as program:
            assert program.finish() == (7 if ending == "exception" else 0, "", "")


def test_an_exception_after_listen_ends_the_process() -> None:
    source = """
    app = App()
    app.get("/", lambda res, req: res.end("hello"))
    app.listen({"host": "127.0.0.1"}, ready)
    raise SystemExit(5)
    """
    for _ in range(5):
        with Program(source) as program:
            code, _, errors = program.finish()
            assert (code, errors) == (5, "")


def test_run_in_a_daemon_thread_while_main_ends() -> None:
    """The interpreter ends under a loop that still runs."""
    source = """
    def body():
        app = App()
        app.get("/", lambda res, req: res.end("hello"))
        app.listen({"host": "127.0.0.1"})
        app.loop.loop.call_soon(started.set)
        app.run()

    started = threading.Event()
    threading.Thread(target=body, daemon=True).start()
    started.wait()
    """
    for _ in range(20):
        with Program(source) as program:
            assert program.finish() == (0, "", "")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_stop_that_comes_late_does_not_end_the_ends(loop: str) -> None:
    """Something asks the loop to stop while the hook, tasks, generators and the executor end: each of them still does."""
    source = """
    app = App(use_uvloop=UVLOOP)
    closed = threading.Event()

    def stop():
        asyncio.get_running_loop().stop()

    async def generate():
        try:
            yield
        finally:
            stop()
            await asyncio.sleep(0.01)
            print("generator")
            closed.set()

    async def work():
        try:
            await asyncio.sleep(3600)
        finally:
            stop()
            await asyncio.sleep(0.01)
            print("task")

    @app.on_start
    async def start():
        app.generator = generate()
        await anext(app.generator)
        app.task = asyncio.create_task(work())
        asyncio.get_running_loop().call_later(0.05, app.close)
        asyncio.get_running_loop().call_later(0.05, stop)

    @app.on_shutdown
    async def shutdown():
        # uvloop does not show its executor, so nobody waits for that one.
        if not UVLOOP:
            asyncio.get_running_loop().run_in_executor(None, lambda: (closed.wait(), print("executor")))
        stop()
        await asyncio.sleep(0.01)
        print("hook")

    app.listen({"host": "127.0.0.1"})
    app.run()
    print("end")
    """.replace("UVLOOP", str(loop == "uvloop"))
    executor = "executor\n" if loop == "asyncio" else ""
    with Program(source) as program:
        assert program.finish() == (0, f"hook\ntask\ngenerator\n{executor}end\n", "")


@pytest.mark.alone
def test_start_up_is_quick() -> None:
    """Design.md 5: import to first response. The bound is loose, for the machine may be busy; `make bench` measures."""
    source = """
    began = float(sys.argv[1])
    app = App()
    app.get("/", lambda res, req: res.end(str(time.monotonic() - began)))
    app.listen({"host": "127.0.0.1"}, ready)
    app.run()
    """
    best = 10.0
    for _ in range(3):
        with Program(source, str(time.monotonic())) as program, program.listening().client() as client:
            best = min(best, float(client.get("/").body))
    assert best < 1.5


@pytest.mark.alone
def test_an_idle_server_uses_no_processor_time() -> None:
    """D-R-08, S#152: two hundred silent keep-alive connections."""
    source = """
    app = App()
    app.get("/", lambda res, req: res.end("hello"))

    async def later(res, req):
        await asyncio.sleep(0)
        res.end("later")

    app.get("/later", later)
    app.listen({"host": "127.0.0.1"}, ready)
    app.run()
    """
    with Program(source) as program:
        program.listening()
        clients = [program.client() for _ in range(200)]
        for client in clients:
            assert client.get("/").body == b"hello"
            assert client.get("/later").body == b"later"
        before = program.cpu()
        time.sleep(3)
        used = program.cpu() - before
        for client in clients:
            client.close()
        assert used < 0.05
