"""The ways a handler may run, so that a test can be run for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

THREAD = "def"
LOOP = "def on the loop"
TASK = "async def"
RESUMED = "async def after an await"

LANES = (THREAD, LOOP, TASK, RESUMED)

each_lane = pytest.mark.parametrize("lane", LANES)


def on(lane: str, handler: Callable[..., object]) -> Callable[..., object]:
    """The same handler or callback, run in that way."""
    if lane in (THREAD, LOOP):
        return handler

    async def task(*arguments: Any) -> None:
        if lane == RESUMED:
            await asyncio.sleep(0)
        handler(*arguments)

    return task


def options(lane: str) -> dict[str, Any]:
    """The application's options for that lane."""
    return {"sync_handlers": "loop"} if lane == LOOP else {}
