"""Where an application can listen (A-DC-01, D-L-02, D-L-06, D-L-09 to D-L-11): addresses, permissions, backlog, descriptors
of other processes, and shared ports. The arguments and errors of `listen` are in test_lifecycle.py."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from socketify import App, AppListenOptions, systemd_sockets
from support import Program, until
from support.client import Client
from support.command import Project
from support.running import Running

Serve = Callable[..., Running]


def hello(app: Any) -> None:
    app.get("/", lambda res, req: res.end("hello"))


@pytest.fixture
def app() -> Iterator[App]:
    made = App()
    yield made
    made.dispose()


def listening(listen: Any) -> Iterator[Running]:
    running = Running(hello, listen=listen)
    yield running
    running.stop()


# ---- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
        ("[::1]", ["::1"]),
        (None, ["127.0.0.1", "::1"]),
        ("::", ["127.0.0.1", "::1"]),
    ],
)
def test_hosts(host: str | None, reached: list[str]) -> None:
    """D-L-02, D-L-05: one family, the other, both; brackets as in a URL."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    for running in listening(AppListenOptions(host=host)):
        for address in ("127.0.0.1", "::1"):
            if address in reached:
                socket.create_connection((address, running.port), 20).close()
            else:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((address, running.port), 20)


def test_small_answers_are_not_held_back() -> None:
    """TCP_NODELAY on accepted connections, also of an inherited socket."""
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        seen: list[int] = []

        def configure(app: Any) -> None:
            def look(res: Any, req: Any) -> None:
                with socket.socket(fileno=os.dup(res.get_native_handle())) as own:
                    seen.append(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                res.end("")

            app.get("/", look)
            app.listen(AppListenOptions(fd=inherited.fileno()))

        running = Running(configure)
        try:
            for port in (running.port, inherited.getsockname()[1]):
                with Client(port) as client:
                    client.get()
        finally:
            running.stop()
    assert len(seen) == 2
    assert all(seen)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_backlog(app: App, tmp_path: Path, kind: str) -> None:
    """D-L-10: connections that are not accepted. The application does not run, so it accepts none."""
    path = str(tmp_path / "socket")
    seen: list[AppListenOptions] = []
    if kind == "unix":
        app.listen(AppListenOptions(domain=path, backlog=3), seen.append)
    else:
        app.listen(AppListenOptions(host="127.0.0.1", backlog=3), seen.append)
    assert seen[0].backlog == 3
    waiting = []
    try:
        for _ in range(10):
            client = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
            client.setblocking(False)
            waiting.append(client)
            error = client.connect_ex(path if kind == "unix" else ("127.0.0.1", seen[0].port))
            if kind == "unix" and error:
                assert len(waiting) == 5
                return
        until(lambda: sum(map(established, waiting)) >= 4, "four connections")
        assert sum(map(established, waiting)) < 10
    finally:
        for client in waiting:
            client.close()


def established(client: socket.socket) -> bool:
    """Whether the handshake is done: the state of `struct tcp_info` is 1."""
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\1"


# ---- Unix sockets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [None, 0o600, 0o660, 0o666, 0o777])
def test_permissions(app: App, tmp_path: Path, mode: int | None, mask: int) -> None:
    """D-L-06: with any umask."""
    path = tmp_path / "socket"
    before = os.umask(mask)
    try:
        app.listen(AppListenOptions(domain=str(path), mode=mode))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == (0o700 if mode is None else mode)


def test_permissions_from_the_first_moment(tmp_path: Path) -> None:
    """D-L-06: what watches the file never sees it open to more than it is to be."""
    if os.getuid() != 0:
        pytest.skip("another user is needed, and only root can be one")
    path = tmp_path / "socket"
    os.chmod(tmp_path, 0o755)
    source = f"""
    os.umask(0)
    while True:
        app = App()
        app.listen({{"domain": {str(path)!r}, "mode": 0o600}})
        app.dispose()
        os.unlink({str(path)!r})
        say("again")
    """
    with Program(source) as program:
        assert program.word() == "again"
        seen = set()
        for _ in range(20_000):
            try:
                seen.add(stat.S_IMODE(os.stat(path).st_mode))
            except FileNotFoundError:
                continue
        program.process.stdout and program.process.stdout.close()
    assert seen <= {0o600}


def test_another_user_and_permissions(tmp_path: Path) -> None:
    """Their purpose: 0o660 refuses others, 0o666 admits them."""
    if os.getuid() != 0:
        pytest.skip("another user is needed, and only root can be one")
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_mode & 0o005 != 0o005 and parent != Path("/"):
            os.chmod(parent, 0o755)
    path = str(tmp_path / "socket")
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    for mode, admitted in ((None, False), (0o660, False), (0o666, True)):
        for _ in listening({"domain": path, "mode": mode}):
            done = subprocess.run(
                ["/usr/bin/env", "python3", "-c", connect], user=65534, group=65534, extra_groups=[],
                capture_output=True, timeout=30, env={"PATH": "/usr/bin:/bin"},
            )  # fmt: skip
            if b"No such file" in done.stderr and b"python3" in done.stderr:
                pytest.skip("no python3 for everybody here")
            assert (done.returncode == 0) is admitted, done.stderr.decode()
            assert admitted or b"PermissionError" in done.stderr


def test_permissions_without_proc(tmp_path: Path) -> None:
    """In a chroot they cannot be changed: the error says so, and nothing is left behind. Where they fit they need not be."""
    if os.getuid() != 0:
        pytest.skip("only root can change the root")
    source = """
    app = App()
    os.umask(0o077)
    os.chroot(sys.argv[1])
    for mode in (0o666, 0o700):
        try:
            app.listen({"domain": "/socket", "mode": mode}, lambda config: say("listens"))
        except RuntimeError as error:
            say(error)
            say(os.path.exists("/socket"))
    """
    with Program(source, str(tmp_path)) as program:
        text = "its permissions cannot be changed where /proc is not mounted (from 0o600 to 0o666): mount it, or set"
        assert program.word().startswith(f"Failed to listen on domain /socket: {text}")
        assert (program.word(), program.word()) == ("False", "listens")


def test_a_socket_of_another_kind(app: App, tmp_path: Path) -> None:
    """That is no server on it: the reason is the system's."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(
            RuntimeError, match=f"domain {path}: .* cannot be found out: Protocol wrong type for socket$"
        ):
            app.listen({"domain": path})
    assert os.path.exists(path)


@pytest.mark.parametrize("mark", ["@", "\0"])
def test_abstract_names(mark: str) -> None:
    """A socket of no file, for processes in the same network namespace."""
    name = f"socketify-test-{os.getpid()}"
    for _ in listening({"domain": mark + name}):
        with Client(path="\0" + name) as client:
            assert client.get().body == b"hello"
        other = App()
        try:
            with pytest.raises(RuntimeError, match=r"Failed to listen on domain .*in use"):
                other.listen({"domain": mark + name})
        finally:
            other.dispose()
    with pytest.raises(ConnectionRefusedError):
        Client(path="\0" + name)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mode": 0o660}, "mode 0o660 is of the file of a UNIX domain socket: .* not None"),
        ({"mode": 0o660, "domain": "@name"}, "mode 0o660 .* not '@name'"),
        ({"mode": 0o1777, "domain": "/tmp/x"}, "mode must be permissions from 0 to 0o777.* not 0o1777"),
        ({"mode": "660", "domain": "/tmp/x"}, "mode must be an int or None, not '660'"),
        ({"backlog": -1}, "backlog must be from 0 to .* not -1"),
        ({"backlog": "9"}, "backlog must be an int, not '9'"),
        ({"fd": -1}, "fd must be the number of a file descriptor, not -1"),
        ({"fd": True}, "fd must be an int or None, not True"),
        ({"fd": 3, "port": 80}, "fd 3 listens already"),
        ({"fd": 3, "domain": "/tmp/x"}, "fd 3 listens already"),
        ({"reuse_port": 1}, "reuse_port must be a bool, not 1"),
        ({"reuse_port": True, "options": 1}, "options=1 .* reuse_port=True"),
        ({"reuse": True}, "does not know .*reuse.*: expected port, host, .*reuse_port"),
    ],
)
def test_options_that_go_with_nothing(app: App, options: dict[str, Any], expected: str) -> None:
    """A-DC-01: the error names the value, and the expected one."""
    with pytest.raises(RuntimeError, match=expected):
        app.listen(options)


def test_options_are_shown() -> None:
    """A-DC-01: those of the original always, others if they are set."""
    assert repr(AppListenOptions(80)) == "AppListenOptions(port=80, host=None, options=0, domain=None)"
    shown = repr(AppListenOptions(domain="/x", mode=0o600))
    assert shown == "AppListenOptions(port=0, host=None, options=0, domain='/x', mode=384)"


# ---- descriptors of others --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_descriptor(tmp_path: Path, family: str) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_INET if family == "tcp" else socket.AF_UNIX) as inherited:
        inherited.bind(("127.0.0.1", 0) if family == "tcp" else path)
        inherited.listen()
        seen: list[AppListenOptions] = []
        running = Running(lambda app: (hello(app), app.listen({"fd": inherited.fileno()}, seen.append)))
        try:
            port = inherited.getsockname()[1] if family == "tcp" else 0
            with Client(port) if family == "tcp" else Client(path=path) as client:
                assert client.get().body == b"hello"
        finally:
            running.stop()
        assert (seen[0].port, seen[0].domain) == ((port, None) if family == "tcp" else (0, path))
        # It stays the caller's.
        assert inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_a_descriptor_that_is_none(app: App) -> None:
    with pytest.raises(RuntimeError, match="Failed to listen on descriptor 9999: Bad file descriptor"):
        app.listen({"fd": 9999})
    with (
        open(os.devnull) as file,
        pytest.raises(RuntimeError, match=f"Failed to listen on descriptor {file.fileno()}: ."),
    ):
        app.listen({"fd": file.fileno()})


#: Runs a program as systemd would: its sockets from descriptor 3 on, and its own process id in the environment.
ACTIVATE = """
import os, sys
count = int(sys.argv[1])
given = [int(each) for each in sys.argv[2:2 + count]]
high = [os.dup2(each, 100 + place) for place, each in enumerate(given)]
for place, each in enumerate(high):
    os.dup2(each, 3 + place)
    os.close(each)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=sys.argv[2 + count])
