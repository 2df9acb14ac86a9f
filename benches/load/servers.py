"""The servers of the comparison: their installation, start and end."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import certificate
import process

import client

HERE = Path(__file__).parent
APPS = HERE / "apps"
PEERS = HERE.parent / ".peers"
STATIC = PEERS / "files"
START_TIMEOUT = 20.0

FLOOR = "floor"
EPOLL_FLOOR = "floor-epoll"
TOKIO_FLOOR = "floor-tokio"
NGINX = "nginx"
FLOORS = (FLOOR, EPOLL_FLOOR, TOKIO_FLOOR, NGINX)
OURS = "socketify"

# The features that a work may need, and a server may have.
HTTP = "HTTP"
WEBSOCKET = "WebSocket"
ASYNC = "WebSocket handlers that are coroutines"
DEFLATE = "permessage-deflate"
TOPICS = "many topics"
FILES = "static files"
TLS = "HTTP/1.1 over TLS"
HTTP2 = "HTTP/2"
HTTP2_TLS = "HTTP/2 over TLS"

# The protocols other than HTTP/1.1 in the clear.
TRANSPORTS = {
    TLS: client.Transport(tls=True),
    HTTP2: client.Transport(http2=True),
    HTTP2_TLS: client.Transport(tls=True, http2=True),
}

# The arguments of the applications that are scripts.
CERTIFICATE_AND_KEY = ("{certificate}", "{key}")

# The original's system libraries: the Debian package, and the library that proves its presence.
SYSTEM_LIBRARIES = {"libuv1": "libuv.so.1", "zlib1g": "libz.so.1"}


class Unavailable(Exception):
    """A server that cannot take part, and the reason."""


class StartFailure(Exception):
    """A server that did not start, or did not keep running."""


@dataclass(frozen=True)
class Server:
    """A server, ready to be started."""

    name: str
    version: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    # The additional arguments for TLS, and for HTTP/2.
    for_tls: tuple[str, ...] = ()
    for_http2: tuple[str, ...] = ()

    def speaking(self, transport: client.Transport) -> tuple[str, ...]:
        """The command for this transport."""
        tls = self.for_tls if transport.tls else ()
        return (*self.command, *tls, *(self.for_http2 if transport.http2 else ()))


@dataclass
class Running:
    """A started server."""

    server: Server
    transport: client.Transport
    port: int
    started: subprocess.Popen[bytes]
    output: IO[bytes]
    seconds_to_answer: float

    def processes(self) -> list[int]:
        """Lists its processes."""
        return process.tree(self.started.pid)

    def tail(self, lines: int = 12) -> str:
        """Returns the end of its output."""
        self.output.seek(0)
        text = self.output.read().decode(errors="replace").strip()
        return "\n".join(text.splitlines()[-lines:]) or "(it printed nothing)"


def free_port() -> int:
    """Finds a free port."""
    with socket.socket() as probe:
        probe.bind((client.HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(server: Server, cores: set[int], transport: client.Transport = client.PLAIN) -> Iterator[Running]:
    """Starts a server on these cores, waits for its first response, and ends it with all its children."""
    port = free_port()
    known = {"host": client.HOST, "port": str(port)}
    if transport.tls:
        known["certificate"], known["key"] = map(str, certificate.files())
    command = [part.format(**known) for part in server.speaking(transport)]
    settings = {name: value.format(**known) for name, value in server.environment.items()}
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        try:
            with process.pinned(cores):
                started = subprocess.Popen(
                    command,
                    cwd=APPS,
                    env={**os.environ, **settings},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise StartFailure(f"cannot be started: {error.strerror}") from error
        try:
            seconds = client.first_answer(
                port, transport, begin, begin + START_TIMEOUT, lambda: started.poll() is None
            )
            live = Running(server, transport, port, started, output, seconds or 0.0)
            if seconds is None:
                ended = started.poll()
                state = f"ended with code {ended}" if ended is not None else "does not answer"
                tail = live.tail()
                raise StartFailure(f"{state}: {tail.splitlines()[-1]}\n{tail}")
            yield live
        finally:
            process.kill_tree(started.pid)
            started.wait()


def answer_of(command: Sequence[str | Path], cwd: Path = APPS) -> str:
    """Runs a short command and returns its output; reports the output if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"code {done.returncode}"]
        raise Unavailable(said[-1])
    return done.stdout.strip()


def version_of(python: Path | str, package: str) -> str:
    """Reads the version of an installed package."""
    source = f"from importlib.metadata import version; print(version({package!r}))"
    return answer_of([python, "-c", source])


def python_of(venv: Path) -> Path:
    """Gives the interpreter of a virtual environment."""
    return venv / "bin" / "python"


