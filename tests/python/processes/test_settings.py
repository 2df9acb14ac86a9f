"""The table of options agrees with all other lists of them: ``App``, the core, the command line and the
docs."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest

from socketify import App, _core, cli
from socketify.processes import command_line
from socketify.processes.invocation import Invocation
from socketify.settings import BY_NAME, SETTINGS, Setting
from support.command import Project

LIMITS = Path(__file__).resolve().parents[3] / "docs" / "limits.md"

#: Arguments of App that are not in the table: TLS and ``lifespan`` have flags of their own, the rest has no effect.
OTHERS = [
    *[
        "options",
        "request_response_factory_max_items",
        "websocket_factory_max_items",
        "task_factory_max_items",
    ],
    *["lifespan", "idle_relaxation_time", "server_name"],
]
NUMBERS = [setting for setting in SETTINGS if setting.kind in ("count", "seconds")]


def named(setting: Setting) -> str:
    return setting.name


def test_the_signature() -> None:
    arguments = [name for name in inspect.signature(App).parameters if name not in OTHERS]
    assert sorted(arguments) == sorted(BY_NAME)


def test_the_docstring() -> None:
    documented = re.findall(r"^ {4}(\w+): ", inspect.getdoc(App) or "", re.MULTILINE)
    assert sorted(name for name in documented if name not in [*OTHERS, "is_ssl", *ERRORS]) == sorted(BY_NAME)


#: Names in the docstring's section on errors.
ERRORS = ["RuntimeError", "ValueError", "TypeError"]


def test_the_core_takes_what_the_table_says() -> None:
    """Trusted peers and modes are lists and words, which the core has in another form."""
    others = {"proxy_protocol", "trusted_proxies", "headers"}
    assert _core.DEFAULTS.keys() | others == {setting.name for setting in SETTINGS if setting.core}


def rows() -> dict[str, str]:
    """The first two cells of each row of the tables of options."""
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) \|", LIMITS.read_text(), re.MULTILINE))


def spelled(text: str) -> str:
    """The default of a row, as the command line spells it."""
    plain = re.sub(r"\(.*?\)", "", text).replace("`", "").replace(" ", "").replace(" ", "").strip('"')
    return plain.strip()


@pytest.mark.parametrize("setting", SETTINGS, ids=named)
def test_the_documentation(setting: Setting) -> None:
    """docs/limits.md has a row for each option, with its default."""
    cell = rows()[setting.name]
    if setting.default is None:
        assert cell
    elif isinstance(setting.default, list):
        assert re.findall(r'"(.*?)"', cell) == setting.default
    elif isinstance(setting.default, bool):
        assert cell == f"`{setting.default}`"
    elif isinstance(setting.default, str):
        assert cell == f'`"{setting.default}"`'
    else:
        assert float(spelled(cell)) == setting.default


# ---- accepted values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", NUMBERS, ids=named)
def test_numbers_that_are_too_small(setting: Setting) -> None:
    """The error names the option, the value and the expected one."""
    wrong = setting.least - 1
    what = "a whole number" if setting.kind == "count" else "a number of seconds"
    with pytest.raises(ValueError, match=f"{setting.name} must be {what} from {setting.least}, not {wrong}"):
        App(**{setting.name: wrong})


@pytest.mark.parametrize("value", ["10", 1.5, float("nan"), float("inf"), b"1", [], 2**63])
@pytest.mark.parametrize("setting", [BY_NAME["max_connections"], BY_NAME["max_body_size"]], ids=named)
def test_what_is_no_count(setting: Setting, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting.name} must be a whole number") as raised:
        App(**{setting.name: value})
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize("value", ["10", float("nan"), float("inf"), b"1", []])
@pytest.mark.parametrize("setting", [BY_NAME["header_timeout"], BY_NAME["shutdown_timeout"]], ids=named)
def test_what_is_no_time(setting: Setting, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting.name} must be a number of seconds from 0") as raised:
        App(**{setting.name: value})
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("sync_handlers", "thread", ValueError, "sync_handlers must be 'io' or 'loop', not 'thread'"),
        ("sync_handlers", True, ValueError, "sync_handlers must be 'io' or 'loop', not True"),
        (
            "proxy_protocol",
            "on",
            ValueError,
            "proxy_protocol must be 'off', 'optional' or 'required', not 'on'",
        ),
        ("trusted_proxies", 1, TypeError, "trusted_proxies must be a str or several, not 1"),
        ("trusted_proxies", "10.0.0.0/99", ValueError, "trusted_proxies: "),
        ("server_header", b"x", TypeError, "server_header must be a str, not b'x'"),
        ("server_header", "a\r\nb", ValueError, "server_header "),
        ("headers", 1, TypeError, "headers must be a dict, or pairs of a name and a value, not 1"),
        (
            "headers",
            ["abc"],
            TypeError,
            "headers must be a dict, or pairs of a name and a value, not ['abc']",
        ),
        ("headers", [("a", 1)], TypeError, "headers: a name and its value must be str, not ('a', 1)"),
        ("headers", {"a b": "c"}, ValueError, 'headers: "a b" is not a valid header name'),
        (
            "headers",
            {"a": "b\r\nc: d"},
            ValueError,
            'headers: value of header "a" contains a carriage return',
        ),
        ("headers", {"Content-Length": "1"}, ValueError, "headers: the server itself sends Content-Length"),
    ],
)
def test_what_is_neither(name: str, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        App(**{name: value})


def test_the_former_name_of_the_server_header(serve: Any) -> None:
    """Programs with ``server_name`` go on working."""
    running = serve(lambda app: app.constant("/", "x"), server_name="mine")
    with running.client() as client:
        assert client.get("/").header("Server") == "mine"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("2.5", 2.5),
        ("30s", 30),
        ("5m", 300),
        ("2H", 7200),
        ("1d", 86_400),
        ("1.5m", 90),
        ("0", 0),
    ],
)
def test_times_with_a_unit(text: str, seconds: float) -> None:
    assert BY_NAME["header_timeout"].parse(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "5 min", "m5", "-1s", "1h30m", "nan", "inf", "infd"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number of seconds from 0, not "):
        BY_NAME["header_timeout"].parse(text)


def test_none_is_the_default() -> None:
    app = App(**dict.fromkeys(BY_NAME))
    assert app.shutdown_timeout == 5.0


# ---- the command line ---------------------------------------------------------------------------------------------------

#: A value of the command line for each kind, and its meaning.
EXAMPLES: dict[str, tuple[str, object]] = {
    "count": ("7", 7),
    "seconds": ("2.5", 2.5),
    "flag": ("true", True),
    "text": ("name", "name"),
    "list": ("10.0.0.1, unix", ["10.0.0.1", "unix"]),
    "headers": ("X-Frame-Options: DENY", [("X-Frame-Options", "DENY")]),
}


def example(setting: Setting) -> tuple[str, object]:
    return (setting.choices[-1].upper(), setting.choices[-1]) if setting.choices else EXAMPLES[setting.kind]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Invocation]:
    """The command line's application, not served."""
    calls: list[Invocation] = []

    def serve(settings: Invocation, where: Any, ready: object) -> int:
        calls.append(settings)
        return 0

    monkeypatch.setattr(command_line, "serve", serve)
    for name in os.environ:
        if name.startswith("SOCKETIFY_") or name == "WEB_CONCURRENCY":
            monkeypatch.delenv(name)
    return calls


