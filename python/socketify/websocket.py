"""What the sockets of a WebSocket route do: the behaviour that ``App.ws`` takes, its defaults and its rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from .handlers import is_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core import Request, Response, WebSocket
    from .options import OpCode

__all__ = ["SOCKET_LIMITS", "WebSocketBehavior", "parse_behavior"]

#: Whole numbers, with the smallest that makes sense.
_NUMBERS = {"max_payload_length": 0, "max_backpressure": 0, "compression": 0, "inbound_buffer": 1}
#: Spans of time, with the seconds in one of their units.
_SPANS = {"idle_timeout": 1, "max_lifetime": 60}
#: Bytes, seconds or minutes beyond which a limit is none, and does not fit the core's numbers.
_MOST = 2**48
_FLAGS = ("close_on_backpressure_limit", "reset_idle_timeout_on_send", "send_pings_automatically")
_LISTENERS = ("upgrade", "open", "message", "drain", "ping", "pong", "close", "subscription")

#: Limits of the WebSockets of ASGI applications, and of ``--ws MODULE:DICT``, where nothing else is said (F-08 to F-15).
SOCKET_LIMITS: Mapping[str, Any] = {
    "max_payload_length": 16 * 1024 * 1024,
    "idle_timeout": 20,
    "send_pings_automatically": True,
    "reset_idle_timeout_on_send": True,
    "max_lifetime": 0,
    "max_backpressure": 16 * 1024 * 1024,
    "close_on_backpressure_limit": False,
    "compression": 0,
}


class WebSocketBehavior(TypedDict, total=False):
    """The behaviour of a WebSocket route. Every key may be left out, or be None for its default.

    Listeners are ``def`` or ``async def``. Those of one socket are started in the order of what they hear of; what they
    raise is logged and the socket stays open, but an error of an ``async`` one goes to the application's error handler.

    Attributes:
        max_payload_length: Bytes of a message, put together and inflated; beyond them the socket is closed with 1009.
            Default 16384.
        idle_timeout: Seconds without anything received, after which the socket is closed; 0 for never. Default 120.
        max_backpressure: Bytes that may wait for a client; while more do, messages to it are dropped. 0: no limit.
            Default 65536.
        close_on_backpressure_limit: Whether the socket is cut off when a message is dropped. Default False.
        reset_idle_timeout_on_send: Whether sending counts against ``idle_timeout`` too. Default False.
        send_pings_automatically: Whether pings are sent some seconds before ``idle_timeout``, so that only a dead client
            meets it. Default False.
        max_lifetime: Minutes after which the socket is closed with 1000; 0 for never. Default 0.
        compression: A member of ``CompressOptions``, or a compressor and a decompressor joined with ``|``. Default
            ``DISABLED``. What is sent is compressed only where ``compress=True`` says so.
        inbound_buffer: Bytes received and not dealt with (64 more for each message) at which the client has to wait.
            Default 65536.
        upgrade: ``(res, req, socket_context)``: decides on the handshake, with ``res.upgrade`` or with any answer. Without
            it every valid handshake is accepted, with the first subprotocol offered.
        open: ``(ws)``: the socket is open.
        message: ``(ws, message, opcode)``: ``str`` for text, ``bytes`` for binary.
        drain: ``(ws)``: something had to wait for the client, and nothing does any more.
        ping: ``(ws, payload)``: a ping came, and has been answered.
        pong: ``(ws, payload)``: a pong came.
        close: ``(ws, code, message)``: the end, exactly once; ``message`` is bytes or None.
        subscription: ``(ws, topic, new_count, old_count)``: the socket joined or left a topic.
    """

    max_payload_length: int | None
    idle_timeout: float | None
    max_backpressure: int | None
    close_on_backpressure_limit: bool | None
    reset_idle_timeout_on_send: bool | None
    send_pings_automatically: bool | None
    max_lifetime: float | None
    compression: int | None
    inbound_buffer: int | None
    upgrade: Callable[[Response, Request, Any], object] | None
    open: Callable[[WebSocket], object] | None
    message: Callable[[WebSocket, Any, OpCode], object] | None
    drain: Callable[[WebSocket], object] | None
    ping: Callable[[WebSocket, bytes], object] | None
    pong: Callable[[WebSocket, bytes], object] | None
    close: Callable[[WebSocket, int, bytes | None], object] | None
    subscription: Callable[[WebSocket, str, int, int], object] | None


def parse_behavior(
    path: str, behavior: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, tuple[Any, bool]]]:
    """Checks a behaviour.

    Args:
        path: The route, for messages.
        behavior: As given to ``App.ws``.

    Returns:
        The limits, times in seconds; and each listener with whether it is a coroutine function.

    Raises:
        TypeError: It is no mapping, or the value of a key is of the wrong type.
        ValueError: A key is unknown, or a number out of range. The message names it.
    """
    if not isinstance(behavior, Mapping):
        raise TypeError(f"the behavior of {path!r} must be a dict, not {behavior!r}")
    limits: dict[str, Any] = {}
    listeners: dict[str, tuple[Any, bool]] = {}
    for key, value in behavior.items():
        if not (key in _NUMBERS or key in _SPANS or key in _FLAGS or key in _LISTENERS):
            known = ", ".join([*_NUMBERS, *_SPANS, *_FLAGS, *_LISTENERS])
            raise ValueError(f"the behavior of {path!r} has an unknown key {key!r}: expected {known}")
        if value is None:
            continue
        if key in _LISTENERS:
            if not callable(value):
                raise TypeError(f"{key!r} of {path!r} must be callable, not {value!r}")
            listeners[key] = (value, is_async(value))
        elif key in _FLAGS:
            limits[key] = bool(value)
        else:
            limits[key] = _number(path, key, value)
    return limits, listeners


def _number(path: str, key: str, value: Any) -> float:
    whole = key in _NUMBERS
    kinds: tuple[type[int] | type[float], ...] = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{key!r} of {path!r} must be {'an int' if whole else 'a number'}, not {value!r}")
    if not value >= _NUMBERS.get(key, 0):
        raise ValueError(f"{key!r} of {path!r} must be at least {_NUMBERS.get(key, 0)}, not {value!r}")
    if not value <= _MOST:
        raise ValueError(f"{key!r} of {path!r} must be at most {_MOST}, not {value!r}")
    return value if whole else float(value) * _SPANS[key]
