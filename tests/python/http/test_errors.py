"""What becomes of errors: A-CALL-05..08, A-CALL-14, A-APP-10/11, D-08..10, DEC-14, I-S-26, I-S-56..58."""

from __future__ import annotations

import asyncio
import builtins
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from socketify import App, HTTPError
from support import Program, until

Serve = Callable[..., Any]


class Failure(Exception):
    """What handlers of these tests raise."""


class Severe(BaseException):
    """Something that ``except Exception`` does not catch."""


def messages(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def logged(caplog: pytest.LogCaptureFixture, count: int, level: int = logging.ERROR) -> list[str]:
    """Waits for that many messages, which come after the response; there are no more of them."""
    until(lambda: len(messages(caplog, level)) >= count, f"{count} messages are logged")
    found = messages(caplog, level)
    assert len(found) == count
    return found


def fail_plain(res: Any, req: Any) -> None:
    raise Failure("oops")


async def fail_first(res: Any, req: Any) -> None:
    raise Failure("oops")


async def fail_later(res: Any, req: Any) -> None:
    await asyncio.sleep(0)
    raise Failure("oops")


async def fail_child(res: Any, req: Any) -> None:
    await asyncio.create_task(fail_later(res, req))


FAILING: dict[str, Any] = {
    "def": fail_plain,
    "async first": fail_first,
    "async later": fail_later,
    "async child": fail_child,
}


# ---- without an error handler ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["io", "loop"])
@pytest.mark.parametrize("kind", FAILING)
def test_the_default_logs_a_traceback_and_answers_500(
    serve: Serve, caplog: pytest.LogCaptureFixture, kind: str, lane: str
) -> None:
    """A-CALL-06, A-CALL-07, D-08. The connection lives on."""

    def configure(app: App) -> None:
        app.get("/", FAILING[kind]).get("/fine", lambda res, req: res.end("fine"))

    with serve(configure, sync_handlers=lane).client() as client:
        for _ in range(3):
            answer = client.get("/")
            assert (answer.status, answer.body) == (500, b"Internal Error")
        assert client.get("/fine").body == b"fine"
    logged(caplog, 3)
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    for record in records:
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], Failure)
        assert record.exc_info[2] is not None
    assert "fail_" in caplog.text, "the traceback names the handler"


def test_status_and_headers_of_the_failed_answer_are_forgotten(serve: Serve, caplog: Any) -> None:
    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            res.write_status(201).write_header("X-Secret", "1").write_header("Content-Type", "image/png")
            res.set_cookie("session", "1")
            raise Failure

        app.get("/", handler)

    with serve(configure).client() as client:
        answer = client.get("/")
    assert (answer.status, answer.body) == (500, b"Internal Error")
    assert answer.header("x-secret") is None
    assert answer.header("set-cookie") is None
    assert answer.header("content-type") == "text/plain"


@pytest.mark.parametrize("kind", ["def", "async"])
def test_an_error_after_the_answer_is_only_logged(serve: Serve, caplog: Any, kind: str) -> None:
    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            res.end("whole")
            raise Failure("too late")

        async def async_handler(res: Any, req: Any) -> None:
            res.end("whole")
            await asyncio.sleep(0)
            raise Failure("too late")

        app.get("/", handler if kind == "def" else async_handler)

    with serve(configure).client() as client:
        for _ in range(5):
            answer = client.get("/")
            assert (answer.status, answer.body) == (200, b"whole")
        until(lambda: len(messages(caplog)) == 5, "the errors are logged")


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_errors_of_other_methods(serve: Serve, caplog: Any, method: str) -> None:
    """HEAD has no body; a body that was not read does not get in the way of the next request."""
    with serve(lambda app: app.any("/", fail_plain)).client() as client:
        for _ in range(3):
            client.request(method, "/", body=None if method == "HEAD" else b"x" * 1000)
            answer = client.answer(method)
            assert answer.status == 500
            assert answer.header("content-length") == "14"


