"""Messages as ZeroMQ frames: one msgpack header, then one raw frame per array.

The header names the protocol version, the message kind, its plain values and, for each array,
name, dtype and shape; array frames carry nothing but their little-endian bytes. Decoding checks
every size before it touches an array, never unpickles, and copies nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from async_r1.errors import WireError

PROTOCOL_VERSION = 1
MAX_HEADER_BYTES = 4 << 20
MAX_FRAME_BYTES = 1 << 30
MAX_FRAMES = 64
DTYPES: dict[str, np.dtype[Any]] = {
    "i4": np.dtype("<i4"),
    "f4": np.dtype("<f4"),
    "u1": np.dtype("u1"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Example: `Message("ack", {"rollout_id": 17, "lease_epoch": 1, "num_tokens": 64})`.
    """

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Bytes of the arrays: what credits count."""
        return sum(array.nbytes for array in self.arrays.values())


def encode(message: Message) -> list[bytes | memoryview]:
    """Frames of a message.

    Raises:
        WireError: an array has a dtype that the protocol does not carry, or more than 1 axis.
    """
    table = []
    frames: list[bytes | memoryview] = []
    for name, array in message.arrays.items():
        if array.dtype not in _NAMES or array.ndim != 1:
            raise WireError(
                f"{message.kind}.{name} must be a 1-d array of {', '.join(DTYPES)}, "
                f"got {array.dtype} with {array.ndim} axes"
            )
        table.append([name, _NAMES[array.dtype], len(array)])
        frames.append(np.ascontiguousarray(array).data.cast("B") if len(array) else b"")
    header = [PROTOCOL_VERSION, message.kind, dict(message.values), table]
    return [msgpack.packb(header, use_bin_type=True), *frames]


def decode(frames: Sequence[bytes | memoryview]) -> Message:
    """Message from frames; arrays are read-only views.

    Raises:
        WireError: the frames are not one well-formed message of this protocol version.
    """
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise WireError(f"a message has 1 to {MAX_FRAMES} frames, got {len(frames)}")
    version, kind, values, table = _decode_header(frames[0])
    if version != PROTOCOL_VERSION:
        raise WireError(f"protocol version must be {PROTOCOL_VERSION}, got {version!r}")
    if not isinstance(kind, str) or not isinstance(values, dict) or not isinstance(table, list):
        raise WireError(f"malformed header of a {kind!r} message")
    if len(table) != len(frames) - 1:
        raise WireError(f"{kind} announces {len(table)} arrays, got {len(frames) - 1} frames")
    arrays: dict[str, NDArray[Any]] = {}
    for entry, frame in zip(table, frames[1:], strict=True):
        name, array = _decode_array(kind, entry, frame)
        if name in arrays:
            raise WireError(f"{kind} has array {name} twice")
        arrays[name] = array
    return Message(kind, values, arrays)


def _decode_header(frame: bytes | memoryview) -> Sequence[Any]:
    size = _num_bytes(frame)
    if size > MAX_HEADER_BYTES:
        raise WireError(f"header must be <= {MAX_HEADER_BYTES} bytes, got {size}")
    try:
        header = msgpack.unpackb(frame, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises half a dozen unrelated types
        raise WireError(f"header is not msgpack: {error}") from None
    if not isinstance(header, list) or len(header) != 4:
        raise WireError("header must be [version, kind, values, arrays]")
    return header


def _decode_array(kind: str, entry: Any, frame: bytes | memoryview) -> tuple[str, NDArray[Any]]:
    if not isinstance(entry, list) or len(entry) != 3:
        raise WireError(f"{kind} has a malformed array entry {entry!r}")
    name, dtype_name, length = entry
    if not isinstance(name, str) or not isinstance(dtype_name, str) or dtype_name not in DTYPES:
        raise WireError(f"{kind}.{name} has unknown dtype {dtype_name!r}")
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise WireError(f"{kind}.{name} has bad length {length!r}")
    dtype = DTYPES[dtype_name]
    expected, size = length * dtype.itemsize, _num_bytes(frame)
    if expected > MAX_FRAME_BYTES or size != expected:
        raise WireError(f"{kind}.{name} must have {expected} bytes, got {size}")
    return name, np.frombuffer(memoryview(frame).toreadonly(), dtype=dtype)


def _num_bytes(frame: bytes | memoryview) -> int:
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)
