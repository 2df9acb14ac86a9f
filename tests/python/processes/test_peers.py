"""Options of uvicorn, gunicorn, granian and hypercorn on our command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from socketify import cli
from socketify.processes import command_line, flags, peers
from socketify.processes.invocation import Invocation
from support.certificates import Authority


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Invocation]:
    """The command line's application, not served."""
    calls: list[Invocation] = []

    def serve(settings: Invocation, where: Any, ready: object) -> int:
        calls.append(settings)
        return 0

    monkeypatch.setattr(command_line, "serve", serve)
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    return calls


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--timeout-keep-alive", "5"], {"keep_alive_timeout": 5.0}),
        (["--keep-alive=2"], {"keep_alive_timeout": 2.0}),
        (["--timeout-graceful-shutdown", "10"], {"shutdown_timeout": 10.0}),
        (["--graceful-timeout", "30s"], {"shutdown_timeout": 30.0}),
        (["--workers-kill-timeout", "1m"], {"shutdown_timeout": 60.0}),
        (["--limit-concurrency", "100"], {"max_requests": 100}),
        (["--worker-connections", "1000"], {"max_connections": 1000}),
        (["--backpressure", "16"], {"max_connections": 16}),
        (["--h11-max-incomplete-event-size", "16384"], {"max_header_bytes": 16384}),
        (["--limit-request-fields", "50"], {"max_headers": 50}),
        (["--http1-header-read-timeout", "30000"], {"header_timeout": 30.0}),
        (["--http1-keep-alive"], {"keep_alive_timeout": 75.0}),
        (["--no-http1-keep-alive"], {"keep_alive_timeout": 0.0}),
        (["--read-timeout", "3"], {"body_timeout": 3.0}),
        (["--runtime-threads", "2"], {"io_threads": 2}),
        (["--access-logfile", "-"], {"access_log": True}),
        (["--no-access-log"], {"access_log": False}),
        (["--http", "1"], {"http2": False}),
        (["--http", "h11"], {"http2": True}),
        (["--loop", "uvloop"], {"use_uvloop": True}),
        (["--loop", "auto"], {"use_uvloop": False}),
        (["--no-server-header"], {"server_header": ""}),
        (["--no-proxy-headers"], {"trusted_proxies": []}),
        (["--forwarded-allow-ips", "10.0.0.0/8"], {"trusted_proxies": ["10.0.0.0/8"]}),
    ],
)
def test_options_of_app(served: list[Invocation], arguments: list[str], expected: dict[str, object]) -> None:
    """S-CLI-08, S-CLI-37."""
    assert cli.main(["main:run", *arguments]) == 0
    assert cli.main([*arguments, "main:run"]) == 0
    assert [each.app_options for each in served] == [expected] * 2


def pings(seconds: float) -> dict[str, object]:
    return {"send_pings_automatically": bool(seconds), "idle_timeout": seconds}


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        (["--root-path", "/api/"], "front_options", {"root_path": "/api"}),
        (["--url-path-prefix", "/api"], "front_options", {"root_path": "/api"}),
        (["--root-path", "/"], "front_options", {"root_path": ""}),
        (["--startup-timeout", "2m"], "front_options", {"startup_timeout": 120.0}),
        (["--interface", "asginl"], "lifespan", "off"),
        (["--asgi-lifespan", "on"], "lifespan", "on"),
        (["--factory"], "factory", True),
        (["--no-ws"], "websockets", False),
        (["--ws", "websockets"], "websockets", True),
        (["--ws", "none"], "websockets", False),
        (["--ws-ping-interval", "30", "--ws-ping-timeout", "10"], "websocket_options", pings(40.0)),
        (["--websocket-ping-interval", "5"], "websocket_options", pings(25.0)),
        (["--ws-ping-interval", "0"], "websocket_options", pings(0)),
        (["--uds", "/tmp/x.sock", "--uds-permissions", "660"], "uds_mode", 0o660),
        (["--no-log"], "listen_log", False),
    ],
)  # fmt: skip
def test_other_options(served: list[Invocation], arguments: list[str], name: str, expected: object) -> None:
    """S-CLI-08."""
    assert cli.main(["main:run", *arguments]) == 0
    assert getattr(served[0], name) == expected


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("0", "none"), ("2", "required"), ("CERT_OPTIONAL", "optional"), ("Required", "required")],
)
def test_client_certificates(served: list[Invocation], given: str, wanted: str) -> None:
    """S-CLI-08: numbers and names of the ssl module."""
    assert cli.main(["main:run", "--keyfile", "k", "--certfile", "c", "--cert-reqs", given]) == 0
    assert served[0].tls is not None
    assert (served[0].tls.key_file_name, served[0].tls.cert_file_name) == ("k", "c")
    assert served[0].tls.client_cert == wanted


def test_granian_has_other_names_for_tls(served: list[Invocation]) -> None:
    """S-CLI-08."""
    words = "--ssl-keyfile k --ssl-certificate c --ssl-protocol-min tls1.3 --ssl-client-verify --ssl-ca a"
    assert cli.main(["main:run", *words.split()]) == 0
    tls = served[0].tls
    assert tls is not None
    assert (tls.min_version, tls.client_cert, tls.ca_file_name) == ("1.3", "required", "a")