@pytest.mark.parametrize("setting", SETTINGS, ids=named)
def test_flags(served: list[Invocation], setting: Setting) -> None:
    text, value = example(setting)
    assert cli.main(["main:run", setting.flag, text]) == 0
    assert served[0].app_options == {setting.name: value}


@pytest.mark.parametrize("setting", SETTINGS, ids=named)
def test_variables(served: list[Invocation], monkeypatch: pytest.MonkeyPatch, setting: Setting) -> None:
    text, value = example(setting)
    monkeypatch.setenv(setting.variable, text)
    assert cli.main(["main:run"]) == 0
    assert served[0].app_options == {setting.name: value}


def test_every_other_option_has_a_variable(served: list[Invocation], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCKETIFY_APP", "main:run")
    monkeypatch.setenv("SOCKETIFY_PORT", "3000")
    monkeypatch.setenv("SOCKETIFY_DISABLE_LISTEN_LOG", "yes")
    monkeypatch.setenv("SOCKETIFY_LIFESPAN", "OFF")
    monkeypatch.setenv("SOCKETIFY_UDS_MODE", "")
    assert cli.main([]) == 0
    [settings] = served
    assert (settings.target, settings.port, settings.listen_log, settings.lifespan) == (
        "main:run",
        3000,
        False,
        "off",
    )


def test_the_command_line_goes_first(served: list[Invocation], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCKETIFY_MAX_HEADERS", "10")
    assert cli.main(["main:run", "--max-headers", "20"]) == 0
    assert served[0].app_options == {"max_headers": 20}


def test_where_to_listen_is_said_once(served: list[Invocation], monkeypatch: pytest.MonkeyPatch) -> None:
    """A place on the command line leaves no place of the environment; and what Kubernetes sets is none."""
    monkeypatch.setenv("SOCKETIFY_UDS", "/run/x.sock")
    assert cli.main(["main:run", "--port", "8080"]) == 0
    monkeypatch.setenv("SOCKETIFY_PORT", "tcp://10.0.0.1:80")
    monkeypatch.delenv("SOCKETIFY_UDS")
    assert cli.main(["main:run"]) == 0
    assert [(each.uds, each.port) for each in served] == [(None, 8080), (None, 8000)]


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        (
            "SOCKETIFY_MAX_HEADERS",
            "many",
            "SOCKETIFY_MAX_HEADERS: expected a whole number from 1, not 'many'",
        ),
        ("SOCKETIFY_HTTP2", "maybe", "SOCKETIFY_HTTP2: expected true or false, not 'maybe'"),
        (
            "SOCKETIFY_BODY_TIMEOUT",
            "-1",
            "SOCKETIFY_BODY_TIMEOUT: expected a number of seconds from 0, not -1",
        ),
        ("SOCKETIFY_PORT", "70000", "SOCKETIFY_PORT: expected a whole number from 0 to 65535, not 70000"),
        ("SOCKETIFY_LIFESPAN", "perhaps", "SOCKETIFY_LIFESPAN: invalid choice: 'perhaps'"),
    ],
)
def test_variables_that_are_wrong(
    served: list[Invocation],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    text: str,
    message: str,
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SystemExit) as caught:
        cli.main(["main:run"])
    assert caught.value.code == 2
    assert f"environment variable {message}" in capsys.readouterr().err
    assert served == []