def pins() -> dict[str, list[str]]:
    """Reads the packages of each peer's virtual environment."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (HERE / "peers.txt").read_text().splitlines():
        text = line.strip()
        if text.startswith("["):
            current = sections.setdefault(text.strip("[]"), [])
        elif text and not text.startswith("#"):
            current.append(text)
    return sections


def peer_python(name: str, base: str) -> Path:
    """Creates the virtual environment of a peer, unless it exists with the right packages."""
    requirements = pins()[name]
    venv = PEERS / name
    python = python_of(venv)
    stamp = venv / "installed.txt"
    python_version = answer_of([base, "-c", "import sys; print(sys.version)"])
    wanted = hashlib.sha256("\n".join([python_version, *requirements]).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {name}: {' '.join(requirements)}", flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    answer_of([base, "-m", "venv", venv])
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    answer_of([*pip, *requirements])
    stamp.write_text(wanted)
    return python


def missing_libraries() -> list[str]:
    """Lists the Debian packages of the libraries that cannot be loaded."""
    missing = []
    for package, library in SYSTEM_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    return missing


def install_debian(packages: Sequence[str], allowed: bool) -> None:
    """Installs Debian packages, or raises an error that names them."""
    if not packages:
        return
    names = " ".join(packages)
    if not allowed or os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Unavailable(f"install these packages first: {names}")
    print(f"installing {names}", flush=True)
    settings = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise Unavailable(f"apt-get could not install {names}: {said[-1]}")


@dataclass(frozen=True)
class Sources:
    """The origin of the servers."""

    python: str
    install: bool


@functools.cache
def executable(name: str) -> str:
    """Builds the Rust programs and asks cargo for their paths."""
    if shutil.which("cargo") is None:
        raise Unavailable("cargo is not on the PATH")
    print(f"building {name}", flush=True)
    build = ["cargo", "build", "--release", "--locked", "--quiet", "--message-format=json-render-diagnostics"]
    for line in answer_of([*build, "--bin", name], cwd=HERE).splitlines():
        message = json.loads(line)
        if message.get("executable"):
            return str(message["executable"])
    raise Unavailable(f"cargo built no {name}")


def floor(sources: Sources) -> Server:
    """The floor of HTTP."""
    command = (executable("floor-hyper"), "--host", "{host}", "--port", "{port}")
    return Server(
        FLOOR,
        f"hyper {locked_version('hyper')}, rustls {locked_version('rustls')}",
        command,
        for_tls=("--certificate", "{certificate}", "--key", "{key}"),
        for_http2=("--http", "2"),
    )


def epoll_floor(sources: Sources) -> Server:
    """The floor of WebSocket: system calls and nothing else."""
    command = (executable("floor-ws"), "--on", "epoll", "--host", "{host}", "--port", "{port}")
    return Server(EPOLL_FLOOR, f"rustix {locked_version('rustix')}", command)


def tokio_floor(sources: Sources) -> Server:
    """The same on the runtime of this project."""
    command = (executable("floor-ws"), "--on", "tokio", "--host", "{host}", "--port", "{port}")
    return Server(TOKIO_FLOOR, f"tokio {locked_version('tokio')}", command)


def locked_version(crate: str) -> str:
    """Reads the version of a crate from the floors' lock file."""
    lines = (HERE / "Cargo.lock").read_text().splitlines()
    at = lines.index(f'name = "{crate}"')
    return lines[at + 1].split('"')[1]


def ours(sources: Sources) -> Server:
    """The package of this project, from its interpreter."""
    try:
        answer_of([sources.python, "-c", "import socketify"])
        version = version_of(sources.python, "socketify")
    except Unavailable as error:
        raise Unavailable(f"`import socketify` fails in the interpreter of --python: {error}") from error
    if version == "0.0.31":
        raise Unavailable("the interpreter of --python holds the original, not this project")
    command = (sources.python, "socketify_app.py", "{host}", "{port}", str(STATIC))
    # It speaks HTTP/2 if a client asks for it.
    return Server(OURS, version, command, for_tls=CERTIFICATE_AND_KEY)


def original(sources: Sources) -> Server:
    """The original, socketify 0.0.31."""
    install_debian(missing_libraries(), sources.install)
    python = peer_python("socketify-0.0.31", sources.python)
    command = (str(python), "socketify_app.py", "{host}", "{port}", str(STATIC))
    version = version_of(python, "socketify")
    return Server("socketify-0.0.31", version, command, for_tls=CERTIFICATE_AND_KEY)


def granian(sources: Sources, name: str, interface: str, target: str) -> Server:
    """Granian: one worker, one runtime thread, uvloop."""
    python = peer_python("granian", sources.python)
    options = (
        f"--interface {interface} --http 1 --workers 1 --runtime-threads 1 --loop uvloop --log-level warning"
    )
    command = (str(python), "-m", "granian", "--host", "{host}", "--port", "{port}", *options.split(), target)
    return Server(
        name,
        version_of(python, "granian"),
        command,
        # Its limit of requests also limits connections, and the idle work opens ten thousand.
        for_tls=(
            *("--ssl-certificate", "{certificate}", "--ssl-keyfile", "{key}"),
            *("--backlog", "16384", "--backpressure", "16384"),
        ),
        for_http2=("--http", "2"),
    )


