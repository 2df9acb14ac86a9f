"""The JSON serializer of an application that has set none: the standard library's.

``json.dumps`` and ``json.loads`` are looked up at each call, so replacing them later has the effect it should have.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["dumps", "loads"]


def dumps(value: Any) -> str:
    """``value`` as JSON text."""
    return json.dumps(value)


def loads(text: str | bytes) -> Any:
    """What JSON text says."""
    return json.loads(text)
