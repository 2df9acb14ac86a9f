"""How user code is called on the loop: a task for each request and event, and what becomes of errors."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
import threading
from asyncio import Task, current_task
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from .exceptions import ClientDisconnected, HTTPError, answer_failed, meant
from .handlers import is_async

if TYPE_CHECKING:
    from ._core import Request, Response, WebSocket
    from .handlers import AsyncHandler, ErrorHandler
    from .loop import Loop

__all__ = ["Calls"]

logger = logging.getLogger("socketify")

#: Tasks cannot run their first step at once, so each is kept from its start.
_LATE_START = sys.version_info < (3, 12)


async def _serve(app: Calls, handler: AsyncHandler, response: Response, request: Request) -> None:
    """The task of one request."""
    try:
        await handler(response, request)
        if request._end():
            request._go_on(response)
    except Exception as error:
        request._end_failed()
        app.trigger_error(error, response, None)
    except BaseException:
        # Cancelled: whoever waits for the answer must not wait for ever.
        request._end_failed()
        response._fail()
        raise
    finally:
        if _LATE_START:
            # Cheaper than a callback of the task, which would cost a turn of the loop.
            app._tasks.discard(current_task())


async def _upgrade(handler: Callable[..., Any], context: Any, response: Response, request: Request) -> None:
    """An upgrade handler as one that takes two arguments."""
    await handler(response, request, context)


async def _tell(
    app: Calls,
    callback: Callable[..., Awaitable[Any]],
    arguments: tuple[Any, ...],
    socket: WebSocket,
    weight: int,
) -> None:
    """The task of one event of a socket."""
    try:
        await callback(*arguments)
    except Exception as error:
        app.trigger_error(error, None, None)
    finally:
        socket._done(weight)
        if _LATE_START:
            app._tasks.discard(current_task())


def _raise(error: BaseException) -> None:
    raise error


class Calls:
    """The part of :class:`~socketify.App` that the core calls back, on the loop's thread or in the turn."""

    loop: Loop
    error_handler: ErrorHandler | None

    def __init__(self) -> None:
        self.error_handler = None
        #: The exit status of a process that a coroutine has forked, and that ends by returning or raising.
        self._status = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        # Those of close listeners, which the end waits for.
        self._last_words: set[asyncio.Task[Any]] = set()

    # ---- errors -----------------------------------------------------------------------------------------------------

    def trigger_error(self, error: BaseException, response: Response | None, request: Request | None) -> None:
        """Reports an error as if a handler had raised it.

        Args:
            error: What the error handler gets.
            response: The response that it may answer; what has been prepared of another answer is dropped. None where there
                is none: then the error is only told.
            request: The request, or None.
        """
        if response is not None:
            response._reset()
        self._handler_failed(error, response, request)

    def _handler_failed(
        self, error: BaseException, response: Response | None, request: Request | None
    ) -> None:
        self._status = 1
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
            self._on_loop(lambda: self._keep(self.loop.loop.create_task(self._report(result, response))))

    async def _report(self, result: Awaitable[Any], response: Response | None) -> None:
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

    def run_async(self, task: Coroutine[Any, Any, Any], response: Response | None = None) -> None:
        """Runs a coroutine as a task of the application's loop, from any thread. Before :meth:`run` it waits for the loop.

        Args:
            task: The coroutine.
            response: The response that the error handler gets when the coroutine fails; None, the default, for none.
        """
        self._spawn(task, response)

    def _spawn(self, task: Awaitable[Any], response: Response | None, request: Request | None = None) -> None:
        if response is None:
            guard = functools.partial(self._guard_awaitable, task, None)
        else:
            # Whoever answers later counts as the handler does.
            response._begin_work()
            guard = functools.partial(self._work, task, response, request)
        self._on_loop(lambda: self._keep(self.loop.loop.create_task(guard())))

    async def _work(self, task: Awaitable[Any], response: Response, request: Request | None) -> None:
        try:
            await self._guard_awaitable(task, response)
        except BaseException:
            response._end_work()
            raise
        if request is None:
            response._end_work()
        elif request._end():
            # What a handler returned may yield as a coroutine does.
            request._go_on(response)

    def _on_loop(self, act: Callable[[], None]) -> None:
        loop = self.loop.loop
        if asyncio._get_running_loop() is loop and not self._is_elsewhere():
            act()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(act)

    def _is_elsewhere(self) -> bool:
        owner = getattr(self.loop.loop, "_owner", None)
        return owner is not None and owner != threading.get_ident()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        # asyncio itself keeps only weak references to tasks.
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _guard_awaitable(self, task: Awaitable[Any], response: Response | None) -> None:
        try:
            await task
        except Exception as error:
            self.trigger_error(error, response, None)
        except BaseException:
            if response is not None:
                response._fail()
            raise

    if sys.version_info >= (3, 12):

        def _start_handler(
            self, handler: AsyncHandler, response: Response, request: Request, *context: Any
        ) -> None:
            if context:
                handler = functools.partial(_upgrade, handler, context[0])
            # Its first step runs here and now, so what answers without waiting costs no turn of the loop.
            try:
                task = Task(_serve(self, handler, response, request), loop=self.loop.loop, eager_start=True)
            except (SystemExit, KeyboardInterrupt) as error:
                # The request has had its answer. As from any later step of a task, this ends the loop.
                self.loop.loop.call_soon(_raise, error)
            else:
                self._keep(task)

        def _start_event(
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
                self.loop.loop.call_soon(_raise, error)
                return
            self._keep(task)
            if last and not task.done():
                self._remember(task)

    else:

        def _start_handler(
            self, handler: AsyncHandler, response: Response, request: Request, *context: Any
        ) -> None:
            if context:
                handler = functools.partial(_upgrade, handler, context[0])
            self._tasks.add(Task(_serve(self, handler, response, request), loop=self.loop.loop))

        def _start_event(
            self,
            callback: Callable[..., Awaitable[Any]],
            arguments: tuple[Any, ...],
            socket: WebSocket,
            weight: int,
            last: bool,
        ) -> None:
            task = Task(_tell(self, callback, arguments, socket, weight), loop=self.loop.loop)
            self._tasks.add(task)
            if last:
                self._remember(task)

    def _remember(self, task: asyncio.Task[Any]) -> None:
        self._last_words.add(task)
        task.add_done_callback(self._last_words.discard)

    def _feed(
        self, handler: Callable[..., Awaitable[Any]], response: Response, chunk: bytes, is_end: bool
    ) -> None:
        async def call() -> None:
            await handler(response, chunk, is_end)

        async def feed() -> None:
            try:
                await self._guard_awaitable(call(), response)
            finally:
                response._resume_body()

        self._keep(self.loop.loop.create_task(feed()))

    _is_coroutine = staticmethod(is_async)
