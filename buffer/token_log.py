"""The tokens of one rollout and what is known of each; grows by whole segments."""

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from async_r1 import segment_hash
from async_r1.types import Float32, Int32, Segment, UInt8

T = TypeVar("T", bound=np.generic)


@dataclass(slots=True)
class TokenLog:
    """Arrays of equal length T, one element per token."""

    length: int = 0  # T
    prefix_hash: int = 0  # of all tokens, see segment_hash.py
    _token_ids: list[Int32] = field(default_factory=list)
    _logprobs: list[Float32] = field(default_factory=list)
    _versions: list[Int32] = field(default_factory=list)
    _masks: list[UInt8] = field(default_factory=list)

    @property
    def token_ids(self) -> Int32:
        return _merged(self._token_ids, np.int32)

    @property
    def logprobs(self) -> Float32:
        return _merged(self._logprobs, np.float32)

    @property
    def versions(self) -> Int32:
        return _merged(self._versions, np.int32)

    @property
    def mask(self) -> UInt8:
        return _merged(self._masks, np.uint8)

    @property
    def oldest_version(self) -> int:
        """Lowest version of any token; there must be one."""
        return min(int(versions.min()) for versions in self._versions)

    @property
    def newest_version(self) -> int:
        """Highest version of any token; there must be one."""
        return max(int(versions.max()) for versions in self._versions)

    def append(self, segment: Segment) -> None:
        """Add the tokens of a segment; copies them out of the frames that they came in."""
        count = len(segment.token_ids)
        if not count:
            return
        spans = segment.spans
        versions = np.repeat(
            np.asarray([span.policy_version for span in spans], dtype=np.int32),
            [span.num_tokens for span in spans],
        )
        assert len(versions) == count, segment
        mask = np.ones(count, np.uint8) if segment.mask is None else np.array(segment.mask)
        self._token_ids.append(np.array(segment.token_ids))
        self._logprobs.append(np.array(segment.behavior_logprobs))
        self._versions.append(versions)
        self._masks.append(mask)
        self.prefix_hash = segment_hash.extend(self.prefix_hash, segment.token_ids)
        self.length += count

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        lengths = {len(self.token_ids), len(self.logprobs), len(self.versions), len(self.mask)}
        if lengths != {self.length}:
            return False, f"lengths differ: {lengths}, not {self.length}"
        if segment_hash.extend(0, self.token_ids) != self.prefix_hash:
            return False, "hash does not match tokens"
        return True, ""


def _merged(parts: list[NDArray[T]], dtype: type[T]) -> NDArray[T]:
    """One array of the parts; merges them in place so that repeated reads stay cheap."""
    if not parts:
        return np.zeros(0, dtype)
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]
