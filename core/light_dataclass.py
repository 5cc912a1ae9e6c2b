"""`dataclass` and `replace` as in the standard library, without compiling methods for each class.

The standard library's takes half a millisecond a class, which was most of what importing our own modules took for a
query. Here the methods are shared: a class takes a thirtieth of that, and an object twice as long to make. Type
checkers see the standard library's, and its `fields`, `asdict` and `replace` work as usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field
    from dataclasses import dataclass as dataclass
    from dataclasses import replace as replace
else:

    def dataclass(*, slots: bool, frozen: bool = False) -> Callable[[type], type]:
        methods = _METHODS | (_FROZEN if frozen else {"__hash__": None})
        return lambda cls: _with_shared_methods(cls, methods)

    def replace(record: Any, /, **changes: Any) -> Any:
        return type(record)(**{name: getattr(record, name) for name in record.__slots__} | changes)


def _with_shared_methods(cls: type, methods: dict[str, Any]) -> type:
    """Raises TypeError for what only the standard library's can do."""
    if cls.__bases__ != (object,) or hasattr(cls, "__post_init__"):
        raise TypeError("use dataclasses.dataclass for classes with a base or with __post_init__")
    names = tuple(cls.__annotations__)
    namespace = {name: value for name, value in cls.__dict__.items() if name not in ("__dict__", "__weakref__")}
    declared = {name: namespace.pop(name) for name in names if name in namespace}
    fields = {name: value for name, value in declared.items() if hasattr(value, "default_factory")}
    namespace = methods | namespace | {
        "__slots__": names,
        "__match_args__": names,
        "__dataclass_fields__": _Fields(),
        "_fields": fields,
        "_defaults": {name: value for name, value in declared.items() if name not in fields},
        "_compared": tuple(name for name in names if name not in fields or fields[name].compare),
    }  # fmt: skip
    return type(cls.__name__, (), namespace)


class _Fields:
    """Those of the same class made by the standard library, when first asked for."""

    def __get__(self, instance: object, owner: Any) -> dict[str, Field[Any]]:
        import dataclasses

        same = {
            "__annotations__": owner.__annotations__,
            "__module__": owner.__module__,
            "__doc__": "Has the same fields.",
        }
        twin: Any = dataclasses.dataclass(type(owner.__name__, (), same | owner._defaults | owner._fields))
        owner.__dataclass_fields__ = found = cast("dict[str, Field[Any]]", twin.__dataclass_fields__)
        return found


_set = object.__setattr__


def _init(self: Any, *values: Any, **named: Any) -> None:
    names = self.__slots__
    if not values and tuple(named) == names:
        values = tuple(named.values())
    elif named or len(values) != len(names):
        rest = names[len(values) :]
        given = self._defaults | named if named else self._defaults
        values += tuple(given[name] if name in given else _made(self, name) for name in rest)
        if len(values) > len(names) or (named and not named.keys() <= set(rest)):
            raise TypeError(
                f"{type(self).__name__}() has no such field, or more than one value for it: {named or values}"
            )
    for name, value in zip(names, values, strict=True):
        _set(self, name, value)


def _made(self: Any, name: str) -> Any:
    """The default value that `dataclasses.field` gives a field."""
    if name not in self._fields:
        raise TypeError(f"{type(self).__name__}() has no value for {name!r}")
    field = self._fields[name]
    return field.default_factory() if callable(field.default_factory) else field.default


def _eq(self: Any, other: Any) -> bool:
    return _compared(self) == _compared(other) if type(self) is type(other) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_compared(self))


def _compared(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in self._compared)


def _repr(self: Any) -> str:
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


def _refuse(self: Any, name: str, *_: object) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot change field {name!r}")


def _reduce(self: Any) -> tuple[type, tuple[Any, ...]]:
    """For pickle and copy."""
    return type(self), tuple(getattr(self, name) for name in self.__slots__)


_METHODS = {"__init__": _init, "__eq__": _eq, "__repr__": _repr, "__reduce__": _reduce}
_FROZEN = {"__hash__": _hash, "__setattr__": _refuse, "__delattr__": _refuse}
