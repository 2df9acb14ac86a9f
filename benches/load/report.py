"""The results of a comparison, as text, Markdown, JSON and a picture."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import servers
from works import Metric, Sample, Work

FLAG_CLIENT = 0.90
# The folders before the name of a file in an absolute path.
FOLDERS = re.compile(r"/(?:[^\s/:]+/)+")


@dataclass
class Results:
    """All results of a comparison."""

    about: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    generators: dict[str, dict[str, Any]] = field(default_factory=dict)
    ciphers: dict[str, str] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)

    def add(self, work: Work, server: str, sample: Sample) -> None:
        """Keeps a run."""
        self.samples.setdefault(work.name, {}).setdefault(server, []).append(sample)

    def skip(self, server: str, work: str, reason: str) -> None:
        """Keeps the reason for missing figures: its first line, without its folders."""
        first = FOLDERS.sub("", reason.splitlines()[0])
        item = {"server": server, "work": work, "reason": first}
        if item not in self.skipped:
            self.skipped.append(item)


def medians(samples: Sequence[Sample]) -> dict[str, float]:
    """The median of each figure over the runs."""
    return {key: statistics.median(sample.values[key] for sample in samples) for key in samples[0].values}


def spread(samples: Sequence[Sample], key: str) -> str:
    """The spread of the runs, as a part of their median."""
    values = [sample.values[key] for sample in samples]
    middle = statistics.median(values)
    return f"{(max(values) - min(values)) / middle:.0%}" if middle and len(values) > 1 else "-"


@dataclass(frozen=True)
class Cell:
    """A figure with its ratios."""

    value: str
    # To each floor, then to the best peer; empty if a ratio has no meaning.
    ratios: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One server's line of a table."""

    server: str
    cells: tuple[Cell, ...]
    spread: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """All servers at one work."""

    work: Work
    rows: tuple[Row, ...]


def number(value: float, digits: int) -> str:
    """Writes a figure with thin groups of three."""
    return f"{value:,.{digits}f}".replace(",", " ")


def ratio(value: float, reference: float | None) -> str:
    """Writes a ratio, if there is a reference."""
    return f"{value / reference:.2f}x" if reference else "-"


def cells(work: Work, found: dict[str, dict[str, float]], server: str) -> Iterable[Cell]:
    """Compares a server's figures with the floors and with the best peer at each."""
    for metric in work.metrics:
        value = found[server][metric.key]
        references = [found.get(floor, {}).get(metric.key) for floor in work.floors]
        references.append(best_peer(metric, found))
        ratios = tuple(ratio(value, reference) for reference in references) if metric.compared else ()
        yield Cell(number(value, metric.digits), ratios)


def best_peer(metric: Metric, found: dict[str, dict[str, float]]) -> float | None:
    """The best value of any peer at one figure."""
    values = [
        values[metric.key] for name, values in found.items() if name not in (*servers.FLOORS, servers.OURS)
    ]
    if not values:
        return None
    return max(values) if metric.more_is_better else min(values)


def notes_of(samples: Sequence[Sample], values: dict[str, float], rounds: int) -> tuple[str, ...]:
    """The notes on the runs of one server."""
    notes = []
    if len(samples) < rounds:
        notes.append(f"{rounds - len(samples)} of {rounds} runs failed")
    disturbed = sum(any(note.startswith("disturbed") for note in sample.notes) for sample in samples)
    if disturbed:
        notes.append(f"{disturbed} of {len(samples)} runs disturbed")
    notes.extend(sorted({note for sample in samples for note in sample.notes if note.startswith("errors")}))
    if generator_limits(values):
        notes.append("the client was the limit, not the server")
    return tuple(notes)


def generator_limits(values: dict[str, float]) -> bool:
    """Whether the client was at its limit and the server was not."""
    if "client_share" not in values:
        return False
    return values["client_share"] > FLAG_CLIENT > values["server_share"]


