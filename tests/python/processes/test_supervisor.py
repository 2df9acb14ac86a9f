"""Several workers, and the process that looks after them: sharing, respawning, restarting, stopping, and no orphans."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from socketify.processes.ports import claim
from socketify.processes.supervisor import respawn_delay
from support import until
from support.client import Client
from support.command import APPLICATION, Command, Project, children, gone, is_stopped, orphans_gone

#: Sends its process id, and obeys commands.
OBEDIENT = """\
import os, signal, sys, time, asyncio

def run(app):
    app.get("/", lambda res, req: res.end(str(os.getpid())))
    app.get("/exit", lambda res, req: os._exit(7))
    app.get("/close", lambda res, req: (res.end("closing"), app.close()))

    async def stuck(res, req):
        os.write(1, b"stuck\\n")
        time.sleep(1000)

    async def slow(res, req):
        os.write(1, b"begun\\n")
        while not os.path.exists("go on"):
            await asyncio.sleep(0.01)
        res.end("finished by " + str(os.getpid()))

    app.get("/stuck", stuck)
    app.get("/slow", slow)
    app.on_shutdown(lambda: os.write(1, b"stopped %d\\n" % os.getpid()))
"""


def start(project: Project, source: str = OBEDIENT, *arguments: str, count: int = 2) -> Command:
    project.write("main.py", source)
    return project.start("main:run", "--port", "0", "--workers", str(count), *arguments)


def test_programs_that_a_worker_starts(project: Project) -> None:
    """S-CLI-39: they have no socket of the server, and workers may start processes of their own."""
    source = """
    import glob, multiprocessing, os, subprocess, sys

    SHOW = "import os; print([os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if fd > '2'])"

    def double(number):
        return 2 * number

    def run(app):
        def programs(res, req):
            res.end(subprocess.run([sys.executable, "-c", SHOW], stdout=subprocess.PIPE, close_fds=False).stdout)

        async def processes(res, req):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                res.end(str(pool.map(double, [1, 2])))

        app.get("/", lambda res, req: res.end(str(os.getpid())))
        app.get("/programs", programs)
        app.get("/processes", processes)
    """
    project.write("main.py", source)
    command = project.start("main:run", "--port", "0", "--workers", "2")
    with Client(command.port) as client:
        assert b"socket:" not in client.get("/programs").body
        assert client.get("/processes").body == b"[2, 4]"
    assert command.stop()[0] == 0


# ---- sharing --------------------------------------------------------------------------------------------------------


def test_workers_share_the_port(project: Project) -> None:
    """F-05, F-L-06, F-L-11, H-05: the requested number, beside the supervisor; one line has the address."""
    command = start(project, count=3)
    workers = command.workers(3)
    assert len(workers) == 3
    assert command.pid not in workers
    assert sorted(children(command.pid)) == workers
    status, out, err = command.stop()
    assert (status, err) == (0, "")
    assert out.startswith(f"Listening on http://127.0.0.1:{command.port} now\n\n")
    assert out.count("Listening") == 1
    assert sorted(int(each) for each in re.findall(r"stopped (\d+)", out)) == workers


def test_workers_by_the_environment(project: Project) -> None:
    """F-05."""
    project.write("main.py", APPLICATION)
    command = project.start("main:run", "-p", "0", WEB_CONCURRENCY="2")
    assert len(command.workers(2)) == 2
    assert command.stop()[0] == 0


def test_workers_share_a_unix_socket(project: Project) -> None:
    """F-06: one socket, which all of them take; a stale file is replaced."""
    project.write("main.py", APPLICATION)
    path = project.socket()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    command = project.start("main:run", "--uds", path, "--workers", "2")
    line = f"Listening on {path} http://localhost now (mode 700, see --uds-mode)\n\n"
    until(lambda: command.out == line, "listening")
    until(lambda: len(children(command.pid)) == 2, "two workers")
    first, second = children(command.pid)

    def ask() -> int:
        with Client(path=path) as client:
            return int(client.get("/").body)

    until(lambda: ask() == first, "an answer of the first")
    # A worker that does nothing takes no connection, so the other one has to.
    os.kill(first, signal.SIGSTOP)
    until(lambda: is_stopped(first), "the first stands still")
    until(lambda: ask() == second, "an answer of the second")
    os.kill(first, signal.SIGCONT)
    status, _, err = command.stop()
    assert (status, err) == (0, "")


def test_a_unix_socket_that_is_served(project: Project) -> None:
    """F-24: it is not taken away."""
    project.write("main.py", APPLICATION)
    path = project.socket()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        status, out, err = project.run("main:run", "--uds", path, "--workers", "2")
        assert (status, out) == (1, "")
        assert err == f"socketify: Failed to listen on domain {path}: another process is listening on it\n"
        with Client(path=path):
            pass


def test_the_port_is_ours_until_the_end(project: Project) -> None:
    """No other process takes it while no worker lives: the last one is killed, and the one after it serves on
    the same port."""
    command = start(project, count=2)
    for pid in command.workers(2):
        os.kill(pid, signal.SIGKILL)
    assert len(command.workers(2)) == 2
    assert command.stop()[0] == 0


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost"])
def test_a_claim(host: str) -> None:
    """A claimed port is taken for all but those that share it, and gets no connections itself."""
    with claim(host, 0, None, shared=True) as claimed:
        port = claimed.config.port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("localhost", port), 20)
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port))
    with claim(host, port, None, shared=False) as claimed:
        assert claimed.config.port == port
        socket.create_connection(("localhost", port), 20).close()


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [("no-such-host.invalid", 1, ""), ("192.0.2.1", 1, "Cannot assign requested address")],
)
def test_what_cannot_be_claimed(host: str, port: int, reason: str) -> None:
    with pytest.raises(RuntimeError, match=f"^Failed to listen on port 1 of host {host}: {reason}"):
        claim(host, port, None, shared=True)


# ---- respawning -----------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced(project: Project) -> None:
    """The other one goes on, and the dead one is no zombie."""
    command = start(project)
    victim, survivor = command.workers(2)
    os.kill(victim, signal.SIGKILL)
    command.said(f"socketify: worker {victim} was killed by SIGKILL: starting another\n")
    workers = command.workers(2)
    assert survivor in workers
    assert victim not in workers
    gone(victim)
    assert command.stop()[0] == 0


@pytest.mark.parametrize(
    ("path", "how"), [("/exit", "ended with status 7"), ("/close", "ended with status 0")]
)
def test_a_worker_that_ends_is_replaced(project: Project, path: str, how: str) -> None:
    """I-B-24: and does not go on as something else: closing the application in one worker ends that
    worker."""
    command = start(project)
    before = command.workers(2)
    with contextlib.suppress(AssertionError), Client(command.port) as client:
        client.get(path)
    command.said(how)
    found = re.search(rf"worker (\d+) {how}: starting another", command.err)
    assert found is not None
    ended = int(found[1])
    assert ended in before
    gone(ended)
    assert len(set(command.workers(2)) - set(before)) == 1
    assert len(children(command.pid)) == 2
    assert command.stop()[0] == 0


def test_each_death_in_a_row_is_waited_for_longer() -> None:
    """0, then doubling, up to a limit."""
    delays = [respawn_delay(failures) for failures in range(20)]
    assert delays[:5] == [0.0, 0.25, 0.5, 1.0, 2.0]
    assert delays == sorted(delays)
    assert delays[-1] == respawn_delay(10**9) == 30.0


def test_a_worker_that_dies_again_and_again(project: Project) -> None:
    """It is started more and more slowly, and meanwhile the others serve."""
    command = start(
        project,
        """
        import os, pathlib

        def run(app):
            app.get("/", lambda res, req: res.end(str(os.getpid())))
            if pathlib.Path("broken").exists():
                os._exit(9)
        """,
    )
    victim, survivor = command.workers(2)
    (project.directory / "broken").touch()
    os.kill(victim, signal.SIGKILL)
    command.said("before it served: starting another in 0.5 seconds")
    assert "was killed by SIGKILL: starting another\n" in command.err
    assert "ended with status 9 before it served: starting another in 0.25 seconds\n" in command.err
    assert command.workers(1) == [survivor]
    (project.directory / "broken").unlink()
    assert survivor in command.workers(2)
    assert command.stop()[0] == 0


def test_workers_that_cannot_start_end_it(project: Project) -> None:
    """F-24: when it is the first thing they do."""
    command = start(
        project, "import os, signal\ndef run(app):\n    os.kill(os.getpid(), signal.SIGKILL)\n", count=3
    )
    status, out, err = command.finish()
    assert (status, out) == (1, "")
    assert re.fullmatch(r"socketify: worker \d+ was killed by SIGKILL before it served: giving up\n", err)


def test_one_of_several_that_cannot_start_ends_it(project: Project) -> None:
    """F-24: a program that only one process can run is no program for two; the first is stopped as always."""
    command = start(
        project,
        """
        import os

        def run(app):
            app.on_shutdown(lambda: os.write(1, b"stopped\\n"))
            os.mkdir("mine alone")
        """,
    )
    status, out, err = command.finish()
    assert status == 1
    assert out.endswith("stopped\n")
    assert "FileExistsError" in err
    assert err.count("socketify: ") == 1


# ---- stopping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_signal_ends_all(project: Project, number: int, terminal: bool) -> None:
    """F-05: all together; also when every process gets it at once, as from Ctrl+C, which is no second signal."""
    command = start(project)
    workers = command.workers(2)
    with Client(command.port) as client:
        client.request("GET", "/slow")
        until(lambda: "begun" in command.out, "a request in progress")
        if terminal and number == signal.SIGINT:
            os.killpg(command.pid, number)
        else:
            command.signal(number)
        # A worker that accepts no more connections is about to end.
        until(lambda: not accepts(command.port), "an end of accepting")
        (project.directory / "go on").touch()
        assert client.answer().body.startswith(b"finished by ")
    status, out, err = command.finish()
    assert (status, err) == (0, "")
    assert out.count("stopped") == 2
    gone(*workers)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 20).close()
    except OSError:
        return False
    return True


def test_a_signal_while_it_starts(project: Project) -> None:
    """Loading has no timeout; a signal need not wait for it."""
    command = start(project, "import os, time\nos.write(1, b'loading\\n')\ntime.sleep(1000)\n")
    until(lambda: "loading" in command.out, "loading")
    workers = children(command.pid)
    assert command.stop()[0] == 0
    gone(*workers)


def test_a_worker_that_does_not_end_is_killed(project: Project) -> None:
    """A second signal says not to wait for it; then the status shows that it was not in order."""
    command = start(project)
    workers = command.workers(2)
    with Client(command.port) as client:
        client.request("GET", "/stuck")
        until(lambda: "stuck" in command.out, "a stuck loop")
        command.signal(signal.SIGTERM)
        until(lambda: "stopped" in command.out, "the end of the other one")
        command.signal(signal.SIGTERM)
        status, _, err = command.finish()
    assert status == 1
    assert re.search(r"socketify: worker \d+ does not end: killing it\n", err)
    gone(*workers)


def test_a_third_signal_kills_at_once(project: Project) -> None:
    command = start(project)
    command.workers(2)
    with Client(command.port) as client:
        client.request("GET", "/stuck")
        until(lambda: "stuck" in command.out, "a stuck loop")
        command.signal(signal.SIGTERM)
        until(lambda: "stopped" in command.out, "the end of the other one")
        until(lambda: len(children(command.pid)) == 1, "one worker left")
        [stuck] = children(command.pid)
        for _ in range(2):
            # Signals of one number that wait are one signal.
            until(lambda: not pending(command.pid), "the signal before")
            command.signal(signal.SIGINT)
        command.finish()
    gone(stuck)


def pending(pid: int) -> bool:
    """Whether a process sleeps already with no signal waiting for it."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    masks = re.findall(r"^(?:Shd|Sig)Pnd:\s*([0-9a-f]+)", text, re.MULTILINE)
    return any(int(mask, 16) for mask in masks) or "S (sleeping)" not in text


