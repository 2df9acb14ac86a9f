"""Certificates read anew while the server runs: `reload_certificates`, SIGHUP, connections and sessions."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from socketify import App, AppOptions
from socketify.testing import Connection, TestServer
from support import Program, until
from support.certificates import Authority, expired, names_of, resumed
from support.command import APPLICATION, Project


def routes(app: App) -> None:
    app.get("/", lambda res, req: res.end("hello"))


def shown(server: TestServer, context: ssl.SSLContext, name: str | None = None) -> list[str]:
    """The names in the certificate that a new connection is shown."""
    context.check_hostname = False
    with server.connect(ssl_context=context, server_name=name) as connection:
        return names_of(connection)


def replace(options: AppOptions, by: AppOptions) -> None:
    """Writes other contents to the files of ``options``."""
    Path(str(options.key_file_name)).write_bytes(Path(str(by.key_file_name)).read_bytes())
    Path(str(options.cert_file_name)).write_bytes(Path(str(by.cert_file_name)).read_bytes())


def test_new_connections_get_the_new_certificate(authority: Authority) -> None:
    """Open ones go on, and names are read anew as well."""
    options = authority.options("localhost")
    name = authority.options("one.test")
    with TestServer(routes, options=options) as server:
        server.app.add_server_name("one.test", name)
        server.app.add_server_name("two.test")
        context = authority.context()
        with server.connect(ssl_context=context) as connection:
            assert connection.request("GET").text == "hello"
            replace(options, authority.options("new.localhost"))
            replace(name, authority.options("new.one.test"))
            assert server.app.reload_certificates() is server.app
            assert connection.request("GET").text == "hello"
        assert shown(server, context) == ["new.localhost"]
        assert shown(server, context, "one.test") == ["new.one.test"]
        assert shown(server, context, "two.test") == ["new.localhost"]


def test_what_is_wrong_changes_nothing(authority: Authority) -> None:
    """For none of the names, and the error names the file and its name."""
    options, name = authority.options("localhost"), authority.options("one.test")
    with TestServer(routes, options=options) as server:
        server.app.add_server_name("one.test", name)
        replace(options, authority.options("new.localhost"))
        Path(str(name.cert_file_name)).write_text("half a file")
        with pytest.raises(
            RuntimeError, match=r"stay as they were.*\"one\.test\".*cert_file_name.*one\.test\.crt"
        ):
            server.app.reload_certificates()
        assert shown(server, authority.context()) == ["localhost"]
        assert shown(server, authority.context(), "one.test") == ["one.test"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_outlive_a_reload(authority: Authority, version: ssl.TLSVersion) -> None:
    """A renewed certificate is no reason for every client to begin anew."""
    options = authority.options("localhost")
    with TestServer(routes, options=options) as server:
        context = authority.context()
        context.minimum_version = context.maximum_version = version
        with server.connect(ssl_context=context) as connection:
            connection.request("GET")
            session = connection.socket.session  # type: ignore[attr-defined]
        replace(options, authority.options("localhost"))
        server.app.reload_certificates()
        with resumed(server, context, session) as again:
            assert again.session_reused is True


def test_a_warning_of_a_reload(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is raised as one, or logged where it would be an error: the certificates have still been read."""
    options = authority.options("localhost")
    late = expired(tmp_path, "late.test")
    with TestServer(routes, options=options) as server:
        replace(options, late)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert server.app.reload_certificates() is server.app
        assert "has expired on 2002-03-04" in caplog.text
        with pytest.warns(RuntimeWarning, match="has expired on 2002-03-04") as said:
            server.app.reload_certificates()
        # The line of its caller.
        assert said[0].filename == __file__


def test_names_come_and_go_during_a_reload(authority: Authority, tmp_path: Path) -> None:
    """Adding one does not wait for the files of the others, and removed ones stay removed."""
    options = authority.options("localhost")
    slow = authority.options("slow.test")
    with TestServer(routes, options=options) as server:
        app = server.app
        for name in ("gone.test", "again.test", "slow.test"):
            app.add_server_name(name, slow if name == "slow.test" else authority.options(name))
        key = Path(str(slow.key_file_name))
        text = key.read_bytes()
        key.unlink()
        # A reader of this waits for a writer.
        os.mkfifo(key)
        reload = threading.Thread(target=app.reload_certificates)
        reload.start()
        with key.open("wb") as pipe:
            # The reload is in the middle of it.
            app.add_server_name("new.test", authority.options("new.test"))
            app.remove_server_name("gone.test")
            app.remove_server_name("again.test")
            app.add_server_name("again.test", authority.options("other.test"))
            assert shown(server, authority.context(), "new.test") == ["new.test"]
            pipe.write(text)
        reload.join(20)
        assert not reload.is_alive()
        assert shown(server, authority.context(), "new.test") == ["new.test"]
        assert shown(server, authority.context(), "slow.test") == ["slow.test"]
        assert shown(server, authority.context(), "gone.test") == ["localhost"]
        assert shown(server, authority.context(), "again.test") == ["other.test"]


# ---- SIGHUP -------------------------------------------------------------------------------------------------------------

PROGRAM = """
import logging
from socketify import AppOptions
logging.basicConfig(level=logging.INFO)
{before}
app = App(AppOptions(os.environ["KEY"], os.environ["CERTIFICATE"]))
app.get("/", lambda res, req: res.end("hello"))
app.listen({{"host": "127.0.0.1", "port": 0}}, lambda config: app.loop.loop.call_soon(ready, config))
app.run()
say("after")
"""


#: A response by the loop's thread.
COROUTINE = """
async def answer(res, req):
    await asyncio.sleep(0)
    res.end("a coroutine")

class App(App):
    def run(self):
        self.get("/async", answer)
        super().run()
"""