os.execv(sys.executable, [sys.executable, *sys.argv[3 + count:]])
"""


def activated(
    sockets: list[socket.socket], names: str, *command: str, **environment: str
) -> subprocess.Popen[bytes]:
    descriptors = [each.fileno() for each in sockets]
    return subprocess.Popen(
        [sys.executable, "-c", ACTIVATE, str(len(sockets)), *map(str, descriptors), names, *command],
        pass_fds=descriptors,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )


PROGRAM = """
from socketify import App, systemd_sockets
assert [len(systemd_sockets(name)) for name in ("web", "admin", "other", "")] == [1, 1, 0, 0]
app = App()
app.get("/", lambda res, req: res.end(str(len(systemd_sockets()))))
for each in systemd_sockets():
    app.listen(each)
app.run()
"""


def two_sockets(tmp_path: Path) -> tuple[socket.socket, socket.socket]:
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "admin"))
    unix.listen()
    return socket.create_server(("127.0.0.1", 0)), unix


def test_systemd_sockets(tmp_path: Path) -> None:
    """Connections that came before the program did are served, too."""
    tcp, unix = two_sockets(tmp_path)
    with tcp, unix, Client(tcp.getsockname()[1]) as early:
        early.request()
        process = activated([tcp, unix], "web:admin", "-c", PROGRAM)
        try:
            assert early.answer().body == b"2"
            with Client(path=str(tmp_path / "admin")) as client:
                assert client.get().body == b"2"
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
            assert (process.returncode, errors) == (0, b"")
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("arguments", [[], ["--workers", "2"]])
def test_systemd_sockets_of_the_command_line(tmp_path: Path, arguments: list[str]) -> None:
    """Without an address of its own, it uses systemd's sockets, and notifies systemd when it serves."""
    (tmp_path / "main.py").write_text("def run(app):\n    app.get('/', lambda res, req: res.end('served'))\n")
    tcp, unix = two_sockets(tmp_path)
    with tcp, unix, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        process = activated(
            [tcp, unix], "web:admin", "-m", "socketify", "main:run", *arguments,
            NOTIFY_SOCKET=str(tmp_path / "notify"), PYTHONPATH=str(tmp_path),
        )  # fmt: skip
        try:
            assert manager.recv(100) == b"READY=1"
            with Client(tcp.getsockname()[1]) as client, Client(path=str(tmp_path / "admin")) as other:
                assert client.get().body == other.get().body == b"served"
            process.send_signal(signal.SIGTERM)
            out, errors = process.communicate(timeout=30)
            assert (process.returncode, errors) == (0, b"")
            assert out.decode().startswith("Listening on ")
        finally:
            process.kill()
            process.communicate()


