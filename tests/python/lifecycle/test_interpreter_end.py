"""The end of the interpreter, of tasks and of generators: the rest is abandoned without killing the
process."""

from __future__ import annotations

import signal

import pytest

from support import Program
from support.ws_client import handshake

#: Takes its time to go, when the interpreter has begun to end and lets other threads run no more.
SLOW_END = """
import types

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1.5)

sys.modules["slow"] = types.ModuleType("slow")
sys.modules["slow"].slow = Slow()
"""

SERVE = """
app.listen({"host": "127.0.0.1", "port": 0}, ready)
try:
    app.run()
except SystemExit:
    sys.exit(7)
"""

BLOCKS = {
    # Outside Python, until the interpreter is ending: run() gives up after 2 s beyond the deadline.
    "outside": "time.sleep({seconds})",
    # In Python, despite any exception raised in it.
    "refuses": """
    while True:
        try:
            while True:
                time.sleep(0.01)
        except SystemExit:
            pass""",
}


#: Ways from the core into user code, each on a thread of the core.
CALLS = {
    "plain": 'app.get("/", lambda res, req: block())',
    "data": 'app.post("/", lambda res, req: res.on_data(lambda res, chunk, last: block()))',
    "websocket": 'app.ws("/", {"open": lambda ws: block()})',
    "error": """
def fails(res, req):
    raise LookupError
app.get("/", fails)
app.set_error_handler(lambda error, res, req: block())
""",
    "serializer": """
class Serializer:
    @staticmethod
    def dumps(value):
        block()
    loads = dumps
app.json_serializer(Serializer)
app.get("/", lambda res, req: res.end([1]))
""",
    "topic": """
def opened(ws):
    ws.subscribe("news")
    ws.for_each_topic(lambda topic: block())
app.ws("/", {"open": opened})
""",
    "template": """
class Engine:
    def render(self, name):
        block()
app.template(Engine())
app.get("/", lambda res, req: res.render("page"))
""",
    # Special methods: an attribute, an item, the truth, the text or the number of an object.
    "attribute": """
class Serializer:
    asked = False
    @property
    def dumps(self):
        if self.asked:
            block()
        return str
    loads = str
app.json_serializer(Serializer())
def handler(res, req):
    Serializer.asked = True
    res.end([1])
app.get("/", handler)
""",
    "item": """
class Headers:
    def __iter__(self):
        return self
    def __next__(self):
        block()
app.get("/", lambda res, req: res.write_headers(Headers()))
""",
    "truth": """
class Flag:
    def __bool__(self):
        block()
app.get("/", lambda res, req: res.end("x", Flag()))
""",
    "text": """
class Code(int):
    def __str__(self):
        block()
app.get("/", lambda res, req: res.write_status(Code(7)))
""",
    "number": """
class Code:
    def __index__(self):
        block()
app.ws("/", {"open": lambda ws: ws.end(Code())})
""",
    "future": """
create_future, home = app.loop.loop.create_future, threading.get_ident()
app.loop.loop.create_future = lambda: create_future() if threading.get_ident() == home else block()
app.get("/", lambda res, req: res.drain())
""",
    # What user code does not ask for.
    "report": """
def fails(res, req):
    raise LookupError
def ends(error, res, req):
    raise KeyboardInterrupt
app.get("/", fails)
app.set_error_handler(ends)
sys.unraisablehook = lambda _: block()
""",
    "finalizer": """
class Kept:
    def __del__(self):
        block()
def handler(res, req):
    res.kept = Kept()
    res.end("x")
app.get("/", handler)
""",
}


def left_behind(act: str, where: str) -> str:
    return f"app = App(shutdown_timeout=0.1)\ndef block(*_):\n    say('blocks')\n    {act}\n{CALLS[where]}\n"


@pytest.mark.parametrize("seconds", [3.0, 3.2])
def test_a_handler_that_returns_to_an_ending_interpreter(seconds: float) -> None:
    """Its thread is abandoned; the program's own status is that of the process."""
    source = left_behind(BLOCKS["outside"].format(seconds=seconds), "plain")
    with Program(SLOW_END + source + SERVE) as server:
        with server.listening().client() as client:
            client.request()
            assert server.word() == "blocks"
            server.signal(signal.SIGTERM)
            code, _, error = server.finish()
        # On a slow machine it has returned in time, and its SystemExit is logged.
        assert code == 7, error
        assert "Fatal" not in error


