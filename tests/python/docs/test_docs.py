"""The examples in the documentation work: every block of code in README and docs is run.

- A program that serves (``app.run()`` or a coroutine that calls ``listen``) is run as it stands, and visited.
- A program that uses ``socketify.testing`` is run as it stands; with pytest, if it imports that.
- A client of ``localhost:3000`` is run against the program before it on the page.
- Anything else is a fragment. It is run where its names exist: in a handler if it speaks of ``res`` or ``req``, in a
  listener if it speaks of ``ws``, and else before an application that then serves. Handlers that only the page has are
  made up.
- ``<!-- not run: reason -->`` on the line before a block leaves it at being compiled. So it is with the pages about
  interfaces that other servers have too: tests/frameworks/test_pages.py runs their blocks, with the frameworks installed.

Blocks of shell commands name existing things: tasks of the Makefile, extras of the package.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import socketify
from socketify import App
from socketify.testing import TestServer
from support.certificates import Authority

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[3]
RUNNER = ROOT / "tests/python/support/run_program.py"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<before>[^\n]*)\n+```(?P<kind>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
KINDS = {"", "caddy", "dockerfile", "html", "ini", "json", "nginx", "python", "sh", "text", "toml", "yaml"}
#: tests/frameworks/test_pages.py runs the blocks of these.
ELSEWHERE = {"asgi.md", "wsgi.md", "from-uvicorn.md", "from-gunicorn.md", "from-granian.md", "deploying.md"}


class Block(NamedTuple):
    """One block of code."""

    where: str
    kind: str
    code: str
    before: str

    @property
    def serves(self) -> bool:
        return bool(re.search(r"^ *app\.run\(\)|^asyncio\.run\(", self.code, re.MULTILINE)) and not self.tests

    @property
    def tests(self) -> bool:
        return "socketify.testing" in self.code

    @property
    def is_client(self) -> bool:
        return "://localhost:3000" in self.code and not self.serves

    @property
    def is_run(self) -> bool:
        return "<!-- not run:" not in self.before and Path(self.where.split(":")[0]).name not in ELSEWHERE


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = "\n" + page.read_text()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start("code"))
            found.append(
                Block(f"{page.relative_to(ROOT)}:{line}", match["kind"], match["code"], match["before"])
            )
    return found


BLOCKS = blocks()
PYTHON = [block for block in BLOCKS if block.kind == "python"]


def each(chosen: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", chosen, ids=[block.where for block in chosen])


@pytest.fixture(autouse=True)
def certificates(request: pytest.FixtureRequest) -> None:
    """The keys and certificates that programs with TLS read."""
    block = getattr(request.node, "callspec", None) and request.node.callspec.params.get("block")
    if isinstance(block, Block) and "AppOptions(" in block.code and ".pem" in block.code:
        directory = request.getfixturevalue("tmp_path")
        authority = Authority(directory, "ca")
        for name, key, certificate in (
            ("localhost", "key.pem", "cert.pem"),
            ("shop.example", "shop.key", "shop.pem"),
        ):
            options = authority.options(name)
            Path(str(options.key_file_name)).rename(directory / key)
            Path(str(options.cert_file_name)).rename(directory / certificate)


def run(directory: Path, *command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_documentation_has_programs() -> None:
    assert sum(block.serves for block in PYTHON) >= 5
    assert {block.kind for block in BLOCKS} <= KINDS, "the site would not recognise such a block"
    fences = sum(page.read_text().count("\n```") for page in PAGES)
    assert fences == 2 * len(BLOCKS), "a block begins or ends in a way that is not seen"


@each(PYTHON)
def test_block_compiles(block: Block) -> None:
    compile(block.code, block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@each([block for block in PYTHON if block.serves and block.is_run])
def test_program(tmp_path: Path, block: Block) -> None:
    program = tmp_path / "program.py"
    program.write_text(block.code)
    said = run(tmp_path, RUNNER, program)
    assert re.search(r"^status \d+$", said, re.MULTILINE), said
    assert "Uncaught Exception" not in said, said


@each([block for block in PYTHON if block.tests and block.is_run])
def test_program_of_tests(tmp_path: Path, block: Block) -> None:
    program = tmp_path / "test_program.py"
    program.write_text(block.code)
    if "import pytest" in block.code:
        assert " passed" in run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", program)
    else:
        run(tmp_path, program)


@each([block for block in PYTHON if block.is_client and block.is_run and not block.tests])
def test_client(tmp_path: Path, block: Block) -> None:
    page = [
        other for other in PYTHON if other.where.split(":")[0] == block.where.split(":")[0] and other.serves
    ]
    served = [other for other in page if int(other.where.split(":")[1]) < int(block.where.split(":")[1])][-1]
    (tmp_path / "program.py").write_text(served.code)
    (tmp_path / "client.py").write_text(block.code)
    assert "client done" in run(tmp_path, RUNNER, "program.py", "client.py")


# ---- fragments --------------------------------------------------------------------------------------------------------


@each([block for block in PYTHON if block.is_run and not (block.serves or block.tests or block.is_client)])
def test_fragment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: Block) -> None:
    monkeypatch.chdir(tmp_path)
    for directory in ("public", "static", "templates"):
        (tmp_path / directory).mkdir()
    code = compile(block.code, block.where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    free = unknown(block.code)
    namespace: dict[str, Any] = {name: getattr(socketify, name) for name in socketify.__all__}
    namespace |= {name: lambda *_: None for name in free - {"app", "res", "req", "ws"}} | {"asyncio": asyncio}
    done = []

    def execute(**names: Any) -> Any:
        done.append(True)
        return eval(code, {**namespace, **names})

    async def handle(res: Any, req: Any) -> None:
        result = execute(app=server.app, res=res, req=req)
        if inspect.isawaitable(result):
            await result
        if not res.has_responded():
            res.end("")

    async def opened(ws: Any) -> None:
        result = execute(app=server.app, ws=ws)
        if inspect.isawaitable(result):
            await result
        ws.close()

    def configure(app: App) -> None:
        if not free & {"res", "req", "ws"}:
            assert execute(app=app) is None, "await stands in a handler"
        app.any("/fragment", handle)
        app.ws("/fragment-socket", {"open": opened})

    with TestServer(configure) as server:
        if "ws" in free:
            with server.websocket("/fragment-socket") as client:
                client.wait_closed()
        elif free & {"res", "req"}:
            server.post("/fragment", body="")
        else:
            server.get("/")
    assert done


def unknown(code: str) -> set[str]:
    """Names that a piece of code uses and does not define."""
    used, defined = set(), set(dir(builtins)) | set(socketify.__all__)
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return used - defined


# ---- the rest of a page -----------------------------------------------------------------------------------------------


@each([block for block in BLOCKS if block.kind == "sh"])
def test_commands_name_what_is_there(block: Block) -> None:
    tasks = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in block.code.splitlines():
        command = line.split("#")[0].split()
        if command[:1] == ["make"]:
            named = {word for word in command[1:] if "=" not in word and not word.startswith("-")}
            assert named <= tasks, f"make has no {named - tasks}"
        for extra in re.findall(r"socketify\[([\w,]+)\]", line):
            assert set(extra.split(",")) <= set(extras), f"no extra {extra}"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """Within the repository; those of docs within docs, since the site has nothing else. Anchors are the site's affair."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if re.match(r"[a-z]+:|#|<", target):
            continue
        file = (page.parent / target.split("#")[0]).resolve()
        assert file.exists(), target
        assert page.parent == ROOT or file.is_relative_to(ROOT / "docs"), f"{target} is not part of the site"


def test_the_site_has_every_page() -> None:
    """A page that `nav` forgets can only be found by searching."""
    listed = set(re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert listed == pages
    index = (ROOT / "docs" / "index.md").read_text()
    for name in pages - {"index.md"}:
        assert name.startswith("api/") or f"({name})" in index, f"index.md does not mention {name}"


def test_every_public_name_is_in_the_reference() -> None:
    """And has a docstring."""
    text = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    shown = set(re.findall(r"^::: socketify(?:\.\w+)*\.(\w+)$", text, re.MULTILINE))
    aliases = {"AppRequest", "AppResponse", "RequestTask", "TaskFactory", "__version__", "asyncio"}
    later = {"SSGI"}
    assert shown >= set(socketify.__all__) - aliases - later
    for name in set(socketify.__all__) - {"__version__", "asyncio"}:
        assert inspect.getdoc(getattr(socketify, name)), name
