"""SSGI applications, which this version does not serve yet; programs that name the class can be loaded."""

from __future__ import annotations

from typing import Any

__all__ = ["SSGI"]


class SSGI:
    """Server for SSGI applications, which this version does not serve yet.

    Args:
        app: The application.

    Raises:
        NotImplementedError: Always.
    """

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("SSGI is not served yet by this version of socketify: use socketify.App")
