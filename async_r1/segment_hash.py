"""The rolling hash that ties a segment to the tokens before it."""

import zlib

import numpy as np
from numpy.typing import NDArray

_INT32 = np.dtype("<i4")


def extend(prefix_hash: int, token_ids: NDArray[np.int32]) -> int:
    """Hash of a token sequence from the hash of its prefix: CRC-32 over int32 bytes.

    The empty sequence hashes to 0, and `extend(extend(0, a), b) == extend(0, a + b)`.
    """
    if token_ids.dtype != _INT32 or not token_ids.flags.c_contiguous:
        token_ids = np.ascontiguousarray(token_ids, dtype=_INT32)
    return zlib.crc32(token_ids.data, prefix_hash)
