"""Which prompt is leased next; learns from the success of closed groups (docs/curriculum.md)."""

from collections.abc import Sequence

from async_r1.config import Config
from async_r1.tasks.protocol import Prompt
from buffer.curriculum.levels import labels_of
from buffer.curriculum.mixture import Mixture
from buffer.curriculum.outcomes import outcome_of
from buffer.curriculum.protocol import Curriculum, Outcome

__all__ = ["Curriculum", "Outcome", "make_curriculum", "outcome_of"]


def make_curriculum(config: Config, prompts: Sequence[Prompt]) -> Curriculum:
    """The curriculum of a configuration over the training prompts."""
    return Mixture(config.curriculum, labels_of(prompts), config.seed)