def tables(results: Results, works: Sequence[Work]) -> list[Table]:
    """Makes the tables, one a work."""
    made = []
    for work in works:
        runs = results.samples.get(work.name, {})
        found = {name: medians(runs[name]) for name in servers.ALL if name in runs}
        key = work.metrics[0].key
        rows = tuple(
            Row(
                name,
                tuple(cells(work, found, name)),
                spread(runs[name], key),
                notes_of(runs[name], found[name], results.about["rounds"]),
            )
            for name in found
        )
        if rows:
            made.append(Table(work, rows))
    return made


def reference_names(work: Work) -> list[str]:
    """Names the references of the ratios."""
    return [*(floor.removeprefix("floor-") for floor in work.floors), "peer"]


def as_text(table: Table) -> str:
    """Writes a table for a terminal."""
    name_width = max(len(row.server) for row in table.rows)
    head = " " * name_width
    references = "".join(f" {reference:>6}" for reference in reference_names(table.work))
    for metric in table.work.metrics:
        head += f"  {metric.title:>16}" + (references if metric.compared else "")
    lines = [table.work.title, head + "  spread"]
    for row in table.rows:
        line = f"{row.server:<{name_width}}"
        for cell in row.cells:
            line += f"  {cell.value:>16}" + "".join(f" {ratio:>6}" for ratio in cell.ratios)
        lines.append(f"{line}  {row.spread:>6}")
        lines.extend(f"{'':<{name_width}}  ! {note}" for note in row.notes)
    return "\n".join(lines)


def as_markdown(results: Results, made: Sequence[Table]) -> str:
    """Writes the whole report as Markdown."""
    about = results.about
    lines = [
        "# Load comparison",
        "",
        f"{about['date'] or 'undated'} · {about['cpu']} · Linux {about['kernel']} · Python {about['python']} "
        f"· {about['rounds']} x {about['seconds']} s · wrk {about['wrk']} · h2load {about['h2load']}",
        "",
        "Medians over the rounds. In brackets: ratio to the floor, ratio to the best peer at that figure; with",
        "WebSockets: ratio to the epoll floor, to the tokio floor, to the best peer.",
        "Only ratios within one table mean anything; see [the method](../README.md).",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".",
        "",
        *cipher_lines(results),
        *generator_lines(results),
    ]
    for table in made:
        titles = ["server", *(metric.title for metric in table.work.metrics), "spread"]
        lines += ["", f"## {table.work.title}", "", markdown_row(titles)]
        lines.append(markdown_row(["---", *["---:"] * (len(titles) - 1)]))
        for row in table.rows:
            figures = [markdown_cell(cell) for cell in row.cells]
            lines.append(markdown_row([row.server, *figures, row.spread]))
        notes = [f"- {row.server}: {note}" for row in table.rows for note in row.notes]
        if notes:
            lines += ["", *notes]
    if results.skipped:
        lines += ["", "## Skipped", ""]
        lines += [f"- {item['server']}, {item['work']}: {item['reason']}" for item in results.skipped]
    return "\n".join(lines) + "\n"


def markdown_row(columns: Sequence[str]) -> str:
    """Writes a row."""
    return "| " + " | ".join(columns) + " |"


def markdown_cell(cell: Cell) -> str:
    """Writes a figure with its ratios."""
    return f"{cell.value} ({', '.join(cell.ratios)})" if cell.ratios else cell.value


def cipher_lines(results: Results) -> list[str]:
    """Names the cipher that each server negotiates with OpenSSL, on which wrk is built."""
    if not results.ciphers:
        return []
    return [
        "Over TLS: " + ", ".join(f"{name} {cipher}" for name, cipher in results.ciphers.items()) + ".",
        "",
    ]


def generator_lines(results: Results) -> list[str]:
    """Tells for each load generator whether it or the server was the limit."""
    if not results.generators:
        return ["The generators were not checked: there is no floor."]
    return [generator_line(name, found) for name, found in results.generators.items()]


