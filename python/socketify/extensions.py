"""Extensions: methods and attributes that an application adds to its requests, responses and sockets."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar

__all__ = ["AppExtension"]

_F = TypeVar("_F", bound=Callable[..., Any])


class AppExtension:
    """What extensions add to one kind of object. ``App.register`` hands out three of them.

    Attributes:
        methods: ``(name, function)`` pairs in order of registration.
        properties: ``(name, default)`` pairs in order of registration.
        empty: Whether there is nothing to add.
    """

    def __init__(self) -> None:
        self.methods: list[tuple[str, Callable[..., Any]]] = []
        self.properties: list[tuple[str, Any]] = []
        self.empty = True

    def method(self, func: _F) -> _F:
        """Adds a function as a method of every later object, under its own name; a decorator.

        It gets the object as first argument, may be a coroutine function, and goes before a built-in method
        of that name.

        Args:
            func: The function.

        Returns:
            The function.

        Raises:
            TypeError: It cannot be called or has no name.
        """
        name = getattr(func, "__name__", None)
        if not callable(func) or not isinstance(name, str):
            raise TypeError(f"an extension's method must be a function with a name, not {func!r}")
        self.methods.append((name, func))
        self.empty = False
        return func

    def property(self, name: str, default_value: Any = None) -> None:
        """Adds an attribute to every later object.

        Args:
            name: The attribute's name.
            default_value: Its first value. A list, dict or set is copied for each object, one level deep, so
                that what one request puts in it does not show in the next; everything else is shared.

        Raises:
            TypeError: The name is not a str.
        """
        if not isinstance(name, str):
            raise TypeError(f"an extension's property is named by a str, not {name!r}")
        self.properties.append((name, default_value))
        self.empty = False

    def bind_methods(self, instance: Any) -> None:
        """Gives an object the methods."""
        for name, func in self.methods:
            setattr(instance, name, MethodType(func, instance))

    def set_properties(self, instance: Any) -> None:
        """Gives an object the attributes."""
        for name, default in self.properties:
            mutable = isinstance(default, (list, dict, set))
            setattr(instance, name, copy.copy(default) if mutable else default)
