"""The option classes under the name they have always had; they live in :mod:`socketify.options`."""

from __future__ import annotations

from . import AppListenOptions, AppOptions

__all__ = ["AppListenOptions", "AppOptions"]
