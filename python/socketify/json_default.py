"""The JSON serializer of an application that has set none: the standard library's, with its encoder made once.

``json.dumps`` makes a new encoder at each call, which costs more than encoding a small object. The text is the same.
"""

from __future__ import annotations

import json
import json.encoder
from typing import Any

__all__ = ["dumps", "loads"]

loads = json.loads


def _refuse(value: Any) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _make_dumps() -> Any:
    make_encoder = getattr(json.encoder, "c_make_encoder", None)
    encode_string = getattr(json.encoder, "c_encode_basestring_ascii", None)
    if make_encoder is None or encode_string is None:
        return json.dumps
    # No markers: a circular value ends in RecursionError, and threads share nothing.
    encode = make_encoder(None, _refuse, encode_string, None, ": ", ", ", False, False, True)
    join = "".join

    def dumps(value: Any) -> str:
        return join(encode(value, 0))

    return dumps


dumps = _make_dumps()
