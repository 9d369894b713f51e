"""Fields of a message, checked: what every reader of messages is made of."""

from typing import Any, TypeVar

import numpy as np

from async_r1.errors import Refusal, WireError
from async_r1.wire import Message

T = TypeVar("T")

MAX_INT32 = 2**31 - 1


def get(message: Message, name: str, kind: type[T]) -> T:
    """A value of a message, type checked; bool is not accepted as int.

    Raises:
        WireError: the value is absent or of another type.
    """
    value = message.values.get(name)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise WireError(f"{message.kind}.{name} must be {kind.__name__}, got {value!r}")
    return value


def get_int(message: Message, name: str, least: int = 0, most: int = MAX_INT32) -> int:
    """An integer of a message, in [least, most]; by default what arrays of int32 can hold.

    Raises:
        WireError: it is absent, of another type or outside.
    """
    value = get(message, name, int)
    if not least <= value <= most:
        raise WireError(f"{message.kind}.{name} must be in [{least}, {most}], got {value}")
    return value


def natural(message: Message, name: str) -> int:
    """An integer >= 0 of any size; like all below, a `WireError` if it is not there or not that."""
    value = get(message, name, int)
    if value < 0:
        raise WireError(f"{message.kind}.{name} must be >= 0, got {value}")
    return value


def int_pair(where: str, pair: Any) -> tuple[int, int]:
    """Two integers; `where` names them in the error."""
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(x) is int for x in pair):
        raise WireError(f"{where} must hold pairs of integers, got {pair!r}")
    return pair[0], pair[1]


def enum(message: Message, name: str, cls: type[T]) -> T:
    """A member of an enumeration of strings."""
    value = get(message, name, str)
    try:
        return cls(value)  # type: ignore[call-arg]
    except ValueError:
        raise WireError(f"{message.kind}.{name} has no value {value!r}") from None


def read_ids(message: Message, name: str, vocab_size: int) -> Any:
    """Integers in [0, vocab_size) [T] int32."""
    token_ids = read_array(message, name, "i4")
    bad = token_ids[(token_ids < 0) | (token_ids >= vocab_size)]
    if len(bad):
        raise WireError(
            f"{message.kind}.{name} must be in [0, {vocab_size}), got {bad[0]}", Refusal.VOCABULARY
        )
    return token_ids


def read_array(message: Message, name: str, dtype: str, length: int | None = None) -> Any:
    """An array of a dtype by its wire name, of `length` elements if that is given."""
    array = message.arrays.get(name)
    if array is None or array.dtype != np.dtype(dtype):
        got = "nothing" if array is None else array.dtype
        raise WireError(f"{message.kind}.{name} must be an array of {dtype}, got {got}")
    if length is not None and len(array) != length:
        raise WireError(
            f"{message.kind}.{name} must have {length} elements, got {len(array)}",
            Refusal.LENGTH_MISMATCH,
        )
    return array