# ---- half-sent responses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["none", "answers"])
@pytest.mark.parametrize("kind", ["def", "async", "returned", "thread"])
@pytest.mark.parametrize("body", ["chunked", "sized"])
def test_a_half_sent_answer_is_cut(serve: Serve, caplog: Any, kind: str, body: str, handler: str) -> None:
    """No terminating chunk, no promised rest: the client sees that it was not all. The error handler cannot mend it."""
    seen: list[Any] = []

    def configure(app: App) -> None:
        def begin(res: Any) -> None:
            if body == "sized":
                res.try_end(b"half", 8)
            else:
                res.write("half")

        async def half(res: Any) -> None:
            begin(res)
            await asyncio.sleep(0.01)
            raise Failure

        def plain(res: Any, req: Any) -> Any:
            if kind == "returned":
                return half(res)
            if kind == "thread":
                return threading.Thread(
                    target=lambda: (begin(res), app.trigger_error(Failure(), res, req))
                ).start()
            begin(res)
            raise Failure

        async def asynchronous(res: Any, req: Any) -> None:
            await half(res)

        app.get("/", asynchronous if kind == "async" else plain)
        if handler == "answers":

            @app.on_error
            def failed(error: Any, res: Any, req: Any) -> None:
                seen.append((type(error), res is not None))
                res.write_status(500).end("sorry")

    with serve(configure).client() as client:
        client.request()
        head = client.until(b"\r\n\r\n")
        rest = client.rest()
    assert head.startswith(b"HTTP/1.1 200")
    assert rest == (b"half" if body == "sized" else b"4\r\nhalf\r\n")
    assert seen == ([(Failure, True)] if handler == "answers" else [])


def test_a_cut_answer_of_many_pieces_keeps_what_was_written(serve: Serve, caplog: Any) -> None:
    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            for _ in range(10):
                res.write("x" * 10_000)
                await asyncio.sleep(0)
            raise Failure

        app.get("/", handler)

    with serve(configure).client() as client:
        client.request().until(b"\r\n\r\n")
        rest = client.rest()
    assert rest.count(b"x") == 100_000
    assert not rest.endswith(b"0\r\n\r\n")


