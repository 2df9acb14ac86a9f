"""Extensions: methods and attributes that an application adds to its requests, responses and sockets."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from types import MethodType
from typing import Any, TypeVar

__all__ = ["AppExtension"]

_F = TypeVar("_F", bound=Callable[..., Any])

#: Two threads that add the first things at once must not make two classes.
_making = threading.Lock()


class AppExtension:
    """What extensions add to one kind of object. ``App.register`` hands out three of them.

    What is added becomes part of a subclass, of which the application's objects are made from the first addition on. So
    it costs a request nothing, and nothing of it refers to the object.

    Attributes:
        methods: ``(name, function)`` pairs in order of registration; of several with one name, the last.
        properties: ``(name, default)`` pairs in the same way.
        empty: Whether there is nothing to add.

    Args:
        base: The class whose objects get the additions. Without one they are only noted, for :meth:`bind_methods` and
            :meth:`set_properties`.
        install: Called once with the subclass of ``base`` that has them, before the first of them counts.
    """

    def __init__(
        self, base: type | None = None, install: Callable[[type[Any]], object] | None = None
    ) -> None:
        self.methods: list[tuple[str, Callable[..., Any]]] = []
        self.properties: list[tuple[str, Any]] = []
        self.empty = True
        self._base = base
        self._install = install
        self._class: type | None = None

    def method(self, func: _F) -> _F:
        """Adds a function as a method of every object, under its own name; a decorator.

        It gets the object as first argument, may be a coroutine function, and goes before a built-in method
        of that name, which it reaches through the class: ``Response.end(self, ...)``. A ``staticmethod`` gets no object.

        Args:
            func: The function, or anything else that can be called and has a ``__name__``.

        Returns:
            The function.

        Raises:
            TypeError: It cannot be called or has no name that can stand behind a dot, such as a lambda.
            ValueError: The name is one that socketify needs for itself.
        """
        name = getattr(func, "__name__", None)
        if not callable(func) or not isinstance(name, str) or not name.isidentifier():
            raise TypeError(f"an extension's method must be a function with a name, not {func!r}")
        self._add(name, _binding(func))
        _put(self.methods, name, func)
        self.empty = False
        return func

    def property(self, name: str, default_value: Any = None) -> None:
        """Adds an attribute to every object. Where there is a method of that name too, the method counts.

        Args:
            name: The attribute's name.
            default_value: Its first value. A list, dict or set is copied for each object, one level deep, so
                that what one request puts in it does not show in the next; everything else is shared.

        Raises:
            TypeError: The name is not a str.
            ValueError: The name is one that socketify needs for itself.
        """
        if not isinstance(name, str):
            raise TypeError(f"an extension's property is named by a str, not {name!r}")
        if not any(name == method for method, _ in self.methods):
            self._add(name, _default(name, default_value))
        _put(self.properties, name, default_value)
        self.empty = False

    def bind_methods(self, instance: Any) -> None:
        """Gives any object the methods."""
        for name, func in self.methods:
            setattr(instance, name, _binding(func).__get__(instance, type(instance)))

    def set_properties(self, instance: Any) -> None:
        """Gives any object the attributes."""
        for name, default in self.properties:
            setattr(instance, name, copy.copy(default) if _is_copied(default) else default)

    def _add(self, name: str, attribute: object) -> None:
        base = self._base
        if base is None:
            return
        if name.startswith("_") and hasattr(base, name):
            raise ValueError(f"an extension must not replace {name!r} of {base.__name__}, which is internal")
        with _making:
            if self._class is None:
                # The class has the name and the place that the documentation gives.
                same = {key: getattr(base, key) for key in ("__module__", "__qualname__", "__doc__")}
                made = type(base.__name__, (base,), {"__slots__": (), **same, name: attribute})
                if self._install is not None:
                    self._install(made)
                self._class = made
            else:
                setattr(self._class, name, attribute)


def _put(pairs: list[tuple[str, Any]], name: str, value: Any) -> None:
    """Adds a pair in place of an earlier one of that name, of which nothing is kept."""
    pairs[:] = [pair for pair in pairs if pair[0] != name]
    pairs.append((name, value))


def _is_copied(default: object) -> bool:
    return isinstance(default, (list, dict, set))


def _binding(func: Any) -> Any:
    """What to put into a class so that calling it on an object calls ``func`` with the object."""
    # A bound method has been bound to something else before, and takes the object as one more argument.
    return func if hasattr(func, "__get__") and not isinstance(func, (MethodType, type)) else _Method(func)


def _default(name: str, value: Any) -> Any:
    """What to put into a class so that its objects have an attribute of that value."""
    if _is_copied(value):
        return _Copied(name, value)
    # A function would be bound.
    return _Shared(value) if hasattr(value, "__get__") else value


class _Method:
    """Binds what is callable but no function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Any]:
        return self.function if instance is None else MethodType(self.function, instance)


class _Shared:
    """Gives a value as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self.value


class _Copied:
    """Gives each object a copy of its own when it first asks: a request that does not ask pays nothing."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self.value
        # Of two threads that ask at once both get the same.
        return vars(instance).setdefault(self.name, copy.copy(self.value))
