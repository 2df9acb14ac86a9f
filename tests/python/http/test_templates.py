"""``socketify.templates``: Jinja2 and Mako behind ``res.render``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest

from socketify import App
from socketify.templates import Jinja2Template, MakoTemplate
from socketify.testing import TestServer
from support import until
from support.lanes import each_lane, on, options

FILES = {
    "base.html": "<title>{{ title }}</title>{% block body %}{% endblock %}",
    "home.html": '{% extends "base.html" %}{% block body %}<p>{{ message }}</p>{% endblock %}',
    "note.txt": "{{ message }}",
    "page.html.j2": "{{ message }}",
    "fails.html": "{{ 1 // zero }}",
    "broken.html": "{% if %}",
    "waits.html": "{{ word() }} é",
    "sub/inner.html": "inner",
    "base.mako": "<title>${title}</title>${next.body()}",
    "home.mako": '<%inherit file="base.mako"/><p>${message}</p>${message | n}',
    "fails.mako": "${1 // zero}",
    "broken.mako": "% if",
}

TAGS = "<script>'"
ESCAPED = "&lt;script&gt;&#39;"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return tmp_path


def page(engine: Any, name: str, lane: str = "def", **variables: Any) -> Any:
    """A client's result of a template."""

    def configure(app: App) -> None:
        app.template(engine)
        app.get("/", on(lane, lambda res, req: res.render(name, **variables)))

    with TestServer(configure, raise_errors=False, **options(lane)) as server:
        return server.get()


@each_lane
def test_jinja2(directory: Path, lane: str) -> None:
    """H-23, A-APP-14: inheritance, text/html, and values escaped."""
    answer = page(Jinja2Template(str(directory)), "home.html", lane, title="Hello", message=TAGS)
    assert answer.text == f"<title>Hello</title><p>{ESCAPED}</p>"
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html")


@each_lane
def test_mako(directory: Path, lane: str) -> None:
    """H-24: inheritance, text/html, and values escaped unless the template disables it."""
    answer = page(MakoTemplate(directory), "home.mako", lane, title="Hello", message=TAGS)
    assert answer.text == f"<title>Hello</title><p>{ESCAPED}</p>{TAGS}"
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html")


def test_as_the_examples_of_the_reference_make_them(directory: Path) -> None:
    """H-40: positional and named options; Mako gives bytes with an output encoding."""
    engine = Jinja2Template(str(directory), encoding="utf-8", followlinks=False)
    assert "<p>x</p>" in engine.render("home.html", message="x")
    mako = MakoTemplate(directories=[str(directory)], output_encoding="utf-8", encoding_errors="replace")
    assert mako.render("home.mako", title="é", message="") == "<title>é</title><p></p>".encode()
    assert page(mako, "home.mako", title="é", message="").text == "<title>é</title><p></p>"


@pytest.mark.parametrize(
    ("name", "text"),
    [("note.txt", TAGS), ("page.html.j2", ESCAPED), ("home.html", f"<title></title><p>{ESCAPED}</p>")],
)
def test_what_is_escaped(directory: Path, name: str, text: str) -> None:
    assert Jinja2Template(directory).render(name, message=TAGS) == text


def test_escaping_can_be_chosen(directory: Path) -> None:
    assert TAGS in Jinja2Template(directory, autoescape=False).render("home.html", message=TAGS)
    assert Jinja2Template(directory, autoescape=True).render("note.txt", message=TAGS) == ESCAPED
    assert TAGS in str(
        MakoTemplate(directory, default_filters=["str"]).render("home.mako", title="", message=TAGS)
    )


def test_directories_loaders_and_environments(directory: Path) -> None:
    engines = [
        Jinja2Template([directory / "sub", directory]),
        Jinja2Template(loader=jinja2.DictLoader({"inner.html": "inner", "note.txt": "{{ message }}"})),
        Jinja2Template(
            environment=jinja2.Environment(loader=jinja2.FileSystemLoader([directory / "sub", directory]))
        ),
    ]
    for engine in engines:
        assert engine.render("inner.html") == "inner"
        assert engine.render("note.txt", message="x") == "x"
    assert MakoTemplate([directory / "sub", str(directory)]).render("inner.html") == "inner"


def test_options_and_filters(directory: Path) -> None:
    engine = Jinja2Template(directory, undefined=jinja2.StrictUndefined)
    with pytest.raises(jinja2.UndefinedError, match="message"):
        engine.render("note.txt")
    engine.env.filters["shout"] = str.upper
    assert engine.env.from_string("{{ 'a' | shout }}").render() == "A"


def test_a_variable_may_have_any_name(directory: Path) -> None:
    """Also that of the first parameter."""
    engine = Jinja2Template(loader=jinja2.DictLoader({"a": "{{ templatename }}{{ self }}"}))
    assert engine.render("a", templatename="b").startswith("b")


@pytest.mark.parametrize("template", ["fails", "broken", "missing"])
@pytest.mark.parametrize("kind", ["html", "mako"])
def test_what_fails_reaches_the_error_handler(
    directory: Path, template: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """I-C: an error page is the application's affair; without a handler it is a 500 without the reason."""
    engine = Jinja2Template(directory) if kind == "html" else MakoTemplate(directory)
    answer = page(engine, f"{template}.{kind}", zero=0)
    assert (answer.status, answer.text) == (500, "Internal Error")
    until(lambda: "Uncaught Exception" in caplog.text, "the error is logged")


def test_templates_that_await(directory: Path) -> None:
    engine = Jinja2Template(directory, enable_async=True)

    async def word() -> str:
        await asyncio.sleep(0)
        return "<waited>"

    async def home(res: Any, req: Any) -> None:
        res.send(await engine.render_async("waits.html", word=word), content_type="text/html")

    with TestServer(lambda app: app.get("/", home)) as server:
        assert server.get().text == "&lt;waited&gt; é"
    with pytest.raises(RuntimeError, match="render_async"):
        engine.render("waits.html", word=word)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"searchpath": ".", "loader": jinja2.DictLoader({})},
        {"environment": jinja2.Environment(), "trim_blocks": 1},
    ],
)
def test_what_is_no_engine(arguments: Any) -> None:
    with pytest.raises(
        TypeError, match=r"Jinja2Template needs one of|made already: it does not take trim_blocks"
    ):
        Jinja2Template(**arguments)


def without(package: str, code: str) -> str:
    """A program's output if a package is not installed."""
    hide = f"import sys; sys.modules[{package!r}] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", hide + code], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(("package", "engine"), [("jinja2", "Jinja2Template"), ("mako", "MakoTemplate")])
def test_a_package_that_is_missing(package: str, engine: str) -> None:
    """The message names the package, and the module can still be imported."""
    told = without(package, f"from socketify.templates import {engine}\nprint('there')\n{engine}('.')")
    assert told.startswith("there\n")
    assert f"ImportError: {engine} needs {package}: pip install socketify[{package}]" in told


def test_importing_costs_nothing() -> None:
    names = "'jinja2', 'mako', 'socketify.testing'"
    check = f"import sys, socketify.templates; print([name for name in ({names}) if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
