"""What an application and the server say to each other about start and end (S-LIFE)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from socketify.asgi_lifespan import AsgiLifespan, Mode, StartupFailure, lifespan_mode

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

COMPLETE = {"type": "lifespan.startup.complete"}
ENDED = {"type": "lifespan.shutdown.complete"}


class Conversation:
    """One lifespan, begun and ended as a server does it."""

    def __init__(
        self, application: Application, mode: Mode = "auto", startup_timeout: float | None = None
    ) -> None:
        self.states: list[dict[str, Any]] = []
        self.lifespan = AsgiLifespan(application, mode, startup_timeout, self.states.append)
        self.failure: StartupFailure | None = None

    def run(self, *, patience: float = 5) -> None:
        async def converse() -> None:
            try:
                await self.lifespan.start(patience)
            except StartupFailure as failure:
                self.failure = failure
                return
            await self.lifespan.stop(patience)

        asyncio.run(converse())


def run(application: Application, mode: Mode = "auto", **options: Any) -> Conversation:
    patience = options.pop("patience", 5)
    conversation = Conversation(application, mode, **options)
    conversation.run(patience=patience)
    return conversation


def test_the_whole_conversation() -> None:
    """S-LIFE-01: the scope, the events in their order, and one task."""
    seen: list[Any] = []

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        seen.append(dict(scope))
        seen.append(await receive())
        scope["state"]["pool"] = "made"
        await send(COMPLETE)
        first = asyncio.current_task()
        seen.append(await receive())
        assert asyncio.current_task() is first
        await send(ENDED)
        seen.append("returned")

    conversation = run(application)
    assert seen == [
        {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": {"pool": "made"},
        },
        {"type": "lifespan.startup"},
        {"type": "lifespan.shutdown"},
        "returned",
    ]
    assert conversation.states == [{"pool": "made"}]
    assert conversation.failure is None
    assert not conversation.lifespan.failed


async def raises_for_the_type(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    raise ValueError(f"Django can only handle ASGI/HTTP connections, not {scope['type']}.")


async def returns(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    return


async def fails_in_startup(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    scope["state"]["half"] = True
    raise RuntimeError("no database")


async def returns_in_startup(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()


@pytest.mark.parametrize("application", [raises_for_the_type, returns])
def test_what_does_not_speak_it_is_served(application: Application, caplog: pytest.LogCaptureFixture) -> None:
    """S-LIFE-03, S-LIFE-06, S-LIFE-12: without a word above debug, and without a state."""
    caplog.set_level(logging.DEBUG, "socketify")
    conversation = run(application)
    assert conversation.failure is None
    assert conversation.states == []
    [record] = [each for each in caplog.records if each.name == "socketify"]
    assert record.levelno == logging.DEBUG
    assert record.exc_info is None
    assert "does not speak lifespan" in record.getMessage()


@pytest.mark.parametrize(
    ("application", "how"),
    [
        (fails_in_startup, "RuntimeError: no database"),
        (returns_in_startup, "it returned before lifespan.startup.complete"),
    ],
)
def test_a_real_failure_is_not_silent(
    application: Application, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S-LIFE-03, S-LIFE-06: a warning, with the traceback."""
    conversation = run(application)
    assert conversation.failure is None
    assert conversation.states == []
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert how in record.getMessage()
    assert (record.exc_info is not None) == (application is fails_in_startup)


