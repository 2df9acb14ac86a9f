"""How user code is called on the loop: a task for each request and event, and what becomes of errors."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
import threading
from asyncio import Task, current_task
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .exceptions import ClientDisconnected, HTTPError, answer_failed, meant
from .handlers import is_async

if TYPE_CHECKING:
    from ._core import Body, Request, Response, WebSocket
    from .handlers import AsyncHandler, ErrorHandler
    from .loop import Loop

__all__ = ["Calls", "Hooks", "end_loop"]

logger = logging.getLogger("socketify")

#: Tasks cannot run their first step at once, so each is kept from its start.
_LATE_START = sys.version_info < (3, 12)


async def _serve(calls: Calls, handler: AsyncHandler, response: Response, request: Request) -> None:
    """The task of one request."""
    try:
        await handler(response, request)
        if request._end():
            request._go_on(response)
    except Exception as error:
        request._end_failed()
        calls.trigger_error(error, response, None)
    except BaseException:
        # Cancelled: the client must not wait for ever.
        request._end_failed()
        response._fail()
        raise
    finally:
        if _LATE_START:
            # Cheaper than a callback of the task, which would cost a turn of the loop.
            calls.tasks.discard(current_task())


async def _upgrade(handler: Callable[..., Any], context: Any, response: Response, request: Request) -> None:
    """An upgrade handler as one that takes two arguments."""
    await handler(response, request, context)


async def _tell(
    calls: Calls,
    callback: Callable[..., Awaitable[Any]],
    arguments: tuple[Any, ...],
    socket: WebSocket,
    weight: int,
) -> None:
    """The task of one event of a socket."""
    try:
        await callback(*arguments)
    except Exception as error:
        calls.trigger_error(error, None, None)
    finally:
        socket._done(weight)
        if _LATE_START:
            calls.tasks.discard(current_task())


def _raise(error: BaseException) -> None:
    raise error


def end_loop(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    """Raises an error out of the loop, on its next turn."""
    loop.call_soon(_raise, error)


def _fail(response: Response | None) -> None:
    if response is not None:
        response._fail()


def _give_up(response: Response) -> None:
    response._fail()
    response._end_work()


class _Unbegun:
    """Does something if the coroutine that holds this never begins: its task was cancelled before the first step, or its
    event loop has ended."""

    __slots__ = ("_act",)

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act

    def begin(self) -> None:
        """The coroutine runs: from now on it sees to everything itself."""
        self._act = None

    def __del__(self) -> None:
        if self._act is not None:
            self._act()


class _LateTask(Task[None]):
    """The task of a request or event whose first step comes later, so that it may be cancelled before."""

    def cancel(self, msg: Any | None = None) -> bool:
        coroutine: Any = self.get_coro()
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            self.add_done_callback(functools.partial(_end_unbegun, coroutine.cr_frame.f_locals))
        return super().cancel(msg)


def _end_unbegun(arguments: dict[str, Any], task: Task[None]) -> None:
    """What the coroutine of a task would have done at its end."""
    tasks = arguments["calls"].tasks
    if task not in tasks:
        return
    tasks.discard(task)
    if "socket" in arguments:
        arguments["socket"]._done(arguments["weight"])
    else:
        arguments["request"]._end_failed()
        arguments["response"]._fail()


class Calls:
    """Calls the handlers and listeners of an application, on the loop's thread or in the turn.

    Attributes:
        loop: The application's loop. The core, which calls this, has to be there before it is made.
        error_handler: What is called when a handler fails; None for none.
        status: The exit status of a process that a coroutine has forked, and that ends by returning or raising.
        tasks: The tasks that run.
        last_words: Those of close listeners, which the end waits for.
    """

    loop: Loop

    def __init__(self) -> None:
        self.error_handler: ErrorHandler | None = None
        self.status = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.last_words: set[asyncio.Task[Any]] = set()

    # ---- errors -----------------------------------------------------------------------------------------------------

    def trigger_error(self, error: BaseException, response: Response | None, request: Request | None) -> None:
        """Reports an error as if a handler had raised it; see :meth:`App.trigger_error`."""
        if response is not None:
            response._reset()
        self.handler_failed(error, response, request)

    def handler_failed(
        self, error: BaseException, response: Response | None, request: Request | None
    ) -> None:
        """Asks the error handler about what a handler raised; without one, answers and logs it."""
        self.status = 1
        error = meant(error)
        handler = self.error_handler
        # SystemExit and the like are no failure that a handler could explain; on this thread they can only be told.
        if handler is None or not isinstance(error, Exception):
            self._answer(error, response)
            return
        try:
            result = handler(error, response, request)
        except Exception as second:
            self._error_handler_failed(second, response)
            return
        except BaseException:
            if response is not None:
                response._fail()
            raise
        if inspect.isawaitable(result):
            unbegun = _Unbegun(functools.partial(_fail, response))
            self.on_loop(
                lambda: self.keep(self.loop.loop.create_task(self._report(result, response, unbegun)))
            )

    async def _report(self, result: Awaitable[Any], response: Response | None, unbegun: _Unbegun) -> None:
        unbegun.begin()
        try:
            await result
        except Exception as error:
            self._error_handler_failed(error, response)
        except BaseException:
            if response is not None:
                response._fail()
            raise

    # Everywhere the client gets its answer first, and then it is logged: what logs may fail too.

    def _answer(self, error: BaseException, response: Response | None) -> None:
        """What becomes of an error that no error handler is asked about."""
        if isinstance(error, HTTPError) and response is not None:
            try:
                answer_failed(error, response)
            except Exception as second:
                # A header of it cannot be sent.
                self._error_handler_failed(second, response)
            return
        if response is not None:
            response._fail()
        if isinstance(error, ClientDisconnected):
            logger.debug("a client left before its request was complete: %s", error)
        else:
            logger.error("Uncaught Exception: %s", error, exc_info=error)

    @staticmethod
    def _error_handler_failed(error: BaseException, response: Response | None) -> None:
        if response is not None:
            response._fail()
        logger.error("The error handler failed: %s", error, exc_info=error)

    # ---- tasks ------------------------------------------------------------------------------------------------------

    def spawn(self, task: Awaitable[Any], response: Response | None, request: Request | None = None) -> None:
        """Runs something awaitable as a task of the loop, from any thread."""
        if response is None:
            guard = functools.partial(self.guard, task, None)
        else:
            if request is not None:
                request._hand_over()
            # A task that responds later counts as the handler does.
            response._begin_work()
            unbegun = _Unbegun(functools.partial(_give_up, response))
            guard = functools.partial(self._work, task, response, request, unbegun)
        self.on_loop(lambda: self.keep(self.loop.loop.create_task(guard())))

    async def _work(
        self, task: Awaitable[Any], response: Response, request: Request | None, unbegun: _Unbegun
    ) -> None:
        unbegun.begin()
        try:
            await self.guard(task, response)
        except BaseException:
            response._end_work()
            raise
        if request is None:
            response._end_work()
        elif request._end():
            # What a handler returned may yield as a coroutine does.
            request._go_on(response)

    def on_loop(self, act: Callable[[], None]) -> None:
        """Calls something on the loop's thread; at once where this is that thread."""
        loop = self.loop.loop
        if asyncio._get_running_loop() is loop and not self._is_elsewhere():
            act()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(act)

    def _is_elsewhere(self) -> bool:
        owner = getattr(self.loop.loop, "_owner", None)
        return owner is not None and owner != threading.get_ident()

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Holds a task until it is done: asyncio itself keeps only weak references."""
        if not task.done():
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def guard(self, task: Awaitable[Any], response: Response | None) -> None:
        """Awaits something; what it raises is reported."""
        try:
            await task
        except Exception as error:
            self.trigger_error(error, response, None)
        except BaseException:
            if response is not None:
                response._fail()
            raise

    if sys.version_info >= (3, 12):

        def start_handler(
            self, handler: AsyncHandler, response: Response, request: Request, *context: Any
        ) -> None:
            if context:
                handler = functools.partial(_upgrade, handler, context[0])
            # Its first step runs here and now, so what answers without waiting costs no turn of the loop.
            try:
                task = Task(_serve(self, handler, response, request), loop=self.loop.loop, eager_start=True)
            except (SystemExit, KeyboardInterrupt) as error:
                # The request has had its answer. As from any later step of a task, this ends the loop.
                end_loop(self.loop.loop, error)
            else:
                self.keep(task)

        def start_event(
            self,
            callback: Callable[..., Awaitable[Any]],
            arguments: tuple[Any, ...],
            socket: WebSocket,
            weight: int,
            last: bool,
        ) -> None:
            coroutine = _tell(self, callback, arguments, socket, weight)
            try:
                task = Task(coroutine, loop=self.loop.loop, eager_start=True)
            except (SystemExit, KeyboardInterrupt) as error:
                end_loop(self.loop.loop, error)
                return
            self.keep(task)
            if last and not task.done():
                self._remember(task)

    else:

        def start_handler(
            self, handler: AsyncHandler, response: Response, request: Request, *context: Any
        ) -> None:
            if context:
                handler = functools.partial(_upgrade, handler, context[0])
            self.tasks.add(_LateTask(_serve(self, handler, response, request), loop=self.loop.loop))

        def start_event(
            self,
            callback: Callable[..., Awaitable[Any]],
            arguments: tuple[Any, ...],
            socket: WebSocket,
            weight: int,
            last: bool,
        ) -> None:
            task = _LateTask(_tell(self, callback, arguments, socket, weight), loop=self.loop.loop)
            self.tasks.add(task)
            if last:
                self._remember(task)

    def _remember(self, task: asyncio.Task[Any]) -> None:
        self.last_words.add(task)
        task.add_done_callback(self.last_words.discard)

    def feed(
        self,
        handler: Callable[..., Awaitable[Any]],
        response: Response,
        chunk: bytes,
        is_end: bool,
        body: Body,
    ) -> None:
        async def call() -> None:
            await handler(response, chunk, is_end)

        async def feed(unbegun: _Unbegun) -> None:
            unbegun.begin()
            try:
                await self.guard(call(), response)
            finally:
                body.resume()

        self.keep(self.loop.loop.create_task(feed(_Unbegun(body.resume))))


class Hooks:
    """What the core calls, by name.

    Args:
        calls: Calls handlers and listeners.
        drained: Called when the core has finished its last request.
        render: Renders a template.

    Attributes:
        start: ``(handler, response, request)``, or with a context as well: starts a task for a coroutine function.
        spawn: ``(awaitable, response)``: starts a task for what a handler returned.
        feed: ``(handler, response, chunk, is_end, body)``: starts a task for one piece of a body.
        event: ``(callback, arguments, socket, weight, last)``: starts a task for an event of a socket.
        fail: ``(error, response, request)``: a handler failed.
        drained: ``()``: the core has finished its last request.
        note: ``(text)``: something went wrong on a connection, before there was a request; whether that is logged.
        is_coroutine: ``(callable)``: whether it is a coroutine function.
        render: ``(*arguments)``: a page of the template engine.
    """

    def __init__(self, calls: Calls, drained: Callable[[], None], render: Callable[..., Any]) -> None:
        self.start = calls.start_handler
        self.spawn = calls.spawn
        self.feed = calls.feed
        self.event = calls.start_event
        self.fail = calls.handler_failed
        self.drained = drained
        self.note = _note
        self.is_coroutine = is_async
        self.render = render


def _note(text: str) -> bool:
    logger.debug("%s", text)
    return logger.isEnabledFor(logging.DEBUG)