def test_no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets for another process, or for none, are ignored."""
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert systemd_sockets() == []
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd_sockets() == []
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    assert systemd_sockets() == []
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    for wrong in ("x", "-1", "", "999999999"):
        monkeypatch.setenv("LISTEN_FDS", wrong)
        with pytest.raises(RuntimeError, match=f"LISTEN_FDS must be a number of descriptors, not '{wrong}'"):
            systemd_sockets()


# ---- who shares a port ------------------------------------------------------------------------------------------------

SHARING = """
app = App()
app.get("/", lambda res, req: res.end(str(os.getpid())))
port, own_group, *options = sys.argv[1:]
if own_group == "yes":
    os.setpgid(0, 0)
try:
    app.listen({"host": "127.0.0.1", "port": int(port), **eval(options[0] if options else "{}")}, ready)
except RuntimeError as error:
    say(f"port 0 {error}")
    sys.exit(3)
app.run()
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_processes_of_one_group_share_a_port(port: int) -> None:
    """D-L-09: those that a program has forked, or started, as examples/forks.py does."""
    with Program(SHARING, str(port), "no") as one, Program(SHARING, str(port), "no") as other:
        one.listening(), other.listening()
        pids = {one.process.pid, other.process.pid}

        def answered() -> int:
            with Client(port) as client:
                return int(client.get().body)

        seen: set[int] = set()
        until(lambda: seen.add(answered()) or seen == pids, "both answer")