# ---- no orphans -----------------------------------------------------------------------------------------------------


def test_no_orphans(project: Project) -> None:
    """Workers end by themselves when their supervisor is killed, and in order: their hooks run."""
    command = start(project)
    workers = command.workers(2)
    command.signal(signal.SIGKILL)
    command.process.wait(20)
    orphans_gone(*workers)
    status, out, _ = command.finish()
    assert status == -signal.SIGKILL
    assert out.count("stopped") == 2


def test_no_orphans_that_load(project: Project) -> None:
    """Also those that have not come to serving yet."""
    command = start(project, "import os, time\nos.write(1, b'loading\\n')\ntime.sleep(1000)\n")
    until(lambda: "loading" in command.out, "loading")
    workers = children(command.pid)
    command.signal(signal.SIGKILL)
    orphans_gone(*workers)


def test_no_orphans_that_are_stuck(project: Project) -> None:
    """Also those whose loop does not turn, after a while."""
    command = start(
        project, OBEDIENT.replace('    app.get("/", ', '    app.shutdown_timeout = 0\n    app.get("/", ')
    )
    workers = command.workers(2)
    with Client(command.port) as client:
        client.request("GET", "/stuck")
        until(lambda: "stuck" in command.out, "a stuck loop")
        command.signal(signal.SIGKILL)
        orphans_gone(*workers, timeout=45)


