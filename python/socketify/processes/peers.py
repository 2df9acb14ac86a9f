"""Options of uvicorn, gunicorn, granian and hypercorn: those that are ours under another name, those without effect, and
those that are refused with a hint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["ALIASES", "IGNORED", "REFUSED", "Refused", "foreign_variables", "translate"]


@dataclass(frozen=True)
class Alias:
    """An option of another server that means one of ours.

    Attributes:
        ours: Our option.
        convert: Gives the words of our option for a value of theirs; None where they are the same.
        flag: It takes no value, or one of ``true`` and ``false``.
    """

    ours: str
    convert: Callable[[str], str] | None = None
    flag: bool = False


def _milliseconds(text: str) -> str:
    return f"{float(text) / 1000:g}"


def _log_file(text: str) -> str:
    if text != "-":
        raise ValueError("logs go to standard error: redirect that (2> FILE), or use --log-config")
    return "true"


def _keeps_alive(text: str) -> str:
    return "75" if text.lower() in ("true", "1", "yes", "on") else "0"


def _verifies(text: str) -> str:
    return "required" if text.lower() in ("true", "1", "yes", "on") else "none"


#: By the name that others use.
ALIASES: Mapping[str, Alias] = {
    # uvicorn
    "--timeout-keep-alive": Alias("--keep-alive-timeout"),
    "--timeout-graceful-shutdown": Alias("--shutdown-timeout"),
    "--limit-max-requests": Alias("--max-requests"),
    "--limit-max-requests-jitter": Alias("--max-requests-jitter"),
    "--h11-max-incomplete-event-size": Alias("--max-header-bytes"),
    # gunicorn
    "--worker-connections": Alias("--max-connections"),
    "--timeout": Alias("--worker-timeout"),
    "-t": Alias("--worker-timeout"),
    "--graceful-timeout": Alias("--shutdown-timeout"),
    "--keep-alive": Alias("--keep-alive-timeout"),
    "--limit-request-fields": Alias("--max-headers"),
    "--chdir": Alias("--app-dir"),
    "--pid": Alias("--pid-file"),
    "--access-logfile": Alias("--access-log", _log_file),
    "--keyfile": Alias("--ssl-keyfile"),
    "--certfile": Alias("--ssl-certfile"),
    "--cert-reqs": Alias("--ssl-cert-reqs"),
    "--ca-certs": Alias("--ssl-ca-certs"),
    "--ciphers": Alias("--ssl-ciphers"),
    "--asgi-loop": Alias("--loop"),
    "--asgi-lifespan": Alias("--lifespan"),
    "--reload-extra-file": Alias("--reload-include"),
    "-n": Alias("--process-name"),
    "--name": Alias("--process-name"),
    # granian
    "--uds-permissions": Alias("--uds-mode"),
    "--blocking-threads": Alias("--threads"),
    "--runtime-threads": Alias("--io-threads"),
    "--backpressure": Alias("--max-connections"),
    "--http1-buffer-size": Alias("--max-header-bytes"),
    "--http1-header-read-timeout": Alias("--header-timeout", _milliseconds),
    "--http1-keep-alive": Alias("--keep-alive-timeout", _keeps_alive, flag=True),
    "--ssl-certificate": Alias("--ssl-certfile"),
    "--ssl-protocol-min": Alias("--ssl-min-version"),
    "--ssl-ca": Alias("--ssl-ca-certs"),
    "--ssl-client-verify": Alias("--ssl-cert-reqs", _verifies, flag=True),
    "--url-path-prefix": Alias("--root-path"),
    "--workers-kill-timeout": Alias("--shutdown-timeout"),
    "--working-dir": Alias("--app-dir"),
    "--env-files": Alias("--env-file"),
    "--reload-paths": Alias("--reload-dir"),
    "--reload-ignore-patterns": Alias("--reload-exclude"),
    # hypercorn
    "--read-timeout": Alias("--body-timeout"),
    "--websocket-ping-interval": Alias("--ws-ping-interval"),
    "--verify-mode": Alias("--ssl-cert-reqs"),
    "--keyfile-password": Alias("--ssl-keyfile-password"),
}

#: Accepted without effect: whether each takes a value, and what is to be known.
IGNORED: Mapping[str, tuple[bool, str]] = {
    "--use-colors": (False, ""),
    "--reset-contextvars": (False, ""),
    "--timeout-worker-healthcheck": (True, "--worker-timeout ends workers that hang"),
    "--ws-max-queue": (True, "what a WebSocket has received is bounded in bytes"),
    "--reload-delay": (True, ""),
    "--reload-engine": (True, ""),
    "--reload-tick": (True, ""),
    "--reuse-port": (False, "workers share the port in any case"),
    "--worker-tmp-dir": (True, ""),
    "--no-sendfile": (False, ""),
    "--spew": (False, ""),
    "--capture-output": (False, "standard output and standard error are left alone"),
    "--enable-stdio-inheritance": (False, ""),
    "--limit-request-line": (True, "--max-header-bytes bounds the whole header section"),
    "--limit-request-field_size": (True, "--max-header-bytes bounds the whole header section"),
    "--runtime-mode": (True, ""),
    "--runtime-blocking-threads": (True, ""),
    "--task-impl": (True, ""),
    "--http1-pipeline-flush": (False, ""),
    "--http2-adaptive-window": (False, ""),
    "--http2-initial-connection-window-size": (True, ""),
    "--http2-initial-stream-window-size": (True, ""),
    "--http2-keep-alive-interval": (True, ""),
    "--http2-keep-alive-timeout": (True, ""),
    "--http2-max-concurrent-streams": (True, "--max-concurrent-streams is ours"),
    "--http2-max-frame-size": (True, ""),
    "--http2-max-headers-size": (True, "--max-header-bytes is ours"),
    "--http2-max-send-buffer-size": (True, ""),
    "--http2-cleartext": (False, "HTTP/2 is on, also without TLS"),
    "--http-protocols": (True, "--http is ours"),
    "--respawn-failed-workers": (False, "workers that end are always replaced"),
    "--respawn-interval": (True, "workers that end are always replaced"),
    "--debug": (False, "--log-level debug is ours"),
}

_MANAGER = "leave that to a service manager or a container, such as User= and UMask= of systemd"
_LOGS = "logs go to standard error: redirect that (2> FILE), or use --log-config"
_FORMAT = "the format of the access log is fixed; use --log-config for another"
_FILE = "there is no configuration file: use options, or environment variables such as SOCKETIFY_PORT"
_METRICS = "metrics are not served yet"

#: Refused, with the reason.
REFUSED: Mapping[str, str] = {
    "-k": "one core serves all kinds of applications: leave it out (--loop and --threads choose how)",
    "--worker-class": "one core serves all kinds of applications: leave it out (--loop and --threads choose how)",
    "--ssl-version": "use --ssl-min-version 1.2 or 1.3",
    "--ssl-crl": "lists of revoked certificates are not read yet",
    "-c": _FILE,
    "--config": _FILE,
    "--print-config": "use --check-config",
    "--preload": "workers load the application themselves, so that SIGHUP loads it anew",
    "--preload-app": "workers load the application themselves, so that SIGHUP loads it anew",
    **dict.fromkeys(("-D", "--daemon"), "run it under a service manager, such as systemd"),
    **dict.fromkeys(("-u", "--user", "-g", "--group", "-m", "--umask"), _MANAGER),
    **dict.fromkeys(("--error-logfile", "--log-file", "--error-log"), _LOGS),
    "--log-config-json": "--log-config reads .json",
    **dict.fromkeys(("--access-logformat", "--access-log-fmt", "--access-log-format"), _FORMAT),
    **dict.fromkeys(("--statsd-host", "--statsd-prefix", "--metrics", "--metrics-address", "--metrics-port"), _METRICS),
    "--proxy-allow-from": "--trusted-proxies says whose PROXY prefaces and headers are believed",
    "--quic-bind": "HTTP/3 is not served",
    "--insecure-bind": "one command serves TLS or plain HTTP: start another one for the other",
}  # fmt: skip

#: Environment variables of other servers, by how they begin.
_VARIABLES = ("UVICORN_", "GRANIAN_", "GUNICORN_CMD_ARGS")


class Refused(Exception):
    """An option of another server that there is not here; the message says what to do."""


def translate(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Puts our options in place of those of other servers.

    Args:
        words: A command line.

    Returns:
        The command line, and what is to be said of options without effect.

    Raises:
        Refused: One is not accepted.
    """
    given, result, notes = list(words), [], []
    while given:
        word = given.pop(0)
        name, equals, value = word.partition("=")
        negated = name.startswith("--no-") and f"--{name[5:]}" in {*ALIASES, *IGNORED}
        plain = f"--{name[5:]}" if negated and name not in IGNORED else name
        if not word.startswith("-"):
            result.append(word)
        elif plain in REFUSED:
            raise Refused(f"{plain}: {REFUSED[plain]}")
        elif plain in ALIASES:
            alias = ALIASES[plain]
            if alias.flag:
                following = given[0].lower() if given else ""
                words_of_flags = ("true", "false", "1", "0", "yes", "no", "on", "off")
                value = (
                    "false" if negated else value or (given.pop(0) if following in words_of_flags else "true")
                )
            elif not equals:
                if not given:
                    result.append(alias.ours)
                    continue
                value = given.pop(0)
            result += [alias.ours, _converted(plain, alias, value)]
        elif plain in IGNORED:
            takes, hint = IGNORED[plain]
            if takes and not equals and given:
                given.pop(0)
            notes.append(f"{name} has no effect" + (f": {hint}" if hint else ""))
        else:
            result.append(word)
    return result, list(dict.fromkeys(notes))


def _converted(name: str, alias: Alias, value: str) -> str:
    if alias.convert is None:
        return value
    try:
        return alias.convert(value)
    except ValueError as error:
        raise Refused(f"{name} {value}: {error}") from None


def foreign_variables(variable: Callable[[str], str | None]) -> list[str]:
    """What is to be said of environment variables of other servers, which are not read.

    Args:
        variable: Gives our variable for one of our options; None where there is no such option.
    """
    said = []
    for name in sorted(os.environ):
        if name == "GUNICORN_CMD_ARGS":
            said.append(
                f"{name} is set and not read: put its options on the command line, or use SOCKETIFY_... variables"
            )
        elif name.startswith(_VARIABLES[:2]):
            theirs = "--" + name.partition("_")[2].lower().replace("_", "-")
            ours = ALIASES[theirs].ours if theirs in ALIASES else theirs
            known = variable(ours)
            said.append(f"{name} is set and not read" + (f": {known} is ours" if known else ""))
    return said
