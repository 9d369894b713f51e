"""The rolling hash that ties a segment to the tokens before it."""

import zlib

import numpy as np
from numpy.typing import NDArray


def extend(prefix_hash: int, token_ids: NDArray[np.int32]) -> int:
    """Hash of a token sequence from the hash of its prefix: CRC-32 over int32 bytes.

    The empty sequence hashes to 0, and `extend(extend(0, a), b) == extend(0, a + b)`.
    """
    return zlib.crc32(np.ascontiguousarray(token_ids, dtype="<i4").data, prefix_hash)
