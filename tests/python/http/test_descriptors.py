"""A kept reference to a finished exchange keeps no socket open."""

from __future__ import annotations

import os
from typing import Any

import pytest

from support import until

pytestmark = pytest.mark.alone


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_kept_responses_keep_no_descriptor(serve: Any) -> None:
    kept: list[Any] = []

    def handler(res: Any, req: Any) -> None:
        kept.extend((res, req))
        res.end("kept", end_connection=True)

    running = serve(lambda app: app.get("/", handler))
    before = descriptors()
    for _ in range(50):
        with running.client() as client:
            assert client.get().body == b"kept"
            assert client.is_closed()
    until(lambda: descriptors() <= before + 2, "the sockets are given back")
    assert len(kept) == 100
    res, req = kept[:2]
    assert res.get_native_handle() == -1
    assert res.get_remote_address() == "127.0.0.1"
    assert req.get_url() == "/"
