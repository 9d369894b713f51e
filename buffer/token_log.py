"""The tokens of one rollout and what is known of each; grows by whole segments.

Kept are the arrays as they came and runs of equal versions: 8 bytes a token and a little for each
segment; what is the same for a whole run is spelt out only when it is asked for.
"""

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
    _runs: list[list[int]] = field(default_factory=list)  # version and number of tokens
    _masks: list[tuple[int, UInt8]] = field(default_factory=list)  # from which token on; else 1

    @property
    def token_ids(self) -> Int32:
        return _merged(self._token_ids, np.int32)

    @property
    def logprobs(self) -> Float32:
        return _merged(self._logprobs, np.float32)

    @property
    def runs(self) -> list[list[int]]:
        """[version, number of tokens], in order."""
        return self._runs

    @property
    def versions(self) -> Int32:
        """Made anew by each reading."""
        runs = np.asarray(self._runs, dtype=np.int64).reshape(-1, 2)
        return np.repeat(runs[:, 0].astype(np.int32), runs[:, 1])

    @property
    def mask(self) -> UInt8:
        """Made anew by each reading."""
        mask = np.ones(self.length, np.uint8)
        for start, part in self._masks:
            mask[start : start + len(part)] = part
        return mask

    @property
    def oldest_version(self) -> int:
        """Lowest version of any token; there must be one."""
        return min(version for version, _ in self._runs)

    @property
    def newest_version(self) -> int:
        """Highest version of any token; there must be one."""
        return max(version for version, _ in self._runs)

    def append(self, segment: Segment) -> None:
        """Add the tokens of a segment; what came in a frame is kept there, not copied."""
        count = len(segment.token_ids)
        if not count:
            return
        runs = self._runs
        for span in segment.spans:
            if runs and runs[-1][0] == span.policy_version:
                runs[-1][1] += span.num_tokens
            else:
                runs.append([span.policy_version, span.num_tokens])
        if segment.mask is not None and not segment.mask.all():
            self._masks.append((self.length, np.array(segment.mask)))
        self._token_ids.append(_own(segment.token_ids))
        self._logprobs.append(_own(segment.behavior_logprobs))
        self.prefix_hash = segment_hash.extend(self.prefix_hash, segment.token_ids)
        self.length += count

    def merge(self) -> None:
        """Keep one array instead of one per segment; while it is made, both are there."""
        _merged(self._token_ids, np.int32)
        _merged(self._logprobs, np.float32)

    def check_valid(self) -> tuple[bool, str]:
        """Whether the invariants hold, and which does not."""
        lengths = {len(self.token_ids), len(self.logprobs), len(self.versions), len(self.mask)}
        if lengths != {self.length}:
            return False, f"lengths differ: {lengths}, not {self.length}"
        if segment_hash.extend(0, self.token_ids) != self.prefix_hash:
            return False, "hash does not match tokens"
        return True, ""


def _own(array: NDArray[T]) -> NDArray[T]:
    return array.copy() if array.flags.writeable else array


def _merged(parts: list[NDArray[T]], dtype: type[T]) -> NDArray[T]:
    """One array of the parts; merges them in place so that repeated reads stay cheap."""
    if not parts:
        return np.zeros(0, dtype)
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]