#: The program becomes a job of a terminal, which closes at SIGUSR1.
IN_A_TERMINAL = """
import fcntl, termios

def wait(pid):
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
master, slave = os.openpty()
if shell := os.fork():
    os.close(slave)
    signal.sigwait([signal.SIGUSR1])
    os.close(master)
    say("the terminal is gone")
    wait(shell)
os.close(master)
os.setsid()
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
os.close(slave)
if not {foreground}:
    # A shell survives its terminal for as long as it waits here.
    signal.signal(signal.SIGHUP, lambda *_: None)
    if job := os.fork():
        wait(job)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.setpgid(0, 0)
say(os.getpid())
"""


def certificate_at(authority: Authority, port: int) -> list[str]:
    context = authority.context()
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", port), 20) as plain, context.wrap_socket(plain) as secure:
        found: Any = secure.getpeercert()
        return [value for _, value in found["subjectAltName"]]


def program(options: AppOptions, before: str = "") -> Program:
    files = {"KEY": str(options.key_file_name), "CERTIFICATE": str(options.cert_file_name)}
    return Program(PROGRAM.format(before=before), **files)


def test_sighup_reads_anew(authority: Authority) -> None:
    """A file that is wrong is logged and ends nothing; then it is right."""
    options = authority.options("localhost")
    good = Path(str(options.cert_file_name)).read_bytes()
    with program(options) as running:
        running.listening()
        assert certificate_at(authority, running.port) == ["localhost"]
        Path(str(options.cert_file_name)).write_text("half a file")
        running.signal(signal.SIGHUP)
        assert running.process.stderr is not None
        line = running.process.stderr.readline().decode()
        assert "SIGHUP: Failed to reload the certificates" in line
        assert "localhost.crt" in line
        assert certificate_at(authority, running.port) == ["localhost"]
        Path(str(options.cert_file_name)).write_bytes(good)
        replace(options, authority.options("new.test"))
        running.signal(signal.SIGHUP)
        until(lambda: certificate_at(authority, running.port) == ["new.test"], "the new certificate")
        running.signal(signal.SIGTERM)
        assert running.finish()[0] == 0


def test_sighup_holds_up_nobody(authority: Authority) -> None:
    """Reading takes as long as a disk does, while coroutines go on; a call meanwhile gets another reading
    after it."""
    options = authority.options("localhost")
    certificate = Path(str(options.cert_file_name))
    with program(options, COROUTINE) as running:
        running.listening()
        text = certificate.read_bytes()
        certificate.unlink()
        # A reader of this waits for a writer.
        os.mkfifo(certificate)
        running.signal(signal.SIGHUP)
        with (
            certificate.open("wb") as pipe,
            Connection(("127.0.0.1", running.port), 20, authority.context()) as client,
        ):
            for _ in range(3):
                assert client.request("GET", "/async").text == "a coroutine"
            pipe.write(text)
        line = running.process.stderr
        assert line is not None
        assert "have been read anew" in line.readline().decode()
        running.signal(signal.SIGTERM)
        assert running.finish()[0] == 0


@pytest.mark.parametrize("foreground", [True, False])
def test_sighup_after_the_terminal_has_gone(authority: Authority, foreground: bool) -> None:
    """It ends what ran in the foreground of a terminal that has closed. What ran behind it reads anew."""
    options = authority.options("localhost")
    with program(options, IN_A_TERMINAL.format(foreground=foreground)) as running:
        process = int(running.word())
        running.listening()
        running.signal(signal.SIGUSR1)
        assert running.word() == "the terminal is gone"
        if not foreground:
            replace(options, authority.options("new.test"))
            os.kill(process, signal.SIGHUP)
            until(lambda: certificate_at(authority, running.port) == ["new.test"], "the new certificate")
            os.kill(process, signal.SIGTERM)
        code, _, err = running.finish()
        assert (code, "Traceback" in err) == (0, False)


def test_a_handler_of_the_program_has_the_say(authority: Authority) -> None:
    """Nor is it taken away by the end."""
    options = authority.options("localhost")
    with program(options, "signal.signal(signal.SIGHUP, lambda *_: say('mine'))") as running:
        running.listening()
        running.signal(signal.SIGHUP)
        # The handler runs when the loop's thread does next.
        until(lambda: certificate_at(authority, running.port) == ["localhost"], "an answer")
        assert running.word() == "mine"
        running.signal(signal.SIGTERM)
        assert running.finish()[0] == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_of_the_command_line(authority: Authority, project: Project, workers: str) -> None:
    """F-19: one process reads anew, several are replaced one after the other."""
    project.write("main.py", APPLICATION)
    options = authority.options("localhost")
    files = ["--ssl-keyfile", str(options.key_file_name), "--ssl-certfile", str(options.cert_file_name)]
    command = project.start("main:run", "--port", "0", "--workers", workers, *files)
    port = command.port
    assert f"Listening on https://127.0.0.1:{port} now" in command.out
    assert certificate_at(authority, port) == ["localhost"]
    answering: set[str] = set()

    def all_serve() -> bool:
        with Connection(("127.0.0.1", port), 20, authority.context()) as connection:
            answering.add(connection.request("GET").text)
        return len(answering) == int(workers)

    # A supervisor renews nothing before it is complete.
    until(all_serve, "an answer of each worker")
    replace(options, authority.options("new.test"))
    command.signal(signal.SIGHUP)

    def renewed() -> bool:
        try:
            return certificate_at(authority, port) == ["new.test"]
        except OSError:
            # A worker that goes ends the handshakes that it has begun.
            return False

    until(renewed, "the new certificate")
    assert command.stop()[0] == 0
