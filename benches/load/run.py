"""Compares this project with its peers and with floors that have no Python in them.

    python benches/load/run.py --python .venv/bin/python --date 2026-01-31

benches/README.md describes the method and the results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import http2_client
import process
import report
import secure
import servers
import works

import client

PICTURES = (
    ("http.svg", works.HTTP_METRICS, "HTTP: requests per second and CPU per request"),
    ("websocket.svg", works.ECHO_METRICS, "WebSocket: messages per second and CPU per message"),
    ("publish.svg", works.FAN_OUT_METRICS, "Publishing: deliveries per second and CPU per delivery"),
)
ALL_WORKS = (*works.ALL, *secure.ALL)
# The programs that the comparison starts besides servers: the Debian package, and the works that need it.
PROGRAMS = {
    "wrk": ("wrk", {servers.HTTP, servers.FILES, servers.TLS}),
    "h2load": ("nghttp2-client", {servers.HTTP2, servers.HTTP2_TLS}),
    "curl": ("curl", {servers.HTTP2, servers.HTTP2_TLS}),
    "openssl": ("openssl", {servers.TLS, servers.HTTP2_TLS}),
}
# The programs that are built here, and the works that need them.
BUILT = {
    "ws-load": {servers.WEBSOCKET, servers.ASYNC, servers.DEFLATE},
    "tls-load": {servers.TLS},
}
# The name of the report with pictures.
MAIN_REPORT = "latest"
RESULTS = Path(__file__).resolve().parent.parent / "results"


def say(line: str) -> None:
    """Prints a line at once, so that progress can be followed through a pipe."""
    print(line, flush=True)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    work_names = [work.name for work in ALL_WORKS]
    parser = argparse.ArgumentParser(description="Compare socketify with its peers and with a floor.")
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="interpreter that has this project's wheel, and that the peers' environments are made from",
    )
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server at each work (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a run (default 3)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of one second: shows that all of it works"
    )
    parser.add_argument("--only", default="", metavar="WORK[,WORK]", help=f"among {', '.join(work_names)}")
    parser.add_argument(
        "--servers", default="", metavar="NAME[,NAME]", help=f"among {', '.join(servers.ALL)}"
    )
    parser.add_argument("--date", default="", help="written into the results")
    parser.add_argument(
        "--name",
        default=MAIN_REPORT,
        help=f"name of the report's files (default {MAIN_REPORT}, which has pictures)",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--server-core", type=int, help="core of the server (default: the first)")
    parser.add_argument("--client-core", type=int, help="core of the client (default: another one)")
    parser.add_argument("--no-install", action="store_true", help="install no Debian packages, even as root")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds start at 1")
    found = shutil.which(options.python)
    if found is None:
        parser.error(f"--python: there is no {options.python}")
    # Absolute, because servers start in another folder; not resolved, since that would leave its environment.
    options.python = str(Path(found).absolute())
    if options.quick:
        options.rounds = options.seconds = 1
    options.only = chosen(parser, "--only", options.only, work_names)
    options.servers = chosen(parser, "--servers", options.servers, list(servers.ALL))
    return options


def chosen(parser: argparse.ArgumentParser, option: str, value: str, names: Sequence[str]) -> list[str]:
    """Splits a list of names, in the order of the tables; all of them if none is given."""
    wanted = [name.strip() for name in value.split(",") if name.strip()]
    for name in wanted:
        if name not in names:
            parser.error(f"{option}: there is no {name!r}; there are {', '.join(names)}")
    return [name for name in names if name in wanted] if wanted else list(names)


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """Records the facts on which the figures depend."""
    model = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    source = "import platform; print(platform.python_implementation(), platform.python_version())"
    return {
        "date": options.date,
        "cpu": f"{model}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "python": servers.answer_of([options.python, "-c", source]).removeprefix("CPython "),
        "wrk": wrk_version(),
        "h2load": h2load_version(),
        "rounds": options.rounds,
        "seconds": options.seconds,
    }


def wrk_version() -> str:
    """Returns the version of wrk, which prints it only with its usage."""
    if shutil.which("wrk") is None:
        return "absent"
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    words = (said.stdout + said.stderr).split()
    return words[1].removeprefix("debian/") if len(words) > 1 else "unknown"


def h2load_version() -> str:
    """Returns the version of h2load."""
    if shutil.which("h2load") is None:
        return "absent"
    return (
        subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True)
        .stdout.split("/")[1]
        .strip()
    )


def provide(needs: set[str], install: bool) -> None:
    """Finds, installs or builds the generators, and the programs that checks need."""
    missing = [
        package
        for program, (package, for_what) in PROGRAMS.items()
        if needs & for_what and shutil.which(program) is None
    ]
    servers.install_debian(missing, install)
    for program, for_what in BUILT.items():
        if needs & for_what:
            servers.executable(program)


def prepare(
    options: argparse.Namespace, selected: Sequence[works.Work], results: report.Results
) -> list[servers.Server]:
    """Installs and builds the participants."""
    sources = servers.Sources(options.python, not options.no_install)
    needed = {work.needs for work in selected}
    ready = []
    for name in options.servers:
        if not needed & servers.ALL[name].has:
            continue
        try:
            server = servers.ALL[name].make(sources)
        except servers.Unavailable as error:
            skip(results, name, "all works", str(error))
        else:
            ready.append(server)
            results.versions[name] = server.version
    return ready


def skip(results: report.Results, server: str, work: str, reason: str) -> None:
    """Prints what is left out, and keeps it for the report."""
    results.skip(server, work, reason)
    say(f"SKIPPED {server}, {work}: {reason}")


def check(
    ready: Sequence[servers.Server],
    selected: Sequence[works.Work],
    conditions: works.Conditions,
    results: report.Results,
) -> list[tuple[works.Work, list[servers.Server]]]:
    """Checks every response once, and returns the servers that may take part in each work."""
    fit: dict[str, list[servers.Server]] = {work.name: [] for work in selected}
    for server in ready:
        able = [work for work in selected if work.needs in servers.ALL[server.name].has]
        # Each transport once, in the order of the works.
        for transport in dict.fromkeys(work.transport for work in able):
            group = [work for work in able if work.transport == transport]
            try:
                with servers.running(server, set(conditions.server_cores), transport) as live:
                    for work in group:
                        try:
                            check_work(work, live, results)
                        except client.FAILURES as error:
                            skip(results, server.name, work.name, f"{describe_error(error)}\n{live.tail()}")
                        else:
                            fit[work.name].append(server)
            except servers.StartFailure as error:
                names = "all works" if len(group) == len(able) else ", ".join(work.name for work in group)
                skip(results, server.name, names, str(error))
        say(f"checked {server.name} {server.version}")
    return [(work, fit[work.name]) for work in selected if fit[work.name]]


def check_work(work: works.Work, live: servers.Running, results: report.Results) -> None:
    """Checks the responses of one server at one work, and records its TLS version and cipher."""
    with contextlib.closing(http2_client.connect(live.port, live.transport)) as connection:
        work.check(connection)
        if work.needs == servers.TLS:
            results.ciphers[live.server.name] = connection.cipher()


def describe_error(error: BaseException) -> str:
    """Names an error that may have no text."""
    return str(error) if isinstance(error, client.WrongAnswer) else f"{type(error).__name__}: {error}"


def check_generators(
    ready: Sequence[servers.Server],
    selected: Sequence[works.Work],
    conditions: works.Conditions,
    results: report.Results,
) -> None:
    """Shows which reaches its limit first, each generator or the fastest server."""
    plain, secret = client.PLAIN, servers.TRANSPORTS[servers.TLS]
    checks = (
        ("wrk", servers.FLOOR, plain, works.load("/", 64)),
        ("wrk over TLS", servers.FLOOR, secret, works.load("/", 64)),
        ("tls-load", servers.FLOOR, secret, secure.handshakes()),
        ("h2load", servers.FLOOR, servers.TRANSPORTS[servers.HTTP2], secure.load("/", 8, 32)),
        ("h2load over TLS", servers.FLOOR, servers.TRANSPORTS[servers.HTTP2_TLS], secure.load("/", 8, 32)),
        ("ws-load", servers.EPOLL_FLOOR, plain, works.ws_load("echo", 64)),
    )
    wanted = {(work.floors[0], work.transport) for work in selected}
    for name, floor_name, transport, load in checks:
        for floor in ready:
            if floor.name != floor_name or (floor_name, transport) not in wanted:
                continue
            with servers.running(floor, set(conditions.server_cores), transport) as live:
                values = load(live, conditions).values
            results.generators[name] = {
                "floor": floor_name,
                "client_share": values["client_share"],
                "server_share": values["server_share"],
                "limits": report.generator_limits(values),
            }
    for line in report.generator_lines(results):
        say(line)


def measure(
    plan: Sequence[tuple[works.Work, Sequence[servers.Server]]],
    rounds: int,
    conditions: works.Conditions,
    results: report.Results,
) -> None:
    """Runs everything: a fresh server for each run, the servers of a work one after the other."""
    total = rounds * sum(len(fit) for _, fit in plan)
    done = 0
    for round_number in range(1, rounds + 1):
        for work, fit in plan:
            # Every other round backwards, so that no server always runs after the same neighbour.
            for server in fit if round_number % 2 else reversed(fit):
                done += 1
                place = f"[{done:>3}/{total}] round {round_number}  {work.name:<17}{server.name:<17}"
                try:
                    with servers.running(server, set(conditions.server_cores), work.transport) as live:
                        try:
                            sample = work.measure(live, conditions)
                        except client.FAILURES as error:
                            tail = live.tail()
                            skip(results, server.name, work.name, f"{describe_error(error)}\n{tail}")
                            continue
                except servers.StartFailure as error:
                    skip(results, server.name, work.name, str(error))
                    continue
                results.add(work, server.name, sample)
                figures = "  ".join(
                    f"{report.number(sample.values[metric.key], metric.digits)} {metric.title}"
                    for metric in work.metrics
                )
                say("  ".join([place + figures, *sample.notes]))


def raise_file_limit() -> None:
    """Allows as many open connections as the kernel allows a process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """Turns a request to end into an exception, so that all started processes end too."""
    raise KeyboardInterrupt


