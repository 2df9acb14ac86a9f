"""How an ASGI application is called: a task for each request and WebSocket, and what becomes of errors."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import sys
from asyncio import Task, current_task
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

from .calls import end_loop
from .exceptions import ClientDisconnected
from .websocket import SOCKET_LIMITS, parse_behavior

if TYPE_CHECKING:
    from .app import App
    from .calls import Calls

__all__ = ["Application", "AsgiCalls", "Receive", "Scope", "Send", "mount"]

logger = logging.getLogger("socketify")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[Any]]

#: Tasks cannot run their first step at once, so each is kept from its start.
_LATE_START = sys.version_info < (3, 12)


class _Call(Protocol):
    """A request or a WebSocket of the core."""

    receive: Receive
    send: Send

    def finish(self, failed: bool) -> str | None:
        """Ends the application's part; gives what that has done to the client, if it has done anything."""


class AsgiCalls:
    """Starts the tasks of an ASGI application, on the loop's thread.

    Args:
        calls: Those of the server's own application, which has the loop and keeps the tasks.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    if sys.version_info >= (3, 12):

        def start(self, application: Application, scope: Scope, call: _Call) -> None:
            # Its first step runs here and now, so what answers without waiting costs no turn of the loop.
            loop = self._calls.loop.loop
            try:
                task = Task(self._serve(application, scope, call), loop=loop, eager_start=True)
            except (SystemExit, KeyboardInterrupt) as error:
                # The request has had its answer. As from any later step of a task, this ends the loop.
                end_loop(loop, error)
            else:
                self._calls.keep(task)

    else:

        def start(self, application: Application, scope: Scope, call: _Call) -> None:
            tasks = self._calls.tasks
            task = _LateTask(self._serve(application, scope, call), loop=self._calls.loop.loop)
            task.unbegun = functools.partial(_end_unbegun, call, tasks)
            tasks.add(task)

    async def _serve(self, application: Application, scope: Scope, call: _Call) -> None:
        try:
            result = await application(scope, call.receive, call.send)
        except Exception as error:
            _log_failure(error, scope, call.finish(True))
        except asyncio.CancelledError:
            # A task that the server cancels at its end, or an application that cancels itself.
            call.finish(True)
            logger.debug("The ASGI application was cancelled at %s", _shown(scope))
            raise
        except BaseException:
            call.finish(True)
            raise
        else:
            outcome = call.finish(False)
            if outcome == "gone":
                logger.debug("A client left before its response to %s was complete", _shown(scope))
            elif outcome == "untrailed":
                logger.warning("The ASGI application returned without the trailers of %s", _shown(scope))
            elif outcome is not None:
                logger.error("The ASGI application returned without a complete response to %s", _shown(scope))
            if result is not None:
                logger.warning(
                    "The ASGI application returned %r for %s: it should return None", result, _shown(scope)
                )
        finally:
            if _LATE_START:
                self._calls.tasks.discard(current_task())


def _shown(scope: Scope) -> str:
    # Quoted: a client chooses the path, which must not look like a line of its own.
    return f"{scope.get('method', scope.get('type'))} {scope.get('path')!r}"


def _log_failure(error: Exception, scope: Scope, outcome: str | None) -> None:
    if _is_of_a_departure(error, outcome == "gone"):
        logger.debug("A client left before its response to %s was complete: %r", _shown(scope), error)
    else:
        logger.error("The ASGI application failed at %s: %s", _shown(scope), error, exc_info=error)


def _is_of_a_departure(error: BaseException, gone: bool) -> bool:
    """Whether an application reports by an error that its client has left, as Starlette's ``ClientDisconnect`` does."""
    if isinstance(error, ClientDisconnected):
        return True
    inner: Any = getattr(error, "exceptions", None)
    if isinstance(inner, tuple):
        # A group of a TaskGroup.
        return bool(inner) and all(_is_of_a_departure(each, gone) for each in inner)
    return gone and (
        isinstance(error, OSError) or type(error).__name__ in ("ClientDisconnect", "WebSocketDisconnect")
    )


def _end_unbegun(call: _Call, tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    """What the coroutine of a task would have done at its end."""
    if task in tasks:
        tasks.discard(task)
        call.finish(True)


class _LateTask(Task[None]):
    """A task whose first step comes later, so that it may be cancelled before."""

    #: What ends the call of a task that never begins.
    unbegun: Callable[[asyncio.Task[Any]], object]

    def cancel(self, msg: Any | None = None) -> bool:
        if inspect.getcoroutinestate(self.get_coro()) == inspect.CORO_CREATED:  # type: ignore[arg-type]
            self.add_done_callback(self.unbegun)
        return super().cancel(msg)


def mount(
    app: App, application: Application, root_path: str = "", websocket: Mapping[str, Any] | None = None
) -> None:
    """Has an ASGI application serve every path of an application that does not serve yet.

    Args:
        app: What listens and runs.
        application: The ASGI 3 application.
        root_path: The path under which a proxy has it; each path begins with it, whether the proxy strips it or not.
        websocket: Limits of WebSockets, by the keys of a behavior. None, the default, refuses them.
    """
    limits = None
    if websocket is not None:
        limits, _ = parse_behavior("/*", {**SOCKET_LIMITS, **websocket})
    app._server.mount_asgi(application, AsgiCalls(app._calls).start, root_path, limits)