def generator_line(name: str, found: dict[str, Any]) -> str:
    """Tells whether a generator or the server was the limit."""
    text = (
        f"Generator check: {name} {found['client_share']:.0%} of its core, "
        f"{found['floor']} {found['server_share']:.0%}."
    )
    if found["limits"]:
        return text + (
            f" {name.upper()} IS THE LIMIT: what the fastest servers do in a second is too low; "
            "CPU per request or message holds."
        )
    return text


def as_json(results: Results, works: Sequence[Work]) -> dict[str, Any]:
    """Returns everything, including runs, as plain data."""
    return {
        "about": results.about,
        "versions": results.versions,
        "generators": results.generators,
        "ciphers": results.ciphers,
        "skipped": results.skipped,
        "works": {
            work.name: {
                "title": work.title,
                "servers": {
                    server: {
                        "median": medians(samples),
                        "runs": [{**sample.values, "notes": sample.notes} for sample in samples],
                    }
                    for server, samples in results.samples[work.name].items()
                },
            }
            for work in works
            if work.name in results.samples
        },
    }


STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #1f2328; }
    .title { font-weight: 600; font-size: 13px; }
    .head, .unit { fill: #59636e; }
    .panel { fill: #ffffff; }
    .floor { fill: #a3abb5; }
    .ours { fill: #d9480f; }
    .peer { fill: #4a7ab5; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .head, .unit { fill: #9198a1; }
      .panel { fill: #0d1117; }
      .floor { fill: #6e7681; }
      .ours { fill: #ff8a4c; }
      .peer { fill: #6ea8e6; }
    }
"""
WIDTH = 960
LABEL_END = 142
PANELS = (150, 560)
BAR = 300
LINE = 18


def bar_class(server: str) -> str:
    """Gives the floor, this project and the others different colours."""
    return "floor" if server in servers.FLOORS else "ours" if server == servers.OURS else "peer"


def as_svg(results: Results, works: Sequence[Work], metrics: tuple[Metric, ...], title: str) -> str:
    """Draws the first two of these figures side by side, as bars, one group a work."""
    shown = [work for work in works if work.metrics is metrics and work.name in results.samples]
    speed, cost = metrics[:2]
    parts: list[str] = []
    y = 30
    for start, metric, hint in zip(PANELS, (speed, cost), ("more is better", "less is better"), strict=True):
        parts.append(f'<text class="head" x="{start}" y="{y}">{escape(metric.title)}, {hint}</text>')
    y += 14
    for work in shown:
        runs = results.samples[work.name]
        found = {name: medians(runs[name]) for name in servers.ALL if name in runs}
        y += 22
        parts.append(f'<text class="title" x="16" y="{y}">{escape(work.title)}</text>')
        y += 8
        for name, values in found.items():
            label = f'<text x="{LABEL_END}" y="{y + 13}" text-anchor="end">{escape(name)}</text>'
            parts.append(label)
            for start, metric in zip(PANELS, (speed, cost), strict=True):
                largest = max(other[metric.key] for other in found.values()) or 1.0
                width = max(1.0, BAR * values[metric.key] / largest)
                parts.append(
                    f'<rect class="{bar_class(name)}" x="{start}" y="{y + 2}" width="{width:.1f}" '
                    f'height="{LINE - 4}" rx="2"/>'
                )
                figure = number(values[metric.key], 0 if metric is speed else 1)
                parts.append(f'<text class="unit" x="{start + width + 6:.1f}" y="{y + 13}">{figure}</text>')
            y += LINE
    height = y + 20
    body = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img">\n'
        f"  <title>{escape(title)}</title>\n"
        f"  <style>{STYLE}  </style>\n"
        f'  <rect class="panel" width="{WIDTH}" height="{height}" rx="6"/>\n'
        f"  {body}\n</svg>\n"
    )
