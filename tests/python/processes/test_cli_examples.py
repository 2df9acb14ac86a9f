"""The examples of the command line, run as each of them describes (api.md H-05, H-06)."""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client import Client
from support.command import Command
from support.ws_client import BINARY, TEXT, connect

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "cli"


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[Command]:
    """The command in an example's docstring, on a free port."""
    text = (EXAMPLES / f"{request.param}.py").read_text()
    found = re.search(r"^ +((?:\w+=\w+ )*)python -m socketify (.*)$", text, re.MULTILINE)
    assert found is not None
    environment = dict(pair.split("=") for pair in found[1].split())
    command = Command(EXAMPLES, *shlex.split(found[2]), "--port", "0", **environment)
    yield command
    if command.process.poll() is None:
        command.signal(signal.SIGTERM)
        assert command.finish()[0] == 0
    command.kill()


@pytest.mark.parametrize("started", ["hello_world_cli"], indirect=True)
def test_hello_world_cli(started: Command) -> None:
    """H-05: two processes answer."""
    answered = set()
    # The second one may come up later.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with Client(started.port) as client:
            answer = re.fullmatch(rb"Hello, World! This is process (\d+)\.\n", client.get("/").body)
            assert answer is not None
            answered.add(int(answer[1]))
        if len(answered) == 2:
            return
    pytest.fail(f"only {answered} answered")


@pytest.mark.parametrize("started", ["hello_world_cli_ws"], indirect=True)
def test_hello_world_cli_ws(started: Command) -> None:
    """H-06: greets, and echoes text and bytes; HTTP works too."""
    with Client(started.port) as client:
        assert client.get("/").body == b"Hello, World!\n"
    with connect(started.port) as client:
        assert client.recv_message() == "Hello World!"
        client.send_text("text").send_binary(b"bytes")
        assert client.recv_frame()[2:] == (TEXT, b"text")
        assert client.recv_frame()[2:] == (BINARY, b"bytes")


@pytest.mark.parametrize("started", ["settings"], indirect=True)
def test_settings(started: Command) -> None:
    with Client(started.port) as client:
        assert client.get("/").body == b"Hi, World!\n"
        assert client.request("POST", "/", body=b"").answer().status == 404


def test_every_example_is_tested() -> None:
    source = Path(__file__).read_text()
    assert all(f'"{path.stem}"' in source for path in EXAMPLES.glob("*.py"))
