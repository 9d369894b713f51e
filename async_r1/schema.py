"""Typed construction of frozen dataclasses from plain values, with one-line errors.

Independent of the options themselves (`config.py`): knows dataclasses, literals, numbers,
lists and dictionaries, and the bounds that `opt` puts into a field's metadata.
"""

import dataclasses
import difflib
import math
import operator
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, TypeVar

from async_r1.errors import ConfigError

T = TypeVar("T")

_BOUNDS: tuple[tuple[str, str, Callable[[Any, float], bool]], ...] = (
    ("ge", ">=", operator.ge),
    ("gt", ">", operator.gt),
    ("le", "<=", operator.le),
    ("lt", "<", operator.lt),
)


def opt(default: Any, *, doc: str, **bounds: float) -> Any:
    """A dataclass field with a default, its documentation and its bounds (ge, gt, le, lt)."""
    assert set(bounds) <= {name for name, _, _ in _BOUNDS}, bounds
    metadata = {"doc": doc, "bounds": bounds}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def build(cls: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """Build `cls` from nested plain values; an absent field takes its default, if it has one.

    Raises:
        ConfigError: one line naming the field, the rule and what was given.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'config'} must be a section, got {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    for key in values:
        if key not in fields:
            name = _join(path, str(key))
            raise ConfigError(f"unknown option {name}{_did_you_mean(str(key), fields, path)}")
    kwargs = {}
    for name, f in fields.items():
        if name in values:
            where = _join(path, name)
            value = _convert(hints[name], values[name], where)
            _check_bounds(value, f.metadata.get("bounds", {}), where)
            kwargs[name] = value
        elif f.default is f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{_join(path, name)} is required")
    return cls(**kwargs)


def to_dict(instance: Any) -> dict[str, Any]:
    """Nested plain values of a dataclass instance; `build` inverts it."""
    return dataclasses.asdict(instance)


def walk(cls: type[Any], path: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Yield (dotted name, field, default) of every leaf option, in order of definition."""
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        name = _join(path, f.name)
        if dataclasses.is_dataclass(hints[f.name]):
            yield from walk(typing.cast(type, hints[f.name]), name)
        else:
            default = f.default
            if default is dataclasses.MISSING:
                assert f.default_factory is not dataclasses.MISSING
                default = f.default_factory()
            yield name, f, default


def nearest(given: str, known: typing.Iterable[str]) -> str | None:
    """The known spelling closest to the given one, if any is close."""
    matches = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _did_you_mean(given: str, known: typing.Iterable[str], path: str) -> str:
    match = nearest(given, known)
    return f"; did you mean {_join(path, match)}?" if match else ""


def _check_bounds(value: Any, bounds: Mapping[str, float], where: str) -> None:
    rules = [(sign, bounds[key], holds) for key, sign, holds in _BOUNDS if key in bounds]
    if value is not None and not all(holds(value, bound) for _, bound, holds in rules):
        rule = " and ".join(f"{sign} {bound:g}" for sign, bound, _ in rules)
        raise ConfigError(f"{where} must be {rule}, got {value!r}")


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if hint is Any:
        return value
    if origin is typing.Literal:
        return _convert_literal(args, value, where)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        (inner,) = [arg for arg in args if arg is not type(None)]
        return _convert(inner, value, where)
    if origin is list:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        return [_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {value!r}")
        return {str(key): _convert(args[1], item, f"{where}.{key}") for key, item in value.items()}
    return _convert_scalar(hint, value, where)


def _convert_literal(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value in choices:
        return value
    listed = ", ".join(repr(choice) for choice in choices)
    match = nearest(str(value), [str(choice) for choice in choices])
    hint = f"; did you mean {match!r}?" if match else ""
    raise ConfigError(f"{where} must be one of {listed}, got {value!r}{hint}")


def _convert_scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number, got {value!r}")
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    kind = {int: "an integer", float: "a number", bool: "true or false", str: "text"}[hint]
    raise ConfigError(f"{where} must be {kind}, got {value!r}")
