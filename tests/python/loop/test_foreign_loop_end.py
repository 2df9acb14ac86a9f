"""An application inside a foreign loop ends with that loop, for every kind of end."""

from __future__ import annotations

import importlib.util

import pytest

from support import Program

WARNING = "the event loop ends without close(): the application has been closed"

APP = """
import contextlib

def make():
    app = App()
    app.get("/", lambda res, req: res.end("hello"))
    app.get("/waits", waits)
    @app.on_shutdown
    def gone():
        say("hook")
    app.listen({"host": "127.0.0.1"}, ready)
    say("serves")
    return app

async def waits(res, req):
    say("waits")
    await asyncio.sleep(3600)

def read(path):
    with open(path) as file:
        return file.read()

def after(app):
    names = [read(f"/proc/self/task/{task}/comm") for task in os.listdir("/proc/self/task")]
    say("threads %d" % sum(name.startswith("socketify-io") for name in names))
    say("ports %d" % read("/proc/self/net/tcp").count(" 0100007F:%04X 00000000:0000 0A" % app.port))

kept = []
def make_kept():
    app = make()
    kept.append(app)
    return app

def ready(config):
    say(f"port {config.port}")
    App.port = config.port
"""

ENDS = {
    "return": """
async def main():
    make_kept()
    await asyncio.sleep(0.01)
asyncio.run(main())
""",
    "exception": """
async def main():
    make_kept()
    raise LookupError
with contextlib.suppress(LookupError):
    asyncio.run(main())
""",
    "exit": """
async def main():
    make_kept()
    sys.exit(3)
with contextlib.suppress(SystemExit):
    asyncio.run(main())
""",
    "cancel": """
async def main():
    make_kept()
    asyncio.current_task().cancel()
    await asyncio.sleep(3600)
with contextlib.suppress(asyncio.CancelledError):
    asyncio.run(main())
""",
    "interrupt": """
async def main():
    make_kept()
    asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
    await asyncio.sleep(3600)
with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
""",
    "run_until_complete": """
async def main():
    make_kept()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
""",
    "stop": """
async def main():
    make_kept()
    asyncio.get_running_loop().stop()
loop = asyncio.new_event_loop()
task = loop.create_task(main())
loop.run_forever()
loop.close()
""",
    "listen on a thread": """
async def main():
    app = App()
    app.on_shutdown(lambda: say("hook"))
    await asyncio.to_thread(app.listen, {"host": "127.0.0.1"}, ready)
    say("serves")
    kept.append(app)
    await asyncio.sleep(0.01)
asyncio.run(main())
""",
}
ENDS["uvloop"] = ENDS["run_until_complete"].replace("asyncio.new", "__import__('uvloop').new")
ENDS["uvloop, asyncio.run"] = (
    "import uvloop\nasyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\n" + ENDS["return"]
)


def ended(program: Program) -> tuple[int, list[str], str]:
    """The exit status, every line after that of the port, and standard error."""
    program.listening()
    words = list(iter(program.word, ""))
    code, _, error = program.finish()
    return code, words, error


@pytest.mark.parametrize("how", ENDS)
def test_ports_and_threads_go_with_the_loop(how: str) -> None:
    if "uvloop" in how and importlib.util.find_spec("uvloop") is None:
        pytest.skip("no uvloop")
    with Program(APP + ENDS[how] + "after(kept[0])\nsay('end')\n") as program:
        words = ["serves", "hook", "threads 0", "ports 0", "end"]
        assert ended(program) == (0, words, WARNING + "\n")


def test_a_loop_that_nobody_closes() -> None:
    """Then the application ends with the interpreter."""
    source = """
loop = asyncio.new_event_loop()
async def main():
    make_kept()
loop.run_until_complete(main())
say("end")
import atexit
atexit.register(loop.close)
"""
    with Program(APP + source) as program:
        assert ended(program) == (0, ["serves", "end", "hook"], WARNING + "\n")


@pytest.mark.parametrize("how", ["asyncio.run(main())", "loop.run_until_complete(main()); loop.close()"])
def test_requests_in_progress_are_cut(how: str) -> None:
    source = """
async def main():
    make_kept()
    while not going:
        await asyncio.sleep(0.01)
going = []
_say = say
def say(word):
    _say(word)
    if word == "waits":
        going.append(1)
loop = asyncio.new_event_loop()
"""
    with Program(APP + source + how + "\nafter(kept[0])\nloop.close()\n") as program:
        with program.listening().client() as client:
            client.request("GET", "/waits")
            client.rest()
        words = list(iter(program.word, ""))
        code, _, error = program.finish()
        assert (code, words[-2:]) == (0, ["threads 0", "ports 0"])
        assert error.splitlines()[0] == WARNING, error


ASYNC_HOOK = """
def make():
    app = App(shutdown_timeout=0.3)
    app.get("/", lambda res, req: res.end("hello"))
    async def waits(res, req):
        say("waits")
        await asyncio.sleep(0.1)
        res.end("waited")
    app.get("/waits", waits)
    @app.on_shutdown
    async def gone():
        say("hook begins")
        await asyncio.sleep(0.05)
        say("hook ends")
    app.listen({"host": "127.0.0.1"}, ready)
    return app
"""


@pytest.mark.parametrize(
    "closed", ["app.close()", "app.dispose()", "app.close(); await asyncio.sleep(0.02)", "pass"]
)
def test_an_asynchronous_shutdown_hook_is_awaited(closed: str) -> None:
    source = f"""
async def main():
    app = make()
    {closed}
asyncio.run(main())
say("end")
"""
    with Program(ASYNC_HOOK + source) as program:
        expected = WARNING + "\n" if closed == "pass" else ""
        assert ended(program) == (0, ["hook begins", "hook ends", "end"], expected)


def test_a_shutdown_hook_of_a_loop_that_goes_on() -> None:
    """It is awaited beside the rest of the program, and the application can serve again."""
    source = """
async def main():
    app = make()
    for _ in range(2):
        app.close()
        while app._server.is_running():
            await asyncio.sleep(0.01)
        say("over")
        if not _:
            app.listen({"host": "127.0.0.1"}, lambda config: None)
    await asyncio.sleep(0)
asyncio.run(main())
"""
    with Program(ASYNC_HOOK + source) as program:
        assert ended(program) == (0, ["hook begins", "hook ends", "over"] * 2, "")


def test_an_asynchronous_hook_without_a_loop_is_told_of() -> None:
    source = """
async def main():
    make()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    with Program(ASYNC_HOOK + source) as program:
        told = f"{WARNING}, and its asynchronous shutdown hook cannot run\n"
        assert ended(program) == (0, [], told)


def test_a_hook_that_fails() -> None:
    source = """
async def main():
    app = make()
    @app.on_shutdown
    async def fails():
        raise LookupError("the hook's own")
    app.close()
asyncio.run(main())
say("end")
"""
    with Program(ASYNC_HOOK + source) as program:
        code, words, error = ended(program)
        assert (code, words) == (0, ["end"])
        assert "the hook's own" in error