# ---- the error handler ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("registration", ["decorator", "set_error_handler"])
@pytest.mark.parametrize("shape", ["def", "async"])
@pytest.mark.parametrize("kind", FAILING)
def test_the_error_handlers_arguments(
    serve: Serve, caplog: Any, kind: str, shape: str, registration: str
) -> None:
    """A-CALL-06, A-CALL-07, I-S-56..58: all three for ``def``; no request for coroutines."""
    seen: list[Any] = []

    def configure(app: App) -> None:
        def failed(error: Any, res: Any, req: Any) -> None:
            seen.append((type(error), str(error), res.app is app, None if req is None else req.get_url()))
            res.write_status(418).end("Sorry")

        async def async_failed(error: Any, res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            failed(error, res, req)

        handler = async_failed if shape == "async" else failed
        if registration == "decorator":
            assert app.on_error(handler) is handler
        else:
            app.set_error_handler(handler)
        assert app.error_handler is handler
        app.get("/", FAILING[kind])

    with serve(configure).client() as client:
        for _ in range(3):
            answer = client.get("/")
            assert (answer.status, answer.body) == (418, b"Sorry")
    assert seen == [(Failure, "oops", True, "/" if kind == "def" else None)] * 3
    assert messages(caplog) == []


@pytest.mark.parametrize("shape", ["def", "async first", "async later"])
@pytest.mark.parametrize("kind", FAILING)
def test_a_failing_error_handler_gives_500(serve: Serve, caplog: Any, kind: str, shape: str) -> None:
    """A-CALL-08."""

    def configure(app: App) -> None:
        def failed(error: Any, res: Any, req: Any) -> None:
            res.write_status(418)
            raise Failure("in the error handler")

        async def async_failed(error: Any, res: Any, req: Any) -> None:
            if shape == "async later":
                await asyncio.sleep(0)
            failed(error, res, req)

        app.set_error_handler(failed if shape == "def" else async_failed)
        app.get("/", FAILING[kind])

    with serve(configure).client() as client:
        for _ in range(3):
            answer = client.get("/")
            assert (answer.status, answer.body) == (500, b"Internal Error")
    logged(caplog, 3)
    assert "in the error handler" in caplog.text


def test_an_error_handler_of_the_wrong_shape_gives_500(serve: Serve, caplog: Any) -> None:
    def configure(app: App) -> None:
        app.set_error_handler(lambda error: None)  # type: ignore[arg-type, misc]
        app.get("/", fail_plain)

    with serve(configure).client() as client:
        assert client.get("/").status == 500
    until(lambda: "TypeError" in caplog.text, "the error is logged")


def test_an_error_handler_that_does_not_answer(serve: Serve) -> None:
    """D-09: the client waits until it leaves, and the server goes on."""
    seen: list[Any] = []

    def configure(app: App) -> None:
        app.set_error_handler(lambda error, res, req: seen.append(res))
        app.get("/", fail_plain).get("/fine", lambda res, req: res.end("fine"))

    running = serve(configure)
    with running.client() as client, running.client() as other:
        client.request()
        until(lambda: seen, "the error handler runs")
        assert other.get("/fine").body == b"fine"
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.receive()
    until(lambda: seen[0].aborted, "the abort is seen")


@pytest.mark.parametrize("nothing", [None, 3, "handler"])
def test_the_default_comes_back(serve: Serve, caplog: Any, nothing: Any) -> None:
    """A-APP-10: a value that is not callable resets to the default, also while the application runs."""

    def configure(app: App) -> None:
        app.set_error_handler(lambda error, res, req: res.end("handled"))
        app.get("/", fail_plain)

    running = serve(configure)
    with running.client() as client:
        assert client.get("/").body == b"handled"
        running.app.set_error_handler(nothing)
        assert running.app.error_handler is None
        assert client.get("/").body == b"Internal Error"


def test_trigger_error(serve: Serve, caplog: Any) -> None:
    """A-APP-11: with a response, without one, from a thread, with and without an error handler."""
    seen: list[Any] = []

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            app.trigger_error(Failure("first"), None, None)
            app.trigger_error(Failure("second"), res, req)

        app.get("/default", handler)
        app.get(
            "/thread",
            lambda res, req: threading.Thread(
                target=app.trigger_error, args=(Failure("third"), res, req)
            ).start(),
        )

    running = serve(configure)
    with running.client() as client:
        assert client.get("/default").body == b"Internal Error"
        assert logged(caplog, 2) == ["Uncaught Exception: first", "Uncaught Exception: second"]
        running.app.set_error_handler(
            lambda error, res, req: (seen.append((str(error), res, req)), res and res.end("handled"))
        )
        assert client.get("/default").body == b"handled"
        assert client.get("/thread").body == b"handled"
    assert [text for text, _, _ in seen] == ["first", "second", "third"]
    assert seen[0][1:] == (None, None)
    assert None not in seen[1]


def test_a_background_coroutine_has_neither_response_nor_request(serve: Serve) -> None:
    """I-S-57."""
    seen: list[Any] = []

    def configure(app: App) -> None:
        app.set_error_handler(lambda error, res, req: seen.append((str(error), res, req)))

        async def work() -> None:
            raise Failure("background")

        def handler(res: Any, req: Any) -> None:
            app.run_async(work())
            res.end("fine")

        app.get("/", handler)

    with serve(configure).client() as client:
        assert client.get("/").body == b"fine"
        until(lambda: seen == [("background", None, None)], "the error handler runs")


# ---- asyncio's own errors -------------------------------------------------------------------------------------------


def test_errors_of_the_loop_reach_the_error_handler(serve: Serve) -> None:
    """D-10, DEC-14: the exception where there is one, else a RuntimeError with the message; never a dict."""
    import gc

    seen: list[Any] = []

    def configure(app: App) -> None:
        app.set_error_handler(
            lambda error, res, req: seen.append((type(error).__name__, str(error), res, req))
        )

        async def forgotten() -> None:
            raise Failure("forgotten")

        def callback() -> None:
            raise Failure("callback")

        async def handler(res: Any, req: Any) -> None:
            loop = asyncio.get_running_loop()
            task = asyncio.create_task(forgotten())
            await asyncio.wait([task])
            del task
            loop.call_soon(callback)
            loop.call_exception_handler({"message": "only words"})
            await asyncio.sleep(0.01)
            gc.collect()
            res.end("fine")

        app.get("/", handler)

    with serve(configure).client() as client:
        assert client.get("/").body == b"fine"
        until(lambda: len(seen) == 3, f"three errors: {seen}")
    assert sorted(seen) == [
        ("Failure", "callback", None, None),
        ("Failure", "forgotten", None, None),
        ("RuntimeError", "only words", None, None),
    ]


def test_errors_of_the_loop_are_logged_without_an_error_handler(serve: Serve, caplog: Any) -> None:
    def configure(app: App) -> None:
        def callback() -> None:
            raise Failure("callback")

        app.get("/", lambda res, req: (asyncio.get_running_loop().call_soon(callback), res.end("fine"))[1])

    with serve(configure).client() as client:
        assert client.get("/").body == b"fine"
        until(lambda: "callback" in caplog.text, "the error is logged")


# ---- more than Exception --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["io", "loop"])
@pytest.mark.parametrize(
    "error", [Severe, GeneratorExit, asyncio.CancelledError, SystemExit, KeyboardInterrupt]
)
def test_a_def_handler_that_raises_anything_is_answered(
    serve: Serve, caplog: Any, error: Any, lane: str
) -> None:
    """The server lives on: a request must not be able to end it."""

    def configure(app: App) -> None:
        def handler(res: Any, req: Any) -> None:
            raise error("severe")

        app.get("/", handler).get("/fine", lambda res, req: res.end("fine"))

    with serve(configure, sync_handlers=lane).client() as client:
        assert client.get("/").status == 500
        assert client.get("/fine").body == b"fine"


@pytest.mark.parametrize("when", ["first", "later"])
@pytest.mark.parametrize("error", [Severe, GeneratorExit, asyncio.CancelledError])
def test_a_coroutine_that_raises_anything_is_answered(
    serve: Serve, caplog: Any, error: Any, when: str
) -> None:
    """A-CALL-07: the client does not hang."""

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            if when == "later":
                await asyncio.sleep(0)
            raise error("severe")

        app.get("/", handler).get("/fine", lambda res, req: res.end("fine"))

    with serve(configure).client() as client:
        assert client.get("/").status == 500
        assert client.get("/fine").body == b"fine"


@pytest.mark.parametrize("when", ["first", "later"])
def test_a_cancelled_handler_is_answered(serve: Serve, caplog: Any, when: str) -> None:
    """A-CALL-07, I-C-43: by somebody else, or by itself; half a response is cut."""

    def configure(app: App) -> None:
        async def handler(res: Any, req: Any) -> None:
            if when == "later":
                await asyncio.sleep(0)
            if req.get_query("half"):
                res.write("half")
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(3600)

        app.get("/", handler)

    running = serve(configure)
    with running.client() as client:
        assert client.get("/").status == 500
        client.request(target="/?half=1").until(b"\r\n\r\n")
        assert not client.rest().endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("when", ["first", "later"])
def test_exit_in_a_coroutine_ends_the_program(when: str) -> None:
    """As everywhere in asyncio; the same whether the coroutine has waited or not, and the client gets a response."""
    source = """
    app = App()

    async def handler(res, req):
        if sys.argv[1] == "later":
            await asyncio.sleep(0)
        sys.exit(3)

    app.get("/", handler)
    app.on_shutdown(lambda: say("shutdown"))
    app.listen({"host": "127.0.0.1"}, ready)
    app.run()
    """
    with Program(source, when) as program, program.listening().client() as client:
        assert client.get("/").status == 500
        code, out, _ = program.finish()
        assert (code, out) == (3, "shutdown\n")


# ---- callbacks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["def", "async"])
def test_an_error_in_on_data_is_the_handlers(serve: Serve, kind: str) -> None:
    """A-RES-28: to the error handler, which answers."""
    seen: list[Any] = []

    def configure(app: App) -> None:
        def failed(error: Any, res: Any, req: Any) -> None:
            seen.append((str(error), req))
            res.write_status(500).end("handled")

        def data(res: Any, chunk: bytes, last: bool) -> None:
            raise Failure("data")

        async def async_data(res: Any, chunk: bytes, last: bool) -> None:
            await asyncio.sleep(0)
            raise Failure("data")

        app.set_error_handler(failed)
        app.post("/", lambda res, req: res.on_data(data if kind == "def" else async_data))
        app.get("/fine", lambda res, req: res.end("fine"))

    with serve(configure).client() as client:
        for _ in range(3):
            answer = client.request("POST", body=b"x" * 100_000).answer()
            assert (answer.status, answer.body) == (500, b"handled")
        assert client.get("/fine").body == b"fine"
    assert seen == [("data", None)] * 3


@pytest.mark.parametrize("kind", ["def", "async"])
def test_an_error_in_on_aborted_is_logged(serve: Serve, caplog: Any, kind: str) -> None:
    """A-RES-27: not for the error handler, since there is no client."""
    seen: list[Any] = []
    entered = threading.Event()

    def configure(app: App) -> None:
        app.set_error_handler(lambda error, res, req: seen.append(error))

        def aborted(res: Any) -> None:
            raise Failure("in on_aborted")

        async def async_aborted(res: Any) -> None:
            await asyncio.sleep(0)
            raise Failure("in on_aborted")

        def handler(res: Any, req: Any) -> None:
            res.on_aborted(aborted if kind == "def" else async_aborted)
            entered.set()

        app.get("/", handler).get("/fine", lambda res, req: res.end("fine"))

    running = serve(configure)
    with running.client() as client:
        client.request()
        assert entered.wait(20)
    until(lambda: "in on_aborted" in caplog.text, "the error is logged")
    with running.client() as client:
        assert client.get("/fine").body == b"fine"
    assert seen == []


def test_an_error_in_on_writable_is_logged(serve: Serve, caplog: Any) -> None:
    """A-RES-29: it counts as False, and the response goes on without it."""
    entered = threading.Event()

    def configure(app: App) -> None:
        def writable(res: Any, offset: int) -> bool:
            raise Failure("in on_writable")

        def handler(res: Any, req: Any) -> None:
            taken, done = res.try_end(b"x" * 20_000_000, 20_000_000)
            assert (taken, done) == (False, False)
            res.on_writable(writable)
            res.offset = res.get_write_offset()
            kept.append(res)
            entered.set()

        app.get("/", handler).get("/fine", lambda res, req: res.end("fine"))

    kept: list[Any] = []
    running = serve(configure)
    with running.client() as client:
        client.request()
        assert entered.wait(20)
        client.until(b"\r\n\r\n")
        client.exactly(kept[0].offset)
        until(lambda: "in on_writable" in caplog.text, "the error is logged")
        kept[0].end(b"y" * (20_000_000 - kept[0].get_write_offset()))
        client.exactly(20_000_000 - kept[0].offset)
        assert client.get("/fine").body == b"fine"


def test_an_error_in_cork_is_the_handlers(serve: Serve) -> None:
    """I-C-24: only logged, it would leave the client waiting."""
    seen: list[Any] = []

    def configure(app: App) -> None:
        @app.on_error
        def on_error(error: Exception, res: Any, req: Any) -> None:
            seen.append(error)
            res.write_status(500).end("sorry")

        def inside(res: Any) -> None:
            res.write_header("X-Lost", "yes")
            raise Failure("in cork")

        def handler(res: Any, req: Any) -> None:
            res.cork(inside)

        async def async_handler(res: Any, req: Any) -> None:
            await asyncio.sleep(0)
            handler(res, req)

        app.get("/def", handler).get("/async", async_handler)

    with serve(configure).client() as client:
        for path in ("/def", "/async"):
            answer = client.get(path)
            assert (answer.status, answer.body, answer.header("x-lost")) == (500, b"sorry", None)
    assert [str(error) for error in seen] == ["in cork"] * 2


def test_an_error_in_for_each_header_is_logged(serve: Serve, caplog: Any) -> None:
    def configure(app: App) -> None:
        def each(name: str, value: str) -> None:
            raise Failure("in for_each_header")

        app.get("/", lambda res, req: (req.for_each_header(each), res.end("fine"))[1])

    with serve(configure).client() as client:
        assert client.get("/").body == b"fine"
    until(lambda: "in for_each_header" in caplog.text, "the error is logged")


def test_async_functions_are_refused_where_they_cannot_work(serve: Serve, caplog: Any) -> None:
    """A-CALL-14: a logged error, not called, and nothing is "never awaited"."""
    called: list[str] = []

    def configure(app: App) -> None:
        async def refused(*arguments: Any) -> None:
            called.append("called")

        def handler(res: Any, req: Any) -> None:
            res.cork(refused)
            res.on_writable(refused)
            req.for_each_header(refused)
            res.end("fine")

        app.get("/", handler)

    with serve(configure).client() as client:
        assert client.get("/").body == b"fine"
    assert called == []
    errors = logged(caplog, 3)
    for name, message in zip(("cork", "on_writable", "for_each_header"), errors, strict=False):
        assert name in message
        assert "refused" in message


# ---- no response ------------------------------------------------------------------------------------------------------


def test_a_handler_without_an_answer(serve: Serve, caplog: Any) -> None:
    """A-CALL-05, I-S-26: one warning, the connection stays, the server lives on."""

    def configure(app: App) -> None:
        def user(res: Any, req: Any) -> Any:
            if int(req.get_parameter(0)) == 1:
                return res.end("Hello user with id 1!")
            calls.append(1)
            return None

        app.get("/user/:id", user)

    calls: list[int] = []
    running = serve(configure)
    silent = [running.client() for _ in range(3)]
    for client in silent:
        client.request(target="/user/2")
    until(lambda: len(calls) == 3, "the handlers run")
    with running.client() as client:
        assert client.get("/user/1").body == b"Hello user with id 1!"
    silent[0].socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        silent[0].receive()
    warnings = logged(caplog, 1, logging.WARNING)
    assert "/user/2" in warnings[0]
    for client in silent:
        client.close()


@pytest.mark.parametrize("kind", ["on_aborted", "on_data", "kept", "run_async", "thread", "task"])
def test_no_warning_where_an_answer_may_still_come(serve: Serve, caplog: Any, kind: str) -> None:
    kept: list[Any] = []

    def configure(app: App) -> None:
        async def later(res: Any) -> None:
            await asyncio.sleep(0.01)
            res.end("later")

        def handler(res: Any, req: Any) -> None:
            if kind == "on_aborted":
                res.on_aborted(lambda res: None)
                kept.append(res)
            elif kind == "on_data":
                res.on_data(lambda res, chunk, last: last and res.end("later"))
            elif kind == "kept":
                kept.append(res)
            elif kind == "run_async":
                res.run_async(later(res))
            elif kind == "thread":
                threading.Timer(0.01, res.end, ("later",)).start()
            else:
                app.task = asyncio.create_task(later(res))  # type: ignore[attr-defined]

        app.post("/", handler)

    with serve(configure).client() as client:
        client.request("POST", body=b"")
        if kind in ("on_aborted", "kept"):
            until(lambda: kept, "the handler runs")
            kept.pop().end("later")
        assert client.answer().body == b"later"
    assert messages(caplog, logging.WARNING) == []


# ---- the client first -------------------------------------------------------------------------------------------------


class Broken(logging.Handler):
    """What logs may fail as well, in the worst way."""

    def emit(self, record: logging.LogRecord) -> None:
        raise Severe


@pytest.fixture
def broken_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A log that raises. Returns Python's unraisable exceptions."""
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    handler = Broken()
    logging.getLogger("socketify").addHandler(handler)
    yield told
    logging.getLogger("socketify").removeHandler(handler)


def raises(res: Any, req: Any) -> None:
    raise LookupError


async def raises_later(res: Any, req: Any) -> None:
    await asyncio.sleep(0)
    raise LookupError


def answers_503(res: Any, req: Any) -> None:
    raise HTTPError(503)


def raises_in_data(res: Any, req: Any) -> None:
    res.on_data(lambda res, chunk, last: 1 / 0)


@pytest.mark.parametrize("place", ["io", "loop"])
@pytest.mark.parametrize("handler", [raises, raises_later, answers_503, raises_in_data])
def test_the_client_is_answered_whatever_becomes_of_the_log(
    serve: Serve, broken_log: list[Any], place: str, handler: Any
) -> None:
    def configure(app: App) -> None:
        app.loop.loop.set_exception_handler(lambda loop, context: None)
        app.any("/", handler)
        app.get("/next", lambda res, req: res.end("next"))

    running = serve(configure, sync_handlers=place)
    with running.client() as client:
        answer = client.request("POST", "/", body=b"x").answer()
        assert answer.status == (503 if handler is answers_503 else 500)
        assert client.get("/next").body == b"next"


@pytest.mark.parametrize("place", ["io", "loop"])
@pytest.mark.parametrize("handler", [raises, raises_later, raises_in_data])
@pytest.mark.parametrize("kind", ["def", "async", "async, later"])
def test_the_client_is_answered_whatever_the_error_handler_raises(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, place: str, handler: Any, kind: str
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)

    def failed(error: Any, res: Any, req: Any) -> None:
        raise Severe

    async def failed_later(error: Any, res: Any, req: Any) -> None:
        if kind == "async, later":
            await asyncio.sleep(0)
        raise Severe

    def configure(app: App) -> None:
        app.loop.loop.set_exception_handler(lambda loop, context: None)
        app.set_error_handler(failed if kind == "def" else failed_later)
        app.any("/", handler)
        app.get("/next", lambda res, req: res.end("next"))

    running = serve(configure, sync_handlers=place)
    with running.client() as client:
        assert client.request("POST", "/", body=b"x").answer().status == 500
        assert client.get("/next").body == b"next"


def test_a_data_callback_that_cannot_be_called_is_answered(serve: Serve, caplog: Any) -> None:
    async def takes_nothing() -> None: ...

    running = serve(lambda app: app.post("/", lambda res, req: res.on_data(takes_nothing)))
    with running.client() as client:
        assert client.request("POST", "/", body=b"x").answer().status == 500


# ---- groups -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are of Python 3.11")
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kind", ["one", "nested", "two", "another"])
def test_a_group_with_one_http_error_stands_for_it(serve: Serve, caplog: Any, kind: str, own: bool) -> None:
    """As a task group raises it. With several in it the meant one is unknown."""
    group: Any = getattr(builtins, "ExceptionGroup")  # noqa: B009 - it is not of every version
    errors = {
        "one": lambda: group("tasks", [HTTPError(403)]),
        "nested": lambda: group("tasks", [group("inner", [HTTPError(403)])]),
        "two": lambda: group("tasks", [HTTPError(403), HTTPError(404)]),
        "another": lambda: group("tasks", [LookupError()]),
    }

    async def handler(res: Any, req: Any) -> None:
        raise errors[kind]()

    def plain(res: Any, req: Any) -> None:
        raise errors[kind]()

    def failed(error: Any, res: Any, req: Any) -> None:
        res.write_status(error.status if isinstance(error, HTTPError) else 500).end(type(error).__name__)

    def configure(app: App) -> None:
        app.get("/async", handler)
        app.get("/def", plain)
        if own:
            app.set_error_handler(failed)

    running = serve(configure)
    for path in ("/async", "/def"):
        with running.client() as client:
            answer = client.get(path)
            assert answer.status == (403 if kind in ("one", "nested") else 500)
            if own:
                assert answer.body == (b"HTTPError" if answer.status == 403 else b"ExceptionGroup")