def test_no_zombies_of_others(project: Project) -> None:
    """As the first process of a container, the supervisor is given processes whose parents have ended."""
    # PR_SET_CHILD_SUBREAPER makes it what the first process is.
    first = (
        "import ctypes, sys; ctypes.CDLL(None).prctl(36, 1); from socketify.cli import main; sys.exit(main())"
    )
    project.write(
        "main.py",
        """
        import os, subprocess

        def run(app):
            app.get("/", lambda res, req: res.end(str(os.getpid())))
            # It ends when its standard input does, which is when this process does.
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
            app.get("/child", lambda res, req: res.end(f"{os.getpid()} {child.pid}"))
        """,
    )
    command = project.start("main:run", "-p", "0", "-w", "2", program=[sys.executable, "-c", first])
    command.workers(2)
    with Client(command.port) as client:
        worker, child = map(int, client.get("/child").body.split())
    os.kill(worker, signal.SIGKILL)
    gone(worker, child)
    assert command.stop()[0] == 0


# ---- restarting -----------------------------------------------------------------------------------------------------


def test_hangup_replaces_the_workers(project: Project) -> None:
    """One after the other, new code and all, and a request in progress is finished by the old one."""
    command = start(project)
    before = command.workers(2)
    with Client(command.port) as client:
        client.request("GET", "/slow")
        until(lambda: "begun" in command.out, "a request in progress")
        project.write("main.py", OBEDIENT.replace('b"stopped', 'b"new stopped'))
        command.signal(signal.SIGHUP)
        until(lambda: len(set(children(command.pid)) - set(before)) == 2, "two new workers")
        (project.directory / "go on").touch()
        finisher = client.answer().body
    assert int(finisher.removeprefix(b"finished by ")) in before
    gone(*before)
    after = command.workers(2)
    assert not set(before) & set(after)
    status, out, err = command.stop()
    assert (status, err) == (0, "")
    assert sorted(map(int, re.findall(r"^stopped (\d+)", out, re.MULTILINE))) == before
    assert sorted(map(int, re.findall(r"^new stopped (\d+)", out, re.MULTILINE))) == after
    assert out.count("Listening") == 1