def test_processes_that_cannot_be_looked_at_share_a_port(port: int) -> None:
    """Those that have dropped privileges are closed to each other: no process is refused on a guess."""
    hide = """
import ctypes
if os.getuid() == 0:
    os.setuid(65534)
ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE
"""
    with Program(hide + SHARING, str(port), "no") as one, Program(hide + SHARING, str(port), "no") as other:
        assert (one.listening().port, other.listening().port) == (port, port)


def test_a_second_start_does_not_share(port: int) -> None:
    """Of another group: it would get half of the connections without a word."""
    with Program(SHARING, str(port), "no") as one:
        one.listening()
        with Program(SHARING, str(port), "yes") as other:
            word = other.word()
            where = f"Failed to listen on port {port} of host 127.0.0.1"
            assert f"{where}: it is in use by a process of another process group" in word
            assert other.finish()[0] == 3
        with one.client() as client:
            assert int(client.get().body) == one.process.pid


def test_whoever_asks_shares_with_all(port: int) -> None:
    asked = "{'reuse_port': True}"
    with Program(SHARING, str(port), "no", asked) as one, Program(SHARING, str(port), "yes", asked) as other:
        assert (one.listening().port, other.listening().port) == (port, port)


def test_who_keeps_others_out(port: int) -> None:
    """A process that never asked for it shares its port with one that does; `options=1` alone does not."""
    asks = "{'reuse_port': True}"
    with Program(SHARING, str(port), "no") as one:
        one.listening()
        with Program(SHARING, str(port), "yes", asks) as other:
            assert other.listening().port == port
    with Program(SHARING, str(port), "no", "{'options': 1}") as one:
        one.listening()
        with Program(SHARING, str(port), "yes", asks) as other:
            assert "Address already in use" in other.word()