def granian_rsgi(sources: Sources) -> Server:
    """Granian's own interface."""
    return granian(sources, "granian-rsgi", "rsgi", "granian_rsgi:app")


def granian_asgi(sources: Sources) -> Server:
    """Granian's ASGI, without the lifespan protocol, as uvicorn runs here."""
    return granian(sources, "granian-asgi", "asginl", "asgi:app")


def uvicorn(sources: Sources) -> Server:
    """Uvicorn on httptools and uvloop; idle connections outlive the idle work."""
    python = peer_python("uvicorn", sources.python)
    options = "--http httptools --loop uvloop --lifespan off --no-access-log --log-level warning"
    keep = "--timeout-keep-alive 75"
    command = (
        *(str(python), "-m", "uvicorn", "--host", "{host}", "--port", "{port}"),
        *options.split(),
        *keep.split(),
        "asgi:app",
    )
    for_tls = ("--ssl-certfile", "{certificate}", "--ssl-keyfile", "{key}")
    return Server("uvicorn", version_of(python, "uvicorn"), command, for_tls=for_tls)


def hypercorn(sources: Sources) -> Server:
    """Hypercorn on uvloop, which speaks HTTP/2 if a client asks for it."""
    python = peer_python("hypercorn", sources.python)
    command = (str(python), "hypercorn_app.py", "{host}", "{port}")
    return Server("hypercorn", version_of(python, "hypercorn"), command, for_tls=CERTIFICATE_AND_KEY)


def robyn(sources: Sources) -> Server:
    """Robyn: one process, one worker."""
    python = peer_python("robyn", sources.python)
    options = "--processes 1 --workers 1 --log-level WARNING --disable-openapi"
    command = (str(python), "robyn_app.py", *options.split())
    settings = {"ROBYN_HOST": "{host}", "ROBYN_PORT": "{port}", "ROBYN_KEEP_ALIVE_TIMEOUT": "75"}
    return Server("robyn", version_of(python, "robyn"), command, settings)


def static_file(size: int) -> Path:
    """A file of that many bytes below the folder of `/files`, made at the first call."""
    path = STATIC / f"{size}.bin"
    if not path.exists():
        STATIC.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return path


def nginx(sources: Sources) -> Server:
    """Nginx from Debian, one worker, with its documentation's settings for files: the floor of files."""
    if shutil.which("nginx") is None:
        install_debian(["nginx"], sources.install)
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    command = (sources.python, "nginx.py", "{host}", "{port}", str(STATIC))
    return Server(NGINX, version.strip().rpartition("/")[2], command)


def granian_files(sources: Sources) -> Server:
    """Granian's static files, in front of the same application."""
    server = granian(sources, "granian-files", "rsgi", "granian_rsgi:app")
    options = ("--static-path-route", "/files", "--static-path-mount", str(STATIC))
    return Server(server.name, server.version, (*server.command, *options))


def picows(sources: Sources) -> Server:
    """Picows on uvloop."""
    python = peer_python("picows", sources.python)
    command = (str(python), "picows_app.py", "{host}", "{port}")
    return Server("picows", version_of(python, "picows"), command)


def websockets(sources: Sources) -> Server:
    """The asyncio server of websockets, on uvloop."""
    python = peer_python("websockets", sources.python)
    command = (str(python), "websockets_app.py", "{host}", "{port}")
    return Server("websockets", version_of(python, "websockets"), command)


@dataclass(frozen=True)
class Entry:
    """A server that can be selected."""

    make: Callable[[Sources], Server]
    has: frozenset[str]


def entry(make: Callable[[Sources], Server], *has: str) -> Entry:
    """Writes an entry of the table."""
    return Entry(make, frozenset(has))


# In the order of the tables.
ALL: dict[str, Entry] = {
    FLOOR: entry(floor, HTTP, TLS, HTTP2, HTTP2_TLS),
    EPOLL_FLOOR: entry(epoll_floor, WEBSOCKET, ASYNC),
    TOKIO_FLOOR: entry(tokio_floor, WEBSOCKET, ASYNC),
    NGINX: entry(nginx, FILES),
    OURS: entry(ours, HTTP, WEBSOCKET, ASYNC, DEFLATE, TOPICS, FILES, TLS, HTTP2, HTTP2_TLS),
    "socketify-0.0.31": entry(original, HTTP, WEBSOCKET, ASYNC, DEFLATE, TOPICS, FILES, TLS),
    "granian-rsgi": entry(granian_rsgi, HTTP, WEBSOCKET, ASYNC, TLS, HTTP2, HTTP2_TLS),
    "granian-asgi": entry(granian_asgi, HTTP),
    "granian-files": entry(granian_files, FILES),
    "uvicorn": entry(uvicorn, HTTP, TLS),
    "hypercorn": entry(hypercorn, TLS, HTTP2, HTTP2_TLS),
    "robyn": entry(robyn, HTTP),
    "picows": entry(picows, WEBSOCKET),
    "websockets": entry(websockets, WEBSOCKET, ASYNC, DEFLATE),
}
