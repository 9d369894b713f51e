"""Rewards of finished rollouts: rules, and a function of the user's own. No neural reward model.

Terms of one completion are scored by the actors (`make_rewards`); the one that needs the whole
group, `length_rewards`, comes when the buffer closes it.
"""

from async_r1.rewards.length import length_rewards
from async_r1.rewards.make import check_rewards, is_isolated, make_rewards
from async_r1.rewards.weighted import Outcome, Rewards, RewardTerm, is_right

__all__ = [
    "Outcome",
    "RewardTerm",
    "Rewards",
    "check_rewards",
    "is_isolated",
    "is_right",
    "length_rewards",
    "make_rewards",
]
