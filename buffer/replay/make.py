"""The parts of a table from the configuration."""

from collections.abc import Callable

from async_r1.config import Config
from buffer.rate_limiters import SamplesPerInsert
from buffer.replay.ordered import fifo, lifo, lowest_priority
from buffer.replay.prioritized import Prioritized
from buffer.replay.protocol import Selector
from buffer.replay.uniform import Uniform


def make_sampler(config: Config) -> Selector:
    """Which items a batch takes."""
    if config.buffer.sampler == "prioritized":
        return Prioritized(config.buffer.priority.uniform_mix)
    makers: dict[str, Callable[[], Selector]] = {"fifo": fifo, "lifo": lifo, "uniform": Uniform}
    return makers[config.buffer.sampler]()


def make_remover(config: Config) -> Selector:
    """Which item leaves a full table."""
    return {"fifo": fifo, "lowest_priority": lowest_priority}[config.buffer.remover]()


def make_rate_limiter(config: Config, slots_per_group: int) -> SamplesPerInsert:
    """When a batch may be drawn; in items."""
    buffer, slots = config.buffer, config.learner.groups_per_update * slots_per_group
    return SamplesPerInsert(
        buffer.samples_per_insert,
        tolerance=buffer.samples_per_insert_tolerance * slots,
        min_inserts=buffer.min_size * slots_per_group,
    )