def test_help_tells_the_defaults(project: Project) -> None:
    status, out, err = project.run("--help")
    assert (status, err) == (0, "")
    # Lines are broken at blanks and behind hyphens.
    printed = "".join(out.split())
    for setting in SETTINGS:
        assert setting.flag in printed
        assert "".join(setting.help.split()) in printed


def test_an_application_that_is_there(project: Project) -> None:
    """Too late for options of App: the error says where they belong."""
    project.write("main.py", "from socketify import App\napp = App()\n")
    status, _, err = project.run("main:app", "--max-headers", "10")
    assert status == 2
    assert "--max-headers comes too late: pass max_headers to App(...)" in err


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        (
            {"SOCKETIFY_MAX_HEADERS": "10"},
            ["main:app"],
            "so --max-headers (environment variable SOCKETIFY_MAX_HEADERS) comes too late: pass max_headers to App",
        ),
        (
            {"SOCKETIFY_SSL_KEYFILE": "key.pem"},
            ["main:app"],
            "so --ssl-keyfile (environment variable SOCKETIFY_SSL_KEYFILE) comes too late: pass AppOptions to App",
        ),
        (
            {"SOCKETIFY_SSL_CERTFILE": "cert.pem"},
            ["main:app"],
            "--ssl-certfile (environment variable SOCKETIFY_SSL_CERTFILE) needs --ssl-keyfile",
        ),
        (
            {"SOCKETIFY_UDS_MODE": "660"},
            ["main:app"],
            "--uds-mode (environment variable SOCKETIFY_UDS_MODE): these are permissions of a file",
        ),
        (
            {"SOCKETIFY_STARTUP_TIMEOUT": "5m"},
            ["main:app"],
            "so --startup-timeout (environment variable SOCKETIFY_STARTUP_TIMEOUT) comes too late",
        ),
        (
            {"SOCKETIFY_FD": "3", "SOCKETIFY_HOST": "::1"},
            ["main:app"],
            "--fd (environment variable SOCKETIFY_FD): it listens already",
        ),
        (
            {"SOCKETIFY_WS": "main:app"},
            ["main:run"],
            "--ws (environment variable SOCKETIFY_WS) main:app must be a behaviour",
        ),
    ],
)
def test_an_error_names_the_variable_that_an_option_comes_from(
    project: Project, variables: dict[str, str], arguments: list[str], message: str
) -> None:
    """Users look for a flag that they have not given."""
    project.write("main.py", "from socketify import App\napp = App()\ndef run(app): pass\n")
    status, _, err = project.run(*arguments, **variables)
    assert status in (1, 2)
    assert message in err