@pytest.mark.parametrize("where", CALLS)
def test_user_code_that_swallows_what_ends_it(where: str) -> None:
    with Program(SLOW_END + left_behind(BLOCKS["refuses"], where) + SERVE) as server:
        with server.listening().client() as client:
            if "app.ws" in CALLS[where]:
                client.send(handshake())
            elif "app.post" in CALLS[where]:
                client.request("POST", body=b"x")
            else:
                client.request()
            assert server.word() == "blocks"
            server.signal(signal.SIGTERM)
            code, _, error = server.finish()
        assert (code, error) == (7, "a handler has not returned: its thread is abandoned\n")


def test_a_log_that_never_returns() -> None:
    """The thread of the access log is abandoned in the same way."""
    source = """
        import logging

        class Stuck(logging.Handler):
            # Without the lock of the handler, which logging wants at the end.
            def handle(self, record):
                say("blocks")
                while True:
                    try:
                        time.sleep(0.01)
                    except BaseException:
                        pass

        access = logging.getLogger("access")
        access.setLevel(logging.INFO)
        access.addHandler(Stuck())
        app = App(access_log=access)
        app.get("/", lambda res, req: res.end("x"))
    """
    with Program(source + SERVE.replace("\n", "\n        ")) as server:
        with server.listening().client() as client:
            client.get("/")
        assert server.word() == "blocks"
        server.signal(signal.SIGTERM)
        code, _, _ = server.finish()
        assert code == 7


def test_a_log_pipe_that_nobody_reads() -> None:
    """The exit waits for its reader no longer than a few seconds."""
    source = """
        import logging
        logging.basicConfig(level=logging.INFO)
        app = App(access_log=True, shutdown_timeout=0.5)
        app.get("/", lambda res, req: res.end("x"))
    """
    with Program(source + SERVE.replace("\n", "\n        ")) as server:
        with server.listening().client() as client:
            for _ in range(1000):
                client.get("/?" + "x" * 200)
        server.signal(signal.SIGTERM)
        assert server.process.wait(15) == 7


AT_THE_END = """
kept = []
closed = threading.Event()

async def rows():
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        say("closed")
        closed.set()

async def works():
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        say("cancelled")

async def handler(res, req):
    generator = rows()
    kept.append(generator)
    kept.append(asyncio.create_task(works()))
    kept.append(asyncio.get_running_loop().run_in_executor(None, slow))
    await asyncio.sleep(0)
    res.end(str(await generator.__anext__()))

def slow():
    closed.wait()
    time.sleep(0.1)
    say("worked")

app = App()
app.get("/", handler)
def close(res, req):
    res.end("bye")
    app.close()

app.get("/close", close)
"""


@pytest.mark.parametrize("how", ["signal", "close"])
def test_run_ends_like_that_of_asyncio(how: str) -> None:
    """Tasks are cancelled, then generators are closed, then the executor's threads are waited for."""
    source = (
        AT_THE_END
        + 'app.listen({"host": "127.0.0.1", "port": 0}, ready)\ntry:\n    app.run()\nfinally:\n    say("ended")\n'
    )
    with Program(source) as server:
        with server.listening().client() as client:
            assert client.get("/").body == b"1"
            if how == "close":
                client.request("GET", "/close")
            else:
                server.signal(signal.SIGTERM)
            code, out, error = server.finish()
        assert (code, out.split(), error) == (0, ["cancelled", "closed", "worked", "ended"], "")


def test_it_runs_again_with_generators_and_an_executor() -> None:
    source = (
        AT_THE_END
        + """
for _ in range(2):
    closed.clear()
    app.listen({"host": "127.0.0.1", "port": 0}, ready)
    app.run()
    say("ended")
"""
    )
    with Program(source) as server:
        for _ in range(2):
            with server.listening().client() as client:
                assert client.get("/").body == b"1"
                client.request("GET", "/close")
            assert [server.word() for _ in range(4)] == ["cancelled", "closed", "worked", "ended"]
        assert server.finish() == (0, "", "")


def test_what_never_ends_does_not_keep_the_process() -> None:
    source = """
        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    say("refuses")

        async def rows():
            try:
                yield 1
            finally:
                await asyncio.sleep(3600)

        async def handler(res, req):
            app.kept = asyncio.create_task(stubborn()), rows()
            await app.kept[1].__anext__()
            res.end("x")

        app = App()
        app.get("/", handler)
        app.listen({"host": "127.0.0.1", "port": 0}, ready)
        app.run()
    """
    with Program(source) as server:
        with server.listening().client() as client:
            client.get("/")
        server.signal(signal.SIGTERM)
        assert server.finish(20)[0] == 0