@pytest.mark.parametrize(
    ("application", "how"),
    [
        (raises_for_the_type, "ValueError: Django can only handle"),
        (returns, "it returned before lifespan.startup.complete"),
        (fails_in_startup, "RuntimeError: no database"),
    ],
)
def test_on_has_it_spoken(application: Application, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """S-LIFE-04: the program ends with status 1 and the traceback."""
    failure = run(application, "on").failure
    assert failure is not None
    assert failure.code == 1
    failure.tell()
    said = capsys.readouterr().err
    assert f"socketify: the application does not speak lifespan: {how}" in said
    assert ("Traceback" in said) == (application is not returns)


def test_off_asks_nobody() -> None:
    """S-LIFE-04."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        raise AssertionError("nobody calls it")

    conversation = run(application, "off")
    assert conversation.states == []


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_startup_failed(mode: Mode) -> None:
    """S-LIFE-05: in all modes."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        # Starlette goes on like this.
        raise RuntimeError("no database")

    failure = run(application, mode).failure
    assert failure is not None
    assert failure.message == "the application failed to start: no database"


def test_startup_failed_without_a_message() -> None:
    """S-LIFE-05."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.failed"})

    failure = run(application).failure
    assert failure is not None
    assert failure.message == "the application failed to start: it does not say why"


def test_returning_after_the_start() -> None:
    """S-LIFE-06: nothing more is said to it, and nothing waits."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)

    conversation = run(application)
    assert conversation.states == [{}]
    assert not conversation.lifespan.failed


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "lifespan.startup.completed"}, RuntimeError),
        ({"type": "lifespan.startup"}, RuntimeError),
        ({"type": "http.response.start", "status": 200}, RuntimeError),
        ({}, RuntimeError),
        (ENDED, RuntimeError),
        (COMPLETE, RuntimeError),
        ({"type": "lifespan.startup.failed"}, RuntimeError),
        (None, TypeError),
    ],
    ids=repr,
)
def test_messages_that_are_wrong(message: Any, error: type[Exception]) -> None:
    """S-LIFE-09: unknown ones, the second one, and the end before the end."""
    raised: list[BaseException] = []

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        try:
            await send(message)
        except error as caught:
            raised.append(caught)
        await receive()
        await send(ENDED)

    conversation = run(application)
    assert not conversation.lifespan.failed
    [caught] = raised
    assert (
        repr(message.get("type")) in str(caught) or str(message.get("type")) in str(caught)
        if message
        else True
    )


def test_a_second_end() -> None:
    """S-LIFE-09."""
    raised: list[str] = []

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await send(ENDED)
        try:
            await send(ENDED)
        except RuntimeError as caught:
            raised.append(str(caught))

    run(application)
    assert raised == [
        "lifespan.shutdown.complete was sent after the application had answered lifespan.shutdown"
    ]


def test_receiving_after_the_end() -> None:
    """S-LIFE-09: nothing comes, and the end cancels it."""
    ends: list[str] = []

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await send(ENDED)
        try:
            await receive()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    conversation = run(application)
    assert ends == ["cancelled"]
    assert not conversation.lifespan.failed


async def fails_at_the_end(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    await send(COMPLETE)
    await receive()
    raise RuntimeError("cannot flush")


async def says_that_it_fails_at_the_end(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    await send(COMPLETE)
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "cannot flush"})


@pytest.mark.parametrize("application", [fails_at_the_end, says_that_it_fails_at_the_end])
def test_a_failure_at_the_end(application: Application, caplog: pytest.LogCaptureFixture) -> None:
    """S-LIFE-07: it is logged, and known."""
    conversation = run(application)
    assert conversation.lifespan.failed
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "cannot flush" in record.getMessage()


def test_an_end_that_does_not_come(caplog: pytest.LogCaptureFixture) -> None:
    """S-LIFE-07: it is waited for so long."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await asyncio.sleep(1000)

    conversation = run(application, patience=0.05)
    assert conversation.lifespan.failed
    assert "has not shut down within 0.05 seconds" in caplog.text


def test_a_lifespan_that_fails_while_it_serves(caplog: pytest.LogCaptureFixture) -> None:
    """S-LIFE-07: it is logged at once, and nothing waits for it at the end."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        raise RuntimeError("the pool has gone")

    conversation = run(application)
    assert conversation.lifespan.failed
    assert "the lifespan of the application failed: the pool has gone" in caplog.text


def test_a_start_that_takes_too_long() -> None:
    """S-LIFE-10: only where a time is given. The application is cancelled, so that it can clean up."""
    ends: list[str] = []

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        try:
            await asyncio.sleep(1000)
        finally:
            ends.append("cleaned up")

    failure = run(application, startup_timeout=0.05).failure
    assert failure is not None
    assert failure.message == "the application has not started within 0.05 seconds (startup_timeout)"
    assert ends == ["cleaned up"]


@pytest.mark.parametrize(
    ("given", "mode"), [(True, "auto"), (False, "off"), ("auto", "auto"), ("on", "on"), ("off", "off")]
)
def test_modes(given: Any, mode: str) -> None:
    """S-LIFE-14."""
    assert lifespan_mode(given) == mode


@pytest.mark.parametrize("given", [1, 0, None, "yes", b"on", []])
def test_what_is_no_mode(given: Any) -> None:
    """S-LIFE-14."""
    with pytest.raises(
        ValueError, match="lifespan must be True, False, 'auto', 'on' or 'off', not "
    ) as raised:
        lifespan_mode(given)
    assert repr(given) in str(raised.value)
