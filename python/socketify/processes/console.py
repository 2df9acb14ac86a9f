"""What the command line prints, and the statuses that its processes exit with."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..options import AppListenOptions

__all__ = ["FAILURE", "USAGE", "complain", "listen_line", "summary"]

#: Exit status when the application cannot be loaded or started (F-24).
FAILURE = 1
#: Exit status when the command line is wrong, or asks for what there is not.
USAGE = 2


def complain(message: str, report: str = "") -> None:
    """Says on standard error what is wrong."""
    # A closed standard error is no reason to fail.
    with contextlib.suppress(OSError):
        print(f"{report}socketify: {message}", file=sys.stderr, flush=True)


def listen_line(config: AppListenOptions, secure: bool) -> str:
    """The line that says where the server listens, and whether it speaks TLS there (F-L-10)."""
    scheme = "https" if secure else "http"
    if config.domain is not None:
        name = config.domain.replace("\0", "@", 1) if config.domain.startswith("\0") else config.domain
        # Other servers let everybody connect. Here a proxy that may not is told no more than that it is refused.
        mode = "" if config.mode is None else f" (mode {config.mode:o}, see --uds-mode)"
        return f"Listening on {name} {scheme}://localhost now{mode}"
    given = config.host or ""
    host = given if len(given) > 1 else "127.0.0.1"
    return f"Listening on {scheme}://{f'[{host}]' if ':' in host else host}:{config.port} now"


def summary(name: str, kind: str, processes: int, *, secure: bool, http2: bool, reload: bool) -> str:
    """What is served, and how to end it: for who sits at a terminal.

    Args:
        name: What the application is called.
        kind: Its interface.
        processes: How many serve it.
        secure: Whether they speak TLS.
        http2: Whether they speak HTTP/2.
        reload: Whether a change of files starts them anew.
    """
    parts = [
        f"{name} ({kind})",
        "reloads when files change"
        if reload
        else f"{processes} {'process' if processes == 1 else 'processes'}",
        "HTTP/1.1 and HTTP/2" if http2 else "HTTP/1.1",
        "TLS" if secure else "no TLS",
    ]
    return f"{', '.join(parts)}. Ctrl+C ends it."
