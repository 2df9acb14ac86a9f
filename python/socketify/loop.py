"""The event loop of an application: real asyncio (or uvloop), which handlers on other threads may use as well.

A ``def`` handler runs on an I/O thread and yet finds the application's loop as the running one, so ``asyncio.create_task``,
``call_soon`` or ``future.set_result`` work in it. What they schedule has to reach the loop's own thread: the loops here
see on which thread they are called, and pass a call from elsewhere through ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import selectors
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core import Server

    _Base = asyncio.AbstractEventLoop
else:
    _Base = object

__all__ = ["Loop", "Timer"]

#: Turns of the loop that may run requests without asking the operating system for other events.
_TURNS_WITHOUT_POLL = 8

_get_ident = threading.get_ident

ExceptionHandler = Callable[[asyncio.AbstractEventLoop, Any, Any], object]


class _ForeignTimer:
    """What ``call_later`` gives on another thread: the handle exists once the loop has made it."""

    def __init__(self, when: float) -> None:
        self._when = when
        self._cancelled = False
        self._handle: asyncio.TimerHandle | None = None

    def when(self) -> float:
        return self._when

    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        self._cancelled = True
        if self._handle is not None:
            self._handle.cancel()


class _ThreadAware(_Base):
    """A loop whose scheduling calls may come from any thread."""

    #: The thread that runs the loop; None while it does not run, when every thread may prepare it.
    _owner: int | None = None

    def run_forever(self) -> None:
        self._owner = _get_ident()
        try:
            super().run_forever()
        finally:
            self._owner = None

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        owner = self._owner
        if owner is None or owner == _get_ident():
            return super().call_soon(callback, *args, context=context)
        return self.call_soon_threadsafe(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        if self._is_home():
            return super().call_later(delay, callback, *args, context=context)
        return self._call_at_from_elsewhere(self.time() + delay, callback, args, context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        if self._is_home():
            return super().call_at(when, callback, *args, context=context)
        return self._call_at_from_elsewhere(when, callback, args, context)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], **kwargs: Any
    ) -> asyncio.Task[Any]:
        if self._is_home():
            return super().create_task(coro, **kwargs)
        # A task factory may run the first step at once, and here that would be on the wrong thread.
        kwargs.pop("eager_start", None)
        return asyncio.Task(coro, loop=self, **kwargs)

    def _is_home(self) -> bool:
        return self._owner is None or self._owner == _get_ident()

    def _call_at_from_elsewhere(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> asyncio.TimerHandle:
        timer = _ForeignTimer(when)

        def attach() -> None:
            if not timer.cancelled():
                timer._handle = self.call_at(when, callback, *args, context=context)

        self.call_soon_threadsafe(attach)
        return timer  # type: ignore[return-value]


class _ServingSelector(selectors.DefaultSelector):
    """Runs what the core has posted before it blocks, and blocks only when there is nothing to run.

    One call into the operating system fewer for each burst of requests than a file descriptor that says "work is here".
    """

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._poll = server.poll
        self._unpolled = 0

    def leave(self) -> None:
        """The loop has stopped."""
        self._server.leave_loop()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._poll():
            self._unpolled += 1
            if self._unpolled < _TURNS_WITHOUT_POLL:
                return []
            self._unpolled = 0
            return super().select(0)
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        if not self._server.arm():
            return []
        try:
            return self.block(timeout)
        finally:
            self._server.disarm()

    def block(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleeps until something happens. Whoever watches over the loop puts a function of its own in this place."""
        return super().select(timeout)