def test_another_address_is_not_shared(port: int) -> None:
    """A port of one address is another one than that of the next."""
    with Program(SHARING, str(port), "no") as one:
        one.listening()
        source = SHARING.replace("127.0.0.1", "127.0.0.2")
        with Program(source, str(port), "yes") as other:
            assert other.listening().port == port


# ---- the command line -------------------------------------------------------------------------------------------------


def test_options_of_the_command_line(tmp_path: Path, project: Project) -> None:
    """`--uds-mode`, `--backlog`, `--proxy-protocol` and `--trusted-proxies`, with one worker and with two."""
    (tmp_path / "main.py").write_text(
        "def run(app):\n    app.get('/', lambda res, req: res.end(str(req.get_client_address())))\n"
    )
    path = str(tmp_path / "socket")
    for workers in ("1", "2"):
        command = [
            sys.executable,
            "-m",
            "socketify",
            "main:run",
            "--uds",
            path,
            "--uds-mode",
            "660",
            "--backlog",
            "64",
        ]
        process = subprocess.Popen(
            [*command, "--workers", workers, "--proxy-protocol", "required", "--trusted-proxies", "unix,10.0.0.0/8"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline().decode().startswith(f"Listening on {path} ")
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
            with Client(path=path) as client:
                client.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n")
                assert client.get().body == b"192.0.2.7"
            with Client(path=path) as client:
                assert client.request().is_closed()
        finally:
            process.terminate()
            process.communicate(timeout=30)
        assert process.returncode == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_descriptor_of_the_command_line(tmp_path: Path, workers: str) -> None:
    (tmp_path / "main.py").write_text("def run(app):\n    app.get('/', lambda res, req: res.end('served'))\n")
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        port = inherited.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "socketify", "main:run", "--fd", str(inherited.fileno()), "--workers", workers],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[inherited.fileno()],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"Listening on http://127.0.0.1:{port} now\n".encode()
            with Client(port) as client:
                assert client.get().body == b"served"
        finally:
            process.terminate()
            process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--uds-mode", "660"], "--uds-mode: these are permissions of a file"),
        (
            ["--uds", "x", "--uds-mode", "888"],
            "expected permissions as chmod takes them, such as 660, not '888'",
        ),
        (["--fd", "3", "--port", "80"], "--fd: it listens already"),
        (["--fd", "9999"], "Failed to listen on descriptor 9999: Bad file descriptor"),
        (["--fd", "9999", "--workers", "2"], "Failed to listen on descriptor 9999: Bad file descriptor"),
        (["--trusted-proxies", "10.0.0.0/99"], 'trusted_proxies: "10.0.0.0/99" is no network: expected'),
        (["--proxy-protocol", "maybe"], "--proxy-protocol"),
    ],
)
def test_a_wrong_command_line(tmp_path: Path, arguments: list[str], expected: str) -> None:
    (tmp_path / "main.py").write_text("def run(app):\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "socketify", "main:run", *arguments],
        cwd=tmp_path, capture_output=True, timeout=60, text=True,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