def test_one_file_for_certificate_and_key(
    served: list[Invocation], authority: Authority, tmp_path: Path
) -> None:
    """S-CLI-17; a certificate alone is still no TLS."""
    options = authority.options("localhost")
    both = tmp_path / "both.pem"
    both.write_text(
        Path(str(options.cert_file_name)).read_text() + Path(str(options.key_file_name)).read_text()
    )
    assert cli.main(["main:run", "--ssl-certfile", str(both)]) == 0
    assert served[0].tls is not None
    assert served[0].tls.key_file_name == str(both)
    with pytest.raises(SystemExit):
        cli.main(["main:run", "--ssl-certfile", str(options.cert_file_name)])


@pytest.mark.parametrize("name", peers.REFUSED)
def test_what_is_refused(served: list[Invocation], capsys: pytest.CaptureFixture[str], name: str) -> None:
    """S-CLI-08: with what to do."""
    said = refused(capsys, "main:run", name)
    assert said == f"socketify: {name}: {peers.REFUSED[name]} (see socketify --help)\n"
    assert served == []


@pytest.mark.parametrize("name", peers.IGNORED)
def test_what_has_no_effect(served: list[Invocation], capsys: pytest.CaptureFixture[str], name: str) -> None:
    """S-CLI-08: it is said once."""
    words = [name, "1"] if peers.IGNORED[name][0] else [name]
    assert cli.main([*words, "main:run", *words]) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"socketify: {name} has no effect")
    assert said.count("\n") == 1
    assert served[0].target == "main:run"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--timeout-keep-alive-x", "5"], "unknown option --timeout-keep-alive-x; did you mean --timeout-keep-alive?"),
        (["--timeout-keep-alive", "soon"], "argument --keep-alive-timeout: expected a number of seconds from 0, not 'soon'"),
        (["--timeout-keep-alive"], "argument --keep-alive-timeout: expected one argument"),
        (["--access-logfile", "log.txt"], "--access-logfile log.txt: logs go to standard error"),
        (["--http1-header-read-timeout", "x"], "--http1-header-read-timeout x: "),
        (["--root-path", "api"], "argument --root-path: root_path must be empty or begin with /, not 'api'"),
        (["--interface", "asgi2"], "argument --interface: invalid choice: 'asgi2'"),
        (["--http", "3"], "argument --http: expected auto, 1 or 2, not '3'"),
        (["--loop", "rloop"], "argument --loop: expected auto, asyncio or uvloop, not 'rloop'"),
        (["--http", "1", "--http2"], "--http 1 and --http2 contradict each other"),
        (["--proxy-protocol", "required", "--no-proxy-headers"], "--no-proxy-headers and --proxy-protocol contradict"),
        (["--fd", "3", "--bind", ":80"], "argument --bind: the descriptor of --fd goes there too, as fd://3"),
    ],
)  # fmt: skip
def test_what_is_wrong(
    served: list[Invocation], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """S-CLI-08."""
    assert message in refused(capsys, "main:run", *arguments)
    assert served == []


def test_each_alias_is_for_an_option_that_there_is() -> None:
    """S-CLI-08."""
    ours = flags.parser("socketify")._option_string_actions
    assert {alias.ours for alias in peers.ALIASES.values()} <= ours.keys()
    assert not {*peers.ALIASES, *peers.IGNORED, *peers.REFUSED} & ours.keys()
    known = [*peers.ALIASES, *peers.IGNORED, *peers.REFUSED]
    assert len(known) == len(set(known))
    assert all(re.fullmatch(r"-[a-zA-Z]|--[a-z0-9-]+(_size)?", name) for name in known)


def test_the_documentation() -> None:
    """docs/cli.md has every alias."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "cli.md").read_text()
    table = page.partition("| theirs | ours |\n|---|---|\n")[2].partition("\n\n")[0]
    told = {
        name: ours
        for names, ours in re.findall(r"^\| (.*?) \| `(.*?)` \|$", table, re.MULTILINE)
        for name in re.findall(r"`(.*?)`", names)
    }
    assert told == {name: alias.ours for name, alias in peers.ALIASES.items()}


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("UVICORN_PORT", "UVICORN_PORT is set and not read: SOCKETIFY_PORT is ours"),
        ("UVICORN_TIMEOUT_KEEP_ALIVE", "UVICORN_TIMEOUT_KEEP_ALIVE is set and not read: SOCKETIFY_KEEP_ALIVE_TIMEOUT is"),
        ("GRANIAN_LIMIT_CONCURRENCY", "is set and not read: SOCKETIFY_LIMIT_CONCURRENCY is ours"),
        ("GUNICORN_CMD_ARGS", "GUNICORN_CMD_ARGS is set and not read: put its options on the command line"),
    ],
)  # fmt: skip
def test_variables_of_other_servers(
    served: list[Invocation],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    message: str,
) -> None:
    """S-CLI-09: they may be meant for another process."""
    monkeypatch.setenv(variable, "7")
    assert cli.main(["main:run"]) == 0
    assert message in capsys.readouterr().err
    assert served[0] == Invocation("main:run")


def test_the_variable_for_trusted_proxies(served: list[Invocation], monkeypatch: pytest.MonkeyPatch) -> None:
    """S-CLI-09, S-CLI-11: ours goes before the one that all servers have."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.1")
    assert cli.main(["main:run"]) == 0
    monkeypatch.setenv("SOCKETIFY_TRUSTED_PROXIES", "*")
    assert cli.main(["main:run"]) == 0
    assert cli.main(["main:run", "--forwarded-allow-ips", "unix"]) == 0
    assert [each.app_options["trusted_proxies"] for each in served] == [["10.0.0.1"], ["*"], ["unix"]]