class _AsyncioLoop(_ThreadAware, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """asyncio's own loop over :class:`_ServingSelector`."""

    if TYPE_CHECKING:
        _debug: bool
        _closed: bool
        _ready: collections.deque[asyncio.Handle]
        _selector: _ServingSelector | None

    def __init__(self, server: Server) -> None:
        super().__init__(_ServingSelector(server))
        # The selector polls by itself; the descriptor only has to end its sleep.
        self.add_reader(server.wake_descriptor(), server.clear_wake)

    def run_forever(self) -> None:
        # The selector alone holds the server, and is let go of when the loop is closed: asyncio keeps a thread's loop.
        selector = self._selector
        try:
            super().run_forever()
        finally:
            if selector is not None:
                selector.leave()

    def __del__(self) -> None:
        # An application that is collected takes its loop along, without the warning of asyncio, which
        # expects its user to close it (A-APP-31).
        if not self._closed and not self.is_running():
            self.close()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        # Every task is scheduled through here, several times for each request: what the base class does, in one step
        # where nothing is out of the ordinary.
        if self._debug or self._closed or (self._owner is not None and self._owner != _get_ident()):
            return super().call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle


class Watch:
    """Held by what a loop watches, and by nothing else: it goes when the loop is closed."""

    #: Called then, unless it is None.
    gone: Callable[[], None] | None = None

    def __del__(self) -> None:
        if self.gone is not None:
            self.gone()


def _serve_through_reader(
    loop: asyncio.AbstractEventLoop, server: Server
) -> tuple[Callable[[], None], weakref.ref[Watch]]:
    """Makes any loop run what the core posts. Gives the function that undoes it, and what goes when the loop is closed."""
    pending = False

    def wake(watch: Watch) -> None:
        server.clear_wake()
        server.disarm()
        server.poll()
        if not server.arm():
            # More came meanwhile: let the loop's other sources have their turn first.
            loop.call_soon(wake, watch)

    def flush() -> None:
        nonlocal pending
        pending = False
        server.flush()

    def flush_soon() -> None:
        # What one turn of the loop sends leaves together, before the loop sleeps.
        nonlocal pending
        if not pending:
            pending = True
            loop.call_soon(flush)

    def undo() -> None:
        server.set_flusher(None)
        server.leave_loop()
        loop.remove_reader(server.wake_descriptor())

    server.set_flusher(flush_soon)
    watch = Watch()
    loop.add_reader(server.wake_descriptor(), wake, watch)
    server.arm()
    return undo, weakref.ref(watch)


class Timer:
    """A repeating or single timer of :meth:`Loop.set_timeout`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout_ms: float,
        callback: Callable[[Any], object],
        user_data: Any,
    ) -> None:
        self._loop = loop
        self._callback = callback
        self._user_data = user_data
        self._repeat: float | None = None
        # The loop holds the handle and the handle this object, so a timer without another reference fires all the same.
        self._handle: asyncio.Handle | None = loop.call_later(timeout_ms / 1000, self._fire)

    def _fire(self) -> None:
        self._handle = (
            None if self._repeat is None else self._loop.call_later(self._repeat / 1000, self._fire)
        )
        self._callback(self._user_data)

    def set_repeat(self, repeat_ms: float) -> None:
        """Fires again every ``repeat_ms`` milliseconds after the first time."""
        self._repeat = repeat_ms

    def stop(self) -> None:
        """Cancels the timer. Calling it again does nothing."""
        self._repeat = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Loop:
    """The event loop behind an :class:`~socketify.App`, as ``app.loop``.

    Args:
        exception_handler: Called as ``(loop, error_or_context, response)`` for errors that nothing else handles.
        task_factory_max_items: Accepted for compatibility; tasks are asyncio's.
        idle_relaxation_time: Accepted for compatibility; an idle loop blocks in the operating system.

    Attributes:
        loop: The asyncio loop itself.
        started: Whether :meth:`run` is running it.
        is_idle: Accepts writes for compatibility; has no meaning.
    """

    def __init__(
        self,
        exception_handler: ExceptionHandler | None = None,
        task_factory_max_items: int = 0,
        idle_relaxation_time: float = 0.01,
        *,
        server: Server | None = None,
        use_uvloop: bool | None = None,
    ) -> None:
        self.exception_handler = exception_handler
        self.idle_relaxation_time = idle_relaxation_time
        self.is_idle = False
        self.started = False
        self._server = server
        self._undo: Callable[[], None] | None = None
        self._watch: weakref.ref[Watch] | None = None
        self._background: set[asyncio.Future[Any]] = set()
        try:
            self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
            self.is_foreign = True
        except RuntimeError:
            self.loop = self._create(server, use_uvloop)
            self.is_foreign = False
            asyncio.set_event_loop(self.loop)
        self._adopt(self.loop)

    @staticmethod
    def _create(server: Server | None, use_uvloop: bool | None) -> asyncio.AbstractEventLoop:
        if use_uvloop:
            import uvloop

            class UvLoop(_ThreadAware, uvloop.Loop):  # type: ignore[misc]
                """uvloop's loop, for calls from any thread."""

            loop: asyncio.AbstractEventLoop = UvLoop()
            return loop
        return asyncio.new_event_loop() if server is None else _AsyncioLoop(server)

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        if not self.is_foreign:
            loop.set_exception_handler(self._on_exception)
        if self._server is not None and not isinstance(loop, _AsyncioLoop):
            self._undo, self._watch = _serve_through_reader(loop, self._server)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.exception_handler is None:
            loop.default_exception_handler(context)
            return
        error = context.get("exception") or RuntimeError(context.get("message", "unknown error"))
        self.exception_handler(loop, error, None)

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return self.loop.create_future()

    def create_task(self, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """``loop.create_task`` of this loop, with its arguments."""
        return self.loop.create_task(*args, **kwargs)

    def ensure_future(self, task: Awaitable[Any]) -> asyncio.Future[Any]:
        """:func:`asyncio.ensure_future` on this loop."""
        return asyncio.ensure_future(task, loop=self.loop)

    def run_async(self, task: Coroutine[Any, Any, Any], response: Any = None) -> None:
        """Runs a coroutine as a task, from any thread; its failure goes to the exception handler with ``response``."""

        async def guarded() -> None:
            try:
                await task
            except Exception as error:
                if self.exception_handler is None:
                    raise
                self.exception_handler(self.loop, error, response)

        self.loop.call_soon_threadsafe(lambda: self._keep(self.loop.create_task(guarded())))

    def create_background_task(self, bg_task: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Calls ``bg_task`` on the next turn of the loop and runs the coroutine it gives as a task."""
        self.loop.call_soon_threadsafe(lambda: self.run_async(bg_task()))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        # asyncio itself keeps only weak references to tasks.
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def set_timeout(self, timeout: float, callback: Callable[[Any], object], user_data: Any = None) -> Timer:
        """Calls ``callback(user_data)`` after ``timeout`` milliseconds. The timer lives until it has fired."""
        return Timer(self.loop, timeout, callback, user_data)

    def run(self, task: Coroutine[Any, Any, Any] | None = None) -> asyncio.Future[Any] | None:
        """Runs the loop until :meth:`stop`; gives the future of ``task`` if one was passed."""
        self.started = True
        future = None if task is None else self.ensure_future(task)
        try:
            self.loop.run_forever()
        finally:
            self.started = False
        return future

    def run_until_complete(self, task: Awaitable[Any]) -> asyncio.Future[Any]:
        """Runs the loop, sockets included, until ``task`` is done; raises what it raised.

        Raises:
            TypeError: ``task`` is not awaitable.
        """
        future = self.ensure_future(task)
        self.started = True
        try:
            self.loop.run_until_complete(future)
        finally:
            self.started = False
        return future

    def run_once(self) -> None:
        """One turn of the loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def stop(self) -> None:
        """Stops the loop, from any thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)

    def set_event_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Uses another loop from now on. The one that runs is stopped."""
        if self.started:
            self.stop()
        if self._undo is not None:
            self._undo()
            self._undo = None
        self.is_foreign = False
        self._adopt(loop)
        asyncio.set_event_loop(loop)

    def get_native_loop(self) -> object:
        """The loop object itself; there is no pointer behind it."""
        return self.loop

    def _when_closed(self, act: Callable[[], None] | None) -> None:
        """Has ``act`` called when the loop, which is not ours, is closed. None calls nothing."""
        watch = None if self._watch is None else self._watch()
        if watch is not None:
            watch.gone = act

    def dispose(self) -> None:
        """Closes the loop if it is ours and does not run. Calling it again does nothing."""
        if not self.is_foreign and not self.loop.is_running() and not self.loop.is_closed():
            # asyncio keeps the current loop of a thread, which must not keep the application.
            self.loop.set_exception_handler(None)
            self.loop.close()
