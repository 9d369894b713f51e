"""Kimi k1.5's length reward (arXiv 2501.12599, section 2.3.3): short right answers earn more."""

from collections.abc import Sequence


def length_rewards(lengths: Sequence[int], correct: Sequence[bool]) -> list[float]:
    """Length rewards of the k rollouts of one prompt, in [-0.5, 0.5].

    With lambda_i = 0.5 - (len_i - min_len) / (max_len - min_len), a right answer earns lambda_i
    and a wrong one min(0, lambda_i); all earn 0 where all have the same length.

    Args:
        lengths: sampled tokens of each rollout.
        correct: whether its answer is right.
    """
    assert len(lengths) == len(correct)
    low, high = min(lengths, default=0), max(lengths, default=0)
    if low == high:
        return [0.0] * len(lengths)
    scale = [0.5 - (length - low) / (high - low) for length in lengths]
    return [x if right else min(0.0, x) for x, right in zip(scale, correct, strict=True)]
