"""Rules of groups, draws and admission: combinations that could not make progress."""

from collections.abc import Iterator

from async_r1.config import Config


def groups(config: Config) -> Iterator[str]:
    buffer, learner = config.buffer, config.learner
    if buffer.group_size < 2:
        yield (
            f"buffer.group_size must be >= 2, got {buffer.group_size}: advantages are centred in "
            f"the group, and a group of one has none"
        )
    if buffer.min_rollouts > buffer.group_size:
        yield (
            f"buffer.min_rollouts must be <= buffer.group_size={buffer.group_size}, "
            f"got {buffer.min_rollouts}"
        )
    yield from _screening(config)
    if buffer.max_size < learner.groups_per_update:
        yield (
            f"buffer.max_size must be >= learner.groups_per_update={learner.groups_per_update}, "
            f"got {buffer.max_size}: no batch would ever be complete"
        )
    if learner.groups_per_update * buffer.group_size < learner.ranks:
        yield (
            f"learner.ranks must be <= learner.groups_per_update * buffer.group_size="
            f"{learner.groups_per_update * buffer.group_size}, got {learner.ranks}: some would "
            f"have nothing to train"
        )


def _screening(config: Config) -> Iterator[str]:
    screen, buffer = config.curriculum.screen, config.buffer
    if not screen:
        return
    if not 2 <= screen <= buffer.group_size:
        yield (
            f"curriculum.screen must be 0, or >= 2 and <= buffer.group_size={buffer.group_size}, "
            f"got {screen}: a group grows if some are right and some are not, and one is not both"
        )
    if not buffer.refill_max:
        yield (
            f"curriculum.screen={screen} needs buffer.refill_max >= 1, got 0: every group screened "
            f"out would leave its place in the batch empty; 8 serves up to 8 of 9 screened out"
        )
    if buffer.keep_zero_variance:
        yield (
            f"curriculum.screen={screen} needs buffer.keep_zero_variance=false: it leaves out what "
            f"that option keeps"
        )


def rates(config: Config) -> Iterator[str]:
    """A draw takes `groups_per_update` different groups; admission must let that many live."""
    buffer, learner, eta = config.buffer, config.learner, config.staleness.eta
    ratio = buffer.samples_per_insert
    if ratio > buffer.max_times_sampled:
        yield (
            f"buffer.samples_per_insert must be <= buffer.max_times_sampled="
            f"{buffer.max_times_sampled}, got {ratio:g}: groups would leave before the learner "
            f"has sampled enough; raise buffer.max_times_sampled"
        )
    most = eta * learner.updates_per_publish + 1
    if ratio > most:
        yield (
            f"buffer.samples_per_insert must be <= staleness.eta * learner.updates_per_publish + 1"
            f"={most}, got {ratio:g}: admission would stop before the last draw of a version has "
            f"its {learner.groups_per_update} groups; raise staleness.eta"
        )