def write(results: report.Results, selected: Sequence[works.Work], folder: Path, title: str) -> None:
    """Prints the tables and writes the files."""
    made = report.tables(results, selected)
    for table in made:
        say("\n" + report.as_text(table))
    say("\n" + "\n".join(report.generator_lines(results)))
    for item in results.skipped:
        say(f"SKIPPED {item['server']}, {item['work']}: {item['reason']}")
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(report.as_json(results, selected), indent=1, ensure_ascii=False)
    (folder / f"{title}.json").write_text(data + "\n")
    (folder / f"{title}.md").write_text(report.as_markdown(results, made))
    if title != MAIN_REPORT:
        return
    for name, metrics, title in PICTURES:
        if any(work.metrics is metrics for work in selected):
            (folder / name).write_text(report.as_svg(results, selected, metrics, title))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the comparison."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, stop)
    raise_file_limit()
    selected = [work for work in ALL_WORKS if work.name in options.only]
    try:
        provide({work.needs for work in selected}, not options.no_install)
    except servers.Unavailable as error:
        say(f"the load generators are not all there: {error}")
        return 1
    server_core, client_core = process.core_pair()
    server_core = server_core if options.server_core is None else options.server_core
    client_core = client_core if options.client_core is None else options.client_core
    if server_core == client_core:
        say("server and client share one core: requests/s mean little, CPU per request still does")
    conditions = works.Conditions(
        seconds=options.seconds,
        warm_up_seconds=1,
        idle_seconds=2.0 if options.quick else 5.0,
        server_cores=frozenset({server_core}),
        client_cores=frozenset({client_core}),
    )
    results = report.Results(describe(options))
    try:
        ready = prepare(options, selected, results)
        with process.pinned({client_core}):
            plan = check(ready, selected, conditions, results)
            check_generators(ready, selected, conditions, results)
            measure(plan, options.rounds, conditions, results)
    except KeyboardInterrupt:
        say("interrupted: every server is ended, nothing is written")
        return 130
    finally:
        for left in process.children(os.getpid()):
            process.kill_tree(left)
    write(results, selected, options.output, options.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
