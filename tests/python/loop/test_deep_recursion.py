"""What recurses too deep gets a RecursionError wherever user code runs, and never ends the process."""

from __future__ import annotations

import pytest

from support import Program
from support.ws_client import connect

#: Each goes as deep as Python lets it, or fails with RecursionError.
DEEP = """
import collections, json, sys

# Python 3.13 tells of each finalizer that was too deep. A function of Python would be too deep as well, and of that Python
# tells on standard error, which nobody reads here before the end.
sys.unraisablehook = collections.deque(maxlen=0).append

class Link:
    def __init__(self, next):
        self.next = next
    def __del__(self):
        self.next = None

def sort(*_):
    return sorted([1, 2], key=sort)

def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value

def chain():
    value = None
    for _ in range(50_000):
        value = Link(value)

class Encodes:
    pass

ACTS = {
    "parse": lambda: json.loads("[" * 100_000),
    "decode": lambda: json.loads('{"a":' * 9000 + "1" + "}" * 9000),
    "encode": lambda: json.dumps(nested(9000)),
    "default": lambda: json.dumps(Encodes(), default=lambda value: [Encodes()]),
    "sort": sort,
    "repr": lambda: repr(nested(100_000)),
    "equal": lambda: nested(100_000) == nested(100_000),
    "finalizers": chain,
}

def act(name):
    try:
        ACTS[name]()
    except RecursionError:
        return "RecursionError"
    return "done"
"""

ACTS = ("parse", "decode", "encode", "default", "sort", "repr", "equal", "finalizers")

APPLICATION = """
import logging

class Recursive(logging.Handler):
    def emit(self, record):
        say("logged " + act("sort"))

logging.getLogger("socketify").addHandler(logging.NullHandler())
access = logging.getLogger("access")
access.setLevel(logging.INFO)
access.addHandler(Recursive())
app = App(access_log=access if "log" in sys.argv else None)

def plain(res, req):
    res.end(act(req.get_parameter("act")))

async def coroutine(res, req):
    res.end(act(req.get_parameter("act")))

def data(res, req):
    name = req.get_parameter("act")
    res.on_data(lambda res, chunk, last: res.end(act(name)) if last else None)

def raises(res, req):
    raise LookupError(req.get_parameter("act"))

def failed(error, res, req):
    if isinstance(error, LookupError):
        res.end(act(error.args[0]))
    else:
        res.write_status(500).end(type(error).__name__)

app.get("/plain/:act", plain)
app.get("/coroutine/:act", coroutine)
app.post("/data/:act", data)
app.get("/error/:act", raises)
app.post("/echo", lambda res, req: res.on_data(lambda res, chunk, last: res.end(json.loads(bytes(chunk)))))
app.get("/let-out", lambda res, req: sort())
app.set_error_handler(failed)
app.ws("/ws", {"message": lambda ws, message, opcode: ws.send(act(message))})
app.listen({"host": "127.0.0.1", "port": 0}, ready)
app.run()
"""


def program(*arguments: str) -> Program:
    return Program(DEEP + APPLICATION, *arguments)


def test_whatever_recurses_wherever_it_runs_the_process_lives() -> None:
    with program() as server:
        server.listening()
        for name in ACTS:
            for kind, method in (("plain", "GET"), ("coroutine", "GET"), ("error", "GET"), ("data", "POST")):
                with server.client() as client:
                    body = b"x" if kind == "data" else None
                    answer = client.request(method, f"/{kind}/{name}", body=body).answer()
                    assert answer.status == 200, (kind, name)
                    assert answer.body in (b"done", b"RecursionError"), (kind, name)
            with connect(server.port, "/ws") as socket:
                socket.send_text(name)
                assert socket.recv_message() in (b"done", b"RecursionError"), name
        with server.client() as client:
            assert client.get("/plain/parse").body == b"RecursionError"
            assert client.get("/plain/sort").body == b"RecursionError"
            assert client.get("/plain/finalizers").body == b"done"
        server.signal(15)
        assert server.finish() == (0, "", "")


def test_what_the_core_encodes_itself_is_an_error_of_the_handler() -> None:
    body = b'{"a":' * 9000 + b"1" + b"}" * 9000
    with program() as server:
        server.listening()
        with server.client() as client:
            answer = client.request("POST", "/echo", body=body).answer()
            # Up to Python 3.12 it is too deep; from then on it comes back.
            assert (answer.status, answer.body) in (
                (500, b"RecursionError"),
                (200, body.replace(b":", b": ")),
            )
        with server.client() as client:
            answer = client.get("/let-out")
            assert (answer.status, answer.body) == (500, b"RecursionError")


def test_the_thread_of_the_access_log_goes_as_deep() -> None:
    """Its handlers and filters are user code too."""
    with program("log") as server:
        server.listening()
        with server.client() as client:
            assert client.get("/plain/sort").status == 200
        assert server.word() == "logged RecursionError"


def test_who_raises_the_limit_of_the_stack_and_that_of_python_gets_what_he_asks_for() -> None:
    """Python gives its own threads as much as ``ulimit -s``."""
    source = """
        import resource
        hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
        if hard != resource.RLIM_INFINITY and hard < 128 << 20:
            say("impossible")
            sys.exit()
        resource.setrlimit(resource.RLIMIT_STACK, (128 << 20, hard))
        sys.setrecursionlimit(12_000)

        def sort(left):
            return sorted([left], key=lambda _: sort(left - 1)) if left else []

        app = App()
        app.get("/", lambda res, req: res.end(str(sort(2000))))
        app.listen({"host": "127.0.0.1", "port": 0}, ready)
        app.run()
    """
    with Program(source) as server:
        if (word := server.word()) == "impossible":
            pytest.skip("the stack may not be raised to 128 MiB here")
        server.port = int(word.split()[1])
        with server.client() as client:
            assert client.get("/").body == b"[2000]"
