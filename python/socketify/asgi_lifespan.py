"""The lifespan protocol of ASGI (version 2.0): one task, from before the first socket is bound to the end."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from .processes.console import complain

__all__ = ["AsgiLifespan", "Mode", "StartupFailure", "lifespan_mode"]

logger = logging.getLogger("socketify")

#: ``auto``: an application that does not speak the protocol is served all the same. ``on``: it is not. ``off``: nobody asks.
Mode = Literal["auto", "on", "off"]

_MODES: Mapping[object, Mode] = {True: "auto", False: "off", "auto": "auto", "on": "on", "off": "off"}


def lifespan_mode(given: object) -> Mode:
    """What the argument ``lifespan`` of :class:`ASGI` stands for.

    Raises:
        ValueError: It is neither a bool nor one of the modes.
    """
    if isinstance(given, (bool, str)) and given in _MODES:
        return _MODES[given]
    raise ValueError(f"lifespan must be True, False, 'auto', 'on' or 'off', not {given!r}")


class StartupFailure(SystemExit):
    """The application cannot start, and the program ends with status 1.

    Args:
        message: What is wrong.
        error: What the application has raised, if that is why.
    """

    def __init__(self, message: str, error: BaseException | None = None) -> None:
        super().__init__(1)
        self.message = message
        self.error = error

    def tell(self) -> None:
        """Says on standard error what is wrong."""
        report = "" if self.error is None else "".join(traceback.format_exception(self.error))
        complain(self.message, report)


class AsgiLifespan:
    """Tells an application that the server starts and ends, and waits until it is ready for that.

    Args:
        application: The ASGI application.
        mode: Whether it has to speak the protocol.
        startup_timeout: Seconds that its start may take; None for as long as it takes.
        tell: Called with the state once the application has started.

    Attributes:
        failed: Whether it has failed after its start.
    """

    def __init__(
        self,
        application: Callable[..., Awaitable[object]],
        mode: Mode,
        startup_timeout: float | None,
        tell: Callable[[dict[str, Any]], object],
    ) -> None:
        self.failed = False
        self._application = application
        self._mode = mode
        self._startup_timeout = startup_timeout
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._state: dict[str, Any] = {}
        # Whether the application has taken the event, and what it has answered: None that it is ready, a text why it is not.
        self._heard_startup = self._heard_shutdown = False
        self._started: asyncio.Future[str | None] | None = None
        self._stopped: asyncio.Future[str | None] | None = None
        self._ending = asyncio.Event()

    # ---- what the server does ---------------------------------------------------------------------------------------

    async def start(self, patience: float) -> None:
        """Runs the application's start to its end. Cancelled, it cancels the start.

        Args:
            patience: Seconds that the application has to end its start once that is cancelled.

        Raises:
            StartupFailure: The application cannot start.
            CancelledError: The start has been cancelled before it was complete.
        """
        if self._mode == "off":
            return
        self._reset()
        loop = asyncio.get_running_loop()
        self._started, self._stopped = started, _ = loop.create_future(), loop.create_future()
        self._task = task = loop.create_task(self._run(), name="socketify-lifespan")
        task.add_done_callback(self._task_ended)
        try:
            await asyncio.wait(
                {task, started}, timeout=self._startup_timeout, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            await self._cancel(task, patience)
            if not self._is_started():
                raise
        if started.done():
            if (reason := started.result()) is not None:
                raise StartupFailure(f"the application failed to start: {reason or 'it does not say why'}")
            self._tell(self._state)
        elif task.done():
            self._unsupported(task)
        else:
            await self._cancel(task, patience)
            raise StartupFailure(
                f"the application has not started within {self._startup_timeout:g} seconds (startup_timeout)"
            )

    async def stop(self, patience: float) -> None:
        """Has the application end what it has started, if it has. Sets :attr:`failed` when it could not.

        Args:
            patience: Seconds that it may take.
        """
        task, stopped = self._task, self._stopped
        if task is None or stopped is None or not self._is_started() or task.done():
            return
        self._ending.set()
        futures: set[asyncio.Future[Any]] = {task, stopped}
        await asyncio.wait(futures, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            if (reason := stopped.result()) is not None:
                self.failed = True
                logger.error("the application failed to shut down: %s", reason or "it does not say why")
        elif not task.done():
            self.failed = True
            logger.error("the application has not shut down within %g seconds: it is cancelled", patience)
            task.cancel()

    def _is_started(self) -> bool:
        return self._started is not None and self._started.done() and self._started.result() is None

    async def _cancel(self, task: asyncio.Task[None], patience: float) -> None:
        task.cancel()
        await asyncio.wait({task}, timeout=patience)

    def _unsupported(self, task: asyncio.Task[None]) -> None:
        """The application has ended before it was ready."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Exception):
            # SystemExit and the like have left the loop already, and say themselves what they mean.
            return
        if task.cancelled():
            how = "it was cancelled"
        elif error is None:
            how = "it returned before lifespan.startup.complete"
        else:
            how = f"{type(error).__name__}: {error}"
        if self._mode == "on":
            raise StartupFailure(f"the application does not speak lifespan: {how}", error)
        if self._heard_startup:
            # Most of those that do not speak it do not ask what it says.
            logger.warning(
                "the application failed in lifespan.startup and is served without lifespan: %s",
                how,
                exc_info=error,
            )
        else:
            logger.debug("the application does not speak lifespan: %s", how)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and self._is_started():
            self.failed = True
            logger.error("the lifespan of the application failed: %s", error, exc_info=error)

    # ---- what the application gets ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        await self._application(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._heard_startup:
            self._heard_startup = True
            return {"type": "lifespan.startup"}
        await self._ending.wait()
        if not self._heard_shutdown:
            self._heard_shutdown = True
            return {"type": "lifespan.shutdown"}
        # There is nothing more to come: the end cancels the task.
        await asyncio.get_running_loop().create_future()
        raise AssertionError("invariant: nobody completes that future")

    async def _send(self, message: Mapping[str, Any]) -> None:
        if not isinstance(message, Mapping):
            raise TypeError(f"a message must be a dict, not {message!r}")
        kind = message.get("type")
        event, _, outcome = str(kind).rpartition(".")
        if event not in ("lifespan.startup", "lifespan.shutdown") or outcome not in ("complete", "failed"):
            raise RuntimeError(
                f"{kind!r} is no message of lifespan: expected lifespan.startup.complete, lifespan.startup.failed, "
                "lifespan.shutdown.complete or lifespan.shutdown.failed"
            )
        answer = self._started if event == "lifespan.startup" else self._stopped
        if event == "lifespan.shutdown" and not self._heard_shutdown:
            raise RuntimeError(f"{kind} was sent before lifespan.shutdown was received")
        if answer is None or answer.done():
            raise RuntimeError(f"{kind} was sent after the application had answered {event}")
        answer.set_result(str(message.get("message", "")) if outcome == "failed" else None)
