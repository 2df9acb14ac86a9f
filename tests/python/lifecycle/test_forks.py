"""A process that a handler forks: its parent's server does nothing in it, for every kind of end."""

from __future__ import annotations

import signal

import pytest

from support import Program

#: Ends of the child, and the status that each gives.
ENDS = {"exit": ("sys.exit(3)", 3), "raise": ("raise LookupError('child')", 1), "return": ("return", 0)}

APP = """
import multiprocessing, subprocess, warnings

# Python 3.12 warns of any fork of a process with threads.
warnings.simplefilter("ignore", DeprecationWarning)

app = App(**dict(eval(sys.argv[1]) if len(sys.argv) > 1 else ()))
forked = []

@app.on_shutdown
def gone():
    say("hook")

def child(res):
    # Whatever it does to its parent's objects does nothing.
    res.write_status(500)
    res.end("child")
    res.close()
    app.publish("all", "child")
    app.close()
    for ws in sockets:
        ws.send("child")
        ws.close()

sockets = []
app.ws("/ws", {"open": lambda ws: (sockets.append(ws), ws.subscribe("all")),
               "message": lambda ws, message, opcode: ws.send(message, opcode)})

def work(number):
    if number == 99:
        os._exit(number)
    return number * number

def status(res, req):
    res.end(str(os.waitstatus_to_exitcode(os.waitpid(forked.pop(), 0)[1])))
"""

SERVE = """
app.get("/fork", fork)
app.get("/status", status)
app.get("/", lambda res, req: res.end("hello"))
app.listen({"host": "127.0.0.1"}, ready)
app.run()
"""

HANDLERS = {
    "plain": """
def fork(res, req):
    pid = os.fork()
    if not pid:
        child(res)
        %s
    forked.append(pid)
    res.end("parent")
""",
    "coroutine": """
async def fork(res, req):
    await asyncio.sleep(0)
    pid = os.fork()
    if not pid:
        child(res)
        %s
    forked.append(pid)
    res.end("parent")
""",
    "first step": """
async def fork(res, req):
    pid = os.fork()
    if not pid:
        child(res)
        %s
    forked.append(pid)
    res.end("parent")
""",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("handler", [*HANDLERS, "plain on the loop"])
def test_a_child_ends_and_leaves_the_connection_alone(handler: str, end: str) -> None:
    act, expected = ENDS[end]
    options = "{'sync_handlers': 'loop'}" if handler.endswith("loop") else "{}"
    source = APP + HANDLERS[handler.removesuffix(" on the loop")] % act + SERVE
    with Program(source, options) as server:
        with server.listening().client() as client:
            for _ in range(3):
                answer = client.get("/fork")
                assert (answer.status, answer.body) == (200, b"parent")
                assert client.get("/status").body == str(expected).encode()
                # The parent's loop and threads have lost nothing.
                assert client.get("/").body == b"hello"
        server.signal(signal.SIGTERM)
        code, out, error = server.finish()
        assert (code, out) == (0, "hook\n")
        assert ("LookupError: child" in error) is (end == "raise"), error


@pytest.mark.parametrize("handler", HANDLERS)
def test_signals_of_a_child_are_its_own(handler: str) -> None:
    act = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)"
    with Program(APP + HANDLERS[handler] % act + SERVE) as server:
        with server.listening().client() as client:
            assert client.get("/fork").body == b"parent"
            assert client.get("/status").body == b"-15"
            assert client.get("/").body == b"hello"
        server.signal(signal.SIGTERM)
        assert server.finish() == (0, "hook\n", "")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_processes_of_the_library(kind: str) -> None:
    """multiprocessing by fork, subprocess with and without a function for the child, and a pool."""
    source = (
        APP
        + f"""
{kind} fork(res, req):
    context = multiprocessing.get_context("fork")
    process = context.Process(target=work, args=(99,))
    process.start()
    process.join()
    words = [str(process.exitcode), subprocess.check_output(["echo", "word"]).decode().strip()]
    words.append(subprocess.check_output(["echo", "other"], preexec_fn=lambda: None).decode().strip())
    with context.Pool(2) as pool:
        words.append(str(pool.map(work, [1, 2, 3])))
    res.end(" ".join(words))
"""
        + SERVE
    )
    with Program(source, "{}") as server:
        with server.listening().client() as client:
            for _ in range(2):
                assert client.get("/fork").body == b"99 word other [1, 4, 9]"
        server.signal(signal.SIGTERM)
        assert server.finish() == (0, "hook\n", "")


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("sync_handlers", ["io", "loop"])
def test_a_child_may_run_a_loop_of_its_own(kind: str, sync_handlers: str) -> None:
    source = (
        APP
        + f"""
async def answer():
    await asyncio.sleep(0)
    return 7

def child():
    sys.exit(asyncio.run(answer()))

{kind} fork(res, req):
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    res.end(str(process.exitcode))
"""
        + SERVE
    )
    with Program(source, repr({"sync_handlers": sync_handlers})) as server:
        with server.listening().client() as client:
            assert client.get("/fork").body == b"7"
        server.signal(signal.SIGTERM)
        assert server.finish() == (0, "hook\n", "")


def test_an_application_of_the_parent_cannot_be_started_in_the_child() -> None:
    act = """
        try:
            app._server.start(app.loop.loop)
        except RuntimeError as error:
            os._exit(42 if "make one here" in str(error) else 1)
"""
    with Program(APP + HANDLERS["plain"] % act.strip("\n").lstrip() + SERVE) as server:
        with server.listening().client() as client:
            client.get("/fork")
            assert client.get("/status").body == b"42"
        server.signal(signal.SIGTERM)
        assert server.finish()[0] == 0


def test_a_fork_in_a_loop_that_is_somebody_elses() -> None:
    source = (
        APP
        + """
async def main():
    app = App()
    async def fork(res, req):
        await asyncio.sleep(0)
        pid = os.fork()
        if not pid:
            res.end("child")
            sys.exit(3)
        forked.append(pid)
        res.end("parent")
    app.get("/fork", fork)
    app.get("/status", status)
    app.get("/", lambda res, req: res.end("hello"))
    over = asyncio.Event()
    app.get("/over", lambda res, req: (res.end("bye"), over.set()))
    app.listen({"host": "127.0.0.1"}, ready)
    await over.wait()
    app.close()
app.dispose()
asyncio.run(main())
"""
    )
    with Program(source) as server, server.listening().client() as client:
        for _ in range(3):
            assert client.get("/fork").body == b"parent"
            assert client.get("/status").body == b"3"
            assert client.get("/").body == b"hello"
        client.request("GET", "/over")
        assert server.finish()[0] == 0
