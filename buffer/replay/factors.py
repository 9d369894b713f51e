"""What an item is worth: one small function per factor; a priority is the product of some.

An item is a closed group, whole or cut down to one member, whose advantages are centred in the
whole group either way. A factor is None while nobody can know it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from buffer.groups import ClosedGroup

Factor = Callable[[ClosedGroup, int], float | None]  # of an item at the version it is inserted at


def constant(item: ClosedGroup, version: int) -> float:
    """1: what the other factors and the age decay say is all there is."""
    return 1.0


def abs_advantage(item: ClosedGroup, version: int) -> float:
    """Mean |A| over the rollouts: how much the policy gradient would move (the |TD error| of PER,
    arXiv 1511.05952; 2606.04560 for rollouts)."""
    return float(np.abs(item.advantages.astype(np.float64)).mean())


def length_corrected_advantage(item: ClosedGroup, version: int) -> float:
    """Sum of |A| over sqrt of the tokens: |A| of long rollouts counts less, since a token of theirs
    moves the policy as much as one of a short one, and there are more of them; by the square root
    because their gradients add up like noise."""
    lengths = np.asarray([max(1, rollout.num_tokens) for rollout in item.rollouts], np.float64)
    return float(np.mean(np.abs(item.advantages) / np.sqrt(lengths)))


def learnability(item: ClosedGroup, version: int) -> float:
    """p (1 - p) of the group's success rate p, the variance of its task reward (SFL, arXiv
    2408.15099)."""
    rate = item.success_rate
    return rate * (1.0 - rate)


def recency(item: ClosedGroup, version: int) -> float:
    """1 / (1 + age) with the age of its oldest token, in versions, when it came: rollouts that
    were streamed over several versions are worth less from the start."""
    return 1.0 / (1.0 + max(0, version - item.oldest_version))


def surprise(item: ClosedGroup, version: int) -> None:
    """The learner's mean |log pi - log mu| over the item's trained tokens; before its first
    training nobody knows it."""
    return None


FACTORS: dict[str, Factor] = {
    "constant": constant,
    "abs_advantage": abs_advantage,
    "length_corrected_advantage": length_corrected_advantage,
    "learnability": learnability,
    "recency": recency,
    "surprise": surprise,
}


def known_product(names: Sequence[str], item: ClosedGroup, version: int) -> float:
    """The product of those of the named factors that are known."""
    values = (FACTORS[name](item, version) for name in names)
    return float(np.prod([value for value in values if value is not None]))
