"""Messages as ZeroMQ frames: one msgpack header, then one raw frame per array.

The header is `[protocol version, kind, values, arrays]`; for each array it names dtype and length;
array frames carry nothing but their little-endian bytes. Decoding checks every size before it
touches an array, never unpickles, and copies nothing.

Versions may change everything but this: a header is a msgpack list that begins with the version,
and `[any version, "error", {"error": name, "text": text, …}, []]` is an `error` message to all, so
that a peer of another version can be told so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from async_r1.errors import ProtocolVersionError, Refusal, WireError

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

Frames = Sequence[bytes | memoryview]


@dataclass(slots=True)
class Message:
    """One message; not to be changed (frozen, it would cost three times as much to make).

    `frames` are those that it was decoded from, for whoever passes it on as it came.

    Example: `Message("lease_request", {"free_slots": 4, "leases_received": 0})`.
    """

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    frames: Frames | None = field(default=None, compare=False, repr=False)

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


def decode(frames: Frames) -> Message:
    """Message from frames; arrays are read-only views.

    Raises:
        ProtocolVersionError: the message is of another version.
        WireError: the frames are not one well-formed message of this protocol version.
    """
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise WireError(f"a message has 1 to {MAX_FRAMES} frames, got {len(frames)}")
    _, kind, values, table = _decode_header(frames[0])
    if type(kind) is not str or type(values) is not dict or type(table) is not list:
        raise WireError(f"malformed header of a {kind!r} message")
    if len(table) != len(frames) - 1:
        raise WireError(f"{kind} announces {len(table)} arrays, got {len(frames) - 1} frames")
    arrays: dict[str, NDArray[Any]] = {}
    for i, entry in enumerate(table, 1):
        frame = frames[i]
        if type(frame) is not bytes:  # bytes are read-only as they are
            frame = memoryview(frame).toreadonly()
        name, array = _decode_array(kind, entry, frame)
        if name in arrays:
            raise WireError(f"{kind} has array {name} twice")
        arrays[name] = array
    return Message(kind, values, arrays, frames)


def _decode_header(frame: bytes | memoryview) -> Sequence[Any]:
    size = _num_bytes(frame)
    if size > MAX_HEADER_BYTES:
        raise WireError(f"header must be <= {MAX_HEADER_BYTES} bytes, got {size}")
    try:
        header = msgpack.unpackb(frame, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises half a dozen unrelated types
        raise WireError(f"header is not msgpack: {error}") from None
    if type(header) is not list or not header:
        raise WireError("header must be [version, kind, values, arrays]")
    version = header[0]
    if type(version) is not int:
        raise WireError(f"protocol version must be {PROTOCOL_VERSION}, got {version!r}")
    if version != PROTOCOL_VERSION and header[1:2] != ["error"]:
        raise ProtocolVersionError(
            f"protocol version must be {PROTOCOL_VERSION}, got {version}: buffer, actors and "
            f"learner must run the same async_r1"
        )
    if len(header) != 4:
        raise WireError("header must be [version, kind, values, arrays]")
    return header


def _decode_array(kind: str, entry: Any, frame: bytes | memoryview) -> tuple[str, NDArray[Any]]:
    if type(entry) is not list or len(entry) != 3:
        raise WireError(f"{kind} has a malformed array entry {entry!r}")
    name, dtype_name, length = entry
    dtype = DTYPES.get(dtype_name) if type(dtype_name) is str else None
    if dtype is None or type(name) is not str:
        raise WireError(f"{kind}.{name} has unknown dtype {dtype_name!r}")
    if type(length) is not int or length < 0:
        raise WireError(f"{kind}.{name} has bad length {length!r}")
    expected, size = length * dtype.itemsize, _num_bytes(frame)
    if expected > MAX_FRAME_BYTES or size != expected:
        raise WireError(
            f"{kind}.{name} must have {expected} bytes, got {size}", Refusal.LENGTH_MISMATCH
        )
    return name, np.frombuffer(frame, dtype)


def _num_bytes(frame: bytes | memoryview) -> int:
    return len(frame) if type(frame) is bytes else memoryview(frame).nbytes