def test_hangup_with_code_that_does_not_load(project: Project) -> None:
    """The old workers stay."""
    command = start(project)
    before = command.workers(2)
    project.write("main.py", "def run(app:\n")
    command.signal(signal.SIGHUP)
    command.said("before it served: the other workers stay as they are")
    assert "SyntaxError" in command.err
    assert command.workers(2) == before
    assert sorted(children(command.pid)) == before
    # And it can be tried again.
    project.write("main.py", OBEDIENT)
    command.signal(signal.SIGHUP)
    gone(*before)
    assert len(command.workers(2)) == 2
    assert command.stop()[0] == 0


def test_hangup_before_all_serve(project: Project) -> None:
    """It is said, and done as soon as there is somebody to serve meanwhile."""
    held = "import os, time\nos.write(1, b'loading\\n')\nwhile not os.path.exists('go on'):\n    time.sleep(0.01)\n"
    command = start(project, held + OBEDIENT)
    until(lambda: "loading" in command.out, "loading")
    [first] = children(command.pid)
    for _ in range(2):
        until(lambda: not pending(command.pid), "the signal before")
        command.signal(signal.SIGHUP)
    command.said("socketify: SIGHUP: the workers are replaced once all of them serve\n")
    (project.directory / "go on").touch()
    until(lambda: command.out.count("loading") == 4, "two workers, and two more in their places")
    gone(first)
    assert len(command.workers(2)) == 2
    status, out, err = command.stop()
    assert (status, out.count("stopped")) == (0, 4)
    assert err.count("SIGHUP") == 1


def test_hangup_of_the_terminal(project: Project) -> None:
    """A terminal that closes ends the programs that were started in it, in order."""
    inside = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    project.write("main.py", OBEDIENT)
    master, slave = os.openpty()
    program = [sys.executable, "-c", inside, sys.executable, "-m", "socketify"]
    command = project.start("main:run", "-p", "0", "-w", "2", program=program, stdin=slave)
    os.close(slave)
    workers = command.workers(2)
    # While it is there, the signal has its usual meaning.
    command.signal(signal.SIGHUP)
    gone(*workers)
    workers = command.workers(2)
    os.close(master)
    status, out, err = command.finish()
    assert (status, err) == (0, "")
    assert out.count("stopped") == 4
    gone(*workers)


def test_nohup_is_respected(project: Project) -> None:
    ignoring = "import os, signal, sys; signal.signal(1, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    program = [sys.executable, "-c", ignoring, sys.executable, "-m", "socketify"]
    project.write("main.py", OBEDIENT)
    command = project.start("main:run", "-p", "0", "-w", "2", program=program)
    workers = command.workers(2)
    ignored = re.search(r"SigIgn:\s*([0-9a-f]+)", Path(f"/proc/{command.pid}/status").read_text())
    assert ignored is not None
    assert int(ignored[1], 16) & 1
    command.signal(signal.SIGHUP)
    assert command.workers(2) == workers
    assert command.stop()[0] == 0
