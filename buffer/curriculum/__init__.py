"""Which prompt is leased next; learns from the success of closed groups."""

from collections.abc import Sequence

from async_r1.config import Config
from async_r1.tasks.protocol import Prompt
from buffer.curriculum.outcomes import outcome_of
from buffer.curriculum.protocol import Curriculum, Outcome
from buffer.curriculum.uniform import UniformCurriculum

__all__ = ["Curriculum", "Outcome", "make_curriculum", "outcome_of"]


def make_curriculum(config: Config, prompts: Sequence[Prompt]) -> Curriculum:
    """The curriculum of a configuration over the training prompts."""
    return UniformCurriculum(len(prompts), config.seed)
