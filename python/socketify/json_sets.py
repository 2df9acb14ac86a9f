"""Sets in JSON: a set goes out as an array (DEC-4).

The core calls this only after a serializer has refused a value, so values without sets cost nothing.
"""

from __future__ import annotations

from typing import Any

__all__ = ["without_sets"]


def without_sets(value: object, error: BaseException) -> object:
    """Copies a value, with a list in place of each ``set`` and ``frozenset`` in it.

    Dictionaries, lists and tuples are copied at any depth; everything else is taken as it is. Elements keep
    the order in which the set gives them: they need not be comparable, and a set promises no order that
    sorting could restore.

    Args:
        value: What could not be serialised.
        error: The serializer's exception.

    Returns:
        The copy.

    Raises:
        BaseException: ``error`` itself, when there is no set anywhere, so that sets were not the reason, or
            when the value contains itself or is nested too deeply.
    """
    copier = _Copier(error)
    try:
        copy = copier.copy(value)
    except RecursionError:
        raise error from None
    if not copier.found:
        raise error
    return copy


class _Copier:
    """One copy of one value."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.found = False
        # By the id of the original; None while the copy is being made. A part that occurs often is copied
        # once.
        self.copies: dict[int, object] = {}

    def copy(self, value: Any) -> object:
        if not isinstance(value, (dict, list, tuple, set, frozenset)):
            return value
        known = id(value)
        if known in self.copies:
            copy = self.copies[known]
            if copy is None:
                raise self.error
            return copy
        self.copies[known] = None
        if isinstance(value, dict):
            copy = {key: self.copy(item) for key, item in value.items()}
        else:
            self.found = self.found or isinstance(value, (set, frozenset))
            copy = [self.copy(item) for item in value]
        self.copies[known] = copy
        return copy
