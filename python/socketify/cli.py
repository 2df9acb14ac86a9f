"""The command line, where programs import it from; :mod:`socketify.processes` has it."""

from __future__ import annotations

from .processes.command_line import main

__all__ = ["main"]
