"""The access log: one record of the standard ``logging`` for each answered request.

The core gathers what was answered and hands it over in batches, on a thread of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

__all__ = ["AccessLog", "log_to"]

#: What the core tells of one entry; see ``src/py/access_log.rs``.
Entry = tuple[
    tuple[str, float, float, str | None],
    tuple[str | None, str | None, str],
    tuple[int, int, bool],
    tuple[str | None, str | None],
    tuple[int, int, int, int, int] | None,
]

#: The Combined Log Format of web servers without the time, which ``%(asctime)s`` gives, and with the seconds it took.
REQUEST = '%s - - "%s %s HTTP/%s" %d %d "%s" "%s" %.6f'
OPENED = '%s - - "WebSocket %s" open "%s" "%s"'
CLOSED = '%s - - "WebSocket %s" close %d, in %d messages %d bytes, out %d messages %d bytes, %.6f'

logger = logging.getLogger("socketify")


class AccessLog:
    """Writes entries of the core to a logger.

    Args:
        target: Where records go.
    """

    def __init__(self, target: logging.Logger) -> None:
        self.logger = target

    def begin(self) -> None:
        """Gives a logger that leads nowhere a handler that writes to stderr. Called when serving begins, so that whatever
        sets up logging before then comes first."""
        if not self.logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            self.logger.addHandler(handler)

    def write(self, entries: Iterable[Entry], dropped: int) -> None:
        """Logs a batch.

        Args:
            entries: What has ended, in that order.
            dropped: How many entries there was no room for.

        Raises:
            Exception: What a filter or a handler raised first. All other entries have been logged.
        """
        if dropped:
            logger.warning("access log: %d records were dropped, since logging could not keep up", dropped)
        if not self.logger.isEnabledFor(logging.INFO):
            return
        failure: Exception | None = None
        for entry in entries:
            try:
                self.logger.handle(self._record(entry))
            except Exception as error:
                # A filter or a handler of the application failed for this record, which says nothing of the others.
                failure = failure or error
        if failure is not None:
            raise failure

    def _record(self, entry: Entry) -> logging.LogRecord:
        (event, created, duration, peer), (method, path, version), answer, client, traffic = entry
        status, sent, aborted = answer
        referer, agent = client
        close_code, messages_in, messages_out, bytes_in, bytes_out = traffic or (None,) * 5
        address = peer or "-"
        arguments: tuple[object, ...]
        if event == "request":
            shown = (address, method or "-", path or "-", version, status, sent, referer or "-", agent or "-")
            message, arguments = REQUEST, (*shown, duration)
        elif event == "websocket_open":
            message, arguments = OPENED, (address, path, referer or "-", agent or "-")
        else:
            counts = (messages_in, bytes_in, messages_out, bytes_out)
            message, arguments = CLOSED, (address, path, close_code, *counts, duration)
        extra = {
            "event": event,
            "method": method,
            "path": path,
            "status": status,
            "bytes": sent,
            "duration": duration,
            "aborted": aborted,
            "remote_address": peer,
            "http_version": version,
            "referer": referer,
            "user_agent": agent,
            "close_code": close_code,
            "messages_received": messages_in,
            "messages_sent": messages_out,
            "bytes_received": bytes_in,
            "bytes_sent": bytes_out,
        }
        target = self.logger
        record = target.makeRecord(
            target.name, logging.INFO, __file__, 0, message, arguments, None, "write", extra
        )
        # When it happened, and not when it was handed over.
        record.relativeCreated += (created - record.created) * 1000
        record.created = created
        record.msecs = int(created % 1 * 1000) + 0.0
        return record


def log_to(given: bool | str | logging.Logger) -> AccessLog:
    """What ``App(access_log=given)`` stands for.

    Raises:
        TypeError: It is none of these types.
    """
    if isinstance(given, logging.Logger):
        return AccessLog(given)
    if given is not True and not isinstance(given, str):
        raise TypeError(f"access_log must be a bool, a logger or the name of one, not {given!r}")
    return AccessLog(_ready(logging.getLogger("socketify.access" if given is True else given)))


def _ready(target: logging.Logger) -> logging.Logger:
    """A log that is asked for is shown, also where the program has not set up logging."""
    if target.level == logging.NOTSET:
        target.setLevel(logging.INFO)
    return target
