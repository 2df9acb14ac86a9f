"""The pages of the interfaces that other servers have too: each block of code and each command in them is run, or
read by the program that it is for."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from serving import clean, free_port
from websockets.sync.client import connect

from conftest import Start
from support import tool, until
from support.command import Command
from support.proxies import Front

pytestmark = pytest.mark.ours("the pages are about this server")
ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = ["asgi.md", "wsgi.md", "from-uvicorn.md", "from-gunicorn.md", "from-granian.md", "deploying.md"]
FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| `((?:uvicorn|gunicorn|granian) [^`]+)` \| `(socketify [^`]+)` \|$", re.MULTILINE)

#: What most commands of these pages serve; it says who asks, and has a WebSocket and an event stream.
PROGRAM = """
import asyncio, json


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError("not supported")
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    streaming = scope["path"] == "/events"
    kind = b"text/event-stream" if streaming else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if streaming:
        await send({"type": "http.response.body", "body": b"data: first\\n\\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    seen = {"client": scope["client"], "scheme": scope["scheme"], "host": dict(scope["headers"])[b"host"].decode()}
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
"""


class Block(NamedTuple):
    page: str
    kind: str
    code: str


BLOCKS = [
    Block(page, match["kind"], match["code"])
    for page in PAGES
    for match in FENCE.finditer((DOCS / page).read_text())
]
COMMANDS = [
    (block.page, line.split("#")[0].strip())
    for block in BLOCKS
    if block.kind == "sh"
    for line in block.code.splitlines()
]


def block(page: str, kind: str, beginning: str = "") -> str:
    """The code of a block that there is once."""
    (found,) = [each.code for each in BLOCKS if each[:2] == (page, kind) and each.code.startswith(beginning)]
    return found


def understood(*words: str) -> dict[str, Any]:
    """What our command line makes of words; an error ends the test."""
    from socketify.processes.flags import parse, parser

    return dict(parse(parser("socketify"), words))


def client_of(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a program, keys and certificates, as the commands expect them."""
    from support.certificates import Authority

    (tmp_path / "main.py").write_text(PROGRAM)
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "style.css").write_text("body {}")
    authority = Authority(tmp_path, "ca")
    options = authority.options("localhost")
    Path(str(options.key_file_name)).rename(tmp_path / "key.pem")
    Path(str(options.cert_file_name)).rename(tmp_path / "cert.pem")
    return tmp_path


def write_programs(page: str, directory: Path) -> None:
    """Writes those programs of a page that have a name."""
    for each in BLOCKS:
        if each.page == page and (name := re.match(r"# (\w+\.py)\n", each.code)):
            (directory / name[1]).write_text(each.code)


@pytest.fixture
def run(directory: Path) -> Iterator[Callable[..., Command]]:
    """Runs commands in that directory."""
    running: list[Command] = []

    def begin(*words: str, program: list[str] | None = None) -> Command:
        running.append(Command(directory, *words, program=program or [sys.executable, "-m", "socketify"]))
        return running[-1]

    yield begin
    for command in running:
        command.kill()


def test_each_block_is_tested() -> None:
    """A block of a new kind needs a test here."""
    assert {each.kind for each in BLOCKS} <= {"python", "sh", "ini", "nginx", "caddy", "dockerfile", "yaml"}
    for page in PAGES:
        assert (DOCS / page).read_text().count("\n```") == 2 * sum(each.page == page for each in BLOCKS)


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[" ".join(each) for each in COMMANDS])
def test_command(run: Callable[..., Command], directory: Path, page: str, command: str) -> None:
    """It serves the program of its page, and ends in order."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "socketify"]
    write_programs(page, directory)
    served = [word.replace("10.0.0.0/8", "127.0.0.0/8") for word in words[3:]]
    if "--port" in served:
        del served[served.index("--port") : served.index("--port") + 2]
    running = run(*served, "--port", "0")
    secure = "--ssl-keyfile" in served
    address = (
        ["--insecure", f"https://127.0.0.1:{running.port}/"]
        if secure
        else [f"http://127.0.0.1:{running.port}/"]
    )
    if "required" in served:
        address.insert(0, "--haproxy-protocol")
    if "--static" in served:
        with client_of(running.port) as client:
            assert client.get("/static/style.css").text == "body {}"
    got = subprocess.run(
        [tool("curl"), "-sS", "--fail", "--noproxy", "*", *address],
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert got.returncode == 0, (got.stderr, running.err)
    assert got.stdout
    clean(running.stop())


def test_program_in_memory(run: Callable[..., Command], directory: Path) -> None:
    """The programs that serve by themselves."""
    for page in ("asgi.md", "wsgi.md"):
        program = next(each.code for each in BLOCKS if each.page == page and ").listen(3000" in each.code)
        (directory / "program.py").write_text(program.replace("listen(3000", "listen(0"))
        running = run("program.py", program=[sys.executable])
        until(
            lambda running=running: "Listening on" in running.out or running.process.poll() is not None, page
        )
        found = re.search(r"localhost:(\d+)", running.out)
        assert found is not None, running.finish()
        with client_of(int(found[1])) as client:
            assert client.get("/").text == "Hello, World!"
        clean(running.stop())


def test_program_with_run(run: Callable[..., Command], directory: Path) -> None:
    """socketify.run takes the place of uvicorn.run, workers included."""
    port = free_port()
    (directory / "main.py").write_text(
        block("from-uvicorn.md", "python").replace("port=8000", f"port={port}")
    )
    running = run("main.py", program=[sys.executable])

    def responds() -> bool:
        assert running.process.poll() is None, running.finish()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    until(responds, "serving")
    with client_of(port) as client:
        assert client.get("/").text == "Hello"
    clean(running.stop())


def test_sockets_beside_wsgi(start: Start, directory: Path) -> None:
    """S-WSGI-36."""
    write_programs("wsgi.md", directory)
    site = start("main:app", "--ws", "live:sockets", interface="wsgi", PYTHONPATH=str(directory))
    with site.websocket("/") as socket:
        for text in ("one", "two"):
            socket.send(text)
            assert socket.recv(20) == text.upper()
            assert site.http.get("/").text == "Hello, World!"


def test_topics(start: Start, directory: Path) -> None:
    write_programs("asgi.md", directory)
    site = start("rooms:app", PYTHONPATH=str(directory))
    with site.websocket("/blue") as first, site.websocket("/blue") as second, site.websocket("/red") as other:
        first.send("hello")
        assert [first.recv(20), second.recv(20)] == ["hello", "hello"]
        other.send("red")
        assert other.recv(20) == "red"


# ---- commands of other servers -----------------------------------------------------------------------------------------

ROWS = [
    (before, after)
    for page in PAGES
    if page.startswith("from")
    for before, after in ROW.findall((DOCS / page).read_text())
]
#: Words that are refused; the row says what to use. (A call of a factory is refused when it is imported.)
REFUSED = ("-k", "--umask", "--proxy-protocol")
#: What a row leaves out because it is our default, or says so beside.
IMPLIED = {"interface", "proxy_headers", "http", "ws", "uds_mode", "loop", "lifespan", "proxy_protocol"}


def test_the_pages_have_rows() -> None:
    assert len(ROWS) >= 40


@pytest.mark.parametrize(("before", "after"), ROWS, ids=[before for before, _ in ROWS])
def test_row(before: str, after: str) -> None:
    """S-CLI-08: what stands beside means the same, and what is accepted under its old name means that too."""
    ours = understood(*shlex.split(after)[1:])
    words = shlex.split(before)[1:]
    if any(word in words for word in REFUSED):
        with pytest.raises(SystemExit):
            understood(*words)
        return
    theirs = understood(*words)
    if theirs["target"].endswith("()"):
        theirs = {"target": theirs["target"].removesuffix("()"), "factory": True}
    for option in theirs.keys() - IMPLIED:
        assert ours[option] == theirs[option], option


# ---- deploying -------------------------------------------------------------------------------------------------------


def test_unit(tmp_path: Path) -> None:
    """systemd understands the unit, and our command line the command in it."""
    text = block("deploying.md", "ini")
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    words = unit["Service"]["ExecStart"].split()
    assert words[1:3] == ["-m", "socketify"]
    asked = understood(*words[3:])
    assert float(unit["Service"]["TimeoutStopSec"]) > 30
    assert asked["uds"] == "/run/shop/shop.sock"
    path = tmp_path / "shop.service"
    path.write_text(
        text.replace("/srv/shop/.venv/bin/python", sys.executable).replace("/srv/shop", str(tmp_path))
    )
    checked = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "shop.service" not in checked.stderr.replace(str(path.parent), ""), checked.stderr
    assert checked.returncode == 0, checked.stderr


@pytest.fixture
def behind(run: Callable[..., Command], directory: Path) -> str:
    """A server on a Unix socket; its path."""
    path = f"/tmp/socketify-pages-{os.getpid()}.sock"
    running = run("main:app", "--uds", path, "--uds-mode", "666")
    until(lambda: "Listening" in running.out or running.process.poll() is not None, "listening")
    return path


def through(port: int, origin: str) -> None:
    """What a proxy in front has to pass on: who asks, an event stream piece by piece, and a WebSocket."""
    with client_of(port) as client:
        seen = client.get("/", headers={"host": origin}).json()
        assert seen["client"][0] == "127.0.0.1"
        assert seen["host"] == origin
        asked = time.monotonic()
        with client.stream("GET", "/events", headers={"host": origin}) as answer:
            assert next(answer.iter_text()) == "data: first\n\n"
        assert time.monotonic() - asked < 5
    with connect(f"ws://{origin}/", proxy=None, sock=socket.create_connection(("127.0.0.1", port))) as ws:
        for text in ("one", "two"):
            ws.send(text)
            assert ws.recv(20) == text


def test_nginx(behind: str, directory: Path) -> None:
    port = free_port()
    site = block("deploying.md", "nginx").replace("listen 80;", f"listen 127.0.0.1:{port};")
    site = site.replace("unix:/run/shop/shop.sock", f"unix:{behind}")
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    configuration.write_text(
        f"{user} daemon off; pid {directory}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{site}\n}}\n"
    )
    with Front([tool("nginx"), "-c", str(configuration)], port):
        through(port, "shop.example")


def test_caddy(behind: str, directory: Path) -> None:
    port = free_port()
    site = block("deploying.md", "caddy").replace("shop.example", f"http://shop.example:{port}")
    site = site.replace("unix//run/shop/shop.sock", f"unix/{behind}")
    configuration = directory / "Caddyfile"
    configuration.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + site)
    command = [tool("caddy"), "run", "--adapter", "caddyfile", "--config", str(configuration)]
    with Front(command, port):
        through(port, f"shop.example:{port}")


def test_container(directory: Path) -> None:
    """The command of the image is one of ours; nothing here builds images."""
    text = block("deploying.md", "dockerfile")
    instructions = dict(line.split(" ", 1) for line in text.splitlines() if line)
    words = json.loads(instructions["CMD"])
    assert words[:3] == ["python", "-m", "socketify"]
    asked = understood(*words[3:])
    assert (asked["host"], asked["port"]) == ("0.0.0.0", int(instructions["EXPOSE"]))
    assert instructions["FROM"].startswith("python:3.")


def test_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports, probes and times fit together."""
    pod = yaml.safe_load(block("deploying.md", "yaml"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"][:3] == ["python", "-m", "socketify"]
    asked = understood(*container["args"][3:])
    ports = {each["containerPort"] for each in container["ports"]}
    assert ports == {asked["port"]}
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    asked = understood(*container["args"][3:])
    times = asked["shutdown_delay"] + asked["shutdown_timeout"]
    assert pod["terminationGracePeriodSeconds"] >= times + 5
